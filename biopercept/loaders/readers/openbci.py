"""OpenBCI GUI text files, old (3, 4) and new (5, 6): EXG in uV, acceleration in g, a counter that begins anew at 255.

What was measured at the EXG inputs, EEG or muscles or a heart, the file does not say; files of the old program call
all of it EEG. Samples that the counter leaves out are missing; where stamps show that it turned once more, so are
those of the turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory
from biopercept.loaders.clock import offset_of_clocks
from biopercept.loaders.counters import counter_turn, sample_numbers
from biopercept.loaders.readers.text_tables import TextTable, read_text, table_of_text
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.loaders.sidecars import read_sidecar, without_suffix
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray, Interval, Recording

FIRST_WORDS = (b"%OpenBCI Raw", b"%OBCI", b"% OpenBCI Raw")
_FASTEST = 20_000.0
_MOST_CHANNELS = 64
_AXES = ("x", "y", "z")
_AROUND = 250
"""Rows before and after a jump of the stamps that say whether it stayed."""
_MOST_OF_A_TURN = 0.8


@dataclass(frozen=True)
class _Header:
    """What the lines on top say."""

    n_channels: int
    sampling_rate: float
    is_eeg: bool


def load_openbci(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an OpenBCI text file; its start is unix time where the file has it.

    Markers become intervals of duration 0. Analog, digital and unused columns are left out.

    Raises RecordingError where the header gives no sampling rate, or the columns are not those of its channels.
    """
    notes: list[str] = []
    text = read_text(path, notes)
    lines = text[: 1 << 16].splitlines()
    comments = [line for line in lines[:40] if line.startswith("%")]
    header = _header(path, comments)
    first = next((line for line in lines[len(comments) :] if line.strip()), "")
    has_names = "sample index" in first.lower()
    names = [cell.strip() for cell in first.split(",")] if has_names else _old_names(path, header, first)
    table = table_of_text(path, _below(text, first, has_names=has_names), names, ",", notes)
    counter, stamps = table.column("Sample Index"), _stamps(table)
    exg = [i for i, name in enumerate(names) if re.fullmatch(r"E[XE]G Channel \d+", name, re.IGNORECASE)]
    exg = [i for i in exg if not isinstance(table.columns[i], list)]
    if not exg:
        raise RecordingError(f"{path.name}: no column of EXG channels ({', '.join(names[:6])}, ...); export it again")
    n_rows = len(table.columns[exg[0]])
    if not n_rows:
        raise RecordingError(f"{path.name}: a header and no rows")
    places = _places(counter, stamps, header.sampling_rate, n_rows, notes)
    channels = _channels(path, header, table, exg, places)
    if not header.is_eeg and all(channel.modality != "eeg" for channel in channels):
        notes.append(
            "the file does not say what was measured at the EXG inputs; say it in the study (signals: {'EXG*': "
            "{modality: eeg}}), or ecg or emg"
        )
    signals, more = assemble_signals(channels, overrides)
    started_at = None
    if stamps is not None:
        offset = offset_of_clocks(stamps, places / header.sampling_rate, "the computer's clock")
        notes.extend(offset.notes)
        if offset.seconds is not None and offset.seconds < 4e9:
            started_at = datetime.fromtimestamp(offset.seconds, tz=UTC)
    remarks = (*table.notes, *notes[len(table.notes) :])
    markers = _markers(table, places, header.sampling_rate)
    return Recording("", "", without_suffix(path.name), signals, markers, started_at, (*remarks, *more))


def _header(path: Path, comments: Sequence[str]) -> _Header:
    text = "\n".join(comments)
    rate = re.search(r"%\s*Sample Rate\s*=\s*([0-9.]+)", text, re.IGNORECASE)
    number = re.search(r"%\s*Number of channels\s*=\s*(\d+)", text, re.IGNORECASE)
    value = 0.0
    if rate is not None and rate[1].count(".") < 2 and rate[1] != ".":
        value = float(rate[1])
    if not 0 < value <= _FASTEST:
        raise RecordingError(
            f"{path.name}: the header of OpenBCI gives no sampling rate above 0 and up to {_FASTEST:g} Hz; write "
            "'%Sample Rate = 250 Hz' on top"
        )
    n_channels = min(int(number[1][:6]), _MOST_CHANNELS) if number is not None else 0
    return _Header(n_channels, value, bool(comments) and "EEG" in comments[0])


def _old_names(path: Path, header: _Header, first: str) -> list[str]:
    """Return names of the columns that the old program writes without a header line."""
    n_columns, n = first.count(",") + 1, header.n_channels
    if not 1 <= n <= n_columns - 4:
        raise RecordingError(
            f"{path.name}: {n_columns} columns, and the header of OpenBCI names {n} channels; there are a counter "
            "before and three of acceleration behind them"
        )
    names = ["Sample Index", *(f"EXG Channel {i}" for i in range(n)), *(f"Accel Channel {i}" for i in range(3))]
    rest = [cell.strip() for cell in first.split(",")][len(names) :]
    words = ["Timestamp (Formatted)" if ":" in cell else "Timestamp" if i else "Other" for i, cell in enumerate(rest)]
    return [*names, *words]


def _below(text: str, first: str, *, has_names: bool) -> str:
    at = text.find(first)
    return text[at + len(first) :].lstrip("\r\n") if has_names else text[at:]


def _stamps(table: TextTable) -> FloatArray | None:
    """Return unix seconds of the rows; None where the file has none."""
    column = table.column("Timestamp")
    if column is None or isinstance(column, list) or not np.isfinite(column).any():
        return None
    middle = float(np.nanmedian(column))
    return column / 1e3 if middle > 1e11 else column


def _places(
    counter: FloatArray | list[str] | None,
    stamps: FloatArray | None,
    rate: float,
    n_rows: int,
    notes: list[str],
) -> NDArray[np.int64]:
    """Return the sample number of each row, by the counter, and by the stamps where it turned unseen."""
    numbers = None if counter is None or isinstance(counter, list) else sample_numbers(counter)
    if numbers is None or counter is None or isinstance(counter, list):
        notes.append("the column Sample Index does not go on from row to row; lost samples cannot be seen")
        return np.arange(n_rows)
    turn = counter_turn(counter)
    if stamps is not None and turn:
        numbers = _with_unseen_turns(numbers, stamps, rate, turn)
    n_samples = int(numbers[-1]) + 1
    if n_samples > n_rows:
        n_lost = n_samples - n_rows
        notes.append(f"gaps: {n_lost} of {n_samples} samples ({n_lost / rate:.1f} s) were lost; they are missing")
    return numbers


def _with_unseen_turns(numbers: NDArray[np.int64], stamps: FloatArray, rate: float, turn: int) -> NDArray[np.int64]:
    """Return sample numbers with the turns of the counter that passed while nothing came.

    Rows that are only late are followed by others that are not; a loss stays.
    """
    numbers = numbers.copy()
    late = stamps - numbers / rate
    seconds = turn / rate
    for row in np.flatnonzero(np.diff(late) > _MOST_OF_A_TURN * seconds) + 1:
        before = np.nanmedian(late[max(row - _AROUND, 0) : row])
        after = np.nanmin(late[row : row + _AROUND])
        n_turns = round(float(after - before) / seconds) if np.isfinite(after - before) else 0
        if n_turns >= 1 and int(numbers[-1]) + n_turns * turn <= 20 * len(numbers) + 10_000:
            numbers[row:] += n_turns * turn
            late[row:] -= n_turns * seconds
    return numbers


def _channels(
    path: Path, header: _Header, table: TextTable, exg: Sequence[int], places: NDArray[np.int64]
) -> list[RawChannel]:
    modalities = read_sidecar(path).modalities
    accel = [i for i, name in enumerate(table.names) if re.fullmatch(r"Accel Channel [0-2]", name, re.IGNORECASE)]
    accel = [i for i in accel if not isinstance(table.columns[i], list)]
    rows: list[FloatArray] = []
    described: list[tuple[str, str, str, str]] = []
    for i in exg:
        of_sidecar = modalities.get(table.names[i], "")
        modality = SignalOverride(of_sidecar).modality or "" if of_sidecar else "eeg" if header.is_eeg else UNKNOWN
        described.append((table.names[i], "uV", modality, "sidecar" if of_sidecar else FORMAT if header.is_eeg else ""))
        rows.append(_placed(table.columns[i], places))
    axes = [_placed(table.columns[i], places) for i in accel]
    if len(axes) == len(_AXES) and np.nansum(np.abs(axes)) > 0:  # boards without the sensor write zeros
        described += [(f"ACC_{axis}", "g", "acc", FORMAT) for axis in _AXES]
        rows += axes
    block = block_in_memory(np.array(rows))
    return [
        RawChannel(
            label=label,
            unit=unit,
            sampling_rate=header.sampling_rate,
            start_seconds=0.0,
            n_samples=int(places[-1]) + 1,
            key=key,
            block=block,
            source=path.name,
            modality=modality,
            recognised_by=how,
        )
        for key, (label, unit, modality, how) in enumerate(described)
    ]


def _placed(column: FloatArray | list[str], places: NDArray[np.int64]) -> FloatArray:
    samples = np.full(int(places[-1]) + 1, np.nan)
    samples[places] = column
    return samples


def _markers(table: TextTable, places: NDArray[np.int64], rate: float) -> tuple[Interval, ...]:
    column = next((table.column(name) for name in ("Marker Channel", "Marker") if table.column(name) is not None), None)
    if column is None or isinstance(column, list):
        return ()
    rows = np.flatnonzero(np.isfinite(column) & (column != 0))
    return tuple(Interval(float(places[row]) / rate, 0.0, f"marker {column[row]:g}") for row in rows)
