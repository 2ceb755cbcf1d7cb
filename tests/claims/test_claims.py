"""The experiments of the claims: what must hold exactly, what must hold on small data, and that they can fail."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.claims.classification import Accuracy, FitSchedule, LabelledTokens, over_seeds
from biopercept.claims.fusion import run_fusion
from biopercept.claims.one_architecture import SENSES, fit_sense, same_core
from biopercept.claims.pages import claims_page, run_claims
from biopercept.claims.permutation import CONTENDERS, Contender, digit_tokens, fit_and_score, permuted, summary_of
from biopercept.claims.samples import shape_tokens, sound_tokens, window_tokens
from biopercept.learning.fitting import FitSettings
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.normalisation import NormalisationSettings
from biopercept.learning.restriction import restricted, sensors_of_recording
from biopercept.learning.training import TrainingSettings
from biopercept.learning.windows import labelled_windows
from biopercept.store import open_store

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


def test_permuting_costs_the_convolutional_network_and_not_the_perceiver() -> None:
    """On noisy waves of three frequencies; a small stand-in for the whole experiment."""
    tokens = _waves()
    accuracy = {}
    for name in ("CNN (values alone)", "Perceiver IO (Fourier)"):
        for way in ("raw", "permuted"):
            row = fit_and_score(BY_NAME[name], tokens, (32,), way, 0, FitSchedule())
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
            "data": "d",
            "network": "n",
            "way": way,
            "seed": seed,
            "accuracy": accuracy,
            "parameters": 1,
            "n": 10,
            "chance": 0.1,
        }

    scores = [row("raw", 0, 0.5), row("raw", 1, 0.9), row("permuted", 0, 0.4), row("permuted", 1, 0.8)]
    permuted_row = summary_of(scores)[1]
    assert permuted_row["minus_raw"]["mean"] == pytest.approx(-0.1)
    assert permuted_row["minus_raw"]["ci95"] == pytest.approx([-0.1, -0.1])
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
    row = fit_sense(sense, seed=0, n_made=420, schedule=FitSchedule(n_epochs=8))
    assert row["core"] == "PerceiverIO"
    assert row["ci95"][0] > row["chance"] + 0.2


def test_a_sensor_that_is_taken_away_takes_its_series_and_features_along(made: ModuleType) -> None:
    study = made.study(4)
    names = made.FEATURES
    signals, groups = sensors_of_recording(study[0], names)
    assert signals["EDA"] == signals["tonic"] == groups["eda"] == "eda"
    assert groups["heart"] == signals["heart_rate"] != "eda"
    table = labelled_windows(study, made.TASK, length_seconds=made.LENGTH, feature_names=names)
    inputs = WindowInputs(table, NormalisationSettings(), made.STEP)
    left = restricted(inputs, {signals["heart_rate"]})
    assert {bank.modality for bank in left.banks} == {"heart_rate"}
    gone = [name.startswith("eda/") for name in names]
    assert np.isnan(left.raw_features[:, gone]).all()
    np.testing.assert_array_equal(left.raw_features[:, ~np.array(gone)], inputs.raw_features[:, ~np.array(gone)])


def test_fusion_scores_every_set_of_sensors_and_its_page_shows_them(made: ModuleType, tmp_path: Path) -> None:
    path = made.store(tmp_path / "made.h5", made.study(6, effect=3.0))
    fit = FitSettings(training=TrainingSettings(n_epochs=6))
    with open_store(path) as store:
        found = run_fusion(store, seed=0, n_folds=2, fit=fit)
    assert found["scores"][0]["sensors"] == "all"
    assert len(found["scores"]) == 1 + 2 * len(found["sensors"])
    whole = found["scores"][0]
    assert whole["early"]["mean"] > 0.6
    assert whole["early_minus_late"]["mean"] == pytest.approx(whole["early"]["mean"] - whole["late"]["mean"])
    alone = {row["sensors"]: row for row in found["scores"] if row["sensors"].startswith("only")}
    assert len({row["late"]["mean"] for row in alone.values()}) > 1
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    page = claims_page(
        {
            "seed": 0,
            "quick": True,
            "version": "0",
            "seconds": 1.0,
            "permutation": {"summary": []},
            "one_architecture": [],
            "fusion": found,
        }
    )
    assert "This is the quick run" in page
    assert page.count("| only ") == len(found["sensors"])


def test_all_experiments_run_in_one_call_and_are_written(tmp_path: Path) -> None:
    found = run_claims(tmp_path, seed=0, quick=True)
    assert json.loads((tmp_path / "claims.json").read_text(encoding="utf-8")) == found
    page = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert page == claims_page(found)
    by_way = {(r["data"], r["network"], r["way"]): r["accuracy"]["mean"] for r in found["permutation"]["summary"]}
    for data in ("digits", "windows"):
        raw, moved = (by_way[data, "Perceiver IO (Fourier)", way] for way in ("raw", "permuted"))
        assert abs(moved - raw) < 0.05, data
    for data, margin in (("digits", 0.05), ("windows", 0.02)):
        raw, moved = (by_way[data, "CNN (values alone)", way] for way in ("raw", "permuted"))
        assert moved < raw - margin, data
    assert same_core(found["one_architecture"])
    assert [row["input"] for row in found["one_architecture"]] == ["picture", "point cloud", "sound", "biosignals"]
    assert set(found["fusion"]["sensors"]) == {"ecg", "eda", "eeg", "resp", "temp"}
