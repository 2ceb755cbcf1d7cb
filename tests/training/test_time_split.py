"""A subject's windows in time: what is learnt from lies before what is scored, and a gap between them."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from biopercept.data.windows import WindowTable, labelled_windows
from biopercept.errors import SettingsError, StudyError
from biopercept.training.settings import PersonalisationSettings
from biopercept.training.time_split import (
    LEAST_PER_CLASS,
    Course,
    Shots,
    TimeSplit,
    course_of,
    first_windows,
    gap_of,
    random_windows,
    set_aside,
    shots_of,
    split_in_time,
)

LENGTH = 20.0


def course(target: list[int], step: float = 10.0) -> Course:
    n = len(target)
    start = np.arange(n) * step
    return Course("P", np.arange(100, 100 + n), start, np.array(target), ("rest", "stress"), LENGTH)


def drawn_courses(n: int = 60) -> list[Course]:
    """Return courses of random stretches of two classes, with pauses, windows of 20 s every 5, 10 or 20 s."""
    courses = []
    for seed in range(n):
        random = np.random.default_rng(seed)
        step, start, target, clock = float(random.choice([5.0, 10.0, 20.0])), [], [], 0.0
        for stage in range(int(random.integers(2, 9))):
            for _ in range(int(random.integers(1, 14))):
                start.append(clock)
                target.append(stage % 2)
                clock += step
            clock += LENGTH + float(random.integers(0, 3)) * 7.5
        rows = np.arange(len(start))
        courses.append(Course("P", rows, np.array(start), np.array(target), ("rest", "stress"), LENGTH))
    return courses


def distance(held: Course, first: np.ndarray, second: np.ndarray) -> float:
    """Return the shortest time between the end of one window and the start of another, over all pairs."""
    return float(np.abs(held.start[first][:, None] - held.start[second][None]).min()) - LENGTH


@pytest.mark.parametrize("gap", [20.0, 33.0])
def test_earlier_windows_end_a_gap_before_the_first_later_one_and_both_sides_have_every_class(gap: float) -> None:
    n_split = 0
    for held in drawn_courses():
        split = split_in_time(held, 0.6, gap)
        if isinstance(split, str):
            continue
        n_split += 1
        assert held.start[split.earlier].max() + LENGTH + gap <= held.start[split.later].min() + 1e-9
        for side in (split.earlier, split.later):
            assert np.bincount(held.target[side], minlength=2).min() >= LEAST_PER_CLASS
        together = np.concatenate([split.earlier, split.embargoed, split.later])
        assert np.array_equal(np.sort(together), np.arange(len(held.rows)))
    assert n_split > 20


def test_the_split_is_the_wished_one_where_that_can_be_and_the_nearest_where_not() -> None:
    balanced = course([0, 1] * 20)
    split = split_in_time(balanced, 0.6, LENGTH)
    assert isinstance(split, TimeSplit)
    assert split.later.tolist() == list(range(24, 40))
    assert split.embargoed.tolist() == [21, 22, 23]
    late = course([0] * 10 + [1] * 10 + [0] * 5)  # before place 12, no window of the second class has ended
    found = split_in_time(late, 0.1, LENGTH)
    assert isinstance(found, TimeSplit)
    assert found.later[0] == 15
    assert found.earlier.tolist() == list(range(12))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ([0] * 20 + [1] * 3, "too few windows of stress"),
        ([0] * 20 + [1] * 20, "no moment with every class before and after it"),
    ],
)
def test_who_cannot_be_split_is_told_why(target: list[int], reason: str) -> None:
    assert split_in_time(course(target), 0.6, LENGTH) == reason


def test_windows_to_check_on_are_the_last_of_each_class_and_overlap_none_that_is_fitted_on() -> None:
    for held in drawn_courses():
        everything = np.arange(len(held.rows))
        fitting, checking = set_aside(held, everything, 0.3)
        if not len(checking):
            assert np.array_equal(fitting, everything)
            continue
        assert distance(held, fitting, checking) >= 0
        for number in range(2):
            own = fitting[held.target[fitting] == number], checking[held.target[checking] == number]
            assert held.start[own[0]].max() < held.start[own[1]].min()


def test_one_window_per_class_leaves_nothing_to_check_on_and_two_leave_one() -> None:
    held = course([0, 1] * 8, step=40.0)
    for k, n_checking in ((1, 0), (2, 2), (3, 2), (5, 2), (8, 4)):
        fitting, checking = set_aside(held, np.arange(2 * k), 0.3)
        assert (len(fitting), len(checking)) == (2 * k - n_checking, n_checking)


def test_granted_windows_are_the_first_that_do_not_overlap() -> None:
    held = course([0] * 5 + [1] * 5 + [0] * 5)
    assert first_windows(held, 3).tolist() == [0, 2, 4, 5, 7, 9]
    assert first_windows(held, 4) is None
    random = random_windows(held, 4, np.random.default_rng(0))
    assert sorted(held.target[random].tolist()) == [0] * 4 + [1] * 4


@pytest.mark.parametrize("chronology", ["subject", "class"])
@pytest.mark.parametrize("gap", [20.0, 45.0])
def test_every_k_is_scored_on_the_same_windows_a_gap_after_all_that_is_granted(chronology: str, gap: float) -> None:
    settings = PersonalisationSettings(k=(1, 2, 4), chronology=chronology)
    n_found, n_fewer = 0, 0
    for held in drawn_courses(120):
        shots = shots_of(held, settings, gap, np.ones(len(held.rows), dtype=bool))
        if isinstance(shots, str):
            continue
        n_found += 1
        n_fewer += 4 not in shots.first
        for k, places in shots.first.items():
            assert np.bincount(held.target[places]).tolist() == [k, k]
            assert set(places) <= set(shots.earlier)
        assert distance(held, shots.earlier, shots.scored) >= gap - 1e-3
        assert np.bincount(held.target[shots.scored], minlength=2).min() >= LEAST_PER_CLASS
        if chronology == "subject":
            assert held.start[shots.earlier].max() + LENGTH + gap <= held.start[shots.scored].min() + 1e-3
        for number in range(2):
            first = held.start[shots.earlier][held.target[shots.earlier] == number]
            assert first.max() < held.start[shots.scored][held.target[shots.scored] == number].min()
    assert n_found > 20
    assert 0 < n_fewer < n_found


def test_a_class_shown_once_can_be_scored_within_classes_only() -> None:
    once = course([0] * 20 + [1] * 20)
    everywhere = np.ones(40, dtype=bool)
    strict = shots_of(once, PersonalisationSettings(k=(1, 3)), LENGTH, everywhere)
    assert strict == "no moment has 1 windows of each class before and 2 after it"
    within = shots_of(once, PersonalisationSettings(k=(1, 3), chronology="class"), LENGTH, everywhere)
    assert isinstance(within, Shots)
    # Halves of each class, a gap of 20 s after them, and clear of the second class's first window at place 20.
    assert within.scored.tolist() == [*range(12, 17), *range(32, 40)]


def test_windows_that_may_not_be_scored_are_not() -> None:
    held = course([0, 1] * 20)
    is_scorable = held.start >= 300.0
    shots = shots_of(held, PersonalisationSettings(k=(1,)), LENGTH, is_scorable)
    assert isinstance(shots, Shots)
    assert held.start[shots.scored].min() == 300.0


def test_minutes_count_overlaps_once() -> None:
    held = course([0, 1] * 4)
    assert held.minutes(np.array([0, 1, 4])) == pytest.approx((30 + 20) / 60)
    assert held.minutes(np.array([], dtype=np.int64)) == 0.0
    assert held.minutes_until(np.array([0, 4])) == pytest.approx(60 / 60)


def two_files(made: ModuleType, places: tuple[int | None, int | None]) -> WindowTable:
    from dataclasses import replace

    held = [
        replace(made.recording("P01", seed=i), recording=name, place=p)
        for i, (name, p) in enumerate(zip("ab", places, strict=True))
    ]
    return labelled_windows(held, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)


def test_recordings_follow_one_another_as_the_study_lists_them(made: ModuleType) -> None:
    table = two_files(made, (7, 3))
    held = course_of(table, "P01")
    assert np.all(np.diff(held.start) >= 0)
    is_second = table.recording[held.rows] == 0
    assert is_second.tolist() == [False] * 25 + [True] * 25
    assert held.start[25] == 360.0


def test_recordings_without_a_known_order_are_refused(made: ModuleType) -> None:
    with pytest.raises(StudyError, match=r"^the order of the 2 recordings of P01 is not in the store, and a split by "):
        course_of(two_files(made, (None, None)), "P01")


def test_a_gap_shorter_than_a_window_is_refused() -> None:
    assert (gap_of(0.0, 60.0, "x"), gap_of(90.0, 60.0, "x")) == (60.0, 90.0)
    with pytest.raises(
        SettingsError,
        match=r"^evaluation.embargo_seconds is 30 s; it must be at least one window \(60 s\), or 0 for just that$",
    ):
        gap_of(30.0, 60.0, "evaluation.embargo_seconds")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "magic"}, "personalisation.method is 'magic'; allowed are head, low-rank, full"),
        (
            {"methods": ("head", "x")},
            "personalisation.methods is 'x'; allowed are reference, head, low-rank, full, scratch",
        ),
        ({"methods": ()}, "personalisation.methods must name at least one method, each once"),
        ({"k": (3, 1)}, "personalisation.k is [3, 1]; rising whole numbers from 1 are needed"),
        ({"rank": 0}, "personalisation.rank is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, "personalisation.learning_rate is 0.0; it must be a number above 0"),
        ({"earlier_share": 1.0}, "personalisation.earlier_share is 1.0; it must be above 0 and below 1"),
        ({"gap_seconds": -1.0}, "personalisation.gap_seconds is -1.0; it must be a number of at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError) as fault:
        PersonalisationSettings(**wrong)
    assert str(fault.value) == words
