"""Electrodes of EEG that are dead or joined to another, second by second.

Both are looked for before channels get another reference: an average gives a dead electrode the signal of the others.
Electrodes joined by gel (bridged) measure one potential: their difference is the amplifiers' noise.

References
----------
Alschuler et al. (2014), doi:10.1016/j.clinph.2013.08.024 (variance of the difference of two electrodes in epochs of
2 s, 0.5-30 Hz, below 5 uV^2). We differ in asking also that it is below a tenth of either electrode's own variance, so
that neighbours in quiet EEG are not taken for joined, in the band (1-45 Hz, in which all EEG is cleaned here), and in
naming the seconds and not only the pair.
"""

from __future__ import annotations

import numpy as np

from biopercept.preprocessing.gaps import BoolArray
from biopercept.preprocessing.quality import BRIDGED_ELECTRODES, DEAD_ELECTRODE
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Signal

_EPOCH_SECONDS = 2
_LARGEST_DIFFERENCE = 5.0  # uV^2
_LARGEST_SHARE = 0.1
_EPOCHS_NEEDED = 0.5
_EPOCHS_AT_ONCE = 256
_BRIDGED_DOUBT = 0.5


def doubtful_electrodes(eeg: Signal, n_seconds: int, settings: CleaningSettings) -> dict[str, FloatArray]:
    """Return by reason, from 0 to 1, how little the channels are to be believed: (n_channels, n_seconds).

    ``eeg`` is filtered, before re-referencing, uV, NaN where masked. Reasons that never occur are absent.
    """
    samples = eeg.read()
    n = round(_EPOCH_SECONDS * eeg.sampling_rate)
    n_epochs = samples.shape[1] // n
    if n_epochs == 0:
        return {}
    covariances = _covariances(samples[:, : n_epochs * n], n)
    own = covariances[:, np.arange(len(samples)), np.arange(len(samples))]
    is_dead = own < settings.eeg_min_uv**2
    is_joined = _joined(covariances, own) & ~is_dead
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


def _joined(covariances: FloatArray, own: FloatArray) -> BoolArray:
    """Return which channels are joined to any other in each epoch, in half of all epochs at least: (n_epochs, n)."""
    n_channels = own.shape[1]
    difference = own[:, :, None] + own[:, None, :] - 2.0 * covariances
    smaller = np.minimum(own[:, :, None], own[:, None, :])
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
