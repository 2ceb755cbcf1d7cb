"""Folds fitted at once get what each gets alone, and nothing of one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import joint_windows, labelled_windows
from biopercept.errors import TrainingError
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.store.prepared import PreparedRecording
from biopercept.tasks import Task
from biopercept.training import resuming as resuming_room
from biopercept.training.engine import Engine
from biopercept.training.fitting import NetworkOnStudy, fit_perceiver_io
from biopercept.training.loop import EpochReport, FitRequest, Optimisation, RunningMean, rate_at
from biopercept.training.resuming import resuming
from biopercept.training.settings import FitSettings, TrainingSettings
from biopercept.training.stacked import StackedWeights

SMALL = PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2)
BRIEF = TrainingSettings(n_epochs=3, batch_size=16, learning_rate=3e-3)
TOKENS = TokenSettings()
ENGINE = Engine(torch.device("cpu"))


def inputs_of(made: ModuleType, recordings: Sequence[PreparedRecording], tasks: Sequence[Task] = ()) -> WindowInputs:
    names = {"length_seconds": made.LENGTH, "feature_names": made.FEATURES}
    windows = joint_windows([labelled_windows(recordings, task, **names) for task in tasks or (made.TASK,)])
    return WindowInputs(windows, NormalisationSettings(), made.STEP)


def fold(
    inputs: WindowInputs, training: str, validation: str = "", seed: int = 0, on_epoch: EpochReport | None = None
) -> FitRequest:
    rows = [inputs.windows.rows_of([f"P0{n}" for n in part]) for part in (training, validation)]
    return FitRequest(inputs, rows[0], rows[1], FitSettings(TOKENS, SMALL, BRIEF), ENGINE, seed, on_epoch)


def with_settings(folds: Sequence[FitRequest], settings: TrainingSettings) -> list[FitRequest]:
    return [replace(asked, settings=replace(asked.settings, training=settings)) for asked in folds]


def together(folds: Sequence[FitRequest]) -> list[NetworkOnStudy]:
    return fit_perceiver_io.together(folds)


def alone(asked: FitRequest) -> NetworkOnStudy:
    return fit_perceiver_io(asked)


def answers(inputs: WindowInputs, found: NetworkOnStudy) -> np.ndarray:
    return found.predict(np.arange(len(inputs.windows)))


def bits(found: NetworkOnStudy) -> dict[str, torch.Tensor]:
    return dict(found.fitted.network.state_dict())


def assert_same_fit(
    inputs: WindowInputs, stacked: NetworkOnStudy, single: NetworkOnStudy, tolerance: float = 2e-5
) -> None:
    """Rounding grows with every step that is taken, so long and fast fits are given more."""
    assert np.allclose(stacked.fitted.history[0], single.fitted.history[0], rtol=0, atol=2e-5, equal_nan=True)
    assert np.allclose(stacked.fitted.history, single.fitted.history, rtol=0, atol=tolerance, equal_nan=True)
    assert (stacked.fitted.best_epoch, stacked.n_parameters) == (single.fitted.best_epoch, single.n_parameters)
    assert np.allclose(answers(inputs, stacked), answers(inputs, single), rtol=0, atol=10 * tolerance)


def test_folds_of_other_sizes_seeds_and_ends_get_what_each_gets_alone(made: ModuleType) -> None:
    contrary = made.recording("P01", seed=0, effect=-1.0)  # whoever is checked on it soon stops
    inputs = inputs_of(made, [contrary, *made.study(6)[1:]])
    settings = replace(BRIEF, n_epochs=8, patience=1, learning_rate=2e-2)
    folds = [fold(inputs, "1234", "5"), fold(inputs, "23", "1", seed=7), fold(inputs, "456", "1", seed=8)]
    folds += [fold(inputs, "1345", seed=9), fold(inputs, "1345", seed=10)]
    folds = with_settings(folds, settings)
    found = together(folds)
    single = [alone(asked) for asked in folds]
    assert len({len(one.fitted.history) for one in single}) > 1  # some stop earlier than others
    for stacked, one in zip(found, single, strict=True):
        assert_same_fit(inputs, stacked, one, tolerance=1e-3)
    assert not np.allclose(answers(inputs, found[3]), answers(inputs, found[4]), atol=2e-2)  # another seed, another fit


def test_batches_that_lack_sensors_and_folds_that_never_had_them_are_as_alone(made: ModuleType) -> None:
    people = [("P01", ()), ("P02", ("EDA", "tonic")), ("P03", ("EDA", "tonic")), ("P04", ("heart_rate",)), ("P05", ())]
    inputs = inputs_of(made, [made.recording(name, seed=0, missing=missing) for name, missing in people])
    settings = replace(BRIEF, batch_size=3, n_epochs=2)  # few windows: what is present changes from batch to batch
    folds = [fold(inputs, "23", "5"), fold(inputs, "124", "3", seed=1), fold(inputs, "24", "1", seed=2)]
    folds = with_settings(folds, settings)
    found = together(folds)
    for stacked, asked in zip(found, folds, strict=True):
        assert_same_fit(inputs, stacked, alone(asked))
    assert found[0].n_parameters < found[1].n_parameters


def test_weights_to_start_from_and_the_reports_of_epochs_are_each_folds_own(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(made, made.study(5))
    starts = {0: bits(alone(fold(inputs, "12", seed=3)))}
    monkeypatch.setattr("biopercept.training.fitting.starting_weights", lambda request: starts.get(request.seed))
    told: list[list[tuple[int, float, float]]] = [[], []]
    folds = [
        fold(inputs, "123", "4", on_epoch=lambda *said: told[0].append(said)),
        fold(inputs, "234", "5", seed=1, on_epoch=lambda *said: told[1].append(said)),
    ]
    found = together(folds)
    assert [tuple(said) for said in told] == [one.fitted.history for one in found]
    for stacked, asked in zip(found, folds, strict=True):
        assert_same_fit(inputs, stacked, alone(replace(asked, on_epoch=None)))


@pytest.mark.parametrize("names", [("load",), ("level",), ("stress", "load", "level")])
def test_numbers_levels_and_several_tasks_are_stacked_as_they_are_alone(
    made: ModuleType, names: tuple[str, ...]
) -> None:
    known = {task.name: task for task in (made.TASK, made.LOAD, made.LEVEL)}
    inputs = inputs_of(made, made.numbered(made.study(5)), [known[name] for name in names])
    settings = replace(BRIEF, task_weights=("load=0.5",))
    folds = with_settings([fold(inputs, "123", "4"), fold(inputs, "245", "1", seed=1), fold(inputs, "45")], settings)
    branched = replace(SMALL, linear_branch=True, conv_branch=True)
    folds = [replace(asked, settings=replace(asked.settings, model=branched)) for asked in folds]
    for stacked, asked in zip(together(folds), folds, strict=True):
        single = alone(asked)
        assert float(single.fitted.network.branches["linear"].bias.detach().abs().sum()) > 0
        assert stacked.tasks == single.tasks  # numbers on the scale of the fold's own training subjects
        assert np.allclose(stacked.fitted.history, single.fitted.history, rtol=0, atol=2e-5, equal_nan=True)
        assert np.allclose(answers(inputs, stacked), answers(inputs, single), rtol=1e-4, atol=1e-3)


def test_nothing_of_a_folds_test_subject_reaches_it_through_the_folds_beside_it(made: ModuleType) -> None:
    """The other folds train on that subject; to the fold that tests it, not a bit changes."""
    recordings = made.study(5)
    strange = made.recording("P01", seed=99, offset=300.0)
    strange.windows.label[strange.windows.is_labelled] = "stroop"
    settings = replace(BRIEF, patience=1, n_epochs=4)
    found = []
    for people in (recordings, (strange, *recordings[1:])):
        inputs = inputs_of(made, people)
        folds = [fold(inputs, "234", "5"), fold(inputs, "134", "2", seed=1)]
        found.append(together(with_settings(folds, settings)))
    (before, other_before), (after, other_after) = found
    assert all(torch.equal(value, bits(after)[name]) for name, value in bits(before).items())
    assert before.fitted.history == after.fitted.history
    assert any(not torch.equal(value, bits(other_after)[name]) for name, value in bits(other_before).items())


def test_a_fold_is_the_same_whatever_stands_beside_it(made: ModuleType) -> None:
    inputs = inputs_of(made, made.study(5))
    folds = [fold(inputs, "123", "4"), fold(inputs, "234", "5", seed=1), fold(inputs, "345", "1", seed=2)]
    many = together(folds)
    for few in ((0, 1), (2, 0)):
        for one, number in zip(together([folds[n] for n in few]), few, strict=True):
            assert np.allclose(one.fitted.history, many[number].fitted.history, rtol=0, atol=2e-5)


def test_a_loss_that_is_not_finite_stops_all_with_the_recordings_of_the_batch(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(made, made.study(5))
    start = bits(alone(fold(inputs, "12", seed=3)))
    broken = {**start, "heads.0.weight": torch.full_like(start["heads.0.weight"], torch.nan)}
    monkeypatch.setattr("biopercept.training.fitting.starting_weights", lambda r: broken if r.seed == 1 else None)
    folds = [fold(inputs, "123", "4"), fold(inputs, "45", seed=1)]
    with pytest.raises(
        TrainingError, match=r"the training loss is not finite at epoch 1, step 1, in a batch of P04.*P05"
    ):
        together(folds)


class _Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(5, 3)
        self.sometimes = nn.Linear(5, 3)
        self.never = nn.Linear(2, 2)


def test_the_stacked_optimiser_is_adamw_with_clipping_and_running_means(made: ModuleType) -> None:
    torch.manual_seed(0)
    networks = [_Two().double() for _ in range(3)]
    settings = TrainingSettings(learning_rate=0.01, weight_decay=0.1, warmup_fraction=0.2, gradient_clip=1.0)
    stack = StackedWeights(networks, weight_decay=0.1, average_decay=0.9)
    own = [
        (n, Optimisation(n, ENGINE, settings, steps), RunningMean(n, 0.9))
        for n, steps in zip(networks, (10, 20, 30), strict=True)
    ]
    for step in range(6):
        gradients, has_gradient = stack.no_gradients()
        columns = stack.views(gradients)
        for place, (network, optimisation, mean) in enumerate(own):
            loss = torch.zeros((), dtype=torch.float64)
            for number, (name, parameter) in enumerate(network.named_parameters()):
                if name.startswith("used") or (name.startswith("sometimes") and (step + place) % 2):
                    slope = 10.0**place * torch.randn_like(parameter)
                    loss = loss + (slope * parameter).sum()
                    columns[name][place] = slope
                    has_gradient[place, number] = 1.0
            optimisation.step(partial(torch.Tensor.clone, loss))
            mean.update()
        stack.step(gradients, has_gradient, [0.01 * rate_at(step, n, 0.2) for n in (10, 20, 30)], 1.0)
    parts, means = stack.views(stack.values), stack.views(stack.means(range(3)))
    for place, (network, _, mean) in enumerate(own):
        for name, value in network.state_dict().items():
            assert torch.allclose(parts[name][place], value, rtol=0, atol=1e-7)
            assert torch.allclose(means[name][place], mean.state()[name], rtol=0, atol=1e-7)
        assert stack.n_trained(place) == 2 * (5 * 3 + 3)
    stack.keep([2])
    assert torch.equal(stack.views(stack.values)["used.weight"][0], parts["used.weight"][2])


def test_inputs_long_enough_to_be_read_in_stretches_can_be_stacked(made: ModuleType, monkeypatch) -> None:
    monkeypatch.setattr("biopercept.model.cpu_kernels._LEAST_VALUES", 1)
    monkeypatch.setattr("biopercept.model.cpu_kernels._LEAST_TOKENS", 1)
    inputs = inputs_of(made, made.study(5))
    folds = [fold(inputs, "123", "4"), fold(inputs, "234", "5", seed=1)]
    for stacked, asked in zip(together(folds), folds, strict=True):
        assert_same_fit(inputs, stacked, alone(asked))


def test_a_stopped_stack_goes_on_where_an_epoch_ended_and_ends_as_one_that_was_not(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming_room, "SECONDS", 0.0)
    contrary = made.recording("P01", seed=0, effect=-1.0)  # whoever is checked on it soon stops
    inputs = inputs_of(made, [contrary, *made.study(6)[1:]])
    settings = replace(BRIEF, n_epochs=6, patience=1, learning_rate=2e-2)
    folds = [fold(inputs, "1234", "5"), fold(inputs, "23", "1", seed=7), fold(inputs, "1345", seed=9)]
    folds = with_settings(folds, settings)  # their epochs end at different steps
    straight = together(folds)
    n_epochs = [len(one.fitted.history) for one in straight]
    assert len(set(n_epochs)) > 1
    taken, most = 0, 10**9
    step = StackedWeights.step

    def counted(*given: object) -> None:
        nonlocal taken
        if taken == most:
            raise KeyboardInterrupt
        taken += 1
        step(*given)

    monkeypatch.setattr(StackedWeights, "step", counted)
    together(folds)
    n_steps = taken
    for stops in range(1, n_steps, n_steps // 5):
        taken, most = 0, stops
        with pytest.raises(KeyboardInterrupt), resuming(tmp_path / "fit"):
            together(folds)
        taken, most = 0, 10**9
        with resuming(tmp_path / "fit"):
            resumed = together(folds)
        assert taken <= n_steps - stops + max(asked.n_steps for asked in folds)
        for one, other in zip(resumed, straight, strict=True):
            np.testing.assert_array_equal(one.fitted.history, other.fitted.history)
            assert (one.n_parameters, one.fitted.best_epoch) == (other.n_parameters, other.fitted.best_epoch)
            assert all(torch.equal(bits(one)[name], value) for name, value in bits(other).items())
