"""Personal models as a user types them: ``train --subject``, ``personalise``, and what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from read_settings import run_command as run

from biopercept.training.checkpoint import load_model
from biopercept.training.model_card import personal_sentence

SMALL = (
        "model.width=16", "model.n_latents=4", "model.n_layers=1", "model.n_heads=2", "training.n_epochs=1",
        "personalisation.n_steps=10", "personalisation.scratch_steps=3", "personalisation.k=[1, 2]",
        "personalisation.methods=[low-rank]",
)  # fmt: skip


def test_a_personal_model_is_an_ordinary_folder_that_says_whose_it_is(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = made.store(tmp_path / "made.h5", made.study(3))
    general, own, scratch = tmp_path / "general", tmp_path / "own", tmp_path / "scratch"
    assert run(capsys, "train", store, "-o", general, "--exclude-subjects", "P01", settings=SMALL)[0] == 0
    code, _, err = run(capsys, "train", store, "-o", own, "--subject", "P01", "--start-from", general, settings=SMALL)
    assert code == 0, err
    assert "This model is for P01 alone" in err
    assert "4.7 minutes of that person's labels" in err or "5.0 minutes of that person's labels" in err
    held, start = load_model(own), load_model(general)
    personal = held.training["personal"]
    assert (personal["subject"], personal["method"], personal["had_seen_subject"]) == ("P01", "low-rank", False)
    assert held.training["subjects"] == ["P01"]
    assert held.population.to_json() == start.population.to_json()
    first, second = held.network.state_dict(), start.network.state_dict()
    assert personal["fell_back"] == all(torch.equal(first[name], second[name]) for name in first)
    assert "## A personal model" in (own / "card.md").read_text()
    again = tmp_path / "again"
    assert run(capsys, "train", store, "-o", again, "--subject", "P01", "--start-from", own, settings=SMALL)[0] == 0
    assert load_model(again).training["personal"]["had_seen_subject"] is True
    card, leak = (again / "card.md").read_text(), "LEAK: the weights started from had seen 1 of the 1 subjects that"
    assert leak in card and "It was better there" not in card
    if personal["fell_back"]:
        assert "## No personal model: the starting model" in (own / "card.md").read_text()
    words = ("train", store, "-o", again, "--subject", "P01", "--start-from", own, "--overwrite", "--json")
    code, out, err = run(capsys, *words, settings=SMALL)
    assert code == 0 and leak in err and leak in json.loads(out)["warnings"][-1]
    code, _, err = run(capsys, "train", store, "-o", scratch, "--subject", "P01", settings=SMALL)
    assert code == 0, err
    assert "It was fitted from new weights." in (scratch / "card.md").read_text()
    assert load_model(scratch).training["personal"]["method"] == "scratch"


def test_with_too_few_labels_to_check_on_the_model_is_the_starting_model_and_says_so(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = made.store(tmp_path / "made.h5", made.study(3))
    brief = replace(made.recording("P04", seed=0), subject="P04")
    label = np.array(brief.windows.label)
    label[np.flatnonzero(label == "stroop")[1:]] = "break"  # one window of stress alone
    few = made.store(tmp_path / "few.h5", [replace(brief, windows=replace(brief.windows, label=label))])
    general = tmp_path / "general"
    assert run(capsys, "train", store, "-o", general, settings=SMALL)[0] == 0
    start = load_model(general).network.state_dict()
    for unchecked, sentence in (("keep", "This is the starting model, unchanged: of P04's labels there were"),
                                ("adapt", "UNCHECKED: they were too few to check on")):  # fmt: skip
        own = tmp_path / unchecked
        words = ("--subject", "P04", "--start-from", general, "--set", f"personalisation.unchecked={unchecked}")
        code, _, err = run(capsys, "train", few, "-o", own, *words, settings=SMALL)
        assert code == 0, err
        assert sentence in " ".join(err.split())
        assert sentence in " ".join((own / "card.md").read_text().split())
        held = load_model(own)
        assert held.training["personal"]["is_checked"] is False
        weights = held.network.state_dict()
        assert all(torch.equal(start[name], weights[name]) for name in start) is (unchecked == "keep")


PERSONAL = {
    "subject": "P01", "label_minutes": 5.0, "fitting_minutes": 4.0, "checking_minutes": 1.0, "method": "head",
    "fell_back": False, "is_checked": True, "had_seen_subject": False,
}  # fmt: skip


def test_a_model_that_fell_back_is_said_to_be_the_starting_model_and_nothing_else() -> None:
    kept = personal_sentence(PERSONAL | {"fell_back": True})
    assert kept == (
        "This is the starting model, unchanged, and no model of P01's own: adapting it (head) to 4.0 of the 5.0 "
        "minutes of P01's labels was not better on the other 1.0, the last of each class."
    )
    assert personal_sentence(PERSONAL).endswith("It was better there than the starting model.")
    seen = personal_sentence(PERSONAL | {"had_seen_subject": True})
    assert "better" not in seen and "that model had been fitted to this person before" in seen


def test_the_curve_on_a_terminal_is_sentences_and_tables_and_no_markdown(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = made.store(tmp_path / "made.h5", made.study(4))
    words = ("personalise", store, "-o", tmp_path / "curve", "--folds", 2, "--set", "personalisation.k=[1, 400]")
    code, out, err = run(capsys, *words, settings=SMALL[:-2] + SMALL[-1:])
    assert code == 0, err
    assert not [mark for mark in ("| ---", "**", "\\_", "\\[", "# ") if mark in out]
    assert "low-rank" in out and "AUROC gain" in out
    assert "k = 400 is not scored: nobody has that many windows of each class before what is scored" in err
    assert "different people" not in err


def test_the_curve_is_printed_and_its_folder_is_refused_to_other_settings(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = made.store(tmp_path / "made.h5", made.study(4))
    code, out, err = run(capsys, "personalise", store, "-o", tmp_path / "curve", "--folds", 2, "--json", settings=SMALL)
    assert code == 0, err
    found = json.loads(out)
    assert (found["n_subjects"], found["split"]) == (4, "k-fold")
    assert (tmp_path / "curve" / "personalisation.md").read_text().startswith("# What labels of one's own are worth")
    code, _, err = run(
        capsys, "personalise", store, "-o", tmp_path / "curve", "--folds", 2, "--seed", 1, settings=SMALL
    )
    assert (code, "holds a run with another seed" in err) == (2, True)


def test_mistakes_are_named(made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = made.store(tmp_path / "made.h5", made.study(3))
    code, _, err = run(capsys, "train", store, "-o", tmp_path / "a", "--subject", "P09")
    assert (code, "no recording of subject P09; there are: " in err) == (2, True)
    code, _, err = run(capsys, "train", store, "-o", tmp_path / "b", "--subject", "P01", "--subjects", "P02")
    assert (code, "give one" in err) == (2, True)
    code, _, err = run(capsys, "personalise", store, "-o", tmp_path / "c", "--split", "time")
    assert (code, "set evaluation.split to k-fold or subject" in err) == (2, True)
