"""Single samples that no body gave: pulses of a pacemaker, bits that were lost on the way, a value that means "none".

They stand out of what is around them by more than the signal is large and are gone with the next sample. Filters make
waves of them that pass for beats, breaths and fast brain waves.

References
----------
IEC 60601-2-25:2011, 201.12.4 (pulses of a pacemaker last 0.1 to 2 ms, at 2 to 250 mV; an electrocardiograph must not
take them for QRS complexes).
"""

from __future__ import annotations

import numpy as np

from biopercept.preprocessing.gaps import BoolArray, block_medians, bridged
from biopercept.recording import FloatArray

LONGEST_SECONDS = 0.004
"""A pulse of 2 ms is spread to twice that by what limits the band of a recorder."""

_SIZE = 1.5
_BLOCK_SECONDS = {"resp": 10.0}
_USUAL_BLOCK_SECONDS, _BLOCKS = 2.5, 7
_TELLING_RATE = 200.0
"""Sampling rate below which the top of a narrow QRS complex is one sample, Hz."""
_SIZE_OF_QRS = 4.0
_NOISE = 8.0


def glitches(row: FloatArray, sampling_rate: float, modality: str) -> BoolArray:
    """Return which samples of a fast signal leave its course alone, or with what follows within 4 ms: (n_samples,).

    They are further from the median of those around than 1.5 times what the signal without them usually spans (its
    range in blocks of 2.5 s, of 10 s for breathing; the median of seven); of an ECG below 200 Hz, by four times, for
    the top of a narrow QRS complex may be one sample there. Nor is anything a glitch within eight times the noise.
    """
    n_glitch = max(int(LONGEST_SECONDS * sampling_rate), 1)
    if np.isfinite(row).sum() < 4 * n_glitch + 5:
        return np.zeros(len(row), dtype=bool)
    samples = bridged(row)
    calm = _median_of_three(samples) if n_glitch == 1 else _median(samples, 2 * n_glitch + 1)
    n_block = max(round(_BLOCK_SECONDS.get(modality, _USUAL_BLOCK_SECONDS) * sampling_rate), 3)
    size = _SIZE_OF_QRS if modality == "ecg" and sampling_rate < _TELLING_RATE else _SIZE
    away = np.abs(samples - calm)
    bound = size * _usual(_block_highest(calm, n_block) + _block_highest(-calm, n_block), n_block, len(row))
    bound = np.maximum(bound, _NOISE * 1.4826 * _usual(block_medians(away, n_block), n_block, len(row)))
    with np.errstate(invalid="ignore"):
        return np.asarray((bound > 0) & (np.abs(row - calm) > bound))


def _median_of_three(samples: FloatArray) -> FloatArray:
    before, after = np.roll(samples, 1), np.roll(samples, -1)
    before[0], after[-1] = samples[0], samples[-1]
    low, high = np.minimum(before, after), np.maximum(before, after)
    return np.asarray(np.clip(samples, low, high), dtype=np.float64)


def _median(samples: FloatArray, size: int) -> FloatArray:
    from scipy.ndimage import median_filter

    return np.asarray(median_filter(samples, size, mode="nearest"), dtype=np.float64)


def _block_highest(samples: FloatArray, n_block: int) -> FloatArray:
    """Return the highest sample of each block; a short block at the end belongs to the one before."""
    n_blocks = max(len(samples) // n_block, 1)
    return np.asarray(np.maximum.reduceat(samples, np.arange(n_blocks) * n_block), dtype=np.float64)


def _usual(of_blocks: FloatArray, n_block: int, n_samples: int) -> FloatArray:
    """Return the median of the seven blocks around each sample's: (n_samples,)."""
    half = min(_BLOCKS // 2, len(of_blocks) - 1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(of_blocks, half, mode="reflect"), 2 * half + 1)
    usual = np.median(around, axis=1)
    return np.asarray(usual[np.minimum(np.arange(n_samples) // n_block, len(usual) - 1)], dtype=np.float64)
