"""EGI recordings: the simple binary export of Net Station (.raw), its sizes checked here and its samples read by mne.

Samples are microvolts, and where the header gives the bits and the range (microvolts) of the converter, steps of
range / 2**bits microvolts: so says the manual, and EEGLAB, whose reader is written after code of the maker, does the
same. mne takes the microvolts of such a file for volts. The start is read here, too: mne takes it for a time of the
machine's own zone.

References
----------
Electrical Geodesics. Net Station file formats technical manual. Eugene, OR: Electrical Geodesics; 2006, chapter 4,
"EGI simple binary" (doc. S-MAN-200-FFTR-001). EEGLAB, readegi.m: https://github.com/sccn/eeglab.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from biopercept.errors import RecordingError
from biopercept.loaders.readers.mne_raws import FASTEST, MOST_CHANNELS, OpenedRaw, quiet_mne, recording_of
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Recording

_HEAD = struct.Struct(">i6hi5hih")
_SAMPLE_BYTES = {2: 2, 4: 4, 6: 8}
_FIRST_YEAR, _LAST_YEAR = 1990, 2100


@dataclass(frozen=True)
class EgiHeader:
    """The geometry of a simple binary file; ``n_samples`` as it says, ``n_there`` as its size allows.

    ``is_calibrated`` says that the samples are steps of a converter whose range in microvolts is known.
    """

    n_channels: int
    n_events: int
    n_samples: int
    n_there: int
    sampling_rate: int
    is_calibrated: bool
    started_at: datetime | None


def is_egi(path: Path, first_bytes: bytes) -> bool:
    """Return whether a file is a Net Station simple binary export: its version and date are possible."""
    if path.suffix.lower() != ".raw" or len(first_bytes) < _HEAD.size:
        return False
    version, year, month, day = map(int, _HEAD.unpack(first_bytes[: _HEAD.size])[:4])
    return 2 <= version <= 7 and _FIRST_YEAR <= year <= _LAST_YEAR and 1 <= month <= 12 and 1 <= day <= 31


def read_egi_header(path: Path) -> EgiHeader:
    """Return the checked header. Raises RecordingError where it is of segments, or its sizes cannot be."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise _fault(path, "the header is cut")
    version, *date, rate, n_channels, _gain, bits, span, n_samples, n_events = _HEAD.unpack(head)
    if version % 2:
        raise RecordingError(
            f"{path.name}: EGI segments (epochs) have no time of a recording; export the continuous recording"
        )
    if version not in _SAMPLE_BYTES:
        raise _fault(path, f"version {version} is none that is known")
    if not (1 <= n_channels <= MOST_CHANNELS and n_events >= 0 and n_samples >= 1 and 1 <= rate <= FASTEST):
        raise _fault(
            path, f"{n_channels} channels, {n_events} kinds of events, {n_samples} samples at {rate} Hz cannot be"
        )
    frame = (n_channels + n_events) * _SAMPLE_BYTES[version]
    n_there = (path.stat().st_size - _HEAD.size - 4 * n_events) // frame
    return EgiHeader(n_channels, n_events, n_samples, n_there, rate, bits != 0 and span != 0, _moment(*date))


def _moment(*date: int) -> datetime | None:
    """Return the start that the header gives, whose last number is milliseconds; None where it is no date."""
    year, month, day, hour, minute, second, thousandths = date
    try:
        return datetime(year, month, day, hour, minute, second, thousandths * 1000)
    except (ValueError, OverflowError):
        return None


def _fault(path: Path, what: str) -> RecordingError:
    return RecordingError(f"{path.name}: {what}; the EGI simple binary file is damaged, export it again")


def load_egi(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a simple binary file; every channel is EEG, its events are intervals.

    Raises RecordingError where the file holds fewer samples than it says: its events lie among them.
    """
    import mne

    header = read_egi_header(path)
    if header.n_there < header.n_samples:
        raise _fault(path, f"{max(header.n_there, 0)} of {header.n_samples} samples are there, so it is cut")
    notes: list[str] = []
    if header.n_there > header.n_samples:
        notes.append(f"the header says {header.n_samples} samples but {header.n_there} are there; the rest is left out")
    with quiet_mne(path, "EGI simple binary", notes):
        raw = mne.io.read_raw_egi(path, preload=False, events_as_annotations=True)
    unit = "uV" if header.is_calibrated else "V"  # mne turns steps without a range, microvolts by definition, to volts
    types = raw.get_channel_types()
    n_channels = len(types)
    notes.append("the file names no electrodes (E1, E2, ... are sensors of a net), so none has a place on the head")
    opened = OpenedRaw(path, "EGI simple binary", raw, types, notes, [unit] * n_channels, triggers="known")
    return replace(recording_of(opened, overrides), started_at=header.started_at)
