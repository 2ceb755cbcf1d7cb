"""MATLAB .mat files up to version 7: variables of numbers, structures taken apart (7.3 is HDF5).

Version 5 is packed variable by variable: what each unpacks to is read from its first bytes before any is unpacked.
Objects, function handles and cells are not signals; a cell of text may be the column of times.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from biopercept.errors import RecordingError, listed
from biopercept.loaders.readers.arrays import MOST_ARRAYS, Arrays, NamedArray, meaning_of, recording_of_arrays
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Recording

LARGEST_VARIABLES = 1 << 30
"""Bytes of all unpacked variables."""
DEEPEST = 8
_DEEPEST_ELEMENT = 32
_HEADER_BYTES = 128
_MATRIX, _PACKED = 14, 15
_NESTED = frozenset({1, 2, 3, 16, 17})
"""Classes of variables that hold others: cell, structure, object, function, opaque."""


def load_matlab(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a MATLAB file; the rate may be a variable of one number (``fs``) beside the signal.

    Raises RecordingError where the file is damaged, unpacks to too much, or nothing says a rate.
    """
    check_variables(path, "save them as version 7.3, which is read piece by piece, or split the file")
    arrays: list[NamedArray] = []
    texts: dict[str, list[str]] = {}
    left_out: list[str] = []
    _collect("", _variables(path), {}, arrays, texts, left_out)
    if len(arrays) > MOST_ARRAYS:
        raise RecordingError(f"{path.name}: {len(arrays)} arrays, allowed are {MOST_ARRAYS}")
    note = f"left out are variables that are no arrays of numbers: {listed(left_out)}"
    return recording_of_arrays(path, Arrays(tuple(arrays), texts, (note,) if left_out else ()), overrides)


def _variables(path: Path) -> dict[str, Any]:
    """Return the variables of a file: the one door to the library that reads it."""
    import warnings

    import scipy.io

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: dict[str, Any] = scipy.io.loadmat(path, simplify_cells=True, verify_compressed_data_integrity=True)
    except Exception as fault:  # the library raises whatever the damage runs into
        words = str(fault).splitlines()[0][:200] if str(fault) else ""
        raise RecordingError(
            f"{path.name}: cannot be read as MATLAB ({words}); it is cut or damaged, save it again"
        ) from fault
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _collect(
    place: str,
    variables: Mapping[str, Any],
    above: Mapping[str, Any],
    arrays: list[NamedArray],
    texts: dict[str, list[str]],
    left_out: list[str],
) -> None:
    """Gather the arrays of a structure and of those in it; numbers and texts with a meaning are attributes of them."""
    attributes = {**above, **{meaning_of(name): value for name, value in map(_attribute, variables.items()) if name}}
    for name, value in variables.items():
        where = f"{place}{name}"
        if isinstance(value, Mapping):
            if place.count("/") < DEEPEST:
                _collect(f"{where}/", value, attributes, arrays, texts, left_out)
            else:
                left_out.append(where)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "iufb" and value.size > 1:
            if len([size for size in value.shape if size != 1]) <= 2:
                arrays.append(NamedArray(where, value.shape, value.__getitem__, attributes))
            else:
                left_out.append(where)
        elif isinstance(value, np.ndarray | list) and len(value) > 1 and all(isinstance(one, str) for one in value):
            texts[name] = [str(one) for one in value]
        elif not _attribute((name, value))[0]:
            left_out.append(where)


def _attribute(item: tuple[str, Any]) -> tuple[str, Any]:
    """Return a variable as an attribute; an empty name where it is none."""
    name, value = item
    if not meaning_of(name):
        return "", None
    if isinstance(value, str | int | float | np.generic):
        return name, value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.ndarray | list) and len(value) and all(isinstance(one, str) for one in value):
        return name, [str(one) for one in value]
    return "", None


def check_variables(path: Path, remedy: str) -> None:
    """Refuse a file of version 5 whose variables reach beyond it, unpack to too much, or nest too deep for its reader.

    What one unpacks to stands at its beginning, and no more of it is unpacked by what reads it. ``remedy`` says what to
    do where it is too much.

    Raises RecordingError.
    """
    n_unpacked, size = 0, path.stat().st_size
    with path.open("rb") as stream:
        header = stream.read(_HEADER_BYTES)
        if 0 in header[:4]:
            return  # version 4, which neither packs nor nests
        order = "<" if header[126:128] == b"IM" else ">"
        while len(tag := stream.read(8)) == 8:
            kind, n_bytes = struct.unpack(f"{order}II", tag)
            place = stream.tell()
            if place + n_bytes > size:
                raise RecordingError(
                    f"{path.name}: the variable at byte {place - 8} reaches beyond the file, which is cut or damaged; "
                    "copy it or save it again"
                )
            n_bytes_unpacked, holds_others = _beginning(stream, kind, n_bytes, order)
            n_unpacked += n_bytes_unpacked
            if n_unpacked > LARGEST_VARIABLES:
                raise RecordingError(
                    f"{path.name}: variables of more than {LARGEST_VARIABLES >> 20} MB unpacked; {remedy}"
                )
            if holds_others:
                stream.seek(place)
                _check_depth(path, _content(stream, kind, n_bytes), order)
            stream.seek(place + n_bytes)


def _beginning(stream: BinaryIO, kind: int, n_bytes: int, order: str) -> tuple[int, bool]:
    """Return the bytes that an element unpacks to, and whether it is a variable that holds others."""
    start = stream.read(min(n_bytes, 4096))
    if kind == _PACKED:
        try:
            start = zlib.decompressobj().decompress(start, 24)
        except zlib.error:
            return n_bytes, False  # what it is, the library will say
        if len(start) < 24:
            return n_bytes, False
        kind, n_bytes = struct.unpack(f"{order}II", start[:8])
        start = start[8:]
    # The flags of an array are its first element: a tag of 8 bytes, then the class in the lowest byte.
    flags = struct.unpack(f"{order}I", start[8:12])[0] if kind == _MATRIX and len(start) >= 12 else 0
    return n_bytes, flags & 0xFF in _NESTED


def _content(stream: BinaryIO, kind: int, n_bytes: int) -> bytes:
    content = stream.read(n_bytes)
    if kind != _PACKED:
        return content
    try:
        return zlib.decompressobj().decompress(content, LARGEST_VARIABLES)[8:]
    except zlib.error:
        return b""


def _check_depth(path: Path, content: bytes, order: str) -> None:
    """Refuse a variable in which others are nested deeper than a library that calls itself can follow."""
    ends = [len(content)]
    place = 0
    while place + 20 <= len(content):
        while len(ends) > 1 and place >= ends[-1]:
            ends.pop()
        kind, n_bytes = struct.unpack_from(f"{order}II", content, place)
        if kind >> 16:  # a small element: its size is in the tag, and so are its bytes
            place += 8
        elif kind == _MATRIX and content[place + (16 if order == "<" else 19)] in _NESTED:
            place += 8
            ends.append(min(place + n_bytes, ends[-1]))
            if len(ends) > _DEEPEST_ELEMENT:
                raise RecordingError(
                    f"{path.name}: variables in variables, deeper than {_DEEPEST_ELEMENT}; store the arrays further up"
                )
        else:
            place += 8 + n_bytes + -n_bytes % 8
