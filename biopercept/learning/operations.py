"""What an answer costs: the multiply-adds of a network, counted while it answers one window."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from biopercept.learning.token_source import TokenSource
from biopercept.learning.windows import IntArray
from biopercept.model.tokens import TokenInputs

N_LOOKED_AT = 8
"""Windows of which the one with the most to read is counted, since a window with a sensor missing costs less."""


def count_operations(network: nn.Module, inputs: TokenInputs) -> int:
    """Return the multiply-adds of all matrix products and convolutions while ``network`` answers ``inputs``.

    Sums, activations and norms are not counted, as is usual. The network is left in evaluation mode. Attention
    runs its plain way here, in which every product shows.
    """
    network.eval()
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mkldnn_rnn_layer: _recurrent})
    with sdpa_kernel(SDPBackend.MATH), counter:  # with gradients: the counter trips over parameters without them
        network(inputs)
    return int(counter.get_total_flops()) // 2


def _recurrent(x: Sequence[int], to_gates: Sequence[int], back: Sequence[int], *_: object, **__: object) -> int:
    """Return the operations (two per multiply-add) of one recurrent layer, from the shapes of inputs and weights."""
    return 2 * (math.prod(to_gates) + math.prod(back)) * math.prod(x[:2])


def operations_per_window(network: nn.Module, source: TokenSource, rows: IntArray) -> int:
    """Return the multiply-adds of one window: of a few spread over ``rows``, the one with the most to read.

    One count alone, since counting is slow; on a processor, whose recurrent layers the counter knows.
    """
    read = getattr(network, "tokens_read", None)
    places = np.unique(np.linspace(0, len(rows) - 1, N_LOOKED_AT).round().astype(np.int64))
    batches = [source.batch(rows[place : place + 1]) for place in places]
    fullest = max(batches, key=lambda batch: _to_read(batch if read is None else read(batch)))
    if source.device.type == "cpu":
        return count_operations(network, fullest)
    return count_operations(copy.deepcopy(network).to("cpu"), fullest.to("cpu"))


def _to_read(inputs: TokenInputs) -> tuple[int, int]:
    """Return how many patches and features a batch holds, and how many of them are real."""
    masks = [sensor.is_real for sensor in inputs.sensors] + [group.is_real for group in inputs.features]
    return sum(mask.numel() for mask in masks), sum(int(mask.sum()) for mask in masks)
