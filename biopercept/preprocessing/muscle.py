"""Muscle: the envelope of the electromyogram."""

from __future__ import annotations

import numpy as np

from biopercept.preprocessing.gaps import moving_mean, on_grid
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray

LOWEST_ENVELOPE = 1e-6
"""Added before the logarithm, mV: far below any amplifier's noise."""


def log_envelope(
    cleaned: FloatArray, sampling_rate: float, times: FloatArray, start_seconds: float, settings: CleaningSettings
) -> FloatArray:
    """Return the log of the moving root mean square at grid ``times``, log mV: (n_channels, n_times).

    Parameters
    ----------
    cleaned : array, shape (n_channels, n_samples)
        Band-passed, mV, NaN where masked.
    sampling_rate : float
        Hz.
    times : array, shape (n_times,)
        Seconds on the recording's clock.
    start_seconds : float
        Time of the first sample.
    settings : CleaningSettings
    """
    power = moving_mean(np.square(cleaned), round(settings.emg_envelope_seconds * sampling_rate))
    envelope = np.log(np.sqrt(np.maximum(power, 0.0)) + LOWEST_ENVELOPE)
    return on_grid(envelope, sampling_rate, start_seconds, times)
