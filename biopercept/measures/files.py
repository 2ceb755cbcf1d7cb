"""Measures of recordings and studies in a folder: one table, a dictionary of its columns, and what was detected.

``features.csv`` (or .tsv, .parquet) has a row per window, event or recording of all of them, ``features.json`` says
what each column is. Rows around events are in ``around.csv`` instead, with ``averages.csv`` (by condition, over
subjects), ``courses.csv`` (over time) and ``around.json``. ``beats``, ``responses`` and ``breaths`` are tables of what
was detected, with times; ``failures.csv`` has a row per recording that could not be measured, ``notes.csv`` one for
each thing that was masked, left out, corrected or doubtful. Where pages are wanted, ``pages`` has one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.derivatives import Derivatives, clear_derivatives
from biopercept.errors import SettingsError
from biopercept.files import replacing, write_json, write_table
from biopercept.loaders.recognition import SignalOverride
from biopercept.measures.around import COURSE_UNITS, Around
from biopercept.measures.averages import Events, MeanCourse, averages, mean_courses
from biopercept.measures.columns import OF_A_RECORDING, OF_A_ROW, column_of, plainly
from biopercept.measures.recording import (
    DETECTED,
    WINDOWS,
    RecordingFeatures,
    around_and_cleaned,
    detected_columns,
    measured_and_cleaned,
    whole_recording,
)
from biopercept.measures.stretches import Measures
from biopercept.prepare.recording import PrepareSettings
from biopercept.prepare.sources import EachWork, Source, each_of, sources_of
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.studies.loading import is_study
from biopercept.tasks import Task
from biopercept.typed_values import did_you_mean
from biopercept.version import __version__

CSV, TSV, PARQUET = "csv", "tsv", "parquet"
FORMATS = (CSV, TSV, PARQUET)
_DIGITS = 7
_ROW_COLUMNS = {
    **OF_A_RECORDING,
    "onset": ("s", "start of the row's time, or onset of its event, from the recording's start"),
    "duration": ("s", "length of the row's time, or of its event"),
    "label": (
        "",
        "label of the event, or of the interval that holds the row's time wholly; empty with none or several",
    ),
}
_OF_AVERAGES = {
    "low": ("unit", "lower end of the 95 % interval of the mean over subjects (Student's t); missing of one subject"),
    "high": ("unit", "its upper end"),
}
_COUNTS = {"n_subjects": ("subjects", "subjects with a value"), "n_events": ("events", "events with a value")}
_AVERAGE_COLUMNS = {
    "condition": ("", "label of the events"),
    "measure": ("", "column of the table of events"),
    "unit": ("", "unit of the measure"),
    "mean": ("unit", "mean over subjects of each subject's mean over events"),
    **_OF_AVERAGES,
    "sd": ("unit", "standard deviation (n - 1) over subjects"),
    **_COUNTS,
}
_COURSE_COLUMNS = {
    "condition": ("", "label of the events"),
    "series": ("", "heart_rate or skin_conductance"),
    "unit": ("", "unit of the series"),
    "time": ("s", "time from the event's onset"),
    "mean": ("unit", "mean over subjects of each subject's mean change from the time before the event"),
    **_OF_AVERAGES,
    **_COUNTS,
}


@dataclass(frozen=True)
class Pages:
    """How a page of a recording, and one that lists several, are written: functions of a module.

    The former is called where the recording is measured, so that its signals are sent to no other process; its last
    argument are the classes of the study's tasks, in their order.
    """

    write: Callable[[RecordingFeatures, CleanRecording, Measures, Path, tuple[str, ...]], None]
    write_index: Callable[[Sequence[Measured], Path], object]


@dataclass(frozen=True, eq=False)
class FeaturesRequest:
    """What is measured: recordings and study folders, of some subjects only or without some.

    ``rows`` says what a row is of (windows, events, whole); ``events`` is the study whose events they are, None where
    they are not of events. ``hrv`` adds the full set of heart rate variability; ``pages`` is None where no pages are
    wanted; rows are around events where ``around`` is given. ``overrides`` is what the user says of channels of files.
    ``has_bids``: a derivative data set of BIDS is written, too.
    """

    paths: tuple[Path, ...]
    settings: PrepareSettings
    rows: str = WINDOWS
    events: Path | None = None
    format: str = CSV
    subjects: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    n_jobs: int = 1
    hrv: bool = False
    pages: Pages | None = None
    around: Around | None = None
    overrides: Mapping[str, SignalOverride] = field(default_factory=dict)
    has_bids: bool = False


@dataclass(frozen=True, eq=False)
class Measured:
    """How one recording went: what was measured of it, or why it could not be.

    ``whole`` is what was measured of all of it, in one row; None where no page of it was wanted.
    """

    source: Source
    features: RecordingFeatures | None = None
    failure: str = ""
    whole: Measures | None = None


@dataclass(frozen=True, eq=False)
class WrittenFeatures:
    """What was written: the table, the recordings and rows in it, title and message of each failure, mean courses.

    ``classes`` are those of the tasks of the studies that were measured, in their order; empty of files.
    """

    table: Path
    n_recordings: int
    n_rows: int
    failures: tuple[tuple[str, str], ...]
    courses: tuple[MeanCourse, ...] = ()
    classes: tuple[str, ...] = ()


def write_features(
    request: FeaturesRequest, output: Path, *, on_recording: Callable[[Measured, int], None] = lambda _, __: None
) -> WrittenFeatures:
    """Measure every recording, write the tables into a folder and return what was written.

    A recording that cannot be measured costs its rows alone. ``on_recording`` is told of each and how many there are.

    Raises SettingsError where the format, a subject or a label of ``around`` is unknown, or a path is no recording of
    the study of events.
    Raises OutputError where a file cannot be written.
    """
    if request.format not in FORMATS:
        near = did_you_mean(request.format, FORMATS)
        raise SettingsError(f"--format is {request.format!r}; allowed are {', '.join(FORMATS)}{near}")
    if request.format == PARQUET:
        _require_parquet()
    sources = _sources(request)
    _refuse_unknown_labels(request, sources)
    outcomes = each_of(
        EachWork(_measured, (request, output / "pages"), _unmeasured), sources, request.n_jobs, on_recording
    )
    done = [outcome.features for outcome in outcomes if outcome.features is not None]
    _refuse_labels_without_events(request, done)
    failures = tuple((one.source.title, one.failure) for one in outcomes if one.features is None)
    names = _names(done)
    stem = "features" if request.around is None else "around"
    table = _write(output / stem, (*OF_A_ROW, *names), _rows(done, names), request.format)
    for name, columns in DETECTED.items():
        _write(output / name, (*OF_A_ROW[:3], *columns), _detected_rows(done, name), request.format)
    write_json(output / f"{stem}.json", _dictionary(request, names))
    write_table(output / "failures.csv", ("recording", "message"), failures)
    write_table(output / "notes.csv", (*OF_A_ROW[:3], "note"), _notes(done))
    clear_derivatives(output)
    if request.has_bids and done:
        _write_bids(done, output)
    if request.pages is not None and len(sources) > 1:
        request.pages.write_index(outcomes, output / "pages")
    n_rows = sum(len(one.label) for one in done)
    events = [(_who(one.source), one.features) for one in outcomes if one.features is not None]
    courses = () if request.around is None else _write_averages(request, output, events, names)
    tasks = (task for source in sources if source.study is not None for task in source.study.tasks.values())
    return WrittenFeatures(table, len(done), n_rows, failures, courses, Task.classes_of(tasks))


def _write_bids(done: Sequence[RecordingFeatures], output: Path) -> None:
    """Write the rows of each recording as a derivative of BIDS, with what each column is."""
    derivatives = Derivatives(output, "features", "features of recordings")
    for one in done:
        measures = one.measures
        columns: dict[str, Iterable[Any]] = {
            "onset": measures.onset, "duration": measures.duration, "trial_type": one.label
        }  # fmt: skip
        columns |= {name: measures.values[:, place] for place, name in enumerate(measures.names)}
        described = {name: _of_bids(name) for name in measures.names}
        label = {"Description": "label of the window or event; n/a where it has none"}
        derivatives.write((one.subject, one.session, one.recording), columns, {"trial_type": label, **described})
    derivatives.describe()


def _of_bids(name: str) -> dict[str, str]:
    """Return what a column is in the words of a sidecar of BIDS."""
    column = column_of(name)
    return {"Description": column.definition} | ({"Units": column.unit} if column.unit else {})


def _refuse_unknown_labels(request: FeaturesRequest, sources: Sequence[Source]) -> None:
    """Refuse labels that no table of the studies has, before anything is read."""
    entries = [source.entry for source in sources if source.entry is not None]
    if request.around is not None and len(entries) == len(sources):
        request.around.refuse_unknown(label for entry in entries for label in entry.labels)


def _refuse_labels_without_events(request: FeaturesRequest, done: Sequence[RecordingFeatures]) -> None:
    """Refuse labels that no recording has, once all are read."""
    if request.around is not None and done:
        request.around.refuse_unknown(label for one in done for label in one.known_labels)


def _who(source: Source) -> str:
    """Return what tells a subject from all others: two studies may both have an S01."""
    return source.subject if source.study is None else f"{source.path}\n{source.subject}"


def _write_averages(
    request: FeaturesRequest, output: Path, events: Events, names: Sequence[str]
) -> tuple[MeanCourse, ...]:
    """Write averages and courses by condition; return the courses."""
    courses = mean_courses(events)
    average_rows = (
        (
            one.condition, one.measure, column_of(one.measure).unit,
            *(None if value is None else _number(value) for value in (one.mean, one.low, one.high, one.sd)),
            one.n_subjects, one.n_events,
        )
        for one in averages(events, names)
    )  # fmt: skip
    course_rows = (
        (
            one.condition, one.series, COURSE_UNITS[one.series], float(at), *map(_number, values),
            one.n_subjects, one.n_events,
        )
        for one in courses
        for at, *values in zip(one.offsets, one.mean, one.low, one.high, strict=True)
    )  # fmt: skip
    _write(output / "averages", tuple(_AVERAGE_COLUMNS), average_rows, request.format)
    _write(output / "courses", tuple(_COURSE_COLUMNS), course_rows, request.format)
    return courses


def _require_parquet() -> None:
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise SettingsError(
            "--format parquet needs pyarrow: pip install 'biopercept[parquet]'; csv and tsv need nothing"
        )


def _sources(request: FeaturesRequest) -> list[Source]:
    if request.events is None:
        return sources_of(request.paths, request.subjects, request.excluded, request.overrides)
    if not is_study(request.events):
        raise SettingsError(f"--events {request.events} is no study folder; rows of events need a study's events.tsv")
    sources = sources_of((request.events,), request.subjects, request.excluded, request.overrides)
    wanted = {path.resolve() for path in request.paths} - {request.events.resolve()}
    files = {s.key: {f.path.resolve() for f in s.entry.files} for s in sources if s.entry is not None}
    if strangers := wanted - set().union(*files.values()):
        names = ", ".join(sorted(path.name for path in strangers))
        raise SettingsError(f"{names} is no recording of the study {request.events}; its events cannot be those")
    return [source for source in sources if not wanted or files[source.key] & wanted]


def _measured(work: tuple[FeaturesRequest, Path], source: Source) -> Measured:
    """Measure one recording and write its page."""
    request, folder = work
    recording, settings = source.load(), request.settings
    if request.around is not None:
        features, clean = around_and_cleaned(recording, request.around, settings)
    else:
        features, clean = measured_and_cleaned(recording, settings, request.rows, hrv=request.hrv)
    if request.pages is None:
        return Measured(source, features)
    whole = whole_recording(clean)
    classes = () if source.study is None else Task.classes_of(source.study.tasks.values())
    request.pages.write(features, clean, whole, folder / f"{source.key}.html", classes)
    return Measured(source, features, whole=whole)


def _unmeasured(source: Source, reason: str) -> Measured:
    return Measured(source, failure=reason)


def _names(done: Sequence[RecordingFeatures]) -> tuple[str, ...]:
    """Return the measures that any recording has, in the order of one recording: groups of sensors stay together."""
    longest = sorted(done, key=lambda one: -len(one.measures.names))
    return tuple(dict.fromkeys(name for one in longest for name in one.measures.names))


def _rows(done: Sequence[RecordingFeatures], names: Sequence[str]) -> Iterator[tuple[object, ...]]:
    for one in done:
        column = {name: position for position, name in enumerate(one.measures.names)}
        values = np.full((len(one.label), len(names) + 1), np.nan)
        for position, name in enumerate(names):
            if name in column:
                values[:, position] = one.measures.values[:, column[name]]
        for onset, duration, label, row in zip(
            one.measures.onset, one.measures.duration, one.label, values, strict=True
        ):
            when = (round(float(onset), 6), round(float(duration), 6))
            yield (one.subject, one.session, one.recording, *when, label, *map(_number, row[:-1]))


def _detected_rows(done: Sequence[RecordingFeatures], table: str) -> Iterator[tuple[object, ...]]:
    for one in done:
        for row in zip(*one.detected[table].columns.values(), strict=True):
            yield (one.subject, one.session, one.recording, *map(_number, row))


def _notes(done: Sequence[RecordingFeatures]) -> Iterator[tuple[str, ...]]:
    return ((one.subject, one.session, one.recording, note) for one in done for note in one.notes)


def _number(value: float) -> float | None:
    """Return a number with seven digits; None where it is not known."""
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None


def _write(stem: Path, columns: Sequence[str], rows: Iterator[tuple[object, ...]], kind: str) -> Path:
    target = stem.with_name(f"{stem.name}.{kind}")
    if kind != PARQUET:
        write_table(target, columns, rows, delimiter="\t" if kind == TSV else ",")
        return target
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(columns))
    with replacing(target) as temporary:
        frame.to_parquet(temporary, index=False)
    return target


def _dictionary(request: FeaturesRequest, names: Sequence[str]) -> dict[str, Any]:
    """Return what was done and what each column of every table is."""
    return {
        "schema": 1,
        "biopercept": __version__,
        "rows": request.rows,
        "hrv": request.hrv,
        "settings": request.settings.as_plain_values(),
        "around": None if request.around is None else asdict(request.around),
        "features": plainly(_ROW_COLUMNS) | {name: _described(column_of(name)) for name in names},
        **{table: {column.name: _described(column) for column in detected_columns(table)} for table in DETECTED},
        **(
            {}
            if request.around is None
            else {"averages": plainly(_AVERAGE_COLUMNS), "courses": plainly(_COURSE_COLUMNS)}
        ),
    }


def _described(column: Any) -> dict[str, Any]:
    plain = asdict(column)
    bounds = [plain.pop("lowest"), plain.pop("highest")]
    del plain["name"]
    return plain | {"range": bounds}
