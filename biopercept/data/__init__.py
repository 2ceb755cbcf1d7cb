"""Windows, folds, normalisation and batches: what every model is fitted on and scored on."""
