"""The recordings in a folder and in those below it: files and folders that a reader takes, without their companions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from biopercept.errors import RecordingError, listed
from biopercept.files import is_file, is_folder, visible_members
from biopercept.loaders.corrections import ENDING
from biopercept.loaders.formats import format_of, formats_text
from biopercept.loaders.glance import glance_at
from biopercept.loaders.outputs import maker_of, outputs_among
from biopercept.loaders.readers.wfdb_header import named_in_header, segment_names
from biopercept.loaders.sidecars import sidecars_of, without_suffix
from biopercept.loaders.unread import known_but_unread

DEEPEST = 8
MOST_FILES = 100_000
_COMPANIONS = {
    ".vhdr": (".eeg", ".vmrk", ".avg", ".dat"),
    ".set": (".fdt",),
    ".lay": (".dat",),
    ".data": (".head",),
    ".eeg": (".21e", ".pnt", ".log", ".cmt"),
    ".cdt": tuple(f".cdt{ending}" for ending in (".dpa", ".dpo", ".cef", ".ceo", ".hpi")),
    ".dat": (".dap", ".rs3", ".cef", ".ceo"),
}
"""By the suffix of a recording: those of files of its name that are parts of it."""
_POINTS_TO = re.compile(r"(?im)^\s*(?:DataFile|MarkerFile)\s*=\s*(?P<name>[^\r\n]+?)\s*$")
_BESIDE = ("_events.tsv", "_channels.tsv", "_electrodes.tsv", "_scans.tsv", "_sessions.tsv", ENDING)
_NO_RECORDING = re.compile(
    r"(readme|license|licence|change(s|log)|citation|notice|info|participants?|subjects?|demographics?|records|annotators"
    r"|(md5|sha\d+)sums?)([ _-]?(info\w*|table|list))?",
    re.IGNORECASE,
)
"""Names, before the first dot, of texts and tables about recordings."""
_STUDY, _TABLES = "study.yaml", ("participants", "recordings", "events")
_NOT_ENTERED = frozenset({"derivatives", "sourcedata", "node_modules", "__pycache__"})


@dataclass(frozen=True)
class Listing:
    """The paths of recordings in a folder, in order, and the paths of files that are no recording nor part of one."""

    paths: tuple[Path, ...]
    others: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def words(self, folder: Path) -> str:
        """Return in one line what beside recordings is there; empty where nothing is."""
        parts = list(self.notes)
        if self.others:
            names = listed((str(path.relative_to(folder)) for path in self.others), 5)
            parts.insert(
                0, f"{len(self.others)} {'file is' if len(self.others) == 1 else 'files are'} no recording: {names}"
            )
        return "; ".join(parts)


@dataclass(eq=False)
class _Search:
    """What was found so far."""

    paths: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    entered: set[str] = field(default_factory=set)
    above: frozenset[str] = frozenset()
    outputs: dict[Path, str] = field(default_factory=dict)
    n_files: int = 0


def recordings_in(folder: Path) -> Listing:
    """Return the recordings in a folder, those of subfolders too, to a depth of :data:`DEEPEST`.

    A folder that is one recording (Empatica E4, a WFDB record in several files) is given as itself. Parts of a
    recording (signal files of a header, sidecars, corrections, markers) and hidden files are not listed; links to a
    folder that was entered already, or that the folder itself lies in, are not followed, and of several links to one
    file one is listed. What commands of this package wrote there is left out, and noted. Whether a file can be read is
    not known before it is.

    Raises RecordingError where nothing is a recording, or the folder cannot be listed.
    """
    search = _Search(above=frozenset(map(str, Path(os.path.realpath(folder)).parents)))
    _enter(folder, 0, search)
    if not search.paths and (makers := sorted({*search.outputs.values(), *filter(None, [maker_of(folder)])})):
        raise RecordingError(
            f"{folder.name or folder}: written by {' and '.join(makers)}, and no recordings; name the recordings, or a "
            "folder of them"
        )
    if not (search.paths or search.n_files or search.outputs):
        raise RecordingError(f"{folder.name or folder}: there is no file in the folder")
    if not search.paths:
        raise RecordingError(
            f"{folder.name or folder}: a folder that holds no recording of a known layout; {formats_text()}"
        )
    paths, again = _each_once(sorted(search.paths))
    if again:
        names = listed((str(path.relative_to(folder)) for path in again), 3)
        search.notes.append(f"links to other recordings of the folder are left out: {names}")
    if len(paths) == 1 and paths[0].parent == folder and not os.path.lexists(paths[0]):
        paths = [folder]  # one record in several files, and nothing else
    return Listing(tuple(paths), tuple(sorted(search.others)), (*search.notes, *_outputs_in_words(search, folder)))


def _each_once(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return paths without those that lead to the file of another, a link rather than a file, and these."""
    first: dict[tuple[int, int], Path] = {}
    again: set[Path] = set()
    for path in sorted(paths, key=lambda path: (path.is_symlink(), path)):
        try:
            about = path.stat()
        except OSError:  # a record in several files, or what cannot be opened
            continue
        is_link = path.is_symlink() or about.st_nlink > 1
        if first.setdefault((about.st_dev, about.st_ino), path) != path and is_link:
            again.add(path)
    return [path for path in paths if path not in again], sorted(again)


def _outputs_in_words(search: _Search, folder: Path) -> Iterator[str]:
    """Give in one line which files are results and were left out."""
    if not search.outputs:
        return
    n, makers = len(search.outputs), sorted(set(search.outputs.values()))
    names = listed((str(path.relative_to(folder)) for path in search.outputs), 3)
    yield f"{n} file{'s' * (n > 1)} that {' and '.join(makers)} wrote {'are' if n > 1 else 'is'} left out: {names}"


def companions(path: Path) -> tuple[Path, ...]:
    """Return the files beside a recording's file that are parts of it, by their names or because it names them."""
    headers = [path] if path.suffix.lower() == ".hea" else []
    names = dict.fromkeys(name for name in _parts([path], headers) if Path(name).name == name != path.name)
    return tuple(file for name in names if (file := path.with_name(name)).is_file())


def without_parts(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return paths without the files that are parts of another of them, as a pattern of names gives both.

    Parts are sidecars, signal files of a header, markers, corrections by hand: they are read with their recording.
    """
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        if path.is_file():
            by_folder.setdefault(path.absolute().parent, []).append(path)
    parts: set[Path] = set()
    for files in by_folder.values():
        headers = [file for file in files if file.suffix.lower() == ".hea"]
        names = {*_parts(files, headers)} - {header.name for header in headers} if len(files) > 1 else set()
        beside = {sidecar for file in files for sidecar in sidecars_of(file)} if len(files) > 1 else set()
        of_others = {f for f in files if f.name in names or f.name.endswith(_BESIDE) or f.absolute() in beside}
        parts |= of_others if len(of_others) < len(files) else set()
    return tuple(path for path in paths if path not in parts)


def recordings_beside(path: Path) -> tuple[Path, ...]:
    """Return the other recordings in a file's folder whose names are as its own up to the suffix."""
    search = _Search()
    name = without_suffix(path.name)
    folder = path.absolute().parent
    files = [file for file in visible_members(folder) if file.is_file() and file.name.startswith(f"{name}.")]
    _sort_files(folder, files, search)
    parts = {path.name, *(file.name for file in companions(path))}
    others = [file for file in search.paths if file.name not in parts]
    return tuple(file for file in others if path.name not in {part.name for part in companions(file)})


def _enter(folder: Path, depth: int, search: _Search) -> None:
    real = os.path.realpath(folder)
    if real in search.entered or real in search.above:
        return
    search.entered.add(real)
    if depth > DEEPEST:
        search.notes.append(f"folders deeper than {DEEPEST} were not entered ({folder.name})")
        return
    try:
        glance = glance_at(folder, is_folder=True)
        unread, form = known_but_unread(glance), format_of(glance)
        members = visible_members(folder)
    except OSError as fault:
        if depth == 0:
            raise RecordingError(f"{folder}: cannot be listed ({fault.strerror})") from fault
        search.notes.append(f"{folder.name} cannot be listed ({fault.strerror})")
        return
    if unread is not None or (form is not None and not form.name.startswith("WFDB")):
        search.paths.append(folder)
        return
    files = [member for member in members if is_file(member)]
    search.n_files += len(files)
    if search.n_files > MOST_FILES:
        raise RecordingError(f"{folder}: more than {MOST_FILES} files; name a folder further down")
    _sort_files(folder, files, search)
    for member in members:
        if is_folder(member) and member.name.lower() not in _NOT_ENTERED:
            _enter(member, depth + 1, search)


def _sort_files(folder: Path, files: list[Path], search: _Search) -> None:
    """Put each file of a folder among the recordings, the others, or nowhere: it is part of another."""
    headers = [file for file in files if file.suffix.lower() == ".hea"]
    parts = set(_parts(files, headers))
    if any(file.name == _STUDY for file in files):  # its tables are about recordings
        files = [file for file in files if file.stem not in _TABLES]
    outputs = outputs_among(folder, files)
    search.outputs |= outputs
    search.paths += _records(folder, headers)
    for file in files:
        if (
            file in outputs
            or file.name in parts
            or file.suffix.lower() in (".json", ".hea")
            or file.name.endswith(_BESIDE)
        ):
            continue
        if _is_recording(file):
            search.paths.append(file)
        else:
            search.others.append(file)


def _is_recording(file: Path) -> bool:
    """Return whether a file is of a format that is known, and not named as texts and tables about recordings are."""
    return not _NO_RECORDING.fullmatch(file.name.split(".")[0]) and is_known(file)


def is_known(path: Path) -> bool:
    """Return whether a reader would take a file or folder, or it is of a format that is known and not read."""
    try:
        glance = glance_at(path, is_folder=path.is_dir())
        return known_but_unread(glance) is not None or format_of(glance) is not None
    except OSError:
        return True  # that it cannot be opened is said when it is read


def _parts(files: list[Path], headers: list[Path]) -> Iterator[str]:
    """Give the names that parts of recordings have, there or not, and those of files that lie beside a WFDB header."""
    records = {header.stem for header in headers}
    yield from (file.name for file in files if file.stem in records)
    for header in headers:
        yield from named_in_header(header)
    for file in files:
        if file.suffix.lower() == ".vhdr":
            yield from (match["name"].replace("$b", file.stem) for match in _POINTS_TO.finditer(_start(file)))
        yield from (file.stem + ending for ending in _COMPANIONS.get(file.suffix.lower(), ()))


def _start(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(4096).decode("latin-1")
    except OSError:
        return ""


def _records(folder: Path, headers: list[Path]) -> Iterator[Path]:
    """Give the WFDB records of a folder: a header, or the first word that several share."""
    segments = {name for header in headers for name in segment_names(header)}
    by_word: dict[str, list[Path]] = {}
    for header in headers:
        if header.stem not in segments:
            by_word.setdefault(header.stem.rsplit("_", 1)[0], []).append(header)
    for word, theirs in by_word.items():
        together = folder / word
        if len(theirs) > 1 and not os.path.lexists(together):
            yield together
        else:
            yield from theirs
