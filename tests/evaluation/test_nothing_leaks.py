"""Whatever the tested people and their labels are like, all that is fitted stays equal to the bit, in every way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from biopercept.baselines.catalogue import MODELS, REGRESSORS, fitter_for
from biopercept.data.normalisation import MODES, PER_RECORDING_MODES, NormalisationSettings
from biopercept.data.splits import Fold
from biopercept.evaluation.fold_fits import fit_fold, fit_together
from biopercept.evaluation.plan import EvaluationRequest, Plan, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.engine import engine_for
from biopercept.training.fitting import NetworkFitter, calibration_from, held_out_predictions
from biopercept.training.loop import FitRequest
from biopercept.training.settings import FitSettings, PretrainingSettings, TrainingSettings

SMALL = FitSettings(
    model=PerceiverSettings(width=8, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=1, batch_size=64, learning_rate=3e-3),
)
FOLDS = EvaluationSettings("k-fold", 3, n_bootstrap=200)
FEATURES = ("heart/hr_mean", "eda/scl_mean", "motion/activity")
NOT_LEARNT = ("source", "rows", "values")
"""What a fitted model holds of the whole study to answer from: its windows, not what it learnt of them."""
SWAPPED = {"baseline": "stroop", "stroop": "baseline"}


def learnt(held: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Give every number and array that a fitted model holds, with where it is held."""
    if isinstance(held, torch.nn.Module):
        yield from learnt(dict(held.state_dict()), path)
    elif isinstance(held, torch.Tensor):
        yield path, held.detach().cpu().numpy().tobytes()
    elif isinstance(held, np.ndarray):
        yield path, held.tolist() if held.dtype.names else held.tobytes()
    elif isinstance(held, dict):
        for key, value in held.items():
            yield from learnt(value, f"{path}.{key}") if key not in NOT_LEARNT else ()
    elif isinstance(held, list | tuple):
        for index, value in enumerate(held):
            yield from learnt(value, f"{path}[{index}]")
    elif held is None or isinstance(held, int | float | str | np.generic):
        yield path, repr(held)
    elif not isinstance(held, FunctionType | type):
        state = getattr(held, "__dict__", None)
        if state is None and type(held).__module__.startswith("sklearn"):  # trees and losses in compiled code
            state = held.__reduce__()[1:]
        yield from learnt(state or type(held).__name__, path)


class Study:
    """A made study of two recordings each, plainly or with everything else in the tested people of the first fold."""

    def __init__(self, made: ModuleType, folder: Path) -> None:
        self._made, self._folder = made, folder
        self.opened: list[StudyStore] = []
        self._tested: tuple[str, ...] = ()
        self._tested = self.plan("plain", "dummy", "raw").folds[0].test

    @cache  # noqa: B019
    def store(self, kind: str, is_numbered: bool) -> Path:
        made, recordings = self._made, []
        random = np.random.default_rng(3)
        for number in range(1, 7):
            subject = f"P{number:02d}"
            for part in ("first", "second"):
                is_other = kind == "other" and subject in self._tested
                held = made.recording(subject, seed=len(part) + 50 * is_other, offset=300.0 * is_other)
                held = replace(held, recording=part, session="day")
                held.windows.quality[:] = random.random(held.windows.quality.shape)
                if is_other:
                    held.windows.quality[:] = 0.1
                if is_other and not is_numbered:  # the numbers go by the labels' stretches
                    held.windows.label[:] = [SWAPPED.get(str(label), label) for label in held.windows.label]
                    held.windows.label[np.flatnonzero(held.windows.is_labelled)[:2]] = "break"
                if kind == "taught" and not is_numbered and subject not in self._tested:
                    held.windows.label[:] = [SWAPPED.get(str(label), label) for label in held.windows.label]
                    held.windows.label[np.flatnonzero(held.windows.label == "stroop")[:4]] = "break"
                recordings.append(held)
        task = made.TASK
        if is_numbered:
            recordings, task = list(made.numbered(recordings)), made.LOAD
            for index, held in enumerate(recordings):
                is_changed = (kind == "other") == (held.subject in self._tested)
                if kind != "plain" and is_changed:
                    values = tuple(
                        {"load": 7.0 * len(v) + 3 * i} if v else {} for i, v in enumerate(held.labels.interval_values)
                    )
                    recordings[index] = replace(held, labels=replace(held.labels, interval_values=values))
        return made.store(
            self._folder / f"{kind}-{is_numbered}.h5", recordings, task=task, features=FEATURES, is_ordered=True
        )

    def _open(self, path: Path) -> StudyStore:
        self.opened.append(open_store(path))
        return self.opened[-1]

    @cache  # noqa: B019
    def _plan(self, kind: str, mode: str, scope: str, is_numbered: bool) -> Plan:
        path = self.store(kind, is_numbered)
        normalisation = NormalisationSettings(mode=mode, scope=scope, reference_seconds=30.0)
        asked = EvaluationRequest(path, "dummy", None, SMALL, normalisation, FOLDS, is_normalisation_chosen=True)
        return plan_evaluation(self._open(path), asked)

    def plan(self, kind: str, model: str, mode: str, scope: str = "recording", is_numbered: bool = False) -> Plan:
        """Give the plan of a model; all models of one normalisation read the same inputs."""
        plan = self._plan(kind, mode, scope, is_numbered)
        return replace(plan, request=replace(plan.request, model=model))


@pytest.fixture(scope="module")
def study(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    held = Study(made, tmp_path_factory.mktemp("leaks"))
    yield held
    for store in held.opened:
        store.close()


def fit_request(plan: Plan, fold: Fold, **settings: Any) -> FitRequest:
    rows = [plan.windows.rows_of(side) for side in (fold.training, fold.validation)]
    return FitRequest(
        plan.inputs, *rows, replace(plan.request.fit, **settings), engine_for("cpu"), 1, None, fold.unlabelled
    )


def weights(plan: Plan, **settings: Any) -> dict[str, Any]:
    return dict(learnt(fitter_for(plan.request.model, plan.windows)(fit_request(plan, plan.folds[0], **settings))))


def check(study: Study, *how: Any, **settings: Any) -> None:
    """Compare all that is fitted, and the population's statistics, on both studies."""
    plain, other = study.plan("plain", *how), study.plan("other", *how)
    fold = plain.folds[0]
    assert other.folds[0] == fold and set(fold.test) == set(study._tested)
    assert plain.inputs.fit(fold.fitting).to_json() == other.inputs.fit(fold.fitting).to_json()
    before = weights(plain, **settings)
    assert before and before == weights(other, **settings)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", list(MODELS))
def test_no_model_under_any_normalisation(study: Study, model: str, mode: str) -> None:
    check(study, model, mode)


@pytest.mark.parametrize("mode", PER_RECORDING_MODES)
@pytest.mark.parametrize("model", ["perceiver-io", "logistic", "stacking", "boosting"])
def test_no_model_under_normalisation_over_the_session(study: Study, model: str, mode: str) -> None:
    check(study, model, mode, "session")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", list(REGRESSORS))
def test_no_model_of_numbers(study: Study, model: str, mode: str) -> None:
    check(study, model, mode, "recording", True)


@pytest.mark.parametrize(("model", "is_numbered"), [*((m, False) for m in MODELS), *((m, True) for m in REGRESSORS)])
def test_what_the_training_side_is_like_does_matter(study: Study, model: str, is_numbered: bool) -> None:
    how = (model, "causal", "recording", is_numbered)
    assert weights(study.plan("plain", *how)) != weights(study.plan("taught", *how))


@pytest.mark.parametrize("objective", ["masked", "contrastive"])
def test_pretraining_in_the_fold(study: Study, objective: str) -> None:
    brief = PretrainingSettings(objective=objective, n_epochs=1, batch_size=32, n_queries=4)
    check(study, "perceiver-io", "causal", pretraining=brief)
    plain = study.plan("plain", "perceiver-io", "causal")
    assert weights(plain) != weights(plain, pretraining=brief)


@pytest.mark.parametrize("model", [n for n, f in MODELS.items() if isinstance(f, NetworkFitter) and f.can_stack])
def test_folds_stacked_in_one_program(study: Study, model: str) -> None:
    """The stack holds fits that were taught by the tested people; the fold's own fit is as it was."""
    found = []
    for kind in ("plain", "other"):
        plan = study.plan(kind, model, "causal")
        fitter = fitter_for(plan.request.model, plan.windows)
        assert isinstance(fitter, NetworkFitter)
        own, theirs = (dict(learnt(f)) for f in fitter.together([fit_request(plan, fold) for fold in plan.folds[:2]]))
        found.append((own, theirs))
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


@pytest.mark.parametrize("n_folds", [0, 2])
@pytest.mark.parametrize("model", ["perceiver-io", "logistic"])
def test_calibration_and_prediction_sets(study: Study, model: str, n_folds: int) -> None:
    found = []
    for kind in ("plain", "other"):
        plan = study.plan(kind, model, "causal")
        asked = fit_request(plan, plan.folds[0])
        settings = replace(
            FOLDS, calibration="temperature", calibration_folds=n_folds, conformal_coverage=0.4
        ).calibrating
        answers = held_out_predictions(
            asked,
            fitter_for(plan.request.model, plan.windows),
            fitter_for(plan.request.model, plan.windows)(asked),
            n_folds,
        )
        found.append(calibration_from(plan.windows, [answers], settings))
    assert found[0] == found[1]


def test_what_is_compared_is_what_a_run_fits(study: Study) -> None:
    """One by one or stacked, a fold's answers are those of the plan; the tested people's own answers do change."""
    plain, other = (study.plan(kind, "perceiver-io", "causal") for kind in ("plain", "other"))
    for fit in (lambda plan: fit_fold(plan, plan.folds[0]), lambda plan: fit_together(plan, plan.folds[:1])[0]):
        assert not np.array_equal(fit(plain).probabilities[:8], fit(other).probabilities[:8])
