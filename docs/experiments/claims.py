"""All experiments on the claims in one call, unit by unit, and their results as JSON and as a Markdown page."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from biopercept.evaluation.plan import EvaluationRequest, Plan
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.files import only_writer, write_json, write_text
from biopercept.report.text import percent, table
from biopercept.store.reading import StudyStore
from biopercept.training.engine import threads
from biopercept.training.settings import FitSettings, TrainingSettings
from biopercept.version import __version__
from experiments.classification import FitSchedule
from experiments.fusion import FusionFold, direction, fusion_document, fusion_folds, fusion_part, fusion_plan
from experiments.networks import NetworkSettings
from experiments.one_architecture import (
    SENSES,
    sense_fits,
    sense_row,
    study_folds,
    study_plan,
    study_row,
)
from experiments.permutation import CONTENDERS, DATA, permutation_fits, summary_of
from experiments.samples import sample_store
from experiments.units import Unit, UnitDone, run_units


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
    """

    n_seeds: int = 3
    schedule: FitSchedule = FitSchedule()  # noqa: RUF009 - frozen
    contenders: tuple[str, ...] = tuple(contender.name for contender in CONTENDERS)
    data: tuple[str, ...] = DATA
    n_made: int = 1400
    n_folds: int = 5
    n_epochs: int = 16


FULL = Extent()
QUICK = Extent(
    n_seeds=1,
    schedule=FitSchedule(n_steps=60),
    contenders=("CNN (values alone)", "Perceiver IO (Fourier)"),
    data=("digits", "windows"),
    n_made=280,
    n_folds=2,
    n_epochs=3,
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

    Raises BusyError where another process is writing there. Raises OutputError where nothing can be written to
    ``output``. Raises SettingsError where units were lost with their process; the finished ones are kept. Raises
    StudyError where the sample study cannot be prepared.

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
    """
    extent = QUICK if quick else FULL
    with only_writer(output), threads(1), sample_store(output, quick=quick) as store:
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


_QUICK = """
**This is the quick run**: one seed, four subjects, hardly any training. It shows that the experiments work; its figures
are no result.
"""

_PERMUTATION = """
## Permutation

Each network is fitted anew on raw inputs and on inputs in a random order of places, the same order for all samples.
*Permuted*: values and position codes together, as in the original experiment; *relabelled*: values alone, under codes
left in place. All networks take {n_steps} steps of {batch_size} samples (AdamW, peak rate {learning_rate:g}, warm-up
and cosine, label smoothing {label_smoothing:g}); nothing is stopped early or chosen by its score. A seed draws the
split, the starting weights, the batches and the order; its raw and permuted fits share them all. The CNN: three
convolutions of 3 x 3 (5 on a line), batch norm, maxima over 2, the mean over the grid. The linear model has a weight
for each place and shows how far one comes without neighbourhood.

- `digits`: 8 x 8 pixels, centred (scikit-learn): each pixel has a meaning of its own; neighbourhood is hardly needed.
- `moved digits`: the same digits at random places of 12 x 12 pixels: a pixel has no meaning of its own. They were added
  because centred digits are easy: in earlier trials a CNN lost only 1 to 3 points on them.
- `windows` (made data): 64 samples of one sensor, each window standardised; the class is the sensor; test subjects are
  unseen in training.

Means over seeds, and the difference from raw paired by seed (Student's interval). *Same answers*: test samples answered
as by the raw fit of the same seed. *Order change*: the largest change of any logit when the fitted network is asked the
same samples in yet another order, codes and values together.
"""

_ARCHITECTURE = """
## One architecture

One class, `PerceiverIO`, with {n_latents} latents of width {width}, on four kinds of input. Picture, point cloud and
sound: fitted as above, mean over seeds with Student's interval, test samples unseen in training. Biosignals: every
subject is tested once by a network that never saw them; bootstrap over subjects. Point clouds, sounds and the study
are made data.
"""


def claims_page(found: Mapping[str, Any]) -> str:
    """Return the Markdown page of what ``run_claims`` found."""
    parts = [_introduction(found), _permutation_part(found), _architecture_part(found)]
    return "".join([*parts, fusion_part(found["fusion"], "made data")])


def _introduction(found: Mapping[str, Any]) -> str:
    libraries = ", ".join(f"{name} {held}" for name, held in found["libraries"].items())
    return f"""# What the talk claims, shown on small data

Written by `python -m experiments claims{" --quick" if found["quick"] else ""} -o OUT --seed {found["seed"]}` with \
biopercept {found["version"]}
({libraries}; {found["machine"]}): {found["n_units"]} units of work,
{found["cpu_seconds"] / 60:.1f} CPU minutes on one thread each; `-j N` runs N at a time, and a run that was stopped
goes on where it was. Digits are those of scikit-learn; shapes, sounds and the sample study are **made**: a score on
them says that the network can do it, and nothing about people. Brackets are 95 % intervals. Data, networks and schedule
were settled before any of these networks met permuted inputs, and every fit is in the tables.
{_QUICK if found["quick"] else ""}"""


def _permutation_part(found: Mapping[str, Any]) -> str:
    summary = found["permutation"]["summary"]
    rows = [
        (
            row["data"],
            row["network"],
            row["way"],
            percent(row["accuracy"]),
            "" if row["way"] == "raw" else percent(row["minus_raw"], signed=True),
            "" if row["way"] == "raw" else f"{100 * row['same_answers']:.1f}",
            f"{row['order_change']:.1g}",
            f"{100 * row['chance']:.1f}",
            f"{lowest_to_highest(row['n_training'])} / {lowest_to_highest(row['n_test'])}",
            str(row["accuracy"]["n_seeds"]),
            f"{row['parameters']:,}",
        )
        for row in summary
    ]
    heads = ("Data", "Network", "Inputs", "Accuracy %", "Minus raw", "Same answers %", "Order change", "Chance %")
    words = _PERMUTATION.format(**found["extent"]["schedule"])
    return (
        f"{words}{table((*heads, 'n training / test', 'Seeds', 'Parameters'), rows)}\n{permutation_reading(summary)}\n"
    )


def permutation_reading(summary: Sequence[Mapping[str, Any]]) -> str:
    """Return one sentence on what permuting did to the convolutional networks and to the Perceivers."""
    moved = [row for row in summary if row["way"] == "permuted"]
    nets = [row for row in moved if row["network"].startswith("CNN")]
    perceivers = [row for row in moved if row["network"].startswith("Perceiver")]
    if not nets or not perceivers:
        return "Nothing was permuted."
    falls = "; ".join(f"{row['network']} on {row['data']} {percent(row['minus_raw'], signed=True)}" for row in nets)
    n_fell = sum(direction(row["minus_raw"]) < 0 for row in nets)
    largest = max(perceivers, key=lambda row: abs(row["minus_raw"]["mean"]))
    n_moved = sum(direction(row["minus_raw"]) != 0 for row in perceivers)
    change = max(row["order_change"] for row in perceivers)
    return (
        f"Permuting changes the CNN's accuracy, in points, by: {falls}, a fall whose interval lies below 0 in {n_fell} "
        f"of {len(nets)}; the Perceivers change by at most {percent(largest['minus_raw'], signed=True)} "
        f"({largest['network']} on {largest['data']}), with an interval that leaves out 0 in {n_moved} of "
        f"{len(perceivers)}, and once fitted they answer a set of tokens in any order with logits that differ by at "
        f"most {change:.0e}."
    )


def _architecture_part(found: Mapping[str, Any]) -> str:
    rows = [
        (
            row["input"],
            row["token"],
            row["score"],
            percent({"mean": row["accuracy"], "ci95": row["ci95"]}),
            f"{100 * row['chance']:.1f}",
            str(row["n_training"]),
            f"{row['n']}" + (f" ({row['n_subjects']} subjects)" if "n_subjects" in row else ""),
            str(row["n_seeds"]),
            str(len(row["classes"])),
            f"{row['parameters']:,}",
        )
        for row in found["one_architecture"]
    ]
    heads = ("Input", "A token is", "Score", "%", "Chance %", "n training", "n test", "Seeds", "Classes", "Parameters")
    words = _ARCHITECTURE.format(**found["network"])
    return f"{words}{table(heads, rows)}\n{architecture_reading(found['one_architecture'])}\n"


def architecture_reading(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return one sentence on which inputs the one network class learnt."""
    scored = [row for row in rows if row["accuracy"] is not None]
    learnt = [row for row in scored if row["ci95"] is not None and row["ci95"][0] > row["chance"]]
    worst = min(scored, key=lambda row: row["accuracy"] - row["chance"])
    return (
        f"On {len(learnt)} of {len(rows)} kinds of input the whole interval lies above chance; the smallest gain over "
        f"chance is on the {worst['input']}, {100 * (worst['accuracy'] - worst['chance']):.1f} points."
    )


def lowest_to_highest(counts: Sequence[int]) -> str:
    """Return "5", or "5 to 7" where counts differ."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
