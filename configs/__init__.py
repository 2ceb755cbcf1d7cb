"""Packaged presets (YAML)."""
