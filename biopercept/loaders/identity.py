"""What headers say of a person: read by nobody, and only that it is there is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "patient fields present (hidden)"
COMMENTS = "comments of the header are hidden: they may tell whose the recording is"
_SAYS_NOTHING = frozenset(
    {"", "X", "M", "F", "N/A", "NA", "UNKNOWN", "0", "ANONYMOUS", "ANONYMIZED", "ANONYMISED", "NONE"}
)
_KEY = re.compile(
    r"(?i)subject|patient|^pat_?id$|participant|birth|(?:^|[^a-z])(?:first|last|full)[ _]?name(?:$|[^a-z])"
)
_ENTRY = re.compile(r"(?m)^[;#%\s]*(?P<key>[^:=\r\n]{1,60}?)\s*[:=]+[ \t]*(?P<value>[^\r\n]*)$")


def identity_notes(*fields: str) -> tuple[str, ...]:
    """Return the note that fields of a header name a person, where one does; X, a sex and "unknown" name nobody."""
    words = (word for field in fields for word in field.replace("\x00", " ").split())
    return (HIDDEN,) if any(word.upper() not in _SAYS_NOTHING for word in words) else ()


def identity_of_entries(entries: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the note that entries of a header name a person, where one is called after a person and holds a text."""
    values = (value.decode("latin-1") if isinstance(value, bytes) else str(value) for key, value in entries.items()
              if _KEY.search(key) and value is not None)  # fmt: skip
    return identity_notes(*values)


def identity_in_text(text: str) -> tuple[str, ...]:
    """Return the note that a text of lines ``key: value`` or ``key=value`` names a person, where one does."""
    values = (entry["value"] for entry in _ENTRY.finditer(text) if _KEY.search(entry["key"]))
    return identity_notes(*values)
