"""R-peaks of real WFDB records beside the annotations that lie with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biopercept.loaders.loading import load_recording
from biopercept.preprocessing.cardiac import Beats, ecg_beats
from biopercept.preprocessing.screening import screened
from biopercept.preprocessing.settings import CleaningSettings
from measurements.hearts import matched
from measurements.planted_hearts import Samples

_BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
"""Annotation codes of WFDB that mark a beat of any kind."""

RECORDS = (
    ("100", "MLII", "atr"),
    ("100", "V5", "atr"),
    ("100", "MLII", "qrs"),
    ("03700181", "MCL1", "gqrsh"),
    ("03700181", "MCL1", "sqrs"),
)
_RIM_SECONDS = 0.5


@dataclass(frozen=True)
class Agreement:
    """How the beats found in one lead agree with one set of annotations."""

    record: str
    lead: str
    annotator: str
    n_annotated: int
    sensitivity: float
    precision: float
    median_distance_seconds: float


def agreements(folder: Path) -> list[Agreement]:
    """Return the agreement of every lead with every set of annotations in :data:`RECORDS`."""
    return [agreement(folder, record, lead, annotator) for record, lead, annotator in RECORDS]


def agreement(folder: Path, record: str, lead: str, annotator: str) -> Agreement:
    """Return how the beats found in a lead agree with the annotations of a record."""
    beats, seconds = beats_of_lead(folder / f"{record}.hea", lead)
    annotated = annotated_beats(folder / record, annotator)
    true, found = (_inner(times, seconds) for times in (annotated, beats.times))
    distance = np.abs(found[:, None] - annotated[None]).min(axis=1)
    return Agreement(
        record,
        lead,
        annotator,
        len(true),
        matched(true, beats.times),
        matched(found, annotated),
        float(np.median(distance)),
    )


def beats_of_lead(path: Path, lead: str) -> tuple[Beats, float]:
    """Return the beats that the package finds in one lead of a recording, and the recording's length in seconds."""
    settings = CleaningSettings()
    recording = load_recording(path)
    for signal in recording.signals_of("ecg"):
        if lead in signal.channel_names:
            samples, _ = screened(signal.read(), signal, settings)
            return ecg_beats(samples[signal.channel_names.index(lead)], signal, settings)[0], signal.end_seconds
    raise LookupError(f"{path.name} has no ECG lead {lead!r}")


def annotated_beats(record: Path, annotator: str) -> Samples:
    """Return the times of the annotated beats, seconds."""
    import wfdb

    notes = wfdb.rdann(str(record), annotator)
    is_beat = np.array([symbol in _BEAT_SYMBOLS for symbol in notes.symbol])
    rate = notes.fs or wfdb.rdheader(str(record)).fs
    return np.asarray(notes.sample[is_beat] / rate, dtype=np.float64)


def _inner(times: Samples, seconds: float) -> Samples:
    return times[(times > _RIM_SECONDS) & (times < seconds - _RIM_SECONDS)]
