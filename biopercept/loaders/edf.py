"""EDF, EDF+, BDF and BDF+ files: every channel at its own rate, samples read when they are asked for.

The samples are read here, not through a library: libraries join the parts of a discontinuous
file without a word and read whole signals. The tests hold this reader to another's answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.recording import FloatArray, Interval, Recording

from .assembly import BlockReader, RawChannel, assemble_signals
from .edf_annotations import read_annotations
from .edf_header import EdfChannel, EdfHeader, read_edf_header
from .recognition import SignalOverride

_CHUNK_BYTES = 1 << 22
LONGEST_DAYS = 14
"""A discontinuous file that claims to span more is refused: no recording does, a damaged onset does."""


def load_edf(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an EDF, EDF+, BDF or BDF+ file, its samples unread.

    Second zero is the first sample. Gaps of a discontinuous file are stretches of NaN.
    Annotations become intervals.

    Parameters
    ----------
    path : Path
    overrides : mapping or None
        What the study says about channels, by pattern of their label.

    Raises
    ------
    RecordingError
        Where the header cannot be trusted or no signal is left.
    """
    header = read_edf_header(path)
    notes = list(header.notes)
    annotations = read_annotations(path, header)
    notes.extend(annotations.notes)
    starts, kept = _record_starts(path, header, annotations.record_onsets, notes)
    raw: list[RawChannel] = []
    for key, channel in enumerate(header.channels):
        if _is_usable(channel, notes):
            raw.append(_raw_channel(path, header, key, channel, starts, kept))
    if not raw:
        raise RecordingError(f"{path.name}: no channel of the file can be used ({'; '.join(notes)})")
    blocks = {channel.sampling_rate: channel.block for channel in raw}  # one reader per rate, so that EEG is one group
    raw = [replace(channel, block=blocks[channel.sampling_rate]) for channel in raw]
    signals, more = assemble_signals(raw, overrides)
    duration = max(signal.end_seconds for signal in signals)
    intervals = _within(annotations.intervals, duration, notes)
    started_at = header.started_at
    if started_at is not None:
        started_at += timedelta(seconds=annotations.first_onset)
    return Recording("", "", path.stem, signals, intervals, started_at, (*notes, *more))


def _is_usable(channel: EdfChannel, notes: list[str]) -> bool:
    if channel.is_annotation:
        return False
    if channel.fault:
        notes.append(
            f"{channel.label or 'a channel without label'}: {channel.fault} cannot be used; the channel is left out"
        )
        return False
    if channel.label.lower() in ("status", "bdf status"):
        notes.append(f"{channel.label}: trigger channel, not a sensor; left out")
        return False
    return True


def _record_starts(
    path: Path, header: EdfHeader, onsets: FloatArray | None, notes: list[str]
) -> tuple[FloatArray | None, NDArray[np.intp]]:
    """Return the start of each record kept, seconds from the first, or None where they follow each other; and which."""
    everything = np.arange(header.n_records)
    if onsets is None:
        if header.is_discontinuous:
            raise RecordingError(
                f"{path.name}: the file says it is discontinuous but its records carry no onsets, so gaps cannot be"
                " placed; export it as continuous EDF+C"
            )
        return None, everything
    starts = onsets - onsets[0]
    late = starts - everything * header.record_seconds
    if np.all(np.abs(late) < 1e-3 * header.record_seconds + 1e-6):
        return None, everything
    if starts.max() > LONGEST_DAYS * 86400:
        raise RecordingError(
            f"{path.name}: a data record starts {starts.max():g} s after the first; the onsets are damaged"
        )
    end = np.maximum.accumulate(np.concatenate([[-np.inf], starts[:-1] + header.record_seconds]))
    is_forward = starts >= end - 1e-3 * header.record_seconds
    if not is_forward.all():
        notes.append(f"{int((~is_forward).sum())} data records start before the one before them ends and are left out")
    kept = everything[is_forward]
    starts = starts[is_forward]
    gaps = np.diff(starts) - header.record_seconds
    is_gap = gaps > 1e-3 * header.record_seconds
    if is_gap.any():
        notes.append(f"discontinuous: {int(is_gap.sum())} gaps, {gaps[is_gap].sum():.1f} s in all, are missing samples")
    return starts, kept


def _raw_channel(
    path: Path,
    header: EdfHeader,
    key: int,
    channel: EdfChannel,
    starts: FloatArray | None,
    kept: NDArray[np.intp],
) -> RawChannel:
    rate = channel.samples_per_record / header.record_seconds
    if starts is None:
        firsts = np.arange(header.n_records) * channel.samples_per_record
    else:
        firsts = np.round(starts * rate).astype(np.int64)
    return RawChannel(
        label=channel.label,
        unit=channel.unit,
        sampling_rate=rate,
        start_seconds=0.0,
        n_samples=int(firsts[-1]) + channel.samples_per_record,
        key=key,
        block=_block(path, header, firsts, kept),
        source=path.name,
    )


def _block(path: Path, header: EdfHeader, firsts: NDArray[np.int64], records: NDArray[np.intp]) -> BlockReader:
    """Return a reader of the channels that have ``firsts`` as the first sample of each data record."""

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        channels = [header.channels[key] for key in keys]
        samples = np.full((len(channels), max(stop - start, 0)), np.nan)
        first = max(int(np.searchsorted(firsts, start, side="right")) - 1, 0)
        last = int(np.searchsorted(firsts, stop, side="left"))
        step = max(1, _CHUNK_BYTES // header.record_bytes)
        at = first
        while at < last:
            n = min(step, last - at)
            # Records that were left out lie between: read only runs that follow each other in the file.
            run = int(np.argmax(np.append(np.diff(records[at : at + n]) != 1, True))) + 1
            content = _records(path, header, int(records[at]), run)
            _place(samples, content, header, channels, firsts[at : at + run], start)
            at += run
        return samples

    return read


def _records(path: Path, header: EdfHeader, first: int, n: int) -> NDArray[np.uint8]:
    """Return data records as bytes, shape (n, record_bytes)."""
    try:
        with path.open("rb") as stream:
            stream.seek(header.header_bytes + first * header.record_bytes)
            content = stream.read(n * header.record_bytes)
    except OSError as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault.strerror})") from fault
    if len(content) < n * header.record_bytes:
        raise RecordingError(f"{path.name}: the file became shorter while it was read; load it again")
    return np.frombuffer(content, dtype=np.uint8).reshape(n, header.record_bytes)


def _place(
    samples: FloatArray,
    records: NDArray[np.uint8],
    header: EdfHeader,
    channels: Sequence[EdfChannel],
    firsts: NDArray[np.int64],
    start: int,
) -> None:
    """Write the samples of data records to where they belong in ``samples``, whose first column is sample ``start``."""
    per_record = channels[0].samples_per_record
    first = int(firsts[0]) - start
    last = first + len(firsts) * per_record
    low, high = max(first, 0), min(last, samples.shape[1])
    has_gaps = bool((np.diff(firsts) != per_record).any())
    columns = (firsts[:, None] + np.arange(per_record)).ravel() - start if has_gaps else np.zeros(0, dtype=np.int64)
    is_wanted = (columns >= 0) & (columns < samples.shape[1])
    for row, channel in enumerate(channels):
        field = records[:, channel.byte_offset : channel.byte_offset + per_record * header.sample_bytes]
        physical = _digital(field, header.sample_bytes) * channel.scale + channel.offset
        if has_gaps:
            samples[row, columns[is_wanted]] = physical[is_wanted]
        else:
            samples[row, low:high] = physical[low - first : high - first]


def _digital(field: NDArray[np.uint8], width: int) -> FloatArray:
    """Return little-endian two's complement integers of 2 or 3 bytes as floats, in order."""
    if width == 2:
        return np.ascontiguousarray(field).view("<i2").ravel().astype(np.float64)
    values = np.zeros((field.size // width, 4), dtype=np.uint8)
    values[:, 4 - width :] = field.reshape(-1, width)  # at the top of 32 bits, so that the sign is kept
    return (values.view("<i4").ravel() >> (8 * (4 - width))).astype(np.float64)


def _within(intervals: tuple[Interval, ...], duration: float, notes: list[str]) -> tuple[Interval, ...]:
    kept = tuple(interval for interval in intervals if 0 <= interval.onset_seconds <= duration)
    if len(kept) < len(intervals):
        notes.append(f"{len(intervals) - len(kept)} annotations lie outside the recording and are left out")
    return kept
