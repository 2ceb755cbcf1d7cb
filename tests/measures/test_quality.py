"""The command `quality` as a user types it: planted faults by channel and second, sensors, page, and failures."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import biopercept as bp
from biopercept.cli.main import build_app
from biopercept.measures.quality import Run, Sensor
from biopercept.preprocessing.quality import REASONS

RATE = 8


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), ["quality", *map(str, words)])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def spoilt_eda(path: Path) -> Path:
    """Write two minutes of skin conductance, missing for 6 s from second 20 and with a jump in second 80."""
    times = np.arange(120 * RATE) / RATE
    eda = 3 + 0.02 * np.sin(times / 7) + np.random.default_rng(1).normal(0, 0.001, len(times)) + 8.0 * (times >= 80.5)
    cells = [f"{value:.5f}" for value in eda]
    cells[20 * RATE : 26 * RATE] = [""] * (6 * RATE)
    rows = (f"{time},{cell}\n" for time, cell in zip(times, cells, strict=True))
    path.write_text("time,EDA (uS)\n" + "".join(rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rated")
    outcome = run(spoilt_eda(folder / "P1.csv"), spoilt_eda(folder / "P2.csv"), "-o", folder / "out", "-q")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout == f"{folder / 'out' / 'quality.html'}\n"
    return folder / "out"


def test_each_spoilt_stretch_is_a_row_with_its_reason(rated: Path) -> None:
    rows = [row for row in table(rated / "quality.csv") if row["participant_id"] == "P1"]
    by_reason = {row["reason"]: (float(row["start"]), float(row["stop"]), float(row["share"])) for row in rows}
    assert by_reason["missing"] == (20.0, 26.0, 1.0)
    start, stop, _ = by_reason["jump"]
    assert 74 <= start <= 75 and 86 <= stop <= 87  # and the 5 s around
    assert set(by_reason) == {"missing", "jump"}


def test_a_sensor_is_summed_up(rated: Path) -> None:
    (row,) = (row for row in table(rated / "sensors.csv") if row["participant_id"] == "P2")
    assert (row["signal"], row["modality"], row["reason"]) == ("EDA", "eda", "jump")
    assert float(row["reason_share"]) == pytest.approx(12 / 120, abs=0.01)
    assert int(row["stretches_lost"]) == 2 and float(row["longest_lost"]) in (12.0, 13.0)
    assert 0 < float(row["believe"]) < 1


def test_every_column_and_reason_is_explained(rated: Path) -> None:
    words = json.loads((rated / "quality.json").read_text())
    assert list(table(rated / "quality.csv")[0]) == [*list(words["quality"])[:3], *Run._fields]
    assert (
        set(table(rated / "sensors.csv")[0]) == set(words["sensors"]) == {*list(words["sensors"])[:3], *Sensor._fields}
    )
    assert words["reasons"] == REASONS
    assert {row["reason"] for row in table(rated / "quality.csv")} <= set(REASONS)


def test_the_page_shows_every_recording_and_loads_nothing(rated: Path) -> None:
    page = (rated / "quality.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/svg+xml;base64,') == 2
    assert "P1" in page and "P2" in page and "(jump)" in page
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == [] and page.count("<script>") == 2


def test_a_file_that_cannot_be_read_is_named_and_costs_itself_alone(tmp_path: Path) -> None:
    broken = tmp_path / "broken.edf"
    broken.write_bytes(b"no recording")
    outcome = run(spoilt_eda(tmp_path / "P1.csv"), broken, "-o", tmp_path / "out", "-q", "--json")
    assert outcome.exit_code == 1
    assert json.loads(outcome.stdout)["n_failed"] == 1
    (failure,) = table(tmp_path / "out" / "failures.csv")
    assert failure["recording"] == str(broken) and failure["message"]
    assert failure["message"].split(";")[0].split("<")[0][:20] in (tmp_path / "out" / "quality.html").read_text()
    assert {row["recording"] for row in table(tmp_path / "out" / "sensors.csv")} == {"P1"}


def test_an_output_that_exists_is_refused(rated: Path) -> None:
    outcome = run(rated.parent / "P1.csv", "-o", rated)
    assert outcome.exit_code != 0 and "add --overwrite" in str(outcome.exception)


def test_two_processes_write_the_same_bytes(rated: Path, tmp_path: Path) -> None:
    files = [rated.parent / "P1.csv", rated.parent / "P2.csv"]
    assert run(*files, "-o", tmp_path / "out", "-q", "-j", 2).exit_code == 0
    for path in rated.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_from_python_the_runs_are_the_same(rated: Path) -> None:
    frame = bp.quality(rated.parent / "P1.csv").to_frame()
    rows = [row for row in table(rated / "quality.csv") if row["participant_id"] == "P1"]
    assert [(row["reason"], float(row["start"])) for row in rows] == list(
        zip(frame["reason"], frame["start"], strict=True)
    )
