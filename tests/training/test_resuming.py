"""A fit that was stopped goes on at its last whole epoch and ends as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import joint_windows, labelled_windows
from biopercept.errors import TrainingError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.progress import noticing, stopped_words
from biopercept.training import resuming as room
from biopercept.training.engine import Engine
from biopercept.training.fitting import fit_perceiver_io
from biopercept.training.loop import FitRequest, Optimisation
from biopercept.training.pretraining import PretrainingRequest, pretrain, unlabelled_inputs
from biopercept.training.resuming import resuming, resuming_until_written
from biopercept.training.settings import FitSettings, PretrainingSettings, TrainingSettings

SMALL = PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2)
BRIEF = TrainingSettings(n_epochs=4, batch_size=32, learning_rate=3e-3)
ENGINE = Engine(torch.device("cpu"))


class _Steps:
    """How many steps were taken, and after how many the process is stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken, self.most = 0, 10**9
        step = Optimisation.step

        def counted(optimisation: Optimisation, loss):
            if self.taken == self.most:
                raise KeyboardInterrupt
            self.taken += 1
            return step(optimisation, loss)

        monkeypatch.setattr(Optimisation, "step", counted)

    @contextmanager
    def stopped_after(self, n_steps: int) -> Iterator[None]:
        self.taken, self.most = 0, n_steps
        with pytest.raises(KeyboardInterrupt):
            yield
        self.taken, self.most = 0, 10**9


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> _Steps:
    return _Steps(monkeypatch)


def request(made: ModuleType, settings: TrainingSettings = BRIEF, *, seed: int = 0, validation=("P04",)) -> FitRequest:
    study = made.study(5)
    if settings.dense_weight > 0:
        study = made.numbered(study)  # whose stretches have labels at every time
    windows = labelled_windows(study, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    if settings.dense_weight > 0:
        windows = joint_windows([windows], with_grid=True)
    inputs = WindowInputs(windows, NormalisationSettings(), made.STEP)
    fit = FitSettings(TokenSettings(), SMALL, settings)
    rows = windows.rows_of(("P01", "P02", "P03"))
    return FitRequest(inputs, rows, windows.rows_of(validation), fit, ENGINE, seed)


def equal(one, other) -> bool:
    first, second = one.network.state_dict(), other.network.state_dict()
    return one.history == other.history and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dense_weight", [0.0, 0.5])
def test_a_stopped_fit_ends_as_one_that_was_not_without_doing_again_what_was_done(
    made: ModuleType, tmp_path: Path, counted: _Steps, monkeypatch: pytest.MonkeyPatch, dense_weight: float
) -> None:
    monkeypatch.setattr(room, "SECONDS", 0.0)  # as if epochs took long: each is written as it ends
    of_what = request(made, replace(BRIEF, dense_weight=dense_weight))
    straight = fit_perceiver_io(of_what).fitted
    n_steps = counted.taken
    with counted.stopped_after(n_steps * 3 // 4 + 1), resuming(tmp_path / "fit"):  # within the last of four epochs
        fit_perceiver_io(of_what)
    assert len(list((tmp_path / "fit").iterdir())) == 2  # the last epoch's and that before
    with resuming(tmp_path / "fit"):
        resumed = fit_perceiver_io(of_what).fitted
        assert counted.taken == n_steps // 4
        again = fit_perceiver_io(of_what).fitted  # part of unfinished work, and done itself
        assert counted.taken == n_steps // 4
    assert equal(resumed, straight)
    assert equal(again, straight)
    assert not (tmp_path / "fit").exists()


def test_early_stopping_goes_on_with_the_best_epoch_of_before(
    made: ModuleType, tmp_path: Path, counted: _Steps
) -> None:
    settings = TrainingSettings(n_epochs=12, batch_size=32, learning_rate=3e-2, patience=2)
    straight = fit_perceiver_io(request(made, settings)).fitted
    n_steps, n_epochs = counted.taken, len(straight.history)
    assert straight.best_epoch < n_epochs < 12
    with counted.stopped_after(n_steps - 1), resuming(tmp_path / "fit"):
        fit_perceiver_io(request(made, settings))
    with resuming(tmp_path / "fit"):
        resumed = fit_perceiver_io(request(made, settings)).fitted
    assert counted.taken == n_steps // n_epochs
    assert resumed.best_epoch == straight.best_epoch
    assert equal(resumed, straight)


@pytest.mark.parametrize("change", ["seed", "settings", "labels", "swapped labels", "signals"])
def test_the_state_of_another_fit_is_not_taken(made: ModuleType, tmp_path: Path, counted: _Steps, change: str) -> None:
    with counted.stopped_after(10), resuming(tmp_path / "fit"):
        fit_perceiver_io(request(made))
    other = request(made)
    if change == "seed":
        other = replace(other, seed=1)
    elif change == "settings":
        other = request(made, replace(BRIEF, learning_rate=2e-3))
    elif change == "labels":
        values = other.inputs.windows.only.values
        values[other.training[:2]] = 1 - values[other.training[:2]]
    elif change == "swapped labels":  # of one person: windows are drawn as often as before
        values = other.inputs.windows.only.values
        rows = other.inputs.windows.rows_of(("P01",))
        rest, stress = (rows[values[rows] == label][0] for label in (0, 1))
        values[[rest, stress]] = values[[stress, rest]]
    else:
        other.inputs.windows.recordings[0].samples["EDA"][:] += 1.0
        other.inputs.windows.recordings[0].windows.features[:] += 1.0
    straight = fit_perceiver_io(other).fitted
    n_steps, counted.taken = counted.taken, 0
    with resuming(tmp_path / "fit"):
        assert equal(fit_perceiver_io(other).fitted, straight)
    assert counted.taken == n_steps


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_damaged_state_is_not_taken_but_the_one_before_it_where_there_is_one(
    made: ModuleType, tmp_path: Path, counted: _Steps, monkeypatch: pytest.MonkeyPatch, damage: str, is_first: bool
) -> None:
    if not is_first:
        monkeypatch.setattr(room, "SECONDS", 0.0)  # each epoch is written
    straight = fit_perceiver_io(request(made)).fitted
    n_steps = counted.taken
    with counted.stopped_after(n_steps - 1), resuming(tmp_path / "fit"):
        fit_perceiver_io(request(made))
    state, *_ = sorted((tmp_path / "fit").iterdir(), key=lambda path: len(path.name))
    content = bytearray(state.read_bytes())
    content[-99] ^= 1
    state.write_bytes({"cut": content[:-9], "flipped": content, "empty": b""}[damage])
    said: list[str] = []
    with noticing(said.append), resuming(tmp_path / "fit"):
        assert equal(fit_perceiver_io(request(made)).fitted, straight)
    assert counted.taken == (n_steps if is_first else n_steps // 2)
    now = (
        "the fit begins again"
        if is_first
        else f"the fit goes on with the one before it, {state.stem}.before.safetensors"
    )
    assert said == [f"the kept state {state.name} of a fit in {tmp_path / 'fit'} is damaged; {now}"]
    assert not (tmp_path / "fit").exists()


def test_that_no_kept_state_is_of_this_fit_is_said_of_a_single_model(
    made: ModuleType, tmp_path: Path, counted: _Steps
) -> None:
    with counted.stopped_after(10), resuming_until_written(tmp_path / "model"):
        fit_perceiver_io(request(made, seed=1))
    said: list[str] = []
    with noticing(said.append), resuming_until_written(tmp_path / "model"):
        fit_perceiver_io(request(made, seed=2))
    assert said == [
        f"what is kept of an unfinished run in {tmp_path / '.model.fit'} is not of this one (its data, settings, seed, "
        "versions, threads or device are others); the fit begins anew"
    ]
    with noticing(said.append), resuming_until_written(tmp_path / "model"):
        fit_perceiver_io(request(made, seed=2))
    assert len(said) == 1  # nothing was kept


def test_states_are_kept_after_a_kill_and_go_where_the_same_fit_would_fail_again(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SECONDS", 0.0)
    with suppress(RuntimeError), resuming(tmp_path / "fit"):
        fit_perceiver_io(request(made))
        raise RuntimeError
    assert (tmp_path / "fit").is_dir()
    with suppress(TrainingError), resuming(tmp_path / "fit"):
        fit_perceiver_io(request(made))
        raise TrainingError("not finite")
    assert not (tmp_path / "fit").exists()

    def killed(epoch: int, *_: float) -> None:
        if epoch == 3:
            raise RuntimeError  # a kill leaves no time to write anything

    with suppress(RuntimeError), resuming(tmp_path / "fit"):
        fit_perceiver_io(replace(request(made), on_epoch=killed))
    epochs: list[int] = []
    with resuming(tmp_path / "fit") as work:
        fit_perceiver_io(replace(request(made), on_epoch=lambda epoch, *_: epochs.append(epoch)))
        assert work.before > 0
    assert epochs == [1, 2, 3, 4]


def test_pretraining_goes_on_as_well(made: ModuleType, tmp_path: Path, counted: _Steps) -> None:
    studies = tuple(
        unlabelled_inputs(
            people, NormalisationSettings(), TokenSettings(), length_seconds=made.LENGTH, step_seconds=made.STEP,
            feature_names=made.FEATURES,
        )
        for people in (made.study(3), made.study(5)[3:])
    )  # fmt: skip
    settings = PretrainingSettings(n_epochs=3, batch_size=32, n_queries=4)
    of_what = PretrainingRequest(studies, TokenSettings(), SMALL, settings, ENGINE, 0)
    straight = pretrain(of_what)
    n_steps = counted.taken
    with counted.stopped_after(n_steps - 1), resuming(tmp_path / "fit"):
        pretrain(of_what)
    with resuming(tmp_path / "fit"):
        resumed = pretrain(of_what)
    assert counted.taken == n_steps // 3
    assert resumed.history == straight.history
    assert all(torch.equal(resumed.weights[name], value) for name, value in straight.weights.items())


def test_a_fold_goes_on_within_and_not_at_its_beginning(made: ModuleType, tmp_path: Path, counted: _Steps) -> None:
    store = made.store(tmp_path / "made.h5", made.study(6))
    split = EvaluationSettings(split="k-fold", n_folds=3, n_seeds=2)
    of_what = EvaluationRequest(store, fit=FitSettings(TokenSettings(), SMALL, BRIEF), evaluation=split)
    straight = cross_validate(of_what, tmp_path / "straight")
    n_steps = counted.taken
    with counted.stopped_after(n_steps * 14 // 24 + 1):  # the second repetition of the second fold, third epoch of four
        cross_validate(of_what, tmp_path / "run")
    assert stopped_words().startswith("stopped; kept are 1 of 3 folds and 2 of 4 epochs: ")
    resumed = cross_validate(of_what, tmp_path / "run")
    assert {**resumed, "seconds": 0} == {**straight, "seconds": 0}
    assert counted.taken == n_steps * 14 // 24  # the first repetition took no ten seconds and is done again
    assert not (tmp_path / "run" / ".fit").exists()
    predictions = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("straight", "run")]
    assert predictions[0] == predictions[1]


def test_states_lie_hidden_beside_the_output_until_it_is_written(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: _Steps
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):  # the first is never ended
        with counted.stopped_after(10), noticing([].append), resuming_until_written(Path("model")):
            fit_perceiver_io(request(made, seed=seed))
    assert len(list((tmp_path / ".model.fit").iterdir())) == 2
    with resuming_until_written(Path("model")):
        fit_perceiver_io(request(made, seed=2))
    assert list(tmp_path.iterdir()) == []


def test_a_stop_while_an_epoch_is_told_leaves_the_state_of_the_epoch_before(made: ModuleType, tmp_path: Path) -> None:
    inputs = unlabelled_inputs(
        made.study(2),
        NormalisationSettings(),
        TokenSettings(),
        length_seconds=made.LENGTH,
        step_seconds=made.STEP,
        feature_names=made.FEATURES,
    )
    settings = PretrainingSettings(n_epochs=4, batch_size=64, n_queries=4)
    asked_for = PretrainingRequest((inputs,), TokenSettings(), SMALL, settings, ENGINE, 0)

    def stop(epoch: int, _loss: float) -> None:
        if epoch == 3:
            raise KeyboardInterrupt  # its loss is in the history, its weights are not in the state yet

    with pytest.raises(KeyboardInterrupt), resuming(tmp_path / "fit"):
        pretrain(replace(asked_for, on_epoch=stop))
    epochs: list[int] = []
    with resuming(tmp_path / "fit"):
        went_on = pretrain(replace(asked_for, on_epoch=lambda epoch, _loss: epochs.append(epoch)))
    whole = pretrain(asked_for)
    assert epochs == [3, 4]
    assert went_on.history == whole.history
    assert all(torch.equal(went_on.weights[name], value) for name, value in whole.weights.items())
