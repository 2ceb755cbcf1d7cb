"""The command ``pretrain`` and what starts from it, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from read_settings import run_command as run

SMALL = (
        "model.width=16", "model.n_latents=4", "model.n_layers=1", "model.n_heads=2", "training.n_epochs=1",
        "pretraining.n_epochs=1", "evaluation.n_bootstrap=200",
)  # fmt: skip


def test_two_studies_are_pretrained_on_and_a_model_and_a_score_start_from_it(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = made.store(tmp_path / "made.h5", made.study(5))
    other = made.store(tmp_path / "other.h5", [made.recording(f"B{i}", seed=3) for i in range(3)])
    pre, model = tmp_path / "pre", tmp_path / "model"
    code, out, err = run(
        capsys,
        "pretrain",
        store,
        other,
        "-o",
        pre,
        "--objective",
        "alignment",
        "--exclude-subjects",
        "P05,B0",
        "--json",
        settings=SMALL,
    )
    assert code == 0, err
    assert json.loads(out)["studies"] == ["made", "made"]
    description = json.loads((pre / "model.json").read_text())
    assert [row["subjects"] for row in description["studies"]] == [["P01", "P02", "P03", "P04"], ["B1", "B2"]]
    assert description["pretraining"]["objective"] == "alignment"
    assert all("heart_rate/heart_rate" in row["population"]["signals"] for row in description["studies"])
    code, _, err = run(capsys, "train", store, "-o", model, "--start-from", pre, settings=SMALL)
    assert code == 0, err
    assert "started from the weights of a pretrained network" in (model / "card.md").read_text()
    code, out, err = run(
        capsys, "cross-validate", store, "-o", tmp_path / "cv", "--split", "k-fold", "--folds", 2, "--start-from", pre,
        "--json", settings=SMALL,
    )  # fmt: skip
    assert code == 0, err
    assert "warning: LEAK: the weights started from had seen 4 of the 5 test subjects (P01, P02, P03, P04)" in err
    assert json.loads(out)["start_from"]["kind"] == "pretrained"


def test_mistakes_are_named(made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = made.store(tmp_path / "made.h5", made.study(3))
    code, _, err = run(capsys, "pretrain", store, "-o", tmp_path / "a", "--objective", "magic")
    assert (code, "allowed are masked, contrastive, alignment" in err) == (2, True)
    code, _, err = run(capsys, "pretrain", store, "-o", tmp_path / "b", "--subjects", "P99")
    assert (code, "no recording of subject P99; there are: " in err) == (2, True)
    code, _, err = run(capsys, "train", store, "-o", tmp_path / "c", "--start-from", tmp_path)
    assert (code, "is not a model: it has no model.json" in err) == (2, True)
