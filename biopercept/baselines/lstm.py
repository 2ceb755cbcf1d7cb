"""An LSTM over the slow series, second by second, with the window's features beside its last state.

References
----------
S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", Neural Computation 1997,
doi:10.1162/neco.1997.9.8.1735, with the forget gate of F. Gers, J. Schmidhuber and F. Cummins 2000,
doi:10.1162/089976600300015015, open at the start. What goes in is ours: every series of at most 4 Hz (heart rate,
tonic EDA, temperature, ...) as means over one second, laid on one clock by the time of their patches; sensors
without a value at a second add nothing. Waves (ECG, EEG) enter by their derived series and features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biopercept.baselines.masked_layers import FeatureCode, hidden
from biopercept.errors import SettingsError
from biopercept.modalities import DERIVED_RATE, MODALITIES
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.dropout import drop
from biopercept.model.layers import initialise
from biopercept.model.token_inputs import SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.tokens import TokenSettings

STEP_SECONDS = 1.0
"""Length of a time step."""


class LongShortTermMemory(nn.Module):
    """``n_layers`` recurrent layers over one-second steps; the state at the last real step and the features answer.

    Raises SettingsError where neither derived series, slow signals nor features are read.

    Parameters
    ----------
    settings : PerceiverSettings
        Of it: width, n_layers, feedforward_dropout and head_dropout.
    n_outputs : int
        Classes.
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
        kept = self.tokens_read(inputs)
        if self.training:
            kept = hidden(kept, self.token_settings, generator)
        state = self._last_state(kept.sensors, inputs.n_samples, generator)
        code = self.features(kept.features, inputs.n_samples, self.head.weight)
        answer = self.norm(torch.cat((state, code), -1))
        output: Tensor = self.head(drop(answer, self.settings.head_dropout, self.training, generator))
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
    place = (seconds / STEP_SECONDS).masked_fill(~is_real, -1.0).floor().long()
    is_real = is_real & (place >= 0)
    n_steps = int(place.max()) + 1 if is_real.any() else 0
    place = place.masked_fill(~is_real, n_steps)  # a last column that is cut off again
    laid = values.new_zeros(len(values), n_steps + 1).scatter(1, place, values)[:, :n_steps]
    known = torch.zeros_like(laid, dtype=torch.bool) if n_steps == 0 else _marked(place, n_steps)
    return laid * known, known


def _marked(place: Tensor, n_steps: int) -> Tensor:
    marks = torch.zeros(len(place), n_steps + 1, dtype=torch.bool, device=place.device)
    return marks.scatter(1, place, True)[:, :n_steps]
