"""A whole cross-validation: resumed equals uninterrupted, and nothing of a test subject reaches its model."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.baselines.catalogue import MODELS
from biopercept.data.normalisation import MODES, NormalisationSettings
from biopercept.errors import BusyError, SettingsError, StudyError
from biopercept.evaluation import cross_validation
from biopercept.evaluation.cross_validation import clear_results, cross_validate
from biopercept.evaluation.fold_fits import fit_fold, fit_together
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.evaluation.scoring import write_scores
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.files import only_writer
from biopercept.model.settings import PerceiverSettings
from biopercept.store.reading import open_store
from biopercept.tasks import Task
from biopercept.training import fitting
from biopercept.training.fitting import NetworkFitter
from biopercept.training.settings import FitSettings, TrainingSettings

SMALL = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=2, batch_size=32, learning_rate=3e-3),
)


def request(store: Path, model: str = "logistic", **changes: object) -> EvaluationRequest:
    evaluation = EvaluationSettings(split="k-fold", n_folds=3, n_bootstrap=200)
    return EvaluationRequest(store, model, fit=SMALL, evaluation=evaluation, **changes)


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(6))


def without_times(folder: Path) -> dict[str, object]:
    scores = json.loads((folder / "scores.json").read_text())
    del scores["seconds"]
    tables = {name: (folder / name).read_text() for name in ("scores.csv", "predictions.csv", "folds.json")}
    return {"scores": scores, **tables}


@pytest.mark.parametrize("model", list(MODELS))
def test_every_model_writes_the_files_of_the_interface(store: Path, tmp_path: Path, model: str) -> None:
    scores = cross_validate(request(store, model), tmp_path / "cv", config_text="windows: {}\n")
    assert {p.name for p in (tmp_path / "cv").iterdir()} >= {
        "scores.json", "scores.csv", "predictions.csv", "folds.json", "config.yaml", "log.jsonl",
    }  # fmt: skip
    assert (scores["n_subjects"], scores["n_folds"], scores["model"]) == (6, 3, model)
    with (tmp_path / "cv" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == scores["n_windows"]
    is_network = model in list(MODELS)[: list(MODELS).index("majority-vote")]
    assert scores["parameters"] > 0
    assert (scores["operations_per_window"] or 0) > 0 if is_network else scores["operations_per_window"] is None
    assert all(abs(float(r["probability_rest"]) + float(r["probability_stress"]) - 1) < 2e-6 for r in rows)


def test_models_of_physiology_find_the_planted_effect_and_the_dummy_does_not(store: Path, tmp_path: Path) -> None:
    found = {
        m: cross_validate(request(store, m), tmp_path / m)["balanced_accuracy"]["mean"] for m in ("logistic", "dummy")
    }
    assert found["logistic"] > 0.8
    assert found["dummy"] == 0.5


def test_a_run_killed_between_folds_goes_on_and_ends_the_same(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(store, "perceiver-io", device="cpu")  # on CUDA all folds would be fitted at once
    cross_validate(asked, tmp_path / "straight")
    fits = []

    def failing(plan, folds, n_jobs):
        for fold in folds:
            if len(fits) == 2:
                raise KeyboardInterrupt
            fits.append(fold.name)
            yield fold, fit_fold(plan, fold)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(cross_validation, "fit_folds", failing)
        cross_validate(asked, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "scores.json").exists()
    told = []
    cross_validate(asked, tmp_path / "stopped", on_fold=lambda f, was, n: told.append(was))
    assert told == [True, True, False]
    assert without_times(tmp_path / "stopped") == without_times(tmp_path / "straight")


def test_the_number_of_jobs_changes_nothing(store: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        cross_validate(request(store, "perceiver-io"), tmp_path / str(jobs), n_jobs=jobs)
    assert without_times(tmp_path / "1") == without_times(tmp_path / "2")


# Every model under the default normalisation; one of each kind of input under every other.
CASES = [(model, "causal") for model in MODELS]
CASES += [(model, mode) for model in ("perceiver-io", "logistic", "boosting") for mode in MODES if mode != "causal"]


@pytest.mark.parametrize(("model", "mode"), CASES)
def test_a_test_subjects_future_and_labels_never_change_what_another_subject_is_told(
    made: ModuleType, tmp_path: Path, model: str, mode: str
) -> None:
    """Subjects of one test fold get the same answers whatever the data and labels of another in the same fold."""
    recordings = made.study(6)
    settings = {
        "normalisation": NormalisationSettings(mode=mode, reference_seconds=30.0),
        "is_normalisation_chosen": True,
    }
    plain = made.store(tmp_path / "plain.h5", recordings)
    with open_store(plain) as opened:
        plan = plan_evaluation(opened, request(plain, model, **settings))
        fold = plan.folds[0]
        before = fit_fold(plan, fold)
        kept = plan.windows.subject[before.rows] == fold.test[0]
    strange = made.recording(fold.test[1], seed=99, offset=300.0)
    strange.windows.label[strange.windows.is_labelled] = "stroop"
    changed = made.store(tmp_path / "changed.h5", [strange if r.subject == fold.test[1] else r for r in recordings])
    with open_store(changed) as opened:
        plan = plan_evaluation(opened, request(changed, model, **settings))
        assert plan.folds[0] == fold
        after = fit_fold(plan, fold)
        kept_after = plan.windows.subject[after.rows] == fold.test[0]
    assert np.array_equal(before.probabilities[kept], after.probabilities[kept_after])


def test_a_folder_of_another_run_is_refused_with_what_differs_and_overwrite_starts_anew(
    store: Path, tmp_path: Path
) -> None:
    cross_validate(request(store), tmp_path / "cv")
    with pytest.raises(SettingsError, match="holds a run with another seed; choose another output"):
        cross_validate(request(store, seed=1), tmp_path / "cv")
    clear_results(tmp_path / "cv")
    assert cross_validate(request(store, seed=1), tmp_path / "cv")["seed"] == 1


def test_overwrite_removes_results_and_nothing_else(store: Path, tmp_path: Path) -> None:
    cross_validate(request(store), tmp_path / "cv")
    (tmp_path / "cv" / "my-notes.txt").write_text("keep me")
    clear_results(tmp_path / "cv")
    assert [p.name for p in (tmp_path / "cv").iterdir()] == ["my-notes.txt"]


def test_a_label_that_is_the_file_is_scored_with_global_normalisation_and_says_so(
    made: ModuleType, tmp_path: Path
) -> None:
    task = Task("stress", classes=dict(made.TASK.classes), ignore=("break",), label_is_file=True)
    path = made.store(tmp_path / "file.h5", made.study(5), task=task)
    scores = cross_validate(request(path), tmp_path / "cv")
    assert scores["normalisation"] == "global"
    assert any("normalisation was set to global" in w for w in scores["warnings"])
    chosen = request(path, normalisation=NormalisationSettings("causal"), is_normalisation_chosen=True)
    assert any(w.startswith("LEAK: causal") for w in cross_validate(chosen, tmp_path / "leak")["warnings"])
    over_sessions = NormalisationSettings("causal", scope="session")
    scores = cross_validate(request(path, normalisation=over_sessions), tmp_path / "session")
    assert (scores["normalisation"], scores["normalisation_scope"]) == ("causal", "session")
    assert any("drift over the session can pass for the label" in w for w in scores["warnings"])
    assert not any(w.startswith("LEAK") for w in scores["warnings"])


def test_transductive_normalisation_stamps_the_result(store: Path, tmp_path: Path) -> None:
    asked = request(store, normalisation=NormalisationSettings("recording"), is_normalisation_chosen=True)
    scores = cross_validate(asked, tmp_path / "cv")
    assert scores["transductive"] is True
    assert any(w.startswith("transductive") for w in scores["warnings"])


def test_a_class_of_one_subject_is_refused_before_training(made: ModuleType, tmp_path: Path) -> None:
    recordings = made.study(5)
    for held in recordings[1:]:
        held.windows.label[held.windows.label == "stroop"] = "break"
    path = made.store(tmp_path / "one.h5", recordings)
    with pytest.raises(SettingsError, match=r"class 'stress' has windows of P01 only; each class needs at least 2"):
        cross_validate(request(path), tmp_path / "cv")


def test_unknown_task_model_and_subject_are_refused_with_what_there_is(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"task 'joy' is not in study 'made'; it has: stress"):
        cross_validate(request(store, task="joy"), tmp_path / "a")
    with pytest.raises(SettingsError, match=r"model is 'svm'; allowed are perceiver-io, perceiver, transformer, "):
        cross_validate(request(store, "svm"), tmp_path / "b")
    with pytest.raises(StudyError, match=r"no recording of subject P77; there are: P01, P02"):
        cross_validate(request(store, subjects=("P01", "P77")), tmp_path / "c")


def test_a_damaged_set_of_folds_is_never_scored_as_a_whole_study(store: Path, tmp_path: Path) -> None:
    cross_validate(request(store), tmp_path / "cv")
    folds = tmp_path / "cv" / "folds"
    shutil.copy(folds / "001.json", folds / "002.json")
    with pytest.raises(StudyError, match=r"was tested in folds"):
        cross_validate(request(store), tmp_path / "cv")


def test_a_changed_number_in_a_finished_fold_is_no_result(store: Path, tmp_path: Path) -> None:
    cross_validate(request(store), tmp_path / "cv")
    file = tmp_path / "cv" / "folds" / "002.json"
    whole = json.loads(file.read_text())
    whole["probabilities"][0][0] += 0.01
    file.write_text(json.dumps(whole))
    with pytest.raises(SettingsError, match=r"002\.json is damaged; delete it and run the same command again"):
        cross_validate(request(store), tmp_path / "cv")
    del whole["sha256"]  # as an older version wrote it
    file.write_text(json.dumps(whole))
    cross_validate(request(store), tmp_path / "cv")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"rows": [1]}'])
def test_a_fold_file_cut_short_is_named_with_what_to_do(store: Path, tmp_path: Path, content: str) -> None:
    cross_validate(request(store), tmp_path / "cv")
    (tmp_path / "cv" / "folds" / "002.json").write_text(content)
    with pytest.raises(SettingsError, match=r"002\.json is damaged; delete it and run the same command again"):
        cross_validate(request(store), tmp_path / "cv")


def test_overwrite_removes_nothing_until_the_run_can_begin(store: Path, tmp_path: Path) -> None:
    output = tmp_path / "cv"
    cross_validate(request(store), output)
    before = without_times(output)
    for wrong in (request(store, "svm"), request(store, task="joy"), request(store, device="abacus")):
        with pytest.raises((SettingsError, StudyError)):
            cross_validate(wrong, output, overwrite=True)
    with only_writer(output), pytest.raises(BusyError):
        cross_validate(request(store, seed=1), output, overwrite=True)
    assert without_times(output) == before
    assert cross_validate(request(store, seed=1), output, overwrite=True)["seed"] == 1


def test_a_folder_of_other_things_and_a_file_are_refused_as_output(store: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    with pytest.raises(SettingsError, match=r"mine is not empty and holds no cross-validation; choose another output"):
        cross_validate(request(store), tmp_path / "mine")
    with pytest.raises(SettingsError, match=r"thesis\.txt is a file; choose a folder"):
        cross_validate(request(store), tmp_path / "mine" / "thesis.txt", overwrite=True)
    assert [p.name for p in (tmp_path / "mine").iterdir() if not p.name.startswith(".")] == ["thesis.txt"]


def test_the_folder_one_stands_in_can_be_the_output(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cross_validate(request(store.resolve()), Path())
    assert (tmp_path / "here" / "scores.json").is_file()


def test_a_fold_that_could_not_learn_a_class_is_refused_before_training(made: ModuleType, tmp_path: Path) -> None:
    recordings = made.study(5)
    for held in recordings[2:]:
        held.windows.label[held.windows.label == "stroop"] = "break"
    path = made.store(tmp_path / "two.h5", recordings)
    # With this seed the fold that tests one of the two sets the other aside for early stopping.
    asked = request(path, subjects=("P01", "P02", "P03"), seed=1)
    with pytest.raises(SettingsError, match=r"fold .* has no training subject with class 'stress'; use --split"):
        cross_validate(asked, tmp_path / "cv")
    assert not (tmp_path / "cv").exists()


def test_chance_of_the_area_under_the_curve_is_a_half_however_many_classes(made: ModuleType, tmp_path: Path) -> None:
    task = Task("stage", classes={name: (name,) for name in ("baseline", "stroop", "break")})
    path = made.store(tmp_path / "three.h5", made.study(5), task=task)
    with open_store(path) as opened:
        plan = plan_evaluation(opened, request(path, "dummy"))
        results = [fit_fold(plan, fold) for fold in plan.folds]
        for result in results:
            wrong = np.eye(3)[(plan.windows.only.values[result.rows] + 1) % 3]
            wrong[np.arange(len(wrong)) % 3 > 0] = 1 / 3
            result.probabilities[:] = 0.2 + 0.4 * wrong / wrong.sum(axis=1, keepdims=True)
        auroc = write_scores(plan, results, tmp_path)["auroc"]
    assert 1 / 3 < auroc["mean"] < 0.5
    assert auroc["subjects_below_chance"] == 5


def stacked(store: Path, stack_size: int = 2, **changes: object) -> EvaluationRequest:
    evaluation = EvaluationSettings("k-fold", 3, n_bootstrap=200, folds_at_once="stacked", stack_size=stack_size)
    return EvaluationRequest(store, "perceiver-io", fit=SMALL, evaluation=replace(evaluation, **changes))


def test_stacked_folds_score_as_single_ones_and_name_another_run(store: Path, tmp_path: Path) -> None:
    asked = replace(request(store, "perceiver-io"), evaluation=EvaluationSettings("k-fold", 3, 2, 200))
    one = cross_validate(asked, tmp_path / "one")
    many = cross_validate(stacked(store, n_seeds=2, stack_size=4), tmp_path / "many")
    with (tmp_path / "one" / "predictions.csv").open() as a, (tmp_path / "many" / "predictions.csv").open() as b:
        for row, same in zip(csv.DictReader(a), csv.DictReader(b), strict=True):
            assert abs(float(row["probability_stress"]) - float(same["probability_stress"])) < 1e-4
    assert (one["parameters"], one["operations_per_window"]) == (many["parameters"], many["operations_per_window"])
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "many")]
    assert [json.loads(line)["repetition"] for line in logs[0]] == [json.loads(line)["repetition"] for line in logs[1]]
    with pytest.raises(SettingsError, match="holds a run with another"):
        cross_validate(asked, tmp_path / "many")


def test_stacks_cut_short_go_on_to_the_same_bytes_whatever_the_number_of_jobs(store: Path, tmp_path: Path) -> None:
    cross_validate(stacked(store), tmp_path / "straight")
    shutil.copytree(tmp_path / "straight", tmp_path / "cut")
    for name in ("folds/002.json", "folds/003.json", "scores.json"):
        (tmp_path / "cut" / name).unlink()
    told = []
    cross_validate(stacked(store), tmp_path / "cut", n_jobs=2, on_fold=lambda f, was, n: told.append(was))
    assert told == [True, False, False]
    assert without_times(tmp_path / "cut") == without_times(tmp_path / "straight")


def test_networks_too_many_for_the_device_are_fitted_fewer_at_once_and_that_is_said(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, sizes = fitting.fit_stacked, []

    def small(requests: Sequence[object], *others: object, **more: object) -> object:
        sizes.append(len(requests))
        if len(requests) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(requests, *others, **more)

    with open_store(store) as opened:
        plan = plan_evaluation(opened, stacked(store))
        at_once = fit_together(plan, plan.folds[:2])
        monkeypatch.setattr(fitting, "fit_stacked", small)
        with pytest.warns(UserWarning, match="not the memory for networks of 2 folds at once: 1 at once"):
            fewer = fit_together(plan, plan.folds[:2])
        assert sizes == [2, 1, 1]
        for one, other in zip(at_once, fewer, strict=True):
            assert np.allclose(one.probabilities, other.probabilities, rtol=0, atol=1e-4)
        monkeypatch.setattr(fitting, "fit_stacked", lambda *_, **__: small([0, 0]))
        with pytest.warns(UserWarning, match="at once: each repetition at once"):
            alone = fit_together(plan, plan.folds[:1])
        assert np.allclose(alone[0].probabilities, at_once[0].probabilities, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "model", [name for name, fitter in MODELS.items() if isinstance(fitter, NetworkFitter) and fitter.can_stack]
)
def test_every_model_that_says_so_can_be_stacked(store: Path, model: str) -> None:
    with open_store(store) as opened:
        plan = plan_evaluation(opened, replace(stacked(store), model=model))
        both = zip(plan.folds[:2], fit_together(plan, plan.folds[:2]), strict=True)
        for fold, found in both:
            assert np.allclose(found.probabilities, fit_fold(plan, fold).probabilities, rtol=0, atol=1e-4)
