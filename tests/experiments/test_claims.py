"""The experiments of the claims: what must hold exactly, what must hold on small data, and that they can fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from experiments.claims import architecture_reading, claims_page, permutation_reading, run_claims
from experiments.classification import Accuracy, FitSchedule, LabelledTokens, answers, fit_network, over_seeds
from experiments.one_architecture import SENSES, fit_sense, same_core
from experiments.permutation import CONTENDERS, Contender, fit_and_score, permuted, summary_of
from experiments.samples import (
    CANVAS,
    digit_tokens,
    moved_digit_tokens,
    shape_tokens,
    sound_tokens,
    window_tokens,
)

BY_NAME = {contender.name: contender for contender in CONTENDERS}
PERCEIVERS = [c for c in CONTENDERS if c.kind == "perceiver"]


def _logits(contender: Contender, way: str) -> torch.Tensor:
    """Return what an unfitted network, always with the same weights, says of some digits."""
    tokens = permuted(digit_tokens(0), way, seed=7)
    torch.manual_seed(0)
    network = contender.network(tokens, (8, 8)).eval()
    if contender.kind == "perceiver":
        network.query.values.data.normal_()
    with torch.no_grad():
        return network(*tokens.at(torch.arange(20)))


@pytest.mark.parametrize("contender", PERCEIVERS, ids=lambda c: c.name)
def test_a_perceiver_gives_permuted_tokens_the_same_answer(contender: Contender) -> None:
    torch.testing.assert_close(_logits(contender, "permuted"), _logits(contender, "raw"), rtol=0, atol=1e-4)
    assert (_logits(contender, "relabelled") - _logits(contender, "raw")).abs().max() > 1e-2


@pytest.mark.parametrize("contender", PERCEIVERS, ids=lambda c: c.name)
def test_a_perceiver_fitted_on_permuted_tokens_is_the_one_fitted_on_raw_ones(contender: Contender) -> None:
    """In double precision, where a difference could not hide behind rounding that training blows up."""
    said = {}
    for way in ("raw", "permuted", "relabelled"):
        tokens = permuted(digit_tokens(0), way, seed=7)
        tokens = replace(tokens, values=tokens.values.double(), positions=tokens.positions.double())
        torch.manual_seed(0)
        network = contender.network(tokens, (8, 8)).double()
        fit_network(network, tokens, FitSchedule(n_steps=15))
        said[way] = answers(network, tokens)
    torch.testing.assert_close(said["permuted"], said["raw"], rtol=0, atol=1e-8)
    assert (said["relabelled"] - said["raw"]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["CNN (values alone)", "CNN (Fourier)"])
def test_a_convolutional_network_gives_permuted_tokens_another_answer(name: str) -> None:
    assert (_logits(BY_NAME[name], "permuted") - _logits(BY_NAME[name], "raw")).abs().max() > 1e-2


def test_the_order_is_one_for_all_samples_and_loses_nothing() -> None:
    tokens = digit_tokens(0)
    moved = permuted(tokens, "permuted", seed=7)
    places = moved.positions[0]
    back = [int(((tokens.positions[0] - place).abs().sum(1) < 1e-6).nonzero()) for place in places]
    assert sorted(back) == list(range(64)) != back
    assert torch.equal(moved.values, tokens.values[:, back])
    assert not torch.equal(permuted(tokens, "permuted", seed=8).values, moved.values)


def test_a_moved_digit_is_the_digit_at_a_place_of_the_canvas_and_test_digits_are_new() -> None:
    whole, moved = digit_tokens(0), moved_digit_tokens(0)
    pictures = moved.values.reshape(-1, CANVAS, CANVAS)
    assert len(moved.training) == 4 * len(whole.training)
    assert len(moved.test) == len(whole.test)
    rows = np.concatenate([np.repeat(whole.training, 4), whole.test])
    assert torch.equal(moved.target, whole.target[torch.from_numpy(rows)])
    for number in (0, 1, 4001, 4500):
        wanted = whole.values[rows[number]].reshape(8, 8)
        cuts = pictures[number].unfold(0, 8, 1).unfold(1, 8, 1)
        assert (cuts == wanted).all(-1).all(-1).any()
    ink = (pictures > -1).sum((1, 2))
    assert torch.equal(ink, (whole.values[torch.from_numpy(rows)] > -1).sum((1, 2)))
    assert not torch.equal(pictures[0], pictures[1])


def test_permuting_costs_the_convolutional_network_and_not_the_perceiver() -> None:
    """On noisy waves of three frequencies; a small stand-in for the whole experiment."""
    tokens = _waves()
    accuracy = {}
    for name in ("CNN (values alone)", "Perceiver IO (Fourier)"):
        for way in ("raw", "permuted"):
            row = fit_and_score(BY_NAME[name], tokens, (32,), way, 0, FitSchedule(n_steps=80))
            accuracy[name, way] = row["accuracy"]
    assert accuracy["CNN (values alone)", "raw"] > 0.9
    assert accuracy["Perceiver IO (Fourier)", "raw"] > 0.8
    assert accuracy["CNN (values alone)", "permuted"] < accuracy["CNN (values alone)", "raw"] - 0.1
    assert abs(accuracy["Perceiver IO (Fourier)", "permuted"] - accuracy["Perceiver IO (Fourier)", "raw"]) < 0.05


def _waves() -> LabelledTokens:
    draw = np.random.default_rng(0)
    target = np.arange(500) % 3
    cycles = np.array([1.0, 2.5, 6.0])[target][:, None]
    waves = np.sin(2 * np.pi * (cycles * np.arange(32) / 32 + draw.uniform(size=(500, 1))))
    values = torch.from_numpy(waves + 0.7 * draw.normal(size=waves.shape)).float()[..., None]
    positions = torch.linspace(-1, 1, 32)[None, :, None]
    classes = ("slow", "middle", "fast")
    return LabelledTokens(values, positions, torch.from_numpy(target), classes, np.arange(200), np.arange(200, 500))


def test_the_summary_pairs_seeds() -> None:
    def row(way: str, seed: int, accuracy: float) -> dict[str, object]:
        return {
            "data": "digits",
            "network": "n",
            "way": way,
            "seed": seed,
            "accuracy": accuracy,
            "parameters": 1,
            "n": 10,
            "n_training": 5,
            "chance": 0.1,
            "answers": [0, 1, 2, 3 if way == "raw" else 4],
            "order_change": accuracy,
        }

    scores = [row("raw", 0, 0.5), row("raw", 1, 0.9), row("permuted", 0, 0.4), row("permuted", 1, 0.8)]
    permuted_row = summary_of(scores)[1]
    assert permuted_row["minus_raw"]["mean"] == pytest.approx(-0.1)
    assert permuted_row["minus_raw"]["ci95"] == pytest.approx([-0.1, -0.1])
    assert permuted_row["same_answers"] == 0.75
    assert permuted_row["order_change"] == 0.8
    low, high = permuted_row["accuracy"]["ci95"]
    assert (low, high) == pytest.approx((0.6 - 12.7062 * 0.2, 0.6 + 12.7062 * 0.2), abs=1e-3)


def test_intervals_equal_those_of_another_library() -> None:
    from scipy.stats import binomtest

    for n_right, n in ((0, 20), (13, 40), (797, 797)):
        want = binomtest(n_right, n).proportion_ci(method="wilson")
        assert Accuracy(n_right, n).ci95 == pytest.approx((want.low, want.high), abs=1e-6)
    assert over_seeds([0.3])["ci95"] is None


@pytest.mark.parametrize("make", [shape_tokens, sound_tokens])
def test_made_samples_follow_the_seed_and_split_without_overlap(make) -> None:
    first, again, other = make(0, n_samples=42), make(0, n_samples=42), make(1, n_samples=42)
    held = "positions" if make is shape_tokens else "values"
    assert torch.equal(getattr(first, held), getattr(again, held))
    assert not torch.equal(getattr(first, held), getattr(other, held))
    assert sorted([*first.training, *first.test]) == list(range(42))
    assert getattr(first, held).isfinite().all()
    with pytest.raises(ValueError, match="training and test share samples"):
        LabelledTokens(first.values, first.positions, first.target, first.classes, first.training, first.training)


def test_windows_of_test_subjects_are_never_trained_on(made: ModuleType) -> None:
    study = made.study(6)
    tokens = window_tokens(study, 0)
    owner = np.repeat([r.subject for r in study if any(s.name == "EDA" for s in r.signals)], 40)
    assert len(owner) == len(tokens.target)
    assert not set(owner[tokens.training]) & set(owner[tokens.test])
    assert tokens.classes == ("eda",)  # derived series are no sensors
    assert tokens.values.mean(1).abs().max() < 1e-4


@pytest.mark.parametrize("sense", SENSES[1:], ids=lambda s: s.name)
def test_one_class_learns_made_shapes_and_sounds_far_above_chance(sense) -> None:
    row = fit_sense(sense, seed=0, n_made=420, schedule=FitSchedule(n_steps=50))
    assert row["core"] == "PerceiverIO"
    assert row["ci95"][0] > row["chance"] + 0.2


def _summary_row(network: str, way: str, low: float, high: float) -> dict[str, Any]:
    difference = {"mean": (low + high) / 2, "ci95": [low, high], "n_seeds": 3}
    return {"data": "digits", "network": network, "way": way, "minus_raw": difference, "order_change": 1e-6}


def test_the_reading_says_what_the_intervals_say() -> None:
    rows = [_summary_row("CNN", "permuted", -0.2, -0.1), _summary_row("CNN b", "permuted", -0.2, 0.1)]
    reading = permutation_reading([*rows, _summary_row("Perceiver IO", "permuted", 0.01, 0.03)])
    assert "CNN on digits -15.0 [-20.0, -10.0]" in reading
    assert "below 0 in 1 of 2" in reading
    assert "leaves out 0 in 1 of 1" in reading
    learnt = {"input": "sound", "accuracy": 0.9, "ci95": [0.8, 1.0], "chance": 0.1}
    row = {"input": "cloud", "accuracy": 0.2, "ci95": [0.1, 0.3], "chance": 0.15}
    assert architecture_reading([learnt, row]).startswith("On 1 of 2 kinds")
    assert "on the cloud, 5.0 points" in architecture_reading([learnt, row])


def test_all_experiments_run_in_one_call_and_are_written(tmp_path: Path) -> None:
    found = run_claims(tmp_path, seed=0, quick=True)
    assert json.loads((tmp_path / "claims.json").read_text(encoding="utf-8")) == found
    page = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert page == claims_page(found)
    by_way = {(r["data"], r["network"], r["way"]): r["accuracy"]["mean"] for r in found["permutation"]["summary"]}
    for data in ("digits", "windows"):
        raw, moved = (by_way[data, "Perceiver IO (Fourier)", way] for way in ("raw", "permuted"))
        assert abs(moved - raw) < 0.05, data
    for data, margin in (("digits", 0.01), ("windows", 0.05)):
        raw, moved = (by_way[data, "CNN (values alone)", way] for way in ("raw", "permuted"))
        assert moved < raw - margin, data
    assert same_core(found["one_architecture"])
    assert [row["input"] for row in found["one_architecture"]] == ["picture", "point cloud", "sound", "biosignals"]
    assert set(found["fusion"]["sensors"]) == {"ecg", "eda", "eeg", "resp", "temp"}
    told: list[bool] = []
    again = run_claims(tmp_path, seed=0, quick=True, on_unit=lambda unit, was, n: told.append(was))
    assert again == found
    assert all(told)
    assert len(told) == found["n_units"]
