"""A made wave is told a patch ahead from its past alone, better than by answers that nothing changes."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from made_inputs import OPEN, SMALL, VOCABULARY, signal
from made_inputs import inputs as two_sensors

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import grid_windows
from biopercept.errors import CheckpointError, SettingsError, StudyError
from biopercept.model.biosignals import BiosignalPerceiver, queries_of
from biopercept.model.settings import TIME_CODES, PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import TokenInputs
from biopercept.training.engine import Engine
from biopercept.training.settings import FitSettings, TrainingSettings
from experiments.forecasting import fit_forecaster, forecast, forecast_errors, next_patches

ENGINE = Engine(torch.device("cpu"))
TOKENS = TokenSettings(derived=False, features=False, modality_dropout=0.0, channel_dropout=0.0, time_dropout=0.0)
MODEL = PerceiverSettings(
    width=32, n_latents=8, n_layers=1, n_heads=2, attention_dropout=0.0, feedforward_dropout=0.0, path_dropout=0.0
)


@pytest.fixture
def model() -> BiosignalPerceiver:
    torch.manual_seed(0)
    return BiosignalPerceiver(SMALL, OPEN, VOCABULARY, {}, reconstructs=True).eval()


def test_the_next_patch_is_told_from_what_ended_before_it_and_from_nothing_else(model: BiosignalPerceiver) -> None:
    before = next_patches(model, two_sensors(), "eda")
    assert before.shape == (2, 2, 6, 8)
    for changed, moves_from in (("eda", 3), ("temp", 4)):  # patch 2 of EDA ends at 15 s, patch 1 of temperature at 20 s
        later = two_sensors()
        for sensor in later.sensors:
            if sensor.modality == changed:
                first = {"eda": 2, "temp": 1}[changed]
                sensor.patches[:, :, first:] += 3.0
                sensor.quality[:, :, first:] = 0.0
        moved = (next_patches(model, later, "eda") - before).abs().amax((0, 1, 3))
        assert (moved[:moves_from] == 0).all(), changed
        assert (moved[moves_from:] > 1e-5).all(), changed


def test_features_of_the_whole_window_do_not_reach_a_next_step(model: BiosignalPerceiver) -> None:
    changed = two_sensors()
    changed.features[0].values[:] += 9.0
    assert torch.equal(next_patches(model, changed, "eda"), next_patches(model, two_sensors(), "eda"))


def test_teacher_forced_steps_equal_steps_told_one_by_one(model: BiosignalPerceiver) -> None:
    whole = two_sensors()
    together = next_patches(model, whole, "eda")
    for step in (2, 4):
        eda, temp = (replace(s, is_real=s.is_real.clone()) for s in whole.sensors)
        eda.is_real[:, :, step:] = False
        temp.is_real[:, :, step // 2 :] = False
        asked = queries_of(signal("eda", n_channels=2), torch.tensor([[step, 6 + step]] * 2))
        alone = model(TokenInputs((eda, temp)), patches=(asked,)).patches[0]
        torch.testing.assert_close(together[:, :, step], alone, rtol=0, atol=2e-6)


def test_a_forecast_begins_with_the_next_patch_and_reads_its_own_answers(model: BiosignalPerceiver) -> None:
    told = forecast(model, two_sensors(), "eda", 3)
    assert told.shape == (2, 2, 3, 8)
    longer = two_sensors()
    eda = longer.sensors[0]
    next_place = replace(
        eda,
        patches=torch.cat((eda.patches, torch.zeros(2, 2, 1, 8)), 2),
        is_real=torch.cat((eda.is_real, torch.ones(2, 2, 1, dtype=torch.bool)), 2),
        times=torch.cat((eda.times, eda.times[:, -1:] + 5.0), 1),
        quality=torch.cat((eda.quality, torch.ones(2, 2, 1)), 2),
    )
    forced = next_patches(model, TokenInputs((next_place, longer.sensors[1])), "eda")
    torch.testing.assert_close(told[:, :, 0], forced[:, :, -1], rtol=0, atol=2e-6)
    fed = replace(next_place, patches=torch.cat((eda.patches, told[:, :, :1]), 2))
    again = forecast(model, TokenInputs((fed, longer.sensors[1])), "eda", 2)
    torch.testing.assert_close(told[:, :, 1:], again, rtol=0, atol=2e-6)


def test_a_next_step_is_causal_under_every_time_code() -> None:
    for kind in TIME_CODES:
        torch.manual_seed(0)
        model = BiosignalPerceiver(SMALL, replace(OPEN, time_code=kind), VOCABULARY, {}, reconstructs=True).eval()
        before = next_patches(model, two_sensors(), "eda")
        later = two_sensors()
        later.sensors[0].patches[:, :, 3:] += 5.0
        moved = (next_patches(model, later, "eda") - before).abs().amax((0, 1, 3))
        assert (moved[:4] == 0).all()
        assert (moved[4:] > 0).all()


def test_steps_beyond_a_learned_table_and_signals_that_are_not_there_are_refused(model: BiosignalPerceiver) -> None:
    short = BiosignalPerceiver(
        SMALL, replace(OPEN, time_code="learned", longest_seconds=40.0), VOCABULARY, {}, reconstructs=True
    ).eval()
    assert forecast(short, two_sensors(), "eda", 2).shape == (2, 2, 2, 8)  # centres up to 37.5 s
    with pytest.raises(SettingsError, match=r"times up to 42\.5 s are to be coded"):
        forecast(short, two_sensors(), "eda", 3)
    with pytest.raises(CheckpointError, match="have no acc to go on with; they have eda, temp"):
        next_patches(model, two_sensors(), "acc")


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
