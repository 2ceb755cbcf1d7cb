"""Cleaning, quality, windows and features: one file per modality group."""
