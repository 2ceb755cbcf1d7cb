"""What is measured of one recording: a row per window, event or recording, and the beats, responses and breaths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from biopercept.errors import RecordingError, SettingsError, count
from biopercept.measures.around import Around, Courses, courses_around, measure_around, notes_around
from biopercept.measures.columns import OF_A_ROW, Column, column_of
from biopercept.measures.stretches import Measures, measure
from biopercept.measures.variability import SHORT_TERM_SECONDS
from biopercept.prepare.recording import PrepareSettings
from biopercept.preprocessing.cleaning import CleanRecording, clean_recording
from biopercept.preprocessing.windows import cut_windows
from biopercept.recording import FloatArray, Interval, Recording

if TYPE_CHECKING:
    import pandas as pd

WINDOWS, EVENTS, WHOLE = "windows", "events", "whole"
ROWS = (WINDOWS, EVENTS, WHOLE)
"""What a row can be of: a window of the grid, a labelled interval, or the whole recording."""

BEATS, RESPONSES, BREATHS = "beats", "responses", "breaths"
DETECTED: dict[str, tuple[str, ...]] = {
    BEATS: ("time", "interval", "amplitude"),
    RESPONSES: ("onset", "time", "amplitude", "rise_time", "recovery_time"),
    BREATHS: ("time", "period", "amplitude"),
}
"""Tables of what was detected in a recording, with their columns beside those of the recording."""

_DETECTED_COLUMNS = {
    "beats/time": (
        "s",
        "R-peak, or peak of the pulse wave, or end of the device's interval, from the recording's start",
    ),
    "beats/interval": ("s", "time since the beat before; missing where there is none, or it was not accepted"),
    "beats/amplitude": ("unit of the signal", "height of the wave above its lowest point since the beat before"),
    "responses/onset": ("s", "where the rise begins, from the recording's start"),
    "responses/time": ("s", "where the peak is, from the recording's start"),
    "responses/amplitude": ("uS", "rise from onset to peak"),
    "responses/rise_time": ("s", "time from onset to peak"),
    "responses/recovery_time": ("s", "time from the peak until half of the rise is lost; missing where it never is"),
    "breaths/time": ("s", "where the breath is fullest, from the recording's start"),
    "breaths/period": ("s", "time since the breath before; missing where there is none, or it was not accepted"),
    "breaths/amplitude": ("unit of the signal", "height above the trough before"),
}


def detected_columns(table: str) -> list[Column]:
    """Return what the columns of a table of :data:`DETECTED` hold."""
    return [Column(name, *_DETECTED_COLUMNS[f"{table}/{name}"], table) for name in DETECTED[table]]


@dataclass(frozen=True, eq=False)
class Detected:
    """Beats, responses or breaths of one recording, by column; times are seconds from its start."""

    columns: dict[str, FloatArray]

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each."""
        import pandas as pd

        return pd.DataFrame(self.columns)


@dataclass(frozen=True, eq=False)
class RecordingFeatures:
    """What was measured of one recording.

    Attributes
    ----------
    measures : Measures
        A row per window, event or recording.
    label : tuple of str
        Of each row: the label of the event, or of the interval that the window lies wholly inside; empty where there is
        none or more than one.
    detected : dict of str to Detected
        The beats, responses and breaths themselves, by these names.
    notes : tuple of str
        What was left out or masked, and why.
    courses : Courses or None
        Of rows around events: heart rate and skin conductance over time around each.
    known_labels : tuple of str
        Of rows around events: every label that the recording has.
    """

    subject: str
    session: str
    recording: str
    measures: Measures
    label: tuple[str, ...]
    detected: dict[str, Detected]
    notes: tuple[str, ...] = ()
    courses: Courses | None = None
    known_labels: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return a row per window, event or recording, with a column per measure."""
        import pandas as pd

        who = (self.subject, self.session, self.recording)
        values = [*who, self.measures.onset, self.measures.duration, list(self.label)]
        of_rows = pd.DataFrame(dict(zip(OF_A_ROW, values, strict=True)))
        return pd.concat([of_rows, pd.DataFrame(self.measures.values, columns=list(self.measures.names))], axis=1)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return what each measure is."""
        return tuple(column_of(name) for name in self.measures.names)


def recording_features(
    recording: Recording, settings: PrepareSettings | None = None, rows: str = WINDOWS, *, hrv: bool = False
) -> RecordingFeatures:
    """Return what is measured of a recording, cleaned as a whole.

    ``rows`` says what a row is of, one of :data:`ROWS`; windows are those of the settings, from the recording's start.
    ``hrv`` adds the full set of heart rate variability (:data:`biopercept.measures.variability.VARIABILITY`).

    Raises RecordingError where nothing is left after cleaning, the recording is shorter than a window, or has no event
    of any duration. Raises SettingsError where ``rows`` is unknown.
    """
    return measured_and_cleaned(recording, settings, rows, hrv=hrv)[0]


def measured_and_cleaned(
    recording: Recording, settings: PrepareSettings | None = None, rows: str = WINDOWS, *, hrv: bool = False
) -> tuple[RecordingFeatures, CleanRecording]:
    """Return what :func:`recording_features` does, and the cleaned recording that it was measured of."""
    settings = settings or PrepareSettings()
    onset, duration, label, notes = _stretches(recording, settings, rows)
    clean = clean_recording(recording, settings.cleaning)
    features = RecordingFeatures(
        subject=recording.subject,
        session=recording.session,
        recording=recording.name,
        measures=measure(clean, onset, duration, hrv=hrv),
        label=label,
        detected=_detected(clean),
        notes=(*clean.recording.notes, *notes, *(_why_no_variability(duration) if hrv else ())),
    )
    return features, clean


def around_features(recording: Recording, around: Around, settings: PrepareSettings | None = None) -> RecordingFeatures:
    """Return what follows each event of some labels: a row per event (none where there is none), and the courses.

    Raises RecordingError where nothing is left after cleaning.
    """
    return around_and_cleaned(recording, around, settings)[0]


def around_and_cleaned(
    recording: Recording, around: Around, settings: PrepareSettings | None = None
) -> tuple[RecordingFeatures, CleanRecording]:
    """Return what :func:`around_features` does, and the cleaned recording that it was measured of."""
    events = around.events_in(recording.intervals)
    clean = clean_recording(recording, (settings or PrepareSettings()).cleaning)
    features = RecordingFeatures(
        subject=recording.subject,
        session=recording.session,
        recording=recording.name,
        measures=measure_around(clean, events, around),
        label=tuple(event.label for event in events),
        detected=_detected(clean),
        notes=(*clean.recording.notes, *(notes_around(clean, events, around) if events else (_no_event(around),))),
        courses=courses_around(clean, events, around),
        known_labels=tuple(dict.fromkeys(interval.label for interval in recording.intervals)),
    )
    return features, clean


def _no_event(around: Around) -> str:
    return f"no event is labelled {' or '.join(map(repr, around.labels))}: the recording has no rows."


def _why_no_variability(duration: FloatArray) -> tuple[str, ...]:
    """Return a note where rows are too short for most of the full set."""
    n_short = int((duration < SHORT_TERM_SECONDS).sum())
    if n_short == 0:
        return ()
    return (
        f"{n_short} of {len(duration)} rows last less than {SHORT_TERM_SECONDS:g} s: non-linear heart rate "
        "variability, VLF and total power are missing there.",
    )


def whole_recording(clean: CleanRecording) -> Measures:
    """Return what is measured of a recording as a whole: one row."""
    return measure(clean, np.zeros(1), np.full(1, clean.recording.duration_seconds))


def _stretches(
    recording: Recording, settings: PrepareSettings, rows: str
) -> tuple[FloatArray, FloatArray, tuple[str, ...], tuple[str, ...]]:
    """Return onset, duration and label of every row, and notes."""
    if rows not in ROWS:
        raise SettingsError(f"a row is of one of {', '.join(ROWS)}, and not of {rows!r}")
    end = recording.duration_seconds
    if rows == WHOLE:
        return np.zeros(1), np.full(1, end), (_label_of(recording.intervals, 0.0, end),), ()
    if rows == EVENTS:
        return _events(recording)
    windows = cut_windows((), end, settings.windows)
    length = settings.windows.length_seconds
    if len(windows) == 0:
        raise RecordingError(
            f"{_title(recording)} lasts {end:.1f} s and a window {length:g} s; give a shorter --window"
        )
    labels = tuple(_label_of(recording.intervals, float(start), float(start) + length) for start in windows.onset)
    return windows.onset, np.full(len(windows), length), labels, ()


def _events(recording: Recording) -> tuple[FloatArray, FloatArray, tuple[str, ...], tuple[str, ...]]:
    end = recording.duration_seconds
    inside = [i for i in recording.intervals if i.duration_seconds > 0 and i.onset_seconds < end and i.end_seconds > 0]
    if not inside:
        raise RecordingError(f"{_title(recording)} has no event that lasts and lies in the recording")
    n_lost = len(recording.intervals) - len(inside)
    notes = (
        (f"{count(n_lost, 'event has', 'events have')} no row: they have no duration, or lie outside the recording.",)
        if n_lost
        else ()
    )
    onset = np.array([interval.onset_seconds for interval in inside])
    duration = np.array([interval.duration_seconds for interval in inside])
    return onset, duration, tuple(interval.label for interval in inside), notes


def _label_of(intervals: tuple[Interval, ...], start: float, end: float) -> str:
    """Return the only label of the intervals that hold a stretch wholly; empty where there is none or are several."""
    labels = {i.label for i in intervals if i.onset_seconds <= start + 1e-6 and i.end_seconds >= end - 1e-6}
    return labels.pop() if len(labels) == 1 else ""


def _title(recording: Recording) -> str:
    parts = dict.fromkeys((recording.subject, recording.session, recording.name))  # of a file alone two are the same
    return " ".join(filter(None, parts)) or "the recording"


def _detected(clean: CleanRecording) -> dict[str, Detected]:
    beats, responses, breaths = clean.beats, clean.responses, clean.breaths
    values = {
        BEATS: (beats.times, beats.intervals, beats.amplitudes),
        RESPONSES: (
            responses.onsets,
            responses.times,
            responses.amplitudes,
            responses.rise_seconds,
            responses.half_recovery_seconds,
        ),
        BREATHS: (breaths.times, breaths.periods, breaths.heights),
    }
    return {table: Detected(dict(zip(names, values[table], strict=True))) for table, names in DETECTED.items()}
