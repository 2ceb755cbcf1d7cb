"""Shapes that pages draw: against neurokit2, scipy and planted events; excerpts are chosen by their rule."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from biopercept.measures.excerpts import (
    BEST,
    MIDDLE,
    ORDINARY,
    WORST,
    covered_share,
    eeg_scores,
    excerpts_of,
    heart_scores,
)
from biopercept.measures.recording import measured_and_cleaned
from biopercept.measures.shapes import (
    ACCEPTED,
    FIRST,
    REJECTED,
    Waves,
    beat_kinds,
    beat_waves,
    eeg_spectra,
    heart_wave,
    interval_spectrum,
    intervals_before,
    likeness,
    poincare,
    response_waves,
    waves_around,
)
from biopercept.preprocessing.cardiac import Beats
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.preprocessing.variability import HF_HZ, LF_HZ
from biopercept.recording import Channel, Recording, Signal
from measurements.planted_hearts import ecg_of, regular_heart, with_premature_beats
from measurements.planted_signals import response, skin_of

RATE = 250.0


def cleaned(*signals: Signal) -> CleanRecording:
    return measured_and_cleaned(Recording("S1", "", "lab", signals), rows="whole")[1]


def ecg(seconds: float, every: int = 0, channels: int = 1) -> Signal:
    heart = regular_heart(seconds, 66.0)
    heart = with_premature_beats(heart, every) if every else heart
    rows = [ecg_of(heart, seconds, RATE, seed=channel) for channel in range(channels)]
    return Signal.from_samples("ECG", "ecg", "mV", RATE, np.stack(rows))


def beats_of(*intervals: float, accepted: tuple[bool, ...] = ()) -> Beats:
    times = 1.0 + np.concatenate(([0.0], np.cumsum(intervals)))
    known = np.array([False, *(accepted or (True,) * len(intervals))])
    return Beats(times, np.where(known, np.concatenate(([np.nan], intervals)), np.nan), np.full(len(times), 1.0), "ECG")


def test_kinds_of_beats_are_those_of_the_intervals_that_end_with_them() -> None:
    beats = beats_of(0.8, 0.5, 1.1, 3.0, 0.8, accepted=(True, False, False, False, True))
    assert beat_kinds(beats).tolist() == [FIRST, ACCEPTED, REJECTED, REJECTED, FIRST, ACCEPTED]
    assert intervals_before(beats) == pytest.approx([np.nan, 0.8, 0.5, 1.1, np.nan, 0.8], nan_ok=True)
    assert len(beat_kinds(Beats(*(np.empty(0),) * 3, "ECG"))) == 0


def test_poincare_is_that_of_neurokit() -> None:
    import neurokit2 as nk

    heart = regular_heart(300.0, 66.0)
    intervals = np.diff(heart.times)
    expected = nk.hrv_nonlinear(np.round(heart.times * 10_000).astype(int), sampling_rate=10_000).iloc[0]
    pairs = poincare(beats_of(*intervals))
    assert len(pairs.after) == len(intervals) - 1
    assert pairs.sd1 == pytest.approx(expected["HRV_SD1"], rel=2e-3)
    assert pairs.sd2 == pytest.approx(expected["HRV_SD2"], rel=2e-3)


def test_pairs_across_an_interval_that_was_not_accepted_are_no_pairs() -> None:
    beats = beats_of(0.8, 0.9, 0.5, 1.0, 0.7, accepted=(True, True, False, True, True))
    pairs = poincare(beats)
    assert pairs.before.tolist() == pytest.approx([800.0, 1000.0])
    assert pairs.after.tolist() == pytest.approx([900.0, 700.0])
    alone = poincare(beats_of(0.8))
    assert len(alone.after) == 0 and np.isnan(alone.sd1) and np.isnan(alone.sd2)


def test_bands_of_the_spectrum_hold_the_power_that_is_stated() -> None:
    clean = cleaned(ecg(620.0))
    spectrum = interval_spectrum(clean.beats, 620.0)
    assert spectrum is not None and (spectrum.n_stretches, spectrum.stretch_seconds) == (3, 300.0)
    step = spectrum.frequency[1] - spectrum.frequency[0]
    for stated, (low, high) in ((spectrum.low, LF_HZ), (spectrum.high, HF_HZ)):
        inside = (spectrum.frequency >= low) & (spectrum.frequency < high)
        assert spectrum.density[inside].sum() * step == pytest.approx(stated, rel=0.03)
    # Planted: 4 % of the interval at 0.25 Hz, 2 % at 0.1 Hz; a sine's power is half the square of its height.
    interval = 60_000.0 / 66.0
    assert spectrum.high == pytest.approx(0.5 * (0.04 * interval) ** 2, rel=0.15)
    assert spectrum.frequency[np.argmax(spectrum.density)] == pytest.approx(0.25, abs=0.01)


def test_too_short_or_too_sparse_intervals_have_no_spectrum() -> None:
    assert interval_spectrum(cleaned(ecg(50.0)).beats, 50.0) is None
    few = beats_of(*[0.8] * 300, accepted=(True, False, False) * 100)
    assert interval_spectrum(few, 241.0) is None


def test_pieces_of_a_signal_lie_where_the_events_are() -> None:
    ramp = Signal.from_samples("EDA", "eda", "uS", 4.0, np.arange(400.0))
    waves = waves_around(np.array([10.1, 99.0]), ramp, 0, (-1.0, 2.0))
    assert waves.seconds.tolist() == pytest.approx(np.arange(-4, 9) / 4.0)
    assert waves.values[0] == pytest.approx(4.0 * (10.1 + waves.seconds))
    assert np.isnan(waves.values[1, waves.seconds > 0.75]).all()
    assert waves.mean[-1] == pytest.approx(4.0 * 12.1)
    many = waves_around(np.linspace(10, 90, 20_000), ramp, 0, (0.0, 1.0))
    assert len(many.values) == 5000


def test_a_mean_beat_peaks_where_its_beats_are_and_odd_waves_are_unlike_it() -> None:
    clean = cleaned(ecg(300.0, every=15))
    kinds = beat_kinds(clean.beats)
    waves = beat_waves(clean, kinds == ACCEPTED)
    assert waves is not None and len(waves.values) == (kinds == ACCEPTED).sum()
    assert waves.seconds[np.argmax(waves.mean)] == pytest.approx(0.0, abs=0.01)
    values = waves.values.copy()
    values[7], values[9, 0] = -values[7], np.nan
    alike = likeness(Waves(waves.seconds, values))
    assert alike[7] < -0.8 and alike[9] == 0.0
    assert np.delete(alike, [7, 9]).min() > 0.9
    expected = np.corrcoef(values[3], np.nanmean(values, axis=0))[0, 1]
    assert alike[3] == pytest.approx(expected)


def test_responses_are_aligned_at_their_onset() -> None:
    onsets = np.arange(20.0, 280.0, 30.0)
    clean = cleaned(Signal.from_samples("EDA", "eda", "uS", 8.0, skin_of(onsets, 0.4, 300.0, 8.0)))
    waves = response_waves(clean.responses, clean.recording.signal("EDA"), 0)
    assert len(waves.values) == len(onsets) == len(clean.responses)
    assert waves.values[:, waves.seconds == 0] == pytest.approx(0.0)
    planted = 0.4 * response(waves.seconds)
    assert waves.mean.max() == pytest.approx(planted.max(), rel=0.1)
    peaks = [waves.seconds[np.argmax(row)] for row in (waves.mean, planted)]
    assert peaks[0] == pytest.approx(peaks[1], abs=0.3)


def test_spectra_of_regions_are_those_of_welch() -> None:
    from scipy.signal import welch

    random = np.random.default_rng(5)
    rows = random.normal(0, 10, (4, 128 * 60)) + 20 * np.sin(2 * np.pi * 10 * np.arange(128 * 60) / 128)
    names = ("F3", "F4", "O1", "X1")
    eeg = Signal.from_samples("EEG", "eeg", "uV", 128.0, rows, tuple(Channel(name) for name in names))
    frequency, spectra, n = eeg_spectra(eeg)
    expected_hz, expected = welch(rows, 128.0, nperseg=512, detrend="constant")
    assert frequency == pytest.approx(expected_hz) and n == 29
    assert set(spectra) == {"frontal", "occipital", "other"}
    assert spectra["frontal"][1:-1] == pytest.approx(expected[:2].mean(axis=0)[1:-1])
    assert spectra["other"][1:-1] == pytest.approx(expected[3][1:-1])


def test_the_share_of_a_stretch_that_intervals_cover() -> None:
    beats = beats_of(*[1.0] * 20, accepted=(True,) * 10 + (False,) * 10)  # accepted from second 1 to 11
    shares = covered_share(beats.times, beats.intervals, np.array([0.0, 1.0, 6.0, 11.0]), 10.0)
    assert shares == pytest.approx([0.9, 1.0, 0.5, 0.0])


@pytest.fixture
def flat() -> Signal:
    return Signal.from_samples("EDA", "eda", "uS", 4.0, np.ones(4 * 200))


def test_excerpts_are_the_highest_the_median_and_the_lowest_and_do_not_overlap(flat: Signal) -> None:
    by_start = {start: float(start) for start in range(0, 200, 10)}

    def scores(starts: NDArray[np.float64], length: float) -> NDArray[np.float64]:
        assert length == 20.0
        return np.array([by_start[round(start)] for start in starts])

    chosen = excerpts_of(flat, 0, 20.0, scores)
    assert [(one.word, one.start_seconds) for one in chosen] == [(BEST, 180.0), (ORDINARY, 90.0), (WORST, 0.0)]
    assert [one.score for one in chosen] == [180.0, 90.0, 0.0]


def test_equal_scores_give_the_middle_and_masked_stretches_none(flat: Signal) -> None:
    (only,) = excerpts_of(flat, 0, 20.0, lambda starts, length: np.ones(len(starts)))
    assert (only.word, only.start_seconds) == (MIDDLE, 90.0)
    samples = np.full(800, np.nan)
    samples[: 4 * 25] = 1.0
    seen = excerpts_of(flat.with_samples(samples, 4.0), 0, 20.0, lambda starts, length: starts)
    assert [one.start_seconds for one in seen] == [10.0]  # the one before overlaps it, the others are masked
    assert excerpts_of(flat.with_samples(np.full(800, np.nan), 4.0), 0, 20.0, lambda starts, length: starts) == ()
    short = excerpts_of(flat.with_samples(np.ones(40), 4.0), 0, 20.0, lambda starts, length: np.zeros(len(starts)))
    assert [(one.word, one.length_seconds) for one in short] == [(MIDDLE, 10.0)]


def test_the_worst_excerpt_of_a_heart_is_where_noise_was_planted() -> None:
    samples = ecg(300.0).read()[0]
    samples[round(200 * RATE) : round(215 * RATE)] += np.random.default_rng(2).normal(0, 1.5, round(15 * RATE))
    clean = cleaned(Signal.from_samples("ECG", "ecg", "mV", RATE, samples))
    signal = heart_wave(clean)
    assert signal is not None
    best, _, worst = excerpts_of(signal, 0, 20.0, heart_scores(clean))
    assert worst.start_seconds <= 200.0 and worst.end_seconds >= 210.0 and worst.score < 0.8
    assert best.score > 0.95


def test_the_worst_excerpt_of_an_eeg_is_where_its_waves_are_large() -> None:
    random = np.random.default_rng(4)
    shared = random.normal(0, 20, 250 * 60)
    rows = np.stack([shared + random.normal(0, 15, 250 * 60) for _ in range(6)])
    rows[:, 250 * 40 : 250 * 44] *= 3.0
    channels = tuple(Channel(name) for name in ("F3", "F4", "C3", "C4", "O1", "O2"))
    clean = cleaned(Signal.from_samples("EEG", "eeg", "uV", 250.0, rows, channels))
    eeg = clean.recording.signal("EEG")
    chosen = {one.word: one for one in excerpts_of(eeg, 0, 5.0, eeg_scores(clean, eeg))}
    assert chosen[WORST].start_seconds <= 41.0 and chosen[WORST].end_seconds >= 43.0
    assert chosen[WORST].score < 0.7 * chosen[BEST].score


def test_the_channel_that_beats_were_looked_for_in_is_known() -> None:
    signal = ecg(120.0, channels=3)
    samples = signal.read()
    samples[0, : round(60 * RATE)] = np.nan
    samples[1, : round(30 * RATE)] = np.nan
    clean = cleaned(signal.with_samples(samples, RATE))
    assert clean.used_channel == {"ECG": 2}
    assert "channel ECG3" in " ".join(clean.notes)
