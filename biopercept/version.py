"""The version of biopercept, as every output names it, and what its models are for."""

__version__ = "0.1.0"

INTENDED_USE = "Research on human factors. It is no medical device; nobody should be judged, diagnosed or hired by it."
"""What every card says of a model's use."""
