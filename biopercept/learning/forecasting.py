"""Next-step forecasting: a network that tells each patch of a signal from what had ended before, against persistence.

Trained by teacher forcing with causal masking (see :meth:`QueryPerceiver.next_patches`), without any label. A patch
is scored in the window's own normalised units, where it and the one before it were measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from biopercept.errors import StudyError
from biopercept.learning.class_objective import cell_weights
from biopercept.learning.engine import Engine
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.objectives import patch_loss
from biopercept.learning.token_source import TokenSource
from biopercept.learning.training import EpochReport, FittedNetwork, fit_network
from biopercept.learning.training_settings import TrainingSettings
from biopercept.learning.windows import IntArray, WindowTable
from biopercept.model.answering import QueryPerceiver, signal_of
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.tokens import SensorPatches, TokenSettings, TokenVocabulary


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
        assert isinstance(network, QueryPerceiver)
        batch = source.batch(rows)
        sensor = signal_of(batch, self.modality)
        told = network.next_patches(batch, self.modality, noise)
        return patch_loss(told.flatten(1, 2), sensor.patches.flatten(1, 2), _has_past(sensor).flatten(1))


def fit_forecaster(
    inputs: WindowInputs,
    training: IntArray,
    validation: IntArray,
    modality: str,
    *,
    tokens: TokenSettings,
    model: PerceiverSettings,
    settings: TrainingSettings,
    engine: Engine,
    seed: int,
    on_epoch: EpochReport | None = None,
) -> FittedNetwork[QueryPerceiver]:
    """Return a network trained to tell the next patch of a signal from the past of all signals.

    Parameters
    ----------
    inputs : WindowInputs
        Causally normalised; series that were filtered over whole recordings know a little of their future.
    training, validation : int64 arrays
        Rows of the window table; their subjects must not overlap. ``validation`` may be empty.
    modality : str
        Of the signal; windows of recordings that lack it are left out.
    tokens, model, settings, engine, seed, on_epoch
        As in :func:`~biopercept.learning.training.fit_network`.

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

    def make(vocabulary: TokenVocabulary, n_classes: int) -> QueryPerceiver:
        return QueryPerceiver(model, tokens, vocabulary)

    return fit_network(
        inputs,
        training[has_it[training]],
        validation[has_it[validation]],
        make,
        tokens=tokens,
        settings=settings,
        engine=engine,
        seed=seed,
        on_epoch=on_epoch,
        objective=ForecastObjective(inputs.windows, modality),
    )


def forecast_errors(
    network: QueryPerceiver, source: TokenSource, windows: WindowTable, rows: IntArray, modality: str
) -> ForecastErrors:
    """Return how far the next patches told are from the true ones, beside answers that nothing changes.

    Parameters
    ----------
    network : QueryPerceiver
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
            answers = (network.eval().next_patches(batch, modality), *_persistent(sensor))
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
