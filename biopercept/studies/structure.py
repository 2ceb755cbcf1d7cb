"""What a study is made of: participants, recordings with their files and labels, and tasks; opens no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Interval
from biopercept.tasks import Task

_SHOWN = 12


@dataclass(frozen=True)
class Participant:
    """One person of a study.

    Attributes
    ----------
    subject : str
        ``participant_id`` as text, exactly as written ("007" stays "007").
    columns : dict of str to str
        The other columns of participants.tsv, as text.
    """

    subject: str
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFile:
    """One file (device) of a recording.

    Attributes
    ----------
    path : Path
        Absolute path of the file or folder.
    offset_seconds : float or None
        Added to the file's own clock to get the recording's; None where the study does not say.
    """

    path: Path
    offset_seconds: float | None = None


@dataclass(frozen=True)
class Entry:
    """One recording of a study, not yet loaded.

    Attributes
    ----------
    subject, session, recording : str
        Who, which session (may be empty), and the recording's name.
    files : tuple of StudyFile
        One per device, in the study's order.
    condition : str or None
        Label of the whole recording.
    intervals : tuple of Interval
        Labelled stretches from events.tsv in time order; the condition is not among them.
    columns : mapping of str to str
        Cells of recordings.tsv in the columns that regression tasks name.
    interval_columns : mapping of Interval to (mapping of str to str)
        The same of events.tsv, for each stretch.
    """

    subject: str
    session: str
    recording: str
    files: tuple[StudyFile, ...]
    condition: str | None = None
    intervals: tuple[Interval, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    interval_columns: Mapping[Interval, Mapping[str, str]] = field(default_factory=dict, hash=False)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the distinct labels of the recording, in order of appearance."""
        condition = () if self.condition is None else (self.condition,)
        return tuple(dict.fromkeys((*condition, *(interval.label for interval in self.intervals))))

    @property
    def title(self) -> str:
        """Return subject, session and recording as one phrase for messages."""
        return " ".join(part for part in (self.subject, self.session, self.recording) if part)


@dataclass(frozen=True)
class Study:
    """A study whose tables have been read and found right.

    Attributes
    ----------
    name, description, licence : str
        From study.yaml (or a BIDS dataset_description.json); may be empty except the name.
    entries : tuple of Entry
        One per recording, in the order of the tables.
    overrides : dict of str to SignalOverride
        Pattern on the channel label -> modality and unit that the study states.
    notes : tuple of str
        What was skipped or assumed while reading.
    """

    folder: Path
    name: str
    description: str
    licence: str
    participants: tuple[Participant, ...]
    entries: tuple[Entry, ...]
    tasks: dict[str, Task] = field(default_factory=dict)
    overrides: dict[str, SignalOverride] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Return the subjects that have a recording, in order of appearance."""
        return tuple(dict.fromkeys(entry.subject for entry in self.entries))


class StudyFaults(StudyError):  # noqa: N818
    """Everything that is wrong with a study, found in one reading.

    Attributes
    ----------
    faults : tuple of str
        One sentence each, with table and line.
    """

    def __init__(self, folder: Path, faults: tuple[str, ...]) -> None:
        self.faults = faults
        shown = " ".join(f"({number}) {fault}." for number, fault in enumerate(faults[:_SHOWN], 1))
        rest = "" if len(faults) <= _SHOWN else f" And {len(faults) - _SHOWN} more: biopercept check lists them all."
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(f"the study {folder} has {count}: {shown}{rest}")
