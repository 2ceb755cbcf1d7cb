"""XDF files written byte by byte, after the specification: magic, then chunks of [length][tag][content]."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

BOUNDARY = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
_KINDS = {"int16": "<i2", "int32": "<i4", "float32": "<f4", "double64": "<f8"}


def number(value: int) -> bytes:
    """A variable-length integer in the shortest form."""
    if value < 256:
        return bytes([1, value])
    return b"\x04" + struct.pack("<I", value) if value < 1 << 32 else b"\x08" + struct.pack("<Q", value)


def chunk(tag: int, content: bytes) -> bytes:
    return number(len(content) + 2) + struct.pack("<H", tag) + content


def file_header(extra: str = "") -> bytes:
    return b"XDF:" + chunk(1, f'<?xml version="1.0"?><info><version>1.0</version>{extra}</info>'.encode())


def stream_header(
    stream: int,
    name: str,
    kind: str,
    n_channels: int,
    rate: float,
    *,
    form: str = "float32",
    channels: Sequence[tuple[str, str, str]] = (),
) -> bytes:
    described = "".join(
        f"<channel><label>{label}</label><unit>{unit}</unit><type>{kind}</type></channel>"
        for label, unit, kind in channels
    )
    xml = (
        f"<info><name>{name}</name><type>{kind}</type><channel_count>{n_channels}</channel_count>"
        f"<nominal_srate>{rate}</nominal_srate><channel_format>{form}</channel_format>"
        f"<desc><channels>{described}</channels></desc></info>"
    )
    return chunk(2, struct.pack("<I", stream) + xml.encode())


def samples(stream: int, times: Sequence[float | None], values: np.ndarray, form: str = "float32") -> bytes:
    """A chunk of samples, each with its time, or without where that is None."""
    content = number(len(times))
    for time, row in zip(times, np.atleast_2d(values), strict=True):
        content += (b"\x00" if time is None else b"\x08" + struct.pack("<d", time)) + row.astype(_KINDS[form]).tobytes()
    return chunk(3, struct.pack("<I", stream) + content)


def strings(stream: int, rows: Sequence[tuple[float, Sequence[str]]]) -> bytes:
    content = number(len(rows))
    for time, texts in rows:
        content += b"\x08" + struct.pack("<d", time)
        for text in texts:
            content += number(len(text.encode())) + text.encode()
    return chunk(3, struct.pack("<I", stream) + content)


def clock_offset(stream: int, time: float, value: float) -> bytes:
    return chunk(4, struct.pack("<Idd", stream, time, value))


def footer(stream: int, n: int) -> bytes:
    return chunk(6, struct.pack("<I", stream) + f"<info><sample_count>{n}</sample_count></info>".encode())


def boundary() -> bytes:
    return chunk(5, BOUNDARY)


def in_chunks(stream: int, times: np.ndarray, values: np.ndarray, form: str = "float32", per: int = 50) -> bytes:
    """Samples in chunks, each with its time, and a boundary after every fourth chunk."""
    values = values.reshape(len(times), -1)
    content = b""
    for number_, first in enumerate(range(0, len(times), per)):
        content += samples(stream, list(times[first : first + per]), values[first : first + per], form)
        content += boundary() if number_ % 4 == 3 else b""
    return content
