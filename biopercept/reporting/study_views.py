"""The table of a cross-validation over several studies: the scores of each study's own held-out subjects."""

from __future__ import annotations

from collections.abc import Sequence

from .study_results import StudyScore
from .tables import SPLITS, Table
from .text import count, with_interval

_SCORES = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro-F1",
    "auroc": "AUROC per subject",
    "mae": "Mean absolute error",
    "ccc": "CCC per subject",
}


def study_table(model: str, split: str, studies: Sequence[StudyScore]) -> Table | None:
    """Return a row per study with its 95 % intervals; None where one store was evaluated."""
    if not studies:
        return None
    names = tuple(dict.fromkeys(name for held in studies for name in held.scores))
    rows = tuple(
        (
            held.study,
            f"{held.n_subjects:,}",
            *(with_interval(*held.scores.get(name, (None, None))) for name in names),
        )
        for held in studies
    )
    columns = ("Study", "Subjects", *(_SCORES.get(name, name) for name in names))
    title = f"{model} by study ({SPLITS.get(split, split)}): {count(len(rows), 'study', 'studies')}"
    return Table(title, columns, rows, (False, *(True,) * (1 + len(names))))
