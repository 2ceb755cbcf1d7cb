"""The page of studies left out: scores by models of the others, windows chosen on these, and what a base is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.metrics import bootstrap_interval
from biopercept.inference.shift import ALL, PAST
from biopercept.measures.statistics import holm, signed_rank_test
from experiments.units import Unit, UnitDone, run_units
from measurements.signals_page import table
from measurements.studies import (
    ARMS,
    BASE,
    BASE_AND_SIGNALS,
    BASELINES,
    CHOOSING,
    N_FOLDS,
    NETWORK,
    NEW,
    STUDIES,
    TASK,
    WINDOWS,
    FromBase,
    Place,
    across_units,
    choice_units,
    chosen_windows,
    start_units,
)

Values = NDArray[np.float64]
Results = Mapping[tuple[str, tuple[float, float], str], Mapping[str, Any]]
"""Results of :class:`AcrossStudies` by model, windows and the study left out."""
METRICS = ("balanced_accuracy", "auroc")

_INTRODUCTION = f"""# Studies left out, and models that start from others

Written by `make measurements STUDIES=DIR DATA=DIR`; the code is `docs/measurements`. Studies are
{", ".join(STUDIES)}; the task that all have is `{TASK}`: rest against Stroop and interview, cognitive and emotional
stress, arithmetic. Settings are `auto`, one repetition; nothing was chosen on a study that is scored. Means over people
in per cent, 95 % bootstrap intervals over people.
"""

_ACROSS = """## Each study by models of the others

Windows of {length:g} s every {step:g} s. *Network minus*: paired by person; p of Wilcoxon's signed-rank test, Holm over
the baselines of a study. *past*, *all*: balanced accuracy once each recording's threshold was moved without labels
([evaluation.md](../evaluation.md#a-threshold-that-does-not-fit-new-people---adapt)), here by its labelled windows,
those before or all; where each file is one condition there is nothing to move by.
"""

_WINDOWS = """## The length of windows, chosen on the other studies

Inner scores: of the two studies that are not scored, each is tested by a model of the other; means over the people of
both. The windows that are better there are taken for the study left out.
"""

_START = """## Starting from a model of the other studies

Windows of {length:g} s every {step:g} s; {n_folds} folds over the people of a study, {draws} of folds and of
the people with labels, who are the same in every column; those of few are among those of more. *{new}*: a network of
the study alone. *from the base*: begins with the weights of a model made as `base` of the two other studies, which has
no signal of this one.{pretrained} Epochs and rate are those of a study of so many people, the same in every
column. Differences are of a person's mean over draws, paired, balanced accuracy.
"""

_PRETRAINED = """ *then signals*: and is pretrained in each fold on the signals of all its training people,
labelled or not, before it learns the labels."""

Begun = Sequence[tuple[FromBase, Mapping[str, Any]]]
"""Units of :class:`FromBase` with their results."""


@dataclass(frozen=True)
class Wanted:
    """What the page shows: models by study, beginnings, draws; without draws and without a choice these parts lack."""

    models: Sequence[str] = (NETWORK, *BASELINES)
    choosing: Sequence[str] = CHOOSING
    arms: Sequence[str] = ARMS
    n_draws: int = 3


def page(place: Place, wanted: Wanted, on_unit: UnitDone, n_jobs: int = 1) -> str:
    """Return the whole page as Markdown; what an earlier run scored in the folder is used again."""
    for windows in WINDOWS if wanted.choosing else WINDOWS[:1]:
        for study in STUDIES:
            place.store(study, windows)
    for study in STUDIES if wanted.n_draws else ():
        place.base_without(study)
    across = across_units(place, wanted.models) + choice_units(place, wanted.choosing)
    starts = list(start_units(place, wanted.arms, wanted.n_draws))
    units: list[Unit] = [*across, *starts]
    done = [row["result"] for row in run_units(units, place.folder, n_jobs=n_jobs, on_unit=on_unit)]
    scored = {(u.model, u.windows, u.left_out): row for u, row in zip(across, done[: len(across)], strict=True)}
    begun = list(zip(starts, done[len(across) :], strict=True))
    parts = [_INTRODUCTION, _ACROSS.format(length=WINDOWS[0][0], step=WINDOWS[0][1]), _across(scored, wanted.models)]
    if NETWORK in wanted.models:
        parts.append(_gaps(scored[NETWORK, WINDOWS[0], ""]))
    if wanted.choosing:
        parts += [_WINDOWS, _choices(scored, wanted.choosing)]
    if begun:
        draws = "one draw" if wanted.n_draws == 1 else f"{wanted.n_draws} draws"
        words = {"new": NEW, "draws": draws, "pretrained": _PRETRAINED if BASE_AND_SIGNALS in wanted.arms else ""}
        numbers = {"length": WINDOWS[0][0], "step": WINDOWS[0][1], "n_folds": N_FOLDS}
        parts += [_START.format(**words, **numbers), _starts(begun, wanted.arms), _verdict(begun, wanted.arms)]
    return "\n".join(parts).rstrip() + "\n"


def _across(scored: Results, models: Sequence[str]) -> str:
    rows = []
    for study in (*STUDIES, ""):
        by_model = {model: scored[model, WINDOWS[0], ""] for model in models}
        values = {model: {m: _of(result, study, m) for m in METRICS} for model, result in by_model.items()}
        differences = {m: _paired(values[NETWORK], values[m]) for m in models if m != NETWORK and NETWORK in values}
        adjusted = dict(zip(differences, holm([_p(one) for one in differences.values()]), strict=True))
        for model in models:
            minus = f"{_signed(differences[model])} ({adjusted[model]:.3f})" if model in differences else "–"
            moved = [_mean(_moved(by_model[model], study, adapt)) for adapt in (PAST, ALL)]
            accuracy, auroc = (list(values[model][m].values()) for m in METRICS)
            row = [study or "all", model, str(len(accuracy)), _interval(accuracy), _interval(auroc), minus]
            rows.append([*row, *moved])
    head = ["tested", "model", "people", "balanced accuracy", "AUROC", "network minus (p)", PAST, ALL]
    return table(head, rows)


def _gaps(result: Mapping[str, Any]) -> str:
    """Return how far the network's balanced accuracy is below its AUROC, as it is and with the threshold moved."""
    parts, halved = [], []
    for study in STUDIES:
        accuracy, auroc = (_of(result, study, metric) for metric in METRICS)
        moved = {adapt: result["moved"][adapt] for adapt in (PAST, ALL)}
        people = [person for person in auroc if all(person in values for values in moved.values())]
        if people:
            gaps = [np.mean([auroc[p] - values[p] for p in people]) for values in (accuracy, *moved.values())]
            if 0 < 2 * min(gaps[1:]) <= gaps[0]:
                halved.append(study)
            parts.append(f"{study} " + ", ".join(f"{100 * gap:.1f}" for gap in gaps))
    return (
        f"AUROC minus balanced accuracy of the network, points, as it is, moved by windows before ({PAST}) and by all "
        f"({ALL}): {'; '.join(parts)}. Halved: {', '.join(halved) or 'nowhere'}.\n"
    )


def _of(result: Mapping[str, Any], study: str, metric: str) -> dict[str, float]:
    """Return the scores of the people of a study, or without one of all; those without a score are not there."""
    pairs = zip(result["people"], result[metric], strict=True)
    return {
        person: value for person, value in pairs if person.startswith(f"{study}/" * bool(study)) and value is not None
    }


def _moved(result: Mapping[str, Any], study: str, adapt: str) -> list[float]:
    """Return the scores of the people of a study with the threshold moved; of all of them there is no common row."""
    return [value for person, value in result["moved"][adapt].items() if study and person.startswith(f"{study}/")]


def _paired(first: Mapping[str, Mapping[str, float]], second: Mapping[str, Mapping[str, float]]) -> Values:
    """Return the differences of balanced accuracy of people who have both."""
    ours, theirs = first[METRICS[0]], second[METRICS[0]]
    return np.array([ours[person] - theirs[person] for person in ours if person in theirs])


def _choices(scored: Results, models: Sequence[str]) -> str:
    rows = []
    for study in STUDIES:
        for model in models:
            taken = chosen_windows(scored, model, study)
            inner = [_mean([v for v in scored[model, w, study][METRICS[0]] if v is not None]) for w in WINDOWS]
            outer = [_interval(list(_of(scored[model, w, ""], study, METRICS[0]).values())) for w in WINDOWS]
            rows.append([study, model, *inner, f"{taken[0]:g} s", *outer])
    names = [f"{length:g} s every {step:g} s" for length, step in WINDOWS]
    head = ["left out", "model", *(f"inner, {name}" for name in names), "taken", *(f"it, {name}" for name in names)]
    return table(head, rows)


def _by_person(begun: Begun, metric: str) -> dict[tuple[str, int, str], dict[str, float]]:
    """Return each person's mean over draws by study, number of people with labels, and beginning."""
    every: dict[tuple[str, int, str], dict[str, list[float]]] = {}
    for unit, result in begun:
        by_person = every.setdefault((unit.study, unit.n_labelled, unit.arm), {})
        for person, value in zip(result["people"], result[metric], strict=True):
            if value is not None:
                by_person.setdefault(person, []).append(value)
    return {key: {p: float(np.mean(v)) for p, v in people.items()} for key, people in every.items()}


def _gains(begun: Begun, arms: Sequence[str]) -> dict[tuple[str, int, str], Values]:
    """Return the paired differences to new weights by study, number of people with labels, and beginning."""
    people = _by_person(begun, METRICS[0])
    gains = {}
    for (study, n_labelled, arm), ours in people.items():
        if arm != NEW and arm in arms and (study, n_labelled, NEW) in people:
            new = people[study, n_labelled, NEW]
            gains[study, n_labelled, arm] = np.array([ours[p] - new[p] for p in ours if p in new])
    return gains


def _starts(begun: Begun, arms: Sequence[str]) -> str:
    accuracy, auroc = (_by_person(begun, metric) for metric in METRICS)
    gains, rows = _gains(begun, arms), []
    labelled = {(unit.study, unit.n_labelled): result["labelled"] for unit, result in begun}
    for (study, n_labelled), (low, high) in labelled.items():
        cells = []
        for arm in arms:
            key = (study, n_labelled, arm)
            cells.append(f"{_interval(list(accuracy[key].values()))} / {_mean(list(auroc[key].values()))}")
        differences = [_signed(gains[key]) for arm in arms if (key := (study, n_labelled, arm)) in gains]
        people = str(len(accuracy[study, n_labelled, arms[0]]))
        rows.append([study, people, str(low) if low == high else f"{low} to {high}", *cells, *differences])
    minus = [f"{arm}, minus {NEW}" for arm in arms if arm != NEW]
    return table(["study", "people", "with labels", *(f"{arm} / AUROC" for arm in arms), *minus], rows)


def _verdict(begun: Begun, arms: Sequence[str]) -> str:
    """Return where beginning from others is shown to be better or worse, and whether that may be advertised."""
    better: list[str] = []
    worse: list[str] = []
    neither: list[str] = []
    for (study, n_labelled, arm), values in _gains(begun, arms).items():
        low, high = bootstrap_interval(values, seed=0)
        where = better if low > 0 else worse if high < 0 else neither
        where.append(f"{study}, {n_labelled} people, {arm}")
    sentence = (
        f"Better than new weights (interval above 0): {'; '.join(better) or 'nowhere'}. Worse: "
        f"{'; '.join(worse) or 'nowhere'}. No difference shown: {'; '.join(neither) or 'nowhere'}."
    )
    every = len(better) + len(worse) + len(neither)
    advice = (
        f" `--start-from {BASE.name}` is worth trying on few people."
        if len(better) > every / 2 and not worse
        else f" So `--start-from {BASE.name}` is not recommended by these figures: compare it on your own people first."
    )
    return f"{sentence}{advice}\n"


def _p(differences: Values) -> float:
    return signed_rank_test(differences).p


def _mean(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.1f}" if len(values) else "–"


def _interval(values: Sequence[float]) -> str:
    if len(values) < 2:
        return _mean(values)
    low, high = bootstrap_interval(np.array(values), seed=0)
    return f"{_mean(values)} [{100 * low:.1f}, {100 * high:.1f}]"


def _signed(differences: Values) -> str:
    low, high = bootstrap_interval(differences, seed=0)
    return f"{100 * differences.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
