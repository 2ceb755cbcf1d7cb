"""Figures over time: predictions of a recording beside the truth, which labels were where, what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import count
from biopercept.report.drawing import (
    FAINT,
    GREEN,
    GRID,
    INK,
    RED,
    Drawing,
    FigureData,
    class_legend,
    colours,
    draw,
    name_rows,
)
from biopercept.report.text import shortened, shown
from biopercept.results.folder import Preparation
from biopercept.results.predictions import NumberLine, Predictions, RecordingKey

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MOST_ROWS = 60
_MOST_WINDOWS = 4000  # of the numbers that a figure carries; all stand in the tables of the folder
_MINUTE = 60.0
_CLOCK = "time since the recording began (minutes)"


def timeline_figure(predictions: Predictions, name: str, note: str = "") -> Drawing:
    """Return one recording over time: true class, predicted class and the probability of each class.

    Its windows are in time order, at least one; ``name`` is the file name without suffix, ``note`` says why this
    recording was chosen and begins the caption.
    """
    shades = colours(predictions.classes)
    starts, lengths = _cells(predictions)
    n_strips = 1 + predictions.has_labels

    def paint(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[0.35 * n_strips, 1.6])
        class_strips(top, predictions)
        _probability_lines(bottom, predictions, starts + lengths / 2)
        class_legend(figure, predictions.classes, shades, loc="outside upper right", ncols=min(6, len(shades)))

    n_withheld = sum(not cell for cell in predictions.predicted)
    caption = (
        f"{note}{title_of(predictions.keys[0])}: {count(len(predictions), 'window')}, each drawn around its middle"
        f"{f'; {n_withheld:,} withheld, hatched grey' if n_withheld else ''}; blank where there is no window. "
        "Probabilities are between 0 and 1 and sum to 1."
    )
    columns = ("time (min)", *(f"probability of {name}" for name in predictions.classes))
    values = (starts + lengths / 2, *predictions.probabilities.T)
    rows = tuple(zip(*(column.tolist() for column in values), strict=True))
    data = FigureData(columns, rows, (("probability (0 to 1)", len(predictions.classes)),), _shades(predictions))
    return draw(name, f"Timeline of {title_of(predictions.keys[0])}", caption, 2.6, paint).with_data(data)


def _shades(predictions: Predictions) -> tuple[str, ...]:
    """Return the colour of each class, as the picture has it."""
    return tuple(shade for shade, _ in colours(predictions.classes).values())


def class_strips(axes: Axes, predictions: Predictions) -> None:
    """Draw the true class, where it is known, above the predicted one as coloured strips over minutes."""
    shades = colours(predictions.classes)
    starts, lengths = _cells(predictions)
    strips = [("predicted", predictions.predicted)]
    if predictions.has_labels:
        strips.insert(0, ("true", predictions.label))
    for row, (_, names) in enumerate(strips):
        _class_bars(axes, row, (starts, lengths), names, shades)
        withheld = _merged(starts, lengths, np.array([not cell for cell in names], dtype=bool))
        axes.broken_barh(withheld, (row - 0.4, 0.8), facecolor=GRID, hatch="////", edgecolor=FAINT, linewidth=0)
    axes.set_yticks(range(len(strips)), [label for label, _ in strips])
    axes.set_ylim(len(strips) - 0.5, -0.5)
    axes.tick_params(axis="both", length=0)
    axes.spines[:].set_visible(False)


def title_of(key: RecordingKey) -> str:
    """Return the words for a recording: subject, session, recording; what is empty or said already is left out."""
    return ", ".join(dict.fromkeys(shown(part) for part in key if part))


def _cells(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the start and length of the segment that stands for each window, minutes: as wide as the usual step."""
    middle = predictions.onset + predictions.duration / 2
    steps = np.diff(middle)
    steps = steps[steps > 0]
    step = float(np.median(steps)) if len(steps) else np.inf
    lengths = np.minimum(predictions.duration, step)
    return (middle - lengths / 2) / _MINUTE, lengths / _MINUTE


def _class_bars(
    axes: Axes,
    row: int,
    cells: tuple[NDArray[np.float64], NDArray[np.float64]],
    names: Sequence[str],
    shades: dict[str, tuple[str, str]],
) -> None:
    """Draw a row of segments, each window's in the colour of the class that it is named after."""
    for label, (colour, hatch) in shades.items():
        segments = _merged(*cells, np.array([name == label for name in names], dtype=bool))
        axes.broken_barh(segments, (row - 0.4, 0.8), facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0)


def _merged(
    starts: NDArray[np.float64], lengths: NDArray[np.float64], is_in: NDArray[np.bool_]
) -> list[tuple[float, float]]:
    """Return (start, length) of the chosen segments, neighbours joined."""
    joined: list[tuple[float, float]] = []
    for start, length in zip(starts[is_in], lengths[is_in], strict=True):
        if joined and start <= sum(joined[-1]) + 1e-3:
            joined[-1] = (joined[-1][0], max(float(start + length) - joined[-1][0], joined[-1][1]))
        else:
            joined.append((float(start), float(length)))
    return joined


def _probability_lines(axes: Axes, predictions: Predictions, middle: NDArray[np.float64]) -> None:
    """Draw a line per class (the second of two), broken where windows are missing."""
    is_binary = len(predictions.classes) == 2
    shades = colours(predictions.classes)
    gaps = np.flatnonzero(np.diff(middle) * _MINUTE > predictions.duration[1:] + 1e-3) + 1
    times = np.insert(middle, gaps, np.nan)
    for place, label in list(enumerate(predictions.classes))[1 if is_binary else 0 :]:
        values = np.insert(predictions.probabilities[:, place], gaps, np.nan)
        colour = INK if is_binary else shades[label][0]
        axes.plot(times, values, color=colour, linewidth=1.3, marker=".", markersize=4)
    axes.axhline(1 / len(predictions.classes), color=FAINT, linestyle="--", linewidth=0.9)
    axes.set_ylim(-0.03, 1.03)
    what = f"probability of\n“{shortened(predictions.classes[1], 16)}”" if is_binary else "probability"
    axes.set_ylabel(what)
    _minutes_across(axes)
    axes.grid()


def _minutes_across(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(_CLOCK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def overview_figure(predictions: Predictions) -> Drawing:
    """Return every recording as a row over time, coloured by true class: what was scored, and where nothing was."""
    keys = sorted(predictions.recordings)
    drawn = keys[:_MOST_ROWS]
    shades = colours(predictions.classes)
    subjects = len({key[0] for key in keys})
    is_one_each = subjects == len(keys)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, key in enumerate(drawn):
            recorded = predictions.of_recording(key)
            _class_bars(axes, row, _cells(recorded), recorded.label, shades)
        name_rows(axes, [shortened(key[0] if is_one_each else title_of(key)) for key in drawn])
        axes.set_xlim(left=0)
        _minutes_across(axes)
        axes.grid(axis="x")
        class_legend(figure, predictions.classes, shades, loc="outside upper right", ncols=min(6, len(shades)))

    cut = _cut(len(drawn), len(keys), "recordings")
    counts = ", ".join(f"{shown(name)} {predictions.label.count(name):,}" for name in predictions.classes)
    caption = (
        f"{count(len(predictions), 'scored window')} of {count(len(keys), 'recording')} and "
        f"{count(subjects, 'subject')} "
        f"({counts}), coloured by true class; blank is not scored: unlabelled, ignored or unusable.{cut}"
    )
    rows = zip(
        predictions.keys, predictions.onset.tolist(), predictions.duration.tolist(), predictions.label, strict=True
    )
    columns = ("subject", "session", "recording", "onset (s)", "duration (s)", "true class")
    data = FigureData(
        columns, tuple((*key, onset, length, label) for key, onset, length, label in rows)[:_MOST_WINDOWS]
    )
    height = 1.1 + 0.165 * max(len(drawn), 3)
    return draw("data-overview", "Where the scored windows lie", caption, height, paint).with_data(data)


def quality_figure(predictions: Predictions) -> Drawing | None:
    """Return signal quality of every subject's windows; None where no window's quality is known."""
    if not np.isfinite(predictions.quality).any():
        return None
    subjects = sorted({key[0] for key in predictions.keys})
    drawn = subjects[:_MOST_ROWS]
    owner = np.array([key[0] for key in predictions.keys])
    known = np.isfinite(predictions.quality)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, subject in enumerate(drawn):
            values = predictions.quality[(owner == subject) & known]
            heights = row + ((np.arange(len(values)) * 0.618) % 1.0 - 0.5) * 0.6
            axes.scatter(values, heights, s=8, color=GREEN, alpha=0.55, linewidths=0)
        name_rows(axes, [shortened(subject) for subject in drawn])
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("quality of the window's signals (0 unusable to 1 clean)")
        axes.grid()

    unknown = int((~known).sum())
    cut = _cut(len(drawn), len(subjects), "subjects")
    caption = (
        f"A dot is one scored window, {count(int(known.sum()), 'window')} of {count(len(subjects), 'subject')}; "
        f"{unknown:,} of unknown quality.{cut}"
    )
    rows = tuple(zip(owner.tolist(), predictions.onset.tolist(), predictions.quality.tolist(), strict=True))
    data = FigureData(("subject", "onset (s)", "quality (0 to 1)"), rows[:_MOST_WINDOWS])
    height = 1.1 + 0.165 * max(len(drawn), 3)
    return draw("quality", "Signal quality of the scored windows", caption, height, paint).with_data(data)


def missing_figure(preparations: Sequence[Preparation]) -> Drawing | None:
    """Return windows kept and left out, by reason, a row per recording; None where no counts are known."""
    rows = [row for row in preparations if row.kept is not None]
    if not rows:
        return None
    drawn = rows[:_MOST_ROWS]
    reasons = tuple(dict.fromkeys(reason for row in drawn for reason in row.left_out))
    shades = colours(("kept", *reasons))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        reach = np.zeros(len(drawn))
        for reason in ("kept", *reasons):
            counts = [row.kept if reason == "kept" else row.left_out.get(reason, 0) for row in drawn]
            width = np.array(counts, dtype=float)
            colour, hatch = shades[reason]
            axes.barh(
                range(len(drawn)), width, 0.75, left=reach, color=colour, hatch=hatch, edgecolor="white", linewidth=0
            )
            reach += width
        for place, row in enumerate(drawn):
            if row.is_failed:
                axes.text(reach[place], place, " failed", va="center", color=RED, fontsize=8)
        name_rows(axes, [shortened(title_of(row.key)) for row in drawn])
        axes.set_xlabel("windows (count)")
        axes.grid(axis="x")
        class_legend(figure, ("kept", *reasons), shades, loc="outside upper right", ncols=3)

    kept = sum(row.kept or 0 for row in rows)
    lost = sum(sum(row.left_out.values()) for row in rows)
    failed = sum(row.is_failed for row in preparations)
    cut = _cut(len(drawn), len(rows), "recordings")
    caption = (
        f"{count(kept, 'window')} kept and {lost:,} left out in {count(len(rows), 'recording')}; "
        f"{count(failed, 'recording')} failed.{cut}"
    )
    counts = tuple((title_of(row.key), row.kept, *(row.left_out.get(name, 0) for name in reasons)) for row in rows)
    data = FigureData(("recording", "kept", *reasons), counts)
    height = 1.1 + 0.19 * max(len(drawn), 3)
    return draw("missing-data", "Windows kept and left out", caption, height, paint).with_data(data)


def _cut(n_drawn: int, n: int, noun: str) -> str:
    return f" The first {n_drawn} of {n} {noun} are drawn." if n_drawn < n else ""


def line_figure(line: NumberLine, name: str) -> Drawing:
    """Return one recording's predictions over time, a line for each class or number."""
    shown = [place for place in range(len(line.names)) if np.isfinite(line.values[:, place]).any()]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place in shown:
            label = line.names[place].replace("_", " ")
            axes.plot(line.seconds / 60, line.values[:, place], linewidth=1.2, label=label)
        axes.set_xlabel(_CLOCK)
        axes.set_ylabel("probability (0 to 1)" if line.names[0].startswith("probability_") else "number")
        axes.grid()
        if shown:
            axes.legend(loc="best")

    kind = "single times, each the mean of the windows that hold it" if line.is_trace else "windows, at their middles"
    caption = (
        f"{line.title}: predictions for {count(len(line.seconds), 'time' if line.is_trace else 'window')}: {kind}."
    )
    title = f"{'Trace' if line.is_trace else 'Numbers'} of {line.title}"
    rows = tuple(zip(line.seconds.tolist(), *line.values.T.tolist(), strict=True))[:_MOST_WINDOWS]
    data = FigureData(("time (s)", *line.names), rows, (("prediction", len(line.names)),))
    return draw(name, title, caption, 2.6, paint).with_data(data)
