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

from biopercept.baselines.catalogue import PROBES
from biopercept.data.batches import feature_groups
from biopercept.data.inputs import WindowInputs
from biopercept.data.views import measured_sensors, restricted
from biopercept.data.windows import FloatArray, IntArray, WindowTable
from biopercept.errors import SettingsError
from biopercept.evaluation.settings import ALL, NONE
from biopercept.training.calibration import Calibration
from biopercept.training.fitting import FittedModel

SensorPredictions = dict[str, FloatArray]
MOST_SENSORS = 7
"""Sensors of which every subset is tried: 127 subsets, each with a full prediction of the test subjects."""

WHOLE = "all"


def sensor_views(inputs: WindowInputs, rows: IntArray, mode: str) -> dict[str, WindowInputs]:
    """Return the windows at ``rows`` as if only some sensors had been worn, by the name of each set but the whole.

    Rows are of whole subjects. Sets are of the sensors that the study has; a subject without one of them is predicted
    from those that it has.
    """
    sets = sets_for(mode, inputs.windows)
    if not sets:
        return {}
    of_rows = replace(inputs, windows=_of_subjects(inputs.windows, rows))
    # A group of features that no sensor of a recording can account for is not a sensor that could be missing.
    always = tuple(f"features {group}" for group in feature_groups(inputs.windows.feature_names))
    return {name: restricted(of_rows, (*kept, *always)) for name, kept in sets.items() if name != WHOLE}


def predictions_without(
    fitted: FittedModel, views: Mapping[str, WindowInputs], rows: IntArray, whole: FloatArray
) -> SensorPredictions:
    """Return the probabilities of the windows at ``rows`` with each set of sensors; nothing where there is no view.

    ``whole`` are those with all sensors.
    """
    if not views:
        return {}
    return {WHOLE: whole} | {name: fitted.predict(rows, visible) for name, visible in views.items()}


def _of_subjects(windows: WindowTable, rows: IntArray) -> WindowTable:
    """Return the windows at ``rows`` with all recordings of their subjects, which sessions are made of."""
    subjects = {str(s) for s in windows.subject[rows]}
    used = [i for i, recording in enumerate(windows.recordings) if recording.subject in subjects]
    index = np.full(len(windows.recordings), -1, dtype=np.int64)
    index[used] = np.arange(len(used))
    kept = windows.at(rows)
    recordings = tuple(windows.recordings[i] for i in used)
    return replace(kept, recordings=recordings, recording=index[kept.recording])


def calibrated_part(calibration: Calibration, probabilities: FloatArray) -> FloatArray:
    """Return calibrated probabilities where there are any, NaN elsewhere."""
    has = np.isfinite(probabilities).all(axis=1)
    calibrated = np.full(probabilities.shape, np.nan)
    calibrated[has] = calibration.apply(probabilities[has])
    return calibrated


def plain_predictions(predictions: SensorPredictions) -> dict[str, Any]:
    """Return the predictions as plain values, None for a window without one."""
    return {
        name: [row.tolist() if np.isfinite(row).all() else None for row in rows] for name, rows in predictions.items()
    }


def read_predictions(document: Mapping[str, Any], n_classes: int) -> SensorPredictions:
    """Return what :func:`plain_predictions` wrote."""
    nothing = [np.nan] * n_classes
    return {
        name: np.asarray([nothing if row is None else row for row in rows], dtype=np.float64).reshape(-1, n_classes)
        for name, rows in document.items()
    }


def sensor_sets(sensors: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return what is tried: all sensors, all but each, and each alone; what is the same is tried once.

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


def sets_for(mode: str, windows: WindowTable) -> dict[str, tuple[str, ...]]:
    """Return the sets of the sensors of a table that ``evaluation.missing_sensors`` tries; none for ``none``."""
    if mode == NONE:
        return {}
    sensors = measured_sensors(windows.recordings, windows.feature_names)
    return every_sensor_set(sensors) if mode == ALL else sensor_sets(sensors)


def check_missing_sensors(mode: str, model: str, windows: WindowTable) -> None:
    """Refuse to predict with fewer sensors where that has no meaning or no end.

    Raises SettingsError where the model is a probe, there are several tasks or a regression, or too few or too many
    sensors.
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
