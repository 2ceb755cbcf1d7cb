"""What a fold's fitted models answer about its test subjects with every set of their sensors; see ``restriction``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.comparators.fewer_sensors import answers_from
from biopercept.evaluation.sensor_subsets import WHOLE, asked_sets
from biopercept.learning.calibration import Calibration
from biopercept.learning.fitting import Fitted
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.restriction import restricted
from biopercept.learning.token_source import feature_groups
from biopercept.learning.windows import IntArray, WindowTable
from biopercept.model.tokens import TokenSettings

Answers = NDArray[np.float64]
SensorAnswers = dict[str, Answers]


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
    fitted : Fitted
    views : mapping
        Of :func:`sensor_views`.
    rows : int64 array
    whole : float64 array, shape (len(rows), n_classes)
        Answers with all sensors.
    tokens : TokenSettings
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
