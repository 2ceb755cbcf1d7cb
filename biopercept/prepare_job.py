"""The work on one recording of a study, in whatever process: load, prepare, store as a part; every fault is a row."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from biopercept.errors import BioperceptError, OutputError
from biopercept.prepare_log import LogRow
from biopercept.prepare_recording import PrepareSettings, prepare_recording
from biopercept.store_writing import write_recording_part
from biopercept.studies.entries import load_entry
from biopercept.studies.structure import Entry, Study


@dataclass(frozen=True)
class PrepareJob:
    """One recording to prepare, where its part goes, and the hash of what it is made from."""

    entry: Entry
    part: Path
    source_hash: str


@dataclass(frozen=True)
class PrepareContext:
    """What is the same for every recording of a run."""

    study: Study
    settings: PrepareSettings
    settings_hash: str


@dataclass(frozen=True)
class Unwritable:
    """A part could not be written: the run must end, for the next could not be either."""

    message: str


def prepare_one(context: PrepareContext, job: PrepareJob) -> LogRow | Unwritable:
    """Return the row of a recording that was loaded, prepared and stored as a part; a fault is a row too."""
    entry, begun = job.entry, time.monotonic()
    try:
        prepared = prepare_recording(load_entry(context.study, entry), context.settings)
        hashes = {"source_hash": job.source_hash, "settings_hash": context.settings_hash}
        write_recording_part(job.part, prepared, **hashes)
    except OutputError as fault:
        return Unwritable(str(fault))
    except MemoryError:
        raise
    except BioperceptError as fault:
        return replace(failed_row(entry, "", time.monotonic() - begun), message=str(fault))
    except Exception as fault:
        return failed_row(
            entry, f"a fault of ours, {type(fault).__name__}: {fault}; please report it", time.monotonic() - begun
        )
    n_labelled = int(prepared.windows.is_labelled.sum())
    return LogRow(
        entry.subject,
        entry.session,
        entry.recording,
        "prepared",
        time.monotonic() - begun,
        windows_labelled=n_labelled,
        windows_grid=len(prepared.windows) - n_labelled,
        left_out=dict(prepared.left_out),
        signals=tuple(signal.name for signal in prepared.signals),
        notes=prepared.notes,
    )


def failed_row(entry: Entry, reason: str, seconds: float = 0.0) -> LogRow:
    """Return the row of a recording that could not be prepared."""
    return LogRow(entry.subject, entry.session, entry.recording, "failed", seconds, message=f"{entry.title}: {reason}")
