"""Alarms per set: sessions, devices and groups of people that lack a class, or that tell it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.auditing.material import Material
from biopercept.auditing.wording import accuracy
from biopercept.comparators.probes import fit_trees
from biopercept.errors import StudyError
from biopercept.reporting.text import count, listed, shown
from biopercept.results.audit import LEAK, OK, WARNING, Finding, Skipped
from biopercept.studies.tables import read_table
from biopercept.windowed import StoredSignal, WindowedRecording

_MOST_LEVELS = 12
_RECORDED = ("session", "sensors")
_EVENTS = ("ibi",)  # a beat at a time: its rate is the heart's and not the device's
_NO_VALUE = "n/a"


def sets_of(material: Material, participants: Mapping[str, Mapping[str, str]]) -> dict[str, NDArray[np.str_]]:
    """Return per set variable the level of each window: session, sensors, and the columns of participants.tsv.

    Parameters
    ----------
    material : Material
    participants : mapping of subject to (mapping of column to text)
        May be empty.
    """
    windows = material.windows
    found = {
        "session": np.array([windows.recordings[i].session or _NO_VALUE for i in windows.recording], dtype=np.str_),
        "sensors": np.array([sensors_of(windows.recordings[i]) for i in windows.recording], dtype=np.str_),
    }
    columns = sorted({column for row in participants.values() for column in row})
    for column in columns:
        of = {subject: row.get(column, _NO_VALUE) for subject, row in participants.items()}
        found[column] = np.array([of.get(str(s), _NO_VALUE) for s in windows.subject], dtype=np.str_)
    return found


def sensors_of(recording: WindowedRecording) -> str:
    """Return the measured sensors of a recording with their rates: recordings of one device have the same."""
    measured = [s for s in recording.signals if not s.derived_from]
    return ", ".join(sorted(s.modality if s.modality in _EVENTS else _with_rate(s) for s in measured))


def _with_rate(signal: StoredSignal) -> str:
    return f"{signal.modality} {signal.native_sampling_rate:.4g} Hz"


def read_participants(path: Path) -> dict[str, dict[str, str]]:
    """Return the columns of a participants.tsv by subject, without the id.

    Raises
    ------
    StudyError
        Where the table cannot be read.
    """
    faults: list[str] = []
    table = read_table(path, ("participant_id",), faults)
    if faults:
        raise StudyError(f"{faults[0]}{f' (and {len(faults) - 1} more faults)' if len(faults) > 1 else ''}")
    rows: dict[str, dict[str, str]] = {}
    for row in table:
        values = {c: _NO_VALUE if row.is_missing(c) else row.get(c).strip() for c in table.columns}
        subject = values.pop("participant_id")
        rows[subject] = rows[subject.removeprefix("sub-")] = values
    return rows


def probe_sets(material: Material, participants: Mapping[str, Mapping[str, str]]) -> list[Finding | Skipped]:
    """Return a finding per set variable that has between 2 and 12 levels."""
    return [_of_set(material, name, levels) for name, levels in sets_of(material, participants).items()]


def _of_set(material: Material, name: str, levels: NDArray[np.str_]) -> Finding | Skipped:
    probe = f"set-{shown(name)}"
    names, code = np.unique(levels, return_inverse=True)
    if not 2 <= len(names) <= _MOST_LEVELS:
        what = "everybody has the same" if len(names) < 2 else f"{len(names)} different values are no sets"
        return Skipped(probe=probe, reason=what)
    lacking = _lacking(material, names, code)
    columns = (code[:, None] == np.arange(len(names))).astype(np.float64)
    reached = material.pooled(material.answers(lambda request: fit_trees(request, columns)))
    is_told = reached.is_above_chance(material.settings.margin)
    is_whole = len(lacking) == len(names) and is_told
    verdict = LEAK if is_whole and name in _RECORDED else (WARNING if lacking or is_told else OK)
    parts = [f"{shown(name)} ({count(len(names), 'level')}) tells the label with {accuracy(reached)}"]
    if lacking:
        parts.append(f"windows of some classes are absent: {'; '.join(lacking[:4])}")
    if is_told or lacking:
        parts.append("whatever marks the set can stand for the label, so score the sets apart")
    else:
        parts.append("all classes are in all sets, about alike")
    sentence = "; ".join(parts) + "."
    return Finding(
        probe=probe,
        subject_matter="design",
        verdict=verdict,
        sentence=sentence[:1].upper() + sentence[1:],
        score_name="balanced accuracy",
        score=reached.value,
        ci95=reached.ci95,
        chance=reached.chance,
        n_subjects=reached.n_subjects,
        n_windows=reached.n_windows,
        details={"levels": {str(n): int(np.sum(code == i)) for i, n in enumerate(names)}, "lacking": lacking},
    )


def _lacking(material: Material, names: NDArray[np.str_], code: NDArray[np.int64]) -> list[str]:
    """Return the sets of at least 2 subjects (or sets that subjects share) that lack a class, in words."""
    windows = material.windows
    found = []
    for index, name in enumerate(names):
        rows = np.flatnonzero(code == index)
        absent = sorted(set(range(windows.only.n_classes)) - set(windows.only.values[rows].tolist()))
        if absent and len(np.unique(windows.subject[rows])) > 1:
            classes = listed([windows.only.classes[k] for k in absent])
            found.append(f"{shown(str(name))[:60]} has no {classes} in {count(len(rows), 'window')}")
    return found
