"""No name, code, date or path of a person that a recording's header holds gets out of it, through any command."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path

import edfio
import numpy as np
import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app
from biopercept.files import content_hash

PLANTED = (
    "zebulon",
    "quartermain",
    "kn-4711-x",
    "03-feb-1951",
    "dr_moriarty",
    "2019-09-16",
    "16-sep-2019",
    "16.09.19",
)
QUICK = ("training.n_epochs=1", "training.batch_size=16", "model.width=8", "model.n_latents=2", "model.n_heads=1",
         "model.n_layers=1")  # fmt: skip
TINY = [word for text in QUICK for word in ("--set", text)]
WINDOWS = ("--set", "windows.length_seconds=20", "--set", "windows.step_seconds=10")
SECONDS, RATE = 180, 4


def _eda(number: int) -> np.ndarray:
    t = np.arange(RATE * SECONDS) / RATE
    noise = np.random.default_rng(number).normal(size=len(t)).cumsum() / 200
    return np.asarray(3 + number / 5 + 0.3 * (t // 60 == 1) + noise)


def _edf(path: Path, number: int, *, is_bdf: bool) -> None:
    signal, whole = (edfio.BdfSignal, edfio.Bdf) if is_bdf else (edfio.EdfSignal, edfio.Edf)
    whole(
        [signal(_eda(number), RATE, label="EDA", physical_dimension="uS")],  # type: ignore[operator]
        patient=edfio.Patient(
            code="KN-4711-X", sex="M", birthdate=datetime.date(1951, 2, 3), name="Zebulon_Quartermain"
        ),
        recording=edfio.Recording(
            startdate=datetime.date(2019, 9, 16),
            hospital_administration_code="Zebulon",
            investigator_technician_code="Dr_Moriarty",
        ),
        starttime=datetime.time(9, 0),
        annotations=[edfio.EdfAnnotation(1.0, None, "Mr Blofeld coughs")],
    ).write(path)


def _wfdb(folder: Path, name: str, number: int) -> None:
    counts = np.round(_eda(number) * 1000).astype("<i2")
    (folder / f"{name}.dat").write_bytes(counts.tobytes())
    check = int(np.sum(counts, dtype=np.int64) & 0xFFFF)
    check -= 0x10000 if check > 0x7FFF else 0
    (folder / f"{name}.hea").write_text(
        f"{name} 1 {RATE} {len(counts)} 09:00:00 16/09/2019\n"
        f"{name}.dat 16 1000/uS 16 0 {counts[0]} {check} 0 EDA\n"
        "# Zebulon Quartermain, born 03-FEB-1951, KN-4711-X\n"
    )


def _empatica(folder: Path, number: int) -> None:
    folder.mkdir()
    started = datetime.datetime(2019, 9, 16, 9, tzinfo=datetime.UTC).timestamp()
    rows = "".join(f"{value:.6f}\n" for value in _eda(number))
    (folder / "EDA.csv").write_text(f"{started:.6f}\n4.000000\n{rows}")
    (folder / "info.txt").write_text("Zebulon Quartermain, KN-4711-X\n")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "study"
    folder.mkdir()
    _edf(folder / "P0.edf", 0, is_bdf=False)
    _edf(folder / "P1.bdf", 1, is_bdf=True)
    _wfdb(folder, "P2", 2)
    _empatica(folder / "P3", 3)
    files = {"S0": "P0.edf", "S1": "P1.bdf", "S2": "P2.hea", "S3": "P3"}
    (folder / "participants.tsv").write_text("participant_id\n" + "".join(f"{one}\n" for one in files))
    (folder / "recordings.tsv").write_text(
        "participant_id\trecording\tpath\n" + "".join(f"{one}\tlab\t{path}\n" for one, path in files.items())
    )
    stages = ("rest", "stress", "rest")
    events = [f"{one}\tlab\t{60 * k}\t60\t{stage}" for one in files for k, stage in enumerate(stages)]
    (folder / "events.tsv").write_text("participant_id\trecording\tonset\tduration\ttrial_type\n" + "\n".join(events))
    (folder / "study.yaml").write_text("name: lab\ntasks: {stress: {classes: {rest: [rest], stress: [stress]}}}\n")
    return folder


def _planted_in(text: str) -> list[str]:
    return [word for word in PLANTED if word in text.lower()]


def test_headers_hold_what_was_planted_and_no_output_of_any_command_does(
    study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = study.parent
    held = "".join((study / name).read_bytes().decode("latin-1") for name in ("P0.edf", "P1.bdf", "P2.hea"))
    assert set(_planted_in(held)) >= set(PLANTED) - {"2019-09-16"}
    before = content_hash(study)
    caplog.set_level(logging.DEBUG)
    store, cv, model, told = results / "lab.h5", results / "cv", results / "model", results / "told"
    commands: list[list[object]] = [
        ["inspect", study],
        ["inspect", study / "P0.edf", study / "P1.bdf", study / "P2.hea", study / "P3", "--json"],
        ["check", study, "--recordings"],
        ["quality", study, "-o", results / "quality"],
        ["features", study, "-o", results / "features", "--whole", "--pages", "-v"],
        ["prepare", study, "-o", store, *WINDOWS, "-v"],
        ["cross-validate", store, "-o", cv, "--model", "logistic", "--split", "k-fold", "--folds", "2"],
        ["report", cv],
        ["train", store, "-o", model, *TINY, "-v"],
        ["predict", model, study, "-o", told, "-v"],
        ["report", told],
    ]
    for words in commands:
        ended = CliRunner().invoke(build_app(), [*map(str, words), *(["--debug"] * (words[0] != "report"))])
        assert ended.exit_code == 0, (words, ended.output, ended.exception)
        said = ended.output.replace(str(study), "")
        # The annotations of a file by itself are its labels, which inspect is asked for; a study's are in its tables.
        is_asked_for = {"blofeld"} if study / "P0.edf" in words else set()
        assert set(_planted_in(said)) <= is_asked_for, words
        if words[0] == "inspect":
            assert "patient fields present (hidden)" in said
    assert _planted_in(caplog.text) == []
    assert content_hash(study) == before
    written = [path for path in results.rglob("*") if path.is_file() and study not in path.parents]
    assert {"lab.h5", "failures.csv", "report.html", "summary.csv", "quality.html"} <= {path.name for path in written}
    for path in written:
        content = path.read_bytes().decode("latin-1")
        assert _planted_in(content) == [], path.relative_to(results)
        assert str(Path.home()) not in content.replace(str(results), ""), path.relative_to(results)
        assert str(study.parent) not in content, path.relative_to(results)


def test_a_file_that_cannot_be_read_does_not_tell_either(study: Path, tmp_path: Path) -> None:
    content = (study / "P0.edf").read_bytes()
    for number, place in enumerate((40, 90, 168, 184, 236, 244, 252, 256, 300, 400, 511)):
        for name, damaged in (
            (f"a{number}.edf", content[:place]),
            (f"b{number}.edf", content[:place] + b"?" + content[place + 1 :]),
        ):
            (tmp_path / name).write_bytes(damaged)
    ended = CliRunner().invoke(build_app(), ["inspect", *map(str, sorted(tmp_path.iterdir()))])
    assert ended.exit_code == 1
    assert set(_planted_in(ended.output)) <= {"blofeld"}
