"""Features and quality of windows: numbers from cleaned signals and beats, for every study the same names.

No feature knows when in the recording its window lies. An absent sensor, or too little of it, is
NaN. Where a quantity is positive and skewed its logarithm is given, and the name says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from biopercept.preprocessing import eeg, variability
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.preprocessing.eeg import BANDS
from biopercept.preprocessing.electrodermal import SkinResponses
from biopercept.preprocessing.gaps import grid_times, on_grid
from biopercept.preprocessing.windows import MIN_COVERAGE, highest, level, lowest, roughness, spread, trend, windowed
from biopercept.recording import FloatArray

_Summary = Callable[[FloatArray], FloatArray]


def _log_spread(windows: FloatArray) -> FloatArray:
    return np.asarray(np.log(spread(windows) + 1e-4), dtype=np.float64)


def _log_roughness(windows: FloatArray) -> FloatArray:
    return np.asarray(np.log(roughness(windows) + 1e-5), dtype=np.float64)


def _log_highest(windows: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(highest(windows), 0.0) + 1e-3), dtype=np.float64)


# (feature, series, summary): the series is a derived modality or a measured one of one channel.
_SERIES: tuple[tuple[str, str, _Summary], ...] = (
    ("heart/rate_mean", "heart_rate", level),
    ("heart/rate_sd", "heart_rate", spread),
    ("heart/rate_slope", "heart_rate", trend),
    ("heart/rate_min", "heart_rate", lowest),
    ("heart/rate_max", "heart_rate", highest),
    ("heart/rate_log_roughness", "heart_rate", _log_roughness),
    ("heart/variability_mean", "heart_variability", level),
    ("heart/variability_sd", "heart_variability", spread),
    ("heart/variability_slope", "heart_variability", trend),
    ("heart/pulse_amplitude_mean", "pulse_amplitude", level),
    ("heart/pulse_amplitude_sd", "pulse_amplitude", spread),
    ("heart/pulse_amplitude_slope", "pulse_amplitude", trend),
    ("eda/tonic_mean", "tonic", level),
    ("eda/tonic_sd", "tonic", spread),
    ("eda/tonic_slope", "tonic", trend),
    ("eda/level_mean", "eda", level),
    ("eda/level_log_sd", "eda", _log_spread),
    ("eda/level_slope", "eda", trend),
    ("eda/phasic_log_sd", "phasic", _log_spread),
    ("eda/phasic_mean", "phasic", level),
    ("eda/phasic_log_max", "phasic", _log_highest),
    ("eda/phasic_log_roughness", "phasic", _log_roughness),
    ("resp/rate_mean", "resp_rate", level),
    ("resp/rate_sd", "resp_rate", spread),
    ("resp/rate_slope", "resp_rate", trend),
    ("resp/amplitude_mean", "resp_amplitude", level),
    ("resp/amplitude_sd", "resp_amplitude", spread),
    ("resp/amplitude_slope", "resp_amplitude", trend),
    ("resp/spo2_mean", "spo2", level),
    ("resp/spo2_min", "spo2", lowest),
    ("resp/spo2_sd", "spo2", spread),
    ("temp/mean", "temp", level),
    ("temp/slope", "temp", trend),
    ("temp/sd", "temp", spread),
    ("motion/activity_mean", "activity", level),
    ("motion/activity_sd", "activity", spread),
    ("motion/activity_slope", "activity", trend),
    ("motion/activity_max", "activity", highest),
    ("emg/envelope_mean", "emg_envelope", level),
    ("emg/envelope_sd", "emg_envelope", spread),
    ("emg/envelope_slope", "emg_envelope", trend),
)
_RESPONSE_NAMES = ("eda/scr_per_minute", "eda/scr_log_amplitude")
_GROUP_ORDER = ("heart", "eda", "resp", "temp", "motion", "emg", "eeg")

_COMPUTED = (
    *(name for name, _, _ in _SERIES),
    *(f"heart/{name}" for name in variability.NAMES),
    *_RESPONSE_NAMES,
    *(f"eeg/{name}" for name in eeg.NAMES),
)
_ORDER = sorted(range(len(_COMPUTED)), key=lambda i: (_GROUP_ORDER.index(_COMPUTED[i].split("/")[0]), i))

FEATURE_NAMES: tuple[str, ...] = tuple(_COMPUTED[i] for i in _ORDER)
"""Every feature as "group/name", the same for every study, groups together."""

FEATURE_GROUPS: tuple[str, ...] = _GROUP_ORDER
"""The groups, in the order of :data:`FEATURE_NAMES`."""


def compute_features(
    clean: CleanRecording, onsets: Sequence[float] | NDArray[np.float64], length_seconds: float
) -> NDArray[np.float32]:
    """Return :data:`FEATURE_NAMES` for every window: (n_windows, n_features) float32, NaN where undefined."""
    at = np.asarray(onsets, dtype=np.float64)
    modalities = dict.fromkeys(modality for _, modality, _ in _SERIES)
    cut = {modality: _windows_of(clean, modality, at, length_seconds) for modality in modalities}
    columns = [summary(cut[modality]) for _, modality, summary in _SERIES]
    bands = {s.modality: s for s in clean.recording.signals if s.modality in BANDS}
    table = np.concatenate(
        (
            np.stack(columns, axis=1),
            variability.interval_features(clean.beats, at, length_seconds),
            _response_features(clean.responses, at, length_seconds),
            eeg.band_features(bands, at, length_seconds),
        ),
        axis=1,
    )
    return np.asarray(table[:, _ORDER], dtype=np.float32)


def _windows_of(clean: CleanRecording, modality: str, onsets: FloatArray, length_seconds: float) -> FloatArray:
    """Return the windows of a modality's series, read on the 4 Hz grid; NaN throughout where it is absent."""
    signals = clean.recording.signals_of(modality)
    if not signals:
        return windowed(np.empty(0), onsets, length_seconds)
    times = grid_times(clean.recording.duration_seconds)
    # Several channels or devices: the most complete one speaks (EMG: their mean, as muscles add up).
    series = [on_grid(s.read(), s.sampling_rate, s.start_seconds, times) for s in signals]
    rows = np.concatenate(series)
    if modality == "emg_envelope":
        n = np.isfinite(rows).sum(axis=0)
        row = np.divide(np.nansum(rows, axis=0), n, out=np.full(rows.shape[1], np.nan), where=n > 0)
    else:
        row = rows[int(np.argmax(np.isfinite(rows).sum(axis=1)))]
    return windowed(row, onsets, length_seconds)


def _response_features(responses: SkinResponses, onsets: FloatArray, length_seconds: float) -> FloatArray:
    """Return responses per minute that was searched and their mean log amplitude (log uS): (n_windows, 2)."""
    out = np.full((len(onsets), 2), np.nan)
    minutes = responses.searched_seconds(onsets, length_seconds) / 60.0
    is_known = 60.0 * minutes >= MIN_COVERAGE * length_seconds
    first = np.searchsorted(responses.times, onsets)
    last = np.searchsorted(responses.times, onsets + length_seconds)
    total = np.concatenate(([0.0], np.cumsum(np.log(responses.amplitudes))))
    n = last - first
    out[is_known, 0] = n[is_known] / minutes[is_known]
    some = is_known & (n > 0)
    out[some, 1] = (total[last] - total[first])[some] / n[some]
    return out


def window_quality(
    clean: CleanRecording, onsets: Sequence[float] | FloatArray, length_seconds: float
) -> NDArray[np.float32]:
    """Return the mean quality of every signal in every window: (n_windows, n_signals) float32 in [0, 1].

    Columns follow ``clean.recording.signals``; channels of a signal are averaged.
    """
    starts = np.asarray(onsets, dtype=np.float64)
    out = np.zeros((len(starts), len(clean.recording.signals)), dtype=np.float32)
    for column, signal in enumerate(clean.recording.signals):
        out[:, column] = window_means(clean.quality[signal.name], starts, length_seconds)
    return out


def window_means(per_second: FloatArray, onsets: FloatArray, length_seconds: float) -> FloatArray:
    """Return the mean over channels and the seconds of each window of (n_channels, n_seconds) values: (n_windows,)."""
    total = np.concatenate(([0.0], np.cumsum(per_second.mean(axis=0))))
    n = per_second.shape[1]
    first = np.clip(np.floor(onsets + 1e-9).astype(int), 0, n)
    last = np.clip(np.maximum(np.floor(onsets + length_seconds + 1e-9).astype(int), first + 1), 0, n)
    return np.asarray((total[last] - total[first]) / np.maximum(last - first, 1), dtype=np.float64)
