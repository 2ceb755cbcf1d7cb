"""Adaptation of a network to one subject: seeded, small, merged exactly, and never worse on the subject's own check."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from biopercept.data.batches import TokenSource, vocabulary_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.errors import SettingsError, TrainingError
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.training.adaptation import (
    Adapted,
    LowRankUpdate,
    adapt,
    add_low_rank,
    check_windows,
    is_better,
    merge_low_rank,
    n_learnt,
)
from biopercept.training.engine import Engine
from biopercept.training.loop import FitRequest
from biopercept.training.objective import Objective
from biopercept.training.settings import ADAPTATIONS, FitSettings, PersonalisationSettings, TrainingSettings

CPU = Engine(torch.device("cpu"))
SETTINGS = PersonalisationSettings(n_steps=10, learning_rate=3e-3, batch_size=8, unchecked="adapt")
NOBODY = np.zeros(0, dtype=np.int64)


class Case:
    """A small network and a subject's windows; ``fitting`` come before ``checking``, of both classes each."""

    def __init__(self, made: ModuleType) -> None:
        recordings = [made.recording("P01", seed=3, effect=2.0)]
        self.windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
        tokens = TokenSettings()
        inputs = WindowInputs(self.windows, NormalisationSettings(), made.STEP)
        self.source = TokenSource(inputs, inputs.fit(["P01"]), tokens, CPU.device)
        torch.manual_seed(0)
        self.network = BiosignalPerceiver(
            PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
            tokens,
            vocabulary_of(made.FEATURES),
            {"stress": 2},
        ).eval()
        self.fitting, self.checking = np.arange(13), np.arange(16, 25)

    def adapt(
        self, method: str, fitting: np.ndarray, checking: np.ndarray, *, seed: int = 1, **changes: object
    ) -> Adapted:
        inputs = WindowInputs(self.windows, NormalisationSettings(), 10.0)
        training = TrainingSettings(label_smoothing=0.05, gradient_clip=1.0)
        request = FitRequest(inputs, fitting, checking, FitSettings(training=training), CPU, seed)
        return adapt(self.network, self.source, request, replace(SETTINGS, method=method, **changes))


@pytest.fixture(scope="module")
def case(made: ModuleType) -> Case:
    return Case(made)


def moved(before: nn.Module, after: nn.Module) -> set[str]:
    old, new = before.state_dict(), after.state_dict()
    assert list(old) == list(new)
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_low_rank_starts_as_the_very_network_and_is_merged_as_the_very_update(case: Case) -> None:
    network = copy.deepcopy(case.network)
    rows = np.arange(6)
    with torch.no_grad():
        before = case.network(case.source.batch(rows)).tasks["stress"]
        add_low_rank(network, 2, torch.Generator().manual_seed(0))
        assert torch.equal(network(case.source.batch(rows)).tasks["stress"], before)
        for update in (part for part in network.modules() if isinstance(part, LowRankUpdate)):
            update.up.normal_(generator=torch.Generator().manual_seed(1)).mul_(0.1)
        unmerged = network(case.source.batch(rows)).tasks["stress"]
        assert not torch.equal(unmerged, before)
        merge_low_rank(network)
        assert torch.equal(network(case.source.batch(rows)).tasks["stress"], unmerged)
    assert set(network.state_dict()) == set(case.network.state_dict())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_low_rank_update_has_that_rank(case: Case) -> None:
    adapted = case.adapt("low-rank", case.fitting, NOBODY, unchecked_share=0.9, rank=2)
    changed = moved(case.network, adapted.network)
    assert changed <= {name for name, part in case.network.named_parameters() if part.ndim == 2} | {"heads.0.bias"}
    ranks = []
    for name in changed - {"heads.0.bias"}:
        change = adapted.network.state_dict()[name].double() - case.network.state_dict()[name].double()
        strengths = torch.linalg.svdvals(change)
        ranks.append(int((strengths > 1e-5 * strengths[0]).sum()))
    assert len(ranks) > 10
    assert max(ranks) == 2


def test_only_what_the_method_learns_is_changed_and_the_start_is_left_alone(case: Case) -> None:
    before = copy.deepcopy(case.network)
    changed = {m: moved(before, case.adapt(m, case.fitting, NOBODY).network) for m in ADAPTATIONS}
    assert moved(before, case.network) == set()
    assert changed["head"] == {"heads.0.weight", "heads.0.bias"}
    assert changed["full"] > changed["low-rank"] > changed["head"]


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(case: Case, method: str) -> None:
    first, second, other = (case.adapt(method, case.fitting, NOBODY, seed=seed).network for seed in (1, 1, 2))
    assert moved(first, second) == set()
    assert moved(first, other) != set()


def test_the_random_state_outside_is_untouched(case: Case) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    case.adapt("low-rank", case.fitting, NOBODY)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_what_is_kept_is_never_worse_on_the_check_than_the_start(case: Case, method: str) -> None:
    objective = Objective(case.windows, case.windows.tasks, 0.05)
    for seed in range(3):
        adapted = case.adapt(method, case.fitting, case.checking, seed=seed)
        told = [
            check_windows(network, case.source, objective, case.checking) for network in (case.network, adapted.network)
        ]
        assert adapted.is_checked
        assert told[1][1] >= told[0][1]
        assert (told[1][0] < told[0][0]) is not adapted.fell_back
        best = next((check for check in adapted.checks if check[0] == adapted.n_steps), None)
        assert best is not None
        assert told[1] == pytest.approx(best[1:])


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_labels_that_contradict_the_check_make_it_fall_back_to_the_very_start(made: ModuleType, method: str) -> None:
    case = Case(made)
    wrong = case.windows.only.values.copy()
    wrong[case.fitting] = 1 - wrong[case.fitting]
    good = case.adapt(method, case.fitting, case.checking, n_steps=60)
    assert not good.fell_back
    case.network = good.network  # now it knows the person; the wrong labels can only harm
    case.windows = replace(case.windows, targets={"stress": replace(case.windows.only, values=wrong)})
    fallen = case.adapt(method, case.fitting, case.checking)
    assert (fallen.fell_back, fallen.n_steps) == (True, 0)
    assert moved(case.network, fallen.network) == set()


def test_without_a_check_only_a_share_of_the_steps_is_made_and_it_is_said(case: Case) -> None:
    unchecked = case.adapt("full", case.fitting, NOBODY, n_steps=20, unchecked_share=0.25)
    assert (unchecked.n_steps, unchecked.is_checked, unchecked.fell_back) == (5, False, False)


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_without_a_check_the_very_start_is_kept_unless_asked_otherwise(case: Case, method: str) -> None:
    kept = case.adapt(method, case.fitting, NOBODY, unchecked=PersonalisationSettings().unchecked)
    assert (kept.n_steps, kept.is_checked, kept.fell_back, kept.checks) == (0, False, True, ())
    assert moved(case.network, kept.network) == set()
    assert kept.network is not case.network
    checked = case.adapt(method, case.fitting, case.checking, unchecked="keep", n_steps=60)
    assert checked.is_checked and not checked.fell_back  # where there is something to check on, nothing changes


def test_nothing_outside_the_windows_given_reaches_the_weights(case: Case) -> None:
    plain = case.adapt("full", case.fitting, case.checking)
    others = np.setdiff1d(np.arange(len(case.windows)), np.concatenate([case.fitting, case.checking]))
    target = case.windows.only.values.copy()
    target[others] = 1 - target[others]
    assert len(others)
    changed = copy.copy(case)
    changed.windows = replace(case.windows, targets={"stress": replace(case.windows.only, values=target)})
    assert moved(plain.network, changed.adapt("full", case.fitting, case.checking).network) == set()


def test_a_loss_that_is_not_finite_is_named(case: Case) -> None:
    broken = copy.copy(case)
    broken.network = copy.deepcopy(case.network)
    with torch.no_grad():
        broken.network.get_submodule("heads").get_parameter("0.bias").fill_(float("nan"))
    with pytest.raises(
        TrainingError,
        match=r"^the loss of adapting to P01 is not finite at step 1; lower personalisation.learning_rate$",
    ):
        broken.adapt("head", case.fitting, NOBODY)


def test_the_numbers_that_a_method_learns_are_counted(case: Case) -> None:
    adapted = Adapted(case.network, 1, False, True)
    counts = {m: n_learnt(adapted, replace(SETTINGS, method=m, rank=1)) for m in ADAPTATIONS}
    linear = [part for part in case.network.modules() if isinstance(part, nn.Linear)]
    assert counts["head"] == 16 * 2 + 2
    assert counts["full"] == sum(parameter.numel() for parameter in case.network.parameters())
    assert counts["low-rank"] == sum(x.in_features + x.out_features for x in linear) + 2


def test_a_lower_loss_does_not_make_up_for_fewer_right_answers_than_the_start() -> None:
    start = (0, 0.60, 0.75)
    assert is_better([start, (5, 0.50, 0.75)], 0.60)
    assert not is_better([start, (5, 0.50, 0.70)], 0.60)
    assert not is_better([start, (5, 0.60, 0.90)], 0.60)


def test_a_card_without_room_for_a_batch_gets_half_and_says_so(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, loss = case.adapt("head", case.fitting, case.checking, batch_size=4), Objective.loss

    def limited(objective: Objective, network: nn.Module, source: TokenSource, rows: np.ndarray, *more: object):
        if len(rows) > 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return loss(objective, network, source, rows, *more)

    monkeypatch.setattr(Objective, "loss", limited)
    with pytest.warns(UserWarning, match=r"personalisation\.batch_size=4 does so at once"):
        halved = case.adapt("head", case.fitting, case.checking)
    assert not moved(at_once.network, halved.network)
    monkeypatch.setattr(Objective, "loss", lambda *_: limited(*_[:3], np.zeros(5)))
    with pytest.warns(UserWarning), pytest.raises(SettingsError, match="not the memory for a single window"):
        case.adapt("head", case.fitting, case.checking)
