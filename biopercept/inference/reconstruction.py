"""Reconstruct a missing or corrupted signal from the other sensors with a pretrained network.

The network reconstructs how a signal varies around a level. The level is that of the recording where it has the signal,
and otherwise that of the people it was pretrained on: then nothing is known of this person's level. How far such a
signal can be trusted is measured by ``score-generation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.data.batches import ScaledPatches, TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import TrainingStatistics, affine_without_own
from biopercept.data.signals import channel_code
from biopercept.data.views import measured_sensors, restricted, sensors_of_recording
from biopercept.data.windows import grid_windows
from biopercept.errors import CheckpointError, RecordingError
from biopercept.modalities import MODALITIES
from biopercept.model.biosignals import reconstruct_patches
from biopercept.model.token_inputs import SensorPatches
from biopercept.prepare.recording import PrepareSettings, prepare_recording
from biopercept.preprocessing.features import FEATURE_NAMES
from biopercept.recording import Recording
from biopercept.store.prepared import WindowedRecording
from biopercept.training.checkpoint import require_features
from biopercept.training.engine import Engine, engine_for
from biopercept.training.pretraining import PretrainedModel, load_pretrained
from biopercept.training.settings import MASKED

if TYPE_CHECKING:
    import pandas as pd

OF_RECORDING, OF_TRAINING = "recording", "training subjects"
_BATCH = 64


@dataclass(frozen=True, eq=False)
class ReconstructedSignal:
    """A signal as a network reconstructs it, from ``sensors``.

    ``times`` are seconds on the recording's clock, evenly spaced; ``values``, (n_channels, n), are means over the
    windows that hold a sample, NaN where none does. Their mean and scale are those of ``level_of``: the
    ``recording``'s, or ``training subjects``.
    """

    modality: str
    unit: str
    channels: tuple[str, ...]
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    level_of: str
    sensors: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return a row per sample: ``time`` in seconds, then a column per channel."""
        import pandas as pd

        return pd.DataFrame({"time": self.times, **dict(zip(self.channels, self.values, strict=True))})


def reconstruct(
    folder: Path, recording: Recording, modality: str, *, study: str | None = None, device: str = "cpu"
) -> ReconstructedSignal:
    """Return a signal of a recording as a pretrained network reconstructs it, in the signal's unit.

    The model ``folder`` is one that ``pretrain`` wrote with the objective ``masked``. The recording is as loaded and is
    prepared as the network's ``study`` was (where it was pretrained on several; None: the first). ``modality`` may be a
    derived series, such as ``heart_rate``; whatever the recording has of its sensor is masked.

    Raises CheckpointError where the folder is no pretrained network of that objective, or it has never seen the signal.
    Raises RecordingError where the recording is too short or unusable, or no sensor is left to reconstruct the signal
    from. Raises SettingsError where the device is unknown, or the network reads other features than this version makes.
    """
    model = load_pretrained(folder, study)
    if model.feature_names:
        require_features(folder.name, model.feature_names, FEATURE_NAMES, "this version")
    prepared = prepare_recording(recording, PrepareSettings.from_plain_values(model.prepare))
    return reconstruct_prepared(model, prepared, modality, engine_for(device), feature_names=FEATURE_NAMES)


def reconstruct_prepared(
    model: PretrainedModel, recording: WindowedRecording, modality: str, engine: Engine, *, feature_names: Sequence[str]
) -> ReconstructedSignal:
    """Return what :func:`reconstruct` does, of a recording that was prepared with the model's settings.

    ``feature_names`` are of the columns of its windows.

    Raises CheckpointError where the network was not pretrained to reconstruct masked signals, or has never seen this
    one. Raises RecordingError where the recording has no window, or no sensor is left to reconstruct the signal from.
    """
    _require_learnt(model, modality)
    length, step = (float(model.prepare["windows"][f"{name}_seconds"]) for name in ("length", "step"))
    windows = grid_windows([recording], length_seconds=length, feature_names=feature_names)
    if not len(windows):
        raise RecordingError(f"{recording.key} has no window of {length:g} s; a longer recording is needed")
    tokens = model.tokens
    inputs = WindowInputs(windows, model.normalisation, step, raw=tokens.raw, derived=tokens.derived)
    sensors = measured_sensors([recording], feature_names)
    by_signal, _ = sensors_of_recording(recording, feature_names)
    masked = {by_signal[signal.name] for signal in recording.signals if signal.modality == modality}
    rest = [name for name in sensors if name not in masked]
    shown = TokenSource(restricted(inputs, rest), model.population, tokens, engine.device)
    rows = np.arange(len(windows), dtype=np.int64)
    rows = rows[shown.has_tokens(rows)]
    if not len(rows):
        raise RecordingError(
            f"{recording.key} has {', '.join(sensors) or 'no sensor'}; nothing is left to reconstruct {modality} from"
        )
    hidden = TokenSource(restricted(inputs, sorted(masked)), model.population, tokens, engine.device)
    network = model.network.to(engine.device)
    sums = _Sums(modality, recording.duration_seconds)
    is_measured = False
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        measured = [s for s in hidden.scaled(batch) if s.patches.modality == modality] if masked else []
        is_measured = bool(measured)
        wanted = measured[0] if measured else _unmeasured(model, modality, len(batch), length, engine.device)
        [patches] = reconstruct_patches(network, shown.batch(batch), [wanted.patches])
        values = wanted.centre[..., None, None] + wanted.spread[..., None, None] * patches
        sums.add(wanted.channels, windows.onset[batch], values.double().cpu().numpy())
    return sums.signal(OF_RECORDING if is_measured else OF_TRAINING, tuple(rest))


def _require_learnt(model: PretrainedModel, modality: str) -> None:
    if model.objective != MASKED:
        raise CheckpointError(
            f"the network was pretrained with the objective {model.objective!r}, which does not teach it to "
            "reconstruct signals; pretrain it with --objective masked"
        )
    known = [name for name in MODALITIES if model.tokens.reads(name) and model.population.has_modality(name)]
    if modality not in known:
        raise CheckpointError(f"the network has not learnt to reconstruct {modality!r}; it knows {', '.join(known)}")


def _unmeasured(
    model: PretrainedModel, modality: str, n_windows: int, length_seconds: float, device: torch.device
) -> ScaledPatches:
    """Return empty patches of a signal that the recording lacks, at the training subjects' scale."""
    row = MODALITIES[modality]
    channels = _channels(model.population, modality)
    n_patches = max(1, int(length_seconds / row.patch_seconds + 1e-6))
    shape = (n_windows, len(channels), n_patches)
    scale = [affine_without_own(model.normalisation.mode, model.population.of_channel(modality, c)) for c in channels]
    centre, spread = torch.tensor(scale, dtype=torch.float32, device=device).T  # (C,) each
    times = (torch.arange(n_patches, device=device, dtype=torch.float32) + 0.5) * row.patch_seconds
    patches = SensorPatches(
        modality,
        torch.zeros(*shape, row.patch_samples, device=device),
        torch.zeros(shape, dtype=torch.bool, device=device),
        times.expand(n_windows, -1),
        torch.full((n_windows, len(channels), 3), torch.nan, device=device),
        torch.tensor([channel_code(c) for c in channels], device=device).expand(n_windows, -1),
        torch.full((n_windows,), row.model_rate, device=device),
        torch.ones(shape, device=device),
    )
    return ScaledPatches(channels, patches, centre.expand(n_windows, -1), spread.expand(n_windows, -1))


def _channels(population: TrainingStatistics, modality: str) -> tuple[str, ...]:
    return tuple(key.split("/", 1)[1] for key in population.signals if key.startswith(f"{modality}/"))


class _Sums:
    """Reconstructed samples on one time axis, summed where windows overlap."""

    def __init__(self, modality: str, duration_seconds: float) -> None:
        self._row = MODALITIES[modality]
        self._n = int(np.ceil(duration_seconds * self._row.model_rate))
        self._channels: tuple[str, ...] = ()
        self._total = self._count = np.zeros((0, self._n))

    def add(self, channels: tuple[str, ...], onset: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Add values (B, C, P, L) of windows that begin at ``onset`` (B,)."""
        if not self._channels:
            self._channels = channels
            self._total, self._count = np.zeros((len(channels), self._n)), np.zeros((len(channels), self._n))
        laid = values.reshape(*values.shape[:2], -1)  # patches follow one another without a gap
        for start, window in zip(onset, laid, strict=True):
            first = round(float(start) * self._row.model_rate)
            stop = min(first + window.shape[1], self._n)
            self._total[:, first:stop] += window[:, : stop - first]
            self._count[:, first:stop] += 1

    def signal(self, level_of: str, sensors: tuple[str, ...]) -> ReconstructedSignal:
        """Return the means."""
        values = np.divide(self._total, self._count, out=np.full(self._total.shape, np.nan), where=self._count > 0)
        times = np.arange(self._n) / self._row.model_rate
        return ReconstructedSignal(
            modality=self._row.name,
            unit=self._row.unit,
            channels=self._channels,
            times=times,
            values=values,
            level_of=level_of,
            sensors=sensors,
        )
