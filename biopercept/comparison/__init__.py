"""Paired statistics over several cross-validations of the same study."""
