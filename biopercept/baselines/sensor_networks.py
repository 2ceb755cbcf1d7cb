"""Baseline networks of signals and features without attention: a late fusion of convolutions, an LSTM, an hourglass.

Each is a class whose docstring names its source and what differs here.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.errors import SettingsError
from biopercept.modalities import DERIVED_RATE, MODALITIES
from biopercept.model.branches import FeatureCode, LateFusion
from biopercept.model.dropout import drop
from biopercept.model.layers import initialise
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.tokens import hide_tokens

N_HALVINGS = 2
STEP_SECONDS = 1.0
"""Length of a time step of the LSTM."""


class CnnLateFusion(LateFusion):
    """Late fusion of networks: a convolutional network for each modality, and a two-layer network on top of them.

    Of the settings it reads width, widening, feedforward_dropout and head_dropout.

    Raises SettingsError where neither raw nor derived signals are read.
    """

    def __init__(
        self, settings: PerceiverSettings, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        if not token_settings.lengths_read(vocabulary):
            raise SettingsError("The model cnn-late-fusion reads signals; set tokens.raw or tokens.derived to true.")
        super().__init__(settings, token_settings, vocabulary, n_outputs)


class LongShortTermMemory(nn.Module):
    """An LSTM over the slow series, second by second, with the window's features beside its last state.

    Of the settings it reads width, n_layers, feedforward_dropout and head_dropout.

    Raises SettingsError where neither derived series, slow signals nor features are read.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", Neural Computation 1997,
    doi:10.1162/neco.1997.9.8.1735, with the forget gate of F. Gers, J. Schmidhuber and F. Cummins 2000,
    doi:10.1162/089976600300015015, open at the start. What goes in is ours: every series of at most 4 Hz (heart rate,
    tonic EDA, temperature, ...) as means over one second, laid on one clock by the time of their patches; sensors
    without a value at a second add nothing. Waves (ECG, EEG) enter by their derived series and features.
    """

    def __init__(
        self, settings: PerceiverSettings, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__()
        self.settings, self.token_settings = settings, token_settings
        slow = [m for m in vocabulary.patch_samples if is_slow(m) and token_settings.reads(m)]
        groups = vocabulary.feature_groups if token_settings.features else {}
        if not slow and not groups:
            raise SettingsError("The model lstm finds neither series nor features; set tokens.derived to true.")
        width = settings.width
        self.series = nn.ModuleDict({m: nn.Linear(2, width, bias=False) for m in slow})
        self.recurrent = nn.LSTM(width, width, settings.n_layers, batch_first=True)
        self.features = FeatureCode(width, groups)
        self.norm = nn.LayerNorm(2 * width)
        self.head = nn.Linear(2 * width, n_outputs)
        initialise(self)
        for name, bias in self.recurrent.named_parameters():
            if name.startswith("bias_ih"):
                nn.init.ones_(bias.data[width : 2 * width])  # the forget gate

    def tokens_read(self, inputs: TokenInputs) -> TokenInputs:
        """Return the part of the inputs that is read: slow signals, series and features."""
        sensors = tuple(s for s in inputs.sensors if s.modality in self.series)
        return TokenInputs(sensors, inputs.features if self.token_settings.features else ())

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the dropout draws in training."""
        kept = hide_tokens(self.tokens_read(inputs), self.token_settings.dropout, self.training, generator)
        state = self._last_state(kept.sensors, inputs.n_samples, generator)
        code = self.features(kept.features, inputs.n_samples, self.head.weight)
        x = self.norm(torch.cat((state, code), -1))
        output: Tensor = self.head(drop(x, self.settings.head_dropout, self.training, generator))
        return output

    def _last_state(
        self, sensors: tuple[SensorPatches, ...], n_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """Return the top layer's state at each window's last real step (B, D); 0 where there is no step."""
        laid = [(s.modality, *steps_of(s)) for s in sensors]
        n_steps = max((int(is_real.any(0).nonzero().max()) + 1 for _, _, is_real in laid if is_real.any()), default=0)
        if n_steps == 0:
            return self.head.weight.new_zeros(n_samples, self.settings.width)
        x = self.head.weight.new_zeros(n_samples, n_steps, self.settings.width)
        any_real = torch.zeros(n_samples, n_steps, dtype=torch.bool, device=x.device)
        for modality, values, is_real in laid:
            short = n_steps - values.shape[1]
            seen = nn.functional.pad(is_real, (0, short))
            pair = torch.stack((nn.functional.pad(values, (0, short)), seen.to(x.dtype)), -1)  # (B, T, 2)
            x = x + self.series[modality](pair.to(x.dtype))
            any_real |= seen
        x = drop(x, self.settings.feedforward_dropout, self.training, generator)
        states = self.recurrent(x)[0]  # (B, T, D)
        number = torch.arange(1, n_steps + 1, device=x.device)
        last = (any_real * number).amax(1)  # (B,), 0 where none
        row = torch.arange(n_samples, device=x.device)
        state: Tensor = states[row, (last - 1).clamp(min=0)]
        return state * (last > 0)[:, None]


def is_slow(modality: str) -> bool:
    """Return whether signals of this modality are read at no more than 4 Hz."""
    return MODALITIES[modality].model_rate <= DERIVED_RATE


def steps_of(sensor: SensorPatches) -> tuple[Tensor, Tensor]:
    """Return a signal's means over one-second steps and which steps are real: (B, T) each, 0 where not real.

    Several channels are averaged. The time of a patch says where its steps lie; steps before the window are left out.
    """
    patch_seconds = MODALITIES[sensor.modality].patch_seconds
    n_inside = round(patch_seconds / STEP_SECONDS)
    weights = sensor.is_real.to(sensor.patches.dtype)[..., None]  # (B, C, P, 1)
    mean = (sensor.patches.masked_fill(~sensor.is_real[..., None], 0.0)).sum(1) / weights.sum(1).clamp(min=1.0)
    values = mean.view(*mean.shape[:2], n_inside, -1).mean(-1).flatten(1)  # (B, P S)
    is_real = sensor.is_real.any(1)[..., None].expand(-1, -1, n_inside).flatten(1)
    within = (torch.arange(n_inside, device=values.device) + 0.5) * STEP_SECONDS - patch_seconds / 2
    seconds = (sensor.times[..., None] + within).flatten(1)
    index = (seconds / STEP_SECONDS).masked_fill(~is_real, -1.0).floor().long()
    is_real = is_real & (index >= 0)
    n_steps = int(index.max()) + 1 if is_real.any() else 0
    index = index.masked_fill(~is_real, n_steps)  # a last column that is cut off again
    laid = values.new_zeros(len(values), n_steps + 1).scatter(1, index, values)[:, :n_steps]
    known = values.new_zeros(len(values), n_steps + 1, dtype=torch.bool).scatter(1, index, True)[:, :n_steps]
    return laid * known, known


class DenseHourglass(nn.Module):
    """Layers of width W, W/2, W/4, W/2, W; each on the way back adds the one of its width on the way in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [max(1, width >> n) for n in range(N_HALVINGS + 1)]
        self.norm = nn.LayerNorm(width)
        self.narrowing = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.bridges = nn.ModuleList(nn.Linear(a, a) for a in widths[:-1])
        self.widening = nn.ModuleList(nn.Linear(b, a) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, W) from (B, W)."""
        kept = []
        hidden_values = self.norm(x)
        for narrow, bridge in zip(self.narrowing, self.bridges, strict=True):
            kept.append(bridge(hidden_values))
            hidden_values = F.gelu(narrow(hidden_values))
        for widen in reversed(self.widening):
            hidden_values = F.gelu(widen(hidden_values)) + kept.pop()
        output: Tensor = x + hidden_values
        return output


class Hourglass(nn.Module):
    """Dense hourglasses on the features: narrowing to a quarter and widening again, with a bridge at each width.

    Of the settings it reads width, n_blocks, feedforward_dropout and head_dropout.

    Raises SettingsError where features are switched off.

    References
    ----------
    After A. Newell, K. Yang and J. Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016,
    doi:10.1007/978-3-319-46484-8_29. Different here: dense layers instead of convolutions, since features have no
    neighbours; two halvings; ``n_blocks`` hourglasses are stacked with a residual around each, without the supervision
    between them.
    """

    def __init__(
        self, settings: PerceiverSettings, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__()
        if not token_settings.features:
            raise SettingsError("The model hourglass reads features; set tokens.features to true.")
        self.settings, self.token_settings = settings, token_settings
        self.features = FeatureCode(settings.width, vocabulary.feature_groups)
        self.hourglasses = nn.ModuleList(DenseHourglass(settings.width) for _ in range(settings.n_blocks))
        self.norm = nn.LayerNorm(settings.width)
        self.head = nn.Linear(settings.width, n_outputs)
        initialise(self)

    def tokens_read(self, inputs: TokenInputs) -> TokenInputs:
        """Return the part of the inputs that is read: features alone."""
        return TokenInputs((), inputs.features)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the dropout draws in training."""
        kept = hide_tokens(self.tokens_read(inputs), self.token_settings.dropout, self.training, generator)
        x = self.features(kept.features, inputs.n_samples, self.head.weight)
        for hourglass in self.hourglasses:
            x = hourglass(drop(x, self.settings.feedforward_dropout, self.training, generator))
        output: Tensor = self.head(drop(self.norm(x), self.settings.head_dropout, self.training, generator))
        return output
