"""Splits, normalisation, data for the model, training and checkpoints."""
