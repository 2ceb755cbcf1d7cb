"""The page of ``reconstruct``: every channel with its error beside what needs no network, and its course."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biopercept.errors import count
from biopercept.files import write_text
from biopercept.report.drawing import BLUE, FAINT, Drawing, FigureData, draw
from biopercept.report.layout import Head, ReportWarning, Section, page_of
from biopercept.report.text import NOT_DEFINED, Table, interval_text, shown
from biopercept.results.reading import read_table
from biopercept.results.reconstruction import PAGE, UNKNOWN, ReconstructedChannel, Reconstruction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_FIGURES = 12
_MOST_POINTS = 4000


def write_page(result: Reconstruction, folder: Path) -> Path:
    """Write the page of a reconstruction into its folder, and return its path.

    Raises StudyError where a table of it is damaged. Raises OutputError where the page cannot be written.
    """
    path = folder / PAGE
    summary = f"{result.model}: {count(len(result.channels), 'channel')} of {count(result.n_recordings, 'recording')}"
    figures = tuple(_course(row, folder, n) for n, row in enumerate(result.channels[:_MOST_FIGURES], 1))
    sections = [errors_section(result)]
    if figures:
        sections.append(Section("courses", "Signals", figures=figures))
    warnings = [ReportWarning(False, words) for words in result.warnings]
    write_text(path, page_of(Head(folder.resolve().name, summary), sections, warnings))
    return path


def errors_section(result: Reconstruction) -> Section:
    """Return how far every channel is off, beside what needs no network."""
    lead = (
        "Root mean squared errors where the recording has the signal, which was hidden from the network with all of "
        "its sensor; in the signal's unit. Difference: the network less the strongest of the others, in stretches as "
        f"long as a window ({result.window_seconds:g} s), with its 95 % interval over stretches; below 0 the network "
        "is better.",
        *(f"{name}: {words}." for name, words in result.baselines.items()),
    )
    tables = (_table(result),) if result.channels else ()
    title = f"Reconstructed signals{f': {result.name}' if result.name else ''}: what they are worth"
    return Section(f"reconstructed-{result.name}", title, lead=lead, tables=tables)


def error_lines(result: Reconstruction) -> list[str]:
    """Return a line for each channel: how far it is off, beside the strongest of what needs no network."""
    return [_line(row) for row in result.channels]


def _line(row: ReconstructedChannel) -> str:
    name = f"{row.participant_id} {row.recording} {row.signal} {row.channel}"
    if row.verdict == UNKNOWN:
        return f"{name}: reconstructed at the level of the {row.level_of}; the error cannot be measured here"
    best = getattr(row, row.strongest.replace(" ", "_"))
    return (
        f"{name}: off by {row.rmse:.3g} {row.unit} (RMSE), {row.strongest} by {best:.3g}; difference "
        f"{interval_text(row.difference, row.ci95, '{:+.3g}')}, n = {count(row.n_stretches, 'stretch', 'stretches')}: "
        f"{row.verdict}"
    )


def _table(result: Reconstruction) -> Table:
    cells = [
        (
            " ".join(part for part in (row.participant_id, row.session, row.recording) if part),
            row.signal,
            row.channel,
            row.unit,
            *(_cell(value) for value in (row.rmse, row.level, row.recording_mean, row.interpolation)),
            interval_text(row.difference, row.ci95, "{:+.3g}"),
            _cell(row.correlation),
            f"{row.n_stretches:,}",
            row.level_of,
            row.verdict,
        )
        for row in result.channels
    ]
    heads = ("Recording", "Signal", "Channel", "Unit", "Network", "Level", "Recording mean", "Interpolation")
    more = ("Difference", "Correlation", "Stretches", "Level of", "Verdict")
    return Table("Errors by channel", (*heads, *more), tuple(cells), (*[False] * 4, *[True] * 7, False, False))


def _cell(value: float | None) -> str:
    return NOT_DEFINED if value is None else f"{value:.3g}"


def _course(row: ReconstructedChannel, folder: Path, number: int) -> Drawing:
    table = read_table(folder / row.table)
    times = table.numbers("time")
    every = max(1, len(times) // _MOST_POINTS)
    lines = {"measured": table.numbers(f"{row.channel} measured"), "reconstructed": table.numbers(row.channel)}

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for (label, values), colour in zip(lines.items(), (FAINT, BLUE), strict=True):
            if np.isfinite(values).any():
                axes.plot(times[::every] / 60, values[::every], color=colour, linewidth=0.9, label=label)
        axes.set_xlabel("time since the recording began (minutes)")
        axes.set_ylabel(f"{row.signal} ({row.unit})")
        axes.grid(axis="y")
        axes.legend(loc="upper right", ncols=2)

    thinned = f" Every {every}th sample is drawn." if every > 1 else ""
    caption = (
        f"From {row.made_from}; level of the {row.level_of}.{thinned} Compared with what was measured: {row.verdict}."
    )
    title = f"{shown(row.participant_id)} {shown(row.recording)}: {row.signal}, {shown(row.channel)}"
    columns = ("time (minutes)", *(f"{label} ({row.unit})" for label in lines))
    rows = zip(times[::every] / 60, *(values[::every] for values in lines.values()), strict=True)
    data = FigureData(columns, tuple(rows), ((f"{row.signal} ({row.unit})", len(lines)),), (FAINT, BLUE))
    return draw(f"course-{number}", title, caption, 2.2, paint).with_data(data)
