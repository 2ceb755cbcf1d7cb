"""Activity knows no gravity, the envelope follows the muscle, and both keep gaps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from biopercept.preprocessing.cleaning import clean_recording, why_unused
from biopercept.preprocessing.derived import LOWEST_ACTIVITY, log_activity, log_envelope
from biopercept.preprocessing.gaps import grid_times
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import Recording, Signal

SETTINGS = CleaningSettings()


def test_a_resting_arm_has_no_activity_whatever_its_posture() -> None:
    times = grid_times(60)
    postures = [np.repeat(np.array([[x], [y], [z]]), 60 * 32, axis=1) for x, y, z in ((0, 0, 1.0), (0.7, 0.7, 0))]
    for still in postures:
        activity = log_activity(still, 32.0, times, 0.0, SETTINGS)
        np.testing.assert_allclose(activity[0, 20:-20], np.log(LOWEST_ACTIVITY), atol=0.01)


def test_activity_is_the_log_of_the_root_mean_square_of_movement() -> None:
    t = np.arange(60 * 32) / 32
    axes = np.stack([0.3 * np.sin(2 * np.pi * 4 * t), np.zeros_like(t), np.ones_like(t)])
    activity = log_activity(axes, 32.0, grid_times(60), 0.0, SETTINGS)
    np.testing.assert_allclose(activity[0, 20:-20], np.log(0.3 / np.sqrt(2) + LOWEST_ACTIVITY), atol=0.05)


def test_activity_is_missing_where_an_axis_is() -> None:
    axes = np.random.default_rng(0).normal(size=(3, 60 * 32))
    axes[1, 20 * 32 : 30 * 32] = np.nan
    times = grid_times(60)
    activity = log_activity(axes, 32.0, times, 0.0, SETTINGS)[0]
    assert np.isnan(activity[(times >= 20) & (times < 30)]).all()
    assert np.isfinite(activity[(times < 19.9) | (times > 30.1)][:-1]).all()


def test_the_envelope_follows_a_burst_and_keeps_a_gap() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(20 * 1000) / 1000
    muscle = rng.normal(0, np.where((t > 8) & (t < 12), 0.5, 0.01))
    muscle[15_000:16_000] = np.nan
    times = grid_times(20)
    envelope = log_envelope(muscle[None], 1000.0, times, 0.0, SETTINGS)[0]
    np.testing.assert_allclose(envelope[(times > 8.5) & (times < 11.5)], np.log(0.5), atol=0.3)
    np.testing.assert_allclose(envelope[(times > 1) & (times < 7)], np.log(0.01), atol=0.3)
    assert np.isnan(envelope[(times >= 15) & (times < 16)]).all()


@pytest.mark.parametrize(("factor", "is_used"), [(1.0, True), (9.80665, False), (64.0, False), (0.001, True)])
@pytest.mark.parametrize("rate", [32.0, 100.0])
def test_acceleration_that_is_not_in_g_is_left_out_and_said(
    factor: float, is_used: bool, rate: float, make_signal: Callable[..., Signal]
) -> None:
    n = round(60 * rate)
    axes = np.stack([np.full(n, 0.3), np.full(n, 0.2), np.full(n, 0.93)]) + 0.05 * np.random.default_rng(0).normal(
        size=n
    )
    signals = (make_signal("acc", rate, factor * axes), make_signal("temp", 4.0, 33 + 0.001 * np.arange(240)))
    clean = clean_recording(Recording("S1", "", "rest", signals))
    assert bool(clean.recording.signals_of("activity")) == is_used
    assert np.isfinite(clean.recording.signal("ACC").read()).any() == is_used
    assert any("a body at rest measures 1 g" in note for note in clean.notes) != is_used
    assert ("a body at rest measures 1 g" in why_unused(signals[0])) != is_used
