"""The formats of recordings: how each is recognised, by content before suffix, and the reader that is then imported.

A reader is one file of ``readers/`` with a function that takes a path and returns a Recording. It is imported when a
file of its format is met, and the library that it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Recording

N_FIRST_BYTES = 4096
HEADER, TEXT = "header", "text"
"""What tells the sensors of a file without its samples: a header, or the first lines of a text."""
_BOM = b"\xef\xbb\xbf"
_TABLES = frozenset({".csv", ".tsv", ".txt"})
_TEXTS = frozenset({".log", ".asc", ".dat"})
"""Suffixes of tables, and of files that are tables where they hold text."""


@dataclass(frozen=True)
class Glance:
    """What is known of a path before a reader is chosen: the path and, of a file, its first bytes without a BOM."""

    path: Path
    first_bytes: bytes = b""
    is_folder: bool = False

    @property
    def suffix(self) -> str:
        """Return the suffix in lower case, without that of gzip."""
        path = self.path
        return (Path(path.stem) if path.suffix.lower() == ".gz" else path).suffix.lower()

    def is_text(self) -> bool:
        """Return whether it is a file that begins with lines of printed characters."""
        first = self.first_bytes
        is_wide = first.startswith((b"\xff\xfe", b"\xfe\xff"))
        return bool(first) and (is_wide or all(byte > 31 or byte in b"\t\r\n\f" for byte in first))

    def begins(self, *magics: bytes) -> bool:
        """Return whether it is a file that begins with one of these."""
        return self.first_bytes.startswith(magics)


class Reader(Protocol):
    """Returns the recording at a path. Raises RecordingError where it cannot be trusted."""

    def __call__(self, path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
        """Read; ``overrides`` is what the study says about signals."""
        ...


@dataclass(frozen=True)
class Format:
    """A format that is read: its name, how its files look, what recognises it, and its reader, imported when called.

    ``told_by`` is what tells the sensors of a file: its header, its first lines of text, or (empty) only all of it.
    """

    name: str
    look: str
    matches: Callable[[Glance], bool]
    reader: Callable[[], Reader]
    told_by: str = ""


def _is_edf(glance: Glance) -> bool:
    from biopercept.loaders.readers.edf import is_edf

    return is_edf(glance.first_bytes)


def _edf() -> Reader:
    from biopercept.loaders.readers.edf import load_edf

    return load_edf


def _is_empatica(glance: Glance) -> bool:
    from biopercept.loaders.readers.empatica import is_empatica_file, is_empatica_folder

    if glance.is_folder:
        return is_empatica_folder(glance.path)
    is_zip = glance.begins(b"PK\x03\x04") or glance.suffix == ".zip"
    return is_zip or is_empatica_file(glance.path, glance.first_bytes)


def _empatica() -> Reader:
    from biopercept.loaders.readers.empatica import load_empatica

    return load_empatica


def _is_wfdb(glance: Glance) -> bool:
    from biopercept.loaders.readers.wfdb import is_wfdb_folder

    if glance.is_folder:
        return is_wfdb_folder(glance.path)
    # A signal file or an annotator of any name (.dat, .mat, .atr, .qrs) stands for its record.
    is_part = glance.suffix not in (*_TABLES, ".json", ".zip") and glance.path.with_suffix(".hea").is_file()
    return glance.suffix == ".hea" or (bool(glance.suffix) and is_part)


def _wfdb() -> Reader:
    from biopercept.loaders.readers.wfdb import load_wfdb

    return load_wfdb


def _hdf5() -> Reader:
    from biopercept.loaders.readers.hdf5 import load_hdf5

    return load_hdf5


def _is_hdf5(glance: Glance) -> bool:
    from biopercept.loaders.readers.hdf5 import is_hdf5

    return is_hdf5(glance.first_bytes)


def _is_matlab(glance: Glance) -> bool:
    return glance.begins(b"MATLAB 5.0") or glance.suffix == ".mat"


def _matlab() -> Reader:
    from biopercept.loaders.readers.matlab import load_matlab

    return load_matlab


def _is_numpy(glance: Glance) -> bool:
    from biopercept.loaders.readers.numpy_files import is_numpy

    return is_numpy(glance.first_bytes)


def _numpy() -> Reader:
    from biopercept.loaders.readers.numpy_files import load_numpy

    return load_numpy


def _parquet() -> Reader:
    from biopercept.loaders.readers.parquet import load_parquet

    return load_parquet


def _is_wesad(glance: Glance) -> bool:
    from biopercept.loaders.readers.wesad import is_wesad

    return not glance.is_folder and is_wesad(glance.path, glance.first_bytes)


def _wesad() -> Reader:
    from biopercept.loaders.readers.wesad import load_wesad

    return load_wesad


def _is_published_table(glance: Glance) -> bool:
    from biopercept.loaders.readers.published_tables import is_published_table

    return glance.suffix == ".csv" and is_published_table(glance.path, glance.first_bytes)


def _published_table() -> Reader:
    from biopercept.loaders.readers.published_tables import load_published_table

    return load_published_table


def _is_pickle(glance: Glance) -> bool:
    """Return whether a file is a pickle of no data set that is known, by its first bytes or by its name."""
    is_one = glance.begins(b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    return (is_one or glance.suffix in (".pkl", ".pickle")) and not _is_wesad(glance)


def _is_brainvision(glance: Glance) -> bool:
    from biopercept.loaders.readers.brainvision import is_brainvision

    return not glance.is_folder and is_brainvision(glance.path, glance.first_bytes)


def _brainvision() -> Reader:
    from biopercept.loaders.readers.brainvision import load_brainvision

    return load_brainvision


def _is_eeglab(glance: Glance) -> bool:
    from biopercept.loaders.readers.eeglab import is_eeglab

    return not glance.is_folder and is_eeglab(glance.path, glance.first_bytes)


def _eeglab() -> Reader:
    from biopercept.loaders.readers.eeglab import load_eeglab

    return load_eeglab


def _is_fif(glance: Glance) -> bool:
    from biopercept.loaders.readers.fif import is_fif

    return is_fif(glance.path, glance.first_bytes)


def _fif() -> Reader:
    from biopercept.loaders.readers.fif import load_fif

    return load_fif


def _is_egi(glance: Glance) -> bool:
    from biopercept.loaders.readers.egi import is_egi

    return is_egi(glance.path, glance.first_bytes)


def _egi() -> Reader:
    from biopercept.loaders.readers.egi import load_egi

    return load_egi


def _is_xdf(glance: Glance) -> bool:
    return glance.begins(b"XDF:") or (glance.begins(b"\x1f\x8b") and glance.suffix in (".xdf", ".xdfz"))


def _xdf() -> Reader:
    from biopercept.loaders.readers.xdf import load_xdf

    return load_xdf


def _biopac() -> Reader:
    from biopercept.loaders.readers.biopac import load_biopac

    return load_biopac


def _fit() -> Reader:
    from biopercept.loaders.readers.fit import load_fit

    return load_fit


def _is_avro(glance: Glance) -> bool:
    if glance.is_folder:
        return any(file.suffix.lower() == ".avro" and file.is_file() for file in glance.path.iterdir())
    return glance.begins(b"Obj\x01")


def _avro() -> Reader:
    from biopercept.loaders.readers.avro import load_avro

    return load_avro


def _gdf() -> Reader:
    from biopercept.loaders.readers.gdf import load_gdf

    return load_gdf


def _is_clinical(glance: Glance) -> bool:
    from biopercept.loaders.readers.mne_formats import clinical_format

    return not glance.is_folder and clinical_format(glance.path, glance.first_bytes) is not None


def _clinical() -> Reader:
    from biopercept.loaders.readers.mne_formats import load_clinical

    return load_clinical


def _opensignals_text() -> Reader:
    from biopercept.loaders.readers.opensignals_text import load_opensignals_text

    return load_opensignals_text


def _openbci() -> Reader:
    from biopercept.loaders.readers.openbci import load_openbci

    return load_openbci


def _is_shimmer(glance: Glance) -> bool:
    from biopercept.loaders.readers.shimmer import is_shimmer

    return not glance.is_folder and is_shimmer(glance.first_bytes)


def _shimmer() -> Reader:
    from biopercept.loaders.readers.shimmer import load_shimmer

    return load_shimmer


def _is_muse(glance: Glance) -> bool:
    from biopercept.loaders.readers.muse import is_muse

    return is_muse(glance.first_bytes)


def _muse() -> Reader:
    from biopercept.loaders.readers.muse import load_muse

    return load_muse


def _polar() -> Reader:
    from biopercept.loaders.readers.polar import load_polar

    return load_polar


def _is_garmin(glance: Glance) -> bool:
    from biopercept.loaders.readers.garmin import is_garmin

    return is_garmin(glance.first_bytes)


def _garmin() -> Reader:
    from biopercept.loaders.readers.garmin import load_garmin

    return load_garmin


def _is_everion(glance: Glance) -> bool:
    from biopercept.loaders.readers.everion import HEADER, is_everion_folder

    return is_everion_folder(glance.path) if glance.is_folder else glance.begins(HEADER)


def _everion() -> Reader:
    from biopercept.loaders.readers.everion import load_everion

    return load_everion


def _is_faros(glance: Glance) -> bool:
    from biopercept.loaders.readers.faros import is_faros_file, is_faros_folder

    return is_faros_folder(glance.path) if glance.is_folder else is_faros_file(glance.path)


def _faros() -> Reader:
    from biopercept.loaders.readers.faros import load_faros

    return load_faros


def _simple_text() -> Reader:
    from biopercept.loaders.readers.simple_text import load_simple_text

    return load_simple_text


def _is_table(glance: Glance) -> bool:
    if glance.suffix in _TABLES:
        return True
    is_packed = glance.begins(b"\x1f\x8b")
    return glance.suffix in _TEXTS and (is_packed or glance.is_text())


def _table() -> Reader:
    from biopercept.loaders.readers.tables import load_table

    return load_table


FORMATS: tuple[Format, ...] = (
    Format("EDF, EDF+, BDF, BDF+", ".edf, .bdf", _is_edf, _edf, HEADER),
    Format("EEGLAB", ".set, with or without .fdt", _is_eeglab, _eeglab, HEADER),
    Format(
        "HDF5 (OpenSignals, MATLAB 7.3, arrays)",
        ".h5, .mat, with the rate in it or a sidecar",
        _is_hdf5,
        _hdf5,
        HEADER,
    ),
    Format("NumPy", ".npz, .npy, with the rate in it or a sidecar", _is_numpy, _numpy),
    Format("Parquet", ".parquet", lambda one: one.begins(b"PAR1"), _parquet),
    Format(
        "Empatica E4", "a folder or a .zip with ACC.csv, BVP.csv, EDA.csv, TEMP.csv, ...", _is_empatica, _empatica, TEXT
    ),
    Format(
        "WFDB (PhysioNet)", "a .hea header, or a folder of records that share their first word", _is_wfdb, _wfdb, HEADER
    ),
    Format(
        "CASE, K-EmoCon", "the tables of these data sets, by name and header", _is_published_table, _published_table
    ),
    Format("WESAD", "SX/SX.pkl of the data set WESAD; no other pickle", _is_wesad, _wesad),
    Format("BrainVision", ".vhdr with .eeg and .vmrk", _is_brainvision, _brainvision, HEADER),
    Format("FIF", ".fif, .fif.gz", _is_fif, _fif, HEADER),
    Format("EGI simple binary", ".raw", _is_egi, _egi, HEADER),
    Format("XDF (Lab Streaming Layer)", ".xdf, .xdfz, .xdf.gz", _is_xdf, _xdf),
    Format("FIT (Garmin and others)", ".fit", lambda one: one.first_bytes[8:12] == b".FIT", _fit),
    Format("Empatica EmbracePlus", ".avro, or a folder of consecutive .avro files", _is_avro, _avro),
    Format("BIOPAC AcqKnowledge", ".acq", lambda one: one.suffix == ".acq", _biopac),
    Format("GDF", ".gdf", lambda one: one.begins(b"GDF "), _gdf, HEADER),
    Format(
        "Neuroscan, Nihon Kohden, Persyst, Nicolet",
        ".cnt, .eeg, .lay, .data with .head",
        _is_clinical,
        _clinical,
        HEADER,
    ),
    Format(
        "MATLAB",
        ".mat, with the rate in it or a sidecar",
        _is_matlab,
        _matlab,
    ),
    Format(
        "OpenSignals text (PLUX, BITalino)",
        ".txt",
        lambda one: one.begins(b"# OpenSignals Text File Format"),
        _opensignals_text,
        TEXT,
    ),
    Format("OpenBCI text", ".txt, .csv", lambda one: one.begins(b"%OpenBCI Raw", b"%OBCI"), _openbci, TEXT),
    Format("Shimmer CSV", ".csv", _is_shimmer, _shimmer, TEXT),
    Format("Muse (Mind Monitor)", ".csv", _is_muse, _muse, TEXT),
    Format("Polar Sensor Logger", ".txt", lambda one: one.begins(b"Phone timestamp;"), _polar),
    Format("Garmin CSV", ".csv", _is_garmin, _garmin),
    Format("Biovotion Everion", "a folder of CsvData_*.csv, or one of them", _is_everion, _everion),
    Format("Bittium Faros CSV", "a folder with meta.json", _is_faros, _faros),
    Format("BioSPPy simple text", ".txt", lambda one: one.begins(b"# Simple Text Format"), _simple_text),
    Format(
        "CSV or TSV",
        ".csv, .tsv, .txt, .log, .asc, .dat, each also .gz, with a JSON sidecar or a time column",
        _is_table,
        _table,
        TEXT,
    ),
)
"""What is read, in the order in which a file is looked at: the first that matches reads it."""

_OTHERS: tuple[tuple[str, Callable[[Glance], bool]], ...] = (
    ("ANT Neuro (eego)", lambda one: one.begins(b"RIFF") and one.suffix == ".cnt"),
    ("Curry", lambda one: one.suffix in (".cdt", ".dap", ".rs3")),
    ("a Python pickle", _is_pickle),
)
"""What is known and not read."""


def format_of(glance: Glance) -> Format | None:
    """Return the format of a file or folder, or None where it is none of those that are read."""
    if known_but_unread(glance):
        return None
    return next((one for one in FORMATS if one.matches(glance)), None)


def known_but_unread(glance: Glance) -> str:
    """Return the name of a format that is known and not read; empty where it is none of these."""
    return next((name for name, matches in _OTHERS if matches(glance)), "")


def formats_text() -> str:
    """Return in one line what is read."""
    return "read are " + "; ".join(f"{one.name} ({one.look})" for one in FORMATS)


def glance_at(path: Path, *, is_folder: bool) -> Glance:
    """Return what is known of a path before it is read."""
    if is_folder:
        return Glance(path, is_folder=True)
    with path.open("rb") as stream:
        return Glance(path, stream.read(N_FIRST_BYTES).removeprefix(_BOM))
