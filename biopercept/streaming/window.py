"""The window that ends now, prepared and predicted from what is kept of the streams: nothing later is read.

The preparation is that of ``predict``, run over the last seconds: the window, and before it the time that filters need
to settle. What a window is scaled by reaches back to the start of the stream; of that only sums are kept. Samples enter
them once they are ``SETTLED_SECONDS`` old, as they were cleaned then; features at the end of each window of the grid
that the model was trained on, every ``step_seconds``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import FloatArray, Moments
from biopercept.data.windows import WindowTable, grid_windows
from biopercept.errors import RecordingError, SettingsError, listed
from biopercept.inference.familiarity import Familiarity, distances_of, familiarity_of
from biopercept.inference.prediction import IN_REFERENCE, NO_SIGNAL, Predictions, TaskPredictions, calibrated
from biopercept.inference.shift import ALL, NONE, RunningShift, log_odds_of, require_adaptable, shifted
from biopercept.modalities import MODALITIES
from biopercept.model.token_inputs import TokenInputs
from biopercept.prepare.recording import PrepareSettings, prepare_windows
from biopercept.preprocessing.cleaning import why_left_out
from biopercept.preprocessing.windows import Windows
from biopercept.recording import Channel, Recording, Signal
from biopercept.store.prepared import PreparedRecording
from biopercept.training.checkpoint import Checkpoint
from biopercept.training.engine import Engine
from biopercept.training.objective import values_of

CONTEXT_SECONDS = 60.0
"""Time before a window that is cleaned with it."""
SETTLED_SECONDS = 30.0
"""Age at which samples enter the sums that later windows are scaled by: what comes after has then been seen."""

_ROUNDING = 1e-6


class RunningMoments:
    """Count, mean and sum of squares about it of columns of values that come bit by bit."""

    def __init__(self, n_columns: int) -> None:
        self._count, self._mean, self._squares = (np.zeros(n_columns) for _ in range(3))

    def add(self, values: FloatArray) -> None:
        """Add values, (n, n_columns), NaN where missing."""
        is_real = np.isfinite(values)
        n = is_real.sum(axis=0).astype(np.float64)
        known = np.where(is_real, values, 0.0)
        mean = np.divide(known.sum(axis=0), n, out=np.zeros(len(n)), where=n > 0)
        squares = np.square(np.where(is_real, values - mean, 0.0)).sum(axis=0)
        count = self._count + n
        away = mean - self._mean
        part = np.divide(n, count, out=np.zeros(len(n)), where=count > 0)
        self._squares += squares + away**2 * self._count * part
        self._mean += away * part
        self._count = count

    def with_values(self, values: FloatArray) -> RunningMoments:
        """Return the moments of these values too; what was added before stays as it is."""
        more = RunningMoments(len(self._count))
        more._count, more._mean, more._squares = self._count.copy(), self._mean.copy(), self._squares.copy()
        more.add(values)
        return more

    @property
    def moments(self) -> Moments:
        """Return the moments as of one window, (1, n_columns)."""
        has = self._count > 0
        variance = np.divide(self._squares, self._count, out=np.zeros(len(has)), where=has)
        return Moments(self._count[None], np.where(has, self._mean, np.nan)[None], variance[None])


@dataclass(frozen=True, eq=False)
class _StreamInputs(WindowInputs):
    """The inputs of the window that ends now, which knows its past by the moments that were kept of it."""

    of_channels: dict[tuple[str, float, str], RunningMoments] = field(default_factory=dict)
    of_features: RunningMoments = field(default_factory=lambda: RunningMoments(0))

    @cached_property
    def bank_moments(self) -> tuple[tuple[Moments, Moments], ...]:
        every = []
        for bank in self.banks:
            columns = [
                self.of_channels[bank.modality, bank.sampling_rate, channel.name].moments for channel in bank.channels
            ]
            past = Moments(
                *(
                    np.concatenate(parts, axis=1)
                    for parts in zip(*((c.count, c.mean, c.variance) for c in columns), strict=True)
                )
            )
            every.append((past, past))
        return tuple(every)

    @cached_property
    def feature_moments(self) -> tuple[Moments, Moments]:
        return self.of_features.moments, self.of_features.moments


class WindowPredictor:
    """Predicts the window that ends now, second after second, from signals that end now.

    ``context_seconds`` before the window are cleaned with it. ``adapt`` past moves the threshold of two classes by the
    windows that were predicted before.
    """

    def __init__(
        self, checkpoint: Checkpoint, engine: Engine, context_seconds: float = CONTEXT_SECONDS, adapt: str = NONE
    ) -> None:
        """Keep a model ready.

        Raises SettingsError where it scales by the whole recording, whose future a stream does not have.
        """
        normalisation = checkpoint.normalisation
        if normalisation.is_transductive:
            raise SettingsError(
                f"the model scales inputs by the whole recording (normalisation {normalisation.mode}), the end of "
                "which a stream does not have; train a model with --normalisation causal"
            )
        if adapt == ALL:
            raise SettingsError(
                "--adapt all reads the whole recording, the end of which a stream does not have; give --adapt past"
            )
        require_adaptable(checkpoint.tasks, adapt)
        self.length_seconds = checkpoint.window_seconds
        self._checkpoint, self._engine, self._adapt = checkpoint, engine, adapt
        self._shifts = {task.name: RunningShift() for task in checkpoint.tasks}
        self._network = checkpoint.network.to(engine.device).eval()
        self._settings = PrepareSettings.from_plain_values(checkpoint.prepare)
        self._context = context_seconds
        self._of_channels: dict[tuple[str, float, str], RunningMoments] = {}
        self._of_features = RunningMoments(len(checkpoint.feature_names))
        self._settled_until = 0.0
        self._n_grid = 0
        self._last_end: float | None = None

    @property
    def kept_seconds(self) -> float:
        """Return how much of the streams is needed to predict a window: it, and what is cleaned with it."""
        return self.length_seconds + self._context + 1.0

    def begin_of(self, end: float) -> float:
        """Return where the signals for the window that ends at ``end`` begin: at a full second of the recording."""
        return max(0.0, float(np.floor(end - self.length_seconds - self._context + _ROUNDING)))

    def require_sensors(self, signals: Sequence[Signal], notes: Sequence[str] = ()) -> None:
        """Refuse signals none of which the model reads, in a unit that can be used. Raises SettingsError."""
        known = self._checkpoint.training["modalities"]
        read = [replace(s, n_samples=max(s.n_samples, 1)) for s in signals if s.modality in known]
        faults = {s.name: why_left_out(s) for s in read}
        if faults and not all(faults.values()):
            return
        there = [f"{s.name} ({s.modality}{f', {s.unit}' if s.unit else ''})" for s in signals]
        words = [*(f"{name}: {why}" for name, why in faults.items()), *notes]
        why = f"; {'; '.join(words[:3])}" if words else ""
        raise SettingsError(
            f"there is no sensor that the model reads: it reads {listed(known)}, and there are "
            f"{listed(there) or 'no signals'}{why}"
        )

    def rehearse(self) -> None:
        """Predict a made-up window, and forget it: libraries are loaded with the first, which takes a second."""
        modalities = self._checkpoint.training["modalities"]
        made = Recording("", "", "made", _made_signals(modalities, self.length_seconds))
        WindowPredictor(self._checkpoint, self._engine, 0.0).predict(made, self.length_seconds, with_words=True)

    def predict(self, recording: Recording, end: float, *, with_words: bool = False) -> Predictions:
        """Return the prediction of the window that ends at ``end``, seconds on the stream's clock.

        The signals of ``recording`` lie on a clock from :meth:`begin_of`. ``with_words`` says what is unlike what the
        model knows, too.
        """
        begin = self.begin_of(end)
        rows = self._rows(end)
        try:
            prepared = prepare_windows(
                recording, _windows(rows - self.length_seconds - begin), self.length_seconds, self._settings.cleaning
            )
        except RecordingError as fault:  # nothing is left of any signal
            return self._nothing(recording, end, str(fault))
        self._of_features.add(np.asarray(prepared.windows.features[:-1], dtype=np.float64))
        return self._predicted(prepared, end, begin, with_words=with_words)

    def _rows(self, end: float) -> FloatArray:
        """Return the ends of the windows of the model's grid that are new, and of the one that ends now."""
        step = self._settings.windows.step_seconds
        n_grid = int((end - self.length_seconds + _ROUNDING) // step) + 1
        first = max(self._n_grid, int(np.ceil((self.begin_of(end) - _ROUNDING) / step)))
        new = self.length_seconds + step * np.arange(min(first, n_grid), n_grid)
        if self._checkpoint.normalisation.mode == "reference":
            new = new[new <= self._checkpoint.normalisation.reference_seconds + _ROUNDING]
        self._n_grid = max(self._n_grid, n_grid)
        return np.append(new, end)

    def _predicted(self, prepared: PreparedRecording, end: float, begin: float, *, with_words: bool) -> Predictions:
        checkpoint, tokens = self._checkpoint, self._checkpoint.tokens
        windows = _last_window(prepared, self.length_seconds, checkpoint.feature_names)
        inputs = _StreamInputs(
            windows,
            replace(checkpoint.normalisation, scope="recording"),
            self._settings.windows.step_seconds,
            raw=tokens.raw,
            derived=tokens.derived,
            of_channels=self._moments(prepared, end, begin),
            of_features=self._of_features,
        )
        source = TokenSource(inputs, checkpoint.population, tokens, self._engine.device)
        batch = source.batch(np.zeros(1, dtype=np.int64))
        with torch.inference_mode():
            outputs = self._network(batch).tasks
        reason = self._reason(batch, end)
        return Predictions(
            subject=prepared.subject,
            session=prepared.session,
            recording=prepared.recording,
            key=prepared.key,
            onset=np.array([end - self.length_seconds]),
            length_seconds=self.length_seconds,
            quality=windows.quality(),
            used=self._used(prepared),
            ignored=(),
            notes=prepared.notes,
            tasks=self._tasks(outputs, reason, end),
            adapt=self._adapt,
            familiarity=familiarity_of(checkpoint, inputs, None) if with_words else distances_of(checkpoint, inputs),
            is_alone=with_words and checkpoint.normalisation.scope == "session",
        )

    def _used(self, prepared: PreparedRecording) -> tuple[str, ...]:
        known = self._checkpoint.training["modalities"]
        present = {s.modality for s in prepared.signals if not s.derived_from}
        return tuple(modality for modality in known if modality in present)

    def _reason(self, batch: TokenInputs, end: float) -> str:
        normalisation = self._checkpoint.normalisation
        is_early = end - self.length_seconds < normalisation.reference_seconds
        if normalisation.mode == "reference" and is_early:
            return IN_REFERENCE
        has_tokens = any(bool(part.any()) for part in batch.masks())
        return "" if has_tokens else NO_SIGNAL

    def _tasks(self, outputs: dict[str, torch.Tensor], reason: str, end: float) -> dict[str, TaskPredictions]:
        tasks = {}
        since = self._settings.windows.step_seconds if self._last_end is None else end - self._last_end
        self._last_end = end
        for task in self._checkpoint.tasks:
            values = np.asarray(values_of(task, outputs[task.name].double().cpu()).numpy(), dtype=np.float64)
            shift = None
            if self._adapt != NONE:
                running = self._shifts[task.name]
                shift = running.now
                if not reason:
                    running.add(float(log_odds_of(values)[0]), min(1.0, since / self.length_seconds))
                values = shifted(values, shift)
            given, sets, reasons = calibrated(self._checkpoint.calibration, task, values, (reason,))
            if reason:
                given = np.full(given.shape, np.nan)
            label = ("",) if task.is_classification else np.full(1, np.nan)
            tasks[task.name] = TaskPredictions(
                task=task, values=given, reason=reasons, label=label, sets=sets, shift=shift
            )
        return tasks

    def _nothing(self, recording: Recording, end: float, note: str) -> Predictions:
        """Return that nothing is predicted, for no signal has anything usable."""
        tasks = {}
        for task in self._checkpoint.tasks:
            n_values = max(len(task.class_names), 1)
            label = ("",) if task.is_classification else np.full(1, np.nan)
            sets = ("",) if self._checkpoint.calibration is not None and self._checkpoint.calibration.coverage else ()
            values = np.full((1, n_values), np.nan)
            shift = None if self._adapt == NONE else self._shifts[task.name].now
            tasks[task.name] = TaskPredictions(
                task=task, values=values, reason=(NO_SIGNAL,), label=label, sets=sets, shift=shift
            )
        is_known = self._checkpoint.known is not None
        familiarity = Familiarity(np.full(int(is_known), np.nan), np.zeros(int(is_known), dtype=bool), "", ())
        return Predictions(
            subject=recording.subject,
            session=recording.session,
            recording=recording.name,
            key="",
            onset=np.array([end - self.length_seconds]),
            length_seconds=self.length_seconds,
            quality=np.full(1, np.nan),
            used=(),
            ignored=(),
            notes=(note,),
            tasks=tasks,
            familiarity=familiarity,
            adapt=self._adapt,
        )

    def _moments(
        self, prepared: PreparedRecording, end: float, begin: float
    ) -> dict[tuple[str, float, str], RunningMoments]:
        """Return the moments of every channel until now; what has settled since the last time is kept for later."""
        normalisation = self._checkpoint.normalisation
        limit = min(end, normalisation.reference_seconds) if normalisation.mode == "reference" else end
        settled = max(self._settled_until, min(end - min(SETTLED_SECONDS, 0.5 * (end - begin)), limit))
        now = {}
        for signal in prepared.signals:
            samples, is_real = prepared.read(signal.name)
            values = np.where(is_real, samples, np.nan).astype(np.float64)
            places = (np.array([self._settled_until, settled, limit]) - begin - signal.start_seconds) * (
                signal.sampling_rate
            )
            first, border = np.ceil(places[:2] - _ROUNDING).clip(0, signal.n_samples).astype(int).tolist()
            last = int(np.clip(np.floor(places[2]), 0, signal.n_samples))
            for channel, row in zip(signal.channels, values, strict=True):
                key = signal.modality, float(signal.sampling_rate), channel.name
                kept = self._of_channels.setdefault(key, RunningMoments(1))
                kept.add(row[first:border, None])
                now[key] = kept.with_values(row[border : max(last, border), None])
        self._settled_until = settled
        return now


def _made_signals(modalities: Sequence[str], seconds: float) -> tuple[Signal, ...]:
    """Return a signal of each modality that holds a slow wave and noise."""
    generator, signals = np.random.default_rng(0), []
    for modality in (MODALITIES[name] for name in modalities):
        n = round(seconds * modality.model_rate)
        times = np.arange(n) / modality.model_rate
        channels = tuple(Channel(name) for name in (("Fz", "Cz", "Pz", "Oz") if modality.name == "eeg" else ("made",)))
        samples = np.sin(2 * np.pi * 1.2 * times) + 0.1 * generator.standard_normal((len(channels), n))
        made = Signal.from_samples(modality.name, modality.name, modality.unit, modality.model_rate, samples, channels)
        if modality.name == "ibi":
            made = replace(made.with_samples(0.8 + 0 * samples, 1.0), times=0.8 * np.arange(n, dtype=np.float64))
        signals.append(made)
    return tuple(signals)


def _windows(onsets: FloatArray) -> Windows:
    """Return windows at onsets, of no label."""
    n = len(onsets)
    return Windows(
        onset=onsets,
        label=np.full(n, "", dtype=np.str_),
        stage=np.full(n, -1, dtype=np.int64),
        is_labelled=np.zeros(n, dtype=bool),
    )


def _last_window(prepared: PreparedRecording, length_seconds: float, feature_names: Sequence[str]) -> WindowTable:
    table = grid_windows([prepared], length_seconds=length_seconds, feature_names=feature_names)
    return table.at(np.array([len(table) - 1], dtype=np.int64))
