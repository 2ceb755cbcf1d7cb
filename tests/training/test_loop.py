"""The training loop learns a planted effect, repeats itself, and sees its own subjects only."""

from __future__ import annotations

import math
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.data.batches import TokenSource, vocabulary_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.errors import SettingsError, TrainingError
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.training.engine import Engine, engine_for, seeded
from biopercept.training.fitting import fit_perceiver_io
from biopercept.training.loop import FitRequest
from biopercept.training.objective import cell_weights, predict_windows
from biopercept.training.settings import FitSettings, TrainingSettings

SMALL = PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2)
BRIEF = TrainingSettings(n_epochs=3, batch_size=32, learning_rate=3e-3)
ENGINE = Engine(torch.device("cpu"))


def fitted(made: ModuleType, recordings, *, seed: int = 0, settings: TrainingSettings = BRIEF, validation=("P04",)):
    windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    inputs = WindowInputs(windows, NormalisationSettings(), made.STEP)
    rows = windows.rows_of(("P01", "P02", "P03"))
    fit = FitSettings(TokenSettings(), SMALL, settings)
    request = FitRequest(inputs, rows, windows.rows_of(validation), fit, ENGINE, seed)
    return inputs, fit_perceiver_io(request).fitted


def weights(found) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in found.network.state_dict().items()}


def test_a_planted_effect_is_learnt_and_recognised_in_a_subject_never_seen(made: ModuleType) -> None:
    inputs, found = fitted(
        made, made.study(6), settings=TrainingSettings(n_epochs=12, batch_size=32, learning_rate=3e-3)
    )
    source = TokenSource(inputs, found.population, TokenSettings(), torch.device("cpu"))
    rows = inputs.windows.rows_of(("P05",))
    answers = predict_windows(found.network, inputs.windows.tasks, source, rows)["stress"].argmax(axis=1)
    assert np.mean(answers == inputs.windows.only.values[rows]) > 0.75


def test_the_same_seed_gives_equal_weights_and_another_seed_others(made: ModuleType) -> None:
    first, again, other = (weights(fitted(made, made.study(5), seed=s)[1]) for s in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_torchs_own_random_state_plays_no_part_and_is_left_alone(made: ModuleType) -> None:
    torch.manual_seed(5)
    first = weights(fitted(made, made.study(5))[1])
    state = torch.get_rng_state()
    torch.rand(7)
    second = weights(fitted(made, made.study(5))[1])
    assert all(torch.equal(first[k], second[k]) for k in first)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_test_subjects_data_and_labels_leave_the_trained_weights_bit_equal(made: ModuleType) -> None:
    recordings = made.study(6)
    strange = made.recording("P05", seed=77, offset=500.0)
    strange.windows.label[strange.windows.is_labelled] = "stroop"
    one = weights(fitted(made, recordings)[1])
    other = weights(fitted(made, (*recordings[:4], strange, recordings[5]))[1])
    assert all(torch.equal(one[k], other[k]) for k in one)
    moved = weights(fitted(made, (made.recording("P01", seed=0, offset=1.0), *recordings[1:]))[1])
    assert any(not torch.equal(one[k], moved[k]) for k in one)


def test_training_stops_early_and_keeps_the_best_epoch(made: ModuleType) -> None:
    settings = TrainingSettings(n_epochs=40, batch_size=32, learning_rate=1e-2, patience=3)
    _, found = fitted(made, made.study(5, effect=0.0), settings=settings)
    losses = [loss for _, _, loss in found.history]
    assert found.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == min(40, found.best_epoch + 3)


def test_without_validation_subjects_the_last_epoch_is_kept(made: ModuleType) -> None:
    _, found = fitted(made, made.study(5), validation=())
    assert found.best_epoch == 3
    assert np.isnan(found.history[-1][2])


def test_subjects_and_their_classes_are_drawn_equally_often() -> None:
    subject = np.array(["A"] * 10 + ["B"] * 2 + ["C"] * 4)
    target = np.array([0] * 9 + [1] + [0, 1] + [0] * 4)
    found = cell_weights(subject, target)
    share = {name: float(found[subject == name].sum()) for name in "ABC"}
    assert share == pytest.approx({"A": 1.0, "B": 1.0, "C": 1.0})
    assert float(found[9]) == pytest.approx(0.5)


def test_a_loss_that_is_not_finite_stops_with_the_recordings_of_the_batch(made: ModuleType) -> None:
    poisoned = made.study(5)
    for held in poisoned:
        held.samples["heart_rate"][:] = np.float32(3e38)
        held.windows.features[:] = np.nan
    settings = TrainingSettings(n_epochs=1, batch_size=8, learning_rate=1e30, gradient_clip=1e30)
    with pytest.raises(TrainingError, match=r"not finite at epoch 1, step \d+, in a batch of P0\d protocol"):
        fitted(made, poisoned, settings=settings)


def test_settings_out_of_range_name_the_key_the_value_and_what_is_allowed() -> None:
    with pytest.raises(SettingsError, match=r"training\.n_epochs is 0; it must be at least 1"):
        TrainingSettings(n_epochs=0)
    with pytest.raises(SettingsError, match=r"training\.learning_rate is nan; it must be a number above 0"):
        TrainingSettings(learning_rate=float("nan"))


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match="device is 'tpu'; allowed are auto, cpu, cuda and cuda:N"):
        engine_for("tpu")


def test_the_loop_is_the_plain_one_of_the_textbook_weight_for_weight(made: ModuleType) -> None:
    """The Perceiver IO through the loop for all networks, against the same steps written out plainly."""
    settings = TrainingSettings(n_epochs=2, batch_size=32, learning_rate=3e-3, average_decay=0.0)
    inputs, found = fitted(made, made.study(5), settings=settings, seed=4, validation=())
    rows = inputs.windows.rows_of(("P01", "P02", "P03"))
    source = TokenSource(inputs, inputs.fit(("P01", "P02", "P03")), TokenSettings(), torch.device("cpu"))
    with seeded(4) as generator:
        network = BiosignalPerceiver(SMALL, TokenSettings(), vocabulary_of(made.FEATURES), {"stress": 2}).train()
        noise = torch.Generator().manual_seed(4)
        groups = [[p for p in network.parameters() if p.ndim >= 2], [p for p in network.parameters() if p.ndim < 2]]
        optimiser = torch.optim.AdamW(
            [{"params": g, "weight_decay": d} for g, d in zip(groups, (0.05, 0.0), strict=True)], lr=3e-3, fused=True
        )
        weight = cell_weights(inputs.windows.subject[rows], inputs.windows.only.values[rows])
        per_epoch = math.ceil(len(rows) / 32)
        warmup = max(1, round(0.1 * 2 * per_epoch))
        for step in range(2 * per_epoch):
            rise = (step + 1) / warmup
            fall = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (2 * per_epoch - warmup)))
            for part in optimiser.param_groups:
                part["lr"] = 3e-3 * (rise if step < warmup else fall)
            drawn = rows[torch.multinomial(weight, 32, replacement=True, generator=generator).numpy()]
            target = torch.from_numpy(inputs.windows.only.values[drawn])
            loss = torch.nn.functional.cross_entropy(
                network(source.batch(drawn), noise).tasks["stress"], target, label_smoothing=0.05
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
    assert all(torch.equal(value, found.network.state_dict()[name]) for name, value in network.state_dict().items())


def test_numbers_of_sensors_that_the_study_lacks_are_not_counted_as_trained(made: ModuleType) -> None:
    _, found = fitted(made, made.study(5))
    absent = [p for name, p in found.network.named_parameters() if ".ecg." in name or ".temp." in name]
    assert absent
    assert 0 < found.n_trained <= found.n_parameters - sum(p.numel() for p in absent)


def test_a_validation_loss_that_is_not_finite_stops_training(made: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biopercept.training.loop._validation_loss", lambda *_: float("nan"))
    with pytest.raises(TrainingError, match="the validation loss is not finite after epoch 1"):
        fitted(made, made.study(5))


class _Card:
    """A card with room for so many windows at once, as torch says that there is no more."""

    def __init__(self, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = most
        self.sizes: list[int] = []
        forward = BiosignalPerceiver.forward

        def limited(network: BiosignalPerceiver, inputs, *others, **more):
            n_windows = len(inputs.sensors[0].patches if inputs.sensors else inputs.features[0].values)
            if n_windows > self.most:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            self.sizes.append(n_windows)
            return forward(network, inputs, *others, **more)

        monkeypatch.setattr(BiosignalPerceiver, "forward", limited)


def test_a_card_without_room_for_a_batch_gets_half_and_says_so(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, at_once = fitted(made, made.study(5), settings=replace(BRIEF, batch_size=8))
    rows = np.arange(len(inputs.windows))
    source = TokenSource(inputs, at_once.population, TokenSettings(), torch.device("cpu"))
    whole = predict_windows(at_once.network, inputs.windows.tasks, source, rows)["stress"]
    card = _Card(8, monkeypatch)
    with pytest.warns(UserWarning, match=r"batches of \d+ windows: the fit begins anew with (16|8) ") as caught:
        _, found = fitted(made, made.study(5), settings=BRIEF)
    assert [int(str(one.message).split("batches of ")[1].split()[0]) for one in caught] == [32, 16]
    assert max(card.sizes) == 8
    assert all(torch.equal(a, b) for a, b in zip(weights(found).values(), weights(at_once).values(), strict=True))
    halves = predict_windows(at_once.network, inputs.windows.tasks, source, rows)["stress"]
    assert np.allclose(halves, whole, atol=1e-6)
    card.most = 0
    with pytest.warns(UserWarning), pytest.raises(SettingsError, match="not the memory for a single window"):
        fitted(made, made.study(5), settings=BRIEF)
