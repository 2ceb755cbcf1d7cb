"""Strips of signals over time: the whole recording, lowest to highest value by column, and excerpts with each event.

What was masked is shaded, so that a gap is never taken for a calm signal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biopercept.measures.excerpts import Excerpt
from biopercept.preprocessing.gaps import BoolArray, runs_of
from biopercept.recording import FloatArray, Interval, Signal
from biopercept.report.drawing import BLUE, GREEN, INK, RED, Drawing, colours, draw
from biopercept.report.text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MASKED = "#f6dccb"
"""Colour of what was masked."""

MOST_POINTS = 800
"""Markers that a figure holds as drawings; more are painted as one picture, which is smaller."""

STRIP_HEIGHT = 0.95
_COLUMNS = 900
_LABEL_SHARE = 0.4  # of the height of a signal's strip
_LETTERS, _FEWEST_LETTERS = 110, 4  # of the width of a figure; in a bar
_SECONDS, _MINUTES = 180.0, 3.0 * 3600.0


@dataclass(frozen=True)
class Marks:
    """Events on a wave: what they are, times, heights, and how they are drawn."""

    label: str
    times: FloatArray
    heights: FloatArray
    marker: str
    colour: str
    is_hollow: bool = False
    size: float = 4.5


@dataclass(frozen=True)
class Strip:
    """A signal over time: title with unit, one row of samples at a rate from a start on, and what is drawn on it.

    ``over`` are other rows of the same rate and start, drawn as lines with their names; ``ticks`` are times that are
    marked along the bottom. ``lines`` join pairs of points (time, height), as onset and peak; ``intervals`` are bars in
    the colours of their labels, instead of a signal; ``classes``, in their order, have the colours of every page.
    """

    title: str
    samples: FloatArray
    sampling_rate: float
    start_seconds: float
    marks: tuple[Marks, ...] = ()
    over: tuple[tuple[str, FloatArray, str], ...] = ()
    ticks: tuple[FloatArray, str] | None = None
    lines: tuple[tuple[FloatArray, FloatArray], ...] = ()
    intervals: tuple[Interval, ...] = ()
    classes: tuple[str, ...] = ()

    @staticmethod
    def of(signal: Signal, channel: int, title: str, **drawn: object) -> Strip:
        """Return the strip of a channel of a regular signal."""
        return Strip(title, signal.read()[channel], signal.sampling_rate, signal.start_seconds, **drawn)  # type: ignore[arg-type]

    @property
    def times(self) -> FloatArray:
        """Return the time of every sample, seconds on the recording's clock."""
        return self.start_seconds + np.arange(len(self.samples)) / self.sampling_rate

    def at(self, times: FloatArray) -> FloatArray:
        """Return the samples at some times, by straight lines; NaN where masked or not recorded."""
        if len(self.samples) == 0:
            return np.full(len(times), np.nan)
        return np.interp(times, self.times, self.samples, left=np.nan, right=np.nan)


@dataclass(frozen=True)
class Clock:
    """How time is written along the bottom of a figure: seconds, minutes or hours, whichever reads best."""

    unit: str
    seconds: float

    @staticmethod
    def of(duration_seconds: float) -> Clock:
        """Return the clock for a duration."""
        if duration_seconds <= _SECONDS:
            return Clock("s", 1.0)
        return Clock("minutes", 60.0) if duration_seconds <= _MINUTES else Clock("hours", 3600.0)


def when(seconds: float) -> str:
    """Return a time of a recording as hours, minutes and seconds.

    >>> when(75.5), when(3725)
    ('1:15.5', '1:02:05')
    """
    tenths = round(seconds * 10)
    whole, tenth = divmod(abs(tenths), 10)
    minutes, rest = divmod(whole, 60)
    head = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else str(minutes)
    return f"{'-' if tenths < 0 else ''}{head}:{rest:02d}{f'.{tenth}' if tenth else ''}"


def columns_of(strip: Strip) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
    """Return middles of columns in time, lowest and highest sample of each, and whether most of it is masked.

    A signal of fewer samples than two a column has a column a sample.
    """
    n = len(strip.samples)
    size = max(n // _COLUMNS, 1)
    starts = np.arange(0, n, size) if n else np.empty(0, dtype=np.int64)
    known = np.isfinite(strip.samples)
    low = np.fmin.reduceat(strip.samples, starts) if n else np.empty(0)
    high = np.fmax.reduceat(strip.samples, starts) if n else np.empty(0)
    counts = np.diff(np.append(starts, n))
    share = np.add.reduceat(known.astype(np.float64), starts) / counts if n else np.empty(0)
    middles = strip.start_seconds + (starts + 0.5 * (counts - 1)) / strip.sampling_rate
    return middles, low, high, np.asarray(share < 0.5)


def overview(strips: Sequence[Strip], duration_seconds: float, words: tuple[str, str, str]) -> Drawing:
    """Return the whole recording, a strip under the other; ``words`` are name, title and caption of the figure."""
    clock = Clock.of(duration_seconds)

    def paint(figure: Figure) -> None:
        ratios = [_LABEL_SHARE if strip.intervals else 1.0 for strip in strips]
        rows = figure.subplots(len(strips), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
        for axes, strip in zip(rows, strips, strict=True):
            _paint_whole(axes, strip, clock)
            title_of(axes, strip.title)
        rows[-1].set_xlim(0.0, max(duration_seconds, 1e-3) / clock.seconds)
        rows[-1].set_xlabel(f"time since the recording began ({clock.unit})")
        legend_of(figure, rows)

    return draw(*words, 0.6 + STRIP_HEIGHT * len(strips), paint)


def _paint_whole(axes: Axes, strip: Strip, clock: Clock) -> None:
    if strip.intervals:
        _paint_labels(axes, strip, clock)
        return
    middles, low, high, is_masked = columns_of(strip)
    at = middles / clock.seconds
    axes.fill_between(at, low, high, color=BLUE, linewidth=0.5, label="_samples")
    for name, row, colour in strip.over:
        _, lowest, highest, _ = columns_of(Strip(name, row, strip.sampling_rate, strip.start_seconds))
        axes.plot(at, 0.5 * (lowest + highest), color=colour, linewidth=1.0, zorder=0.9, label=name)
    _shade(axes, middles, is_masked, clock)
    if strip.ticks is not None and len(strip.ticks[0]):
        times, label = strip.ticks
        axes.plot(
            times / clock.seconds, np.full(len(times), 0.03), "|", color=RED, markersize=6, markeredgewidth=0.6,
            transform=axes.get_xaxis_transform(), label=label, rasterized=len(times) > MOST_POINTS,
        )  # fmt: skip
    _limit(axes, low, high)


def _paint_labels(axes: Axes, strip: Strip, clock: Clock) -> None:
    """Draw labelled intervals as bars with their names in them, where there is room."""
    intervals = strip.intervals
    shades = colours(strip.classes, (interval.label for interval in intervals))
    whole = max(interval.end_seconds for interval in intervals)
    times = [i.onset_seconds / clock.seconds for i in intervals if i.duration_seconds <= 0]
    if times:
        axes.plot(times, np.full(len(times), 0.5), "|", color=INK, markersize=12, label="event without a duration")
    for interval in intervals:
        if interval.duration_seconds <= 0:
            continue
        colour, hatch = shades[interval.label]
        start, length = interval.onset_seconds / clock.seconds, interval.duration_seconds / clock.seconds
        axes.broken_barh([(start, length)], (0.0, 1.0), facecolor=colour, hatch=hatch, alpha=0.45, linewidth=0)
        room = int(_LETTERS * interval.duration_seconds / max(whole, 1e-9))
        if room >= _FEWEST_LETTERS:
            text = shortened(interval.label, room)
            axes.text(start + length / 2, 0.5, text, ha="center", va="center", fontsize=8, clip_on=True)
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([])


def _limit(axes: Axes, low: FloatArray, high: FloatArray) -> None:
    """Let the axis hold nearly everything: what single spikes reach would flatten the rest."""
    known = np.concatenate((low[np.isfinite(low)], high[np.isfinite(high)]))
    if len(known) == 0:
        axes.set_ylim(0.0, 1.0)
        axes.set_yticks([])
        return
    bottom, top = np.percentile(known, [0.5, 99.5])
    margin = 0.15 * (top - bottom) or max(abs(top) * 0.05, 1e-3)
    axes.set_ylim(bottom - margin, top + margin)


def _shade(axes: Axes, middles: FloatArray, is_masked: BoolArray, clock: Clock) -> None:
    if not is_masked.any():
        return
    step = float(np.median(np.diff(middles))) if len(middles) > 1 else 1.0
    spans = [(middles[a] - step / 2, middles[b - 1] + step / 2) for a, b in runs_of(is_masked)]
    for start, stop in spans:
        axes.axvspan(start / clock.seconds, stop / clock.seconds, color=MASKED, linewidth=0, zorder=0)


def title_of(axes: Axes, title: str) -> None:
    """Write what an axes shows above it, on the left."""
    axes.set_title(title, fontsize=8.5, pad=3)
    axes.locator_params(axis="y", nbins=3)


def legend_of(figure: Figure, rows: Iterable[Axes]) -> None:
    """Add one legend of whatever is named in any of the axes, and of the shading where there is any."""
    from matplotlib.patches import Patch

    handles: dict[str, Any] = {}
    rows = list(rows)
    for axes in rows:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if any(patch.get_facecolor()[:3] == _rgb(MASKED) for axes in rows for patch in axes.patches):
        handles["masked or not recorded"] = Patch(facecolor=MASKED)
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside upper right", ncols=min(len(handles), 4))


def _rgb(colour: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def excerpts(strips: Sequence[tuple[Excerpt, Strip]], words: tuple[str, str, str], score: str) -> Drawing:
    """Return excerpts under each other, every sample and event of each; ``score`` is the form of their score."""

    def paint(figure: Figure) -> None:
        rows = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
        for axes, (excerpt, strip) in zip(rows, strips, strict=True):
            _paint_excerpt(axes, strip, excerpt)
            ends = f"{when(excerpt.start_seconds)} to {when(excerpt.end_seconds)}"
            title_of(axes, f"{excerpt.word}: {ends}, {score.format(excerpt.score)}. {strip.title}")
        rows[-1].set_xlabel("time since the recording began (s)")
        legend_of(figure, rows)

    return draw(*words, 0.6 + 1.35 * len(strips), paint)


def _paint_excerpt(axes: Axes, strip: Strip, excerpt: Excerpt) -> None:
    inside = (strip.times >= excerpt.start_seconds) & (strip.times <= excerpt.end_seconds)
    times, samples = strip.times[inside], strip.samples[inside]
    axes.plot(times, samples, color=INK, linewidth=0.8, label="_samples")
    for name, row, colour in strip.over:
        axes.plot(times, row[inside], color=colour, linewidth=1.0, zorder=1.5, label=name)
    _shade(axes, times, ~np.isfinite(samples), Clock("s", 1.0))
    for x, y in strip.lines:
        if x[-1] >= excerpt.start_seconds and x[0] <= excerpt.end_seconds:
            axes.plot(x, y, color=GREEN, linewidth=1.6, label="_lines")
    for marks in strip.marks:
        is_in = (marks.times >= excerpt.start_seconds) & (marks.times <= excerpt.end_seconds)
        if is_in.any():
            face = "none" if marks.is_hollow else marks.colour
            axes.plot(
                marks.times[is_in], marks.heights[is_in], marks.marker, color=marks.colour, markerfacecolor=face,
                markersize=marks.size, label=marks.label,
            )  # fmt: skip
    axes.set_xlim(excerpt.start_seconds, excerpt.end_seconds)
    known = samples[np.isfinite(samples)]
    if len(known):
        margin = 0.15 * float(np.ptp(known)) or max(abs(float(known[0])) * 0.05, 1e-3)
        axes.set_ylim(known.min() - margin, known.max() + margin)


def channel_words(signal: Signal, channel: int) -> str:
    """Return the name of a signal, and of the channel where it has several, as data gave them."""
    name = shortened(signal.name, 32)
    return name if signal.n_channels == 1 else f"{name}, channel {shortened(signal.channel_names[channel], 16)}"
