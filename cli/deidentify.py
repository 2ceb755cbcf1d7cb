"""``deidentify``: EDF and BDF files written again without what tells whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biopercept.errors import BioperceptError, RecordingError, count

from . import options
from .claims import claim
from .terminal import print_json, print_text, safe_text, say

if TYPE_CHECKING:
    from biopercept.prepare.deidentification import Removed


@dataclass(frozen=True)
class Kept:
    """What of a file that could tell whose it is stays all the same."""

    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="TEXT", help="Keep annotations like this ('Sleep stage *'); may be repeated."),
    ] = None
    keep_time: Annotated[bool, typer.Option("--keep-time", help="Keep the time of day of the start.")] = False


def deidentify(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="An EDF or BDF file, or a folder with such files.")],
    output: options.PlainOutput,
    kept: Kept = Kept(),
    run: options.Run = options.Run(),
) -> None:
    """Write EDF and BDF files without names, codes, dates and free text; samples stay equal to the bit.

    Patient, recording and start date become those of an anonymous EDF+ file, annotations go unless --keep says
    otherwise. Of a folder all EDF and BDF files are written, under their names, into the output; others are not
    copied. Prints what was removed. Names of files and labels of channels are kept: see whether they tell a name.

    Example: biopercept deidentify S01.edf -o clean/S01.edf
    """
    from biopercept.files import refuse_ending, refuse_existing, refuse_inputs
    from biopercept.prepare.deidentification import deidentify as written_without_names

    is_folder = source.is_dir()
    _refuse_results(source)
    if is_folder:
        refuse_ending(output, "what is written of a folder")
    elif not output.is_dir():
        refuse_ending(output, f"what is written of {source.name}", (source.suffix.lower(),))
    refuse_inputs(output, (source,), is_in_study_allowed=False)
    if is_folder:
        claim(output, overwrite=run.overwrite)
    else:
        refuse_existing(output, overwrite=run.overwrite, is_folder=False)
    removed: dict[str, Removed] = {}
    n_failed = 0
    for name, file, target in _files(source, output):
        try:
            removed[name] = written_without_names(file, target, kept_texts=kept.keep or (), keeps_time=kept.keep_time)
        except BioperceptError as fault:
            if not is_folder or fault.exit_code != 1:
                raise
            say(f"biopercept: {fault}")
            n_failed += 1
            continue
        if not run.as_json:
            print_text(safe_text(f"{name}: {_words(removed[name])}"))
    if run.as_json:
        files = {name: one.to_json() for name, one in removed.items()}
        print_json({"schema": 1, "output": str(output), "files": files, "n_failed": n_failed})
    if kept.keep and not sum(one.n_annotations_kept for one in removed.values()):
        say("warning: no annotation is like what --keep names, and none is kept", quiet=run.quiet)
    if is_folder and (n_others := _n_others(source)):
        say(
            f"{count(n_others, 'other file of the folder is', 'other files of the folder are')} not copied",
            quiet=run.quiet,
        )
    say(f"written: {output}", quiet=run.quiet)
    if n_failed:
        raise typer.Exit(1)


def _files(source: Path, output: Path) -> Iterator[tuple[str, Path, Path]]:
    """Give what each file is called, where it lies and where it goes."""
    from biopercept.loaders.glance import EDF_SUFFIXES
    from biopercept.typed_values import path_meant

    if not source.is_dir():
        if not source.is_file():
            raise RecordingError(f"{source}: no such file or folder{path_meant(source)}")
        target = output / source.name if output.is_dir() else output
        yield source.name, source, target
        return
    files = [file for file in sorted(source.rglob("*")) if file.suffix.lower() in EDF_SUFFIXES and file.is_file()]
    if not files:
        raise RecordingError(f"{source}: no EDF or BDF file in the folder; names are removed from those alone")
    for file in files:
        name = file.relative_to(source)
        yield str(name), file, output / name


def _refuse_results(source: Path) -> None:
    """Refuse what a command of this package wrote: no header of its tables names a person, and no EDF is a recording.

    Raises RecordingError.
    """
    from biopercept.loaders.outputs import maker_of

    if source.exists() and (maker := maker_of(source)):
        raise RecordingError(
            f"{source}: written by {maker}, and no recordings; names are removed from recordings, before results are "
            "made of them"
        )


def _n_others(source: Path) -> int:
    from biopercept.loaders.glance import EDF_SUFFIXES

    return sum(file.is_file() and file.suffix.lower() not in EDF_SUFFIXES for file in source.rglob("*"))


def _words(removed: Removed) -> str:
    """Return what was removed, in a few words."""
    parts = [f"{name} field" if name in ("patient", "recording") else name for name in removed.fields]
    if removed.n_annotations:
        parts.append(f"{removed.n_annotations} annotations")
    if removed.n_stray_bytes:
        parts.append(f"{removed.n_stray_bytes} bytes behind the last data record")
    kept = f"; {removed.n_annotations_kept} annotations kept" if removed.n_annotations_kept else ""
    return f"removed: {', '.join(parts) or 'nothing, there was nothing'}{kept}"
