"""The arrays of a MATLAB file of version 5, one after the other: a variable larger than the memory is read in pieces.

The format is that of "MAT-File Format" (The MathWorks): elements of a tag and bytes; cells and structures hold others.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError

LARGEST_PIECE = 256 << 20
"""Bytes of one array."""
DEEPEST = 16
MOST_CHILDREN = 100_000
_MATRIX, _PACKED = 14, 15
_CELL, _STRUCTURE, _TEXT = 1, 2, 4
_NUMBERS = range(6, 16)
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1"}
_CHUNK = 1 << 20

Piece = tuple[str, NDArray[np.generic] | str]


class _Damaged(Exception):  # noqa: N818
    """What is wrong with the bytes, in words."""


def pieces(path: Path, is_wanted: Callable[[str], bool]) -> Iterator[Piece]:
    """Give place and content of each array or text, in the file's order; cells are numbered from 0: "a/data/3/eeg".

    What lies below a place that is not wanted is passed over. Raises RecordingError where the file is of another
    version, is damaged or cut, or holds objects.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(128)
            order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
            if not head.startswith(b"MATLAB 5.0") or order is None:
                raise _Damaged("it is not a MATLAB file of version 5 (7.3 and 4 are others)")
            while len(tag := stream.read(8)) == 8:
                kind, n_bytes = struct.unpack(f"{order}II", tag)
                source = _Source(stream, n_bytes, order, is_packed=kind == _PACKED)
                if kind == _PACKED:
                    kind, n_bytes = source.tag()[:2]
                if kind == _MATRIX:
                    yield from _matrix(source, "", is_wanted, 0)
                source.finish()
    except (_Damaged, struct.error, zlib.error, TypeError, ValueError) as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault}); copy it again") from fault


class _Source:
    """The bytes of one variable, unpacked as they are read."""

    def __init__(self, stream: BinaryIO, n_bytes: int, order: str, *, is_packed: bool) -> None:
        self.stream, self.left, self.order = stream, n_bytes, order
        self.engine = zlib.decompressobj() if is_packed else None
        self.ready = b""

    def read(self, n: int) -> bytes:
        """Return so many bytes."""
        if not 0 <= n <= LARGEST_PIECE:
            raise _Damaged(f"a part of {n} bytes")
        parts = []
        while n:
            part = self.some(n)
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def skip(self, n: int) -> None:
        """Pass over so many bytes."""
        while n > 0:
            n -= len(self.some(min(n, _CHUNK)))

    def some(self, most: int) -> bytes:
        """Return up to ``most`` bytes, at least one."""
        if not self.ready:
            self.ready = self.unpacked()
        part, self.ready = self.ready[:most], self.ready[most:]
        return part

    def unpacked(self) -> bytes:
        while True:
            rest = self.engine.unconsumed_tail if self.engine else b""
            packed = rest or self.stream.read(min(self.left, _CHUNK))
            self.left -= 0 if rest else len(packed)
            content = self.engine.decompress(packed, _CHUNK) if self.engine else packed
            if content:
                return content
            if not packed:
                raise _Damaged("it ends before its last variable does")

    def finish(self) -> None:
        """Pass over what is left of the variable in the file."""
        self.stream.seek(self.left, 1)

    def tag(self) -> tuple[int, int, bytes]:
        """Return type and length of the next element, and its bytes where these are in the tag."""
        kind, n_bytes = struct.unpack(f"{self.order}II", start := self.read(8))
        if kind >> 16:
            return kind & 0xFFFF, kind >> 16, start[4 : 4 + (kind >> 16)]
        return kind, n_bytes, b""

    def element(self) -> tuple[int, bytes]:
        """Return type and bytes of the next element."""
        kind, n_bytes, small = self.tag()
        if small:
            return kind, small
        content = self.read(n_bytes)
        self.skip(-n_bytes % 8)
        return kind, content


def _matrix(source: _Source, place: str, is_wanted: Callable[[str], bool], depth: int) -> Iterator[Piece]:
    """Give what a variable holds; its tag has been read."""
    if depth > DEEPEST:
        raise _Damaged(f"variables in variables, deeper than {DEEPEST}")
    flags = struct.unpack(f"{source.order}I", source.element()[1][:4])[0]
    shape = tuple(np.frombuffer(source.element()[1], f"{source.order}i4").tolist())
    name = source.element()[1].decode("latin-1")
    place = place or name
    kind, size = flags & 0xFF, math.prod(shape)
    if any(n < 0 for n in shape) or (kind in (_CELL, _STRUCTURE) and size > MOST_CHILDREN):
        raise _Damaged(f"{place} of shape {shape}")
    if kind == _CELL:
        yield from _children(source, [f"{place}/{i}" for i in range(size)], is_wanted, depth)
    elif kind == _STRUCTURE:
        width = int(np.frombuffer(source.element()[1], f"{source.order}i4")[0])
        names = source.element()[1]
        fields = [names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), max(width, 1))]
        places = [f"{place}/{field}" if size == 1 else f"{place}/{i}/{field}" for i in range(size) for field in fields]
        yield from _children(source, places, is_wanted, depth)
    elif kind in _NUMBERS and not flags & 0x0800:
        yield place, _array(place, *source.element(), shape, source.order)
    elif kind == _TEXT:
        _, content = source.element()
        yield place, content.replace(b"\0", b"").decode("utf-8", errors="replace")
    else:
        raise _Damaged(f"{place} is neither numbers, text, a cell nor a structure")


def _children(source: _Source, places: list[str], is_wanted: Callable[[str], bool], depth: int) -> Iterator[Piece]:
    for place in places:
        kind, n_bytes, _ = source.tag()
        if kind != _MATRIX:
            raise _Damaged(f"{place} is no variable")
        if n_bytes and is_wanted(place):
            yield from _matrix(source, place, is_wanted, depth + 1)
        else:
            source.skip(n_bytes)


def _array(place: str, kind: int, content: bytes, shape: tuple[int, ...], order: str) -> NDArray[np.generic]:
    if kind not in _TYPES:
        raise _Damaged(f"{place} is of the unknown type {kind}")
    values = np.frombuffer(content, f"{order}{_TYPES[kind]}")
    if len(values) != math.prod(shape):
        raise _Damaged(f"{place} of shape {shape} has {len(values)} numbers")
    return values.reshape(shape, order="F")
