"""Cross-validation and metrics that cannot leak."""
