"""Formats that are known and not read: how each is recognised, and what a person does instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from biopercept.loaders.glance import Glance

_PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_BTI_SAMPLES = re.compile(r"[ce],rf[^/]*")
_AS_FIF = "save it as FIF in MNE-Python ({}(...).save('name_raw.fif')), which keeps its EEG, ECG and EOG channels"
_AS_EDF = "export the recording as EDF"
_NO_FNIRS = "near-infrared spectroscopy is no modality here"
_INSIDE = "electrodes inside the head are no modality here; export other channels as EDF"


@dataclass(frozen=True)
class Unread:
    """A format that is known and not read: its name, what recognises it, and what to do with such a file."""

    name: str
    matches: Callable[[Glance], bool]
    advice: str


def _named(*suffixes: str) -> Callable[[Glance], bool]:
    return lambda one: one.suffix in suffixes


def _begins(*magics: bytes) -> Callable[[Glance], bool]:
    return lambda one: one.begins(*magics)


def _is_pickle(one: Glance) -> bool:
    """Return whether a file is a pickle of no data set that is known, by its first bytes or by its name."""
    if one.is_folder or not (one.begins(*_PICKLES) or one.suffix in (".pkl", ".pickle")):
        return False
    from biopercept.loaders.readers.deap import is_deap
    from biopercept.loaders.readers.wesad import is_wesad

    return not (is_wesad(one.path, one.first_bytes) or is_deap(one.path, one.first_bytes))


def _is_ctf(one: Glance) -> bool:
    if one.is_folder:
        return one.path.suffix.lower() == ".ds"
    return one.path.parent.suffix.lower() == ".ds" and one.suffix in (".meg4", ".res4")


def _is_bti(one: Glance) -> bool:
    folder = one.path if one.is_folder else one.path.parent
    if not one.is_folder and not _BTI_SAMPLES.fullmatch(one.path.name):
        return False
    if not (folder / "config").is_file():
        return False
    return any(_BTI_SAMPLES.fullmatch(file.name) for file in folder.iterdir())


def _is_kit(one: Glance) -> bool:
    return one.suffix in (".sqd", ".con") and not one.is_text()


def _is_other_meg(one: Glance) -> bool:
    """Return whether a file is of Artemis123 (a .bin with its .header) or of UCL's OPMs (a .bin called _meg)."""
    is_bin = one.suffix == ".bin" and not one.is_folder
    return is_bin and (one.path.stem.endswith("_meg") or one.path.with_suffix(".header").is_file())


def _is_nirx(one: Glance) -> bool:
    if one.is_folder:
        endings = {file.suffix.lower() for file in one.path.iterdir()}
        return {".wl1", ".wl2", ".hdr"} <= endings
    return one.suffix in (".wl1", ".wl2")


def _is_bci2000(one: Glance) -> bool:
    return one.suffix == ".dat" and b"HeaderLen=" in one.first_bytes[:200] and b"SourceCh=" in one.first_bytes[:200]


def _is_embraceplus_table(one: Glance) -> bool:
    first = one.first_bytes.split(b"\n", 1)[0]
    return b"timestamp_iso" in first and b"participant_full_id" in first


UNREAD: tuple[Unread, ...] = (
    Unread(
        "an ANT Neuro (eego) recording",
        lambda one: one.suffix == ".cnt" and one.begins(b"RIFF"),
        "export it from eego as EDF or BrainVision",
    ),
    Unread("a CTF (MEG) recording", _is_ctf, _AS_FIF.format("mne.io.read_raw_ctf")),
    Unread("a BTi or 4D (MEG) recording", _is_bti, _AS_FIF.format("mne.io.read_raw_bti")),
    Unread("a KIT (MEG) recording", _is_kit, _AS_FIF.format("mne.io.read_raw_kit")),
    Unread("a recording of magnetometers", _is_other_meg, _AS_FIF.format("mne.io.read_raw")),
    Unread("a Neuroelectrics (NIC) recording", _named(".nedf", ".easy"), "save it as EDF in NIC"),
    Unread("a Nexstim eXimia recording", _named(".nxe"), _AS_FIF.format("mne.io.read_raw_eximia")),
    Unread("a BCI2000 recording", _is_bci2000, "export it with the tools of BCI2000 as BrainVision, EDF or GDF"),
    Unread("a SNIRF (fNIRS) recording", _named(".snirf"), _NO_FNIRS),
    Unread("a NIRx (fNIRS) recording", _is_nirx, _NO_FNIRS),
    Unread("a BOXY (fNIRS) recording", lambda one: b"BOXY.EXE" in one.first_bytes[:200], _NO_FNIRS),
    Unread(
        "a Hitachi ETG (fNIRS) recording",
        lambda one: one.begins(b"Header") and b"File Version" in one.first_bytes[:60],
        _NO_FNIRS,
    ),
    Unread("a MEF recording", lambda one: one.path.suffix.lower() in (".mefd", ".timd", ".tmet"), _INSIDE),
    Unread("a Blackrock recording", _begins(b"NEURALCD", b"NEURALSG", b"BRSMPGRP"), _INSIDE),
    Unread("a Neuralynx recording", _begins(b"######## Neuralynx"), _INSIDE),
    Unread(
        "an EyeLink recording",
        _begins(b"** CONVERTED FROM", b"SR_RESEARCH"),
        "gaze and pupil are no modality here; export its messages as a table of events",
    ),
    Unread("a LabChart file", _named(".adicht", ".adibin"), "export it from LabChart as text or as MATLAB"),
    Unread("a Spike2 file", _named(".smr", ".smrx"), "export it from Spike2 as text or as MATLAB"),
    Unread("a MindWare file", _named(".mwi", ".mwx"), "export it from MindWare as EDF or as text"),
    Unread("a TMSi Poly5 recording", _begins(b"POLY SAMPLE FILE"), _AS_EDF),
    Unread("a Micromed recording", _begins(b"* MICROMED"), _AS_EDF),
    Unread(
        "a table of EmbracePlus biomarkers, values by the minute",
        _is_embraceplus_table,
        "name the .avro files of its raw data",
    ),
    Unread(
        "a Python pickle",
        _is_pickle,
        "a pickle can run anything when it is opened; save the samples as .npz, .csv or .edf",
    ),
)
"""What is known and not read, looked at before what is read."""


def known_but_unread(glance: Glance) -> Unread | None:
    """Return the format that is known and not read, None where a path is in none of these."""
    return next((one for one in UNREAD if one.matches(glance)), None)
