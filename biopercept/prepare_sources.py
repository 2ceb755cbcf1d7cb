"""What a prepared recording was made from, as two hashes: its files and labels, and the settings with the code.

A recording is prepared again exactly when one of the two has changed; the times of files play no part.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from biopercept.files import content_hash
from biopercept.prepare_recording import prepare_recording
from biopercept.store_layout import SCHEMA
from biopercept.store_writing import write_recording_part
from biopercept.studies.entries import load_entry
from biopercept.studies.structure import Entry, Study
from biopercept.version import __version__

_FROM_FILE_TO_STORE = (load_entry, prepare_recording, write_recording_part)
_LIBRARIES = ("numpy", "scipy", "mne", "neurokit2")
# Import statements by their lines, at any indentation: parsing fifty modules would cost each prepare 100 ms.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<source>[.\w]+)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n#]+)"
    r"|import[ \t]+(?P<modules>[^\n#]+))",
    re.MULTILINE,
)


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
    return _hash_of([SCHEMA, __version__, code_hash(), libraries, settings, feature_names])


def code_hash(package: Traversable | None = None) -> str:
    """Return the SHA-256 of all code between a file and its stored windows; no version needs raising by hand.

    Parameters
    ----------
    package : Traversable, optional
        The folder of the package; None means the one that runs.
    """
    digest = hashlib.sha256()
    for name, source in sorted(code_from_file_to_store(package).items()):
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()


def code_from_file_to_store(package: Traversable | None = None) -> dict[str, bytes]:
    """Return name and source of the modules that load, prepare and write a recording, and of all that they import."""
    root = __name__.partition(".")[0]
    folder = files(root) if package is None else package
    sources: dict[str, bytes] = {}
    names = [function.__module__ for function in _FROM_FILE_TO_STORE]
    while names:
        name = names.pop()
        first, *parts = name.split(".")
        if name in sources or first != root or not parts:
            continue
        module, package_module = folder.joinpath(*parts[:-1], f"{parts[-1]}.py"), folder.joinpath(*parts, "__init__.py")
        is_package = not module.is_file()
        if is_package and not package_module.is_file():
            continue  # a name inside a module, which is looked at by itself
        sources[name] = (package_module if is_package else module).read_bytes()
        names.extend(imports(sources[name].decode(), name if is_package else name.rpartition(".")[0]))
    return sources


def imports(source: str, package: str) -> set[str]:
    """Return the dotted names that a source imports from modules; ``package`` is what a leading dot stands for."""
    names: set[str] = set()
    for statement in _IMPORT.finditer(source):
        if statement["modules"]:
            names.update(part.split()[0] for part in statement["modules"].split(","))
            continue
        n_dots = len(statement["source"]) - len(module := statement["source"].lstrip("."))
        parents = package.split(".")[: len(package.split(".")) - n_dots + 1] if n_dots else []
        stem = ".".join([*parents, *([module] if module else [])])
        parts = re.sub(r"#[^\n]*|[()]", " ", statement["names"]).split(",")
        names.update([stem, *(f"{stem}.{part.split()[0]}" for part in parts if part.strip())])
    return names


def _hash_of(held: Any) -> str:
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode("utf-8")).hexdigest()
