"""Calibration over all classes and by class, with intervals whose unit is the subject."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from biopercept.evaluation.metrics import (
    Bootstrap,
    binned_error,
    brier_score,
    calibration_error,
    matthews_correlation,
    score_subject,
)
from biopercept.evaluation.trust import pooled_probability_scores, scores_by_class


def test_weights_count_windows_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    said = np.sort(random.uniform(size=60))
    happened = (random.uniform(size=60) < said).astype(float)
    times = random.integers(0, 4, size=60)
    again = binned_error(np.repeat(said, times), np.repeat(happened, times), n_bins=1)
    assert binned_error(said, happened, weights=times.astype(float), n_bins=1) == pytest.approx(again)
    whole = binned_error(np.repeat(said, 15), np.repeat(happened, 15), n_bins=15)
    assert binned_error(said, happened, weights=np.full(60, 15.0), n_bins=15) == pytest.approx(whole)


def test_bins_of_equal_mass_are_those_of_a_plain_division() -> None:
    random = np.random.default_rng(1)
    said = np.sort(random.uniform(size=150))
    happened = (random.uniform(size=150) < said**2).astype(float)
    by_hand = np.mean(
        [abs(a.mean() - b.mean()) for a, b in zip(said.reshape(15, 10), happened.reshape(15, 10), strict=True)]
    )
    assert binned_error(said, happened) == pytest.approx(by_hand)


def test_matthews_correlation_is_scikit_learns_and_none_for_one_class() -> None:
    target, predicted = np.array([0, 1, 1, 0, 2, 2]), np.array([0, 1, 0, 0, 2, 1])
    assert matthews_correlation(target, predicted) == pytest.approx(matthews_corrcoef(target, predicted))
    assert matthews_correlation(np.zeros(4, dtype=int), np.array([0, 1, 0, 0])) is None
    held = score_subject("S", target, np.eye(3)[predicted] * 0.7 + 0.1)
    assert held.mcc == pytest.approx(matthews_corrcoef(target, predicted))
    assert held.ece == pytest.approx(calibration_error(target, np.eye(3)[predicted] * 0.7 + 0.1))


def test_the_worst_of_a_loss_is_the_largest() -> None:
    assert Bootstrap(0).score([0.1, 0.4, 0.2], higher_is_better=False).worst == 0.4


def made(n_subjects: int = 12, n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    subject = np.repeat([f"S{i:02d}" for i in range(n_subjects)], n)
    shift = np.repeat(random.normal(0, 1.2, n_subjects), n)
    second = 1 / (1 + np.exp(-random.normal(shift, 1.0)))
    target = (random.uniform(size=len(second)) < 0.5).astype(np.int64)
    return subject, target, np.stack([1 - second, second], axis=1)


def test_intervals_hold_the_values_and_draw_whole_subjects() -> None:
    subject, target, probabilities = made()
    found = pooled_probability_scores(subject, target, probabilities, Bootstrap(1, 400))
    assert found["brier"].value == brier_score(target, probabilities)
    low, high = found["brier"].ci95
    assert low < found["brier"].value < high
    assert found["ece"].ci95[0] < found["ece"].ci95[1]
    alone = np.array([f"{s}-{i}" for i, s in enumerate(subject)])
    narrow = pooled_probability_scores(alone, target, probabilities, Bootstrap(1, 400))["brier"].ci95
    assert high - low > 1.3 * (narrow[1] - narrow[0])  # windows of one person are not independent
    one = pooled_probability_scores(subject[:80], target[:80], probabilities[:80], Bootstrap(1, 400))
    assert one["brier"].ci95 is None and one["ece"].ci95 is None


def test_a_bootstrapped_brier_score_is_that_of_the_drawn_subjects() -> None:
    subject, target, probabilities = made(5, 7)
    found = pooled_probability_scores(subject, target, probabilities, Bootstrap(3, 300))["brier"].ci95
    generator, values = np.random.default_rng(3), []
    for _ in range(300):
        rows = np.concatenate([np.flatnonzero(subject == f"S{i:02d}") for i in generator.integers(0, 5, size=5)])
        values.append(brier_score(target[rows], probabilities[rows]))
    assert found == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist())


def test_by_class_a_model_that_says_too_much_of_a_class_is_seen() -> None:
    target = np.array([0] * 70 + [1] * 30)
    table = scores_by_class(("rest", "stress"), target, np.tile([0.5, 0.5], (100, 1)))
    assert table["stress"] == {
        "windows": 30, "recall": 0.0, "precision": None, "share": 0.3, "mean_probability": 0.5,
        "calibration_error": table["stress"]["calibration_error"],
    }  # fmt: skip
    assert table["rest"]["recall"] == 1.0 and table["rest"]["precision"] == 0.7
    assert table["stress"]["calibration_error"] == pytest.approx(0.367, abs=0.2)
    fair = scores_by_class(("rest", "stress"), np.tile([0, 1], 300), np.tile([0.5, 0.5], (600, 1)))
    assert (fair["stress"]["calibration_error"] or 0) < 0.03
