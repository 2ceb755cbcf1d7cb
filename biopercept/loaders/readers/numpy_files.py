"""NumPy .npy and .npz: arrays of numbers, whose headers are read here and checked before a byte of samples is.

Nothing from a pickle: an array of objects is refused by its header, which is compared with its documented form and
never evaluated.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, listed
from biopercept.loaders.archives import opened_zip
from biopercept.loaders.readers.arrays import MOST_ARRAYS, Arrays, Index, NamedArray, meaning_of, recording_of_arrays
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Recording

LARGEST_ARCHIVE = 1 << 30
"""Bytes of the unpacked arrays of an archive, which are read at once; a .npy is read piece by piece, of any size."""
_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 4096
_HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<type>[<>|=]?[a-zA-Z]\d*)',\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>(?:\d+(?:,\s*\d+)*,?)?)\),?\s*\}\s*"
)


@dataclass(frozen=True)
class _Header:
    """What the header of an array says: its type, order and shape, and how many bytes it has itself."""

    dtype: np.dtype[Any]
    is_fortran: bool
    shape: tuple[int, ...]
    n_bytes: int

    @property
    def n_data(self) -> int:
        size = self.dtype.itemsize
        for one in self.shape:
            size *= one
        return size


def is_numpy(first_bytes: bytes) -> bool:
    """Return whether a file is an array, or a zip archive whose first member is one."""
    if first_bytes.startswith(_MAGIC):
        return True
    n_name = int.from_bytes(first_bytes[26:28], "little")
    return first_bytes.startswith(b"PK\x03\x04") and first_bytes[30 : 30 + n_name].endswith(b".npy")


def load_numpy(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a .npy array or of the arrays of a .npz archive.

    In an archive the rate may be an array of one number (``fs``), the names of channels one of text (``ch_names``).

    Raises RecordingError where an array is one of objects, its header is none, or it is larger than the file.
    """
    with path.open("rb") as stream:
        is_archive = stream.read(2) == b"PK"
    content = _archive(path) if is_archive else Arrays((_single(path),))
    return recording_of_arrays(path, content, overrides)


def _single(path: Path) -> NamedArray:
    """Return the array of a .npy, whose samples are read from the disk as they are needed."""
    with path.open("rb") as stream:
        header = _header(path, path.name, stream)
    _check(path, path.name, header)
    n_there = path.stat().st_size - header.n_bytes
    if n_there < header.n_data:
        raise RecordingError(
            f"{path.name}: the header promises {header.n_data} bytes of samples, the file holds {n_there}; copy it "
            "again"
        )

    def samples(index: Index) -> NDArray[Any]:
        order: Any = "F" if header.is_fortran else "C"
        return np.array(np.memmap(path, header.dtype, "r", header.n_bytes, header.shape, order)[index])

    return NamedArray(path.stem, header.shape, samples)


def _archive(path: Path) -> Arrays:
    """Return the arrays of a .npz; scalars and texts whose name says what they mean are attributes of all."""
    arrays: dict[str, NDArray[Any]] = {}
    attributes: dict[str, Any] = {}
    left_out = []
    with opened_zip(path, "copy it again") as archive:
        for info, header in _members(path, archive):
            name = info.filename.removesuffix(".npy")
            if header.dtype.kind in "iufb":
                values = _values(path, archive, info, header)
                if values.size > 1 and values.ndim and len([n for n in values.shape if n != 1]) <= 2:
                    arrays[name] = values
                elif values.size == 1 and meaning_of(name):
                    attributes[meaning_of(name)] = values.reshape(-1)[0].item()
                elif values.size != 1:
                    left_out.append(name)
            elif header.dtype.kind in "US" and meaning_of(name) and header.n_data < 1 << 20:
                texts = [str(one) for one in np.ravel(_values(path, archive, info, header)).astype(str)]
                attributes[meaning_of(name)] = texts if header.shape else texts[0]
            else:
                left_out.append(name)
    named = tuple(NamedArray(name, values.shape, values.__getitem__, attributes) for name, values in arrays.items())
    notes = (f"left out are arrays of text, of records or of another shape: {listed(left_out)}",)
    return Arrays(named, notes=notes if left_out else ())


def _members(path: Path, archive: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, _Header]]:
    """Return the members of an archive with their headers, all checked before one is read."""
    infos = archive.infolist()
    if len(infos) > MOST_ARRAYS:
        raise RecordingError(f"{path.name}: {len(infos)} arrays, allowed are {MOST_ARRAYS}")
    n_unpacked = sum(info.file_size for info in infos)
    if n_unpacked > LARGEST_ARCHIVE:
        raise RecordingError(
            f"{path.name}: {n_unpacked >> 20} MB unpacked, allowed are {LARGEST_ARCHIVE >> 20}; save its arrays as "
            ".npy, which are read piece by piece, or split it"
        )
    members = []
    for info in infos:
        if not info.filename.endswith(".npy"):
            raise RecordingError(f"{path.name}: {info.filename[:60]!r} in it is no array of NumPy")
        with archive.open(info) as stream:
            header = _header(path, info.filename, stream)
        _check(path, info.filename, header)
        if header.n_bytes + header.n_data != info.file_size:
            raise RecordingError(
                f"{path.name}: {info.filename[:60]} promises {header.n_data} bytes of samples, the archive holds "
                f"{info.file_size - header.n_bytes}; save it again"
            )
        members.append((info, header))
    return members


def _values(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: _Header) -> NDArray[Any]:
    with archive.open(info) as stream:
        content = stream.read()
    if len(content) != info.file_size:
        raise RecordingError(f"{path.name}: {info.filename[:60]} is cut; copy the archive again")
    flat = np.frombuffer(content, header.dtype, offset=header.n_bytes)
    return flat.reshape(header.shape, order="F" if header.is_fortran else "C")


def _header(path: Path, name: str, stream: IO[bytes]) -> _Header:
    """Return what the header of an array says, compared with the form that numpy writes.

    Raises RecordingError where it has another.
    """
    start = stream.read(8)
    width = {1: 2, 2: 4}.get(start[6] if len(start) == 8 and start.startswith(_MAGIC) else 0)
    if width is None:
        raise RecordingError(f"{path.name}: {name[:60]} has not the header of an array of numbers (NumPy 1.0 or 2.0)")
    n_header = int.from_bytes(stream.read(width), "little")
    text = stream.read(min(n_header, _LONGEST_HEADER)).decode("latin-1")
    match = _HEADER.fullmatch(text)
    if match is None:
        raise RecordingError(f"{path.name}: {name[:60]} has a header that is not one of an array of numbers")
    try:
        dtype = np.dtype(match["type"])
        shape = tuple(int(one) for one in match["shape"].split(",") if one.strip())
    except (TypeError, ValueError) as fault:
        raise RecordingError(f"{path.name}: {name[:60]} has the type {match['type']!r}, which is none") from fault
    return _Header(dtype, match["fortran"] == "True", shape, 8 + width + n_header)


def _check(path: Path, name: str, header: _Header) -> None:
    if header.dtype.kind == "O":
        raise RecordingError(
            f"{path.name}: {name[:60]} is an array of objects, a pickle, which could run code and is not opened; save "
            "arrays of numbers"
        )
    if len(header.shape) > 32:
        raise RecordingError(f"{path.name}: {name[:60]} has {len(header.shape)} dimensions, allowed are 32")
