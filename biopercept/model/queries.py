"""Output queries: what the one decoder can be asked, and the vectors that ask it.

A query says what is wanted: a task's answer for the whole window (a learned vector), the same
task at any time (that vector plus a code of seconds), or a patch of a signal (codes of time,
channel, modality and rate, and nothing of what was measured). Which tokens were read plays no part in a query,
so a sensor that is absent can be asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biopercept.errors import SettingsError
from biopercept.modalities import MODALITIES
from biopercept.model.encodings import ChannelEncoding, ModalityEncoding, RateEncoding
from biopercept.model.layers import LearnedArray
from biopercept.model.token_inputs import SensorPatches
from biopercept.model.tokens import TokenSettings

CLASSIFICATION, ORDINAL, REGRESSION = "classification", "ordinal", "regression"
TASK_KINDS = (CLASSIFICATION, ORDINAL, REGRESSION)


@dataclass(frozen=True)
class TaskSpec:
    """One of the tasks that a network answers.

    Attributes
    ----------
    name : str
        Letters, digits, ``_`` and ``-``.
    kind : str
        classification, ordinal or regression.
    n_outputs : int
        Numbers per answer: classes of a classification, steps of an ordinal scale (levels less one),
        values of a regression.
    weight : float
        Weight of the task's loss beside the others'.
    """

    name: str
    kind: str
    n_outputs: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise SettingsError(f"A task is called {self.name!r}; letters, digits, _ and - are allowed.")
        if self.kind not in TASK_KINDS:
            raise SettingsError(f"The task {self.name} is a {self.kind!r}; allowed are {', '.join(TASK_KINDS)}.")
        least = 2 if self.kind == CLASSIFICATION else 1
        if self.n_outputs < least:
            raise SettingsError(
                f"The {self.kind} {self.name} has {self.n_outputs} outputs; it must have at least {least}."
            )
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise SettingsError(f"The task {self.name} has the weight {self.weight}; it must be a number above 0.")


@dataclass(frozen=True, eq=False)
class PatchQueries:
    """Patches of one signal that are asked for, Q in each window.

    Attributes
    ----------
    modality : str
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
    """Return the queries whose true answers are patches of a signal.

    Parameters
    ----------
    sensor : SensorPatches
    places : int64 Tensor (B, Q) or None
        Which of a window's C * P patches are asked for, channel by channel; None: all, Q = C * P.
    is_asked : bool Tensor (B, Q) or None
        Which of the places count; None: those where something was measured.
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


def queries_on_a_grid(modality: str, n_windows: int, window_seconds: float, channel: int, rate: float) -> PatchQueries:
    """Return queries for every patch of one channel over whole windows, for a sensor that need not be there.

    Parameters
    ----------
    modality : str
    n_windows : int
        B.
    window_seconds : float
    channel : int
        Learned channel code.
    rate : float
        Hz, at which the signal would be sampled.
    """
    length = MODALITIES[modality].patch_seconds
    n_patches = max(1, int(window_seconds / length + 1e-6))
    times = ((torch.arange(n_patches) + 0.5) * length).expand(n_windows, -1)
    return PatchQueries(
        modality,
        times,
        torch.full((n_windows, n_patches, 3), torch.nan),
        torch.full((n_windows, n_patches), channel),
        torch.full((n_windows,), rate),
        torch.ones((n_windows, n_patches), dtype=torch.bool),
    )


class OutputQueries(nn.Module):
    """The vectors that ask the decoder.

    Parameters
    ----------
    width : int
    settings : TokenSettings
        The kind of time code, which is that of the tokens, and the bands of the time and electrode codes.
    tasks : sequence of TaskSpec
    n_channel_codes : int

    Raises
    ------
    SettingsError
        Where two tasks have one name.
    """

    def __init__(self, width: int, settings: TokenSettings, tasks: Sequence[TaskSpec], n_channel_codes: int) -> None:
        super().__init__()
        names = [task.name for task in tasks]
        if len(set(names)) < len(names):
            raise SettingsError(f"Two of the tasks {', '.join(names)} have one name; give each its own.")
        self.names = tuple(names)
        self.tasks = LearnedArray(len(tasks), width)
        self.time = settings.time_encoding(width)
        self.channel = ChannelEncoding(width, settings.position_bands, n_channel_codes)
        self.modality = ModalityEncoding(width)
        self.rate = RateEncoding(width)

    def of_tasks(self) -> Tensor:
        """Return one query per task: (1, n_tasks, width)."""
        asked: Tensor = self.tasks()
        return asked

    def of_task_at(self, name: str, times: Tensor) -> Tensor:
        """Return queries (B, Q, width) for a task's answer at times (B, Q), seconds from the window's start."""
        instant = times.new_full((len(times),), math.inf)  # no grid of patches: every wave of the code is heard
        answer: Tensor = self.tasks()[:, self.names.index(name), None] + self.time(times, instant)
        return answer

    def of_patches(self, asked: PatchQueries) -> Tensor:
        """Return queries (B, Q, width) for patches of a signal; finite whatever stands where nothing is asked."""
        idle = ~asked.is_asked
        rate = asked.rate.masked_fill(idle.all(1), 1.0)
        patch_rate = torch.full_like(rate, 1.0 / MODALITIES[asked.modality].patch_seconds)
        time = self.time(asked.times.masked_fill(idle, 0.0), patch_rate)  # (B, Q, D)
        channel = self.channel(asked.positions, asked.channels.masked_fill(idle, 0))  # (B, Q, D)
        answer: Tensor = time + channel + (self.modality(asked.modality) + self.rate(rate))[:, None]
        return answer
