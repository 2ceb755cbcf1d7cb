"""Batches of windows with like sensors: the same answers, losses and draws, and hardly any padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from made_inputs import OPEN

from biopercept.data.batches import CALL_TOKENS, Layouts, TokenSource, in_order, vocabulary_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.inference.prediction import predict_times
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.settings import PerceiverSettings
from biopercept.model.token_inputs import TokenInputs
from biopercept.recording import Channel
from biopercept.store.prepared import PreparedRecording, StoredSignal
from biopercept.training.engine import Engine
from biopercept.training.fitting import fit_perceiver_io
from biopercept.training.loop import FitRequest
from biopercept.training.objective import Objective, predict_windows
from biopercept.training.pretraining import PretextNetwork
from biopercept.training.settings import OBJECTIVES, FitSettings, PretrainingSettings, TrainingSettings

CPU = torch.device("cpu")
CALM = PerceiverSettings(
    width=16, n_latents=4, n_layers=1, n_heads=2,
    attention_dropout=0.0, feedforward_dropout=0.0, head_dropout=0.0, path_dropout=0.0,
)  # fmt: skip
EEG_RATE = 64.0


def with_eeg(held: PreparedRecording, names: Sequence[str], *, rate: float = EEG_RATE) -> PreparedRecording:
    """Return the recording with EEG of these channels beside its other signals."""
    random = np.random.default_rng([len(names), *held.subject.encode()])
    n = int(held.duration_seconds * rate)
    channels = tuple(Channel(name, (0.01 * i, 0.02, 0.09)) for i, name in enumerate(names))
    eeg = StoredSignal("EEG", "eeg", "uV", rate, rate, 0.0, channels, n, "")
    windows = replace(held.windows, quality=np.ones((len(held.windows.onset), len(held.signals) + 1), dtype=np.float32))
    return replace(
        held,
        signals=(*held.signals, eeg),
        samples={**held.samples, "EEG": random.normal(size=(len(names), n)).astype(np.float32)},
        masks={**held.masks, "EEG": np.ones((len(names), n), dtype=bool)},
        quality={**held.quality, "EEG": np.ones((len(names), int(held.duration_seconds)), dtype=np.float32)},
        windows=windows,
    )


@pytest.fixture(scope="module")
def mixed(made: ModuleType) -> tuple[PreparedRecording, ...]:
    """Six people: two with a wristband alone, two with each of two montages that share a channel."""
    people = [made.recording(f"P0{i}", seed=0) for i in range(1, 7)]
    few, many = [f"C{i}" for i in range(8)], [f"C{i}" for i in range(7, 19)]
    return (
        people[0],
        with_eeg(people[1], few),
        with_eeg(people[2], many),
        made.recording("P04", seed=0, missing=("EDA", "tonic")),
        with_eeg(people[4], few),
        with_eeg(people[5], many),
    )


def source_of(made: ModuleType, recordings: Sequence[PreparedRecording]) -> tuple[WindowInputs, TokenSource]:
    windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    inputs = WindowInputs(windows, NormalisationSettings(), made.STEP)
    return inputs, TokenSource(inputs, inputs.fit([r.subject for r in recordings]), OPEN, CPU)


def undivided(source: TokenSource) -> Layouts:
    """Return layouts by which every batch holds everything, as a study's would whose windows all had one layout."""
    held = source.layouts
    return replace(held, kind=np.zeros_like(held.kind), has=held.has.any(0, keepdims=True))


def shuffled(n: int) -> np.ndarray:
    return np.random.default_rng(3).permutation(n)


def masked_share(batches: Sequence[TokenInputs]) -> float:
    real = sum(int(s.is_real.sum()) for b in batches for s in b.sensors)
    return 1.0 - real / sum(s.is_real.numel() for b in batches for s in b.sensors)


def test_hardly_any_token_of_a_mixed_study_is_padding(made: ModuleType, mixed: tuple[PreparedRecording, ...]) -> None:
    inputs, source = source_of(made, mixed)
    rows = shuffled(len(inputs.windows))
    parts = source.layouts.parts(rows, most=256)
    before = masked_share([source.batch(rows, is_whole=True)])
    after = masked_share([source.batch(rows[part]) for part in parts])
    assert before > 0.6
    assert after < 0.05
    assert source.layouts.padding(rows, parts) == pytest.approx(after)
    assert source.layouts.padding(rows, [np.arange(len(rows))]) == pytest.approx(before)
    drawn = np.random.default_rng(0).choice(rows, 64)  # a batch of training
    assert masked_share([source.batch(drawn[part]) for part in source.layouts.parts(drawn)]) < 0.15
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows)))


def test_windows_are_put_together_while_that_pads_less_than_a_call_costs(
    made: ModuleType, mixed: tuple[PreparedRecording, ...]
) -> None:
    inputs, source = source_of(made, mixed)
    of = {n: inputs.windows.rows_of([n])[0] for n in inputs.windows.subjects}
    wrist, few, many, no_eda = of["P01"], of["P02"], of["P03"], of["P04"]
    assert len(source.layouts.parts(np.array([wrist, no_eda] * 100))) == 1  # 8 tokens each
    n_alone = CALL_TOKENS // 160 + 1  # windows of 8 channels x 20 patches that the others lack
    assert len(source.layouts.parts(np.array([few] * 8 + [wrist] * (n_alone - 1)))) == 1
    rows = np.array([wrist] * n_alone + [few] * 8)
    assert [part.tolist() for part in source.layouts.parts(rows)] == [
        list(range(n_alone)), list(range(n_alone, n_alone + 8)),
    ]  # fmt: skip
    assert len(source.layouts.parts(np.array([wrist, few, many] * 30))) == 3


def test_batches_of_a_study_with_the_same_sensors_are_what_they_were(made: ModuleType) -> None:
    inputs, source = source_of(made, [with_eeg(made.recording(f"P0{i}", seed=0), ("A", "B", "C")) for i in (1, 2, 3)])
    rows = shuffled(len(inputs.windows))
    assert [part.tolist() for part in source.layouts.parts(rows)] == [list(range(len(rows)))]
    slices = [list(range(i, min(i + 7, len(rows)))) for i in range(0, len(rows), 7)]
    assert [part.tolist() for part in source.layouts.parts(rows, most=7)] == slices
    for one, other in zip(source.batch(rows).sensors, source.batch(rows, is_whole=True).sensors, strict=True):
        for name in ("patches", "is_real", "times", "positions", "channels", "rate", "quality"):
            # equal to the bit, unknown positions (NaN) at the same places
            assert torch.equal(getattr(one, name).nan_to_num(9.0), getattr(other, name).nan_to_num(9.0)), name
    assert source.layouts.parts(rows[:0]) == [] or len(source.layouts.parts(rows[:0])[0]) == 0


def test_a_gap_is_no_other_layout(made: ModuleType) -> None:
    people = [made.recording(f"P0{i}", seed=0) for i in (1, 2)]
    people[0].masks["EDA"][:] = False
    inputs, source = source_of(made, people)
    assert len(source.layouts.parts(np.arange(len(inputs.windows)))) == 1
    assert len(source.layouts.has) == 1


def test_answers_are_those_of_one_undivided_batch(made: ModuleType, mixed: tuple[PreparedRecording, ...]) -> None:
    inputs, source = source_of(made, mixed)
    torch.manual_seed(0)
    network = BiosignalPerceiver(CALM, OPEN, vocabulary_of(made.FEATURES), {"stress": 2}).eval()
    network.queries.values.data.normal_()
    rows = shuffled(len(inputs.windows))
    with torch.no_grad():
        want = torch.softmax(network(source.batch(rows, is_whole=True)).tasks["stress"].double(), -1).numpy()
    assert len(source.layouts.parts(rows)) == 3
    np.testing.assert_allclose(
        predict_windows(network, inputs.windows.tasks, source, rows)["stress"], want, rtol=0, atol=2e-6
    )
    np.testing.assert_allclose(
        predict_windows(network, inputs.windows.tasks, source, rows, batch_size=9)["stress"], want, rtol=0, atol=2e-6
    )
    assert np.ptp(want[:, 0]) > 1e-3
    assert predict_windows(network, inputs.windows.tasks, source, rows[:0])["stress"].shape == (0, 2)


def test_a_mixed_batch_of_training_has_the_loss_and_gradient_of_the_undivided_one(
    made: ModuleType, mixed: tuple[PreparedRecording, ...]
) -> None:
    inputs, source = source_of(made, mixed)
    torch.manual_seed(0)
    network = BiosignalPerceiver(CALM, OPEN, vocabulary_of(made.FEATURES), {"stress": 2}).train()
    rows = shuffled(len(inputs.windows))[:64]
    found = []
    for layouts in (source.layouts, undivided(source)):
        source.layouts = layouts
        network.zero_grad()
        loss = Objective(inputs.windows, inputs.windows.tasks, 0.05).loss(network, source, rows, torch.Generator())
        loss.backward()
        found.append((loss.detach(), [p.grad for p in network.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=2e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-6)


def test_losses_scores_and_single_times_too(made: ModuleType, mixed: tuple[PreparedRecording, ...]) -> None:
    inputs, source = source_of(made, mixed)
    rows = shuffled(len(inputs.windows))
    tasks = inputs.windows.tasks
    torch.manual_seed(0)
    network = BiosignalPerceiver(CALM, OPEN, vocabulary_of(made.FEATURES), {"stress": 2}, traces=True)
    times = np.linspace(1.0, 19.0, 3 * len(rows), dtype=np.float32).reshape(len(rows), 3)
    found = []
    for layouts in (source.layouts, undivided(source)):
        source.layouts = layouts
        objective = Objective(inputs.windows, tasks)
        loss = objective.loss(network.train(), source, rows[:64], torch.Generator())
        score = objective.validation_loss(network, source, rows)
        told = predict_windows(network, tasks, source, rows)["stress"]
        found.append((float(loss.detach()), score, told, predict_times(network, tasks, source, rows, times)["stress"]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=5e-6)
    assert np.ptp(found[0][2]) > 1e-3


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_pretraining_hides_asks_and_compares_over_the_whole_batch_all_the_same(
    made: ModuleType, mixed: tuple[PreparedRecording, ...], objective: str
) -> None:
    inputs, source = source_of(made, mixed)
    rows = shuffled(len(inputs.windows))[:64]
    torch.manual_seed(0)
    pretext = PretextNetwork(CALM, OPEN, vocabulary_of(made.FEATURES), PretrainingSettings(objective)).train()
    parts = source.layouts.parts(rows)
    assert len(parts) > 1
    losses = [pretext(source.batch(rows), torch.Generator().manual_seed(1), given) for given in (parts, ())]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=5e-6)
    assert losses[0] > 0


def test_a_network_is_fitted_on_a_mixed_study_and_again_equal(
    made: ModuleType, mixed: tuple[PreparedRecording, ...]
) -> None:
    inputs, _ = source_of(made, mixed)

    rows, validation = inputs.windows.rows_of(["P01", "P02", "P03", "P04"]), inputs.windows.rows_of(["P05"])
    model = PerceiverSettings(width=16, n_latents=4, n_layers=1)
    settings = FitSettings(OPEN, model, TrainingSettings(n_epochs=2, batch_size=64))
    fits = [
        fit_perceiver_io(FitRequest(inputs, rows, validation, settings, Engine(CPU), seed)).fitted for seed in (1, 1, 2)
    ]
    assert fits[0].history == fits[1].history
    assert fits[0].history != fits[2].history


def test_folds_fitted_at_once_leave_the_same_channels_out(
    made: ModuleType, mixed: tuple[PreparedRecording, ...]
) -> None:
    inputs, _ = source_of(made, mixed)

    of = inputs.windows.rows_of
    training = TrainingSettings(n_epochs=2, batch_size=6)  # few windows: a batch is not worth dividing
    settings = FitSettings(OPEN, PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2), training)
    requests = [
        FitRequest(inputs, of(["P01", "P02"]), of(["P05"]), settings, Engine(CPU), 0),
        FitRequest(inputs, of(["P03", "P04"]), of(["P06"]), settings, Engine(CPU), 1),
    ]
    for stacked, request in zip(fit_perceiver_io.together(requests), requests, strict=True):
        alone = fit_perceiver_io(request)
        np.testing.assert_allclose(stacked.fitted.history, alone.fitted.history, rtol=0, atol=2e-4)


def test_outputs_of_parts_lie_in_the_order_of_the_rows() -> None:
    values = torch.arange(7.0)
    parts = [np.array([1, 4, 6]), np.array([0]), np.array([2, 3, 5])]
    assert torch.equal(in_order(parts, lambda part: values[torch.from_numpy(part)]), values)
    named = in_order(parts, lambda part: {"a": values[torch.from_numpy(part)], "b": -values[torch.from_numpy(part)]})
    assert torch.equal(named["a"], values)
    assert torch.equal(named["b"], -values)


def test_absent_signals_channels_and_groups_are_left_out_of_inputs(
    made: ModuleType, mixed: tuple[PreparedRecording, ...]
) -> None:
    inputs, source = source_of(made, mixed)
    whole = source.batch(np.arange(len(inputs.windows)), is_whole=True)
    few = torch.from_numpy(inputs.windows.rows_of(["P02"]))
    cut = whole.rows(few).without_absent()
    want = source.batch(few.numpy())
    assert [s.modality for s in cut.sensors] == [s.modality for s in want.sensors]
    for one, other in zip(cut.sensors, want.sensors, strict=True):
        assert torch.equal(one.patches, other.patches)
        assert torch.equal(one.channels, other.channels)
    nothing = TokenInputs(tuple(replace(s, is_real=torch.zeros_like(s.is_real)) for s in want.sensors))
    assert nothing.without_absent() is nothing
