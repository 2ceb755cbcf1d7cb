"""Low-rank updates of a network's weight matrices: W + B A with B zero at first, merged into W when they are learnt.

References
----------
E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, doi:10.48550/arXiv.2106.09685. Here
every linear layer is updated, without a scaling factor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRankUpdate(nn.Module):
    """A matrix (n_out, n_in) plus ``up @ down``; equal to the matrix, bit for bit, until ``up`` is changed.

    Parameters
    ----------
    n_out, n_in : int
    rank : int
        At most the smaller of the two counts.
    generator : torch.Generator
        Of the start of ``down``.
    """

    def __init__(self, n_out: int, n_in: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rank = min(rank, n_out, n_in)
        self.up = nn.Parameter(torch.zeros(n_out, rank))
        self.down = nn.Parameter(torch.randn(rank, n_in, generator=generator) / math.sqrt(n_in))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated matrix."""
        return weight + self.up @ self.down


def add_low_rank(network: nn.Module, rank: int, generator: torch.Generator) -> list[nn.Parameter]:
    """Give every linear layer of a network a low-rank update of its weight and return what is to be learnt.

    Parameters
    ----------
    network : nn.Module
        Changed in place; its own weights no longer ask for gradients.
    rank : int
    generator : torch.Generator
        On the CPU.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    learnt: list[nn.Parameter] = []
    for layer in [part for part in network.modules() if isinstance(part, nn.Linear)]:
        update = LowRankUpdate(layer.out_features, layer.in_features, rank, generator).to(layer.weight.device)
        parametrize.register_parametrization(layer, "weight", update)
        learnt += [update.up, update.down]
    return learnt


def merge_low_rank(network: nn.Module) -> None:
    """Write every update into its matrix, so that the network is an ordinary one again, with the same answers."""
    for layer in [part for part in network.modules() if isinstance(part, nn.Linear)]:
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
