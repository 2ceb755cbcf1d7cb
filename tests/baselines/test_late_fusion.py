"""Votes, means and stacking: known answers of known members, abstention, and out-of-fold second levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.baselines import late_fusion
from biopercept.baselines.features import (
    Bag,
    FittedDummy,
    fit_bagging,
    fit_lda,
    fit_motion,
    fit_quality,
    quality_by_modality,
)
from biopercept.baselines.late_fusion import (
    fit_by_rule,
    fit_members,
    fit_stacking,
    inner_folds,
    majority_vote,
    probability_mean,
    second_level_table,
)
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.training.engine import Engine
from biopercept.training.loop import FitRequest
from biopercept.training.settings import FitSettings

FOUR = ("P01", "P02", "P03", "P04")


def request(made: ModuleType, recordings, subjects: Sequence[str] = FOUR) -> FitRequest:
    windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    inputs = WindowInputs(windows, NormalisationSettings(), made.STEP)
    rows = windows.rows_of(subjects)
    return FitRequest(inputs, rows, rows[:0], FitSettings(), Engine(torch.device("cpu")), 3)


def answers(*members: Sequence[float]) -> np.ndarray:
    """Members' probabilities of class 0 for one window each; NaN abstains."""
    first = np.array(members, dtype=float)
    return np.stack([first, 1 - first], axis=-1)


def test_three_known_members_are_outvoted_two_to_one_however_sure_the_one_is() -> None:
    found = majority_vote(answers([0.51], [0.51], [0.0]))
    assert found[0].argmax() == 0
    assert found[0] == pytest.approx([(2 + 1.02 / 3) / 4, (1 + 1.98 / 3) / 4])


def test_a_tie_goes_to_the_surer_side_and_members_that_abstain_do_not_count() -> None:
    found = majority_vote(answers([0.9, np.nan, np.nan], [0.4, np.nan, 0.2], [np.nan, np.nan, np.nan]))
    assert found[0].argmax() == 0 and found[2].argmax() == 1
    assert np.isnan(found[1]).all()
    assert np.allclose(found[[0, 2]].sum(axis=1), 1)


def test_the_mean_is_over_members_that_answer() -> None:
    found = probability_mean(answers([0.9, 0.2], [0.5, np.nan]))
    assert np.allclose(found, [[0.7, 0.3], [0.2, 0.8]])


def test_a_group_missing_in_a_window_abstains_and_without_any_group_the_class_shares_answer(made: ModuleType) -> None:
    recordings = list(made.study(6))
    recordings[4].windows.features[:] = np.nan
    asked = request(made, recordings)
    windows = asked.inputs.windows
    fitted = fit_by_rule(majority_vote)(asked)
    nothing, no_eda = windows.rows_of(["P05"]), windows.rows_of(["P06"])  # P06 was made without EDA
    assert np.isnan(fitted.members.probabilities(no_eda)[1]).all()
    assert np.isfinite(fitted.members.probabilities(no_eda)[0]).all()
    shares = np.bincount(windows.only.values[asked.fitting]) / len(asked.fitting)
    assert np.allclose(fitted.predict(nothing), shares)
    assert np.allclose(fitted.predict(no_eda).sum(axis=1), 1)


def test_a_member_reads_its_own_group_alone(made: ModuleType) -> None:
    recordings = made.study(5)
    before = fit_members(request(made, recordings))
    for held in recordings:
        held.windows.features[:, 1:] += 5 * np.arange(len(held.windows))[:, None] % 7
    after = fit_members(request(made, recordings))
    rows = np.arange(20)
    assert np.array_equal(before.probabilities(rows)[0], after.probabilities(rows)[0])
    assert not np.allclose(before.probabilities(rows)[1], after.probabilities(rows)[1])


def test_the_second_level_of_stacking_never_sees_a_member_that_was_fitted_on_the_same_subject(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[set[str], set[str]]] = []

    def watched(asked: FitRequest):
        members = fit_members(asked)
        fitted_on = set(asked.fitting_subjects)

        class Watched:
            def __getattr__(self, name: str):
                return getattr(members, name)

            def probabilities(self, rows):
                seen.append((fitted_on, {str(s) for s in asked.inputs.windows.subject[rows]}))
                return members.probabilities(rows)

        return Watched()

    monkeypatch.setattr(late_fusion, "fit_members", watched)
    fit_stacking(request(made, made.study(6)))
    assert all(not fitted_on & asked for fitted_on, asked in seen)
    assert set().union(*(asked for _, asked in seen)) == set(FOUR)
    assert set().union(*(fitted_on for fitted_on, _ in seen)) == set(FOUR)


def test_inner_folds_are_everyone_once() -> None:
    folds = inner_folds(tuple(f"P{i:02d}" for i in range(13)), seed=1)
    assert sorted(s for fold in folds for s in fold) == [f"P{i:02d}" for i in range(13)]
    assert len(folds) == 5


def test_a_member_that_abstains_reads_as_undecided_on_the_second_level() -> None:
    table = second_level_table(answers([0.8, np.nan], [0.5, 0.5]))
    assert table.shape == (2, 4)
    assert table[0, :2] == pytest.approx([np.log(4) / 2, -np.log(4) / 2])
    assert np.allclose(table[1], 0)


@pytest.mark.parametrize("fit", [fit_stacking, fit_bagging, fit_lda, fit_by_rule(probability_mean)])
def test_a_planted_effect_is_found_in_a_subject_never_seen(made: ModuleType, fit) -> None:
    asked = request(made, made.study(6))
    rows = asked.inputs.windows.rows_of(["P05"])
    found = fit(asked).predict(rows)
    assert np.allclose(found.sum(axis=1), 1)
    assert np.mean(found.argmax(axis=1) == asked.inputs.windows.only.values[rows]) > 0.75


def test_lda_equals_scikit_learns_own_on_the_same_table(made: ModuleType) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    asked = request(made, made.study(4)[:3] + made.study(5)[3:4])
    fitted = fit_lda(asked)
    rows, windows = asked.fitting, asked.inputs.windows
    held = fitted.values[rows]
    assert np.isfinite(held).all()
    scaled = (held - held.mean(axis=0)) / held.std(axis=0)
    own = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
    want = own.fit(scaled, windows.only.values[rows]).predict_proba(scaled)
    assert np.allclose(fitted.predict(rows), want, atol=1e-9)


def test_a_bag_is_the_mean_of_its_trees_and_a_class_unknown_to_a_tree_counts_as_0() -> None:
    class Tree:
        def __init__(self, classes: list[int], answer: list[float]) -> None:
            self.classes_, self.answer = np.array(classes), answer

        def predict_proba(self, values: np.ndarray) -> np.ndarray:
            return np.tile(self.answer, (len(values), 1))

    bag = Bag((Tree([0, 1], [0.2, 0.8]), Tree([1], [1.0])), np.array([0, 1]))
    assert np.allclose(bag.predict_proba(np.zeros((3, 1))), [[0.1, 0.9]] * 3)


def test_another_seed_bags_other_subjects(made: ModuleType) -> None:
    asked = request(made, made.study(5, effect=0.2))
    rows = asked.fitting
    one, again, other = (fit_bagging(replace(asked, seed=s)).predict(rows) for s in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_motion_only_reads_motion_and_guesses_where_there_is_none(made: ModuleType) -> None:
    assert isinstance(fit_motion(request(made, made.study(5))), FittedDummy)
    asked = request(made, made.study(5))
    names = ("motion/activity_mean", *made.FEATURES[1:])
    moving = replace(asked, inputs=replace(asked.inputs, windows=replace(asked.inputs.windows, feature_names=names)))
    assert fit_motion(moving).values.shape[1] == 1


def test_quality_only_sees_quality_by_modality_and_absence(made: ModuleType) -> None:
    recordings = made.study(6)
    for held in recordings:
        held.windows.quality[held.windows.label == "stroop"] = 0.5
    asked = request(made, recordings)
    windows = asked.inputs.windows
    table = quality_by_modality(windows)
    assert np.isnan(table[windows.rows_of(["P06"])]).all(axis=0).sum() == table.shape[1] - 1
    rows = windows.rows_of(["P05"])
    assert np.mean(fit_quality(asked).predict(rows).argmax(axis=1) == windows.only.values[rows]) == 1.0
