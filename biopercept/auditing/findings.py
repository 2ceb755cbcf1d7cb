"""What a probe found: a score with its interval, a verdict, and a sentence that can be quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

OK, WARNING, LEAK = "ok", "warning", "leak"
VERDICTS = (OK, WARNING, LEAK)
"""From good to bad."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one probe.

    Attributes
    ----------
    probe : str
        Its name, such as "clock-only".
    subject_matter : str
        What is looked at: design, inputs, evaluation or model.
    verdict : str
        ok, warning or leak.
    sentence : str
        What was found and what it means, with its numbers.
    score_name : str
        What ``score`` is, such as "balanced accuracy".
    score : float or None
    ci95 : tuple of two floats, or None
        95 % bootstrap interval of the score over subjects.
    chance : float or None
        What guessing, or nothing at all, would give.
    n_subjects, n_windows : int
        What the score is over.
    details : mapping
        Further numbers, as plain values.
    """

    probe: str
    subject_matter: str
    verdict: str
    sentence: str
    score_name: str = ""
    score: float | None = None
    ci95: tuple[float, float] | None = None
    chance: float | None = None
    n_subjects: int = 0
    n_windows: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict is {self.verdict!r}; allowed are {', '.join(VERDICTS)}")

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        document = asdict(self)
        document["ci95"] = None if self.ci95 is None else list(self.ci95)
        return document


@dataclass(frozen=True)
class Skipped:
    """A probe that could not be made, and why: it says nothing, neither good nor bad."""

    probe: str
    reason: str


def worst_verdict(findings: Sequence[Finding]) -> str:
    """Return the worst verdict among findings; ok where there is none."""
    return max((f.verdict for f in findings), key=VERDICTS.index, default=OK)
