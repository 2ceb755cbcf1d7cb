"""``correct``: stretches, channels, beats and labels corrected by hand, in a table beside the recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biopercept.errors import SettingsError

from . import options
from .terminal import print_json, print_text, safe_text, say

if TYPE_CHECKING:
    from biopercept.prepare.corrections import CorrectionTables
    from biopercept.prepare.sources import Source
    from biopercept.recording import Correction


@dataclass(frozen=True)
class WhichRecording:
    """Which recording of a study is meant."""

    subject: Annotated[
        str | None, options.data_option("--subject", metavar="ID", help="Of a study: whose recording.")
    ] = None
    session: Annotated[
        str | None, options.data_option("--session", metavar="NAME", help="Of a study: of which session.")
    ] = None
    recording: options.RecordingName = None


@dataclass(frozen=True)
class Edits:
    """What is corrected."""

    bad: Annotated[
        list[str] | None,
        typer.Option("--bad", metavar="A:B", help="Mask from second A to B; may be repeated, as all of these."),
    ] = None
    bad_channel: Annotated[
        list[str] | None, typer.Option("--bad-channel", metavar="NAME", help="Mask a channel, or a signal, throughout.")
    ] = None
    add_beat: Annotated[
        list[float] | None, typer.Option("--add-beat", metavar="T", help="A beat at T seconds that was missed.")
    ] = None
    remove_beat: Annotated[
        list[float] | None, typer.Option("--remove-beat", metavar="T", help="The beat within 0.15 s of T is none.")
    ] = None
    polarity: Annotated[
        list[str] | None, typer.Option("--polarity", metavar="SIGNAL", help="This ECG or pulse wave is upside down.")
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="A:B=NAME", help="The label from second A to B; an empty NAME: it has none."),
    ] = None
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            metavar="SIGNAL[/CHANNEL]",
            help="What --bad masks (otherwise everything), and whose the beats are (otherwise those that are used).",
        ),
    ] = None
    who: Annotated[str, typer.Option("--who", metavar="NAME", help="Written beside each correction.")] = ""


@dataclass(frozen=True)
class CorrectRun(options.Printing):
    """What the command does with the table."""

    show: Annotated[bool, options.run_option("--list", help="Only print the corrections that are there.")] = False
    undo: Annotated[bool, options.run_option("--undo", help="Take back what was written last.")] = False
    quiet: options.Quiet = False


def correct(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A recording, or a study folder.")],
    edits: Edits = Edits(),
    which: WhichRecording = WhichRecording(),
    run: CorrectRun = CorrectRun(),
) -> None:
    """Correct a recording by hand: a table beside it says what is bad, and which beats are there or not.

    Every command that reads the recording honours the table, NAME_corrections.tsv, which can be written by hand, too.
    Times are seconds from the recording's start. What would have no effect is refused. Prints what is in the table.

    Example: biopercept correct S01.edf --bad 120:135 --who AB
    """
    from biopercept.prepare.corrections import corrections_in, undo_corrections, write_corrections

    wanted = _wanted(edits)
    given = [name for name, is_given in (("--list", run.show), ("--undo", run.undo)) if is_given]
    given += ["a correction"] if wanted else []
    if not given:
        raise SettingsError("give something to correct, such as --bad 120:135, or one of --list and --undo")
    if len(given) > 1:
        raise SettingsError(f"{' and '.join(given)} cannot be done in one go; give one of them")
    _refuse_unread(edits, is_written=bool(wanted))
    source = _source(path, which)
    if run.show:
        tables = corrections_in(source)
    elif run.undo:
        tables = undo_corrections(source)
    else:
        tables = write_corrections(source, wanted, edits.who)
    for note in tables.notes:
        say(note, quiet=run.quiet)
    for table in tables.changed:
        say(f"{'written' if table.is_file() else 'removed'}: {table}", quiet=run.quiet)
    _print(source, tables, as_json=run.as_json)
    if tables.faults:
        raise typer.Exit(2)


def _refuse_unread(edits: Edits, *, is_written: bool) -> None:
    """Refuse options that change nothing beside the others that are given."""
    if edits.who and not is_written:
        raise SettingsError("--who is written beside corrections; --list and --undo write none")
    if edits.channel is not None and not (edits.bad or edits.add_beat or edits.remove_beat):
        raise SettingsError("--channel says what --bad, --add-beat and --remove-beat are of; give one of them")


def _source(path: Path, which: WhichRecording) -> Source:
    """Return the one recording that is meant."""
    from biopercept.prepare.sources import sources_of

    sources = sources_of([path])
    given = (which.subject, which.session, which.recording)
    if sources[0].entry is None and len(sources) > 1:
        names = "; ".join(source.title for source in sources[:8]) + ("; ..." if len(sources) > 8 else "")
        raise SettingsError(
            f"{path} holds {len(sources)} recordings, and one is corrected at a time; name one of: {names}"
        )
    if sources[0].entry is None:
        if any(value is not None for value in given):
            raise SettingsError("--subject, --session and --recording choose one of a study; the path is a recording")
        return sources[0]
    return _one_of(sources, which)


def _one_of(sources: Sequence[Source], which: WhichRecording) -> Source:
    """Return the recording of a study that the options choose, one after the other."""
    from biopercept.typed_values import not_among

    chosen = [(source, source.entry) for source in sources if source.entry is not None]
    for part, name in (("subject", which.subject), ("session", which.session), ("recording", which.recording)):
        if name is None:
            continue
        there = list(dict.fromkeys(getattr(entry, part) for _, entry in chosen))
        if name not in there:
            known = not_among([name], there) if any(there) else f"{name}; there are none"
            raise SettingsError(f"--{part}: the study has no {part} {known}")
        chosen = [(source, entry) for source, entry in chosen if getattr(entry, part) == name]
    if len(chosen) > 1:
        names = "; ".join(source.title for source, _ in chosen[:8]) + ("; ..." if len(chosen) > 8 else "")
        raise SettingsError(
            f"{len(chosen)} recordings are meant, and one is corrected at a time; choose it with --subject, --session "
            f"and --recording; there are: {names}"
        )
    return chosen[0][0]


def _wanted(edits: Edits) -> list[Correction]:
    """Return what the options correct."""
    from biopercept.recording import BAD, BEAT_ADDED, BEAT_REMOVED, CHANNEL_BAD, POLARITY, Correction

    channels = () if edits.channel is None else (edits.channel,)
    wanted = [Correction(BAD, *_stretch(text), channels) for text in edits.bad or ()]
    wanted += [Correction(CHANNEL_BAD, channels=(name,)) for name in edits.bad_channel or ()]
    wanted += _labels(edits.label or ())
    wanted += [Correction(POLARITY, channels=(name,)) for name in edits.polarity or ()]
    for kind, times in ((BEAT_REMOVED, edits.remove_beat), (BEAT_ADDED, edits.add_beat)):
        wanted += [Correction(kind, time, 0.0, channels) for time in times or ()]
    return wanted


def _labels(texts: Sequence[str]) -> list[Correction]:
    """Return the labels of options; two that contradict each other are refused, as their order is nobody's wish."""
    from biopercept.recording import contradicted

    labels: list[Correction] = []
    for text in texts:
        label = _label(text)
        if (other := contradicted(label, labels)) is not None:
            raise SettingsError(
                f"--label {texts[labels.index(other)]} and --label {text} say two things of one stretch; give the one "
                "that holds, or one command after the other: the later goes before the earlier"
            )
        labels.append(label)
    return labels


def _label(text: str) -> Correction:
    """Return the label of "A:B=NAME"."""
    from biopercept.recording import LABEL, Correction

    stretch, equals, name = text.partition("=")
    if not equals:
        raise SettingsError(f"--label is {text!r}; A:B=NAME is needed, and A:B= where there is no label")
    return Correction(LABEL, *_stretch(stretch, "--label"), label=name.strip())


def _stretch(text: str, option: str = "--bad") -> tuple[float, float]:
    """Return onset and duration of "A:B"."""
    first, colon, last = text.partition(":")
    try:
        begin, end = float(first), float(last)
        if not (colon and end > begin and end - begin < float("inf")):
            raise ValueError(text)
    except ValueError:
        raise SettingsError(
            f"{option} is {text!r}; A:B is needed, seconds from the recording's start, B after A"
        ) from None
    return begin, end - begin


def _print(source: Source, tables: CorrectionTables, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "recording": source.title,
                "tables": [{"path": str(path), "corrections": list(rows)} for path, rows in tables.rows.items()],
                "changed": [str(path) for path in tables.changed],
                "notes": list(tables.notes),
                "faults": list(tables.faults),
            }
        )
        return
    if not tables.rows:
        print_text(safe_text(f"{source.title}: no corrections by hand"))
    for path, rows in tables.rows.items():
        print_text(safe_text(path))
        _print_rows([list(rows[0]), *(list(row.values()) for row in rows)] if rows else [])
    for fault in tables.faults:
        print_text(f"fault: {safe_text(fault)}")


def _print_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as what stands in them."""
    if not rows:
        return
    widths = [max(len(row[place]) for row in rows if place < len(row)) for place in range(len(rows[0]))]
    for row in rows:
        print_text(
            safe_text("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))).rstrip()
        )
