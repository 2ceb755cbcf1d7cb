"""A BIDS data set as a study: recordings are found by the entities in their file names, events lie beside them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from biopercept.errors import count
from biopercept.files import visible_members
from biopercept.loaders.folders import companions, is_known
from biopercept.loaders.sidecars import inherited_files, sidecars_of
from biopercept.recording import Interval
from biopercept.studies.bids_tables import acquisition_times
from biopercept.studies.definition import Definition, read_definition
from biopercept.studies.labels import wanted_columns
from biopercept.studies.plain import cells_of, interval_of, ordered, read_participants
from biopercept.studies.structure import Entry, Participant, Study, StudyFile
from biopercept.studies.tables import name_fault, read_table
from biopercept.tasks import Task

_DATATYPES = ("eeg", "beh", "physio", "emg", "ecg", "motion", "func", "meg", "ieeg", "nirs")
_RECORDED = frozenset({"eeg", "physio", "emg", "ecg", "motion"})
_SUFFIXES = frozenset((".edf", ".bdf", ".vhdr", ".set", ".tsv.gz", ".tsv", ".csv", ".csv.gz"))
_ENTITY = re.compile(r"([a-z]+)-([0-9A-Za-z+]+)")

Group = tuple[str, str, str]
"""Subject, session, and task with run as "task-X_run-Y"."""


@dataclass
class _Found:
    """What was found of one recording."""

    files: dict[tuple[str, str], Path] = field(default_factory=dict)
    events: list[Path] = field(default_factory=list)
    task: str = ""


def is_bids(folder: Path) -> bool:
    """Return whether a folder looks like the top of a BIDS data set."""
    return (folder / "dataset_description.json").is_file() or any(p.is_dir() for p in folder.glob("sub-*"))


def read_bids(folder: Path, faults: list[str]) -> Study:
    """Return the study that a BIDS data set is; faults are added to ``faults``.

    ``study.yaml`` at the top, where there is one, gives the tasks. A recording whose ``task-`` entity is a label of
    such a task has it as its condition. Events whose ``trial_type`` is "n/a" are left out and counted in the notes.
    """
    root = folder.resolve()
    definition = Definition()
    if (root / "study.yaml").is_file():
        definition = read_definition(root / "study.yaml", faults)
    name, licence, citation = _description(root, faults)
    notes: list[str] = []
    groups = _find(root, faults, notes)
    if not groups:
        faults.append(
            "no recording found; sub-ID/[ses-ID/]eeg|physio|beh/..._eeg.edf or ..._physio.tsv.gz with its .json "
            "are looked for"
        )
    if not definition.tasks:
        notes.append("no study.yaml at the top of the data set, so it has no tasks; training needs one")
    return Study(
        folder=root,
        name=definition.name or name or root.name,
        description=definition.description,
        licence=definition.licence or licence,
        citation=definition.citation or citation,
        participants=_participants(root, groups, faults),
        entries=tuple(_entry(root, group, parts, definition.tasks, faults, notes) for group, parts in groups.items()),
        tasks=definition.tasks,
        overrides=definition.overrides,
        overlap=definition.overlap,
        is_aligned=definition.is_aligned,
        notes=tuple(notes),
    )


def _description(root: Path, faults: list[str]) -> tuple[str, str, str]:
    """Return name, licence and what to cite."""
    path = root / "dataset_description.json"
    if not path.is_file():
        return "", "", ""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        name, licence, citation = (str(document.get(key, "")) for key in ("Name", "License", "HowToAcknowledge"))
        return name, licence, citation
    except (OSError, ValueError, AttributeError, RecursionError) as fault:
        faults.append(f"dataset_description.json cannot be read ({type(fault).__name__}); it must be a JSON object")
        return "", "", ""


def _participants(root: Path, groups: dict[Group, _Found], faults: list[str]) -> tuple[Participant, ...]:
    path = root / "participants.tsv"
    if path.is_file():
        people = read_participants(path, faults)
        return tuple(replace(p, subject=p.subject.removeprefix("sub-")) for p in people)
    return tuple(Participant(subject) for subject in dict.fromkeys(subject for subject, _, _ in groups))


def _folders(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Give subject, session and folder of every place where recordings may lie; a fixed depth, so no link can loop."""
    for person in sorted(root.glob("sub-*")):
        subject = person.name.removeprefix("sub-")
        homes = [("", person), *((s.name.removeprefix("ses-"), s) for s in sorted(person.glob("ses-*")))]
        for session, home in homes:
            for datatype in _DATATYPES:
                if (home / datatype).is_dir():
                    yield subject, session, home / datatype


@dataclass(frozen=True)
class _File:
    """A file by the entities of its name; ``kind`` is what they end with, "eeg" of "sub-1_task-rest_eeg.edf"."""

    path: Path
    suffix: str
    kind: str
    entities: dict[str, str]

    @property
    def part(self) -> tuple[str, str]:
        """Return what tells it from the other files of its recording."""
        return self.kind, self.entities.get("recording", "")


def _find(root: Path, faults: list[str], notes: list[str]) -> dict[Group, _Found]:
    by_session: dict[tuple[str, str], list[_File]] = {}
    for subject, session, place in _folders(root):
        files = [file for path in visible_members(place) if (file := _named(path)) is not None]
        for file in files:
            if file.entities.get("sub") != subject or file.entities.get("ses", "") != session:
                shown = file.path.relative_to(root)
                faults.append(f"{shown}: its name says another subject or session than its folders")
            elif file.kind == "events" or _is_recording(root, file, files, notes):
                by_session.setdefault((subject, session), []).append(file)
    groups: dict[Group, _Found] = {}
    for (subject, session), files in by_session.items():
        is_told_by = _acquisitions(files)
        for file in sorted(files, key=lambda one: one.kind == "events"):
            group = (subject, session, _recording_name(file.entities, is_told_by))
            if file.kind == "events":
                if group in groups:
                    groups[group].events.append(file.path)
            elif _is_usable(root, file.path, file.suffix, faults):
                _add(root, groups.setdefault(group, _Found(task=file.entities.get("task", ""))), file, faults)
    for parts in groups.values():
        if not parts.events:  # of tables the nearest alone applies, there is no merging
            inherited = [inherited_files(path, ".tsv", "events")[:1] for path in parts.files.values()]
            parts.events = list(dict.fromkeys(file for files in inherited for file in files))
    return dict(sorted(groups.items()))


def _named(path: Path) -> _File | None:
    """Return a file with the entities of its name; None where it is neither a recording by name nor its events."""
    stem, _, ending = path.name.partition(".")
    kind = stem.rpartition("_")[2]
    if (kind not in _RECORDED and kind != "events") or (kind == "events" and ending.lower() != "tsv"):
        return None
    return _File(path, f".{ending.lower()}", kind, dict(_ENTITY.findall(stem)))


def _is_recording(root: Path, file: _File, files: list[_File], notes: list[str]) -> bool:
    """Return whether a file is read: those of BIDS, and of other formats those that are no part of one beside them."""
    if file.suffix == ".json":
        return False
    if file.suffix in _SUFFIXES:
        return True
    stem = file.path.name.partition(".")[0]
    beside = [one.path for one in files if one.path != file.path and one.path.name.partition(".")[0] == stem]
    if any(file.path.name in {part.name for part in companions(one)} for one in beside):
        return False
    if is_known(file.path):
        return True
    notes.append(f"{file.path.relative_to(root)} is of no format that is read; left out")
    return False


def _acquisitions(files: list[_File]) -> set[tuple[str, str]]:
    """Return the tasks and runs of which several acquisitions were recorded by one device, so that acq- tells them."""
    seen: dict[tuple[str, str, tuple[str, str]], set[str]] = {}
    for file in files:
        if file.kind != "events":
            key = (file.entities.get("task", ""), file.entities.get("run", ""), file.part)
            seen.setdefault(key, set()).add(file.entities.get("acq", ""))
    return {(task, run) for (task, run, _), names in seen.items() if len(names) > 1}


def _recording_name(entities: dict[str, str], is_told_by: set[tuple[str, str]]) -> str:
    """Return "task-X_run-Y", with the acquisition where tasks and runs are those."""
    has_acquisitions = (entities.get("task", ""), entities.get("run", "")) in is_told_by
    keys = ("task", "acq", "run") if has_acquisitions else ("task", "run")
    return "_".join(f"{key}-{entities[key]}" for key in keys if key in entities) or "recording"


def _is_usable(root: Path, path: Path, suffix: str, faults: list[str]) -> bool:
    shown = path.relative_to(root)
    if not path.exists():
        faults.append(f"{shown}: a link whose target is not there; fetch the data first")
        return False
    if not path.resolve().is_relative_to(root):
        faults.append(
            f"{shown}: a link that leads out of the data set; use a study folder with an absolute path for it"
        )
        return False
    if not os.access(path, os.R_OK):
        faults.append(f"{shown}: may not be read; check its permissions")
        return False
    if suffix in (".tsv", ".tsv.gz") and not sidecars_of(path):
        faults.append(
            f"{shown}: its sidecar, the same name with .json, is missing beside it and in the folders above; it gives "
            "SamplingFrequency, StartTime and Columns"
        )
        return False
    return True


def _add(root: Path, parts: _Found, file: _File, faults: list[str]) -> None:
    if file.part in parts.files:
        faults.append(
            f"{file.path.relative_to(root)} and {parts.files[file.part].name} are two {file.kind} files of one subject,"
            " session, task and run; give them different run- entities, or recording- entities if they were recorded"
            " together"
        )
        return
    parts.files[file.part] = file.path


def _entry(
    root: Path, group: Group, parts: _Found, tasks: dict[str, Task], faults: list[str], notes: list[str]
) -> Entry:
    for value, what in zip(group, ("participant_id", "session", "recording"), strict=True):
        if value and (problem := name_fault(value, what)):
            faults.append(problem)
    files = _placed_files(root, group, parts, faults)
    is_label = any(task.knows(parts.task) for task in tasks.values())
    lines, cells = _intervals(root, parts.events, wanted_columns(tasks), faults, notes)
    return Entry(
        *group,
        files=files,
        condition=parts.task if is_label else None,
        intervals=ordered(lines),
        interval_columns=cells,
        lines=lines if len(parts.events) == 1 else {},
        events_table=", ".join(str(path.relative_to(root)) for path in parts.events),
    )


def _placed_files(root: Path, group: Group, parts: _Found, faults: list[str]) -> tuple[StudyFile, ...]:
    """Return the files of a recording with their offsets, by scans.tsv where it says when two devices started."""
    subject, session, _ = group
    taken = acquisition_times(root, subject, session, faults) if len(parts.files) > 1 else {}
    # BIDS counts a physio file's StartTime from the recording's first sample, so its clock is the recording's.
    devices = {path: taken[path] for (kind, _), path in parts.files.items() if kind != "physio" and path in taken}
    first = next(iter(devices.values()), None)
    files = []
    for (kind, _), path in parts.files.items():
        offset = 0.0 if kind in ("physio", "motion") else None
        if first is not None and len(devices) > 1 and path in devices:
            if (first.tzinfo is None) != (devices[path].tzinfo is None):
                faults.append(
                    f"{path.relative_to(root)}: its acq_time and that of another file differ in having a zone"
                )
                continue
            offset = (devices[path] - first).total_seconds()
        files.append(StudyFile(path, offset, is_bids=True))
    return tuple(files)


def _intervals(
    root: Path, tables: list[Path], columns: tuple[str, ...], faults: list[str], notes: list[str]
) -> tuple[dict[Interval, int], dict[Interval, dict[str, str]]]:
    """Return the labelled intervals of some tables with their lines, and the cells of the columns in each."""
    lines: dict[Interval, int] = {}
    cells: dict[Interval, dict[str, str]] = {}
    for path in tables:
        shown = str(path.relative_to(root))
        table = read_table(path, ("onset", "duration"), faults, name=shown)
        if table.columns and "trial_type" not in table.columns:
            notes.append(f"{shown} has no trial_type column; its events are not labels")
            continue
        n_missing = 0
        for row in table:
            if any(row.is_missing(column) for column in ("onset", "duration", "trial_type")):
                n_missing += 1
            elif interval := interval_of(row, faults):
                lines.setdefault(interval, row.number)
                if values := cells_of(row, columns):
                    cells[interval] = values
        if n_missing:
            notes.append(f"{shown}: {count(n_missing, 'event')} left out, their onset, duration or trial_type is n/a")
    return lines, cells
