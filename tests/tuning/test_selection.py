"""Selection by inner folds: the scores that a choice rests on, what they never saw, and fits that are done once."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from biopercept.baselines.catalogue import MODELS
from biopercept.config.loading import load_config
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.splits import Fold, choose_validation
from biopercept.errors import SettingsError, TrainingError, UnfinishedError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.fold_fits import fit_fold
from biopercept.evaluation.folds import given_settings
from biopercept.evaluation.metrics import score_subject
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings
from biopercept.results.cross_validation import load_cross_validation
from biopercept.results.reading import document_of
from biopercept.sharing import Part, Sharing
from biopercept.store.reading import open_store
from biopercept.training.settings import FitSettings, TrainingSettings
from biopercept.tuning import design, selection
from biopercept.tuning.design import Candidate, make_designs
from biopercept.tuning.ranking import InnerScores, ensemble_result, inner_scores, ranked
from biopercept.tuning.selection import fit_all, tune

SMALL = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=1, batch_size=32, learning_rate=3e-3),
)
FOLDS = 3


def _tuned(*given: Any, **named: Any) -> dict[str, Any]:
    """Tune and return what ``tuning.json`` holds."""
    return document_of(tune(*given, **named))


def candidate(name: str, store: Path, model: str = "logistic", mode: str = "causal", **changes: object) -> Candidate:
    evaluation = EvaluationSettings(split="k-fold", n_folds=FOLDS, n_bootstrap=200, folds_at_once="single")
    request = EvaluationRequest(store, model, fit=SMALL, evaluation=evaluation)
    request = replace(request, normalisation=NormalisationSettings(mode=mode), **changes)
    return Candidate(name, {"model": model}, request, "training: {n_epochs: 2}\n")


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(6, effect=0.5))


@pytest.fixture(scope="module")
def several(store: Path) -> list[Candidate]:
    return [
        candidate("causal", store),
        candidate("global", store, mode="global"),
        candidate("bagging", store, "bagging"),
        Candidate("joined", members=("causal", "bagging")),
    ]


@pytest.fixture(scope="module")
def done(several: list[Candidate], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    output = tmp_path_factory.mktemp("tuning") / "out"
    return _tuned(several, output), output


def test_inner_scores_are_those_of_an_inner_cross_validation_done_by_hand(done: tuple[dict, Path], store: Path) -> None:
    """Oracle: for each outer fold a cross-validation over the other folds, fitted anew for each of them."""
    found, output = done
    with (output / "inner_scores.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["candidate"] == "causal"]
    scores = {(row["outer_fold"], row["participant_id"]): row for row in rows}
    request = candidate("causal", store).request
    with open_store(store) as opened:
        plan = plan_evaluation(opened, request)
        tests = [set(fold.test) for fold in plan.folds]
        for i, outer in enumerate(plan.folds):
            means = []
            for j in range(FOLDS):
                if j == i:
                    continue
                rest = [s for s in plan.windows.subjects if s not in tests[i] | tests[j]]
                a, b = sorted((i + 1, j + 1))
                held_out = choose_validation(rest, 0.15, f"0-{a:02d}+{b:02d}-of-{FOLDS:02d}")
                fold = Fold("by hand", tuple(s for s in rest if s not in held_out), held_out, plan.folds[j].test)
                result = fit_fold(plan, fold)
                for subject in fold.test:
                    own = result.rows[plan.windows.subject[result.rows] == subject]
                    answers = result.probabilities[plan.windows.subject[result.rows] == subject]
                    expected = score_subject(subject, plan.windows.only.values[own], answers)
                    held = scores[outer.name, subject]
                    assert float(held["balanced_accuracy"]) == expected.balanced_accuracy
                    assert float(held["auroc"]) == expected.auroc
                    means.append(expected.balanced_accuracy)
            ranking = {r["name"]: r["balanced_accuracy"] for r in found["outer_folds"][i]["ranking"]}
            assert ranking["causal"] == pytest.approx(np.mean(means))
    assert len(rows) == sum(6 - len(test) for test in tests)


def test_each_fold_chooses_its_best_and_the_recommendation_is_best_over_all(done: tuple[dict, Path]) -> None:
    found, _ = done
    assert found["n_inner_fits"] == 3 * 3
    for fold in found["outer_folds"]:
        values = [row["balanced_accuracy"] for row in fold["ranking"]]
        assert values == sorted(values, reverse=True)
        assert fold["chosen"] == fold["ranking"][0]["name"]
    means = [held["inner_balanced_accuracy"]["mean"] for held in found["candidates"]]
    assert means == sorted(means, reverse=True)
    assert found["chosen"] == found["candidates"][0]["name"]
    assert sum(held["times_chosen"] for held in found["candidates"]) == FOLDS
    assert found["findings"][0].startswith(
        "4 candidates were tried inside the training side of each of 3 outer folds over 6 subjects, with 9 fits in all"
    )


def test_the_nested_score_of_a_single_candidate_is_that_of_cross_validation(store: Path, tmp_path: Path) -> None:
    only = candidate("only", store, "perceiver-io")
    found = _tuned([only], tmp_path / "tuned")
    scores = cross_validate(only.request, tmp_path / "plain")
    assert (tmp_path / "tuned" / "nested" / "predictions.csv").read_text() == (
        tmp_path / "plain" / "predictions.csv"
    ).read_text()
    assert found["nested"]["balanced_accuracy"]["mean"] == scores["balanced_accuracy"]["mean"]
    assert found["nested"]["auroc"]["ci95"] == scores["auroc"]["ci95"]
    assert load_cross_validation(tmp_path / "tuned" / "nested").model == "tuned"


def test_its_folds_can_be_taken_by_a_cross_validation(done: tuple[dict, Path], store: Path, tmp_path: Path) -> None:
    nested = done[1] / "nested"
    assert given_settings(nested) == {
        "evaluation.split": "k-fold",
        "evaluation.n_folds": FOLDS,
        "evaluation.stratify": False,
    }
    request = candidate("other", store, "dummy").request
    cross_validate(replace(request, seed=5, folds_from=nested), tmp_path / "cv")
    taken, tuned = (json.loads((place / "folds.json").read_text())["folds"] for place in (tmp_path / "cv", nested))
    assert taken == tuned
    cross_validate(replace(request, seed=5), tmp_path / "own")
    assert json.loads((tmp_path / "own" / "folds.json").read_text())["folds"] != tuned


def test_folds_of_an_earlier_version_of_it_are_refused(tmp_path: Path) -> None:
    run = {"tuned": ["a", "b"], "seed": 0}
    (tmp_path / "folds.json").write_text(json.dumps({"schema": 1, "run": run, "folds": []}))
    with pytest.raises(SettingsError) as refused:
        given_settings(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} was written by a version of tune that did not say how it dealt its folds; run the same tune "
        "command again"
    )


@pytest.mark.parametrize("outer", [0, 2])
def test_data_and_labels_of_an_outer_test_group_reach_neither_inner_scores_nor_choice_nor_weights(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outer: int
) -> None:
    recordings = made.study(6, effect=0.5)
    plain = made.store(tmp_path / "plain.h5", recordings)
    with open_store(plain) as opened:
        tested = plan_evaluation(opened, candidate("x", plain).request).folds[outer].test
    other = made.store(tmp_path / "other.h5", [_spoilt(r) if r.subject in tested else r for r in recordings])
    weights: list[list[torch.Tensor]] = []
    fit = MODELS["perceiver-io"]

    def noting(request):
        fitted = fit(request)
        weights.append([value.clone() for value in fitted.fitted.network.state_dict().values()])
        return fitted

    monkeypatch.setitem(MODELS, "perceiver-io", noting)
    seen = []
    for number, path in enumerate((plain, other)):
        weights.clear()
        held = [candidate("network", path, "perceiver-io"), candidate("line", path, mode="global")]
        found = _tuned(held, tmp_path / str(number))
        row = found["outer_folds"][outer]
        scores = (tmp_path / str(number) / "inner_scores.csv").read_text().splitlines()
        mine = [line for line in scores if line.split(",")[1:2] == [row["fold"]]]
        others = [line for line in scores if line not in mine]
        with open_store(path) as opened:
            design = make_designs(held, {path: opened})["network"]
            done = fit_all([(design, [design.outer[outer]])], tmp_path / f"again-{number}")
        assert not done.failures
        seen.append((row, mine, others, weights[-1]))
    (row, mine, others, before), (other_row, other_mine, other_others, after) = seen
    assert mine == other_mine
    assert (row["chosen"], row["ranking"]) == (other_row["chosen"], other_row["ranking"])
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert others != other_others, "the change must be one that shows where it may"


def _spoilt(recording):
    windows = recording.windows
    swapped = np.array([{"baseline": "stroop", "stroop": "baseline"}.get(v, v) for v in windows.label], dtype=np.str_)
    samples = {name: values * 3.0 - 7.0 for name, values in recording.samples.items()}
    windows = replace(windows, label=swapped, features=windows.features[::-1] * 5.0)
    return replace(recording, samples=samples, windows=windows)


def test_a_group_has_one_name_for_all_candidates(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds balanced by another store's windows may come in another order; results are kept by the fold's name."""
    plain, n_plans = plan_evaluation, []

    def reordered(opened, request):
        plan = plain(opened, request)
        n_plans.append(1)
        names = [fold.name for fold in plan.folds]
        order = [1, 0, 2] if len(n_plans) == 2 else [0, 1, 2]
        return replace(plan, folds=tuple(replace(plan.folds[i], name=n) for i, n in zip(order, names, strict=True)))

    monkeypatch.setattr(design, "plan_evaluation", reordered)
    with open_store(store) as opened:
        made = make_designs([candidate("one", store), candidate("other", store, mode="global")], {store: opened})
    one, other = ([(fold.name, fold.test) for fold in made[name].outer] for name in ("one", "other"))
    assert one == other


def test_an_ensemble_is_the_mean_of_its_members_without_a_fit_of_its_own(store: Path, tmp_path: Path) -> None:
    both = [candidate("a", store), candidate("b", store, "bagging")]
    joined = Candidate("ab", members=("a", "b"))
    with open_store(store) as opened:
        designs = make_designs([*both, joined], {store: opened})
        assert set(designs) == {"a", "b"}
        done = fit_all([(d, tuple(d.pairs.values())) for d in designs.values()], tmp_path)
        scores = inner_scores(joined, designs, done.results)
        fold = designs["a"].pairs[0, 1]
        first, second = done.results["a", fold.name], done.results["b", fold.name]
        subject = designs["a"].outer[1].test[0]
        own = designs["a"].windows.subject[first.rows] == subject
        mean = (first.probabilities[own] + second.probabilities[own]) / 2
        expected = score_subject(subject, designs["a"].windows.only.values[first.rows[own]], mean)
        place = designs["a"].windows.subjects.index(subject)
        assert scores.auroc[0, place] == expected.auroc
        joined_first = ensemble_result([first, second]).probabilities
        assert np.array_equal(joined_first, (first.probabilities + second.probabilities) / 2)
        assert np.abs(joined_first - first.probabilities).max() > 0.01
        sums = [sum(done.results[n, f.name].n_parameters for n in "ab") for f in designs["a"].pairs.values()]
        assert scores.n_parameters == max(sums)


def test_a_later_run_fits_only_what_is_new_or_damaged(
    several: list[Candidate], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[str] = []
    fit_one = fit_fold
    monkeypatch.setattr(selection, "fit_fold", lambda plan, fold: fitted.append(fold.name) or fit_one(plan, fold))
    _tuned(several[:1], tmp_path / "out")
    assert len(fitted) == 3 + 3
    fitted.clear()
    renamed = replace(several[0], name="another name")
    first = _tuned([renamed], tmp_path / "out")
    assert fitted == []
    _tuned([renamed, several[1]], tmp_path / "out")
    assert len([name for name in fitted if "+" in name]) == 3
    fitted.clear()
    kept = sorted((tmp_path / "out" / "fits").glob("01+02*.json"))[0]
    kept.write_text(kept.read_text()[:-40])
    again = _tuned([renamed], tmp_path / "out")
    _tuned([renamed, several[1]], tmp_path / "out")
    assert fitted == ["01+02-of-03"]
    assert _without_times(first) == _without_times(again)


def test_a_run_killed_between_fits_ends_as_one_that_was_not(
    several: list[Candidate], done: tuple[dict, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_one, n_fits = fit_fold, []

    def failing(plan, fold):
        if len(n_fits) == 5:
            raise KeyboardInterrupt
        n_fits.append(fold.name)
        return fit_one(plan, fold)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(selection, "fit_fold", failing)
        _tuned(several, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "tuning.json").exists()
    told: list[bool] = []
    resumed = _tuned(several, tmp_path / "stopped", on_fit=lambda name, fold, was_done, n: told.append(was_done))
    assert told.count(True) == 5
    assert _without_times(resumed) == _without_times(done[0])


def test_the_number_of_jobs_changes_nothing(several: list[Candidate], done: tuple[dict, Path], tmp_path: Path) -> None:
    assert _without_times(_tuned(several, tmp_path / "two", n_jobs=2)) == _without_times(done[0])


def test_parts_of_the_inner_fits_are_joined_to_what_one_process_gives(
    several: list[Candidate], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(request):
        raise TrainingError("the loss is not finite in epoch 1")

    monkeypatch.setitem(MODELS, "bagging", diverging)
    alone = _tuned(several, tmp_path / "alone")
    with pytest.raises(UnfinishedError, match=r"^part 2 of 2 is done; 5 of 9 inner fits are not done: causal without"):
        _tuned(several, tmp_path / "parts", sharing=Sharing(Part(2, 2)))
    with pytest.raises(UnfinishedError, match=r"\(part 1 of 2; never begun: 1\); run what is missing, then --collect"):
        _tuned(several, tmp_path / "parts", sharing=Sharing())
    assert not (tmp_path / "parts" / "tuning.json").exists()
    joined = _tuned(several, tmp_path / "parts", sharing=Sharing(Part(1, 2)))
    assert _without_times(joined) == _without_times(alone)
    files = [
        sorted(str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*")) for name in ("parts", "alone")
    ]
    assert files[0] == files[1]


def test_stacked_fits_say_what_single_ones_do(store: Path, tmp_path: Path) -> None:
    single = candidate("network", store, "perceiver-io")
    request = replace(single.request, evaluation=replace(single.request.evaluation, folds_at_once="stacked"))
    told: list[str] = []
    together = _tuned(
        [replace(single, request=request)], tmp_path / "stacked", on_fit=lambda n, f, w, k: told.append(f)
    )
    alone = _tuned([single], tmp_path / "single")
    inner = "inner_balanced_accuracy"
    assert together["candidates"][0][inner]["mean"] == pytest.approx(alone["candidates"][0][inner]["mean"], abs=0.05)
    assert len(told) == 6
    assert len(list((tmp_path / "stacked" / "fits").iterdir())) == 6
    nested = [(tmp_path / name / "nested" / "predictions.csv").read_text() for name in ("stacked", "single")]
    assert nested[0] == nested[1], "what is scored once is fitted as cross-validate fits a single fold"


def test_a_candidate_that_cannot_be_fitted_is_named_and_the_others_go_on(
    several: list[Candidate], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(request):
        raise TrainingError("the loss is not finite in epoch 1; lower training.learning_rate")

    monkeypatch.setitem(MODELS, "bagging", diverging)
    found = _tuned(several, tmp_path / "out")
    reason = "the loss is not finite in epoch 1; lower training.learning_rate"
    assert found["failed"] == [
        {"name": "bagging", "reason": reason},
        {"name": "joined", "reason": "its member bagging could not be fitted"},
    ]
    assert [held["name"] for held in found["candidates"]] in (["causal", "global"], ["global", "causal"])
    assert f"- bagging could not be fitted: {reason}" in (tmp_path / "out" / "tuning.md").read_text()
    with pytest.raises(TrainingError) as refused:  # as where a single model diverges: exit code 4
        _tuned([several[2]], tmp_path / "none")
    assert str(refused.value) == f"no candidate could be fitted; bagging: {reason}"


def test_ties_go_to_auroc_then_to_fewer_parameters_then_to_the_first_named() -> None:
    def scores(name: str, accuracy: float, area: float, parameters: int) -> InnerScores:
        nothing = np.full((2, 2), np.nan)
        held = [np.where(np.eye(2, dtype=bool), nothing, value) for value in (accuracy, area)]
        return InnerScores(name, held[0], held[1], parameters, 1.0)

    contenders = [
        scores("low", 0.6, 0.99, 1),
        scores("undefined", 0.7, np.nan, 1),
        scores("large", 0.7, 0.8, 9),
        scores("small", 0.7, 0.8, 3),
        scores("twin", 0.7, 0.8, 3),
        scores("area", 0.7, 0.81, 99),
    ]
    order = ["area", "small", "twin", "large", "undefined", "low"]
    assert [s.name for s in ranked(contenders)] == order
    assert [s.name for s in ranked(contenders, 1)] == order


def test_the_chosen_settings_are_a_file_that_the_other_commands_read(done: tuple[dict, Path]) -> None:
    _, output = done
    assert load_config(str(output / "chosen.yaml")).training.n_epochs == 2
    assert (output / "chosen.yaml").read_text().startswith("# Candidate ")
    table = list(csv.DictReader((output / "tuning.csv").read_text().splitlines()))
    assert {row["name"] for row in table} == {"causal", "global", "bagging", "joined"}


def test_a_chosen_ensemble_leaves_the_settings_of_its_members(store: Path, tmp_path: Path) -> None:
    members = [candidate("a", store, "dummy"), candidate("b", store, "dummy", "global")]
    better = candidate("c", store, "bagging")
    _tuned([*members, better, Candidate("bc", members=("c", "b"))], tmp_path / "out")
    found = json.loads((tmp_path / "out" / "tuning.json").read_text())
    files = {path.name for path in (tmp_path / "out").glob("chosen*.yaml")}
    assert files == ({"chosen.yaml"} if found["chosen"] == "c" else {"chosen.yaml", "chosen-b.yaml", "chosen-c.yaml"})
    first = (tmp_path / "out" / "chosen.yaml").read_text().split("\n")
    assert first[1] == "#     biopercept cross-validate made.h5 -c chosen.yaml --model bagging -o OUT"


def _without_times(found: dict) -> dict:
    plain = json.loads(json.dumps(found))
    for held in (*plain["candidates"], plain["nested"]):
        del held["seconds"]
    for held in plain["candidates"]:
        held["name"] = "" if len(plain["candidates"]) == 1 else held["name"]
    if len(plain["candidates"]) == 1:
        for key in ("chosen", "findings", "outer_folds"):
            del plain[key]
        for row in plain["nested"]["subjects"]:
            del row["chosen"]
    return plain
