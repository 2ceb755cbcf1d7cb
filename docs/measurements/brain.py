"""EEG band power beside Welch's method as mne has it, on made EEG and on recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from biopercept.loaders.loading import load_recording
from biopercept.preprocessing.cleaning import clean_recording
from biopercept.preprocessing.eeg import BANDS
from biopercept.recording import Channel, Recording, Signal
from measurements.planted_signals import Samples, pink_eeg

NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2")
SAMPLING_RATES = (128, 160, 200, 250, 256, 500, 512, 1000, 1024, 2048)
SECONDS = 120.0


def made_eeg(rate: float, offset: float = 0.0) -> Signal:
    """Return two minutes of made EEG: the same at every rate, but for what lies above half of it."""
    from scipy.signal import resample_poly

    fine = pink_eeg(len(NAMES), SECONDS, 128.0)
    t = np.arange(fine.shape[1]) / 128.0
    fine[-2:] += 15.0 * np.sin(2 * np.pi * 10.0 * t)
    numerator = round(rate)
    samples = resample_poly(fine, numerator, 128, axis=1) if numerator != 128 else fine
    return Signal.from_samples("EEG", "eeg", "uV", rate, samples + offset, tuple(Channel(n) for n in NAMES))


def powers(signal: Signal) -> dict[str, Samples]:
    """Return the logarithm of the mean power of each channel, by band: what our series add up to."""
    clean = clean_recording(Recording("S1", "", "eeg", (signal,)))
    out = {}
    for band in BANDS:
        series = clean.recording.signals_of(band)
        if series:
            out[band] = np.log(np.nanmean(np.exp(series[0].read()), axis=1))
    return out


def welch_powers(samples: Samples, rate: float) -> dict[str, Samples]:
    """Return the logarithm of each band's power by mne's Welch (Hann windows of 4 s, half overlapping), log uV^2.

    Of the samples as recorded, (n_channels, n_samples), less the average of the channels at each time.
    """
    from mne.time_frequency import psd_array_welch

    samples = samples - samples.mean(axis=1, keepdims=True)
    n = round(4.0 * rate)
    density, frequency = psd_array_welch(
        samples - samples.mean(axis=0), rate, n_fft=n, n_overlap=n // 2, window="hann", verbose="error"
    )
    step = frequency[1] - frequency[0]
    out = {}
    for band, (low, high) in BANDS.items():
        # A bin on an edge belongs to both sides.
        weight = np.where((frequency > low) & (frequency < high), 1.0, 0.0)
        weight[np.isclose(frequency, low) | np.isclose(frequency, high)] = 0.5
        out[band] = np.log((density * weight).sum(axis=1) * step)
    return out


def differences(signal: Signal) -> dict[str, Samples]:
    """Return our log power less Welch's, by band, of the channels that are not masked as bad."""
    ours = powers(signal)
    is_good = np.isfinite(next(iter(ours.values())))
    theirs = welch_powers(signal.read()[is_good], signal.sampling_rate)
    return {band: ours[band][is_good] - theirs[band] for band in ours}


def real_eeg(path: Path) -> Signal:
    """Return the EEG of a recording, without channels that are no electrode against the common reference."""
    return load_recording(path).signals_of("eeg")[0]
