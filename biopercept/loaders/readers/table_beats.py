"""Intervals from beat to beat: a device's as a channel, and lists that need no times, as beats follow each other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError
from biopercept.loaders.assembly import RawChannel, block_in_memory
from biopercept.loaders.recognition import FORMAT, convert_unit
from biopercept.recording import FloatArray

_NAME = re.compile(r"(rr|rri|r-r|nn|nni|ibi|ppi|pp)s?([ _-]*intervals?)?|inter[ _-]?beat.*", re.IGNORECASE)
_WORDS_OF_FILES = re.compile(r"(rr|rri|rrs|ibi|ibis|nn|nni|interbeat|intervals)", re.IGNORECASE)
_BODY_SECONDS = (0.25, 2.5)
"""Between them lies the middle interval of every heart."""
_LONGEST_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class Beats:
    """Intervals in seconds, when each ended (s from the start), and what a reader must know."""

    times: FloatArray
    intervals: FloatArray
    notes: tuple[str, ...]


def channel_of_beats(
    label: str, source: str, times: FloatArray, intervals: FloatArray, *, unit: str = "s", rate: float | None = None
) -> RawChannel:
    """Return intervals of a heart (s), (n,), as a channel at the times (s) at which they end; NaN where none is known.

    ``unit`` is empty where the label says it; ``rate`` is that of the middle interval where none is given.
    """
    return RawChannel(
        label=label,
        unit=unit,
        sampling_rate=1 / float(np.nanmedian(intervals)) if rate is None else rate,
        start_seconds=float(times[0]),
        n_samples=len(times),
        key=0,
        block=block_in_memory(intervals[None]),
        source=source,
        modality="ibi",
        recognised_by=FORMAT,
        times=times,
    )


def is_name_of_beats(name: str) -> bool:
    """Return whether a column's name, without its unit, says intervals from beat to beat.

    >>> is_name_of_beats("RR"), is_name_of_beats("RR-interval"), is_name_of_beats("ECG")
    (True, True, False)
    """
    return bool(_NAME.fullmatch(name.strip()))


def is_file_named_after_beats(path: Path) -> bool:
    """Return whether a word of a file's name says intervals from beat to beat ("S01_RR.txt")."""
    return any(_WORDS_OF_FILES.fullmatch(word) for word in re.split(r"[^A-Za-z]+", path.name))


def are_beats(values: FloatArray) -> bool:
    """Return whether numbers can be intervals from beat to beat: none is missing, and the middle one is a heart's."""
    return len(values) > 0 and bool((values > 0).all()) and _unit_of(values) != ""


def _unit_of(values: FloatArray) -> str:
    """Return s or ms, in whichever the middle interval is one of a heart; empty where it is in neither."""
    low, high = _BODY_SECONDS
    middle = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
    return "s" if low <= middle <= high else "ms" if 1000 * low <= middle <= 1000 * high else ""


def beats_of(path: Path, name: str, values: FloatArray, unit: str, start_seconds: float) -> Beats:
    """Return the beats of a list of intervals: each ends where the one before ended, and its interval later.

    Raises RecordingError where an interval is missing, none, or longer than a minute, for nothing tells when the beats
    after it were, and where the unit cannot be told.
    """
    notes: list[str] = []
    usual = _unit_of(values)
    if not unit and not usual:
        raise RecordingError(
            f"{path.name}: {name} holds intervals of {float(np.nanmedian(values)):g}, which are none of a heart in s "
            "or in ms; say the unit in the name of the column, for example 'RR (ms)'"
        )
    if not unit:
        unit = usual
        notes.append(f"{name}: no unit in the file; they are intervals of a heart in {unit} alone")
    conversion = convert_unit(unit, "s")
    if conversion is None:
        raise RecordingError(f"{path.name}: {name} is in {unit!r}, which is no unit of time; s and ms are read")
    if usual and unit in ("s", "ms") and unit != usual:
        raise RecordingError(
            f"{path.name}: {name} is in {unit} by what the file or its sidecar says, and its intervals "
            f"({float(np.nanmedian(values)):g} in the middle) are those of a heart in {usual}; correct the unit"
        )
    intervals = values * conversion.scale
    is_wrong = ~((intervals > 0) & (intervals <= _LONGEST_SECONDS))
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise RecordingError(
            f"{path.name}: {name} holds {values[row]:g} in row {row + 1} of {len(values)}, which is no interval, and "
            "nothing tells when the beats after it were; correct it, or add a column of times"
        )
    if len(intervals) < 2:
        raise RecordingError(f"{path.name}: {name} holds {len(intervals)} interval; at least two are needed")
    notes.append(f"{name}: no times in the file; the beats follow each other, the first interval begins at the start")
    return Beats(start_seconds + np.cumsum(intervals), intervals, tuple(notes))
