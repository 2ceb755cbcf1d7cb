"""A signal told from other sensors: in its unit, on the recording's clock, and from nothing of its own sensor."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.data.normalisation import NormalisationSettings
from biopercept.errors import CheckpointError, RecordingError
from biopercept.inference.reconstruction import ReconstructedSignal, reconstruct, reconstruct_prepared
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.prepare.recording import PrepareSettings, prepare_recording
from biopercept.preprocessing.features import FEATURE_NAMES
from biopercept.preprocessing.windows import WindowSettings
from biopercept.resources import sample_study
from biopercept.store.prepared import PreparedRecording
from biopercept.studies.loading import load_entry, load_study
from biopercept.training.engine import Engine
from biopercept.training.pretraining import (
    Origin,
    PretrainedModel,
    PretrainingRequest,
    load_pretrained,
    pretrain,
    save_pretrained,
    unlabelled_inputs,
)
from biopercept.training.settings import PretrainingSettings

ENGINE, TOKENS, CAUSAL = Engine(torch.device("cpu")), TokenSettings(), NormalisationSettings()
CALM = PerceiverSettings(
    width=32, n_latents=4, n_layers=1, n_heads=4, attention_dropout=0.0, feedforward_dropout=0.0, path_dropout=0.0
)


def wave_of(made: ModuleType, number: int) -> np.ndarray:
    n = int(len(made.STAGES) * made.STAGE_SECONDS * made.RATE)
    return np.sin(2 * np.pi * np.arange(n) / made.RATE / 45 + number)


def wavy(made: ModuleType, number: int, missing: tuple[str, ...] = ()) -> PreparedRecording:
    """Return a recording whose skin conductance follows its heart rate."""
    held = made.recording(f"P{number:02d}", seed=0, missing=(*missing, "tonic"))
    for name, level, scale in (("EDA", 3.0, 0.5), ("heart_rate", 70.0, 6.0)):
        if name in held.samples:
            noise = np.random.default_rng([number, len(name)]).normal(size=held.samples[name].shape[1])
            held.samples[name][0] = level + scale * (wave_of(made, number) + 0.1 * noise)
    held.windows.features[:] = np.nan
    return held


@pytest.fixture(scope="module")
def model(made: ModuleType) -> PretrainedModel:
    recordings = [wavy(made, number) for number in range(1, 6)]
    inputs = unlabelled_inputs(
        recordings, CAUSAL, TOKENS, length_seconds=made.LENGTH, step_seconds=made.STEP, feature_names=made.FEATURES
    )
    settings = PretrainingSettings(n_epochs=35, batch_size=32, learning_rate=5e-3, sensor_masking=0.8)
    network = pretrain(PretrainingRequest((inputs,), TOKENS, CALM, settings, ENGINE, 0)).network
    prepare = {"windows": {"length_seconds": made.LENGTH, "step_seconds": made.STEP}}
    population = inputs.fit(inputs.windows.subjects)
    return PretrainedModel(network, settings.objective, TOKENS, CAUSAL, "made", prepare, population)


def told(
    made: ModuleType, model: PretrainedModel, recording: PreparedRecording, what: str = "eda"
) -> ReconstructedSignal:
    return reconstruct_prepared(model, recording, what, ENGINE, feature_names=made.FEATURES)


@pytest.mark.parametrize(("missing", "level"), [((), "recording"), (("EDA",), "training subjects")])
def test_a_signal_is_told_in_its_unit_and_time_whether_or_not_it_was_measured(
    made: ModuleType, model: PretrainedModel, missing: tuple[str, ...], level: str
) -> None:
    found = told(made, model, wavy(made, 6, missing))
    wave = wave_of(made, 6)
    assert (found.unit, found.channels, found.level_of, found.sensors) == ("uS", ("EDA",), level, ("ecg",))
    assert np.array_equal(found.times, np.arange(len(wave)) / 4.0)
    assert found.values.shape == (1, len(wave))
    settled = slice(400, None)  # the causal scale has settled
    assert np.isfinite(found.values).all()
    assert np.corrcoef(found.values[0, settled], wave[settled])[0, 1] > 0.7
    assert abs(found.values[0, settled].mean() - 3.0) < 0.25
    assert 0.1 < found.values[0, settled].std() < 0.6  # microsiemens: the wave has 0.35


def test_nothing_of_the_hidden_sensor_is_read(made: ModuleType, model: PretrainedModel) -> None:
    plain, strange = (made.recording("P06", seed=0) for _ in range(2))
    strange.samples["tonic"][:] = 40.0 + np.random.default_rng(0).normal(size=strange.samples["tonic"].shape)
    strange.windows.features[:, 1:] = 9.0
    assert np.array_equal(told(made, model, plain).values, told(made, model, strange).values)
    strange.samples["heart_rate"][0, 500:] += 20.0
    assert not np.array_equal(told(made, model, plain).values, told(made, model, strange).values)


def test_what_cannot_be_told_is_said(made: ModuleType, model: PretrainedModel) -> None:
    with pytest.raises(CheckpointError, match=r"has not learnt to reconstruct 'eeg'; it knows eda, heart_rate"):
        told(made, model, wavy(made, 6), "eeg")
    with pytest.raises(RecordingError, match=r"P06 protocol has eda; nothing is left to reconstruct eda from"):
        told(made, model, wavy(made, 6, ("heart_rate",)))
    with pytest.raises(CheckpointError, match=r"objective 'alignment', which does not teach it to reconstruct signals"):
        told(made, replace(model, objective="alignment"), wavy(made, 6))


def test_a_folder_and_a_recording_as_loaded_are_all_it_takes(tmp_path: Path) -> None:
    with sample_study() as folder:
        study = load_study(folder)
        recording = load_entry(study, study.entries[0])
        prepare = PrepareSettings(WindowSettings(length_seconds=30.0, step_seconds=10.0))
        prepared = prepare_recording(recording, prepare)
        inputs = unlabelled_inputs(
            [prepared], CAUSAL, TOKENS, length_seconds=30.0, step_seconds=10.0, feature_names=FEATURE_NAMES
        )
        small = PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2)
        brief = PretrainingSettings(n_epochs=1, batch_size=16, n_queries=4)
        request = PretrainingRequest((inputs,), TOKENS, small, brief, ENGINE, 0)
        done = pretrain(request)
        population = inputs.fit(inputs.windows.subjects)
        row = {"study": "sample", "store": "0" * 64, "subjects": ["S01"], "n_windows": 1, "prepare": asdict(prepare)}
        kept = [{**row, "population": population.to_json()}]
        save_pretrained(done, request, Origin(kept, 0), tmp_path / "pre")
        found = reconstruct(tmp_path / "pre", recording, "heart_rate")
        save_pretrained(done, request, Origin([row], 0), tmp_path / "old")
    assert (found.unit, found.level_of) == ("bpm", "recording")
    assert "ecg" not in found.sensors
    assert np.isfinite(found.values).mean() > 0.9
    model = load_pretrained(tmp_path / "pre", "sample")
    again = reconstruct_prepared(model, prepared, "heart_rate", ENGINE, feature_names=FEATURE_NAMES)
    assert np.array_equal(again.values, found.values, equal_nan=True)
    with pytest.raises(CheckpointError, match="was not pretrained on 'other'; it was on sample"):
        load_pretrained(tmp_path / "pre", "other")
    with pytest.raises(CheckpointError, match="does not keep the scale of its studies; pretrain the network again"):
        load_pretrained(tmp_path / "old")
