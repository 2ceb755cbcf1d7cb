"""Who is on which side of a fold, and that nobody's coming or going moves anybody else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from biopercept.data.splits import Fold, choose_validation, identity_place, make_folds, missing_folds
from biopercept.errors import SettingsError

NUMBERED = tuple(f"S{i:02d}" for i in range(2, 36))
NAMED = tuple(
    first + second for first in ("an", "bo", "cy", "do", "el", "fay") for second in ("na", "ri", "lo", "ke", "ti", "su")
)[:34]
STUDIES = {
    "stress-predict": NUMBERED,
    "noneeg": tuple(f"Subject{i}" for i in range(1, 21)),
    "eegmat": tuple(f"Subject{i:02d}" for i in range(18)),
    "sample": tuple(f"S{i:02d}" for i in range(1, 11)),
}


def fold_of(subjects: tuple[str, ...], n: int, seed: int) -> dict[str, str]:
    return {
        subject: fold.name for fold in make_folds(subjects, "k-fold", n_folds=n, seed=seed) for subject in fold.test
    }


@pytest.mark.parametrize("subjects", [NUMBERED, NAMED])
@pytest.mark.parametrize("n", [2, 5, 10])
def test_adding_and_removing_subjects_moves_nobody_else(subjects: tuple[str, ...], n: int) -> None:
    for seed in range(4):
        whole = fold_of(subjects, n, seed)
        draw = np.random.default_rng(seed)
        for size in (len(subjects) - 1, 20, 12):
            held = tuple(str(s) for s in draw.permutation(subjects)[:size])
            assert fold_of(held, n, seed) == {subject: whole[subject] for subject in held}


@pytest.mark.parametrize("subjects", [NUMBERED, NAMED])
def test_early_stopping_looks_at_whom_it_looked_at_before_somebody_came(subjects: tuple[str, ...]) -> None:
    n_kept, n_stood_in = 0, 0
    for salt in range(40):
        whole = set(choose_validation(subjects, 0.15, salt))
        for size in (33, 25, 12):
            before = set(choose_validation(subjects[:size], 0.15, salt))
            if before == whole & set(subjects[:size]):
                n_kept += 1
            else:  # Nobody drew below the share, so one stood in, and stands back once somebody lower has come.
                assert len(before) == 1
                assert not before & whole
                n_stood_in += 1
    assert n_kept > 5 * n_stood_in > 0
    crowd = tuple(f"{subject}-{i}" for subject in subjects for i in range(20))
    assert abs(len(choose_validation(crowd, 0.15, 0)) / len(crowd) - 0.15) < 0.04


def test_of_few_subjects_never_more_than_twice_the_share_stop_training_early() -> None:
    sizes = [len(choose_validation(NAMED[:3], 0.15, salt)) for salt in range(100)]
    assert set(sizes) == {1}
    assert max(len(choose_validation(NAMED[:10], 0.15, salt)) for salt in range(200)) == 3


def test_somebody_stops_training_early_and_somebody_is_trained_on() -> None:
    for size in (2, 3, 5):
        for fraction in (0.01, 0.5, 0.99):
            for salt in range(20):
                assert 1 <= len(choose_validation(NAMED[:size], fraction, salt)) < size
    assert choose_validation(NAMED, 0.0, 0) == choose_validation(NAMED[:1], 0.5, 0) == ()


@pytest.mark.parametrize("name", list(STUDIES))
@pytest.mark.parametrize("n", [3, 5])
def test_folds_of_numbered_subjects_differ_little_in_size(name: str, n: int) -> None:
    for seed in range(10):
        sizes = [len(fold.test) for fold in make_folds(STUDIES[name], "k-fold", n_folds=n, seed=seed)]
        # At most two blocks of numbers are torn, one at either end.
        assert max(sizes) - min(sizes) <= 2
        assert len(sizes) == n


@pytest.mark.parametrize("subjects", [("S03",), ("anna",), ("sub-014-b",), ("7",)])
def test_a_place_is_uniform_over_the_salts(subjects: tuple[str]) -> None:
    drawn = np.array([identity_place(subjects[0], str(salt), 5) for salt in range(2000)])
    counts = Counter(drawn.astype(int).tolist())
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert max(abs(n - 400) for n in counts.values()) < 80  # 4.5 standard deviations
    assert abs(float(np.mean(drawn % 1)) - 0.5) < 0.03


@pytest.mark.parametrize(("split", "n"), [("subject", 34), ("k-fold", 5), ("k-fold", 2)])
@pytest.mark.parametrize("subjects", [NUMBERED, NAMED])
def test_test_groups_are_everybody_once_and_nobody_is_on_two_sides(
    subjects: tuple[str, ...], split: str, n: int
) -> None:
    folds = make_folds(subjects, split, n_folds=n)
    assert len(folds) == n
    assert sorted(s for f in folds for s in f.test) == sorted(subjects)
    for fold in folds:
        assert sorted((*fold.training, *fold.validation, *fold.test)) == sorted(subjects)
        assert fold.validation


def test_folds_depend_on_identity_and_seed_not_on_order() -> None:
    assert make_folds(NUMBERED[::-1], "k-fold") == make_folds(NUMBERED, "k-fold")
    assert make_folds(NUMBERED, "k-fold", seed=1) != make_folds(NUMBERED, "k-fold", seed=0)


def test_folds_set_different_subjects_aside_for_early_stopping() -> None:
    groups = {fold.validation for fold in make_folds(NUMBERED, "subject")}
    assert len(groups) > 30
    assert len({s for group in groups for s in group}) >= 30


def test_a_fold_that_nobody_falls_into_is_left_out_and_said() -> None:
    few = NAMED[:7]
    folds = make_folds(few, "k-fold", n_folds=7)
    assert all(fold.test for fold in folds)
    assert sorted(s for f in folds for s in f.test) == sorted(few)
    absent = sorted({f"{i:02d}-of-07" for i in range(1, 8)} - {fold.name for fold in folds})
    assert absent
    assert missing_folds(folds, "k-fold", 7) == (
        f"{len(folds)} folds instead of 7: subjects are dealt by identity, and nobody fell into {', '.join(absent)}",
    )
    assert missing_folds(make_folds(NUMBERED, "k-fold"), "k-fold", 5) == missing_folds(folds, "subject", 7) == ()


def test_subjects_that_all_fall_into_one_fold_are_refused() -> None:
    of = fold_of(NAMED, 2, 0)
    same = tuple(subject for subject in NAMED if of[subject] == "01-of-02")[:3]
    with pytest.raises(SettingsError) as refused:
        make_folds(same, "k-fold", n_folds=2)
    assert str(refused.value) == (
        "all 3 subjects fall into one of 2 folds, which are dealt by identity; use more folds or another --seed"
    )


def test_a_fold_with_a_subject_on_two_sides_cannot_be_made() -> None:
    with pytest.raises(SettingsError, match="fold x has a subject on two sides"):
        Fold("x", ("A", "B"), (), ("B",))


@pytest.mark.parametrize(
    ("subjects", "split", "n", "sentence"),
    [
        (NUMBERED, "random", 5, "split is 'random'; allowed are subject, k-fold"),
        (
            NUMBERED[:2],
            "subject",
            5,
            "2 subjects with labelled windows; cross-validation over subjects needs at least 3",
        ),
        (NUMBERED, "k-fold", 35, "35 folds for 34 subjects; allowed are 2 to 34"),
    ],
)
def test_a_split_that_cannot_be_is_refused(subjects: tuple[str, ...], split: str, n: int, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make_folds(subjects, split, n_folds=n)
    assert str(refused.value) == sentence
