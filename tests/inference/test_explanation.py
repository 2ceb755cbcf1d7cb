"""Attention maps: sums, names, and that they are the weights behind the answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_inputs import OPEN, SMALL, VOCABULARY, Classifier, inputs

from biopercept.inference.explanation import attention_map
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.token_inputs import TokenInputs


@pytest.fixture
def network() -> BiosignalPerceiver:
    torch.manual_seed(0)
    made = Classifier(SMALL, OPEN, VOCABULARY, 2)
    made.queries.values.data.normal_()
    return made.eval()


def partly_absent() -> TokenInputs:
    made = inputs(3)
    made.sensors[0].is_real[0, 1] = False
    made.sensors[1].is_real[1] = False
    made.features[0].is_real[0] = False
    for held in (*made.sensors, *made.features):
        held.is_real[2] = False
    return made


def test_shares_sum_to_one_over_real_tokens_and_absent_ones_have_none(network: BiosignalPerceiver) -> None:
    found = attention_map(network, partly_absent())
    np.testing.assert_allclose(found.weights.sum(1), [1, 1, 0], atol=1e-12)
    assert (found.weights[~found.is_real] == 0).all()
    assert (found.weights[found.is_real] > 0).all()
    edges = np.arange(0.0, 31.0, 10.0)
    for shares in (
        *(np.column_stack(list(found.by_name(n).values())) for n in (found.modality, found.channel, found.sensor)),
        np.column_stack(found.by_time(edges)),
    ):
        np.testing.assert_allclose(shares.sum(1), [1, 1, 0], atol=1e-12)


def test_names_and_times_are_those_of_the_tokens(network: BiosignalPerceiver) -> None:
    found = attention_map(network, inputs())
    assert found.modality == ("eda",) * 12 + ("temp",) * 3 + ("features",)
    assert found.channel == ("eda 1",) * 6 + ("eda 2",) * 6 + ("temp 1",) * 3 + ("heart",)
    assert found.sensor == ("eda",) * 12 + ("temp",) * 3 + ("ecg",)
    assert found.seconds[0, :13].tolist() == [*np.arange(2.5, 30, 5.0)] * 2 + [5.0]
    assert np.isnan(found.seconds[:, -1]).all()
    assert tuple(found.by_name(found.channel)) == ("eda 1", "eda 2", "temp 1", "heart")


def test_time_counts_where_the_centre_of_a_token_lies(network: BiosignalPerceiver) -> None:
    found = attention_map(network, inputs())
    shares, timeless = found.by_time(np.array([0.0, 5.0, 30.0]))
    np.testing.assert_allclose(shares[:, 0], found.weights[:, 0] + found.weights[:, 6])  # 5.0 s belongs to the next
    np.testing.assert_allclose(timeless, found.weights[:, -1])


def test_the_map_is_the_product_of_the_weights_that_gave_the_answer(network: BiosignalPerceiver) -> None:
    """Where every latent reads one token alone, the map is the decoder's attention to the latents that read it."""
    planted = torch.zeros(2, 4, 6, 16)
    for latent in range(6):
        planted[:, :, latent, latent] = 1.0
    network.core.input_attention = lambda tokens, mask: planted  # type: ignore[method-assign]
    found = attention_map(network, inputs())
    tokens, mask = network.fusion(inputs())
    asked = network.core.decoder.weights(network.queries(), network.core.encode(tokens, mask)).mean(1)[:, 0]
    np.testing.assert_allclose(found.weights[:, :6], asked.detach(), atol=1e-6)
    assert (found.weights[:, 6:] == 0).all()
