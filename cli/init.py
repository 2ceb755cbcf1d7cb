"""``init``: the tables of a study, begun from a folder of files by what their names say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal import print_json, print_text, progress, safe_text, say

if TYPE_CHECKING:
    from biopercept.studies.beginning import Beginning

_SHOWN = 4


@dataclass(frozen=True)
class InitRun(options.Printing):
    """How the command runs."""

    quiet: options.Quiet = False


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The study's folder, where its tables are written.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or folders of them.")],
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern",
            metavar="'S{participant}_{condition}.csv'",
            help="What file names say: {participant}, {session}, {recording}, {condition}, and {device} where several "
            "files are one recording; * is anything. Guessed and shown if left out.",
        ),
    ] = None,
    run: InitRun = InitRun(),
) -> None:
    """Begin a study from a folder of files: write study.yaml, participants.tsv and recordings.tsv by their names.

    Recordings stay where they are. Nothing that exists is written over. What file names cannot say, such as labels of
    parts of a recording, stands in study.yaml as comments. Files that cannot be read are named and get no row; then
    the exit code is 1.

    Example: biopercept init my-study recordings/ --pattern 'S{participant}_{condition}.csv'
    """
    from biopercept.errors import StudyError, count
    from biopercept.files import is_folder, refuse_ending
    from biopercept.loaders.folders import recordings_in
    from biopercept.prepare.sources import recording_paths
    from biopercept.studies.beginning import read_names, write_beginning
    from biopercept.studies.loading import load_study
    from biopercept.studies.structure import StudyFaults
    from biopercept.typed_values import path_meant

    _refuse_swapped(folder, paths)
    refuse_ending(folder, "a study")
    for path in paths:
        _refuse_other(path)
    files: list[Path] = []
    unread: list[Path] = []
    of_folders: list[str] = []
    for path in recording_paths(paths):
        if not is_folder(path) and not path.exists():
            raise StudyError(f"{path}: no such file or folder{path_meant(path)}")
        listing = recordings_in(path) if is_folder(path) else None
        files += [path] if listing is None else listing.paths
        unread += () if listing is None else listing.others
        of_folders += () if listing is None else listing.notes
    files = list({path.absolute(): path for path in reversed(files)}.values())[::-1]  # one that is named twice is one
    begun = read_names(files, pattern)
    notes = of_folders + [
        f"{path.name} is not called as the pattern says, and is left out" for path in begun.others[:_SHOWN]
    ]
    suffixes = {file.path.suffix.lower() for file in begun.files}
    alike = [path for path in unread if path.suffix.lower() in suffixes]
    failures = {path: f"{path.name}: it is no recording that can be read (empty?)" for path in alike}
    begun = _readable(begun, failures, quiet=run.quiet)
    if len(begun.others) > _SHOWN:
        notes.append(f"{len(begun.others) - _SHOWN} more files are left out for their names")
    unknown, of_first = _unknown_channels(begun)
    written = write_beginning(begun, folder, unknown)
    faults: tuple[str, ...] = ()
    try:
        load_study(folder)
    except StudyFaults as several:
        faults = several.faults
    if run.as_json:
        print_json(
            {
                "pattern": begun.pattern,
                "is_guessed": pattern is None,
                "n_participants": len(begun.participants),
                "n_recordings": begun.n_recordings,
                "conditions": dict(begun.conditions),
                "written": [str(path) for path in written],
                "notes": [*notes, *of_first],
                "failed": [{"path": str(path), "reason": reason} for path, reason in failures.items()],
                "faults": list(faults),
            }
        )
        raise typer.Exit(1 if failures else 0)
    _print(begun, is_guessed=pattern is None)
    for note in (*notes, *of_first):
        say(f"note: {note}", quiet=run.quiet)
    for fault in faults:
        say(f"to mend: {fault}", quiet=run.quiet)
    print_text(f"written: {', '.join(str(path) for path in written)}")
    say(f"next: look through them, then 'biopercept check {folder}'", quiet=run.quiet)
    if failures:
        say(
            f"exit code 1: {count(len(failures), 'file')} could not be read (named above) and stand in no table; "
            "mend what you need and add its row to recordings.tsv, or begin again in another folder"
        )
        raise typer.Exit(1)


def _readable(begun: Beginning, failures: dict[Path, str], *, quiet: bool) -> Beginning:
    """Return what begins a study without the files that cannot be read, which are said and put to ``failures``.

    Raises RecordingError where no file is left.
    """
    from biopercept.errors import RecordingError
    from biopercept.planning.headers import why_unreadable

    files = []
    with progress(quiet=quiet) as bar:
        line = bar.add_task("headers of files", total=len(begun.files))
        for file in begun.files:
            if reason := why_unreadable(file.path):
                failures[file.path] = reason
            else:
                files.append(file)
            bar.advance(line)
    if not files:
        first = next(iter(failures.values()))
        raise RecordingError(f"nothing is written: no file can be read ({len(failures)} in all), first {first}")
    for reason in failures.values():
        say(reason)
    return replace(begun, files=tuple(files))


def _refuse_swapped(folder: Path, paths: list[Path]) -> None:
    """Refuse recordings that stand where the study's folder does. Raises StudyError with the order that is right."""
    from biopercept.errors import BioperceptError, StudyError, count
    from biopercept.loaders.folders import recordings_in

    new = [path for path in paths if not path.exists() and not any(letter in str(path) for letter in "*?[")]
    right = f"the study's folder comes first, as in biopercept init {new[0] if new else 'my-study'} {folder}"
    if folder.is_file():
        raise StudyError(f"{folder} is a file; {right}")
    if not new or not folder.is_dir():
        return
    try:
        n = len(recordings_in(folder).paths)
    except BioperceptError:
        return
    raise StudyError(f"{new[0]} is not there, and {folder} holds {count(n, 'recording')}; {right}")


def _refuse_other(path: Path) -> None:
    """Refuse a study that is one already, and results. Raises StudyError or RecordingError."""
    from biopercept.errors import RecordingError, StudyError
    from biopercept.loaders.outputs import outputs_among
    from biopercept.studies.loading import is_study

    if path.is_dir() and is_study(path):
        raise StudyError(
            f"{path} is a study already; biopercept check {path} says what it needs, and a new one is begun by naming "
            "the recordings themselves"
        )
    if path.is_file() and (maker := outputs_among(path.parent, [path]).get(path)):
        raise RecordingError(f"{path}: written by {maker}, and no recording; name the recordings themselves")


def _print(begun: Beginning, *, is_guessed: bool) -> None:
    from biopercept.errors import count

    guess = "  (guessed: check it, or give another with --pattern)" if is_guessed else ""
    print_text(f"pattern: {safe_text(begun.pattern)}{guess}")
    n_people, n_files = len(begun.participants), len(begun.files)
    counts = (count(n_people, "participant"), count(begun.n_recordings, "recording"), count(n_files, "file"))
    print_text(", ".join(counts))
    if begun.conditions:
        of_each = ", ".join(f"{name} {count}" for name, count in begun.conditions.items())
        print_text(safe_text(f"conditions: {of_each}"))
    for file in begun.files[:_SHOWN]:
        parts = {"participant": file.participant, "session": file.session, "recording": file.recording}
        words = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
        of = f", condition {file.condition}" if file.condition else ""
        print_text(safe_text(f"  {file.path.name}: {words}{of}"))
    if n_files > _SHOWN:
        print_text("  ...")


def _unknown_channels(begun: Beginning) -> tuple[dict[str, str], list[str]]:
    """Return channels of the first recording's files that could not be used, with why, and what else keeps them out."""
    from biopercept.errors import BioperceptError, listed
    from biopercept.loaders.loading import load_recording
    from biopercept.preprocessing.cleaning import why_unused

    first = begun.files[0]
    unknown: dict[str, str] = {}
    held_by: dict[str, str] = {}
    notes = []
    for file in begun.files:
        if (file.participant, file.session, file.recording) != (first.participant, first.session, first.recording):
            continue
        try:
            recording = load_recording(file.path)
        except BioperceptError as fault:
            notes.append(str(fault))
            continue
        twice = [signal.name for signal in recording.signals if signal.name in held_by]
        if twice and "{device}" not in begun.pattern:
            notes.append(
                f"{held_by[twice[0]]} and {file.path.name} are files of one recording by the pattern, and both hold "
                f"{listed(twice, 4)}: if they are conditions or parts, and not devices worn at once, write "
                "{condition} or {recording} into the pattern"
            )
        held_by.update({signal.name: file.path.name for signal in recording.signals})
        for signal in recording.signals:
            if reason := why_unused(signal):
                unknown.update(dict.fromkeys(signal.channel_names, safe_text(reason)))
    return unknown, notes
