"""Shipped models: those that come with the package, made from public data by one command from a checkout."""
