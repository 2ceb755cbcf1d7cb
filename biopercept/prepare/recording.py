"""Prepare one recording in memory: clean it as a whole, cut windows, measure features and quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from biopercept.errors import RecordingError, SettingsError
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.windows import Windows, WindowSettings, cut_windows
from biopercept.recording import Recording, RecordingLabels, Signal
from biopercept.store.prepared import FloatSamples, Mask, PreparedRecording, StoredSignal, StoredWindows

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
