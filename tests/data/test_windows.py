"""Which windows a task labels."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from biopercept.data.windows import grid_windows, joint_windows, labelled_windows
from biopercept.errors import SettingsError, StudyError
from biopercept.tasks import Task


def test_every_labelled_window_is_in_the_table_or_counted_with_its_reason(made: ModuleType) -> None:
    recordings = made.study(3)
    table = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    n_labelled = sum(int(r.windows.is_labelled.sum()) for r in recordings)
    assert len(table) + sum(table.excluded.values()) == n_labelled
    assert table.excluded == {"label 'break' is ignored by the task": 15}
    assert {table.only.classes[t] for t in table.only.values[table.label == "stroop"]} == {"stress"}


def test_windows_inside_the_reference_are_never_scored(made: ModuleType) -> None:
    table = labelled_windows(
        made.study(3), made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES, unscored_seconds=30.0
    )
    assert table.onset.min() == 30.0
    assert table.excluded["inside the reference period"] == 9


def test_rows_point_at_their_own_recordings_features(made: ModuleType) -> None:
    recordings = made.study(3)
    table = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    for row in (0, len(table) // 2, len(table) - 1):
        held = recordings[table.recording[row]].windows
        assert held.onset[table.row[row]] == table.onset[row]
        np.testing.assert_array_equal(table.raw_features()[row], held.features[table.row[row]].astype(float))


def test_predictions_are_made_for_the_grid_and_not_for_labelled_windows(made: ModuleType) -> None:
    table = grid_windows(made.study(2), length_seconds=made.LENGTH, feature_names=made.FEATURES)
    assert table.tasks == ()
    assert table.onset[:3].tolist() == [0.0, 10.0, 20.0]


def test_one_class_only_is_refused_with_its_name(made: ModuleType) -> None:
    task = Task("calm", classes={"rest": ("baseline",), "stress": ("panic",)}, ignore=("break", "stroop"))
    with pytest.raises(StudyError, match=r"all 30 windows of task 'calm' are 'rest'; two classes are needed"):
        labelled_windows(made.study(2), task, length_seconds=made.LENGTH, feature_names=made.FEATURES)


def test_what_needs_one_task_is_refused_for_several_and_for_none(made: ModuleType) -> None:
    names = {"length_seconds": made.LENGTH, "feature_names": made.FEATURES}
    several = joint_windows([labelled_windows(made.study(2), task, **names) for task in (made.TASK, made.LEVEL)])
    with pytest.raises(SettingsError, match=r"^one task is needed here, and there are 2; give --task one name$"):
        _ = several.only
    with pytest.raises(SettingsError, match=r"there are 0"):
        _ = grid_windows(made.study(2), **names).only
