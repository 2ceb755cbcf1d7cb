"""Made signals of a body at rest and under stress: simple, seeded, with known beats and responses.

Every function takes a random generator and gives plain arrays. ``stress`` is a series between 0 and 1 at the rate asked
for: 0 at rest, rising and falling slowly at the borders of stages, scaled by how strongly the person responds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

EEG_CHANNELS = ("Fz", "Cz", "Pz", "Oz")
_ALPHA_BY_CHANNEL = np.array([0.35, 0.5, 0.85, 1.0])
_THETA_BY_CHANNEL = np.array([1.0, 0.75, 0.4, 0.25])
_BLINK_BY_CHANNEL = np.array([1.0, 0.45, 0.15, 0.05])

# Waves of one beat: seconds from the R peak (at a beat interval of 1 s), width in seconds, height in mV.
_WAVES = (
    (-0.17, 0.022, 0.11),
    (-0.030, 0.010, -0.10),
    (0.0, 0.011, 1.0),
    (0.032, 0.010, -0.22),
    (0.25, 0.045, 0.28),
)


@dataclass(frozen=True)
class Person:
    """What one made person's body does; rates per minute, amplitudes in the signal's unit.

    Attributes
    ----------
    response : float
        How strongly stress acts, 1 is the usual person, 0 nobody at all.
    """

    heart_rate: float
    breathing_rate: float
    skin_conductance: float
    scr_rate: float
    scr_amplitude: float
    skin_temperature: float
    r_peak_mv: float
    alpha_uv: float
    alpha_hz: float
    theta_uv: float
    response: float


def draw_person(random: np.random.Generator, response: float) -> Person:
    """Return a person with baselines drawn so widely that people overlap whatever their state."""
    return Person(
        heart_rate=float(np.clip(random.normal(70, 8), 54, 90)),
        breathing_rate=float(np.clip(random.normal(14, 1.8), 10, 18)),
        skin_conductance=float(np.exp(random.normal(np.log(4.0), 0.45))),
        scr_rate=float(np.clip(random.normal(2.5, 0.8), 1.0, 4.5)),
        scr_amplitude=float(np.exp(random.normal(np.log(0.16), 0.35))),
        skin_temperature=float(random.normal(33.0, 0.8)),
        r_peak_mv=float(np.clip(random.normal(1.1, 0.25), 0.6, 1.7)),
        alpha_uv=float(np.exp(random.normal(np.log(9.0), 0.35))),
        alpha_hz=float(np.clip(random.normal(10.0, 0.6), 8.8, 11.4)),
        theta_uv=float(np.exp(random.normal(np.log(4.0), 0.25))),
        response=response,
    )


def coloured_noise(random: np.random.Generator, n_samples: int, sampling_rate: float, slope: float) -> Series:
    """Return noise of standard deviation 1 whose power falls as frequency to the power ``slope``."""
    spectrum = np.fft.rfft(random.standard_normal(n_samples))
    frequency = np.fft.rfftfreq(n_samples, 1 / sampling_rate)
    shape = np.zeros_like(frequency)
    shape[1:] = np.maximum(frequency[1:], 0.01) ** (-slope / 2)
    noise = np.fft.irfft(spectrum * shape, n_samples)
    return np.asarray(noise / noise.std())


def narrow_noise(
    random: np.random.Generator, n_samples: int, sampling_rate: float, centre_hz: float, width_hz: float
) -> Series:
    """Return noise of standard deviation 1 around one frequency: a rhythm that waxes and wanes."""
    spectrum = np.fft.rfft(random.standard_normal(n_samples))
    frequency = np.fft.rfftfreq(n_samples, 1 / sampling_rate)
    noise = np.fft.irfft(spectrum * np.exp(-0.5 * ((frequency - centre_hz) / width_hz) ** 2), n_samples)
    return np.asarray(noise / noise.std())


def smooth_steps(is_stress: Series, sampling_rate: float, rise_seconds: float, fall_seconds: float) -> Series:
    """Return a 0/1 series as a body follows it: exponential rise and fall with the given time constants."""
    followed = np.empty_like(is_stress)
    level = 0.0
    rise, fall = 1 / (rise_seconds * sampling_rate), 1 / (fall_seconds * sampling_rate)
    for i, goal in enumerate(is_stress):
        level += (goal - level) * (rise if goal > level else fall)
        followed[i] = level
    return followed


def breathing(
    random: np.random.Generator, person: Person, stress: Series, sampling_rate: float
) -> tuple[Series, Series]:
    """Return the respiration belt (arbitrary unit) and the phase of breathing, radians; faster under stress."""
    n = len(stress)
    wander = 0.9 * coloured_noise(random, n, sampling_rate, 1.5)
    rate = np.clip(person.breathing_rate + 2.6 * person.response * stress + wander, 7, 30)
    phase = 2 * np.pi * np.cumsum(rate / 60) / sampling_rate
    depth = 1 + 0.15 * coloured_noise(random, n, sampling_rate, 1.5) - 0.12 * person.response * stress
    belt = depth * (np.sin(phase) + 0.18 * np.sin(2 * phase + 0.6))
    belt += 0.15 * coloured_noise(random, n, sampling_rate, 2.0) + 0.02 * random.standard_normal(n)
    return belt, phase


def beat_times(
    random: np.random.Generator, person: Person, stress: Series, phase: Series, sampling_rate: float
) -> Series:
    """Return R-peak times, seconds: a rate that stress raises, breathing and slow waves sway, beat by beat."""
    n = len(stress)
    sway = 3.2 * (1 - 0.35 * person.response * stress) * np.sin(phase)
    slow = 1.6 * narrow_noise(random, n, sampling_rate, 0.1, 0.02) + 1.8 * coloured_noise(random, n, sampling_rate, 2.0)
    rate = np.clip(person.heart_rate + 6.0 * person.response * stress + sway + slow, 40, 160)
    turns = np.cumsum(rate / 60) / sampling_rate
    seconds = np.arange(n) / sampling_rate
    beats = np.interp(np.arange(1, int(turns[-1])), turns, seconds)
    return np.asarray(beats + 0.006 * random.standard_normal(len(beats)))


def electrocardiogram(
    random: np.random.Generator, person: Person, beats: Series, phase: Series, n_samples: int, sampling_rate: float
) -> Series:
    """Return an ECG in mV: P, Q, R, S and T waves at the given beats, baseline wander and noise.

    ``phase`` is the breathing phase at ``sampling_rate``.
    """
    seconds = np.arange(n_samples) / sampling_rate
    signal = 0.05 * np.sin(phase) + 0.06 * coloured_noise(random, n_samples, sampling_rate, 2.0)
    signal += 0.02 * random.standard_normal(n_samples) + 0.01 * np.sin(2 * np.pi * 50 * seconds)
    intervals = np.diff(beats, append=beats[-1] + np.median(np.diff(beats)))
    for beat, interval in zip(beats, intervals, strict=True):
        first, last = (int(i) for i in np.searchsorted(seconds, (beat - 0.35, beat + 0.55)))
        near = seconds[first:last] - beat
        height = person.r_peak_mv * (1 + 0.03 * random.standard_normal())
        for delay, width, size in _WAVES:
            # P and T move with the length of the beat, the QRS complex hardly does.
            moved = delay * np.sqrt(interval) if abs(delay) > 0.1 else delay
            signal[first:last] += height * size * np.exp(-0.5 * ((near - moved) / width) ** 2)
    return np.asarray(signal)


def skin_conductance(random: np.random.Generator, person: Person, stress: Series, sampling_rate: float) -> Series:
    """Return EDA in uS: a drifting level and responses that come more often under stress."""
    n = len(stress)
    level = person.skin_conductance * (1 + 0.06 * coloured_noise(random, n, sampling_rate, 2.5))
    level += 0.05 * person.skin_conductance * person.response * stress
    rate = (person.scr_rate + 5.0 * person.response * stress) / 60 / sampling_rate
    onsets = np.flatnonzero(random.random(n) < rate)
    since = np.arange(int(25 * sampling_rate)) / sampling_rate
    shape = np.exp(-since / 3.0) - np.exp(-since / 0.7)
    shape /= shape.max()
    for onset in onsets.tolist():
        amplitude = person.scr_amplitude * np.exp(0.5 * random.standard_normal())
        length = min(len(shape), n - onset)
        level[onset : onset + length] += amplitude * shape[:length]
    return np.asarray(np.maximum(level, 0.05) + 0.004 * random.standard_normal(n))


def skin_temperature(random: np.random.Generator, person: Person, stress: Series, sampling_rate: float) -> Series:
    """Return the skin temperature in degC: slow wandering, a little lower under stress."""
    n = len(stress)
    wander = 0.15 * coloured_noise(random, n, sampling_rate, 2.5)
    return np.asarray(
        person.skin_temperature + wander - 0.12 * person.response * stress + 0.01 * random.standard_normal(n)
    )


def electroencephalogram(random: np.random.Generator, person: Person, stress: Series, sampling_rate: float) -> Series:
    """Return EEG in uV, shape (4, n_samples): background, less alpha and more frontal theta under stress, blinks."""
    n = len(stress)
    seconds = np.arange(n) / sampling_rate
    alpha = narrow_noise(random, n, sampling_rate, person.alpha_hz, 0.8) * person.alpha_uv
    theta = narrow_noise(random, n, sampling_rate, 6.0, 0.8) * person.theta_uv
    alpha = alpha * (1 - 0.3 * person.response * stress)
    theta = theta * (1 + 0.35 * person.response * stress)
    shared = 4.0 * coloured_noise(random, n, sampling_rate, 1.2)
    rows = []
    for by_alpha, by_theta in zip(_ALPHA_BY_CHANNEL, _THETA_BY_CHANNEL, strict=True):
        noise = 5.0 * coloured_noise(random, n, sampling_rate, 1.1) + 1.5 * random.standard_normal(n)
        line = 1.0 * np.sin(2 * np.pi * 50 * seconds + random.uniform(0, 2 * np.pi))
        rows.append(by_alpha * alpha + by_theta * theta + shared + noise + line)
    return np.stack(rows) + _BLINK_BY_CHANNEL[:, None] * _blinks(random, seconds)


def _blinks(random: np.random.Generator, seconds: Series) -> Series:
    trace = np.zeros_like(seconds)
    moment = float(random.exponential(5.0))
    while moment < seconds[-1]:
        trace += random.normal(70, 12) * np.exp(-0.5 * ((seconds - moment) / 0.06) ** 2)
        moment += 0.6 + float(random.exponential(4.5))
    return trace
