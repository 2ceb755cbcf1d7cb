"""Calibration is for the classes of one task; asked for anything else it is refused before anything is fitted."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app
from biopercept.errors import SettingsError
from biopercept.training.checkpoint import load_model

QUICK = [word for text in ("training.n_epochs=1", "model.width=8", "model.n_latents=2", "model.n_heads=1")
         for word in ("--set", text)]  # fmt: skip
TEMPERATURE = ("--set", "evaluation.calibration=temperature")
SETS = ("--set", "evaluation.conformal_coverage=0.9")


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tasks = (made.TASK, made.LEVEL, made.LOAD)
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.numbered(made.study(3)), task=tasks)


def refusal(*words: object) -> str:
    outcome = CliRunner().invoke(build_app(), [str(word) for word in words])
    assert isinstance(outcome.exception, SettingsError), outcome.output
    return str(outcome.exception)


def test_numbers_have_no_probabilities_to_calibrate(store: Path, tmp_path: Path) -> None:
    sentence = (
        "evaluation.calibration is temperature, which is for probabilities of classes, and the task 'load' is a "
        "regression; set evaluation.calibration=none and evaluation.conformal_coverage=0"
    )
    for model in ("ridge", "perceiver-io"):
        words = ("-o", tmp_path / model, "--model", model, "--task", "load", *TEMPERATURE)
        assert refusal("cross-validate", store, *words) == sentence
        assert not (tmp_path / model / "folds.json").exists()
    assert refusal("train", store, "-o", tmp_path / "model", "--task", "load", *TEMPERATURE) == sentence
    assert refusal("cross-validate", store, "-o", tmp_path / "sets", "--task", "load", *SETS).startswith(
        "evaluation.conformal_coverage is 0.9, which is for probabilities of classes"
    )


@pytest.mark.parametrize("command", ["cross-validate", "train"])
def test_several_tasks_are_not_calibrated_together(command: str, store: Path, tmp_path: Path) -> None:
    assert refusal(command, store, "-o", tmp_path / "out", "--task", "stress,level", *TEMPERATURE) == (
        "evaluation.calibration is temperature, which is learnt for one task of classes, and 2 tasks are learnt "
        "(stress, level); give --task one, or set evaluation.calibration=none and evaluation.conformal_coverage=0"
    )


def test_the_levels_of_a_final_model_are_calibrated_and_those_of_one_person_are_refused(
    store: Path, tmp_path: Path
) -> None:
    fraction = ("--set", "training.validation_fraction=0.4")
    words = ("train", store, "-o", tmp_path / "a", "--task", "level", *TEMPERATURE, *fraction, *QUICK)
    outcome = CliRunner().invoke(build_app(), [str(word) for word in words], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    calibration = load_model(tmp_path / "a").calibration
    assert calibration is not None
    assert calibration.method == "temperature"
    assert refusal("train", store, "-o", tmp_path / "b", "--task", "stress", "--subject", "P01", *SETS, *QUICK) == (
        "evaluation.conformal_coverage is 0.9, and a model of one person has no calibration; "
        "set evaluation.calibration=none and evaluation.conformal_coverage=0"
    )


@pytest.mark.parametrize("command", ["cross-validate", "train"])
def test_single_times_are_not_calibrated(command: str, store: Path, tmp_path: Path) -> None:
    dense = ("--set", "training.dense_weight=0.5")
    assert refusal(command, store, "-o", tmp_path / "out", "--task", "stress", *TEMPERATURE, *dense, *QUICK) == (
        "evaluation.calibration is temperature, and a network of single times (training.dense_weight is 0.5) has no "
        "calibration; set evaluation.calibration=none and evaluation.conformal_coverage=0"
    )


def test_the_curve_of_personalise_is_not_calibrated(store: Path, tmp_path: Path) -> None:
    assert refusal("personalise", store, "-o", tmp_path / "out", "--task", "stress", *TEMPERATURE) == (
        "evaluation.calibration is temperature, and the curve of personalise has no calibration; "
        "set evaluation.calibration=none and evaluation.conformal_coverage=0"
    )


def test_tune_makes_no_sets_and_takes_no_sensor_away(store: Path, tmp_path: Path) -> None:
    tune = ("tune", store, "-o", tmp_path / "out", "--task", "stress", "--trials", 1)
    assert refusal(*tune, *SETS) == (
        "tune makes no prediction sets; evaluation.conformal_coverage is 0.9, which must be 0"
    )
    assert refusal(*tune, "--set", "evaluation.missing_sensors=single") == (
        "tune asks with all sensors; evaluation.missing_sensors is single, which must be none"
    )


def test_an_ordinal_scale_has_levels_whose_probabilities_are_calibrated(store: Path, tmp_path: Path) -> None:
    words = ["cross-validate", store, "-o", tmp_path / "out", "--task", "level", *TEMPERATURE, *QUICK, "-q"]
    outcome = CliRunner().invoke(build_app(), [str(word) for word in words])
    assert outcome.exit_code == 0, outcome.output
