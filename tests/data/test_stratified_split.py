"""Folds with balanced classes: every fold has its share of each, and the order of the windows means nothing."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.data.splits import dealt_by_class

Rows = tuple[np.ndarray, np.ndarray]


def rows_of(held: dict[str, list[int]]) -> Rows:
    subject = np.array([s for s, targets in held.items() for _ in targets])
    return subject, np.array([t for targets in held.values() for t in targets], dtype=np.int64)


@pytest.fixture
def mixed() -> Rows:
    """Twelve people of one class only, six of the other only, six of both; some with many windows."""
    held = {f"A{i}": [0] * (3 + 40 * (i % 3 == 0)) for i in range(12)}
    held |= {f"B{i}": [1] * 4 for i in range(6)}
    held |= {f"C{i}": [0, 1, 1, 0] * (1 + 9 * (i % 2)) for i in range(6)}
    return rows_of(held)


@pytest.mark.parametrize("seed", range(6))
def test_class_sets_of_subjects_are_spread_evenly(mixed: Rows, seed: int) -> None:
    subject, target = mixed
    groups = dealt_by_class(subject, [target], 6, seed)
    assert sorted(s for _, group in groups for s in group) == sorted(set(subject.tolist()))
    kinds = [tuple(sum(s[0] == kind for s in group) for kind in "ABC") for _, group in groups]
    assert all(2 * (a + c / 2) == pytest.approx(5, abs=1.01) for a, _, c in kinds)  # rest: 2.5 subjects' worth a fold
    assert all(b + c / 2 == pytest.approx(1.5, abs=0.51) for _, b, c in kinds)


def test_the_order_of_the_windows_means_nothing_and_the_seed_does(mixed: Rows) -> None:
    subject, target = mixed
    shuffled = np.random.default_rng(0).permutation(len(subject))
    groups = dealt_by_class(subject, [target], 4, 3)
    assert dealt_by_class(subject[shuffled], [target[shuffled]], 4, 3) == groups
    assert dealt_by_class(subject, [target], 4, 4) != groups
    assert [name for name, _ in groups] == [f"0{i}-of-04" for i in range(1, 5)]


def test_several_tasks_are_balanced_together() -> None:
    subject = np.repeat([f"P{i:02d}" for i in range(8)], 2)
    first, second = np.repeat([0, 1] * 4, 2), np.repeat([-1, -1, -1, -1, 0, 0, 1, 1], 2)
    for seed in range(5):
        groups = dict(dealt_by_class(subject, [first, second], 2, seed))
        for group in groups.values():
            numbers = [int(s[1:]) for s in group]
            assert sum(n % 2 for n in numbers) == 2
            assert [sum(n in pair for n in numbers) for pair in ((4, 5), (6, 7))] == [1, 1]
