"""EDF and BDF files without what tells whose they are: the header by the rules of EDF+, annotations by an allow-list.

Everything else stays as it is, sample for sample. File names, and labels, transducers and filters of channels are kept:
they describe the sensors.

References
----------
EDF+ specification, section 2.1.3 (additional specifications) with its rules for anonymous files,
https://www.edfplus.info/specs/edfplus.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from biopercept.errors import RecordingError
from biopercept.files import replacing
from biopercept.loaders.readers.edf import EdfHeader, is_edf, read_edf_header

_PATIENT, _RECORDING, _DATE, _TIME = slice(8, 88), slice(88, 168), slice(168, 176), slice(176, 184)
_ANONYMOUS = {
    "patient": (_PATIENT, b"X X X X"),
    "recording": (_RECORDING, b"Startdate X X X X"),
    "start date": (_DATE, b"01.01.85"),
    "start time": (_TIME, b"00.00.00"),
}


@dataclass(frozen=True)
class Removed:
    """What was taken out of a file: fields of its header, annotations, and bytes behind its last data record."""

    fields: tuple[str, ...]
    n_annotations: int
    n_annotations_kept: int
    n_stray_bytes: int

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "header_fields": list(self.fields),
            "n_annotations": self.n_annotations,
            "n_annotations_kept": self.n_annotations_kept,
            "n_stray_bytes": self.n_stray_bytes,
        }


def deidentify(source: Path, target: Path, *, kept_texts: Sequence[str] = (), keeps_time: bool = False) -> Removed:
    """Write an EDF or BDF file without what tells whose it is, and return what was removed.

    Patient and recording fields become those of an anonymous EDF+ file, the start date 01.01.85 and the time of day
    00.00.00, unless ``keeps_time``. Annotations are kept where their text is like one of ``kept_texts`` (patterns of
    fnmatch, in any case); onsets of data records always are. Bytes behind the last data record are no samples and go.

    Raises RecordingError where the file is no EDF or BDF, or damaged. Raises OutputError where nothing can be written.
    """
    with source.open("rb") as stream:
        first = stream.read(8)
        if not first:
            raise RecordingError(f"{source.name}: the file is empty (0 bytes)")
        if not is_edf(first):
            raise RecordingError(
                f"{source.name}: not EDF or BDF, the formats from whose files names are removed; export it as EDF"
            )
    header = read_edf_header(source, only_annotations=True)
    n_annotations = n_kept = 0
    with source.open("rb") as stream, replacing(target) as temporary, temporary.open("wb") as output:
        fixed = bytearray(stream.read(256))
        fields = _anonymised(fixed, keeps_time=keeps_time)
        output.write(fixed)
        output.write(stream.read(header.header_bytes - 256))
        for record in _records(stream, header):
            removed, kept = _without_texts(record, header, kept_texts)
            n_annotations, n_kept = n_annotations + removed, n_kept + kept
            output.write(record)
        n_stray = len(stream.read())
    return Removed(fields, n_annotations, n_kept, n_stray)


def _anonymised(fixed: bytearray, *, keeps_time: bool) -> tuple[str, ...]:
    """Make the first 256 bytes of a header anonymous and return the names of the fields that were not."""
    changed = []
    for name, (place, value) in _ANONYMOUS.items():
        if name == "start time" and keeps_time:
            continue
        anonymous = value.ljust(place.stop - place.start)
        if bytes(fixed[place]) != anonymous:
            fixed[place] = anonymous
            changed.append(name)
    return tuple(changed)


def _records(stream: BinaryIO, header: EdfHeader) -> Iterator[bytearray]:
    for _ in range(header.n_records):
        yield bytearray(stream.read(header.record_bytes))


def _without_texts(record: bytearray, header: EdfHeader, kept_texts: Sequence[str]) -> tuple[int, int]:
    """Remove annotations from a data record, and return how many were removed and kept."""
    n_removed = n_kept = 0
    for channel in header.channels:
        if not channel.is_annotation:
            continue
        size = channel.samples_per_record * header.sample_bytes
        place = slice(channel.byte_offset, channel.byte_offset + size)
        lists = []
        for entry in bytes(record[place]).split(b"\x00"):
            onset, *texts = entry.split(b"\x14")
            words = [text for text in texts if text]
            kept = [text for text in words if _is_kept(text, kept_texts)]
            n_removed, n_kept = n_removed + len(words) - len(kept), n_kept + len(kept)
            keeps_record = bool(texts) and not texts[0]  # says when the record starts
            if _is_onset(onset) and (kept or keeps_record):
                lists.append(b"\x14".join([onset, *([b""] if keeps_record else []), *kept, b""]))
        record[place] = b"".join(one + b"\x00" for one in lists).ljust(size, b"\x00")[:size]
    return n_removed, n_kept


def _is_kept(text: bytes, patterns: Sequence[str]) -> bool:
    words = text.decode("utf-8", "replace").strip().lower()
    return any(fnmatch(words, pattern.lower()) for pattern in patterns)


def _is_onset(text: bytes) -> bool:
    """Return whether an onset, with or without a duration, is made of numbers alone."""
    try:
        return text[:1] in (b"+", b"-") and all(float(part) is not None for part in text.split(b"\x15"))
    except ValueError:
        return False
