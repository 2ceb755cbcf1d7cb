"""The version of biopercept, as every output names it."""

__version__ = "0.1.0"
