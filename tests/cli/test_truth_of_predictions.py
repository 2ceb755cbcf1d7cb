"""The truth beside predictions is that of the study which is predicted, in its own words; or none, and that is said."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app

QUICK = ("training.n_epochs=1", "training.batch_size=16", "model.width=8", "model.n_latents=2", "model.n_heads=1",
         "model.n_layers=1")  # fmt: skip
SETTINGS = [word for text in QUICK for word in ("--set", text)]
WINDOWS = ("--set", "windows.length_seconds=20", "--set", "windows.step_seconds=10")


def run(*words: object) -> Result:
    outcome = CliRunner().invoke(build_app(), [str(word) for word in words], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome


def study(folder: Path, stages: tuple[str, str], tasks: str, column: str = "load") -> Path:
    """Write a study of two people, one minute of each stage and one of the first again, in the study's own words."""
    folder.mkdir()
    events = [f"participant_id\trecording\tonset\tduration\ttrial_type\t{column}"]
    files = ["participant_id\trecording\tpath"]
    for number in range(2):
        t = np.arange(4 * 180) / 4
        eda = 3 + number + (t // 60 == 1) + 0.05 * np.random.default_rng(number).normal(size=len(t)).cumsum() / 9
        rows = "".join(f"{a},{b:.4f}\n" for a, b in zip(t, eda, strict=True))
        (folder / f"S{number}.csv").write_text("time,EDA (uS)\n" + rows)
        files.append(f"S{number}\tlab\tS{number}.csv")
        order = (stages[0], stages[1], stages[0])
        events += [f"S{number}\tlab\t{60 * k}\t60\t{label}\t{10 + 50 * (k == 1)}" for k, label in enumerate(order)]
    (folder / "participants.tsv").write_text("participant_id\nS0\nS1\n")
    (folder / "recordings.tsv").write_text("\n".join(files) + "\n")
    (folder / "events.tsv").write_text("\n".join(events) + "\n")
    (folder / "study.yaml").write_text(f"name: {folder.name}\ntasks:\n{tasks}")
    return folder


def truths(output: Path) -> dict[float, str]:
    """Return the label of each window of the first person by its onset."""
    with (output / "S0__lab_predictions.tsv").open() as stream:
        return {float(row["onset"]): row["label"] for row in csv.DictReader(stream, delimiter="\t")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tasks = "  stress: {classes: {rest: [baseline], stress: [stroop]}}\n  load: {kind: regression, column: load}\n"
    run("prepare", study(folder / "first", ("baseline", "stroop"), tasks), "-o", folder / "first.h5", *WINDOWS, "-q")
    run("train", folder / "first.h5", "-o", folder / "stress", "--task", "stress", *SETTINGS, "-q")
    run("train", folder / "first.h5", "-o", folder / "both", "--task", "stress,load", *SETTINGS, "-q")
    return folder


def test_a_study_with_stage_names_of_its_own_gets_all_of_its_truth(models: Path, tmp_path: Path) -> None:
    # Half of its words mean nothing to the study that the model was trained on, and one means the opposite.
    tasks = "  stress: {classes: {rest: [stroop], stress: [exam]}}\n  load: {kind: regression, column: effort}\n"
    other = study(tmp_path / "other", ("stroop", "exam"), tasks, column="effort")
    expected = {0.0: "rest", 30.0: "rest", 60.0: "stress", 90.0: "stress", 120.0: "rest"}
    run("predict", models / "stress", other, "-o", tmp_path / "one", "-q")
    found = truths(tmp_path / "one")
    assert {onset: found[onset] for onset in expected} == expected
    run("predict", models / "both", other, "-o", tmp_path / "both", "-q")
    assert truths(tmp_path / "both" / "stress") == found
    numbers = truths(tmp_path / "both" / "load")
    assert (numbers[0.0], numbers[60.0]) == ("10.0", "60.0")


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ("  mood: {classes: {low: [a], high: [b]}}\n",
         "study 'other' has no task 'stress', so no truth is written beside its predictions"),
        ("  stress: {classes: {calm: [a], tense: [b]}}\n",
         "task 'stress' of study 'other' has the classes calm, tense and the model's are rest, stress, so no truth is "
         "written beside its predictions"),
        ("  stress: {kind: regression, column: load}\n",
         "task 'stress' of study 'other' is a regression and the model's is a classification, so no truth is written "
         "beside its predictions"),
    ],
)  # fmt: skip
def test_a_study_without_the_model_s_task_gets_no_truth_and_that_is_said(
    tasks: str, sentence: str, models: Path, tmp_path: Path
) -> None:
    other = study(tmp_path / "other", ("a", "b"), tasks)
    outcome = run("predict", models / "stress", other, "-o", tmp_path / "out")
    assert " ".join(outcome.stderr.split()).count(sentence) == 1
    assert set(truths(tmp_path / "out").values()) == {""}
