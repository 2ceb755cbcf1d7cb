"""A study prepared: recordings cleaned, cut into windows, measured, and written into a store."""
