"""BioSPPy's simple text: a few commented lines with the sampling rate and labels, then columns of numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from biopercept.errors import RecordingError
from biopercept.loaders.readers.tables import TableSource, recording_of_table
from biopercept.loaders.readers.text_tables import read_text, table_of_text
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.sidecars import read_sidecar
from biopercept.recording import Recording

FIRST_WORDS = b"# Simple Text Format"
_FASTEST = 1e6


def load_simple_text(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a file in BioSPPy's simple text format.

    Units are what a JSON sidecar says; a file with a resolution holds counts of a converter, which have none.

    Raises RecordingError where it gives no sampling rate, or fewer labels than columns.
    """
    notes: list[str] = []
    text = read_text(path, notes)
    lines = text[: 1 << 16].splitlines()
    n_comments = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    fields = dict(_fields(lines[:n_comments]))
    rate = _number(fields.get("sampling rate (hz)", ""))
    sidecar = read_sidecar(path)
    if sidecar.sampling_rate is None and (rate is None or not 0 < rate <= _FASTEST):
        raise RecordingError(
            f"{path.name}: the header gives no 'Sampling Rate (Hz):='; add the line, or a JSON sidecar"
        )
    body = text.split("\n", n_comments)[n_comments] if n_comments < len(lines) else ""
    first = body.split("\n", 1)[0]
    delimiter = "\t" if "\t" in first else "," if "," in first else "\t"
    n_columns = len(first.rstrip(delimiter + "\r").split(delimiter))
    if not first.strip():
        raise RecordingError(f"{path.name}: a header and no rows")
    names = list(sidecar.columns or [one.strip() for one in fields.get("labels", "").split("\t") if one.strip()])
    if len(names) != n_columns:
        if names:
            raise RecordingError(
                f"{path.name}: the header names {len(names)} labels ({', '.join(names)}), and there are {n_columns} "
                "columns"
            )
        names = [f"column {i + 1}" for i in range(n_columns)]
    if fields.get("resolution"):
        notes.append("the file gives the resolution of a converter: its numbers are counts, without a unit")
    table = table_of_text(path, body, names, delimiter, notes)
    used = replace(sidecar, sampling_rate=sidecar.sampling_rate or rate)
    return recording_of_table(TableSource(path, used, overrides), table)


def _fields(comments: list[str]) -> list[tuple[str, str]]:
    """Return the pairs of the header, "Sampling Rate (Hz):= 1000.00" among them, names in lower case."""
    parts = [re.split(r":=", line.lstrip("# "), maxsplit=1) for line in comments]
    return [(part[0].strip().lower(), part[1].strip()) for part in parts if len(part) == 2]


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) else None
