"""Which windows a task labels and who is on which side of a fold."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from biopercept.errors import SettingsError, StudyError
from biopercept.learning.splits import Fold, choose_validation, make_folds
from biopercept.learning.windows import grid_windows, labelled_windows
from biopercept.studies.tasks import Task

SUBJECTS = tuple(f"S{i:02d}" for i in range(23))


def test_every_labelled_window_is_in_the_table_or_counted_with_its_reason(made: ModuleType) -> None:
    recordings = made.study(3)
    table = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    n_labelled = sum(int(r.windows.is_labelled.sum()) for r in recordings)
    assert len(table) + sum(table.left_out.values()) == n_labelled
    assert table.left_out == {"label 'break' is ignored by the task": 15}
    assert {table.classes[t] for t in table.target[table.label == "stroop"]} == {"stress"}


def test_windows_inside_the_reference_are_never_scored(made: ModuleType) -> None:
    table = labelled_windows(
        made.study(3), made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES, unscored_seconds=30.0
    )
    assert table.onset.min() == 30.0
    assert table.left_out["inside the reference period"] == 9


def test_rows_point_at_their_own_recordings_features(made: ModuleType) -> None:
    recordings = made.study(3)
    table = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    for row in (0, len(table) // 2, len(table) - 1):
        held = recordings[table.recording[row]].windows
        assert held.onset[table.row[row]] == table.onset[row]
        np.testing.assert_array_equal(table.raw_features()[row], held.features[table.row[row]].astype(float))


def test_predictions_are_made_for_the_grid_and_not_for_labelled_windows(made: ModuleType) -> None:
    table = grid_windows(made.study(2), length_seconds=made.LENGTH, feature_names=made.FEATURES)
    assert set(table.target) == {-1}
    assert table.onset[:3].tolist() == [0.0, 10.0, 20.0]


def test_one_class_only_is_refused_with_its_name(made: ModuleType) -> None:
    task = Task("calm", classes={"rest": ("baseline",), "stress": ("panic",)}, ignore=("break", "stroop"))
    with pytest.raises(StudyError, match=r"all 30 windows of task 'calm' are 'rest'; two classes are needed"):
        labelled_windows(made.study(2), task, length_seconds=made.LENGTH, feature_names=made.FEATURES)


@pytest.mark.parametrize(("split", "n"), [("subject", 23), ("k-fold", 5), ("k-fold", 2)])
def test_test_groups_are_everybody_once_and_nobody_is_on_two_sides(split: str, n: int) -> None:
    folds = make_folds(SUBJECTS, split, n_folds=n)
    assert len(folds) == n
    assert sorted(s for f in folds for s in f.test) == sorted(SUBJECTS)
    for fold in folds:
        assert sorted((*fold.training, *fold.validation, *fold.test)) == sorted(SUBJECTS)
        assert fold.validation


def test_folds_depend_on_identity_and_seed_not_on_order() -> None:
    assert make_folds(SUBJECTS[::-1], "k-fold") == make_folds(SUBJECTS, "k-fold")
    assert make_folds(SUBJECTS, "k-fold", seed=1) != make_folds(SUBJECTS, "k-fold", seed=0)


def test_a_new_subject_changes_at_most_one_member_of_a_validation_group() -> None:
    before, after = (set(choose_validation(s, 0.2, 0)) for s in (SUBJECTS, (*SUBJECTS, "S99")))
    assert len(before - after) <= 1


def test_folds_set_different_subjects_aside_for_early_stopping() -> None:
    groups = {fold.validation for fold in make_folds(SUBJECTS, "subject")}
    assert len(groups) > 20
    assert len({s for group in groups for s in group}) >= 20


def test_a_fold_with_a_subject_on_two_sides_cannot_be_made() -> None:
    with pytest.raises(SettingsError, match="fold x has a subject on two sides"):
        Fold("x", ("A", "B"), (), ("B",))


@pytest.mark.parametrize(
    ("subjects", "split", "n", "sentence"),
    [
        (SUBJECTS, "random", 5, "split is 'random'; allowed are subject, k-fold"),
        (
            SUBJECTS[:2],
            "subject",
            5,
            "2 subjects with labelled windows; cross-validation over subjects needs at least 3",
        ),
        (SUBJECTS, "k-fold", 24, "24 folds for 23 subjects; allowed are 2 to 23"),
    ],
)
def test_a_split_that_cannot_be_is_refused(subjects: tuple[str, ...], split: str, n: int, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make_folds(subjects, split, n_folds=n)
    assert str(refused.value) == sentence
