"""The annotations of an EDF+ or BDF+ file: when each data record starts, and what was noted when.

References
----------
EDF+ specification, section 2.2 (time-stamped annotation lists), https://www.edfplus.info/specs/edfplus.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError
from biopercept.recording import FloatArray, Interval

from .edf_header import EdfChannel, EdfHeader

MOST_ANNOTATIONS = 200_000
LONGEST_LABEL = 256


@dataclass(frozen=True)
class EdfAnnotations:
    """What the annotation channels of a file say.

    Attributes
    ----------
    record_onsets : array (n_records,) or None
        Start of each data record in seconds from the header's start time; None where the file
        has no annotation channel or does not say it for every record.
    first_onset : float
        Start of the first record, seconds; 0 where it is not known.
    intervals : tuple of Interval
        In time order, seconds from the first sample.
    notes : tuple of str
    """

    record_onsets: FloatArray | None
    first_onset: float
    intervals: tuple[Interval, ...]
    notes: tuple[str, ...]


def read_annotations(path: Path, header: EdfHeader) -> EdfAnnotations:
    """Return the annotations of a file whose header was checked.

    Raises
    ------
    RecordingError
        Where the file cannot be read.
    """
    channels = [channel for channel in header.channels if channel.is_annotation and channel.samples_per_record]
    if not channels:
        return EdfAnnotations(None, 0.0, (), ())
    onsets = np.full(header.n_records, np.nan)
    found: list[tuple[float, float, str]] = []
    n_broken = 0
    for record, position, content in _contents(path, header, channels):
        for number, entry in enumerate(content.split(b"\x00")):
            if not entry:
                continue
            parsed = _entry(entry)
            if parsed is None:
                n_broken += 1
                continue
            onset, duration, texts = parsed
            # The first list of a record's first annotation channel has an empty text and says when the record starts.
            if position == 0 and number == 0 and texts[:1] == [""]:
                onsets[record] = onset
            found.extend((onset, duration, text) for text in texts if text and len(found) < MOST_ANNOTATIONS)
    notes = []
    if n_broken:
        notes.append(f"{n_broken} annotations cannot be read and are left out")
    if len(found) >= MOST_ANNOTATIONS:
        notes.append(f"only the first {MOST_ANNOTATIONS} annotations are used")
    is_known = bool(np.isfinite(onsets).all())
    if not is_known and np.isfinite(onsets).any():
        notes.append(f"{int(np.isnan(onsets).sum())} data records do not say when they start")
    first = float(onsets[0]) if np.isfinite(onsets[0]) else 0.0
    intervals = sorted((Interval(onset - first, duration, text) for onset, duration, text in found), key=_when)
    return EdfAnnotations(onsets if is_known else None, first, tuple(intervals), tuple(notes))


def _when(interval: Interval) -> float:
    return interval.onset_seconds


def _contents(path: Path, header: EdfHeader, channels: list[EdfChannel]) -> Iterator[tuple[int, int, bytes]]:
    """Give (record, position of the annotation channel, its bytes) of every data record."""
    try:
        with path.open("rb", buffering=0) as stream:
            for record in range(header.n_records):
                for position, channel in enumerate(channels):
                    stream.seek(header.header_bytes + record * header.record_bytes + channel.byte_offset)
                    yield record, position, stream.read(channel.samples_per_record * header.sample_bytes)
    except OSError as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault.strerror})") from fault


def _entry(entry: bytes) -> tuple[float, float, list[str]] | None:
    """Return onset, duration (0 where none is given) and texts of one annotation list; None if it is malformed."""
    head, *texts = entry.split(b"\x14")
    onset_text, _, duration_text = head.partition(b"\x15")
    try:
        onset = float(onset_text)
        duration = float(duration_text) if duration_text else 0.0
    except ValueError:
        return None
    is_sound = onset_text[:1] in b"+-" and texts and math.isfinite(onset) and math.isfinite(duration) and duration >= 0
    if not is_sound:
        return None
    # The bytes after the last separator are empty in a well-formed list.
    return onset, duration, [_label(text) for text in (texts[:-1] or texts)]


def _label(text: bytes) -> str:
    decoded = text.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in decoded).strip()[:LONGEST_LABEL]
