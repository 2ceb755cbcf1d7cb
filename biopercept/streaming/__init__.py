"""A trained model on a running stream: samples as they come, windows that read the past alone, a prediction a second."""
