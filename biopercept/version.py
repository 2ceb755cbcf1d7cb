"""The version of biopercept, as every output names it, and what its models are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__version__ = "0.1.0"

INTENDED_USE = "Research on human factors. It is no medical device; nobody should be judged, diagnosed or hired by it."
"""What every card says of a model's use."""

NOT_FOR = (
    "Decisions about a person: no diagnosis, no hiring, no grading, no supervision at work.",
    "Alarms: how often it would be wrong in a day of ordinary life was not measured.",
)
"""Uses that every card refuses."""


def version_needed(document: Mapping[str, Any], schema: int) -> str:
    """Return what to install where a newer version wrote a document than reads ``schema``; nothing where none did.

    Its own version stands in a document by itself, among its versions, or in its fingerprint.
    """
    written = document.get("schema")
    if isinstance(written, bool) or not isinstance(written, int) or written <= schema:
        return ""
    by = document.get("biopercept")
    for key in ("versions", "fingerprint"):
        about = document.get(key)
        by = about.get("biopercept", by) if isinstance(about, dict) else by
    return f"install biopercept {by} or newer" if by else "a newer biopercept wrote it: install that one"
