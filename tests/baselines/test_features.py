"""Feature baselines and probes: against scikit-learn called plainly, blind to what they must not read."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.baselines.features import (
    SMALLEST_LEAF,
    columns_with_data,
    fit_bagging,
    fit_boosting,
    fit_clock,
    fit_dummy,
    fit_logistic,
    fit_motion,
    fit_quality,
    fit_ridge,
    targets_and_weights,
)
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import Targets, labelled_windows
from biopercept.tasks import REGRESSION, Task
from biopercept.training.engine import Engine
from biopercept.training.loop import FitRequest
from biopercept.training.settings import FitSettings

TRAINING = ("P01", "P02", "P03", "P04")


def request(made: ModuleType, *, n_subjects: int = 6, effect: float = 1.0) -> FitRequest:
    recordings = made.study(n_subjects, effect=effect)
    windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    inputs = WindowInputs(windows, NormalisationSettings(), made.STEP)
    rows = windows.rows_of(TRAINING)
    return FitRequest(inputs, rows, rows[:0], FitSettings(), Engine(torch.device("cpu")), 3)


def with_windows(asked: FitRequest, **changes: object) -> FitRequest:
    return replace(asked, inputs=replace(asked.inputs, windows=replace(asked.inputs.windows, **changes)))


def numbered(made: ModuleType, numbers=None) -> FitRequest:
    """The same windows with a number to predict: by default ten times the first feature's class mean, plus 50."""
    asked = request(made)
    windows = asked.inputs.windows
    values = 50.0 + 10.0 * windows.only.values if numbers is None else numbers(windows)
    return with_windows(asked, targets={"load": Targets(Task("load", REGRESSION, column="load"), values, {})})


@pytest.mark.parametrize("fit", [fit_logistic, fit_boosting, fit_bagging])
def test_a_planted_effect_is_found_in_subjects_never_seen_and_noise_is_not(made: ModuleType, fit) -> None:
    for effect, is_found in ((1.5, True), (0.0, False)):
        asked = request(made, effect=effect)
        rows = asked.inputs.windows.rows_of(["P05", "P06"])
        hits = fit(asked).predict(rows).argmax(axis=1) == asked.inputs.windows.only.values[rows]
        assert (hits.mean() > 0.85) == is_found


def test_logistic_equals_scikit_learns_own_with_every_subject_and_class_weighing_the_same(made: ModuleType) -> None:
    from sklearn.linear_model import LogisticRegression

    asked = request(made)
    windows, rows = asked.inputs.windows, asked.fitting
    keep = np.ones(len(rows), dtype=bool)
    keep[np.flatnonzero((windows.subject[rows] == "P01") & (windows.only.values[rows] == 1))[3:]] = False
    rows = rows[keep]  # of one subject's second class few windows are left
    fitted = fit_logistic(replace(asked, training=rows))
    values = fitted.values[rows]
    filled = np.where(np.isfinite(values), values, np.nanmedian(values, axis=0))
    weights = np.zeros(len(rows))
    for subject in TRAINING:
        for label in (0, 1):
            cell = (windows.subject[rows] == subject) & (windows.only.values[rows] == label)
            weights[cell] = 1.0 / cell.sum()
    scaled = (filled - filled.mean(axis=0)) / filled.std(axis=0)
    plain = LogisticRegression(C=0.05, max_iter=2000)
    plain.fit(scaled, windows.only.values[rows], sample_weight=weights / weights.mean())
    assert np.allclose(fitted.predict(rows), plain.predict_proba(scaled), atol=1e-5)
    assert fitted.n_parameters == values.shape[1] + 1


def test_what_no_training_subject_has_is_not_read_however_well_it_would_tell(made: ModuleType) -> None:
    asked = request(made)
    values = np.full((len(asked.inputs.windows), 2), np.nan)
    values[:, 0] = np.arange(len(values))
    values[asked.inputs.windows.rows_of(["P05"]), 1] = 1.0
    assert columns_with_data(values, asked.fitting).tolist() == [True, False]
    values[asked.fitting[0], 1] = 0.0
    assert columns_with_data(values, asked.fitting).all()


def test_a_class_without_training_windows_gets_probability_0(made: ModuleType) -> None:
    asked = request(made)
    windows = asked.inputs.windows
    three = replace(windows.only, task=replace(windows.only.task, classes={**made.TASK.classes, "other": ("break",)}))
    wider = with_windows(asked, targets={three.task.name: three})
    for fit in (fit_logistic, fit_boosting, fit_bagging):
        found = fit(wider).predict(asked.fitting[:5])
        assert found.shape == (5, 3) and (found[:, 2] == 0).all() and np.allclose(found.sum(axis=1), 1)
    assert fit_logistic(wider).predict(asked.fitting[:0]).shape == (0, 3)


def test_leaves_of_bagged_trees_hold_at_least_ten_windows(made: ModuleType) -> None:
    for tree in fit_bagging(request(made)).estimator.trees:
        is_leaf = tree.tree_.children_left == -1
        assert tree.tree_.n_node_samples[is_leaf].min() >= SMALLEST_LEAF


@pytest.mark.parametrize("fit", [fit_ridge, fit_boosting])
def test_a_planted_number_is_predicted_in_its_own_unit_for_subjects_never_seen(made: ModuleType, fit) -> None:
    asked = numbered(made)
    rows = asked.inputs.windows.rows_of(["P05", "P06"])
    found, truth = fit(asked).predict(rows), asked.inputs.windows.only.values[rows]
    assert found.shape == (len(rows), 1)
    error, of_mean = np.abs(found[:, 0] - truth).mean(), np.abs(truth.mean() - truth).mean()
    assert error < 0.8 * of_mean and 45 < found.mean() < 65


def test_ridge_of_one_subject_chooses_no_penalty_and_equals_scikit_learns_own(made: ModuleType) -> None:
    from sklearn.linear_model import Ridge

    asked = numbered(made)
    rows = asked.inputs.windows.rows_of(["P01"])
    fitted = fit_ridge(replace(asked, training=rows))
    filled = np.where(np.isfinite(fitted.values), fitted.values, np.nanmedian(fitted.values[rows], axis=0))
    scaled = (filled - filled[rows].mean(axis=0)) / filled[rows].std(axis=0)
    weights = targets_and_weights(replace(asked, training=rows))[1]
    plain = Ridge(alpha=1.0).fit(scaled[rows], asked.inputs.windows.only.values[rows], sample_weight=weights)
    assert np.allclose(fitted.predict(rows)[:, 0], plain.predict(scaled[rows]), atol=1e-8)


def test_the_mean_number_weighs_subjects_and_not_windows(made: ModuleType) -> None:
    def by_subject(windows):
        return np.array([int(s[1:]) for s in windows.subject], dtype=np.float64)

    asked = numbered(made, by_subject)
    rows, subject = asked.fitting, asked.inputs.windows.subject
    few = np.concatenate([rows[subject[rows] != "P01"], rows[subject[rows] == "P01"][:2]])
    assert fit_dummy(replace(asked, training=few)).predict(rows[:2])[:, 0].tolist() == pytest.approx([2.5, 2.5])


def test_the_dummy_answers_with_the_class_fractions_of_the_training_windows(made: ModuleType) -> None:
    asked = request(made)
    target = asked.inputs.windows.only.values
    rows = np.concatenate(
        [asked.fitting[target[asked.fitting] == 0][:6], asked.fitting[target[asked.fitting] == 1][:2]]
    )
    fitted = fit_dummy(replace(asked, training=rows))
    assert fitted.predict(asked.fitting[:3]).tolist() == [[0.75, 0.25]] * 3 and fitted.n_parameters == 2


def test_the_clock_sees_the_seconds_since_the_recording_began_and_no_sensor(made: ModuleType) -> None:
    asked = request(made)
    windows = asked.inputs.windows
    late = with_windows(asked, targets={"stress": replace(windows.only, values=(windows.onset > 100).astype(np.int64))})
    rows = windows.rows_of(["P05", "P06"])
    fitted = fit_clock(late)
    assert fitted.values.tolist() == windows.onset[:, None].tolist()
    assert (fitted.predict(rows).argmax(axis=1) == late.inputs.windows.only.values[rows]).all()


def test_probes_of_a_number_give_numbers_and_guess_its_mean_where_there_is_nothing_to_read(made: ModuleType) -> None:
    asked = numbered(made, lambda windows: windows.onset)
    rows = asked.inputs.windows.rows_of(["P05"])
    error = np.abs(fit_clock(asked).predict(rows)[:, 0] - asked.inputs.windows.onset[rows])
    assert error.mean() < 0.1 * np.ptp(asked.inputs.windows.onset[rows])
    assert np.array_equal(fit_motion(asked).predict(rows), fit_dummy(asked).predict(rows))
    for recording in asked.inputs.windows.recordings:
        recording.windows.quality[:] = np.nan
    assert np.array_equal(fit_quality(asked).predict(rows), fit_dummy(asked).predict(rows))
