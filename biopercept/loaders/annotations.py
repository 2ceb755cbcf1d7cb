"""What files write beside their samples: labelled stretches, and places where pieces of a recording were joined.

A join (EEGLAB's "boundary", BrainVision's "New Segment", what mne writes where it puts recordings together) is a jump
in the signal and in time. The file keeps no clock across it, so times after it are those of the file; samples around it
are a bad stretch, because a filter smears the jump over its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from biopercept.errors import count
from biopercept.recording import BAD, Correction, Interval

MOST_ANNOTATIONS = 200_000
LONGEST_LABEL = 256
JOIN_SECONDS = 0.5
"""What is masked on each side of a join: half the slowest wave that the cleaning of EEG lets through."""


def plain_label(text: str) -> str:
    """Return a text in one printable line, not longer than a label may be; blanks inside it ("S  1") are kept."""
    return "".join(c if c.isprintable() else " " for c in text).strip()[:LONGEST_LABEL]


def plain_words(text: str, longest: int = LONGEST_LABEL) -> str:
    """Return a text in one printable line, its words one blank apart."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:longest]


def outside_note(n: int, what: str) -> str:
    """Return the note that some annotations lie outside their recording; ``what`` is what the format calls one."""
    rest = "outside the recording and"
    return count(n, f"{what} lies {rest} is left out", f"{what}s lie {rest} are left out")


def placed_intervals(
    marks: Iterable[tuple[float, float, str]], duration_seconds: float, notes: list[str]
) -> tuple[Interval, ...]:
    """Return (onset, duration, text) as intervals in time order; a duration that is none counts as 0.

    What lies outside the recording, has no time or no text is left out, with a note.
    """
    intervals: list[Interval] = []
    n_outside = n_unusable = n_over = 0
    for onset, duration, text in marks:
        label = plain_label(text)
        if not math.isfinite(onset) or not label:
            n_unusable += 1
        elif not 0 <= onset <= duration_seconds:
            n_outside += 1
        elif len(intervals) >= MOST_ANNOTATIONS:
            n_over += 1
        else:
            is_length = math.isfinite(duration) and duration > 0
            intervals.append(Interval(onset, duration if is_length else 0.0, label))
    if n_outside:
        notes.append(outside_note(n_outside, "annotation"))
    if n_unusable:
        are = "is" if n_unusable == 1 else "are"
        notes.append(f"{count(n_unusable, 'annotation')} without a time or a text {are} left out")
    if n_over:
        notes.append(f"only the first {MOST_ANNOTATIONS} annotations are used")
    return tuple(sorted(intervals, key=lambda interval: interval.onset_seconds))


def bad_at_joins(
    joins: Sequence[float], duration_seconds: float, word: str, notes: list[str]
) -> tuple[Correction, ...]:
    """Return a bad stretch around each join, in seconds of the recording; ``word`` is what the file calls it."""
    stretches = []
    for join in sorted(set(joins)):
        begin, end = max(join - JOIN_SECONDS, 0.0), min(join + JOIN_SECONDS, duration_seconds)
        if 0 < join < duration_seconds:
            stretches.append(Correction(BAD, begin, end - begin, source=plain_label(word)))
    if stretches:
        notes.append(
            f"{len(stretches)} places where pieces of a recording were joined ({plain_label(word)}): {JOIN_SECONDS:g} s"
            " on each side are masked, and times after the first are the file's, not the clock's"
        )
    return tuple(stretches)
