"""Brain features of a window: band power by region of the head, ratios, and frontal asymmetry.

Regions are read from channel names of the 10-20, 10-10 and 10-5 systems, so names of features do not
depend on the montage; a region without a channel is NaN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from biopercept.preprocessing.brain import BANDS
from biopercept.preprocessing.summaries import level, windowed
from biopercept.recording import FloatArray, Signal

REGIONS = ("frontal", "central", "temporal", "parietal", "occipital")
"""Regions of the head, besides "global" (every channel)."""

_REGION_OF_LETTERS = {
    **dict.fromkeys(("FP", "AF", "F"), "frontal"),
    **dict.fromkeys(("FC", "C"), "central"),
    **dict.fromkeys(("FT", "T", "TP"), "temporal"),
    **dict.fromkeys(("CP", "P"), "parietal"),
    **dict.fromkeys(("PO", "O"), "occipital"),
}
_POSITION = re.compile(r"(?:EEG[ _-]*)?([A-Z]{1,3}?)(\d{1,2}|Z)(?:[ _-].*)?", re.IGNORECASE)

NAMES = (
    *(f"{band.removeprefix('eeg_')}_{region}" for band in BANDS for region in ("global", *REGIONS)),
    "theta_alpha",
    "beta_alpha_theta",
    "frontal_theta_parietal_alpha",
    "alpha_asymmetry",
)
"""Columns of :func:`band_features`: log power (log uV^2), then log ratios, then right less left frontal alpha."""


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

    Parameters
    ----------
    series : mapping of str to Signal
        The derived band series that the recording has, by modality ("eeg_alpha").
    onsets : array, shape (n_windows,)
        Seconds on the recording's clock.
    length_seconds : float
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
