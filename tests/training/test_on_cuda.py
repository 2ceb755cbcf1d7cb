"""What a graphics card changes: nothing but rounding. Skipped where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.baselines.catalogue import fitter_for
from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.errors import SettingsError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.training.engine import Engine, engine_for
from biopercept.training.fitting import NetworkFitter, fit_perceiver_io, operations_per_window
from biopercept.training.loop import FitRequest
from biopercept.training.settings import FitSettings, TrainingSettings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

CUDA, CPU = Engine(torch.device("cuda")), Engine(torch.device("cpu"))
BRIEF = FitSettings(
    TokenSettings(),
    PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    TrainingSettings(n_epochs=3, batch_size=16, learning_rate=3e-3),
)
NETWORKS = ("perceiver-io", "perceiver", "transformer", "informer", "lstm", "cnn-late-fusion", "hourglass")


@pytest.fixture
def inputs(made: ModuleType) -> WindowInputs:
    windows = labelled_windows(made.study(6), made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    return WindowInputs(windows, NormalisationSettings(), made.STEP)


def asked(
    inputs: WindowInputs, training: str, validation: str = "", seed: int = 0, engine: Engine = CUDA
) -> FitRequest:
    rows = [inputs.windows.rows_of([f"P0{n}" for n in part]) for part in (training, validation)]
    return FitRequest(inputs, rows[0], rows[1], BRIEF, engine, seed)


def everything(inputs: WindowInputs) -> np.ndarray:
    return np.arange(len(inputs.windows))


def test_folds_fitted_at_once_get_what_each_gets_alone(inputs: WindowInputs) -> None:
    requests = [asked(inputs, "1234", "5"), asked(inputs, "23", "1", seed=7), asked(inputs, "456", seed=8)]
    found = fit_perceiver_io.together(requests)
    for stacked, request in zip(found, requests, strict=True):
        single = fit_perceiver_io(request)
        assert np.allclose(stacked.fitted.history, single.fitted.history, rtol=0, atol=1e-4, equal_nan=True)
        told, alone = (fitted.predict(everything(inputs)) for fitted in (stacked, single))
        assert np.allclose(told, alone, rtol=0, atol=1e-3)
    assert not np.allclose(found[0].predict(everything(inputs)), told, atol=2e-2)


def test_the_same_seed_gives_the_same_answers(inputs: WindowInputs) -> None:
    told = [fit_perceiver_io(asked(inputs, "1234", "5", seed=s)).predict(everything(inputs)) for s in (3, 3, 4)]
    assert np.allclose(told[0], told[1], rtol=0, atol=1e-5)
    assert not np.allclose(told[0], told[2], atol=1e-2)


def test_a_network_fitted_on_the_card_answers_the_same_on_a_processor(inputs: WindowInputs) -> None:
    fitted = fit_perceiver_io(asked(inputs, "1234", "5"))
    told = fitted.predict(everything(inputs))
    fitted.fitted.network.to("cpu")
    source = TokenSource(inputs, fitted.fitted.population, BRIEF.tokens, CPU.device)
    moved = replace(fitted, source=source).predict(everything(inputs))
    assert np.allclose(told, moved, rtol=0, atol=1e-4)
    assert told.std(0).max() > 0.01


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_fitted_and_asked(inputs: WindowInputs, name: str) -> None:
    fitter = fitter_for(name, inputs.windows)
    assert isinstance(fitter, NetworkFitter)
    fitted = fitter(asked(inputs, "1234", "5"))
    told = fitted.predict(everything(inputs))
    assert next(fitted.fitted.network.parameters()).device.type == "cuda"
    assert np.isfinite(told).all()
    assert np.allclose(told.sum(1), 1.0, atol=1e-6)
    counted, network = fitted.operations_per_window, fitted.fitted.network.to("cpu")
    source = TokenSource(inputs, fitted.fitted.population, BRIEF.tokens, CPU.device)
    assert counted == operations_per_window(network, source, fitted.rows) > 0


def test_halved_precision_fits_close_to_the_full_one(inputs: WindowInputs) -> None:
    full, half = (asked(inputs, "1234", "5", engine=replace(CUDA, precision=p)) for p in ("float32", "bfloat16"))
    losses = [fit_perceiver_io(request).fitted.history[-1][1] for request in (full, half)]
    assert losses[0] == pytest.approx(losses[1], abs=0.1)
    assert losses[0] != losses[1]


def test_a_cross_validation_stacks_its_folds_unless_told_otherwise(made: ModuleType, tmp_path: Path) -> None:
    store = made.store(tmp_path / "made.h5", made.study(6))
    scores = {}
    for how in ("auto", "single"):
        evaluation = EvaluationSettings(folds_at_once=how, n_bootstrap=200)
        cross_validate(EvaluationRequest(store, fit=BRIEF, evaluation=evaluation), tmp_path / how)
        lines = (tmp_path / how / "log.jsonl").read_text().splitlines()
        scores[how] = [json.loads(line) for line in lines]
    assert len({line["seconds"] for line in scores["auto"]}) == 1  # shared evenly: they were fitted together
    assert len({line["seconds"] for line in scores["single"]}) > 1
    for together, alone in zip(scores["auto"], scores["single"], strict=True):
        assert np.allclose(together["history"], alone["history"], rtol=0, atol=1e-3)


def test_a_card_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="cuda:99"):
        engine_for("cuda:99")
