"""Reconstruct a missing or corrupted signal from the other sensors with a pretrained network.

The network reconstructs how a signal varies around a level. The level is that of the recording where it has the signal,
and otherwise that of the people it was pretrained on: then nothing is known of this person's level. How far such a
signal can be trusted is measured by ``score-generation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from biopercept.prepare.recording import OF_A_MODEL, PrepareSettings, prepare_recording
from biopercept.preprocessing.features import FEATURE_NAMES
from biopercept.recording import Recording
from biopercept.store.prepared import WindowedRecording, title_of
from biopercept.training.checkpoint import require_features
from biopercept.training.engine import Engine, engine_for
from biopercept.training.pretrained import PretrainedModel, load_pretrained
from biopercept.training.settings import MASKED
from biopercept.typed_values import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

OF_RECORDING, OF_TRAINING = "recording", "training subjects"
_BATCH = 64
_LEAST_USABLE = 0.5


@dataclass(frozen=True, eq=False)
class ReconstructedSignal:
    """A signal as a network reconstructs it, from ``sensors``.

    ``times`` are seconds on the recording's clock, evenly spaced; ``values``, (n_channels, n), are means over the
    windows that hold a sample, NaN where none does. Their mean and scale are those of ``level_of``: the
    ``recording``'s, or ``training subjects``. ``level`` is the mean that the network was given, and ``measured`` what
    the recording has of the signal (hidden from the network), NaN where it has nothing; both as ``values``.
    """

    modality: str
    unit: str
    channels: tuple[str, ...]
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    level_of: str
    sensors: tuple[str, ...]
    level: NDArray[np.float64]
    measured: NDArray[np.float64]
    window_seconds: float

    def to_frame(self) -> pd.DataFrame:
        """Return a row per sample: ``time`` in seconds, then a column per channel."""
        import pandas as pd

        return pd.DataFrame({"time": self.times, **dict(zip(self.channels, self.values, strict=True))})

    def errors(self) -> tuple[SignalErrors, ...]:
        """Return how far each channel is off where it was measured, beside what needs no network."""
        return tuple(_errors(self, number) for number in range(len(self.channels)))


LEVEL, MEAN, INTERPOLATION = "level", "recording mean", "interpolation"
BASELINES = {
    LEVEL: "the level that the network was given, too",
    MEAN: "the recording's mean of the signal, one number, which a missing signal would not give",
    INTERPOLATION: "a straight line across each window, between what was measured before and after it",
}
"""What needs no network, by name."""


@dataclass(frozen=True, eq=False)
class SignalErrors:
    """How far a reconstructed channel is off where it was measured, in its unit.

    ``rmse`` are root mean squared errors of the network and of each of :data:`BASELINES`; ``difference`` (n_stretches,)
    is that of the network less that of the strongest baseline, in stretches as long as a window; ``n`` samples were
    compared. NaN, and no stretch, where nothing was measured.
    """

    channel: str
    n: int
    rmse: float
    mae: float
    correlation: float
    baselines: dict[str, float]
    strongest: str
    difference: NDArray[np.float64]


def _errors(signal: ReconstructedSignal, number: int) -> SignalErrors:
    truth, network = signal.measured[number], signal.values[number]
    is_known = np.isfinite(truth) & np.isfinite(network)
    channel = signal.channels[number]
    if not is_known.any():
        return SignalErrors(channel, 0, np.nan, np.nan, np.nan, dict.fromkeys(BASELINES, np.nan), "", np.zeros(0))
    stretch = (signal.times // signal.window_seconds).astype(np.int64)
    given = {
        LEVEL: signal.level[number],
        MEAN: np.full(len(truth), truth[is_known].mean()),
        INTERPOLATION: _interpolated(signal.times, truth, stretch),
    }
    off = {name: (values - truth)[is_known] for name, values in {"network": network, **given}.items()}
    roots = {name: float(np.sqrt((values**2).mean())) for name, values in off.items()}
    best = min(BASELINES, key=lambda name: roots[name])
    of_stretch = stretch[is_known]
    counts = np.bincount(of_stretch)
    errors = [
        np.sqrt(np.bincount(of_stretch, weights=off[name] ** 2)[counts > 0] / counts[counts > 0])
        for name in ("network", best)
    ]
    moves = network[is_known].std() > 0 and truth[is_known].std() > 0
    return SignalErrors(
        channel=channel,
        n=int(is_known.sum()),
        rmse=roots["network"],
        mae=float(np.abs(off["network"]).mean()),
        correlation=float(np.corrcoef(network[is_known], truth[is_known])[0, 1]) if moves else np.nan,
        baselines={name: roots[name] for name in BASELINES},
        strongest=best,
        difference=errors[0] - errors[1],
    )


def _interpolated(
    times: NDArray[np.float64], truth: NDArray[np.float64], stretch: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return each stretch as a line between the samples nearest to it on both sides; the mean where there is none."""
    filled = np.full(len(truth), np.nanmean(truth))
    known = np.flatnonzero(np.isfinite(truth))
    for number in np.unique(stretch[known]):
        inside = np.flatnonzero(stretch == number)
        before, after = known[known < inside[0]][-1:], known[known > inside[-1]][:1]
        ends = np.concatenate([before, after])
        if len(ends):
            filled[inside] = np.interp(times[inside], times[ends], truth[ends])
    return filled


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
    require_use(model, folder.name, modality)
    prepared = prepare_recording(recording, PrepareSettings.from_plain_values(model.prepare), advice=OF_A_MODEL)
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
        raise RecordingError(f"{title_of(recording)} has no window of {length:g} s; a longer recording is needed")
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
            f"{title_of(recording)} has {', '.join(sensors) or 'no sensor'}; nothing is left to reconstruct "
            f"{modality} from"
        )
    hidden = TokenSource(restricted(inputs, sorted(masked)), model.population, tokens, engine.device)
    network = model.network.to(engine.device)
    sums, levels = (_Sums(modality, recording.duration_seconds) for _ in range(2))
    is_measured = False
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        measured = [s for s in hidden.scaled(batch) if s.patches.modality == modality] if masked else []
        is_measured = bool(measured)
        wanted = measured[0] if measured else _unmeasured(model, modality, len(batch), length, engine.device)
        [patches] = reconstruct_patches(network, shown.batch(batch), [wanted.patches])
        level = wanted.centre[..., None, None].expand_as(patches)
        values = level + wanted.spread[..., None, None] * patches
        sums.add(wanted.channels, windows.onset[batch], values.double().cpu().numpy())
        levels.add(wanted.channels, windows.onset[batch], level.double().cpu().numpy())
    row = MODALITIES[modality]
    times = np.arange(sums.n_samples) / row.model_rate
    return ReconstructedSignal(
        modality=row.name,
        unit=row.unit,
        channels=sums.channels,
        times=times,
        values=sums.means(),
        level_of=OF_RECORDING if is_measured else OF_TRAINING,
        sensors=tuple(rest),
        level=levels.means(),
        measured=_measured(recording, modality, sums.channels, sums.n_samples),
        window_seconds=length,
    )


def _measured(
    recording: WindowedRecording, modality: str, channels: Sequence[str], n_samples: int
) -> NDArray[np.float64]:
    """Return what a recording has of a signal, (n_channels, n_samples) at the model's rate, NaN elsewhere."""
    rate = MODALITIES[modality].model_rate
    measured = np.full((len(channels), n_samples), np.nan)
    for signal in (s for s in recording.signals if s.modality == modality):
        samples, mask = recording.read(signal.name)
        seconds = signal.start_seconds + np.arange(samples.shape[1]) / signal.sampling_rate
        at = np.rint(seconds * rate).astype(np.int64)
        for number, channel in enumerate(signal.channels):
            if channel.name in channels:
                is_real = np.asarray(mask[number], dtype=bool) & (at >= 0) & (at < n_samples)
                measured[channels.index(channel.name), at[is_real]] = np.asarray(samples[number])[is_real]
    return measured


def signals_to_reconstruct(
    model: PretrainedModel, recording: WindowedRecording, sensor: str | None, feature_names: Sequence[str]
) -> tuple[str, ...]:
    """Return the signals of a sensor that a network can reconstruct, measured and derived; ``sensor`` may name one.

    None: all that the recording lacks or of which less than half is usable.

    Raises CheckpointError where the network knows nothing of the sensor. Raises RecordingError where the recording
    lacks nothing.
    """
    known = _known(model)
    by_signal, _ = sensors_of_recording(recording, feature_names)
    of_modality = {signal.modality: by_signal[signal.name] for signal in recording.signals}
    if sensor is None:
        poor = tuple(name for name in known if _usable(recording, name) < _LEAST_USABLE)
        if not poor:
            raise RecordingError(
                f"{title_of(recording)} has every signal that the network knows ({', '.join(known)}); name the sensor "
                "to reconstruct with --sensor"
            )
        return poor
    if sensor in MODALITIES and MODALITIES[sensor].is_derived:
        _require_learnt(model, sensor)
        return (sensor,)
    of_sensor = tuple(name for name in known if _comes_from(name, sensor, of_modality))
    if not of_sensor:
        _require_learnt(model, sensor)
    return of_sensor


def _comes_from(signal: str, sensor: str, of_modality: Mapping[str, str]) -> bool:
    """Return whether a signal is of a sensor: as the recording has it, or where it has none as it could be."""
    if signal in of_modality:
        return of_modality[signal] == sensor
    return signal == sensor or sensor in MODALITIES[signal].sources


def _usable(recording: WindowedRecording, modality: str) -> float:
    """Return the fraction of a recording in which a signal is real, of the best channel; 0 where it has none."""
    fractions = [0.0]
    for signal in (s for s in recording.signals if s.modality == modality):
        n = recording.duration_seconds * signal.sampling_rate
        fractions.append(float(np.asarray(recording.read(signal.name)[1]).sum(1).max()) / n)
    return max(fractions)


def require_use(model: PretrainedModel, name: str, sensor: str | None) -> None:
    """Refuse a network, called ``name``, that cannot reconstruct, or knows nothing of a sensor or signal (None: any).

    Raises CheckpointError. Raises SettingsError where it reads other features than this version makes.
    """
    if model.feature_names:
        require_features(name, model.feature_names, FEATURE_NAMES, "this version")
    signals = [signal for signal in _known(model) if sensor == signal or sensor in MODALITIES[signal].sources]
    _require_learnt(model, sensor if sensor is not None and not signals else None)


def _require_learnt(model: PretrainedModel, modality: str | None) -> None:
    if model.objective != MASKED:
        raise CheckpointError(
            f"the network was pretrained with the objective {model.objective!r}, which does not teach it to "
            "reconstruct signals; pretrain it with --objective masked"
        )
    known = _known(model)
    if modality is not None and modality not in known:
        raise CheckpointError(
            f"the network has not learnt to reconstruct {modality!r}; it knows {', '.join(known)}"
            f"{did_you_mean(modality, known)}"
        )


def _known(model: PretrainedModel) -> list[str]:
    return [name for name in MODALITIES if model.tokens.reads(name) and model.population.has_modality(name)]


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
        self.n_samples = int(np.ceil(duration_seconds * self._row.model_rate))
        self.channels: tuple[str, ...] = ()
        self._total = self._count = np.zeros((0, self.n_samples))

    def add(self, channels: tuple[str, ...], onset: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Add values (B, C, P, L) of windows that begin at ``onset`` (B,)."""
        if not self.channels:
            self.channels = channels
            self._total, self._count = (np.zeros((len(channels), self.n_samples)) for _ in range(2))
        laid = values.reshape(*values.shape[:2], -1)  # patches follow one another without a gap
        for start, window in zip(onset, laid, strict=True):
            first = round(float(start) * self._row.model_rate)
            stop = min(first + window.shape[1], self.n_samples)
            self._total[:, first:stop] += window[:, : stop - first]
            self._count[:, first:stop] += 1

    def means(self) -> NDArray[np.float64]:
        """Return the means (n_channels, n_samples), NaN where no window holds a sample."""
        empty = np.full(self._total.shape, np.nan)
        return np.asarray(np.divide(self._total, self._count, out=empty, where=self._count > 0), dtype=np.float64)
