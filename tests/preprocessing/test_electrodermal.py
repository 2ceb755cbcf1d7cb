"""Tonic and phasic add up, and planted responses are counted."""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, sosfiltfilt

from biopercept.preprocessing.electrodermal import log_tonic, skin_responses, tonic_and_phasic, without_jumps
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
    found = skin_responses(_skin(), RATE, 7.0, SETTINGS)
    assert len(found.times) == len(PLANTED)
    np.testing.assert_allclose(found.times, PLANTED + 2 + 7.0, atol=0.6)
    np.testing.assert_allclose(found.amplitudes, 0.3, rtol=0.35)


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
    found = skin_responses(skin, RATE, 0.0, SETTINGS)
    assert not ((found.times > 74) & (found.times < 91)).any()
    assert len(found.times) == 4


def test_a_stretch_too_short_has_no_tonic_level() -> None:
    tonic, phasic = tonic_and_phasic(_skin()[: int(15 * RATE)], RATE, SETTINGS)
    assert np.isnan(tonic).all() and np.isnan(phasic).all()


def test_the_low_pass_respects_a_rate_of_4_hz() -> None:
    t = np.arange(400) / RATE
    mixed = 2 + np.sin(2 * np.pi * 0.1 * t) * 0.2 + 0.2 * np.sin(2 * np.pi * 1.8 * t)
    got = filtered(mixed[None], RATE, None, 1.0, bridge_seconds=2.0)[0]
    np.testing.assert_allclose(got[40:-40], (2 + 0.2 * np.sin(2 * np.pi * 0.1 * t))[40:-40], atol=0.005)


def test_a_jump_faster_than_skin_is_masked() -> None:
    skin = np.full((1, 100), 2.0)
    skin[0, 50:] = 8.0
    out = without_jumps(skin, RATE, SETTINGS)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(out[0])), [49, 50])


def test_the_log_of_nothing_is_bounded_and_missing_stays_missing() -> None:
    np.testing.assert_allclose(log_tonic(np.array([1.0, 0.0, -1.0, np.nan])), [0, np.log(1e-3), np.log(1e-3), np.nan])


def test_a_rise_too_steep_for_skin_is_no_response() -> None:
    skin = np.full(200, 3.0)
    skin[100] = 3.1
    assert len(skin_responses(skin, RATE, 0.0, SETTINGS).times) == 0
    skin[97:104] = 3 + 0.1 * np.hanning(7)
    assert len(skin_responses(skin, RATE, 0.0, SETTINGS).times) == 1
