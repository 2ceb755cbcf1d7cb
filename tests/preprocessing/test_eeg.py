"""EEG: bad channels are named, the reference is the mean of the good, band power is what was planted."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.preprocessing.eeg import (
    BANDS,
    bad_channels,
    band_power,
    reference_of,
    reference_to_average,
    sharing_one_reference,
    without_hum,
)
from biopercept.preprocessing.gaps import filtered, grid_times
from biopercept.preprocessing.settings import CleaningSettings

SETTINGS = CleaningSettings()
RATE = 256.0


def _clean(eeg: np.ndarray) -> np.ndarray:
    return filtered(eeg, RATE, 1.0, 45.0, bridge_seconds=0.25)


def _referenced(eeg: np.ndarray, is_good: np.ndarray, is_shared: np.ndarray) -> np.ndarray:
    samples = eeg.copy()
    reference_to_average(samples, is_good, is_shared)
    return samples


def test_a_good_montage_has_no_bad_channel(made_eeg: np.ndarray) -> None:
    assert bad_channels(_clean(made_eeg), RATE, SETTINGS) == {}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda x: x * 1e-3, "almost flat"),
        (lambda x: x * 300, "too large"),
        (lambda x: x * 8, "times the median channel's"),
        (lambda x: np.full_like(x, np.nan), "less than one second is valid"),
        (lambda x: np.random.default_rng(9).normal(0, 15, len(x)), "correlates with no other channel"),
    ],
)
def test_a_bad_channel_is_found_and_the_reason_said(damage, reason: str, made_eeg: np.ndarray) -> None:
    eeg = made_eeg.copy()
    eeg[5] = damage(eeg[5])
    faults = bad_channels(_clean(eeg), RATE, SETTINGS)
    assert list(faults) == [5] and reason in faults[5]


def test_the_reference_is_the_mean_of_the_good_channels_and_bad_ones_are_masked(made_eeg: np.ndarray) -> None:
    is_good = np.ones(len(made_eeg), dtype=bool)
    is_good[3] = False
    got = _referenced(made_eeg, is_good, np.ones(len(made_eeg), dtype=bool))
    assert np.isnan(got[3]).all()
    np.testing.assert_allclose(got[is_good], made_eeg[is_good] - made_eeg[is_good].mean(axis=0))


def test_a_bad_channel_cannot_reach_the_others(made_eeg: np.ndarray) -> None:
    is_good = np.arange(len(made_eeg)) != 3
    other = made_eeg.copy()
    other[3] = 1e6
    everywhere = np.ones(len(made_eeg), dtype=bool)
    np.testing.assert_array_equal(*(_referenced(eeg, is_good, everywhere) for eeg in (made_eeg, other)))


def test_too_few_channels_are_not_referenced(made_eeg: np.ndarray) -> None:
    two = made_eeg[:2]
    np.testing.assert_array_equal(_referenced(two, np.ones(2, dtype=bool), np.ones(2, dtype=bool)), two)


def test_a_channel_of_another_reference_stays_as_recorded(made_eeg: np.ndarray) -> None:
    is_good = np.ones(len(made_eeg), dtype=bool)
    is_shared = np.arange(len(made_eeg)) != 7
    got = _referenced(made_eeg, is_good, is_shared)
    np.testing.assert_array_equal(got[7], made_eeg[7])
    np.testing.assert_allclose(got[is_shared], made_eeg[is_shared] - made_eeg[is_shared].mean(axis=0))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("FP1-F7", "F7"),
        ("T8-P8-0", "P8"),
        ("EEG Fpz-Cz", "CZ"),
        ("C3-M2", "M2"),
        ("C3M2", "M2"),
        ("F4:A1", "A1"),
        ("Cz", ""),
        ("EEG F8-Ref", ""),
        ("Fp1-A1A2", ""),
        ("EEG 3", ""),
        ("", ""),
    ],
)
def test_a_reference_is_read_from_the_name(name: str, reference: str) -> None:
    assert reference_of(name) == reference


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        ("Fp1 Fp2 C3 C4 O1 O2", "111111"),
        ("F3-Cz F4-Cz P3-Cz P4-Cz O1-Cz", "11111"),
        ("FP1-F7 F7-T7 T7-P7 P7-O1 FP2-F8 F8-T8 T8-P8 P8-O2", "00000000"),
        ("F3-M2 C3-M2 O1-M2 F4-M1 C4-M1 O2-M1", "000000"),
        ("Fp1 Fp2 C3 C4 O1 T3-T4", "111110"),
    ],
)
def test_channels_that_share_a_reference_are_those_of_the_majority(names: str, shared: str) -> None:
    assert "".join(str(int(one)) for one in sharing_one_reference(names.split())) == shared


def test_hum_is_notched_and_its_neighbours_are_not() -> None:
    t = np.arange(30 * RATE) / RATE
    alpha = 20 * np.sin(2 * np.pi * 10 * t)
    got = without_hum((alpha + 50 * np.sin(2 * np.pi * 50 * t))[None], RATE, SETTINGS)
    np.testing.assert_allclose(got[0, 1000:-1000], alpha[1000:-1000], atol=0.3)


def test_no_notch_is_made_where_none_is_wanted(made_eeg: np.ndarray) -> None:
    assert without_hum(made_eeg, RATE, CleaningSettings(powerline_hz=0)) is made_eeg


def test_band_power_is_that_of_the_planted_rhythm_and_of_its_band_alone() -> None:
    t = np.arange(60 * RATE) / RATE
    for planted, (low, high) in BANDS.items():
        rhythm = 10 * np.sin(2 * np.pi * (low + high) / 2 * t)[None]
        for band, edges in BANDS.items():
            power = band_power(rhythm, RATE, edges, grid_times(60), 0.0, SETTINGS)
            assert power is not None
            if band == planted:
                np.testing.assert_allclose(power[0, 20:-20], np.log(50), atol=0.15)
            else:
                assert power[0, 20:-20].max() < np.log(50) - 3


def test_a_band_above_what_the_rate_holds_is_none() -> None:
    assert band_power(np.zeros((1, 640)), 64.0, BANDS["eeg_gamma"], grid_times(10), 0.0, SETTINGS) is None
