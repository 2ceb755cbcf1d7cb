"""What a fold's fitted models predict of its test subjects with sensors missing: all but each, each alone, any set.

Nothing is fitted again, and nothing stands in for a missing sensor. Networks get fewer tokens. Feature models get
undefined features, which each treats as it does any undefined feature: linear models by the training windows' median,
trees by the way their splits send them, late fusion by abstaining.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.baselines.catalogue import PROBES
from biopercept.baselines.features import FittedFeatureModel
from biopercept.baselines.late_fusion import FittedByRule, FittedStack
from biopercept.data.batches import TokenSource, feature_groups
from biopercept.data.inputs import WindowInputs
from biopercept.data.views import measured_sensors, restricted
from biopercept.data.windows import IntArray, WindowTable
from biopercept.errors import SettingsError
from biopercept.model.tokens import TokenSettings
from biopercept.training.adaptation import AdaptedOnStudy
from biopercept.training.calibration import Calibration
from biopercept.training.fitting import Fitted, NetworkOnStudy

Answers = NDArray[np.float64]
SensorAnswers = dict[str, Answers]
NONE, SINGLE, ALL = "none", "single", "all"
MISSING_SENSORS = (NONE, SINGLE, ALL)

MOST_SENSORS = 7
"""Sensors of which every subset is asked: 127 subsets, each with a whole prediction of the test subjects."""

WHOLE = "all"


def sensor_views(inputs: WindowInputs, rows: IntArray, mode: str) -> dict[str, WindowInputs]:
    """Return the windows at ``rows`` as if only some sensors had been worn, by the name of each set but the whole.

    Sets are of the sensors that the study has; a subject without one of them is asked with those that it has.

    Parameters
    ----------
    inputs : WindowInputs
        Of the whole study.
    rows : int64 array
        Windows of whole subjects.
    mode : str
        ``evaluation.missing_sensors``.
    """
    sets = asked_sets(mode, inputs.windows)
    if not sets:
        return {}
    own = replace(inputs, windows=_of_subjects(inputs.windows, rows))
    # A group of features that no sensor of a recording can account for is not a sensor that could be missing.
    always = tuple(f"features {group}" for group in feature_groups(inputs.windows.feature_names))
    return {name: restricted(own, (*kept, *always)) for name, kept in sets.items() if name != WHOLE}


def answers_without(
    fitted: Fitted, views: Mapping[str, WindowInputs], rows: IntArray, whole: Answers, tokens: TokenSettings
) -> SensorAnswers:
    """Return the probabilities of the windows at ``rows`` with each set of sensors; nothing where there is no view.

    Parameters
    ----------
    views : mapping
        Of :func:`sensor_views`.
    whole : float64 array, shape (len(rows), n_classes)
        Answers with all sensors.
    """
    if not views:
        return {}
    return {WHOLE: whole} | {name: answers_from(fitted, read, rows, tokens) for name, read in views.items()}


def _of_subjects(windows: WindowTable, rows: IntArray) -> WindowTable:
    """Return the windows at ``rows`` with all recordings of their subjects, which sessions are made of."""
    subjects = {str(s) for s in windows.subject[rows]}
    used = [i for i, held in enumerate(windows.recordings) if held.subject in subjects]
    place = np.full(len(windows.recordings), -1, dtype=np.int64)
    place[used] = np.arange(len(used))
    kept = windows.at(rows)
    recordings = tuple(windows.recordings[i] for i in used)
    return replace(kept, recordings=recordings, recording=place[kept.recording])


def calibrated_part(calibration: Calibration, answers: Answers) -> Answers:
    """Return calibrated probabilities where there are any, NaN elsewhere."""
    has = np.isfinite(answers).all(axis=1)
    found = np.full(answers.shape, np.nan)
    found[has] = calibration.apply(answers[has])
    return found


def plain_answers(answers: SensorAnswers) -> dict[str, Any]:
    """Return the answers as plain values, None for a window without one."""
    return {name: [row.tolist() if np.isfinite(row).all() else None for row in held] for name, held in answers.items()}


def read_answers(document: Mapping[str, Any], n_classes: int) -> SensorAnswers:
    """Return what :func:`plain_answers` wrote."""
    nothing = [np.nan] * n_classes
    return {
        name: np.asarray([nothing if row is None else row for row in held], dtype=np.float64).reshape(-1, n_classes)
        for name, held in document.items()
    }


def sensor_sets(sensors: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return what is asked about: all sensors, all but each, and each alone; what is the same is asked once.

    >>> sensor_sets(["ecg", "eda"])
    {'all': ('ecg', 'eda'), 'without ecg': ('eda',), 'without eda': ('ecg',)}
    """
    worn = tuple(sensors)
    sets = {WHOLE: worn}
    if len(worn) > 1:
        sets |= {f"without {gone}": tuple(s for s in worn if s != gone) for gone in worn}
    if len(worn) > 2:
        sets |= {f"only {kept}": (kept,) for kept in worn}
    return sets


def every_sensor_set(sensors: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return every set of at least one sensor, large ones first, named as by :func:`sensor_sets` where it names them.

    >>> list(every_sensor_set("abcd"))[4:7]
    ['without a', 'a + b', 'a + c']
    """
    worn = tuple(sensors)
    names = {kept: name for name, kept in sensor_sets(worn).items()}
    every = [kept for size in range(len(worn), 0, -1) for kept in combinations(worn, size)]
    return {names.get(kept, " + ".join(kept)): kept for kept in every}


def asked_sets(mode: str, windows: WindowTable) -> dict[str, tuple[str, ...]]:
    """Return the sets of the sensors of a table that ``evaluation.missing_sensors`` asks about; none for ``none``."""
    if mode == NONE:
        return {}
    sensors = measured_sensors(windows.recordings, windows.feature_names)
    return every_sensor_set(sensors) if mode == ALL else sensor_sets(sensors)


def check_missing_sensors(mode: str, model: str, windows: WindowTable) -> None:
    """Refuse to ask with fewer sensors where that has no meaning or no end.

    Raises
    ------
    SettingsError
        Where the model is a probe, there are several tasks or a regression, or too few or too many sensors.
    """
    if mode == NONE:
        return
    if model in PROBES:
        raise SettingsError(f"evaluation.missing_sensors is {mode}, but {model} is a probe; use none for it")
    if len(windows.tasks) > 1 or not windows.only.task.is_classification:
        raise SettingsError(
            f"evaluation.missing_sensors is {mode}, which scores one task of classes; give --task one, or use none"
        )
    sensors = measured_sensors(windows.recordings, windows.feature_names)
    if len(sensors) < 2:
        raise SettingsError(
            f"evaluation.missing_sensors is {mode}, but there is one sensor ({', '.join(sensors)}); two are needed"
        )
    if mode == ALL and len(sensors) > MOST_SENSORS:
        raise SettingsError(
            f"evaluation.missing_sensors is all, but {len(sensors)} sensors have {2 ** len(sensors) - 1} subsets; it "
            f"allows {MOST_SENSORS} sensors, use single (all but each, and each alone)"
        )


def answers_from(fitted: Fitted, read: WindowInputs, rows: IntArray, tokens: TokenSettings) -> Answers:
    """Return the probabilities of the windows at ``rows``, (len(rows), n_classes), from what ``read`` has of them.

    Parameters
    ----------
    fitted : Fitted
        Fitted on the whole study.
    read : WindowInputs
        The same windows, in the order of ``rows``, with fewer sensors.
    rows : int64 array
        Of the study's table.

    Returns
    -------
    float64 array; NaN for windows in which nothing is left that the model reads.

    Raises
    ------
    SettingsError
        Where the model reads no sensors.
    """
    own = np.arange(len(rows), dtype=np.int64)
    if isinstance(fitted, NetworkOnStudy | AdaptedOnStudy):
        made = fitted.adapted if isinstance(fitted, AdaptedOnStudy) else fitted.fitted
        population = fitted.population if isinstance(fitted, AdaptedOnStudy) else fitted.fitted.population
        source = TokenSource(read, population, tokens, fitted.source.device)
        # A network that reads only some kinds of tokens says which; of the others its answer is a constant.
        has = source.has_tokens(own, read=getattr(made.network, "tokens_read", None))[:, None]
        answers = np.full((len(rows), read.windows.only.task.n_values), np.nan)
        if has.any():  # a network cannot be asked with nothing
            answers[has[:, 0]] = replace(fitted, source=source).probabilities(own[has[:, 0]])
    elif isinstance(fitted, FittedFeatureModel) and fitted.columns is not None:
        values = _left(fitted.values[rows], read.raw_features[:, fitted.columns])
        answers, has = replace(fitted, values=values).probabilities(own), _any_in_rows(values)
    elif isinstance(fitted, FittedByRule | FittedStack):
        members = replace(fitted.members, values=_left(fitted.members.values[rows], read.raw_features))
        answers = replace(fitted, members=members).probabilities(own)
        votes = members.probabilities(own)  # (n_members, n, n_classes)
        has = _any_in_rows(np.moveaxis(votes, 0, 1).reshape(len(own), -1))
    else:
        raise SettingsError(f"{type(fitted).__name__} reads no sensors; use evaluation.missing_sensors=none")
    return np.where(has, answers, np.nan)


def _any_in_rows(values: Answers) -> NDArray[np.bool_]:
    """Return which rows have a finite value, (n, 1)."""
    return np.asarray(np.isfinite(values).any(axis=1), dtype=bool)[:, None]


def _left(values: Answers, raw: Answers) -> Answers:
    """Return the normalised values where the features themselves are still defined, NaN elsewhere."""
    return np.where(np.isfinite(raw), values, np.nan)
