"""Files without what tells whose they are: samples as another library reads them, and no planted word anywhere."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path

import edfio
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app
from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.prepare.deidentification import Removed, deidentify

PLANTED = (b"Jane", b"Doe", b"MCH-0234567", b"16-SEP-1987", b"16-SEP-1987", b"Dr_House", b"Ward7", b"16.09", b"called")


def _planted(path: Path, *, is_bdf: bool = False) -> Path:
    random = np.random.default_rng(1)
    kind = edfio.BdfSignal if is_bdf else edfio.EdfSignal
    signals = [
        kind(random.normal(size=2560), 256, label="EEG Fp1", physical_dimension="uV"),
        kind(random.normal(size=40), 4, label="EDA", physical_dimension="uS"),
    ]
    whole = edfio.Bdf if is_bdf else edfio.Edf
    file = whole(
        signals,
        patient=edfio.Patient(code="MCH-0234567", sex="F", birthdate=datetime.date(1987, 9, 16), name="Jane_Doe"),
        recording=edfio.Recording(
            startdate=datetime.date(2019, 9, 16),
            hospital_administration_code="Ward7",
            investigator_technician_code="Dr_House",
        ),
        starttime=datetime.time(13, 14, 15, 500_000),
        annotations=[
            edfio.EdfAnnotation(0.5, None, "Jane called"),
            edfio.EdfAnnotation(2.0, 1.0, "Sleep stage W"),
            edfio.EdfAnnotation(3.25, None, "sleep stage 2"),
        ],
    )
    file.write(path)
    return path


@pytest.mark.parametrize("is_bdf", [False, True])
def test_names_dates_and_texts_go_and_samples_stay_to_the_bit(tmp_path: Path, is_bdf: bool) -> None:
    source = _planted(tmp_path / "in.edf", is_bdf=is_bdf)
    target = tmp_path / "out.edf"
    read = edfio.read_bdf if is_bdf else edfio.read_edf
    before = read(source)
    source.write_bytes(source.read_bytes() + b"Jane")
    assert all(word in source.read_bytes() for word in (b"Jane", b"MCH-0234567", b"16-SEP-1987", b"16.09", b"Ward7"))
    removed = deidentify(source, target, kept_texts=["Sleep stage ?"])
    assert removed == Removed(("patient", "recording", "start date", "start time"), 1, 2, 4)
    content = target.read_bytes()
    assert [word for word in PLANTED if word.lower() in content.lower()] == []
    assert content[8:184].decode("ascii").split() == [
        "X",
        "X",
        "X",
        "X",
        "Startdate",
        "X",
        "X",
        "X",
        "X",
        "01.01.8500.00.00",
    ]
    assert content[192:256] == source.read_bytes()[192:256]
    after = read(target)
    for one, other in zip(before.signals, after.signals, strict=True):
        assert (other.digital == one.digital).all() and other.data.tobytes() == one.data.tobytes()
        assert (other.label, other.physical_dimension, other.sampling_frequency) == (
            one.label, one.physical_dimension, one.sampling_frequency
        )  # fmt: skip
    assert [a.text for a in after.annotations] == ["Sleep stage W", "sleep stage 2"]
    assert [(a.onset, a.duration) for a in after.annotations] == [
        (a.onset, a.duration) for a in before.annotations if a.text != "Jane called"
    ]
    here, there = load_recording(source), load_recording(target)
    assert [s.read().tobytes() for s in here.signals] == [s.read().tobytes() for s in there.signals]
    assert "patient fields present (hidden)" in here.notes and "patient fields present (hidden)" not in there.notes
    again = tmp_path / "again.edf"
    assert deidentify(target, again, kept_texts=["Sleep stage ?"]) == Removed((), 0, 2, 0)
    assert again.read_bytes() == content


def test_without_an_allow_list_no_text_stays_and_the_time_of_day_may(tmp_path: Path) -> None:
    source, target = _planted(tmp_path / "in.edf"), tmp_path / "out.edf"
    assert deidentify(source, target, keeps_time=True) == Removed(("patient", "recording", "start date"), 3, 0, 0)
    assert target.read_bytes()[168:184] == b"01.01.8513.14.15"
    assert len(edfio.read_edf(target).annotations) == 0


def test_a_malformed_annotation_does_not_stay(tmp_path: Path) -> None:
    source, target = _planted(tmp_path / "in.edf"), tmp_path / "out.edf"
    source.write_bytes(re.sub(rb"\+2\.5(\x151(\.0)?\x14Sleep)", rb"Doe!\1", source.read_bytes()))
    assert b"Doe!\x151" in source.read_bytes()
    deidentify(source, target, kept_texts=["*"])
    assert b"Doe" not in target.read_bytes()


def test_another_format_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("time,EDA\n0,1\n")
    with pytest.raises(
        RecordingError, match=r"^one\.csv: not EDF or BDF, the formats from whose files names are remov"
    ):
        deidentify(tmp_path / "one.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def _run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), ["deidentify", *map(str, words)])


def test_a_folder_is_written_file_by_file_and_what_cannot_be_is_named(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    _planted(source / "sub" / "a.edf")
    _planted(source / "b.EDF")
    (source / "broken.edf").write_bytes(b"0       " + b"Jane Doe" * 10)
    (source / "events.tsv").write_text("Jane\n")
    ended = _run(source, "-o", output, "--json")
    document = json.loads(ended.stdout)
    assert ended.exit_code == 1 and document["n_failed"] == 1
    assert sorted(document["files"]) == ["b.EDF", "sub/a.edf"]
    assert document["files"]["b.EDF"]["n_annotations"] == 3
    assert "broken.edf" in ended.stderr and "1 other file of the folder is not copied" in ended.stderr
    assert sorted(str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()) == ["b.EDF", "sub/a.edf"]
    assert "Jane" not in ended.output
    words = _run(source / "b.EDF", "-o", tmp_path / "one.edf")
    assert words.stdout == "b.EDF: removed: patient field, recording field, start date, start time, 3 annotations\n"


def test_what_is_read_is_never_written_over(tmp_path: Path) -> None:
    source = _planted(tmp_path / "in.edf")
    before = source.read_bytes()
    for words in ((source, "-o", source, "--overwrite"), (tmp_path, "-o", tmp_path / "out")):
        assert "choose another output" in str(_run(*words).exception)
    assert source.read_bytes() == before


def test_a_file_of_annotations_alone_is_written_without_them_or_with_those_that_are_kept(tmp_path: Path) -> None:
    texts = [edfio.EdfAnnotation(30.0 * k, 30.0, text) for k, text in enumerate(["Sleep stage W", "Jane turns"])]
    source, target = tmp_path / "in.edf", tmp_path / "out.edf"
    edfio.Edf([], patient=edfio.Patient(name="Jane_Doe"), annotations=texts).write(source)
    removed = deidentify(source, target, kept_texts=["Sleep stage ?"])
    assert (removed.n_annotations, removed.n_annotations_kept) == (1, 1)
    assert [one.text for one in edfio.read_edf(target).annotations] == ["Sleep stage W"]
    assert b"Jane" in source.read_bytes() and b"Jane" not in target.read_bytes()
