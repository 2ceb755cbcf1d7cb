"""``SHA256SUMS``: the SHA-256 of the tables and documents in a folder of results, as ``sha256sum --check`` reads them.

What is read again is compared with it, so that a number that was damaged on the disk is not shown for what was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from biopercept.errors import BioperceptError, BusyError, StudyError
from biopercept.files import content_hash, write_text

FILE = "SHA256SUMS"
_READ_AGAIN = frozenset([".json", ".jsonl", ".csv", ".tsv", ".yaml"])
_OF_THEIR_OWN = "folds"
"""Folder of files that each carry their own hash."""

Stamps = Mapping[str, tuple[int, int, int]]
"""Number, time and size of files, by their path in the folder."""


_BEING_WRITTEN: list[Path] = []
"""Folders that the running command writes: their hashes are of an earlier one until it ends."""


@contextmanager
def hashing(folder: Path) -> Iterator[None]:
    """Write the hashes of what is written into a folder while the block runs, however it ends.

    Not where another process holds the folder: what is there is its own. Raises OutputError where the block ended well
    and they cannot be written.
    """
    before = stamps_of(folder)
    _BEING_WRITTEN.append(folder.resolve())
    try:
        yield
    except BusyError:
        raise
    except BaseException:
        with suppress(BioperceptError, OSError):
            write_checksums(folder, before)
        raise
    finally:
        _BEING_WRITTEN.pop()
    write_checksums(folder, before)


def stamps_of(folder: Path) -> Stamps:
    """Return what tells whether the files of a folder, and of folders right below it, are written anew."""
    stamps = {}
    for path in _files(folder):
        about = path.stat()
        stamps[path.relative_to(folder).as_posix()] = (about.st_ino, about.st_mtime_ns, about.st_size)
    return stamps


def _files(folder: Path) -> Iterator[Path]:
    for pattern in ("*", "*/*"):
        for path in folder.glob(pattern):
            is_ours = path.suffix in _READ_AGAIN and _OF_THEIR_OWN not in path.relative_to(folder).parts
            if is_ours and not path.name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def write_checksums(folder: Path, before: Stamps) -> None:
    """Write the hashes of files that are new or were written since ``before``; what is known of others stays.

    Raises OutputError where they cannot be written.
    """
    if not folder.is_dir():
        return
    now, known = stamps_of(folder), _read(folder)
    sums = {name: digest for name, digest in known.items() if name in now}
    written = [name for name, stamp in now.items() if before.get(name) != stamp]
    sums |= {name: content_hash(folder / name) for name in written}
    if sums != known:
        write_text(folder / FILE, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def require_as_written(folder: Path) -> None:
    """Refuse a folder of results, of one task or of several, in which a file is no longer what was written.

    Raises StudyError, which names the file. A folder without hashes is not looked at.
    """
    for place in (folder, folder.parent):
        if place.resolve() in _BEING_WRITTEN:
            return
        for name, digest in _read(place).items():
            path = place / name
            if path.parent != folder:
                continue
            if not path.is_file():
                raise StudyError(f"{path} is missing; run the command that writes this folder again")
            if content_hash(path) != digest:
                raise StudyError(
                    f"{path} is not what was written: it was damaged or edited since; run the command that writes it "
                    f"again, or remove its line from {place / FILE} where the change is meant"
                )


def _read(folder: Path) -> dict[str, str]:
    """Return the hashes by file; none of a line that cannot be read, of which nothing is known."""
    path = folder / FILE
    if not path.is_file():
        return {}
    text = path.read_bytes().decode("utf-8", "replace")
    rows = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in rows if len(digest) == 64 and ".." not in name.split("/")}
