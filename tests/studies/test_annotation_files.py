"""A hypnogram named as a second file of a recording labels it, on the recording's clock; alone it is refused."""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

import edfio
import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.recording import Interval
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study
from biopercept.studies.structure import StudyFaults

STAGES = [(0, 60, "Sleep stage W"), (60, 30, "Sleep stage 1"), (90, 300, "Sleep stage 2"), (500, 10, "Sleep stage W")]


def hypnogram(path: Path, start: time | None = time(22, 0, 10)) -> Path:
    annotations = [edfio.EdfAnnotation(*stage) for stage in STAGES]
    edfio.Edf(
        [], annotations=annotations, starttime=start, recording=edfio.Recording(startdate=date(2020, 5, 1))
    ).write(path)
    return path


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """A study of one night: EEG of 200 s from 22:00:00, stages from 22:00:10 in a file of their own."""
    signal = edfio.EdfSignal(np.sin(np.arange(12_800)), 64, label="EEG Fpz-Cz", physical_dimension="uV")
    edfio.Edf([signal], starttime=time(22), recording=edfio.Recording(startdate=date(2020, 5, 1))).write(
        tmp_path / "psg.edf"
    )
    hypnogram(tmp_path / "stages.edf")
    (tmp_path / "study.yaml").write_text(
        "name: night\ntasks:\n  stage:\n    classes: {wake: [Sleep stage W], sleep: [Sleep stage 1, Sleep stage 2]}\n"
    )
    (tmp_path / "participants.tsv").write_text("participant_id\nP1\n")
    write_rows(tmp_path, "psg.edf\tn/a", "stages.edf\tn/a")
    return tmp_path


def write_rows(folder: Path, *rows: str) -> None:
    lines = ["participant_id\trecording\tpath\toffset_seconds", *(f"P1\tnight\t{row}" for row in rows)]
    (folder / "recordings.tsv").write_text("\n".join(lines) + "\n")


def test_stages_are_intervals_on_the_clock_of_the_recording(night: Path) -> None:
    study = load_study(night)
    recording = load_entry(study, study.entries[0])
    assert recording.intervals == (
        Interval(10, 60, "Sleep stage W"),
        Interval(70, 30, "Sleep stage 1"),
        Interval(100, 100, "Sleep stage 2"),  # cut at the end of the signals
    )
    assert study.notes == ("P1 night: 1 of 4 annotations lie outside its signals and are left out",)
    assert [signal.name for signal in recording.signals] == ["EEG"]


def test_an_offset_goes_before_the_start_times(night: Path) -> None:
    write_rows(night, "psg.edf\tn/a", "stages.edf\t-5")
    study = load_study(night)
    assert study.entries[0].intervals[:2] == (Interval(0, 55, "Sleep stage W"), Interval(55, 30, "Sleep stage 1"))


def test_a_hypnogram_alone_is_refused_and_says_how_to_use_it(night: Path) -> None:
    with pytest.raises(RecordingError) as fault:
        load_recording(night / "stages.edf")
    assert str(fault.value) == (
        "stages.edf: the file holds annotations only and no signal; to label a recording with them, name it in "
        "recordings.tsv in a second row of that recording (the same participant_id and recording)"
    )
    hypnogram(night / "more.edf")
    write_rows(night, "stages.edf\tn/a", "more.edf\tn/a")
    with pytest.raises(
        StudyFaults, match=r"P1 night: stages\.edf, more\.edf hold annotations only; name the recording's own"
    ):
        load_study(night)


def test_stages_that_contradict_the_events_are_a_fault(night: Path) -> None:
    (night / "events.tsv").write_text(
        "participant_id\trecording\tonset\tduration\ttrial_type\nP1\tnight\t20\t10\tSleep stage 2\n"
    )
    with pytest.raises(StudyFaults) as caught:
        load_study(night)
    assert caught.value.faults == (
        "events.tsv line 2, P1 night: 'Sleep stage 2' (sleep) from 20 to 30 s and 'Sleep stage W' (wake) from 10 "
        "to 70 s of annotations of a file or labels by hand are two classes of task 'stage' for the same time; correct "
        "one, or list one of the labels under ignore",
    )


def test_a_real_hypnogram_labels_a_real_recording(reference_data: Path, tmp_path: Path) -> None:
    folder = reference_data / "formats/edf"
    (tmp_path / "study.yaml").write_text("name: sleep\n")
    (tmp_path / "participants.tsv").write_text("participant_id\nP1\n")
    write_rows(tmp_path, f"{folder / 'short_psg.edf'}\tn/a", f"{folder / 'SC4001EC-Hypnogram.edf'}\tn/a")
    study = load_study(tmp_path)
    (entry,) = study.entries
    assert entry.intervals == (Interval(0, 300, "Sleep stage W"),)
    stages = edfio.read_edf(folder / "SC4001EC-Hypnogram.edf").annotations
    assert stages[0].text == "Sleep stage W" and stages[0].duration == 30_630
    assert study.notes[0] == (
        f"P1 night: {len(stages) - 1} of {len(stages)} annotations lie outside its signals and are left out"
    )
