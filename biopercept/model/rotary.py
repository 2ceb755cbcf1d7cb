"""Rotary time: the latents are spread over the window, and what they ask each other turns with the time between them.

Queries and keys of the latents' self-attention are turned, pair by pair of a head's numbers, by an angle that grows
with the latent's time in seconds; a score then depends on the difference of two latents' times beside their contents.
The latents' times are the same for every window: they lie evenly over the time that the model's time code knows.
Reading the tokens and answering queries are left as they are: turning keys of N tokens would end the folded reading
that makes them cheap, tokens say their time themselves, and a query for a whole window has no time.

References
----------
J. Su et al., "RoFormer: Enhanced transformer with rotary position embedding", Neurocomputing 2024,
doi:10.1016/j.neucom.2023.127063. M. Azabou et al., "A unified, scalable framework for neural population decoding"
(POYO), NeurIPS 2023, doi:10.48550/arXiv.2310.16046: rotary time in seconds. Different from POYO here: it turns half
of a head's numbers, also the values (but in its decoder not), and queries and keys of the cross-attentions as well; its
latents are several at each of fewer times.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from biopercept.errors import SettingsError


class RotaryTime(nn.Module):
    """Turns heads of latents by the latents' times; has no parameters.

    Parameters
    ----------
    n_latents : int
        L, spread evenly: latent i lies at (i + 1/2) / L of the time.
    seconds : float
        The time they are spread over.
    head_width : int
        Numbers of a head, even. Their waves are geometrically spaced, from twice the time between two latents to
        twice the whole time.

    Raises
    ------
    SettingsError
        Where the head's width is odd or the time not above 0.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, n_latents: int, seconds: float, head_width: int) -> None:
        super().__init__()
        refuse_odd_heads(head_width)
        if not (math.isfinite(seconds) and seconds > 0):
            raise SettingsError(f"Latents cannot be spread over {seconds} seconds; the time must be above 0.")
        n_pairs = head_width // 2
        times = (torch.arange(n_latents, dtype=torch.float32) + 0.5) * (seconds / n_latents)
        shortest = 2.0 * seconds / n_latents
        periods = shortest * float(n_latents) ** (torch.arange(n_pairs) / max(n_pairs - 1, 1))
        angles = 2.0 * math.pi * times[:, None] / periods  # (L, d / 2)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, heads: Tensor) -> Tensor:
        """Return heads (B, H, L, d), each pair (i, i + d/2) of numbers turned by its latent's angle."""
        first, second = heads.chunk(2, -1)
        cosines, sines = self.cosines.to(heads.dtype), self.sines.to(heads.dtype)
        return torch.cat((first * cosines - second * sines, first * sines + second * cosines), -1)


def refuse_odd_heads(head_width: int) -> None:
    """Refuse to turn heads whose numbers do not come in pairs.

    Raises
    ------
    SettingsError
        Naming the width.
    """
    if head_width % 2:
        raise SettingsError(
            f"The model setting rotary_latents turns the numbers of a head in pairs, and a head is {head_width} wide; "
            "choose a width that is an even multiple of n_heads or switch rotary_latents off."
        )
