"""Packed files as recordings come in them, looked at before anything is unpacked, and unpacked within a limit.

Of a zip names, links, passwords and counts are looked at. Nothing of it is ever written to disk, so a name cannot lead
out of a folder; but an archive with such names, or with links, was not made by a device, and what else is in it is not
believed.
"""

from __future__ import annotations

import gzip
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from biopercept.errors import RecordingError

MOST_MEMBERS = 1000
_ENCRYPTED = 0x1
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
