"""What annotators of a WFDB record wrote: stretches with words, and beats, which become intervals of one signal.

References
----------
Moody GB. WFDB applications guide: annotations, table of codes. https://physionet.org/physiotools/wag. Harvard-MIT
Division of Health Sciences and Technology; 2022.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.loaders.annotations import plain_label
from biopercept.loaders.assembly import RawChannel, channel_of_beats
from biopercept.recording import Interval

WORDS = "atr"
"""The annotator whose words are intervals: the reference."""
BEATS = ("atr", "ecg", "man", "ann", "qrs", "qrsc", "xqrs", "jqrs", "gqrs", "gqrsh", "gqrsl", "wqrs", "sqrs")
"""Annotators whose beats are read, the first that has some: those of people go before those of programs."""
LARGEST = 64 << 20
_BEATS = frozenset("NLRaVFJASEj/Qe?Bnrf")
"""Codes of beats, normal and others."""
_BREAKS = frozenset("[]!")
"""Codes of flutter and fibrillation, in which nobody can say when a beat was."""
_QUALITY, _UNREADABLE = "~", -1
"""The code of a change of quality, and its subtype from where on no beat can be told."""


def wfdb_words(path: Path, frame_rate: float, n_frames: int, notes: list[str]) -> list[Interval]:
    """Return the intervals between the words of the reference annotator, in seconds from the record's start.

    ``path`` is that of the record, without suffix; ``n_frames`` and ``frame_rate`` are what its header says.
    """
    annotation = _annotation(path, WORDS, notes)
    if annotation is None:
        return []
    rate, end = float(annotation.fs or frame_rate), n_frames / frame_rate
    labels = [plain_label(text or "") for text in annotation.aux_note]
    marks = [(sample / rate, label) for sample, label in zip(annotation.sample, labels, strict=True) if label]
    kept = sorted((float(onset), label) for onset, label in marks if 0 <= onset < end)
    if len(kept) < len(marks):
        notes.append(
            f"{path.name}.{WORDS}: {len(marks) - len(kept)} annotations lie outside the record and are left out"
        )
    if not kept:
        return []
    ends = [onset for onset, _ in kept[1:]] + [end]
    return [Interval(onset, max(stop - onset, 0.0), label) for (onset, label), stop in zip(kept, ends, strict=True)]


def wfdb_beats(path: Path, frame_rate: float, n_frames: int, notes: list[str]) -> RawChannel | None:
    """Return the beats of the first annotator that has some, as intervals at the times at which they end.

    None where there are none. Parameters as of :func:`wfdb_words`; ``notes`` say whose beats they are.
    """
    there = [suffix for suffix in BEATS if path.with_name(f"{path.name}.{suffix}").is_file()]
    for place, suffix in enumerate(there):
        annotation = _annotation(path, suffix, [] if suffix == WORDS else notes)
        channel = None if annotation is None else _intervals(annotation, path.name, suffix, frame_rate, n_frames)
        if channel is not None:
            others = ", ".join(f"{path.name}.{one}" for one in there[place + 1 :])
            notes.append(
                f"{channel.label}: {channel.n_samples + 1} beats of the annotator {path.name}.{suffix}"
                + (f"; {others} are not used" if others else "")
            )
            return channel
    return None


def _annotation(path: Path, suffix: str, notes: list[str]) -> Any:
    """Return what an annotator wrote; None where it did not, or it cannot be read, which is noted."""
    file = path.with_name(f"{path.name}.{suffix}")
    if not file.is_file():
        return None
    import wfdb

    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 20} MB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return wfdb.rdann(str(path), suffix)
    except Exception:  # the library raises whatever its parsing runs into
        notes.append(f"{file.name}: the annotations cannot be read and are left out")
        return None


def _intervals(annotation: Any, name: str, suffix: str, frame_rate: float, n_frames: int) -> RawChannel | None:
    """Return intervals from beat to beat, missing where none can be told; None where there are fewer than two beats."""
    per_second, end = float(annotation.fs or frame_rate), n_frames / frame_rate
    times: list[float] = []
    intervals: list[float] = []
    is_known = False
    marks = zip(annotation.sample.tolist(), annotation.symbol, annotation.subtype.tolist(), strict=True)
    for sample, symbol, subtype in sorted(marks, key=lambda mark: mark[0]):
        at = sample / per_second
        if symbol in _BREAKS or (symbol == _QUALITY and subtype == _UNREADABLE):
            is_known = False
        elif symbol in _BEATS and 0 <= at < end and not (times and at <= times[-1]):
            intervals.append(at - times[-1] if times and is_known else np.nan)
            times.append(at)
            is_known = True
    if len(times) < 2:
        return None
    rate = 1 / float(np.median(np.diff(times)))
    return channel_of_beats(f"IBI {suffix}", name, np.array(times[1:]), np.array(intervals[1:]), rate=rate)
