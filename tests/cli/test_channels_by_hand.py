"""--unit and --signals say what the channels of a file are, where no study does."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app

COMMANDS = {
    "inspect": (),
    "features": ("--whole",),
    "quality": (),
    "predict": (),
}


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table whose channels do not say what they are: skin conductance in nanosiemens, without a unit."""
    path = tmp_path / "a.csv"
    values = 3000 + np.random.default_rng(1).random(4 * 300)
    path.write_text("time,GSR,odd\n" + "".join(f"{i / 4},{value:.3f},{33 + i % 2}\n" for i, value in enumerate(values)))
    return path


ALL_UNITS = "V, mV, uV, nV, S, mS, uS, nS, degC, K, degF, g, mg, m/s2, bpm, Hz, %, s, ms, us"


def shown(*words: object) -> dict[str, dict[str, object]]:
    result = run("inspect", "--json", *words)
    assert result.exit_code == 0, result.output
    return {signal["name"]: signal for signal in json.loads(result.stdout)["recordings"][0]["signals"]}


def test_a_unit_by_hand_makes_a_channel_usable_in_that_unit(table: Path) -> None:
    assert shown(table)["GSR"]["is_used"] is False
    signal = shown(table, "--unit", "gsr=nS")["GSR"]
    assert (signal["unit"], signal["is_used"]) == ("uS", True)
    assert signal["minimum"] == pytest.approx(3.0, abs=0.01)  # 3000 nS


def test_a_file_says_modality_and_unit_and_the_option_goes_before(table: Path, tmp_path: Path) -> None:
    alone, below = tmp_path / "alone.yaml", tmp_path / "study.yaml"
    alone.write_text("od*: {modality: temp, unit: degC}\nGSR: {unit: mS}\n")
    below.write_text("name: x\nsignals:\n  od*: {modality: temp, unit: degC}\n  GSR: {unit: mS}\n")
    for file in (alone, below):
        signals = shown(table, "--signals", file, "--unit", "GSR=nS")
        assert (signals["odd"]["modality"], signals["odd"]["unit"], signals["odd"]["is_used"]) == ("temp", "degC", True)
        assert signals["GSR"]["minimum"] == pytest.approx(3.0, abs=0.01)


def test_features_are_measured_in_the_unit_by_hand(table: Path, tmp_path: Path) -> None:
    result = run("features", table, "-o", tmp_path / "out", "--whole", "--unit", "GSR=nS")
    assert result.exit_code == 0, result.output
    with (tmp_path / "out" / "features.csv").open(encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    levels = [float(row["eda/level_mean"])]
    assert levels == [pytest.approx(3.0, abs=0.01)]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_said_of_no_channel_is_a_fault_of_the_one_file(command: str, table: Path, tmp_path: Path) -> None:
    output = () if command == "inspect" else ("-o", tmp_path / "out")
    model = ("stress-wrist",) if command == "predict" else ()
    result = run(command, *model, table, *output, *COMMANDS[command], "--unit", "GRS=nS")
    assert result.exit_code == 1
    assert "a.csv: no channel is called GRS; there are: GSR, odd; did you mean GSR?" in " ".join(result.stderr.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_of_a_study_the_study_says_it(command: str, table: Path, tmp_path: Path) -> None:
    folder = table.parent
    (folder / "study.yaml").write_text("name: x\n")
    (folder / "participants.tsv").write_text("participant_id\nS1\n")
    (folder / "recordings.tsv").write_text("participant_id\trecording\tpath\nS1\tr\ta.csv\n")
    output = () if command == "inspect" else ("-o", tmp_path / "out")
    model = ("stress-wrist",) if command == "predict" else ()
    result = run(command, *model, folder, *output, *COMMANDS[command], "--unit", "GSR=nS")
    assert str(result.exception) == (
        f"--signals and --unit are of files; the study {folder} says it in its study.yaml (signals:)"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--unit", "GSR"), "--unit GSR: NAME=UNIT is needed, such as ECG=mV"),
        (("--unit", "GSR=foo"), "--unit GSR=foo: 'foo' is no unit of eda; known are S, mS, uS, nS"),
        (("--unit", "GSR=mSi"), "--unit GSR=mSi: 'mSi' is no unit of eda; known are S, mS, uS, nS; did you mean mS?"),
        (("--unit", "odd=foo"), f"--unit odd=foo: 'foo' is no known unit; known are {ALL_UNITS}"),
        (("--signals", "units.yaml"), "units.yaml line 2: 'K' is no unit of eda; known are S, mS, uS, nS"),
        (("--signals", "gone.yaml"), "there is no file gone.yaml"),
        (("--signals", "bad.yaml"), "bad.yaml line 2: unknown key 'signals.GSR.units'; did you mean unit?"),
    ],
)
def test_what_cannot_be_read_is_refused(words: tuple[str, str], sentence: str, table: Path, tmp_path: Path) -> None:
    (tmp_path / "units.yaml").write_text(
        "odd: {unit: points}\nGSR: {unit: K}\n"
    )  # what is not recognised may be a rating
    (tmp_path / "bad.yaml").write_text("GSR:\n  units: uS\n")
    option, value = words
    result = run("inspect", table, option, tmp_path / value if value.endswith(".yaml") else value)
    assert str(result.exception).replace(f"{tmp_path}/", "") == sentence
