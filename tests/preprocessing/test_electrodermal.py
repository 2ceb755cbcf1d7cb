"""Tonic and phasic add up, and planted responses are counted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from biopercept.preprocessing.electrodermal import SkinResponses, log_tonic, skin_responses, tonic_and_phasic
from biopercept.preprocessing.gaps import filtered
from biopercept.preprocessing.settings import CleaningSettings

SETTINGS = CleaningSettings()
RATE = 4.0
PLANTED = np.array([20.0, 45.0, 80.0, 110.0, 150.0])


def _skin(peak_us: float = 0.3, seconds: int = 180) -> np.ndarray:
    """Return a slow drift with a response peaking about 2 s after each planted onset."""
    t = np.arange(seconds * RATE) / RATE
    out = 3 + 0.002 * t
    for onset in PLANTED:
        late = np.clip(t - onset, 0, None)
        out += peak_us * (late / 2) * np.exp(1 - late / 2)
    return out


def test_every_planted_response_is_found_and_no_other() -> None:
    got = skin_responses(_skin(), RATE, 7.0, SETTINGS)
    assert len(got) == len(PLANTED)
    np.testing.assert_allclose(got.times, PLANTED + 2 + 7.0, atol=0.6)
    np.testing.assert_allclose(got.onsets, PLANTED + 7.0, atol=0.6)
    np.testing.assert_allclose(got.amplitudes, 0.3, rtol=0.1)
    np.testing.assert_allclose(got.rise_seconds, 2.0, atol=0.6)
    # x exp(1 - x) is a half at x = 2.678, where x is the time since the onset over 2 s
    np.testing.assert_allclose(got.half_recovery_seconds, 2 * 2.678 - 2, atol=0.5)
    np.testing.assert_allclose(got.searched, [[7.0, 187.0]])
    assert got.smallest == SETTINGS.scr_min_us


def test_a_recovery_that_is_not_reached_is_missing() -> None:
    t = np.arange(200) / RATE
    # The second rise begins before half of the first is lost; the recording ends before half of the second is.
    skin = (
        3 + 0.3 * np.clip((t - 20) / 2, 0, 1) - 0.05 * np.clip((t - 22) / 2, 0, 1) + 0.3 * np.clip((t - 30) / 2, 0, 1)
    )
    skin -= 0.1 * np.clip((t - 32) / 17, 0, 1)
    got = skin_responses(skin, RATE, 0.0, SETTINGS)
    assert len(got) == 2 and np.isnan(got.half_recovery_seconds).all()


def test_a_response_below_the_smallest_is_not_counted() -> None:
    assert len(skin_responses(_skin(peak_us=0.008), RATE, 0.0, SETTINGS).times) == 0


def test_the_count_does_not_depend_on_what_comes_later() -> None:
    quiet = _skin(peak_us=0.05)
    loud = quiet.copy()
    loud[-100:] += 5 * np.hanning(100)
    counts = [(skin_responses(x, RATE, 0.0, SETTINGS).times < 125).sum() for x in (quiet, loud)]
    assert counts[0] == counts[1] == 4


def test_tonic_and_phasic_add_up_and_phasic_is_the_high_pass() -> None:
    skin = _skin()
    tonic, phasic = tonic_and_phasic(skin, RATE, SETTINGS)
    np.testing.assert_allclose(tonic + phasic, skin)
    expected = sosfiltfilt(butter(2, 0.05, "highpass", fs=RATE, output="sos"), skin)
    np.testing.assert_allclose(phasic[100:-100], expected[100:-100], atol=0.02)


def test_a_gap_holds_no_response_and_none_spans_it() -> None:
    skin = _skin()
    gap = slice(int(75 * RATE), int(90 * RATE))
    skin[gap] = np.nan
    tonic, phasic = tonic_and_phasic(skin, RATE, SETTINGS)
    assert np.isnan(tonic[gap]).all() and np.isnan(phasic[gap]).all()
    assert np.isfinite(phasic[: gap.start]).all() and np.isfinite(phasic[gap.stop :]).all()
    got = skin_responses(skin, RATE, 0.0, SETTINGS)
    assert not ((got.times > 74) & (got.times < 91)).any()
    assert len(got) == 4
    np.testing.assert_allclose(got.searched, [[0, 75], [90, 180]])


def test_a_stretch_too_short_has_no_tonic_level() -> None:
    tonic, phasic = tonic_and_phasic(_skin()[: int(15 * RATE)], RATE, SETTINGS)
    assert np.isnan(tonic).all() and np.isnan(phasic).all()


def test_the_low_pass_respects_a_rate_of_4_hz() -> None:
    t = np.arange(400) / RATE
    mixed = 2 + np.sin(2 * np.pi * 0.1 * t) * 0.2 + 0.2 * np.sin(2 * np.pi * 1.8 * t)
    got = filtered(mixed[None], RATE, None, 1.0, bridge_seconds=2.0)[0]
    np.testing.assert_allclose(got[40:-40], (2 + 0.2 * np.sin(2 * np.pi * 0.1 * t))[40:-40], atol=0.005)


def test_the_log_of_nothing_is_bounded_and_missing_stays_missing() -> None:
    np.testing.assert_allclose(log_tonic(np.array([1.0, 0.0, -1.0, np.nan])), [0, np.log(1e-3), np.log(1e-3), np.nan])


def test_what_falls_too_steeply_for_skin_is_no_response() -> None:
    skin = np.full(200, 3.0)
    skin[100] = 3.1
    assert len(skin_responses(skin, RATE, 0.0, SETTINGS)) == 0
    skin[100:112] = 3.5  # a sensor that is pressed for 3 s
    assert len(skin_responses(skin, RATE, 0.0, SETTINGS)) == 0
    skin[:] = 3.0
    skin[97:104] = 3 + 0.1 * np.hanning(7)
    assert len(skin_responses(skin, RATE, 0.0, SETTINGS)) == 1


def test_a_slow_wave_of_the_level_is_no_response() -> None:
    t = np.arange(300 * RATE) / RATE
    assert len(skin_responses(3 + 0.5 * np.sin(2 * np.pi * t / 60), RATE, 0.0, SETTINGS)) == 0


def test_a_sharp_edged_low_pass_is_not_what_responses_are_looked_for_in() -> None:
    """Its ripples before a steep rise are higher than the smallest response that counts."""
    t = np.arange(120 * 32) / 32.0
    skin = 2 + 5 * np.clip((t - 60) / 1.5, 0, 1) * np.exp(-np.clip(t - 61.5, 0, None) / 4)
    got = skin_responses(skin, 32.0, 0.0, SETTINGS)
    assert len(got) == 1 and abs(got.onsets[0] - 60) < 0.4 and abs(got.amplitudes[0] / 5 - 1) < 0.2


def test_a_rise_that_was_mostly_lost_is_no_response() -> None:
    skin = _skin()
    onset = int(45 * RATE)
    skin[onset + 1 : onset + 7] = np.nan  # 1.5 s: short enough to be crossed
    got = skin_responses(skin, RATE, 0.0, SETTINGS)
    assert len(got) == len(PLANTED) - 1 and not ((got.times > 44) & (got.times < 50)).any()
    np.testing.assert_allclose(got.searched, [[0.0, 180.0]])


def test_a_skin_that_is_sampled_too_slowly_is_not_searched() -> None:
    got = skin_responses(_skin()[::2], RATE / 2, 0.0, SETTINGS)
    assert len(got) == 0 and len(got.searched) == 0 and np.isnan(got.smallest)


def test_the_time_that_was_searched_is_counted_window_by_window() -> None:
    empty = np.empty(0)
    responses = SkinResponses(empty, empty, empty, empty, np.array([[10.0, 40.0], [50.0, 100.0]]))
    np.testing.assert_allclose(responses.searched_seconds(np.array([0.0, 20.0, 60.0, 200.0]), 40.0), [30, 30, 40, 0])


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("rate", [16, 100, 500])
def test_the_responses_of_a_simulator_are_counted(rate: int, seed: int) -> None:
    """Its responses are ten times as quick as those of skin; some begin before the recording or after its end."""
    import neurokit2 as nk

    made = nk.eda_simulate(duration=300, sampling_rate=rate, scr_number=15, noise=0, drift=0, random_state=seed)
    got = skin_responses(2 + 0.8 * (made - made.min()) / np.ptp(made), float(rate), 0.0, SETTINGS)
    assert 14 <= len(got) <= 15
