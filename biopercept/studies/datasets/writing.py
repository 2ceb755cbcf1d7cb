"""Write a study folder: the three tables and study.yaml, each whole or not at all, and a page on what was left out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biopercept.errors import OutputError, StudyError
from biopercept.files import write_text
from biopercept.loaders.archives import unpack
from biopercept.recording import Interval

Cells = Mapping[str, object]


@dataclass(frozen=True)
class ImportSummary:
    """What an import wrote, and a sentence on each subject, recording or label left out and each assumption."""

    n_subjects: int
    n_recordings: int
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class StudyTables:
    """Rows of a study folder to be, gathered subject by subject."""

    participants: list[Cells] = field(default_factory=list)
    recordings: list[Cells] = field(default_factory=list)
    events: list[Cells] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_protocol(
        self,
        subject: str,
        paths: Sequence[Path] | Mapping[Path, float],
        intervals: Sequence[Interval],
        about: Cells,
        columns: Sequence[Cells] = (),
    ) -> None:
        """Add a person, described by ``about``, with one recording "protocol": its files and labelled intervals.

        A mapping of files gives the ``offset_seconds`` of each; ``columns`` are more cells of each interval.
        """
        ids = {"participant_id": subject, "recording": "protocol"}
        self.participants.append({"participant_id": subject, **about})
        offsets = paths if isinstance(paths, Mapping) else {}
        self.recordings += [
            {**ids, "path": path, **({"offset_seconds": offsets[path]} if offsets else {})} for path in paths
        ]
        self.events += [
            {**ids, "onset": i.onset_seconds, "duration": i.duration_seconds, "trial_type": i.label, **cells}
            for i, cells in zip(intervals, columns or [{}] * len(intervals), strict=True)
        ]

    def write(self, output: Path, definition: Mapping[str, Any]) -> ImportSummary:
        """Write the folder and return what is in it.

        Raises StudyError where no recording is left. Raises OutputError where a file cannot be written.
        """
        import yaml

        if not self.recordings:
            reasons = " ".join(self.left_out[:3])
            raise StudyError(f"no recording can be used, so no study was written in {output}: {reasons}")
        write_text(output / "participants.tsv", table_text(self.participants))
        write_text(output / "recordings.tsv", table_text(self.recordings))
        if self.events:
            write_text(output / "events.tsv", table_text(self.events))
        else:
            (output / "events.tsv").unlink(missing_ok=True)
        write_text(output / "import_report.txt", self._report())
        # A list that two tasks share is written twice: a reader of study.yaml takes no aliases.
        plain = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
        text = yaml.dump(
            dict(definition), Dumper=plain, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
        )
        write_text(output / "study.yaml", text)
        names = {(row["participant_id"], row.get("session", ""), row["recording"]) for row in self.recordings}
        return ImportSummary(len(self.participants), len(names), tuple(self.left_out), tuple(self.notes))

    def _report(self) -> str:
        parts = [("Left out", self.left_out), ("Notes", self.notes)]
        return "\n".join(
            line for title, lines in parts for line in (f"{title}: {len(lines)}", *(f"- {text}" for text in lines), "")
        )


@contextmanager
def source_folder(source: Path, output: Path) -> Iterator[Path]:
    """Give the folder that a data set lies in: SOURCE, or where it is a zip, what it holds, unpacked below OUTPUT.

    Nothing stays unpacked where the work with it ends in an error. Raises RecordingError where the zip is damaged or
    was not made of a data set. Raises OutputError where it cannot be unpacked, or something lies where it would be.
    """
    if source.is_dir():
        yield source
        return
    is_new = not output.exists()
    unpacked = output / "source"
    if unpacked.exists():
        raise OutputError(f"{unpacked} is there already; remove it, or choose another output")
    try:
        unpack(source, unpacked)
        members = list(unpacked.iterdir())
        # A zip of a whole folder or repository holds that folder, called as the zip is.
        is_wrapped = len(members) == 1 and members[0].is_dir() and source.stem.startswith(members[0].name)
        yield members[0] if is_wrapped else unpacked
    except BaseException:
        shutil.rmtree(output if is_new else unpacked, ignore_errors=True)
        raise


def table_text(rows: Sequence[Cells]) -> str:
    r"""Return rows as tab-separated text; columns in order of first use, None and absent cells as "n/a".

    Examples
    --------
    >>> table_text([{"participant_id": "S01", "age": 31}, {"participant_id": "S02"}])
    'participant_id\tage\nS01\t31\nS02\tn/a\n'
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "n/a"
    if isinstance(value, float):
        return f"{value:.10g}"
    # A tab or a line break inside a cell would break the table.
    return " ".join(str(value).split())
