"""Folds of an earlier run taken again: the same for another model, kept when people come and go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from biopercept.data.splits import make_folds
from biopercept.errors import SettingsError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.folds import given_folds, given_settings
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings

PEOPLE = tuple(f"P{i:02d}" for i in range(1, 10))
STRATIFIED = EvaluationSettings("k-fold", 3, n_bootstrap=200, stratify=True)


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(9))


def written(path: Path, split: str = "k-fold", people: tuple[str, ...] = PEOPLE, share: float = 1.0) -> Path:
    folds = make_folds(people, split, n_folds=4, seed=2, label_share=share)
    run = {"split": {"split": split, "n_folds": 4}, "seed": 2, "label_share": share}
    path.write_text(json.dumps({"schema": 1, "run": run, "folds": [fold.to_json() for fold in folds]}))
    return path


@pytest.mark.parametrize("split", ["subject", "k-fold"])
def test_the_same_people_get_the_same_folds(tmp_path: Path, split: str) -> None:
    path = written(tmp_path / "folds.json", split)
    for source in (path, tmp_path):
        folds, said = given_folds(source, PEOPLE, split=split, validation_fraction=0.15)
        assert (folds, said) == (make_folds(PEOPLE, split, n_folds=4, seed=2), ())


@pytest.mark.parametrize("split", ["subject", "k-fold"])
def test_people_who_come_are_dealt_as_the_earlier_run_would_have_and_nobody_else_moves(
    tmp_path: Path, split: str
) -> None:
    path = written(tmp_path / "folds.json", split, PEOPLE[:7])
    before = {fold.name: fold for fold in make_folds(PEOPLE[:7], split, n_folds=4, seed=2)}
    folds, said = given_folds(path, PEOPLE, split=split, validation_fraction=0.15)
    dealt = {s: fold.name for fold in make_folds(PEOPLE, split, n_folds=4, seed=2) for s in fold.test}
    assert {s: fold.name for fold in folds for s in fold.test} == dealt
    for fold in folds:
        if fold.name in before:
            was = before[fold.name]
            assert fold.validation == was.validation
            assert set(fold.training) == {*was.training, *PEOPLE[7:]} - set(fold.test)
        assert sorted((*fold.fitting, *fold.test)) == list(PEOPLE)
    assert said == ("folds of an earlier run: P08, P09 came and were dealt by identity",)


def test_people_who_went_leave_the_others_where_they_are(tmp_path: Path) -> None:
    path = written(tmp_path / "folds.json")
    left = PEOPLE[2:]
    folds, said = given_folds(path, left, split="k-fold", validation_fraction=0.15)
    before = {fold.name: fold for fold in make_folds(PEOPLE, "k-fold", n_folds=4, seed=2)}
    for fold in folds:
        was = before[fold.name]
        assert fold.test == tuple(s for s in was.test if s in left)
        if kept := tuple(s for s in was.validation if s in left):
            assert fold.validation == kept
        else:
            assert len(fold.validation) == 1
    assert said == ("folds of an earlier run: P01, P02 went",)


def test_who_comes_to_a_run_of_few_labels_comes_without_labels(tmp_path: Path) -> None:
    path = written(tmp_path / "folds.json", people=PEOPLE[:8], share=0.5)
    folds, _ = given_folds(path, PEOPLE, split="k-fold", validation_fraction=0.15, label_share=0.5)
    assert all("P09" in (*fold.unlabelled, *fold.test) for fold in folds)


@pytest.mark.parametrize("split", ["subject", "k-fold"])
def test_a_share_of_labels_is_drawn_from_folds_of_all_labels_as_the_earlier_run_would_have(
    tmp_path: Path, split: str
) -> None:
    path = written(tmp_path / "folds.json", split)
    for share in (0.3, 0.5):
        folds, said = given_folds(path, PEOPLE, split=split, validation_fraction=0.15, label_share=share)
        assert (folds, said) == (make_folds(PEOPLE, split, n_folds=4, seed=2, label_share=share), ())
        assert all(fold.unlabelled for fold in folds)


def test_a_run_on_given_folds_has_them_and_says_so(store: Path, tmp_path: Path) -> None:
    asked = EvaluationRequest(store, "dummy", evaluation=STRATIFIED, excluded=("P05",))
    cross_validate(asked, tmp_path / "first")
    again = replace(asked, model="clock-only", excluded=(), folds_from=tmp_path / "first")
    scores = cross_validate(again, tmp_path / "second")
    assert any(w.startswith("folds of an earlier run: P05 came and was dealt") for w in scores["warnings"])
    first, second = (
        {f["name"]: set(f["test"]) for f in json.loads((tmp_path / name / "folds.json").read_text())["folds"]}
        for name in ("first", "second")
    )
    assert {name: held - {"P05"} for name, held in second.items()} == first
    assert given_settings(tmp_path / "first") == {
        "evaluation.split": "k-fold",
        "evaluation.n_folds": 3,
        "evaluation.stratify": True,
    }


def test_folds_that_cannot_be_taken_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "folds.json")
    with pytest.raises(SettingsError) as refused:
        given_folds(path, PEOPLE, split="subject", validation_fraction=0.1)
    assert str(refused.value) == (
        f"{path} holds folds of split k-fold, and split is subject here; give the same to take them"
    )
    few = written(tmp_path / "few.json", share=0.5)
    for share in (0.25, 1.0):
        with pytest.raises(SettingsError) as refused:
            given_folds(few, PEOPLE, split="k-fold", validation_fraction=0.1, label_share=share)
        assert str(refused.value) == (
            f"{few} holds folds of label_share 0.5, and label_share is {share} here; give the same to take them"
        )
    (tmp_path / "other.json").write_text("[]")
    for wrong in ("other.json", "absent"):
        with pytest.raises(SettingsError, match="holds no folds of a cross-validation; --folds-from takes its result"):
            given_folds(tmp_path / wrong, PEOPLE, split="k-fold", validation_fraction=0.1)
    document = json.loads(path.read_text())
    document["folds"][0]["test"].append("P01")
    document["folds"][1]["test"].append("P01")
    for fold in document["folds"]:
        for side in ("training", "validation"):
            fold[side] = [s for s in fold[side] if s != "P01"]
        fold["test"] = sorted(set(fold["test"]))
    path.write_text(json.dumps(document))
    with pytest.raises(SettingsError, match=r"do not test every subject once in at least two folds; deal them anew"):
        given_folds(path, PEOPLE, split="k-fold", validation_fraction=0.1)
    document["run"]["split"]["split"] = "time"
    path.write_text(json.dumps(document))
    with pytest.raises(SettingsError, match="holds folds of split time; --folds-from takes those of subject, k-fold"):
        given_folds(path, PEOPLE, split="time", validation_fraction=0.1)


def test_stratify_is_for_k_fold_and_classes(store: Path, made: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        EvaluationSettings("subject", stratify=True)
    assert str(refused.value) == "evaluation.stratify balances the folds of k-fold; evaluation.split is 'subject'"
    path = made.store(tmp_path / "n.h5", made.numbered(made.study(4)), task=made.LOAD)
    with pytest.raises(SettingsError, match="balances classes, and task 'load' predicts a number"):
        cross_validate(EvaluationRequest(path, "dummy", evaluation=STRATIFIED), tmp_path / "cv")
    with pytest.raises(SettingsError, match="12 folds for 9 subjects; allowed are 2 to 9"):
        many = replace(STRATIFIED, n_folds=12)
        cross_validate(EvaluationRequest(store, "dummy", evaluation=many), tmp_path / "cv")
