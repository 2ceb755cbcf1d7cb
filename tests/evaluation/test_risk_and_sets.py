"""Risk against coverage and prediction sets, against computations by hand."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.evaluation.metrics import Bootstrap
from biopercept.evaluation.trust import (
    area_under_risk,
    coverage_at_risk,
    orders_of_trust,
    risk_coverage,
    selective_risks,
    set_measures,
)


def test_the_most_trusted_are_answered_first() -> None:
    risks = selective_risks(np.array([True, False, False, True]), np.array([0.6, 0.9, 0.8, 0.5]))
    assert risks == pytest.approx([0, 0, 1 / 3, 0.5])
    assert area_under_risk(risks) == pytest.approx((1 / 3 + 0.5) / 4)


def test_equal_trust_has_no_lucky_order() -> None:
    first = selective_risks(np.array([True, False, False, False]), np.ones(4))
    last = selective_risks(np.array([False, False, False, True]), np.ones(4))
    assert first == pytest.approx(last)
    assert first == pytest.approx([0.25] * 4)


def test_the_coverage_at_a_risk_is_the_largest_allowed() -> None:
    risks = np.array([0.0, 0.2, 0.1, 0.3])
    assert coverage_at_risk(risks, 0.1) == 0.75
    assert coverage_at_risk(risks, 0.0) == 0.25
    assert coverage_at_risk(np.array([0.5, 0.4]), 0.1) == 0.0


def test_the_gate_answers_poor_signals_last_whatever_the_confidence() -> None:
    probabilities = np.array([[0.99, 0.01], [0.6, 0.4], [0.3, 0.7]])
    quality = np.array([0.2, 0.9, np.nan])
    held = orders_of_trust(probabilities, quality, 0.5)
    assert np.argsort(-held["gated"]).tolist() == [1, 0, 2]
    assert np.argsort(-held["confidence"]).tolist() == [0, 2, 1]
    assert np.argsort(-held["quality"]).tolist() == [1, 0, 2]


def test_the_document_has_areas_over_all_and_within_subjects() -> None:
    random = np.random.default_rng(0)
    subject = np.repeat(["A", "B", "C"], 40)
    target = random.integers(0, 2, 120)
    second = np.clip(0.5 + 0.3 * (2 * target - 1) + random.normal(0, 0.35, 120), 0.01, 0.99)
    probabilities = np.stack([1 - second, second], axis=1)
    curves = risk_coverage(subject, target, probabilities, np.ones(120), 0.5, Bootstrap(0, 200))
    rule = curves.confidence
    assert rule is not None
    assert rule.risk[-1] == pytest.approx(np.mean(probabilities.argmax(axis=1) != target))
    assert rule.risk[4] < rule.risk[-1]
    within = [area_under_risk(selective_risks(w, t)) for w, t in (
        ((probabilities.argmax(axis=1) != target)[subject == s], probabilities.max(axis=1)[subject == s]) for s in "ABC"
    )]  # fmt: skip
    assert rule.aurc_over_subjects.mean == pytest.approx(np.mean(within))
    assert curves.gated == rule  # every signal is good here
    assert len(curves.coverage) == len(rule.risk) == 20


def test_sets_are_counted_per_subject_and_abstain_unless_they_are_one_class() -> None:
    subject = np.array(["A", "A", "A", "A", "B", "B"])
    target = np.array([0, 0, 1, 1, 0, 1])
    sets = np.array([[1, 0], [1, 1], [1, 0], [0, 0], [1, 0], [0, 1]], dtype=bool)
    held = set_measures(subject, target, sets, ("rest", "stress"), Bootstrap(0, 200))
    assert held["coverage"].mean == pytest.approx((0.5 + 1.0) / 2)
    assert held["coverage_of_windows"] == pytest.approx(4 / 6)
    assert (held["worst_subject"], held["mean_size"]) == (0.5, pytest.approx(1.0))
    assert (held["answered"], held["abstained"], held["empty"]) == pytest.approx((4 / 6, 2 / 6, 1 / 6))
    assert held["accuracy_of_answered"] == pytest.approx(3 / 4)
    assert held["coverage_by_class"] == pytest.approx({"rest": 1.0, "stress": 1 / 3})
