"""Events of Neuroscan files (.cnt), placed by the table behind the samples.

An event of the types 1 and 2 gives the byte at which its sample begins, one of type 3 (files above 1 GB) the number of
the sample. mne places the first two a sample early, and those of type 3 too early by the length of the header; EEGLAB's
reader, mended against exports of the maker's own program, places them as here.

References
----------
Bourke P. EEG file formats: Neuroscan CNT. https://paulbourke.net/dataformats/eeg/. Where events of each type lie:
https://github.com/sccn/eeglab/pull/5 and https://github.com/sccn/neuroscanio (loadcnt.m).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from biopercept.errors import RecordingError
from biopercept.loaders.annotations import MOST_ANNOTATIONS

_HEADER_BYTES, _CHANNEL_BYTES = 900, 75
_TABLE = struct.Struct("<Bll")
_EVENT_BYTES = {1: 8, 2: 19, 3: 19}
_EVENT = struct.Struct("<HBBl")
_REJECT, _ACCEPT = 0xC0, 0xD0
"""What the byte of the response pad says where a person marked where a bad stretch begins, and where it ends."""


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
