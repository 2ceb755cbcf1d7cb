"""Load a study: a plain study folder or a BIDS data set, checked whole before anything else is done with it."""

from __future__ import annotations

from pathlib import Path

from biopercept.errors import StudyError
from biopercept.studies.agreement import check_agreement, with_file_labels
from biopercept.studies.bids import is_bids, read_bids
from biopercept.studies.definition import Definition, read_definition
from biopercept.studies.entries import load_entry
from biopercept.studies.plain import read_entries, read_participants
from biopercept.studies.structure import Entry, Participant, Study, StudyFaults, StudyFile
from biopercept.studies.task_values import wanted_columns

__all__ = ["Entry", "Participant", "Study", "StudyFaults", "StudyFile", "is_study", "load_entry", "load_study"]


def is_study(path: Path) -> bool:
    """Return whether a path is a study folder or a BIDS data set (right or not), and no recording."""
    return path.is_dir() and ((path / "recordings.tsv").is_file() or (path / "study.yaml").is_file() or is_bids(path))


def load_study(folder: Path) -> Study:
    """Return a study whose tables are right; recordings are not opened.

    Parameters
    ----------
    folder : Path
        A folder with study.yaml, participants.tsv, recordings.tsv and (optionally) events.tsv, or a BIDS data set.

    Raises
    ------
    StudyError
        Where the folder is neither.
    StudyFaults
        With everything that is wrong, each with its table and line.
    """
    if not folder.is_dir():
        raise StudyError(f"{folder} is not a folder; a study folder or a BIDS data set is needed")
    faults: list[str] = []
    if (folder / "recordings.tsv").is_file():
        study = _read_plain(folder, faults)
    elif is_bids(folder):
        study = read_bids(folder, faults)
    else:
        raise StudyError(
            f"{folder} holds neither recordings.tsv (a study folder) nor dataset_description.json or sub-... folders "
            "(a BIDS data set); see 'biopercept import' to write a study folder"
        )
    check_agreement(study, faults)
    if faults:
        raise StudyFaults(folder, tuple(dict.fromkeys(faults)))
    return with_file_labels(study)


def _read_plain(folder: Path, faults: list[str]) -> Study:
    description = folder / "study.yaml"
    definition = Definition()
    if description.is_file():
        definition = read_definition(description, faults)
    else:
        faults.append("study.yaml is missing; it gives the study's name and tasks")
    people: tuple[Participant, ...] = ()
    if (folder / "participants.tsv").is_file():
        people = read_participants(folder / "participants.tsv", faults)
    else:
        faults.append("participants.tsv is missing; it lists every participant_id")
    return Study(
        folder=folder.resolve(),
        name=definition.name or folder.resolve().name,
        description=definition.description,
        licence=definition.licence,
        participants=people,
        entries=read_entries(folder, faults, wanted_columns(definition.tasks)),
        tasks=definition.tasks,
        overrides=definition.overrides,
    )
