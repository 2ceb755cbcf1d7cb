"""The door for recordings: a path in, a Recording out, whatever the format."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from biopercept.errors import BioperceptError, RecordingError, listed
from biopercept.loaders.clock import LONGEST_DAYS, apart
from biopercept.loaders.corrections import ENDING, with_corrections
from biopercept.loaders.formats import format_of, format_without_suffix, formats_text
from biopercept.loaders.glance import EDF_SUFFIXES, glance_at
from biopercept.loaders.outputs import maker_of
from biopercept.loaders.reading_process import Reading, read_apart
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.unread import known_but_unread
from biopercept.recording import Recording
from biopercept.typed_values import path_meant

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:(/|:)")  # a Path turns // into /


def load_recording(
    path: Path,
    *,
    subject: str = "",
    session: str = "",
    name: str = "",
    overrides: Mapping[str, SignalOverride] | None = None,
) -> Recording:
    """Return the recording at a path, its format recognised by content, then by suffix; samples are read lazily.

    Corrections by hand that lie beside it, or are annotations in it, come with it. It is read apart where a process was
    opened (:mod:`biopercept.loaders.reading_process`).

    Raises RecordingError where the path is not a regular file or a known folder, its format is not read here, nothing
    in it can be trusted, or its corrections are malformed.

    Parameters
    ----------
    path : Path
        A file, an Empatica folder, a folder of WFDB records, or a WFDB record's path without suffix.
    name : str
        Empty keeps the file's stem.
    overrides : mapping or None
        What the study says about signals: fnmatch pattern of the channel label (in any case) -> SignalOverride.
    """
    return read_apart(reading_of(path, subject=subject, session=session, name=name, overrides=overrides))


def reading_of(
    path: Path,
    *,
    subject: str = "",
    session: str = "",
    name: str = "",
    overrides: Mapping[str, SignalOverride] | None = None,
) -> Reading[Recording]:
    """Return how the recording at a path is read by :func:`load_recording`, which has the same parameters."""
    path = Path(path)
    return Reading(path.name or str(path), (path,), partial(_load_here, path, subject, session, name, overrides))


def _load_here(
    path: Path, subject: str, session: str, name: str, overrides: Mapping[str, SignalOverride] | None
) -> Recording:
    try:
        recording = with_corrections(_of_possible_length(_load(path, overrides), path), path)
    except BioperceptError as fault:
        if str(fault).isprintable():
            raise
        raise type(fault)(_printable(str(fault))) from fault
    except MemoryError as fault:
        raise RecordingError(f"{path.name}: reading it needs more memory than there is, or than it may use") from fault
    except (OSError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError) as fault:
        # A last net under the loaders: a damaged file must cost one file, not the run. A library's words may hold data.
        words = fault.strerror if isinstance(fault, OSError) and fault.strerror else type(fault).__name__
        raise RecordingError(_printable(f"{path.name}: cannot be read ({words})")) from fault
    notes = tuple(_printable(note) for note in recording.notes)
    return replace(recording, subject=subject, session=session, name=name or recording.name, notes=notes)


def _printable(text: str) -> str:
    r"""Return what a file says with control characters, line ends and direction marks spelt out ("\x1b")."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _load(path: Path, overrides: Mapping[str, SignalOverride] | None) -> Recording:
    if _ADDRESS.match(str(path)):
        raise RecordingError(f"{path}: addresses are not opened; give the path of a local file")
    if not os.path.lexists(path) and (form := format_without_suffix(path)):
        return form.reader()(path, overrides=overrides)
    is_folder = _checked_kind(path) == "folder"
    if path.name.endswith(ENDING):
        raise RecordingError(f"{path.name}: corrections by hand, and no recording; name the recording that they are of")
    if path.suffix.lower() == ".json":
        others = [file.name for file in sorted(path.parent.glob(f"{path.stem}.*")) if file.name != path.name]
        of_what = f"; name its recording, {listed(others, 3)}" if others else ""
        raise RecordingError(f"{path.name}: describes a recording, and is none{of_what}")
    glance = glance_at(path, is_folder=is_folder)
    form = format_of(glance)
    if (form is None or not is_folder) and (maker := maker_of(path)):
        raise RecordingError(f"{path.name}: written by {maker}, and no recording; name the recordings themselves")
    if form is not None:
        return form.reader()(path, overrides=overrides)
    if unread := known_but_unread(glance):
        raise RecordingError(f"{path.name}: {unread.name}, which is not read; {unread.advice}")
    if is_folder:
        raise RecordingError(f"{path.name}: a folder that holds no recording of a known layout; {formats_text()}")
    if glance.suffix in EDF_SUFFIXES:
        raise RecordingError(f"{path.name}: named {glance.suffix} but does not begin as EDF or BDF; export it again")
    raise RecordingError(f"{path.name}: not a format that is read here; {formats_text()}")


def _of_possible_length(recording: Recording, path: Path) -> Recording:
    """Return the recording; refuse one of which a grid from second zero to its end would fill the memory."""
    times = [t for s in recording.signals for t in (s.start_seconds, s.end_seconds)]
    furthest = max(map(abs, times), default=0.0)
    if not furthest <= LONGEST_DAYS * 86_400:
        raise RecordingError(
            f"{path.name}: its samples lie up to {furthest / 86_400:.3g} days from second zero, at most {LONGEST_DAYS} "
            "are read; correct its start or its sampling rate, which are in seconds and in Hz"
        )
    alone = apart([(signal.name, signal.start_seconds, signal.end_seconds) for signal in recording.signals], "signal")
    return replace(recording, notes=(*recording.notes, *alone))


def _checked_kind(path: Path) -> str:
    """Return "folder" or "file" after looking at what the path is, before anything is opened."""
    try:
        kind = path.stat()
    except FileNotFoundError as fault:
        what = "a link that leads nowhere" if path.is_symlink() else "no such file or folder"
        raise RecordingError(f"{path}: {what}{path_meant(path)}") from fault
    except OSError as fault:
        raise RecordingError(f"{path}: cannot be reached ({fault.strerror})") from fault
    except ValueError as fault:
        raise RecordingError(f"{str(path)!r}: not a path ({fault})") from fault
    if stat.S_ISDIR(kind.st_mode):
        return "folder"
    if not stat.S_ISREG(kind.st_mode):
        raise RecordingError(f"{path.name}: not a regular file (a pipe, socket or device); give the recording's file")
    if kind.st_size == 0:
        raise RecordingError(f"{path.name}: the file is empty (0 bytes)")
    if not os.access(path, os.R_OK):
        raise RecordingError(f"{path.name}: the file may not be read (permission denied)")
    return "file"
