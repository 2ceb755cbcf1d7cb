"""What probes compare and what confounds see: against scipy and scikit-learn, and by hand on few windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from biopercept.audit.confounds import (
    clock_columns,
    file_columns,
    lead_of,
    missing_columns,
    motion_columns,
    position_columns,
)
from biopercept.audit.data import FoldValues, ProbeScore, filled_and_scaled
from biopercept.audit.readings import logits_of, subject_tells_label


def score_of(value: float, **per_subject: float) -> ProbeScore:
    return ProbeScore(value, (value - 0.1, value + 0.1), 0.5, len(per_subject), 10, per_subject)


def test_above_chance_means_the_whole_interval_and_a_margin_more() -> None:
    assert score_of(0.75).is_above_chance(0.1)
    assert not score_of(0.69).is_above_chance(0.1)


def test_a_lead_is_paired_by_subject_over_those_that_both_have(gathered) -> None:
    data = gathered("")
    one, other = score_of(0.8, a=0.9, b=0.7, c=0.8, d=0.2), score_of(0.7, a=0.6, b=0.6, c=0.75, e=1.0)
    gain, (low, high) = lead_of(one, other, data)
    assert gain == pytest.approx(np.mean([0.3, 0.1, 0.05]))
    assert 0.05 - 1e-9 <= low <= gain <= high <= 0.3 + 1e-9
    assert lead_of(other, one, data)[0] == pytest.approx(-gain)
    assert lead_of(one, score_of(0.7, a=0.6, z=0.1), data) is None


def test_a_probe_reaches_a_model_within_the_margin_below_it(gathered) -> None:
    data = gathered("")
    margin = data.settings.margin
    assert data.reaches(score_of(0.8 - 0.9 * margin), score_of(0.8))
    assert not data.reaches(score_of(0.8 - 1.1 * margin), score_of(0.8))


def test_log_odds_are_those_of_scipy_and_a_certain_answer_stays_finite() -> None:
    p = np.array([0.1, 0.5, 0.9])
    assert np.allclose(logits_of(np.stack([1 - p, p], axis=1))[:, 0], logit(p))
    assert np.isfinite(logits_of(np.array([[1.0, 0.0]]))).all()
    assert np.isnan(logits_of(np.array([[np.nan, np.nan]]))).all()


def test_values_are_filled_and_scaled_as_scikit_learn_does_by_the_training_windows_alone() -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(0)
    values = random.normal(3.0, 2.0, size=(60, 4))
    values[random.random(values.shape) < 0.2] = np.nan
    values[:40, 2] = np.nan  # nobody in training has it
    values[:, 3] = 7.0
    training, test = np.arange(40), np.arange(40, 60)
    scaled = filled_and_scaled(FoldValues(training, test, values))
    plain = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(values[training, :2])
    assert np.allclose(scaled[:, :2], plain.transform(values[:, :2]))
    assert (scaled[:, 2:] == 0).all()
    values[45, 0] = 1e6
    assert filled_and_scaled(FoldValues(training, test, values))[45, 0] == 10.0


def test_the_subject_tells_the_label_where_each_has_one_and_not_where_all_have_both_alike(gathered) -> None:
    data = gathered("")
    windows = data.windows

    def told(values: np.ndarray) -> ProbeScore:
        targets = {windows.only.task.name: replace(windows.only, values=values)}
        plan = replace(data.plan, inputs=replace(data.plan.inputs, windows=replace(windows, targets=targets)))
        return subject_tells_label(replace(data, plan=plan))

    number = np.unique(windows.subject, return_inverse=True)[1]
    assert told(number % 2).value == 1.0
    half = np.zeros(len(windows), dtype=np.int64)
    for subject in windows.subjects:
        half[windows.rows_of([subject])[::2]] = 1
    assert told(half).value == pytest.approx(0.5, abs=0.05)


def test_a_fraction_recognised_is_corrected_for_guessing() -> None:
    recognised = ProbeScore(0.6, (0.5, 0.7), 0.2, 5, 100, {})
    assert recognised.above_chance(0.2) == 0.0 and recognised.above_chance(1.0) == 1.0
    assert recognised.above_chance(0.6) == pytest.approx(0.5)


def test_confounds_see_time_position_file_and_gaps_and_nothing_of_the_body(gathered) -> None:
    data = gathered("")
    windows = data.windows
    assert clock_columns(data)[:, 0].tolist() == windows.onset.tolist()
    length = np.array([windows.recordings[i].duration_seconds for i in windows.recording])
    fraction, left = position_columns(data)[:, :2].T
    assert np.allclose(fraction * length, windows.onset) and np.allclose(left, length - windows.onset)
    whole = file_columns(data)
    assert np.allclose(whole[:, 0], length)
    for index in np.unique(windows.recording):
        assert len(np.unique(whole[windows.recording == index], axis=0)) == 1
    raw = windows.raw_features()
    is_undefined = missing_columns(data)[:, : raw.shape[1]]
    assert np.array_equal(is_undefined == 1.0, ~np.isfinite(raw))
    names = [name for name in windows.feature_names if name.startswith("motion/")]
    assert motion_columns(data).shape == (len(windows), len(names))


def test_a_study_whose_files_hold_one_label_each_is_known_for_it(gathered) -> None:
    assert gathered("constant").holds_one_class.all()
    assert not gathered("").holds_one_class.all()
