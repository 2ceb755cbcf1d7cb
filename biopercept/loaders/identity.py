"""What headers say of a person: read by nobody, and only that it is there is told."""

from __future__ import annotations

HIDDEN = "patient fields present (hidden)"
_SAYS_NOTHING = frozenset({"", "X", "M", "F", "N/A", "NA", "UNKNOWN", "ANONYMOUS", "ANONYMIZED", "ANONYMISED"})


def identity_notes(*fields: str) -> tuple[str, ...]:
    """Return the note that fields of a header name a person, where one does; X, a sex and "unknown" name nobody."""
    words = (word for field in fields for word in field.split())
    return (HIDDEN,) if any(word.upper() not in _SAYS_NOTHING for word in words) else ()
