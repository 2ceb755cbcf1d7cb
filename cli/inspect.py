"""``biopercept inspect``: what is in recordings, and what of it would be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from biopercept.errors import BioperceptError, RecordingError, ranged, recording_title

from . import options
from .terminal import BARS, console, print_json, safe_text, say, sparkline

if TYPE_CHECKING:
    from biopercept.prepare.sources import Stated
    from biopercept.recording import Recording, Signal

_CHUNK = 1 << 20
_WILD = 1e15
_PLAIN_WIDTH = 140
_SHAPE_BINS = 24
_SHAPE_WIDTH = 120
"""A narrower terminal has no room for sparklines."""
_WAVE_HZ = 8.0


def inspect(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Recordings, or folders of them.", show_default=False)
    ],
    channels: options.Channels = options.Channels(),
    run: options.Printing = options.Printing(),
) -> None:
    """Show every signal of recordings: what it is, its rate, range and gaps, and whether it would be used.

    A path is a file, a study folder, or any folder: the recordings in it and in those below are
    shown one by one. A recording that cannot be read is named on stderr, the others are shown,
    and the exit code is 1.

    Example: biopercept inspect S01.edf recordings/
    """
    reports: list[dict[str, Any]] = []
    n_failed = 0
    alike: Counter[str] = Counter()
    chosen, stated = _chosen(paths, channels)
    for path in chosen:
        for place, recording in _recordings(path, stated):
            report = _report(place, recording)
            if isinstance(report, BioperceptError):
                n_failed += 1
                fault = str(report.__cause__ or report)  # without whose recording it is
                alike[fault] += 1
                if alike[fault] == 1:
                    say(f"biopercept: {report}")
                continue
            reports.append(report)
            if not run.as_json:
                _show(report)
    for fault, count in alike.items():
        if count > 1:
            say(f"biopercept: so too in {count - 1} more: {fault}")
    if run.as_json:
        for report in reports:
            for signal in report["signals"]:
                del signal["shape"]  # to look at, and no number of the signal
        print_json({"schema": 1, "recordings": reports, "n_failed": n_failed})
    if n_failed:
        raise typer.Exit(1)


def _chosen(paths: list[Path], channels: options.Channels) -> tuple[tuple[Path, ...], Stated | None]:
    """Return the paths that stand for recordings, and what the user says of their channels."""
    from biopercept.prepare.sources import Stated, recording_paths, refuse_of_study
    from biopercept.studies.loading import is_study

    chosen, overrides = recording_paths(paths), channels.overrides
    if not overrides:
        return chosen, None
    refuse_of_study(next((path for path in chosen if is_study(path)), None))
    return chosen, Stated(overrides, is_of_one=len(chosen) == 1 and chosen[0].is_file())


def _recordings(path: Path, stated: Stated | None) -> Iterator[tuple[Path, Recording | BioperceptError]]:
    """Give the recordings of a path and where each lies, or the error in the place of one that cannot be read."""
    from biopercept.files import is_folder
    from biopercept.studies.loading import is_study

    if not is_folder(path):
        yield path, _loaded(path, stated)
    elif is_study(path):
        yield from ((path, recording) for recording in _of_study(path))
    else:
        yield from _of_folder(path, stated)


def _loaded(path: Path, stated: Stated | None) -> Recording | BioperceptError:
    from biopercept.prepare.sources import recording_at

    try:
        return recording_at(path, stated=stated)
    except BioperceptError as fault:
        return fault


def _of_folder(folder: Path, stated: Stated | None) -> Iterator[tuple[Path, Recording | BioperceptError]]:
    """Give what is in a folder that is no study; what else lies there is said in a line."""
    from biopercept.loaders.folders import recordings_in

    try:
        listing = recordings_in(folder)
    except BioperceptError as fault:
        yield folder, fault
        return
    for path in listing.paths:
        recording = _loaded(path, stated)
        if isinstance(recording, BioperceptError) and path.parent != folder and path != folder:
            named = RecordingError(f"{path.parent.relative_to(folder)}: {recording}")
            named.__cause__ = recording
            recording = named
        yield path, recording
    if words := listing.words(folder):
        say(safe_text(f"{folder}: {words}"))


def _of_study(folder: Path) -> Iterator[Recording | BioperceptError]:
    from biopercept.prepare.sources import recording_of
    from biopercept.studies.loading import load_study
    from biopercept.studies.structure import StudyFaults

    try:
        study = load_study(folder)
    except BioperceptError as fault:
        yield fault
        if not isinstance(fault, StudyFaults) or fault.study is None:
            return
        study = fault.study  # a wrong label hides no signal
    for entry in study.entries:
        try:
            yield recording_of(study, entry)
        except BioperceptError as fault:
            named = RecordingError(f"{entry.subject} {entry.recording}: {fault}")
            named.__cause__ = fault
            yield named


def _report(path: Path, recording: Recording | BioperceptError) -> dict[str, Any] | BioperceptError:
    """Return everything that is shown about a recording; the samples are read here, so an error may come of it."""
    if isinstance(recording, BioperceptError):
        return recording
    try:
        signals = [_signal_report(signal, recording) for signal in recording.signals]
    except BioperceptError as fault:
        return fault
    notes = [*recording.notes, *_notes(recording), *_wild(signals)]
    return {
        "path": str(path),
        "subject": recording.subject,
        "session": recording.session,
        "recording": recording.name,
        "duration_seconds": round(recording.duration_seconds, 3),
        "signals": signals,
        "labels": _labels(recording),
        "corrections": [one.to_json() for one in recording.corrections],
        "corrected": _corrected(recording),
        "notes": notes,
    }


def _corrected(recording: Recording) -> str:
    """Return what is to be corrected by hand, in a few words; empty where nothing is."""
    from biopercept.preprocessing.corrections import summary

    return summary(recording.corrections, recording) if recording.corrections else ""


def _notes(recording: Recording) -> list[str]:
    """Return that a recording is too short for a window, where it is: then none of its signals can be used."""
    from biopercept.preprocessing.windows import WindowSettings

    length = WindowSettings().length_seconds
    if recording.duration_seconds >= length:
        return []
    return [
        f"shorter than one window of {length:g} s: prepare refuses the recording unless windows.length_seconds is "
        "shortened"
    ]


def _wild(signals: list[dict[str, Any]]) -> list[str]:
    """Return which signals have samples that no sensor gives, as a damaged file has them; cleaning masks them."""
    ends = ((one["name"], one["minimum"], one["maximum"]) for one in signals if one["minimum"] is not None)
    return [
        f"{name}: samples reach from {low:.4g} to {high:.4g}, which no sensor gives; such samples are masked"
        for name, low, high in ends
        if max(-low, high) > _WILD
    ]


def _signal_report(signal: Signal, recording: Recording) -> dict[str, Any]:
    from biopercept.preprocessing.cleaning import why_unused

    low, high, n_missing, shape = _range(signal)
    reason = why_unused(signal, corrections=recording.corrections)
    return {
        "name": signal.name,
        "modality": signal.modality,
        "recognised_by": signal.recognised_by,
        "unit": signal.unit,
        "sampling_rate": signal.sampling_rate,
        "is_regular": signal.is_regular,
        "start_seconds": signal.start_seconds,
        "duration_seconds": signal.duration_seconds,
        "channels": list(signal.channel_names),
        "n_samples": signal.n_samples,
        "minimum": low,
        "maximum": high,
        "shape": shape,
        "missing_percent": 100.0 * n_missing / max(signal.n_samples * signal.n_channels, 1),
        "source": signal.source,
        "is_used": not reason,
        "reason": reason,
    }


def _range(signal: Signal) -> tuple[float | None, float | None, int, list[float]]:
    """Return the lowest and highest sample (None where all are missing), the count of missing ones, and the shape.

    The shape, of the first channel, is for a sparkline: its mean in each part of the recording, or where it is a wave
    (from 8 Hz) its standard deviation; NaN where a part has no sample. Samples are read in pieces.
    """
    import numpy as np

    low, high, n_missing = np.inf, -np.inf, 0
    sums = np.zeros((3, _SHAPE_BINS))  # count, sum, sum of squares
    step = max(_CHUNK // max(signal.n_channels, 1), 1)
    for start in range(0, signal.n_samples, step):
        samples = signal.read(start, start + step)
        first = np.asarray(samples[0], dtype=np.float64)
        is_known = np.isfinite(first)
        places = (np.arange(start, start + len(first)) * _SHAPE_BINS // signal.n_samples)[is_known]
        known = first[is_known]
        with np.errstate(over="ignore", invalid="ignore"):
            for row, weights in enumerate((None, known, known**2)):
                sums[row] += np.bincount(places, weights, minlength=_SHAPE_BINS)
        is_missing = np.isnan(samples)
        n_missing += int(is_missing.sum())
        low = min(low, float(np.min(samples, where=~is_missing, initial=np.inf)))
        high = max(high, float(np.max(samples, where=~is_missing, initial=-np.inf)))
    count, total, squares = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        shape = np.sqrt(np.maximum(squares / count - mean**2, 0.0)) if signal.sampling_rate >= _WAVE_HZ else mean
    return (low, high, n_missing, shape.tolist()) if low <= high else (None, None, n_missing, [])


def _labels(recording: Recording) -> list[dict[str, Any]]:
    """Return per label how often it occurs and how long in all, in order of first occurrence."""
    by_label: dict[str, dict[str, Any]] = {}
    for interval in recording.intervals:
        entry = by_label.setdefault(interval.label, {"label": interval.label, "count": 0, "seconds": 0.0})
        entry["count"] += 1
        entry["seconds"] += interval.duration_seconds
    return list(by_label.values())


def _show(report: dict[str, Any]) -> None:
    """Print one recording as a table, its labels and its notes, as plain text from data."""
    from rich.table import Table
    from rich.text import Text

    screen = console()
    if not screen.is_terminal:
        screen.width = _PLAIN_WIDTH  # a pipe or a file has no width to fit
    who = recording_title(report["subject"], report["session"], report["recording"])
    screen.print(Text(safe_text(f"{who}  ({report['path']}), {report['duration_seconds']:g} s"), style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    has_shape = screen.is_terminal and screen.width >= _SHAPE_WIDTH and _can_draw(screen.encoding)
    shape = ("over time",) if has_shape else ()
    for title in ("signal", "modality", "unit", "Hz", "start s", "length s", "range", *shape, "gaps", "used"):
        justify: Literal["left", "right"] = "right" if title in ("Hz", "start s", "length s", "gaps") else "left"
        table.add_column(title, justify=justify, no_wrap=title in ("modality", "unit", "Hz", "start s", "length s"))
    for signal in report["signals"]:
        cells = list(_row(signal))
        cells[7:7] = [sparkline(signal["shape"])] if has_shape else []
        table.add_row(*(Text(safe_text(cell)) for cell in cells))
    if any(not signal["is_regular"] for signal in report["signals"]):
        table.caption = "* irregular: a typical rate"
    screen.print(table)
    labels = [f"{one['label']} ({one['count']}x, {one['seconds']:.0f} s)" for one in report["labels"]]
    if labels:
        more = f" and {len(labels) - 20} more" if len(labels) > 20 else ""
        screen.print(Text(safe_text("labels: " + ", ".join(labels[:20]) + more)))
    if report["corrected"]:
        screen.print(Text(safe_text(f"corrected by hand: {report['corrected']}")))
    for note in report["notes"]:
        screen.print(Text(safe_text(f"note: {note}")))
    screen.print()


def _can_draw(encoding: str) -> bool:
    """Return whether a terminal shows the characters of which sparklines are made."""
    try:
        BARS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _row(signal: dict[str, Any]) -> tuple[str, ...]:
    n_channels = len(signal["channels"])
    is_known = signal["minimum"] is not None
    return (
        signal["name"] + (f" x {n_channels}" if n_channels > 1 else ""),
        signal["modality"] + (f" ({signal['recognised_by']})" if signal["recognised_by"] else ""),
        signal["unit"],
        f"{signal['sampling_rate']:.6g}" + ("" if signal["is_regular"] else "*"),
        f"{signal['start_seconds']:.1f}",
        f"{signal['duration_seconds']:.1f}",
        ranged(f"{signal['minimum']:.4g}", f"{signal['maximum']:.4g}") if is_known else "",
        f"{signal['missing_percent']:.1f} %",
        "yes" if signal["is_used"] else f"no: {signal['reason']}",
    )
