"""Scores against the number of subjects with labels: a cross-validation per share, same folds, nested draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from biopercept.data.splits import Fold
from biopercept.errors import SettingsError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.folds import count_labels, read_run, require_same
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.files import only_writer, write_table, write_text
from biopercept.report.curves import learning_page
from biopercept.results.curves import LearningCurve, LearningPoint
from biopercept.results.reading import write_result

ShareFoldDone = Callable[[float, Fold, bool, int], None]


def parse_shares(text: str) -> tuple[float, ...]:
    """Return the shares of a comma-separated option, ascending, each once.

    Raises
    ------
    SettingsError
        Where one is no number above 0 and at most 1.
    """
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
    n_jobs: int = 1,
    config_text: str = "",
    overwrite: bool = False,
    on_fold: ShareFoldDone | None = None,
) -> LearningCurve:
    """Run or resume a cross-validation per share of labels; write ``learning_curve.csv``, ``.md`` and ``.json``.

    Each share has a folder ``share-SHARE`` that is a cross-validation like any other. The subjects whose labels a
    smaller share uses are among those of a larger one, and everybody is tested at every share.

    Parameters
    ----------
    shares : sequence of float
        Parts of each fold's training subjects whose labels are used.
    n_jobs, config_text, overwrite
        As of :func:`~biopercept.evaluation.cross_validation.cross_validate`.
    on_fold : callable, optional
        Told ``(share, fold, was_done_before, n_folds)`` as folds finish.

    Raises
    ------
    SettingsError
        Where the output is a file or holds something else, or as the cross-validations do.
    StudyError, BusyError
        As the cross-validations do.
    """
    if request.folds_from is not None:  # before the first share is fitted, not when its turn comes
        for share in shares:
            require_same(request.folds_from, split=request.evaluation.split, label_share=share)
    with only_writer(output):
        _require_own(output, overwrite=overwrite)
        points, warnings = _points(
            request, shares, output, n_jobs=n_jobs, config_text=config_text, overwrite=overwrite, on_fold=on_fold
        )
        curve = LearningCurve(model=request.model, points=tuple(points), warnings=tuple(warnings))
        columns = ("share", "labelled_lowest", "labelled_highest", "task", "score", "mean", "ci95_low", "ci95_high")
        rows = [(p.share, *p.subjects_labelled, p.task, p.score, p.mean, *(p.ci95 or (None, None))) for p in points]
        write_table(output / "learning_curve.csv", columns, rows)
        write_text(output / "learning_curve.md", learning_page(curve))
        write_result(output / LearningCurve.FILE, curve)
        return curve


def _require_own(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that is a file, or a folder with something in it and no share of a learning curve."""
    if output.is_file():
        raise SettingsError(f"{output} is a file; choose a folder for the results")
    is_begun = not output.is_dir() or any(output.glob("share-*/folds.json"))
    if not is_begun and not overwrite and any(not path.name.startswith(".") for path in output.iterdir()):
        raise SettingsError(
            f"{output} is not empty and holds no learning curve; choose another output or add --overwrite"
        )


def _points(
    request: EvaluationRequest,
    shares: Sequence[float],
    output: Path,
    *,
    n_jobs: int,
    config_text: str,
    overwrite: bool,
    on_fold: ShareFoldDone | None,
) -> tuple[list[LearningPoint], list[str]]:
    """Return a point per share and task, each of a cross-validation of its own, and all their warnings."""
    points: list[LearningPoint] = []
    warnings: dict[str, None] = {}
    for share in shares:

        def tell(fold: Fold, was_done: bool, n_folds: int, share: float = share) -> None:
            if on_fold is not None:
                on_fold(share, fold, was_done, n_folds)

        folder = output / f"share-{share:g}"
        asked = replace(request, evaluation=replace(request.evaluation, label_share=share))
        scores = cross_validate(
            asked, folder, n_jobs=n_jobs, config_text=config_text, overwrite=overwrite, on_fold=tell
        )
        labelled = count_labels(read_run(folder)["folds"])["subjects_labelled"]
        for held in scores["tasks"].values() if "tasks" in scores else [scores]:
            points.append(_point(share, labelled, held))
        warnings |= dict.fromkeys(scores["warnings"])
    return points, list(warnings)


def _point(share: float, labelled: Sequence[int], scores: dict[str, Any]) -> LearningPoint:
    name: Literal["balanced_accuracy", "mae"] = "balanced_accuracy" if "balanced_accuracy" in scores else "mae"
    low, high = labelled
    return LearningPoint(
        share=share,
        subjects_labelled=(low, high),
        task=scores["task"],
        score=name,
        mean=scores[name]["mean"],
        ci95=None if scores[name]["ci95"] is None else (scores[name]["ci95"][0], scores[name]["ci95"][1]),
    )
