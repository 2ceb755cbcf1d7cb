"""FIF recordings (.fif, .fif.gz, and the parts of a split one), read through mne once their tags have been walked.

A FIF file is a chain of tags, each with its size and the place of the next. The chain is walked before mne sees the
file: mne loops where it closes on itself, follows the name of the next part wherever it leads, unpacks whatever a gzip
member holds, and loads a file that is cut with a warning.

References
----------
Functional Image File Format (FIFF) specification, version 1.3. Helsinki: Elekta Neuromag; 2009. Gramfort A, Luessi M,
Larson E, et al. MEG and EEG data analysis with MNE-Python. Front Neurosci 2013;7:267. doi:10.3389/fnins.2013.00267
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from biopercept.errors import RecordingError
from biopercept.files import is_file, temporary_prefix
from biopercept.loaders.archives import unpacked
from biopercept.loaders.readers.mne_raws import OpenedRaw, quiet_mne, recording_of
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Recording

MOST_TAGS = 5_000_000
MOST_PARTS = 1000
LARGEST_UNPACKED = 2 << 30
LARGEST_RATIO = 100
_GZIP = b"\x1f\x8b"
_TAG = struct.Struct(">iIii")
_ENTRY = np.dtype([("kind", ">i4"), ("type", ">u4"), ("size", ">i4"), ("position", ">i4")])
_FIRST_TAG = struct.pack(">iIi", 100, 31, 20)
_POINTER, _ROLE, _NUMBER, _NAME, _DIRECTORY_TYPE = 101, 115, 117, 118, 32
_PREVIOUS, _NEXT = 1, 2
_MOST_NAME = 4096


@dataclass(frozen=True)
class FifTags:
    """What a walk along the tags of one file found: whether a part comes before it, and the name of the next part."""

    follows_another: bool
    next_name: str


def is_fif(path: Path, first_bytes: bytes) -> bool:
    """Return whether a file begins as FIF, or is gzip under the name of one."""
    return first_bytes.startswith(_FIRST_TAG) or (
        first_bytes.startswith(_GZIP) and path.name.lower().endswith(".fif.gz")
    )


def load_fif(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a FIF file and of the parts that follow it, its samples unread.

    Times that the recorder skipped are missing samples, trigger channels become intervals called after their value, and
    positions measured on the head are kept.

    Raises RecordingError where the file is cut or damaged, or names a part outside its folder.
    """
    import mne

    with path.open("rb") as stream:
        is_packed = stream.read(2) == _GZIP
    file = _unpacked(path) if is_packed else path
    try:
        notes = _check_parts(file)
        with quiet_mne(path, "FIF", notes):
            raw = mne.io.read_raw_fif(file, preload=False, allow_maxshield=True, on_split_missing="warn")
    except RecordingError:
        if is_packed:
            _remove(file)
        raise
    if is_packed:
        weakref.finalize(raw, _remove, file)  # samples are read from it as long as the recording is used
    return recording_of(
        OpenedRaw(path, "FIF", raw, raw.get_channel_types(), notes, has_zone=True, triggers="read"), overrides
    )


def _unpacked(path: Path) -> Path:
    """Return a temporary file with what a gzip file holds, under its name: reading to and fro in gzip takes hours.

    Raises RecordingError where it is damaged, or holds more than a recording of this size does.
    """
    limit = min(LARGEST_UNPACKED, max(LARGEST_RATIO * path.stat().st_size, 1 << 26))
    file = Path(tempfile.mkdtemp(prefix=temporary_prefix())) / path.name[: -len(".gz")]
    too_large = f"unpacks to more than {limit >> 20} MB, which no recording of this size does; unpack it yourself"
    try:
        with file.open("wb") as plain:
            plain.writelines(unpacked(path, limit, too_large))
    except OSError as fault:
        _remove(file)
        raise RecordingError(f"{path.name}: cannot be unpacked ({fault.strerror}); unpack it yourself") from fault
    except RecordingError:
        _remove(file)
        raise
    return file


def _remove(file: Path) -> None:
    shutil.rmtree(file.parent, ignore_errors=True)


def _check_parts(path: Path) -> list[str]:
    """Return notes on a file and its parts. Raises RecordingError where one of them cannot be trusted."""
    notes: list[str] = []
    parts = [path]
    while True:
        part = parts[-1]
        tags = walk_tags(part)
        if part == path and tags.follows_another:
            notes.append("a later part of a split recording; name the first part to have all of it")
        if not tags.next_name:
            return notes
        if tags.next_name != Path(tags.next_name).name or "\\" in tags.next_name:
            raise RecordingError(
                f"{part.name}: names {tags.next_name!r} as its next part, which may lie outside its folder; it must be"
                " a file beside it"
            )
        following = part.with_name(tags.next_name)
        if following in parts or len(parts) >= MOST_PARTS:
            raise RecordingError(
                f"{part.name}: its next part, {following.name}, is one that was read before; it is damaged"
            )
        if not is_file(following):
            notes.append(
                f"the next part of the split recording, {following.name}, is not there; the recording ends before it"
            )
            return notes
        parts.append(following)


def walk_tags(path: Path) -> FifTags:
    """Return what the tags of a file say of its parts, once every tag lies inside the file.

    Raises RecordingError where one does not, the chain goes back, or the directory names tags that are not there.
    """
    try:
        with path.open("rb") as stream:
            return _walked(path, stream, path.stat().st_size)
    except OSError as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault.strerror})") from fault


def _walked(path: Path, stream: BinaryIO, size: int) -> FifTags:
    tags: list[tuple[int, int, int]] = []
    pointer, parts = 0, _Parts()
    at = 0
    while head := stream.read(_TAG.size):
        if len(head) < _TAG.size:
            raise _fault(path, f"it is cut inside the tag at byte {at}")
        kind, _, n_bytes, following = _TAG.unpack(head)
        end = at + _TAG.size + n_bytes
        if n_bytes < 0 or end > size:
            raise _fault(path, f"the tag at byte {at} has {n_bytes} bytes, which the file does not hold")
        if len(tags) >= MOST_TAGS:
            raise _fault(path, f"it has more than {MOST_TAGS} tags")
        tags.append((kind, n_bytes, at))
        if kind == _POINTER:
            pointer = int.from_bytes(stream.read(min(n_bytes, 4)), "big", signed=True)
        elif kind in (_ROLE, _NUMBER, _NAME):
            parts.add(kind, stream.read(min(n_bytes, _MOST_NAME)))
        if following == -1:
            break
        at = following if following > 0 else end
        if at < end:
            raise _fault(path, f"the tag at byte {tags[-1][2]} is followed by one that begins before its end")
        stream.seek(at)
    if pointer > 0:
        _check_directory(path, stream, pointer, tags)
    return FifTags(parts.follows_another, parts.next_of(path.name))


@dataclass
class _Parts:
    """What tags of kind reference say of the parts of a split recording."""

    role: int = 0
    follows_another: bool = False
    name: str = ""
    number: int = 0

    def add(self, kind: int, content: bytes) -> None:
        value = int.from_bytes(content[:4], "big", signed=True)
        if kind == _ROLE:
            self.role = value
            self.follows_another |= value == _PREVIOUS
        elif self.role == _NEXT and kind == _NAME:
            self.name = content.rstrip(b"\x00").decode("latin-1")
        elif self.role == _NEXT:
            self.number = value

    def next_of(self, name: str) -> str:
        """Return the name of the next part, built from the name of this one where the file keeps its number only."""
        if self.name or self.number <= 0:
            return self.name
        base, _, rest = name.partition(".")
        stem, _, last = base.rpartition("-")
        return f"{stem if stem and last.isdigit() else base}-{self.number}.{rest}"


def _check_directory(path: Path, stream: BinaryIO, pointer: int, tags: list[tuple[int, int, int]]) -> None:
    """Raise RecordingError where the directory, by which mne finds its way, is missing or names what is not there."""
    stream.seek(pointer)
    head = stream.read(_TAG.size)
    _, kind_of_data, n_bytes, _ = _TAG.unpack(head) if len(head) == _TAG.size else (0, 0, -1, 0)
    if kind_of_data != _DIRECTORY_TYPE or not 0 <= n_bytes <= 16 * (len(tags) + 1):
        raise _fault(path, "its directory of tags is missing")
    content = stream.read(n_bytes)
    if len(content) < n_bytes:
        raise _fault(path, "its directory of tags is cut")
    known = {(position, kind, size) for kind, size, position in tags}
    for entry in np.frombuffer(content[: n_bytes // 16 * 16], dtype=_ENTRY):
        if int(entry["kind"]) != -1 and (int(entry["position"]), int(entry["kind"]), int(entry["size"])) not in known:
            raise _fault(path, f"its directory names a tag at byte {entry['position']} that is not there")


def _fault(path: Path, what: str) -> RecordingError:
    return RecordingError(f"{path.name}: {what}; the FIF file is cut or damaged, copy it again")
