"""Baseline models, one file each, behind the same interface as the Perceiver."""
