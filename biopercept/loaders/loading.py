"""The door for recordings: a path in, a Recording out, whatever the format."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from biopercept.errors import BioperceptError, RecordingError
from biopercept.loaders.corrections import ENDING, with_corrections
from biopercept.loaders.edf import is_edf, load_edf
from biopercept.loaders.empatica import is_empatica_file, is_empatica_folder, load_empatica
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.tables import TABLE_SUFFIXES, load_table
from biopercept.loaders.wfdb import is_wfdb_folder, load_wfdb, wfdb_headers
from biopercept.recording import Recording

FORMATS: tuple[tuple[str, str], ...] = (
    ("EDF, EDF+, BDF, BDF+", ".edf, .bdf"),
    ("Empatica E4", "a folder or a .zip with ACC.csv, BVP.csv, EDA.csv, TEMP.csv, ..."),
    ("WFDB (PhysioNet)", "a .hea header, or a folder of records that share their first word"),
    ("CSV or TSV", ".csv, .tsv, .txt, each also .gz, with a JSON sidecar or a time column"),
)
"""What :func:`load_recording` reads: the name of each format, and how its files look."""

_OTHER_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "NumPy"),
    (b"MATLAB 5.0", "MATLAB"),
    (b"XDF:", "XDF"),
    (b"Brain Vision", "BrainVision"),
    (b"GDF ", "GDF"),
    (b"# OpenSignals Text File Format", "OpenSignals text (PLUX, BITalino: counts of a converter)"),
    (b"# Simple Text Format", "BioSPPy text ('# Simple Text Format')"),
    (b"%OpenBCI Raw", "OpenBCI text"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)


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

    Corrections by hand that lie beside it, or are annotations in it, come with it.

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
    path = Path(path)
    try:
        recording = with_corrections(_load(path, overrides), path)
    except BioperceptError:
        raise
    except (OSError, ValueError, TypeError, ArithmeticError, LookupError, MemoryError, RecursionError) as fault:
        # A last net under the loaders: a damaged file must cost one file, not the run.
        raise RecordingError(f"{path.name}: cannot be read ({type(fault).__name__}: {fault})") from fault
    return replace(recording, subject=subject, session=session, name=name or recording.name)


def _load(path: Path, overrides: Mapping[str, SignalOverride] | None) -> Recording:
    if _ADDRESS.match(str(path)):
        raise RecordingError(f"{path}: addresses are not opened; give the path of a local file")
    if not os.path.lexists(path) and wfdb_headers(path):
        return load_wfdb(path, overrides=overrides)
    if _checked_kind(path) == "folder":
        return _load_folder(path, overrides)
    if path.name.endswith(ENDING):
        raise RecordingError(f"{path.name}: corrections by hand, and no recording; name the recording that they are of")
    with path.open("rb") as stream:
        first_bytes = stream.read(512)
    suffix = path.suffix.lower()
    if is_edf(first_bytes):
        return load_edf(path, overrides=overrides)
    if suffix in (".edf", ".bdf", ".rec"):
        raise RecordingError(f"{path.name}: named {suffix} but does not begin as EDF or BDF; export it again")
    if first_bytes.startswith(b"PK\x03\x04") or suffix == ".zip":
        return load_empatica(path, overrides=overrides)
    if suffix == ".hea" or (suffix in (".dat", ".atr") and path.with_suffix(".hea").is_file()):
        return load_wfdb(path.with_suffix(".hea"), overrides=overrides)
    beginning = first_bytes.removeprefix(b"\xef\xbb\xbf")
    other = next((title for magic, title in _OTHER_FORMATS if beginning.startswith(magic)), None)
    if other is not None:
        raise RecordingError(f"{path.name}: {other} files are not read; {_formats_text()}")
    if is_empatica_file(path, first_bytes):
        return load_empatica(path, overrides=overrides)
    if suffix in TABLE_SUFFIXES or (suffix == ".gz" and Path(path.stem).suffix.lower() in TABLE_SUFFIXES):
        return load_table(path, overrides=overrides)
    raise RecordingError(f"{path.name}: not a format that is read here; {_formats_text()}")


def _checked_kind(path: Path) -> str:
    """Return "folder" or "file" after looking at what the path is, before anything is opened."""
    try:
        kind = path.stat()
    except FileNotFoundError as fault:
        what = "a link that leads nowhere" if path.is_symlink() else "no such file or folder"
        raise RecordingError(f"{path}: {what}") from fault
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


def _load_folder(path: Path, overrides: Mapping[str, SignalOverride] | None) -> Recording:
    if is_empatica_folder(path):
        return load_empatica(path, overrides=overrides)
    if is_wfdb_folder(path):
        return load_wfdb(path, overrides=overrides)
    raise RecordingError(f"{path.name}: a folder with neither Empatica E4 files nor WFDB records; {_formats_text()}")


def _formats_text() -> str:
    return "read are " + "; ".join(f"{title} ({look})" for title, look in FORMATS)
