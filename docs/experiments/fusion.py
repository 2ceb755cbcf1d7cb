"""Early against late fusion, and sensors that are missing at test time: folds, scores per subject, and a page.

*Early*: one Perceiver IO reads the tokens of all sensors. *Late*: one Perceiver IO for each sensor, fitted on it
alone, and the mean of their probabilities. Both are fitted once for each fold of subjects, with every sensor there
is, and then asked about the test subjects with all sensors, without each one, and with each one alone. Nothing is
fitted anew for that: in early fusion a missing sensor is absent tokens, in late fusion an absent vote.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.splits import Fold
from biopercept.data.views import measured_sensors, restricted, sensors_of_recording
from biopercept.data.windows import IntArray
from biopercept.errors import StudyError
from biopercept.evaluation.metrics import Bootstrap, chance_levels, score_subject
from biopercept.evaluation.missing_sensors import sensor_sets
from biopercept.evaluation.plan import EvaluationRequest, Plan, plan_evaluation
from biopercept.files import only_writer, write_json, write_text
from biopercept.report.text import percent, table
from biopercept.store.prepared import WindowedRecording
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.engine import engine_for, seed_for, threads
from biopercept.training.fitting import NetworkOnStudy, fit_perceiver_io
from biopercept.training.loop import FitRequest
from biopercept.training.objective import predict_windows
from biopercept.version import __version__
from experiments.units import UnitDone, run_units

Answers = NDArray[np.float64]

VERSION = 1
"""Raised whenever what this experiment does changes, so that no older result is taken for a new one."""

EARLY, LATE = "early", "late"
WAYS = (EARLY, LATE)


@dataclass(frozen=True)
class FusionFold:
    """One fold of a study, both ways, as a unit of work.

    Attributes
    ----------
    plan_identity : str
        JSON of the plan's identity.
    """

    request: EvaluationRequest
    fold: Fold
    plan_identity: str

    @property
    def name(self) -> str:
        """Return what the fold is called."""
        return f"fusion {self.request.store.stem} {self.fold.name} seed {self.request.seed}"

    def identity(self) -> dict[str, Any]:
        """Return everything that the result depends on."""
        return {"experiment": VERSION, "plan": json.loads(self.plan_identity), "fold": asdict(self.fold)}

    def run(self) -> dict[str, Any]:
        """Fit both ways and ask them about the test subjects."""
        with open_store(self.request.store) as store:
            return fuse_fold(plan_evaluation(store, self.request), self.fold)


def fusion_plan(store: StudyStore, request: EvaluationRequest) -> Plan:
    """Return the plan, once it is sure that there is something to fuse.

    Raises StudyError where the study has no task or several and none is named, or windows, subjects or sensors do not
    suffice. Raises SettingsError where the split does not fit the subjects.
    """
    plan = plan_evaluation(store, request)
    sensors = measured_sensors(plan.windows.recordings, plan.windows.feature_names)
    if len(sensors) < 2:
        raise StudyError(f"study {store.name!r} has one sensor ({', '.join(sensors)}); fusion needs at least two")
    return plan


def fusion_folds(plan: Plan) -> list[FusionFold]:
    """Return the plan's folds as units."""
    return [FusionFold(plan.request, fold, json.dumps(plan.identity(), sort_keys=True)) for fold in plan.folds]


def fuse_fold(plan: Plan, fold: Fold) -> dict[str, Any]:
    """Return what both ways say about a fold's test windows, with each set of sensors.

    Returns
    -------
    dict
        ``rows`` of the window table; ``answers`` by way and set of sensors, probabilities (len(rows), K), None where
        a window has nothing that the asked models read; ``parameters`` and ``cpu_seconds`` of fitting by way;
        ``without_model``, sensors with too little in the training windows for a network of their own.
    """
    windows, sets = plan.windows, sensor_sets(measured_sensors(plan.windows.recordings, plan.windows.feature_names))
    views = {kept: restricted(plan.inputs, kept) for kept in [*sets.values(), *((s,) for s in sets["all"])]}
    rows = windows.rows_of(fold.test)
    with threads(plan.request.fit.training.n_threads):
        started = time.process_time()
        early = _fitted(plan, plan.inputs, fold, "all")
        between = time.process_time()
        tried = {sensor: _fitted(plan, views[sensor,], fold, sensor) for sensor in sets["all"]}
        seconds = {EARLY: between - started, LATE: time.process_time() - between}
        if early is None:
            raise RuntimeError("the plan lets no fold pass whose training windows lack a class")
        late = {sensor: model for sensor, model in tried.items() if model is not None}
        votes = {sensor: _answer(plan, model, views[sensor,], rows) for sensor, model in late.items()}
        answers = {
            EARLY: {name: _answer(plan, early, views[kept], rows) for name, kept in sets.items()},
            LATE: {
                name: mean_of_votes([votes[s] for s in kept if s in votes], (len(rows), windows.only.n_classes))
                for name, kept in sets.items()
            },
        }
    return {
        "fold": fold.name,
        "rows": rows.tolist(),
        "answers": {way: {name: _plain(found) for name, found in said.items()} for way, said in answers.items()},
        "parameters": {EARLY: early.n_parameters, LATE: sum(model.n_parameters for model in late.values())},
        "cpu_seconds": seconds,
        "without_model": sorted(set(sets["all"]) - set(late)),
    }


def _fitted(plan: Plan, read: WindowInputs, fold: Fold, name: str) -> NetworkOnStudy | None:
    """Return a network fitted on the windows that have something to read; None where those lack a class."""
    request, windows = plan.request, plan.windows
    engine = engine_for("cpu")
    population = read.fit(sorted({*fold.training, *fold.validation}))
    source = TokenSource(read, population, request.fit.tokens, engine.device)
    training, validation = (
        rows[source.has_tokens(rows)] for rows in (windows.rows_of(fold.training), windows.rows_of(fold.validation))
    )
    if len(np.unique(windows.only.values[training])) < windows.only.n_classes:
        return None
    seed = seed_for(request.seed, fold.name, name)
    return fit_perceiver_io(FitRequest(read, training, validation, request.fit, engine, seed))


def _answer(plan: Plan, model: NetworkOnStudy, read: WindowInputs, rows: IntArray) -> Answers:
    """Return probabilities (len(rows), K) from the sensors of ``read``; NaN for windows that have none of them."""
    source = TokenSource(read, model.fitted.population, plan.request.fit.tokens, engine_for("cpu").device)
    [answer] = predict_windows(model.fitted.network, model.tasks, source, rows).values()
    return np.where(source.has_tokens(rows)[:, None], answer, np.nan)


def mean_of_votes(votes: list[Answers], shape: tuple[int, int]) -> Answers:
    """Return the mean over the votes that are there, window by window; NaN where there is none."""
    held = np.stack([*votes, np.full(shape, np.nan)])
    n_votes = np.isfinite(held).sum(0)
    return np.where(n_votes > 0, np.nansum(held, axis=0) / np.maximum(n_votes, 1), np.nan)


def _plain(found: Answers) -> list[list[float] | None]:
    return [row.tolist() if np.isfinite(row).all() else None for row in found]


def answers_of(folds: list[Mapping[str, Any]], n_windows: int, n_classes: int) -> dict[str, dict[str, Answers]]:
    """Return the answers of all folds by way and set of sensors, (n_windows, K), NaN where there is none."""
    joined: dict[str, dict[str, Answers]] = {way: {} for way in WAYS}
    for fold in folds:
        for way, sets in fold["answers"].items():
            for name, rows in sets.items():
                whole = joined[way].setdefault(name, np.full((n_windows, n_classes), np.nan))
                whole[fold["rows"]] = [[np.nan] * n_classes if row is None else row for row in rows]
    return joined


def signals_by_sensor(recordings: Sequence[WindowedRecording], feature_names: Sequence[str]) -> dict[str, list[str]]:
    """Return the measured modalities of some recordings, sorted, each with the signals that come from it."""
    found: dict[str, set[str]] = {}
    for recording in recordings:
        for signal, sensor in sensors_of_recording(recording, feature_names)[0].items():
            found.setdefault(sensor, set()).add(signal)
    return {sensor: sorted(found[sensor]) for sensor in sorted(found)}


def run_fusion(
    request: EvaluationRequest,
    output: Path,
    *,
    n_jobs: int = 1,
    anew: bool = False,
    command: str = "",
    on_unit: UnitDone | None = None,
) -> dict[str, Any]:
    """Run or resume early against late fusion of one study; write ``fusion-NAME.json`` and ``fusion-NAME.md``.

    Raises StudyError where the study has no task, or windows, subjects or sensors do not suffice. Raises SettingsError
    where the split does not fit the subjects, or folds were lost with their process. Raises BusyError where another
    process is writing there.

    Parameters
    ----------
    request : EvaluationRequest
        Store, task, settings, folds and seed; NAME is the store's file name.
    output : Path
        Folder; folds of an earlier run of the same request are used again.
    n_jobs : int
        Folds at a time, each in a child process; results do not depend on it.
    anew : bool
        Fit every fold again.
    command : str
        How it was called, for the page.
    on_unit : callable, optional
        Told ``(fold, was_done_before, n_folds)``.

    Returns
    -------
    dict
        The content of the JSON file; see :func:`fusion_document`.
    """
    with open_store(request.store) as store, only_writer(output):
        plan = fusion_plan(store, request)
        folds = run_units(fusion_folds(plan), output, n_jobs=n_jobs, anew=anew, on_unit=on_unit)
        found = fusion_document(plan, store.name, folds) | {"command": command}
        stem = f"fusion-{request.store.stem}"
        write_json(output / f"{stem}.json", found)
        write_text(output / f"{stem}.md", fusion_page(found))
    return found


def fusion_page(found: Mapping[str, Any]) -> str:
    """Return the Markdown page of one study."""
    called = f" by `{found['command']}`" if found.get("command") else ""
    head = f"# Early and late fusion: {found['store']}\n\nWritten{called} with biopercept {found['version']}, seed"
    return f"{head} {found['seed']}. Brackets are 95 % intervals.\n" + fusion_part(found)


def fusion_document(plan: Plan, name: str, units: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the study's scores from its folds' files.

    Returns
    -------
    dict
        ``sensors`` with their signals, ``folds``, ``n_windows``, ``chance``, ``parameters`` and ``cpu_seconds`` of
        both ways (parameters of the first fold, seconds of fitting over all folds), and ``scores``: a row for each set
        of sensors with mean balanced accuracy per subject [95 % bootstrap interval over subjects] of both, and their
        paired differences. Windows that either way could not answer count for neither.
    """
    folds = [unit["result"] for unit in units]
    windows, seed = plan.windows, plan.request.seed
    answers = answers_of(folds, len(windows), windows.only.n_classes)
    chance = chance_levels(windows.subject, windows.only.values, windows.only.n_classes, seed=seed)["dummy"]
    return {
        "version": __version__,
        "store": name,
        "task": plan.task.name,
        "classes": list(windows.only.classes),
        "warnings": list(plan.warnings),
        "normalisation": plan.normalisation.mode,
        "modality_dropout": plan.request.fit.tokens.modality_dropout,
        "n_epochs": plan.request.fit.training.n_epochs,
        "seed": seed,
        "sensors": signals_by_sensor(windows.recordings, windows.feature_names),
        "without_model": {fold["fold"]: fold["without_model"] for fold in folds if fold["without_model"]},
        "folds": len(folds),
        "n_windows": len(windows),
        "n_subjects": len(windows.subjects),
        "chance": chance,
        "parameters": dict(folds[0]["parameters"]),
        "cpu_seconds": {way: sum(fold["cpu_seconds"][way] for fold in folds) for way in WAYS},
        "scores": scores_of(answers, windows.subject, windows.only.values, chance=chance, seed=seed),
    }


def scores_of(
    answers: Mapping[str, Mapping[str, Answers]],
    subject: NDArray[np.str_],
    target: IntArray,
    *,
    chance: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Return a row per set of sensors: both ways' balanced accuracy over subjects, and paired differences.

    Parameters
    ----------
    answers : mapping
        By way and set of sensors, probabilities (n, K), NaN where there is none.
    subject, target : arrays (n,)
    seed : int
        Of the bootstrap.
    """

    def over_subjects(values: Sequence[float]) -> dict[str, Any]:
        found = Bootstrap(seed).score(values, chance=chance)
        return {"mean": found.mean, "ci95": list(found.ci95) if found.ci95 else None, "n_subjects": found.n_subjects}

    by_subject: dict[tuple[str, str], dict[str, float]] = {}
    rows = []
    for name in answers[EARLY]:
        is_answered = np.all([np.isfinite(answers[way][name]).all(1) for way in WAYS], axis=0)
        for way in WAYS:
            by_subject[way, name] = _by_subject(answers[way][name], subject, target, is_answered)
        early, late = by_subject[EARLY, name], by_subject[LATE, name]
        row: dict[str, Any] = {"sensors": name, "n_windows": int(is_answered.sum())}
        row |= {way: over_subjects(list(by_subject[way, name].values())) for way in WAYS}
        row["early_minus_late"] = over_subjects([early[s] - late[s] for s in early])
        for way in WAYS:
            mine, whole = by_subject[way, name], by_subject[way, "all"]
            row[f"{way}_minus_all"] = over_subjects([mine[s] - whole[s] for s in mine if s in whole])
        rows.append(row)
    return rows


def _by_subject(
    answers: Answers, subject: NDArray[np.str_], target: IntArray, is_answered: NDArray[np.bool_]
) -> dict[str, float]:
    found = {}
    for who in np.unique(subject):
        rows = (subject == who) & is_answered
        if rows.any():
            score = score_subject(str(who), target[rows], answers[rows]).balanced_accuracy
            if score is not None:
                found[str(who)] = score
    return found


def fusion_part(found: Mapping[str, Any], note: str = "") -> str:
    """Return the part of a page on one study.

    Parameters
    ----------
    found : mapping
        What ``fusion_document`` returned.
    note : str
        What must be known of the study, as ``"made data"``.
    """
    sensors = "; ".join(f"{name} ({', '.join(signals)})" for name, signals in found["sensors"].items())
    words = f"""
## Early and late fusion, and missing sensors: {found["store"]}{f" ({note})" if note else ""}

Task {found["task"]} ({", ".join(found["classes"])}), {found["n_windows"]} windows of {found["n_subjects"]} subjects,
{found["folds"]} folds over subjects, at most {found["n_epochs"]} epochs, normalisation {found["normalisation"]}.
Balanced accuracy per subject, mean over subjects. Early: one Perceiver IO reads all sensors; in training whole sensors
are hidden at random (modality dropout {found["modality_dropout"]:g}). Late: one Perceiver IO for each sensor, on the
same settings, and the mean of their probabilities.

Sensors, each with the signals that come and go with it: {sensors}.
"""
    cautions = "".join(f"\nCaution: {warning}.\n" for warning in found["warnings"])
    gaps = "".join(
        f"\nIn fold {fold} late fusion has no network for {', '.join(gone)}: too little to train on.\n"
        for fold, gone in found["without_model"].items()
    )
    return words + cautions + gaps + _all_sensors(found) + _missing_sensors(found["scores"])


def _all_sensors(found: Mapping[str, Any]) -> str:
    whole = found["scores"][0]
    rows = [
        (
            way,
            percent(whole[way]),
            f"{100 * found['chance']:.1f}",
            str(whole[way]["n_subjects"]),
            f"{found['parameters'][way]:,}",
            f"{found['cpu_seconds'][way]:.0f}",
        )
        for way in WAYS
    ]
    heads = ("Fusion", "All sensors %", "Chance %", "Subjects", "Parameters", "CPU seconds of fitting, all folds")
    times = found["cpu_seconds"][LATE] / found["cpu_seconds"][EARLY]
    sizes = found["parameters"][LATE] / found["parameters"][EARLY]
    return f"{table(heads, rows)}\n{verdict(whole['early_minus_late'])[:-1]}; late took {times:.1f} times the CPU time \
and {sizes:.1f} times the parameters of early.\n"


def verdict(difference: Mapping[str, Any]) -> str:
    """Return one sentence on early minus late, paired over subjects."""
    if difference["mean"] is None:
        return "No subject has windows of both classes, so nothing can be said."
    found = {1: "early fusion is better", -1: "late fusion is better", 0: "neither can be called better"}
    said = f"Early minus late is {percent(difference, signed=True)} points over {difference['n_subjects']} subjects"
    return f"{said}: {found[direction(difference)]}."


def _missing_sensors(scores: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            row["sensors"],
            percent(row[EARLY]),
            percent(row[LATE]),
            percent(row["early_minus_late"], signed=True),
            percent(row["early_minus_all"], signed=True) if row["sensors"] != "all" else "",
            percent(row["late_minus_all"], signed=True) if row["sensors"] != "all" else "",
            f"{row[EARLY]['n_subjects']} ({row['n_windows']})",
        )
        for row in scores
    ]
    heads = ("Asked with", "Early %", "Late %", "Early minus late", "Early minus its all", "Late minus its all")
    return f"{table((*heads, 'Subjects (windows)'), rows)}\n{_reading(scores)}\n"


def _reading(scores: Sequence[Mapping[str, Any]]) -> str:
    gone = [
        row for row in scores if row["sensors"].startswith("without") and row["early_minus_all"]["mean"] is not None
    ]
    if not gone:
        return "No set of fewer sensors could be scored."
    worst = {way: min(gone, key=lambda row: row[f"{way}_minus_all"]["mean"]) for way in WAYS}
    parts = [
        f"{way} fusion at worst changes by {percent(row[f'{way}_minus_all'], signed=True)} points ({row['sensors']})"
        for way, row in worst.items()
    ]
    fewer = [row for row in scores if row["sensors"] != "all"]
    signs = [direction(row["early_minus_late"]) for row in fewer]
    return (
        f"With a sensor taken away, {' and '.join(parts)}; of {len(fewer)} sets of fewer sensors early is better in "
        f"{signs.count(1)}, late in {signs.count(-1)}, and neither can be called better in {signs.count(0)}."
    )


def direction(difference: Mapping[str, Any]) -> int:
    """Return 1 or -1 where the whole interval of a difference lies above or below 0, else 0.

    >>> direction({"mean": -0.2, "ci95": [-0.3, -0.1]}), direction({"mean": 0.1, "ci95": [-0.1, 0.3]})
    (-1, 0)
    """
    if difference["mean"] is None or difference["ci95"] is None:
        return 0
    low, high = difference["ci95"]
    return 1 if low > 0 else -1 if high < 0 else 0
