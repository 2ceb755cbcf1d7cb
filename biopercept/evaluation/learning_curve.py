"""Scores against the number of subjects with labels: a cross-validation per share, same folds, nested draws."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

from biopercept.data.splits import TIME, Fold
from biopercept.errors import SettingsError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.folds import count_labels, read_run, require_same
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.runs import RunOptions, require_own_folder
from biopercept.files import only_writer, write_table, write_text
from biopercept.progress import each
from biopercept.report.curves import learning_page
from biopercept.results.curves import LearningCurve, LearningPoint
from biopercept.results.reading import write_result

ShareFoldDone = Callable[[float, Fold, bool, int], None]


def parse_shares(text: str) -> tuple[float, ...]:
    """Return the shares of a comma-separated option, ascending; raises SettingsError where one is not in (0, 1]."""
    try:
        shares = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        shares = []
    if not shares or not all(0 < share <= 1 for share in shares):
        raise SettingsError(f"--shares is {text!r}; give numbers above 0 and at most 1 with commas, such as 0.25,0.5,1")
    return tuple(shares)


def learning_curve(
    request: EvaluationRequest,
    shares: Sequence[float],
    output: Path,
    *,
    on_fold: ShareFoldDone | None = None,
    **options: Unpack[RunOptions],
) -> LearningCurve:
    """Run or resume a cross-validation per share of labels; write ``learning_curve.csv``, ``.md`` and ``.json``.

    A share is the fraction of each fold's training subjects whose labels are used, and has a folder ``share-SHARE``
    that is a cross-validation like any other. The subjects of a smaller share are among those of a larger one, and
    everybody is tested at every share. ``on_fold`` gets ``(share, fold, was_done_before, n_folds)``.

    Raises SettingsError where the output is a file or holds something else, or as the cross-validations do. Raises
    StudyError, BusyError as the cross-validations do.
    """
    if request.evaluation.split == TIME:
        raise SettingsError(
            "a learning curve is over people whose labels are used; with --split time the share of each person's own "
            "time is evaluation.earlier_share of cross-validate"
        )
    if request.folds_from is not None:  # before the first share is fitted, not when its turn comes
        for share in shares:
            require_same(request.folds_from, split=request.evaluation.split, label_share=share)
    with only_writer(output):
        is_begun = any(output.glob("share-*/folds.json"))
        require_own_folder(output, "learning curve", is_own=is_begun, overwrite=options.get("overwrite", False))
        points: list[LearningPoint] = []
        warnings: dict[str, None] = {}
        for share in each("share", shares):
            with_share = replace(request, evaluation=replace(request.evaluation, label_share=share))
            show = None if on_fold is None else partial(on_fold, share)
            scores = cross_validate(with_share, share_folder(output, share), on_fold=show, **options)
            low, high = count_labels(read_run(share_folder(output, share))["folds"])["subjects_labelled"]
            of_tasks = scores["tasks"].values() if "tasks" in scores else [scores]
            points += [_point(share, (low, high), of_task) for of_task in of_tasks]
            warnings |= dict.fromkeys(scores["warnings"])
        if options.get("overwrite", False):
            _remove_others(output, shares)
        curve = LearningCurve(model=request.model, points=tuple(points), warnings=tuple(warnings))
        columns = ("share", "labelled_lowest", "labelled_highest", "task", "score", "mean", "ci95_low", "ci95_high")
        rows = [(p.share, *p.subjects_labelled, p.task, p.score, p.mean, *(p.ci95 or (None, None))) for p in points]
        write_table(output / "learning_curve.csv", columns, rows)
        write_text(output / "learning_curve.md", learning_page(curve))
        write_result(output / LearningCurve.FILE, curve)
        return curve


def share_folder(output: Path, share: float) -> Path:
    """Return the folder of one share's cross-validation."""
    return output / f"share-{share:g}"


def _remove_others(output: Path, shares: Sequence[float]) -> None:
    """Remove the cross-validations of shares that the curve no longer has; each of the others clears its own."""
    kept = {share_folder(output, share) for share in shares}
    for begun in output.glob("share-*/folds.json"):
        if begun.parent not in kept and not begun.parent.is_symlink():
            shutil.rmtree(begun.parent)


def _point(share: float, labelled: tuple[int, int], scores: Mapping[str, Any]) -> LearningPoint:
    name: Literal["balanced_accuracy", "mae"] = "balanced_accuracy" if "balanced_accuracy" in scores else "mae"
    ci95 = scores[name]["ci95"]
    return LearningPoint(
        share=share,
        subjects_labelled=labelled,
        task=scores["task"],
        score=name,
        mean=scores[name]["mean"],
        ci95=None if ci95 is None else (ci95[0], ci95[1]),
    )
