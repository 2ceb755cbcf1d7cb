"""FIT files of sport watches and bike computers (Garmin and others): heart rate by the second, and beat intervals.

Decoded by fitdecode. Of what such a file knows, only heart rate, beat intervals, breathing rate, the temperature of the
device, laps and pauses are taken; positions, the profile of the user and serial numbers are not looked at.

References
----------
Garmin, FIT protocol and FIT profile (messages record, hrv, lap, event; date_time counts seconds since
1989-12-31T00:00:00Z, and below 0x10000000 since the device was switched on), https://developer.garmin.com/fit
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, count, library_words
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_of_rows, channel_of_beats
from biopercept.loaders.clock import LONGEST_DAYS, put_on, stray_times
from biopercept.loaders.identity import identity_notes
from biopercept.loaders.libraries import library_for, quiet
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray, Interval, Recording

LARGEST = 32 << 20
MOST_MESSAGES = 300_000
"""A day with a record and a beat message each second has fewer."""
MOST_BEATS = 1_000_000
_EPOCH = datetime(1989, 12, 31, tzinfo=UTC)
_FIRST_DATE = 0x10000000
_LATE_SECONDS = 5.0
"""Beats that end this long before the records have come to were not all written: the next one is placed anew."""
_DEVICE = "device temperature"
_CHANNELS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "heart rate": (("heart_rate",), "bpm", "hr"),
    "respiration rate": (("enhanced_respiration_rate", "respiration_rate"), "1/min", UNKNOWN),
    _DEVICE: (("temperature",), "degC", UNKNOWN),
}
"""Label -> fields of a record, unit, modality. The device measures its own temperature, not that of the skin."""


def load_fit(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a FIT activity: heart rate at 1 Hz or the file's own interval, beats at their own times.

    Second zero is the first record, the start is in UTC. Seconds without a record are missing samples. Laps
    and pauses become intervals.

    Raises RecordingError where the file holds no heart rate, breathing or beats.
    """
    messages = _messages(path)
    notes = list(messages.notes)
    stamps = np.array(messages.stamps, dtype=np.float64)
    is_stray = stray_times(stamps)
    if is_stray.any():
        notes.append(f"{int(is_stray.sum())} records have a time that all others contradict and are left out")
    rows = np.flatnonzero(~is_stray)
    if len(rows):
        stamps[rows] = _put_on(path, stamps[rows], notes)
    beats = _beats(path, messages.beats, float(stamps[rows].min()) if len(rows) else None, notes)
    if not len(rows) and not beats:
        raise RecordingError(_without_data(path, messages))
    zero = float(stamps[rows].min()) if len(rows) else float(messages.beats[0][0] or 0)
    raw = [*_record_channels(path, messages, stamps - zero, rows, notes), *beats]
    if all(channel.label == _DEVICE for channel in raw):
        raise RecordingError(_without_data(path, messages))
    signals, more = assemble_signals(raw, overrides)
    end = max(signal.end_seconds for signal in signals)
    intervals = [*_laps(messages, zero), *_pauses(messages, zero)]
    intervals = sorted((one for one in intervals if 0 <= one.onset_seconds <= end), key=lambda one: one.onset_seconds)
    started_at = _EPOCH + timedelta(seconds=zero) if zero >= _FIRST_DATE else None
    if started_at is None:
        notes.append("the clock of the device was not set; there is no date and no time of day")
    return Recording("", "", path.stem, signals, tuple(intervals), started_at, (*notes, *more))


def _put_on(path: Path, stamps: FloatArray, notes: list[str]) -> FloatArray:
    """Return the times of records, put on again where the watch was set back while it recorded."""
    try:
        clock = put_on(stamps)
    except ValueError as fault:
        raise RecordingError(f"{path.name}: records: {fault}") from fault
    if clock.n_times:
        notes.append(
            f"the clock was set back by {clock.seconds:g} s; the records after it follow those before, in the order of "
            "the file"
        )
    return clock.times


@dataclass
class _Messages:
    """What was taken from the messages of a file; times in seconds of the device's clock.

    ``beats`` are (time of the record before, intervals in seconds), ``laps`` (begin, duration), ``timer`` (time, what).
    """

    stamps: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {label: [] for label in _CHANNELS})
    beats: list[tuple[int | None, list[float]]] = field(default_factory=list)
    laps: list[tuple[int, float]] = field(default_factory=list)
    timer: list[tuple[int, str]] = field(default_factory=list)
    kind: str = ""
    notes: list[str] = field(default_factory=list)
    n_beats: int = 0
    is_checked: bool = True


def _messages(path: Path) -> _Messages:
    """Return what a file's messages say, up to where it ends or is damaged.

    Raises RecordingError where nothing can be read.
    """
    fitdecode = library_for(path, "fitdecode")
    if path.stat().st_size > LARGEST:
        raise RecordingError(
            f"{path.name}: {path.stat().st_size >> 20} MB, and FIT files of more than {LARGEST >> 20} MB are not read;"
            " export single activities"
        )
    messages = _Messages()
    n = 0
    with quiet():
        try:
            options: dict[str, Any] = {
                "processor": None,
                "check_crc": fitdecode.CrcCheck.READONLY,
                "error_handling": fitdecode.ErrorHandling.IGNORE,
            }
            with fitdecode.FitReader(path, **options) as reader:
                for frame in reader:
                    n += 1
                    if n > MOST_MESSAGES:
                        messages.notes.append(f"only the first {MOST_MESSAGES} messages are used")
                        break
                    if frame.frame_type == fitdecode.FIT_FRAME_DATA:
                        _take(messages, frame)
                    elif frame.frame_type == fitdecode.FIT_FRAME_CRC:
                        messages.is_checked &= bool(frame.matched)
        except Exception as fault:
            if not messages.stamps and not messages.beats:
                raise RecordingError(
                    f"{path.name}: the FIT file cannot be read ({library_words(fault)}); export it again"
                ) from fault
            messages.notes.append(
                f"the file is cut or damaged after {n} messages ({library_words(fault)}); what comes before is used"
            )
    if not messages.is_checked:
        messages.notes.append("the checksum is wrong: a part of the file was changed, and values may be wrong")
    return messages


def _take(messages: _Messages, frame: Any) -> None:
    """Take from one message what is used of it."""
    stamp = _whole(frame.get_value("timestamp", fallback=None))
    if frame.name == "record" and stamp is not None:
        messages.stamps.append(stamp)
        for label, (names, _, _) in _CHANNELS.items():
            numbers = [_number(frame.get_value(name, fallback=None)) for name in names]
            messages.values[label].append(next((one for one in numbers if not math.isnan(one)), math.nan))
    elif frame.name == "hrv" and messages.n_beats < MOST_BEATS:
        times = frame.get_value("time", fallback=None)
        intervals = [_number(one) for one in (times if isinstance(times, tuple) else (times,))]
        intervals = [one for one in intervals if one > 0]
        messages.n_beats += len(intervals)
        messages.beats.append((messages.stamps[-1] if messages.stamps else None, intervals))
    elif frame.name == "lap":
        begin, seconds = (
            _whole(frame.get_value("start_time", fallback=None)),
            frame.get_value("total_elapsed_time", fallback=None),
        )
        if begin is not None and _number(seconds) >= 0:
            messages.laps.append((begin, _number(seconds)))
    elif frame.name == "event" and frame.get_value("event", fallback=None) == "timer" and stamp is not None:
        messages.timer.append((stamp, str(frame.get_value("event_type", fallback=""))))
    elif frame.name == "user_profile":
        name = identity_notes(str(frame.get_value("friendly_name", fallback=None) or ""))
        messages.notes.extend(note for note in name if note not in messages.notes)
    elif frame.name == "file_id":
        messages.kind = messages.kind or str(frame.get_value("type", fallback=None) or "")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << 32 else None


def _number(value: Any) -> float:
    """Return a finite number, NaN for anything else."""
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else math.nan


def _without_data(path: Path, messages: _Messages) -> str:
    kind = messages.kind if messages.kind.isidentifier() else "unknown"
    detail = f"; {'; '.join(messages.notes)}" if messages.notes else ""
    return f"{path.name}: the FIT file (kind: {kind}) holds no heart rate, breathing or beats{detail}; give an activity"


def _record_channels(
    path: Path, messages: _Messages, seconds: FloatArray, rows: NDArray[np.intp], notes: list[str]
) -> list[RawChannel]:
    """Return the channels of the records, on a grid of whole seconds; none of those that were never measured."""
    values = np.array([messages.values[label] for label in _CHANNELS]).T[rows] if len(rows) else np.zeros((0, 3))
    is_zero = values[:, 0] <= 0
    values[is_zero, 0] = np.nan  # no heart beats 0 times: the strap was not there
    labels = list(_CHANNELS)
    measured = [key for key in range(len(labels)) if np.isfinite(values[:, key]).any()]
    if not measured:
        return []
    if (np.diff(seconds[rows]) < 0).any():
        notes.append(f"times go back {int((np.diff(seconds[rows]) < 0).sum())} times; records were put in time order")
    whole = seconds[rows].astype(np.int64)
    if whole.max() > LONGEST_DAYS * 86400:
        raise RecordingError(f"{path.name}: records span {whole.max() / 86400:.0f} days; the times are damaged")
    step = int(np.gcd.reduce(np.diff(np.unique(whole)))) if len(np.unique(whole)) > 1 else 1
    cells, samples = _one_per_cell(whole // step, values, notes)
    n_samples = int(cells[-1]) + 1
    if n_samples > len(cells):
        notes.append(
            f"gaps: {(n_samples - len(cells)) * step} of {n_samples * step} s have no record and are missing samples"
        )
    block = block_of_rows(samples, cells)
    return [
        RawChannel(
            label=labels[key],
            unit=_CHANNELS[labels[key]][1],
            sampling_rate=1 / step,
            start_seconds=0.0,
            n_samples=n_samples,
            key=key,
            block=block,
            source=path.name,
            modality=_CHANNELS[labels[key]][2],
            recognised_by=FORMAT if _CHANNELS[labels[key]][2] != UNKNOWN else "",
        )
        for key in measured
    ]


def _one_per_cell(
    cells: NDArray[np.int64], values: FloatArray, notes: list[str]
) -> tuple[NDArray[np.int64], FloatArray]:
    """Return each cell once, in order, with its values; NaN where two records of one second say different things."""
    order = np.argsort(cells, kind="stable")
    unique, firsts = np.unique(cells[order], return_index=True)
    ordered = values[order]
    low = np.fmin.reduceat(ordered, firsts, axis=0)
    high = np.fmax.reduceat(ordered, firsts, axis=0)
    n_differ = int(((low < high).any(axis=1)).sum())
    if n_differ:
        notes.append(
            f"{count(n_differ, 'second has records that differ', 'seconds have records that differ')}"
            "; nothing says which is right, they are missing"
        )
    return unique, np.where(low == high, low, np.nan)


def _beats(
    path: Path, beats: list[tuple[int | None, list[float]]], zero: float | None, notes: list[str]
) -> list[RawChannel]:
    """Return the beat intervals at the times at which they end, seconds from ``zero``; none where there are none.

    Beats follow each other from the record before the first of them. Where records went on and beats did not, the next
    beat is placed at the record before it.
    """
    times: list[float] = []
    intervals: list[float] = []
    now: float | None = None
    n_gaps = 0
    for stamp, values in beats:
        record = 0.0 if stamp is None or zero is None else stamp - zero
        if not values or not 0 <= record <= LONGEST_DAYS * 86400:
            continue
        if now is None:
            now = record
        elif record - now > _LATE_SECONDS:
            now, n_gaps = record, n_gaps + 1
        for value in values:
            now += value
            times.append(now)
            intervals.append(value)
    if not times:
        return []
    if n_gaps:
        notes.append(f"beats: {n_gaps} gaps; the first beat after each is placed to a second")
    notes.append("beats follow each other from the record before the first one, so they are placed to a second")
    return [channel_of_beats("IBI", path.name, np.array(times), np.array(intervals))]


def _laps(messages: _Messages, zero: float) -> list[Interval]:
    laps = []
    for number, (begin, seconds) in enumerate(messages.laps, 1):
        onset = max(begin - zero, 0.0)  # the first lap begins when the button is pressed, before the first record
        if begin - zero + seconds >= 0:
            laps.append(Interval(onset, begin - zero + seconds - onset, f"lap {number}"))
    return laps


def _pauses(messages: _Messages, zero: float) -> list[Interval]:
    """Return the times from a stop of the timer to its next start."""
    pauses = []
    stopped: int | None = None
    for stamp, what in sorted(messages.timer, key=lambda one: one[0]):
        if what == "start" and stopped is not None:
            pauses.append(Interval(stopped - zero, float(stamp - stopped), "pause"))
            stopped = None
        elif what.startswith("stop") and stopped is None:
            stopped = stamp
    return pauses
