"""Pretraining on studies: seeded, blind to labels and to subjects not given, kept as a folder and started from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.errors import CheckpointError, SettingsError, StudyError
from biopercept.model.biosignals import BiosignalPerceiver, queries_of
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import TokenInputs
from biopercept.training.checkpoint import (
    CARD,
    DESCRIPTION,
    load_model,
    load_start,
    matching,
    read_description,
    take_weights,
)
from biopercept.training.engine import Engine
from biopercept.training.final import Provenance, TrainingRequest, train
from biopercept.training.fitting import fit_perceiver_io, starting_weights
from biopercept.training.loop import FitRequest
from biopercept.training.pretraining import (
    Origin,
    PretrainedNetwork,
    PretrainingRequest,
    load_pretrained,
    pretrain,
    save_pretrained,
    unlabelled_inputs,
)
from biopercept.training.settings import FitSettings, PretrainingSettings, TrainingSettings

ENGINE = Engine(torch.device("cpu"))
SMALL = PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2)
BRIEF = PretrainingSettings(n_epochs=1, batch_size=32, n_queries=4)
TOKENS, CAUSAL = TokenSettings(), NormalisationSettings()


def unlabelled(made: ModuleType, recordings, normalisation=CAUSAL, feature_names=None) -> WindowInputs:
    names = made.FEATURES if feature_names is None else feature_names
    return unlabelled_inputs(
        recordings, normalisation, TOKENS, length_seconds=made.LENGTH, step_seconds=made.STEP, feature_names=names
    )


def done(studies, *, seed: int = 0, settings: PretrainingSettings = BRIEF, **more) -> PretrainedNetwork:
    return pretrain(PretrainingRequest(tuple(studies), TOKENS, SMALL, settings, ENGINE, seed, **more))


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def saved(made: ModuleType, network: PretrainedNetwork, folder: Path, subjects=("P01", "P02"), plan=None) -> Path:
    inputs = unlabelled(made, made.study(2))
    study = {"study": "made", "store": "0" * 64, "subjects": list(subjects), "n_windows": 9, "prepare": {}}
    study["population"] = inputs.fit(inputs.windows.subjects).to_json()
    request = PretrainingRequest((inputs,), TOKENS, SMALL, BRIEF, ENGINE, 0)
    save_pretrained(network, request, Origin([study], 0, plan=plan), folder)
    return folder


@pytest.fixture(scope="module")
def network(made: ModuleType) -> PretrainedNetwork:
    return done([unlabelled(made, made.study(4))])


def test_a_hidden_sensor_is_told_from_another_better_than_by_its_mean(made: ModuleType) -> None:
    recordings = []
    for number, held in enumerate(made.study(7)[:6]):
        seconds = np.arange(held.samples["EDA"].shape[1]) / made.RATE
        wave = np.sin(2 * np.pi * seconds / 45 + number)
        for name, level, scale in (("EDA", 3, 0.5), ("heart_rate", 70, 6)):
            noise = np.random.default_rng([number, level]).normal(size=len(wave))
            held.samples[name][0] = level + scale * (wave + 0.1 * noise)
        recordings.append(held)
    settings = PretrainingSettings(n_epochs=25, batch_size=32, learning_rate=5e-3, sensor_masking=0.8)
    calm = replace(SMALL, width=32, n_heads=4, attention_dropout=0.0, feedforward_dropout=0.0, path_dropout=0.0)
    request = PretrainingRequest((unlabelled(made, recordings[:5]),), TOKENS, calm, settings, ENGINE, 0)
    taught = pretrain(request).network
    held = unlabelled(made, recordings)
    source = TokenSource(held, held.fit([f"P0{i}" for i in range(1, 6)]), TOKENS, ENGINE.device)
    batch = source.batch(held.windows.rows_of(["P06"])[10:])  # once the causal scale has settled
    truth = next(s for s in batch.sensors if s.modality == "eda")
    only_heart = TokenInputs(tuple(s for s in batch.sensors if s.modality == "heart_rate"))
    with torch.no_grad():
        told = taught(only_heart, patches=(queries_of(truth),)).patches[0]
    error = (told - truth.patches.flatten(1, 2)).square().mean()
    filler = truth.patches.square().mean()
    assert error < 0.5 * filler


@pytest.mark.parametrize("objective", ["masked", "contrastive", "alignment"])
def test_the_same_seed_gives_equal_weights_and_another_seed_others(made: ModuleType, objective: str) -> None:
    settings, study = replace(BRIEF, objective=objective), [unlabelled(made, made.study(3))]
    state = torch.get_rng_state()
    first, again, other = (done(study, seed=s, settings=settings).weights for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert equal(first, again)
    assert not equal(first, other)


def test_labels_play_no_part(made: ModuleType, network: PretrainedNetwork) -> None:
    recordings = made.study(4)
    for held in recordings:
        held.windows.label[:] = "stroop"
    assert equal(done([unlabelled(made, recordings)]).weights, network.weights)


def test_several_studies_teach_one_network_each_with_its_own_sensors(made: ModuleType) -> None:
    one = unlabelled(made, [made.recording(f"A{i}", seed=0, missing=("EDA", "tonic")) for i in range(3)])
    other = unlabelled(made, [made.recording(f"B{i}", seed=0, missing=("heart_rate",)) for i in range(3)])
    alone, both = (done(studies, settings=replace(BRIEF, n_epochs=2)).network for studies in ([one], [one, other]))
    fresh = done([one], settings=replace(BRIEF, n_epochs=1, learning_rate=1e-12)).network
    for network, moves in ((alone, False), (both, True)):
        moved = (network.fusion.shapes["eda"].weight / fresh.fusion.shapes["eda"].weight).std() > 1e-3
        assert bool(moved) is moves  # decay alone scales all weights alike
    assert (both.fusion.shapes["heart_rate"].weight / fresh.fusion.shapes["heart_rate"].weight).std() > 1e-3


def test_studies_that_disagree_on_features_are_refused(made: ModuleType) -> None:
    one, other = unlabelled(made, made.study(3)), unlabelled(made, made.study(3))
    fewer = replace(other.windows, feature_names=("heart/hr_mean", "eda/scl_mean"))
    with pytest.raises(
        SettingsError, match=r"the stores have 2 and 1 features of the group 'eda'; prepare the studies"
    ):
        done([one, replace(other, windows=fewer)])


def test_recordings_without_a_window_are_refused(made: ModuleType) -> None:
    with pytest.raises(StudyError, match="the 0 recordings have no window of 20 s to pretrain on"):
        unlabelled(made, ())


def test_a_saved_network_answers_the_same_and_is_no_model_to_predict_with(
    made: ModuleType, network: PretrainedNetwork, tmp_path: Path
) -> None:
    folder = saved(made, network, tmp_path / "pre")
    again = load_pretrained(folder)
    assert equal(again.network.state_dict(), network.weights)
    assert (again.study, again.objective) == ("made", "masked")
    with pytest.raises(
        CheckpointError, match="was pretrained and predicts no task yet; give it to train with --start-from"
    ):
        load_model(folder)
    assert "made (2 subjects)" in (folder / CARD).read_text()
    content = (folder / DESCRIPTION).read_text()
    (folder / DESCRIPTION).write_text(content.replace('"subjects"', '"persons"'))
    with pytest.raises(CheckpointError, match="is damaged or was edited"):
        load_start(folder)


def test_weights_are_taken_where_name_and_shape_agree_and_the_rest_is_new(
    made: ModuleType, network: PretrainedNetwork, tmp_path: Path
) -> None:
    start = load_start(saved(made, network, tmp_path / "pre"))
    torch.manual_seed(5)
    model = BiosignalPerceiver(SMALL, TOKENS, network.vocabulary, {"stress": 2})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    taken = take_weights(model, start.weights)
    now = model.state_dict()
    assert all(torch.equal(now[k], network.weights[k]) for k in taken)
    assert {k for k in now if k not in taken} == {"queries.values", "heads.0.weight", "heads.0.bias"}
    assert all(torch.equal(now[k], before[k]) for k in now if k not in taken)
    wider = BiosignalPerceiver(replace(SMALL, n_latents=5), TOKENS, network.vocabulary, {"stress": 2})
    assert "core.latents.values" not in matching(wider, start.weights)
    other = torch.nn.Linear(2, 2)
    with pytest.raises(
        CheckpointError, match="no weight of the model to start from has the name and shape of one here"
    ):
        take_weights(other, start.weights)


def test_a_final_model_says_where_it_started_and_hands_on_whom_that_had_seen(
    made: ModuleType, network: PretrainedNetwork, tmp_path: Path
) -> None:
    folder = saved(made, network, tmp_path / "pre", ("X1",))
    recordings = made.study(4)
    windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    prepare = {"windows": {"length_seconds": made.LENGTH, "step_seconds": made.STEP}, "cleaning": {}}
    settings = FitSettings(TOKENS, SMALL, TrainingSettings(n_epochs=1, batch_size=32), start_from=str(folder))
    origin, inputs = Provenance("other", "1" * 64, prepare, ("eda",)), WindowInputs(windows, CAUSAL, made.STEP)
    fitted = train(TrainingRequest(inputs, settings, origin, device="cpu"), tmp_path / "model")
    told = load_model(tmp_path / "model").training["start_from"]
    assert (told["kind"], told["studies"], told["new"]) == (
        "pretrained",
        ["made"],
        ["queries.values", "heads.0.weight", "heads.0.bias"],
    )
    assert "It started from the weights of a pretrained network" in (tmp_path / "model" / CARD).read_text()
    again = load_start(tmp_path / "model")
    assert again.overlap("made", "-", ["X1", "P01"]) == ("X1",)
    assert again.overlap("other", "-", ["X1", "P01"]) == ("P01",)
    plain = train(TrainingRequest(inputs, replace(settings, start_from=""), origin, device="cpu"), tmp_path / "plain")
    assert not equal(fitted.network.state_dict(), plain.network.state_dict())


def test_pretraining_inside_a_fold_reads_its_training_subjects_alone(made: ModuleType) -> None:
    def weights(recordings):
        windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
        request = FitRequest(
            WindowInputs(windows, CAUSAL, made.STEP),
            windows.rows_of(("P01", "P02")), windows.rows_of(("P03",)),
            FitSettings(TOKENS, SMALL, pretraining=BRIEF), ENGINE, 7,
        )  # fmt: skip
        return starting_weights(request)

    recordings = made.study(5)
    plain = weights(recordings)
    for index, is_read in ((1, True), (2, False), (3, False)):  # training, validation, test
        strange = made.recording(f"P0{index + 1}", seed=77, offset=300.0)
        changed = weights((*recordings[:index], strange, *recordings[index + 1 :]))
        assert equal(plain, changed) is not is_read, index


def test_whole_source_dropout_keeps_a_model_standing_when_its_best_sensor_is_gone(made: ModuleType) -> None:
    """Both sensors tell the class, one more clearly: without the dropout the other is hardly learnt (three seeds)."""
    recordings = made.study(9)[:8]
    for held in recordings:
        stage = np.repeat([s == "stroop" for s in made.STAGES], int(made.STAGE_SECONDS * made.RATE))
        noise = np.random.default_rng([*held.subject.encode()]).normal(size=len(stage))
        held.samples["heart_rate"][0] = 70 + 30 * stage + noise
        held.samples["tonic"][0] = 1.0 * stage + noise[::-1]
        held.samples["EDA"][:] = 0.0
        held.windows.features[:] = np.nan
    windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    inputs = WindowInputs(windows, NormalisationSettings("global"), made.STEP)
    rows = windows.rows_of(("P07", "P08"))

    def correct(chance: float, seed: int) -> tuple[float, float]:
        tokens = TokenSettings(modality_dropout=chance, channel_dropout=0.0, time_dropout=0.0, token_dropout=0.0)
        settings = FitSettings(
            tokens,
            PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
            TrainingSettings(n_epochs=15, batch_size=32, learning_rate=5e-3),
        )
        training = windows.rows_of([f"P0{i}" for i in range(1, 7)])
        found = fit_perceiver_io(FitRequest(inputs, training, windows.rows_of(()), settings, ENGINE, seed))
        whole = found.predict(rows).argmax(1) == windows.only.values[rows]
        batch = found.source.batch(rows)
        with torch.no_grad():
            alone = found.fitted.network(TokenInputs(tuple(s for s in batch.sensors if s.modality == "tonic")))
        return whole.mean(), (alone.tasks["stress"].argmax(1).numpy() == windows.only.values[rows]).mean()

    without, standing = (np.array([correct(chance, seed) for seed in range(3)]) for chance in (0.0, 0.8))
    assert min(without[:, 0].min(), standing[:, 0].min()) > 0.9
    assert standing[:, 1].mean() > max(0.7, without[:, 1].mean() + 0.1)


def test_a_card_without_room_for_a_batch_gets_half_and_says_so(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, most = unlabelled(made, made.study(2)), 8
    at_once = done([study], settings=replace(BRIEF, batch_size=8))
    encode = BiosignalPerceiver.encode

    def limited(network: BiosignalPerceiver, inputs: TokenInputs, *others, **more):
        if len(inputs.sensors[0].patches if inputs.sensors else inputs.features[0].values) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return encode(network, inputs, *others, **more)

    monkeypatch.setattr(BiosignalPerceiver, "encode", limited)
    with pytest.warns(UserWarning, match=r"pretraining\.batch_size=(16|8) does so at once"):
        halved = done([study])
    assert equal(halved.network.state_dict(), at_once.network.state_dict())
    most = 0
    with pytest.warns(UserWarning), pytest.raises(SettingsError, match="not the memory for a single window"):
        done([study])


def test_a_plan_stands_in_the_description_and_on_the_card(
    made: ModuleType, network: PretrainedNetwork, tmp_path: Path
) -> None:
    plan = {"lines": [{"setting": "model.width", "value": 16, "because": "it is small"}]}
    folder = saved(made, network, tmp_path / "pre", plan=plan)
    assert read_description(folder)["plan"] == plan
    assert "- model.width = 16: it is small" in (folder / CARD).read_text()
    assert "plan" not in read_description(saved(made, network, folder))
