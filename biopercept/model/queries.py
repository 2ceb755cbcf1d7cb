"""Output queries beside those of tasks: at single times, and for patches of signals.

A query says what is wanted: a task's answer for the whole window (a learned vector), the same
task at any time (that vector plus a code of seconds), or a patch of a signal (codes of time,
channel, modality and rate, and nothing of what was measured). Which tokens were read plays no part in a query,
so a sensor that is absent can be asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biopercept.modalities import MODALITIES
from biopercept.model.encodings import ChannelEncoding, ModalityEncoding, RateEncoding
from biopercept.model.token_inputs import SensorPatches
from biopercept.model.tokens import TokenSettings


@dataclass(frozen=True, eq=False)
class PatchQueries:
    """Patches of one signal that are asked for, Q in each window.

    Attributes
    ----------
    times : float32 Tensor (B, Q)
        Centre of each patch, seconds from the start of the window.
    positions : float32 Tensor (B, Q, 3)
        Electrode of each, metres; NaN where unknown.
    channels : int64 Tensor (B, Q)
        Learned channel code, read where the position is unknown.
    rate : float32 Tensor (B,)
        Rate at which the signal is, or would be, sampled, Hz.
    is_asked : bool Tensor (B, Q)
        False: padding; the answer there is finite and means nothing.
    """

    modality: str
    times: Tensor
    positions: Tensor
    channels: Tensor
    rate: Tensor
    is_asked: Tensor


def queries_of(sensor: SensorPatches, places: Tensor | None = None, is_asked: Tensor | None = None) -> PatchQueries:
    """Return the queries whose true outputs are patches of a signal.

    ``places`` (B, Q) are those of a window's C * P patches that are queried, channel by channel; None: all.
    ``is_asked`` (B, Q) says which of them count; None: those where something was measured.
    """
    b, c, p = sensor.is_real.shape
    if places is None:
        places = torch.arange(c * p, device=sensor.times.device).expand(b, -1)
    if is_asked is None:
        is_asked = sensor.is_real.flatten(1).gather(1, places)
    channel = places // p
    return PatchQueries(
        modality=sensor.modality,
        times=sensor.times.gather(1, places % p),
        positions=sensor.positions.gather(1, channel[..., None].expand(-1, -1, 3)),
        channels=sensor.channels.gather(1, channel),
        rate=sensor.rate,
        is_asked=is_asked,
    )


class QueryCodes(nn.Module):
    """Codes of when, and of which signal, is queried; of the same kinds as those of the tokens, but learnt apart.

    Without ``n_channel_codes`` single times of tasks alone are queried, and no patches.
    """

    def __init__(self, width: int, settings: TokenSettings, n_channel_codes: int | None) -> None:
        super().__init__()
        self.time = settings.time_encoding(width)
        if n_channel_codes is not None:
            self.channel = ChannelEncoding(width, settings.position_bands, n_channel_codes)
            self.modality = ModalityEncoding(width)
            self.rate = RateEncoding(width)

    def drop_patches(self) -> None:
        """Take away what only queries for patches need."""
        del self.channel, self.modality, self.rate

    def of_times(self, times: Tensor) -> Tensor:
        """Return codes (B, Q, width) of times (B, Q), seconds from the window's start."""
        instant = times.new_full((len(times),), math.inf)  # no grid of patches: every wave of the code is heard
        code: Tensor = self.time(times, instant)
        return code

    def of_patches(self, query: PatchQueries) -> Tensor:
        """Return queries (B, Q, width) for patches of a signal; finite whatever stands where nothing is asked."""
        idle = ~query.is_asked
        rate = query.rate.masked_fill(idle.all(1), 1.0)
        patch_rate = torch.full_like(rate, 1.0 / MODALITIES[query.modality].patch_seconds)
        time = self.time(query.times.masked_fill(idle, 0.0), patch_rate)  # (B, Q, D)
        channel = self.channel(query.positions, query.channels.masked_fill(idle, 0))  # (B, Q, D)
        code: Tensor = time + channel + (self.modality(query.modality) + self.rate(rate))[:, None]
        return code
