"""Arrays and plain containers out of a pickle, without running anything that it names.

A pickle is a program. It is not given to Python's own reader of pickles: of its instructions this module follows those
that build numbers, text, lists, tuples and dictionaries, and of the things that it may name those that NumPy writes for
an array. These are answered by stand-ins that hold what they are given, so that not even NumPy is called by the file;
the arrays are made afterwards, once shape, type and length agree. Only files whose data set is recognised come here.
"""

from __future__ import annotations

import codecs
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError

LARGEST_PICKLE = 2 << 30
"""Bytes: an hour and a half of 700 Hz as Python 2 wrote it, in text, is one gigabyte."""

_MOST_INSTRUCTIONS = 200_000
_LARGEST_NUMBER = 8
"""Bytes of one number."""


class _Refused(Exception):  # noqa: N818
    """What a pickle holds beside arrays and plain containers, as a noun phrase."""


class _Kind:
    """The type of an array's numbers, as the pickle gives it."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = _text(code)
        self.order = "="

    def fill(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or any(part is not None for part in state[2:5]):
            raise _Refused("an array of anything but plain numbers")
        self.order = _text(state[1])

    def numpy(self) -> np.dtype[Any]:
        """Return the type; refuse all but numbers and truth values of at most eight bytes."""
        if len(self.code) > 4 or self.order not in ("<", ">", "=", "|"):
            raise _Refused(f"an array of type {self.code[:20]!r}")
        try:
            kind = np.dtype(self.code)
        except TypeError as fault:
            raise _Refused(f"an array of type {self.code[:20]!r}") from fault
        if kind.kind not in "biuf" or kind.itemsize > _LARGEST_NUMBER:
            raise _Refused(f"an array of type {self.code!r}")
        return np.dtype(f"{self.order}{kind.str[1:]}") if self.order in "<>" else kind


class _Array:
    """An array as the pickle gives it: made only when asked for, once all of it agrees."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def fill(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("an array in an unknown form")
        self.state = state[1:]

    def numpy(self) -> NDArray[Any]:
        """Return the array; refuse shapes that its bytes do not fill."""
        if not self.state:
            raise _Refused("an array without content")
        shape, kind, is_fortran, data = self.state
        if isinstance(data, str):
            data = data.encode("latin-1")
        is_shape = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 8
        if not is_shape or not isinstance(kind, _Kind) or not isinstance(data, bytes | bytearray):
            raise _Refused("an array in an unknown form")
        numbers = kind.numpy()
        if math.prod(shape) * numbers.itemsize != len(data):
            raise _Refused(f"an array of shape {shape} with {len(data)} bytes")
        values = np.frombuffer(data, dtype=numbers)
        return values.reshape(shape, order="F" if is_fortran else "C")


def _of_buffer(data: object, kind: object, shape: object, order: object) -> _Array:
    """Return an array as protocol 5 writes it."""
    array = _Array()
    array.fill((1, shape, kind, order == "F", data))
    return array


def _encode(text: object, encoding: object) -> bytes:
    """Return bytes that Python 3 wrote as text for an old protocol."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("text in an unknown form")
    return text.encode("latin-1")


class _Named:
    """A name that stands for itself: numpy.ndarray, which is given to the maker of arrays and never called."""


_NDARRAY = _Named()
_NAMES: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (("multiarray", "_reconstruct", _Array), ("numeric", "_frombuffer", _of_buffer))
    },
}


_CONSTANTS: dict[bytes, object] = {b"N": None, b"\x88": True, b"\x89": False}
_NUMBERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
_EMPTY: dict[bytes, type] = {b"]": list, b"}": dict, b")": tuple}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
# Instruction -> how the length of what follows it is written, and what that is.
_COUNTED = {
    b"U": ("<B", "latin-1"),
    b"T": ("<i", "latin-1"),
    b"\x8c": ("<B", "utf-8"),
    b"X": ("<I", "utf-8"),
    b"\x8d": ("<Q", "utf-8"),
    b"C": ("<B", ""),
    b"B": ("<I", ""),
    b"\x8e": ("<Q", ""),
    b"\x96": ("<Q", ""),
    b"\x8a": ("<B", "integer"),
}
_PUT = {b"q": "<B", b"r": "<I"}
_GET = {b"h": "<B", b"j": "<I"}


class _Stack:
    """The instructions of a pickle, followed one by one; whatever is not known here is refused."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream = stream
        self.size = size
        self.values: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> object:
        """Return the one value that is left at the end."""
        steps = {
            b"(": lambda: self.marks.append(len(self.values)),
            b"0": self.values.pop,
            b"1": self.since_mark,
            b"2": lambda: self.values.append(self.values[-1]),
            b"t": lambda: self.values.append(tuple(self.since_mark())),
            b"l": lambda: self.values.append(self.since_mark()),
            b"d": lambda: self.values.append(_pairs(self.since_mark())),
            b"a": lambda: self.extend([self.values.pop()]),
            b"e": lambda: self.extend(self.since_mark()),
            b"s": lambda: self.update([self.values.pop(-2), self.values.pop()]),
            b"u": lambda: self.update(self.since_mark()),
            b"p": lambda: self.keep(int(self.line())),
            b"\x94": lambda: self.keep(len(self.memo)),
            b"g": lambda: self.values.append(self.memo[int(self.line())]),
            b"c": lambda: self.values.append(_named(self.line().decode(), self.line().decode())),
            b"\x93": lambda: self.values.append(_named(self.values.pop(-2), self.values.pop())),
            b"R": self.made,
            b"b": self.built,
            b"\x80": lambda: self.taken(1),
            b"\x95": lambda: self.number("<Q"),
            **{op: self.text_line(op) for op in (b"I", b"L", b"F", b"S", b"V")},
        }
        for _ in range(_MOST_INSTRUCTIONS):
            op = self.taken(1)
            if op == b".":
                return self.values.pop()
            if op in steps:
                steps[op]()
            else:
                self.simple(op)
        raise _Refused("more parts than a file of this data set has")

    def simple(self, op: bytes) -> None:
        """Follow an instruction that puts one thing on the stack, or into the memo."""
        if op in _CONSTANTS:
            self.values.append(_CONSTANTS[op])
        elif op in _NUMBERS:
            self.values.append(self.number(_NUMBERS[op]))
        elif op in _EMPTY:
            self.values.append(_EMPTY[op]())
        elif op in _TUPLES:
            n = _TUPLES[op]
            self.values[-n:] = [tuple(self.values[-n:])]
        elif op in _PUT:
            self.keep(self.number(_PUT[op]))
        elif op in _GET:
            self.values.append(self.memo[self.number(_GET[op])])
        elif op in _COUNTED:
            length, kind = _COUNTED[op]
            content = self.taken(self.number(length))
            self.values.append(_decoded(content, kind))
        else:
            raise _Refused("objects that are neither arrays nor plain containers")

    def taken(self, n: int) -> bytes:
        """Return so many bytes of the file."""
        if not 0 <= n <= self.size:
            raise _Refused("a part that is longer than the file")
        content = self.stream.read(n)
        if len(content) < n:
            raise EOFError
        return content

    def line(self) -> bytes:
        """Return the rest of a line, without its end."""
        content = self.stream.readline()
        if not content.endswith(b"\n"):
            raise EOFError
        return content[:-1]

    def number(self, form: str) -> Any:
        """Return a number in a form of the module struct."""
        return struct.unpack(form, self.taken(struct.calcsize(form)))[0]

    def text_line(self, op: bytes) -> Callable[[], None]:
        """Return a step that puts a number or text written as a line on the stack."""
        return lambda: self.values.append(_of_line(op, self.line()))

    def since_mark(self) -> list[Any]:
        """Return what lies on the stack since the last mark, taken off."""
        mark = self.marks.pop()
        taken = self.values[mark:]
        del self.values[mark:]
        return taken

    def keep(self, number: int) -> None:
        """Put the value on top into the memo."""
        self.memo[number] = self.values[-1]

    def extend(self, items: list[Any]) -> None:
        """Append to the list on top."""
        if not isinstance(self.values[-1], list):
            raise _Refused("objects that are neither arrays nor plain containers")
        self.values[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        """Put pairs into the dictionary on top."""
        if not isinstance(self.values[-1], dict):
            raise _Refused("objects that are neither arrays nor plain containers")
        self.values[-1].update(_pairs(items))

    def made(self) -> None:
        """Give arguments to a maker of arrays, one of those of this module."""
        arguments, maker = self.values.pop(), self.values.pop()
        if not any(maker is one for one in (_Array, _Kind, _of_buffer, _encode)) or not isinstance(arguments, tuple):
            raise _Refused("a call of something that makes no array")
        self.values.append(maker(*arguments))

    def built(self) -> None:
        """Give its state to an array or its type."""
        state, what = self.values.pop(), self.values[-1]
        if not isinstance(what, _Array | _Kind):
            raise _Refused("objects that are neither arrays nor plain containers")
        what.fill(state)


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2 or not all(isinstance(key, str | bytes | int) for key in items[::2]):
        raise _Refused("a dictionary whose keys are no names")
    return dict(zip(items[::2], items[1::2], strict=True))


def _named(module: object, name: object) -> object:
    if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in _NAMES:
        raise _Refused(f"the name {str(module)[:60]}.{str(name)[:60]}, which no array needs")
    return _NAMES[module, name]


def _of_line(op: bytes, line: bytes) -> object:
    """Return the number or text of a line."""
    if op == b"S":
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise ValueError("text without its quotes")
        return codecs.escape_decode(line[1:-1])[0].decode("latin-1")
    if op == b"V":
        return line.decode("raw-unicode-escape")
    if op == b"F":
        return float(line)
    if line in (b"00", b"01"):
        return line == b"01"
    return int(line.removesuffix(b"L"))


def _decoded(content: bytes, kind: str) -> object:
    if kind == "integer":
        return int.from_bytes(content, "little", signed=True)
    if kind == "utf-8":
        return content.decode("utf-8", errors="surrogatepass")
    return content.decode(kind) if kind else content


def read_arrays(path: Path) -> object:
    """Return what a pickle holds: dictionaries, lists, tuples, text, numbers, and NumPy arrays of numbers.

    Raises RecordingError where the file is larger than any of a known data set, damaged, or holds anything else.
    Nothing that it names is imported or called.
    """
    size = path.stat().st_size
    if size > LARGEST_PICKLE:
        raise RecordingError(f"{path.name}: larger than {LARGEST_PICKLE >> 30} GB, which no file of this data set is")
    try:
        with path.open("rb") as stream:
            return _with_arrays(_Stack(stream, size).run(), _depths())
    except _Refused as fault:
        raise RecordingError(
            f"{path.name}: this pickle holds {fault}; only arrays of numbers and plain containers are read; nothing "
            "in it was run"
        ) from fault
    except RecursionError as fault:
        raise RecordingError(f"{path.name}: this pickle is nested too deep; nothing in it was run") from fault
    except (
        EOFError,
        ValueError,
        struct.error,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as fault:
        raise RecordingError(
            f"{path.name}: this pickle is damaged or cut ({type(fault).__name__}); nothing in it was run"
        ) from fault


def _depths() -> Iterator[int]:
    return iter(range(_MOST_INSTRUCTIONS))


def _with_arrays(value: object, budget: Iterator[int], depth: int = 0) -> object:
    """Return a value with its stand-ins turned into arrays; each use of a shared part counts."""
    if next(budget, None) is None or depth > 16:
        raise _Refused("containers without end")
    if isinstance(value, _Array):
        return value.numpy()
    if isinstance(value, dict):
        return {
            _text(key) if isinstance(key, str | bytes) else key: _with_arrays(part, budget, depth + 1)
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_with_arrays(part, budget, depth + 1) for part in value]
    if isinstance(value, str | bytes | bytearray | int | float | None):
        return value
    raise _Refused("something that is neither an array nor a plain container")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise _Refused("a name that is no text")
    return value
