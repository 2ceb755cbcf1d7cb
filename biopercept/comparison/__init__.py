"""Paired statistics over several cross-validations of one study, or of the same models in several."""
