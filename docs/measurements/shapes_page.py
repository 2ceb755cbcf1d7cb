"""The page of made studies of many shapes: scores of the plan beside the presets and baselines, and every plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.results.plan import SettingsPlan, shown_value
from experiments.units import UnitDone, run_units
from measurements.planted_shapes import SHAPES, Shape
from measurements.shapes import AUTO, METRICS, N_FOLDS, PRESETS, ShapeScore, plan_of_shape, shape_of_study, units
from measurements.shapes_windows import scores_on_common_windows
from measurements.signals_page import table

Samples = NDArray[np.float64]
By = Mapping[str, Mapping[str, Samples]]
"""Scores of the people of a shape by what was scored and metric; of all seeds, in one order."""
Differences = Mapping[str, tuple[tuple[str, tuple[float, float]], tuple[str, tuple[float, float]]]]
"""By shape: the preset and the linear model, each with the mean difference to the plan and its standard error."""

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
studies of each shape (five times as many of eight people), and once of each shared study. Means over people in per
cent: balanced accuracy, of numbers and ratings the concordance within a person; of each choice on its own windows,
and longer ones are easier. So the plan is compared with the preset that does best beside it on the same windows: of
the shorter ones, what they say on average within a longer. The last two columns are paired by person, with the
standard error in brackets; what is below two of these says nothing. `stress-chest` is `general` in every value;
`workload-eeg` is for EEG.
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
        differences = _differences(shapes, wanted, scored)
        parts += [_SCORES.format(n_seeds=n_seeds), _main_table(shapes, scored, differences), _sentences(differences)]
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


def _to_best_preset(shape: Shape, units: Sequence[ShapeScore], metric: str) -> tuple[str, tuple[float, float]]:
    """Return the preset that leaves the plan behind most, or is least behind, and the difference on common windows."""
    networks = [unit for unit in units if unit.shape == shape and unit.model == "perceiver-io"]
    compared = []
    for preset in PRESETS:
        pairs: list[tuple[float, float]] = []
        for plan, other in product(networks, networks):
            if (plan.settings, other.settings) == (AUTO, preset) and plan.seed == other.seed and other.output.exists():
                pairs += scores_on_common_windows(plan.output, other.output, metric).values()
        if pairs:
            compared.append((preset, _difference(*np.array(pairs).T)))
    return min(compared, key=lambda one: one[1][0], default=("none", (math.nan, math.nan)))


def _differences(shapes: Sequence[Shape], units: Sequence[ShapeScore], scored: Mapping[str, By]) -> Differences:
    """Return by shape how the plan differs from the best preset, and from the linear model, each with its name."""
    differences = {}
    for shape in shapes:
        by, metric, linear = scored[shape.name], _first(shape), _LINEAR[shape.is_of_numbers]
        of_linear = (linear, _difference(by[AUTO][metric], by[linear][metric]))
        differences[shape.name] = (_to_best_preset(shape, units, metric), of_linear)
    return differences


def _n_people(shape: Shape, by: By) -> str:
    n = len(by[AUTO][_first(shape)])
    return f"{shape.n_people}" if n == shape.n_people else f"{shape.n_people}, {n} in all"


def _main_table(shapes: Sequence[Shape], scored: Mapping[str, By], differences: Differences) -> str:
    columns = [*_NETWORKS, "linear", "boosting", "bagging"]
    rows = []
    for shape in shapes:
        by, metric = scored[shape.name], _first(shape)
        names = [_LINEAR[shape.is_of_numbers] if name == "linear" else name for name in columns]
        cells = [_per_cent(_mean(by[name][metric])) if name in by else "–" for name in names]
        (best, preset), (_, linear) = differences[shape.name]
        rows.append([f"{shape.name} ({_n_people(shape, by)})", *cells, f"{_signed(*preset)} {best}", _signed(*linear)])
    return table(["shape (people)", *columns, "minus best preset, same windows", "minus linear"], rows)


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


def _sentences(differences: Differences) -> str:
    """Return what misses its bar: a hundredth below the best preset, or below a linear model beyond the noise."""
    behind, below = [], []
    for name, ((best, preset), (linear, (mean, error))) in differences.items():
        if preset[0] < -_MARGIN:
            behind.append(f"{name} ({best} {_signed(*preset)})")
        if mean < -2 * error:
            below.append(f"{name} ({linear} {_signed(mean, error)})")
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
