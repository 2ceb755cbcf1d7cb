"""What was measured of the body, as tables for a person's own statistics."""
