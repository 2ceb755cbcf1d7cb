"""The Perceiver IO for biosignals: early fusion of sensors, the core, and one decoder for every kind of output query.

1. Early fusion makes tokens of what was measured, and the core encodes them once.
2. All queries of a call, of whatever kind, are laid in one array.
3. The one decoder reads them; what each kind wants is a linear map of the decoder's output away.

A query says what is wanted: a task's output for the whole window (a learned vector), the same
task at any time (that vector plus a code of seconds), or a patch of a signal (codes of time,
channel, modality and rate, and nothing of what was measured). Which tokens were read plays no part in a query,
so a sensor that is absent can be queried.

References
----------
A. Jaegle et al., "Perceiver IO", ICLR 2022, doi:10.48550/arXiv.2107.14795 (multimodal autoencoding: one decoder,
queries of position and modality codes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor, nn

from biopercept.errors import CheckpointError, SettingsError
from biopercept.modalities import MODALITIES
from biopercept.model.branches import CONV, LINEAR, ConvBranch, LinearBranch
from biopercept.model.dropout import drop
from biopercept.model.encodings import ChannelEncoding, ModalityEncoding, RateEncoding
from biopercept.model.layers import LearnedArray, initialise
from biopercept.model.perceiver import PerceiverIO
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.tokens import EarlyFusion, time_encoding
from biopercept.tasks import CLASSIFICATION, Task


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a network gives for B windows.

    * ``tasks`` (B, n_outputs): for the whole window, by task: logits of classes or of the steps between levels, or a
      scaled number.
    * ``branches`` (B, n_outputs): in training, what each branch gives, by its name, a slash and the task, and ``tasks``
      then is what the network gives without them; empty in evaluation, where ``tasks`` is the mean of all.
    * ``traces`` (B, Q, n_outputs): at the times queried, by task.
    * ``patches`` (B, Q, L): normalised samples, in the order of the queries.
    """

    tasks: Mapping[str, Tensor] = field(default_factory=dict)
    branches: Mapping[str, Tensor] = field(default_factory=dict)
    traces: Mapping[str, Tensor] = field(default_factory=dict)
    patches: tuple[Tensor, ...] = ()

    def learnt(self) -> dict[str, Tensor]:
        """Return what has a loss of its own for whole windows: by task; of a branch by its name, a slash, the task."""
        return {**self.tasks, **self.branches}


@dataclass(frozen=True, eq=False)
class PatchQueries:
    """Patches of one signal that are queried, Q in each window.

    * ``times`` (float32 Tensor (B, Q)): centre of each patch, seconds from the start of the window.
    * ``positions`` (float32 Tensor (B, Q, 3)): electrode of each, metres; NaN where unknown.
    * ``channels`` (int64 Tensor (B, Q)): learned channel code, read where the position is unknown.
    * ``rate`` (float32 Tensor (B,)): rate at which the signal is, or would be, sampled, Hz.
    * ``is_asked`` (bool Tensor (B, Q)): False: padding; the output there is finite and means nothing.
    """

    modality: str
    times: Tensor
    positions: Tensor
    channels: Tensor
    rate: Tensor
    is_asked: Tensor

    def rows(self, index: slice) -> PatchQueries:
        """Return the queries of some windows of the batch."""
        names = [one.name for one in fields(self) if one.name != "modality"]
        return replace(self, **{name: getattr(self, name)[index] for name in names})


def queries_of(sensor: SensorPatches, positions: Tensor | None = None, is_asked: Tensor | None = None) -> PatchQueries:
    """Return the queries whose true outputs are patches of a signal.

    ``positions`` (B, Q) are those of a window's C * P patches that are queried, channel by channel; None: all.
    ``is_asked`` (B, Q) says which of them count; None: those where something was measured.
    """
    b, c, p = sensor.is_real.shape
    if positions is None:
        positions = torch.arange(c * p, device=sensor.times.device).expand(b, -1)
    if is_asked is None:
        is_asked = sensor.is_real.flatten(1).gather(1, positions)
    channel = positions // p
    return PatchQueries(
        modality=sensor.modality,
        times=sensor.times.gather(1, positions % p),
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
        self.time = time_encoding(settings, width)
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
        """Return queries (B, Q, width) for patches of a signal; finite whatever stands where nothing is queried."""
        idle = ~query.is_asked
        rate = query.rate.masked_fill(idle.all(1), 1.0)
        patch_rate = torch.full_like(rate, 1.0 / MODALITIES[query.modality].patch_seconds)
        time = self.time(query.times.masked_fill(idle, 0.0), patch_rate)  # (B, Q, D)
        channel = self.channel(query.positions, query.channels.masked_fill(idle, 0))  # (B, Q, D)
        code: Tensor = time + channel + (self.modality(query.modality) + self.rate(rate))[:, None]
        return code


def perceiver_for(
    tasks: Sequence[Task],
    settings: PerceiverSettings,
    token_settings: TokenSettings,
    vocabulary: TokenVocabulary,
    *,
    traces: bool = False,
) -> BiosignalPerceiver:
    """Return a new network with a query for each task; with ``traces`` at single times, too.

    A network of anything but one classification starts from the values that it has beside codes and heads for patches,
    which it was made with at first: documented scores hold for these.

    Raises SettingsError where a linear branch would have no features to read.
    """
    n_outputs = {task.name: task.n_outputs for task in tasks}
    if [task.kind for task in tasks] == [CLASSIFICATION] and not traces:
        network = BiosignalPerceiver(settings, token_settings, vocabulary, n_outputs)
    else:
        whole = BiosignalPerceiver(settings, token_settings, vocabulary, n_outputs, traces=traces, reconstructs=True)
        network = whole.without_patches(traces=traces)
    if settings.linear_branch:
        if not (token_settings.features and vocabulary.feature_groups):
            raise SettingsError(
                "model.linear_branch reads features; set tokens.features to true or the branch to false"
            )
        network.branches[LINEAR] = LinearBranch(vocabulary.feature_groups, n_outputs)
    if settings.conv_branch:
        network.branches[CONV] = ConvBranch(vocabulary, n_outputs, settings, token_settings)
    return network


class BiosignalPerceiver(nn.Module):
    """Read any subset of sensors over a window and give what is queried: tasks, tasks at single times, patches.

    The only time that goes in is seconds within the window: where in a session the window lies has no way to reach the
    model. Parts exist only where they are needed.

    Raises SettingsError where a setting is out of its range.

    Parameters
    ----------
    tasks : mapping of str to int
        Numbers that each task's output has, by its name; one learned query each. May be empty.
    traces : bool
        Whether tasks can be queried at single times.
    reconstructs : bool
        Whether patches of signals can be queried, present in the input or not.
    """

    def __init__(
        self,
        settings: PerceiverSettings,
        token_settings: TokenSettings,
        vocabulary: TokenVocabulary,
        tasks: Mapping[str, int],
        *,
        traces: bool = False,
        reconstructs: bool = False,
    ) -> None:
        super().__init__()
        for name, n_outputs in tasks.items():
            if n_outputs < 1:
                raise SettingsError(f"The model is to give {n_outputs} outputs for {name}; it must give at least 1.")
        self.settings = settings
        self.task_names = tuple(tasks)
        self.core = PerceiverIO(settings.core(token_settings))
        self.fusion = EarlyFusion(settings.width, token_settings, vocabulary)
        self.queries = LearnedArray(len(tasks), settings.width)
        if traces or reconstructs:
            n_codes = vocabulary.n_channel_codes if reconstructs else None
            self.query_codes = QueryCodes(settings.width, token_settings, n_codes)
        self.heads = nn.ModuleList(nn.Linear(settings.width, n_outputs) for n_outputs in tasks.values())
        self.branches = nn.ModuleDict()
        self.patches = nn.ModuleDict()
        if reconstructs:
            read = token_settings.lengths_read(vocabulary)
            self.patches.update({m: nn.Linear(settings.width, length) for m, length in read.items()})
        self._shares_queries = not (traces or reconstructs)
        initialise(self)

    def without_patches(self, *, traces: bool) -> BiosignalPerceiver:
        """Return this network, its codes and heads for patches taken away, and without ``traces`` those of times."""
        self.patches = nn.ModuleDict()
        if traces:
            self.query_codes.drop_patches()
        else:
            del self.query_codes
        return self

    def forward(
        self,
        inputs: TokenInputs,
        generator: torch.Generator | None = None,
        *,
        traces: Mapping[str, Tensor] | None = None,
        patches: Sequence[PatchQueries] = (),
    ) -> Outputs:
        """Return the output of every task for B windows, and of the queries given.

        The generator is the source of every dropout draw in training. ``traces`` are times (B, Q), in seconds from the
        window's start, at which a task is queried, by task; ``patches`` are those to be reconstructed, whether or not
        they are in the inputs.

        Raises CheckpointError where the inputs or the queries hold what the vocabulary does not.
        """
        outputs = self.read_out(self.encode(inputs, generator), generator, traces=traces, patches=patches)
        return self.with_branches(outputs, self.of_branches(inputs, generator)) if self.branches else outputs

    def of_branches(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return what every branch gives (B, n_outputs), by its name, a slash and the task."""
        return {
            f"{name}/{task}": output
            for name, branch in self.branches.items()
            for task, output in branch(inputs, generator).items()
        }

    def with_branches(self, outputs: Outputs, branches: Mapping[str, Tensor]) -> Outputs:
        """Return the network's outputs beside those of its branches in training, their means in evaluation."""
        if self.training:
            return replace(outputs, branches=branches)
        means = {}
        for task, value in outputs.tasks.items():
            values = [value, *(branches[f"{name}/{task}"] for name in self.branches)]
            means[task] = torch.stack(values).sum(0) / len(values)
        return replace(outputs, tasks=means)

    def encode(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return the latents (B, n_latents, width) of a batch of windows."""
        tokens, mask = self.fusion(inputs, generator)
        return self.core.encode(tokens, mask, generator)  # 1.

    def read_out(
        self,
        latents: Tensor,
        generator: torch.Generator | None = None,
        *,
        traces: Mapping[str, Tensor] | None = None,
        patches: Sequence[PatchQueries] = (),
    ) -> Outputs:
        """Return what :meth:`forward` does, from latents that :meth:`encode` gave.

        Raises CheckpointError where a query names what the vocabulary does not.
        """
        traces = traces or {}
        for query in patches:
            if query.modality not in self.patches:
                raise CheckpointError(
                    f"The model was asked for patches of {query.modality}; it can reconstruct "
                    f"{', '.join(self.patches) or 'none'}."
                )
        queries = [self.queries()] if self.task_names else []
        queries += [self._queries_at(name, times) for name, times in traces.items()]
        queries += [self.query_codes.of_patches(query) for query in patches]
        if not queries:
            return Outputs()
        decoded = iter(self.decode(latents, queries, generator))
        heads = dict(zip(self.task_names, self.heads, strict=True))

        def of_head(name: str, values: Tensor) -> Tensor:
            output: Tensor = heads[name](drop(values, self.settings.head_dropout, self.training, generator))
            return output

        at_window = next(decoded) if self.task_names else latents
        return Outputs(
            tasks={name: of_head(name, at_window[:, i]) for i, name in enumerate(self.task_names)},
            traces={name: of_head(name, next(decoded)) for name in traces},
            patches=tuple(self.patches[query.modality](next(decoded)) for query in patches),
        )

    def decode(
        self, latents: Tensor, queries: Sequence[Tensor], generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """Return the decoder's outputs (B, Q, width) of each array of queries (1 or B, Q, width), in one call."""
        together = queries[0]
        if not self._shares_queries:  # one query for all windows is read with another rounding than its copies
            together = torch.cat([q.expand(len(latents), -1, -1) for q in queries], 1)  # 2.
        decoded = self.core.decode(latents, together, generator)  # 3.
        return list(torch.split(decoded, [q.shape[1] for q in queries], 1))

    def _queries_at(self, name: str, times: Tensor) -> Tensor:
        query: Tensor = self.queries()[:, self.task_names.index(name), None] + self.query_codes.of_times(times)
        return query

    def token_attention(self, inputs: TokenInputs) -> tuple[Tensor, Tensor]:
        """Return the latents' attention to the tokens (B, H, n_latents, N) and the tokens' mask (B, N)."""
        tokens, mask = self.fusion(inputs)
        return self.core.input_attention(tokens, mask), mask


def reconstruct_patches(
    network: BiosignalPerceiver, shown: TokenInputs, wanted: Sequence[SensorPatches]
) -> tuple[Tensor, ...]:
    """Return every patch of some signals as the network reconstructs it, (B, C, P, L) each, in normalised units.

    Of ``wanted`` only where and when its patches lie is read; ``shown`` has a token in each of the B windows. The
    network is left in evaluation mode.

    Raises CheckpointError where the network's vocabulary lacks a signal.
    """
    network.eval()
    with torch.inference_mode():
        latents = network.encode(shown)
        patches = network.read_out(latents, patches=[_queries_of_all(sensor) for sensor in wanted]).patches
    return tuple(
        patch.float().reshape(*sensor.is_real.shape, -1) for patch, sensor in zip(patches, wanted, strict=True)
    )


def _queries_of_all(sensor: SensorPatches) -> PatchQueries:
    """Return queries for every patch, real or not, so that what is real cannot change an output."""
    return queries_of(sensor, is_asked=torch.ones_like(sensor.is_real.flatten(1)))
