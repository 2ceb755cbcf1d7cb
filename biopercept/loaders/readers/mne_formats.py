"""Formats of clinical and laboratory EEG that are read through mne: Neuroscan, Nihon Kohden, Persyst and Nicolet.

mne types their channels itself, so labels decide what a channel is. Their start is the clock of the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biopercept.errors import RecordingError
from biopercept.loaders.identity import HIDDEN, identity_in_text
from biopercept.loaders.readers.mne_raws import OpenedRaw, quiet_mne, recording_of
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Recording

LARGEST_HEADER = 64 << 20
_NIHON = (b"EEG-1100", b"EEG-2100", b"EEG-1200", b"QI-403A", b"DAE-2100D")


@dataclass(frozen=True)
class ClinicalFormat:
    """A format that mne reads: its name, the suffix of its header, and the first bytes of that, empty for any text."""

    name: str
    suffix: str
    magics: tuple[bytes, ...]
    beside: str = ""
    read: Callable[[Path], Any] = lambda path: None


def _neuroscan(path: Path) -> Any:
    import mne

    return mne.io.read_raw_cnt(path, preload=False)


def _nihon(path: Path) -> Any:
    import mne

    return mne.io.read_raw_nihon(path, preload=False)


def _persyst(path: Path) -> Any:
    import mne

    return mne.io.read_raw_persyst(path, preload=False)


def _nicolet(path: Path) -> Any:
    import mne

    return mne.io.read_raw_nicolet(path, ch_type="eeg", preload=False)


CLINICAL = (
    ClinicalFormat("Neuroscan CNT", ".cnt", (b"Version 3.0",), read=_neuroscan),
    ClinicalFormat("Nihon Kohden", ".eeg", _NIHON, read=_nihon),
    ClinicalFormat("Persyst", ".lay", (b"[FileInfo]", b"[fileinfo]"), beside=".dat", read=_persyst),
    ClinicalFormat("Nicolet", ".data", (), beside=".head", read=_nicolet),
)


def clinical_format(path: Path, first_bytes: bytes) -> ClinicalFormat | None:
    """Return which of these formats a file is in, None where in none."""
    for one in CLINICAL:
        if path.suffix.lower() == one.suffix and (
            first_bytes.startswith(one.magics) if one.magics else path.with_suffix(one.beside).is_file()
        ):
            return one
    return None


def load_clinical(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a file in one of these formats, its samples unread.

    Raises RecordingError where it is damaged, or holds fewer samples than it says.
    """
    with path.open("rb") as stream:
        form = clinical_format(path, stream.read(64))
    if form is None:
        raise RecordingError(f"{path.name}: none of {', '.join(one.name for one in CLINICAL)}")
    header = path.with_suffix(form.beside) if form.name == "Nicolet" else path
    if form.beside and header.stat().st_size > LARGEST_HEADER:
        raise RecordingError(f"{path.name}: a header of more than {LARGEST_HEADER >> 20} MB is none")
    notes = _of_parts(path, form.name)
    with quiet_mne(path, form.name, notes):
        raw = form.read(path)
    _check_samples(path, form.name, raw)
    with quiet_mne(path, form.name):
        raw.get_data(start=raw.n_times - 1)  # a file that is cut shows here, and not after an hour of reading
    if form.name == "Neuroscan CNT" and raw.info["meas_date"] is not None:
        raw.set_meas_date(None)
        notes.append("the start is not used: the format does not say whether day or month comes first")
    types = ["stim" if kind == "stim" else "" for kind in raw.get_channel_types()]
    return recording_of(OpenedRaw(path, form.name, raw, types, notes), overrides)


def _of_parts(path: Path, name: str) -> list[str]:
    """Return the note that a part of the recording names a person, where one does.

    Raises RecordingError where one of the files that belong together is a pipe or a device, which mne would wait for.
    """
    parts = [part for part in path.parent.iterdir() if part.stem == path.stem and part.suffix and part != path]
    for part in parts:
        if not part.is_file() and not part.is_dir() and os.path.lexists(part):
            raise RecordingError(f"{path.name}: {part.name} beside it is not a regular file; copy it from the recorder")
    suffixes = {part.suffix.lower(): part for part in parts}
    if name == "Nihon Kohden" and ".pnt" in suffixes:
        return [HIDDEN]
    if name == "Nicolet" and ".head" in suffixes:
        return list(identity_in_text(suffixes[".head"].read_text("latin-1")))
    return []


def _check_samples(path: Path, name: str, raw: Any) -> None:
    """Raise RecordingError where the files cannot hold the samples that mne promises."""
    n_bytes = sum(Path(file).stat().st_size for file in raw.filenames if file is not None)
    if raw.n_times * len(raw.ch_names) * 2 > n_bytes:
        raise RecordingError(
            f"{path.name}: {raw.n_times} samples of {len(raw.ch_names)} channels are said, {n_bytes} bytes are there;"
            f" the {name} file is cut, copy it again"
        )
