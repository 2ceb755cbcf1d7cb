"""Whether a study's tables agree: ids, labels against tasks, and no recording under two names (a leak across folds)."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from biopercept.studies.places import Places
from biopercept.studies.structure import Entry, Study
from biopercept.studies.tables import folded
from biopercept.studies.task_values import check_values, is_constant_in_files, n_subjects_with_value
from biopercept.tasks import Task

_HEAD = 1 << 20
_HINTS = 10


def check_agreement(study: Study, faults: list[str]) -> None:
    """Add a sentence to ``faults`` for everything in which a study's tables disagree."""
    listed = {person.subject for person in study.participants}
    strangers = [subject for subject in study.subjects if subject not in listed]
    for number, subject in enumerate(strangers):
        # Looking for a near name is slow; a few hints are enough.
        close = get_close_matches(subject, listed, 1, cutoff=0.8) if number < _HINTS else []
        hint = f"; did you mean {close[0]!r}?" if close else ""
        faults.append(f"recordings.tsv has recordings of {subject!r}, who is not in participants.tsv{hint}")
    _check_twins((person.subject for person in study.participants), "participant_id", faults)
    _check_twins(("_".join((e.subject, e.session, e.recording)) for e in study.entries), "recording", faults)
    _check_labels(study, faults)
    check_values(study, faults)
    _check_same_recording(study.entries, faults)


def with_file_labels(study: Study) -> Study:
    """Return the study with ``label_is_file`` set for tasks in which no recording holds two classes or numbers."""
    tasks = {
        name: replace(
            task,
            label_is_file=is_constant_in_files(study, task.column or "")
            if task.is_regression
            else _is_file_label(study.entries, task),
        )
        for name, task in study.tasks.items()
    }
    return replace(study, tasks=tasks)


def training_faults(study: Study) -> tuple[str, ...]:
    """Return why a task cannot be learnt from the study: a class without any labelled stretch, or no number."""
    faults = []
    for task in study.tasks.values():
        if task.is_regression and not n_subjects_with_value(study, task):
            faults.append(f"task {task.name!r}: the column {task.column!r} has no number in any row")
        counts = class_counts(study, task)
        absent = [name for name in task.class_names if not counts[name]]
        for name in absent:
            faults.append(f"task {task.name!r}: the class {name!r} has no labelled stretch in any recording")
    return tuple(faults)


def class_counts(study: Study, task: Task) -> Counter[str]:
    """Return how many subjects have a labelled stretch of each class."""
    found = {(e.subject, task.class_of(label)) for e in study.entries for label in e.labels}
    return Counter(name for _, name in found if name is not None)


def _is_file_label(entries: Iterable[Entry], task: Task) -> bool:
    classes = [{task.class_of(label) for label in entry.labels} - {None} for entry in entries]
    labelled = [found for found in classes if found]
    return len(labelled) > 1 and all(len(found) == 1 for found in labelled)


def _check_twins(names: Iterable[str], what: str, faults: list[str]) -> None:
    """Refuse ids that differ only by case or Unicode form: their outputs would overwrite one another on some disks."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(folded(name), name)
        if first != name:
            faults.append(f"the {what}s {first!a} and {name!a} differ only in case or Unicode form; rename one")


def _check_labels(study: Study, faults: list[str]) -> None:
    used = Counter(label for entry in study.entries for label in entry.labels)
    for task in study.tasks.values():
        if task.is_regression:
            continue
        known = (*task.labels, *task.ignore)
        for label, count in used.items():
            if not task.knows(label):
                close = get_close_matches(label, known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                faults.append(
                    f"the label {label!r} ({count} recordings) is under no class of task {task.name!r} "
                    f"(known are {', '.join(known)}): add it to a class or to ignore{hint}"
                )


def _check_same_recording(entries: tuple[Entry, ...], faults: list[str]) -> None:
    """Refuse one file, or one content, under two recordings."""
    owners: dict[str, Entry] = {}
    places = Places()
    same_size: dict[int, list[tuple[Entry, Path]]] = {}
    for entry in entries:
        for file in entry.files:
            owner = owners.setdefault(os.path.normcase(places.real(file.path)), entry)
            if owner is not entry:
                faults.append(f"{file.path.name} is listed under two recordings: {owner.title} and {entry.title}")
            elif contents := _contents(file.path):
                same_size.setdefault(sum(p.stat().st_size for p in contents), []).append((entry, file.path))
    # Only files of one size can be equal: hash those, first by their beginnings.
    for group in same_size.values():
        for alike in _alike(group, _HEAD):
            for same in _alike(alike, None):
                first, second = same[0], same[1]
                faults.append(
                    f"{first[1].name} of {first[0].title} and {second[1].name} of {second[0].title} have the same "
                    "content; one recording under two names would leak across folds"
                )


def _contents(path: Path) -> list[Path]:
    """Return the files that hold a recording's samples."""
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.is_file())
    if path.suffix == ".hea" or not path.exists():
        stem = path.with_suffix("") if path.suffix == ".hea" else path
        return [p for p in (stem.with_name(stem.name + ".dat"),) if p.is_file()]
    return [path] if path.is_file() else []


def _alike(group: list[tuple[Entry, Path]], limit: int | None) -> list[list[tuple[Entry, Path]]]:
    if len(group) < 2:
        return []
    by_hash: dict[str, list[tuple[Entry, Path]]] = {}
    for entry, path in group:
        by_hash.setdefault(_digest(path, limit), []).append((entry, path))
    return [found for found in by_hash.values() if len(found) > 1]


def _digest(path: Path, limit: int | None) -> str:
    digest = hashlib.sha256()
    for member in _contents(path):
        with member.open("rb") as stream:
            left = limit
            while chunk := stream.read(_HEAD if left is None else min(left, _HEAD)):
                digest.update(chunk)
                if left is not None:
                    left -= len(chunk)
    return digest.hexdigest()
