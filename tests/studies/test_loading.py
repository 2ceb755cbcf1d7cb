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
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study
from biopercept.studies.structure import Entry, Study, StudyFaults, StudyFile

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


def test_two_clocks_that_were_not_set_start_together_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    unset = datetime(1985, 1, 1, 0, 0, 0, 250_000)  # an EDF header's, with part of a second from its annotations
    found = device(monkeypatch, {"a": unset, "b": unset})
    words = "a, b: each starts at the first moment that a clock without a date shows; they are taken to start together"
    assert [note.startswith(words) for note in found.notes if "clock without" in note] == [True]
    kept_time = datetime(1985, 1, 1, 23, 5)  # the date was removed, the time is real
    for starts in ({"a": kept_time, "b": kept_time}, {"a": unset}, {"a": NOON, "b": NOON}):
        assert not any("clock without" in note for note in device(monkeypatch, starts).notes)


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
        recordings=header + "S01\tlab\tdata/S01.csv\t0\tbreak\nS01\tlab\tdata/S02.csv\t-2.5\tn/a\n",
        events=EVENTS.partition("S02")[0] + "S01\tlab\t120\t40\trelax\n",
    )
    study = load_study(folder)
    recording = load_entry(study, study.entries[0])
    assert [signal.start_seconds for signal in recording.signals] == [0.0, -2.5]
    assert [float(signal.read(0, 1)[0, 0]) for signal in recording.signals] == [1.0, 2.0]
    assert recording.intervals[0] == Interval(-2.5, 122.5, "break")
    assert [interval.label for interval in recording.intervals[1:]] == ["baseline", "stroop", "relax"]
    assert any(
        "1 labelled intervals reach beyond the signals, which span -2 to 120 s" in note for note in recording.notes
    )


ONSETS = "participant_id\trecording\tonset\tduration\ttrial_type\n"


@pytest.mark.parametrize(
    ("scale", "start", "unit"), [(1e3, 0, "milliseconds"), (1e6, 0, "microseconds"), (1, 1_685_628_000, "unix times")]
)
def test_labels_in_another_unit_than_seconds_are_refused(
    write_study: Writer, scale: float, start: float, unit: str
) -> None:
    rows = [(f"S0{n}", start + onset * scale, 40 * scale) for n in (1, 2) for onset in (0, 40, 80)]
    labels = ("baseline", "stroop", "relax")
    text = "".join(f"{s}\tlab\t{o:.0f}\t{d:.0f}\t{labels[k % 3]}\n" for k, (s, o, d) in enumerate(rows))
    study = load_study(write_study(events=ONSETS + text))
    begin = r"S01 lab: 'relax' \(events.tsv line 4\) is stated to span"
    with pytest.raises(RecordingError, match=f"{begin} .* these look like {unit}$"):
        load_entry(study, study.entries[0])


@pytest.mark.parametrize("events", ["S01\tlab\t0\t1e12\trelax\n", "S01\tlab\t0\t60\trelax\nS01\tlab\t500\t9\tstroop\n"])
def test_labels_that_only_reach_beyond_the_signals_are_noted(write_study: Writer, events: str) -> None:
    study = load_study(write_study(events=ONSETS + events))
    recording = load_entry(study, study.entries[0])
    assert any("1 labelled intervals reach beyond the signals" in note for note in recording.notes)


@pytest.mark.parametrize("offset", ["1685628000", "-1e8"])
def test_an_offset_that_is_a_date_is_refused(write_study: Writer, offset: str) -> None:
    table = f"participant_id\trecording\tpath\toffset_seconds\nS01\tlab\tdata/S01.csv\t{offset}\n"
    with pytest.raises(StudyFaults, match=r"recordings.tsv line 2: offset_seconds is .*, more than 31 days"):
        load_study(write_study(recordings=table, events=None))


@pytest.mark.parametrize("zone", ["", "Z", "+02:00"])
def test_local_time_beside_a_clock_with_a_zone_is_refused_and_never_placed_hours_away(
    write_study: Writer, zone: str
) -> None:
    folder = write_study()
    e4 = folder / "data" / "e4"
    e4.mkdir()
    (e4 / "TEMP.csv").write_text("1685628000\n4\n" + "33\n" * 400)  # 2023-06-01 14:00:00 UTC, 16:00 in Paris
    hour = {"": 16, "Z": 14, "+02:00": 16}[zone]
    stamps = "".join(f"2023-06-01T{hour}:{i // 60:02d}:{i % 60:02d}{zone},{i}\n" for i in range(100))
    (folder / "data" / "S01.csv").write_text("timestamp,EDA (uS)\n" + stamps)
    table = "participant_id\trecording\tpath\nS01\tlab\tdata/S01.csv\nS01\tlab\tdata/e4\n"
    study = load_study(write_study_again(folder, table))
    if not zone:
        with pytest.raises(
            RecordingError, match=r"S01 lab: of S01.csv, e4, some give their start with a time zone and"
        ):
            load_entry(study, study.entries[0])
        return
    assert begins(load_entry(study, study.entries[0])) == {"S01.csv": 0.0, "TEMP.csv": 0.0}


def write_study_again(folder: Path, recordings: str) -> Path:
    """Replace the recordings of a study that was written, and leave its data."""
    (folder / "recordings.tsv").write_text(recordings)
    (folder / "events.tsv").unlink()
    return folder


def test_corrections_are_of_their_files_own_signals_on_the_recordings_clock(write_study: Writer) -> None:
    rows = "participant_id\trecording\tpath\toffset_seconds\nS01\tlab\tdata/S01.csv\t0\nS01\tlab\tdata/S02.csv\t12.5\n"
    events = "participant_id\trecording\tonset\tduration\ttrial_type\nS01\tlab\t0\t60\tbaseline\n"
    folder = write_study(recordings=rows, events=events)
    head = "onset\tduration\tkind\tchannel\n"
    (folder / "data" / "S01_corrections.tsv").write_text(f"{head}10\t5\tbad\tn/a\n")
    (folder / "data" / "S02_corrections.tsv").write_text(f"{head}20\t5\tbad\tEDA\nn/a\tn/a\tchannel-bad\tEDA\n")
    study = load_study(folder)
    recording = load_entry(study, study.entries[0])
    names = [signal.name for signal in recording.signals]
    assert names == ["EDA", "EDA_2"]
    assert [(one.span, one.channels) for one in recording.corrections] == [
        ((10.0, 15.0), ("EDA",)),
        ((32.5, 37.5), ("EDA_2",)),
        ((-np.inf, np.inf), ("EDA_2",)),
    ]


def test_corrections_that_two_files_of_a_recording_would_read_are_refused(write_study: Writer) -> None:
    rows = "participant_id\trecording\tpath\nS01\tlab\tdata/S01.csv\nS01\tlab\tdata/S01.tsv\n"
    events = "participant_id\trecording\tonset\tduration\ttrial_type\nS01\tlab\t0\t60\tbaseline\n"
    folder = write_study(recordings=rows, events=events)
    (folder / "data" / "S01.tsv").write_text("time\tECG (mV)\n" + "".join(f"{i / 100}\t1\n" for i in range(1000)))
    shared = folder / "data" / "S01_corrections.tsv"
    shared.write_text("onset\tduration\tkind\n1\t5\tbad\n")
    study = load_study(folder)
    with pytest.raises(RecordingError) as raised:
        load_entry(study, study.entries[0])
    assert str(raised.value) == (
        "S01 lab: S01_corrections.tsv could be of S01.csv or of S01.tsv; call it S01.csv_corrections.tsv or "
        "S01.tsv_corrections.tsv"
    )
    shared.rename(folder / "data" / "S01.csv_corrections.tsv")
    assert [one.channels for one in load_entry(study, study.entries[0]).corrections] == [("EDA",)]
