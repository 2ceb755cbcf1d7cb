"""From a study folder to a trace by the commands that a user gives: two tasks, one network, answers every 5 s."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app
from biopercept.errors import SettingsError

STAGES = ("baseline", "stroop", "baseline")
QUICK = [
    "training.n_epochs=1", "training.batch_size=16", "model.width=8", "model.n_latents=2", "model.n_heads=1",
    "model.n_layers=1",
]  # fmt: skip
SETTINGS = [word for text in QUICK for word in ("--set", text)]


def run(*words: object) -> str:
    found = CliRunner().invoke(build_app(), [str(word) for word in words], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    events = ["participant_id\trecording\tonset\tduration\ttrial_type\tload"]
    files = ["participant_id\trecording\tpath"]
    for place in range(3):
        t = np.arange(4 * 180) / 4
        eda = 3 + place + (t // 60 == 1) + 0.05 * np.random.default_rng(place).normal(size=len(t)).cumsum() / 9
        rows = "".join(f"{a},{b:.4f}\n" for a, b in zip(t, eda, strict=True))
        (folder / f"S{place}.csv").write_text("time,EDA (uS)\n" + rows)
        files.append(f"S{place}\tlab\tS{place}.csv")
        loads = (10 + place, 60 + place, "n/a")
        events += [f"S{place}\tlab\t{60 * k}\t60\t{s}\t{loads[k]}" for k, s in enumerate(STAGES)]
    (folder / "participants.tsv").write_text("participant_id\nS0\nS1\nS2\n")
    (folder / "recordings.tsv").write_text("\n".join(files) + "\n")
    (folder / "events.tsv").write_text("\n".join(events) + "\n")
    (folder / "study.yaml").write_text(
        "name: made\ntasks:\n  stress: {classes: {rest: [baseline], stress: [stroop]}}\n"
        "  load: {kind: regression, column: load}\n"
    )
    run(
        "prepare",
        folder,
        "-o",
        folder / "made.h5",
        "--set",
        "windows.length_seconds=20",
        "--set",
        "windows.step_seconds=10",
        "-q",
    )
    return folder / "made.h5"


def test_scores_of_another_task_are_no_scores_of_a_model_and_of_another_store_are_warned_of(
    store: Path, tmp_path: Path
) -> None:
    run("cross-validate", store, "-o", tmp_path / "cv", "--task", "stress", "--model", "dummy", "-q")
    words = ["train", store, "-o", tmp_path / "model", *SETTINGS, "--scores", tmp_path / "cv", "-q", "--task"]
    fault = CliRunner().invoke(build_app(), [str(word) for word in (*words, "load")]).exception
    assert str(fault).startswith("the scores for the card are of stress and the model learns load; give a")
    run(*words, "stress")
    of_another = "the scores in the card are of another store than the model is trained on"
    assert of_another not in (tmp_path / "model" / "card.md").read_text()
    scores = json.loads((tmp_path / "cv" / "scores.json").read_text())
    scores["fingerprint"]["store"] = "0" * 64
    (tmp_path / "cv" / "scores.json").write_text(json.dumps(scores))
    (tmp_path / "cv" / "SHA256SUMS").unlink()  # else it is refused as edited
    run(*words, "stress", "--overwrite")
    assert of_another in (tmp_path / "model" / "card.md").read_text()


def test_two_tasks_are_trained_predicted_and_reported(store: Path, tmp_path: Path) -> None:
    both = ("--task", "stress,load", *SETTINGS, "-q")
    scores = json.loads(run("cross-validate", store, "-o", tmp_path / "cv", *both, "--json"))
    assert list(scores["tasks"]) == ["stress", "load"]
    assert (tmp_path / "cv" / "load" / "figures" / "predicted-numbers.svg").is_file()
    dense = ("--set", "training.dense_weight=1", "--scores", tmp_path / "cv")
    run("train", store, "-o", tmp_path / "model", *both, *dense)
    assert "always predicting the training mean" in (tmp_path / "model" / "card.md").read_text()
    run("predict", tmp_path / "model", store.parent, "-o", tmp_path / "told", "--every", 5, "-q")
    with (tmp_path / "told" / "load" / "S1__lab_predictions.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["label"] for row in rows if float(row["onset"]) == 0.0] == ["11.0"]
    assert [row["label"] for row in rows if float(row["onset"]) == 120.0] == [""]
    with (tmp_path / "told" / "stress" / "S1__lab_trace.tsv").open() as stream:
        times = [float(row["onset"]) for row in csv.DictReader(stream, delimiter="\t")]
    assert times == [5.0 * k for k in range(len(times))]
    run("predict", tmp_path / "model", store.parent, "-o", tmp_path / "told", "--overwrite", "-q")
    assert not list((tmp_path / "told").rglob("*_trace.*"))
    told = tmp_path / "live"
    words = ("--replay", store.parent / "S1.csv", "--speed", "inf", "--every", "40", "-q")
    run("live", tmp_path / "model", *words, "-o", told)
    for task, column in (("stress", "probability_stress"), ("load", "predicted")):
        with (told / task / "live_predictions.tsv").open() as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        assert [row["onset"] for row in rows] == ["0.0", "40.0", "80.0", "120.0", "160.0"]
        assert all(np.isfinite(float(row[column])) for row in rows)
    assert json.loads((told / "live.json").read_text())["predictions"] == 5
    run("report", tmp_path, "-o", tmp_path / "page.html", "-q")
    page = (tmp_path / "page.html").read_text()
    assert "Predicted and true load" in page
    assert {"Live: live", "Numbers of load", "Numbers of stress"} <= {*re.findall(r"Live: live|Numbers of \w+", page)}
    assert "has not finished" not in page


def test_times_are_refused_before_anything_is_written(store: Path, tmp_path: Path) -> None:
    run("train", store, "-o", tmp_path / "model", "--task", "stress", *SETTINGS, "-q")
    words = ["predict", str(tmp_path / "model"), str(store.parent), "-o", str(tmp_path / "told"), "--every", "1"]
    fault = CliRunner().invoke(build_app(), words).exception
    assert isinstance(fault, SettingsError)
    assert "train a model with --set training.dense_weight=1 for --every" in str(fault)
    assert not (tmp_path / "told").exists()
