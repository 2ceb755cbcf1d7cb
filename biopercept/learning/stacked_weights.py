"""The weights of several networks of one kind in one array: AdamW, clipping and running means for all at once.

Every network keeps what it would have alone: its own gradient norm, learning rate and, for each parameter, the number
of steps in which it had a gradient (a parameter without one, of a sensor that a batch lacks, is left as it is).

References
----------
I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, doi:10.48550/arXiv.1711.05101; the
constants are those of ``torch.optim.AdamW``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


class StackedWeights:
    """Weights (F, P) of F networks, and the state of their optimiser.

    Parameters
    ----------
    networks : sequence of nn.Module
        Of one kind and device, in the same order of parameters; they are copied.
    weight_decay : float
        Decoupled decay of parameters with two axes or more.
    average_decay : float
        Share of the old running mean that a step keeps; 0 keeps the last weights.
    """

    def __init__(self, networks: Sequence[nn.Module], *, weight_decay: float, average_decay: float) -> None:
        own = [dict(network.named_parameters()) for network in networks]
        self.shapes = {name: tuple(value.shape) for name, value in own[0].items()}
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        self._ends = torch.tensor(sizes).cumsum(0).tolist()
        with torch.no_grad():
            self.values = torch.stack([torch.cat([p.flatten() for p in o.values()]) for o in own])
        device = self.values.device
        self._owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(device)
        decays = torch.tensor([weight_decay if len(shape) >= 2 else 0.0 for shape in self.shapes.values()])
        self._decay = decays.to(device)[self._owner]
        self._average_decay = average_decay
        self._first = torch.zeros_like(self.values)
        self._second = torch.zeros_like(self.values)
        self._mean = torch.zeros_like(self.values)
        self._counts = torch.zeros(len(own), len(sizes), dtype=torch.float64, device=device)
        self._n_steps = 0

    def __len__(self) -> int:
        return len(self.values)

    def views(self, values: Tensor) -> dict[str, Tensor]:
        """Return the parameters, by name, in rows of numbers: each (K, *shape) where ``values`` is (K, P)."""
        starts = [0, *self._ends[:-1]]
        return {
            name: values[:, start:end].view(len(values), *shape)
            for (name, shape), start, end in zip(self.shapes.items(), starts, self._ends, strict=True)
        }

    def leaves(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return the parameters of some networks, each (K, *shape), of which gradients can be taken."""
        chosen = self.values if len(places) == len(self) else self.values[list(places)]
        return {name: part.detach().requires_grad_() for name, part in self.views(chosen).items()}

    def no_gradients(self) -> tuple[Tensor, Tensor]:
        """Return room for the gradients (F, P), and for which parameters have one (F, n_parameters)."""
        return torch.zeros_like(self.values), torch.zeros_like(self._counts, dtype=self.values.dtype)

    def rows_of(self, found: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        """Return the gradients of K networks, one (K, *shape) per parameter or None, as (K, P) and 1 or 0 of each."""
        n = next(len(gradient) for gradient in found if gradient is not None)
        starts = [0, *self._ends[:-1]]
        parts = [
            self.values.new_zeros(n, end - start) if gradient is None else gradient.reshape(n, -1)
            for gradient, start, end in zip(found, starts, self._ends, strict=True)
        ]
        has_gradient = [float(gradient is not None) for gradient in found]
        return torch.cat(parts, 1), torch.tensor(has_gradient, device=self.values.device).expand(n, -1)

    def step(self, gradients: Tensor, has_gradient: Tensor, rates: Sequence[float], largest_norm: float) -> None:
        """Clip every network's gradient, take one step of AdamW with its own rate, and update the running means.

        Parameters
        ----------
        gradients : Tensor (F, P)
            Changed in place; 0 where there is none.
        has_gradient : Tensor (F, n_parameters)
            1 or 0.
        rates : sequence of float (F,)
        largest_norm : float
        """
        with torch.no_grad():
            norm = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
            gradients *= (largest_norm / (norm + 1e-6)).clamp(max=1.0)
            self._counts += has_gradient
            rate = torch.tensor(rates, device=self.values.device)[:, None]
            # Corrections for the short start, one per network and parameter (float64), then spread over their numbers.
            n = self._counts.clamp(min=1.0)
            size = (has_gradient * rate / (1.0 - _BETA_1**n)).to(rate.dtype)[:, self._owner]
            root = (1.0 - _BETA_2**n).sqrt().to(rate.dtype)[:, self._owner]
            moved = has_gradient[:, self._owner]
            self.values.mul_(1.0 - rate * self._decay * moved)
            self._first.lerp_(gradients, moved * (1.0 - _BETA_1))
            self._second.lerp_(gradients.square_(), moved.mul_(1.0 - _BETA_2))
            self.values.sub_(size * self._first / (self._second.sqrt().div_(root).add_(_EPSILON)))
            self._mean.lerp_(self.values, 1.0 - self._average_decay)
        self._n_steps += 1

    def means(self, places: Sequence[int]) -> Tensor:
        """Return the running means of some networks' weights, (K, P), corrected for their short start."""
        return self._mean[list(places)] / (1.0 - self._average_decay**self._n_steps)

    def n_trained(self, place: int) -> int:
        """Return how many numbers of a network ever had a gradient."""
        return int((self._counts[place] > 0)[self._owner].sum())

    def keep(self, places: Sequence[int]) -> None:
        """Leave only these networks; the others have stopped."""
        kept = list(places)
        for name in ("values", "_first", "_second", "_mean", "_counts"):
            setattr(self, name, getattr(self, name)[kept].contiguous())
