"""Ratings that a person gave after each clip, as tasks: low or high, on either side of the middle, and the number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LEVELS = ("low", "middle", "high")
CUT = ("arousal", "valence")
"""Ratings that become classes; their levels make up the label of a clip."""


def level(value: float, middle: float) -> str:
    """Return the side of the middle on which a rating lies; the middle itself is on neither.

    >>> level(2.0, 3.0), level(3.0, 3.0), level(5.04, 5.0)
    ('low', 'middle', 'high')
    """
    return "low" if value < middle else "high" if value > middle else "middle"


def clip_label(ratings: Mapping[str, float], middle: float) -> str:
    """Return the label of a clip, such as "low arousal, high valence"."""
    return ", ".join(f"{level(ratings[name], middle)} {name}" for name in CUT)


def rating_tasks(names: Sequence[str], ignore: Sequence[str] = ()) -> dict[str, Any]:
    """Return the tasks of a study of rated clips: classes of arousal and valence, and each rating as a number.

    ``ignore`` are labels of what is no clip. A clip that was rated with the middle is in neither class.
    """
    labels = [(a, v, f"{a} arousal, {v} valence") for a in LEVELS for v in LEVELS]
    tasks: dict[str, Any] = {}
    for place, name in enumerate(CUT):
        tasks[name] = {
            "classes": {side: [one[2] for one in labels if one[place] == side] for side in ("low", "high")},
            "ignore": [*[one[2] for one in labels if one[place] == "middle"], *ignore],
        }
    for name in names:
        tasks[f"{name} rating"] = {"kind": "regression", "column": name}
    return tasks
