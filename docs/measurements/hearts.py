"""Heart values beside planted beats: a grid of heart rates, sampling rates and difficulties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from biopercept.preprocessing.cardiac import Beats, bvp_beats, device_beats, ecg_beats
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.variability import NAMES, interval_features
from biopercept.recording import Signal
from measurements.planted_hearts import Heart, Samples, ecg_of, pulse_of, regular_heart, with_premature_beats

HEART_RATES = (35, 50, 75, 100, 140, 180, 200, 220)
SAMPLING_RATES = {
    "ecg": (80, 100, 128, 250, 360, 500, 700, 1000, 2000),
    "bvp": (32, 64, 100, 125, 250, 700),
    "ibi": (4,),
}
TITLES = {"ecg": "ECG", "bvp": "Pulse wave", "ibi": "Intervals of a device"}
MEASURES = ("mean_nn", "sdnn", "rmssd")
MATCH_SECONDS = 0.075
"""A beat found this near a true one is that beat."""

_UNITS = {"ecg": "mV", "bvp": "a.u.", "ibi": "s"}
_SETTINGS = CleaningSettings()


@dataclass(frozen=True)
class Difficulty:
    """What makes a recording hard: length, rhythm, noise as a fraction of the wave's height, sign, and losses."""

    seconds: float = 120.0
    swing: float = 0.04
    breathing_hz: float = 0.25
    noise: float = 0.02
    sign: float = 1.0
    premature_every: int = 0
    lost: tuple[tuple[float, float], ...] = ()
    max_rate: float = 240.0


DIFFICULTIES: dict[str, Difficulty] = {
    "nothing": Difficulty(),
    "noise, a tenth of the wave": Difficulty(noise=0.1),
    "upside down": Difficulty(sign=-1.0),
    "upside down, with noise": Difficulty(sign=-1.0, noise=0.1),
    "intervals swing by 25 % (to 100 a minute)": Difficulty(swing=0.25, breathing_hz=0.13, max_rate=100),
    "every 12th beat premature (to 140 a minute)": Difficulty(premature_every=12, max_rate=140),
    "gaps of 0.1, 3 and 8 s": Difficulty(lost=((20.0, 20.1), (40.0, 43.0), (80.0, 88.0))),
    "45 s long": Difficulty(seconds=45.0),
    "20 s long": Difficulty(seconds=20.0),
    "12 s long": Difficulty(seconds=12.0),
}
NOT_OF = {"bvp": ("upside down",), "ibi": ("upside down", "noise")}
"""Difficulties, by the beginning of their name, that a modality does not have."""


@dataclass(frozen=True)
class Outcome:
    """How far a recording's values are from the planted ones.

    Errors of mean NN, SDNN and RMSSD are in percent, NaN where the value is not given; ``missed`` and ``extra`` are
    the percent of true beats not found, and of found beats that are none; ``coverage`` is the fraction of the recording
    that accepted intervals cover.
    """

    mean_nn: float
    sdnn: float
    rmssd: float
    missed: float
    extra: float
    coverage: float


def planted(difficulty: Difficulty, heart_rate: float, seed: int = 0) -> Heart:
    """Return the heart of a cell of the grid."""
    swing, breathing_hz = difficulty.swing, difficulty.breathing_hz
    heart = regular_heart(difficulty.seconds, heart_rate, swing=swing, breathing_hz=breathing_hz, seed=seed)
    return with_premature_beats(heart, difficulty.premature_every) if difficulty.premature_every else heart


def beats_of(heart: Heart, modality: str, sampling_rate: float, difficulty: Difficulty, seed: int = 1) -> Beats:
    """Return the beats that the package finds in the wave, or the device intervals, of a heart."""
    if modality == "ibi":
        return _of_device(heart, difficulty)
    make = {"ecg": ecg_of, "bvp": pulse_of}[modality]
    height = {"ecg": 1.0, "bvp": 50.0}[modality]
    samples = make(heart, difficulty.seconds, sampling_rate, noise=difficulty.noise * height, seed=seed)
    samples *= difficulty.sign
    for start, stop in difficulty.lost:
        samples[round(start * sampling_rate) : round(stop * sampling_rate)] = np.nan
    signal = Signal.from_samples(modality.upper(), modality, _UNITS[modality], sampling_rate, samples)
    return {"ecg": ecg_beats, "bvp": bvp_beats}[modality](samples, signal, _SETTINGS)[0]


def _of_device(heart: Heart, difficulty: Difficulty) -> Beats:
    """Return beats as a device would report them: the end of each interval and its length, on a clock of 64 Hz."""
    ticks = np.round(64.0 * heart.times) / 64.0
    times, intervals = ticks[1:], np.diff(ticks)
    is_seen = np.ones(len(times), dtype=bool)
    for start, stop in difficulty.lost:
        is_seen &= (times < start) | (times - intervals >= stop)
    times, intervals = times[is_seen], intervals[is_seen]
    signal = replace(Signal.from_samples("IBI", "ibi", "s", 4.0, intervals), times=times)
    return device_beats(signal, intervals, _SETTINGS)


def outcome(heart: Heart, beats: Beats, difficulty: Difficulty) -> Outcome:
    """Return how far the values of the whole recording are from those of the planted beats that could be seen."""
    seen = heart
    for start, stop in difficulty.lost:
        seen = seen.without(start, stop)
    true = true_values(seen.intervals)
    values = given_values(beats, difficulty.seconds)
    errors = {name: abs(100.0 * (values[name] / true[name] - 1.0)) for name in MEASURES}
    should = seen.times[seen.is_sinus & (seen.times > 1.0) & (seen.times < difficulty.seconds - 1.0)]
    missed, extra = 100.0 * (1.0 - matched(should, beats.times)), 100.0 * (1.0 - matched(beats.times, heart.times))
    return Outcome(**errors, missed=missed, extra=extra, coverage=values["coverage"])


def true_values(intervals: Samples) -> dict[str, float]:
    """Return mean NN, SDNN and RMSSD, ms, of planted intervals in seconds, NaN where none may be used."""
    intervals, steps = 1000.0 * intervals, 1000.0 * np.diff(intervals)
    used, steps = intervals[np.isfinite(intervals)], steps[np.isfinite(steps)]
    return {"mean_nn": used.mean(), "sdnn": used.std(ddof=1), "rmssd": np.sqrt(np.mean(steps**2))}


def given_values(beats: Beats, seconds: float) -> dict[str, float]:
    """Return what the package gives for a window of that length from second zero, ms, NaN where it gives nothing."""
    row = dict(zip(NAMES, interval_features(beats, np.zeros(1), seconds)[0], strict=True))
    sdnn, rmssd = (float(np.exp(row[name]) - 1.0) for name in ("log_sdnn", "log_rmssd"))
    return {"mean_nn": float(row["mean_nn"]), "sdnn": sdnn, "rmssd": rmssd, "coverage": float(row["coverage"])}


def matched(times: Samples, others: Samples, within: float = MATCH_SECONDS) -> float:
    """Return the fraction of ``times`` with one of ``others`` within that many seconds; 1 where there are none."""
    if len(times) == 0:
        return 1.0
    if len(others) == 0:
        return 0.0
    after = np.clip(np.searchsorted(others, times), 1, max(len(others) - 1, 1))
    near = np.minimum(np.abs(others[after - 1] - times), np.abs(others[np.minimum(after, len(others) - 1)] - times))
    return float(np.mean(near <= within))


def cells(modality: str) -> Iterator[tuple[str, int, int]]:
    """Yield difficulty, heart rate and sampling rate of every cell of a modality's grid."""
    for name, difficulty in DIFFICULTIES.items():
        if name.startswith(NOT_OF.get(modality, ())):
            continue
        for heart_rate in HEART_RATES:
            if heart_rate <= difficulty.max_rate:
                yield from ((name, heart_rate, rate) for rate in SAMPLING_RATES[modality])


def grid(modality: str) -> dict[tuple[str, int, int], Outcome]:
    """Return the outcome of every cell of a modality's grid; minutes."""
    found = {}
    for name, heart_rate, sampling_rate in cells(modality):
        heart = planted(DIFFICULTIES[name], heart_rate)
        beats = beats_of(heart, modality, sampling_rate, DIFFICULTIES[name])
        found[name, heart_rate, sampling_rate] = outcome(heart, beats, DIFFICULTIES[name])
    return found
