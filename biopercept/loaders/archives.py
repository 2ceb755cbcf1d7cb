"""Packed files as recordings come in them: looked at before they are unpacked, and never to more than allowed.

A recording's zip is read in memory. A data set's is unpacked where it is imported to. An archive with names that lead
out of it, or with links, was not made by a device, and what else is in it is not believed.
"""

from __future__ import annotations

import gzip
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from biopercept.errors import OutputError, RecordingError

MOST_MEMBERS = 1000
MOST_OF_DATASET = 100_000
LARGEST_RATIO = 200
"""Tables of numbers become some twenty times as large; what becomes larger than this was made to fill a disk."""
_RATIO_FROM_BYTES = 64 << 20
_ENCRYPTED = 0x1
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error)
_PIECE = 1 << 22


def unpacked(path: Path, limit: int, too_large: str) -> Iterator[bytes]:
    """Give what a gzip file holds, piece by piece.

    Raises RecordingError where it is cut or damaged, and with ``too_large``, which says what to do, once there are more
    than ``limit`` bytes.
    """
    n_bytes = 0
    try:
        with gzip.open(path) as stream:
            while piece := stream.read(_PIECE):
                n_bytes += len(piece)
                if n_bytes > limit:
                    raise RecordingError(f"{path.name}: {too_large}")
                yield piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
        raise RecordingError(f"{path.name}: the gzip file is cut or damaged ({fault}); copy it again") from fault


@contextmanager
def opened_zip(path: Path, advice: str = "download it again") -> Iterator[zipfile.ZipFile]:
    """Give a zip, opened; the one door to Python's zip reader.

    Raises RecordingError, with ``advice``, where its directory is damaged, or a member that is read in the block.
    """
    words = f"{path.name}: the zip file is damaged"
    try:
        archive = zipfile.ZipFile(path)
    except (*_DAMAGED, ValueError, LookupError) as fault:  # impossible offsets and texts
        raise RecordingError(f"{words} ({fault}); {advice}") from fault
    with archive:
        try:
            yield archive
        except _DAMAGED as fault:
            raise RecordingError(f"{words} ({fault}); {advice}") from fault


def checked_members(path: Path, archive: zipfile.ZipFile, most: int = MOST_MEMBERS) -> list[zipfile.ZipInfo]:
    """Return the files in a zip, without folders and without what macOS adds about them.

    Raises RecordingError where there are more than ``most`` members, a name is absolute, leads out of the archive or is
    there twice, or a member is a link or needs a password.
    """
    infos = archive.infolist()
    if len(infos) > most:
        raise RecordingError(f"{path.name}: {len(infos)} members in the zip, at most {most} are read; unpack it")
    seen: set[str] = set()
    for info in infos:
        if fault := _fault(info, seen):
            raise RecordingError(f"{path.name}: the member {info.filename!r} of the zip {fault}")
        seen.add(info.filename)
    return [info for info in infos if not info.is_dir() and not info.filename.startswith("__MACOSX/")]


def members_of_table(path: Path, largest: int) -> None:
    """Look at a spreadsheet (.xlsx is a zip) before a library opens it.

    Raises RecordingError where it is no zip that :func:`checked_members` takes, or holds more than ``largest`` bytes.
    """
    with opened_zip(path) as archive:
        n_bytes = sum(info.file_size for info in checked_members(path, archive))
    if n_bytes > largest:
        raise RecordingError(f"{path.name}: {n_bytes} bytes unpacked, at most {largest} are read")


def unpack(path: Path, folder: Path) -> None:
    """Write the files of a data set's zip below a folder that is not there yet; after a fault nothing is left of it.

    Raises RecordingError where the zip is damaged, is none that :func:`checked_members` takes, or unpacks to more than
    :data:`LARGEST_RATIO` times its size. Raises OutputError where the disk has no room, or cannot be written.
    """
    try:
        with opened_zip(path) as archive:
            members = checked_members(path, archive, MOST_OF_DATASET)
            n_bytes = sum(info.file_size for info in members)
            if n_bytes > max(LARGEST_RATIO * path.stat().st_size, _RATIO_FROM_BYTES):
                raise RecordingError(
                    f"{path.name}: {n_bytes} bytes unpacked, more than {LARGEST_RATIO} times the zip; no data set is so"
                )
            _write(archive, members, folder, n_bytes)
    except RecordingError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except OSError as fault:
        shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(f"{path.name} cannot be unpacked into {folder} ({fault.strerror or fault})") from fault


def _write(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path, n_bytes: int) -> None:
    folder.mkdir(parents=True)
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise OSError(f"it needs {n_bytes >> 20} MB, and {free >> 20} MB are free")
    for info in members:
        target = folder / info.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as stream, target.open("xb") as file:  # no more than the size that was checked
            shutil.copyfileobj(stream, file, 1 << 20)


def _fault(info: zipfile.ZipInfo, seen: set[str]) -> str:
    """Return what is wrong with a member; empty where nothing is."""
    name = info.filename
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\"):
        return "has an absolute name, which no device writes"
    if ".." in name.replace("\\", "/").split("/"):
        return "has a name that leads out of the archive, which no device writes"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device and no file"
    if info.flag_bits & _ENCRYPTED:
        return "needs a password: unpack the zip with it and give the folder"
    if name in seen:
        return "is there twice"
    return ""
