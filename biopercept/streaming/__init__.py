"""A trained model on a running stream: samples as they come, windows that read the past, a prediction a second."""
