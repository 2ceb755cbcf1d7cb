"""subNN_hi.txt and subNN_lo.txt of the data set STEW: 14 columns of an Emotiv EPOC at 128 Hz, without a header.

Columns and rate are those that its paper and page give (doi 10.1109/TNSRE.2018.2872924); the unit is the headset's, and
is believed where the numbers lie on its offset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory
from biopercept.loaders.emotiv import ELECTRODES, emotiv_unit
from biopercept.loaders.readers.text_tables import numbers_of, read_text
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.recording import Recording

RATE = 128.0
FILE = re.compile(r"sub(\d\d)_(lo|hi)\.txt")


def is_stew(path: Path, first_bytes: bytes) -> bool:
    """Return whether a file is one of STEW: by its name, and 14 numbers in its first line."""
    cells = first_bytes.split(b"\n", 1)[0].decode("latin-1").split()
    return bool(FILE.fullmatch(path.name)) and len(cells) == len(ELECTRODES) and not np.isnan(numbers_of(cells)).any()


def load_stew(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of one file.

    Raises RecordingError where a line has not 14 numbers.
    """
    notes: list[str] = []
    rows = []
    for number, line in enumerate(read_text(path, notes).splitlines(), 1):
        if not line.strip():
            continue
        values = numbers_of(line.split())
        if len(values) != len(ELECTRODES) or np.isnan(values).any():
            raise RecordingError(
                f"{path.name} line {number}: {len(ELECTRODES)} numbers are needed ({line.strip()[:40]!r})"
            )
        rows.append(values)
    if len(rows) < 2:
        raise RecordingError(f"{path.name}: fewer than two rows of samples")
    samples = np.array(rows).T
    unit = emotiv_unit(samples)
    if not unit:
        notes.append("the numbers do not lie on the offset of an Emotiv headset (about 4200 uV)")
    block = block_in_memory(samples)
    channels = [
        RawChannel(
            label=name,
            unit=unit,
            sampling_rate=RATE,
            start_seconds=0.0,
            n_samples=samples.shape[1],
            key=key,
            block=block,
            source=path.name,
            modality="eeg",
            recognised_by=FORMAT,
        )
        for key, name in enumerate(ELECTRODES)
    ]
    signals, more = assemble_signals(channels, overrides)
    return Recording("", "", path.stem, signals, (), None, (*notes, *more))
