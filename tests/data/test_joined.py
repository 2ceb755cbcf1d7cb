"""Several stores at once: each study tested by models of the others, what one lacks is missing, people kept apart."""

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
from biopercept.model.settings import PerceiverSettings
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


@pytest.mark.parametrize("model", ["perceiver-io", "logistic", "lstm", "bagging", "stacking"])
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
    assert [w for w in scores["warnings"] if "lacks" in w] == [
        "study alpha lacks heart/extra, which others have: missing there, as if not worn",
        "study beta lacks eda/phasic_sd, which others have: missing there, as if not worn",
    ]
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
        assert plan.windows.feature_names == (*made.FEATURES, "heart/extra")
        single = EvaluationRequest(stores[1], "logistic", fit=SMALL)
        alone = plan_evaluation(second, single).windows
        own = plan.windows.rows_of([s for s in plan.windows.subjects if s.startswith("beta/")])
        features = plan.windows.raw_features()
        assert np.array_equal(features[own][:, [0, 1, 3]], alone.raw_features()[:, [1, 0, 2]])
        others = plan.windows.rows_of([s for s in plan.windows.subjects if s.startswith("alpha/")])
        assert np.isnan(features[own][:, 2]).all()
        assert np.isnan(features[others][:, 3]).all()
        assert np.isfinite(features[plan.windows.rows_of(["alpha/P01"])][:, :3]).all()
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
        "the stores have no task of one name: alpha has stress; delta has joy; name the task alike in each "
        "study.yaml, or give several with --task NAME,NAME"
    )
    long = made.store(tmp_path / "e.h5", made.study(3), name="eps", length=30.0)
    assert refusal(stores[0], long) == (
        "alpha has windows of 20 s every 10 s, eps of 30 s every 10 s; prepare them alike"
    )
    assert refusal(stores[0], joy, task="stress") == (
        "study delta has no task 'stress'; it has: joy; name it with --task, or leave it out"
    )
    hearts = [made.recording(f"P{i}", seed=3, missing=("EDA", "tonic")) for i in range(1, 4)]
    skins = [made.recording(f"P{i}", seed=4, missing=("heart_rate",)) for i in range(1, 4)]
    strangers = [made.store(tmp_path / f"{n}.h5", r, name=n) for n, r in (("heart", hearts), ("skin", skins))]
    assert refusal(*strangers) == (
        "study heart has only heart_rate, of which the other studies have nothing: their models could not read it; "
        "leave its store out"
    )
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


LEVELS = Task("level", classes={"low": ("baseline",), "high": ("stroop",)}, ignore=("break",))


@pytest.fixture(scope="module")
def with_second_task(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two studies of one task, ``stress``; the second has another, ``level``, before it."""
    folder = tmp_path_factory.mktemp("tasks")
    first = made.store(folder / "a.h5", made.study(4), name="alpha")
    return first, made.store(folder / "b.h5", made.study(4, seed=1), name="beta", task=(LEVELS, made.TASK))


def test_one_network_learns_tasks_that_not_every_study_has(with_second_task: tuple[Path, Path], tmp_path: Path) -> None:
    from biopercept.evaluation.cross_validation import train_on_store
    from biopercept.training.checkpoint import load_model, load_start

    asked = request(with_second_task, "perceiver-io", task="stress,level")
    with open_studies(*with_second_task) as joined:
        windows = plan_evaluation(joined, asked, needs_folds=False).windows
    is_beta = np.char.startswith(windows.subject, "beta/")
    assert windows.targets["stress"].is_known.all()
    assert np.array_equal(windows.targets["level"].is_known, is_beta)
    train_on_store(asked, tmp_path / "model")
    model, start = load_model(tmp_path / "model"), load_start(tmp_path / "model")
    assert [task.name for task in model.tasks] == ["stress", "level"]
    assert [(row["study"], sorted(row["subjects"])) for row in start.studies] == [
        (study, ["P01", "P02", "P03", "P04"]) for study in ("alpha", "beta")
    ]
    with open_store(with_second_task[1]) as second:
        assert [row["store"] for row in start.studies][1] == second.fingerprint()
        assert start.overlap("beta", "", ["P02", "P09"]) == ("P02",)
    assert "- beta: 4 people" in (tmp_path / "model" / "card.md").read_text()
    with pytest.raises(SettingsError, match="give the one store that holds them"):
        train_on_store(replace(asked, subjects=("beta/P01",)), tmp_path / "own", is_personal=True)


def test_the_command_trains_on_stores_and_says_what_each_lacks(
    stores: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from biopercept.training.checkpoint import load_model

    words = ("train", *stores, "-o", tmp_path / "model", "--set", "training.n_epochs=1", "--set", "model.width=16")
    with pytest.raises(SystemExit) as leaving:
        main([str(w) for w in words])
    assert not leaving.value.code
    assert "warning: study beta lacks eda/phasic_sd" in capsys.readouterr().err
    model = load_model(tmp_path / "model")
    assert {s.partition("/")[0] for s in model.training["subjects"]} == {"alpha", "beta"}
    assert model.feature_names[-1] == "heart/extra"


def test_tasks_of_some_studies_are_scored_where_they_are(with_second_task: tuple[Path, Path], tmp_path: Path) -> None:
    by_subject = EvaluationSettings("k-fold", n_folds=4, n_bootstrap=200)
    asked = request(with_second_task, "perceiver-io", task="stress,level", evaluation=by_subject)
    scores = cross_validate(asked, tmp_path / "cv")["tasks"]
    assert (scores["stress"]["n_subjects"], scores["level"]["n_subjects"]) == (8, 4)
    assert (list(scores["stress"]["studies"]), list(scores["level"]["studies"])) == (["alpha", "beta"], ["beta"])
    with pytest.raises(SettingsError, match="fold beta has no training subject with class 'low'"):
        cross_validate(replace(asked, evaluation=BY_STUDY), tmp_path / "by_study")


def test_without_a_name_the_first_task_is_taken_and_said(with_second_task: tuple[Path, Path]) -> None:
    alone = EvaluationRequest(with_second_task[1], "logistic", fit=SMALL)
    with open_store(with_second_task[1]) as store, open_studies(*with_second_task) as joined:
        plan, of_both = plan_evaluation(store, alone), plan_evaluation(joined, request(with_second_task))
        named = plan_evaluation(store, replace(alone, task="level"))
    assert (plan.task.name, of_both.task.name) == ("level", "stress")  # of several the first that all have
    assert "no task was named, so 'level' was taken; others: stress (--task)" in plan.warnings
    assert "no task was named, so 'stress' was taken; others: level (--task)" in of_both.warnings
    assert not any("no task was named" in warning for warning in named.warnings)


def test_a_plan_of_several_studies_asks_each_what_its_files_hold(made: ModuleType, tmp_path: Path) -> None:
    """Where one study's label is the file and its people have several in a session, all are scaled by sessions."""
    from biopercept.config.loading import load_config_for

    def of_files(name: str, n_files: int) -> Path:
        recordings = []
        for one in made.study(4, seed=2):
            for place, label in list(enumerate(("baseline", "stroop")))[:n_files]:
                half = replace(one, recording=label, place=place)
                half.windows.label[half.windows.is_labelled] = label
                recordings.append(replace(half, windows=replace(half.windows, label=half.windows.label.copy())))
        return Path(
            made.store(tmp_path / f"{name}.h5", recordings, name=name, task=replace(made.TASK, label_is_file=True))
        )

    twice = [replace(one, recording=f"part{place}", place=place) for one in made.study(6) for place in (0, 1)]
    plain = made.store(tmp_path / "plain.h5", twice, name="plain")  # their two files count for nobody else's
    for n_files, expected in ((2, ("causal", "session")), (1, ("global", "recording"))):
        config, _ = load_config_for([plain, of_files(f"files{n_files}", n_files)], purposes=[])
        assert (config.normalisation.mode, config.normalisation.scope) == expected
