"""Formats of clinical and laboratory EEG that are read through mne: Neuroscan, Nihon Kohden, Persyst and Nicolet.

mne types their channels itself, so labels decide what a channel is. Their start is the clock of the device.

Events of Neuroscan files are placed here, by the table behind the samples: one of the types 1 and 2 gives the byte at
which its sample begins, one of type 3 (files above 1 GB) the number of the sample. mne places the first two a sample
early, and those of type 3 too early by the length of the header; EEGLAB's reader, mended against exports of the maker's
own program, places them as here.

References
----------
Bourke P. EEG file formats: Neuroscan CNT. https://paulbourke.net/dataformats/eeg/. Where events of each type lie:
https://github.com/sccn/eeglab/pull/5 and https://github.com/sccn/neuroscanio (loadcnt.m).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biopercept.errors import RecordingError
from biopercept.loaders.annotations import MOST_ANNOTATIONS
from biopercept.loaders.identity import HIDDEN, identity_in_text
from biopercept.loaders.readers.mne_raws import OpenedRaw, quiet_mne, recording_of
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Recording

LARGEST_HEADER = 64 << 20
_HEADER_BYTES, _CHANNEL_BYTES = 900, 75
_TABLE = struct.Struct("<Bll")
_EVENT_BYTES = {1: 8, 2: 19, 3: 19}
_EVENT = struct.Struct("<HBBl")
_REJECT, _ACCEPT = 0xC0, 0xD0
"""What the byte of the response pad says where a person marked where a bad stretch begins, and where it ends."""
_NIHON = (b"EEG-1100", b"EEG-2100", b"EEG-1200", b"QI-403A", b"DAE-2100D")


@dataclass(frozen=True)
class ClinicalFormat:
    """A format that mne reads: its name, the suffix of its header, and the first bytes of that, empty for any text."""

    name: str
    suffix: str
    magics: tuple[bytes, ...]
    beside: str = ""
    read: Callable[[Path], Any] = lambda path: None


def _neuroscan(path: Path) -> Any:
    import mne

    raw = mne.io.read_raw_cnt(path, preload=False)
    events = neuroscan_events(path)
    return raw.set_annotations(mne.Annotations(*zip(*events, strict=True)) if events else None)


def _nihon(path: Path) -> Any:
    import mne

    return mne.io.read_raw_nihon(path, preload=False)


def _persyst(path: Path) -> Any:
    import mne

    return mne.io.read_raw_persyst(path, preload=False)


def _nicolet(path: Path) -> Any:
    import mne

    return mne.io.read_raw_nicolet(path, ch_type="eeg", preload=False)


CLINICAL = (
    ClinicalFormat("Neuroscan CNT", ".cnt", (b"Version 3.0",), read=_neuroscan),
    ClinicalFormat("Nihon Kohden", ".eeg", _NIHON, read=_nihon),
    ClinicalFormat("Persyst", ".lay", (b"[FileInfo]", b"[fileinfo]"), beside=".dat", read=_persyst),
    ClinicalFormat("Nicolet", ".data", (), beside=".head", read=_nicolet),
)


def clinical_format(path: Path, first_bytes: bytes) -> ClinicalFormat | None:
    """Return which of these formats a file is in, None where in none."""
    for one in CLINICAL:
        if path.suffix.lower() == one.suffix and (
            first_bytes.startswith(one.magics) if one.magics else path.with_suffix(one.beside).is_file()
        ):
            return one
    return None


def load_clinical(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a file in one of these formats, its samples unread.

    Raises RecordingError where it is damaged, or holds fewer samples than it says.
    """
    with path.open("rb") as stream:
        form = clinical_format(path, stream.read(64))
    if form is None:
        raise RecordingError(f"{path.name}: none of {', '.join(one.name for one in CLINICAL)}")
    header = path.with_suffix(form.beside) if form.name == "Nicolet" else path
    if form.beside and header.stat().st_size > LARGEST_HEADER:
        raise RecordingError(f"{path.name}: a header of more than {LARGEST_HEADER >> 20} MB is none")
    notes = _of_parts(path, form.name)
    with quiet_mne(path, form.name, notes):
        raw = form.read(path)
    _check_samples(path, form.name, raw)
    with quiet_mne(path, form.name):
        raw.get_data(start=raw.n_times - 1)  # a file that is cut shows here, and not after an hour of reading
    if form.name == "Neuroscan CNT" and raw.info["meas_date"] is not None:
        raw.set_meas_date(None)
        notes.append("the start is not used: the format does not say whether day or month comes first")
    types = ["stim" if kind == "stim" else "" for kind in raw.get_channel_types()]
    return recording_of(OpenedRaw(path, form.name, raw, types, notes), overrides)


def _of_parts(path: Path, name: str) -> list[str]:
    """Return the note that a part of the recording names a person, where one does.

    Raises RecordingError where one of the files that belong together is a pipe or a device, which mne would wait for.
    """
    parts = [part for part in path.parent.iterdir() if part.stem == path.stem and part.suffix and part != path]
    for part in parts:
        if not part.is_file() and not part.is_dir() and os.path.lexists(part):
            raise RecordingError(f"{path.name}: {part.name} beside it is not a regular file; copy it from the recorder")
    suffixes = {part.suffix.lower(): part for part in parts}
    if name == "Nihon Kohden" and ".pnt" in suffixes:
        return [HIDDEN]
    if name == "Nicolet" and ".head" in suffixes:
        return list(identity_in_text(suffixes[".head"].read_text("latin-1")))
    return []


def _check_samples(path: Path, name: str, raw: Any) -> None:
    """Raise RecordingError where the files cannot hold the samples that mne promises."""
    n_bytes = sum(Path(file).stat().st_size for file in raw.filenames if file is not None)
    if raw.n_times * len(raw.ch_names) * 2 > n_bytes:
        raise RecordingError(
            f"{path.name}: {raw.n_times} samples of {len(raw.ch_names)} channels are said, {n_bytes} bytes are there;"
            f" the {name} file is cut, copy it again"
        )


def neuroscan_events(path: Path) -> list[tuple[float, float, str]]:
    """Return the events of a file as (onset, duration, label) in seconds; bad stretches are called BAD and their code.

    Raises RecordingError where the header or the table of events is damaged.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES:
            raise _fault(path, "the header is cut")
        n_channels, rate = struct.unpack_from("<H", head, 370)[0], struct.unpack_from("<H", head, 376)[0]
        n_samples, at = struct.unpack_from("<i", head, 864)[0], struct.unpack_from("<I", head, 886)[0]
        begin = _HEADER_BYTES + _CHANNEL_BYTES * n_channels
        if not n_channels or not rate or at < begin:
            raise _fault(path, "it gives no channels, no rate or no place of its events")
        frame = (4 if (at - begin) == 4 * n_channels * n_samples else 2) * n_channels
        stream.seek(at)
        table = stream.read(_TABLE.size)
        if len(table) < _TABLE.size:
            return []
        kind, n_bytes, _ = _TABLE.unpack(table)
        if kind not in _EVENT_BYTES:
            raise _fault(path, f"its events are of type {kind}, which is none")
        rows = stream.read(max(min(n_bytes, MOST_ANNOTATIONS * _EVENT_BYTES[kind]), 0))
    places = (_EVENT.unpack_from(rows, row) for row in range(0, len(rows) - _EVENT_BYTES[kind] + 1, _EVENT_BYTES[kind]))
    events = sorted(
        ((place if kind == 3 else (place - begin) // frame), code, key, pad) for code, key, pad, place in places
    )
    return list(_labelled(events, float(rate), (at - begin) // frame))


def _fault(path: Path, what: str) -> RecordingError:
    return RecordingError(f"{path.name}: {what}; the Neuroscan CNT file is damaged, copy it again")


def _labelled(
    events: list[tuple[int, int, int, int]], rate: float, n_samples: int
) -> Iterator[tuple[float, float, str]]:
    """Give events of (sample, code, key, response pad) in seconds; a bad stretch lasts until a person ended it."""
    for number, (sample, code, key, pad) in enumerate(events):
        if pad == _ACCEPT:
            continue
        pressed = pad & 0x0F
        label = f"KeyPad Response {pressed}" if pressed else f"Keyboard Response {key}" if key else str(code)
        if pad != _REJECT:
            yield sample / rate, 0.0, label
            continue
        end = next((later for later, *_, other in events[number + 1 :] if other in (_ACCEPT, _REJECT)), n_samples)
        yield sample / rate, (end - sample) / rate, f"BAD_{label}"
