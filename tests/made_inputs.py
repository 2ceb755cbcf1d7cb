"""Made inputs of two signals and a feature group on one time axis, for tests of queries and what reads them."""

from __future__ import annotations

import torch
from torch import Tensor

from biopercept.model.biosignals import BiosignalPerceiver, PatchQueries
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import FeatureGroup, SensorPatches, TokenInputs, TokenVocabulary

VOCABULARY = TokenVocabulary({"eda": 8, "temp": 6, "acc": 10}, {"heart": 4}, n_channel_codes=6)
SMALL = PerceiverSettings(width=32, n_latents=6, n_layers=2)
OPEN = TokenSettings(modality_dropout=0.0, channel_dropout=0.0, time_dropout=0.0, token_dropout=0.0)


def signal(modality: str, n_windows: int = 2, n_channels: int = 1, n_patches: int = 6, seed: int = 0) -> SensorPatches:
    """Return random patches of a signal, all real, back to back from the window's start."""
    g = torch.Generator().manual_seed(seed + 10 * list(VOCABULARY.patch_samples).index(modality))
    seconds = {"eda": 5.0, "temp": 10.0, "acc": 2.0}[modality]
    shape = (n_windows, n_channels, n_patches)
    return SensorPatches(
        modality=modality,
        patches=torch.randn(*shape, VOCABULARY.patch_samples[modality], generator=g),
        is_real=torch.ones(shape, dtype=torch.bool),
        times=((torch.arange(n_patches) + 0.5) * seconds).expand(n_windows, -1).clone(),
        positions=torch.full((n_windows, n_channels, 3), torch.nan),
        channels=(torch.arange(n_channels) + 1).expand(n_windows, -1).clone(),
        rate=torch.full((n_windows,), 4.0),
        quality=torch.rand(shape, generator=g),
    )


def inputs(n_windows: int = 2) -> TokenInputs:
    """Return 30 s of two channels of EDA and one of temperature, with features of the heart."""
    g = torch.Generator().manual_seed(9)
    heart = FeatureGroup("heart", torch.randn(n_windows, 4, generator=g), torch.ones(n_windows, 4, dtype=torch.bool))
    return TokenInputs((signal("eda", n_windows, 2), signal("temp", n_windows, n_patches=3)), (heart,))


class Classifier(BiosignalPerceiver):
    """The network of one task, whose output comes without the task's name."""

    def __init__(
        self, settings: PerceiverSettings, tokens: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__(settings, tokens, vocabulary, {"stress": n_outputs})

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:  # type: ignore[override]
        """Return the outputs of the task (B, n_outputs)."""
        return super().forward(inputs, generator).tasks["stress"]


def absent(modality: str, seconds: float, n_patches: int, rate: float) -> PatchQueries:
    """Return queries for the patches of one channel of a signal that is not in :func:`inputs`, in two windows."""
    times = ((torch.arange(n_patches) + 0.5) * seconds).expand(2, -1)
    return PatchQueries(
        modality,
        times,
        torch.full((2, n_patches, 3), torch.nan),
        torch.ones((2, n_patches), dtype=torch.int64),
        torch.full((2,), rate),
        torch.ones((2, n_patches), dtype=torch.bool),
    )
