"""What runs of ``prepare`` leave of a study: the log, finished parts and the store, which are used again.

A recording is prepared again exactly when one of two hashes has changed: that of its files and labels, or that of the
settings and the code. No clock is read.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from biopercept.errors import BioperceptError, OutputError, SettingsError, StoreError, count, recording_title
from biopercept.files import content_hash, plain_cell, write_json, write_table
from biopercept.loaders.corrections import corrections_of
from biopercept.loaders.folders import companions
from biopercept.loaders.sidecars import sidecars_of
from biopercept.prepare.alignment import load_aligned
from biopercept.prepare.recording import prepare_recording
from biopercept.store.layout import SCHEMA, child, is_intact, read_attribute
from biopercept.store.prepared import recording_key, safe_file_stem
from biopercept.store.reading import open_store
from biopercept.store.writing import opened_recording, write_recording_part
from biopercept.studies.ratings import rated_signals
from biopercept.studies.structure import Entry, Study
from biopercept.tasks import Task
from biopercept.version import __version__

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FROM_FILE_TO_STORE = (load_aligned, prepare_recording, write_recording_part)
_LIBRARIES = ("numpy", "scipy", "mne", "neurokit2")
# Import statements by their lines, at any indentation: parsing fifty modules would cost each prepare 100 ms.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<source>[.\w]+)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n#]+)"
    r"|import[ \t]+(?P<modules>[^\n#]+))",
    re.MULTILINE,
)
_NAME_IN_TEXT = re.compile(r'"([a-z_][\w.]*)"')
Status = Literal["prepared", "reused", "failed", "not done"]

COLUMNS = (
    "participant_id", "session", "recording", "status", "seconds", "windows_labelled", "windows_grid", "left_out",
    "signals", "message", "notes",
)  # fmt: skip


@dataclass(frozen=True)
class LogRow:
    """What became of one recording: "prepared", "reused", "failed" or, the run having been interrupted, "not done".

    A recording is reused where an earlier run had prepared it from the same files and settings; it then took 0
    ``seconds``. ``windows_labelled`` counts windows inside intervals whose label a task of the study uses (of a study
    without tasks, of any label), ``windows_grid`` those of the grid over the full recording; ``left_out`` counts
    others, by reason, windows of labels that no task uses among them. ``message`` says why it failed.
    """

    subject: str
    session: str
    recording: str
    status: Status
    seconds: float = 0.0
    windows_labelled: int = 0
    windows_grid: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    signals: tuple[str, ...] = ()
    message: str = ""
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Return subject, session and recording as one phrase for messages."""
        return recording_title(self.subject, self.session, self.recording)


def used_and_ignored(labels: Sequence[str], tasks: Collection[Task]) -> tuple[int, dict[str, int]]:
    """Return how many labelled windows a task uses (without tasks all of them), and the others by the reason."""
    ignored = Counter(label for label in labels if tasks and not any(task.uses(label) for task in tasks))
    reasons = {f"the label {label!r} is in no task": n for label, n in sorted(ignored.items())}
    return len(labels) - ignored.total(), reasons


def log_path(store: Path) -> Path:
    """Return where the log of a store lies: STORE.log.csv beside STORE.h5."""
    return store.with_name(f"{store.stem if store.suffix in ('.h5', '.hdf5') else store.name}.log.csv")


def write_log(path: Path, rows: Sequence[LogRow]) -> None:
    """Write the log, whole or not at all. Raises OutputError where it cannot be written."""
    cells = [
        (
            row.subject,
            row.session,
            row.recording,
            row.status,
            f"{row.seconds:.2f}",
            row.windows_labelled,
            row.windows_grid,
            "; ".join(f"{reason}: {n}" for reason, n in sorted(row.left_out.items())),
            " ".join(row.signals),
            row.message,
            "; ".join(row.notes),
        )
        for row in rows
    ]
    write_table(path, COLUMNS, cells)


def failures_of(log: Path) -> dict[str, LogRow]:
    """Return the rows of recordings that failed, by key, of a log that may be absent."""
    try:
        with log.open(encoding="utf-8", newline="") as stream:
            rows = [
                {name: plain_cell(cell or "") for name, cell in row.items() if name in COLUMNS}
                for row in csv.DictReader(stream)
            ]
    except (OSError, ValueError, csv.Error):
        return {}
    failures = {}
    for row in rows:
        if row.get("status") == "failed" and row.keys() == {*COLUMNS}:
            names = (row["participant_id"], row["session"], row["recording"])
            failures[recording_key(*names)] = LogRow(*names, "failed", message=row["message"])
    return failures


def part_path(parts: Path, key: str) -> Path:
    """Return the file of one recording among the parts."""
    return parts / f"{safe_file_stem(key)}.h5"


@contextmanager
def parts_folder(store: Path, *, restart: bool, is_shared: bool = False) -> Iterator[Path]:
    """Give the folder in which the parts of a store are kept until it is whole; it goes once it is empty.

    Temporary files of a run that died are removed, unless others write there too. Call it as a writer of the store.

    Raises OutputError where the folder cannot be made, or a file or link is in its place.
    """
    parts = store.with_name(f"{store.name}.parts")
    if parts.is_symlink() or (parts.exists() and not parts.is_dir()):
        raise OutputError(f"{parts} is not a folder, so no parts can be kept in it; move it away")
    try:
        if restart and parts.exists():
            shutil.rmtree(parts)
        parts.mkdir(exist_ok=True)
        patterns = () if is_shared else (f".{store.name}.*.tmp", f".{log_path(store).name}.*.tmp")
        for leftover in (*chain(*map(store.parent.glob, patterns)), *(() if is_shared else parts.glob(".*.tmp"))):
            leftover.unlink()
    except OSError as fault:
        raise OutputError(f"cannot write in {store.parent}: {fault.strerror}; choose another output") from fault
    try:
        yield parts
    finally:
        with suppress(OSError):  # something is in it, or it is gone
            parts.rmdir()


@dataclass(frozen=True)
class KeptRows:
    """The log's rows of recordings that are finished, as files among the parts: who joins the store writes the log."""

    parts: Path
    settings_hash: str

    def keep(self, key: str, source_hash: str, row: LogRow) -> None:
        """Keep the row of a recording. Raises OutputError where it cannot be written."""
        hashes = {"source_hash": source_hash, "settings_hash": self.settings_hash}
        write_json(self._file(key), {**hashes, "row": asdict(row)})

    def find(self, key: str, source_hash: str) -> LogRow | None:
        """Return the row of a recording made from these sources and settings; None where it is absent or damaged."""
        try:
            document = json.loads(self._file(key).read_text(encoding="utf-8"))
            if (document["source_hash"], document["settings_hash"]) != (source_hash, self.settings_hash):
                return None
            values = document["row"]
            return LogRow(**{**values, "signals": tuple(values["signals"]), "notes": tuple(values["notes"])})
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def is_there(self, key: str) -> bool:
        """Return whether there is a row, of whatever sources."""
        return self._file(key).is_file()

    def _file(self, key: str) -> Path:
        return part_path(self.parts, key).with_suffix(".json")


class Reusable:
    """The parts and the store (which need not exist) of earlier runs; ``restart`` uses nothing of the store.

    Raises StoreError where the output is a file that no run of ours wrote, or of a newer schema.
    """

    def __init__(self, store: Path, parts: Path, settings_hash: str, *, restart: bool) -> None:
        self._parts = parts
        self._settings_hash = settings_hash
        self.is_damaged = False
        self.keys = self._keys_of(store, restart)
        self._store = store

    def _keys_of(self, store: Path, restart: bool) -> frozenset[str]:
        """Return the keys that the store holds, none where it is absent, damaged or to be replaced."""
        refuse_other_file(store)
        if not store.exists() or restart:
            return frozenset()
        try:
            with open_store(store) as opened:
                return frozenset(recording.key for recording in opened.recordings)
        except StoreError as fault:
            if "schema" in str(fault) or "no store" in str(fault):
                raise
            self.is_damaged = True  # whole files replace it; what is in it is not trusted
            return frozenset()

    def part(self, key: str) -> Path:
        """Return the file of a recording among the parts."""
        return part_path(self._parts, key)

    def may_have(self, key: str) -> bool:
        """Return whether there is something of a recording, made from whatever."""
        return key in self.keys or self.part(key).is_file()

    def find(self, key: str, source_hash: str) -> Path | None:
        """Return the part or store that holds a recording made from these sources and settings, intact; else None."""
        candidates = [self.part(key), *([self._store] if key in self.keys else [])]
        return next((path for path in candidates if self._holds(path, key, source_hash)), None)

    def _holds(self, path: Path, key: str, source_hash: str) -> bool:
        if not path.is_file():
            return False
        try:
            with opened_recording(path, key) as group:
                wanted = (source_hash, self._settings_hash)
                ids = [str(read_attribute(group, name)) for name in ("subject", "session", "recording")]
                hashes = (read_attribute(group, "source_hash"), read_attribute(group, "settings_hash"))
                is_the_one = hashes == wanted and recording_key(*ids) == key
                if is_the_one and not is_intact(group):
                    self.is_damaged = True
                    return False
                return is_the_one
        except BioperceptError:
            self.is_damaged = True
            return False


def reused_row(source: Path, entry: Entry, tasks: Collection[Task]) -> LogRow:
    """Return the log's row, as stored, of a recording used again. Raises StoreError where the source is damaged."""
    with opened_recording(source, recording_key(entry.subject, entry.session, entry.recording)) as group:
        windows = child(group, "windows", is_group=True)
        is_labelled = child(windows, "is_labelled", is_group=False)[:] != 0
        texts = np.char.decode(child(windows, "label", is_group=False)[:], "utf-8", "replace")
        n_used, ignored = used_and_ignored(texts[is_labelled].tolist(), tasks)
        return LogRow(
            entry.subject,
            entry.session,
            entry.recording,
            "reused",
            windows_labelled=n_used,
            windows_grid=int((~is_labelled).sum()),
            left_out=json.loads(read_attribute(group, "left_out")) | ignored,
            signals=tuple(json.loads(read_attribute(group, "signal_names"))),
            notes=tuple(json.loads(read_attribute(group, "notes"))),
        )


def refuse_dropping(stored: Collection[str], wanted: Collection[str], in_study: Collection[str], store: Path) -> None:
    """Refuse a run that would leave out recordings that the store holds and the study still has. Raises StoreError."""
    dropped = (set(stored) & set(in_study)) - set(wanted)
    if dropped:
        raise StoreError(
            f"{store.name} holds {count(len(dropped), 'recording')} of subjects that are not selected now and "
            "would be lost; prepare the selection into another output, or add --restart to begin anew"
        )


def refuse_other_settings(store: Path, study: str, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to replace a store of another study, or prepared with other settings. Raises SettingsError."""
    try:
        with open_store(store) as opened:
            name, earlier = opened.name, dict(opened.settings)
    except StoreError:
        return  # there is none, or it is damaged
    differing = [
        f"{section}.{key} {stored} (here {settings[section][key]})"
        for section, values in earlier.items()
        for key, stored in values.items()
        if settings.get(section, {}).get(key, stored) != stored
    ]
    if name != study:
        differing.insert(0, f"study {name} (here {study})")
    if differing:
        raise SettingsError(
            f"{store.name} is there already, prepared with {', '.join(differing)}; choose another output or add "
            "--overwrite"
        )


def refuse_other_file(store: Path) -> None:
    """Refuse an output that is there and is something else than a store. Raises StoreError."""
    if store.is_dir():
        raise StoreError(f"{store} is a folder; name the store's file, for example {store.resolve().name}.h5")
    if store.exists() and not store.is_file():
        raise StoreError(f"{store} is not a regular file; choose another output")
    if store.exists() and store.stat().st_size:
        with store.open("rb") as stream:
            if stream.read(len(_SIGNATURE)) != _SIGNATURE:
                raise StoreError(f"{store} exists and is no store of biopercept; choose another output or move it away")


class SourceFiles:
    """Finds the files that make up recordings; lists each folder once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def of(self, path: Path) -> tuple[Path, ...]:
        """Return a file and its companions: the files beside it with the same name up to the first dot.

        That covers headers and sidecars (.hea with .dat and .atr, .csv.gz with .json, .vhdr with .eeg). A folder is
        returned as it is. A path that is neither stands for WFDB records: every file that begins with its name.
        Corrections by hand go with each.
        """
        corrections = corrections_of(path)
        members = self._members(path)
        return members if corrections is None or corrections in members else (*members, corrections)

    def _members(self, path: Path) -> tuple[Path, ...]:
        if path.is_dir():
            return (path,)
        stems = self._listing(path.parent)
        if not path.is_file():
            return tuple(member for stem in sorted(stems) if stem.startswith(path.name) for member in stems[stem])
        members = stems.get(_stem(path.name), [path])
        elsewhere = (file for file in (*sidecars_of(path), *companions(path)) if file not in members)
        return tuple(dict.fromkeys((*members, *elsewhere)))

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
    """Return the SHA-256 of all that a recording is read from: names and bytes of files, offsets, labels, overrides.

    Raises OSError where a file cannot be read.
    """
    described = [
        [[member.name, content_hash(member)] for member in finder.of(file.path)] + [file.path.name, file.offset_seconds]
        for file in entry.files
    ]
    intervals = [[i.onset_seconds, i.duration_seconds, i.label] for i in entry.intervals]
    overrides = {pattern: asdict(override) for pattern, override in study.overrides.items()}
    exceptions = [[i.onset_seconds, i.duration_seconds] for i in entry.exceptions]
    rated = [list(names)] if (names := rated_signals(study.tasks)) else []
    aligned = ["align"] if study.is_aligned else []
    return _hash_of([described, entry.condition, intervals, exceptions, overrides, *rated, *aligned])


def settings_hash(settings: dict[str, Any], feature_names: tuple[str, ...]) -> str:
    """Return the SHA-256 of settings, layout, and the code and libraries that read, clean and measure."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return _hash_of([SCHEMA, __version__, code_hash(), libraries, settings, feature_names])


def code_hash(package: Traversable | None = None) -> str:
    """Return the SHA-256 of all code of ``package`` (None: the one that runs) between a file and its stored windows.

    No version needs raising by hand.
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
        source, package_name = sources[name].decode(), name if is_package else name.rpartition(".")[0]
        names.extend(imports(source, package_name))
        if "import_module" in source:  # by names in texts, as the table of formats does
            names.extend(f"{package_name}.{text}" for text in _NAME_IN_TEXT.findall(source))
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


def _hash_of(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode("utf-8")).hexdigest()
