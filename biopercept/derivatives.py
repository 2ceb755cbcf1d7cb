"""Derivatives of BIDS: tables of events for each recording, whose names its schema allows, with what describes them.

References
----------
The Brain Imaging Data Structure, version 1.11.0: derivatives, behavioural experiments, task events;
https://bids-specification.readthedocs.io/en/v1.11.0/
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import SettingsError, recording_title
from biopercept.files import guarded_cell, write_json, write_table, write_text
from biopercept.version import __version__

BIDS = "bids"
"""The folder of a derivative data set beside other results, and the name of the format."""
BIDS_VERSION = "1.11.0"
_MISSING = "n/a"


@dataclass(eq=False)
class Derivatives:
    """Writes a derivative data set into ``folder``/bids, a recording at a time; :meth:`describe` writes what is of all.

    ``desc`` is the entity that tells these tables from others of the same recordings, ``what`` the words for them.
    """

    folder: Path
    desc: str
    what: str
    _names: dict[Path, str] = field(default_factory=dict)

    def write(
        self,
        who: tuple[str, str, str],
        columns: Mapping[str, Iterable[Any]],
        sidecar: Mapping[str, Any],
    ) -> Path:
        """Write the table of a recording and the JSON beside it, and return where.

        To the JSON are added what BIDS recommends: the name of the task, and what the file holds.

        Raises SettingsError where two recordings have one name in BIDS. Raises OutputError where it cannot be written.

        Parameters
        ----------
        who : tuple of str
            Subject, session and recording.
        columns : mapping of name to values
            A value per row in each; onset, duration and trial_type come first.
        """
        subject, session, recording = who
        entities = {
            "sub": entity(subject or recording),
            **({"ses": entity(session)} if session else {}),
            "task": entity(recording or "recording"),
            "desc": entity(self.desc),
        }
        place = Path(*(f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities), "beh")
        path = place / ("_".join(f"{key}-{value}" for key, value in entities.items()) + "_events.tsv")
        title = recording_title(*who)
        if (other := self._names.setdefault(path, title)) != title:
            raise SettingsError(
                f"the recordings {other} and {title} have one name in BIDS, {path.name}, which holds letters and "
                "digits alone; rename one, or leave bids out of --also"
            )
        target = self.folder / BIDS / path
        rows = zip(*([_cell(value) for value in values] for values in columns.values()), strict=True)
        write_table(target, tuple(columns), rows, delimiter="\t")
        about: dict[str, Any] = {
            "TaskName": recording or "recording",
            "Description": self.what[:1].upper() + self.what[1:],
        }
        about |= {name: _as_in_cells(text) for name, text in sidecar.items()}
        write_json(target.with_suffix(".json"), about)
        return target

    def describe(self) -> None:
        """Write what a derivative data set must say of itself. Raises OutputError where it cannot be written."""
        top = self.folder / BIDS
        description = {
            "Name": self.what[:1].upper() + self.what[1:],
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "biopercept", "Version": __version__, "Description": self.what}],
        }
        write_json(top / "dataset_description.json", description)
        row = (f"desc-{entity(self.desc)}", self.what)
        write_table(top / "descriptions.tsv", ("desc_id", "description"), [row], delimiter="\t")
        write_text(
            top / "README",
            f"{description['Name']}, made by biopercept {__version__}, as a BIDS derivative. For research; not a "
            "medical device.\n",
        )


def _as_in_cells(about: Any) -> Any:
    """Return what is said of a column, with its levels as they stand in the cells of a table."""
    if not isinstance(about, Mapping) or "Levels" not in about:
        return about
    return {**about, "Levels": {guarded_cell(name): words for name, words in about["Levels"].items()}}


def clear_derivatives(folder: Path) -> None:
    """Remove the derivative data set that an earlier call wrote into a folder of results."""
    if (folder / BIDS / "dataset_description.json").is_file():
        shutil.rmtree(folder / BIDS)


def entity(text: str) -> str:
    """Return a name as BIDS writes the value of an entity: letters, digits and plus signs alone.

    >>> entity("rest 1"), entity("S-01"), entity("_")
    ('rest1', 'S01', 'x')
    """
    return re.sub(r"[^0-9A-Za-z+]", "", text) or "x"


def plain_cell_of(value: Any) -> object:
    """Return a cell as text, a whole number, a number of six digits, or None where it is not known."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, np.integer | int):
        return int(value)
    return None if np.isnan(value) else float(f"{float(value):.6g}")


def _cell(value: Any) -> object:
    plain = plain_cell_of(value)
    return _MISSING if plain in (None, "") else plain
