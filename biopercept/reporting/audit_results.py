"""What an audit found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AuditFinding:
    """One probe of an audit.

    Attributes
    ----------
    probe, verdict, sentence : str
        ``verdict`` is ok, warning or leak.
    score_name : str
        What ``score`` is.
    score : float or None
    ci95 : tuple of two floats, or None
    chance : float or None
    n_subjects : int
    """

    probe: str
    verdict: str
    sentence: str
    score_name: str = ""
    score: float | None = None
    ci95: tuple[float, float] | None = None
    chance: float | None = None
    n_subjects: int = 0


@dataclass(frozen=True)
class Audit:
    """What an audit of a store, and perhaps of a model's answers, found.

    Attributes
    ----------
    name, task : str
    model : str or None
        Whose answers were audited.
    normalisation : str
    n_subjects, n_windows : int
    findings : tuple of AuditFinding
    skipped : tuple of (probe, reason)
    """

    name: str
    task: str
    model: str | None
    normalisation: str
    n_subjects: int
    n_windows: int
    findings: tuple[AuditFinding, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def worst_first(self) -> tuple[AuditFinding, ...]:
        """Return the findings by verdict: leak, warning, ok."""
        order = ("leak", "warning", "ok")
        return tuple(sorted(self.findings, key=lambda row: order.index(row.verdict)))
