"""Cross-validation from pretrained weights: what it says, whom it warns of, and what resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from biopercept.data.normalisation import NormalisationSettings
from biopercept.errors import SettingsError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.tokens import TokenSettings
from biopercept.training.engine import Engine
from biopercept.training.pretraining import PretrainingRequest, pretrain, save_pretrained, unlabelled_inputs
from biopercept.training.settings import FitSettings, PretrainingSettings, TrainingSettings

SMALL = PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2)
BRIEF = PretrainingSettings(n_epochs=1, batch_size=32, n_queries=4)
FIT = FitSettings(model=SMALL, training=TrainingSettings(n_epochs=1, batch_size=32))


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(6))


def request(store: Path, model: str = "perceiver-io", **fit: object) -> EvaluationRequest:
    evaluation = EvaluationSettings(split="k-fold", n_folds=2, n_bootstrap=200)
    return EvaluationRequest(store, model, fit=replace(FIT, **fit), evaluation=evaluation)


def pretrained(made: ModuleType, folder: Path, study: str, subjects: list[str], seed: int = 0) -> str:
    recordings = [made.recording(name, seed=9) for name in subjects]
    inputs = unlabelled_inputs(
        recordings, NormalisationSettings(), TokenSettings(), length_seconds=made.LENGTH, step_seconds=made.STEP,
        feature_names=made.FEATURES,
    )  # fmt: skip
    pretraining = PretrainingRequest((inputs,), TokenSettings(), SMALL, BRIEF, Engine(torch.device("cpu")), seed)
    row = {"study": study, "store": "0" * 64, "subjects": subjects, "n_windows": 1, "prepare": {}}
    save_pretrained(pretrain(pretraining), pretraining, [row], folder, seed=seed)
    return str(folder)


def test_weights_that_have_seen_test_subjects_are_a_leak_and_every_output_says_so(
    made: ModuleType, store: Path, tmp_path: Path
) -> None:
    start = pretrained(made, tmp_path / "pre", "made", ["P01", "P05", "X9"])
    scores = cross_validate(request(store, start_from=start), tmp_path / "cv")
    [leak] = [w for w in scores["warnings"] if w.startswith("LEAK")]
    assert "had seen 2 of the 6 test subjects (P01, P05); pretrain inside each fold with --pretrain" in leak
    assert scores["start_from"]["new"] == ["queries.values", "heads.0.weight", "heads.0.bias"]
    assert json.loads((tmp_path / "cv" / "folds.json").read_text())["run"]["start_from"] == scores["start_from"]


def test_weights_of_another_study_are_no_leak_and_change_the_answers(
    made: ModuleType, store: Path, tmp_path: Path
) -> None:
    start = pretrained(made, tmp_path / "pre", "elsewhere", ["P01", "P05"])
    scores = cross_validate(request(store, start_from=start), tmp_path / "cv")
    assert [w for w in scores["warnings"] if w.startswith("LEAK")] == []
    plain = cross_validate(request(store), tmp_path / "plain")
    assert "start_from" not in plain
    assert plain["brier"] != scores["brier"]
    other = pretrained(made, tmp_path / "other", "elsewhere", ["P01", "P05"], seed=1)
    with pytest.raises(SettingsError, match="holds a run with another start_from"):
        cross_validate(request(store, start_from=other), tmp_path / "cv")
    moved = (tmp_path / "pre").rename(tmp_path / "moved")
    assert cross_validate(request(store, start_from=str(moved)), tmp_path / "cv")["brier"] == scores["brier"]


def test_pretraining_inside_folds_is_stamped_and_is_no_leak(store: Path, tmp_path: Path) -> None:
    scores = cross_validate(request(store, pretraining=BRIEF), tmp_path / "cv")
    assert scores["start_from"] == {"pretrained_in_each_fold": "masked"}
    assert [w for w in scores["warnings"] if w.startswith("LEAK")] == []


def test_only_the_perceiver_can_start_from_weights(store: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--start-from and --pretrain are for perceiver-io; the model is logistic"):
        cross_validate(request(store, "logistic", pretraining=BRIEF), tmp_path / "cv")
