"""Every kind of query through the one decoder: tasks, traces, patches; and what cannot reach them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_inputs import OPEN, SMALL, VOCABULARY, absent, inputs, signal

from biopercept.errors import CheckpointError
from biopercept.model.biosignals import BiosignalPerceiver, queries_of
from biopercept.model.token_inputs import TokenInputs

TASKS = {"stress": 3, "effort": 4, "age": 1}
TIMES = torch.tensor([[0.5, 7.5, 29.5], [1.0, 2.0, 3.0]])


@pytest.fixture
def model() -> BiosignalPerceiver:
    torch.manual_seed(0)
    made = BiosignalPerceiver(SMALL, OPEN, VOCABULARY, TASKS, traces=True, reconstructs=True)
    made.queries.values.data.normal_()  # so that answers depend strongly on what is read
    return made.eval()


def test_several_tasks_traces_and_patches_are_answered_by_one_call_of_one_decoder(
    model: BiosignalPerceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    decode = model.core.decode
    monkeypatch.setattr(model.core, "decode", lambda *a: calls.append(a[1].shape) or decode(*a))
    asked = (queries_of(signal("eda", n_channels=2)), absent("acc", 2.0, 15, 32.0))
    found = model(inputs(), traces={"stress": TIMES}, patches=asked)
    assert calls == [(2, 3 + 3 + 12 + 15, 32)]
    assert {name: tuple(t.shape) for name, t in found.tasks.items()} == {
        "stress": (2, 3),
        "effort": (2, 4),
        "age": (2, 1),
    }
    assert found.traces["stress"].shape == (2, 3, 3)
    assert [tuple(p.shape) for p in found.patches] == [(2, 12, 8), (2, 15, 10)]


def test_an_answer_does_not_depend_on_what_else_is_asked(model: BiosignalPerceiver) -> None:
    asked = (queries_of(signal("eda", n_channels=2)), absent("acc", 2.0, 15, 32.0))
    together = model(inputs(), traces={"stress": TIMES, "age": TIMES}, patches=asked)
    alone = model(inputs(), patches=asked[1:]).patches[0]
    torch.testing.assert_close(together.patches[1], alone, rtol=0, atol=2e-6)
    torch.testing.assert_close(together.tasks["effort"], model(inputs()).tasks["effort"], rtol=0, atol=2e-6)
    one_time = model(inputs(), traces={"stress": TIMES[:, 1:2]}).traces["stress"]
    torch.testing.assert_close(together.traces["stress"][:, 1:2], one_time, rtol=0, atol=2e-6)


def test_traces_follow_time_and_each_sample_its_own(model: BiosignalPerceiver) -> None:
    found = model(inputs(), traces={"stress": TIMES}).traces["stress"]
    assert (found[:, 1:] - found[:, :1]).abs().amin(0).amax() > 1e-4
    swapped = TIMES.clone()
    swapped[1] = 20.0
    moved = (model(inputs(), traces={"stress": swapped}).traces["stress"] - found).abs().amax((1, 2))
    assert moved[0] == 0
    assert moved[1] > 1e-4


def test_a_trace_a_second_can_tell_neighbouring_seconds_apart(model: BiosignalPerceiver) -> None:
    seconds = torch.arange(30.0).add(0.5).expand(2, -1)
    codes = model.query_codes.of_times(seconds)[0]
    distance = (codes[:, None] - codes[None]).norm(dim=-1) + 10.0 * torch.eye(30)
    assert distance.min() > 0.1


@pytest.mark.parametrize("change", ["times", "channels", "rate", "positions"])
def test_each_code_of_a_patch_query_reaches_the_answer(model: BiosignalPerceiver, change: str) -> None:
    asked = queries_of(signal("eda", n_channels=2))
    moved = {"times": asked.times + 3.0, "channels": asked.channels + 2, "rate": asked.rate * 4, "positions": None}
    if change == "positions":
        moved["positions"] = torch.full_like(asked.positions, 0.05)
    other = replace(asked, **{change: moved[change]})
    difference = model(inputs(), patches=(other,)).patches[0] - model(inputs(), patches=(asked,)).patches[0]
    assert difference.abs().amax((1, 2)).min() > 1e-4


def test_what_stands_where_nothing_is_asked_changes_nothing_and_harms_nothing(model: BiosignalPerceiver) -> None:
    asked = queries_of(signal("eda", n_channels=2))
    idle = replace(asked, is_asked=asked.is_asked.clone().index_fill_(1, torch.tensor([3]), False))
    idle.is_asked[1] = False
    junk = replace(
        idle,
        times=idle.times.masked_fill(~idle.is_asked, torch.nan),
        channels=idle.channels.masked_fill(~idle.is_asked, 10**6),
        rate=torch.tensor([4.0, torch.nan]),
    )
    one, other = (model(inputs(), patches=(a,)).patches[0] for a in (idle, junk))
    assert torch.equal(one, other)
    assert other.isfinite().all()


def test_a_sensor_that_is_absent_can_be_generated_from_the_others(model: BiosignalPerceiver) -> None:
    only_eda = TokenInputs(inputs().sensors[:1])
    told = model(only_eda, patches=(absent("temp", 10.0, 3, 4.0),)).patches[0]
    assert told.shape == (2, 3, 6)
    other = TokenInputs((signal("eda", n_channels=2, seed=5),))
    assert (model(other, patches=(absent("temp", 10.0, 3, 4.0),)).patches[0] - told).abs().max() > 1e-4


def test_queries_of_places_are_the_places_of_the_patches() -> None:
    sensor = signal("eda", n_channels=2)
    sensor.is_real[0, 1, 2] = False
    asked = queries_of(sensor, torch.tensor([[8, 0], [5, 11]]))
    assert asked.times.tolist() == [[12.5, 2.5], [27.5, 27.5]]
    assert asked.channels.tolist() == [[2, 1], [1, 2]]
    assert asked.is_asked.tolist() == [[False, True], [True, True]]


def test_weights_of_the_shared_parts_have_the_names_and_shapes_of_the_classifier(model: BiosignalPerceiver) -> None:
    single = BiosignalPerceiver(SMALL, OPEN, VOCABULARY, {"stress": 2}).state_dict()
    shared = {k: v.shape for k, v in model.state_dict().items() if k.startswith(("core.", "fusion."))}
    assert shared == {k: v.shape for k, v in single.items() if k.startswith(("core.", "fusion."))}
    assert set(single) - set(shared) == {"queries.values", "heads.0.weight", "heads.0.bias"}


def test_gradients_reach_every_parameter(model: BiosignalPerceiver) -> None:
    asked = (
        queries_of(replace(signal("eda"), positions=torch.rand(2, 1, 3))),
        queries_of(signal("temp")),
        queries_of(signal("acc")),
    )
    whole = inputs()
    whole = TokenInputs((*whole.sensors, replace(signal("acc"), positions=torch.rand(2, 1, 3))), whole.features)
    found = model(whole, traces={"age": TIMES}, patches=asked)
    parts = (*found.tasks.values(), *found.traces.values(), *found.patches)
    sum(p.square().sum() for p in parts).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert [name for name in still if "to_key.bias" not in name] == []


def test_what_cannot_be_asked_or_answered_is_refused(model: BiosignalPerceiver) -> None:
    with pytest.raises(CheckpointError, match=r"asked for patches of ecg; it can reconstruct eda, temp, acc\."):
        model(inputs(), patches=(absent("ecg", 1.0, 30, 128.0),))
    plain = BiosignalPerceiver(SMALL, OPEN, VOCABULARY, TASKS)
    with pytest.raises(CheckpointError, match=r"asked for patches of eda; it can reconstruct none\."):
        plain(inputs(), patches=(queries_of(signal("eda")),))
