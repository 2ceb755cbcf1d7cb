"""The version of biopercept, as every output names it, and what its models are for."""

__version__ = "0.1.0"

INTENDED_USE = "Research on human factors. It is no medical device; nobody should be judged, diagnosed or hired by it."
"""What every card says of a model's use."""

NOT_FOR = (
    "Decisions about a person: no diagnosis, no hiring, no grading, no supervision at work.",
    "Alarms: how often it would be wrong in a day of ordinary life was not measured.",
)
"""Uses that every card refuses."""
