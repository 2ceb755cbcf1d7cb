"""Who is on which side of a fold, and that nobody's coming or going moves anybody else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from biopercept.data.splits import Fold, choose_validation, identity_place, make_folds, stand_ins
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
            moved = [subject for subject, fold in fold_of(held, n, seed).items() if fold != whole[subject]]
            n_empty = n - len({whole[subject] for subject in held})
            assert len(moved) == n_empty  # and nobody where every fold has somebody


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


def test_in_a_fold_that_nobody_falls_into_somebody_stands_in_and_it_is_said() -> None:
    """The ten people of flight: their numbers have gaps, and by identity nobody is in fold 04 of 5."""
    flight = tuple(f"P{i:02d}" for i in (1, 2, 5, 6, 7, 8, 9, 11, 12, 13))
    numbers = [int(identity_place(person, "fold-0", 5)) for person in flight]
    (empty,) = {0, 1, 2, 3, 4} - set(numbers)
    folds = make_folds(flight, "k-fold", n_folds=5)
    assert sorted(s for f in folds for s in f.test) == sorted(flight)
    assert [f.name for f in folds] == [f"0{i}-of-05" for i in range(1, 6)]
    (guest,) = folds[empty].test
    assert {s: int(f.name[:2]) - 1 for f in folds for s in f.test if s != guest} == {
        s: number for s, number in zip(flight, numbers, strict=True) if s != guest
    }
    assert stand_ins(folds, 5, 0) == (
        f"subjects are dealt into 5 folds by identity, and nobody fell into 0{empty + 1}-of-05 ({guest} stands in); "
        "who is added later may move them back: keep the folds with --folds-from",
    )
    assert stand_ins(make_folds(NUMBERED, "k-fold"), 5, 0) == ()


@pytest.mark.parametrize("n", [3, 5, 8, 12])
def test_there_are_as_many_folds_as_were_wished_for_and_newcomers_move_only_who_stood_in(n: int) -> None:
    n_moved, n_stood_in = 0, 0
    for seed in range(30):
        before = fold_of(NAMED[:12], n, seed)
        after = fold_of(NAMED[:13], n, seed)
        assert len(set(before.values())) == len(set(after.values())) == n
        home = {s: int(identity_place(s, f"fold-{seed}", n)) + 1 for s in NAMED[:13]}
        away = {s for s, fold in (*before.items(), *after.items()) if int(fold[:2]) != home[s]}
        n_moved += sum(before[s] != after[s] for s in before)
        n_stood_in += len(away)
        assert all(before[s] == after[s] for s in before if s not in away)
    assert n_moved <= n_stood_in


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
        (NUMBERED, "k-fold", 35, "35 folds for 34 subjects; allowed are 2 to 34 (--folds, evaluation.n_folds)"),
    ],
)
def test_a_split_that_cannot_be_is_refused(subjects: tuple[str, ...], split: str, n: int, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make_folds(subjects, split, n_folds=n)
    assert str(refused.value) == sentence
