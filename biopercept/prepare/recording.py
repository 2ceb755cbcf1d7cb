"""Prepare one recording in memory: clean it as a whole, cut windows, measure features and quality.

A long recording (of hours; how many depends on its rates) is prepared in stretches of equal length, each with some
minutes of what is around it, so that a day needs no more memory than a stretch. What is judged over a whole recording
(a bad electrode, the rail of a converter, the channel that beats are looked for in) is judged there over a stretch.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from biopercept.errors import RecordingError, SettingsError
from biopercept.modalities import DERIVED_RATE, MODALITIES
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.windows import Windows, WindowSettings, cut_windows
from biopercept.recording import Correction, FloatArray, Recording, RecordingLabels, Signal
from biopercept.store.prepared import (
    FileMap,
    FloatSamples,
    Mask,
    PreparedRecording,
    StoredSignal,
    StoredWindows,
    give_back_pages,
)

_ROW_SAMPLES, _STORED_SAMPLES = 6 << 20, 6 << 20
"""Samples of one channel at its own rate, and of all channels at the rates that are stored, of one stretch."""
_SHORTEST_SECONDS, _TOO_LITTLE_MORE = 3600, 1.2
_AROUND_SECONDS = 300
_KEPT_IN_MEMORY = 4 << 20

OF_A_MODEL = "the model was fitted on windows of that length; leave the recording out, or take a model of shorter ones"
"""What to do about a recording that is too short for a model, whose windows nobody can choose."""


@dataclass(frozen=True)
class PrepareSettings:
    """How recordings are cut into windows, and what is masked, filtered and detected before."""

    windows: WindowSettings = field(default_factory=WindowSettings)
    cleaning: CleaningSettings = field(default_factory=CleaningSettings)

    def as_plain_values(self) -> dict[str, Any]:
        """Return the settings by section as text and numbers."""
        return asdict(self)

    @staticmethod
    def from_plain_values(values: Mapping[str, Any]) -> PrepareSettings:
        """Return the settings that :meth:`as_plain_values` gave, as a store or a model keeps them.

        Raises SettingsError where a section or a setting is unknown, or has a value that is not allowed.
        """
        try:
            return PrepareSettings(WindowSettings(**values["windows"]), CleaningSettings(**values["cleaning"]))
        except (KeyError, TypeError) as fault:
            raise SettingsError(
                f"the stored preparation settings are not those of this version ({fault}); prepare and train again"
            ) from fault


def prepare_recording(
    recording: Recording,
    settings: PrepareSettings | None = None,
    *,
    advice: str = "shorten windows.length_seconds or leave the recording out",
) -> PreparedRecording:
    """Return a recording cleaned, cut and measured: what a store would hold of it.

    ``advice`` is what to do about one that is too short, where windows cannot be chosen.

    Raises RecordingError where no signal is left after cleaning, or the recording is shorter than one window. Raises
    SettingsError where the window settings are not positive numbers.

    The recording's intervals give the labelled windows; ``predict`` gives the settings that the model was trained with.
    """
    settings = settings or PrepareSettings()
    length = settings.windows.length_seconds
    windows = cut_windows(recording.intervals, recording.duration_seconds, settings.windows)
    if len(windows) == 0:
        raise RecordingError(
            f"{_title(recording)} is too short: {recording.duration_seconds:.1f} s where one window has {length:g} s; "
            f"{advice}"
        )
    return prepare_windows(recording, windows, length, settings.cleaning)


def prepare_windows(
    recording: Recording, windows: Windows, length_seconds: float, cleaning: CleaningSettings
) -> PreparedRecording:
    """Return a recording cleaned and measured in windows that were cut already, each ``length_seconds`` long.

    Raises RecordingError where no signal is left after cleaning.
    """
    stretches = _stretches_of(recording, _AROUND_SECONDS + math.ceil(length_seconds))
    if len(stretches) == 1:
        return _at_once(recording, windows, length_seconds, cleaning)
    joined = _Joined(recording, windows)
    for stretch in stretches:
        part = stretch.of(recording)
        inside = np.flatnonzero((windows.onset >= stretch.first) & (windows.onset < stretch.stop))
        there = _of_rows(windows, inside, stretch.begin)
        try:
            joined.take(stretch, part, inside, _at_once(part.recording, there, length_seconds, cleaning))
        except RecordingError as fault:
            joined.failed(stretch, fault)
        _give_back_memory()
    return joined.prepared()


def _give_back_memory() -> None:
    """Give memory that is free within this process back to the system; of what is left of a stretch that is much."""
    with contextlib.suppress(OSError, AttributeError):  # systems with another library of C
        ctypes.CDLL(None).malloc_trim(0)


def _at_once(
    recording: Recording, windows: Windows, length_seconds: float, cleaning: CleaningSettings
) -> PreparedRecording:
    from biopercept.preprocessing.cleaning import clean_recording
    from biopercept.preprocessing.features import compute_features, window_quality
    from biopercept.preprocessing.quality import REASONS

    clean = clean_recording(recording, cleaning)
    samples: dict[str, FloatSamples] = {}
    masks: dict[str, Mask] = {}
    for signal in clean.recording.signals:
        samples[signal.name], masks[signal.name] = _masked(signal)
    return PreparedRecording(
        subject=recording.subject,
        session=recording.session,
        recording=recording.name,
        duration_seconds=float(recording.duration_seconds),
        signals=tuple(_described(signal, recording.signals) for signal in clean.recording.signals),
        samples=samples,
        masks=masks,
        quality={name: np.asarray(values, dtype=np.float32) for name, values in clean.quality.items()},
        reasons={name: rating.reasons() for name, rating in clean.ratings.items()},
        reason_names=tuple(REASONS),
        windows=StoredWindows(
            onset=windows.onset,
            label=windows.label,
            stage=windows.stage.astype(np.int32),
            is_labelled=windows.is_labelled,
            features=compute_features(clean, windows.onset, length_seconds),
            quality=window_quality(clean, windows.onset, length_seconds),
        ),
        left_out=dict(windows.left_out),
        notes=tuple(clean.recording.notes),
        corrections=clean.corrections,
        labels=RecordingLabels(ratings=recording.ratings),
    )


def _title(recording: Recording) -> str:
    parts = dict.fromkeys((recording.subject, recording.session, recording.name))  # of a file alone two are the same
    return " ".join(filter(None, parts)) or "the recording"


def _masked(signal: Signal) -> tuple[FloatSamples, Mask]:
    """Return the samples as float32, 0 where missing, and the mask; a number too large for float32 is missing."""
    raw = signal.read()
    with np.errstate(over="ignore", invalid="ignore"):
        samples = raw.astype(np.float32)
    mask = np.isfinite(samples)
    samples[~mask] = 0.0
    return samples, mask


def _described(signal: Signal, originals: Sequence[Signal]) -> StoredSignal:
    native = {original.name: original.sampling_rate for original in originals}
    return StoredSignal(
        name=signal.name,
        modality=signal.modality,
        unit=signal.unit,
        sampling_rate=float(signal.sampling_rate),
        native_sampling_rate=float(native.get(signal.derived_from or signal.name, signal.sampling_rate)),
        start_seconds=float(signal.start_seconds),
        channels=signal.channels,
        n_samples=signal.n_samples,
        derived_from=signal.derived_from,
    )


@dataclass(frozen=True)
class _Stretch:
    """A stretch of a long recording, seconds of its clock: what is taken of it, and from where to where it is read.

    The first stretch takes from minus infinity, the last to infinity.
    """

    first: float
    stop: float
    begin: int
    end: float

    @property
    def words(self) -> str:
        """Return where it lies, in hours."""
        hours = [0.0 if math.isinf(self.first) else self.first / 3600, min(self.stop, self.end) / 3600]
        return f"hours {hours[0]:.1f} to {hours[1]:.1f}"

    def of(self, recording: Recording) -> _Part:
        """Return what lies in it, on a clock that begins where it does."""
        pieces = [piece for signal in recording.signals if (piece := self._piece(signal)) is not None]
        shifted = {self._shifted(one): one for one in recording.corrections if self._has(one)}
        part = replace(recording, signals=tuple(pieces), intervals=(), notes=(), ratings={}, corrections=tuple(shifted))
        return _Part(part, shifted)

    def _piece(self, signal: Signal) -> Signal | None:
        """Return the samples of a signal that lie in it; None of none.

        Of a signal that will be brought to a lower rate they begin where a sample of that rate lies.
        """
        if signal.times is not None:
            inside = np.flatnonzero((signal.times >= self.begin) & (signal.times < self.end))
            times = signal.times[inside] - self.begin

            def at_times(first: int, last: int, rows: slice) -> FloatArray:
                return signal.read(0, signal.n_samples, rows)[:, inside[first:last]]

            start = signal.start_seconds - self.begin
            return replace(signal, times=times, n_samples=len(inside), start_seconds=start, reader=at_times)
        rate = signal.sampling_rate
        if not (math.isfinite(rate) and rate > 0):
            return signal if self.begin == 0 else None  # left out, with a note
        first = max(math.ceil((self.begin - signal.start_seconds) * rate - 1e-6), 0)
        first = math.ceil(first / _steps_of(signal)) * _steps_of(signal)
        last = min(math.ceil((self.end - signal.start_seconds) * rate - 1e-6), signal.n_samples)
        if first >= last:
            return None
        return replace(
            signal,
            start_seconds=signal.start_seconds + first / rate - self.begin,
            n_samples=last - first,
            reader=lambda one, other, rows: signal.read(first + one, first + other, rows),
        )

    def _has(self, correction: Correction) -> bool:
        begin, end = correction.span
        return end >= self.begin and begin <= self.end

    def _shifted(self, correction: Correction) -> Correction:
        if math.isinf(correction.span[0]):
            return correction
        return replace(correction, onset_seconds=correction.onset_seconds - self.begin)


@dataclass(frozen=True, eq=False)
class _Part:
    """A stretch of a recording as one of its own, and which of the recording's corrections each of its own is."""

    recording: Recording
    corrections: Mapping[Correction, Correction]


def _steps_of(signal: Signal) -> int:
    """Return how many samples of a signal lie between two that fall on samples of the rate that is stored."""
    modality = MODALITIES.get(signal.modality)
    if modality is None or signal.sampling_rate <= modality.model_rate:
        return 1
    return Fraction(modality.model_rate / signal.sampling_rate).limit_denominator(50_000).denominator


def _stretches_of(recording: Recording, around: int) -> list[_Stretch]:
    """Return the stretches that a recording is prepared in, with what is read ``around`` each, seconds; usually one."""
    duration, per_second, fastest = recording.duration_seconds, 0.0, 0.0
    for signal in recording.signals:
        modality = MODALITIES.get(signal.modality)
        if modality is not None and signal.is_regular and 0 < signal.sampling_rate < math.inf:
            fastest = max(fastest, signal.sampling_rate)
            per_second += signal.n_channels * min(signal.sampling_rate, modality.model_rate)
    longest = min(_ROW_SAMPLES / max(fastest, 1e-9), _STORED_SAMPLES / max(per_second, 1e-9))
    longest = max(longest, _SHORTEST_SECONDS)
    n = math.ceil(duration / longest) if duration > _TOO_LITTLE_MORE * longest else 1
    edges = [-math.inf, *(float(round(duration * place / n)) for place in range(1, n)), math.inf]
    stretches = []
    for first, stop in pairwise(edges):
        begin = 0 if math.isinf(first) else max(int(first) - around, 0)
        stretches.append(_Stretch(first, stop, begin, min(stop + around, duration)))
    return stretches


def _of_rows(windows: Windows, rows: NDArray[np.int64], begin: float) -> Windows:
    """Return some of the windows, on a clock that begins at ``begin``."""
    return replace(
        windows,
        onset=windows.onset[rows] - begin,
        label=windows.label[rows],
        stage=windows.stage[rows],
        is_labelled=windows.is_labelled[rows],
    )


class _Joined:
    """What stretches of a recording become together; a signal that a stretch does not have is missing there."""

    def __init__(self, recording: Recording, windows: Windows) -> None:
        self._recording = recording
        self._windows = windows
        self._n_grid = math.ceil(recording.duration_seconds * DERIVED_RATE)
        self._n_seconds = math.ceil(self._n_grid / DERIVED_RATE)
        self._signals: dict[str, StoredSignal] = {}
        self._samples: dict[str, _Rows] = {}
        self._masks: dict[str, _Rows] = {}
        self._quality: dict[str, NDArray[np.float32]] = {}
        self._reasons: dict[str, NDArray[np.uint32]] = {}
        self._of_windows: dict[str, NDArray[np.float32]] = {}
        self._features: NDArray[np.float32] | None = None
        self._notes: dict[str, list[_Stretch]] = {}
        self._corrections: set[Correction] = set()
        self._reason_names: tuple[str, ...] = ()
        self._stretches: list[_Stretch] = []
        self._faults: list[RecordingError] = []

    def take(self, stretch: _Stretch, part: _Part, rows: NDArray[np.int64], prepared: PreparedRecording) -> None:
        """Put a prepared stretch, with the windows of these ``rows``, into its place."""
        self._stretches.append(stretch)
        for signal in prepared.signals:
            self._take_signal(stretch, signal, prepared)
        if self._features is None:
            shape = (len(self._windows), prepared.windows.features.shape[1])
            self._features = np.full(shape, np.nan, dtype=np.float32)
        self._features[rows] = prepared.windows.features
        for column, signal in enumerate(prepared.signals):
            empty = np.zeros(len(self._windows), dtype=np.float32)
            self._of_windows.setdefault(signal.name, empty)[rows] = prepared.windows.quality[:, column]
        for note in prepared.notes:
            self._notes.setdefault(note, []).append(stretch)
        self._corrections |= {part.corrections[one] for one in prepared.corrections}
        self._reason_names = prepared.reason_names

    def failed(self, stretch: _Stretch, fault: RecordingError) -> None:
        """Note that nothing of a stretch can be used."""
        self._stretches.append(stretch)
        self._faults.append(fault)
        self._notes.setdefault("nothing is left after cleaning", []).append(stretch)

    def _take_signal(self, stretch: _Stretch, signal: StoredSignal, prepared: PreparedRecording) -> None:
        name = signal.name
        if name not in self._signals:
            self._begin(signal, has_reasons=name in prepared.reasons)
        whole = self._signals[name]
        if signal.derived_from != whole.derived_from:
            sources = dict.fromkeys(f"{whole.derived_from}+{signal.derived_from}".split("+"))
            self._signals[name] = replace(whole, derived_from="+".join(sources))
        if signal.channels != whole.channels:  # a series of several sensors of which one is missing here
            return
        rate, start = whole.sampling_rate, whole.start_seconds
        first = round((signal.start_seconds + stretch.begin - start) * rate)
        span = _span(stretch, rate, start, (first, first + signal.n_samples, whole.n_samples))
        for kept, taken in ((self._samples, prepared.samples), (self._masks, prepared.masks)):
            kept[name].put(span, taken[name][:, span.start - first : span.stop - first])
        seconds = _span(stretch, 1.0, 0.0, (stretch.begin, stretch.begin + self._n_seconds, self._n_seconds))
        for by_second, of_part in ((self._quality, prepared.quality), (self._reasons, prepared.reasons)):
            if name in of_part:
                part: NDArray[Any] = of_part[name][:, seconds.start - stretch.begin : seconds.stop - stretch.begin]
                by_second[name][:, seconds.start : seconds.start + part.shape[1]] = part

    def _begin(self, signal: StoredSignal, *, has_reasons: bool) -> None:
        """Make room for a signal of the whole recording."""
        start, n_samples, shape = 0.0, self._n_grid, (signal.n_channels, self._n_seconds)
        for original in self._recording.signals:
            if original.name == signal.name and original.is_regular and not signal.derived_from:
                start, n_samples = original.start_seconds, original.n_samples
                if signal.sampling_rate != original.sampling_rate:
                    ratio = Fraction(signal.sampling_rate / original.sampling_rate).limit_denominator(50_000)
                    n_samples = math.ceil(original.n_samples * ratio)
        self._signals[signal.name] = replace(signal, start_seconds=start, n_samples=n_samples)
        self._samples[signal.name] = _Rows((signal.n_channels, n_samples), np.float32)
        self._masks[signal.name] = _Rows((signal.n_channels, n_samples), np.bool_)
        self._quality[signal.name] = np.zeros(shape, dtype=np.float32)
        if has_reasons:
            self._reasons[signal.name] = np.ones(shape, dtype=np.uint32)  # missing, until a stretch has it

    def prepared(self) -> PreparedRecording:
        """Return the whole. Raises RecordingError where nothing is left of any stretch."""
        if self._features is None:
            raise self._faults[0]
        order = {signal.name: place for place, signal in enumerate(self._recording.signals)}
        places = list(MODALITIES)
        signals = sorted(
            self._signals.values(),
            key=lambda s: (bool(s.derived_from), order.get(s.name, len(order)), places.index(s.modality)),
        )
        recording, windows, names = self._recording, self._windows, [signal.name for signal in signals]
        return PreparedRecording(
            subject=recording.subject,
            session=recording.session,
            recording=recording.name,
            duration_seconds=float(recording.duration_seconds),
            signals=tuple(signals),
            samples={name: self._samples[name].array for name in names},
            masks={name: self._masks[name].array for name in names},
            quality={name: self._quality[name] for name in names},
            reasons=dict(self._reasons),
            reason_names=self._reason_names,
            windows=StoredWindows(
                onset=windows.onset,
                label=windows.label,
                stage=windows.stage.astype(np.int32),
                is_labelled=windows.is_labelled,
                features=self._features,
                quality=np.stack([self._of_windows[name] for name in names], axis=1),
            ),
            left_out=dict(windows.left_out),
            notes=(*recording.notes, *self._all_notes()),
            corrections=tuple(one for one in recording.corrections if one in self._corrections),
            labels=RecordingLabels(ratings=recording.ratings),
        )

    def _all_notes(self) -> Iterator[str]:
        yield f"prepared in {len(self._stretches)} stretches, for it is long: cleaning judges each by itself."
        for note, stretches in self._notes.items():
            yield note if len(stretches) == len(self._stretches) else f"{stretches[0].words}: {note}"


def _span(stretch: _Stretch, rate: float, start: float, bounds: tuple[int, int, int]) -> slice:
    """Return the samples that are taken of a stretch, of those from a first to before a second, and of so many."""
    first, stop, n_samples = bounds
    low = -math.inf if math.isinf(stretch.first) else math.ceil((stretch.first - start) * rate - 1e-6)
    high = math.inf if math.isinf(stretch.stop) else math.ceil((stretch.stop - start) * rate - 1e-6)
    begin = int(max(low, first, 0))
    return slice(begin, max(int(min(high, stop, n_samples)), begin))


class _Rows:
    """Rows of a long recording, zeros at first; large ones lie in a file without a name, out of memory until read."""

    def __init__(self, shape: tuple[int, int], dtype: DTypeLike) -> None:
        n_bytes = shape[0] * shape[1] * np.dtype(dtype).itemsize
        self._map: FileMap | None = None
        if n_bytes > _KEPT_IN_MEMORY:
            with contextlib.suppress(OSError), tempfile.TemporaryFile() as file:  # a full disk: then in memory
                os.posix_fallocate(file.fileno(), 0, n_bytes)
                self._map = FileMap(file.fileno(), n_bytes)
        self.array: NDArray[Any] = (
            np.zeros(shape, dtype) if self._map is None else np.frombuffer(self._map, dtype).reshape(shape)
        )

    def put(self, span: slice, values: NDArray[Any]) -> None:
        """Write values, (n_rows, n), into their place."""
        self.array[:, span] = values
        give_back_pages(self.array)
