"""Hearts whose every beat is known, and the ECG, pulse wave or device intervals that they would give."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

_ECG_WAVES = (  # seconds after the R-peak, width in seconds, height in mV: P, Q, R, S, T
    (-0.16, 0.025, 0.12),
    (-0.028, 0.009, -0.12),
    (0.0, 0.011, 1.0),
    (0.028, 0.010, -0.22),
    (0.2, 0.035, 0.25),
)
_PREMATURE_WAVES = ((0.0, 0.03, 1.2), (0.22, 0.06, -0.35))  # ventricular: wide, and its T wave upside down


@dataclass(frozen=True, eq=False)
class Heart:
    """Beats of a heart, seconds, and which of them the sinus node gave; both (n,)."""

    times: Samples
    is_sinus: NDArray[np.bool_]

    @property
    def intervals(self) -> Samples:
        """Return the interval that ends at each beat, seconds; NaN where one of its ends is no sinus beat."""
        out = np.full(len(self.times), np.nan)
        out[1:] = np.where(self.is_sinus[1:] & self.is_sinus[:-1], np.diff(self.times), np.nan)
        return out

    def without(self, start: float, stop: float) -> Heart:
        """Return the heart as seen by somebody who looked away from ``start`` to ``stop``: no interval spans it."""
        is_seen = (self.times < start) | (self.times >= stop)
        is_sinus = self.is_sinus & is_seen
        return Heart(self.times, is_sinus)


def regular_heart(
    seconds: float,
    rate: float,
    *,
    swing: float = 0.04,
    breathing_hz: float = 0.25,
    slow_swing: float = 0.02,
    seed: int = 0,
) -> Heart:
    """Return a sinus rhythm of ``rate`` beats a minute.

    Its intervals swing with breathing by the fraction ``swing``, at 0.1 Hz by ``slow_swing``, and by 0.5 % at random.
    """
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, 2)
    times = [0.4]
    while times[-1] < seconds:
        t = times[-1]
        change = swing * np.sin(2 * np.pi * breathing_hz * t + phase[0]) + slow_swing * np.sin(
            0.2 * np.pi * t + phase[1]
        )
        times.append(t + 60.0 / rate * (1 + change + 0.005 * rng.normal()))
    beats = np.array(times[:-1])
    return Heart(beats, np.ones(len(beats), dtype=bool))


def with_premature_beats(heart: Heart, every: int, *, early: float = 0.35) -> Heart:
    """Return the heart with each ``every``-th beat early by that fraction of its interval, the next one in time."""
    times = heart.times.copy()
    is_sinus = heart.is_sinus.copy()
    at = np.arange(every, len(times) - 2, every)
    times[at] -= early * np.diff(heart.times)[at - 1]
    is_sinus[at] = False
    return replace(heart, times=times, is_sinus=is_sinus)


def ecg_of(heart: Heart, seconds: float, sampling_rate: float, *, noise: float = 0.02, seed: int = 1) -> Samples:
    """Return an ECG, mV, with wander of breathing and white noise; beats that are not of the sinus node are wide.

    The P and T waves come closer to the QRS complex as the heart beats faster (by the square root of the interval).
    """
    n = round(seconds * sampling_rate)
    t = np.arange(n) / sampling_rate
    out = 0.1 * np.sin(2 * np.pi * 0.2 * t) + np.random.default_rng(seed).normal(0, noise, n)
    pace = np.sqrt(np.minimum(np.median(np.diff(heart.times)), 1.0))
    for beat, is_sinus in zip(heart.times, heart.is_sinus, strict=True):
        for delay, width, height in _ECG_WAVES if is_sinus else _PREMATURE_WAVES:
            slow = pace if abs(delay) > 0.1 else 1.0
            _add_wave(out, beat + slow * delay, slow * width, height, sampling_rate)
    return out


def pulse_of(heart: Heart, seconds: float, sampling_rate: float, *, noise: float = 1.0, seed: int = 2) -> Samples:
    """Return a pulse wave of height 50 that peaks at every beat, weaker after a premature one, with white noise."""
    n = round(seconds * sampling_rate)
    out = np.random.default_rng(seed).normal(0, noise, n)
    intervals = np.diff(heart.times, prepend=heart.times[0] - np.median(np.diff(heart.times)))
    pace = np.sqrt(np.minimum(np.median(intervals), 1.0))
    for beat, interval in zip(heart.times, intervals, strict=True):
        filling = np.clip(interval / np.median(intervals), 0.5, 1.2)
        _add_wave(out, beat, 0.09 * pace, 50.0 * filling, sampling_rate)
        _add_wave(out, beat + 0.27 * pace, 0.1 * pace, 15.0 * filling, sampling_rate)
    return out


def _add_wave(out: Samples, at: float, width: float, height: float, sampling_rate: float) -> None:
    low = max(int((at - 6 * width) * sampling_rate), 0)
    high = min(int((at + 6 * width) * sampling_rate) + 1, len(out))
    if high > low:
        out[low:high] += height * np.exp(-0.5 * ((np.arange(low, high) / sampling_rate - at) / width) ** 2)
