"""Movement and muscle: intensity from an accelerometer, gravity removed, and the envelope of the electromyogram."""

from __future__ import annotations

import numpy as np

from biopercept.preprocessing.gaps import filtered, moving_mean, on_grid
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray

MOVEMENT_HZ = (0.5, 15.0)
"""Band of movement: below lies gravity's slow turn, above lies nothing a wrist does."""

LOWEST_ACTIVITY = 1e-3
"""Added before the logarithm, g: the resolution of a wearable's sensor is ten times coarser."""

_MEAN_SECONDS = 1.0
LOWEST_ENVELOPE = 1e-6
"""Added before the logarithm, mV: far below any amplifier's noise."""


def log_activity(
    acceleration: FloatArray, sampling_rate: float, times: FloatArray, start_seconds: float, settings: CleaningSettings
) -> FloatArray:
    """Return the log of movement intensity at grid ``times``, log g: shape (1, n_times).

    The root mean square, over one second, of the length of the band-passed acceleration.

    Parameters
    ----------
    acceleration : array, shape (n_axes, n_samples)
        g, NaN where masked. Any number of axes.
    sampling_rate : float
        Hz; the upper edge gives way to what the rate allows.
    times : array, shape (n_times,)
        Seconds on the recording's clock.
    start_seconds : float
        Time of the first sample.
    """
    low, high = MOVEMENT_HZ
    moving = filtered(acceleration, sampling_rate, low, high, bridge_seconds=settings.bridge_seconds, order=2)
    power = moving_mean(np.square(moving).sum(axis=0, keepdims=True), round(_MEAN_SECONDS * sampling_rate))
    activity = np.log(np.sqrt(np.maximum(power, 0.0)) + LOWEST_ACTIVITY)
    return on_grid(activity, sampling_rate, start_seconds, times)


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
    """
    power = moving_mean(np.square(cleaned), round(settings.emg_envelope_seconds * sampling_rate))
    envelope = np.log(np.sqrt(np.maximum(power, 0.0)) + LOWEST_ENVELOPE)
    return on_grid(envelope, sampling_rate, start_seconds, times)
