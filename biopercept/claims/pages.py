"""All experiments in one call, unit by unit, and their results as JSON and as a Markdown page."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from biopercept.claims.claims_page import claims_page
from biopercept.claims.classification import FitSchedule
from biopercept.claims.fusion import FusionFold, fusion_folds, fusion_plan
from biopercept.claims.fusion_study import fusion_document
from biopercept.claims.networks import NetworkSettings
from biopercept.claims.one_architecture import (
    SENSES,
    sense_fits,
    sense_row,
    study_folds,
    study_plan,
    study_row,
)
from biopercept.claims.permutation import CONTENDERS, DATA, permutation_fits, summary_of
from biopercept.claims.units import Unit, UnitDone, run_units
from biopercept.errors import StudyError
from biopercept.evaluation.plan import EvaluationRequest, Plan
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.files import only_writer, write_json, write_text
from biopercept.prepare.recording import PrepareSettings
from biopercept.prepare.study import prepare_study
from biopercept.preprocessing.windows import WindowSettings
from biopercept.resources import sample_study
from biopercept.store.reading import StudyStore, open_store
from biopercept.studies.loading import load_study
from biopercept.training.engine import threads
from biopercept.training.settings import FitSettings, TrainingSettings
from biopercept.version import __version__

_WINDOWS = WindowSettings(length_seconds=30.0, step_seconds=10.0)  # the sample study's stages last a minute


@dataclass(frozen=True)
class Extent:
    """How much is run.

    Attributes
    ----------
    n_seeds : int
        Of permutation, picture, point cloud and sound.
    schedule : FitSchedule
        Of every fit of those.
    contenders, data : tuple of str
        Of permutation.
    n_made : int
        Made shapes, and made sounds; 70 % of them train.
    n_folds, n_epochs : int
        Folds over subjects, and longest training, on the sample study.
    subjects : tuple of str or None
        Of the sample study; None: all.
    """

    n_seeds: int = 3
    schedule: FitSchedule = FitSchedule()  # noqa: RUF009 - frozen
    contenders: tuple[str, ...] = tuple(contender.name for contender in CONTENDERS)
    data: tuple[str, ...] = DATA
    n_made: int = 1400
    n_folds: int = 5
    n_epochs: int = 16
    subjects: tuple[str, ...] | None = None


FULL = Extent()
QUICK = Extent(
    n_seeds=1,
    schedule=FitSchedule(n_steps=60),
    contenders=("CNN (values alone)", "Perceiver IO (Fourier)"),
    data=("digits", "windows"),
    n_made=280,
    n_folds=2,
    n_epochs=3,
    subjects=("S01", "S02", "S03", "S06"),
)


def run_claims(
    output: Path,
    *,
    seed: int,
    quick: bool,
    n_jobs: int = 1,
    anew: bool = False,
    on_unit: UnitDone | None = None,
) -> dict[str, Any]:
    """Run or resume permutation, one architecture, and early against late fusion; write ``claims.json``, ``claims.md``.

    Parameters
    ----------
    output : Path
        Folder; units that an earlier run of the same settings left in it, and the sample study's store, are used again.
    seed : int
        The experiments' first seed.
    quick : bool
        One seed, few subjects and hardly any training: a trial, and no result.
    n_jobs : int
        Units at a time, each in a child process; results do not depend on it.
    anew : bool
        Do every unit again.
    on_unit : callable, optional
        Told ``(unit, was_done_before, n_units)`` as units are done.

    Returns
    -------
    dict
        The content of ``claims.json``: ``permutation``, ``one_architecture``, ``fusion``, and how they were run.

    Raises
    ------
    BusyError
        Where another process is writing there.
    OutputError
        Where nothing can be written to ``output``.
    SettingsError
        Where units were lost with their process; the finished ones are kept.
    StudyError
        Where the sample study cannot be prepared.
    """
    extent = QUICK if quick else FULL
    with only_writer(output), threads(1), _sample_store(output, extent, quick=quick) as store:
        fits = permutation_fits(
            store,
            seeds=range(seed, seed + extent.n_seeds),
            schedule=extent.schedule,
            contenders=[c for c in CONTENDERS if c.name in extent.contenders],
            data=extent.data,
        )
        senses = sense_fits(seeds=range(seed, seed + extent.n_seeds), n_made=extent.n_made, schedule=extent.schedule)
        plan = study_plan(store, seed=seed, n_folds=extent.n_folds, n_epochs=extent.n_epochs)
        fusing, folds = _fusion(store, seed, extent)
        parts: list[Sequence[Unit]] = [fits, senses, study_folds(plan), folds]
        done = run_units([unit for part in parts for unit in part], output, n_jobs=n_jobs, anew=anew, on_unit=on_unit)
        permutation, sensed, studied, fused = _split(done, [len(part) for part in parts])
        found: dict[str, Any] = {
            "version": __version__,
            "libraries": {name: version(name) for name in ("torch", "scikit-learn", "numpy")},
            "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "seed": seed,
            "quick": quick,
            "extent": json.loads(json.dumps(asdict(extent))),  # tuples as the lists that a file holds
            "network": asdict(NetworkSettings()),
            "n_units": len(done),
            "cpu_seconds": sum(unit["cpu_seconds"] for unit in done),
            "permutation": {
                "scores": [_without_answers(unit["result"]) for unit in permutation],
                "summary": summary_of([unit["result"] for unit in permutation]),
            },
            "one_architecture": [*_sense_rows(sensed), study_row(plan, [unit["result"] for unit in studied])],
            "fusion": fusion_document(fusing, store.name, fused),
        }
        write_json(output / "claims.json", found)
        write_text(output / "claims.md", claims_page(found))
    return found


def _fusion(store: StudyStore, seed: int, extent: Extent) -> tuple[Plan, list[FusionFold]]:
    request = EvaluationRequest(
        store.path,
        fit=FitSettings(training=TrainingSettings(n_epochs=extent.n_epochs)),
        evaluation=EvaluationSettings(split="k-fold", n_folds=extent.n_folds),
        seed=seed,
        device="cpu",
    )
    plan = fusion_plan(store, request)
    return plan, fusion_folds(plan)


def _sense_rows(units: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    results = [unit["result"] for unit in units]
    return [sense_row([found for found in results if found["input"] == sense.name]) for sense in SENSES]


def _split(done: Sequence[dict[str, Any]], lengths: Sequence[int]) -> list[list[dict[str, Any]]]:
    waiting = iter(done)
    return [[next(waiting) for _ in range(length)] for length in lengths]


def _without_answers(score: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in score.items() if key != "answers"}


def _sample_store(output: Path, extent: Extent, *, quick: bool) -> StudyStore:
    path = output / ("sample-quick.h5" if quick else "sample.h5")
    output.mkdir(parents=True, exist_ok=True)
    with sample_study() as folder:
        summary = prepare_study(load_study(folder), path, PrepareSettings(_WINDOWS), subjects=extent.subjects)
    if summary.store is None or summary.count("failed"):
        raise StudyError(f"the sample study could not be prepared; see {summary.log}")
    return open_store(summary.store)
