"""A prepared recording as learning sees it, stored or in memory: signals at their own rates, masks, windows."""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StoreError, recording_title
from biopercept.recording import Channel, Correction, Interval, RecordingLabels

FloatSamples = NDArray[np.float32]
Mask = NDArray[np.bool_]
ReasonMask = NDArray[np.uint32]


@dataclass(frozen=True)
class StoredSignal:
    """What is known about one prepared signal, as :class:`biopercept.recording.Signal` has it, without its samples.

    ``native_sampling_rate`` is that of the measured signal before it was brought to the rate the model reads; for a
    derived signal that of the signal it was computed from.
    """

    name: str
    modality: str
    unit: str
    sampling_rate: float
    native_sampling_rate: float
    start_seconds: float
    channels: tuple[Channel, ...]
    n_samples: int
    derived_from: str = ""

    @property
    def n_channels(self) -> int:
        """Return the number of channels."""
        return len(self.channels)

    @property
    def end_seconds(self) -> float:
        """Return the end of the last sample in seconds on the recording's clock."""
        return self.start_seconds + self.n_samples / self.sampling_rate


@dataclass(frozen=True, eq=False)
class StoredWindows:
    """The windows of one recording: an index into its signals, with features; one row per window.

    ``onset`` is in seconds on the recording's clock. ``label`` is that of the interval the window lies wholly inside,
    "" in the unlabelled grid; ``stage`` which of the recording's labelled intervals that is, from 0, -1 in the grid.
    ``features``, (n_windows, n_features), have the columns of the store's ``feature_names``, NaN where not defined;
    ``quality``, (n_windows, n_signals), is from 0 (useless) to 1, columns in the order of the recording's ``signals``.
    """

    onset: NDArray[np.float64]
    label: NDArray[np.str_]
    stage: NDArray[np.int32]
    is_labelled: Mask
    features: FloatSamples
    quality: FloatSamples

    def __len__(self) -> int:
        """Return the number of windows, labelled and grid together."""
        return len(self.onset)


class WindowedRecording(Protocol):
    """What learning needs of a prepared recording, stored or in memory: it cannot tell which."""

    @property
    def key(self) -> str:
        """Name of the recording, unique within its study."""

    @property
    def subject(self) -> str:
        """Id of the participant."""

    @property
    def session(self) -> str:
        """Session; may be empty."""

    @property
    def recording(self) -> str:
        """The recording's own name."""

    @property
    def place(self) -> int | None:
        """Place among the study's recordings in the order it lists them; None where that is not known."""

    @property
    def duration_seconds(self) -> float:
        """Time from second zero to the end of the last signal, seconds."""

    @property
    def signals(self) -> tuple[StoredSignal, ...]:
        """Every prepared signal, measured and derived, in a fixed order."""

    @property
    def windows(self) -> StoredWindows:
        """The windows."""

    @property
    def labels(self) -> RecordingLabels:
        """What the study says of the recording."""

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many windows were left out, by reason."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a careful reader must know about the recording."""

    def read(self, signal_name: str, start: int = 0, stop: int | None = None) -> tuple[FloatSamples, Mask]:
        """Return samples and mask (True = real), each (n_channels, stop - start), clipped to the signal."""

    def read_quality(self, signal_name: str) -> FloatSamples:
        """Return the quality of the signal at 1 Hz, from 0 to 1: (n_channels, n_seconds)."""


@dataclass(frozen=True, eq=False)
class RecordingView:
    """A recording seen in another way: all that a view does not define is that of the recording it is made of."""

    whole: WindowedRecording

    def __getattr__(self, name: str) -> Any:
        if name == "whole":  # not made yet, as in a copy that is being unpickled
            raise AttributeError(name)
        return getattr(self.whole, name)


@dataclass(frozen=True, eq=False)
class PreparedRecording:
    """A recording cleaned, cut and measured in memory; what a store keeps of it, before it is stored.

    Of each signal by name ``samples`` and ``masks``, (n_channels, n_samples): 0 where the mask is False, which is where
    none was measured; and ``quality``, (n_channels, n_seconds), from 0 to 1, where it was measured. ``reasons``, same
    shape, of measured signals: bits of what is wrong in the second, by their place in ``reason_names``.
    ``corrections`` are those by hand that were applied.
    """

    subject: str
    session: str
    recording: str
    duration_seconds: float
    signals: tuple[StoredSignal, ...]
    samples: Mapping[str, FloatSamples] = field(repr=False)
    masks: Mapping[str, Mask] = field(repr=False)
    windows: StoredWindows = field(repr=False)
    quality: Mapping[str, FloatSamples] = field(default_factory=dict, repr=False)
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    place: int | None = None
    labels: RecordingLabels = field(default_factory=RecordingLabels, repr=False)
    reasons: Mapping[str, ReasonMask] = field(default_factory=dict, repr=False)
    reason_names: tuple[str, ...] = ()
    corrections: tuple[Correction, ...] = ()

    @property
    def key(self) -> str:
        """Return the recording's name, unique within its study."""
        return recording_key(self.subject, self.session, self.recording)

    def read(self, signal_name: str, start: int = 0, stop: int | None = None) -> tuple[FloatSamples, Mask]:
        """Return samples, 0 where masked, and mask (True = real) of a signal: (n_channels, n), clipped to the signal.

        Raises StoreError where the recording has no signal of that name.
        """
        require_signal(self, signal_name)
        first, last = clipped(start, stop, self.samples[signal_name].shape[1])
        return self.samples[signal_name][:, first:last], self.masks[signal_name][:, first:last]

    def read_quality(self, signal_name: str) -> FloatSamples:
        """Return the quality of a signal at 1 Hz: (n_channels, n_seconds), no seconds where it was not measured.

        Raises StoreError where the recording has no signal of that name.
        """
        signal = require_signal(self, signal_name)
        return self.quality.get(signal_name, np.zeros((signal.n_channels, 0), dtype=np.float32))


class FileMap(mmap.mmap):
    """A shared map of a file, whose pages may leave memory at any time: what was written is in the file."""


def give_back_pages(samples: NDArray[Any]) -> None:
    """Let go of what was read of the file that lies behind samples, if one does; it is read again at need."""
    behind: object = samples
    while behind is not None and not isinstance(behind, FileMap):
        behind = behind.obj if isinstance(behind, memoryview) else getattr(behind, "base", None)
    if behind is not None:
        behind.madvise(mmap.MADV_DONTNEED)


def labels_of_windows(windows: StoredWindows, length_seconds: float) -> RecordingLabels:
    """Return the labelled intervals that windows were cut from, as far as windows cover them."""
    by_stage: dict[int, Interval] = {}
    for row in np.flatnonzero(np.asarray(windows.is_labelled)):
        stage, onset = int(windows.stage[row]), float(windows.onset[row])
        begin = min(by_stage[stage].onset_seconds, onset) if stage in by_stage else onset
        end = max(by_stage[stage].end_seconds if stage in by_stage else onset, onset + length_seconds)
        by_stage[stage] = Interval(begin, end - begin, str(windows.label[row]))
    return RecordingLabels(tuple(by_stage[stage] for stage in sorted(by_stage)))


def recording_key(subject: str, session: str, recording: str) -> str:
    """Return the name of a recording within its study: "subject_session_recording", different for different triples.

    Characters other than ASCII letters, digits, "." and "-" are written as %XX of their UTF-8 bytes, "_" included.

    >>> recording_key("S_1", "a", "b/c")
    'S%5F1_a_b%2Fc'
    """
    return "_".join(_escaped(part) for part in (subject, session, recording))


def title_of(recording: WindowedRecording) -> str:
    """Return the words for a recording in messages."""
    return recording_title(recording.subject, recording.session, recording.recording)


def safe_file_stem(key: str) -> str:
    """Return a short file name for a recording, distinct even where the disk ignores case or limits length."""
    return f"{key[:60]}-{hashlib.sha256(key.encode('utf-8')).hexdigest()[:16]}"


def link_name(signal_name: str) -> str:
    """Return the name under which a store keeps a signal: as :func:`recording_key` escapes, but with "_" kept."""
    return _escaped(signal_name, kept="_")


def _escaped(part: str, kept: str = "") -> str:
    def percent(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))

    text = re.sub(rf"[^A-Za-z0-9.\-{kept}]", percent, part)
    return text.replace(".", "%2E") if set(text) == {"."} else text


def clipped(start: int, stop: int | None, n_samples: int) -> tuple[int, int]:
    """Return ``start`` and ``stop`` clipped to a signal of ``n_samples``, with start <= stop."""
    last = n_samples if stop is None else min(max(stop, 0), n_samples)
    return min(max(start, 0), last), last


def require_signal(recording: WindowedRecording, signal_name: str) -> StoredSignal:
    """Return the signal of that name. Raises StoreError, with the names there are, where there is none."""
    for signal in recording.signals:
        if signal.name == signal_name:
            return signal
    names = ", ".join(signal.name for signal in recording.signals) or "none"
    raise StoreError(f"recording {title_of(recording)} has no signal {signal_name!r}; it has: {names}")


def channels_to_json(channels: tuple[Channel, ...]) -> tuple[str, str]:
    """Return the names and the positions (metres, null where unknown) of channels as two JSON lists."""
    names = json.dumps([channel.name for channel in channels], ensure_ascii=True)
    return names, json.dumps([channel.position for channel in channels])


def channels_from_json(names: str, positions: str) -> tuple[Channel, ...]:
    """Return channels from the two JSON lists of :func:`channels_to_json`.

    Raises StoreError where the lists are not of that form.
    """
    try:
        return tuple(
            Channel(str(name), None if place is None else (float(place[0]), float(place[1]), float(place[2])))
            for name, place in zip(json.loads(names), json.loads(positions), strict=True)
        )
    except (ValueError, TypeError, LookupError) as fault:
        raise StoreError(
            f"the channel names or positions are damaged ({fault}); prepare the recording again"
        ) from fault
