"""``inspect``: shows what loads, names what does not, and prints data as plain text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from biopercept.cli.inspect import inspect
from biopercept.cli.panels import with_options


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(with_options(inspect))
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "made.csv"
    path.write_text(
        "time,EDA (uS),[red]x[/red]\x1b[2J,ECG\n" + "".join(f"{i / 50},{1 + i % 2},{i},1\n" for i in range(100))
    )
    return path


def test_json_says_what_each_signal_is_and_whether_it_is_used(table: Path) -> None:
    result = run("--json", table)
    assert result.exit_code == 0
    signals = {s["name"]: s for s in json.loads(result.stdout)["recordings"][0]["signals"]}
    eda = signals["EDA"]
    assert (eda["modality"], eda["unit"], eda["minimum"], eda["maximum"], eda["is_used"]) == ("eda", "uS", 1, 2, True)
    assert (eda["sampling_rate"], eda["missing_percent"], eda["recognised_by"]) == (50, 0, "label")
    assert (signals["ECG"]["is_used"], signals["ECG"]["reason"]) == (False, "unit unknown, not mV")


def test_one_that_fails_is_named_and_the_others_are_shown(table: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.edf").write_text("no")
    result = run(tmp_path / "bad.edf", table)
    assert result.exit_code == 1
    assert "biopercept: bad.edf: named .edf but does not begin as EDF or BDF" in result.stderr
    assert "eda (label)" in result.stdout


def test_labels_of_channels_are_text_and_not_markup_or_escapes(table: Path) -> None:
    result = run(table)
    assert "[red]x" in result.stdout
    assert "\x1b" not in result.stdout
