"""Offsets, starts and events that no recording can have cost a sentence, never the memory or the other recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.preprocessing.windows import BEFORE_START, WindowSettings, cut_windows
from biopercept.recording import Interval
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study
from biopercept.studies.structure import StudyFaults

YAML = "name: pilot\ntasks: {s: {classes: {a: [rest], b: [work]}}}\n"


def write(folder: Path, offset: str) -> Path:
    (folder / "study.yaml").write_text(YAML)
    (folder / "participants.tsv").write_text("participant_id\nS01\nS02\n")
    for subject, value in (("S01", 1), ("S02", 2)):
        rows = "".join(f"{i / 4},{value + i % 7}\n" for i in range(400))
        (folder / f"{subject}.csv").write_text(f"time,EDA (uS)\n{rows}")
    (folder / "recordings.tsv").write_text(
        f"participant_id\trecording\tpath\toffset_seconds\nS01\tlab\tS01.csv\t{offset}\nS02\tlab\tS02.csv\t0\n"
    )
    return folder


@pytest.mark.parametrize("offset", ["1e308", "-1e308", "1e9", "2678401"])
def test_an_offset_longer_than_any_recording_is_a_fault_of_its_row(tmp_path: Path, offset: str) -> None:
    with pytest.raises(StudyFaults) as caught:
        load_study(write(tmp_path, offset))
    assert caught.value.faults == (
        f"recordings.tsv line 2: offset_seconds is {offset!r}, more than 31 days; it is in seconds from the "
        "recording's start, and no date",
    )


@pytest.mark.parametrize(("offset", "words"), [("2e6", "23.1 days after"), ("-90000", "1.0 days before")])
def test_a_recording_that_begins_days_from_its_zero_costs_itself(tmp_path: Path, offset: str, words: str) -> None:
    study = load_study(write(tmp_path, offset))
    with pytest.raises(RecordingError, match=f"S01 lab: its signals begin {words} second zero, at most 1 is read"):
        load_entry(study, study.entries[0])
    assert load_entry(study, study.entries[1]).duration_seconds == 100.0


@pytest.mark.parametrize("sidecar", ['{"StartTime": 1e300, "SamplingFrequency": 4}', '{"SamplingFrequency": 1e-9}'])
def test_a_file_that_says_it_spans_ages_is_refused_by_itself_too(tmp_path: Path, sidecar: str) -> None:
    (tmp_path / "a.csv").write_text("EDA (uS)\n" + "".join(f"{1 + i % 5}\n" for i in range(100)))
    (tmp_path / "a.json").write_text(sidecar)
    with pytest.raises(RecordingError, match=r"a.csv: its samples lie up to .* days from second zero, at most 31 are"):
        load_recording(tmp_path / "a.csv")


def test_an_event_that_begins_ages_before_the_recording_is_cut_without_walking_there() -> None:
    settings = WindowSettings(60.0, 30.0)
    near = cut_windows([Interval(-3000.0, 3600.0, "a")], 600.0, settings)
    walked = [onset for onset in np.arange(-3000.0, 541.0, 30.0) if onset + 60 <= 600]
    assert near.left_out == {BEFORE_START: sum(onset < 0 for onset in walked)}
    assert near.onset[near.is_labelled].tolist() == [onset for onset in walked if onset >= 0]
    ages = cut_windows([Interval(-1e300, 2e300, "a")], 600.0, settings)
    assert ages.is_labelled.sum() == 19
    assert np.isfinite(ages.onset).all()
