"""From a recording that mne has opened to ours: channels in a unit that the file names, events, bad channels, gaps.

mne gives every sample in SI units and a type to every channel, guessed where the file states none. Here a channel keeps
its type only where the format states it, and its unit only where mne's factor is known; otherwise the label decides.
Samples are read on demand, mne's log is quiet, and whatever it raises is one sentence that names file and format.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import BioperceptError, RecordingError, count, library_words
from biopercept.loaders.annotations import bad_at_joins, placed_intervals, plain_label
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.clock import LONGEST_DAYS
from biopercept.loaders.corrections import placed_correction
from biopercept.loaders.identity import identity_notes
from biopercept.loaders.recognition import (
    FORMAT,
    Position,
    SignalOverride,
    is_cap_grid,
    is_reference,
    quantity_of,
    recognise,
    tidy_label,
)
from biopercept.modalities import UNKNOWN
from biopercept.recording import CHANNEL_BAD, Correction, FloatArray, Recording

MOST_CHANNELS = 4096
FASTEST = 1e6
LARGEST_TRIGGERS = 1 << 30
"""Bytes of a file whose trigger channels are searched for events; they lie among the samples, so all of it is read."""
JOINS = frozenset({"boundary", "bad boundary", "edge boundary"})
"""Annotations, in lower case, with which EEGLAB and mne mark where data were joined."""
SKIPPED = "BAD_ACQ_SKIP"
"""mne's annotation of a time in which the recorder kept nothing; it fills it with zeros."""

_MODALITIES = {"ecg": "ecg", "eog": "eog", "emg": "emg", "resp": "resp", "temperature": "temp", "gsr": "eda"}
_INSIDE = frozenset({"seeg", "ecog", "dbs"})
_NO_SENSORS = frozenset({"stim", "exci", "ias", "syst", "chpi", "goodness", "error", "move"})
_NAMES_A_SENSOR = re.compile(r"eog|ecg|ekg|emg|gsr|eda|resp|temp|trig|status|stim|photo|pulse|ppg|acc|aux|ref\b")
_COMPOSITE = ("STI101", "STI201", "STI 014")
_PRIVATE = re.compile(r"(?i)birth|subject|patient|sex|name|hand|his_id|date")
_MATTERS = re.compile(
    r"(?i)truncat|unit|gap|lost|missing|not found|set to zero|corrupt|incorrect|omit|overflow|scal|no 21e"
)
_VALUE = re.compile(r"(?s)(invalid literal for|could not convert|time data|unconverted data|isoformat).*")
_IDLE = re.compile(r"(?i)position|montage|convention|cutoff|highpass|lowpass|software filter")
_WARNINGS = (
    (
        re.compile(r"Omitted (\d+) annotation"),
        "annotation lies outside the recording and is left out",
        "annotations lie outside the recording and are left out",
    ),
    (
        re.compile(r"Limited (\d+) annotation"),
        "annotation reaches beyond the recording and ends with it",
        "annotations reach beyond the recording and end with it",
    ),
)
_FOLDERS = re.compile(r"(?:/[^/\s'\"]+)+/")
_CHUNK_SAMPLES = 1 << 18
_NEAR_METRES = 2e-3


@dataclass
class OpenedRaw:
    """A recording as mne opened it, with what is known of its format.

    ``units`` are those of the samples after mne's values were multiplied by ``factors``, one per channel; without them
    they are what mne says. ``types`` are mne's words for what the file itself says a channel is, empty where it says
    nothing. ``n_samples`` are those that are really there. ``has_zone`` says whether the start is absolute time.
    ``triggers`` says what becomes of trigger channels: "left out", "read" for events, or "known" as annotations of mne.
    """

    path: Path
    format_name: str
    raw: Any
    types: Sequence[str]
    notes: list[str] = field(default_factory=list)
    units: Sequence[str] | None = None
    factors: FloatArray | None = None
    n_samples: int = 0
    has_zone: bool = False
    triggers: str = "left out"


@contextlib.contextmanager
def quiet_mne(path: Path, format_name: str, notes: list[str] | None = None) -> Iterator[None]:
    """Run mne without a word on the terminal; its warnings that matter are added to ``notes``.

    Raises RecordingError, one sentence, for whatever mne raises.
    """
    import mne

    with (
        warnings.catch_warnings(record=True) as caught,
        mne.utils.use_log_level("warning"),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("always")
        try:
            yield
        except BioperceptError:
            raise
        except Exception as fault:
            reason = _sentence(library_words(fault), path) or "nothing more is known"
            raise RecordingError(
                f"{path.name}: the {format_name} file cannot be read ({reason}); it is damaged, or not of that format"
            ) from fault
    if notes is not None:
        texts = (_warning(str(one.message), path) for one in caught)
        notes.extend(dict.fromkeys(text for text in texts if text))


def _warning(text: str, path: Path) -> str:
    """Return the note that a warning of mne is worth; empty for those about what is not used here."""
    for pattern, one, many in _WARNINGS:
        if match := pattern.search(text):
            return count(int(match[1]), one, many)
    return _sentence(text, path) if _MATTERS.search(text) and not _IDLE.search(text) else ""


def _sentence(text: str, path: Path) -> str:
    """Return the first sentence of a message of mne without folders; empty where it may say who was recorded."""
    text = _VALUE.sub(r"\1", text)
    line = plain_label(_FOLDERS.sub("", text.replace(f"{path.parent}/", "")))
    first = re.split(r"(?<=[a-z)'\"])\. ", line)[0].rstrip(".")
    return "" if _PRIVATE.search(re.sub(r"(?i)file ?name|channel names?", "", first)) else first[:200]


def recording_of(opened: OpenedRaw, overrides: Mapping[str, SignalOverride] | None) -> Recording:
    """Return the recording, its samples unread.

    Raises RecordingError where its size or rate cannot be, or no channel is left.
    """
    path, raw, notes = opened.path, opened.raw, opened.notes
    rate, n_samples = float(raw.info["sfreq"]), opened.n_samples or int(raw.n_times)
    check_size(path, rate, n_samples, len(raw.ch_names))
    duration = n_samples / rate
    marks, joins, gaps = _annotations(raw, notes)
    channels = _raw_channels(opened, rate, n_samples, gaps)
    if not channels:
        raise RecordingError(f"{path.name}: the {opened.format_name} file has no channel that is a sensor")
    signals, more = assemble_signals(channels, overrides)
    if opened.triggers == "read":
        marks += _trigger_events(opened, rate, n_samples)
    intervals = placed_intervals(marks, duration, notes)
    notes.extend(_identity(raw.info))
    recording = Recording("", "", path.stem, signals, intervals, _started_at(opened), (*notes, *more))
    joined: list[str] = []
    corrections = bad_at_joins(joins, duration, "boundary", joined)
    recording = replace(recording, notes=(*recording.notes, *joined), corrections=corrections)
    kinds = dict(zip(raw.ch_names, opened.types, strict=True))
    return with_bad_channels(
        recording, [name for name in raw.info["bads"] if kinds[name] not in _NO_SENSORS], path.name
    )


def _identity(info: Any) -> tuple[str, ...]:
    """Return the note that a header names who was recorded or who recorded, where it does."""
    person = info["subject_info"] or {}
    words = [str(person.get(key) or "") for key in ("first_name", "middle_name", "last_name", "his_id", "birthday")]
    number = person.get("id") or 0
    return identity_notes(*words, str(info["experimenter"] or ""), str(number) if number else "")


def check_size(path: Path, rate: float, n_samples: int, n_channels: int) -> None:
    """Raise RecordingError where no recording has that rate, that length or that many channels."""
    if not 0 < rate <= FASTEST:
        raise RecordingError(
            f"{path.name}: the sampling rate is {rate:g} Hz, which no recorder has; the header is damaged"
        )
    if not 1 <= n_channels <= MOST_CHANNELS:
        raise RecordingError(f"{path.name}: {n_channels} channels, read are 1 to {MOST_CHANNELS}")
    if n_samples < 1:
        raise RecordingError(f"{path.name}: no samples follow the header; copy the file again")
    if n_samples / rate > LONGEST_DAYS * 86400:
        raise RecordingError(
            f"{path.name}: {n_samples / rate / 86400:.1f} days at {rate:g} Hz; no recording of more than {LONGEST_DAYS}"
            " days is read, the rate or the number of samples is damaged"
        )


def _annotations(
    raw: Any, notes: list[str]
) -> tuple[list[tuple[float, float, str]], list[float], list[tuple[int, int]]]:
    """Return what mne's annotations are: labelled stretches, joins (s from the first sample), gaps (first, stop)."""
    marks: list[tuple[float, float, str]] = []
    joins: list[float] = []
    gaps: list[tuple[int, int]] = []
    rate, first = float(raw.info["sfreq"]), float(raw.first_time)
    for one in raw.annotations:
        onset, duration, text = float(one["onset"]) - first, float(one["duration"]), str(one["description"])
        onset = 0.0 if -0.5 / rate <= onset < 0 else onset  # a sum of floats
        if text.strip().lower() in JOINS:
            joins.append(onset)
        elif text == SKIPPED:
            gaps.append((max(round(onset * rate), 0), round((onset + duration) * rate)))
        elif text.lower().startswith("bad") and one.get("ch_names"):  # mne gives them where any annotation has some
            marks.extend((onset, duration, f"{text}@@{name}") for name in one["ch_names"])
        else:
            marks.append((onset, duration, text))
    gaps = _merged(gaps)
    if gaps:
        seconds = sum(stop - begin for begin, stop in gaps) / rate
        notes.append(f"discontinuous: {count(len(gaps), 'gap')}, {seconds:.1f} s in all, are missing samples")
    return marks, joins, gaps


def _merged(gaps: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return stretches of samples in order, those that touch or overlap as one."""
    merged: list[tuple[int, int]] = []
    for first, stop in sorted(gaps):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((first, stop))
    return merged


def _raw_channels(opened: OpenedRaw, rate: float, n_samples: int, gaps: Sequence[tuple[int, int]]) -> list[RawChannel]:
    raw, notes = opened.raw, opened.notes
    block = _block(opened, gaps)
    positions = _digitised(raw.info)
    on_grid = is_cap_grid(tuple(raw.ch_names))
    triggers, inside, channels = [], [], []
    for key, label in enumerate(raw.ch_names):
        kind = opened.types[key]
        if kind in _NO_SENSORS:
            triggers.append(label)
            continue
        unit = opened.units[key] if opened.units is not None else _si_unit(raw.info["chs"][key])
        modality = _stated_modality(label, unit, rate, kind, on_grid)
        if kind in _INSIDE:
            inside.append(label)
        channels.append(
            RawChannel(
                label=label,
                unit=unit,
                sampling_rate=rate,
                start_seconds=0.0,
                n_samples=n_samples,
                key=key,
                block=block,
                source=opened.path.name,
                modality=modality,
                recognised_by=FORMAT if modality not in ("", UNKNOWN) else "",
                position=positions.get(label),
            )
        )
    if triggers and opened.triggers == "left out":
        notes.append(f"{len(triggers)} trigger channels are not sensors; left out")
    if inside:
        notes.append(f"{len(inside)} channels inside the head are no scalp EEG and are not used")
    return channels


def _si_unit(channel: Mapping[str, Any]) -> str:
    """Return the unit in which mne gives the samples of a channel; empty where it is none that is known."""
    from mne.io.constants import FIFF

    if int(channel["unit_mul"]) != int(FIFF.FIFF_UNITM_NONE):
        return ""  # mne does not apply it, so a power of ten is open
    units = {int(FIFF.FIFF_UNIT_V): "V", int(FIFF.FIFF_UNIT_S): "S", int(FIFF.FIFF_UNIT_CEL): "degC"}
    return units.get(int(channel["unit"]), "")


def _stated_modality(label: str, unit: str, rate: float, kind: str, on_grid: bool) -> str:
    """Return the modality that the file states; empty where the label decides.

    EEG is what mne calls a channel that nobody gave a type, so a label that names another sensor goes before it.
    """
    if kind in _MODALITIES:
        return _MODALITIES[kind]
    if kind in _INSIDE:
        return UNKNOWN
    if kind != "eeg" or quantity_of(unit) != "voltage" or _NAMES_A_SENSOR.search(label.lower()):
        return ""
    by_label, _ = recognise(label, unit, rate)
    if by_label not in (UNKNOWN, "eeg") or (is_reference(tidy_label(label)) and not on_grid):
        return ""
    return "eeg" if by_label == UNKNOWN or on_grid else ""


def positions_on_head(
    electrodes: Mapping[str, Sequence[float]], landmarks: Mapping[str, Sequence[float]]
) -> dict[str, Position]:
    """Return places of electrodes in mne's head frame, from metres in any frame in which the landmarks are given.

    ``landmarks`` are those of mne (nasion, lpa, rpa); nothing is returned without them, or where they are no head's.
    """
    import mne

    if not electrodes or {"nasion", "lpa", "rpa"} - set(landmarks):
        return {}
    places = {name: np.asarray(place, dtype=float) for name, place in electrodes.items()}
    marks = {name: np.asarray(place, dtype=float) for name, place in landmarks.items()}
    info = mne.create_info(list(places), 1.0, "eeg")
    with warnings.catch_warnings(), mne.utils.use_log_level("error"):
        warnings.simplefilter("ignore")
        try:
            info.set_montage(mne.channels.make_dig_montage(places, **marks, coord_frame="unknown"))
        except (ValueError, RuntimeError, np.linalg.LinAlgError):  # landmarks on a line
            return {}
    return _digitised(info)


def _digitised(info: Any) -> dict[str, Position]:
    """Return the positions of electrodes that were measured on the head, in metres in mne's head frame.

    They are trusted where the landmarks lie where that frame puts them: the ears on the x axis, the nasion on the y
    axis. Landmarks at one distance from the centre are no head's: mne makes them up beside a template on a sphere.
    """
    from mne.io.constants import FIFF

    head = int(FIFF.FIFFV_COORD_HEAD)
    marks = {
        int(point["ident"]): np.asarray(point["r"], dtype=float)
        for point in info["dig"] or ()
        if int(point["kind"]) == int(FIFF.FIFFV_POINT_CARDINAL) and int(point["coord_frame"]) == head
    }
    left, front, right = (
        marks.get(int(ident)) for ident in (FIFF.FIFFV_POINT_LPA, FIFF.FIFFV_POINT_NASION, FIFF.FIFFV_POINT_RPA)
    )
    if left is None or front is None or right is None:
        return {}
    is_frame = max(np.abs(left[1:]).max(), np.abs(right[1:]).max(), abs(front[0]), abs(front[2])) < _NEAR_METRES
    radii = [float(np.linalg.norm(mark)) for mark in (left, front, right)]
    is_head = left[0] < -0.04 and right[0] > 0.04 and front[1] > 0.04 and max(radii) < 0.2
    if not (is_frame and is_head) or max(radii) - min(radii) < 1e-6:
        return {}
    positions: dict[str, Position] = {}
    for channel in info["chs"]:
        place = np.asarray(channel["loc"][:3], dtype=float)
        if int(channel["coord_frame"]) == head and 0.02 < float(np.linalg.norm(place)) < 0.2:
            positions[channel["ch_name"]] = (float(place[0]), float(place[1]), float(place[2]))
    return positions


def _block(opened: OpenedRaw, gaps: Sequence[tuple[int, int]]) -> BlockReader:
    """Return the reader of the channels, in the units of ``opened``, NaN where the recorder kept nothing."""
    raw, path = opened.raw, opened.path

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        if stop <= start:
            return np.empty((len(keys), 0))
        lost: list[str] = []
        with quiet_mne(path, opened.format_name, lost):
            samples = np.array(raw.get_data(picks=list(keys), start=start, stop=stop), dtype=np.float64)
        if any("set to zero" in note for note in lost):
            raise RecordingError(f"{path.name}: a piece of the samples cannot be read; copy the file again")
        if samples.shape != (len(keys), stop - start):
            raise RecordingError(f"{path.name}: the file became shorter while it was read; load it again")
        if opened.factors is not None:
            samples *= opened.factors[list(keys), None]
        for first, last in gaps:
            samples[:, max(first - start, 0) : max(last - start, 0)] = np.nan
        return samples

    return read


def _trigger_events(opened: OpenedRaw, rate: float, n_samples: int) -> list[tuple[float, float, str]]:
    """Return the times at which trigger channels have a value other than 0, each as (onset, duration, value)."""
    names = [name for name, kind in zip(opened.raw.ch_names, opened.types, strict=True) if kind == "stim"]
    names = [name for name in _COMPOSITE if name in names][:1] or names
    if not names:
        return []
    if n_samples * len(opened.raw.ch_names) * 4 > LARGEST_TRIGGERS:
        opened.notes.append(
            f"the trigger channels ({plain_label(', '.join(names))}) lie among more than {LARGEST_TRIGGERS >> 30} GB of"
            " samples and are not read; give the events as annotations or in the study's table"
        )
        return []
    read = _block(opened, ())
    events: list[tuple[float, float, str]] = []
    for name in names:
        key = opened.raw.ch_names.index(name)
        runs = _runs(read, key, n_samples)
        if len(runs) > max(n_samples // 4, 16):
            opened.notes.append(
                f"{plain_label(name)}: changes from sample to sample, so it holds no triggers; left out"
            )
            continue
        prefix = f"{name}/" if len(names) > 1 else ""
        events.extend((first / rate, (stop - first) / rate, f"{prefix}{value}") for first, stop, value in runs)
    return events


def _runs(read: BlockReader, key: int, n_samples: int) -> list[tuple[int, int, int]]:
    """Return (first sample, stop, value) of every stretch of one value other than 0 of a channel."""
    runs: list[tuple[int, int, int]] = []
    for start in range(0, n_samples, _CHUNK_SAMPLES):
        piece = read([key], start, min(start + _CHUNK_SAMPLES, n_samples))[0]
        values = np.round(np.nan_to_num(piece, posinf=0.0, neginf=0.0)).astype(np.int64)
        changes = np.flatnonzero(np.diff(values)) + 1
        for first, stop in zip([0, *changes.tolist()], [*changes.tolist(), len(values)], strict=True):
            value = int(values[first])
            if value and runs and runs[-1][1:] == (start + first, value):
                runs[-1] = (runs[-1][0], start + stop, value)  # goes on from the piece before
            elif value:
                runs.append((start + first, start + stop, value))
    return runs


def _started_at(opened: OpenedRaw) -> datetime | None:
    """Return the time of the first sample, with a zone only where the format's time is absolute."""
    date = opened.raw.info["meas_date"]
    if date is None:
        return None
    try:
        moment: datetime = date + timedelta(seconds=float(opened.raw.first_time))
    except OverflowError:
        return None
    return moment if opened.has_zone else moment.replace(tzinfo=None)


def with_bad_channels(recording: Recording, labels: Iterable[str], source: str) -> Recording:
    """Return the recording with the channels that its file, ``source``, marks as bad as corrections and in notes."""
    bad: list[Correction] = []
    strange: list[str] = []
    for label in labels:
        placed = placed_correction(Correction(CHANNEL_BAD, source=source), tidy_label(label), recording)
        if isinstance(placed, str):
            strange.append(label)
        else:
            bad.append(placed)
    notes = recording.notes
    if bad:
        notes = (
            *notes,
            f"{count(len(bad), 'channel that the file marks as bad is', 'channels that the file marks as bad are')}"
            f" not used",
        )
    if strange:
        words = plain_label(", ".join(strange))
        notes = (*notes, f"channels that the file marks as bad and that are not there: {words}")
    return replace(recording, notes=notes, corrections=(*bad, *recording.corrections))
