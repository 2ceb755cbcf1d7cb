"""The named values of a JSON file of results, each checked as it is taken, every fault one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biopercept.errors import StudyError

from .results import Estimate


class Fields:
    """The named values of ``scores.json`` or another file of results, each checked as it is taken.

    Every method raises StudyError where the value is missing (and not ``optional``) or of another kind.
    """

    def __init__(self, path: Path, content: Mapping[str, Any], command: str = "cross-validate") -> None:
        self.path = path
        self.content = content
        self.command = command

    def fault(self, name: str, wanted: str) -> StudyError:
        """Return the error for a value that is missing or of another kind than ``wanted``."""
        if name not in self.content:
            return StudyError(f"{self.path} has no {name!r}; {wanted} is needed, run {self.command} again")
        return StudyError(f"{self.path} has {self.content[name]!r} for {name!r}; {wanted} is needed")

    def text(self, name: str) -> str:
        """Return a text."""
        value = self.content.get(name)
        if not isinstance(value, str):
            raise self.fault(name, "a text")
        return value

    def texts(self, name: str, *, optional: bool = False) -> tuple[str, ...]:
        """Return a list of texts; empty where it is ``optional`` and missing."""
        value = self.content.get(name, [] if optional else None)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fault(name, "a list of texts")
        return tuple(value)

    def whole(self, name: str, *, optional: bool = False) -> int | None:
        """Return a whole number of 0 or more; None where it is ``optional`` and missing."""
        value = self.content.get(name)
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.fault(name, "a whole number of 0 or more")
        return value

    def number(self, name: str) -> float | None:
        """Return a finite number, or None where it is null or missing."""
        value = self.content.get(name)
        if value is None:
            return None
        if not _is_number(value):
            raise self.fault(name, "a finite number or null")
        return float(value)

    def numbers(self, name: str, *, optional: bool = False) -> tuple[float, ...]:
        """Return a list of finite numbers; empty where it is ``optional`` and missing."""
        value = self.content.get(name, [] if optional else None)
        if not isinstance(value, list) or not all(_is_number(item) for item in value):
            raise self.fault(name, "a list of finite numbers")
        return tuple(float(item) for item in value)

    def known(self, name: str) -> float:
        """Return a finite number that must be there."""
        value = self.number(name)
        if value is None:
            raise self.fault(name, "a finite number")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Return true or false, ``default`` where it is missing."""
        value = self.content.get(name, default)
        if not isinstance(value, bool):
            raise self.fault(name, "true or false")
        return value

    def part(self, name: str, *, optional: bool = False) -> Fields:
        """Return an object with named values; an empty one where it is ``optional`` and missing."""
        value = self.content.get(name, {} if optional else None)
        if not isinstance(value, dict):
            raise self.fault(name, "an object with named values")
        return Fields(self.path, value, self.command)

    def parts(self, name: str) -> tuple[Fields, ...]:
        """Return a list of objects with named values."""
        value = self.content.get(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.fault(name, "a list of objects with named values")
        return tuple(Fields(self.path, item, self.command) for item in value)

    def estimate(self, name: str, *, optional: bool = False) -> Estimate:
        """Return a score over subjects."""
        part = self.part(name, optional=optional)
        return Estimate(
            mean=part.number("mean"),
            ci95=part.interval("ci95"),
            sd=part.number("sd"),
            median=part.number("median"),
            worst=part.number("worst"),
            subjects_below_chance=part.whole("subjects_below_chance", optional=True),
            pooled=part.number("pooled"),
            n_subjects=part.whole("n_subjects", optional=True),
        )

    def interval(self, name: str) -> tuple[float, float] | None:
        """Return the two ends of an interval, or None where it is null or missing."""
        value = self.content.get(name)
        if value is None or (isinstance(value, list) and len(value) == 2 and value == [None, None]):
            return None
        if not isinstance(value, list) or len(value) != 2 or not all(_is_number(end) for end in value):
            raise self.fault(name, "a list of two finite numbers or null")
        if value[0] > value[1]:
            raise self.fault(name, "an interval whose lower end comes first")
        return float(value[0]), float(value[1])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
