"""EEGLAB recordings (.set, with or without .fdt), checked here and read through mne.

A .set is a MATLAB file, 5 or 7.3: its elements are sized, unpacked, before any is read, and the name of the file with
the samples must not lead out of the folder. EEGLAB keeps no unit: it works in microvolts, and so does mne.

References
----------
Delorme A, Makeig S. EEGLAB: an open source toolbox for analysis of single-trial EEG dynamics. J Neurosci Methods
2004;134:9-21. doi:10.1016/j.jneumeth.2003.10.009. MAT-File format, version 5. Natick: The MathWorks; 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from biopercept.errors import RecordingError
from biopercept.loaders.identity import identity_notes
from biopercept.loaders.libraries import library_for
from biopercept.loaders.readers.hdf5 import MOST_OBJECTS, checked, members, opened, text_of
from biopercept.loaders.readers.matlab import LARGEST_VARIABLES, check_variables
from biopercept.loaders.readers.mne_raws import MOST_CHANNELS, OpenedRaw, check_size, quiet_mne, recording_of
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Recording

_REMEDY = "save the samples in a .fdt beside it (EEGLAB: File, Memory and other options, save two files)"
_KNOWN_TYPES = frozenset(
    {"eeg", "eog", "ecg", "emg", "misc", "stim", "resp", "bio", "gsr", "temperature", "seeg", "ecog"}
)
_OTHER_WORDS = {"ekg": "ecg", "heog": "eog", "veog": "eog", "trigger": "stim", "eda": "gsr", "temp": "temperature"}


@dataclass(frozen=True)
class EeglabHeader:
    """What a .set says of itself; ``types`` are mne's words for the types of channels, empty where it gives none."""

    n_channels: int
    n_points: int
    samples_name: str
    types: tuple[str, ...]
    cut_seconds: float
    notes: tuple[str, ...] = ()


def is_eeglab(path: Path, first_bytes: bytes) -> bool:
    """Return whether a file is a .set of EEGLAB, or the samples beside one."""
    suffix = path.suffix.lower()
    if suffix == ".fdt":
        return True
    return suffix == ".set" and first_bytes.startswith((b"MATLAB 5.0", b"MATLAB 7.3", b"\x89HDF\r\n\x1a\n"))


def load_eeglab(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a continuous .set; samples in a .fdt are read on demand, others lie in memory.

    Events become intervals. A boundary, where data were cut out and the rest joined, is masked.

    Raises RecordingError where the set holds epochs, names samples outside its folder, or is damaged.
    """
    import mne

    file = path
    if path.suffix.lower() == ".fdt":
        file = next((one for end in (".set", ".SET") if (one := path.with_suffix(end)).is_file()), path)
        if file == path:
            raise RecordingError(f"{path.name}: samples of an EEGLAB set whose .set is not beside them; name the .set")
    header = read_eeglab_header(file)
    notes = list(header.notes)
    n_samples = _n_samples(file, header, notes)
    library_for(file, "pymatreader")  # mne reads such files through it
    with quiet_mne(file, "EEGLAB", notes):
        raw = mne.io.read_raw_eeglab(file, preload=False)
    if header.cut_seconds > 0:
        notes.append(f"{header.cut_seconds:.1f} s were cut out of the recording at its boundaries")
    types = header.types if len(header.types) == len(raw.ch_names) else ("",) * len(raw.ch_names)
    return recording_of(OpenedRaw(file, "EEGLAB", raw, types, notes, n_samples=n_samples), overrides)


def read_eeglab_header(path: Path) -> EeglabHeader:
    """Return what a .set says, without its samples where they lie in their own variable.

    Raises RecordingError where it is damaged, of a kind that is not read, or holds epochs.
    """
    with path.open("rb") as stream:
        is_version_5 = stream.read(10) == b"MATLAB 5.0"
    if is_version_5:
        check_variables(path, _REMEDY)
    values = _variables(path) if is_version_5 else _variables_of_hdf5(path)
    n_trials = _whole(path, values, "trials", 1)
    if n_trials > 1:
        raise RecordingError(
            f"{path.name}: {n_trials} epochs have no time of a recording; save the continuous data set, from before it"
            " was cut into epochs"
        )
    n_channels = _whole(path, values, "nbchan", MOST_CHANNELS)
    n_points = _whole(path, values, "pnts", 1 << 40)
    rate = values.get("srate")
    check_size(path, float(rate) if isinstance(rate, (int, float)) else math.nan, n_points, n_channels)
    data = values.get("data", "")
    return EeglabHeader(
        n_channels,
        n_points,
        data if isinstance(data, str) else "",
        _types(values.get("chanlocs"), n_channels),
        _cut_seconds(values),
        identity_notes(str(values.get("subject", "")).strip("[]")),
    )


def _variables(path: Path) -> dict[str, Any]:
    """Return the fields of the set; a numeric variable ``data``, the samples, stays unread."""
    from scipy.io import loadmat, whosmat

    with quiet_mne(path, "EEGLAB"):
        names = [name for name, _, kind in whosmat(path) if name != "data" or kind == "char"]
        values: dict[str, Any] = loadmat(path, variable_names=names, squeeze_me=True, struct_as_record=False)
    for _ in range(2):  # mne looks one level deeper, too
        inner = values.get("EEG")
        if inner is None:
            break
        values = _fields(inner)
    if "nbchan" not in values:
        raise RecordingError(f"{path.name}: a MATLAB file that holds no EEGLAB data set (EEG); name a .set")
    return values


def _variables_of_hdf5(path: Path) -> dict[str, Any]:
    """Return the fields of a set in MATLAB 7.3, which is HDF5; numbers called ``data``, the samples, stay unread.

    Raises RecordingError where it points out of itself, or holds more than is read.
    """
    read_mat = library_for(path, "pymatreader").read_mat
    with opened(path) as file:
        _check_objects(path, file)
        top = file["EEG"] if "EEG" in file and "nbchan" not in file else file
        data = top.get("data") if hasattr(top, "get") else None
        is_name = data is not None and text_of(data.attrs.get("MATLAB_class", "")) == "char"
    with quiet_mne(path, "EEGLAB"):
        values: dict[str, Any] = read_mat(path, ignore_fields=() if is_name else ("data",))
        values = values.get("EEG", values)
    if not isinstance(values, dict) or "nbchan" not in values:
        raise RecordingError(f"{path.name}: a MATLAB file that holds no EEGLAB data set (EEG); name a .set")
    return values


def _check_objects(path: Path, file: Any) -> None:
    """Raise RecordingError where a file of HDF5 links elsewhere, or its data sets are more than is read."""
    import h5py

    groups, total = [file], 0
    addresses = {h5py.h5o.get_info(file.id).addr}
    while groups:
        group = groups.pop()
        names = members(group)
        if len(names) < len(group):
            raise RecordingError(f"{path.name}: has links to elsewhere, which are not followed; save the set again")
        for name in names:
            thing = group[name]
            address = h5py.h5o.get_info(thing.id).addr
            if address in addresses:
                continue
            addresses.add(address)
            if len(addresses) > MOST_OBJECTS:
                raise RecordingError(f"{path.name}: more than {MOST_OBJECTS} fields, which no EEGLAB set has")
            if isinstance(thing, h5py.Group):
                groups.append(thing)
            elif isinstance(thing, h5py.Dataset) and thing.shape is not None:
                checked(path, thing)
                total += thing.size * thing.dtype.itemsize
                if total > LARGEST_VARIABLES:
                    raise RecordingError(
                        f"{path.name}: its variables unpack to more than {LARGEST_VARIABLES >> 20} MB; {_REMEDY}"
                    )


def _rows(table: Any) -> list[Any]:
    """Return the rows of a table of MATLAB, each with its fields as attributes, however it was read."""
    if hasattr(table, "_fieldnames"):
        return [table]
    if isinstance(table, dict):  # of MATLAB 7.3: a list by field, or one value of each where there is one row
        columns = {name: cells if isinstance(cells, list) else [cells] for name, cells in table.items()}
        n_rows = max(map(len, columns.values()), default=0)
        full = {name: cells for name, cells in columns.items() if len(cells) == n_rows}
        return [SimpleNamespace(**dict(zip(full, row, strict=True))) for row in zip(*full.values(), strict=True)]
    try:
        return list(table)
    except TypeError:
        return []


def _fields(struct_: Any) -> dict[str, Any]:
    return {name: getattr(struct_, name) for name in getattr(struct_, "_fieldnames", ())}


def _whole(path: Path, values: Mapping[str, Any], name: str, most: int) -> int:
    """Return a field that is a count. Raises RecordingError where it is none, or too large, but for trials."""
    try:
        value = float(values.get(name, 1))
    except (TypeError, ValueError):
        value = math.nan
    if not (value >= 1 and value == int(value)) or (value > most and name != "trials"):
        raise _fault(path, f"{name} is not a whole number from 1 to {most}")
    return int(value)


def _fault(path: Path, what: str) -> RecordingError:
    return RecordingError(f"{path.name}: {what}; the EEGLAB set is damaged, save it again")


def _n_samples(path: Path, header: EeglabHeader, notes: list[str]) -> int:
    """Return the samples of each channel that are there. Raises RecordingError where their file is not beside it."""
    if not header.samples_name:
        return header.n_points
    name = header.samples_name
    if "/" in name or "\\" in name or name in (".", "..") or "\x00" in name:
        raise RecordingError(
            f"{path.name}: names {name!r} as its samples, which may lie outside its folder; it must be a file beside it"
        )
    if not name.lower().endswith(".fdt"):
        raise RecordingError(
            f"{path.name}: its samples are in {name!r}; only .fdt is read, save the set again in EEGLAB"
        )
    named, alike = path.with_name(name), path.with_suffix(".fdt")
    file = next((one for one in (named, alike) if one.is_file()), None)
    if file is None:
        raise RecordingError(f"{path.name}: its samples, {name!r}, are not beside it; copy them")
    if file != named:
        notes.append(f"the set names {name!r}, which is not there; {file.name} is read")
    n_there, stray = divmod(file.stat().st_size, 4 * header.n_channels)
    if n_there < 1:
        raise RecordingError(f"{path.name}: {file.name} does not fill one sample of {header.n_channels} channels")
    if n_there < header.n_points:
        notes.append(f"{file.name} is cut: {n_there} of {header.n_points} samples are there and used")
    elif n_there > header.n_points or stray:
        notes.append(
            f"{file.name} holds more than the {header.n_points} samples that the set says; the rest is left out"
        )
    return min(n_there, header.n_points)


def _types(locations: Any, n_channels: int) -> tuple[str, ...]:
    """Return the types that the table of channels states, in mne's words; EEG too where only a place on the head is."""
    rows = _rows(locations)
    if len(rows) != n_channels:
        return ("",) * n_channels
    return tuple(_type(row) for row in rows)


def _type(row: Any) -> str:
    stated = getattr(row, "type", "")
    word = stated.strip().lower() if isinstance(stated, str) else ""
    word = _OTHER_WORDS.get(word, word)
    if word:
        return word if word in _KNOWN_TYPES else ""
    places = [getattr(row, axis, None) for axis in "XYZ"]
    return "eeg" if all(isinstance(place, (int, float)) and math.isfinite(place) for place in places) else ""


def _cut_seconds(values: Mapping[str, Any]) -> float:
    """Return the seconds that boundaries say were cut out; 0 where they do not say."""
    rows = _rows(values.get("event"))
    lengths = [
        getattr(row, "duration", None) for row in rows if str(getattr(row, "type", "")).strip().lower() == "boundary"
    ]
    points = [float(n) for n in lengths if isinstance(n, (int, float)) and math.isfinite(n) and n > 0]
    rate = values.get("srate")
    return sum(points) / float(rate) if isinstance(rate, (int, float)) and rate > 0 else 0.0
