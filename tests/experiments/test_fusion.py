"""Early and late fusion: what goes with a sensor, what a missing one does, scores, resuming and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.views import restricted, sensors_of_recording
from biopercept.data.windows import labelled_windows
from biopercept.errors import StudyError
from biopercept.evaluation.missing_sensors import sensor_sets
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.store.reading import open_store
from biopercept.training.settings import FitSettings, TrainingSettings
from experiments.fusion import (
    EARLY,
    LATE,
    fuse_fold,
    fusion_page,
    fusion_plan,
    mean_of_votes,
    run_fusion,
    scores_of,
    signals_by_sensor,
    verdict,
)


def _request(store: Path, n_epochs: int = 6) -> EvaluationRequest:
    return EvaluationRequest(
        store,
        fit=FitSettings(training=TrainingSettings(n_epochs=n_epochs)),
        evaluation=EvaluationSettings(split="k-fold", n_folds=2),
        device="cpu",
    )


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


def test_what_a_device_computed_goes_with_the_sensor_it_computed_it_with(made: ModuleType) -> None:
    """A pulse oximeter gives saturation and rate; heart rate and features come from that rate."""
    whole = made.recording("P01", seed=0)
    eda, rate, tonic = (next(s for s in whole.signals if s.name == name) for name in ("EDA", "heart_rate", "tonic"))
    oximeter = replace(eda, name="SpO2", modality="spo2", derived_from="")
    device = replace(eda, name="hr", modality="hr", derived_from="")
    signals = (oximeter, device, replace(rate, derived_from="hr"), eda, tonic)
    by_signal, by_group = sensors_of_recording(replace(whole, signals=signals), made.FEATURES)
    assert by_signal == {"SpO2": "spo2", "hr": "spo2", "heart_rate": "spo2", "EDA": "eda", "tonic": "eda"}
    assert by_group == {"heart": "spo2", "eda": "eda"}


def test_every_set_of_sensors_is_asked_once() -> None:
    assert list(sensor_sets(["a"])) == ["all"]
    assert sensor_sets(["a", "b", "c"])["without b"] == ("a", "c")
    assert sensor_sets(["a", "b", "c"])["only b"] == ("b",)
    for sensors in (["a", "b"], ["a", "b", "c"]):
        sets = list(sensor_sets(sensors).values())
        assert len(set(sets)) == len(sets)


def test_votes_are_averaged_where_they_are() -> None:
    gone = np.nan
    first, second = np.array([[0.2, 0.8], [gone, gone], [gone, gone]]), np.array([[0.6, 0.4], [0.1, 0.9], [gone, gone]])
    np.testing.assert_allclose(mean_of_votes([first, second], (3, 2)), [[0.4, 0.6], [0.1, 0.9], [gone, gone]])
    assert np.isnan(mean_of_votes([], (3, 2))).all()


def test_scores_pair_subjects_and_count_only_windows_that_both_ways_answered() -> None:
    subject, target = np.repeat(["a", "b"], 4), np.tile([0, 1], 4)
    right = np.eye(2)[target]
    half = np.where(np.arange(8)[:, None] < 4, right, 1 - right)  # right for a, wrong for b
    gap = right.copy()
    gap[6:] = np.nan
    answers = {EARLY: {"all": right, "only x": right}, LATE: {"all": half, "only x": gap}}
    whole, alone = scores_of(answers, subject, target, chance=0.5, seed=0)
    assert (whole[EARLY]["mean"], whole[LATE]["mean"]) == (1.0, 0.5)
    assert whole["early_minus_late"]["mean"] == 0.5
    assert whole["early_minus_late"]["ci95"] == [0.0, 1.0]
    assert (whole["n_windows"], alone["n_windows"]) == (8, 6)
    assert alone["late_minus_all"]["mean"] == 0.5


def test_the_verdict_needs_an_interval_that_leaves_out_zero() -> None:
    def said(low: float, high: float) -> str:
        return verdict({"mean": (low + high) / 2, "ci95": [low, high], "n_subjects": 9})

    assert "early fusion is better" in said(0.01, 0.03)
    assert "late fusion is better" in said(-0.03, -0.01)
    assert "neither can be called better" in said(-0.01, 0.03)
    assert "over 9 subjects" in said(-0.01, 0.03)


def test_a_sensor_that_no_training_subject_wore_has_no_network_and_no_vote(made: ModuleType, tmp_path: Path) -> None:
    hidden = ("EDA", "tonic")
    people = [made.recording(f"P{i}", seed=0, missing=() if i == 1 else hidden) for i in range(1, 7)]
    path = made.store(tmp_path / "made.h5", people)
    with open_store(path) as store:
        plan = fusion_plan(store, _request(path, n_epochs=1))
        fold = next(fold for fold in plan.folds if "P1" in fold.test)
        found = fuse_fold(plan, fold)
    assert found["without_model"] == ["eda"]
    sets = sensor_sets(signals_by_sensor(plan.windows.recordings, plan.windows.feature_names))
    only_eda = next(name for name, kept in sets.items() if kept == ("eda",))
    assert all(row is None for row in found["answers"][LATE][only_eda])
    for way in (EARLY, LATE):
        assert not any(row is None for row in found["answers"][way]["all"])


def test_fusion_of_a_study_is_scored_shown_and_resumed(made: ModuleType, tmp_path: Path) -> None:
    path, output = made.store(tmp_path / "made.h5", made.study(6, effect=3.0)), tmp_path / "out"
    found = run_fusion(_request(path), output)
    whole = found["scores"][0]
    assert whole["sensors"] == "all"
    assert len(found["scores"]) == len(sensor_sets(found["sensors"]))
    assert whole["early"]["mean"] > 0.6
    assert whole["early_minus_late"]["mean"] == pytest.approx(whole["early"]["mean"] - whole["late"]["mean"])
    assert found["cpu_seconds"]["early"] > 0 < found["cpu_seconds"]["late"]
    assert found["parameters"]["late"] > found["parameters"]["early"] > 1000
    assert json.loads((output / "fusion-made.json").read_text(encoding="utf-8")) == found
    page = (output / "fusion-made.md").read_text(encoding="utf-8")
    assert page == fusion_page(found)
    assert verdict(whole["early_minus_late"])[:-1] in page
    told: list[bool] = []
    assert run_fusion(_request(path), output, on_unit=lambda unit, was, n: told.append(was)) == found
    assert told == [True, True]
    run_fusion(_request(path, n_epochs=1), output, on_unit=lambda unit, was, n: told.append(was))
    assert told[2:] == [False, False]


def test_a_study_with_one_sensor_is_refused(made: ModuleType, tmp_path: Path) -> None:
    people = [made.recording(f"P{i}", seed=0, missing=("heart_rate",)) for i in range(1, 5)]
    path = made.store(tmp_path / "one.h5", people)
    with pytest.raises(StudyError, match=r"one sensor \(eda\); fusion needs at least two"):
        run_fusion(_request(path), tmp_path / "out")
