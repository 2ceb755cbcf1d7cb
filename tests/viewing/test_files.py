"""The command `view` as a user types it: files, studies, stores into pages, with predictions, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import made_study
import numpy as np
import pytest
from made_tables import people, write_study
from typer.testing import CliRunner, Result
from viewed_page import Read

from biopercept.cli.main import build_app
from biopercept.files import write_table
from biopercept.recording import Interval, Recording, Signal
from biopercept.store.reading import open_store
from biopercept.viewing.predictions import PredictionSource
from biopercept.viewing.timeline import BEATS, BREATHS, PREPARED, RECORDED, RESPONSES, timeline_of, timeline_of_stored

FEATURES = made_study.AUDIT_FEATURES


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), ["view", *map(str, words)])


def fault(*words: object) -> str:
    outcome = run(*words)
    assert outcome.exception is not None
    return str(outcome.exception)


@pytest.fixture(scope="module")
def signal_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute and a half of skin conductance with a missing stretch."""
    times = np.arange(90 * 4) / 4.0
    cells = [f"{3 + 0.1 * np.sin(time / 7):.5f}" for time in times]
    cells[80:120] = [""] * 40
    path = tmp_path_factory.mktemp("files") / "P1.csv"
    path.write_text("time,EDA (uS)\n" + "".join(f"{t},{c}\n" for t, c in zip(times, cells, strict=True)))
    return path


def predictions(folder: Path, subject: str, recording: str, session: str = "") -> Path:
    """Write what ``predict`` leaves for one recording."""
    folder.mkdir(parents=True)
    columns = ("onset", "duration", "predicted", "probability_rest", "probability_stress", "quality", "reason", "label")
    rows = [(30.0, 60.0, "stress", 0.25, 0.75, 1.0, "", ""), (0.0, 60.0, "n/a", "", "", 0.2, "too noisy", "rest")]
    write_table(folder / "some_predictions.tsv", columns, rows, delimiter="\t")
    named = {"participant_id": subject, "session": session, "recording": recording, "model": "stress-wrist"}
    (folder / "some_predictions.json").write_text(json.dumps(named))
    return folder


def test_a_file_becomes_a_page_with_its_signal_quality_and_predictions(signal_file: Path, tmp_path: Path) -> None:
    folder = predictions(tmp_path / "predicted", "P1", "P1")
    page = tmp_path / "P1.html"
    outcome = run(signal_file, "--html", page, "--predictions", folder, "--json")
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout) == {"pages": [str(page)], "n_failed": 0}
    read = Read(page.read_text(encoding="utf-8"))
    head, lowest, _, _ = read.level(0)
    assert read.data["signals"][0]["name"] == "EDA"
    assert head["samples"] == 1
    assert np.flatnonzero(np.isnan(lowest[0])).tolist() == list(range(80, 120))
    quality = read.unpacked(read.data["signals"][0]["quality"])
    assert (quality["index"][0, 20:30] == 0).all() and (quality["index"][0, 40:] == 100).all()
    [track] = read.data["predictions"]
    assert track["title"] == "stress-wrist"
    assert read.unpacked(track)["onset"].tolist() == [[0.0, 30.0]]  # in time order
    assert fault(signal_file, "--html", page).endswith(
        "exists and is not empty; choose another output or add --overwrite"
    )  # a page of the recording alone is not the same


def test_a_page_goes_into_a_folder_that_is_given_whether_it_is_there_or_not(signal_file: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for folder in (there, tmp_path / "new"):
        outcome = run(signal_file, "--html", f"{folder}/")
        assert outcome.exit_code == 0, outcome.output
        assert outcome.stdout == f"{folder / 'P1.html'}\n" and [p.name for p in folder.iterdir()] == ["P1.html"]
    named = tmp_path / "page.v1"
    assert fault(signal_file, "--html", named) == (
        f"--html {named} is neither a page nor a folder: a page ends in .html, and a folder that is not yet there has "
        "no dot in its name"
    )
    assert not named.exists()


def test_a_page_of_the_same_is_replaced_and_one_that_somebody_changed_is_not(signal_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "P1.html"
    for _ in range(2):
        assert run(signal_file, "--html", page).exit_code == 0
    copy = signal_file.with_name("P2.csv")
    copy.write_bytes(signal_file.read_bytes())
    assert "exists and is not empty" in fault(copy, "--html", page)
    page.write_text(page.read_text(encoding="utf-8").replace("<h1>", "<h1>Mine: "), encoding="utf-8")
    assert "exists and is not empty" in fault(signal_file, "--html", page)


def test_predictions_of_others_and_folders_without_any_are_refused(signal_file: Path, tmp_path: Path) -> None:
    others = predictions(tmp_path / "others", "S02", "protocol")
    words = [signal_file, "--html", tmp_path / "a.html", "--predictions"]
    assert fault(*words, others) == f"{others} predicts none of what is viewed (P1); it predicts: S02 protocol"
    assert "predicts none of what is viewed" in fault(*words, tmp_path)  # a folder for each task
    (tmp_path / "empty").mkdir()
    assert fault(*words, tmp_path / "empty").startswith(f"{tmp_path / 'empty'} holds no predictions; give a folder")
    assert not (tmp_path / "a.html").exists()


def test_a_study_becomes_a_folder_of_pages_and_a_bad_recording_costs_itself(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", people(2, ("rest", 70.0), ("task", 70.0)))
    pages = tmp_path / "pages"
    assert "each with a page of its own: give --html a folder" in fault(study, "--html", tmp_path / "one.html")
    min(study.glob("*.csv")).write_bytes(b"\x00\x01")
    outcome = run(study, "--html", pages)
    assert outcome.exit_code == 1
    [page] = sorted(pages.iterdir())
    assert outcome.stdout.split() == [str(page)]
    data = Read(page.read_text(encoding="utf-8")).data
    assert [row[2] for row in data["labels"]] == ["rest", "task"]
    assert fault(study, "--html", pages, "--recording", "nothing").startswith("no recording is called 'nothing'")


def test_a_store_is_viewed_as_prepared_from_pyramids_kept_beside_it(tmp_path: Path) -> None:
    store = made_study.store(tmp_path / "study.h5", made_study.planted(n_subjects=2), features=FEATURES)
    with open_store(store) as opened:
        recording = opened.recordings[0]
        name, key = recording.signals[0].name, recording.key
        samples, mask = recording.read(name)
        timeline = timeline_of_stored(recording)
    assert timeline.form == PREPARED
    outcome = run(store, "--html", tmp_path / "pages")
    assert outcome.exit_code == 0, outcome.output
    assert len(outcome.stdout.split()) == 2
    read = Read((tmp_path / "pages" / f"{key}.html").read_text(encoding="utf-8"))
    _, lowest, _, _ = read.level(0)
    assert not mask.all()
    known = np.where(mask, samples, np.nan)
    assert np.allclose(lowest, known, equal_nan=True, atol=1e-3 * float(np.nanmax(np.abs(known))))
    kept = sorted((tmp_path / ".study.h5.view").iterdir())
    assert len(kept) == 2
    made_study.store(store, made_study.planted(n_subjects=2, seed=1)[:1], features=FEATURES)
    assert run(store, "--html", tmp_path / "again.html").exit_code == 0
    assert len(list((tmp_path / ".study.h5.view").iterdir())) == 1  # of the store as it was, nothing is left
    assert "no recording of subject S99" in fault(store, "--html", tmp_path / "x.html", "--subjects", "S99")


def test_held_out_predictions_of_a_cross_validation_are_drawn(tmp_path: Path) -> None:
    store = made_study.store(tmp_path / "study.h5", made_study.study(1))
    with open_store(store) as opened:
        recording = opened.recordings[0]
        whose = (recording.subject, recording.session, recording.recording)
    names = ("participant_id", "session", "recording", "onset", "duration", "label", "predicted")
    columns = (*names, "probability_rest", "probability_stress", "fold", "quality")
    others = ("other", "", "r", 5.0, 10.0, "", "rest", 1, 0, "x", 1)
    rows = [(*whose, 0.0, 10.0, "rest", "stress", 0.4, 0.6, "x", 1.0), others]
    (tmp_path / "scores").mkdir()
    write_table(tmp_path / "scores" / "predictions.csv", columns, rows)
    outcome = run(store, "--html", tmp_path / "a.html", "--predictions", tmp_path / "scores")
    assert outcome.exit_code == 0, outcome.output
    [track] = Read((tmp_path / "a.html").read_text(encoding="utf-8")).data["predictions"]
    assert track["title"] == "scores (held-out folds)"


def test_numbers_and_single_times_are_read_with_the_truth_beside_them(tmp_path: Path) -> None:
    columns = ("onset", "duration", "predicted", "quality", "reason", "label", "unlike")
    rows = [(0.0, 10.0, 2.5, 1.0, "", 3.0, 0), (10.0, 10.0, "n/a", 0.1, "too noisy", "n/a", 1)]
    write_table(tmp_path / "S01__task_predictions.tsv", columns, rows, delimiter="\t")
    named = {"participant_id": "S01", "session": "", "recording": "task", "model": "m", "column": "arousal"}
    (tmp_path / "S01__task_predictions.json").write_text(json.dumps(named))
    times = [(0.5, 2.25, 2, 3.0), (1.0, 2.75, 2, "n/a")]
    write_table(tmp_path / "S01__task_trace.tsv", ("onset", "predicted", "n_windows", "label"), times, delimiter="\t")
    source = PredictionSource(tmp_path)
    assert source.keys() == (("S01", "", "task"),)
    [track] = source.of(("S01", "", "task"))
    assert (track.classes, track.column, track.reason) == ((), "arousal", ("", "too noisy"))
    assert track.is_unlike.tolist() == [False, True]
    assert np.array_equal(track.values, [[2.5], [np.nan]], equal_nan=True)
    assert np.array_equal(track.truth, [3.0, np.nan], equal_nan=True)
    assert (track.trace_seconds.tolist(), track.trace_values.tolist()) == ([0.5, 1.0], [[2.25], [2.75]])
    assert source.of(("S02", "", "task")) == ()


def heart_skin_and_breath() -> Recording:
    """Return two minutes with a beat at each 0.8 s from 0.4 s on, four skin responses and a breath every 4 s."""
    ecg_times, slow = np.arange(120 * 250) / 250.0, np.arange(120 * 32) / 32.0
    phase = (ecg_times - 0.4) % 0.8
    ecg = np.exp(-0.5 * (np.minimum(phase, 0.8 - phase) / 0.012) ** 2)
    eda = 2.0 + sum(
        0.5 * np.where(slow > at, (slow - at) * np.exp(1 - np.maximum(slow - at, 0)), 0.0) for at in (20, 45, 70, 95)
    )
    signals = (
        Signal.from_samples("ECG", "ecg", "mV", 250.0, ecg),
        Signal.from_samples("EDA", "eda", "uS", 32.0, eda),
        Signal.from_samples("RESP", "resp", "a.u.", 32.0, np.sin(2 * np.pi * slow / 4.0)),
    )
    return Recording("S01", "", "task", signals, (Interval(60.0, 30.0, "late"), Interval(10.0, 20.0, "early")))


def test_marks_lie_where_they_were_planted_on_the_signal_that_they_are_of() -> None:
    timeline = timeline_of(heart_skin_and_breath())
    assert timeline.form == RECORDED
    assert [label.label for label in timeline.labels] == ["early", "late"]
    marks = {one.kind: one for one in timeline.marks}
    assert {kind: one.signal for kind, one in marks.items()} == {BEATS: "ECG", RESPONSES: "EDA", BREATHS: "RESP"}
    beats = marks[BEATS].times
    assert len(beats) > 140
    assert np.abs((beats - 0.4 + 0.4) % 0.8 - 0.4).max() < 0.01
    assert np.nanmedian(marks[BEATS].values) == pytest.approx(800.0, abs=1.0)
    near = np.abs(marks[RESPONSES].times[:, None] - np.array([21.0, 46.0, 71.0, 96.0])).min(axis=0)
    assert near.max() < 0.6
    assert np.nanmedian(np.diff(marks[BREATHS].times)) == pytest.approx(4.0, abs=0.05)


def test_what_cannot_be_cleaned_is_shown_all_the_same_with_the_reason() -> None:
    lost = Recording("S01", "", "task", (Signal.from_samples("X", "unknown", "", 10.0, np.arange(50.0)),))
    timeline = timeline_of(lost)
    assert [signal.name for signal in timeline.signals] == ["X"]
    assert (timeline.quality, timeline.marks) == ({}, ())
    assert timeline.notes[-1].startswith("No quality, beats or responses: Nothing is left of S01 after cleaning")
    empty = replace(lost, signals=(*lost.signals, Signal.from_samples("E", "eda", "uS", 4.0, np.zeros((1, 0)))))
    assert "E: not drawn, it has no samples." in timeline_of(empty).notes
