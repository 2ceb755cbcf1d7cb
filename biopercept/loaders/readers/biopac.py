"""BIOPAC AcqKnowledge files (.acq): every channel at its divider of the file's rate, samples read on demand.

The headers and the interleaved samples are read by bioread. What it would allocate is checked against the size of the
file first, and a file that ends early is read as far as it goes. Compressed files hold each channel in one piece and
are unpacked in bounded memory when they are loaded.

References
----------
BIOPAC Systems, application note 156 (AcqKnowledge file format for PC with Windows).
"""

from __future__ import annotations

import copy
import io
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from biopercept.errors import RecordingError, library_words
from biopercept.loaders.annotations import outside_note, plain_words
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.libraries import library_for, quiet
from biopercept.loaders.recognition import FORMAT, SignalOverride, quantity_of
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray, Interval, Recording

MOST_CHANNELS = 512
LONGEST_PATTERN = 1 << 21
"""Samples in one period of the interleaved data, of all channels: dividers of real files have a small multiple."""
MOST_UNPACKED = 512 << 20
_FIRST_REVISION, _FIRST_VERSION_4, _LAST_REVISION = 30, 61, 1000
_FASTEST = 1e6
_MOST_READS, _MOST_AGAIN = 30_000, 5_000
_LARGEST_HEADER = 16 << 20
_PIECE = 1 << 16
_FIRST_YEAR = 1990
_APPEND = "apnd"
"""The kind of marker that stands where a recording was begun, or gone on with."""
_SEGMENT = re.compile(r"Segment \d+")
_HEART = re.compile(r".*\b(ecg|ekg|ppg|pulse|heart|hr|bvp)\b.*")
_RATE = re.compile(r".*\b(rate|bpm|hr)\b.*")
_INTERVAL = re.compile(r"(.*\b)?(r r|rr|n n|nn|ibi|inter ?beat)( ?intervals?)?( .*)?")


def load_biopac(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an AcqKnowledge file, its samples unread (those of a compressed file are in memory).

    Second zero is the first sample. Event markers become intervals of duration 0 with their text as label. The start
    (UTC) is known where the marker of the first segment carries a date, which it does from AcqKnowledge 4.4 on.

    Raises RecordingError where the headers cannot be trusted or no samples are there.
    """
    headers = _headers(path)
    notes = list(headers.notes)
    if headers.is_compressed:
        block, counts = _unpacked(path, headers, notes)
    else:
        block, counts = _interleaved(path, headers, notes)
    raw = [
        _raw_channel(path, key, channel, n, block)
        for key, (channel, n) in enumerate(zip(headers.channels, counts, strict=True))
        if n
    ]
    if not raw:
        raise RecordingError(f"{path.name}: the AcqKnowledge file ends before its first sample; copy it again")
    signals, more = assemble_signals(raw, overrides)
    duration = max(signal.end_seconds for signal in signals)
    intervals, started_at = _markers(headers, duration, notes)
    return Recording("", "", path.stem, signals, intervals, started_at, (*notes, *more))


@dataclass(frozen=True, eq=False)
class _Headers:
    """The checked headers of a file: bioread's channels, rate in Hz, where the samples begin, and the file's size."""

    channels: list[Any]
    markers: list[Any]
    reader: Any
    rate: float
    revision: int
    data_offset: int
    file_bytes: int
    is_compressed: bool
    notes: tuple[str, ...]


class _Guarded(io.RawIOBase):
    """A file that refuses reads of headers that lie: of negative or huge length, or without end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._n_reads = self._n_again = self._furthest = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        """Return bytes. Raises ValueError where no header of a real file would be read so."""
        self._n_reads += 1
        place = self._stream.tell()
        self._n_again += place < self._furthest  # bioread looks for lost headers byte by byte, from each on again
        self._furthest = max(self._furthest, place)
        if not 0 <= size <= _LARGEST_HEADER or self._n_reads > _MOST_READS or self._n_again > _MOST_AGAIN:
            raise ValueError(f"a header of {size} bytes, the {self._n_reads}th")
        return self._stream.read(size)


def _fault(path: Path, what: str) -> RecordingError:
    return RecordingError(
        f"{path.name}: {what}; the file is damaged or not from BIOPAC AcqKnowledge, save it again there"
    )


def _headers(path: Path) -> _Headers:
    """Return the headers of a file. Raises RecordingError where they contradict themselves or the file's size."""
    bioread = library_for(path, "bioread")
    with path.open("rb") as stream, quiet("bioread"):
        try:
            reader = bioread.reader_for_streaming(_Guarded(stream))
        except Exception as fault:
            raise _fault(path, f"its headers cannot be read ({fault})") from fault
    file = reader.datafile
    if file is None:
        raise _fault(path, "its headers are cut or contradict each other")
    if not _FIRST_REVISION <= reader.file_revision <= _LAST_REVISION:
        raise _fault(path, f"its headers state the unknown revision {reader.file_revision}")
    rate = float(file.samples_per_second)
    if not 0 < rate <= _FASTEST:
        raise _fault(path, f"its headers state a sampling rate of {rate:g} Hz")
    if not 0 < len(file.channels) <= MOST_CHANNELS:
        raise _fault(path, f"its headers state {len(file.channels)} channels")
    for channel in file.channels:
        if channel.frequency_divider < 1 or channel.point_count < 0:
            raise _fault(
                path, f"a channel has {channel.point_count} samples at 1/{channel.frequency_divider} of the rate"
            )
    notes = []
    if reader.event_markers is None:
        notes.append("what follows the samples is cut or damaged, so there are no markers")
    size = path.stat().st_size
    markers = list(reader.event_markers or [])
    return _Headers(
        channels=file.channels,
        markers=markers,
        reader=reader,
        rate=rate,
        revision=int(reader.file_revision),
        data_offset=int(reader.data_start_offset),
        file_bytes=size,
        is_compressed=bool(file.is_compressed),
        notes=tuple(notes),
    )


def _interleaved(path: Path, headers: _Headers, notes: list[str]) -> tuple[BlockReader, list[int]]:
    """Return a reader of interleaved samples, and how many of each channel can be trusted."""
    channels = headers.channels
    dividers = [int(channel.frequency_divider) for channel in channels]
    period = math.lcm(*dividers)
    if period * len(channels) > LONGEST_PATTERN:
        raise _fault(path, f"dividers of its channels ({', '.join(map(str, dividers[:8]))}, ...) have no common period")
    per_period = [period // divider for divider in dividers]
    period_bytes = sum(n * channel.sample_size for n, channel in zip(per_period, channels, strict=True))
    counts = [int(channel.point_count) for channel in channels]
    n_whole = min(count // n for count, n in zip(counts, per_period, strict=True))
    stated = sum(count * channel.sample_size for count, channel in zip(counts, channels, strict=True))
    there = headers.file_bytes - headers.data_offset
    n_periods = n_whole
    if there < stated:
        n_periods = min(n_whole, max(there, 0) // period_bytes)
        notes.append(
            f"the file is cut: {n_periods * period / headers.rate:.1f} of {max(_seconds(headers)):.1f} s are there and"
            " used"
        )
    elif headers.revision < _FIRST_VERSION_4 and any(n != n_whole * m for n, m in zip(counts, per_period, strict=True)):
        # How the last, incomplete period is laid out before version 4 is not known: one real file has it otherwise.
        notes.append(
            f"the last {max(_seconds(headers)) - n_whole * period / headers.rate:.2f} s, where the order of the"
            " channels in the file is not certain, are left out"
        )
    if there < stated or headers.revision < _FIRST_VERSION_4:
        counts = [min(count, n_periods * n) for count, n in zip(counts, per_period, strict=True)]

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        block = np.full((len(keys), max(stop - start, 0)), np.nan)
        for row, key in enumerate(keys):
            last = min(stop, counts[key])
            if start >= last:
                continue
            first_period = min(start // per_period[key], n_whole)
            last_period = -(-last // per_period[key])
            wanted = [copy.copy(channel) for channel in channels]
            for channel, n in zip(wanted, per_period, strict=True):
                end = last_period * n if last_period <= n_whole else channel.point_count
                channel.point_count = end - first_period * n
            _read(path, wanted, key, headers.data_offset + first_period * period_bytes)
            first = start - first_period * per_period[key]
            block[row, : last - start] = wanted[key].data[first : first + last - start]
        return block

    return read, counts


def _seconds(headers: _Headers) -> list[float]:
    return [channel.point_count * channel.frequency_divider / headers.rate for channel in headers.channels]


def _read(path: Path, channels: list[Any], key: int, offset: int) -> None:
    """Fill one of the channels with its samples, which begin at a byte of the file."""
    reader_type = library_for(path, "bioread.data_reader").DataReader
    with quiet("bioread"):
        try:
            with path.open("rb") as stream:
                reader_type(stream, SimpleNamespace(channels=channels, is_compressed=False), offset).read_data([key])
        except Exception as fault:
            raise RecordingError(
                f"{path.name}: the samples of the AcqKnowledge file cannot be read ({library_words(fault)})"
            ) from fault


def _unpacked(path: Path, headers: _Headers, notes: list[str]) -> tuple[BlockReader, list[int]]:
    """Return a reader of samples that were unpacked, and how many of each channel there are."""
    total = sum(channel.data_length for channel in headers.channels)
    if total > MOST_UNPACKED:
        raise RecordingError(
            f"{path.name}: the compressed AcqKnowledge file unpacks to {total >> 20} MB and at most"
            f" {MOST_UNPACKED >> 20} MB are kept in memory; save it without compression"
        )
    wanted = [copy.copy(channel) for channel in headers.channels]
    compression = _compression(path, headers)
    with path.open("rb") as stream:
        for channel, place in zip(wanted, compression, strict=False):
            stream.seek(place.compressed_data_offset)
            content = _inflated(
                stream.read(max(min(place.compressed_data_len, headers.file_bytes), 0)), channel.data_length
            )
            channel.raw_data = np.frombuffer(
                content[: len(content) // channel.sample_size * channel.sample_size], channel.dtype
            )
    counts = [0 if channel.raw_data is None else len(channel.raw_data) for channel in wanted]
    for channel, n in zip(wanted, counts, strict=True):
        if n < channel.point_count:
            name = plain_words(channel.name)
            notes.append(f"{name}: the file is cut or damaged, {n} of {channel.point_count} samples are there and used")

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        block = np.full((len(keys), max(stop - start, 0)), np.nan)
        for row, key in enumerate(keys):
            piece = copy.copy(wanted[key])
            piece.raw_data = piece.raw_data[start:stop]
            block[row, : len(piece.raw_data)] = piece.data
        return block

    return read, counts


def _compression(path: Path, headers: _Headers) -> list[Any]:
    """Return the headers of the compressed channels, as many as there are."""
    kinds = library_for(path, "bioread.headers")
    main = headers.reader.headers[-1] if headers.reader.headers else None
    if headers.reader.channel_compression_headers:
        return list(headers.reader.channel_compression_headers)
    if not isinstance(main, kinds.MainCompressionHeader):
        raise _fault(path, "it is cut before its compressed samples")
    places: list[Any] = []
    at = main.offset + main.effective_len_bytes
    with path.open("rb") as stream, quiet("bioread"):
        headers.reader.header_reader.acq_file = _Guarded(stream)
        try:
            for _ in headers.channels:
                place = headers.reader.header_reader.single_header(at, kinds.ChannelCompressionHeader)
                places.append(place)
                at += place.effective_len_bytes
        except (ValueError, OSError):
            pass  # the file ends here: the channels so far are there
    return places


def _inflated(content: bytes, length: int) -> bytes:
    """Return at most so many unpacked bytes, those before a damaged place where there is one."""
    unpacker, unpacked = zlib.decompressobj(), bytearray()
    try:
        for first in range(0, len(content), _PIECE):
            unpacked += unpacker.decompress(content[first : first + _PIECE], max(length - len(unpacked), 1))
            if len(unpacked) >= length:
                break
    except zlib.error:
        pass
    return bytes(unpacked[:length])


def _raw_channel(path: Path, key: int, channel: Any, n: int, block: BlockReader) -> RawChannel:
    label, unit = plain_words(channel.name), plain_words(channel.units)
    modality, how = _derived(label, unit)
    return RawChannel(
        label=label,
        unit=unit,
        sampling_rate=float(channel.samples_per_second),
        start_seconds=0.0,
        n_samples=n,
        key=key,
        block=block,
        source=path.name,
        modality=modality,
        recognised_by=how,
    )


def _derived(label: str, unit: str) -> tuple[str, str]:
    """Return what a channel measures that AcqKnowledge computed from others, and how that is known; else empty.

    A rate in beats per minute is a heart rate where the label names the heart, and may be one of breathing where it
    does not. Intervals from beat to beat come here at the rate of the file, each held until the next: no beats.
    """
    words = re.sub(r"[^a-z]+", " ", label.lower()).strip()
    if quantity_of(unit) == "rate" and _RATE.fullmatch(f"{words} {unit.lower()}") and _HEART.fullmatch(words):
        return "hr", FORMAT
    if _INTERVAL.fullmatch(words):
        return UNKNOWN, ""
    return "", ""


def _markers(headers: _Headers, duration: float, notes: list[str]) -> tuple[tuple[Interval, ...], datetime | None]:
    """Return the markers as intervals, and when the recording began, where the marker of its first segment says it."""
    intervals = []
    started_at = None
    n_segments = n_outside = 0
    for marker in headers.markers:
        onset = marker.sample_index / headers.rate
        label = plain_words(marker.text or "") or plain_words(marker.type if marker.type_code else "") or "marker"
        is_begin = marker.type_code == _APPEND or (marker.type_code is None and _SEGMENT.fullmatch(label) is not None)
        n_segments += is_begin
        if is_begin and marker.sample_index == 0 and started_at is None:
            started_at = _believable(marker.date_created_utc)
        if 0 <= onset <= duration:
            intervals.append(Interval(onset, 0.0, label))
        else:
            n_outside += 1
    if n_outside:
        notes.append(outside_note(n_outside, "marker"))
    if n_segments > 1:
        notes.append(
            f"recorded in {n_segments} segments, which follow each other in the file: how long it was stopped between"
            " them is not in the times"
        )
    return tuple(sorted(intervals, key=lambda interval: interval.onset_seconds)), started_at


def _believable(moment: datetime | None) -> datetime | None:
    return moment if moment is not None and _FIRST_YEAR <= moment.year < _FIRST_YEAR + 200 else None
