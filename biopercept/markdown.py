"""What the Markdown pages of experiments share: tables, per cent with intervals, and what a difference says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


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


def direction(difference: Mapping[str, Any]) -> int:
    """Return 1 or -1 where the whole interval of a difference lies above or below 0, else 0.

    >>> direction({"mean": -0.2, "ci95": [-0.3, -0.1]}), direction({"mean": 0.1, "ci95": [-0.1, 0.3]})
    (-1, 0)
    """
    if difference["mean"] is None or difference["ci95"] is None:
        return 0
    low, high = difference["ci95"]
    return 1 if low > 0 else -1 if high < 0 else 0


def span(counts: Sequence[int]) -> str:
    """Return "5", or "5 to 7" where counts differ."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table between empty lines."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
