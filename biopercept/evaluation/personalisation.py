"""What labels of one's own are worth, measured: a curve of gain over the general model against minutes of labels.

1. Subjects are dealt into folds; in each a general model is fitted on the other subjects alone.
2. Of each test subject the later windows are set apart to be scored, the same for all that follows. Before them, with
   a gap, lie the windows whose labels may be used: none (``label-free``: the subject's own first seconds scale the
   inputs), the first k of each class (``few-shot``), or all (``personal``).
3. The general model is adapted by each method, checked on the last of these labels, and kept as it was where that is
   not better or nothing could be checked; then the later windows are scored once.
4. Beside it stands a contrast that is no result: k windows drawn at random from the whole recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from biopercept.data.splits import Fold
from biopercept.errors import SettingsError
from biopercept.evaluation.metrics import summarise
from biopercept.evaluation.personal_folds import PersonalFold, PersonalPlan, fit_personal_fold, plan_personal_curve
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.runs import FoldDone, RunFolder
from biopercept.files import only_writer, write_table, write_text
from biopercept.parallel import Executor, Work, run_jobs
from biopercept.report.curves import personal_page
from biopercept.results.curves import (
    ALL,
    CONTRAST,
    FEW,
    GENERAL,
    STAMP,
    TIERS,
    CurveScore,
    Gain,
    PersonalCurve,
    PersonalPoint,
    PersonalRow,
)
from biopercept.results.reading import few_subjects_warnings, row_of, write_result
from biopercept.store.reading import open_store
from biopercept.training.checkpoint import versions
from biopercept.training.engine import engine_for
from biopercept.training.settings import ADAPT, KEEP, METHODS
from biopercept.typed_values import from_plain

TABLE, PAGE = "personalisation.csv", "personalisation.md"
LEAST_BOOTSTRAP = 2000
SCORES = ("balanced_accuracy", "auroc")


def personalise(
    request: EvaluationRequest,
    output: Path,
    *,
    n_jobs: int | Executor = 1,
    config_text: str = "",
    overwrite: bool = False,
    on_fold: FoldDone | None = None,
) -> PersonalCurve:
    """Run or resume the curve and return what ``personalisation.json`` holds.

    Raises SettingsError where a setting does not go with it, or the folder holds something else or folds of other
    settings or data. Raises StudyError where subjects or windows do not suffice, or each file holds one class. Raises
    BusyError where another process is writing there.

    Parameters
    ----------
    request : EvaluationRequest
        ``evaluation`` gives the folds over subjects, ``personalisation`` the rest.
    output : Path
        Folder: ``personalisation.json``, ``.csv`` (a row per subject, tier, method and k), ``.md``, a file per fold.
    n_jobs : int or Executor
        Folds at once, each in a process of its own, or what fits them elsewhere; results do not depend on it.
    config_text : str
        Effective settings (YAML), kept beside the results.
    overwrite : bool
        Remove the results of an earlier run, once it is sure that this one can begin.
    on_fold : callable, optional
        Told ``(fold, was_done_before, n_folds)`` as folds finish.
    """
    if request.evaluation.n_bootstrap < LEAST_BOOTSTRAP:
        raise SettingsError(
            f"evaluation.n_bootstrap is {request.evaluation.n_bootstrap}; the curve needs at least {LEAST_BOOTSTRAP}"
        )
    kept = RunFolder(
        output,
        "personalisation",
        PersonalCurve.FOLDS,
        "folds",
        PersonalFold.to_json,
        PersonalFold.from_json,
    )
    with open_store(request.store) as store, only_writer(output):
        plan = plan_personal_curve(store, request)
        engine_for(request.device)
        own_files = (PersonalCurve.FILE, TABLE, PAGE, "config.yaml")
        kept.begin(plan.identity(), plan.folds, partial(kept.clear, own_files) if overwrite else None)
        write_text(output / "config.yaml", config_text)
        results = kept.results(plan.folds, lambda waiting: _fit_folds(plan, waiting, n_jobs), on_fold)
        curve = _document(store.name, plan, results)
        _write_table(curve, output / TABLE)
        write_result(output / PersonalCurve.FILE, curve)
        write_text(output / PAGE, personal_page(curve))
        return curve


def _plan_of(request: EvaluationRequest) -> PersonalPlan:
    return plan_personal_curve(open_store(request.store), request)


def _fit_folds(
    plan: PersonalPlan, folds: Sequence[Fold], n_jobs: int | Executor
) -> Iterator[tuple[Fold, PersonalFold]]:
    return run_jobs(Work(fit_personal_fold, _plan_of, plan.request), folds, n_jobs, plan)


def _document(study: str, plan: PersonalPlan, results: Sequence[PersonalFold]) -> PersonalCurve:
    request, settings = plan.request, plan.request.personalisation
    rows = sorted((row for result in results for row in result.rows), key=lambda row: str(row["subject"]))
    curve = curve_of(rows, seed=request.seed, n_bootstrap=request.evaluation.n_bootstrap)
    warnings = list(plan.warnings)
    without = {k: [s for s, shots in plan.shots.items() if k not in shots.first] for k in settings.k}
    for k, subjects in without.items():
        if subjects:
            warnings.append(
                f"k = {k} leaves {len(subjects)} of the {len(plan.shots)} scored subjects nothing to score and is not "
                f"scored for them ({', '.join(subjects)}); points of different k are then over different people"
            )
    warnings += unchecked_sentences(rows, settings.unchecked)
    warnings += few_subjects_warnings(len(plan.shots))
    return PersonalCurve(
        study=study,
        task=plan.task.name,
        classes=plan.windows.only.classes,
        split=request.evaluation.split,
        n_folds=len(plan.folds),
        n_subjects=len(plan.shots),
        not_scored=plan.not_scored,
        n_scored_windows=sum(len(shots.scored) for shots in plan.shots.values()),
        window_seconds=plan.windows.length_seconds,
        step_seconds=plan.inputs.step_seconds,
        gap_seconds=plan.gap_seconds,
        chronology=settings.chronology,
        normalisation=plan.normalisation.mode,
        seeds=request.evaluation.n_seeds,
        seed=request.seed,
        n_bootstrap=request.evaluation.n_bootstrap,
        settings=plan.identity()["personalisation"],
        parameters=max(result.n_parameters for result in results),
        seconds=round(sum(result.seconds for result in results), 1),
        start_from=plan.start,
        curve=curve,
        subjects=tuple(from_plain(PersonalRow, row) for row in rows),
        warnings=tuple(warnings),
        fingerprint={"store": plan.store_fingerprint, **versions()},
    )


def _write_table(curve: PersonalCurve, target: Path) -> None:
    rows = [row_of(row) for row in curve.subjects]
    write_table(target, ("participant_id", *list(rows[0])[1:]), [tuple(row.values()) for row in rows])


def curve_of(rows: Sequence[Mapping[str, Any]], *, seed: int, n_bootstrap: int) -> tuple[PersonalPoint, ...]:
    """Return a point for each tier, method and k: scores and gains over subjects, fall-backs, minutes of labels.

    Parameters
    ----------
    rows : sequence of mapping
        Of :class:`~.personal_folds.PersonalFold`.
    seed, n_bootstrap : int
        Of the bootstrap over subjects.

    Returns
    -------
    tuple of PersonalPoint
        ``gain`` is paired with the general model on the same windows of the same subjects; ``over_chronological``,
        of the random-draw contrast, is its gain less that of the first windows: what the random draw adds. Fallen back
        are those checked and found no better; who could not be checked is counted apart, kept or not.
    """
    row_at = {(r["subject"], r["tier"], r["method"], r["k"]): r for r in rows}
    order = (GENERAL, *METHODS)
    keys = sorted(
        {(r["tier"], r["method"], r["k"]) for r in rows},
        key=lambda key: (TIERS.index(key[0]), order.index(key[1]), key[2]),
    )
    subjects = sorted({str(r["subject"]) for r in rows})

    def over_subjects(values: Sequence[float | None]) -> CurveScore:
        score = summarise(values, chance=0.0, seed=seed, n_bootstrap=n_bootstrap)
        return CurveScore.of(score, n_below=score.subjects_below_chance)

    def gain(first: tuple[str, str, int], second: tuple[str, str, int]) -> Gain:
        return Gain(**{name: over_subjects(paired(first, second, name)) for name in SCORES})

    def paired(first: tuple[str, str, int], second: tuple[str, str, int], name: str) -> list[float | None]:
        both = [s for s in subjects if (s, *first) in row_at and (s, *second) in row_at]
        pairs = [(row_at[(s, *first)][name], row_at[(s, *second)][name]) for s in both]
        return [None if a is None or b is None else a - b for a, b in pairs]

    points = []
    for tier, method, k in keys:
        at_point = [row_at[(s, tier, method, k)] for s in subjects if (s, tier, method, k) in row_at]
        key, few = (tier, method, k), (FEW, method, k)
        points.append(
            PersonalPoint(
                tier=tier,
                method=method,
                k=k,
                n_subjects=len(at_point),
                label_minutes=sum(r["label_minutes"] for r in at_point) / len(at_point),
                elapsed_minutes=sum(r["elapsed_minutes"] for r in at_point) / len(at_point),
                n_subjects_fallen_back=sum(r["n_fallen_back"] > 0 and r["is_checked"] for r in at_point),
                n_subjects_unchecked=sum(not r["is_checked"] for r in at_point),
                balanced_accuracy=over_subjects([r["balanced_accuracy"] for r in at_point]),
                auroc=over_subjects([r["auroc"] for r in at_point]),
                gain=Gain() if tier == GENERAL else gain(key, (GENERAL, GENERAL, 0)),
                stamp=STAMP if tier == CONTRAST else "",
                over_chronological=gain(key, few) if tier == CONTRAST else Gain(),
            )
        )
    return tuple(points)


def unchecked_sentences(rows: Sequence[Mapping[str, Any]], unchecked: str) -> list[str]:
    """Return of which subjects nothing could be checked, by tier and k, and what was done with them.

    Parameters
    ----------
    rows : sequence of mapping
        Of :class:`~.personal_folds.PersonalFold`.
    unchecked : str
        ``personalisation.unchecked``: keep or adapt.
    """
    done = {
        KEEP: "the general model was kept (personalisation.unchecked=keep)",
        ADAPT: "UNCHECKED, only a few steps were made (personalisation.unchecked=adapt)",
    }[unchecked]
    sentences = []
    granted = {(str(r["tier"]), int(r["k"])) for r in rows if r["tier"] in (FEW, ALL)}
    for tier, k in sorted(granted, key=lambda key: (TIERS.index(key[0]), key[1])):
        at_point = [r for r in rows if (r["tier"], r["k"]) == (tier, k)]
        everybody = sorted({str(r["subject"]) for r in at_point})
        without = sorted({str(r["subject"]) for r in at_point if not r["is_checked"]})
        if without:
            what = f"{tier}, k = {k}" if tier == FEW else f"{tier}, all earlier labels"
            who = f"all {len(everybody)} subjects" if without == everybody else f"{', '.join(without)}"
            sentences.append(f"{what}: no label could be set aside to check on for {who}; {done}")
    return sentences
