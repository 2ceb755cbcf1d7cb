"""The curve over labels: equal scored windows, nothing of them in the weights, contrast stamped, resumed as it was."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.data.normalisation import NormalisationSettings
from biopercept.errors import SettingsError, StudyError, UnfinishedError
from biopercept.evaluation import personalisation
from biopercept.evaluation.metrics import Bootstrap, bootstrap_interval
from biopercept.evaluation.personalisation import (
    curve_of,
    fit_personal_fold,
    personalise,
    plan_personal_curve,
    unchecked_sentences,
)
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings
from biopercept.progress import stopped_words
from biopercept.results.curves import PersonalCurve
from biopercept.results.folder import load_results
from biopercept.results.reading import read_result
from biopercept.sharing import Part, Sharing
from biopercept.store.prepared import PreparedRecording
from biopercept.store.reading import open_store
from biopercept.training.settings import FitSettings, PersonalisationSettings, TrainingSettings

FIT = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=1, batch_size=32),
)
BRIEF = PersonalisationSettings(k=(1, 2), n_steps=4, check_every=2, batch_size=8, scratch_steps=3)


def request(store: Path, **changes: object) -> EvaluationRequest:
    evaluation = EvaluationSettings(split="k-fold", n_folds=2, **changes.pop("evaluation", {}))
    settings = replace(BRIEF, **changes.pop("settings", {}))
    normalisation = changes.pop("normalisation", NormalisationSettings(reference_seconds=60.0))
    return EvaluationRequest(
        store, fit=FIT, evaluation=evaluation, personalisation=settings, normalisation=normalisation, device="cpu",
        **changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(4))


@pytest.fixture(scope="module")
def finished(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curve") / "curve"
    personalise(request(store), folder)
    return folder


def without_times(folder: Path) -> list[object]:
    found = json.loads((folder / "personalisation.json").read_text())
    del found["seconds"]
    return [found, (folder / "personalisation.csv").read_text(), (folder / "personalisation_folds.json").read_text()]


def test_every_tier_k_and_method_is_there_on_the_same_windows_of_each_subject(store: Path, finished: Path) -> None:
    with (finished / "personalisation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    few = [("few-shot", m, str(k)) for m in ("head", "low-rank", "full") for k in (1, 2)]
    every = {("general", "general", "0"), ("label-free", "reference", "0"), *few}
    every |= {("personal", m, "0") for m in ("head", "low-rank", "full", "scratch")}
    every |= {("random-draw contrast", m, k) for _, m, k in few}
    plan = plan_personal_curve(open_store(store), request(store))
    for subject in ("P01", "P02", "P03", "P04"):
        own = [row for row in rows if row["participant_id"] == subject]
        assert {(row["tier"], row["method"], row["k"]) for row in own} == every
        assert {row["n_scored"] for row in own} == {str(len(plan.shots[subject].scored))}
        minutes = {(row["tier"], row["k"]): float(row["label_minutes"]) for row in own}
        assert (minutes["few-shot", "1"], minutes["few-shot", "2"]) == (0.667, 1.333)
        assert minutes["label-free", "0"] == minutes["general", "0"] == 0.0
    for path in (finished / "folds").iterdir():
        held = json.loads(path.read_text())
        for subject, scored in held["scored"].items():
            onset = plan.windows.onset
            for granted in held["granted"][subject].values():
                assert onset[granted].max() + plan.windows.length_seconds + plan.gap_seconds <= onset[scored].min()


def test_gains_are_paired_and_their_intervals_are_over_subjects(finished: Path) -> None:
    found = json.loads((finished / "personalisation.json").read_text())
    held = {(r["subject"], r["tier"], r["method"], r["k"]): r["balanced_accuracy"] for r in found["subjects"]}
    subjects = sorted({r["subject"] for r in found["subjects"]})
    [point] = [p for p in found["curve"] if (p["tier"], p["method"], p["k"]) == ("few-shot", "full", 2)]
    gains = [held[s, "few-shot", "full", 2] - held[s, "general", "general", 0] for s in subjects]
    assert point["gain"]["balanced_accuracy"]["mean"] == pytest.approx(np.mean(gains))
    expected = bootstrap_interval(np.array(gains), seed=0, n_bootstrap=2000)
    assert point["gain"]["balanced_accuracy"]["ci95"] == pytest.approx(expected)


def test_the_random_draw_is_stamped_wherever_it_stands(finished: Path) -> None:
    found = json.loads((finished / "personalisation.json").read_text())
    for point in found["curve"]:
        assert (point.get("stamp") == "CONTRAST, NOT A RESULT") == (point["tier"] == "random-draw contrast")
    page = (finished / "personalisation.md").read_text()
    results, contrast = page.split("## CONTRAST, NOT A RESULT")
    assert "few-shot" in results and "random" not in results.split("## The curve")[1]
    assert contrast.count("\n| ") == 2 + 6


def test_minutes_of_the_random_draw_are_means_over_the_draws_of_all_seeds(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_personal_curve(open_store(store), request(store, evaluation={"n_seeds": 3}))
    draw, drawn = personalisation.random_windows, {}

    def noting(course, k, random):
        drawn.setdefault((course.subject, k), []).append(draw(course, k, random))
        return drawn[course.subject, k][-1]

    monkeypatch.setattr(personalisation, "random_windows", noting)
    rows = fit_personal_fold(plan, plan.folds[0]).rows
    contrast = [row for row in rows if row["tier"] == "random-draw contrast"]
    assert {(row["subject"], row["k"]) for row in contrast} == set(drawn)
    are_first = []
    for row in contrast:
        course, places = plan.courses[row["subject"]], drawn[row["subject"], row["k"]]
        assert len(places) == 3
        for name, minutes in (("label_minutes", course.minutes), ("elapsed_minutes", course.minutes_until)):
            every = [minutes(own) for own in places]
            assert row[name] == pytest.approx(np.mean(every), abs=1e-3)
            are_first.append(row[name] == pytest.approx(every[0], abs=1e-3))
        assert row["n_labelled"] == 2 * row["k"]
    assert not all(are_first), "draws that differ in minutes are needed to tell"


def test_the_report_reads_every_point_and_the_setting(finished: Path) -> None:
    found = json.loads((finished / "personalisation.json").read_text())
    told = read_result(finished / PersonalCurve.FILE, PersonalCurve)
    assert [
        (p.tier, p.method, p.k, p.gain.balanced_accuracy.mean) for p in (told.general, *told.points, *told.contrast)
    ] == [
        (p["tier"], p["method"], p["k"], p["gain"]["balanced_accuracy"]["mean"] if "gain" in p else None)
        for p in found["curve"]
    ]
    assert (told.unchecked, told.n_subjects, told.warnings) == ("keep", 4, tuple(found["warnings"]))
    assert {p.stamp for p in told.contrast} == {"CONTRAST, NOT A RESULT"}


def test_with_one_window_per_class_the_general_model_is_kept_and_it_is_said(finished: Path) -> None:
    found = json.loads((finished / "personalisation.json").read_text())
    held = {(r["subject"], r["tier"], r["method"], r["k"]): r for r in found["subjects"]}
    for subject in ("P01", "P02", "P03", "P04"):
        general = held[subject, "general", "general", 0]
        for method in ("head", "low-rank", "full"):
            own = held[subject, "few-shot", method, 1]
            assert (own["is_checked"], own["n_fallen_back"]) == (False, 1)
            assert [own[name] for name in ("balanced_accuracy", "auroc", "brier")] == [
                general[name] for name in ("balanced_accuracy", "auroc", "brier")
            ]
            assert held[subject, "few-shot", method, 2]["is_checked"]
    counts = {p["k"]: (p["n_subjects_fallen_back"], p["n_subjects_unchecked"]) for p in found["curve"]
              if (p["tier"], p["method"]) == ("few-shot", "full")}  # fmt: skip
    assert counts[1] == (0, 4)
    assert counts[2][1] == 0
    sentence = (
        "few-shot, k = 1: no label could be set aside to check on for all 4 subjects; the general model was kept "
        "(personalisation.unchecked=keep)"
    )
    assert [w for w in found["warnings"] if "set aside" in w] == [sentence]
    page = " ".join((finished / "personalisation.md").read_text().split())
    assert sentence in page
    assert "where no label could be set aside to check on, the general model was kept" in page


def test_who_could_not_be_checked_is_named_and_stamped_where_it_was_adapted_all_the_same() -> None:
    rows = [{"subject": s, "tier": "personal", "k": 0, "is_checked": s != "b"} for s in "abc"]
    assert unchecked_sentences(rows, "adapt") == [
        "personal, all earlier labels: no label could be set aside to check on for b; UNCHECKED, only a few steps were "
        "made (personalisation.unchecked=adapt)"
    ]
    assert unchecked_sentences([row for row in rows if row["subject"] != "b"], "adapt") == []


def test_fall_backs_are_counted_over_subjects() -> None:
    def row(subject: str, tier: str, score: float, fell: int = 0) -> dict[str, object]:
        method, k = ("general", 0) if tier == "general" else ("full", 3)
        return {
            "subject": subject, "tier": tier, "method": method, "k": k, "label_minutes": 6.0, "elapsed_minutes": 9.0,
            "balanced_accuracy": score, "auroc": None, "n_fallen_back": fell, "is_checked": True,
        }  # fmt: skip

    rows = [row(s, "general", 0.5) for s in "abc"] + [row(s, "few-shot", 0.7, int(s == "b")) for s in "abc"]
    point = curve_of(rows, Bootstrap(0))[1]
    assert (point.n_subjects_fallen_back, point.n_subjects) == (1, 3)
    assert point.gain.balanced_accuracy.mean == pytest.approx(0.2)
    assert point.gain.auroc.mean is None


def test_a_run_killed_between_folds_goes_on_and_ends_the_same(
    store: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(plan, folds, n_jobs):
        yield folds[0], fit_personal_fold(plan, folds[0])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(personalisation, "_fit_folds", failing)
        personalise(request(store), tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "personalisation.json").exists()
    with pytest.raises(StudyError) as refused:
        load_results(tmp_path / "stopped")
    assert str(refused.value) == (
        f"the curve over own labels in {tmp_path / 'stopped'} has not finished (no personalisation.json); run the same "
        "personalise command again, it goes on where it stopped"
    )
    told = []
    personalise(request(store), tmp_path / "stopped", on_fold=lambda f, was, n: told.append(was))
    assert told == [True, False]
    assert load_results(tmp_path / "stopped").unfinished_curves == ()
    assert without_times(tmp_path / "stopped") == without_times(finished)
    with pytest.raises(SettingsError, match="holds a run with another personalisation"):
        personalise(request(store, settings={"n_steps": 5}), tmp_path / "stopped")


def test_parts_are_joined_to_what_one_process_gives(store: Path, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "parts"
    with pytest.raises(
        UnfinishedError, match=r"^part 2 of 2 is done; 1 of 2 folds are not done: .* \(part 1 of 2; never"
    ):
        personalise(request(store), output, sharing=Sharing(Part(2, 2)))
    personalise(request(store), output, sharing=Sharing(Part(1, 2)))
    assert without_times(output) == without_times(finished)
    files = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (output, finished)]
    assert files[0] == files[1]


def test_a_run_stopped_within_a_fold_keeps_its_people_and_says_so(
    store: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, adapted, stopped = [], [], []
    keep, fit = personalisation._KeptPeople.keep, personalisation._fit_general

    def keeping(*given):
        if len(adapted) == 1 and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        keep(*given)
        adapted.append(given[2])

    monkeypatch.setattr(personalisation._KeptPeople, "keep", keeping)
    monkeypatch.setattr(personalisation, "_fit_general", lambda *given: fitted.append(1) or fit(*given))
    with pytest.raises(KeyboardInterrupt):
        personalise(request(store), tmp_path / "stopped")
    [path] = (tmp_path / "stopped" / "folds" / "people").iterdir()
    assert stopped_words() == (
        "stopped; kept are 1 of 2 people of the fold: the same command without --overwrite goes on there"
    )
    n_fitted = len(fitted)
    personalise(request(store), tmp_path / "stopped")
    assert len(adapted) == len(set(adapted)) == 4  # nobody twice
    assert len(fitted) == n_fitted + 4  # both models of both folds
    assert not path.exists()
    assert without_times(tmp_path / "stopped") == without_times(finished)


def test_data_and_labels_of_the_scored_part_reach_no_weight(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every adapted and every personal network of a subject is bit-equal, whatever the subject's scored part holds."""
    weights: list[list[dict[str, torch.Tensor]]] = []
    answers = []
    kept_adapt, kept_scratch = personalisation.adapt, personalisation.fit_scratch

    def adapt(*args, **kwargs):
        made_now = kept_adapt(*args, **kwargs)
        weights[-1].append(made_now.network.state_dict())
        return made_now

    def fit_scratch(*args, **kwargs):
        made_now = kept_scratch(*args, **kwargs)
        weights[-1].append(made_now.fitted.network.state_dict())
        return made_now

    monkeypatch.setattr(personalisation, "adapt", adapt)
    monkeypatch.setattr(personalisation, "fit_scratch", fit_scratch)
    monkeypatch.setattr(personalisation, "random_windows", lambda *_: None)  # the contrast does look there
    recordings: Sequence[PreparedRecording] = made.study(4)
    begin = 0.0
    for number in range(2):
        path = made.store(tmp_path / f"{number}.h5", recordings)
        plan = plan_personal_curve(open_store(path), request(path, settings={"unchecked": "adapt"}))
        [fold] = [fold for fold in plan.folds if "P01" in fold.test]
        weights.append([])
        answers.append([r for r in fit_personal_fold(plan, fold).rows if r["subject"] == "P01"])
        begin = float(plan.windows.onset[plan.courses["P01"].rows[plan.shots["P01"].scored]].min())
        if not number:
            recordings = [changed(h, begin, made.LENGTH) if h.subject == "P01" else h for h in recordings]
    assert len(weights[0]) == len(weights[1]) == 2 * (2 * 3 + 3 + 1)
    for first, second in zip(*weights, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert answers[0] != answers[1]


def changed(held: PreparedRecording, seconds: float, length: float) -> PreparedRecording:
    """Return a recording with other data and swapped labels from a time on."""
    windows = held.windows
    onset = np.asarray(windows.onset)
    swap = {"baseline": "stroop", "stroop": "baseline"}
    label = np.array([
        swap.get(str(word), str(word)) if at >= seconds else str(word)
        for word, at in zip(windows.label, onset, strict=True)
    ])  # fmt: skip
    features = np.array(windows.features)
    features[onset + length > seconds] *= -3.0
    samples = {name: values.copy() for name, values in held.samples.items()}
    for signal in held.signals:
        samples[signal.name][:, round(seconds * signal.sampling_rate) :] *= -2.0
    return replace(held, samples=samples, windows=replace(windows, label=label, features=features))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "logistic"}, "personalise adapts perceiver-io; the model is logistic"),
        ({"evaluation": {"n_bootstrap": 500}}, "evaluation.n_bootstrap is 500; the curve needs at least 2000"),
        ({"normalisation": NormalisationSettings("recording")}, "normalisation.mode is recording, which reads what is"),
        (
            {"evaluation": {"missing_sensors": "all"}},
            "personalise asks with all sensors; set evaluation.",
        ),
        ({"settings": {"gap_seconds": 5.0}}, "personalisation.gap_seconds is 5 s; it must be at least one window"),
    ],
)
def test_what_makes_no_sense_is_refused(store: Path, tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{words}"):
        personalise(request(store, **changes), tmp_path / "curve")


def test_where_each_class_is_one_stretch_another_chronology_is_named(made: ModuleType, tmp_path: Path) -> None:
    path = made.store(tmp_path / "made.h5", made.planted("order", n_subjects=4), features=made.AUDIT_FEATURES)
    with pytest.raises(
        StudyError, match=r"^no subject can be scored: no moment has 1 windows of each class before and 2"
    ):
        plan_personal_curve(open_store(path), request(path))
    plan = plan_personal_curve(open_store(path), request(path, settings={"chronology": "class"}))
    assert len(plan.shots) == 4
    assert "may not hold for another day" in plan.warnings[-1]
