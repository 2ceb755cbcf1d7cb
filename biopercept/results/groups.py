"""``groups.json``: scores of groups of people, and what differs between them; ``groups.csv`` has the scores alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from biopercept.results.reading import read_result
from biopercept.typed_values import Count, Interval

GROUP_WORDS = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "brier": "Brier score",
    "ece": "calibration error",
    "false_positive_rate": "false-positive rate",
    "mae": "mean absolute error",
    "ccc": "CCC",
}
"""Names of the scores of groups as they stand in a sentence."""


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """One score of the people who have one value in a column of participants.tsv: a row of ``groups.csv``.

    ``value`` is the mean over the ``n_defined`` people for whom the score is defined; of the calibration error it is
    over all windows of the group. ``ci95`` is a bootstrap over people.
    """

    column: str
    group: str
    n_subjects: Count
    n_windows: Count
    score: str
    n_defined: Count
    value: float | None
    ci95: Interval | None


@dataclass(frozen=True, kw_only=True)
class GroupDifference:
    """How far a score of one group lies from that of another, first minus second.

    ``p`` is of a permutation of people over the two groups, two-sided; ``p_holm`` is corrected for all differences of
    the file.
    """

    column: str
    score: str
    first: str
    second: str
    n_first: Count
    n_second: Count
    difference: float
    ci95: Interval | None
    p: float
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The scores of groups of people in a task.

    False positives are windows of another class that were predicted as ``positive``; None: of three classes or more the
    mean over classes is meant.
    """

    FILE: ClassVar[str] = "groups.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "evaluate"

    task: str
    positive: str | None
    n_bootstrap: Count
    n_permutations: Count
    seed: Count
    least_people: Count
    scores: tuple[GroupScore, ...]
    differences: tuple[GroupDifference, ...]
    warnings: tuple[str, ...] = ()


def load_groups(folder: Path) -> Groups | None:
    """Return the groups of a folder of scores; None where none were asked for. Raises StudyError where damaged."""
    path = folder / Groups.FILE
    return read_result(path, Groups) if path.is_file() else None
