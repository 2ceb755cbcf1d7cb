"""The windows of one subject in time: which come first, which are scored later, and what lies between is excluded.

Times are seconds on the subject's own clock, on which recordings follow one another as the study lists them, as if
without a pause: nothing is known to lie between two files, so a gap is kept over their border, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.data.windows import IntArray, WindowTable
from biopercept.errors import SettingsError, StudyError
from biopercept.training.settings import CLASS, PersonalisationSettings

LEAST_PER_CLASS = 2
"""Windows of each class that both sides of a split in time need."""

_GRACE = 5e-4  # seconds: onsets are sums of floats


@dataclass(frozen=True, eq=False)
class Course:
    """One subject's windows in the order of time, with their start in seconds on the subject's clock."""

    subject: str
    rows: IntArray
    start: NDArray[np.float64]
    target: IntArray
    classes: tuple[str, ...]
    length_seconds: float

    @property
    def n_classes(self) -> int:
        """Return the number of classes."""
        return len(self.classes)

    def lacking(self, chosen: NDArray[np.bool_] | IntArray, least: int = LEAST_PER_CLASS) -> list[str]:
        """Return the classes with fewer than ``least`` of the chosen windows."""
        counts = np.bincount(self.target[chosen], minlength=self.n_classes)
        return [name for name, n in zip(self.classes, counts, strict=True) if n < least]

    def clear_of(self, others: NDArray[np.bool_] | IntArray, gap: float) -> NDArray[np.bool_]:
        """Return which windows are at least ``gap`` seconds away from each of ``others``, (n,)."""
        if not len(starts := self.start[others]):
            return np.ones(len(self.start), dtype=bool)
        nearest: NDArray[np.float64] = np.abs(self.start[:, None] - starts[None]).min(axis=1)
        return nearest + _GRACE >= self.length_seconds + gap

    def minutes(self, chosen: NDArray[np.bool_] | IntArray) -> float:
        """Return how many minutes the chosen windows cover, overlaps counted once."""
        starts = np.sort(self.start[chosen])
        if not len(starts):
            return 0.0
        return float(np.minimum(np.diff(starts), self.length_seconds).sum() + self.length_seconds) / 60.0

    def minutes_until(self, chosen: NDArray[np.bool_] | IntArray) -> float:
        """Return the time from the subject's start to the end of the last chosen window, minutes."""
        starts = self.start[chosen]
        return float(starts.max() + self.length_seconds) / 60.0 if len(starts) else 0.0


@dataclass(frozen=True, eq=False)
class TimeSplit:
    """A subject's windows before and after a moment, and those between that are neither, as indices into the course."""

    earlier: IntArray
    later: IntArray
    embargoed: IntArray


@dataclass(frozen=True, eq=False)
class Shots:
    """What the curve grants of one subject, as indices into the :class:`Course`.

    * ``first``: by k: the first k windows of each class that do not overlap.
    * ``earlier``: all windows that may be learnt from, overlapping ones too.
    * ``scored``: the same for every k and method.
    """

    first: dict[int, IntArray]
    earlier: IntArray
    scored: IntArray


def course_of(windows: WindowTable, subject: str) -> Course:
    """Return a subject's windows in time.

    Raises StudyError where the order of the subject's recordings is not known.
    """
    recordings = [index for index, recording in enumerate(windows.recordings) if recording.subject == subject]
    orders = [windows.recordings[index].place for index in recordings]
    if len(recordings) > 1 and any(order is None for order in orders):
        raise StudyError(
            f"the order of the {len(recordings)} recordings of {subject} is not in the store, and a split by time "
            "needs it; prepare the study again"
        )
    begins, clock = np.zeros(len(windows.recordings)), 0.0
    for index in sorted(recordings, key=lambda i: windows.recordings[i].place or 0):
        begins[index] = clock
        clock += windows.recordings[index].duration_seconds
    rows = windows.rows_of([subject])
    start = windows.onset[rows] + begins[windows.recording[rows]]
    order = np.argsort(start, kind="stable")
    rows = rows[order]
    return Course(subject, rows, start[order], windows.only.values[rows], windows.only.classes, windows.length_seconds)


def split_in_time(course: Course, earlier_share: float, gap: float) -> TimeSplit | str:
    """Return a subject's earlier and later windows, ``gap`` seconds apart, or in words why there is no such split.

    The later part begins where ``earlier_share`` of the windows have begun, or at the nearest index at which every
    class has :data:`LEAST_PER_CLASS` windows on both sides.
    """
    if lacking := course.lacking(np.arange(len(course.rows)), 2 * LEAST_PER_CLASS):
        return f"too few windows of {', '.join(lacking)}"
    n = len(course.rows)
    wished = round(earlier_share * n)
    for begin in sorted(range(1, n), key=lambda index: (abs(index - wished), index)):
        is_later = np.arange(n) >= begin
        is_earlier = course.start + course.length_seconds + gap <= course.start[begin] + _GRACE
        if not course.lacking(is_earlier) and not course.lacking(is_later):
            is_between = ~is_later & ~is_earlier
            return TimeSplit(*(np.flatnonzero(part) for part in (is_earlier, is_later, is_between)))
    return "no moment with every class before and after it"


def set_aside(course: Course, indices: IntArray, fraction: float) -> tuple[IntArray, IntArray]:
    """Return windows to fit on and windows to check on, of each class the last ``fraction`` in time, but at least one.

    They do not overlap in time; there are none to check on where a class would be left without either.
    """
    aside = []
    for number in range(course.n_classes):
        of_class = indices[course.target[indices] == number]
        n = max(1, int(fraction * len(of_class) + 1e-9)) if len(of_class) > 1 else 0
        aside.append(of_class[len(of_class) - n :])
    checking = np.sort(np.concatenate(aside))
    rest = np.setdiff1d(indices, checking)
    fitting = rest[course.clear_of(checking, 0.0)[rest]]
    if course.lacking(checking, 1) or course.lacking(fitting, 1):
        return indices, indices[:0]
    return fitting, checking


def shots_of(
    course: Course, settings: PersonalisationSettings, gap: float, is_scorable: NDArray[np.bool_]
) -> Shots | str:
    """Return what the curve grants and scores of one subject, or in words why it cannot.

    The scored part begins after the largest k and the gap in seconds, and not before ``earlier_share`` of the windows
    where that leaves every class something to score. Where the largest k leaves nothing, the next smaller one is the
    largest. Only windows that are scorable (n,) are scored.
    """
    if lacking := course.lacking(np.arange(len(course.rows)), 1):
        return f"no window of {', '.join(lacking)}"
    for position in range(len(settings.k), 0, -1):
        first = {k: first_windows(course, k) for k in settings.k[:position]}
        if any(indices is None for indices in first.values()):
            continue
        known = {k: indices for k, indices in first.items() if indices is not None}
        for fraction in (settings.earlier_share, 0.0):
            earlier, scored = _parts(course, known[settings.k[position - 1]], fraction, gap, settings.chronology)
            scored = scored[is_scorable[scored]]
            if not course.lacking(scored):
                return Shots(known, earlier, scored)
    if settings.chronology == CLASS:
        return f"no class-wise gap of {gap:g} s leaves {LEAST_PER_CLASS} windows of each class to score"
    return f"no moment has {settings.k[0]} windows of each class before and {LEAST_PER_CLASS} after it"


def first_windows(course: Course, k: int) -> IntArray | None:
    """Return the first k windows of each class that do not overlap, rising; None where a class has fewer."""
    chosen_so_far: list[int] = []
    for number in range(course.n_classes):
        chosen: list[int] = []
        for index in np.flatnonzero(course.target == number).tolist():
            free = not chosen or course.start[index] + _GRACE >= course.start[chosen[-1]] + course.length_seconds
            if free and len(chosen) < k:
                chosen.append(index)
        if len(chosen) < k:
            return None
        chosen_so_far += chosen
    return np.array(sorted(chosen_so_far), dtype=np.int64)


def random_windows(course: Course, k: int, random: np.random.Generator) -> IntArray | None:
    """Return k windows of each class drawn from the subject's whole course, in the order of time; None where too few.

    This is the contrast that inflates: the windows may be, or overlap, those that are scored.
    """
    drawn: list[int] = []
    for number in range(course.n_classes):
        of_class = np.flatnonzero(course.target == number)
        if len(of_class) < k:
            return None
        drawn += random.choice(of_class, size=k, replace=False).tolist()
    return np.array(sorted(drawn), dtype=np.int64)


def _parts(
    course: Course, largest: IntArray, fraction: float, gap: float, chronology: str
) -> tuple[IntArray, IntArray]:
    """Return the windows that may be learnt from, and those at least ``gap`` after them."""
    groups: Sequence[NDArray[np.bool_]] = [np.ones(len(course.rows), dtype=bool)]
    if chronology == CLASS:
        groups = [course.target == number for number in range(course.n_classes)]
    is_earlier, is_scored = (np.zeros(len(course.rows), dtype=bool) for _ in range(2))
    for group in groups:
        ends = course.start[largest[group[largest]]] + course.length_seconds
        starts = course.start[group]
        end = max(float(ends.max()), float(starts[int(fraction * len(starts))]))
        is_earlier |= group & (course.start + course.length_seconds <= end + _GRACE)
        is_scored |= group & (course.start + _GRACE >= end + gap)
    is_scored &= course.clear_of(is_earlier, gap)
    return np.flatnonzero(is_earlier), np.flatnonzero(is_scored)


def gap_of(seconds: float, length_seconds: float, name: str) -> float:
    """Return a gap in seconds: the window's length where 0 is set.

    Raises SettingsError, with the ``name`` of the setting, where it is shorter than a window.
    """
    if 0 < seconds < length_seconds:
        raise SettingsError(
            f"{name} is {seconds:g} s; it must be at least one window ({length_seconds:g} s), or 0 for just that"
        )
    return seconds or length_seconds
