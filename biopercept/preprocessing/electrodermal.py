"""Skin conductance: tonic level, phasic changes and single responses.

References
----------
Kleckner et al. (2018), doi:10.1109/TBME.2017.2758643 (what is not a response);
Makowski et al. (2021), doi:10.3758/s13428-020-01516-y (neurokit2's high-pass decomposition). We
differ in the smallest response, which is absolute (uS) and not relative to the largest of the recording:
a relative one would change with what comes later.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from biopercept.preprocessing.gaps import apply_by_segment, runs_of
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray

LOWEST_TONIC = 1e-3
"""Tonic level below which the logarithm is not followed, uS."""

_MIN_RISE_SECONDS, _MAX_RISE_SECONDS = 0.5, 10.0


@dataclass(frozen=True, eq=False)
class SkinResponses:
    """Skin conductance responses of one recording.

    ``times`` are those of the peaks, seconds on the recording's clock, increasing; ``amplitudes`` the rise from trough
    to peak, uS.
    """

    times: FloatArray
    amplitudes: FloatArray


def no_responses() -> SkinResponses:
    """Return a set of no responses."""
    return SkinResponses(np.empty(0), np.empty(0))


def without_jumps(samples: FloatArray, sampling_rate: float, settings: CleaningSettings) -> FloatArray:
    """Return low-passed skin conductance with NaN where it changes faster than ``eda_max_slope`` (uS/s)."""
    out = samples.copy()
    with np.errstate(invalid="ignore"):
        is_jump = np.abs(np.diff(samples, axis=1)) * sampling_rate > settings.eda_max_slope
    out[:, 1:][is_jump] = np.nan
    out[:, :-1][is_jump] = np.nan
    return out


def tonic_and_phasic(
    cleaned: FloatArray, sampling_rate: float, settings: CleaningSettings
) -> tuple[FloatArray, FloatArray]:
    """Return tonic and phasic skin conductance of one channel, both uS, NaN where masked."""
    import neurokit2 as nk

    def phasic_of(segment: FloatArray) -> FloatArray:
        if np.ptp(segment) == 0:
            return np.zeros_like(segment)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = nk.eda_phasic(segment, sampling_rate=sampling_rate, method="highpass", cutoff=settings.eda_tonic_hz)
        return np.asarray(parts["EDA_Phasic"], dtype=np.float64)

    phasic = apply_by_segment(
        cleaned[None, :],
        phasic_of,
        max_gap_samples=int(settings.slow_bridge_seconds * sampling_rate),
        min_samples=int(settings.eda_min_seconds * sampling_rate),
    )[0]
    return cleaned - phasic, phasic


def skin_responses(
    cleaned: FloatArray, sampling_rate: float, start_seconds: float, settings: CleaningSettings
) -> SkinResponses:
    """Return the responses in one low-passed channel: peaks that rise at least ``scr_min_us`` in 0.5-10 s.

    They are looked for in the signal itself, not in its phasic part: a high-pass answers every large
    response with a rebound that looks like a small one. Peaks are looked for in each unbroken run, so
    none can lie in, or span, a gap.
    """
    from scipy.signal import find_peaks

    times: list[FloatArray] = []
    amplitudes: list[FloatArray] = []
    for start, stop in runs_of(np.isfinite(cleaned)):
        run = cleaned[start:stop]
        if stop - start < 3:
            continue
        reach = max(int(2 * _MAX_RISE_SECONDS * sampling_rate) | 1, 3)
        peaks, bases = find_peaks(run, prominence=settings.scr_min_us, wlen=reach)
        rise_seconds = (peaks - bases["left_bases"]) / sampling_rate
        height = run[peaks] - run[bases["left_bases"]]
        is_response = (rise_seconds >= _MIN_RISE_SECONDS) & (rise_seconds <= _MAX_RISE_SECONDS)
        is_response &= height >= settings.scr_min_us
        times.append(start_seconds + (start + peaks[is_response]) / sampling_rate)
        amplitudes.append(height[is_response])
    if not times:
        return no_responses()
    return SkinResponses(np.concatenate(times), np.concatenate(amplitudes))


def log_tonic(tonic: FloatArray) -> FloatArray:
    """Return the logarithm of the tonic level, log uS; levels under 0.001 uS count as 0.001."""
    return np.asarray(np.log(np.fmax(tonic, np.where(np.isfinite(tonic), LOWEST_TONIC, np.nan))), dtype=np.float64)
