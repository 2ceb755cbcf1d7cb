"""What the files of a recording say of themselves, without their samples: sensors, length, and that they are damaged.

Formats with a header are opened by their readers, which read samples on demand. Of text only the first lines are read,
as a file of their own; its length is taken from its size.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from biopercept.errors import BioperceptError, listed
from biopercept.files import temporary_prefix
from biopercept.loaders.folders import is_known
from biopercept.loaders.formats import HEADER, TEXT, format_of
from biopercept.loaders.glance import glance_at
from biopercept.loaders.loading import load_recording
from biopercept.loaders.sidecars import sidecars_of
from biopercept.modalities import MODALITIES
from biopercept.recording import Recording, Signal
from biopercept.studies.loading import Span, load_entry
from biopercept.studies.structure import Entry, Study

MOST_LOOKED_AT = 100
"""Recordings whose headers ``check`` reads; --recordings opens all."""
_MOST_SOUND = 3
"""Whole files that are read and are sound though their first lines are not, before no more are read."""
_FIRST_BYTES = 1 << 16
_LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class Sensor:
    """A measured modality of one recording: sampling rate (Hz) and number of channels."""

    modality: str
    sampling_rate: float
    n_channels: int


@dataclass(frozen=True)
class Header:
    """What the files of one recording say; ``seconds`` is its length, None where it is not known.

    ``is_exact`` is whether the length is that of all files, and not estimated from the first lines of one.
    """

    sensors: tuple[Sensor, ...]
    seconds: float | None
    is_exact: bool = True


def header_of(study: Study, entry: Entry, *, is_opened: bool = False) -> Header | None:
    """Return what the files of a recording say of themselves; None where a file says nothing, or cannot be read.

    With ``is_opened`` the recording is loaded whatever its formats.
    """
    try:
        return _read(study, entry, is_opened=is_opened)
    except (BioperceptError, OSError, ValueError):
        return None  # check and prepare say what is wrong with it


def _read(study: Study, entry: Entry, *, is_opened: bool = False) -> Header | None:
    study = replace(study, tasks={}, is_aligned=False)  # ratings and alignment read samples
    kinds = [HEADER if is_opened else _told_by(file.path) for file in entry.files]
    if not kinds or not all(kinds):
        return None
    if TEXT not in kinds:
        recording = load_entry(study, entry)
        return Header(_sensors_in([recording]), recording.duration_seconds or None)
    return _of_first_lines(study, entry, kinds)


def looked_at(study: Study) -> tuple[dict[int, Span], list[str]]:
    """Return where the recordings of a study begin and end, by their place in it, and what is wrong with their files.

    Files that hold nothing are found in the whole study, others among :data:`MOST_LOOKED_AT` recordings, spread over
    it. What the first lines of a text cannot be read for is said only where the whole file has the same fault.
    """
    spans: dict[int, Span] = {}
    faults: list[str] = []
    n_sound = 0
    step = max(1.0, len(study.entries) / MOST_LOOKED_AT)
    chosen = {int(number * step) for number in range(MOST_LOOKED_AT)}
    for place, entry in enumerate(study.entries):
        if empty := [file.path.name for file in entry.files if file.path.is_file() and not file.path.stat().st_size]:
            faults.append(f"{entry.where}: {listed(empty)}: the file is empty (0 bytes)")
            continue
        if place not in chosen:
            continue
        header = None
        if any(file.path.exists() and not is_known(file.path) for file in entry.files):
            faults.append(f"{entry.where}: {_fault_of(study, entry)}")
            continue
        try:
            header = _read(study, entry)
        except (BioperceptError, OSError, ValueError):
            fault = _fault_of(study, entry) if n_sound < _MOST_SOUND else ""
            n_sound += not fault
            faults += [f"{entry.where}: {fault}"] if fault else []
        if header is not None and header.seconds is not None:
            spans[place] = Span(0.0, header.seconds, is_exact=header.is_exact)
    return spans, faults


def why_unreadable(path: Path) -> str:
    """Return why a file cannot be read, by its header or its first lines; empty where it can."""
    try:
        if _told_by(path) == TEXT:
            with _first_lines(path) as (first, _):
                load_recording(first)
            return ""
    except (BioperceptError, OSError, ValueError):
        pass  # what is wrong with the first lines need not be wrong with the file
    try:
        load_recording(path)
    except BioperceptError as fault:
        return str(fault)
    return ""


def _fault_of(study: Study, entry: Entry) -> str:
    """Return why a recording cannot be loaded; empty where it can."""
    try:
        load_entry(replace(study, tasks={}, is_aligned=False), entry)
    except BioperceptError as fault:
        return str(fault).removeprefix(f"{entry.title}: ")
    return ""


def _told_by(path: Path) -> str:
    try:
        form = format_of(glance_at(path, is_folder=path.is_dir()))
    except (BioperceptError, OSError, ValueError):
        return HEADER if path.with_name(f"{path.name}.hea").is_file() else ""
    return "" if form is None else form.told_by


def _of_first_lines(study: Study, entry: Entry, kinds: Sequence[str]) -> Header:
    """Return what the first lines of a recording's text files say, and the headers of its others."""
    recordings, seconds = [], []
    is_exact = all(file.offset_seconds in (None, 0.0) for file in entry.files)
    for file, kind in zip(entry.files, kinds, strict=True):
        alone = replace(entry, files=(file,), intervals=(), condition=None, exceptions=())
        if kind != TEXT:
            recording = load_entry(study, alone)
            seconds.append(recording.duration_seconds)
        else:
            with _first_lines(file.path) as (first, ratios):
                recording = load_entry(study, replace(alone, files=(replace(file, path=first),)))
            is_exact = is_exact and max(ratios.values(), default=1.0) == 1.0
            seconds += [
                signal.duration_seconds * _ratio_of(signal, ratios) for signal in recording.signals if signal.is_regular
            ]
        recordings.append(recording)
    length = max(seconds, default=0.0)
    return Header(_sensors_in(recordings), length if length >= _LEAST_SECONDS else None, is_exact)


def _ratio_of(signal: Signal, ratios: Mapping[str, float]) -> float:
    """Return how many times as long a signal is as the first lines of its file; of a folder the file of its name."""
    return ratios.get(signal.source) or ratios.get(f"{signal.name}.csv") or min(ratios.values(), default=1.0)


@contextmanager
def _first_lines(path: Path) -> Iterator[tuple[Path, Mapping[str, float]]]:
    """Give a copy of the first lines of a file, or of the files of a folder, and how many times as long each is."""
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        place = Path(folder) / path.name
        if not path.is_dir():
            for sidecar in reversed(sidecars_of(path)):  # the nearest last, under the name that is looked for first
                shutil.copyfile(sidecar, Path(folder) / sidecar.name)
            yield place, {place.name: _copy(path, place)}
            return
        place.mkdir()
        yield place, {file.name: _copy(file, place / file.name) for file in sorted(path.glob("*.csv"))}


def _copy(source: Path, target: Path) -> float:
    """Write the first whole lines of a text, unpacked under its name, and return its size as a multiple of theirs."""
    with source.open("rb") as stream:
        packed = stream.read(_FIRST_BYTES)
        size = source.stat().st_size
        first = packed
        if packed[:2] == b"\x1f\x8b":
            first = zlib.decompressobj(wbits=31).decompress(packed, _FIRST_BYTES)
            stream.seek(-4, 2)
            size = struct.unpack("<I", stream.read(4))[0]  # modulo 4 GiB; such texts are not read
    if len(first) < size:
        first = first[: first.rfind(b"\n") + 1]
    target.write_bytes(first)
    return max(size / len(first), 1.0) if first else 1.0


def _sensors_in(recordings: Sequence[Recording]) -> tuple[Sensor, ...]:
    sensors: dict[str, Sensor] = {}
    for signal in (signal for recording in recordings for signal in recording.signals):
        row = MODALITIES.get(signal.modality)
        if row is None or row.is_derived:
            continue
        before = sensors.get(signal.modality)
        rate = max(signal.sampling_rate, before.sampling_rate if before else 0.0)
        n_channels = signal.n_channels + (before.n_channels if before else 0)
        sensors[signal.modality] = Sensor(signal.modality, rate, n_channels)
    return tuple(sensors[name] for name in sorted(sensors))
