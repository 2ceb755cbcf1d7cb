"""Measurements: what the package measures, beside what was planted or annotated, written as pages."""
