"""EGI recordings in Net Station's own format (.mff): a folder of XML texts and of samples in blocks, read on demand.

They are read here and not through mne, which needs a library for them that mne and this package need for nothing else,
and keeps a number for every sample of the recording. The tests compare this reader with mne's where that is installed.

References
----------
Brain Electrophysiology Laboratory. mffpy: reader and writer of the MFF file format, version 0.11.
https://pypi.org/project/mffpy
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import RecordingError, count
from biopercept.loaders.annotations import placed_intervals
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.readers.mne_raws import MOST_CHANNELS, check_size, positions_on_head, with_bad_channels
from biopercept.loaders.recognition import FORMAT, Position, SignalOverride
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray, Recording

LARGEST_TEXT = 64 << 20
MOST_BLOCKS = 2_000_000
_NAME = re.compile(r"signal(\d{1,3})\.bin")
_FRACTION = re.compile(r"\.(\d{6})(\d{3})?(?=[+-])")
_EEG, _REFERENCE = "0", "1"
"""Types of sensors in a layout."""
_LANDMARKS = {"Nasion": "nasion", "Left periauricular point": "lpa", "Right periauricular point": "rpa"}
_PULSES = frozenset({"sync", "TREV"})
"""Codes of events with which the amplifier keeps its clocks together, and nothing happened."""


@dataclass(frozen=True)
class _Block:
    """Samples in one piece: of each channel ``n_samples`` floats, channel after channel, from ``offset`` on."""

    offset: int
    n_samples: int


@dataclass(frozen=True)
class _Epoch:
    """A stretch without a gap: when it begins (s), and its first and last block, from 1."""

    begin: float
    first_block: int
    last_block: int


@dataclass(frozen=True)
class _Signals:
    """One file of samples: what is in it ("EEG", "PNSData"), its geometry, and what its info says of its channels."""

    file: Path
    kind: str
    n_channels: int
    sampling_rate: float
    blocks: tuple[_Block, ...]
    scales: FloatArray
    bad: tuple[int, ...]


def is_mff(path: Path, *, is_folder: bool) -> bool:
    """Return whether a folder is a recording of Net Station, or a file is one of it."""
    folder = path if is_folder else path.parent
    return folder.suffix.lower() == ".mff" and (folder / "info.xml").is_file()


def load_mff(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording in a folder .mff, its samples unread; what the amplifier did not keep is missing.

    Raises RecordingError where a part is missing or damaged, or its epochs overlap.
    """
    folder = path if path.is_dir() else path.parent
    notes: list[str] = []
    started_at, per_second = _record_time(folder)
    epochs = _epochs(folder, per_second)
    channels: list[RawChannel] = []
    bad: list[str] = []
    duration = 0.0
    for signals in _signal_files(folder, notes):
        block, n_samples = _placed(folder, signals, epochs, notes if not channels else [])
        check_size(signals.file, signals.sampling_rate, n_samples, signals.n_channels)
        described = _eeg(folder, signals) if signals.kind == "EEG" else _body(folder, signals)
        bad += [described[number - 1].label for number in signals.bad if number <= len(described)]
        for key, one in enumerate(described):
            channels.append(
                replace(
                    one,
                    key=key,
                    block=block,
                    sampling_rate=signals.sampling_rate,
                    n_samples=n_samples,
                    source=folder.name,
                )
            )
        duration = max(duration, n_samples / signals.sampling_rate)
    if not channels:
        raise RecordingError(f"{folder.name}: no signal1.bin with samples is in the EGI folder; copy it as a whole")
    assembled, more = assemble_signals(channels, overrides)
    intervals = placed_intervals(_events(folder, started_at, notes), duration, notes)
    recording = Recording("", "", folder.stem, assembled, intervals, started_at, (*notes, *more))
    return with_bad_channels(recording, bad, folder.name)


def _fault(folder: Path, what: str) -> RecordingError:
    return RecordingError(f"{folder.name}: {what}; the EGI folder is damaged, export the recording again")


def _xml(folder: Path, name: str) -> Any:
    """Return the root of an XML text of the folder, its tags without namespace; None where there is no such file.

    Raises RecordingError where it is damaged, or declares entities, which expand without end or lead elsewhere.
    """
    from xml.etree import ElementTree  # what it is weak against, entities, is refused below

    file = folder / name
    if not file.is_file():
        return None
    if file.stat().st_size > LARGEST_TEXT:
        raise _fault(folder, f"{name} is larger than {LARGEST_TEXT >> 20} MB, which no such text is")
    try:
        content = file.read_bytes()
    except OSError as fault:
        raise RecordingError(f"{folder.name}: {name} cannot be read ({fault.strerror})") from fault
    if b"<!DOCTYPE" in content.replace(b"\x00", b""):
        raise _fault(folder, f"{name} declares a document type, which no such text does")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError) as fault:
        raise _fault(folder, f"{name} is no XML ({fault})") from fault
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
    return root


def _text(element: Any, tag: str) -> str:
    return (element.findtext(tag) or "").strip() if element is not None else ""


def _number(text: str) -> float:
    try:
        return float(text) if "_" not in text else math.nan
    except ValueError:
        return math.nan


def _moment(text: str) -> datetime | None:
    """Return a date of Net Station, which may have nanoseconds; None where it is none or has no zone."""
    try:
        moment = datetime.fromisoformat(_FRACTION.sub(r".\1", text.strip()))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _record_time(folder: Path) -> tuple[datetime, float]:
    """Return when the recording began, and how many units of its times make a second: as fine as the date is given."""
    written = _text(_xml(folder, "info.xml"), "recordTime")
    moment, fraction = _moment(written), _FRACTION.search(written)
    if moment is None:
        raise _fault(folder, f"info.xml gives {written[:60]!r} as recordTime, which is no date with a zone")
    return moment, 1e9 if fraction is not None and fraction[2] else 1e6


def _epochs(folder: Path, per_second: float) -> list[_Epoch]:
    """Return the stretches without a gap, in order; one of all blocks where no text gives them."""
    root = _xml(folder, "epochs.xml")
    if root is None:
        return []
    epochs = []
    for one in root.iter("epoch"):
        begin = _number(_text(one, "beginTime")) / per_second
        first, last = _number(_text(one, "firstBlock")), _number(_text(one, "lastBlock"))
        if not (0 <= begin < math.inf and 1 <= first <= last <= MOST_BLOCKS):
            raise _fault(folder, "epochs.xml has an epoch whose time or blocks cannot be")
        epochs.append(_Epoch(begin, int(first), int(last)))
    return sorted(epochs, key=lambda one: (one.begin, one.first_block))


def _signal_files(folder: Path, notes: list[str]) -> Iterator[_Signals]:
    """Give the files of samples, EEG and what was measured beside it; others are told in ``notes``."""
    files = sorted((int(match[1]), file) for file in folder.iterdir() if (match := _NAME.fullmatch(file.name)))
    for number, file in files:
        info = _xml(folder, f"info{number}.xml")
        kinds = [] if info is None else [child.tag for child in info.findall("generalInformation/fileDataType/*")]
        if kinds not in (["EEG"], ["PNSData"]):
            notes.append(f"{file.name} holds neither EEG nor signals of the body ({', '.join(kinds)[:60]}); left out")
            continue
        rate, n_channels, blocks = _blocks(folder, file)
        scales = np.ones(n_channels)
        for calibration in info.iter("calibration"):
            if _text(calibration, "type") == "GCAL":
                _calibrate(folder, calibration, scales)
        bad = [
            int(word)
            for one in info.iter("channels")
            if one.get("exclusion") == "badChannels"
            for word in (one.text or "").split()
            if word.isdigit() and 0 < int(word[:6]) <= n_channels
        ]
        yield _Signals(file, kinds[0], n_channels, rate, blocks, scales, tuple(bad))


def _calibrate(folder: Path, calibration: Any, scales: FloatArray) -> None:
    """Multiply scales by the gains of channels that a calibration gives."""
    for channel in calibration.iter("ch"):
        number, gain = _number(channel.get("n", "")), _number(channel.text or "")
        if not (1 <= number <= len(scales) and math.isfinite(gain)):
            raise _fault(folder, "a calibration is of a channel that is not there, or no number")
        scales[int(number) - 1] = gain


def _blocks(folder: Path, file: Path) -> tuple[float, int, tuple[_Block, ...]]:
    """Return sampling rate, number of channels and blocks of a file of samples.

    Raises RecordingError where a block reaches beyond the file, or they differ.
    """
    size = file.stat().st_size
    blocks: list[_Block] = []
    n_channels, n_bytes, coded, at = 0, 0, 0, 0
    with file.open("rb") as stream:
        while at < size:
            stream.seek(at)
            flag = _integers(folder, file, stream.read(4), 1)[0]
            data = at + 4
            if flag == 1:
                n_header, n_bytes, n_here = _integers(folder, file, stream.read(12), 3)
                if not 1 <= n_here <= MOST_CHANNELS or (n_channels and n_here != n_channels):
                    raise _fault(folder, f"{file.name} has a block of {n_here} channels")
                coded_here = _integers(folder, file, stream.read(8 * n_here), 2 * n_here)[n_here:]
                if len(set(coded_here)) > 1 or (n_channels and coded_here[0] != coded) or coded_here[0] & 0xFF != 32:
                    raise _fault(folder, f"{file.name} has channels of several rates, or not of 32 bits")
                n_channels, coded, data = n_here, coded_here[0], at + n_header
                if n_header < 16 + 8 * n_here:
                    raise _fault(folder, f"{file.name} has a block whose header is too short")
            if not n_channels or n_bytes < 4 * n_channels or data + n_bytes > size or len(blocks) >= MOST_BLOCKS:
                raise _fault(folder, f"{file.name} is cut, or the block at byte {at} has no size that can be")
            blocks.append(_Block(data, n_bytes // n_channels // 4))
            at = data + n_bytes
    if not blocks:
        raise _fault(folder, f"{file.name} is empty")
    return float(coded >> 8), n_channels, tuple(blocks)


def _integers(folder: Path, file: Path, content: bytes, n: int) -> tuple[int, ...]:
    if len(content) < 4 * n:
        raise _fault(folder, f"{file.name} is cut in the header of a block")
    return struct.unpack(f"<{n}i", content)


def _placed(folder: Path, signals: _Signals, epochs: Sequence[_Epoch], notes: list[str]) -> tuple[BlockReader, int]:
    """Return the reader of a file on the recording's clock, and the samples of each channel, gaps among them.

    Raises RecordingError where epochs overlap, or name blocks that are not there.
    """
    rate = signals.sampling_rate
    pieces: list[tuple[int, _Block]] = []
    stop, n_lost, n_gaps = 0, 0, 0
    for epoch in epochs or [_Epoch(0.0, 1, len(signals.blocks))]:
        first = round(epoch.begin * rate)
        if first < stop or epoch.last_block > len(signals.blocks):
            raise _fault(folder, "epochs overlap, or are of blocks that are not there; segments have no place in time")
        n_lost, n_gaps, stop = n_lost + first - stop, n_gaps + (first > stop), first
        for block in signals.blocks[epoch.first_block - 1 : epoch.last_block]:
            pieces.append((stop, block))
            stop += block.n_samples
    n_used = sum(epoch.last_block - epoch.first_block + 1 for epoch in epochs) or len(signals.blocks)
    if n_gaps:
        notes.append(f"discontinuous: {count(n_gaps, 'gap')}, {n_lost / rate:.1f} s in all, are missing samples")
    if n_used < len(signals.blocks):
        notes.append(f"{len(signals.blocks) - n_used} blocks of {signals.file.name} are in no epoch; left out")
    return _reader(folder, signals, pieces), stop


def _reader(folder: Path, signals: _Signals, pieces: Sequence[tuple[int, _Block]]) -> BlockReader:
    begins = np.array([begin for begin, _ in pieces])

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        samples: FloatArray = np.full((len(keys), max(stop - start, 0)), np.nan)
        nearest = max(int(np.searchsorted(begins, start, side="right")) - 1, 0)
        with signals.file.open("rb") as stream:
            for begin, block in pieces[nearest : int(np.searchsorted(begins, stop))]:
                first, last = max(start, begin), min(stop, begin + block.n_samples)
                for row, key in enumerate(keys if last > first else ()):
                    stream.seek(block.offset + 4 * (key * block.n_samples + first - begin))
                    content = stream.read(4 * (last - first))
                    if len(content) < 4 * (last - first):
                        raise RecordingError(f"{folder.name}: {signals.file.name} became shorter while it was read")
                    samples[row, first - start : last - start] = np.frombuffer(content, dtype="<f4")
        samples *= signals.scales[list(keys), None]
        return samples

    return read


def _nothing(keys: Sequence[int], start: int, stop: int) -> FloatArray:
    return np.empty((len(keys), 0))


def _described(label: str, unit: str, modality: str = "", position: Position | None = None) -> RawChannel:
    """Return a channel as the texts describe it; what it shares with all others of its file is set later."""
    how = FORMAT if modality not in ("", UNKNOWN) else ""
    return RawChannel(label, unit, 0.0, 0.0, 0, 0, _nothing, "", modality, how, position=position)


def _eeg(folder: Path, signals: _Signals) -> list[RawChannel]:
    """Return the electrodes of the net, in microvolts; the reference, which is flat, is no EEG.

    Raises RecordingError where the layout has another number of them.
    """
    root = _xml(folder, "sensorLayout.xml")
    sensors = [] if root is None else [one for one in root.iter("sensor") if _text(one, "type") in (_EEG, _REFERENCE)]
    if len(sensors) != signals.n_channels:
        raise _fault(folder, f"{signals.n_channels} channels, and sensorLayout.xml describes {len(sensors)} electrodes")
    places = _positions(folder)
    channels = []
    for number, sensor in enumerate(sensors, 1):
        is_reference = _text(sensor, "type") == _REFERENCE
        name = _text(sensor, "name")
        label = name if name and name != "None" else f"E{_text(sensor, 'number') or number}"
        position = places.get(_text(sensor, "number"))
        channels.append(_described(label, "uV", UNKNOWN if is_reference else "eeg", position))
    return channels


def _positions(folder: Path) -> dict[str, Position]:
    """Return the places of electrodes by their number, in the frame of the head; none where landmarks are missing."""
    root = _xml(folder, "coordinates.xml")
    electrodes: dict[str, list[float]] = {}
    landmarks: dict[str, list[float]] = {}
    for sensor in root.iter("sensor") if root is not None else ():
        place = [_number(_text(sensor, axis)) / 100 for axis in "xyz"]  # cm
        name = _text(sensor, "name")
        if all(map(math.isfinite, place)):
            if name in _LANDMARKS:
                landmarks[_LANDMARKS[name]] = place
            else:
                electrodes[_text(sensor, "number")] = place
    return positions_on_head(electrodes, landmarks)


def _body(folder: Path, signals: _Signals) -> list[RawChannel]:
    """Return what was measured beside EEG, by the names and units of its text."""
    root = _xml(folder, "pnsSet.xml")
    sensors = [] if root is None else list(root.iter("sensor"))
    if len(sensors) != signals.n_channels:
        raise _fault(folder, f"{signals.n_channels} signals of the body, and pnsSet.xml describes {len(sensors)}")
    return [_described(_text(one, "name") or f"PNS{i}", _text(one, "unit")) for i, one in enumerate(sensors, 1)]


def _events(folder: Path, started_at: datetime, notes: list[str]) -> list[tuple[float, float, str]]:
    """Return the events of every track, by their codes; the unit of their durations differs, so they have none."""
    marks: list[tuple[float, float, str]] = []
    for file in sorted(folder.glob("Events*.xml")):
        try:
            root = _xml(folder, file.name)
        except RecordingError as fault:
            notes.append(f"{str(fault).removeprefix(f'{folder.name}: ')}; its events are left out")
            continue
        for event in root.iter("event"):
            moment, code = _moment(_text(event, "beginTime")), _text(event, "code")
            if code not in _PULSES:
                onset = math.nan if moment is None else (moment - started_at).total_seconds()
                marks.append((onset, 0.0, code))
    return marks
