"""The full set of heart rate variability: neurokit2's on clean beats, planted power, missing in short rows."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import biopercept as bp
from biopercept.measures.columns import PUBLISHED, column_of
from biopercept.measures.recording import recording_features
from biopercept.measures.stretches import measure
from biopercept.measures.variability import VARIABILITY, heart_variability
from biopercept.preprocessing.cardiac import Beats
from biopercept.preprocessing.cleaning import clean_recording
from biopercept.recording import Recording, Signal
from measurements.planted_hearts import ecg_of, regular_heart

Times = NDArray[np.float64]
BASIC = ("HRV_MeanNN", "HRV_SDNN", "HRV_RMSSD", "HRV_LF", "HRV_HF", "HRV_Coverage")


def beats_at(times: Times) -> Beats:
    """Return beats whose intervals are all accepted."""
    intervals = np.concatenate(([np.nan], np.diff(times)))
    return Beats(times, intervals, np.full(len(times), np.nan), "ECG", np.zeros(len(times)))


def device_recording(times: Times, intervals: Times) -> Recording:
    """Return a recording of a device's intervals (s) alone."""
    signal = Signal.from_samples("IBI", "ibi", "s", 1.0, intervals)
    from dataclasses import replace

    return Recording("S1", "", "lab", (replace(signal, times=times),))


def row_of(beats: Beats, length: float, onset: float = 0.0) -> pd.Series:
    """Return all measures of beats of one stretch, the basic ones as the package measures them."""
    from biopercept.measures.stretches import _of_beats

    at = np.array([onset])
    basic = _of_beats(beats, at, length)
    everything = basic | heart_variability(beats, at, length, basic)
    return pd.Series({name: float(values[0]) for name, values in everything.items()})


@pytest.fixture(scope="module")
def theirs() -> pd.Series:
    """What neurokit2 gives of five minutes of planted beats."""
    import neurokit2 as nk

    beats = regular_heart(300.0, 66.0).times
    return nk.hrv({"RRI": 1000.0 * np.diff(beats), "RRI_Time": beats[1:]}).iloc[0]


@pytest.fixture(scope="module")
def ours() -> pd.Series:
    return row_of(beats_at(regular_heart(300.0, 66.0).times), 300.0)


def test_every_measure_of_neurokit_is_a_column_with_one_meaning(theirs: pd.Series) -> None:
    assert set(theirs.index) == set(VARIABILITY) | {n for n in PUBLISHED if n.startswith("HRV_")} - {
        "HRV_Beats", "HRV_Coverage",
    }  # fmt: skip
    assert not set(VARIABILITY) & set(PUBLISHED)
    for name in VARIABILITY:
        column = column_of(name)
        assert column.unit and column.definition and column.source == "beats", name


def test_on_clean_beats_the_values_are_those_of_neurokit(ours: pd.Series, theirs: pd.Series) -> None:
    loose = {"HRV_pNN50": 0.02, "HRV_pNN20": 0.02, "HRV_SDNNI1": 0.02, "HRV_LFHF": 0.15}
    powers = {"HRV_LF", "HRV_HF", "HRV_VLF", "HRV_VHF", "HRV_TP", "HRV_LFn", "HRV_HFn", "HRV_LnHF", "HRV_ULF"}
    long_only = {"HRV_HTI", "HRV_TINN"}
    assert ours["HRV_SDANN1"] == pytest.approx(theirs["HRV_SDANN1"], abs=0.02 * ours["HRV_SDNN"])
    for name in sorted(set(theirs.index) - powers - long_only - {"HRV_SDANN1"}):
        tolerance = loose.get(name, 0.005)
        assert ours[name] == pytest.approx(theirs[name], rel=tolerance, abs=1e-9, nan_ok=True), name


def test_powers_are_those_of_neurokit_without_its_division_by_the_highest(ours: pd.Series) -> None:
    import neurokit2 as nk

    beats = regular_heart(300.0, 66.0).times
    table = nk.hrv_frequency({"RRI": 1000.0 * np.diff(beats), "RRI_Time": beats[1:]}, normalize=False).iloc[0]
    for name in ("HRV_LF", "HRV_HF", "HRV_TP", "HRV_LFn", "HRV_HFn"):
        assert ours[name] == pytest.approx(table[name], rel=0.15), name
    assert ours["HRV_LnHF"] == pytest.approx(np.log(ours["HRV_HF"]))
    assert ours["HRV_LFn"] == pytest.approx(ours["HRV_LF"] / ours["HRV_TP"])


@pytest.mark.parametrize(("hertz", "name"), [(0.02, "HRV_VLF"), (0.1, "HRV_LF"), (0.25, "HRV_HF"), (0.45, "HRV_VHF")])
def test_a_planted_swing_has_its_power_in_its_band_and_in_no_other(hertz: float, name: str) -> None:
    times = [0.3]
    while times[-1] < 300.0:
        times.append(times[-1] + 0.75 + 0.03 * np.sin(2 * np.pi * hertz * times[-1]))
    row = row_of(beats_at(np.array(times[:-1])), 300.0)
    assert row[name] == pytest.approx(30.0**2 / 2, rel=0.15)
    assert row["HRV_TP"] == pytest.approx(row[name], rel=0.1)


def test_a_gap_neither_makes_neighbours_nor_moves_the_minutes() -> None:
    import neurokit2 as nk

    heart = regular_heart(1500.0, 66.0)
    times = heart.times.copy()
    late = times > 500.0
    times[late] += (
        0.25 * (times[late] - 500.0) / 4
    )  # a heart that slows down: the mean of each minute tells where it lies
    times = times[times < 1500.0]
    whole = beats_at(times)
    is_there = (times < 600.0) | (times > 780.0)
    intervals = whole.intervals[is_there].copy()
    intervals[np.flatnonzero(times[is_there] > 780.0)[0]] = np.nan
    some = Beats(times[is_there], intervals, np.full(is_there.sum(), np.nan), "ECG", np.zeros(is_there.sum()))
    row = row_of(some, 1500.0)
    minutes = [
        np.diff(times)[(times[1:] >= 60 * n) & (times[1:] < 60 * n + 60)] for n in range(25) if n not in (10, 11, 12)
    ]
    assert row["HRV_SDANN1"] == pytest.approx(1000 * np.std([m.mean() for m in minutes], ddof=1), rel=0.001)
    assert row["HRV_SDNNI1"] == pytest.approx(1000 * np.mean([m.std(ddof=1) for m in minutes]), rel=0.001)
    blind = nk.hrv_time({"RRI": 1000 * intervals[1:], "RRI_Time": some.times[1:]})["HRV_SDANN1"].iloc[0]
    assert blind != pytest.approx(row["HRV_SDANN1"], rel=0.005)  # it pushes the minutes together
    assert row["HRV_SD1"] == pytest.approx(row["HRV_RMSSD"] / np.sqrt(2), rel=0.01)
    assert np.isfinite(row["HRV_HTI"]) and np.isfinite(row["HRV_TINN"])
    assert np.isnan(row["HRV_SampEn"])  # 88 % are no sequence


def test_a_device_that_rounds_its_times_keeps_its_neighbours() -> None:
    beats = regular_heart(300.0, 66.0).times
    intervals = np.round(np.diff(beats) * 64) / 64
    drifting = np.round(beats[1:] * 64) / 64 + np.random.default_rng(1).uniform(-0.02, 0.02, len(intervals))
    row = row_of(Beats(drifting, intervals, intervals * np.nan, "IBI", intervals * np.nan), 300.0)
    x, y = 1000 * intervals[:-1], 1000 * intervals[1:]
    assert row["HRV_SD1"] == pytest.approx(np.std((x - y) / np.sqrt(2), ddof=1), rel=0.05)
    assert row["HRV_SD2"] == pytest.approx(np.std((x + y) / np.sqrt(2), ddof=1), rel=0.05)
    assert row["HRV_PI"] == pytest.approx(100 * np.mean((y - x)[y != x] < 0), rel=0.02)


@pytest.mark.parametrize(
    ("seconds", "missing", "known"),
    [
        (60.0, ("HRV_VLF", "HRV_TP", "HRV_SD1", "HRV_SampEn", "HRV_SDANN1"), ("HRV_CVNN", "HRV_LnHF", "HRV_SDSD")),
        (299.0, ("HRV_VLF", "HRV_TP", "HRV_SD1", "HRV_SampEn", "HRV_SDANN2"), ("HRV_SDANN1", "HRV_SDNNI1")),
        (
            300.0,
            ("HRV_ULF", "HRV_HTI", "HRV_TINN", "HRV_SDANN2"),
            ("HRV_VLF", "HRV_SD1", "HRV_SampEn", "HRV_DFA_alpha2"),
        ),
    ],
)
def test_a_row_has_what_it_is_long_enough_for(seconds: float, missing: tuple[str, ...], known: tuple[str, ...]) -> None:
    row = row_of(beats_at(regular_heart(320.0, 66.0).times), seconds)
    assert row[list(missing)].isna().all()
    assert row[list(known)].notna().all()


def test_what_rests_on_missing_measures_is_missing_too() -> None:
    beats = beats_at(regular_heart(300.0, 66.0).times)
    noisy = Beats(beats.times, beats.intervals, beats.amplitudes, "BVP", np.full(len(beats), 0.03))
    row = row_of(noisy, 300.0)
    assert np.isnan(row["HRV_RMSSD"]) and np.isfinite(row["HRV_MeanNN"])
    assert row[[n for n, one in VARIABILITY.items() if "HRV_RMSSD" in one.needs]].isna().all()
    assert np.isfinite(row["HRV_MedianNN"])
    half = beats.intervals.copy()
    half[: 3 * len(half) // 5] = np.nan
    covered = row_of(Beats(beats.times, half, beats.amplitudes, "ECG", np.zeros(len(beats))), 300.0)
    assert covered["HRV_Coverage"] < 0.5
    assert covered[list(VARIABILITY)].isna().all()


@pytest.mark.parametrize("kind", ["steady", "two values", "few", "none accepted", "fast", "many"])
def test_strange_hearts_give_missing_values_and_no_fault(kind: str) -> None:
    steps = {
        "steady": np.full(400, 0.8),
        "two values": np.tile([0.8, 0.9], 200),
        "few": np.full(5, 0.8),
        "none accepted": np.full(400, np.nan),
        "fast": 0.45 + 0.001 * np.random.default_rng(0).normal(size=720),
        "many": 0.3 + 0.01 * np.random.default_rng(0).normal(size=2600),
    }[kind]
    times = 0.5 + np.cumsum(np.nan_to_num(steps, nan=0.8))
    length = 800.0 if kind == "many" else 320.0
    row = row_of(Beats(times, steps, steps * np.nan, "ECG", np.zeros(len(times))), length)
    assert not np.isinf(row.to_numpy(float)).any()
    if kind == "many":
        assert np.isnan(row["HRV_SampEn"]) and np.isfinite(row["HRV_SD2"])
    for name in VARIABILITY:
        column, value = column_of(name), row[name]
        assert np.isnan(value) or column.lowest is None or value >= column.lowest - 1e-9, (name, value)
        assert np.isnan(value) or column.highest is None or value <= column.highest + 1e-9, (name, value)


def test_a_recording_has_the_full_set_only_when_asked_and_says_what_is_too_short() -> None:
    heart = regular_heart(330.0, 66.0)
    signal = Signal.from_samples("ECG", "ecg", "mV", 250.0, ecg_of(heart, 330.0, 250.0))
    one = Recording("S1", "", "lab", (signal,))
    plain = recording_features(one, rows="whole")
    full = bp.features(one, rows="whole", hrv=True)
    assert not set(plain.measures.names) & set(VARIABILITY)
    frame = full.to_frame()
    assert set(VARIABILITY) <= set(frame.columns)
    assert not frame.columns.duplicated().any()
    assert frame["HRV_SampEn"].notna().all()
    assert frame[list(plain.measures.names)].equals(plain.to_frame()[list(plain.measures.names)])
    assert not [note for note in full.notes if "non-linear" in note]
    clean = clean_recording(one)
    short = measure(clean, np.array([0.0]), np.array([60.0]), hrv=True)
    assert set(VARIABILITY) <= set(short.names)
    by_window = bp.features(one, hrv=True)
    assert any(note.startswith("10 of 10 rows last less than 300 s: non-linear") for note in by_window.notes)


def test_neurokit_is_imported_only_for_the_full_set() -> None:
    lines = (
        "import sys, numpy as np, biopercept as bp\n"
        "from biopercept.recording import Recording, Signal\n"
        "t = np.arange(0, 70, 1 / 125)\n"
        "pulse = np.exp(-np.square((t % 0.8 - 0.4) / 0.01))\n"
        "one = Recording('S1', '', 'lab', (Signal.from_samples('ECG', 'ecg', 'mV', 125.0, pulse),))\n"
        "bp.features(one)\n"
        "print('neurokit2' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True).stdout.strip() == "False"
