"""Attention maps: how much of each prediction's attention went to each time, channel and modality.

The map is that of the plain attention path, whose weights are equal to the fused ones within rounding. It multiplies
two steps: how much the task's query read of each latent, and how much each latent read of each token (first
cross-attention; mean over heads). What latents exchange between the two is not followed, so a map shows where the
network looked, not why it decided.

References
----------
S. Jain and B. Wallace, "Attention is not Explanation", NAACL 2019, doi:10.18653/v1/N19-1357.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.errors import SettingsError
from biopercept.inference.prediction import read_for
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.dropout import sensors_of
from biopercept.model.token_inputs import TokenInputs
from biopercept.store.prepared import WindowedRecording
from biopercept.training.checkpoint import Checkpoint
from biopercept.training.engine import Engine

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
N_TIMES = 10
"""Parts of equal length into which a window is divided."""
_BATCH = 32


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Attention of the predictions of one task for B windows to their N tokens.

    ``weights``, (B, N), sum to 1 over the real tokens of a window; they are exactly 0 at absent ones, and everywhere in
    a window without any. Each token has a ``modality`` (``features`` for a feature group), a ``channel`` ("modality
    number" from 1, or the name of the feature group) and the measured modality ``sensor`` that it comes from.
    ``seconds``, (B, N), are the tokens' centres from the window's start; NaN for features and at absent tokens.
    """

    weights: FloatArray
    is_real: NDArray[np.bool_]
    modality: tuple[str, ...]
    channel: tuple[str, ...]
    sensor: tuple[str, ...]
    seconds: FloatArray

    def by_name(self, names: tuple[str, ...]) -> dict[str, FloatArray]:
        """Return the fraction (B,) of each name's tokens: of ``modality``, ``channel`` or ``sensor``."""
        column = np.array(names)
        return {name: self.weights[:, column == name].sum(1) for name in dict.fromkeys(names)}

    def by_time(self, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the fraction of each interval of time (B, T), and the fraction of what has no time there (B,).

        The T + 1 rising ``edges`` are seconds from the window's start; a token counts where its centre lies, the last
        edge excluded. Features, and tokens outside the edges, have no time.
        """
        index = np.searchsorted(edges, self.seconds, side="right") - 1
        inside = np.isfinite(self.seconds) & (index >= 0) & (index < len(edges) - 1)
        fractions = np.stack([(self.weights * (inside & (index == t))).sum(1) for t in range(len(edges) - 1)], 1)
        return fractions, self.weights.sum(1) - fractions.sum(1)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where the predictions of one task for a recording's windows looked.

    ``onset`` is in seconds on the recording's clock. ``fractions`` of the attention by channel, (n_windows,
    n_channels), sum to 1, or to 0 in a window of which the model reads nothing; each of ``channels`` is (sensor,
    modality, channel). ``by_time``, (n_windows, T), are those of T equal parts of a window with ``edges`` in seconds
    from its start; what is missing to 1 went to features, which have no time.
    """

    task: str
    onset: FloatArray
    length_seconds: float
    channels: tuple[tuple[str, str, str], ...]
    fractions: FloatArray
    edges: FloatArray
    by_time: FloatArray

    def to_frame(self) -> pd.DataFrame:
        """Return a row per window and channel: onset, duration, sensor, modality, channel, fraction."""
        import pandas as pd

        n_windows, n_channels = self.fractions.shape
        columns = {"onset": np.repeat(self.onset, n_channels), "duration": self.length_seconds}
        names = {
            name: [row[i] for row in self.channels] * n_windows
            for i, name in enumerate(("sensor", "modality", "channel"))
        }
        return pd.DataFrame({**columns, **names, "fraction": self.fractions.ravel()})


def explain(
    checkpoint: Checkpoint,
    recording: WindowedRecording,
    engine: Engine,
    *,
    task: str | None = None,
    before: Sequence[WindowedRecording] = (),
) -> Explanation:
    """Return where a model's predictions for one recording looked: of ``task``, or of its first where None.

    ``recording`` and ``before`` are as for :func:`biopercept.inference.prediction.predict`.

    Raises SettingsError where the model does not predict the task. Raises RecordingError where the recording is shorter
    than a window, or has no sensor that the model was trained with.
    """
    names = [known.name for known in checkpoint.tasks]
    if task is not None and task not in names:
        raise SettingsError(f"the model predicts {', '.join(names)}, and not {task!r}; name one of these")
    read = read_for(checkpoint, recording, engine, before)
    number, n_windows = names.index(task or names[0]), len(read.windows)
    network = checkpoint.network.to(engine.device)
    edges = np.linspace(0.0, read.windows.length_seconds, N_TIMES + 1)
    by_channel: dict[tuple[str, str, str], FloatArray] = {}
    by_time = np.zeros((n_windows, N_TIMES))
    for start in range(0, n_windows, _BATCH):
        rows = np.arange(start, min(start + _BATCH, n_windows), dtype=np.int64)
        attention = attention_map(network, read.source.batch(rows, is_whole=True), number)
        kinds = {c: (s, m, c) for s, m, c in zip(attention.sensor, attention.modality, attention.channel, strict=True)}
        for name, fractions in attention.by_name(attention.channel).items():
            by_channel.setdefault(kinds[name], np.zeros(n_windows))[rows] = fractions
        by_time[rows] = attention.by_time(edges)[0]
    return Explanation(
        task=names[number],
        onset=read.windows.onset,
        length_seconds=read.windows.length_seconds,
        channels=tuple(by_channel),
        fractions=np.stack(list(by_channel.values()), axis=1),
        edges=edges,
        by_time=by_time,
    )


def attention_map(network: BiosignalPerceiver, inputs: TokenInputs, task: int = 0) -> AttentionMap:
    """Return what the network's predictions of a task read of each window of a batch, by token.

    ``task`` is the number of its query. The network is left in evaluation mode.

    Raises CheckpointError where the inputs hold what the network's vocabulary does not.
    """
    network.eval()
    with torch.inference_mode():
        tokens, mask = network.fusion(inputs)
        read = network.core.input_attention(tokens, mask).mean(1).double()  # (B, L, N), mean over heads
        latents = network.core.encode(tokens, mask)
        of_query = network.core.decoder.weights(network.queries()[:, task : task + 1], latents).mean(1).double()
        weights = (of_query @ read)[:, 0]  # (B, 1, L) @ (B, L, N)
        weights = weights / weights.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    settings = network.fusion.settings
    sensors = [s for s in inputs.sensors if settings.reads(s.modality)]
    groups = inputs.features if settings.features else ()
    of_signals, of_groups = sensors_of([(s.modality, s.source) for s in sensors], [g.name for g in groups])
    modality, channel, sensor, seconds = [], [], [], []
    for signal, measured in zip(sensors, of_signals, strict=True):
        _, n_channels, n_patches = signal.is_real.shape
        modality += [signal.modality] * (n_channels * n_patches)
        channel += [f"{signal.modality} {c + 1}" for c in range(n_channels) for _ in range(n_patches)]
        sensor += [measured] * (n_channels * n_patches)
        seconds.append(signal.times[:, None].expand(-1, n_channels, -1).flatten(1))
    for group, measured in zip(groups, of_groups, strict=True):
        modality.append("features")
        channel.append(group.name)
        sensor.append(measured)
        seconds.append(torch.full((len(mask), 1), torch.nan, device=mask.device))
    is_real = mask.cpu().numpy()
    times = torch.cat(seconds, 1).double().cpu().numpy()
    return AttentionMap(
        weights=weights.cpu().numpy(),
        is_real=is_real,
        modality=tuple(modality),
        channel=tuple(channel),
        sensor=tuple(sensor),
        seconds=np.where(is_real, times, np.nan),
    )
