"""The card of a model: every question of a card is answered from what was done, or said to be unknown."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from biopercept.resources import shipped_model
from biopercept.training.calibration import Calibration
from biopercept.training.checkpoint import Checkpoint, load_model
from biopercept.training.model_card import model_card
from biopercept.version import NOT_FOR


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return load_model(shipped_model("stress-wrist").folder)


def card_with(model: Checkpoint, without: tuple[str, ...] = (), **changed: Any) -> str:
    kept = {key: value for key, value in model.training.items() if key not in without}
    return model_card(replace(model, training={**kept, **changed}))


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_what_nobody_stated_is_said_to_be_unknown(model: Checkpoint) -> None:
    card = card_with(model, without=("shipped", "about", "plan"), scores=None)
    data = section(card, "Data")
    assert "- stress-predict: no description (description: in study.yaml)" in data
    assert "licence of the data of stress-predict: not stated (licence: in study.yaml); to cite: not stated" in data
    assert section(card, "Scores").startswith("Not evaluated: this model was trained on everybody")
    assert "Guessing" not in card
    assert all(f"- {line}\n" in section(card, "Not for") for line in NOT_FOR)
    assert "age, sex, health, medication and skin tone of these people are not kept" in section(card, "What is unknown")
    assert "In model.json are the identifiers of these people" in section(card, "People and privacy")
    assert "In model.json are digests of the identifiers" in section(card_with(model), "People and privacy")


def test_what_was_done_is_said_with_its_numbers(model: Checkpoint) -> None:
    card = card_with(model)
    assert "For each window of 120 s, one every 30 s:" in card
    assert (
        "scaled with mean and spread of the recording's own past up to the end of each window (normalisation `causal`)."
        in card
    )
    reads = section(card, "What it reads")
    assert "- bvp: BVP; a.u.; 64 Hz\n" in reads and "- acc: x, y, z; g; 32 Hz\n" in reads
    made = section(card, "Model")
    assert "averaged with a linear and a convolutional branch beside it: 567,600 trained numbers" in made
    assert "- training: 7 epochs; seed 0; 46.4 s" in made
    stopped = section(card_with(model, validation_subjects=["a"], best_epoch=3), "Model")
    assert "- training: epoch 3 of 7, the best for those set aside; seed 0" in stopped
    assert re.search(r"made with biopercept [\d.]+, torch \S+, .*; the day is not recorded", made)
    plan = model.training["plan"]["warnings"]
    assert plan and all(section(card, "Limits").count(f"- {warning}\n") == 1 for warning in plan)
    again = card_with(model, warnings=plan[:1])
    assert section(again, "Limits").count(plan[0]) == 1


@pytest.mark.parametrize(
    ("split", "tested"),
    [
        ("subject", "tested on people whom they had not seen."),
        ("time", "tested on later windows of the people whom they were fitted to."),
        ("study", "tested on studies that they had not seen."),
    ],
)
def test_scores_say_on_whom_and_that_they_are_of_other_networks(model: Checkpoint, split: str, tested: str) -> None:
    scores = {**model.training["scores"], "split": split, "seeds": 3}
    words = section(card_with(model, scores=scores), "Scores")
    assert tested in words and "no score of itself exists" in words
    assert "Probabilities of 3 networks a fold were averaged before scoring; here is one network." in words
    chance, auroc = scores["chance"]["dummy"], scores["auroc"]
    assert f"Guessing by the shares of the classes: {chance:.3f}." in words
    assert f"AUROC {auroc['mean']:.3f} [{auroc['ci95'][0]:.3f}, {auroc['ci95'][1]:.3f}], Brier score 0." in words


def test_whose_windows_taught_the_calibration_is_said(model: Checkpoint) -> None:
    whose = Calibration("temperature", 1.5, (), 0.0, None, "folds", ("a",), 1200)
    assert "learnt from folds (1 subject, 1,200 windows)" in model_card(replace(model, calibration=whose))
