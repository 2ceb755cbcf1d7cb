"""Several stores at once: each study tested by models of the others, people kept apart, disagreements refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.cli.main import main
from biopercept.data.joined import JoinedStores, open_studies
from biopercept.errors import SettingsError, StudyError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.fold_fits import fit_fold
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.biosignals import PerceiverSettings
from biopercept.report.scores import methods_text, score_table
from biopercept.results.cross_validation import load_cross_validation
from biopercept.store.reading import open_store
from biopercept.tasks import Task
from biopercept.training.settings import FitSettings, TrainingSettings

SMALL = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=2, batch_size=32, learning_rate=3e-3),
)
BY_STUDY = EvaluationSettings("study", n_bootstrap=200)
OTHER_WORDS = Task("stress", classes={"stress": ("baseline",), "rest": ("stroop",)}, ignore=("break",))


@pytest.fixture(scope="module")
def stores(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two studies with the same ids; the second lacks a sensor, has its features in another order and one more."""
    folder = tmp_path_factory.mktemp("stores")
    poor = tuple(made.recording(f"P{i:02d}", seed=5, missing=("tonic",)) for i in range(1, 5))
    shuffled = []
    for held in poor:
        features = held.windows.features[:, [1, 0]]
        more = np.zeros((len(features), 1), dtype=np.float32)
        shuffled.append(replace(held, windows=replace(held.windows, features=np.hstack([features, more]))))
    first = made.store(folder / "a.h5", made.study(5), name="alpha")
    second = made.store(
        folder / "b.h5", shuffled, name="beta", features=(made.FEATURES[1], made.FEATURES[0], "heart/extra")
    )
    return first, second


def request(stores: tuple[Path, ...], model: str = "logistic", **changes: object) -> EvaluationRequest:
    asked = EvaluationRequest(stores[0], model, fit=SMALL, evaluation=BY_STUDY, more_stores=tuple(stores[1:]))
    return replace(asked, **changes)


@pytest.mark.parametrize("model", ["perceiver-io", "logistic", "lstm"])
def test_each_study_is_tested_once_by_models_of_the_others(
    stores: tuple[Path, Path], tmp_path: Path, model: str
) -> None:
    scores = cross_validate(request(stores, model), tmp_path / "cv", n_jobs=2 if model == "logistic" else 1)
    folds = json.loads((tmp_path / "cv" / "folds.json").read_text())["folds"]
    assert [fold["name"] for fold in folds] == ["alpha", "beta"]
    assert folds[1]["test"] == [f"beta/P{i:02d}" for i in range(1, 5)]
    assert sorted((*folds[1]["training"], *folds[1]["validation"])) == [f"alpha/P{i:02d}" for i in range(1, 6)]
    with (tmp_path / "cv" / "scores.csv").open() as stream:
        rows = {row["participant_id"]: row for row in csv.DictReader(stream)}
    assert len(rows) == 9
    assert rows["alpha/P01"]["fold"] == "alpha"
    for study, n in (("alpha", 5), ("beta", 4)):
        own = [float(r["balanced_accuracy"]) for s, r in rows.items() if s.startswith(study)]
        assert scores["studies"][study]["n_subjects"] == n
        assert scores["studies"][study]["balanced_accuracy"]["mean"] == pytest.approx(np.mean(own))
    assert "2 features that all studies have were used, 2 that some lack were not" in scores["warnings"]
    assert (scores["split"], scores["n_subjects"]) == ("study", 9)
    studies = load_cross_validation(tmp_path / "cv").studies
    assert [(name, study.n_subjects, study.balanced_accuracy.mean) for name, study in studies.items()] == [
        (study, n, scores["studies"][study]["balanced_accuracy"]["mean"]) for study, n in (("alpha", 5), ("beta", 4))
    ]
    if model == "logistic":
        assert scores["studies"]["beta"]["balanced_accuracy"]["mean"] > 0.7
        held = load_cross_validation(tmp_path / "cv")
        assert "leave one study out" in score_table([held]).rows[0]
        assert any(line.startswith("Every study was held out once and predicted") for line in methods_text(held))


def test_a_studys_name_may_hold_a_slash(made: ModuleType, tmp_path: Path) -> None:
    both = tuple(made.store(tmp_path / f"{n}.h5", made.study(n), name=name) for n, name in ((5, "lab/a"), (4, "lab/b")))
    scores = cross_validate(request(both), tmp_path / "cv")
    assert {study: held["n_subjects"] for study, held in scores["studies"].items()} == {"lab/a": 5, "lab/b": 4}
    more = (both[0], made.store(tmp_path / "more.h5", made.study(5), name="lab/b"))
    asked = request(more, folds_from=tmp_path / "cv")
    with open_studies(*more) as opened:
        folds = plan_evaluation(opened, asked).folds
    assert {fold.name: len(fold.test) for fold in folds} == {"lab/a": 5, "lab/b": 5}


def test_joined_rows_are_those_of_the_stores(made: ModuleType, stores: tuple[Path, Path]) -> None:
    with open_studies(*stores) as joined, open_store(stores[1]) as second:
        plan = plan_evaluation(joined, request(stores))
        assert plan.windows.feature_names == made.FEATURES[:2]
        single = EvaluationRequest(stores[1], "logistic", fit=SMALL)
        alone = plan_evaluation(second, single).windows
        own = plan.windows.rows_of([s for s in plan.windows.subjects if s.startswith("beta/")])
        assert np.array_equal(plan.windows.raw_features()[own], alone.raw_features()[:, [1, 0]])
        assert np.array_equal(plan.windows.only.values[own], alone.only.values)
        assert np.array_equal(plan.windows.onset[own], alone.onset)
        assert [s.partition("/")[2] for s in plan.windows.subject[own]] == alone.subject.tolist()
        keys = {plan.windows.recordings[i].key for i in plan.windows.recording[own]}
        assert keys == {f"beta/{r.key}" for r in alone.recordings}


def test_each_studys_labels_are_read_as_it_says_them(made: ModuleType, tmp_path: Path) -> None:
    plain = made.store(tmp_path / "a.h5", made.study(4), name="alpha")
    turned = made.store(
        tmp_path / "b.h5", made.study(4, seed=1), name="beta", task=replace(OTHER_WORDS, label_is_file=True)
    )
    with open_studies(plain, turned) as joined:
        plan = plan_evaluation(joined, request((plain, turned)))
    windows = plan.windows
    assert any("is constant within each file" in warning for warning in plan.warnings)
    assert windows.only.classes == ("rest", "stress")
    for study, word in (("alpha", "stroop"), ("beta", "baseline")):
        own = np.char.startswith(windows.subject, f"{study}/")
        assert set(windows.label[own & (windows.only.values == 1)]) == {word}


def test_nothing_of_the_study_tested_reaches_its_model(made: ModuleType, tmp_path: Path) -> None:
    first = made.store(tmp_path / "a.h5", made.study(4), name="alpha")
    told = {}
    for name, offset in (("plain", 0.0), ("strange", 300.0)):
        others = [made.recording(f"P{i:02d}", seed=7, offset=offset * (i > 1)) for i in range(1, 5)]
        if offset:
            for held in others[1:]:
                held.windows.label[held.windows.label == "baseline"] = "break"
                held.windows.label[np.flatnonzero(held.windows.label == "stroop")[:3]] = "baseline"
        second = made.store(tmp_path / f"{name}.h5", others, name="beta")
        for model in ("perceiver-io", "logistic", "boosting"):
            with open_studies(first, second) as joined:
                plan = plan_evaluation(joined, request((first, second), model))
                result = fit_fold(plan, plan.folds[1])
                own = plan.windows.subject[result.rows] == "beta/P01"
                told.setdefault(model, []).append(result.probabilities[own])
    for plain, strange in told.values():
        assert np.array_equal(plain, strange)


def test_leaving_one_subject_out_works_over_several_studies_too(stores: tuple[Path, Path], tmp_path: Path) -> None:
    asked = request(stores, "dummy", evaluation=EvaluationSettings("subject", n_bootstrap=200))
    assert cross_validate(asked, tmp_path / "cv")["n_folds"] == 9
    one = replace(asked, subjects=("alpha/P01", "alpha/P02", "beta/P01"))
    assert cross_validate(one, tmp_path / "few")["n_subjects"] == 3


def test_stores_that_cannot_be_joined_are_refused(made: ModuleType, stores: tuple[Path, Path], tmp_path: Path) -> None:
    def refusal(*paths: Path, **changes: object) -> str:
        with pytest.raises((StudyError, SettingsError)) as refused:
            cross_validate(request(paths, **changes), tmp_path / "cv")
        return str(refused.value)

    assert refusal(stores[0]) == (
        "--split study tests each study by models of the others; give at least two stores with labelled windows"
    )
    assert refusal(stores[0], stores[0]) == "2 stores are of study 'alpha'; give each study once"
    many = Task("stress", classes={"rest": ("baseline",), "stress": ("stroop",), "pause": ("break",)})
    other = made.store(tmp_path / "c.h5", made.study(3), name="gamma", task=many)
    assert refusal(stores[0], other) == (
        "task 'stress' is classification of rest, stress in study alpha and classification of rest, stress, pause in "
        "study gamma; its kind and classes must be the same in all stores"
    )
    joy = made.store(tmp_path / "d.h5", made.study(3), name="delta", task=replace(made.TASK, name="joy"))
    assert refusal(stores[0], joy) == (
        "the stores have no task of one name: alpha has stress; delta has joy; name the task alike in each study.yaml"
    )
    long = made.store(tmp_path / "e.h5", made.study(3), name="eps", length=30.0)
    assert refusal(stores[0], long) == (
        "alpha has windows of 20 s every 10 s, eps of 30 s every 10 s; prepare them alike"
    )
    bare = made.store(tmp_path / "f.h5", made.study(3), name="phi", features=("eda/a", "eda/b", "eda/c"))
    assert refusal(stores[0], bare) == "alpha and phi have no feature in common; prepare them with the same features"
    dense = replace(SMALL, training=replace(SMALL.training, dense_weight=0.5))
    assert "set it to 0 for several" in refusal(*stores, model="perceiver-io", fit=dense)


def test_weights_that_have_seen_a_study_are_known_by_study_and_id(stores: tuple[Path, Path]) -> None:
    from biopercept.evaluation.plan import seen_subjects
    from biopercept.training.checkpoint import StartingPoint

    with open_studies(*stores) as joined:
        assert isinstance(joined, JoinedStores)
        seen = [{"study": "beta", "store": "0", "subjects": ["P01", "P03"]}]
        start = StartingPoint.__new__(StartingPoint)
        object.__setattr__(start, "studies", seen)
        assert seen_subjects(joined, start, ["alpha/P01", "beta/P01", "beta/P02"]) == ("beta/P01",)


def test_the_command_takes_stores_and_folds(stores: tuple[Path, Path], tmp_path: Path) -> None:
    def run(*words: object) -> int:
        with pytest.raises(SystemExit) as leaving:
            main([str(w) for w in ("cross-validate", *stores, "--model", "dummy", "-q", *words)])
        return int(leaving.value.code or 0)

    assert run("-o", tmp_path / "a", "--split", "k-fold", "--folds", 3, "--stratify") == 0
    assert run("-o", tmp_path / "b", "--folds-from", tmp_path / "a") == 0
    folds = [json.loads((tmp_path / name / "folds.json").read_text()) for name in "ab"]
    assert folds[0]["folds"] == folds[1]["folds"]
    assert folds[1]["run"]["split"]["stratify"] is True
    assert run("-o", tmp_path / "c", "--folds-from", tmp_path / "a", "--split", "subject") == 2
    assert run("-o", tmp_path / "d", "--split", "study") == 0
    assert "stratify" not in json.loads((tmp_path / "d" / "folds.json").read_text())["run"]["split"]
