"""A made wave is told a patch ahead from its past alone, better than by answers that nothing changes."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import grid_windows
from biopercept.errors import StudyError
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.tokens import TokenSettings
from biopercept.training.engine import Engine
from biopercept.training.forecasting import fit_forecaster, forecast_errors
from biopercept.training.settings import FitSettings, TrainingSettings

ENGINE = Engine(torch.device("cpu"))
TOKENS = TokenSettings(derived=False, features=False, modality_dropout=0.0, channel_dropout=0.0, time_dropout=0.0)
MODEL = PerceiverSettings(
    width=32, n_latents=8, n_layers=1, n_heads=2, attention_dropout=0.0, feedforward_dropout=0.0, path_dropout=0.0
)


def waves(made: ModuleType):
    """Return the made study with a wave of 20 s in place of EDA: over two patches of 5 s it turns into its opposite."""
    held = []
    for place, one in enumerate(made.study(5)[:4]):
        t = np.arange(one.samples["EDA"].shape[1]) / made.RATE
        wave = 3 + np.sin(2 * np.pi * (t / 20 + place / 7)) + 0.05 * np.random.default_rng(place).normal(size=len(t))
        held.append(replace(one, samples={**one.samples, "EDA": wave[None].astype(np.float32)}))
    return held


@pytest.fixture(scope="module")
def inputs(made: ModuleType) -> WindowInputs:
    windows = grid_windows(waves(made), length_seconds=made.LENGTH, feature_names=made.FEATURES)
    return WindowInputs(windows, NormalisationSettings("global"), made.STEP, derived=False)


def errors(inputs: WindowInputs, n_epochs: int):
    rows = inputs.windows.rows_of
    found = fit_forecaster(
        inputs, rows(("P01", "P02", "P03")), rows(()), "eda", engine=ENGINE, seed=0,
        settings=FitSettings(TOKENS, MODEL, TrainingSettings(n_epochs=n_epochs, batch_size=32, learning_rate=5e-3)),
    )  # fmt: skip
    source = TokenSource(inputs, found.population, TOKENS, ENGINE.device)
    return forecast_errors(found.network, source, inputs.windows, rows(("P04",)), "eda")


def test_a_wave_is_told_better_than_by_persistence_in_a_subject_never_seen(inputs: WindowInputs) -> None:
    found = errors(inputs, 25)
    assert found.network < 0.5 * min(found.last_patch, found.last_value)
    assert (found.n_subjects, found.subjects_better) == (1, 1)
    assert found.n_patches == 3 * len(inputs.windows.rows_of(("P04",)))


def test_persistence_is_what_numpy_says_of_the_same_patches(made: ModuleType, inputs: WindowInputs) -> None:
    found = errors(inputs, 1)
    held = inputs.windows.recordings[3]
    wave = held.samples["EDA"][0].astype(float)
    pairs = []
    for onset in inputs.windows.onset[inputs.windows.rows_of(("P04",))]:
        first = int(onset * made.RATE)
        patches = wave[first : first + 80].reshape(4, 20)
        pairs.append([((patches[1:] - patches[:-1]) ** 2).mean(), ((patches[1:] - patches[:-1, -1:]) ** 2).mean()])
    expected = np.mean(pairs, axis=0)
    assert found.last_patch / found.last_value == pytest.approx(expected[0] / expected[1], rel=1e-4)


def test_a_signal_that_nobody_has_cannot_be_forecast(inputs: WindowInputs) -> None:
    rows = inputs.windows.rows_of(("P01",))
    with pytest.raises(StudyError, match="no training recording has ecg, so its next patches cannot be learnt"):
        fit_forecaster(
            inputs, rows, rows[:0], "ecg", settings=FitSettings(TOKENS, MODEL, TrainingSettings(n_epochs=1)),
            engine=ENGINE, seed=0,
        )  # fmt: skip
