"""Next-step forecasting: a network that tells each patch of a signal from what had ended before, against persistence.

Trained by teacher forcing with causal masking (:func:`next_patches`), without any label. A patch is scored in the
window's own normalised units, where it and the one before it were measured.

For each step the tokens are read again with all that ended after the step began hidden, so the true past teaches
every step at once and nothing of the future can. Perceiver AR ties latents to positions instead; with few latents over
many signals on one time axis the mask is exact and the tokens are made once.

References
----------
C. Hawthorne et al., "General-purpose, long-context autoregressive modeling with Perceiver AR", ICML 2022,
doi:10.48550/arXiv.2202.07765.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.windows import IntArray, WindowTable
from biopercept.errors import CheckpointError, StudyError
from biopercept.modalities import MODALITIES
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.queries import queries_of
from biopercept.model.token_inputs import SensorPatches, TokenInputs, TokenVocabulary
from biopercept.training.engine import Engine
from biopercept.training.loop import EpochReport, FitRequest, FittedNetwork, fit_network
from biopercept.training.objective import cell_weights, patch_loss
from biopercept.training.settings import FitSettings

_GRACE_SECONDS = 1e-3  # times are sums of float32


@dataclass(frozen=True)
class ForecastErrors:
    """Squared errors of the next patch, mean over patches and then over subjects, in squared normalised units.

    Attributes
    ----------
    network, last_patch, last_value : float
        Of the network; of repeating the patch before; of holding the last sample before.
    n_subjects, n_patches : int
    subjects_better : int
        Subjects for whom the network errs less than the better of the two persistent answers.
    """

    network: float
    last_patch: float
    last_value: float
    n_subjects: int
    n_patches: int
    subjects_better: int


@dataclass(frozen=True, eq=False)
class ForecastObjective:
    """Huber's loss of every patch of one signal that has a past, told from that past.

    Attributes
    ----------
    windows : WindowTable
    modality : str
    """

    windows: WindowTable
    modality: str

    def sampling_weights(self, rows: IntArray) -> torch.Tensor:
        """Return how often each window is drawn, (len(rows),): subjects weigh the same."""
        return cell_weights(self.windows.subject[rows], np.zeros(len(rows), dtype=np.int64))

    def loss(self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator) -> torch.Tensor:
        """Return the loss of a batch."""
        return self._loss(network, source, rows, noise)

    def validation_loss(self, network: nn.Module, source: TokenSource, rows: IntArray) -> float:
        """Return the loss of windows that are not trained on."""
        network.eval()
        with torch.inference_mode():
            losses = [
                len(part) * float(self._loss(network, source, part, None))
                for part in np.array_split(rows, -(-len(rows) // 64))
            ]
        return sum(losses) / len(rows)

    def _loss(
        self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator | None
    ) -> torch.Tensor:
        assert isinstance(network, BiosignalPerceiver)
        batch = source.batch(rows)
        sensor = signal_of(batch, self.modality)
        told = next_patches(network, batch, self.modality, noise)
        return patch_loss(told.flatten(1, 2), sensor.patches.flatten(1, 2), _has_past(sensor).flatten(1))


def fit_forecaster(
    inputs: WindowInputs,
    training: IntArray,
    validation: IntArray,
    modality: str,
    *,
    settings: FitSettings,
    engine: Engine,
    seed: int,
    on_epoch: EpochReport | None = None,
) -> FittedNetwork[BiosignalPerceiver]:
    """Return a network trained to tell the next patch of a signal from the past of all signals.

    Parameters
    ----------
    inputs : WindowInputs
        Causally normalised; series that were filtered over whole recordings know a little of their future.
    training, validation : int64 arrays
        Rows of the window table; their subjects must not overlap. ``validation`` may be empty.
    modality : str
        Of the signal; windows of recordings that lack it are left out.
    settings, engine, seed, on_epoch
        As in :class:`~biopercept.training.loop.FitRequest`.

    Raises
    ------
    StudyError
        Where no training recording has the signal.
    TrainingError
        Where the loss is not finite.
    """
    has_it = with_modality(inputs.windows, modality)
    if not has_it[training].any():
        raise StudyError(f"no training recording has {modality}, so its next patches cannot be learnt")

    def make(vocabulary: TokenVocabulary) -> BiosignalPerceiver:
        return BiosignalPerceiver(settings.model, settings.tokens, vocabulary, {}, reconstructs=True)

    rows, held = training[has_it[training]], validation[has_it[validation]]
    request = FitRequest(inputs, rows, held, settings, engine, seed, on_epoch)
    return fit_network(request, make, ForecastObjective(inputs.windows, modality))


def forecast_errors(
    network: BiosignalPerceiver, source: TokenSource, windows: WindowTable, rows: IntArray, modality: str
) -> ForecastErrors:
    """Return how far the next patches told are from the true ones, beside answers that nothing changes.

    Parameters
    ----------
    network : BiosignalPerceiver
    source : TokenSource
        Of ``windows``, normalised as in training.
    windows : WindowTable
    rows : int64 array
        Windows of subjects that were not trained on.
    modality : str

    Raises
    ------
    StudyError
        Where no patch can be scored.
    """
    rows = rows[with_modality(windows, modality)[rows]]
    sums: dict[str, NDArray[np.float64]] = {}
    with torch.inference_mode():
        for row in np.array_split(rows, -(-len(rows) // 64)) if len(rows) else ():
            batch = source.batch(row)
            sensor = signal_of(batch, modality)
            answers = (next_patches(network.eval(), batch, modality), *_persistent(sensor))
            scored = _has_past(sensor)
            errors = [(((a - sensor.patches) ** 2).mean(-1) * scored).sum((1, 2)) for a in answers]
            table = torch.stack([*errors, scored.sum((1, 2)).float()], 1).double().cpu().numpy()
            for subject, numbers in zip(windows.subject[row], table, strict=True):
                sums[str(subject)] = sums.get(str(subject), np.zeros(4)) + numbers
    known = np.array([held for held in sums.values() if held[3] > 0])
    if not len(known):
        raise StudyError(f"no window has two patches of {modality} in a row, so nothing can be forecast")
    means = known[:, :3] / known[:, 3:]
    better = int(np.sum(means[:, 0] < means[:, 1:].min(axis=1)))
    network_error, last_patch, last_value = (float(v) for v in means.mean(axis=0))
    return ForecastErrors(network_error, last_patch, last_value, len(known), int(known[:, 3].sum()), better)


def with_modality(windows: WindowTable, modality: str) -> NDArray[np.bool_]:
    """Return which windows are of recordings that have a signal of the modality, (n_windows,)."""
    has_it = np.array([any(s.modality == modality for s in r.signals) for r in windows.recordings], dtype=bool)
    return np.asarray(has_it[windows.recording])


def _has_past(sensor: SensorPatches) -> torch.Tensor:
    """Return which patches were measured, and the one before them too, (B, C, P)."""
    before = torch.nn.functional.pad(sensor.is_real[..., :-1], (1, 0))
    return sensor.is_real & before


def _persistent(sensor: SensorPatches) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each patch as the one before it, and as the last sample before it, (B, C, P, L)."""
    before = torch.cat((torch.zeros_like(sensor.patches[:, :, :1]), sensor.patches[:, :, :-1]), 2)
    return before, before[..., -1:].expand_as(before)


def next_patches(
    network: BiosignalPerceiver, inputs: TokenInputs, modality: str, generator: torch.Generator | None = None
) -> Tensor:
    """Return each patch of a signal as told from what had ended when it began, all steps at once.

    Feature tokens, which have no time, are not read. Inputs must themselves be causal: series that were
    filtered, and normalisation that was measured, over the whole window know its end.

    Parameters
    ----------
    network : BiosignalPerceiver
        That reconstructs patches.
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
    tokens, mask = network.fusion(inputs, generator)
    starts = sensor.times - 0.5 * MODALITIES[modality].patch_seconds  # (B, P)
    ends = _token_ends(network, inputs)  # (B, N)
    past = mask[:, None] & (ends[:, None] <= starts[:, :, None] + _GRACE_SECONDS)  # (B, P, N)
    steps = tokens[:, None].expand(-1, p, -1, -1).flatten(0, 1)  # (B P, N, D)
    latents = network.core.encode(steps, past.flatten(0, 1), generator)
    queries = network.query_codes.of_patches(queries_of(sensor)).view(b, c, p, -1)  # (B, C, P, D)
    each = queries.transpose(1, 2).flatten(0, 1)  # (B P, C, D)
    told: Tensor = network.patches[modality](network.decode(latents, [each], generator)[0])
    return told.view(b, p, c, -1).transpose(1, 2)


def forecast(network: BiosignalPerceiver, inputs: TokenInputs, modality: str, n_steps: int) -> Tensor:
    """Return the patches (B, C, n_steps, L) that follow a signal's last, each told from those before it.

    The answers are fed back; feature tokens are not read, as in :func:`next_patches`.

    Raises
    ------
    SettingsError
        Where the steps lead beyond the table of a learned time code.
    """
    known = TokenInputs(inputs.sensors)
    last = float(signal_of(known, modality).times.nan_to_num(0.0).max())
    network.fusion.settings.require_reach(last + n_steps * MODALITIES[modality].patch_seconds)
    told = []
    for _ in range(n_steps):
        sensor = signal_of(known, modality)
        longer = _with_next_place(sensor)
        asked = queries_of(_last_place(longer))
        patch = network(known, patches=(asked,)).patches[0][:, :, None]  # (B, C, 1, L)
        told.append(patch)
        filled = replace(longer, patches=torch.cat((sensor.patches, patch), 2))
        known = TokenInputs(tuple(filled if s is sensor else s for s in known.sensors))
    return torch.cat(told, 2)


def _token_ends(network: BiosignalPerceiver, inputs: TokenInputs) -> Tensor:
    """Return when each token's stretch ends (B, N), seconds; infinity for features."""
    settings = network.fusion.settings
    ends = [
        (s.times + 0.5 * MODALITIES[s.modality].patch_seconds)[:, None].expand(-1, s.is_real.shape[1], -1).flatten(1)
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
