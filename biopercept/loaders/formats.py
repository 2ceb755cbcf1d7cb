"""The formats of recordings: how each is recognised, by content before suffix, and the reader that is then imported.

A reader is one file of ``readers/`` with a function that takes a path and returns a Recording. It is imported when a
file of its format is met, and the library that it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from biopercept.loaders.glance import Glance
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.unread import known_but_unread
from biopercept.recording import Recording

HEADER, TEXT = "header", "text"
"""What tells the sensors of a file without its samples: a header, or the first lines of a text."""
_OF_HEADERS = frozenset(
    f"readers.{name}" for name in ["edf", "eeglab", "hdf5", "wfdb", "brainvision", "fif", "egi", "gdf", "mne_formats"]
)
_OF_TEXTS = frozenset(
    f"readers.{name}" for name in ["empatica", "opensignals_text", "openbci", "shimmer", "muse", "tables"]
)
_TABLES = frozenset({".csv", ".tsv", ".txt"})
_TEXTS = frozenset({".log", ".asc", ".dat"})
"""Suffixes of tables, and of files that are tables where they hold text."""
_DOCUMENTS = frozenset({".xlsx", ".xlsm", ".ods", ".docx", ".odt", ".pptx"})
"""Suffixes of files that are packed as a .zip is, and are none."""


class Reader(Protocol):
    """Returns the recording at a path. Raises RecordingError where it cannot be trusted."""

    def __call__(self, path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
        """Read; ``overrides`` is what the study says about signals."""
        ...


Matches = Callable[[Glance], bool]


@dataclass(frozen=True)
class Format:
    """A format that is read: its name, how its files look, what recognises it, and the function that reads it."""

    name: str
    look: str
    matches: Matches
    module: str
    function: str

    @property
    def told_by(self) -> str:
        """Return what tells the sensors of a file: its header, its first lines of text, or (empty) only all of it."""
        return HEADER if self.module in _OF_HEADERS else TEXT if self.module in _OF_TEXTS else ""

    def reader(self) -> Reader:
        """Return its reader, imported now."""
        reader: Reader = _function(self.module, self.function)
        return reader


def _function(module: str, name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module(f"biopercept.loaders.{module}"), name)
    return function


def _by_bytes(module: str, name: str) -> Matches:
    """Return what recognises a file by a function of its first bytes; a folder has none, and needs no reader for it."""
    return lambda glance: bool(glance.first_bytes) and bool(_function(module, name)(glance.first_bytes))


def _by_file(module: str, name: str) -> Matches:
    """Return what recognises a file by a function of its path and its first bytes."""
    return lambda glance: not glance.is_folder and bool(_function(module, name)(glance.path, glance.first_bytes))


def _begins(*magics: bytes) -> Matches:
    return lambda glance: glance.begins(*magics)


def _is_empatica(glance: Glance) -> bool:
    from biopercept.loaders.readers.empatica import is_empatica_file, is_empatica_folder

    if glance.is_folder:
        return is_empatica_folder(glance.path)
    is_zip = (glance.begins(b"PK\x03\x04") and glance.suffix not in _DOCUMENTS) or glance.suffix == ".zip"
    return is_zip or is_empatica_file(glance.path, glance.first_bytes)


def _is_wfdb(glance: Glance) -> bool:
    from biopercept.loaders.readers.wfdb import is_wfdb_folder

    if glance.is_folder:
        return is_wfdb_folder(glance.path)
    # A signal file or an annotator of any name (.dat, .mat, .atr, .qrs) stands for its record.
    is_part = glance.suffix not in (*_TABLES, ".json", ".zip") and glance.path.with_suffix(".hea").is_file()
    return glance.suffix == ".hea" or (bool(glance.suffix) and is_part)


_is_wesad = _by_file("readers.wesad", "is_wesad")
_is_deap = _by_file("readers.deap", "is_deap")


def _is_mff(glance: Glance) -> bool:
    from biopercept.loaders.readers.mff import is_mff

    return is_mff(glance.path, is_folder=glance.is_folder)


def _is_xdf(glance: Glance) -> bool:
    return glance.begins(b"XDF:") or (glance.begins(b"\x1f\x8b") and glance.suffix in (".xdf", ".xdfz"))


def _is_avro(glance: Glance) -> bool:
    if glance.is_folder:
        return any(file.suffix.lower() == ".avro" and file.is_file() for file in glance.path.iterdir())
    return glance.begins(b"Obj\x01")


def _is_matlab(glance: Glance) -> bool:
    return glance.begins(b"MATLAB 5.0") or glance.suffix == ".mat"


def _is_everion(glance: Glance) -> bool:
    from biopercept.loaders.readers.everion import HEADER, is_everion_folder

    return is_everion_folder(glance.path) if glance.is_folder else glance.begins(HEADER)


def _is_faros(glance: Glance) -> bool:
    from biopercept.loaders.readers.faros import is_faros_file, is_faros_folder

    return is_faros_folder(glance.path) if glance.is_folder else is_faros_file(glance.path)


def _is_table(glance: Glance) -> bool:
    if glance.suffix in _TABLES:
        return True
    is_packed = glance.begins(b"\x1f\x8b")
    return glance.suffix in _TEXTS and (is_packed or glance.is_text())


FORMATS: tuple[Format, ...] = (
    Format("EGI Net Station", "a folder .mff", _is_mff, "readers.mff", "load_mff"),
    Format("EDF, EDF+, BDF, BDF+", ".edf, .bdf", _by_bytes("readers.edf", "is_edf"), "readers.edf", "load_edf"),
    Format(
        "EEGLAB", ".set, with or without .fdt", _by_file("readers.eeglab", "is_eeglab"), "readers.eeglab", "load_eeglab"
    ),
    Format(
        "HDF5 (OpenSignals, MATLAB 7.3, arrays)",
        ".h5, .mat, with the rate in it or a sidecar",
        _by_bytes("readers.hdf5", "is_hdf5"),
        "readers.hdf5",
        "load_hdf5",
    ),
    Format(
        "NumPy",
        ".npz, .npy, with the rate in it or a sidecar",
        _by_bytes("readers.numpy_files", "is_numpy"),
        "readers.numpy_files",
        "load_numpy",
    ),
    Format("Parquet", ".parquet", _begins(b"PAR1"), "readers.parquet", "load_parquet"),
    Format(
        "Empatica E4",
        "a folder or a .zip with ACC.csv, BVP.csv, EDA.csv, TEMP.csv, ...",
        _is_empatica,
        "readers.empatica",
        "load_empatica",
    ),
    Format(
        "WFDB (PhysioNet)",
        "a .hea header, or a folder of records that share their first word",
        _is_wfdb,
        "readers.wfdb",
        "load_wfdb",
    ),
    Format(
        "CASE, K-EmoCon, MAUS, AffectiveROAD",
        "the tables of these data sets, by name and header",
        _by_file("readers.published_tables", "is_published_table"),
        "readers.published_tables",
        "load_published_table",
    ),
    Format("WESAD", "SX/SX.pkl of the data set WESAD; no other pickle", _is_wesad, "readers.wesad", "load_wesad"),
    Format("DEAP", "sNN.dat of the data set DEAP, prepared for Python", _is_deap, "readers.deap", "load_deap"),
    Format(
        "STEW",
        "subNN_lo.txt and subNN_hi.txt of the data set STEW",
        _by_file("readers.stew", "is_stew"),
        "readers.stew",
        "load_stew",
    ),
    Format(
        "BrainVision",
        ".vhdr with .eeg and .vmrk",
        _by_file("readers.brainvision", "is_brainvision"),
        "readers.brainvision",
        "load_brainvision",
    ),
    Format(
        "Curry",
        ".cdt with .cdt.dpa, .dat with .dap and .rs3",
        lambda one: not one.is_folder and bool(_function("readers.curry", "is_curry")(one.path)),
        "readers.curry",
        "load_curry",
    ),
    Format("FIF", ".fif, .fif.gz", _by_file("readers.fif", "is_fif"), "readers.fif", "load_fif"),
    Format("EGI simple binary", ".raw", _by_file("readers.egi", "is_egi"), "readers.egi", "load_egi"),
    Format("XDF (Lab Streaming Layer)", ".xdf, .xdfz, .xdf.gz", _is_xdf, "readers.xdf", "load_xdf"),
    Format("FIT (Garmin and others)", ".fit", lambda one: one.first_bytes[8:12] == b".FIT", "readers.fit", "load_fit"),
    Format(
        "Empatica EmbracePlus", ".avro, or a folder of consecutive .avro files", _is_avro, "readers.avro", "load_avro"
    ),
    Format("BIOPAC AcqKnowledge", ".acq", lambda one: one.suffix == ".acq", "readers.biopac", "load_biopac"),
    Format("GDF", ".gdf", _begins(b"GDF "), "readers.gdf", "load_gdf"),
    Format(
        "Neuroscan, Nihon Kohden, Persyst, Nicolet",
        ".cnt, .eeg, .lay, .data with .head",
        _by_file("readers.mne_formats", "clinical_format"),
        "readers.mne_formats",
        "load_clinical",
    ),
    Format(
        "MATLAB",
        ".mat, with the rate in it or a sidecar",
        _is_matlab,
        "readers.matlab",
        "load_matlab",
    ),
    Format(
        "OpenSignals text (PLUX, BITalino)",
        ".txt",
        _begins(b"# OpenSignals Text File Format"),
        "readers.opensignals_text",
        "load_opensignals_text",
    ),
    Format("OpenBCI text", ".txt, .csv", _begins(b"%OpenBCI Raw", b"%OBCI"), "readers.openbci", "load_openbci"),
    Format("Shimmer CSV", ".csv", _by_bytes("readers.shimmer", "is_shimmer"), "readers.shimmer", "load_shimmer"),
    Format("Muse (Mind Monitor)", ".csv", _by_bytes("readers.muse", "is_muse"), "readers.muse", "load_muse"),
    Format("Polar Sensor Logger", ".txt", _begins(b"Phone timestamp;"), "readers.polar", "load_polar"),
    Format(
        "Polar Flow",
        ".csv",
        _begins(b"Name,Sport,Date,Start time,Duration"),
        "readers.polar_flow",
        "load_polar_flow",
    ),
    Format("Garmin CSV", ".csv", _by_bytes("readers.garmin", "is_garmin"), "readers.garmin", "load_garmin"),
    Format(
        "Biovotion Everion", "a folder of CsvData_*.csv, or one of them", _is_everion, "readers.everion", "load_everion"
    ),
    Format("Bittium Faros CSV", "a folder with meta.json", _is_faros, "readers.faros", "load_faros"),
    Format("BioSPPy simple text", ".txt", _begins(b"# Simple Text Format"), "readers.simple_text", "load_simple_text"),
    Format(
        "CSV or TSV",
        ".csv, .tsv, .txt, .log, .asc, .dat, each also .gz, with a JSON sidecar or a time column",
        _is_table,
        "readers.tables",
        "load_table",
    ),
)
"""What is read, in the order in which a file is looked at: the first that matches reads it."""


def format_of(glance: Glance) -> Format | None:
    """Return the format of a file or folder, or None where it is none of those that are read."""
    if known_but_unread(glance) is not None:
        return None
    return next((one for one in FORMATS if one.matches(glance)), None)


def format_without_suffix(path: Path) -> Format | None:
    """Return the format of a path at which nothing lies, and which names a record by its files less their suffixes."""
    from biopercept.loaders.readers.wfdb import wfdb_headers

    return next(one for one in FORMATS if one.function == "load_wfdb") if wfdb_headers(path) else None


def formats_text() -> str:
    """Return in one line what is read."""
    return "read are " + "; ".join(one.name for one in FORMATS)
