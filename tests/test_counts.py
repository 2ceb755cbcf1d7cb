"""Numbers with what they are of: one of it is said in the singular, wherever a message or a page counts."""

from __future__ import annotations

from pathlib import Path

import edfio
import numpy as np
from typer.testing import CliRunner

from biopercept.cli.main import build_app
from biopercept.errors import count
from biopercept.loaders.loading import load_recording


def test_one_of_it_is_singular_with_its_verb() -> None:
    phrases = [count(n, "annotation lies", "annotations lie") for n in (0, 1, 2)]
    assert phrases == ["0 annotations lie", "1 annotation lies", "2 annotations lie"]


def study_of_one(folder: Path) -> Path:
    signal = edfio.EdfSignal(2 + np.sin(np.arange(800) / 15), 4, label="EDA", physical_dimension="uS")
    edfio.Edf([signal]).write(folder / "one.edf")
    (folder / "study.yaml").write_text("name: one\n")
    (folder / "participants.tsv").write_text("participant_id\nP1\n")
    (folder / "recordings.tsv").write_text("participant_id\trecording\tpath\nP1\tlab\tone.edf\n")
    return folder


def test_commands_say_one_recording_of_one_subject(tmp_path: Path) -> None:
    study = study_of_one(tmp_path)
    assert "one: 1 subject, 1 recording, 1 file\n" in CliRunner().invoke(build_app(), ["check", str(study)]).stdout
    prepared = CliRunner().invoke(build_app(), ["prepare", str(study), "-o", str(tmp_path / "s.h5")])
    assert "1 recording: 1 prepared" in prepared.stdout


def test_a_note_on_one_annotation_is_singular(tmp_path: Path) -> None:
    signal = edfio.EdfSignal(np.sin(np.arange(400) / 15), 4, label="EDA", physical_dimension="uS")
    inside, late = edfio.EdfAnnotation(1, 2, "rest"), edfio.EdfAnnotation(900, 2, "rest")
    edfio.Edf([signal], annotations=[inside, late]).write(tmp_path / "one.edf")
    notes = load_recording(tmp_path / "one.edf").notes
    assert "1 annotation lies outside the recording and is left out" in notes
