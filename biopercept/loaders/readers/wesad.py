"""SX.pkl of the data set WESAD: a chest belt at 700 Hz and a wristband that its authors placed on the belt's clock.

Keys, rates and units are those of the data set's readme (sections II.1 to II.3): the file holds the chest signals in SI
units, the wrist's acceleration in 1/64 g, and the label of each chest sample. The two devices were put on one clock by
the authors, by double taps of the hand on the chest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory
from biopercept.loaders.numpy_pickle import read_arrays
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.modalities import MODALITIES
from biopercept.recording import Interval, Recording

CHEST_HZ = 700.0
LABELS = {1: "baseline", 2: "stress", 3: "amusement", 4: "meditation"}
"""0 is between the conditions; 5, 6 and 7 are to be ignored, the readme says."""

# Device, key -> modality, rate in Hz, number of channels, what a unit of the file is in the modality's unit.
_SIGNALS: dict[tuple[str, str], tuple[str, float, int, float]] = {
    ("chest", "ACC"): ("acc", CHEST_HZ, 3, 1.0),
    ("chest", "ECG"): ("ecg", CHEST_HZ, 1, 1.0),
    ("chest", "EMG"): ("emg", CHEST_HZ, 1, 1.0),
    ("chest", "EDA"): ("eda", CHEST_HZ, 1, 1.0),
    ("chest", "Temp"): ("temp", CHEST_HZ, 1, 1.0),
    ("chest", "Resp"): ("resp", CHEST_HZ, 1, 1.0),
    ("wrist", "ACC"): ("acc", 32.0, 3, 1 / 64),
    ("wrist", "BVP"): ("bvp", 64.0, 1, 1.0),
    ("wrist", "EDA"): ("eda", 4.0, 1, 1.0),
    ("wrist", "TEMP"): ("temp", 4.0, 1, 1.0),
}
_NAME = re.compile(r"S\d{1,2}")
_PICKLES = (b"\x80", b"(d", b"(i", b"}")
_FAR_SECONDS = 10.0

Arrays = Mapping[str, NDArray[np.generic]]


def is_wesad(path: Path, first_bytes: bytes) -> bool:
    """Return whether a file is SX/SX.pkl: by its name, that of its folder, and how a pickle begins."""
    is_named = path.suffix.lower() == ".pkl" and bool(_NAME.fullmatch(path.stem))
    return is_named and path.absolute().parent.name == path.stem and first_bytes.startswith(_PICKLES)


def load_wesad(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of one person, chest and wrist on the chest's clock, the conditions as its intervals.

    Raises RecordingError where the file holds anything but arrays in the published layout.
    """
    content = read_wesad(path)
    notes: list[str] = []
    channels: list[RawChannel] = []
    spans: dict[str, float] = {}
    for (device, key), (modality, rate, n_channels, scale) in _SIGNALS.items():
        values = _values(path, content, device, key, n_channels)
        if values is None:
            notes.append(f"{device} {key}: not in the file")
            continue
        spans[device] = max(spans.get(device, 0.0), values.shape[1] / rate)
        block = block_in_memory(values * scale if scale != 1.0 else values)
        channels += [
            RawChannel(
                label=f"{device} {key}" + (f" {axis}" if n_channels > 1 else ""),
                unit=MODALITIES[modality].unit,
                sampling_rate=rate,
                start_seconds=0.0,
                n_samples=values.shape[1],
                key=number,
                block=block,
                source=path.name,
                modality=modality,
                recognised_by=FORMAT,
            )
            for number, axis in enumerate("xyz"[:n_channels])
        ]
    if not channels:
        raise RecordingError(f"{path.name}: none of WESAD's signals is in the file")
    if len(spans) == 2 and abs(spans["chest"] - spans["wrist"]) > _FAR_SECONDS:
        notes.append(
            f"the chest's signals last {spans['chest']:.0f} s, the wrist's {spans['wrist']:.0f} s: they may not be on "
            "one clock"
        )
    signals, more = assemble_signals(channels, overrides)
    return Recording("", "", path.stem, signals, conditions(path, content), None, (*notes, *more))


def read_wesad(path: Path) -> Mapping[str, object]:
    """Return the dictionary that a file holds. Raises RecordingError where it is none with a signal and a label."""
    content = read_arrays(path)
    if not isinstance(content, dict) or not isinstance(content.get("signal"), dict) or "label" not in content:
        raise RecordingError(
            f"{path.name}: not as WESAD's files are: a dictionary with 'signal', 'label' and 'subject'"
        )
    return content


def conditions(path: Path, content: Mapping[str, object]) -> tuple[Interval, ...]:
    """Return the conditions, in time order; all but baseline, stress, amusement and meditation are left out.

    Raises RecordingError where the labels are no numbers from 0 to 7.
    """
    labels = content["label"]
    if not isinstance(labels, np.ndarray) or labels.size == 0:
        raise RecordingError(f"{path.name}: 'label' is no array of numbers")
    labels = labels.ravel()
    if not np.isin(labels, np.arange(8)).all():
        raise RecordingError(f"{path.name}: 'label' holds values that are no labels of WESAD (0 to 7)")
    borders = np.flatnonzero(np.diff(labels)) + 1
    starts, ends = [0, *borders.tolist()], [*borders.tolist(), len(labels)]
    return tuple(
        Interval(start / CHEST_HZ, (end - start) / CHEST_HZ, LABELS[int(labels[start])])
        for start, end in zip(starts, ends, strict=True)
        if int(labels[start]) in LABELS
    )


def _values(
    path: Path, content: Mapping[str, object], device: str, key: str, n_channels: int
) -> NDArray[np.float64] | None:
    """Return a signal as (n_channels, n_samples); None where the file does not have it."""
    signal = content["signal"]
    of_device = signal.get(device) if isinstance(signal, dict) else None
    values = of_device.get(key) if isinstance(of_device, dict) else None
    if values is None:
        return None
    if not isinstance(values, np.ndarray):
        raise RecordingError(f"{path.name}: {device} {key} is no array")
    table = values.reshape(len(values), -1) if values.ndim else values.reshape(0, 1)
    if values.ndim > 2 or table.shape[1] != n_channels:
        raise RecordingError(f"{path.name}: {device} {key} has the shape {values.shape}, not (samples, {n_channels})")
    return table.T.astype(np.float64)
