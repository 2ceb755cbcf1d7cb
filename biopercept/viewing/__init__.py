"""Recordings looked at: signals at any zoom with labels, quality, marks and predictions, and the page that shows them."""
