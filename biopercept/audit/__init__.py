"""Audit of a study and its scores: what could make a score better than it is."""
