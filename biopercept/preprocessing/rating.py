"""Rating: what is doubtful in signals that passed the cleaning, second by second, and the index that people read.

The index of a second is the share of it that is valid, times the smallest of the grades that the signal has there: a
minimum and not a product, so that it can be read ("0.4, because of noise"). What a grade of which measure is worth is
measured beside planted signals (docs/measurements/quality.md). Nothing here masks a sample.

References
----------
Boettcher et al. (2022), doi:10.1038/s41598-022-25949-x (a wrist device that is worn: skin conductance above 0.05 uS and
temperature of skin); Kleckner et al. (2018), doi:10.1109/TBME.2017.2758643 (temperature of a sensor off the skin; the
5 s around a fault of skin conductance); Bigdely-Shamlo et al. (2015), doi:10.3389/fninf.2015.00016 (hum beside the
signal's band).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biopercept.preprocessing.cardiac import Beats
from biopercept.preprocessing.derived import LOWEST_ACTIVITY, Derived, Measured
from biopercept.preprocessing.electrodermal import detection_limit
from biopercept.preprocessing.gaps import BoolArray, moving_mean, on_grid
from biopercept.preprocessing.quality import (
    ARTEFACT,
    IMPLAUSIBLE_BEATS,
    JUMP,
    MOTION,
    NO_BREATHING,
    NOISE,
    OFF_BODY,
    POWER_LINE,
    SPIKE,
    SignalQuality,
    grid_fraction,
    grid_mean,
    largest_by_second,
    per_second,
    rhythm_fraction,
)
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Signal

MOVING_G = 0.1
"""Movement (root mean square over a second, 0.5-15 Hz) from which a sensor counts as moving, g: as in a gesture."""

DRY_US = 0.05
"""Skin conductance below which no skin is felt, uS."""

COLD_DEGC = 25.0
"""Temperature below which no skin is felt, degC."""

STILL_G = 0.005
"""Movement below which a device lies on a table, g: a resting wrist has more, from heart and breath."""

_WORN_SECONDS = 31
_SIGNS_OFF = 3
_TIMING_GRADES = (0.002, 0.05)  # standard error of a beat's time, seconds: as good as an ECG, worth nothing
_DETECTION_GRADES = (0.02, 0.2)  # smallest skin response told from noise, uS: as in a quiet recording, worth nothing
_RHYTHM = {"ecg": IMPLAUSIBLE_BEATS, "bvp": IMPLAUSIBLE_BEATS, "resp": NO_BREATHING}
_HUMMING = frozenset({"ecg", "eeg", "emg", "eog"})
_MOVED = frozenset({"bvp", "eda", "temp", "resp", "ecg"})
_WORN = frozenset({"bvp", "eda", "temp", "hr", "ibi"})
_DOUBTFUL_SECONDS = 5
_LEAKAGE_HZ = 2.0  # of a Hann window of a second
_MUSCLE_Z = 5.0
_LEAST_SPREAD = 0.2  # log units: what band power of a second scatters by, when nothing changes


class Grades:
    """Grades of one signal, 1 good to 0 useless, and the share of each second that each reason spoils."""

    def __init__(self, one: Measured) -> None:
        self.valid = one.losses.valid
        self.shares = {name: share.copy() for name, share in one.losses.shares.items()}
        self.lowest = np.ones_like(self.valid)

    def grade(self, reason: str, grades: NDArray[np.floating], spoilt: FloatArray | BoolArray | None = None) -> None:
        """Lower the index to ``grades``, (n_channels or 1, n_seconds), for a reason.

        The reason gets what is spoilt of each second; where that is not given, what the grades lack of 1.
        """
        grades = np.broadcast_to(grades, self.valid.shape)
        share = self.valid * (1.0 - grades if spoilt is None else np.broadcast_to(spoilt, self.valid.shape))
        self.lowest = np.minimum(self.lowest, grades)
        if (share > 0).any():
            self.shares[reason] = np.minimum(self.shares.get(reason, 0.0) + share, 1.0)

    def name(self, reason: str, spoilt: FloatArray | BoolArray) -> None:
        """Put what is spoilt to a reason that does not lower the index by itself."""
        self.grade(reason, np.ones((1, 1)), spoilt)

    def quality(self) -> SignalQuality:
        """Return the quality that they make."""
        return SignalQuality(self.valid * self.lowest, self.shares, self.valid)


def ratings(
    measured: Sequence[Measured], derived: Derived, n_seconds: int, settings: CleaningSettings
) -> dict[str, SignalQuality]:
    """Return the quality of every measured signal, by name."""
    graded = {one.cleaned.name: Grades(one) for one in measured}
    activity = _activity(derived, n_seconds)
    is_off = _off_body(measured, derived, activity, n_seconds)
    for one in measured:
        grades, modality = graded[one.cleaned.name], one.original.modality
        for reason, doubt in one.losses.doubts.items():
            grades.grade(reason, 1.0 - doubt)
        _grade_rhythm(grades, one, derived, n_seconds)
        if modality == "eda":
            grades.grade(NOISE, _detection_grades(one, n_seconds))
            for reason in (SPIKE, JUMP):
                grades.grade(reason, 1.0 - _around(one.losses.shares.get(reason), grades.valid))
        if modality == "eeg":
            is_artefact = _is_artefact(one, derived, n_seconds, settings)
            grades.grade(ARTEFACT, 1.0 - is_artefact)
        if modality in _HUMMING:
            grades.name(POWER_LINE, _is_humming(one, n_seconds))
        if modality in _MOVED:
            grades.name(MOTION, (np.nan_to_num(activity) > MOVING_G)[None])
        if modality in _WORN and is_off.any():
            grades.grade(OFF_BODY, 1.0 - is_off[None])
    return {name: grades.quality() for name, grades in graded.items()}


def _grade_rhythm(grades: Grades, one: Measured, derived: Derived, n_seconds: int) -> None:
    """Grade a signal by the beats or breaths that were accepted in it, and by how exactly beats can be timed."""
    name, reason = one.cleaned.name, _RHYTHM.get(one.original.modality)
    if reason is None or name not in derived.is_understood:
        return
    is_understood = derived.is_understood[name]
    is_used = np.arange(len(grades.valid))[:, None] == derived.used_channel.get(name, 0)
    rhythm, lost = rhythm_fraction(is_understood, n_seconds), 1.0 - grid_fraction(is_understood, n_seconds)
    grades.grade(reason, np.where(is_used, rhythm, 1.0), np.where(is_used, lost, 0.0))
    if name in derived.beats_of:
        grades.grade(NOISE, np.where(is_used, _timing_grades(derived.beats_of[name], n_seconds), 1.0))


def _around(lost: FloatArray | None, valid: FloatArray) -> FloatArray:
    """Return how little skin conductance is believed within 5 s of what was masked in it: not at all."""
    if lost is None:
        return np.zeros_like(valid)
    from scipy.ndimage import maximum_filter1d

    return np.asarray(maximum_filter1d(lost > 0, 2 * _DOUBTFUL_SECONDS + 1, axis=1), dtype=np.float64)


def _timing_grades(beats: Beats, n_seconds: int) -> FloatArray:
    """Return the grade of the standard error of the beats' times, (n_seconds,): of their geometric mean over 11 s."""
    at = beats.times[np.isfinite(beats.intervals)]
    errors = beats.timing_errors[np.isfinite(beats.intervals)]
    if len(at) == 0:
        return np.ones(n_seconds)
    middle = np.arange(n_seconds) + 0.5
    first, last = np.searchsorted(at, middle - 5.5), np.searchsorted(at, middle + 5.5)
    total = np.concatenate(([0.0], np.cumsum(np.log(np.where(np.isfinite(errors), errors, _TIMING_GRADES[0]) + 1e-6))))
    mean = (total[last] - total[first]) / np.maximum(last - first, 1)
    return np.where(last > first, _between(np.exp(mean), *_TIMING_GRADES), 1.0)


def _between(values: FloatArray, good: float, useless: float) -> FloatArray:
    """Return 1 up to a good value, 0 from a useless one, and between along the logarithm; 1 where it is not known."""
    known = np.where(np.isfinite(values), values, good)
    grades = np.log(useless / np.maximum(known, 1e-12)) / np.log(useless / good)
    return np.asarray(np.clip(grades, 0.0, 1.0), dtype=np.float64)


def _detection_grades(one: Measured, n_seconds: int) -> FloatArray:
    """Return the grade of the smallest skin response that stands out of the noise, (n_channels, n_seconds)."""
    out = np.ones((one.original.n_channels, n_seconds))
    for channel, row in enumerate(one.screened):
        smallest, rate = detection_limit(row, one.original.sampling_rate)
        middles = np.arange(n_seconds, dtype=np.float64) + 0.5
        limit = on_grid(smallest[None], rate, one.original.start_seconds, middles)[0]
        out[channel] = _between(limit, *_DETECTION_GRADES)
    return out


def _is_artefact(one: Measured, derived: Derived, n_seconds: int, settings: CleaningSettings) -> BoolArray:
    """Return in which seconds EEG deviates by more than its setting, or has far more power of muscles than usual."""
    is_large = largest_by_second(one.cleaned, n_seconds) > settings.eeg_artefact_uv
    return np.asarray(is_large | _is_muscle(one.cleaned, derived, n_seconds))


def _is_muscle(eeg: Signal, derived: Derived, n_seconds: int) -> BoolArray:
    """Return in which seconds the power of 30-45 Hz is far above the channel's usual, (n_channels, n_seconds)."""
    series = [s for s in derived.signals if s.modality == "eeg_gamma" and s.channel_names == eeg.channel_names]
    if not series:
        return np.zeros((eeg.n_channels, n_seconds), dtype=bool)
    power = np.stack([grid_mean(row, n_seconds) for row in series[0].read()])
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # a channel without any value
        away = power - np.nanmedian(power, axis=1, keepdims=True)
        usual = 1.4826 * np.nanmedian(np.abs(away), axis=1, keepdims=True)
        return np.asarray(away > _MUSCLE_Z * np.maximum(usual, _LEAST_SPREAD))


def hum_by_second(screened: FloatArray, signal: Signal, settings: CleaningSettings) -> list[FloatArray]:
    """Return the power of mains hum in each second, by each frequency that it may have: (n_channels, n_seconds) each.

    None for signals that no hum is looked for in; ``screened`` are some of the channels at the signal's rate.
    """
    if signal.modality not in _HUMMING:
        return []
    mains = [settings.powerline_hz] if settings.powerline_hz else [50.0, 60.0]
    rate = signal.sampling_rate
    return [power_by_second(screened, rate, hum) for hum in mains if hum < 0.5 * rate - _LEAKAGE_HZ]


def _is_humming(one: Measured, n_seconds: int) -> BoolArray:
    """Return in which seconds mains hum is larger than the signal in its band, (n_channels, n_seconds)."""
    out = np.zeros((one.original.n_channels, n_seconds), dtype=bool)
    inside = power_by_second(one.cleaned.read(), one.cleaned.sampling_rate)
    for power in one.hum:
        n = min(power.shape[1], inside.shape[1])
        seconds = np.floor(one.original.start_seconds + 0.5 + np.arange(n)).astype(np.int64)
        known = (seconds >= 0) & (seconds < n_seconds)
        out[:, seconds[known]] |= (power[:, :n] > inside[:, :n])[:, known]
    return out


def power_by_second(samples: FloatArray, sampling_rate: float, hz: float | None = None) -> FloatArray:
    """Return the variance of each whole second, or the power at one frequency: (n_channels, n_seconds).

    0 where samples are missing. A Hann window keeps what is more than 2 Hz away out of the power at a frequency.
    """
    n = max(round(sampling_rate), 1)
    n_blocks = round(samples.shape[1] / sampling_rate)
    first = np.round(np.arange(n_blocks) * sampling_rate).astype(np.int64)
    n_blocks = int(np.searchsorted(first + n, samples.shape[1], side="right"))
    if n_blocks == 0:
        return np.zeros((len(samples), 0))
    out = np.zeros((len(samples), n_blocks))
    for channel, row in enumerate(samples):
        blocks = np.lib.stride_tricks.sliding_window_view(row, n)[first[:n_blocks]]
        blocks = blocks - blocks.mean(axis=1, keepdims=True)  # a second with a missing sample has no power
        out[channel] = (
            blocks.var(axis=1) if hz is None else 0.5 * np.square(np.abs(blocks @ _wave(hz, n, sampling_rate)))
        )
    return np.nan_to_num(out)


def _wave(hz: float, n: int, sampling_rate: float) -> NDArray[np.complex128]:
    """Return what a second is multiplied with for its amplitude at a frequency."""
    taper = np.hanning(n + 1)[:n]
    wave = 2.0 * taper * np.exp(-2j * np.pi * hz * np.arange(n) / sampling_rate) / taper.sum()
    return np.asarray(wave, dtype=np.complex128)


def _activity(derived: Derived, n_seconds: int) -> FloatArray:
    """Return the movement in each second, g, (n_seconds,); NaN where there is no accelerometer."""
    series = [s for s in derived.signals if s.modality == "activity"]
    if not series:
        return np.full(n_seconds, np.nan)
    return grid_mean(np.exp(series[0].read()[0]) - LOWEST_ACTIVITY, n_seconds)


def _off_body(measured: Sequence[Measured], derived: Derived, activity: FloatArray, n_seconds: int) -> BoolArray:
    """Return in which seconds a wrist device lies somewhere, (n_seconds,): most of half a minute has three signs.

    Signs are skin conductance and temperature of no skin, no pulse, and stillness; of fewer than three sensors nothing
    is known.
    """
    signs = np.zeros(n_seconds)
    first = {one.original.modality: one for one in reversed(measured)}
    for modality, limit in (("eda", DRY_US), ("temp", COLD_DEGC)):
        if modality in first:
            original = first[modality].original
            seen = np.nan_to_num(original.read()[:1], nan=np.inf)
            signs += per_second(seen < limit, original, n_seconds)[0] >= 0.5
    if "bvp" in first and (name := first["bvp"].cleaned.name) in derived.is_understood:
        signs += grid_fraction(derived.is_understood[name], n_seconds) == 0
    with np.errstate(invalid="ignore"):
        signs += activity < STILL_G
    mostly = moving_mean((signs >= _SIGNS_OFF).astype(np.float64), _WORN_SECONDS)
    return np.asarray(mostly > 0.5)
