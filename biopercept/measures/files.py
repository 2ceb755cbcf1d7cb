"""Measures of recordings and studies in a folder: one table, a dictionary of its columns, and what was detected.

``features.csv`` (or .tsv, .parquet) has a row per window, event or recording of all of them, ``features.json`` says
what each column is. ``beats``, ``responses`` and ``breaths`` are tables of what was detected, with times;
``failures.csv`` has a row per recording that could not be measured. Where pages are wanted, ``pages`` has one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import BioperceptError, SettingsError
from biopercept.files import replacing, write_json, write_table
from biopercept.measures.columns import OF_A_ROW, column_of
from biopercept.measures.recording import (
    DETECTED,
    WINDOWS,
    RecordingFeatures,
    detected_columns,
    measured_and_cleaned,
    whole_recording,
)
from biopercept.measures.stretches import Measures
from biopercept.parallel import Work, run_jobs
from biopercept.prepare.recording import PrepareSettings
from biopercept.prepare.sources import Source, sources_of
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.studies.loading import is_study
from biopercept.version import __version__

CSV, TSV, PARQUET = "csv", "tsv", "parquet"
FORMATS = (CSV, TSV, PARQUET)
_DIGITS = 7
_ROW_COLUMNS = {
    "participant_id": ("", "subject; of a file by itself its name"),
    "session": ("", "session of the study; empty where it has none"),
    "recording": ("", "recording of the study; of a file by itself its name"),
    "onset": ("s", "start of the row's time, from the recording's start"),
    "duration": ("s", "length of the row's time"),
    "label": (
        "",
        "label of the event, or of the interval that holds the row's time wholly; empty with none or several",
    ),
}


@dataclass(frozen=True)
class Pages:
    """How a page of a recording, and one that lists several, are written: functions of a module.

    The former is called where the recording is measured, so that its signals are sent to no other process.
    """

    write: Callable[[RecordingFeatures, CleanRecording, Measures, Path], None]
    write_index: Callable[[Sequence[Measured], Path], object]


@dataclass(frozen=True, eq=False)
class FeaturesRequest:
    """What is measured: recordings and study folders, of some subjects only or without some.

    ``rows`` says what a row is of (windows, events, whole); ``events`` is the study whose events they are, None where
    they are not of events. ``hrv`` adds the full set of heart rate variability; ``pages`` is None where no pages are
    wanted.
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
    """What was written: the table, the recordings and rows in it, and title and message of each failure."""

    table: Path
    n_recordings: int
    n_rows: int
    failures: tuple[tuple[str, str], ...]


def write_features(
    request: FeaturesRequest, output: Path, *, on_recording: Callable[[Measured, int], None] = lambda _, __: None
) -> WrittenFeatures:
    """Measure every recording, write the tables into a folder and return what was written.

    A recording that cannot be measured costs its rows alone. ``on_recording`` is told of each and how many there are.

    Raises SettingsError where the format or a subject is unknown, or a path is no recording of the study of events.
    Raises OutputError where a file cannot be written.
    """
    if request.format not in FORMATS:
        raise SettingsError(f"--format is {request.format!r}; allowed are {', '.join(FORMATS)}")
    if request.format == PARQUET:
        _require_parquet()
    sources = _sources(request)
    work = Work(_measured, None, (request, output / "pages"))
    by_key: dict[str, Measured] = {}
    for source, outcome in run_jobs(work, sources, request.n_jobs, work.request):
        by_key[source.key] = outcome
        on_recording(outcome, len(sources))
    outcomes = [by_key[source.key] for source in sources]
    done = [outcome.features for outcome in outcomes if outcome.features is not None]
    failures = tuple((one.source.title, one.failure) for one in outcomes if one.features is None)
    names = _names(done)
    table = _write(output / "features", (*OF_A_ROW, *names), _rows(done, names), request.format)
    for name, columns in DETECTED.items():
        _write(output / name, (*OF_A_ROW[:3], *columns), _detected_rows(done, name), request.format)
    write_json(output / "features.json", _dictionary(request, names))
    write_table(output / "failures.csv", ("recording", "message"), failures)
    if request.pages is not None and len(sources) > 1:
        request.pages.write_index(outcomes, output / "pages")
    return WrittenFeatures(table, len(done), sum(len(one.label) for one in done), failures)


def _require_parquet() -> None:
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise SettingsError(
            "--format parquet needs pyarrow: pip install 'biopercept[parquet]'; csv and tsv need nothing"
        )


def _sources(request: FeaturesRequest) -> list[Source]:
    if request.events is None:
        return sources_of(request.paths, request.subjects, request.excluded)
    if not is_study(request.events):
        raise SettingsError(f"--events {request.events} is no study folder; rows of events need a study's events.tsv")
    sources = sources_of((request.events,), request.subjects, request.excluded)
    wanted = {path.resolve() for path in request.paths} - {request.events.resolve()}
    files = {s.key: {f.path.resolve() for f in s.entry.files} for s in sources if s.entry is not None}
    if strangers := wanted - set().union(*files.values()):
        names = ", ".join(sorted(path.name for path in strangers))
        raise SettingsError(f"{names} is no recording of the study {request.events}; its events cannot be those")
    return [source for source in sources if not wanted or files[source.key] & wanted]


def _measured(work: tuple[FeaturesRequest, Path], source: Source) -> Measured:
    """Measure one recording and write its page; what cannot be read or measured is a failure of its own."""
    request, folder = work
    try:
        features, clean = measured_and_cleaned(source.load(), request.settings, request.rows, hrv=request.hrv)
    except BioperceptError as fault:
        if fault.exit_code not in (1, 2):
            raise
        return Measured(source, failure=str(fault))
    if request.pages is None:
        return Measured(source, features)
    whole = whole_recording(clean)
    request.pages.write(features, clean, whole, folder / f"{source.key}.html")
    return Measured(source, features, whole=whole)


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
    of_rows = {name: {"unit": unit, "definition": words} for name, (unit, words) in _ROW_COLUMNS.items()}
    return {
        "schema": 1,
        "biopercept": __version__,
        "rows": request.rows,
        "hrv": request.hrv,
        "settings": request.settings.as_plain_values(),
        "features": of_rows | {name: _described(column_of(name)) for name in names},
        **{table: {column.name: _described(column) for column in detected_columns(table)} for table in DETECTED},
    }


def _described(column: Any) -> dict[str, Any]:
    plain = asdict(column)
    bounds = [plain.pop("lowest"), plain.pop("highest")]
    del plain["name"]
    return plain | {"range": bounds}
