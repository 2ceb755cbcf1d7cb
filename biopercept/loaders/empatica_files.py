"""The files of an Empatica E4 export, from a folder, a zip or one by one: by name, in memory, of bounded size."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from biopercept.errors import RecordingError

MOST_MEMBERS = 1000
LARGEST_MEMBER = 256 << 20
"""Bytes of one sensor's file: a session may last 48 h, which is 90 MB of BVP."""

SENSOR_FILES = ("EDA", "BVP", "ACC", "TEMP", "HR", "IBI")

Members = Mapping[str, Callable[[], bytes]]


def sensor_of(file_name: str) -> str:
    """Return "EDA" for "EDA.csv" in any case, "tags" for "tags.csv" and "tags_S02.csv", or an empty string."""
    stem, dot, suffix = file_name.rpartition(".")
    if not dot or suffix.lower() != "csv":
        return ""
    if stem.upper() in SENSOR_FILES:
        return stem.upper()
    return "tags" if stem.lower() == "tags" or stem.lower().startswith("tags_") else ""


@contextmanager
def open_members(path: Path) -> Iterator[Members]:
    """Give sensor -> a function that returns the file's bytes; counts and sizes are checked before anything is kept.

    Raises
    ------
    RecordingError
        Where a zip is damaged or has too many members, or a sensor has several files.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.is_file() and sensor_of(file.name)]
        yield _by_sensor(path, [(file.name, _file_reader(file)) for file in files])
    elif not zipfile.is_zipfile(path):
        if not sensor_of(path.name):
            raise RecordingError(f"{path.name}: the zip file is damaged; download it again")
        yield {sensor_of(path.name): _file_reader(path)}
    else:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > MOST_MEMBERS:
                raise RecordingError(
                    f"{path.name}: {len(infos)} members in the zip, an Empatica export has fewer than 20"
                )
            wanted = [info for info in infos if not info.is_dir() and sensor_of(PurePosixPath(info.filename).name)]
            readers = [(PurePosixPath(info.filename).name, _member_reader(archive, info)) for info in wanted]
            yield _by_sensor(path, readers)


def _by_sensor(path: Path, readers: list[tuple[str, Callable[[], bytes]]]) -> dict[str, Callable[[], bytes]]:
    found: dict[str, Callable[[], bytes]] = {}
    for name, reader in readers:
        if sensor_of(name) in found:
            raise RecordingError(
                f"{path.name}: more than one file for {sensor_of(name)}; give one E4 session at a time"
            )
        found[sensor_of(name)] = reader
    return found


def _file_reader(file: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        if file.stat().st_size > LARGEST_MEMBER:
            raise ValueError(f"larger than {LARGEST_MEMBER >> 20} MB")
        return file.read_bytes()

    return read


def _member_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        with archive.open(info) as stream:
            content = stream.read(LARGEST_MEMBER + 1)  # the size that the zip declares may be a lie
        if len(content) > LARGEST_MEMBER:
            raise ValueError(f"larger than {LARGEST_MEMBER >> 20} MB unpacked")
        return content

    return read


def member_content(members: Members, name: str, notes: list[str]) -> bytes | None:
    """Return the bytes of a sensor's file; None, with a note where one is due, if it is absent or cannot be read."""
    if name not in members:
        return None
    try:
        return members[name]()
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile) as fault:
        notes.append(f"{name}: the file cannot be read ({fault}) and is left out")
    except Exception as fault:  # zlib.error and kin have no common base
        notes.append(f"{name}: the file is damaged ({type(fault).__name__}) and is left out")
    return None
