"""The page of made studies of many shapes: scores of the plan beside the presets and baselines, and every plan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.results.plan import SettingsPlan, shown_value
from experiments.units import UnitDone, run_units
from measurements.planted_shapes import SHAPES, Shape
from measurements.shapes import AUTO, METRICS, N_FOLDS, PRESETS, ShapeScore, plan_of_shape, shape_of_study, units
from measurements.signals_page import table

Samples = NDArray[np.float64]
By = Mapping[str, Mapping[str, Samples]]
"""Scores of the people of a shape by what was scored and metric; of all seeds, in one order."""

_LINEAR = {False: "logistic", True: "ridge"}
_NETWORKS = (AUTO, *PRESETS)
_MARGIN = 0.01

_INTRODUCTION = """# Settings from the data on made studies of many shapes

Written by `make measurements SHAPES=DIR`; the code is `docs/measurements`. Made people with baselines of their own, who
each react with other organs, one in eight not at all with one of them. What they do moves heart, breath, skin and
brain, which wander by themselves as well. They are excited at first and tire later, skin conductance and temperature
drift, people move, electrodes come off. The first stage is the same for all, the others come in an order of their own.
"""

_SCORES = f"""## Scores

Each study is prepared with the windows of the plan (`auto`), and again with those of each preset; baselines have the
plan's windows and scaling. All are scored by {N_FOLDS} folds over people with one repetition, of {{n_seeds}} made
studies of each shape, and once of each shared study. Means over people in per cent: balanced accuracy, of numbers and
ratings the concordance within a person. The last columns are paired by person, with their standard error.
`stress-chest` is `general` in every value; `workload-eeg` is for EEG. Scores of a preset are of its windows, so that
differences below two standard errors say nothing.
"""

_MACRO = """## Macro-F1 of three classes and more
"""

_PLANS = """## What was planned, and why

Settings that are the same for all are left out: `model`, rate and calibration.
"""


def page(folder: Path, n_seeds: int, names: Sequence[str], studies: Sequence[Path], on_unit: UnitDone) -> str:
    """Return the whole page as Markdown; what an earlier run scored in the folder is used again.

    ``names`` are shapes, all where there are none; ``studies`` that are there are planned and scored as well. Without
    seeds nothing is scored and the page has the plans alone.
    """
    shapes = [shape for shape in SHAPES if not names or shape.name in names]
    shapes += [shape_of_study(path, folder) for path in studies]
    wanted = list(units(folder, n_seeds, shapes))
    scored = _scores(wanted, [one["result"] for one in run_units(wanted, folder, on_unit=on_unit)])
    parts = [_INTRODUCTION]
    if scored:
        parts += [_SCORES.format(n_seeds=n_seeds), _main_table(shapes, scored), _sentences(shapes, scored)]
        parts += [_MACRO, _macro_table(shapes, scored)]
    plans = [(f"{shape.name}: {shape.words}", plan_of_shape(shape, folder)) for shape in shapes]
    parts += [_PLANS, *(f"### {title}\n\n{_plan_table(plan)}" for title, plan in plans)]
    return "\n".join(parts).rstrip() + "\n"


def _scores(wanted: Sequence[ShapeScore], results: Sequence[Mapping[str, Any]]) -> dict[str, By]:
    """Return scores by shape; of a person who has none with other windows NaN."""
    people: dict[str, set[str]] = {}
    for unit, result in zip(wanted, results, strict=True):
        people.setdefault(unit.shape.name, set()).update(result["people"])
    scored: dict[str, dict[str, dict[str, list[float]]]] = {}
    for unit, result in zip(wanted, results, strict=True):
        what = unit.settings if unit.model == "perceiver-io" else unit.model
        of_shape = scored.setdefault(unit.shape.name, {})
        for metric in METRICS[unit.shape.is_of_numbers]:
            values = dict(zip(result["people"], result["scores"].get(metric, ()), strict=True))
            of_shape.setdefault(what, {}).setdefault(metric, []).extend(
                values.get(p, math.nan) for p in sorted(people[unit.shape.name])
            )
    return {
        shape: {what: {m: np.array(v) for m, v in by_metric.items()} for what, by_metric in of_shape.items()}
        for shape, of_shape in scored.items()
    }


def _mean(values: Samples) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _difference(first: Samples, second: Samples) -> tuple[float, float]:
    """Return the mean difference over people who have both, and its standard error."""
    both = (first - second)[np.isfinite(first - second)]
    if len(both) < 2:
        return math.nan, math.nan
    return float(both.mean()), float(both.std(ddof=1) / math.sqrt(len(both)))


def _first(shape: Shape) -> str:
    return METRICS[shape.is_of_numbers][0]


def _best_preset(shape: Shape, by: By, metric: str) -> str:
    """Return the preset with the best mean; of several the first."""
    return max((p for p in PRESETS if p in by), key=lambda p: np.nan_to_num(_mean(by[p][metric]), nan=-1.0))


def _compared(shape: Shape, by: By, metric: str) -> Iterator[tuple[str, tuple[float, float]]]:
    for other in (_best_preset(shape, by, metric), _LINEAR[shape.is_of_numbers]):
        yield other, _difference(by[AUTO][metric], by[other][metric])


def _main_table(shapes: Sequence[Shape], scored: Mapping[str, By]) -> str:
    columns = [*_NETWORKS, "linear", "boosting", "bagging"]
    rows = []
    for shape in shapes:
        by, metric = scored[shape.name], _first(shape)
        names = [_LINEAR[shape.is_of_numbers] if name == "linear" else name for name in columns]
        cells = [_per_cent(_mean(by[name][metric])) if name in by else "–" for name in names]
        differences = [_signed(*difference) for _, difference in _compared(shape, by, metric)]
        rows.append([f"{shape.name} ({shape.n_people})", *cells, *differences])
    return table(["shape (people)", *columns, "minus best preset", "minus linear"], rows)


def _macro_table(shapes: Sequence[Shape], scored: Mapping[str, By]) -> str:
    rows = []
    for shape in (shape for shape in shapes if not shape.is_of_numbers and len(shape.classes) > 2):
        by = scored[shape.name]
        names = [AUTO, _best_preset(shape, by, "macro_f1"), "logistic", "boosting", "bagging"]
        cells = [f"{_per_cent(_mean(by[name]['macro_f1']))}{f' ({name})' * (i == 1)}" for i, name in enumerate(names)]
        boosting = _difference(by[AUTO]["macro_f1"], by["boosting"]["macro_f1"])
        rows.append([shape.name, *cells, _signed(*boosting)])
    head = ["shape", AUTO, "best preset", "logistic", "boosting", "bagging", "auto minus boosting"]
    return table(head, rows)


def _sentences(shapes: Sequence[Shape], scored: Mapping[str, By]) -> str:
    """Return what misses its bar: a hundredth below the best preset, or below a linear model beyond the noise."""
    behind, below = [], []
    for shape in shapes:
        (best, preset), (linear, (mean, error)) = _compared(shape, scored[shape.name], _first(shape))
        if preset[0] < -_MARGIN:
            behind.append(f"{shape.name} ({best} {_signed(*preset)})")
        if mean < -2 * error:
            below.append(f"{shape.name} ({linear} {_signed(mean, error)})")
    return (
        f"More than {_MARGIN:g} behind the best preset: {', '.join(behind) or 'none'}. Below the linear model by more "
        f"than two standard errors: {', '.join(below) or 'none'}.\n"
    )


def _plan_table(plan: SettingsPlan) -> str:
    left_out = ("model.", "training.learning_rate", "evaluation.calibration_folds")
    lines = [line for line in plan.lines if not line.setting.startswith(left_out)]
    rows = [[f"`{line.setting}`", shown_value(line.value), line.because] for line in lines]
    notes = "".join(f"\n- {sentence}" for sentence in (*plan.faults, *plan.losses, *plan.warnings))
    return table(["setting", "value", "because"], rows) + (f"{notes}\n" if notes else "")


def _per_cent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _signed(mean: float, error: float) -> str:
    return "–" if math.isnan(mean) else f"{100 * mean:+.1f} ({100 * error:.1f})"
