"""Scores against scikit-learn called plainly, and what happens where a score is not defined."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, recall_score, roc_auc_score

from biopercept.evaluation.metrics import (
    Bootstrap,
    auroc_score,
    bootstrap_interval,
    brier_score,
    calibration_error,
    chance_levels,
    score_subject,
)


def made(n: int = 200, n_classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    target = random.integers(0, n_classes, n)
    logits = random.normal(size=(n, n_classes)) + 0.8 * np.eye(n_classes)[target]
    exponents = np.exp(logits)
    return target, exponents / exponents.sum(axis=1, keepdims=True)


def test_two_class_scores_equal_scikit_learns() -> None:
    target, probabilities = made()
    found = score_subject("S", target, probabilities)
    predicted = probabilities.argmax(axis=1)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(target, predicted))
    assert found.macro_f1 == pytest.approx(f1_score(target, predicted, average="macro"))
    assert found.auroc == pytest.approx(roc_auc_score(target, probabilities[:, 1]))
    assert found.brier == pytest.approx(brier_score_loss(target, probabilities[:, 1]))


def test_scores_of_four_classes_are_means_over_classes() -> None:
    target, probabilities = made(n_classes=4)
    found = score_subject("S", target, probabilities)
    assert found.auroc == pytest.approx(roc_auc_score(target, probabilities, multi_class="ovr", average="macro"))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(target, probabilities.argmax(axis=1)))
    assert found.brier == pytest.approx(brier_score_loss(target, probabilities, labels=range(4)) / 2)


def test_a_class_the_subject_never_had_does_not_lower_the_score() -> None:
    target, probabilities = made(n_classes=3)
    rows = target < 2
    answers = probabilities[rows].argmax(axis=1)
    assert (answers == 2).any()
    expected = recall_score(target[rows], answers, labels=[0, 1], average="macro")
    assert score_subject("S", target[rows], probabilities[rows]).balanced_accuracy == pytest.approx(expected)


def test_one_class_only_is_not_defined_rather_than_perfect_or_zero() -> None:
    found = score_subject("S", np.zeros(5, dtype=int), np.tile([0.9, 0.1], (5, 1)))
    assert (found.balanced_accuracy, found.macro_f1, found.auroc) == (None, None, None)
    assert found.brier == pytest.approx(0.01)
    assert auroc_score(np.zeros(5, dtype=int), np.tile([0.9, 0.1], (5, 1))) is None


def test_a_calibrated_model_has_no_calibration_error_and_an_overconfident_one_has_its_gap() -> None:
    target = np.array([0, 0, 0, 1] * 100)
    assert calibration_error(target, np.tile([0.75, 0.25], (400, 1)), n_bins=1) == pytest.approx(0.0)
    assert calibration_error(target, np.tile([0.95, 0.05], (400, 1)), n_bins=1) == pytest.approx(0.2)


def test_perfect_and_worst_probabilities_bound_the_brier_score() -> None:
    target = np.array([0, 1, 2])
    assert brier_score(target, np.eye(3)) == 0.0
    assert brier_score(target, np.roll(np.eye(3), 1, axis=1)) == 1.0


def test_a_summary_leaves_undefined_subjects_out_and_says_how_many_are_left() -> None:
    found = Bootstrap(0).score([0.4, None, 0.6, 0.8, float("nan")], chance=0.5)
    assert (found.mean, found.median, found.worst, found.n_subjects, found.subjects_below_chance) == (
        pytest.approx(0.6), 0.6, 0.4, 3, 1,
    )  # fmt: skip
    assert found.sd == pytest.approx(0.2)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(random.normal(0.7, 0.1, size=30), seed=trial, n_bootstrap=400)
        hits += low <= 0.7 <= high
    assert 175 <= hits <= 199


def test_the_interval_is_seeded() -> None:
    values = np.linspace(0.3, 0.9, 12)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_chance_is_the_share_of_the_largest_class_and_a_guess_per_subject() -> None:
    subject = np.repeat([f"S{i}" for i in range(20)], 40)
    target = np.tile([0] * 28 + [1] * 12, 20)
    found = chance_levels(subject, target, 2, seed=0)
    assert found["majority"] == pytest.approx(0.7)
    assert found["dummy"] == pytest.approx(0.5, abs=0.02)
