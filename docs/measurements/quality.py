"""Errors of heart rate, RMSSD, breaths and skin responses against the quality index, with noise, motion and loss.

Every trial is a recording of four minutes of which everything is known, with one damage of one size. Each of its
windows of a minute gives one index and, for each measure, one error or nothing, where no value is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from biopercept.preprocessing.cleaning import CleanRecording, clean_recording
from biopercept.preprocessing.features import window_means
from biopercept.preprocessing.quality import BANDS, band_of
from biopercept.preprocessing.variability import NAMES, interval_features
from biopercept.preprocessing.windows import level, windowed
from biopercept.recording import Recording, Signal
from measurements.planted_hearts import Samples, ecg_of, pulse_of, regular_heart
from measurements.planted_signals import PEAK_SECONDS, breath_peaks, chest_of, skin_of

SECONDS, WINDOW = 240.0, 60.0
ONSETS = np.arange(0.0, SECONDS, WINDOW)
RATES = {"ecg": 250.0, "bvp": 64.0, "eda": 4.0, "resp": 25.0}
UNITS = {"ecg": "mV", "bvp": "a.u.", "eda": "uS", "resp": "a.u."}
DAMAGES: dict[str, tuple[float, ...]] = {
    "noise": (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
    "motion": (0.05, 0.15, 0.3, 0.5, 0.7, 0.9),
    "loss": (0.05, 0.15, 0.3, 0.5, 0.7, 0.9),
}
"""Sizes of each damage: noise by the height of a wave; motion and loss by the share of the time."""

RATE_OF = {"ecg": "heart rate", "bvp": "heart rate", "eda": "responses", "resp": "breaths"}
"""The measure by which the borders of a modality are drawn."""

LIMITS = {"ecg": (10.0, 2.0), "bvp": (10.0, 2.0), "resp": (10.0, 2.0), "eda": (25.0, 10.0)}
"""Largest error of that measure, per cent, with care and without: of six skin responses a minute one is 17 %."""

_BURST_SECONDS = 4.0
_MOTION_HEIGHTS = 3.0


@dataclass(frozen=True)
class Window:
    """One window: the damage and its size, its index, and the error of a measure, per cent; NaN where none is given."""

    damage: str
    size: float
    measure: str
    index: float
    error: float


def trials(modality: str, seeds: Iterable[int]) -> Iterator[Window]:
    """Give every window of every damage and size, by seeds."""
    for seed in seeds:
        for damage, sizes in DAMAGES.items():
            for size in sizes:
                rng = np.random.default_rng([seed, int(1000 * size), len(damage)])
                yield from _windows(modality, damage, size, rng)


def _windows(modality: str, damage: str, size: float, rng: np.random.Generator) -> Iterator[Window]:
    samples, truth = _planted(modality, rng)
    clean = _cleaned(modality, damaged(samples, RATES[modality], damage, size, rng))
    if clean is None:
        return
    index = window_means(clean.ratings[modality.upper()].index, ONSETS, WINDOW)
    for measure, values in _measured(modality, clean).items():
        errors = 100.0 * np.abs(values / truth[measure] - 1.0)
        yield from (Window(damage, size, measure, float(i), float(e)) for i, e in zip(index, errors, strict=True))


def _planted(modality: str, rng: np.random.Generator) -> tuple[Samples, dict[str, Samples]]:
    """Return a signal and, window by window, the truth of each of its measures."""
    seed, rate = int(rng.integers(1 << 30)), RATES[modality]
    if modality in ("ecg", "bvp"):
        heart = regular_heart(SECONDS, float(rng.uniform(55, 110)), seed=seed)
        make = ecg_of if modality == "ecg" else pulse_of
        values = _heart(heart.times, heart.intervals)
        return make(heart, SECONDS, rate, noise=0.01 if modality == "ecg" else 0.3, seed=seed), values
    if modality == "resp":
        peaks = breath_peaks(float(rng.uniform(9, 22)), SECONDS, 0.05, seed)
        periods = [np.diff(peaks)[(peaks[1:] >= start) & (peaks[1:] < start + WINDOW)].mean() for start in ONSETS]
        return chest_of(peaks, SECONDS, rate), {"breaths": 60.0 / np.array(periods)}
    onsets = np.cumsum(rng.uniform(6.0, 14.0, int(SECONDS)))
    onsets = onsets[onsets < SECONDS - 6.0]
    skin = skin_of(onsets, 0.3, SECONDS, rate) + rng.normal(0, 0.0005, round(SECONDS * rate))
    n = [float(((onsets + PEAK_SECONDS >= start) & (onsets + PEAK_SECONDS < start + WINDOW)).sum()) for start in ONSETS]
    return skin, {"responses": np.array(n)}


def damaged(samples: Samples, rate: float, damage: str, size: float, rng: np.random.Generator) -> Samples:
    """Return a signal with one damage, of the size as :data:`DAMAGES` counts it."""
    rows = np.atleast_2d(samples).copy()
    height = np.quantile(rows, 0.99) - np.quantile(rows, 0.01)
    if damage == "noise":
        rows += size * height * rng.normal(size=rows.shape)
    elif damage == "motion":
        where = _bursts(rows.shape[1], rate, size, rng)
        walk = np.cumsum(rng.normal(size=rows.shape), axis=1)
        n = max(round(0.4 * rate), 1)
        sway = walk - np.stack([np.convolve(row, np.ones(n) / n, "same") for row in walk])
        rows += where * _MOTION_HEIGHTS * height * sway / sway.std()
    else:
        rows[:, _bursts(rows.shape[1], rate, size, rng)] = np.nan
    return rows


def _bursts(n: int, rate: float, share: float, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return stretches of some seconds that cover a share of the time."""
    blocks = max(round(n / rate / _BURST_SECONDS), 1)
    is_hit = rng.permutation(blocks) < share * blocks
    return np.asarray(np.repeat(is_hit, int(np.ceil(n / blocks)))[:n])


def _cleaned(modality: str, samples: Samples) -> CleanRecording | None:
    from biopercept.errors import RecordingError

    signal = Signal.from_samples(modality.upper(), modality, UNITS[modality], RATES[modality], samples)
    try:
        return clean_recording(Recording("S1", "", "made", (signal,)))
    except RecordingError:
        return None


def _heart(times: Samples, intervals: Samples) -> dict[str, Samples]:
    """Return heart rate and RMSSD of each window of planted beats."""
    rates, changes = [], []
    for start in ONSETS:
        inside = intervals[(times >= start) & (times < start + WINDOW) & np.isfinite(intervals)]
        rates.append(60.0 / inside.mean())
        changes.append(1000.0 * np.sqrt(np.mean(np.square(np.diff(inside)))))
    return {"heart rate": np.array(rates), "RMSSD": np.array(changes)}


def _measured(modality: str, clean: CleanRecording) -> dict[str, Samples]:
    """Return the measures of each window, NaN where none is given."""
    if modality in ("ecg", "bvp"):
        table = dict(zip(NAMES, interval_features(clean.beats, ONSETS, WINDOW).T, strict=True))
        return {"heart rate": 60_000.0 / table["mean_nn"], "RMSSD": np.expm1(table["log_rmssd"])}
    if modality == "resp":
        series = clean.recording.signals_of("resp_rate")
        given = level(windowed(series[0].read()[0], ONSETS, WINDOW)) if series else np.full(len(ONSETS), np.nan)
        return {"breaths": given}
    searched = clean.responses.searched_seconds(ONSETS, WINDOW)
    times = clean.responses.times
    n = np.array([((times >= start) & (times < start + WINDOW)).sum() for start in ONSETS], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"responses": np.where(searched >= 0.5 * WINDOW, n * WINDOW / searched, np.nan)}


def border(windows: Iterable[Window], measure: str, percent: float) -> float:
    """Return the lowest index, in steps of 0.05, from which nineteen of twenty windows are as near to the truth.

    A window for which no value is given is not. It holds for the tenth above each step, as far as that has ten windows,
    and so for every step above; 1 where there is no such border.
    """
    all_of_it = [(one.index, one.error) for one in windows if one.measure == measure]
    index, error = (np.array(column) for column in zip(*all_of_it, strict=True))
    lowest = 1.0
    for step in np.arange(19, -1, -1) / 20.0:
        inside = error[(index >= step) & (index <= step + 0.1 + 1e-9)]
        if len(inside) >= 10 and np.mean(inside <= percent) < 0.95:
            break
        lowest = float(step)
    return lowest


def borders(windows: Sequence[Window], modality: str) -> tuple[float, float]:
    """Return the index from which a sensor is believed with care, and without."""
    with_care, believed = (border(windows, RATE_OF[modality], limit) for limit in LIMITS[modality])
    return with_care, believed


def in_bands(windows: Iterable[Window], modality: str) -> dict[str, list[float]]:
    """Return the errors of the border's measure in each band that the code has; NaN where no value is given."""
    out: dict[str, list[float]] = {name: [] for name in BANDS}
    for one in windows:
        if one.measure == RATE_OF[modality]:
            out[band_of(one.index, modality)].append(one.error)
    return out
