"""What BIDS says of a file beside it: channels.tsv (types, units, bad channels), electrodes.tsv, and scans.tsv.

Of inherited tables the nearest applies, as the standard has it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from biopercept.errors import listed
from biopercept.loaders.recognition import SignalOverride, tidy_label
from biopercept.loaders.sidecars import inherited_files
from biopercept.modalities import UNKNOWN
from biopercept.recording import CHANNEL_BAD, Channel, Correction, Recording, Signal
from biopercept.studies.tables import Row, read_table

Position = tuple[float, float, float]
_MODALITIES = {
    "EEG": "eeg",
    "ECG": "ecg",
    "EKG": "ecg",
    "EOG": "eog",
    "HEOG": "eog",
    "VEOG": "eog",
    "EMG": "emg",
    "RESP": "resp",
    "TEMP": "temp",
    "GSR": "eda",
    "PPG": "bvp",
    "ACCEL": "acc",
}
"""Modality by the type of a channel; MISC and types not here say nothing."""
_NO_SIGNAL = frozenset(
    {"TRIG", "REF", "SYSCLOCK", "PUPIL", "EYEGAZE", "AUDIO", "ADC", "DAC", "LATENCY", "GYRO", "MAGN", "POS", "VEL"}
)
_PER_METRE = {"m": 1.0, "cm": 100.0, "mm": 1000.0}
_FURTHEST = 0.3
"""Metres from the middle of a head at which no electrode is."""
_HEAD_FRAME = "captrak"
"""The coordinate system of BIDS whose axes and origin are those of mne's head frame."""


@dataclass(frozen=True)
class _ChannelRow:
    """What channels.tsv says of a channel; empty texts and None where it says nothing."""

    name: str
    modality: str | None
    unit: str
    is_bad: bool
    reason: str


def load_bids_file(
    path: Path, names: Mapping[str, str], overrides: Mapping[str, SignalOverride] | None = None
) -> Recording:
    """Return the recording of a file of a BIDS data set with what the tables beside it say of its channels.

    The study's ``overrides`` go before; a type goes before what the label says, a unit is taken where the file gives
    none; channels with status bad are bad for the full recording; electrodes stand where electrodes.tsv has them.

    Raises RecordingError as :func:`biopercept.loaders.loading.load_recording`.
    """
    from biopercept.loaders.loading import load_recording

    rows, notes = _channel_rows(path)
    types = {_exact(row.name): SignalOverride(modality=row.modality) for row in rows if row.modality is not None}
    study = dict(overrides or {})  # of several patterns that match, the first counts
    recording = load_recording(path, **names, overrides={**study, **{n: o for n, o in types.items() if n not in study}})
    without_unit = {tidy_label(c.name).lower() for s in recording.signals if not s.unit for c in s.channels}
    lacking = [row for row in rows if row.unit and tidy_label(row.name).lower() in without_unit]
    if lacking:
        units = {_exact(row.name): SignalOverride(row.modality, row.unit) for row in lacking}
        known = {**units, **{n: o for n, o in types.items() if n not in units}}
        recording = load_recording(
            path, **names, overrides={**study, **{n: o for n, o in known.items() if n not in study}}
        )
    bad = tuple(_corrections(rows, recording, path, notes))
    positions, more = _positions(path)
    signals = tuple(_placed(signal, positions) for signal in recording.signals)
    return replace(
        recording,
        signals=signals,
        corrections=(*recording.corrections, *bad),
        notes=(*recording.notes, *notes, *more),
    )


def _exact(label: str) -> str:
    """Return a pattern that matches a label and nothing else."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in label)


def _channel_rows(path: Path) -> tuple[list[_ChannelRow], list[str]]:
    tables = inherited_files(path, ".tsv", "channels")[:1]
    if not tables:
        return [], []
    faults: list[str] = []
    table = read_table(tables[0], ("name",), faults)
    return [_channel_row(row) for row in table], [f"{fault}; its row is not used" for fault in faults]


def _channel_row(row: Row) -> _ChannelRow:
    kind = row.get("type").strip().upper()
    return _ChannelRow(
        name=row.get("name").strip(),
        modality=UNKNOWN if kind in _NO_SIGNAL else _MODALITIES.get(kind),
        unit="" if row.is_missing("units") else row.get("units").strip(),
        is_bad=row.get("status").strip().lower() == "bad",
        reason="" if row.is_missing("status_description") else row.get("status_description").strip(),
    )


def _corrections(rows: list[_ChannelRow], recording: Recording, path: Path, notes: list[str]) -> list[Correction]:
    """Return a correction for each channel that channels.tsv calls bad."""
    places = {
        tidy_label(name).lower(): f"{signal.name}/{channel.name}"
        for signal in recording.signals
        for channel in signal.channels
        for name in ((channel.name, signal.name) if signal.n_channels == 1 else (channel.name,))
    }
    bad = []
    for row in rows:
        place = places.get(tidy_label(row.name).lower())
        if row.is_bad and place is not None:
            bad.append(Correction(CHANNEL_BAD, channels=(place,), source=row.reason or "channels.tsv"))
        elif row.is_bad:
            notes.append(f"channels.tsv calls {row.name!r} bad, which {path.name} does not have")
    if bad:
        notes.append(f"bad by channels.tsv: {listed(f'{one.channels[0]} ({one.source})' for one in bad)}")
    return bad


def _positions(path: Path) -> tuple[dict[str, Position], list[str]]:
    """Return where electrodes stand, in metres in mne's head frame, and a note where their table cannot be used."""
    tables = inherited_files(path, ".tsv", "electrodes")[:1]
    if not tables:
        return {}, []
    system, unit = _coordinate_system(path)
    scale = _PER_METRE.get(unit)
    if system.lower() != _HEAD_FRAME or scale is None:
        return {}, [
            f"{tables[0].name}: positions in the coordinate system {system or 'not given'!r}, unit "
            f"{unit or 'not given'!r}, are not used (CapTrak in m, cm or mm is); electrodes are placed by their names"
        ]
    faults: list[str] = []
    positions = {}
    for row in read_table(tables[0], ("name", "x", "y", "z"), faults):
        place = tuple(_number(row.get(axis)) / scale for axis in "xyz")
        if all(math.isfinite(value) for value in place) and math.hypot(*place) <= _FURTHEST:
            positions[tidy_label(row.get("name")).lower()] = (place[0], place[1], place[2])
    return positions, [f"{fault}; its row is not used" for fault in faults]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _coordinate_system(path: Path) -> tuple[str, str]:
    """Return the system and the unit of electrodes' positions; empty where no coordsystem.json says them."""
    for file in inherited_files(path, ".json", "coordsystem")[:1]:
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))
            return str(content.get("EEGCoordinateSystem", "")), str(
                content.get("EEGCoordinateUnits", "")
            ).strip().lower()
        except (OSError, ValueError, AttributeError, RecursionError):
            return "", ""
    return "", ""


def _placed(signal: Signal, positions: Mapping[str, Position]) -> Signal:
    """Return an EEG signal whose channels stand where the table has them."""
    if signal.modality != "eeg" or not positions:
        return signal
    channels = tuple(
        Channel(channel.name, positions.get(tidy_label(channel.name).lower(), channel.position))
        for channel in signal.channels
    )
    return replace(signal, channels=channels)


def acquisition_times(root: Path, subject: str, session: str, faults: list[str]) -> dict[Path, datetime]:
    """Return when each file of a subject's session was recorded, by the ``acq_time`` of its scans.tsv.

    Times are of the local clock, without a zone, or of UTC where they end with Z.
    """
    home = root / f"sub-{subject}" / (f"ses-{session}" if session else "")
    stem = f"sub-{subject}" + (f"_ses-{session}" if session else "")
    path = home / f"{stem}_scans.tsv"
    if not path.is_file():
        return {}
    times = {}
    for row in read_table(path, ("filename",), faults, name=str(path.relative_to(root))):
        if row.is_missing("acq_time"):
            continue
        try:
            times[home / row.get("filename").strip()] = datetime.fromisoformat(row.get("acq_time").strip())
        except ValueError:
            faults.append(f"{row.where}: acq_time is {row.get('acq_time')!r}, which is no ISO date and time")
    return times
