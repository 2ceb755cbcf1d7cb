"""The command `features` as a user types it: tables, dictionary, events of a study, failures, and what is refused."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from bids_rules import faults
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app
from biopercept.errors import SettingsError
from biopercept.measures.files import FeaturesRequest, Pages, write_features
from biopercept.prepare.recording import PrepareSettings
from biopercept.resources import copy_sample_study


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), ["features", *map(str, words)])


def table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_sample_study(tmp_path_factory.mktemp("sample") / "study")


@pytest.fixture(scope="module")
def measured(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("measured") / "out"
    outcome = run(study, "-o", output, "--subjects", "S01,S02", "-q")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout == f"{output / 'features.csv'}\n"
    return output


def test_a_study_is_one_table_with_a_dictionary_of_every_column(measured: Path) -> None:
    rows, dictionary = table(measured / "features.csv"), json.loads((measured / "features.json").read_text())
    assert {row["participant_id"] for row in rows} == {"S01", "S02"}
    assert list(rows[0]) == list(dictionary["features"])
    assert dictionary["features"]["HRV_RMSSD"] == {
        "unit": "ms", "definition": "root mean square of successive differences of intervals", "source": "beats",
        "range": [0.0, None],
    }  # fmt: skip
    assert dictionary["rows"] == "windows"
    assert dictionary["settings"]["windows"] == {"length_seconds": 60.0, "step_seconds": 30.0}
    for name in ("beats", "responses", "breaths"):
        detected = table(measured / f"{name}.csv")
        assert list(detected[0])[3:] == list(dictionary[name]), name
        times = [float(row["time"]) for row in detected if row["participant_id"] == "S01"]
        assert times == sorted(times)


def test_the_full_variability_is_added_and_described(study: Path, tmp_path: Path) -> None:
    words = ("--subjects", "S01", "--whole", "--hrv", "-q", "-o", tmp_path / "out")
    assert run(study, *words).exit_code == 0
    row, dictionary = (
        table(tmp_path / "out" / "features.csv")[0],
        json.loads((tmp_path / "out/features.json").read_text()),
    )
    assert list(row) == list(dictionary["features"])
    assert float(row["HRV_SD1"]) == pytest.approx(float(row["HRV_RMSSD"]) / 2**0.5, rel=0.02)
    assert dictionary["features"]["HRV_SD1"]["unit"] == "ms"
    assert dictionary["hrv"] is True


def test_two_processes_write_the_same_bytes(study: Path, measured: Path, tmp_path: Path) -> None:
    assert run(study, "-o", tmp_path / "out", "--subjects", "S01,S02", "-q", "-j", 2).exit_code == 0
    for path in measured.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_rows_of_events_are_those_of_the_study(study: Path, tmp_path: Path) -> None:
    events = [row for row in table(study / "events.tsv", "\t") if row["participant_id"] == "S01"]
    outcome = run(study, "-o", tmp_path / "out", "--events", study, "--subjects", "S01", "--format", "tsv", "-q")
    assert outcome.exit_code == 0, outcome.output
    rows = table(tmp_path / "out" / "features.tsv", "\t")
    assert [row["label"] for row in rows] == [row["trial_type"] for row in events]
    assert [float(row["duration"]) for row in rows] == [float(row["duration"]) for row in events]


def test_a_file_alone_gets_the_events_that_its_study_has_for_it(study: Path, tmp_path: Path) -> None:
    row = table(study / "recordings.tsv", "\t")[0]
    path = study / row["path"]
    assert run(path, "-o", tmp_path / "out", "--events", study, "-q").exit_code == 0
    assert {one["participant_id"] for one in table(tmp_path / "out" / "features.csv")} == {row["participant_id"]}
    stranger = tmp_path / "stranger.csv"
    stranger.write_text("time,eda (uS)\n0,1\n")
    refused = run(stranger, "-o", tmp_path / "no", "--events", study)
    assert isinstance(refused.exception, SettingsError)
    assert str(refused.exception).startswith("stranger.csv is no recording of the study")
    assert not (tmp_path / "no").exists()


def test_a_recording_that_cannot_be_measured_costs_its_own_rows(study: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("time,eda (uS)\n0,1\n0.25,1\n")
    outcome = run(bad, study, "--subjects", "bad,S01", "--whole", "-o", tmp_path / "out")
    assert outcome.exit_code == 1
    (failure,) = table(tmp_path / "out" / "failures.csv")
    assert failure["recording"] == str(bad)
    assert failure["message"] in outcome.stderr.replace("\n", "")
    assert [row["participant_id"] for row in table(tmp_path / "out" / "features.csv")] == ["S01"]


def test_what_cleaning_noted_stands_beside_the_table(tmp_path: Path) -> None:
    lines = [f"{0.25 * n},{2.0 + 0.01 * np.sin(0.1 * n) + 0.001 * (n % 3) + 3.0 * (n == 200)}" for n in range(480)]
    (tmp_path / "skin.csv").write_text("\n".join(["time,eda (uS)", *lines]))
    assert run(tmp_path / "skin.csv", "--whole", "-o", tmp_path / "out", "-q").exit_code == 0
    notes = table(tmp_path / "out" / "notes.csv")
    assert {note["recording"] for note in notes} == {"skin"}
    assert any("spikes that come and go" in note["note"] for note in notes)


@pytest.fixture(scope="module")
def with_tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample study with tones, which have no duration, beside its labelled stretches."""
    folder = copy_sample_study(tmp_path_factory.mktemp("tones") / "study")
    rows = {(row["participant_id"], row["recording"]) for row in table(folder / "recordings.tsv", "\t")}
    heads = list(table(folder / "events.tsv", "\t")[0])
    with (folder / "events.tsv").open("a") as stream:
        for who, recording in sorted(rows):
            for place, label in enumerate(("loud", "soft", "loud", "soft")):
                if (who, label) == ("S02", "soft"):
                    continue
                cells = {"participant_id": who, "recording": recording, "onset": str(40 + 15 * place), "duration": "0"}
                stream.write("\t".join({**cells, "trial_type": label}.get(head, "") for head in heads) + "\n")
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(text.rstrip() + "\n    ignore: [loud, soft]\n")
    return folder


def test_rows_around_events_come_with_averages_courses_and_a_figure(with_tones: Path, tmp_path: Path) -> None:
    words = ("--around", "loud", "--around", "soft", "--after", 8, "--subjects", "S01,S02", "-o", tmp_path / "out")
    outcome = run(with_tones, *words, "-q")
    assert outcome.exit_code == 0, outcome.output
    out = tmp_path / "out"
    assert outcome.stdout == f"{out / 'around.csv'}\n"
    assert not (out / "features.csv").exists()
    rows, dictionary = table(out / "around.csv"), json.loads((out / "around.json").read_text())
    assert [row["label"] for row in rows if row["participant_id"] == "S01"] == ["loud", "soft", "loud", "soft"]
    assert [row["label"] for row in rows if row["participant_id"] == "S02"] == ["loud", "loud"]
    assert list(rows[0]) == list(dictionary["features"])
    assert dictionary["around"] == {"labels": ["loud", "soft"], "before_seconds": 2.0, "after_seconds": 8.0}
    averages = {(row["condition"], row["measure"]): row for row in table(out / "averages.csv")}
    assert list(next(iter(averages.values()))) == list(dictionary["averages"])
    loud = averages["loud", "ECG_Rate_Max"]
    each = {
        who: [float(r["ECG_Rate_Max"]) for r in rows if (r["participant_id"], r["label"]) == (who, "loud")]
        for who in ("S01", "S02")
    }
    assert float(loud["mean"]) == pytest.approx(sum(sum(v) / len(v) for v in each.values()) / 2, rel=1e-5)
    assert (loud["n_subjects"], loud["n_events"], loud["unit"]) == ("2", "4", "1/min")
    assert float(loud["low"]) < float(loud["mean"]) < float(loud["high"])
    soft = averages["soft", "ECG_Rate_Max"]
    assert (soft["n_subjects"], soft["low"], soft["high"]) == ("1", "", "")
    courses = table(out / "courses.csv")
    assert list(courses[0]) == list(dictionary["courses"])
    times = [float(r["time"]) for r in courses if (r["condition"], r["series"]) == ("loud", "heart_rate")]
    assert times == [place / 4 for place in range(-8, 32)]
    assert (out / "around.svg").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--around", "loud", "--whole"), "--whole and --around contradict each other"),
        (("--around", "loud", "--hrv"), "--hrv and --around contradict each other"),
        (("--before", 3), "--before and --after are of events; name the events with --around EVENT"),
        (("--around", "lou"), "no event is labelled 'lou'; there are: "),
        (("--around", "loud", "--set", "windows.length_seconds=30"), "windows.length_seconds"),
    ],
)
def test_what_cannot_be_around_an_event_is_refused(
    words: tuple[object, ...], message: str, with_tones: Path, tmp_path: Path
) -> None:
    outcome = run(with_tones, "-o", tmp_path / "out", *words)
    assert isinstance(outcome.exception, SettingsError), outcome.output
    assert message in str(outcome.exception)
    assert not (tmp_path / "out").exists()


def test_a_file_without_the_event_says_which_labels_it_has(tmp_path: Path) -> None:
    plain = tmp_path / "plain.csv"
    plain.write_text("time,eda (uS)\n" + "".join(f"{n / 4},{2 + 0.001 * (n % 7)}\n" for n in range(400)))
    outcome = run(plain, "-o", tmp_path / "out", "--around", "tone")
    assert str(outcome.exception) == "no event is labelled 'tone'; there are no events at all"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--whole", "--window", 30), "--window/--step and --whole contradict each other"),
        (("--format", "xlsx"), "--format is 'xlsx'; allowed are csv, tsv, parquet"),
        (("--window", -1), "--window is -1; it must be a number of seconds above 0"),
        (("--whole", "--set", "windows.length_seconds=30"), "windows.length_seconds"),
        (("--set", "training.n_epochs=3"), "training.n_epochs"),
        (("--events", "nowhere"), "--events nowhere is no study folder"),
        (("--subjects", "S99"), "no recording of subject S99"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    words: tuple[object, ...], message: str, study: Path, tmp_path: Path
) -> None:
    outcome = run(study, "-o", tmp_path / "out", *words)
    assert isinstance(outcome.exception, SettingsError), outcome.output
    assert message in str(outcome.exception)
    assert not (tmp_path / "out").exists()


def test_parquet_without_its_library_names_the_line_that_installs_it(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = run(study, "-o", tmp_path / "out", "--format", "parquet")
    assert "pip install 'biopercept[parquet]'" in str(outcome.exception)


def _classes_on_a_page(_: object, __: object, ___: object, path: Path, classes: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(", ".join(classes))


def test_a_page_is_told_the_classes_of_its_study_in_their_order(study: Path, tmp_path: Path) -> None:
    pages = Pages(_classes_on_a_page, lambda _, __: None)
    write_features(FeaturesRequest((study,), PrepareSettings(), subjects=("S01",), pages=pages), tmp_path / "out")
    [page] = (tmp_path / "out" / "pages").glob("*.html")
    assert page.read_text() == "rest, stress"


def test_rows_are_a_derivative_of_bids_with_their_units(study: Path, tmp_path: Path) -> None:
    output = tmp_path / "bids"
    result = run(study, "-o", output, "--also", "bids", "--subjects", "S01")
    assert result.exit_code == 0, result.output
    top = output / "bids"
    assert json.loads((top / "dataset_description.json").read_text())["GeneratedBy"][0]["Name"] == "biopercept"
    tables = sorted(top.glob("sub-*/**/*_desc-features_events.tsv"))
    rows = [row for path in tables for row in table(path, "\t")]
    plain = table(output / "features.csv")
    assert [float(row["onset"]) for row in rows] == [float(row["onset"]) for row in plain]
    assert faults(top) == []
    assert {row["trial_type"] for row in rows} == {row["label"] or "n/a" for row in plain}
    name = next(name for name in plain[0] if name.endswith("rate_mean"))
    assert rows[0][name] == (f"{float(plain[0][name]):.6g}" if plain[0][name] else "n/a")
    described = json.loads(tables[0].with_suffix(".json").read_text())
    assert described[name]["Units"] and {*rows[0]} - {*described} == {"onset", "duration"}
    assert run(study, "-o", output, "--overwrite", "--subjects", "S01").exit_code == 0 and not top.exists()
    wrong = run(study, "-o", tmp_path / "x", "--also", "edf")
    assert "--also names 'edf'; allowed is bids" in str(wrong.exception) and not (tmp_path / "x").exists()
