"""What an answer rested on: attention by time, channel and modality, as arrays and names.

The map is that of the plain attention path, whose weights are equal to the fused ones within
rounding. It multiplies two steps: how much the answer's query read of each latent, and how much
each latent read of each token (first cross-attention; mean over heads). What latents exchange
between the two is not followed, so a map shows where the network looked, not why it decided.

References
----------
S. Jain and B. Wallace, "Attention is not Explanation", NAACL 2019, doi:10.18653/v1/N19-1357.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.data.batches import TokenSource
from biopercept.data.windows import IntArray
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.dropout import sensors_of
from biopercept.model.token_inputs import TokenInputs

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Attention of the answers of B windows to their N tokens.

    Attributes
    ----------
    weights : float64 array, shape (B, N)
        Sums to 1 over the real tokens of a window; exactly 0 at absent ones, and everywhere in a window without any.
    is_real : bool array, shape (B, N)
    modality : tuple of str
        Of each token; ``features`` for a feature group.
    channel : tuple of str
        Of each token: "modality channel-number" (from 1), or the name of the feature group.
    sensor : tuple of str
        Of each token: the measured modality that it comes from.
    seconds : float64 array, shape (B, N)
        Centre of each token, seconds from the window's start; NaN for features and at absent tokens.
    """

    weights: FloatArray
    is_real: NDArray[np.bool_]
    modality: tuple[str, ...]
    channel: tuple[str, ...]
    sensor: tuple[str, ...]
    seconds: FloatArray

    def by_modality(self) -> tuple[tuple[str, ...], FloatArray]:
        """Return the names of modalities in order of appearance, and each one's share (B, n_modalities)."""
        return _summed(self.weights, self.modality)

    def by_channel(self) -> tuple[tuple[str, ...], FloatArray]:
        """Return the names of channels in order of appearance, and each one's share (B, n_channels)."""
        return _summed(self.weights, self.channel)

    def by_sensor(self) -> tuple[tuple[str, ...], FloatArray]:
        """Return the names of sensors, each with all that is computed from it, and each one's share (B, n_sensors)."""
        return _summed(self.weights, self.sensor)

    def by_time(self, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the share of each stretch of time, and the share of what has no time.

        Parameters
        ----------
        edges : float64 array, shape (T + 1,)
            Rising, seconds from the window's start; a token counts where its centre lies, the last edge excluded.

        Returns
        -------
        shares : float64 array, shape (B, T)
        timeless : float64 array, shape (B,)
            Share of features, and of tokens outside the edges.
        """
        place = np.searchsorted(edges, self.seconds, side="right") - 1
        inside = np.isfinite(self.seconds) & (place >= 0) & (place < len(edges) - 1)
        shares = np.stack([(self.weights * (inside & (place == t))).sum(1) for t in range(len(edges) - 1)], 1)
        return shares, self.weights.sum(1) - shares.sum(1)


def explain(network: BiosignalPerceiver, inputs: TokenInputs) -> AttentionMap:
    """Return what the network's answer to each window read, by token.

    Parameters
    ----------
    network : BiosignalPerceiver
        Left in evaluation mode.
    inputs : TokenInputs
        A batch of windows.

    Raises
    ------
    CheckpointError
        Where the inputs hold what the network's vocabulary does not.
    """
    network.eval()
    with torch.inference_mode():
        tokens, mask = network.fusion(inputs)
        read = network.core.input_attention(tokens, mask).mean(1).double()  # (B, L, N), mean over heads
        latents = network.core.encode(tokens, mask)
        asked = network.core.decoder.weights(network.queries(), latents).mean(1).double()  # (B, 1, L)
        weights = (asked @ read)[:, 0]  # (B, N)
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
    when = torch.cat(seconds, 1).double().cpu().numpy()
    return AttentionMap(
        weights.cpu().numpy(), is_real, tuple(modality), tuple(channel), tuple(sensor), np.where(is_real, when, np.nan)
    )


def explain_windows(network: BiosignalPerceiver, source: TokenSource, rows: IntArray) -> AttentionMap:
    """Return the attention map of the windows at ``rows`` of a table, as one batch."""
    return explain(network, source.batch(rows, is_whole=True))


def _summed(weights: FloatArray, names: tuple[str, ...]) -> tuple[tuple[str, ...], FloatArray]:
    found = tuple(dict.fromkeys(names))
    column = np.array([found.index(name) for name in names])
    return found, np.stack([weights[:, column == i].sum(1) for i in range(len(found))], 1)
