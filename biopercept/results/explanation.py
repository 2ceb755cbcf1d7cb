"""``explanation.json``: what a model's answers rested on, part by part of the input, and how faithful that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from biopercept.results.reading import Estimate
from biopercept.typed_values import Count, unwritten

ATTENTION, GRADIENTS, OCCLUSION = "attention", "integrated_gradients", "occlusion"
METHODS: dict[str, str] = {
    ATTENTION: "attention roll-out: the fraction of attention that went there (where the network looked, not why)",
    GRADIENTS: "integrated gradients: what the input added to the answer, beside inputs at their usual value",
    OCCLUSION: "occlusion: how far the answer falls when it is absent, as if it had not been measured",
}
"""Every method by its name, with what its numbers are."""
SENSOR, MODALITY, CHANNEL, TIME, FEATURE = "sensor", "modality", "channel", "time", "feature"
KINDS: tuple[str, ...] = (SENSOR, MODALITY, CHANNEL, TIME, FEATURE)
"""What a part of the input can be."""
TABLE, FAILURES, PAGE = "explanation.csv", "failures.csv", "report.html"

Verdict = Literal["better than random", "worse than random", "no difference shown", "not measured"]
BETTER: Verdict = "better than random"
WORSE: Verdict = "worse than random"
LEVEL: Verdict = "no difference shown"
UNKNOWN: Verdict = "not measured"


@dataclass(frozen=True, kw_only=True)
class PartScore:
    """What one part of the input did for the answers of a task, mean over a recording's windows.

    ``name`` is the part's among those of its ``kind``; parts of time have ``start`` and ``stop``, seconds from the
    window's start, channels ``x``, ``y`` and ``z`` of an electrode in metres (head coordinates). ``attention`` is a
    fraction; the others have the ``unit`` of the answer, and are signed: above 0 for the answer that is explained.
    ``_size`` is the mean of the absolute value. ``branches`` is the part of the integrated gradients that went
    through it. None where it is not defined.
    """

    participant_id: str
    session: str
    recording: str
    task: str
    kind: str
    name: str
    sensor: str
    modality: str
    unit: str
    n_windows: Count
    attention: float | None
    integrated_gradients: float | None
    integrated_gradients_size: float | None
    branches: float | None
    occlusion: float | None
    occlusion_size: float | None
    start: float | None = None
    stop: float | None = None
    x: float | None = None
    y: float | None = None
    z: float | None = None


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """Whether tokens that a method calls important are, beside as many at random, over ``n_windows`` windows.

    Windows do not overlap. ``comprehensiveness`` is how far the answer falls without them, ``sufficiency`` how far it
    falls with these alone, both with their interval over windows; ``more_comprehensive`` and ``more_sufficient`` are
    paired with the random deletions, above 0 where the method is better. The verdict is on both.
    """

    task: str
    method: str
    unit: str
    n_windows: Count
    comprehensiveness: Estimate
    random_comprehensiveness: Estimate
    more_comprehensive: Estimate
    sufficiency: Estimate
    random_sufficiency: Estimate
    more_sufficient: Estimate
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class ExplainedTask:
    """A task of the model: ``of`` says what number is explained, in what ``unit``.

    ``usual`` is the mean answer to inputs at their usual value, ``gap`` the mean of what integrated gradients lack of
    the difference to it, as a fraction of its size.
    """

    name: str
    kind: str
    of: str
    unit: str
    answer: float
    usual: float
    gap: float | None


@dataclass(frozen=True, kw_only=True)
class ExplainedRecording:
    """A recording: how many of its windows were explained, and how many not, with the reason."""

    participant_id: str
    session: str
    recording: str
    table: str
    n_windows: Count
    n_explained: Count
    left_out: Mapping[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A finished folder of ``explain``."""

    FILE: ClassVar[str] = "explanation.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "explain"

    model: str
    window_seconds: float
    seed: Count
    has_branches: bool
    methods: Mapping[str, str]
    tasks: tuple[ExplainedTask, ...]
    faithfulness: tuple[Faithfulness, ...]
    recordings: tuple[ExplainedRecording, ...]
    n_failed: Count
    parts: tuple[PartScore, ...]
    columns: Mapping[str, str]
    warnings: tuple[str, ...]
    name: str = unwritten("")

    def mean_parts(self, task: str, kind: str) -> tuple[PartScore, ...]:
        """Return the parts of a kind, each the mean over the recordings that have it, weighted by their windows."""
        groups: dict[str, list[PartScore]] = {}
        for part in self.parts:
            if part.task == task and part.kind == kind:
                groups.setdefault(part.name, []).append(part)
        return tuple(_mean(rows) for rows in groups.values())


def _mean(rows: list[PartScore]) -> PartScore:
    def mean(column: str) -> float | None:
        known = [(getattr(row, column), row.n_windows) for row in rows if getattr(row, column) is not None]
        n = sum(weight for _, weight in known)
        return sum(value * weight for value, weight in known) / n if n else None

    numbers = (ATTENTION, GRADIENTS, f"{GRADIENTS}_size", "branches", OCCLUSION, f"{OCCLUSION}_size")
    means: dict[str, Any] = {column: mean(column) for column in numbers}
    return replace(rows[0], n_windows=sum(row.n_windows for row in rows), **means)
