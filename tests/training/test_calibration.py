"""Calibration undoes planted miscalibration, and prediction sets hold the truth as often as they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from biopercept.errors import SettingsError
from biopercept.evaluation.metrics import calibration_error
from biopercept.evaluation.trust import scores_by_class
from biopercept.training.calibration import (
    Calibration,
    CalibrationSettings,
    learn_calibration,
    learn_temperature,
    subject_threshold,
    tempered,
)
from biopercept.typed_values import FieldError, from_plain, to_plain


def drawn(n_subjects: int, n: int, *, k: int = 3, seed: int = 0, spread: float = 0.0):
    """Labels drawn from honest probabilities; with ``spread`` some people are harder than others."""
    random = np.random.default_rng(seed)
    sharp = np.repeat(np.exp(random.normal(0, spread, n_subjects)), n)[:, None]
    logits = random.normal(0, 2, size=(n_subjects * n, k))
    honest = np.exp(logits * sharp) / np.exp(logits * sharp).sum(axis=1, keepdims=True)
    target = np.array([random.choice(k, p=p) for p in honest])
    said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.repeat([f"S{i:03d}" for i in range(n_subjects)], n), target, said


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("planted", [0.4, 2.5])
def test_a_planted_temperature_is_found_and_undone(k: int, planted: float) -> None:
    subject, target, honest = drawn(30, 100, k=k)
    said = tempered(honest, planted)
    held = learn_calibration(CalibrationSettings("temperature"), subject, target, said, "x")
    assert held.temperature * planted == pytest.approx(1.0, rel=0.08)
    _, new_target, new = drawn(30, 100, k=k, seed=9)
    wrong = tempered(new, planted)
    assert calibration_error(new_target, held.apply(wrong)) < 0.4 * calibration_error(new_target, wrong)
    assert np.array_equal(held.apply(wrong).argmax(axis=1), wrong.argmax(axis=1))


def test_every_subject_weighs_the_same_in_a_temperature() -> None:
    _, target, honest = drawn(2, 300, seed=4)
    said = np.concatenate([tempered(honest[:300], 0.4), tempered(honest[300:], 2.0)])
    many = np.concatenate([np.arange(300), np.tile(np.arange(300, 600), 20)])
    subject = np.array(["A"] * 300 + ["B"] * 300)
    settings = CalibrationSettings("temperature")
    once = learn_calibration(settings, subject, target, said, "x").temperature
    again = learn_calibration(settings, subject[many], target[many], said[many], "x").temperature
    assert again == pytest.approx(once, rel=1e-3)
    plain = learn_temperature(target[many], said[many], np.ones(len(many)))
    assert plain < 0.8 * once


@pytest.mark.parametrize("k", [2, 4])
def test_isotonic_undoes_what_no_temperature_can(k: int) -> None:
    def shifted(honest: np.ndarray) -> np.ndarray:
        skewed = honest * np.linspace(1, 6, k)
        return skewed / skewed.sum(axis=1, keepdims=True)

    def worst_class(probabilities: np.ndarray) -> float:
        table = scores_by_class([str(i) for i in range(k)], new_target, probabilities)
        return max(row["calibration_error"] or 0.0 for row in table.values())

    subject, target, honest = drawn(30, 100, k=k)
    _, new_target, new = drawn(30, 100, k=k, seed=9)
    errors = {
        method: worst_class(
            learn_calibration(CalibrationSettings(method), subject, target, shifted(honest), "x").apply(shifted(new)),
        )
        for method in ("none", "temperature", "isotonic")
    }
    assert errors["isotonic"] < 0.5 * min(errors["none"], errors["temperature"])


def test_calibrated_rows_sum_to_1_and_hold_no_certainty_that_was_not_seen() -> None:
    subject, target, said = drawn(6, 20, k=4)
    for method in ("temperature", "isotonic"):
        held = learn_calibration(CalibrationSettings(method), subject, target, said, "x").apply(np.eye(4))
        np.testing.assert_allclose(held.sum(axis=1), 1.0)
        assert (held > 0).all() and (held < 1).all()


@pytest.mark.parametrize("method", ["none", "temperature", "isotonic"])
def test_it_reads_back_equal_from_json(method: str) -> None:
    held = learn_calibration(CalibrationSettings(method, coverage=0.8), *drawn(8, 20), "validation subjects")
    assert from_plain(Calibration, json.loads(json.dumps(to_plain(held)))) == held


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"method": "isotonic"},
        {"curves": [[[0.9, 0.1], [0.0, 1.0]]], "method": "isotonic"},
        {"threshold": "x"},
        {"method": "platt"},
    ],
)
def test_a_damaged_one_is_refused(change: dict) -> None:
    held = to_plain(learn_calibration(CalibrationSettings("temperature"), *drawn(4, 9), "x"))
    with pytest.raises(FieldError):
        from_plain(Calibration, {**held, **change})


def test_the_threshold_is_that_of_a_computation_by_hand() -> None:
    """Subjects A (2 windows) and B (1) and the new one have mass 1/3 each: 1/6 at 0.1, 1/6 at 0.5, 1/3 at 0.3."""
    wrongness, weights = np.array([0.1, 0.5, 0.3]), np.array([0.5, 0.5, 1.0])
    assert subject_threshold(wrongness, weights, 2, 0.15) == 0.1
    assert subject_threshold(wrongness, weights, 2, 0.5) == 0.3
    assert subject_threshold(wrongness, weights, 2, 0.6) == 0.5
    assert subject_threshold(wrongness, weights, 2, 0.7) is None  # two subjects can promise two thirds at most


def test_without_enough_subjects_every_class_is_in_every_set() -> None:
    held = learn_calibration(CalibrationSettings(coverage=0.9), *drawn(5, 30), "x")
    assert held.threshold is None
    assert held.sets(np.array([[0.98, 0.01, 0.01]])).all()


def test_sets_hold_the_truth_for_new_subjects_as_often_as_asked_though_people_differ() -> None:
    """Over many studies of 20 people and one new person: at least the coverage asked for, and not much more."""
    covered = []
    for study in range(300):
        subject, target, said = drawn(21, 12, seed=study, spread=1.0)
        known = subject != "S020"
        held = learn_calibration(CalibrationSettings(coverage=0.8), subject[known], target[known], said[known], "x")
        sets = held.sets(said[~known])
        covered.append(sets[np.arange(12), target[~known]].mean())
    assert 0.785 <= np.mean(covered) <= 0.87


def test_sets_rest_on_uncalibrated_probabilities_whatever_the_calibration() -> None:
    data = drawn(12, 20)
    thresholds = {
        learn_calibration(CalibrationSettings(method, coverage=0.8), *data, "x").threshold
        for method in ("none", "temperature", "isotonic")
    }
    assert len(thresholds) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "platt"}, "allowed are none, temperature, isotonic"),
        ({"n_folds": 1}, "must be 0, or 2 and more"),
        ({"coverage": 1.0}, "must be 0, or below 1"),
    ],
)
def test_wrong_settings_are_one_sentence(wrong: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        CalibrationSettings(**wrong)
