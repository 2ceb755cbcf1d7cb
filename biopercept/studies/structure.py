"""What a study is made of: participants, recordings with their files and labels, and tasks; opens no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from biopercept.errors import StudyError, recording_title
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Interval
from biopercept.studies.tables import Row
from biopercept.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 12
Overlap = Literal["refuse", "events-win"]
REFUSE: Overlap = "refuse"
EVENTS_WIN: Overlap = "events-win"


@dataclass(frozen=True)
class Participant:
    """One person of a study: ``participant_id`` exactly as written ("007" stays "007"), other columns as text.

    ``row`` is where the person stands, "participants.tsv line 2"; empty where no table lists people.
    """

    subject: str
    columns: Mapping[str, str] = field(default_factory=dict)
    row: str = field(default="", compare=False)


@dataclass(frozen=True)
class StudyFile:
    """One file or folder (device) of a recording, as an absolute path.

    ``offset_seconds`` is added to the file's own clock to get the recording's; None where the study does not say.
    ``is_bids`` files have tables beside them that say what their channels are.
    """

    path: Path
    offset_seconds: float | None = None
    is_bids: bool = False


@dataclass(frozen=True)
class Entry:
    """One recording of a study, not yet loaded.

    Attributes
    ----------
    condition : str or None
        Label of the full recording, but for the time of its ``exceptions``: events that say another class and that the
        study lets win.
    intervals : tuple of Interval
        Those of events.tsv in time order; the condition is not among them.
    columns, interval_columns : mapping
        Cells of recordings.tsv, and of events.tsv for each interval, in the columns that regression tasks name.
    row : str
        Where it is listed first, "recordings.tsv line 2"; empty of a BIDS data set, which has no such table.
    lines, events_table : mapping, str
        The line of each interval that is known, and the table it is a line of.
    """

    subject: str
    session: str
    recording: str
    files: tuple[StudyFile, ...]
    condition: str | None = None
    intervals: tuple[Interval, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    interval_columns: Mapping[Interval, Mapping[str, str]] = field(default_factory=dict, hash=False)
    exceptions: tuple[Interval, ...] = ()
    row: str = field(default="", compare=False)
    lines: Mapping[Interval, int] = field(default_factory=dict, compare=False, repr=False)
    events_table: str = field(default="events.tsv", compare=False)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the distinct labels of the recording, in order of appearance."""
        condition = () if self.condition is None else (self.condition,)
        return tuple(dict.fromkeys((*condition, *(interval.label for interval in self.intervals))))

    @property
    def title(self) -> str:
        """Return subject, session and recording as one phrase for messages."""
        return recording_title(self.subject, self.session, self.recording)

    @property
    def titled_row(self) -> str:
        """Return whose and which recording it is, with its row where a table has one."""
        return f"{self.title} ({self.row})" if self.row else self.title

    @property
    def where(self) -> str:
        """Return the row and whose recording it is, as faults of its files begin; of BIDS the file in place of a row.

        >>> Entry("S01", "", "lab", (), row="recordings.tsv line 2").where
        'recordings.tsv line 2, S01 lab'
        """
        files = ", ".join(file.path.name for file in self.files)
        return f"{self.row or files or 'recordings.tsv'}, {self.title}"

    def row_of(self, interval: Interval) -> str:
        """Return where an interval stands, "events.tsv line 2"; not every one is of a table."""
        if (number := self.lines.get(interval)) is not None:
            return Row(self.events_table, number, {}).where
        return self.events_table if self.events_table and not self.lines else "annotations of a file or labels by hand"


@dataclass(frozen=True)
class Study:
    """A study whose tables have been read and found right; one entry per recording, in the order of the tables.

    ``overrides`` are patterns of channel labels -> modality and unit that the study states; ``overlap`` says what holds
    where an event lies in a file whose condition is of another class: it is refused, or the event wins;
    ``is_aligned`` whether the clocks of a recording's files are set beside each other by what they share; ``notes`` say
    what was skipped or assumed while reading.
    """

    folder: Path
    name: str
    description: str
    licence: str
    participants: tuple[Participant, ...]
    entries: tuple[Entry, ...]
    tasks: dict[str, Task] = field(default_factory=dict)
    overrides: dict[str, SignalOverride] = field(default_factory=dict)
    overlap: Overlap = REFUSE
    is_aligned: bool = False
    notes: tuple[str, ...] = ()
    citation: str = ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Return the subjects that have a recording, in order of appearance."""
        return tuple(dict.fromkeys(entry.subject for entry in self.entries))

    def to_frame(self) -> pd.DataFrame:
        """Return a row per recording: whose it is, its files, and its labels."""
        import pandas as pd

        rows = [
            (e.subject, e.session, e.recording, ", ".join(file.path.name for file in e.files), ", ".join(e.labels))
            for e in self.entries
        ]
        return pd.DataFrame(rows, columns=["participant_id", "session", "recording", "files", "labels"])


class StudyFaults(StudyError):  # noqa: N818
    """Everything that is wrong with a study, found in one reading: a sentence each, with table and line.

    ``study`` is what could be read of it all the same.
    """

    def __init__(self, folder: Path, faults: tuple[str, ...], study: Study | None = None) -> None:
        self.faults, self.study = faults, study
        shown = " ".join(f"({number}) {fault}." for number, fault in enumerate(faults[:_SHOWN], 1))
        rest = "" if len(faults) <= _SHOWN else f" And {len(faults) - _SHOWN} more: biopercept check lists them all."
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(f"the study {folder} has {count}: {shown}{rest}")
