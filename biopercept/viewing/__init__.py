"""Recordings looked at: signals at any zoom with labels, quality, marks, predictions, and the page that shows them."""
