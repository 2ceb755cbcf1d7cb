"""The page of the quality of recordings: a table of subjects and sensors, and the index of each channel over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from biopercept.errors import count
from biopercept.measures.quality import RatedSignal, RecordingQuality, Sensor
from biopercept.preprocessing.quality import REASONS
from biopercept.recording import AlignedFile, FloatArray
from biopercept.report.drawing import BLUE, FAINT, INK, Drawing, draw
from biopercept.report.layout import Head, ReportWarning, Section, page_of
from biopercept.report.text import Table, duration, listed, shortened, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_DRAWN = 40
"""Recordings whose strips are drawn; all are in the tables."""

_CELLS = 480
_GOOD = (0.90, 0.94, 0.92)
_MOST_WORDS = 3
_LEVELS = 12
"""Steps of an index that are drawn, as the height of a bar."""
# Each is 3 to 1 from paper and from what is good, on a light page and turned for a dark one; hues follow Tab20, moved
# apart, and reasons that are often seen together differ in hue.
_COLOURS = (
    "#788796", "#000000", "#d62728", "#1f77b4", "#e15a00", "#9467bd", "#c36996", "#87875a", "#1e9696", "#8c564b",
    "#5b3a29", "#b4783c", "#3c965a", "#878700", "#4b9600", "#ff2d69", "#aa0050", "#006900", "#393b79", "#2d4b00",
    "#b47800",
)  # fmt: skip


def quality_page(name: str, recordings: Sequence[RecordingQuality], failures: Sequence[tuple[str, str]]) -> str:
    """Return the HTML page of recordings; ``failures`` are title and message of those that could not be read."""
    people = {one.subject for one in recordings}
    summary = f"{count(len(recordings), 'recording')} of {count(len(people), 'subject')}"
    warnings = [ReportWarning(True, f"{title}: {message}") for title, message in failures]
    drawn = recordings[:MOST_DRAWN]
    sections = [_overview(recordings)] if recordings else []
    sections += [_recording_section(one, number) for number, one in enumerate(drawn, 1)]
    return page_of(Head(f"Quality of {name}", summary), sections, warnings)


def _overview(recordings: Sequence[RecordingQuality]) -> Section:
    drawn = "" if len(recordings) <= MOST_DRAWN else f" The first {MOST_DRAWN} recordings are drawn below."
    lead = (
        "Per cent of the time in whose minute around a rate of beats, breaths or skin responses is to be believed, and "
        "believed with care, by the mean of the index; behind them stands what lowers its index most. Variability "
        f"needs more than a rate.{drawn}"
    )
    return Section("sensors", "Subjects and sensors", lead=(lead,), tables=(sensor_table(recordings),))


def sensor_table(recordings: Sequence[RecordingQuality]) -> Table:
    """Return a row per recording and a column per sensor: per cent believed, with care, and what spoils most."""
    names = tuple(dict.fromkeys(sensor.signal for one in recordings for sensor in one.sensors()))
    rows = []
    for one in recordings:
        by_name = {sensor.signal: sensor for sensor in one.sensors()}
        rows.append((one.title, *(_cell(by_name.get(name)) for name in names)))
    title = f"Time believed + with care of {count(len(recordings), 'recording')}, per cent"
    return Table(title, ("Recording", *names), tuple(rows), (False,) * (len(names) + 1))


def _cell(sensor: Sensor | None) -> str:
    if sensor is None:
        return "no sensor"
    share = f"{100 * sensor.believe:.0f} + {100 * sensor.with_care:.0f}"
    return f"{share}{f' ({sensor.reason})' if sensor.reason else ''}"


def _recording_section(one: RecordingQuality, number: int) -> Section:
    n_seconds = max((signal.quality.index.shape[1] for signal in one.signals), default=0)
    lead = f"{duration(float(n_seconds))}, {count(len(one.signals), 'measured signal')}."
    notes = "\n".join(shown(note) for note in one.notes)
    folded = ((f"{count(len(one.notes), 'note')} of what was left out, masked or chosen", notes),) if notes else ()
    return Section(
        f"recording-{number}",
        one.title,
        lead=(lead,),
        figures=(*((strips_figure(one),) if n_seconds else ()), *map(clock_figure, one.aligned)),
        tables=(_lost_table(one),),
        folded=folded,
    )


def _lost_table(one: RecordingQuality) -> Table:
    rows = [
        {
            "Sensor": sensor.signal,
            "Index": f"{sensor.mean_index:.2f}",
            "Believe, %": f"{100 * sensor.believe:.0f}",
            "With care, %": f"{100 * sensor.with_care:.0f}",
            "Stretches lost": f"{sensor.stretches_lost}",
            "Longest": duration(sensor.longest_lost),
            "What spoils it most, % of the time": _spoilt(signal),
        }
        for signal, sensor in zip(one.signals, one.sensors(), strict=True)
    ]
    words = ("Sensor", "What spoils it most, % of the time")
    return Table.of(f"{count(len(rows), 'sensor')} of {one.title}", rows, words)


def _spoilt(signal: RatedSignal) -> str:
    shares = {name: 100 * float(share.mean()) for name, share in signal.quality.shares.items()}
    return listed([f"{name} {shares[name]:.2g}" for name in signal.reasons()], _MOST_WORDS) or "nothing"


def strips_figure(one: RecordingQuality) -> Drawing:
    """Return a strip per channel over time: pale where the signal is good, bars in the reason's colour where not."""
    strips = [(signal, row) for signal in one.signals for row in range(len(signal.channels))]
    seen = [name for name in REASONS if any(name in signal.quality.shares for signal in one.signals)]
    n_seconds = one.signals[0].quality.index.shape[1]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        image = np.concatenate([_strip(signal, row) for signal, row in strips])
        extent = (0.0, n_seconds / 60.0, len(strips) - 0.5, -0.5)
        axes.imshow(image, aspect="auto", interpolation="nearest", extent=extent)
        _name_strips(axes, strips)
        axes.set_xlabel("time since the recording began (minutes)")
        _reason_legend(figure, seen)

    caption = (
        "Each row is a channel. Pale is an index of 1; the lower the index, the higher the bar, in the colour of what "
        "spoils most of the time. Grey is what was not recorded."
    )
    return draw("strips", f"Quality of {one.title} over time", caption, 1.2 + 0.19 * max(len(strips), 4), paint)


def clock_figure(aligned: AlignedFile) -> Drawing:
    """Return what was added to a file's clock over time with its uncertainty, and how far each piece lies from that."""
    clock = aligned.alignment
    pieces = np.array(clock.pieces, dtype=np.float64).reshape(-1, 2)
    times, left = pieces[:, 0], pieces[:, 1]
    course = np.linspace(times.min(initial=0.0), times.max(initial=0.0), 101)

    def paint(figure: Figure) -> None:
        line, residuals = figure.subplots(1, 2)
        seconds, sd = clock.line(course)
        line.fill_between(course / 60, seconds - 2 * sd, seconds + 2 * sd, color=BLUE, alpha=0.2, linewidth=0)
        line.plot(course / 60, seconds, color=BLUE)
        line.plot(times / 60, clock.line(times)[0] + left, "o", color=INK, markersize=3.5)
        line.set_ylabel("added to its clock (s)")
        residuals.axhline(0.0, color=BLUE)
        residuals.vlines(times / 60, 0.0, 1e3 * left, color=FAINT)
        residuals.plot(times / 60, 1e3 * left, "o", color=INK, markersize=3.5)
        residuals.set_ylabel("distance from the line (ms)")
        for axes in (line, residuals):
            axes.ticklabel_format(axis="y", useOffset=False)
            axes.set_xlabel(f"time on the clock of {shortened(aligned.name)} (minutes)")

    what = "shared events" if aligned.quantity == "events" else f"pieces of {aligned.quantity}"
    caption = (
        f"{shown(clock.text())}. Dots are {clock.n} {what} where {shown(aligned.reference)} has them; the band is "
        "two standard deviations of the line to either side."
    )
    title = f"Clock of {shown(aligned.name)} beside {shown(aligned.reference)}, by {aligned.quantity}"
    return draw("clocks", title, caption, 2.6, paint)


def _strip(signal: RatedSignal, row: int) -> FloatArray:
    """Return the colours of one channel over time, (levels, n_cells, 3): bars from below, full where the index is 0."""
    from matplotlib.colors import to_rgb

    index = _in_cells(signal.quality.index[row])
    names = [name for name in REASONS if name in signal.quality.shares]
    worst = np.full(len(index), -1)
    if names:
        shares = np.stack([_in_cells(signal.quality.shares[name][row]) for name in names])
        places = np.array([list(REASONS).index(name) for name in names])
        worst = np.where(shares.max(axis=0) > 0, places[shares.argmax(axis=0)], -1)
    palette = np.array([to_rgb(colour) for colour in (*_COLOURS, FAINT)])
    height = np.ceil(_LEVELS * (1.0 - index) - 0.05)  # what is rounding of numbers shows nothing
    is_bar = np.arange(_LEVELS, 0, -1)[:, None] <= height[None, :]
    return np.where(is_bar[:, :, None], palette[worst][None], np.array(_GOOD))


def _in_cells(values: FloatArray) -> FloatArray:
    """Return the mean of seconds in each of at most some hundreds of cells of equal length, as far as they divide."""
    edges = np.unique(np.linspace(0, len(values), min(len(values), _CELLS) + 1).astype(int))[:-1]
    n = np.diff(np.append(edges, len(values)))
    return np.asarray(np.add.reduceat(values.astype(np.float64), edges) / n, dtype=np.float64)


def _name_strips(axes: Axes, strips: Sequence[tuple[RatedSignal, int]]) -> None:
    names = [
        signal.name if len(signal.channels) == 1 else f"{signal.name} {signal.channels[row]}" for signal, row in strips
    ]
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    for border in range(1, len(strips)):
        axes.axhline(border - 0.5, color="white", linewidth=1.5)


def _reason_legend(figure: Figure, seen: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    places = list(REASONS)
    patches = [Patch(facecolor=_COLOURS[places.index(name)], label=name) for name in seen]
    if patches:
        figure.legend(handles=patches, loc="outside upper right", ncols=min(6, len(patches)))
