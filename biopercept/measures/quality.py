"""Quality of recordings for people: by channel and second, the stretches that are spoilt and why, sensor by sensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from biopercept.errors import recording_title
from biopercept.files import write_json, write_table
from biopercept.loaders.recognition import SignalOverride
from biopercept.measures.columns import OF_A_RECORDING, OF_A_ROW, plainly
from biopercept.prepare.sources import EachWork, Source, each_of, sources_of
from biopercept.preprocessing.cleaning import clean_recording
from biopercept.preprocessing.gaps import moving_mean, runs_of
from biopercept.preprocessing.quality import BANDS, BORDERS, REASONS, SMALLEST_SHARE, SignalQuality, band_of
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import AlignedFile, FloatArray, Recording
from biopercept.version import __version__

if TYPE_CHECKING:
    import pandas as pd

_WHOSE = {
    **OF_A_RECORDING,
    "signal": ("", "name of the measured signal"),
}
_RUN_COLUMNS = {
    "channel": ("", "channel of the signal"),
    "start": ("s", "first second that the reason spoils, from the recording's start"),
    "stop": ("s", "end of the last one"),
    "reason": ("", "what is wrong, one of the reasons below"),
    "share": ("fraction", f"mean share of these seconds that it spoils; each has at least {SMALLEST_SHARE:g}"),
}
_SENSOR_COLUMNS = {
    "modality": ("", "what the signal measures"),
    "channels": ("", "number of its channels"),
    "mean_index": ("fraction", "mean quality index of all its channels and of all seconds of the recording"),
    "believe": (
        "fraction",
        "share of the time in whose minute around a rate (of beats, breaths, skin responses) is to be believed, by the "
        "mean of the index; of other sensors, in which the signal is there",
    ),
    "with_care": ("fraction", "share in which it is to be believed with care; in the rest it is not"),
    "stretches_lost": ("", "number of stretches whose index, the mean of the channels, is below 0.5"),
    "longest_lost": ("s", "length of the longest of them"),
    "reason": ("", "what lowers its index most; empty where nothing does"),
    "reason_share": ("fraction", "share of the recording, over all channels, that it spoils"),
}
_HALF = 0.5
_MINUTE = 60


class Run(NamedTuple):
    """A stretch of one channel that one reason spoils, whole seconds; ``share`` is how much of them on average."""

    signal: str
    channel: str
    start: float
    stop: float
    reason: str
    share: float


class Sensor(NamedTuple):
    """How one signal of a recording fared as a whole; fields as the columns of ``sensors.csv``."""

    signal: str
    modality: str
    channels: int
    mean_index: float
    believe: float
    with_care: float
    stretches_lost: int
    longest_lost: float
    reason: str
    reason_share: float


@dataclass(frozen=True, eq=False)
class RatedSignal:
    """One measured signal of a recording with its quality."""

    name: str
    modality: str
    channels: tuple[str, ...]
    quality: SignalQuality

    def runs(self) -> Iterator[Run]:
        """Give the stretches that are spoilt, channel by channel."""
        for row, channel in enumerate(self.channels):
            for reason in (name for name in REASONS if name in self.quality.shares):
                share = self.quality.shares[reason][row]
                for start, stop in runs_of(share >= SMALLEST_SHARE):
                    yield Run(self.name, channel, start, stop, reason, round(float(share[start:stop].mean()), 3))

    def reasons(self) -> tuple[str, ...]:
        """Return what spoils it, first what lowers the index most; what does not lower it is left out."""
        lowers = {
            name: float((share * (1.0 - self.quality.index)).sum()) for name, share in self.quality.shares.items()
        }
        return tuple(sorted((name for name, lost in lowers.items() if lost > 0), key=lambda name: -lowers[name]))

    def sensor(self) -> Sensor:
        """Return how the signal fared as a whole."""
        index = self.quality.index.mean(axis=0)
        lost = [stop - start for start, stop in runs_of(index < _HALF)]
        bands = [band_of(value, self.modality) for value in moving_mean(index, _MINUTE)]
        spoilt = {name: float(share.mean()) for name, share in self.quality.shares.items()}
        worst = next(iter(self.reasons()), "")
        return Sensor(
            signal=self.name,
            modality=self.modality,
            channels=len(self.channels),
            mean_index=round(float(index.mean()), 4),
            believe=round(float(bands.count(BANDS[0]) / max(len(bands), 1)), 4),
            with_care=round(float(bands.count(BANDS[1]) / max(len(bands), 1)), 4),
            stretches_lost=len(lost),
            longest_lost=float(max(lost, default=0)),
            reason=worst,
            reason_share=round(spoilt[worst], 4) if worst else 0.0,
        )


@dataclass(frozen=True, eq=False)
class RecordingQuality:
    """Quality of one recording: a signal with its index and reasons each, and notes of what was left out or masked.

    ``aligned`` are the files whose clocks were set by what they share, and how well.
    """

    subject: str
    session: str
    recording: str
    signals: tuple[RatedSignal, ...]
    notes: tuple[str, ...] = ()
    aligned: tuple[AlignedFile, ...] = ()

    @property
    def title(self) -> str:
        """Return the words for the recording."""
        return recording_title(self.subject, self.session, self.recording)

    def sensors(self) -> tuple[Sensor, ...]:
        """Return how each signal fared as a whole."""
        return tuple(signal.sensor() for signal in self.signals)

    def to_frame(self) -> pd.DataFrame:
        """Return a row per stretch that is spoilt: signal, channel, start, stop, reason, share."""
        import pandas as pd

        return pd.DataFrame([run for signal in self.signals for run in signal.runs()], columns=list(Run._fields))


@dataclass(frozen=True, eq=False)
class QualityRequest:
    """What is rated: recordings and study folders, of some subjects only or without some.

    ``overrides`` is what the user says of channels of files.
    """

    paths: tuple[Path, ...]
    cleaning: CleaningSettings
    subjects: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    n_jobs: int = 1
    overrides: Mapping[str, SignalOverride] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Rated:
    """How one recording went: its quality, or why it could not be read."""

    source: Source
    quality: RecordingQuality | None = None
    failure: str = ""


def recording_quality(recording: Recording, cleaning: CleaningSettings | None = None) -> RecordingQuality:
    """Return the quality of a recording, cleaned as a whole.

    Raises RecordingError where nothing is left after cleaning.
    """
    clean = clean_recording(recording, cleaning)
    signals = tuple(
        RatedSignal(signal.name, signal.modality, signal.channel_names, _small(clean.ratings[signal.name]))
        for signal in clean.recording.signals
        if signal.name in clean.ratings
    )
    names = recording.subject, recording.session, recording.name
    return RecordingQuality(*names, signals, clean.recording.notes, recording.aligned)


def _small(quality: SignalQuality) -> SignalQuality:
    """Return the same at half the size: a process hands it to another."""

    def small(values: FloatArray) -> Any:
        return values.astype(np.float32)

    shares = {name: small(share) for name, share in quality.shares.items()}
    return SignalQuality(small(quality.index), shares, small(quality.valid))


def write_quality(
    request: QualityRequest, output: Path, *, on_recording: Callable[[Rated, int], None] = lambda _, __: None
) -> tuple[Rated, ...]:
    """Rate every recording, write the tables into a folder and return how each went, in the order given.

    A recording that cannot be read costs its rows alone. ``on_recording`` is told of each and how many there are.

    Raises SettingsError where a subject is unknown. Raises OutputError where a file cannot be written.
    """
    sources = sources_of(request.paths, request.subjects, request.excluded, request.overrides)
    outcomes = tuple(each_of(EachWork(_rated, request.cleaning, _unrated), sources, request.n_jobs, on_recording))
    done = [one.quality for one in outcomes if one.quality is not None]
    write_table(output / "quality.csv", (*OF_A_ROW[:3], *Run._fields), _rows(done, _runs))
    write_table(output / "sensors.csv", (*OF_A_ROW[:3], *Sensor._fields), _rows(done, RecordingQuality.sensors))
    write_json(output / "quality.json", _dictionary(request))
    failures = ((one.source.title, one.failure) for one in outcomes if one.quality is None)
    write_table(output / "failures.csv", ("recording", "message"), failures)
    return outcomes


def _rated(cleaning: CleaningSettings, source: Source) -> Rated:
    return Rated(source, recording_quality(source.load(), cleaning))


def _unrated(source: Source, reason: str) -> Rated:
    return Rated(source, failure=reason)


def _runs(recording: RecordingQuality) -> Iterator[Run]:
    return (run for signal in recording.signals for run in signal.runs())


def _rows(
    done: Sequence[RecordingQuality], parts: Callable[[RecordingQuality], Iterator[Run] | tuple[Sensor, ...]]
) -> Iterator[tuple[object, ...]]:
    return ((one.subject, one.session, one.recording, *part) for one in done for part in parts(one))


def _dictionary(request: QualityRequest) -> dict[str, Any]:
    """Return what was done, what each column of every table is and what each reason means."""
    return {
        "schema": 1,
        "biopercept": __version__,
        "settings": {"cleaning": asdict(request.cleaning)},
        "quality": plainly(_WHOSE | _RUN_COLUMNS),
        "sensors": plainly(_WHOSE | _SENSOR_COLUMNS),
        "reasons": REASONS,
        "borders": {modality: {"with_care": low, "believe": high} for modality, (low, high) in BORDERS.items()},
    }
