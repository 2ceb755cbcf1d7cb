"""What a prepared recording was made from, as two hashes: its files and labels, and the settings.

A recording is prepared again exactly when one of the two has changed; nothing is asked of clocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from biopercept.files import content_hash
from biopercept.store_layout import SCHEMA
from biopercept.studies.structure import Entry, Study
from biopercept.version import __version__

_ROOMS = ("biopercept", "biopercept.loaders", "biopercept.preprocessing")
_MODULES = ("modalities.py", "prepare_recording.py", "recording.py")
_LIBRARIES = ("numpy", "scipy", "mne", "neurokit2")


class SourceFiles:
    """Finds the files that make up recordings; lists each folder once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def of(self, path: Path) -> tuple[Path, ...]:
        """Return a file and its companions: the files beside it with the same name up to the first dot.

        That covers headers and sidecars (.hea with .dat and .atr, .csv.gz with .json, .vhdr with .eeg). A folder is
        returned as it is. A path that is neither stands for WFDB records: every file that begins with its name.
        """
        if path.is_dir():
            return (path,)
        stems = self._listing(path.parent)
        if not path.is_file():
            return tuple(member for stem in sorted(stems) if stem.startswith(path.name) for member in stems[stem])
        companions = stems.get(_stem(path.name), [path])
        return (*companions, *self._named_in_header(path))

    def _named_in_header(self, path: Path) -> Iterator[Path]:
        """Yield signal files that a WFDB header names under another stem."""
        if path.suffix.lower() != ".hea":
            return
        with path.open("rb") as stream:
            lines = stream.read(1 << 20).decode("ascii", "replace").splitlines()
        for word in sorted({line.split()[0] for line in lines[1:] if line.split() and not line.startswith("#")}):
            member = path.parent / word
            if Path(word).name == word and _stem(word) != _stem(path.name) and member.is_file():
                yield member

    def _listing(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._folders:
            stems: dict[str, list[Path]] = {}
            for member in sorted(folder.iterdir()) if folder.is_dir() else ():
                if member.is_file():
                    stems.setdefault(_stem(member.name), []).append(member)
            self._folders[folder] = stems
        return self._folders[folder]


def _stem(name: str) -> str:
    return name.split(".", 1)[0] or name


def source_hash(study: Study, entry: Entry, finder: SourceFiles) -> str:
    """Return the SHA-256 of everything a recording is read from: bytes and names of files, offsets, labels, overrides.

    Raises
    ------
    OSError
        Where a file cannot be read.
    """
    held = [
        [[member.name, content_hash(member)] for member in finder.of(file.path)] + [file.path.name, file.offset_seconds]
        for file in entry.files
    ]
    intervals = [[i.onset_seconds, i.duration_seconds, i.label] for i in entry.intervals]
    overrides = {pattern: asdict(override) for pattern, override in study.overrides.items()}
    return _hash_of([held, entry.condition, intervals, overrides])


def settings_hash(settings: dict[str, Any], feature_names: tuple[str, ...]) -> str:
    """Return the SHA-256 of settings, layout, and the code and libraries that read, clean and measure."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return _hash_of([SCHEMA, __version__, _code_hash(), libraries, settings, feature_names])


def _code_hash() -> str:
    """Return the SHA-256 of the modules that decide what comes out of a file; no version needs raising by hand."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        for module in sorted(files(room).iterdir(), key=lambda member: member.name):
            if module.name.endswith(".py") and (room != "biopercept" or module.name in _MODULES):
                digest.update(f"{room}/{module.name}\0".encode() + module.read_bytes())
    return digest.hexdigest()


def _hash_of(held: Any) -> str:
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode("utf-8")).hexdigest()
