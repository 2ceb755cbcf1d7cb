"""Averages by condition: a mean over subjects of each subject's mean over events, with an interval over subjects.

A subject counts once, however many events it has: events of one person are no independent observations, and an interval
over events would be too narrow. Intervals are of Student's t, 95 %, over the subjects' means; there is none of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biopercept.measures.recording import RecordingFeatures
from biopercept.preprocessing.gaps import mean_of_known
from biopercept.recording import FloatArray

Events = Sequence[tuple[str, RecordingFeatures]]
"""Recordings with rows around events, each with what tells its subject from all others."""


@dataclass(frozen=True)
class Average:
    """A measure in a condition; ``sd`` and the interval are over subjects, None of fewer than two."""

    condition: str
    measure: str
    mean: float | None
    low: float | None
    high: float | None
    sd: float | None
    n_subjects: int
    n_events: int


@dataclass(frozen=True, eq=False)
class MeanCourse:
    """A series around the events of a condition, its change from the mean before them; (n_offsets,) each.

    ``low`` and ``high`` are NaN where fewer than two subjects are known; ``n_subjects`` and ``n_events`` are those with
    a course.
    """

    condition: str
    series: str
    offsets: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    n_subjects: int
    n_events: int


def averages(recordings: Events, names: Sequence[str]) -> tuple[Average, ...]:
    """Return an average of every measure in every condition, in order of the first event of each."""
    out = []
    for condition in conditions_of(recordings):
        rows = [(who, _rows(one, names, condition)) for who, one in recordings]
        subject_means, n_events = _by_subject(rows, len(names))
        mean, low, high, sd = over_rows(subject_means)
        known = np.isfinite(subject_means).sum(axis=0)
        for place, name in enumerate(names):
            ends = _or_none(low[place]), _or_none(high[place]), _or_none(sd[place])
            out.append(Average(condition, name, _or_none(mean[place]), *ends, int(known[place]), int(n_events[place])))
    return tuple(out)


def mean_courses(recordings: Events) -> tuple[MeanCourse, ...]:
    """Return the mean course of every series in every condition; none where no event has one."""
    courses = [one.courses for _, one in recordings if one.courses is not None]
    out = []
    for series in dict.fromkeys(name for course in courses for name in course.series):
        for condition in conditions_of(recordings):
            offsets = courses[0].offsets
            rows = [(who, _course_rows(one, series, condition, len(offsets))) for who, one in recordings]
            rows = [(who, values[np.isfinite(values).any(axis=1)]) for who, values in rows]
            subject_means, _ = _by_subject(rows, len(offsets))
            if len(subject_means) == 0:
                continue
            mean, low, high, _ = over_rows(subject_means)
            n_events = sum(len(values) for _, values in rows)
            out.append(MeanCourse(condition, series, offsets, mean, low, high, len(subject_means), n_events))
    return tuple(out)


def conditions_of(recordings: Events) -> tuple[str, ...]:
    """Return the labels of the rows, each once."""
    return tuple(dict.fromkeys(label for _, one in recordings for label in one.label))


def _rows(one: RecordingFeatures, names: Sequence[str], condition: str) -> FloatArray:
    """Return the rows of a condition with a column per name, NaN where the recording has no such measure."""
    is_one = np.array([label == condition for label in one.label], dtype=bool)
    values = np.full((int(is_one.sum()), len(names)), np.nan)
    column = {name: place for place, name in enumerate(one.measures.names)}
    for place, name in enumerate(names):
        if name in column:
            values[:, place] = one.measures.values[is_one, column[name]]
    return values


def _course_rows(one: RecordingFeatures, series: str, condition: str, n: int) -> FloatArray:
    if one.courses is None or series not in one.courses.series:
        return np.empty((0, n))
    return one.courses.series[series][[label == condition for label in one.label]]


def _by_subject(rows: Sequence[tuple[str, FloatArray]], n: int) -> tuple[FloatArray, FloatArray]:
    """Return the mean over events of each subject that has any, and the number of known events of each column."""
    by_subject: dict[str, list[FloatArray]] = {}
    for who, values in rows:
        if len(values):
            by_subject.setdefault(who, []).append(values)
    stacked = [np.concatenate(parts) for parts in by_subject.values()]
    means = np.array([mean_of_known(values, axis=0) for values in stacked]).reshape(-1, n)
    n_events = np.sum([np.isfinite(values).sum(axis=0) for values in stacked], axis=0) if stacked else np.zeros(n)
    return means, np.asarray(n_events, dtype=np.float64)


def over_rows(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return mean, ends of the 95 % interval and standard deviation (n - 1) over rows, by column, of what is known."""
    from scipy.special import stdtrit

    mean, n = mean_of_known(values, axis=0), np.isfinite(values).sum(axis=0)
    square = np.where(np.isfinite(values), np.square(values - mean), 0.0).sum(axis=0)
    has_several = n > 1
    sd = np.sqrt(np.divide(square, n - 1.0, out=np.full(len(mean), np.nan), where=has_several))
    reach = np.full(len(mean), np.nan)
    reach[has_several] = stdtrit(n[has_several] - 1.0, 0.975) * sd[has_several] / np.sqrt(n[has_several])
    return mean, mean - reach, mean + reach, sd


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
