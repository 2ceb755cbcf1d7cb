"""The lag of a rating is the planted one, estimated on the people that are fitted to and on nobody else."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import joint_windows, labelled_windows
from biopercept.recording import Rating, RecordingLabels
from biopercept.tasks import Task
from biopercept.training.lag import estimated_lags, lag_words, with_lags


def inputs_of(made: ModuleType, people: tuple, task: Task | None = None) -> WindowInputs:
    table = labelled_windows(people, task or made.JOY, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    return WindowInputs(table, NormalisationSettings(mode="causal"), made.STEP)


@pytest.mark.parametrize("lag", [0.0, 1.5, 3.5, 10.0])
def test_a_planted_lag_is_found_and_the_numbers_are_those_at_it(made: ModuleType, lag: float) -> None:
    people = made.rated(lag)
    inputs = inputs_of(made, people)
    found = with_lags(inputs, np.arange(len(inputs.windows))).windows
    assert found.only.task == replace(made.JOY, lag_seconds=lag, max_lag_seconds=0.0)
    assert estimated_lags(inputs.windows, found) == {"joy": lag}
    for row in range(0, len(found), 7):
        rating = people[found.recording[row]].labels.ratings["Joy"]
        begin = round((found.onset[row] + lag - rating.start_seconds) * made.RATE)
        mean = rating.values[begin : begin + round(made.LENGTH * made.RATE)].mean()
        assert found.only.values[row] == pytest.approx(mean)


def test_a_person_who_is_not_fitted_to_leaves_the_lag_unchanged(made: ModuleType) -> None:
    lags, changed = [], 0
    for seed in range(4):
        tables = []
        for wild in ("", "P05", "P01"):
            inputs = inputs_of(made, made.rated(4.0, noise=25.0, seed=seed, wild=wild))
            rows = inputs.windows.rows_of(("P01", "P02", "P03", "P04"))
            windows = with_lags(inputs, rows).windows
            tables.append((windows.only.task.lag_seconds, windows.only.values[rows], windows.subject[rows]))
        (lag, values, _), (other_lag, other_values, _), (third_lag, *_) = tables
        assert lag == other_lag
        assert np.array_equal(values, other_values)
        lags.append(lag)
        changed += third_lag != lag
    assert changed, "a person who is fitted to must count, or this test could not fail"


def test_a_rating_that_stands_still_in_each_recording_has_no_lag(made: ModuleType) -> None:
    people = [
        replace(one, labels=RecordingLabels(ratings={"Joy": Rating(np.full(1480, 1.0 + place), made.RATE)}))
        for place, one in enumerate(made.study(4))
    ]
    inputs = inputs_of(made, tuple(people))
    assert with_lags(inputs, np.arange(len(inputs.windows))).windows.only.task.lag_seconds == 0.0
    silent = inputs_of(made, made.rated(0.0), replace(made.JOY, max_lag_seconds=0.0, lag_seconds=2.0))
    assert with_lags(silent, np.arange(len(silent.windows))) is silent


@pytest.mark.parametrize("seed", range(4))
def test_a_rating_that_hardly_follows_the_body_tells_no_lag_and_that_is_said(made: ModuleType, seed: int) -> None:
    """The lag that is best by chance, 1.5 to 9.5 s in these, is not taken."""
    inputs = inputs_of(made, made.rated(4.0, noise=80.0, seed=seed))
    windows = with_lags(inputs, np.arange(len(inputs.windows))).windows
    assert windows.only.task.lag_seconds == 0.0
    assert np.array_equal(windows.only.values, inputs.windows.only.values, equal_nan=True)
    assert estimated_lags(inputs.windows, windows) == {"joy": None}
    assert lag_words(None, made.JOY) == "no lag can be told; 0 s is used"


def test_a_joint_table_keeps_the_numbers_at_every_lag(made: ModuleType) -> None:
    people = made.rated(3.5)
    names = {"length_seconds": made.LENGTH, "feature_names": made.FEATURES}
    single = labelled_windows(people, made.JOY, **names)
    plain = labelled_windows(people, replace(made.JOY, name="now", max_lag_seconds=0.0), **names)
    joint = joint_windows([single, plain])
    inputs = WindowInputs(joint, NormalisationSettings(mode="causal"), made.STEP)
    lagged = with_lags(inputs, np.arange(len(joint))).windows
    assert lagged.targets["joy"].task.lag_seconds == 3.5
    assert lagged.targets["now"].task.lag_seconds == 0.0
    rows = lagged.targets["joy"].is_known
    assert rows.sum() > 0
    assert not np.array_equal(lagged.targets["joy"].values[rows], lagged.targets["now"].values[rows])
