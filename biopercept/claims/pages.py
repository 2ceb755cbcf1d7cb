"""All experiments in one call, and their results as JSON and as a Markdown page that says how they were made."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biopercept.claims.classification import FitSchedule
from biopercept.claims.fusion import run_fusion
from biopercept.claims.one_architecture import run_one_architecture
from biopercept.claims.permutation import CONTENDERS, run_permutation
from biopercept.errors import StudyError
from biopercept.files import write_json, write_text
from biopercept.learning.engine import threads
from biopercept.learning.fitting import FitSettings
from biopercept.learning.training import TrainingSettings
from biopercept.prepare import PrepareSettings, prepare_study
from biopercept.preprocessing.windows import WindowSettings
from biopercept.resources import sample_study
from biopercept.store import StudyStore, open_store
from biopercept.studies.study import load_study
from biopercept.version import __version__

N_SEEDS = 5
_QUICK_SUBJECTS = ("S01", "S02", "S03", "S06")
_QUICK_CONTENDERS = ("CNN (values alone)", "Perceiver IO (Fourier)")
_WINDOWS = WindowSettings(length_seconds=30.0, step_seconds=10.0)  # the sample study's stages last a minute

_INTRODUCTION = """# What the talk claims, shown on small data

Written by one command, `biopercept.claims.pages.run_claims(Path("OUT"), seed={seed}, quick={quick})`, with biopercept
{version}, on one processor core, in {seconds:.0f} s. Digits are those of scikit-learn; shapes, sounds and the sample
study are **made**: a score on them says that the network can do it, and nothing about people. Brackets are 95 %
intervals."""

_QUICK = """
**This is the quick run**: one seed, four subjects, hardly any training. It shows that the experiments work; its figures
are no result."""


def run_claims(output: Path, *, seed: int, quick: bool) -> dict[str, Any]:
    """Run permutation, one architecture, and early against late fusion; write ``claims.json`` and ``claims.md``.

    Parameters
    ----------
    output : Path
        Folder; the sample study's store is prepared in it, and used again if it is there.
    seed : int
        The experiments' first seed.
    quick : bool
        One seed, few subjects and hardly any training: seconds instead of minutes, and no result.

    Returns
    -------
    dict
        The content of ``claims.json``: ``permutation``, ``one_architecture``, ``fusion``, and how they were run.

    Raises
    ------
    OutputError
        Where nothing can be written to ``output``.
    StudyError
        Where the sample study cannot be prepared.
    """
    started = time.perf_counter()
    n_epochs = 3 if quick else 16
    schedule = FitSchedule(n_epochs=n_epochs)
    contenders = [c for c in CONTENDERS if not quick or c.name in _QUICK_CONTENDERS]
    n_folds = 2 if quick else 5
    with threads(1), _sample_store(output, quick=quick) as store:
        found: dict[str, Any] = {
            "version": __version__,
            "seed": seed,
            "quick": quick,
            "permutation": run_permutation(
                tuple(store.recordings),
                seeds=range(seed, seed + (1 if quick else N_SEEDS)),
                schedule=schedule,
                contenders=contenders,
            ),
            "one_architecture": run_one_architecture(
                store, seed=seed, n_made=280 if quick else 1400, schedule=schedule, n_folds=n_folds, n_epochs=n_epochs
            ),
            "fusion": run_fusion(
                store, seed=seed, n_folds=n_folds, fit=FitSettings(training=TrainingSettings(n_epochs=n_epochs))
            ),
        }
    found["seconds"] = time.perf_counter() - started
    write_json(output / "claims.json", found)
    write_text(output / "claims.md", claims_page(found))
    return found


def _sample_store(output: Path, *, quick: bool) -> StudyStore:
    path = output / ("sample-quick.h5" if quick else "sample.h5")
    output.mkdir(parents=True, exist_ok=True)
    with sample_study() as folder:
        summary = prepare_study(
            load_study(folder), path, PrepareSettings(_WINDOWS), subjects=_QUICK_SUBJECTS if quick else None
        )
    if summary.store is None or summary.count("failed"):
        raise StudyError(f"the sample study could not be prepared; see {summary.log}")
    return open_store(summary.store)


def claims_page(found: Mapping[str, Any]) -> str:
    """Return the Markdown page of what :func:`run_claims` found."""
    parts = [_INTRODUCTION.format(**found), *([_QUICK] if found["quick"] else [])]
    parts += [_permutation_part(found["permutation"]), _architecture_part(found["one_architecture"])]
    return "\n".join([*parts, _fusion_part(found["fusion"])]) + "\n"


def _permutation_part(found: Mapping[str, Any]) -> str:
    words = """
## Permutation

Each network is fitted anew on raw inputs and on inputs in one fixed random order. *Permuted*: values and position
codes together, as in the original experiment; *relabelled*: values alone, under codes left in place. The CNN takes
order for neighbourhood; the Perceiver reads a set. Mean accuracy over seeds, and the paired difference from raw. In
`windows` each token is one sample of a standardised window of 64, the class is the sensor, and test subjects are
unseen in training.
"""
    rows = [
        (
            row["data"],
            row["network"],
            row["way"],
            _percent(row["accuracy"]),
            "" if row["way"] == "raw" else _percent(row["minus_raw"], signed=True),
            f"{100 * row['chance']:.1f}",
            _span(row["n_test"]),
            str(row["accuracy"]["n_seeds"]),
            f"{row['parameters']:,}",
        )
        for row in found["summary"]
    ]
    heads = ("Data", "Network", "Inputs", "Accuracy %", "Minus raw", "Chance %", "n test", "Seeds", "Parameters")
    return words + _table(heads, rows)


def _architecture_part(found: Sequence[Mapping[str, Any]]) -> str:
    words = """
## One architecture

One class, `PerceiverIO`, at one width, with as many latents and layers, on four kinds of input. Intervals: Wilson's
for accuracy; bootstrap over subjects for the study, whose subjects are each tested once, by a network new to them.
"""
    rows = [
        (
            row["input"],
            row["token"],
            f"{row['score']}",
            _percent({"mean": row["accuracy"], "ci95": row["ci95"]}),
            f"{100 * row['chance']:.1f}",
            f"{row['n']}" + (f" ({row['n_subjects']} subjects)" if "n_subjects" in row else ""),
            str(len(row["classes"])),
            f"{row['parameters']:,}",
        )
        for row in found
    ]
    return words + _table(("Input", "A token is", "Score", "%", "Chance %", "n test", "Classes", "Parameters"), rows)


def _fusion_part(found: Mapping[str, Any]) -> str:
    words = f"""
## Early and late fusion, and missing sensors

Study {found["store"]} (made data), task {found["task"]}, {found["n_windows"]} windows, {found["folds"]} folds over
subjects. Early: one Perceiver IO reads all sensors ({found["parameters"]["early"]:,} parameters). Late: one for each
sensor, probabilities averaged ({found["parameters"]["late"]:,} in all). Sensors are taken away when the fitted models
are asked, nothing is fitted anew. Balanced accuracy per subject, mean over the subjects who have any of the sensors.
"""
    rows = [
        (
            row["sensors"],
            _percent(row["early"]),
            _percent(row["late"]),
            _percent(row["early_minus_late"], signed=True),
            "" if row["sensors"] == "all" else _percent(row["early_minus_all"], signed=True),
            str(row["early"]["n_subjects"]),
        )
        for row in found["scores"]
    ]
    return words + _table(("Sensors", "Early %", "Late %", "Early minus late", "Early minus all", "Subjects"), rows)


def _percent(estimate: Mapping[str, Any], *, signed: bool = False) -> str:
    if estimate["mean"] is None:
        return "not defined"
    form = "{:+.1f}" if signed else "{:.1f}"
    shown = form.format(100 * estimate["mean"])
    if estimate["ci95"] is None:
        return shown
    return f"{shown} [{', '.join(form.format(100 * edge) for edge in estimate['ci95'])}]"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
