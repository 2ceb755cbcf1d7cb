"""Thresholds moved without labels: planted shifts are taken out, one class is left alone, the future is not seen."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.errors import SettingsError
from biopercept.inference.shift import caution, log_odds_of, require_adaptable, shift_at, shifted, shifts_of, words_of
from biopercept.tasks import Task


def log_odds(n_first: int, n_second: int, *, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    """Return log odds of calibrated predictions: normal around -2 and +2, variance 4, moved; the first class first."""
    middle = np.repeat([-2.0, 2.0], [n_first, n_second])
    return np.asarray(np.random.default_rng(seed).normal(middle, 1.2) + shift)


@pytest.mark.parametrize("planted", [-1.5, 1.5])
@pytest.mark.parametrize(("n_first", "n_second"), [(60, 60), (90, 30)])
def test_a_planted_shift_is_mostly_taken_out_whatever_the_shares(planted: float, n_first: int, n_second: int) -> None:
    rests = [planted + shifts_of(log_odds(n_first, n_second, shift=planted, seed=seed), 0.25)[-1] for seed in range(20)]
    assert abs(np.mean(rests)) < 0.5 * abs(planted)


def test_a_planted_share_alone_moves_little_where_em_would_move_far() -> None:
    values = log_odds(90, 30)
    share = 0.5
    for _ in range(200):  # Saerens, Latinne and Decaestecker 2002
        share = float(np.mean(share / (share + (1 - share) * np.exp(-values))))
    em = np.log(share / (1 - share))
    assert em < -0.8
    assert abs(shifts_of(values, 0.25)[-1]) < 0.4


@pytest.mark.parametrize("class_and_shift", [(0, 0.0), (1, 0.0), (0, 1.0), (1, -1.0)])
def test_a_recording_of_one_class_is_untouched_to_the_bit(class_and_shift: tuple[int, float]) -> None:
    number, planted = class_and_shift
    counts = (120, 0) if number == 0 else (0, 120)
    moved = [shifts_of(log_odds(*counts, shift=planted, seed=seed), 0.25)[-1] for seed in range(20)]
    # Not every recording can be told from two overlapping classes, but hardly any is taken for two.
    assert np.count_nonzero(moved) <= 1
    values = np.column_stack([np.full(5, 0.9), np.full(5, 0.1)])
    assert np.array_equal(shifted(values, np.zeros(5)), values)


def test_what_comes_later_changes_no_bit_and_the_whole_does() -> None:
    one, other = log_odds(60, 60, shift=1.5), log_odds(60, 60, shift=1.5)
    other[90:] -= 5.0
    onset = np.arange(120.0)
    past = [shift_at("past", onset, onset, values, 0.25) for values in (one, other)]
    whole = [shift_at("all", onset, onset, values, 0.25) for values in (one, other)]
    assert np.count_nonzero(past[0][:91]) > 10
    assert np.array_equal(past[0][:91], past[1][:91])  # window 90 rests on the 90 before it
    assert not np.array_equal(past[0][91:], past[1][91:])
    assert np.ptp(whole[0]) == 0
    assert whole[0][0] != whole[1][0]


def test_a_window_between_those_seen_rests_on_those_that_begin_earlier() -> None:
    seen, onset = log_odds(60, 60, shift=1.5), 30.0 * np.arange(120)
    by_count = shifts_of(seen, 0.25)
    given = shift_at("past", np.array([0.0, 10.0, 30.0 * 100, 30.0 * 100 + 1, 1e6]), onset, seen, 0.25)
    assert np.array_equal(given, by_count[[0, 1, 100, 101, 120]])


def test_withheld_windows_tell_nothing_and_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    values = log_odds(300, 300, shift=1.0)
    holes = np.insert(values, [5, 299], np.nan)
    whole = shifts_of(values, 0.25)
    np.testing.assert_allclose(shifts_of(holes, 0.25)[-1], whole[-1], rtol=1e-9)
    assert np.array_equal(shifts_of(values[:400], 0.25), whole[:401])
    monkeypatch.setattr("biopercept.inference.shift._BLOCK", 1000)
    np.testing.assert_allclose(shifts_of(values, 0.25), whole, rtol=1e-9)
    assert shifts_of(np.empty(0), 0.25).tolist() == [0.0]


def test_log_odds_move_by_the_shift_and_ranks_stay() -> None:
    first = np.array([0.9, 0.5, 0.2])
    values = np.column_stack([first, 1 - first])
    moved = shifted(values, np.full(3, 0.7))
    np.testing.assert_allclose(log_odds_of(moved) - log_odds_of(values), 0.7)
    np.testing.assert_allclose(moved.sum(axis=1), 1.0)


def test_what_has_no_middle_between_two_classes_is_refused() -> None:
    two = {"rest": ("a",), "stress": ("b",)}
    require_adaptable([Task("t", classes=two)], "past")
    require_adaptable([Task("t", classes={**two, "more": ("c",)})], "none")
    with pytest.raises(SettingsError, match=r"is for two classes, .*; task 't' has 3 classes: leave --adapt out"):
        require_adaptable([Task("t", classes={**two, "more": ("c",)})], "past")
    with pytest.raises(SettingsError, match="task 't' has the kind regression"):
        require_adaptable([Task("t", kind="regression", column="score")], "all")
    with pytest.raises(SettingsError, match="in task 't' each file has one; leave it out"):
        require_adaptable([Task("t", classes=two, label_is_file=True)], "all")
    with pytest.raises(SettingsError, match="--adapt is 'future'; allowed are none, past, all"):
        require_adaptable([Task("t", classes=two)], "future")


def test_only_what_rests_on_the_future_is_called_transductive() -> None:
    assert words_of("all", 2, 3, "recordings").startswith("transductive: ")
    assert "transductive" not in words_of("past", 2, 3, "recordings")


def test_a_recording_that_was_moved_and_may_hold_one_class_is_cautioned_about() -> None:
    moved, still = np.array([0.0, 0.4]), np.zeros(2)
    assert caution(moved, ("rest", "rest")).startswith("every labelled window is 'rest', and --adapt read two classes")
    assert caution(moved, ("rest", "")).startswith("every labelled window is 'rest'")
    assert "leave --adapt out unless the recording is known to hold both" in caution(moved, ("", ""))
    assert caution(moved, ("rest", "stress")) == ""
    assert caution(still, ("rest", "rest")) == ""
