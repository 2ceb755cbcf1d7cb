"""EEG: filter, notch, bad channels, average reference, band power series, and their features of a window.

Features are band power by region of the head, ratios and frontal asymmetry. Regions are read from channel names of the
10-20, 10-10 and 10-5 systems, so names of features do not depend on the montage; a region without a channel is NaN.

Band power beside Welch's method
--------------------------------
The sum of Welch's density over a band (``mne.time_frequency.psd_array_welch``) of the same referenced EEG and the mean
of ``exp`` of our series agree within a few hundredths of a log unit (docs/measurements/signals.md). They differ, as

- our series is the power of each second, and its logarithm is taken before windows are averaged: the mean of the
  logarithms lies below the logarithm of the mean, by about one over the number of independent values in a second
  (twice the bandwidth): 0.17 log units in delta, 0.03 in gamma, more where rhythms wax and wane;
- a Butterworth band has slopes, and Welch's bins have the width of their window: what lies just outside the band counts
  a little in both, with different weights;
- masked samples are left out here sample by sample.

Power is measured before the EEG is limited to 1-45 Hz: a band whose edge is cut twice is too small, and by how much
depends on the sampling rate.

References
----------
Bigdely-Shamlo et al. (2015), doi:10.3389/fninf.2015.00016 (robust deviation and correlation of
channels). We differ in using the median over seconds of the largest correlation with any other
channel, and in never interpolating: a bad channel is masked.

Alschuler et al. (2014), doi:10.1016/j.clinph.2013.08.024 (electrodes joined by gel: variance of the difference of two
in epochs of 2 s, 0.5-30 Hz, below 5 uV^2). We differ in asking also that it is below a tenth of either electrode's own
variance, so that neighbours in quiet EEG are not taken for joined, in the band (1-45 Hz, in which all EEG is cleaned
here), and in naming the seconds and not only the pair.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from biopercept.preprocessing.gaps import BoolArray, edges_of_two_passes, filtered, moving_mean, on_grid
from biopercept.preprocessing.quality import BRIDGED_ELECTRODES, DEAD_ELECTRODE
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.windows import level, windowed
from biopercept.recording import FloatArray, Signal

BANDS: dict[str, tuple[float, float]] = {
    "eeg_delta": (1.0, 4.0),
    "eeg_theta": (4.0, 8.0),
    "eeg_alpha": (8.0, 13.0),
    "eeg_beta": (13.0, 30.0),
    "eeg_gamma": (30.0, 45.0),
}
"""Frequency bands of the derived series, Hz."""

BROAD_LOW_HZ = 0.5
"""High-pass edge of the EEG that band power is measured in, Hz: below the lowest band, above electrodes' drift."""

MIN_CHANNELS_FOR_REFERENCE = 4
"""Good channels needed before their average is taken as reference."""

_MIN_CHANNELS_FOR_CORRELATION = 6
_POWER_SECONDS = 1.0
_BAND_ORDER = 6  # at 50 Hz, where the notch may be set for another country, gamma lets through a thousandth
_LOWEST_POWER = 1e-4  # uV^2; far below any amplifier's noise
_EPOCH_SECONDS = 2
_LARGEST_DIFFERENCE = 5.0  # uV^2
_LARGEST_SHARE = 0.1
_EPOCHS_NEEDED = 0.5
_EPOCHS_AT_ONCE = 256
_COLUMNS_AT_ONCE = 1 << 15
_BRIDGED_DOUBT = 0.5
REGIONS = ("frontal", "central", "temporal", "parietal", "occipital")
"""Regions of the head, besides "global" (every channel)."""

_REGION_OF_LETTERS = {
    **dict.fromkeys(("FP", "AF", "F"), "frontal"),
    **dict.fromkeys(("FC", "C"), "central"),
    **dict.fromkeys(("FT", "T", "TP"), "temporal"),
    **dict.fromkeys(("CP", "P"), "parietal"),
    **dict.fromkeys(("PO", "O"), "occipital"),
}
_SECOND = re.compile(
    r"(?:EEG[ _-]*)?[A-Z]{1,3}?(?:\d{1,2}|Z)"
    r"(?:\s*[-–_/:]\s*((?:FP|AF|FC|FT|CP|TP|PO|F|C|T|P|O|A|M)(?:\d{1,2}|Z))(?:[-_ ].*)?|([AM][12]))",
    re.IGNORECASE,
)
_POSITION = re.compile(r"(?:EEG[ _-]*)?([A-Z]{1,3}?)(\d{1,2}|Z)(?:[ _-].*)?", re.IGNORECASE)

NAMES = (
    *(f"{band.removeprefix('eeg_')}_{region}" for band in BANDS for region in ("global", *REGIONS)),
    "theta_alpha",
    "beta_alpha_theta",
    "frontal_theta_parietal_alpha",
    "alpha_asymmetry",
)
"""Columns of :func:`band_features`: log power (log uV^2), then log ratios, then right less left frontal alpha."""


def without_hum(samples: FloatArray, sampling_rate: float, settings: CleaningSettings) -> FloatArray:
    """Return the channels with mains hum notched out, segment by segment; unchanged where the rate is too low."""
    from scipy.signal import filtfilt, iirnotch

    from biopercept.preprocessing.gaps import apply_by_segment

    hum = settings.powerline_hz
    if hum == 0 or hum >= 0.45 * sampling_rate:
        return samples
    numerator, denominator = iirnotch(hum, 30.0, fs=sampling_rate)

    def work(segment: FloatArray) -> FloatArray:
        return np.asarray(filtfilt(numerator, denominator, segment), dtype=np.float64)

    gap = int(settings.bridge_seconds * sampling_rate)
    return apply_by_segment(samples, work, max_gap_samples=gap, min_samples=int(sampling_rate))


def bad_channels(samples: FloatArray, sampling_rate: float, settings: CleaningSettings) -> dict[int, str]:
    """Return which channels are bad, and why.

    ``samples`` are (n_channels, n_samples), filtered, before re-referencing, uV, NaN where masked.
    """
    faults: dict[int, str] = {}
    is_valid = np.isfinite(samples)
    spread = np.full(len(samples), np.nan)
    for channel, row in enumerate(samples):
        valid = row[is_valid[channel]]
        if len(valid) < sampling_rate:
            faults[channel] = "less than one second is valid"
            continue
        # 1.4826 MAD: blinks must not make a good frontal channel look loud.
        spread[channel] = 1.4826 * np.median(np.abs(valid - np.median(valid)))
        if spread[channel] < settings.eeg_min_uv:
            faults[channel] = f"almost flat ({spread[channel]:.2g} uV)"
        elif spread[channel] > settings.eeg_max_uv:
            faults[channel] = f"too large ({spread[channel]:.3g} uV)"
    good = [channel for channel in range(len(samples)) if channel not in faults]
    if len(good) >= _MIN_CHANNELS_FOR_CORRELATION:
        faults |= _deviating(spread, good, settings)
        faults |= _uncorrelated(samples, sampling_rate, [c for c in good if c not in faults], settings)
    return faults


def _deviating(spread: FloatArray, good: list[int], settings: CleaningSettings) -> dict[int, str]:
    logs = np.log(spread[good])
    median = np.median(logs)
    # The floor keeps ordinary differences, such as strong alpha at the back, from counting; the ceiling keeps
    # a montage of loud and quiet regions from hiding a channel that is far louder than any.
    scale = float(np.clip(1.4826 * np.median(np.abs(logs - median)), 0.35, 0.4))
    return {
        channel: f"amplitude {np.exp(value - median):.3g} times the median channel's"
        for channel, value in zip(good, logs, strict=True)
        if abs(value - median) > settings.eeg_max_deviation * scale
    }


def _uncorrelated(
    samples: FloatArray, sampling_rate: float, good: list[int], settings: CleaningSettings
) -> dict[int, str]:
    n = round(sampling_rate)
    n_seconds = samples.shape[1] // n
    parts = []
    for first in range(0, n_seconds, _EPOCHS_AT_ONCE):
        last = min(first + _EPOCHS_AT_ONCE, n_seconds)
        cut = samples[good, first * n : last * n].reshape(len(good), last - first, n).transpose(1, 0, 2)
        cut = cut[np.isfinite(cut).all(axis=(1, 2))]
        cut = cut - cut.mean(axis=2, keepdims=True)
        norm = np.sqrt(np.square(cut).sum(axis=2, keepdims=True))
        cut = cut / np.where(norm > 0, norm, 1.0)
        correlation = np.abs(cut @ cut.transpose(0, 2, 1))
        correlation[:, np.arange(len(good)), np.arange(len(good))] = 0.0
        parts.append(correlation.max(axis=2, initial=0.0))
    correlations = np.concatenate([*parts, np.empty((0, len(good)))])
    if len(correlations) < 3:
        return {}
    largest = np.median(correlations, axis=0)
    return {
        channel: f"correlates with no other channel (at most {value:.2f})"
        for channel, value in zip(good, largest, strict=True)
        if value < settings.eeg_min_correlation
    }


def doubtful_electrodes(eeg: Signal, n_seconds: int, settings: CleaningSettings) -> dict[str, FloatArray]:
    """Return by reason, from 0 to 1, how little the channels are to be believed: (n_channels, n_seconds).

    Looked for before channels get another reference: an average gives a dead electrode the signal of the others.
    ``eeg`` is filtered, before re-referencing, uV, NaN where masked. Reasons that never occur are absent.
    """
    samples = eeg.read()
    n = round(_EPOCH_SECONDS * eeg.sampling_rate)
    n_epochs = samples.shape[1] // n
    if n_epochs == 0:
        return {}
    covariances = _covariances(samples[:, : n_epochs * n], n)
    variances = covariances[:, np.arange(len(samples)), np.arange(len(samples))]
    is_dead = variances < settings.eeg_min_uv**2
    is_joined = _joined(covariances, variances) & ~is_dead
    doubts = {
        DEAD_ELECTRODE: _by_second(is_dead, eeg, n_seconds),
        BRIDGED_ELECTRODES: _BRIDGED_DOUBT * _by_second(is_joined, eeg, n_seconds),
    }
    return {name: doubt for name, doubt in doubts.items() if doubt.any()}


def _covariances(samples: FloatArray, n: int) -> FloatArray:
    """Return the covariances of the channels in epochs of ``n`` samples: (n_epochs, n_channels, n_channels)."""
    epochs = samples.reshape(len(samples), -1, n).transpose(1, 0, 2)
    parts = []
    for start in range(0, len(epochs), _EPOCHS_AT_ONCE):
        some = epochs[start : start + _EPOCHS_AT_ONCE]
        some = some - some.mean(axis=2, keepdims=True)  # an epoch with a missing sample has no covariance
        parts.append(some @ some.transpose(0, 2, 1) / n)
    return np.concatenate(parts)


def _joined(covariances: FloatArray, variances: FloatArray) -> BoolArray:
    """Return which channels are joined to any other in each epoch, in half of all epochs at least: (n_epochs, n)."""
    n_channels = variances.shape[1]
    difference = variances[:, :, None] + variances[:, None, :] - 2.0 * covariances
    smaller = np.minimum(variances[:, :, None], variances[:, None, :])
    with np.errstate(invalid="ignore"):
        is_small = difference < np.minimum(_LARGEST_DIFFERENCE, _LARGEST_SHARE * smaller)
    is_small[:, np.arange(n_channels), np.arange(n_channels)] = False
    n_known = np.isfinite(difference).sum(axis=0)
    is_pair = is_small.sum(axis=0) >= np.maximum(_EPOCHS_NEEDED * n_known, 1)
    return np.asarray((is_small & is_pair).any(axis=2))


def _by_second(is_true: BoolArray, eeg: Signal, n_seconds: int) -> FloatArray:
    """Return what holds in epochs by second of the recording: (n_channels, n_seconds)."""
    epoch = ((np.arange(n_seconds) + 0.5 - eeg.start_seconds) // _EPOCH_SECONDS).astype(np.int64)
    inside = (epoch >= 0) & (epoch < len(is_true))
    out = np.zeros((is_true.shape[1], n_seconds))
    out[:, inside] = is_true[epoch[inside]].T
    return out


def reference_of(channel_name: str) -> str:
    """Return the electrode that a channel is measured against, in capitals; empty where its name says none.

    Examples
    --------
    >>> reference_of("FP1-F7"), reference_of("C3-M2"), reference_of("EEG F8-Ref"), reference_of("Cz")
    ('F7', 'M2', '', '')
    """
    match = _SECOND.fullmatch(channel_name.strip())
    return (match.group(1) or match.group(2)).upper() if match else ""


def sharing_one_reference(channel_names: Sequence[str]) -> BoolArray:
    """Return which channels are measured against the electrode that more than half of all are measured against.

    In a bipolar montage there is no such electrode: none are. An average is a reference only of channels that
    share one; of others it carries the signal of one place to another.
    """
    references = [reference_of(name) for name in channel_names]
    usual = max(set(references), key=references.count)
    is_shared = np.array([reference == usual for reference in references])
    return is_shared if 2 * is_shared.sum() > len(is_shared) else np.zeros(len(is_shared), dtype=bool)


def reference_to_average(samples: FloatArray, is_good: BoolArray, is_shared: BoolArray) -> None:
    """Take from channels that share a reference the average of the good ones of them, in place; bad ones become NaN.

    Only NaN-free samples of a channel count. Channels of another reference stay as recorded.
    """
    samples[~is_good] = np.nan
    rows = is_good & is_shared
    if rows.sum() < MIN_CHANNELS_FOR_REFERENCE:
        return
    for start in range(0, samples.shape[1], _COLUMNS_AT_ONCE):
        piece = samples[:, start : start + _COLUMNS_AT_ONCE]
        chosen = piece[rows]
        is_valid = np.isfinite(chosen)
        n = is_valid.sum(axis=0)
        mean = np.where(is_valid, chosen, 0.0).sum(axis=0) / np.maximum(n, 1)
        mean[n < MIN_CHANNELS_FOR_REFERENCE] = np.nan
        piece[rows] = chosen - mean


def band_power(
    broad: FloatArray,
    sampling_rate: float,
    band_hz: tuple[float, float],
    times: FloatArray,
    start_seconds: float,
    settings: CleaningSettings,
) -> FloatArray | None:
    """Return log power in a band at grid ``times``, log uV^2: (n_channels, n_times); None where the rate is too low.

    ``broad`` is referenced EEG that no filter has touched inside the bands, uV. Power is that of the second around.
    """
    low, high = band_hz
    if high >= 0.45 * sampling_rate:
        return None
    edges = edges_of_two_passes(sampling_rate, low, high, _BAND_ORDER)
    if edges[1] > 0.45 * sampling_rate:
        return None
    bridge, order, n_around = settings.bridge_seconds, _BAND_ORDER, round(_POWER_SECONDS * sampling_rate)
    series = np.empty((len(broad), len(times)))
    for channel in range(len(broad)):
        inside = filtered(broad[channel : channel + 1], sampling_rate, *edges, bridge_seconds=bridge, order=order)
        power = moving_mean(np.square(inside), n_around)
        log_power = np.log(np.maximum(power, 0.0) + _LOWEST_POWER)
        series[channel] = on_grid(log_power, sampling_rate, start_seconds, times)[0]
    return series


def region_of(channel_name: str) -> str | None:
    """Return the region of an electrode by its name, None where the name is of no electrode.

    Examples
    --------
    >>> region_of("Fp1"), region_of("T7"), region_of("POz"), region_of("ECG")
    ('frontal', 'temporal', 'occipital', None)
    """
    match = _POSITION.fullmatch(channel_name.strip())
    return None if match is None else _REGION_OF_LETTERS.get(match.group(1).upper())


def _side(channel_name: str) -> int:
    """Return -1 for a left electrode (odd number), 1 for a right one, 0 for the midline or neither."""
    match = _POSITION.fullmatch(channel_name.strip())
    if match is None or match.group(2).upper() == "Z":
        return 0
    return 1 if int(match.group(2)) % 2 == 0 else -1


def band_features(series: Mapping[str, Signal], onsets: FloatArray, length_seconds: float) -> FloatArray:
    """Return :data:`NAMES` for every window: (n_windows, 34), NaN where a region has no channel.

    ``series`` are the derived band series that the recording has, by modality ("eeg_alpha").
    """
    columns: dict[str, FloatArray] = {name: np.full(len(onsets), np.nan) for name in NAMES}
    for band, signal in series.items():
        short = band.removeprefix("eeg_")
        samples = signal.read()
        for region in ("global", *REGIONS):
            rows = [
                channel
                for channel, name in enumerate(signal.channel_names)
                if region == "global" or region_of(name) == region
            ]
            columns[f"{short}_{region}"] = _mean_level(samples, rows, onsets, length_seconds)
        if band == "eeg_alpha":
            left, right = (
                [c for c, n in enumerate(signal.channel_names) if region_of(n) == "frontal" and _side(n) == side]
                for side in (-1, 1)
            )
            columns["alpha_asymmetry"] = _mean_level(samples, right, onsets, length_seconds) - _mean_level(
                samples, left, onsets, length_seconds
            )
    theta, alpha, beta = (columns[f"{name}_global"] for name in ("theta", "alpha", "beta"))
    columns["theta_alpha"] = theta - alpha
    with np.errstate(invalid="ignore"):  # NaN where there is no EEG
        columns["beta_alpha_theta"] = beta - np.logaddexp(alpha, theta)
    columns["frontal_theta_parietal_alpha"] = columns["theta_frontal"] - columns["alpha_parietal"]
    return np.stack([columns[name] for name in NAMES], axis=1)


def _mean_level(samples: FloatArray, rows: list[int], onsets: FloatArray, length_seconds: float) -> FloatArray:
    """Return the mean over channels and time; channels that are masked throughout do not count."""
    levels = [level(windowed(samples[row], onsets, length_seconds)) for row in rows]
    if not levels:
        return np.full(len(onsets), np.nan)
    stacked = np.stack(levels)
    n = np.isfinite(stacked).sum(axis=0)
    mean = np.divide(np.nansum(stacked, axis=0), n, out=np.full(len(onsets), np.nan), where=n > 0)
    return np.asarray(mean, dtype=np.float64)
