"""The Perceiver IO: arrays only, no files."""
