"""Folds dealt by identity in whole runs: who is added moves nobody, and who stands in is said."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest

from biopercept.audit.data import gather
from biopercept.audit.settings import AuditSettings
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.splits import make_folds, stand_ins
from biopercept.data.windows import labelled_windows
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.store.reading import open_store
from biopercept.training.engine import engine_for
from biopercept.training.fitting import inner_folds
from biopercept.training.loop import FitRequest
from biopercept.training.settings import FitSettings

EVERYBODY = tuple(f"P{i:02d}" for i in range(1, 10))
FIVE_FOLDS = EvaluationSettings(split="k-fold", n_folds=5, n_bootstrap=200)


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(9))


def fold_by_subject(folder: Path) -> dict[str, str]:
    folds = json.loads((folder / "folds.json").read_text())["folds"]
    return {subject: fold["name"] for fold in folds for subject in fold["test"]}


def with_an_empty_fold(n: int, n_folds: int) -> tuple[str, ...]:
    """Give subjects that do not reach every fold by their identity."""
    for chosen in combinations(EVERYBODY, n):
        if stand_ins(make_folds(chosen, "k-fold", n_folds=n_folds), n_folds, 0):
            return chosen
    raise AssertionError("every fold is always reached")


def test_whoever_is_left_out_of_a_run_moves_nobody(store: Path, tmp_path: Path) -> None:
    cross_validate(EvaluationRequest(store, "dummy", evaluation=FIVE_FOLDS), tmp_path / "all")
    fewer = EvaluationRequest(store, "dummy", evaluation=FIVE_FOLDS, excluded=("P01", "P02"))
    cross_validate(fewer, tmp_path / "fewer")
    whole = fold_by_subject(tmp_path / "all")
    assert sorted(whole) == list(EVERYBODY)
    assert fold_by_subject(tmp_path / "fewer") == {s: fold for s, fold in whole.items() if s not in ("P01", "P02")}


def test_scores_and_audits_have_the_folds_wished_for_and_say_who_stands_in(store: Path, tmp_path: Path) -> None:
    chosen = with_an_empty_fold(6, 5)
    request = EvaluationRequest(store, "dummy", evaluation=FIVE_FOLDS, subjects=chosen)
    scores = cross_validate(request, tmp_path / "cv")
    assert scores["n_folds"] == len(set(fold_by_subject(tmp_path / "cv").values())) == 5
    sentences = stand_ins(make_folds(chosen, "k-fold", n_folds=5), 5, 0)
    assert [w for w in scores["warnings"] if "stands in" in w] == list(sentences) != []
    with open_store(store) as opened:
        material = gather(opened, request, AuditSettings(n_folds=5))
    assert [w for w in material.plan.warnings if "stands in" in w] == list(sentences)
    whole = cross_validate(EvaluationRequest(store, "dummy", evaluation=FIVE_FOLDS), tmp_path / "all")
    assert not any("stands in" in w for w in whole["warnings"])


def fit_request(made: ModuleType, subjects: tuple[str, ...]) -> FitRequest:
    windows = labelled_windows(made.study(9), made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    inputs = WindowInputs(windows, NormalisationSettings(), made.STEP)
    rows = windows.rows_of(subjects)
    return FitRequest(inputs, rows, rows[:0], FitSettings(), engine_for("cpu"), 1)


def test_inner_folds_are_dealt_by_identity_and_of_few_subjects_are_never_one(made: ModuleType) -> None:
    whole = {s: f.name for f in inner_folds(fit_request(made, EVERYBODY), 2) for s in f.test}
    assert sorted(whole) == list(EVERYBODY)
    fewer = {s: f.name for f in inner_folds(fit_request(made, EVERYBODY[2:]), 2) for s in f.test}
    assert fewer == {s: whole[s] for s in EVERYBODY[2:]}
    together = tuple(s for s in EVERYBODY if whole[s] == "01-of-02")[:3]
    assert sorted(len(fold.test) for fold in inner_folds(fit_request(made, together), 2)) == [1, 2]
    outer = make_folds(EVERYBODY, "k-fold", n_folds=5)[0]
    assert len(inner_folds(fit_request(made, outer.fitting), 5)) == 5  # those of the other outer folds would be 4
