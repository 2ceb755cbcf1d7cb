"""The files of one recording come onto one clock, or are refused; labels come from the study alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders import loading
from biopercept.recording import Interval, Recording, Signal
from biopercept.studies.loading import load_entry, load_study
from biopercept.studies.structure import Entry, Study, StudyFile

from .conftest import EVENTS, Writer

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def device(
    monkeypatch: pytest.MonkeyPatch, starts: dict[str, datetime | None], offsets: dict[str, float] | None = None
) -> Recording:
    """Load an entry of files that last 100 s each, named and started as given."""

    def fake(path: Path, *, subject: str, session: str, name: str, overrides: object) -> Recording:
        signal = replace(Signal.from_samples("EDA", "eda", "uS", 4.0, np.ones((1, 400))), source=path.name)
        notes = ("a gap",) if path.name == "a" else ()
        return Recording(subject, session, name, (signal,), (Interval(1, 0, "tag"),), starts[path.name], notes)

    monkeypatch.setattr(loading, "load_recording", fake)
    files = tuple(StudyFile(Path(name), (offsets or {}).get(name)) for name in starts)
    entry = Entry("S01", "", "lab", files, None, (Interval(10.0, 20.0, "rest"),))
    return load_entry(Study(Path(), "s", "", "", (), (entry,)), entry)


def begins(recording: Recording) -> dict[str, float]:
    return {signal.source: signal.start_seconds for signal in recording.signals}


def test_files_with_a_start_time_are_placed_by_it_with_zero_at_the_earliest(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device(monkeypatch, {"a": NOON + timedelta(seconds=7.5), "b": NOON})
    assert begins(found) == {"a": 7.5, "b": 0.0}
    assert found.started_at == NOON


def test_a_stated_offset_goes_before_the_start_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device(monkeypatch, {"a": NOON, "b": NOON + timedelta(hours=1)}, {"b": 12.5, "a": 0.0})
    assert begins(found) == {"a": 0.0, "b": 12.5}


def test_a_file_without_offset_is_placed_against_the_clock_of_one_with_an_offset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = device(monkeypatch, {"a": NOON, "b": NOON + timedelta(seconds=30)}, {"a": 10.0})
    assert begins(found) == {"a": 10.0, "b": 40.0}
    assert found.started_at == NOON - timedelta(seconds=10)


def test_a_file_of_unknown_start_begins_at_zero_and_a_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device(monkeypatch, {"a": NOON, "b": None})
    assert begins(found) == {"a": 0.0, "b": 0.0}
    assert [
        note for note in found.notes if note.startswith("b has no start time and the study gives no offset_seconds")
    ]


def test_one_file_alone_of_unknown_start_needs_no_note_on_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("start time" in note for note in device(monkeypatch, {"b": None}).notes)


def test_starts_with_and_without_a_time_zone_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        RecordingError, match="S01 lab: of a, b, some give their start with a time zone and some without"
    ):
        device(monkeypatch, {"a": NOON, "b": NOON.replace(tzinfo=None)})


def test_files_that_start_years_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        RecordingError, match="S01 lab: a starts 14365 days after b by their start dates; give offset_sec"
    ):
        device(monkeypatch, {"a": NOON, "b": datetime(1985, 1, 1, 12, tzinfo=UTC)})


def test_files_that_never_overlap_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device(monkeypatch, {"a": NOON, "b": NOON + timedelta(hours=1)})
    assert "b spans 3600 to 3700 s and overlaps no other file; check its clock" in found.notes


def test_signals_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device(monkeypatch, {"a": NOON, "b": NOON})
    assert [signal.name for signal in found.signals] == ["EDA", "EDA_2"]
    assert "the signal EDA of b is called EDA_2: the name was taken" in found.notes
    assert "a: a gap" in found.notes


def test_annotations_in_a_file_are_no_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device(monkeypatch, {"a": NOON})
    assert found.intervals == (Interval(10.0, 20.0, "rest"),)
    assert "annotations inside the files (1) are not taken for labels; the study's tables give those" in found.notes


def test_real_tables_are_merged_with_offset_condition_and_events(write_study: Writer) -> None:
    header = "participant_id\trecording\tpath\toffset_seconds\tcondition\n"
    folder = write_study(
        recordings=header + "S01\tlab\tdata/S01.csv\t0\tbaseline\nS01\tlab\tdata/S02.csv\t-2.5\tn/a\n",
        events=EVENTS.partition("S02")[0] + "S01\tlab\t100\t60\trelax\n",
    )
    study = load_study(folder)
    recording = load_entry(study, study.entries[0])
    assert [signal.start_seconds for signal in recording.signals] == [0.0, -2.5]
    assert [float(signal.read(0, 1)[0, 0]) for signal in recording.signals] == [1.0, 2.0]
    assert recording.intervals[0] == Interval(-2.5, 122.5, "baseline")
    assert [interval.label for interval in recording.intervals[1:]] == ["baseline", "stroop", "relax"]
    assert any(
        "1 labelled intervals reach beyond the signals, which span -2 to 120 s" in note for note in recording.notes
    )
