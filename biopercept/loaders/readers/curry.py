"""Curry recordings of Compumedics Neuroscan: samples (.cdt, or .dat of Curry 7) and the texts beside them.

They are read here and not through mne, whose reader takes all samples into memory. The tests compare this reader with
mne's where the library that it needs is installed.

References
----------
Compumedics Neuroscan. curryreader: file reader for Compumedics Neuroscan data formats, version 0.1.2.
https://pypi.org/project/curryreader
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError
from biopercept.loaders.annotations import placed_intervals
from biopercept.loaders.assembly import RawChannel, assemble_signals
from biopercept.loaders.readers.brainvision import header_text
from biopercept.loaders.readers.mne_raws import MOST_CHANNELS, check_size
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.stored_samples import StoredSamples
from biopercept.recording import Recording

PARTS = (".cdt.dpa", ".cdt.dpo", ".cdt.cef", ".cdt.ceo", ".cdt.hpi", ".dap", ".rs3", ".cef", ".ceo")
"""Endings of the texts beside the samples."""
_PACKED = "{2912E8D8-F5C8-4E25-A8E7-A1385967DA09}"
_FIELD = re.compile(r"(?m)^[ \t]*(?P<name>[A-Za-z_]\w*)[ \t]*=[ \t]*(?P<value>[^\r\n]*?)[ \t]*\r?$")
_LIST = r"(?ms)^{}(?P<group>\w*) START_LIST[^\n]*\n(?P<rows>.*?)^{}(?P=group) END_LIST"
_GROUP = re.compile(
    r"(?ms)^DEVICE_PARAMETERS(?P<group>\w*) START\s*$(?P<fields>.*?)^DEVICE_PARAMETERS(?P=group) END\s*$"
)
_OLD_NAMES = {
    "numsamples": "num_samples",
    "numchannels": "num_channels",
    "numtrials": "num_trials",
    "samplefreqhz": "sample_freq_hz",
    "sampletimeusec": "sample_time_usec",
    "dataformat": "data_format",
    "datasamporder": "data_samp_order",
}
"""Names of fields, in lower case, and how Curry 6 wrote them."""
_START = ("startyear", "startmonth", "startday", "starthour", "startmin", "startsec", "startmillisec")
_EVENT_CELLS = 11


@dataclass(frozen=True)
class CurryFiles:
    """The files of one recording: samples, parameters, labels (the same in Curry 8) and events, where there are any."""

    samples: Path
    parameters: Path
    labels: Path
    events: Path | None


def is_curry(path: Path) -> bool:
    """Return whether a file is of a Curry recording, by its name and those beside it."""
    name = path.name.lower()
    if name.endswith(".dat"):
        return path.with_suffix(".dap").is_file()
    return name.endswith((".cdt", *PARTS))


def load_curry(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording that a file of Curry belongs to, its samples unread; events become intervals.

    Raises RecordingError where a file is missing or damaged, holds epochs, or its samples are packed or text.
    """
    files = curry_files(path)
    notes: list[str] = []
    text = header_text(files.parameters)
    fields = _fields(text)
    _check_kind(files, fields)
    n_channels = _whole(files, fields, "numchannels", MOST_CHANNELS)
    rate = _rate(files, fields)
    n_samples = _n_samples(files, fields, n_channels, notes)
    check_size(files.samples, rate, n_samples, n_channels)
    labels, units = _channels(files, text, n_channels)
    stored = StoredSamples(files.samples, np.dtype("<f4"), np.ones(n_channels), n_samples)
    block = stored.block()
    channels = [
        RawChannel(label, unit, rate, 0.0, n_samples, key, block, files.samples.name)
        for key, (label, unit) in enumerate(zip(labels, units, strict=True))
    ]
    signals, more = assemble_signals(channels, overrides)
    marks = [] if files.events is None else list(_events(header_text(files.events), rate))
    intervals = placed_intervals(marks, n_samples / rate, notes)
    name = files.samples.name[: -len(".cdt")]
    return Recording("", "", name, signals, intervals, _started_at(fields), (*notes, *more))


def curry_files(path: Path) -> CurryFiles:
    """Return the files of the recording that a file belongs to.

    Raises RecordingError where the samples or their parameters are not beside it.
    """
    lower = path.name.lower()
    ending = next((one for one in (*PARTS, ".cdt", ".dat") if lower.endswith(one)), "")
    stem = path.name[: len(path.name) - len(ending)]
    is_new = ".cdt" in ending
    samples = _beside(path, stem, ".cdt" if is_new else ".dat")
    texts = {one: _beside(path, stem, one) for one in PARTS}
    parameters = texts[".cdt.dpa"] or texts[".cdt.dpo"] if is_new else texts[".dap"]
    events = texts[".cdt.cef"] or texts[".cdt.ceo"] if is_new else texts[".cef"] or texts[".ceo"]
    wanted = "x.cdt and x.cdt.dpa (or .dpo)" if is_new else "x.dat, x.dap and x.rs3"
    labels = parameters if is_new else texts[".rs3"]
    if samples is None or parameters is None or labels is None:
        raise RecordingError(
            f"{path.name}: a Curry recording of which a part is not beside it; it is {wanted}, copy them together"
        )
    return CurryFiles(samples, parameters, labels, events)


def _beside(path: Path, stem: str, ending: str) -> Path | None:
    names = (stem + ending, stem + ending.upper(), stem + ending.replace(".cdt", ".CDT"))
    return next((file for name in names if (file := path.with_name(name)).is_file()), None)


def _fault(file: Path, what: str) -> RecordingError:
    return RecordingError(f"{file.name}: {what}; the Curry file is damaged, export the recording again")


def _fields(text: str) -> dict[str, str]:
    """Return the fields of a text, names in lower case as Curry 7 and later write them; the first of a name counts."""
    fields: dict[str, str] = {}
    for match in _FIELD.finditer(text):
        fields.setdefault(match["name"].lower(), match["value"])
    return fields | {new: fields[old] for new, old in _OLD_NAMES.items() if new not in fields and old in fields}


def _check_kind(files: CurryFiles, fields: Mapping[str, str]) -> None:
    """Refuse what is no continuous recording of plain numbers, sample after sample."""
    name = files.samples.name
    if fields.get("dataguid", "").upper() == _PACKED:
        raise RecordingError(f"{name}: packed samples of Curry are not read; save it in Curry as raw float")
    if fields.get("dataformat", "RAW").upper() == "ASCII":
        raise RecordingError(f"{name}: samples as text are not read; save it in Curry as raw float")
    if fields.get("datasamporder", "SAMP").upper() == "CHAN":
        raise RecordingError(f"{name}: samples channel by channel are not read; save it in Curry sample by sample")
    n_trials = _number(fields.get("numtrials", "1"))
    if n_trials > 1:
        raise RecordingError(
            f"{name}: {n_trials:.0f} epochs have no time of a recording; save the continuous recording"
        )


def _number(text: str) -> float:
    try:
        return float(text) if "_" not in text else math.nan
    except ValueError:
        return math.nan


def _whole(files: CurryFiles, fields: Mapping[str, str], name: str, most: int) -> int:
    value = _number(fields.get(name, ""))
    if not (1 <= value <= most and value == int(value)):
        raise _fault(files.parameters, f"{name} is {fields.get(name, '')[:40]!r}, not a whole number from 1 to {most}")
    return int(value)


def _rate(files: CurryFiles, fields: Mapping[str, str]) -> float:
    """Return the sampling rate, by the distance of samples where that is given: the rate beside it is rounded."""
    distance, rate = _number(fields.get("sampletimeusec", "0")), _number(fields.get("samplefreqhz", "0"))
    if distance > 0:
        if rate > 0 and not math.isclose(1e6 / distance, rate, rel_tol=1e-3):
            raise _fault(files.parameters, f"samples every {distance:g} us and {rate:g} Hz contradict each other")
        return 1e6 / distance
    return rate


def _n_samples(files: CurryFiles, fields: Mapping[str, str], n_channels: int, notes: list[str]) -> int:
    """Return the samples of every channel that are there; a number of -1 in the header means all."""
    stated = _number(fields.get("numsamples", "-1"))
    n_there, stray = divmod(files.samples.stat().st_size, 4 * n_channels)
    if n_there < 1:
        raise RecordingError(f"{files.samples.name}: does not fill one sample of {n_channels} channels")
    if stated > n_there:
        notes.append(f"{files.samples.name} is cut: {n_there} of {stated:.0f} samples are there and used")
    elif 0 <= stated < n_there or stray:
        notes.append(
            f"the header says {stated:.0f} samples, {n_there} are there, and {stray} bytes; all samples are used"
        )
    return n_there


def _rows(text: str, name: str) -> list[str]:
    """Return the rows of the lists of a name, those of every group of channels one after the other."""
    lists = re.finditer(_LIST.format(name, name), text)
    return [row.strip() for one in lists for row in one["rows"].splitlines() if row.strip()]


def _channels(files: CurryFiles, text: str, n_channels: int) -> tuple[list[str], list[str]]:
    """Return label and unit of each channel in the order of the samples.

    Raises RecordingError where the texts do not name as many as there are.
    """
    labels = _rows(header_text(files.labels), "LABELS")
    units: list[str] = []
    for group in _GROUP.finditer(text):
        fields = _fields(group["fields"])
        n_group = _number(fields.get("numchanthisgroup", "0"))
        units += [fields.get("dataunit", "")] * (int(n_group) if 0 <= n_group <= MOST_CHANNELS else 0)
    places = [_number(row) for row in _rows(text, "CHAN_IN_FILE")]
    if len(places) == len(labels) == len(units) and sorted(p for p in places if p > 0) == list(
        range(1, n_channels + 1)
    ):
        order = [place for place in np.argsort(places, kind="stable") if places[place] > 0]
        labels, units = [labels[i] for i in order], [units[i] for i in order]
    if len(labels) != n_channels or len(units) != n_channels:
        raise _fault(
            files.parameters, f"{n_channels} channels, and {len(labels)} labels and {len(units)} units of them"
        )
    return labels, units


def _events(text: str, rate: float) -> Iterator[tuple[float, float, str]]:
    """Give the events of a text as (onset, duration, label): the remark of an event, or its type where it has none."""
    remarks = re.search(_LIST.format("REMARK_LIST", "REMARK_LIST"), text)
    words = [row.strip() for row in remarks["rows"].splitlines()] if remarks else []
    for number, row in enumerate(_rows(text, "NUMBER_LIST")):
        cells = [_number(cell) for cell in row.split()]
        if len(cells) != _EVENT_CELLS:
            yield math.nan, 0.0, ""
            continue
        remark = words[number] if number < len(words) else ""
        label = remark or (f"{cells[2]:.0f}" if math.isfinite(cells[2]) else "")
        yield cells[0] / rate, (cells[5] - cells[4]) / rate, label


def _started_at(fields: Mapping[str, str]) -> datetime | None:
    """Return the device's start, without a zone; None where none is given."""
    values: Sequence[float] = [_number(fields.get(name, "")) for name in _START]
    try:
        year, month, day, hour, minute, second, thousandths = (int(value) for value in values)
        return datetime(year, month, day, hour, minute, second, thousandths * 1000)
    except (ValueError, OverflowError):
        return None
