"""Quality of signals by channel and second: an index for people, and the reasons why it is below one.

What was masked is kept under a reason while a signal is cleaned (:class:`Losses`), as a share of each second; nothing
is masked without one. What is doubtful, but not masked, has reasons too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biopercept.modalities import DERIVED_RATE
from biopercept.preprocessing.gaps import BoolArray, mean_of_known, moving_mean
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Recording, Signal

ReasonMask = NDArray[np.uint32]

MISSING = "missing"
BY_HAND = "bad by hand"
OUT_OF_RANGE = "out of range"
FLAT = "flat"
CLIPPED = "clipped"
DISCONNECTED = "disconnected"
SPIKE = "spike"
JUMP = "jump"
TOO_SHORT = "too short"
NO_SIGNAL = "no signal"
BAD_CHANNEL = "bad channel"
NO_REFERENCE = "no reference"
OFF_BODY = "off the body"
POWER_LINE = "power line"
MOTION = "motion"
NOISE = "noise"
IMPLAUSIBLE_BEATS = "implausible beats"
NO_BREATHING = "no breathing"
DEAD_ELECTRODE = "dead electrode"
BRIDGED_ELECTRODES = "bridged electrodes"
ARTEFACT = "artefact"

REASONS: dict[str, str] = {
    MISSING: "not recorded, or no number",
    BY_HAND: "called bad by a person",
    OUT_OF_RANGE: "outside the range that a body gives",
    FLAT: "the same value for longer than any sensor is still",
    CLIPPED: "at the highest or lowest value of the channel (saturation)",
    DISCONNECTED: "an electrode or sensor without contact",
    SPIKE: "a value that comes and goes within 0.3 s",
    JUMP: "a change faster than skin conductance has",
    TOO_SHORT: "between gaps, in a segment too short to be filtered",
    NO_SIGNAL: "nothing is left in the signal's band",
    BAD_CHANNEL: "the whole channel is flat, far too large, or unlike all others",
    NO_REFERENCE: "too few good channels for an average reference",
    OFF_BODY: "the device was not worn",
    POWER_LINE: "mains hum larger than the signal",
    MOTION: "the sensor moved",
    NOISE: "noise too large for what is measured in the signal",
    IMPLAUSIBLE_BEATS: "no beats, or beats that no heart gives",
    NO_BREATHING: "no breaths, or breaths that nobody takes",
    DEAD_ELECTRODE: "less than an amplifier's noise",
    BRIDGED_ELECTRODES: "the same as another electrode's, joined by gel",
    ARTEFACT: "larger than EEG is, from eyes, muscles or cables",
}
"""Reasons with what each means; the place of one is its bit in a stored mask: only ever append."""

BORDERS: dict[str, tuple[float, float]] = {
    "ecg": (0.2, 0.2),
    "bvp": (0.2, 0.25),
    "eda": (0.9, 0.95),
    "resp": (0.45, 0.45),
}
"""Index, the mean of a minute, from which a sensor's rate is believed with care, and without.

Read off docs/measurements/quality.md, where nineteen of twenty minutes above have an error of heart rate or breaths of
at most 10 % and 2 %, of the number of skin responses of at most 25 % and 10 % (of six, one is 17 %); 0.05 is added
where few minutes lie near. In trials of other seeds all keep it but breaths (91 % of the minutes that are believed).
Variability needs more than the rate.
"""

USUAL_BORDERS = (0.5, 0.95)
"""The same of sensors of which nothing was planted: their index is what is left of them."""

BANDS = ("believe", "with care", "do not")
"""What is said of a minute by its index."""

SMALLEST_SHARE = 0.05
"""Share of a second from which a reason counts as one of the second."""

_RHYTHM_SECONDS = 11  # beats and breaths come one by one: whether they are there is judged over this many


@dataclass(frozen=True, eq=False)
class SignalQuality:
    """Quality of one measured signal.

    Attributes
    ----------
    index : array, shape (n_channels, n_seconds)
        From 0 (useless) to 1, of each second of the recording's clock.
    shares : dict of str to array, shape (n_channels, n_seconds)
        By reason, the share of each second that it spoils; reasons that never occur are absent.
    valid : array, shape (n_channels, n_seconds)
        The share of each second that is not masked.
    """

    index: FloatArray
    shares: Mapping[str, FloatArray]
    valid: FloatArray

    def reasons(self) -> ReasonMask:
        """Return the reasons of each second as bits, in the order of :data:`REASONS`: (n_channels, n_seconds)."""
        out = np.zeros(self.index.shape, dtype=np.uint32)
        for bit, name in enumerate(REASONS):
            if name in self.shares:
                out |= np.where(self.shares[name] >= SMALLEST_SHARE, np.uint32(1 << bit), np.uint32(0))
        return out


def band_of(index: float, modality: str) -> str:
    """Return what is said of a minute of a sensor, one of :data:`BANDS`, by the mean of its index."""
    with_care, believed = BORDERS.get(modality, USUAL_BORDERS)
    return BANDS[0] if index >= believed else BANDS[1] if index >= with_care else BANDS[2]


@dataclass(eq=False)
class Losses:
    """What is lost of one signal while it is cleaned, step by step, each step under its reason.

    ``valid`` is the share of each second that is left, ``shares`` what is lost and ``doubts`` what is kept but not
    believed, by reason, all (n_channels, n_seconds).
    """

    signal: Signal
    n_seconds: int
    shares: dict[str, FloatArray] = field(default_factory=dict)
    doubts: dict[str, FloatArray] = field(default_factory=dict)
    valid: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Begin with what was recorded: before a signal starts and after its end it is missing."""
        self.valid = np.ones((self.signal.n_channels, self.n_seconds))
        if not self.signal.is_regular:
            return
        recorded = per_second(np.ones((1, self.signal.n_samples), dtype=bool), self.signal, self.n_seconds)
        if (recorded < 1.0).any():
            self.shares[MISSING] = np.repeat(1.0 - recorded, self.signal.n_channels, axis=0)
            self.valid -= self.shares[MISSING]

    def add(self, reason: str, is_lost: BoolArray, channel: int) -> None:
        """Put samples of one channel, at the signal's own rate, under a reason."""
        if not is_lost.any():
            return
        lost = self.shares.setdefault(reason, np.zeros_like(self.valid))
        share = np.minimum(per_second(is_lost[None], self.signal, self.n_seconds)[0], self.valid[channel])
        lost[channel] += share
        self.valid[channel] -= share

    def add_rejected_intervals(
        self, intervals: FloatArray, series: Signal, times: FloatArray, by_hand: BoolArray
    ) -> None:
        """Put what is missing in the series of a device's intervals under its reason: rejected, or not given at all.

        ``intervals`` are seconds that end at the signal's times, ``times`` those of the derived grid, at which a person
        said ``by_hand`` what is bad.
        """
        order = np.argsort(self.signal.sample_times(), kind="stable")
        ends, lengths = self.signal.sample_times()[order], np.nan_to_num(intervals[order], nan=-1.0)
        is_given = np.zeros(len(times), dtype=bool)
        if len(ends):  # a person may have removed every beat
            place = np.minimum(np.searchsorted(ends, times), len(ends) - 1)
            is_given = (times <= ends[place]) & (times >= ends[place] - lengths[place])
        lost = ~np.isfinite(series.read()[0])
        by_reason = {BY_HAND: by_hand, IMPLAUSIBLE_BEATS: is_given & ~by_hand, MISSING: ~is_given & ~by_hand}
        for reason, is_reason in by_reason.items():
            is_lost = lost & is_reason
            if is_lost.any():
                self.shares[reason] = grid_fraction(is_lost, self.n_seconds)[None]
                self.valid -= self.shares[reason]

    def charge(self, reason: str, samples: FloatArray, sampling_rate: float) -> None:
        """Put what is newly masked in samples, at any rate, under a reason.

        Where something of the second was lost already it is put with that: resampling moves the edge of a gap.
        """
        if np.isfinite(samples).all():
            return
        at_that_rate = self.signal.with_samples(samples, sampling_rate)
        newly = np.maximum(self.valid - valid_share(at_that_rate, self.n_seconds), 0.0)
        if not newly.any():
            return
        names = list(self.shares)
        lost = np.stack([self.shares[name] for name in names]) if names else np.zeros((1, *newly.shape))
        is_new = lost.max(axis=0) <= 0
        largest = lost.argmax(axis=0)
        for place, name in enumerate(names):
            self.shares[name] += np.where(~is_new & (largest == place), newly, 0.0)
        if (newly[is_new] > 0).any():
            self.shares.setdefault(reason, np.zeros_like(newly))
            self.shares[reason] += np.where(is_new, newly, 0.0)
        self.valid -= newly


def seconds_of(times: FloatArray) -> int:
    """Return the number of seconds of a recording from the times of its derived grid."""
    return math.ceil(len(times) / DERIVED_RATE)


def model_quality(
    cleaned: Recording, is_understood: Mapping[str, BoolArray], settings: CleaningSettings, n_seconds: int
) -> dict[str, FloatArray]:
    """Return, for every signal by name, the quality of each second that models read: (n_channels, n_seconds) in [0, 1].

    Quality is the fraction of the second's samples that is valid. For a signal that should carry a rhythm (ECG, pulse,
    respiration) it is multiplied by the fraction of the 11 s around in which that rhythm was found
    (``is_understood``, at 4 Hz, by name); a second of EEG with a value beyond ``eeg_artefact_uv`` counts half.
    Seconds outside a signal have quality 0.
    """
    out: dict[str, FloatArray] = {}
    for signal in cleaned.signals:
        quality = valid_share(signal, n_seconds)
        if signal.modality == "eeg":
            quality = np.where(largest_by_second(signal, n_seconds) > settings.eeg_artefact_uv, 0.5 * quality, quality)
        if signal.name in is_understood:
            quality = quality * rhythm_fraction(is_understood[signal.name], n_seconds)
        out[signal.name] = quality
    return out


def largest_by_second(signal: Signal, n_seconds: int) -> FloatArray:
    """Return the largest amplitude in each second, 0 where nothing is known: (n_channels, n_seconds)."""
    samples = signal.read()
    rows = (per_second(np.abs(np.nan_to_num(row[None])), signal, n_seconds, np.maximum) for row in samples)
    return np.concatenate([*rows, np.zeros((0, n_seconds))])


def valid_share(signal: Signal, n_seconds: int) -> FloatArray:
    """Return the share of each second's samples that is valid: (n_channels, n_seconds)."""
    return per_second(np.isfinite(signal.read()), signal, n_seconds)


def per_second(values: FloatArray | BoolArray, signal: Signal, n_seconds: int, gather: np.ufunc = np.add) -> FloatArray:
    """Return the sum as a fraction of the second's samples, or the maximum, of each second: (n_channels, n_seconds).

    ``values`` are (n_channels, n_samples) at the signal's times. Of irregular times the fraction is of those in the
    second.
    """
    out = np.zeros((len(values), n_seconds))
    if n_seconds == 0 or values.shape[1] == 0:
        return out
    if signal.is_regular and signal.sampling_rate < 1.0:  # one sample stands for several seconds
        nearest = ((np.arange(n_seconds) + 0.5 - signal.start_seconds) * signal.sampling_rate).astype(np.int64)
        known = (nearest >= 0) & (nearest < values.shape[1])
        out[:, known] = values[:, nearest[known]]
        return out
    second = np.floor(signal.sample_times() + 1e-9).astype(np.int64)
    if not signal.is_regular:
        order = np.argsort(second, kind="stable")
        second, values = second[order], values[:, order]
    edges = np.searchsorted(second, np.arange(n_seconds + 1))
    has_samples = np.diff(edges) > 0
    if not has_samples.any():
        return out
    kind = np.int64 if values.dtype == bool else np.float64
    inside = values[:, : edges[-1]]
    out[:, has_samples] = gather.reduceat(inside, edges[:-1][has_samples], axis=1, dtype=kind)
    if gather is not np.add:
        return out
    if not signal.is_regular:
        return out / np.maximum(np.diff(edges), 1)
    # The first and last second of a signal may hold few samples: of a whole second, so they count less.
    return np.minimum(out / math.floor(signal.sampling_rate), 1.0)


def rhythm_fraction(is_understood: BoolArray, n_seconds: int) -> FloatArray:
    """Return the fraction of the 11 s around each second in which the rhythm was found: (n_seconds,)."""
    return moving_mean(grid_fraction(is_understood, n_seconds), _RHYTHM_SECONDS)


def grid_fraction(is_true: BoolArray, n_seconds: int) -> FloatArray:
    """Return the fraction of each second's times of the derived grid at which something holds: (n_seconds,)."""
    per = int(DERIVED_RATE)
    padded = np.concatenate((is_true, np.zeros(-len(is_true) % per, dtype=bool)))[: n_seconds * per]
    n = np.full(n_seconds, DERIVED_RATE)
    if len(is_true) % per and n_seconds:
        n[-1] = len(is_true) % per
    return np.asarray(padded.reshape(-1, per).sum(axis=1) / n, dtype=np.float64)


def grid_mean(series: FloatArray, n_seconds: int) -> FloatArray:
    """Return the mean of each second of a series on the derived grid, (n_seconds,); NaN where nothing is known."""
    per = int(DERIVED_RATE)
    padded = np.full(n_seconds * per, np.nan)
    padded[: len(series)] = series[: n_seconds * per]
    return mean_of_known(padded.reshape(-1, per), axis=1)
