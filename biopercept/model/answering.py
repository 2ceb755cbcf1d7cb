"""The Perceiver IO with all its output queries: tasks, traces over time, patches of signals, next steps.

1. Early fusion makes tokens of what was measured, and the core encodes them once.
2. All queries of a call, of whatever kind, are laid in one array.
3. The one decoder answers them; what each kind wants is a linear map of the answer away.

Forecasting by steps (:meth:`QueryPerceiver.next_patches`) is causal by mask: for each step the
tokens are read again with all that ended after the step began hidden, so the true past teaches
every step at once (teacher forcing) and nothing of the future can. Perceiver AR ties latents to
positions instead; with few latents over many signals on one time axis the mask is exact and the tokens are
made once.

References
----------
A. Jaegle et al., "Perceiver IO", ICLR 2022, doi:10.48550/arXiv.2107.14795 (multimodal autoencoding: one decoder,
queries of position and modality codes). C. Hawthorne et al., "General-purpose, long-context autoregressive modeling
with Perceiver AR", ICML 2022, doi:10.48550/arXiv.2202.07765.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from biopercept.errors import CheckpointError
from biopercept.modalities import MODALITIES
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.dropout import drop
from biopercept.model.layers import initialise
from biopercept.model.perceiver import PerceiverIO
from biopercept.model.queries import OutputQueries, PatchQueries, TaskSpec, queries_of
from biopercept.model.tokens import EarlyFusion, SensorPatches, TokenInputs, TokenSettings, TokenVocabulary

_GRACE_SECONDS = 1e-3  # times are sums of float32


@dataclass(frozen=True, eq=False)
class Answers:
    """What the decoder said.

    Attributes
    ----------
    tasks : mapping of str to Tensor (B, n_outputs)
        For the whole window, by task.
    traces : mapping of str to Tensor (B, Q, n_outputs)
        At the times asked for, by task.
    patches : tuple of Tensor (B, Q, L)
        Normalised samples, in the order of the queries.
    """

    tasks: Mapping[str, Tensor] = field(default_factory=dict)
    traces: Mapping[str, Tensor] = field(default_factory=dict)
    patches: tuple[Tensor, ...] = ()


class QueryPerceiver(nn.Module):
    """Read any subset of sensors over a window and answer any queries about it.

    The parts named ``core`` and ``fusion`` are those of ``BiosignalPerceiver``: weights of one fit the other.

    Parameters
    ----------
    settings : PerceiverSettings
    token_settings : TokenSettings
    vocabulary : TokenVocabulary
    tasks : sequence of TaskSpec
        What is answered for a window or at any time in it; may be empty.

    Raises
    ------
    SettingsError
        Where a setting is out of its range, or two tasks have one name.
    """

    def __init__(
        self,
        settings: PerceiverSettings,
        token_settings: TokenSettings,
        vocabulary: TokenVocabulary,
        tasks: Sequence[TaskSpec] = (),
    ) -> None:
        super().__init__()
        self.settings = settings
        self.tasks = tuple(tasks)
        self.core = PerceiverIO(settings.core(token_settings))
        self.fusion = EarlyFusion(settings.width, token_settings, vocabulary)
        self.asked = OutputQueries(settings.width, token_settings, tasks, vocabulary.n_channel_codes)
        self.heads = nn.ModuleList(nn.Linear(settings.width, task.n_outputs) for task in tasks)
        read = {m: length for m, length in vocabulary.patch_samples.items() if token_settings.reads(m)}
        self.patches = nn.ModuleDict({m: nn.Linear(settings.width, length) for m, length in read.items()})
        initialise(self)

    def encode(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return the latents (B, n_latents, width) of a batch of windows."""
        tokens, mask = self.fusion(inputs, generator)
        return self.core.encode(tokens, mask, generator)  # 1.

    def decode(
        self, latents: Tensor, queries: Sequence[Tensor], generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """Return the decoder's answers (B, Q, width) to each array of queries (1 or B, Q, width), in one call."""
        n_windows = len(latents)
        asked = torch.cat([q.expand(n_windows, -1, -1) for q in queries], 1)  # 2.
        answers = self.core.decode(latents, asked, generator)  # 3.
        return list(torch.split(answers, [q.shape[1] for q in queries], 1))

    def forward(
        self,
        inputs: TokenInputs,
        *,
        traces: Mapping[str, Tensor] | None = None,
        patches: Sequence[PatchQueries] = (),
        generator: torch.Generator | None = None,
    ) -> Answers:
        """Return the answer to every task, and to the queries given.

        Parameters
        ----------
        inputs : TokenInputs
            A batch of B windows; any subset of the vocabulary's sensors and feature groups.
        traces : mapping of str to float32 Tensor (B, Q), optional
            Times, in seconds from the window's start, at which a task is to be answered, by task.
        patches : sequence of PatchQueries
            Patches of signals to be told, whether or not they are in ``inputs``.
        generator : torch.Generator or None
            In training: source of every dropout draw; None: torch's global one.

        Raises
        ------
        CheckpointError
            Where the inputs or the queries name what the vocabulary does not.
        """
        return self.answer(self.encode(inputs, generator), traces=traces, patches=patches, generator=generator)

    def answer(
        self,
        latents: Tensor,
        *,
        traces: Mapping[str, Tensor] | None = None,
        patches: Sequence[PatchQueries] = (),
        generator: torch.Generator | None = None,
    ) -> Answers:
        """Return what :meth:`forward` does, from latents that :meth:`encode` gave.

        Raises
        ------
        CheckpointError
            Where a query names what the vocabulary does not.
        """
        traces = traces or {}
        for asked in patches:
            if asked.modality not in self.patches:
                raise CheckpointError(
                    f"The model was asked for patches of {asked.modality}; it can tell {', '.join(self.patches)}."
                )
        queries = [self.asked.of_tasks()] if self.tasks else []
        queries += [self.asked.of_task_at(name, times) for name, times in traces.items()]
        queries += [self.asked.of_patches(asked) for asked in patches]
        if not queries:
            return Answers()
        told = iter(self.decode(latents, queries, generator))
        heads = dict(zip(self.asked.names, self.heads, strict=True))

        def of_head(name: str, values: Tensor) -> Tensor:
            output: Tensor = heads[name](drop(values, self.settings.head_dropout, self.training, generator))
            return output

        at_window = next(told) if self.tasks else latents
        return Answers(
            {name: of_head(name, at_window[:, i]) for i, name in enumerate(self.asked.names)},
            {name: of_head(name, next(told)) for name in traces},
            tuple(self.patches[asked.modality](next(told)) for asked in patches),
        )

    def next_patches(self, inputs: TokenInputs, modality: str, generator: torch.Generator | None = None) -> Tensor:
        """Return each patch of a signal as told from what had ended when it began, all steps at once.

        Feature tokens, which have no time, are not read. Inputs must themselves be causal: series that were
        filtered, and normalisation that was measured, over the whole window know its end.

        Parameters
        ----------
        inputs : TokenInputs
        modality : str
            Of a signal in ``inputs``.
        generator : torch.Generator or None

        Returns
        -------
        Tensor (B, C, P, L)
            Finite everywhere; a step with no past is told from nothing.
        """
        sensor = signal_of(inputs, modality)
        b, c, p = sensor.is_real.shape
        tokens, mask = self.fusion(inputs, generator)
        starts = sensor.times - 0.5 * MODALITIES[modality].patch_seconds  # (B, P)
        ends = self._token_ends(inputs)  # (B, N)
        past = mask[:, None] & (ends[:, None] <= starts[:, :, None] + _GRACE_SECONDS)  # (B, P, N)
        steps = tokens[:, None].expand(-1, p, -1, -1).flatten(0, 1)  # (B P, N, D)
        latents = self.core.encode(steps, past.flatten(0, 1), generator)
        queries = self.asked.of_patches(queries_of(sensor)).view(b, c, p, -1)  # (B, C, P, D)
        each = queries.transpose(1, 2).flatten(0, 1)  # (B P, C, D)
        told: Tensor = self.patches[modality](self.decode(latents, [each], generator)[0])
        return told.view(b, p, c, -1).transpose(1, 2)

    def forecast(self, inputs: TokenInputs, modality: str, n_steps: int) -> Tensor:
        """Return the patches (B, C, n_steps, L) that follow a signal's last, each told from those before it.

        The answers are fed back; feature tokens are not read, as in :meth:`next_patches`.

        Raises
        ------
        SettingsError
            Where the steps lead beyond the table of a learned time code.
        """
        known = TokenInputs(inputs.sensors)
        last = float(signal_of(known, modality).times.nan_to_num(0.0).max())
        self.fusion.settings.require_reach(last + n_steps * MODALITIES[modality].patch_seconds)
        told = []
        for _ in range(n_steps):
            sensor = signal_of(known, modality)
            longer = _with_next_place(sensor)
            asked = queries_of(_last_place(longer))
            patch = self(known, patches=(asked,)).patches[0][:, :, None]  # (B, C, 1, L)
            told.append(patch)
            filled = replace(longer, patches=torch.cat((sensor.patches, patch), 2))
            known = TokenInputs(tuple(filled if s is sensor else s for s in known.sensors))
        return torch.cat(told, 2)

    def _token_ends(self, inputs: TokenInputs) -> Tensor:
        """Return when each token's stretch ends (B, N), seconds; infinity for features."""
        settings = self.fusion.settings
        ends = [
            (s.times + 0.5 * MODALITIES[s.modality].patch_seconds)[:, None]
            .expand(-1, s.is_real.shape[1], -1)
            .flatten(1)
            for s in inputs.sensors
            if settings.reads(s.modality)
        ]
        n_features = len(inputs.features) if settings.features else 0
        return torch.cat((*ends, ends[0].new_full((len(ends[0]), n_features), torch.inf)), 1)


def signal_of(inputs: TokenInputs, modality: str) -> SensorPatches:
    """Return the first signal of a modality.

    Raises
    ------
    CheckpointError
        Where the inputs have none.
    """
    for sensor in inputs.sensors:
        if sensor.modality == modality:
            return sensor
    present = ", ".join(s.modality for s in inputs.sensors)
    raise CheckpointError(f"The inputs have no {modality} to go on with; they have {present or 'no signal'}.")


def _with_next_place(sensor: SensorPatches) -> SensorPatches:
    """Return the signal with one more patch, empty but real, of full quality, after its last."""
    after = sensor.times[:, -1:] + MODALITIES[sensor.modality].patch_seconds
    return replace(
        sensor,
        patches=torch.cat((sensor.patches, torch.zeros_like(sensor.patches[:, :, :1])), 2),
        is_real=torch.cat((sensor.is_real, sensor.is_real.any(2, keepdim=True)), 2),
        times=torch.cat((sensor.times, after), 1),
        quality=torch.cat((sensor.quality, torch.ones_like(sensor.quality[:, :, :1])), 2),
    )


def _last_place(sensor: SensorPatches) -> SensorPatches:
    return replace(
        sensor,
        patches=sensor.patches[:, :, -1:],
        is_real=sensor.is_real[:, :, -1:],
        times=sensor.times[:, -1:],
        quality=sensor.quality[:, :, -1:],
    )
