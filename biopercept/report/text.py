"""Words and numbers as a reader sees them: names from data made harmless, numbers with their interval, Markdown."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOT_DEFINED = "n/a"
"""What stands where a figure has no value (one class only, no window)."""

_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def shown(text: object) -> str:
    r"""Return text from a file with every invisible character spelt out, so that two names never look alike.

    Control characters, direction marks, line breaks, lone surrogates and unassigned code points become their escape
    (``\x1b``, ``\u202e``). The user's home folder is written ``~``, so that no page carries a login name.

    >>> shown("S1\x1b[31m")
    'S1\\x1b[31m'
    """
    raw = str(text)
    home = str(Path.home())
    if len(home) > 1:
        raw = raw.replace(home + "/", "~/")
    return "".join(c if unicodedata.category(c) not in _HIDDEN else ascii(c)[1:-1] for c in raw)


def shortened(text: object, length: int = 24) -> str:
    """Return :func:`shown` text of at most ``length`` characters, its middle replaced by one ellipsis."""
    whole = shown(text)
    if len(whole) <= length:
        return whole
    head = (length - 1) * 2 // 3
    return f"{whole[:head]}…{whole[len(whole) - (length - 1 - head) :]}"


def score(value: float | None, digits: int = 3) -> str:
    """Return a score with ``digits`` decimals, or "n/a" where it is None or not finite."""
    if value is None or not math.isfinite(value):
        return NOT_DEFINED
    return f"{value:.{digits}f}"


def with_interval(mean: float | None, interval: tuple[float, float] | None, digits: int = 3) -> str:
    """Return "mean [low, high]"; only the mean where no interval is known."""
    if mean is None or interval is None:
        return score(mean, digits)
    return f"{score(mean, digits)} [{score(interval[0], digits)}, {score(interval[1], digits)}]"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun ("1 subject", "3,161 windows")."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that reads best: "45 s", "13.5 min", "2.1 h"."""
    if seconds is None or not math.isfinite(seconds):
        return NOT_DEFINED
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def listed(names: list[str] | tuple[str, ...], limit: int = 6) -> str:
    """Return names joined by commas, cut after ``limit`` with the number of those left out."""
    head = ", ".join(shown(name) for name in names[:limit])
    return head if len(names) <= limit else f"{head} and {len(names) - limit} more"


def span(ends: tuple[int, int]) -> str:
    """Return a lowest and a highest whole number as one word or three.

    >>> span((3, 3)), span((3, 5))
    ('3', '3 to 5')
    """
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def percent(estimate: Mapping[str, Any], *, signed: bool = False) -> str:
    """Return a share as per cent with its interval.

    >>> percent({"mean": 0.5, "ci95": [0.41, 0.6]})
    '50.0 [41.0, 60.0]'
    """
    if estimate["mean"] is None:
        return "not defined"
    form = "{:+.1f}" if signed else "{:.1f}"
    shown = form.format(100 * estimate["mean"])
    if estimate["ci95"] is None:
        return shown
    return f"{shown} [{', '.join(form.format(100 * edge) for edge in estimate['ci95'])}]"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table between empty lines."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
