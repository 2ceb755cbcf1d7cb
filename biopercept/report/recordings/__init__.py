"""A page per recording: its signals with what was found in them, to see whether to believe its numbers."""
