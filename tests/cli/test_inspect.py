"""``inspect``: shows what loads, names what does not, and prints data as plain text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from biopercept.cli.inspect import inspect
from biopercept.cli.panels import with_options
from biopercept.errors import RecordingError


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(with_options(inspect))
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "made.csv"
    path.write_text(
        "time,EDA (uS),[red]x[/red]\x1b[2J,ECG\n" + "".join(f"{i / 50},{1 + i / 999},{i},1\n" for i in range(1000))
    )
    return path


def test_json_says_what_each_signal_is_and_whether_it_is_used(table: Path) -> None:
    result = run("--json", table)
    assert result.exit_code == 0
    signals = {s["name"]: s for s in json.loads(result.stdout)["recordings"][0]["signals"]}
    eda = signals["EDA"]
    assert (eda["modality"], eda["unit"], eda["minimum"], eda["maximum"], eda["is_used"]) == ("eda", "uS", 1, 2, True)
    assert (eda["sampling_rate"], eda["missing_percent"], eda["recognised_by"]) == (50, 0, "label")
    assert (signals["ECG"]["is_used"], signals["ECG"]["reason"]) == (
        False,
        "its unit is not given and electrocardiogram needs 'mV' (say its unit: of a file alone with --unit "
        "NAME=UNIT, in a study under 'signals' in study.yaml)",
    )


def test_one_that_fails_is_named_and_the_others_are_shown(table: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.edf").write_text("no")
    result = run(tmp_path / "bad.edf", table)
    assert result.exit_code == 1
    assert "biopercept: bad.edf: named .edf but does not begin as EDF or BDF" in result.stderr
    assert "eda (label)" in result.stdout


def write_wfdb(folder: Path, **columns: tuple[np.ndarray, str, float]) -> Path:
    """Write a record of one rate per file: name -> (samples, unit, Hz); return the folder's records' common name."""
    import wfdb

    for name, (samples, unit, rate) in columns.items():
        wfdb.wrsamp(
            f"p_{name}",
            rate,
            [unit],
            [name],
            p_signal=np.asarray(samples, dtype=float)[:, None],
            fmt=["32"],
            write_dir=str(folder),
        )
    return folder / "p"


def test_what_is_called_used_is_what_cleaning_leaves(tmp_path: Path) -> None:
    """Every way in which cleaning leaves out or masks a signal, beside ones that it keeps: the same answer in both."""
    from biopercept.loaders.loading import load_recording
    from biopercept.preprocessing.cleaning import clean_recording

    rng = np.random.default_rng(0)
    noise = rng.normal(size=120 * 128)
    t = np.arange(120 * 128) / 128
    path = write_wfdb(
        tmp_path,
        EMG=(noise[:1800], "mV", 15),
        ECG=(np.where(t < 60, 60.0, 61.0) + 0.5 * noise, "mV", 128),
        Fp1=(5e4 + 20 * noise, "uV", 128),
        O1=(20 * noise, "uV", 128),
        EDA=(0.001 + 0 * t[:480], "uS", 4),
        GSR=(3 + np.sin(t[:480]) / 4 + 0.01 * noise[:480], "uS", 4),
        Temp=(33 + 0.1 * np.sin(t[:480] / 9), "degC", 4),
        RESP=(0 * t[: 120 * 32] + 5, "V", 32),
        HR=(noise[:120] + 300, "bpm", 1),
        SpO2=(np.round(97 + noise[:120] / 9), "%", 1),
        strange=(noise[:480], "V", 4),
        PPG=(np.sin(2 * np.pi * 1.1 * t) + 0.02 * noise, "NU", 128),
    )
    document = json.loads(run("--json", path).stdout)["recordings"][0]
    cleaned = clean_recording(load_recording(path))
    left = {s.name for s in cleaned.recording.signals if not s.derived_from and np.isfinite(s.read()).any()}
    answers = {signal["name"]: signal["is_used"] for signal in document["signals"]}
    assert {name for name, is_used in answers.items() if is_used} == left
    assert {"GSR", "Temp", "SpO2", "PPG", "EEG_2"} <= left
    assert not {"EMG", "EDA", "HR", "strange"} & left
    reasons = {signal["name"]: signal["reason"] for signal in document["signals"]}
    assert reasons["EMG"] == "electromyogram is looked for above 20 Hz and it is sampled at only 15 Hz"
    assert reasons["HR"].startswith(
        "nothing is left after cleaning (100.0 % masked, outside the plausible 25 to 240 bpm"
    )
    assert "electrode off the skin" in reasons["EDA"]


@pytest.mark.parametrize(
    "where",
    [
        "eegmat/Subject13_2.edf",
        "formats/edf/short_psg.edf",
        "formats/bdf/test.bdf",
        "formats/empatica_e4_devicely",
        "formats/wfdb_multifreq_drivedb/drive17a.hea",
    ],
)
def test_of_real_recordings_inspect_and_cleaning_say_the_same(reference_data: Path, where: str) -> None:
    from biopercept.loaders.loading import load_recording
    from biopercept.preprocessing.cleaning import clean_recording

    try:
        cleaned = clean_recording(load_recording(reference_data / where)).recording.signals
    except RecordingError as fault:
        assert "Nothing is left" in str(fault)
        cleaned = ()
    left = {s.name for s in cleaned if not s.derived_from and np.isfinite(s.read()).any()}
    signals = json.loads(run("--json", reference_data / where).stdout)["recordings"][0]["signals"]
    assert {signal["name"] for signal in signals if signal["is_used"]} == left


def test_a_long_signal_is_cleaned_in_pieces_until_something_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from biopercept.preprocessing import cleaning
    from biopercept.recording import Signal

    rng = np.random.default_rng(0)
    samples = 300 + rng.normal(size=4000)  # no heart beats so
    samples[3000:3400] = 70
    reads = []

    def read(start: int, stop: int, rows: slice) -> np.ndarray:
        reads.append((start, stop))
        return samples[None, start:stop][rows]

    signal = replace(Signal.from_samples("HR", "hr", "bpm", 1.0, samples), reader=read)
    monkeypatch.setattr(cleaning, "_MOST_AT_ONCE", 500)
    assert cleaning.why_unused(signal) == ""
    assert reads == [(start, start + 500) for start in range(0, 3500, 500)]
    samples[3000:3400] = 300
    assert cleaning.why_unused(signal).startswith(
        "nothing is left after cleaning (100.0 % masked, outside the plausible"
    )


def test_a_recording_shorter_than_a_window_is_said_to_be(table: Path) -> None:
    assert "shorter than one window of 60 s: prepare refuses the recording unless" in " ".join(
        run(table).stdout.split()
    )


def test_one_fault_of_many_recordings_is_told_once_with_the_count(tmp_path: Path) -> None:
    for number in range(20):
        home = tmp_path / f"sub-{number:02d}" / "func"
        home.mkdir(parents=True)
        (home / f"sub-{number:02d}_task-rest_physio.tsv").write_text(f"{number}\n" * 100)
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (tmp_path / "task-rest_physio.json").write_text('{"SamplingFrequency": 0, "Columns": ["cardiac"]}')
    result = run(tmp_path)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("biopercept: 00 task-rest: task-rest_physio.json: SamplingFrequency is 0")
    assert lines[1].startswith("biopercept: so too in 19 more: task-rest_physio.json: SamplingFrequency is 0")


def test_labels_of_channels_are_text_and_not_markup_or_escapes(table: Path) -> None:
    result = run(table)
    assert "[red]x" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_folder_is_shown_recording_by_recording_and_one_that_fails_is_named(table: Path, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "bad.csv").write_text("a,b\nx,y\n1,2\n3,4\n")
    (tmp_path / "below" / "good.csv").write_text(table.read_text())
    (tmp_path / "notes.docx").write_bytes(b"PK\x05\x06")
    result = run("--json", tmp_path)
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert [one["path"] for one in shown["recordings"]] == [str(tmp_path / "below" / "good.csv"), str(table)]
    assert shown["n_failed"] == 1
    [failed, others] = result.stderr.strip().splitlines()
    assert failed.startswith("biopercept: below: bad.csv: ")
    assert others == f"{tmp_path}: 1 file is no recording: notes.docx"


def test_a_folder_without_a_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert f"biopercept: {tmp_path.name}: a folder that holds no recording of a known layout; read are" in result.stderr
