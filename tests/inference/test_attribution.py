"""Attributions of one batch: sums, names, captum's numbers, exact answers of a linear model, what deletion shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_inputs import OPEN, SMALL, VOCABULARY, Classifier, inputs

from biopercept.inference.attribution import (
    Question,
    attention_map,
    deletions,
    integrated_gradients,
    named,
    without_feature,
    without_tokens,
)
from biopercept.model.biosignals import BiosignalPerceiver, perceiver_for
from biopercept.model.branches import LinearBranch
from biopercept.model.token_inputs import TokenInputs
from biopercept.tasks import Task

STRESS = Task("stress", classes={"rest": (), "stress": ()})
LOAD = Task("load", kind="regression", column="load", mean=50.0, scale=10.0)
LEVEL = Task("level", kind="ordinal", classes={"low": (), "middle": (), "high": ()})


@pytest.fixture
def network() -> BiosignalPerceiver:
    torch.manual_seed(0)
    network = Classifier(SMALL, OPEN, VOCABULARY, 2)
    network.queries.values.data.normal_()
    return network.eval()


def made_for(*tasks: Task, branches: Sequence[str] = ()) -> BiosignalPerceiver:
    torch.manual_seed(1)
    settings = replace(SMALL, linear_branch="linear" in branches, conv_branch="conv" in branches)
    network = perceiver_for(tasks, settings, OPEN, VOCABULARY)
    for weights in network.branches.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return network.eval()


def partly_absent() -> TokenInputs:
    made = inputs(3)
    made.sensors[0].is_real[0, 1] = False
    made.sensors[1].is_real[1] = False
    made.features[0].is_real[0] = False
    for part in (*made.sensors, *made.features):
        part.is_real[2] = False
    return made


def test_fractions_sum_to_one_over_real_tokens_and_absent_ones_have_none(network: BiosignalPerceiver) -> None:
    tokens = attention_map(network, partly_absent())
    np.testing.assert_allclose(tokens.weights.sum(1), [1, 1, 0], atol=1e-12)
    assert (tokens.weights[~tokens.is_real] == 0).all()
    assert (tokens.weights[tokens.is_real] > 0).all()


def test_names_and_times_are_those_of_the_tokens(network: BiosignalPerceiver) -> None:
    tokens = attention_map(network, inputs())
    assert tokens.modality == ("eda",) * 12 + ("temp",) * 3 + ("features",)
    assert tokens.channel == ("eda 1",) * 6 + ("eda 2",) * 6 + ("temp 1",) * 3 + ("heart",)
    assert tokens.sensor == ("eda",) * 12 + ("temp",) * 3 + ("ecg",)
    assert tokens.seconds[0, :13].tolist() == [*np.arange(2.5, 30, 5.0)] * 2 + [5.0]
    assert np.isnan(tokens.seconds[:, -1]).all()
    tokens = named(tokens, inputs(), [("left", "right"), ("wrist",)])
    assert tokens.channel == ("left",) * 6 + ("right",) * 6 + ("wrist",) * 3 + ("heart features",)


def test_time_counts_where_the_centre_of_a_token_lies(network: BiosignalPerceiver) -> None:
    tokens = attention_map(network, inputs())
    early, late = tokens.at_times(np.array([0.0, 5.0, 30.0]))
    assert np.flatnonzero(early[0]).tolist() == [0, 6]  # 5.0 s, the first of the temperature, is of the next
    assert np.flatnonzero(~(early | late)[0]).tolist() == [15]  # the features


def test_roll_out_multiplies_what_each_layer_read_with_half_for_the_residual(network: BiosignalPerceiver) -> None:
    """Against the same product written as matrices, each from the weights of the layer itself."""
    read = network.fusion(inputs())
    first, query = network.core.cross_attentions[0], network.queries()
    flow = first.weights(network.core.latents(), *read).mean(1)
    x = first(network.core.latents(), *read)
    for layer in network.core.blocks[0]:
        exchanged = layer.weights(x).mean(1)
        flow = (0.5 * torch.eye(exchanged.shape[-1]) + 0.5 * exchanged) @ flow
        x = layer(x)
    weights = network.core.decoder.weights(query, x).mean(1) @ flow
    np.testing.assert_allclose(attention_map(network, inputs()).weights, weights[:, 0].detach(), atol=1e-6)


KINDS = pytest.mark.parametrize(
    ("task", "target"), [(STRESS, [0, 1]), (LOAD, None), (LEVEL, None)], ids=["classes", "number", "levels"]
)


def question_of(task: Task, target: list[int] | None, *branches: str) -> Question:
    network = made_for(LOAD, LEVEL, STRESS, branches=branches)
    return Question(network, task, None if target is None else torch.tensor(target))


@KINDS
@pytest.mark.parametrize("branches", [(), ("linear", "conv")])
def test_gradients_sum_to_the_difference_from_the_usual_answer(
    task: Task, target: list[int] | None, branches: tuple[str, ...]
) -> None:
    question = question_of(task, target, *branches)
    gradients = integrated_gradients(question, inputs())
    difference = question.answers(inputs()) - gradients.usual
    assert np.abs(difference).min() > 1e-3
    np.testing.assert_allclose(gradients.tokens.weights.sum(1), difference, rtol=0.03, atol=0.003)
    np.testing.assert_allclose(gradients.gap, difference - gradients.tokens.weights.sum(1), atol=1e-9)
    np.testing.assert_allclose(gradients.features["heart"].sum(1), gradients.tokens.weights[:, -1], atol=1e-9)
    assert gradients.branch_features["heart"].any() == bool(branches)


def test_gradients_equal_those_of_captum() -> None:
    attr = pytest.importorskip("captum.attr")
    question, made = question_of(LOAD, None, "linear", "conv"), inputs()

    def answer(eda: torch.Tensor, temp: torch.Tensor, heart: torch.Tensor) -> torch.Tensor:
        steps = made.rows(torch.arange(len(eda)) % 2)  # captum lays the steps of all windows behind one another
        sensors = tuple(replace(s, patches=p) for s, p in zip(steps.sensors, (eda, temp), strict=True))
        return question.answer(TokenInputs(sensors, (replace(steps.features[0], values=heart),)))

    given = (*(s.patches for s in made.sensors), made.features[0].values)
    theirs = attr.IntegratedGradients(answer).attribute(given, n_steps=32, method="gausslegendre")
    ours = integrated_gradients(question, made)
    for part, (start, stop) in zip(theirs[:2], ((0, 12), (12, 15)), strict=True):
        np.testing.assert_allclose(ours.tokens.weights[:, start:stop], part.sum(-1).flatten(1).detach(), atol=1e-4)
    np.testing.assert_allclose(ours.features["heart"], theirs[2].detach(), atol=1e-4)


def test_of_a_linear_model_every_method_gives_weight_times_value() -> None:
    """A network that answers 0 beside its branch: half of weight times value, scaled, is exact."""
    question = question_of(LOAD, None, "linear")
    for part in question.network.heads.parameters():
        torch.nn.init.zeros_(part)
    linear = question.network.branches["linear"]
    assert isinstance(linear, LinearBranch)
    made = inputs()
    made.features[0].is_real[1, 2] = False
    weights = linear.groups["heart"].weight[0].detach()
    exact = (0.5 * LOAD.scale * weights * made.features[0].values).numpy()
    exact[1, 2] = np.nan
    gradients = integrated_gradients(question, made)
    np.testing.assert_allclose(gradients.features["heart"], exact, rtol=1e-5)
    np.testing.assert_allclose(gradients.branch_features["heart"], exact, rtol=1e-5)
    whole = question.answers(made)
    for column in range(4):
        fall = whole - question.answers(without_feature(made, "heart", column))
        np.testing.assert_allclose(fall, np.nan_to_num(exact[:, column]), atol=1e-4)
    fall = whole - question.answers(without_tokens(made, np.arange(16) == 15))
    np.testing.assert_allclose(fall, np.nansum(exact, axis=1), atol=1e-4)


def test_absent_inputs_change_nothing_and_have_nothing() -> None:
    question = question_of(STRESS, [0, 1, 0], "linear", "conv")
    made, strange = partly_absent(), partly_absent()
    for part in strange.sensors:
        part.patches[~part.is_real] = 7.0
    strange.features[0].values[~strange.features[0].is_real] = 7.0
    one, other = (integrated_gradients(question, given) for given in (made, strange))
    np.testing.assert_allclose(one.tokens.weights, other.tokens.weights, atol=1e-6)
    assert (other.tokens.weights[~other.tokens.is_real] == 0).all()
    assert np.isnan(other.features["heart"][0]).all()


def test_deleting_what_matters_tells_a_faithful_order_from_its_reverse() -> None:
    question = question_of(LOAD, None)
    made = inputs(8)
    gradients = integrated_gradients(question, made)
    direction = np.sign(question.answers(made) - gradients.usual)
    effects = np.stack(
        [question.answers(made) - question.answers(without_tokens(made, np.arange(16) == k)) for k in range(16)], 1
    )
    true = effects * direction[:, None]
    done = deletions(question, made, {"true": true, "reverse": -true}, direction, np.random.default_rng(0))
    true_one, reverse = done["true"], done["reverse"]
    assert (true_one.without > true_one.random_without).mean() > 0.8
    assert (reverse.without < reverse.random_without).mean() > 0.8
    assert true_one.without.mean() > true_one.random_without.mean() > reverse.without.mean()
    assert true_one.alone.mean() < true_one.random_alone.mean() < reverse.alone.mean()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)
