"""``audit.json``: what each probe of an audit found, its verdict and a sentence that can be quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from biopercept.typed_values import Count, Interval, unwritten

Verdict = Literal["ok", "warning", "leak"]
OK: Verdict = "ok"
WARNING: Verdict = "warning"
LEAK: Verdict = "leak"
VERDICTS: tuple[Verdict, ...] = (OK, WARNING, LEAK)
"""From good to bad."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one probe, such as "clock-only", about the ``subject_matter`` design, inputs, evaluation or model.

    ``sentence`` says what was found and what it means, with its numbers. ``ci95`` is the 95 % bootstrap interval of the
    score over subjects, ``chance`` what guessing, or nothing at all, would give; ``details`` are further plain values.
    """

    probe: str
    subject_matter: str
    verdict: Verdict
    sentence: str
    score_name: str = ""
    score: float | None = None
    ci95: Interval | None = None
    chance: float | None = None
    n_subjects: Count = 0
    n_windows: Count = 0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A probe that could not be made, and why: it says nothing, neither good nor bad."""

    probe: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit of a store, and perhaps of a model's predictions, found; ``verdict`` is the worst of the findings.

    ``model`` is whose predictions were audited. ``settings`` are sizes and thresholds of the probes, ``warnings`` those
    of the plan of the folds. ``name`` is the folder's path below the folder that is reported.
    """

    FILE: ClassVar[str] = "audit.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "audit"

    verdict: Verdict
    counts: Mapping[str, int]
    task: str
    classes: tuple[str, ...]
    model: str | None
    normalisation: str
    n_subjects: Count
    n_windows: Count
    n_folds: Count
    seed: Count
    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    name: str = unwritten("")

    @property
    def worst_first(self) -> tuple[Finding, ...]:
        """Return the findings by verdict: leak, warning, ok."""
        return tuple(sorted(self.findings, key=lambda finding: -VERDICTS.index(finding.verdict)))


def worst_verdict(findings: Sequence[Finding]) -> Verdict:
    """Return the worst verdict among findings; ok where there is none."""
    return max((finding.verdict for finding in findings), key=VERDICTS.index, default=OK)
