"""sNN.dat of the data set DEAP, prepared for Python: 40 trials of 63 s, 32 EEG and 8 other channels at 128 Hz.

Channels, rate and order of the trials are those of the data set's readme. Nothing in the file is run: it is a pickle,
and opened by a reader that admits arrays alone. The trials are in the order of the videos and not in that in which they
were seen; so that no filter crosses from one to the next, seconds without samples lie between them. EEG, EOG and EMG
come from BioSemi's microvolts, and are taken for those where the EEG is as strong as a scalp gives it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory
from biopercept.loaders.numpy_pickle import read_arrays
from biopercept.loaders.recognition import ARBITRARY, FORMAT, SignalOverride
from biopercept.recording import Recording

RATE = 128.0
N_TRIALS, N_CHANNELS, N_SAMPLES = 40, 40, 8064
BASELINE_SECONDS, TRIAL_SECONDS = 3.0, 63.0
STEP_SECONDS = 73.0
"""From the start of one trial to that of the next: ten seconds lie between them."""

RATINGS = ("valence", "arousal", "dominance", "liking")
"""Columns of "labels", 1 to 9."""

FILE = re.compile(r"s(\d\d)\.dat")
_PICKLES = (b"\x80", b"(d", b"(i", b"}")
_EEG = tuple(
    name
    for half in (
        "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz",
        "Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2",
    )
    for name in half.split()
)
# The 8 channels that follow: label, modality, whether it is a voltage. GSR is a resistance, by the readme in ohm, which
# no factor turns into a conductance; the temperature lies about zero, so its level was taken away.
_OTHERS = (
    ("hEOG", "eog", True),
    ("vEOG", "eog", True),
    ("zEMG", "emg", True),
    ("tEMG", "emg", True),
    ("GSR", "eda", False),
    ("respiration", "resp", False),
    ("plethysmograph", "bvp", False),
    ("temperature", "temp", False),
)
_SCALP_UV = (0.5, 100.0)
"""Between these lies the spread of EEG of 4 to 45 Hz, and in volts, millivolts or counts of 1/32 uV it does not."""


def is_deap(path: Path, first_bytes: bytes) -> bool:
    """Return whether a file is one of DEAP's: by its name, and how a pickle begins."""
    return bool(FILE.fullmatch(path.name)) and first_bytes.startswith(_PICKLES)


def load_deap(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of one person, the trials in the order of the videos, ten seconds between them.

    Raises RecordingError where the file holds anything but arrays in the published layout.
    """
    data, _ = read_deap(path)
    step = round(STEP_SECONDS * RATE)
    length = step * (N_TRIALS - 1) + N_SAMPLES
    samples = np.full((N_CHANNELS, length), np.nan, np.result_type(data.dtype, np.float32))
    for trial in range(N_TRIALS):
        samples[:, trial * step : trial * step + N_SAMPLES] = data[trial]
    spread = float(np.median(data[:, : len(_EEG)].std(axis=2)))
    is_scalp = _SCALP_UV[0] < spread < _SCALP_UV[1]
    notes = ["the trials are in the order of the videos: time in this recording is not time in the session"]
    if not is_scalp:
        notes.append(f"the EEG has a spread of {spread:.3g}, which no scalp gives in uV; its unit is not known")
    voltage = "uV" if is_scalp else ""
    kinds = [(name, "eeg", True) for name in _EEG] + list(_OTHERS)
    block = block_in_memory(samples)
    channels = [
        RawChannel(
            label=label,
            unit=voltage if is_voltage else ARBITRARY if modality in ("resp", "bvp") else "",
            sampling_rate=RATE,
            start_seconds=0.0,
            n_samples=samples.shape[1],
            key=key,
            block=block,
            source=path.name,
            modality=modality,
            recognised_by=FORMAT,
        )
        for key, (label, modality, is_voltage) in enumerate(kinds)
    ]
    signals, more = assemble_signals(channels, overrides)
    return Recording("", "", path.stem, signals, (), None, (*notes, *more))


def read_deap(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the samples (trial, channel, sample) and the ratings (trial, rating) of a file.

    Raises RecordingError where they are not in the published layout, or a rating is not from 1 to 9.
    """
    content = read_arrays(path)
    parts = []
    for name, shape in (("data", (N_TRIALS, N_CHANNELS, N_SAMPLES)), ("labels", (N_TRIALS, len(RATINGS)))):
        part = content.get(name) if isinstance(content, dict) else None
        if not isinstance(part, np.ndarray) or part.shape != shape:
            there = f"the shape {part.shape}" if isinstance(part, np.ndarray) else "no array"
            raise RecordingError(f"{path.name}: not as DEAP's files are: {name!r} has {there}, not {shape}")
        parts.append(part)
    data, labels = parts
    if not ((labels >= 1) & (labels <= 9)).all():
        raise RecordingError(f"{path.name}: 'labels' holds values that are no ratings (1 to 9)")
    return data, labels
