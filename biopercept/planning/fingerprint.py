"""What a study is made of: people, recordings, sensors, and the labelled stretches of each task.

Of a study before it is prepared it is made from the tables, and from what the files of a few recordings say of
themselves (:mod:`biopercept.planning.headers`); no signal is read. What they do not tell is left to ``prepare``. Of a
store it is made from its windows.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from biopercept.data.joined import Studies, indices_by_study, task_of_study
from biopercept.data.windows import candidates, target_of
from biopercept.planning.headers import Header, Sensor, header_of
from biopercept.recording import Interval, outside
from biopercept.results.plan import ClassMakeUp, Fingerprint, SensorMakeUp, TaskMakeUp
from biopercept.store.prepared import WindowedRecording, title_of
from biopercept.studies.labels import labels_of
from biopercept.studies.structure import Entry, Study
from biopercept.tasks import Task

N_OPENED = 4
"""Recordings whose headers are looked at, spread over the study; of studies of whole files, as many per condition."""
_MOST_OPENED = 12
_NUMBER = ""
"""The one group of stretches of a task of numbers, whose stretches have no class."""
_SHORTEST_SECONDS = 0.1
_ROUNDING = 1e-6


@dataclass(frozen=True)
class _Stretch:
    """A labelled stretch: whose, in which recording and session, its class and length (None: not known)."""

    subject: str
    session: str
    recording: str
    group: str
    value: str | float
    seconds: float | None


def fingerprint_of_study(
    study: Study, tasks: Sequence[Task] | None = None, *, n_opened: int = N_OPENED, is_opened: bool = False
) -> Fingerprint:
    """Return what a study is made of; headers alone are read, of few recordings.

    Parameters
    ----------
    tasks : sequence of Task, optional
        Those that matter; None: all of the study.
    n_opened : int
        How many recordings' headers are looked at; 0: none.
    is_opened : bool
        Load the first recording, of each condition, where headers do not tell.
    """
    headers = _headers(study, n_opened, is_opened=is_opened)
    lengths = _Lengths(study, headers)
    known = [header for header in headers.values() if header is not None]
    made = [_made_of(task, _stretches_of_study(study, task, lengths)) for task in tasks or study.tasks.values()]
    return Fingerprint(
        name=study.name,
        n_subjects=len(study.subjects),
        n_recordings=len(study.entries),
        n_sessions=len({(e.subject, e.session) for e in study.entries}),
        n_opened=len(known),
        file_seconds=_quantiles(header.seconds for header in known if header.seconds is not None),
        sensors=_sensors([header.sensors for header in known]) if known else None,
        tasks=tuple(task for task, _ in made),
        lengths={task.name: groups for task, groups in made},
    )


def fingerprint_of_store(
    store: Studies, tasks: Sequence[Task] | None = None, subjects: Collection[str] | None = None
) -> Fingerprint:
    """Return what a store, or several joined, is made of, ``subjects`` alone (None: everybody); only windows are read.

    A stretch is what its windows cover: what lies beyond the last window is not counted.
    """
    recordings = [one for one in store.recordings if subjects is None or one.subject in subjects]
    chosen = list(tasks or store.tasks.values())
    made = [
        _made_of(task, _stretches_of_store(store, recordings, task), _subjects_of_files(store, recordings, task))
        for task in chosen
    ]
    studies = {recordings[i].key: part.name for part, index in indices_by_study(store, recordings) for i in index}
    sensors = [
        tuple(
            Sensor(s.modality, s.native_sampling_rate, len(s.channels)) for s in recording.signals if not s.derived_from
        )
        for recording in recordings
    ]
    return Fingerprint(
        name=store.name,
        n_subjects=len({recording.subject for recording in recordings}),
        n_recordings=len(recordings),
        n_sessions=len({(recording.subject, recording.session) for recording in recordings}),
        n_opened=len(recordings),
        file_seconds=_quantiles(recording.duration_seconds for recording in recordings),
        sensors=_sensors(sensors, [studies[recording.key] for recording in recordings]),
        tasks=tuple(task for task, _ in made),
        n_studies=len(store.parts),
        window_seconds=store.window_length_seconds,
        step_seconds=store.step_seconds,
        n_windows=sum(max((len(candidates(r.windows, task)) for task in chosen), default=0) for r in recordings),
        lengths={task.name: groups for task, groups in made},
    )


def labels_without_windows(study: Study, length_seconds: float) -> tuple[str, ...]:
    """Return a sentence for each label of a class that windows of a length are too long for: that class lacks it.

    Of a label whose stretches are files (a condition) nothing is said. What holds of all labels of a class is said of
    the class by the plan.
    """
    longest: dict[str, float] = {}
    for entry in study.entries:
        for interval in entry.intervals:
            longest[interval.label] = max(longest.get(interval.label, 0.0), interval.duration_seconds)
    conditions = {entry.condition for entry in study.entries}
    sentences: list[str] = []
    for task in study.tasks.values():
        for name, labels in task.classes.items() if task.is_of_labels else ():
            there = [label for label in labels if label in longest or label in conditions]
            short = [
                label for label in there if label not in conditions and longest[label] + _ROUNDING < length_seconds
            ]
            sentences += (
                f"windows of {length_seconds:g} s are longer than every stretch of the label {label!r}, which last at "
                f"most {longest[label]:.5g} s: class {name!r} of task {task.name!r} has windows of its other labels "
                "alone"
                for label in short
                if len(short) < len(there)
            )
    return tuple(sentences)


def _headers(study: Study, n_opened: int, *, is_opened: bool) -> dict[int, Header | None]:
    """Return the headers of a few recordings by their place: spread over the study, and over its conditions."""
    by_condition: dict[str | None, list[int]] = defaultdict(list)
    for place, entry in enumerate(study.entries):
        by_condition[entry.condition].append(place)
    n_each = max(1, min(n_opened, _MOST_OPENED // max(len(by_condition), 1))) if n_opened else 0
    wanted = sorted({place for places in by_condition.values() for place in _spread(places, n_each)})
    wanted = _spread(wanted, _MOST_OPENED)
    headers = {place: header_of(study, study.entries[place]) for place in wanted}
    if is_opened and not any(headers.values()):
        firsts = [places[0] for places in by_condition.values()]
        headers |= {place: header_of(study, study.entries[place], is_opened=True) for place in firsts}
    return headers


def _spread(places: Sequence[int], n: int) -> list[int]:
    """Return up to ``n`` of the places, the first and the last among them, evenly spread."""
    if len(places) <= n or n < 2:
        return list(places[:n])
    return [places[round(i * (len(places) - 1) / (n - 1))] for i in range(n)]


@dataclass(frozen=True)
class _Lengths:
    """Lengths of a study's recordings: as headers say, else the median of those of the same condition, or of all."""

    study: Study
    headers: Mapping[int, Header | None]
    medians: dict[str | None, float | None] = field(default_factory=dict)

    def of(self, place: int) -> float | None:
        header = self.headers.get(place)
        if header is not None and header.seconds is not None:
            return header.seconds
        condition = self.study.entries[place].condition
        if condition not in self.medians:
            known = {
                place: header.seconds
                for place, header in self.headers.items()
                if header is not None and header.seconds is not None
            }
            alike = [seconds for place, seconds in known.items() if self.study.entries[place].condition == condition]
            self.medians[condition] = statistics.median(alike or known.values()) if known else None
        return self.medians[condition]


def _stretches_of_study(study: Study, task: Task, lengths: _Lengths) -> Iterator[_Stretch]:
    for place, entry in enumerate(study.entries):
        title = entry.title
        for value, seconds in _labelled(study, entry, task, lengths.of(place)):
            group = value if isinstance(value, str) else _NUMBER
            yield _Stretch(entry.subject, entry.session, title, group, value, seconds)


def _labelled(
    study: Study, entry: Entry, task: Task, length: float | None
) -> Iterator[tuple[str | float, float | None]]:
    """Give class (or number) and length of every labelled stretch of a recording, in time order."""
    if task.signal is not None:
        yield 0.0, length
    elif task.is_of_labels:
        for interval in entry.intervals:
            if (name := task.class_of(interval.label)) and interval.duration_seconds > _SHORTEST_SECONDS:
                yield name, interval.duration_seconds
        if name := task.class_of(entry.condition or ""):
            for seconds in _of_condition(entry, length):
                yield name, seconds
    else:
        labels = labels_of(study, entry)
        for interval, number in labels.numbers(task.column or ""):
            if interval.label not in task.ignore:
                yield number, interval.duration_seconds
        if task.column and task.column in labels.values:
            yield labels.values[task.column], length


def _of_condition(entry: Entry, length: float | None) -> Iterator[float | None]:
    if length is None or not entry.exceptions:
        yield length
        return
    for part in outside(Interval(0.0, length, entry.condition or ""), entry.exceptions):
        yield part.duration_seconds


def _stretches_of_store(store: Studies, recordings: Sequence[WindowedRecording], task: Task) -> Iterator[_Stretch]:
    """Give the stretches of a task, those of each study by what its own labels mean."""
    task_of = {i: task_of_study(part, task) for part, index in indices_by_study(store, recordings) for i in index}
    for index in sorted(range(len(recordings)), key=lambda i: _place(recordings[i])):
        if (of_study := task_of[index]) is not None:
            yield from _stretches_of_recording(recordings[index], of_study, store.window_length_seconds)


def _subjects_of_files(store: Studies, recordings: Sequence[WindowedRecording], task: Task) -> frozenset[str] | None:
    """Return the people of studies in which a file holds one class of the task only; None where there is one study."""
    if len(store.parts) < 2:
        return None
    return frozenset(
        recordings[i].subject
        for part, index in indices_by_study(store, recordings)
        if (of_study := part.tasks.get(task.name)) is not None and of_study.label_is_file
        for i in index
    )


def _place(recording: WindowedRecording) -> tuple[str, int, str]:
    return recording.subject, -1 if recording.place is None else recording.place, recording.key


def _stretches_of_recording(recording: WindowedRecording, task: Task, length: float) -> Iterator[_Stretch]:
    """Give the stretches of a recording as its windows cover them; of a rating or a whole file, all its windows."""
    windows = recording.windows
    rows = candidates(windows, task)
    spans: dict[tuple[int, str], list[float]] = {}
    values: dict[tuple[int, str], float] = {}
    columns = (windows.onset[rows], windows.label[rows], windows.stage[rows])
    for onset, label, stage in zip(*(column.tolist() for column in columns), strict=True):
        value = target_of(task, recording.labels, label, onset, length) if task.uses(label) else ""
        if isinstance(value, str):
            continue
        key = (stage, "" if task.signal is not None else str(value))
        span = spans.setdefault(key, [onset, onset])
        span[1] = onset
        values.setdefault(key, float(value))
    title = title_of(recording)
    for key, (first, last) in sorted(spans.items(), key=lambda row: row[1]):
        is_number = task.signal is not None or not task.is_classification
        group = _NUMBER if is_number else task.class_names[int(values[key])]
        value = values[key] if is_number else group
        yield _Stretch(recording.subject, recording.session, title, group, value, last - first + length)


def _made_of(
    task: Task, stretches: Iterable[_Stretch], of_files: frozenset[str] | None = None
) -> tuple[TaskMakeUp, dict[tuple[str, str], tuple[float, ...]]]:
    """Return what the stretches of a task are like, and their lengths by person and class where all are known.

    A study may have a million stretches: they are walked through once, and none is kept. ``of_files`` are the people in
    whose study a file holds one class only; None: everybody, if so the task.
    """
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    courses: dict[str, list[str]] = defaultdict(list)  # each person's classes as they came, those in a row once
    values: dict[str, set[str | float]] = defaultdict(set)
    files: dict[tuple[str, str], set[str]] = defaultdict(set)
    for stretch in stretches:
        groups[stretch.subject, stretch.group].append(-1.0 if stretch.seconds is None else stretch.seconds)
        if courses[stretch.subject][-1:] != [stretch.group]:
            courses[stretch.subject].append(stretch.group)
        values[stretch.subject].add(stretch.value)
        files[stretch.subject, stretch.session].add(stretch.recording)
    several = {subject for (subject, _), names in files.items() if len(names) > 1}
    if of_files is not None:
        several &= of_files
    is_known = all(seconds >= 0 for of_group in groups.values() for seconds in of_group)
    per_person: dict[str, float] = defaultdict(float)
    for (subject, _), seconds in groups.items():
        per_person[subject] += sum(seconds)
    orders = {tuple(course) for course in courses.values()} if task.is_classification and len(courses) > 1 else set()
    firsts = {order[0] for order in orders}
    made = TaskMakeUp(
        name=task.name,
        kind=task.kind,
        classes=tuple(_class_make_up(name, groups) for name in task.class_names if task.is_of_labels),
        n_subjects=len(per_person),
        stretch_seconds=_quantiles(s for of_group in groups.values() for s in of_group) if is_known else None,
        seconds_per_subject=round(statistics.median(per_person.values()), 3) if per_person and is_known else None,
        is_rating=task.signal is not None,
        is_file_label=task.label_is_file,
        is_subject_label=task.signal is None and len(values) > 1 and all(len(each) == 1 for each in values.values()),
        n_subjects_of_files=len(several),
        n_subjects_of_file_labels=len(of_files & values.keys()) if of_files else 0,
        order=next(iter(orders)) if len(orders) == 1 else (),
        first=next(iter(firsts)) if len(firsts) == 1 else "",
    )
    return made, {key: tuple(seconds) for key, seconds in groups.items()} if is_known else {}


def _class_make_up(name: str, groups: Mapping[tuple[str, str], Sequence[float]]) -> ClassMakeUp:
    of_class = {subject: seconds for (subject, group), seconds in groups.items() if group == name}
    n_stretches = sum(len(seconds) for seconds in of_class.values())
    total = sum(max(s, 0.0) for seconds in of_class.values() for s in seconds)
    return ClassMakeUp(name=name, n_subjects=len(of_class), n_stretches=n_stretches, seconds=round(total, 3))


def _sensors(recordings: Sequence[Sequence[Sensor]], studies: Sequence[str] | None = None) -> tuple[SensorMakeUp, ...]:
    """Return what the recordings, each of a study (None: of one), have."""
    by_modality: dict[str, list[Sensor]] = defaultdict(list)
    studies_of: dict[str, set[str]] = defaultdict(set)
    for sensors, study in zip(recordings, studies or [""] * len(recordings), strict=True):
        merged: dict[str, Sensor] = {}
        for sensor in sensors:
            before = merged.get(sensor.modality)
            n_channels = sensor.n_channels + (before.n_channels if before else 0)
            rate = max(sensor.sampling_rate, before.sampling_rate if before else 0.0)
            merged[sensor.modality] = Sensor(sensor.modality, rate, n_channels)
        for modality, sensor in merged.items():
            by_modality[modality].append(sensor)
            studies_of[modality].add(study)
    return tuple(
        SensorMakeUp(
            modality=name,
            sampling_rate=round(statistics.median(s.sampling_rate for s in each), 3),
            n_channels=statistics.median_low(s.n_channels for s in each),
            n_recordings=len(each),
            n_studies=len(studies_of[name]),
        )
        for name, each in sorted(by_modality.items())
    )


def _quantiles(values: Iterable[float]) -> tuple[float, ...] | None:
    known = sorted(values)
    if not known:
        return None
    return tuple(round(value, 3) for value in (known[0], statistics.median(known), known[-1]))
