"""What earlier runs left of a study: finished parts and the finished store, used again where nothing has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from biopercept.errors import BioperceptError, OutputError, StoreError
from biopercept.prepare_log import LogRow, log_path
from biopercept.store import open_store
from biopercept.store_layout import child, is_intact, read_attribute
from biopercept.store_writing import opened_recording
from biopercept.studies.structure import Entry
from biopercept.windowed import recording_key, safe_file_stem

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def part_path(parts: Path, key: str) -> Path:
    """Return the file of one recording among the parts."""
    return parts / f"{safe_file_stem(key)}.h5"


@contextmanager
def parts_folder(store: Path, *, restart: bool) -> Iterator[Path]:
    """Give the folder in which the parts of a store are kept until it is whole; it goes once it is empty.

    Temporary files of a run that died are removed. Call it as the only writer of the store.

    Raises
    ------
    OutputError
        Where the folder cannot be made, or a file or link is in its place.
    """
    parts = store.with_name(f"{store.name}.parts")
    if parts.is_symlink() or (parts.exists() and not parts.is_dir()):
        raise OutputError(f"{parts} is not a folder, so no parts can be kept in it; move it away")
    try:
        if restart and parts.exists():
            shutil.rmtree(parts)
        parts.mkdir(exist_ok=True)
        for pattern in (f".{store.name}.*.tmp", f".{log_path(store).name}.*.tmp"):
            for leftover in store.parent.glob(pattern):
                leftover.unlink()
        for leftover in parts.glob(".*.tmp"):
            leftover.unlink()
    except OSError as fault:
        raise OutputError(f"cannot write in {store.parent}: {fault.strerror}; choose another output") from fault
    try:
        yield parts
    finally:
        if parts.is_dir() and not any(parts.iterdir()):
            parts.rmdir()


class Reusable:
    """The parts and the store of earlier runs.

    Parameters
    ----------
    store : Path
        The store; it need not exist.
    parts : Path
        The folder of parts.
    settings_hash : str
        What a recording must have been prepared with.
    restart : bool
        True uses nothing of the store.

    Raises
    ------
    StoreError
        Where the output is a file that no run of ours wrote, or of a newer schema.
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

    def find(self, key: str, source_hash: str) -> Path | None:
        """Return the part or store that holds a recording made from these sources and settings, intact; else None."""
        candidates = [part_path(self._parts, key), *([self._store] if key in self.keys else [])]
        return next((path for path in candidates if self._holds(path, key, source_hash)), None)

    def _holds(self, path: Path, key: str, source_hash: str) -> bool:
        if not path.is_file():
            return False
        try:
            with opened_recording(path, key) as group:
                wanted = (source_hash, self._settings_hash)
                held = (read_attribute(group, "source_hash"), read_attribute(group, "settings_hash"))
                is_the_one = held == wanted and recording_key(*_ids(group)) == key
                if is_the_one and not is_intact(group):
                    self.is_damaged = True
                    return False
                return is_the_one
        except BioperceptError:
            self.is_damaged = True
            return False


def reused_row(source: Path, entry: Entry) -> LogRow:
    """Return the log's row for a recording that is used again, with the counts it was stored with.

    Raises
    ------
    StoreError
        Where the source is damaged.
    """
    with opened_recording(source, recording_key(entry.subject, entry.session, entry.recording)) as group:
        is_labelled = child(child(group, "windows", is_group=True), "is_labelled", is_group=False)[:]
        return LogRow(
            entry.subject,
            entry.session,
            entry.recording,
            "reused",
            windows_labelled=int((is_labelled != 0).sum()),
            windows_grid=int((is_labelled == 0).sum()),
            left_out=json.loads(read_attribute(group, "left_out")),
            signals=tuple(json.loads(read_attribute(group, "signal_names"))),
            notes=tuple(json.loads(read_attribute(group, "notes"))),
        )


def refuse_dropping(held: Collection[str], wanted: Collection[str], in_study: Collection[str], store: Path) -> None:
    """Refuse a run that would leave out recordings that the store holds and the study still has.

    Raises
    ------
    StoreError
        With how many they are and what to do.
    """
    dropped = (set(held) & set(in_study)) - set(wanted)
    if dropped:
        raise StoreError(
            f"{store.name} holds {len(dropped)} recordings of subjects that are not selected now and would be lost; "
            "prepare the selection into another output, or add --restart to begin anew"
        )


def _ids(group: object) -> tuple[str, str, str]:
    subject, session, recording = (str(read_attribute(group, name)) for name in ("subject", "session", "recording"))
    return subject, session, recording


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
