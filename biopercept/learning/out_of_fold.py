"""Answers about subjects of the training side that a fit has not seen: what calibration may learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError
from biopercept.learning.calibration import Calibration, CalibrationSettings, learn_calibration
from biopercept.learning.engine import seed_for
from biopercept.learning.fitting import FitRequest, Fitted, Fitter, NetworkOnStudy
from biopercept.learning.splits import SUBJECT, Fold, dealt_by_identity, folds_of, make_folds
from biopercept.learning.windows import IntArray, WindowTable

INNER, VALIDATION = "inner folds over the training side", "validation subjects"


def held_out_answers(
    request: FitRequest, fitter: Fitter, fitted: Fitted, n_folds: int
) -> tuple[IntArray, NDArray[np.float64]]:
    """Return rows of the training side and probabilities for them by fits that their subjects are outside of.

    Parameters
    ----------
    request : FitRequest
        What ``fitted`` was fitted on.
    fitter : Fitter
    fitted : Fitted
    n_folds : int
        Inner folds over all fitting subjects, each fitted anew. 0: the validation subjects alone; a network has used
        them to stop early and for nothing else, any other model is fitted once more without them.

    Returns
    -------
    rows : int64 array, shape (n,)
    probabilities : float64 array, shape (n, n_classes)

    Raises
    ------
    SettingsError
        Where there are no validation subjects, or an inner fold has no training subject with one of the classes.
    """
    if n_folds == 0:
        if not len(request.validation):
            raise SettingsError(
                "calibration needs validation subjects; set training.validation_fraction above 0 or "
                "evaluation.calibration_folds to 2 or more"
            )
        if not isinstance(fitted, NetworkOnStudy):
            fitted = fitter(replace(request, validation=request.validation[:0], on_epoch=None))
        return request.validation, fitted.probabilities(request.validation)
    rows, answers = [], []
    for fold in inner_folds(request, n_folds):
        held = _rows_of(request, fold.test)
        inner = replace(
            request,
            training=_rows_of(request, fold.training),
            validation=_rows_of(request, fold.validation),
            seed=seed_for(request.seed, "calibration", fold.name),
            on_epoch=None,
        )
        _require_classes(request, inner)
        rows.append(held)
        answers.append(fitter(inner).probabilities(held))
    return np.concatenate(rows), np.concatenate(answers)


def inner_folds(request: FitRequest, n_folds: int) -> tuple[Fold, ...]:
    """Return folds over the fitting subjects alone, dealt by identity; the same whatever the seed.

    Of very few subjects all may fall into one fold: each is then a fold of its own.
    """
    subjects = request.fitting_subjects
    fraction = request.settings.training.validation_fraction if len(request.validation) else 0.0
    groups = dealt_by_identity(subjects, n_folds, "inner")  # not as outer folds are dealt, or one would be missing
    if len(groups) < 2:
        return make_folds(subjects, SUBJECT, validation_fraction=fraction)
    return folds_of(groups, subjects, seed=0, validation_fraction=fraction)


def _rows_of(request: FitRequest, subjects: tuple[str, ...]) -> IntArray:
    """Return the request's own fitting rows of these subjects: no other row of theirs is touched."""
    rows = request.fitting
    return rows[np.isin(request.inputs.windows.subject[rows], subjects)]


def _require_classes(request: FitRequest, inner: FitRequest) -> None:
    windows = request.inputs.windows
    groups = windows.only.groups
    lacking = set(groups[request.training].tolist()) - set(groups[inner.training].tolist())
    if lacking:
        raise SettingsError(
            f"an inner fold of calibration has no training subject with class {windows.only.classes[min(lacking)]!r}; "
            "change evaluation.calibration_folds"
        )


def calibration_from(
    windows: WindowTable, answers: Sequence[tuple[IntArray, NDArray[np.float64]]], settings: CalibrationSettings
) -> Calibration:
    """Return what is learnt from the answers of :func:`held_out_answers`, averaged over repetitions of the fit."""
    rows = answers[0][0]
    source = INNER if settings.n_folds else VALIDATION
    mean = np.mean([probabilities for _, probabilities in answers], axis=0)
    return learn_calibration(settings, windows.subject[rows], windows.only.values[rows], mean, source)
