"""External validation: scores of a saved model are those of a fold that fitted it, and nobody it has seen is scored."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from biopercept.comparison.comparison import compare
from biopercept.data.normalisation import NormalisationSettings
from biopercept.errors import SettingsError, StudyError
from biopercept.evaluation.cross_validation import read_scores, train_on_store
from biopercept.evaluation.external import evaluate_store
from biopercept.evaluation.external_people import ExternalRequest
from biopercept.evaluation.fold_fits import fit_fold
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.inference.familiarity import NOT_KNOWN
from biopercept.inference.prediction import Ways, predict
from biopercept.inference.shift import log_odds_of
from biopercept.model.settings import PerceiverSettings
from biopercept.report.page import write_report
from biopercept.results.cross_validation import load_cross_validation, load_validation
from biopercept.store.reading import open_store
from biopercept.training.checkpoint import load_model, save_checkpoint
from biopercept.training.engine import engine_for, seed_for
from biopercept.training.settings import FitSettings, TrainingSettings

QUICK = EvaluationSettings(split="k-fold", n_folds=2, n_bootstrap=200, folds_at_once="single")
SMALL = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=3, batch_size=32, learning_rate=3e-3, validation_fraction=0.0),
)
TRAINED = ("P01", "P02", "P03", "P04")


def training(store: Path, **changes: Any) -> EvaluationRequest:
    return EvaluationRequest(store, fit=SMALL, evaluation=QUICK, **changes)


def scored(model: Path, store: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return evaluate_store(ExternalRequest(model, evaluation=QUICK, **changes), store, output)


@pytest.fixture(scope="module")
def folder(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a store of 8 people, a model of 4 of them, and a store of another study."""
    folder = tmp_path_factory.mktemp("external")
    made.store(folder / "made.h5", made.study(8))
    made.store(folder / "other.h5", made.study(6, seed=5), name="other")
    train_on_store(training(folder / "made.h5", subjects=TRAINED), folder / "model")
    return folder


def test_a_model_of_a_folds_people_scores_the_others_as_the_fold_does(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = folder / "made.h5"
    with open_store(store) as opened:
        plan = plan_evaluation(opened, training(store))
        fold = plan.folds[0]
        expected = fit_fold(plan, fold)
    monkeypatch.setattr("biopercept.training.final.seed_for", lambda seed, _: seed_for(seed, fold.name, 0))
    train_on_store(training(store, subjects=fold.training), tmp_path / "model")
    scored(tmp_path / "model", store, tmp_path / "out", subjects=fold.test)
    predictions = load_cross_validation(tmp_path / "out").predictions
    assert len(predictions.probabilities) == len(expected.rows) > 50
    np.testing.assert_allclose(predictions.probabilities, expected.probabilities, atol=2e-6)


def test_scores_are_those_of_scikit_learn_on_the_predictions(folder: Path, tmp_path: Path) -> None:
    document = scored(folder / "model", folder / "other.h5", tmp_path / "out")
    run = load_cross_validation(tmp_path / "out")
    subject = np.array([key[0] for key in run.predictions.keys])
    is_stress = np.array(run.predictions.label) == "stress"
    probability, answer = run.predictions.probabilities[:, 1], np.array(run.predictions.predicted) == "stress"
    assert document["study"] == "other"
    accuracy = {s: balanced_accuracy_score(is_stress[subject == s], answer[subject == s]) for s in set(subject)}
    assert len(accuracy) == document["n_subjects"] == 6
    assert document["balanced_accuracy"]["mean"] == pytest.approx(np.mean(list(accuracy.values())))
    assert document["auroc"]["pooled"] == pytest.approx(roc_auc_score(is_stress, probability), abs=1e-4)
    assert document["brier"] == pytest.approx(brier_score_loss(is_stress, probability), abs=1e-5)
    assert (document["split"], document["n_folds"]) == ("external", 1)
    weights = json.loads((folder / "model" / "model.json").read_text())["weights_sha256"]
    assert document["external"]["weights_sha256"] == weights
    assert [(part["study"], part["n_subjects"]) for part in document["external"]["fitted_on"]] == [("made", 4)]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "scores.json", "scores.csv", "predictions.csv", "folds.json", "config.yaml", "log.jsonl",
    }  # fmt: skip
    page = write_report(tmp_path / "out").read_text()
    assert "the model in folder model (weights" in page
    assert "1 external validation" in page and "1 cross-validation" not in page


def test_scores_of_a_saved_model_are_no_scores_for_the_card_of_another(folder: Path, tmp_path: Path) -> None:
    scored(folder / "model", folder / "other.h5", tmp_path / "out")
    with pytest.raises(
        StudyError, match="holds the scores of the saved model in folder model, not of the model to be trained"
    ):
        read_scores(tmp_path / "out")


def test_two_models_on_one_study_are_compared(folder: Path, tmp_path: Path) -> None:
    train_on_store(training(folder / "made.h5", subjects=TRAINED, seed=1), tmp_path / "second")
    for name, model in (("a", folder / "model"), ("b", tmp_path / "second")):
        scored(model, folder / "other.h5", tmp_path / name)
    compared = compare([tmp_path / "a", tmp_path / "b"], n_resamples=2000)
    assert (compared.split, compared.n_subjects) == ("external", 6)


def test_people_of_the_training_set_are_refused_or_flagged(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as fault:
        scored(folder / "model", folder / "made.h5", tmp_path / "out")
    assert str(fault.value) == (
        "the model in folder model was fitted to 4 of the 8 subjects to be scored: P01, P02, P03, P04 (the same study "
        "and subject); leave them out with --exclude-subjects P01,P02,P03,P04, or score them all the same with "
        "--allow-seen, and the scores are then marked as a leak"
    )
    document = scored(folder / "model", folder / "made.h5", tmp_path / "out", is_seen_allowed=True)
    assert document["external"]["seen"] == list(TRAINED)
    assert document["warnings"][0].startswith("LEAK: the model had been fitted to 4 of the 8 subjects scored: P01,")
    unseen = scored(folder / "model", folder / "made.h5", tmp_path / "unseen", excluded=TRAINED)
    assert "seen" not in unseen["external"] or not unseen["external"]["seen"]
    assert not any("LEAK" in warning for warning in unseen["warnings"])


def test_a_copy_under_another_name_is_seen_where_the_training_store_is_given(
    made: ModuleType, folder: Path, tmp_path: Path
) -> None:
    renamed = replace(made.study(8)[1], subject="X9")
    copied = made.store(tmp_path / "copied.h5", [renamed, *made.study(3, seed=5)], name="elsewhere")
    with pytest.raises(SettingsError, match=r"1 of the 4 .* X9 \(\d+% of the samples of X9 protocol are those of P02"):
        scored(folder / "model", copied, tmp_path / "out", trained_on=folder / "made.h5")
    alone = scored(folder / "model", copied, tmp_path / "out", trained_on=folder / "made.h5", excluded=("X9",))
    assert alone["external"]["compared_by"] == ["identity", "content"]
    with pytest.raises(SettingsError, match=r"1 of the 4 subjects to be scored: X9 \(the samples of X9__protocol\);"):
        scored(folder / "model", copied, tmp_path / "out")
    earlier = without_what_it_knows(folder / "model", tmp_path / "earlier")
    blind = scored(earlier, copied, tmp_path / "blind")
    assert blind["external"]["compared_by"] == ["identity"]
    assert "was looked for by study and subject alone" in blind["warnings"][0]
    assert NOT_KNOWN in blind["warnings"]
    with pytest.raises(SettingsError, match=r"the model in folder model was not trained on other\.h5"):
        scored(folder / "model", copied, tmp_path / "no", trained_on=folder / "other.h5")


def without_what_it_knows(model: Path, folder: Path) -> Path:
    """Write a model as it was made before what it knows was kept."""
    save_checkpoint(replace(load_model(model), known=None), folder, "card")
    return folder


def test_classes_are_mapped_by_name_with_the_studys_own_labels(made: ModuleType, folder: Path, tmp_path: Path) -> None:
    plain = scored(folder / "model", folder / "other.h5", tmp_path / "plain")
    people = made.study(6, seed=5)
    swapped = replace(made.TASK, classes={"stress": ("stroop",), "rest": ("baseline",)})
    turned = made.store(tmp_path / "turned.h5", people, task=swapped, name="other")
    same = scored(folder / "model", turned, tmp_path / "turned")
    assert same["classes"] == ["rest", "stress"]
    assert same["balanced_accuracy"] == plain["balanced_accuracy"]
    opposite = replace(made.TASK, classes={"rest": ("stroop",), "stress": ("baseline",)})
    against = scored(
        folder / "model", made.store(tmp_path / "against.h5", people, task=opposite, name="other"), tmp_path / "against"
    )
    assert against["auroc"]["mean"] == pytest.approx(1 - plain["auroc"]["mean"])
    calm = replace(made.TASK, classes={"calm": ("baseline",), "stress": ("stroop",)})
    with pytest.raises(StudyError) as fault:
        scored(folder / "model", made.store(tmp_path / "calm.h5", people, task=calm, name="other"), tmp_path / "calm")
    assert str(fault.value) == (
        "task 'stress' of study 'other' has the classes calm, stress and the model's are rest, stress; name tasks and "
        "classes in its study.yaml as the model does, and which labels belong to them"
    )
    load = made.store(tmp_path / "load.h5", made.numbered(people), task=made.LOAD, name="other")
    with pytest.raises(StudyError, match="study 'other' has no task 'stress'; name tasks and classes in its study"):
        scored(folder / "model", load, tmp_path / "load")
    with pytest.raises(StudyError, match="the model has no task 'arousal'; it predicts: stress"):
        scored(folder / "model", folder / "other.h5", tmp_path / "none", task="arousal")


def test_a_store_of_other_windows_is_refused_naming_both(made: ModuleType, folder: Path, tmp_path: Path) -> None:
    wide = made.store(tmp_path / "wide.h5", made.study(4, seed=5), name="other", length=30.0)
    with pytest.raises(SettingsError) as fault:
        scored(folder / "model", wide, tmp_path / "out")
    assert str(fault.value) == (
        "wide.h5 was not prepared as the model in folder model reads recordings: windows.length_seconds is 30.0 in "
        "the store and 20.0 in the model; give the study's folder, which is then prepared as the model was"
    )


def test_windows_that_the_model_cannot_read_are_counted_and_not_scored(
    made: ModuleType, folder: Path, tmp_path: Path
) -> None:
    worn = made.recording("Q1", seed=3)
    unmeasured = np.full_like(worn.windows.features, np.nan)
    masks = {name: np.zeros_like(mask) for name, mask in worn.masks.items()}
    nothing = replace(worn, masks=masks, windows=replace(worn.windows, features=unmeasured))
    store = made.store(tmp_path / "some.h5", [*made.study(4, seed=5), nothing], name="other")
    document = scored(folder / "model", store, tmp_path / "out")
    n = int(nothing.windows.is_labelled.sum()) - 5
    assert document["n_subjects"] == 4
    assert document["n_windows_left_out"]["no usable signal of a sensor that the model knows"] == n
    assert any(f"{n} of 125 labelled windows" in w and w.endswith("all of Q1") for w in document["warnings"])


def test_calibration_and_sensors_are_those_of_the_model(folder: Path, tmp_path: Path) -> None:
    evaluation = replace(QUICK, calibration="temperature", calibration_folds=2, conformal_coverage=0.5)
    request = replace(training(folder / "made.h5", subjects=TRAINED), evaluation=evaluation)
    train_on_store(request, tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "kept")
    every = ExternalRequest(tmp_path / "kept", evaluation=replace(QUICK, missing_sensors="all"))
    document = evaluate_store(every, folder / "other.h5", tmp_path / "out")
    learnt = json.loads((tmp_path / "model" / "model.json").read_text())["calibration"]
    assert document["calibration"]["temperatures"] == [learnt["temperature"]]
    assert document["conformal"]["target"] == 0.5
    assert {row["sensors"] for row in document["missing_sensors"]["subsets"]} > {"all"}


def test_numbers_are_beside_the_mean_of_the_models_own_people(made: ModuleType, tmp_path: Path) -> None:
    first = made.store(tmp_path / "first.h5", made.numbered(made.study(4)), task=made.LOAD)
    other = made.store(tmp_path / "second.h5", made.numbered(made.study(4, seed=5)), task=made.LOAD, name="other")
    train_on_store(training(first, normalisation=NormalisationSettings("global")), tmp_path / "model")
    document = scored(tmp_path / "model", other, tmp_path / "out")
    run = load_validation(tmp_path / "out")
    mean = json.loads((tmp_path / "model" / "model.json").read_text())["tasks"][0]["mean"]
    label, subject = run.predictions.label, run.predictions.subject
    expected = np.mean([np.abs(label[subject == s] - mean).mean() for s in set(subject)])
    assert document["chance"]["training_mean_mae"] == pytest.approx(expected)
    assert run.external is not None
    assert run.external.model == "model"


def test_recordings_of_one_class_whose_threshold_was_moved_are_named(
    folder: Path, made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biopercept.inference.shift.SMALLEST_EVIDENCE", 0.0)
    first, *others = made.study(6, seed=5)
    labels = np.where(first.windows.label == "stroop", "baseline", first.windows.label)
    first = replace(first, windows=replace(first.windows, label=labels))
    made.store(tmp_path / "other.h5", [first, *others], name="other")
    warnings = scored(folder / "model", tmp_path / "other.h5", tmp_path / "out", adapt="all")["warnings"]
    [sentence] = [warning for warning in warnings if "are of one class" in warning]
    assert sentence.startswith(f"{first.key}: all labels are of one class, and --adapt read two")


def test_a_moved_threshold_is_that_of_predict_on_every_window_and_is_flagged_where_it_sees_the_future(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biopercept.inference.shift.SMALLEST_EVIDENCE", 0.0)  # so that short recordings are moved
    model, store = folder / "model", folder / "other.h5"
    documents, odds = {}, {}
    for adapt in ("none", "past", "all"):
        documents[adapt] = scored(model, store, tmp_path / adapt, adapt=adapt)
        run = load_cross_validation(tmp_path / adapt)
        odds[adapt] = log_odds_of(run.predictions.probabilities)
    assert [documents[adapt]["transductive"] for adapt in documents] == [False, False, True]
    assert [documents[adapt]["external"].get("adapt") for adapt in documents] == [None, "past", "all"]
    assert [any(w.startswith("transductive: the threshold") for w in documents[a]["warnings"]) for a in documents] == [
        False, False, True,
    ]  # fmt: skip
    assert "TRANSDUCTIVE" in write_report(tmp_path / "all").read_text()
    assert not any("are of one class" in warning for warning in documents["all"]["warnings"])
    with open_store(store) as opened:
        first = opened.recordings[0]
        alone = predict(load_model(model), first, engine_for("cpu"), ways=Ways(adapt="all")).only.shift
    here = np.array([key[0] == first.subject for key in run.predictions.keys])
    np.testing.assert_allclose((odds["all"] - odds["none"])[here], alone[0], atol=1e-3)
    assert np.ptp((odds["past"] - odds["none"])[here]) > 0
    compared = compare([tmp_path / "none", tmp_path / "all"], n_resamples=2000)
    assert any("Transductive and not: " in remark for remark in (*compared.findings, *compared.cautions))


def test_a_moved_threshold_and_missing_sensors_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    request = ExternalRequest(folder / "model", evaluation=replace(QUICK, missing_sensors="all"), adapt="past")
    with pytest.raises(SettingsError, match="--adapt moves its threshold; leave one of them out"):
        evaluate_store(request, folder / "other.h5", tmp_path / "out")
