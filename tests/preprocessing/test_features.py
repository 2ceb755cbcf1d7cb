"""Features are what plain numpy gives, missing where undefined, and blind to the clock."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from biopercept.preprocessing import windows as preprocessing_windows
from biopercept.preprocessing.cleaning import clean_recording
from biopercept.preprocessing.eeg import region_of
from biopercept.preprocessing.features import FEATURE_GROUPS, FEATURE_NAMES, compute_features
from biopercept.recording import Channel, Recording, Signal

Maker = Callable[..., Signal]


def _column(table: np.ndarray, name: str) -> np.ndarray:
    return table[:, FEATURE_NAMES.index(name)]


def test_feature_names_are_unique_grouped_and_in_order() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == 85
    groups = [name.split("/")[0] for name in FEATURE_NAMES]
    assert (
        list(dict.fromkeys(groups)) == list(FEATURE_GROUPS) == ["heart", "eda", "resp", "temp", "motion", "emg", "eeg"]
    )
    assert groups == sorted(groups, key=FEATURE_GROUPS.index)
    assert FEATURE_NAMES[0] == "heart/rate_mean" and FEATURE_NAMES[-1] == "eeg/alpha_asymmetry"


def test_summaries_equal_plain_numpy() -> None:
    rng = np.random.default_rng(0)
    series = rng.normal(size=400)
    onsets = np.array([0.0, 30.0])
    windows = preprocessing_windows.windowed(series, onsets, 60.0)
    for row, start in enumerate((0, 120)):
        cut = series[start : start + 240]
        t = np.arange(240) / 4 / 60
        assert preprocessing_windows.level(windows)[row] == pytest.approx(cut.mean())
        assert preprocessing_windows.spread(windows)[row] == pytest.approx(cut.std())
        assert preprocessing_windows.trend(windows)[row] == pytest.approx(np.polyfit(t, cut, 1)[0])
        assert preprocessing_windows.roughness(windows)[row] == pytest.approx(np.abs(np.diff(cut)).mean())
        assert (preprocessing_windows.lowest(windows)[row], preprocessing_windows.highest(windows)[row]) == (
            cut.min(),
            cut.max(),
        )


def test_a_trend_over_a_gap_is_that_of_the_valid_samples() -> None:
    series = 3.0 * np.arange(240) / 4 / 60
    series[50:100] = np.nan
    assert preprocessing_windows.trend(preprocessing_windows.windowed(series, np.zeros(1), 60.0))[0] == pytest.approx(
        3.0
    )


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_a_summary_needs_half_of_its_window(share: float) -> None:
    series = np.full(240, np.nan)
    series[: int(share * 240)] = 1.0
    windows = preprocessing_windows.windowed(series, np.zeros(1), 60.0)
    for summary in (
        preprocessing_windows.level,
        preprocessing_windows.spread,
        preprocessing_windows.trend,
        preprocessing_windows.roughness,
        preprocessing_windows.lowest,
    ):
        assert np.isfinite(summary(windows)[0]) == (share > 0.5)


def test_an_absent_sensor_is_missing_and_not_zero(make_signal: Maker, make_recording: Callable[..., Recording]) -> None:
    clean = clean_recording(make_recording(make_signal("temp", 4.0, 33 + np.arange(480) * 1e-3)))
    table = compute_features(clean, [0.0, 30.0], 60.0)
    assert table.dtype == np.float32 and table.shape == (2, len(FEATURE_NAMES))
    known = {name for name in FEATURE_NAMES if np.isfinite(_column(table, name)).all()}
    assert known == {"temp/mean", "temp/slope", "temp/sd"}
    np.testing.assert_allclose(_column(table, "temp/slope"), 0.24, rtol=0.05)


def test_no_feature_knows_when_in_the_recording_its_window_lies(
    make_signal: Maker, make_recording: Callable[..., Recording]
) -> None:
    """A recording that repeats itself every minute gives every minute the same features."""
    rng = np.random.default_rng(0)
    eda = np.tile(3 + 0.5 * np.hanning(240) + 0.001 * rng.normal(size=240), 8)
    acc = np.tile(rng.normal(0, 0.1, (3, 60 * 32)), 8)
    hr = np.tile(70 + 5 * np.hanning(60), 8)
    temp = np.tile(33 + 0.1 * np.hanning(240), 8)
    signals = [
        make_signal(m, r, x) for m, r, x in (("eda", 4, eda), ("acc", 32, acc), ("hr", 1, hr), ("temp", 4, temp))
    ]
    table = compute_features(clean_recording(make_recording(*signals)), np.arange(120.0, 300.0, 60.0), 60.0)
    known = np.isfinite(table).all(axis=0)
    assert known.sum() > 20
    np.testing.assert_allclose(table[1:, known], np.broadcast_to(table[:1, known], table[1:, known].shape), atol=2e-3)


def test_windows_beyond_the_recording_are_missing(make_signal: Maker, make_recording: Callable[..., Recording]) -> None:
    clean = clean_recording(make_recording(make_signal("temp", 4.0, 33 + np.arange(480) * 1e-3)))
    assert np.isnan(compute_features(clean, [500.0, -100.0], 60.0)).all()


def test_regions_are_read_from_the_names_of_any_montage() -> None:
    expected = {
        "frontal": ("Fp1", "AF7", "F3", "Fz", "EEG F8-Ref"),
        "central": ("C3", "Cz", "FC5", "EEG C4"),
        "temporal": ("T3", "T8", "TP9", "FT10"),
        "parietal": ("P7", "Pz", "CP1"),
        "occipital": ("O1", "Oz", "PO8", "EEG O2-A1"),
    }
    for region, names in expected.items():
        assert {region_of(name) for name in names} == {region}
    assert {region_of(name) for name in ("ECG", "A2-A1", "EOG1", "X3", "")} == {None}


def test_eeg_features_find_the_alpha_where_it_was_planted(
    made_eeg: np.ndarray,
    eeg_channels: tuple[Channel, ...],
    make_signal: Maker,
    make_recording: Callable[..., Recording],
) -> None:
    clean = clean_recording(make_recording(make_signal("eeg", 256.0, made_eeg, channels=eeg_channels)))
    table = compute_features(clean, [0.0], 60.0)
    assert _column(table, "eeg/alpha_occipital")[0] > _column(table, "eeg/alpha_frontal")[0] + 1
    assert np.isfinite(table[:, [n.startswith("eeg/") for n in FEATURE_NAMES]]).all()
