"""What a frame of the plot looks like: labels, quality, waves, beats, corrections and predictions, in pixels.

A frame is drawn from what :mod:`biopercept.desktop.traces` reads in a few milliseconds. Where the disk is slower, it is
coarse for a moment, and the frame says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PySide6 import QtCore, QtGui

from biopercept.desktop.traces import Budget, Row, SpoiltSeconds, Trace, painted, shaded
from biopercept.recording import BAD, CHANNEL_BAD, Correction, FloatArray, Interval
from biopercept.viewing.predictions import PredictionTrack
from biopercept.viewing.timeline import BEATS, Marks

SELECT, BEAT_TOOL = "select", "beats"
"""What the mouse is for."""

_READ_SECONDS = 0.012
"""Time of a frame in which samples are read; what is not read then follows."""
_CLIP = 1.5  # rows from the middle of its own that a spike is drawn to
_INK = {"eeg": "#1f3b5c", "ecg": "#8a1f2f", "bvp": "#8a1f2f", "ibi": "#8a1f2f", "hr": "#8a1f2f", "resp": "#1d5c3a"}
_INK |= {"eda": "#6b4a12", "temp": "#4b2d6b", "rating": "#0f5a66"}
_INKS = ("#333333", *dict.fromkeys(_INK.values()))
_SHADES = (QtGui.QColor(0, 0, 0, 0), QtGui.QColor(120, 120, 120, 22), QtGui.QColor(120, 120, 120, 55))
_SELECTED = QtGui.QColor(40, 110, 220, 50)
_BAD_SAVED, _BAD_PENDING = QtGui.QColor(200, 30, 30, 150), QtGui.QColor(200, 30, 30, 70)
_BEAT, _MARK = QtGui.QColor(0, 100, 230, 160), QtGui.QColor(90, 90, 90)

PlacedRows = Sequence[tuple[Row, float]]
"""Rows with the pixel of the top of each."""


@dataclass(frozen=True)
class Selection:
    """A stretch that was dragged over, seconds, and the row that it began in."""

    begin: float
    end: float
    row: Row | None


@dataclass(frozen=True)
class Layout:
    """Where things are drawn, in pixels from the top: the lane of labels, rows, and tracks of predictions."""

    lane: float
    rows: tuple[float, ...]
    row: float
    tracks: tuple[float, ...]
    track: float
    height: float


@dataclass(frozen=True, eq=False)
class Content:
    """What is drawn of a recording; ``beats`` are those of ``beat_signal`` with what is not saved yet."""

    rows: tuple[Row, ...] = ()
    traces: dict[str, Trace] = field(default_factory=dict)
    labels: tuple[Interval, ...] = ()
    spoilt: dict[str, SpoiltSeconds] = field(default_factory=dict)
    marks: tuple[Marks, ...] = ()
    predictions: tuple[PredictionTrack, ...] = ()
    saved: tuple[Correction, ...] = ()
    pending: tuple[Correction, ...] = ()
    beats: FloatArray = field(default_factory=lambda: np.zeros(0))
    beat_signal: str = ""
    turned: frozenset[str] = frozenset()
    colours: dict[str, str] = field(default_factory=dict)
    duration: float = 1.0


@dataclass(frozen=True, eq=False)
class View:
    """What of a recording is on the screen, and where: ``rect`` is the plot in pixels of the widget.

    ``row`` is the chosen row, ``moved_beat`` the time that a beat is dragged to.
    """

    content: Content
    start: float
    span: float
    rect: QtCore.QRectF
    layout: Layout
    rows: tuple[Row, ...]
    gain: float = 1.0
    is_fitted: bool = False
    row: Row | None = None
    selection: Selection | None = None
    tool: str = SELECT
    moved_beat: float | None = None

    def pixel_of(self, seconds: float) -> float:
        """Return the pixel of a time."""
        return self.rect.left() + (seconds - self.start) / self.span * self.rect.width()

    def stretch(self, begin: float, end: float, top: float, height: float) -> QtCore.QRectF | None:
        """Return a stretch of time in pixels; None where it is out of view."""
        if end < self.start or begin > self.start + self.span:
            return None
        left, right = (min(max(self.pixel_of(edge), self.rect.left()), self.rect.right()) for edge in (begin, end))
        return QtCore.QRectF(left, top, max(right - left, 1.0), height)

    @property
    def placed_rows(self) -> PlacedRows:
        """Return the visible rows with the pixel of the top of each."""
        return [(row, self.rect.top() + top) for top, row in zip(self.layout.rows, self.rows, strict=True)]


class FramePainter:
    """Draws frames; the waves are kept as an image while the view stays."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._image: QtGui.QImage | None = None

    def forget(self) -> None:
        """Draw the waves again."""
        self._key = ()

    def paint(self, painter: QtGui.QPainter, view: View) -> bool:
        """Draw a frame; return whether it is fine, or coarse where time was short."""
        painter.setClipRect(view.rect)
        _paint_labels(painter, view)
        _paint_behind(painter, view)
        is_fine = self._paint_waves(painter, view)
        _paint_marks(painter, view)
        for top, track in zip(view.layout.tracks, view.content.predictions, strict=True):
            lane = QtCore.QRectF(view.rect.left(), view.rect.top() + top + 3, view.rect.width(), view.layout.track - 6)
            _paint_track(painter, view, lane, track)
        _paint_selection(painter, view)
        return is_fine

    def _paint_waves(self, painter: QtGui.QPainter, view: View) -> bool:
        size = int(view.rect.width()), int(view.rect.height())
        key = (view.start, view.span, size, view.gain, view.is_fitted, view.rows, id(view.content))
        is_fine = True
        if key != self._key or self._image is None:
            is_fine = self._draw_waves(view)
            self._key = key if is_fine else ()
        if self._image is not None:
            painter.drawImage(QtCore.QPointF(int(view.rect.left()), int(view.rect.top())), self._image)
        return is_fine

    def _draw_waves(self, view: View) -> bool:
        width, n_lines = max(int(view.rect.width()), 1), max(int(view.rect.height()), 1)
        pixels = np.zeros((n_lines, width + (-width) % 4), dtype=np.uint8)
        is_fine, budget, traces = True, Budget(_READ_SECONDS), view.content.traces
        names = dict.fromkeys(row.signal for row in view.rows)
        for name in sorted(names, key=lambda one: traces[one].cost):
            columns = traces[name].columns(view.start, view.start + view.span, width, budget)
            is_fine &= columns.is_fine
            mine = [(row, top) for row, top in zip(view.rows, view.layout.rows, strict=True) if row.signal == name]
            lines = [
                _in_pixels(view, traces[name], row.channel, columns.lowest[row.channel], columns.highest[row.channel])
                for row, _ in mine
            ]
            tops = [round(top) for _, top in mine]
            if name in view.content.spoilt:
                shares = view.content.spoilt[name].shares(view.start, view.start + view.span, width)
                shaded(shares[[row.channel for row, _ in mine]], tops, round(view.layout.row) - 1, pixels[:, :width])
            painted(lines, tops, pixels[:, :width], _shade_of(traces[name]))
        image = QtGui.QImage(pixels.data, width, n_lines, pixels.shape[1], QtGui.QImage.Format.Format_Indexed8)
        image.setColorTable([colour.rgba() for colour in (*_SHADES, *map(QtGui.QColor, _INKS))])
        self._image = image.convertToFormat(QtGui.QImage.Format.Format_ARGB32_Premultiplied)
        return is_fine


def _paint_labels(painter: QtGui.QPainter, view: View) -> None:
    lane, rect = view.layout.lane, view.rect
    for label in view.content.labels:
        area = view.stretch(label.onset_seconds, label.end_seconds, rect.top() + 1, lane - 2)
        if area is None:
            continue
        colour = QtGui.QColor(view.content.colours.get(label.label, "#888888"))
        _fill(painter, QtCore.QRectF(area.left(), rect.top(), area.width(), rect.height()), colour, 18)
        _fill(painter, area, colour, 150)
        if area.width() > 24 or not label.duration_seconds:
            painter.setPen(QtGui.QColor("#111111"))
            flags = QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.AlignmentFlag.AlignLeft
            room = area.adjusted(4, 0, -2, 0) if label.duration_seconds else area.adjusted(4, 0, 200, 0)
            painter.drawText(room, int(flags), label.label)


def _paint_behind(painter: QtGui.QPainter, view: View) -> None:
    """Shade the chosen row, and what was marked bad by hand: hatched where it is saved."""
    content, rect, height = view.content, view.rect, view.layout.row
    for row, top in view.placed_rows:
        if row == view.row:
            painter.fillRect(QtCore.QRectF(rect.left(), top, rect.width(), height), QtGui.QColor(40, 110, 220, 14))
        for corrections, is_saved in ((content.saved, True), (content.pending, False)):
            for one in corrections:
                if one.kind not in (BAD, CHANNEL_BAD) or not _is_about(one, row):
                    continue
                area = view.stretch(*one.span, top + 1, height - 2)
                if area is not None:
                    hatched = QtGui.QBrush(_BAD_SAVED, QtCore.Qt.BrushStyle.BDiagPattern)
                    painter.fillRect(area, hatched if is_saved else QtGui.QBrush(_BAD_PENDING))


def _paint_marks(painter: QtGui.QPainter, view: View) -> None:
    content, rect, height = view.content, view.rect, view.layout.row
    of_rows = [(m.signal, m.channel, m.times, _MARK) for m in content.marks if m.kind != BEATS]
    channel = next((m.channel for m in content.marks if m.kind == BEATS and m.signal == content.beat_signal), 0)
    of_rows.append((content.beat_signal, channel, content.beats, _BEAT))
    for row, top in view.placed_rows:
        for signal, channel, times, colour in of_rows:
            if signal != row.signal or channel != row.channel:
                continue
            first, last = np.searchsorted(times, [view.start, view.start + view.span])
            x = np.unique(np.round([view.pixel_of(t) for t in times[first:last]])) if last - first < 5000 else ()
            is_wide = len(x) < rect.width() / 6
            painter.setPen(QtGui.QPen(colour, 1.0))
            bottom = top + height - 2 if colour is _BEAT and is_wide and view.tool == BEAT_TOOL else top + 7
            painter.drawLines([QtCore.QLineF(place, top + 2, place, bottom) for place in x])
        moved = view.moved_beat
        if moved is not None and row.signal == content.beat_signal:
            painter.setPen(QtGui.QPen(_BEAT, 2.0, QtCore.Qt.PenStyle.DashLine))
            painter.drawLine(QtCore.QLineF(view.pixel_of(moved), top, view.pixel_of(moved), top + height))


def _paint_selection(painter: QtGui.QPainter, view: View) -> None:
    chosen = view.selection
    if chosen is None:
        return
    area = view.stretch(chosen.begin, chosen.end, view.rect.top(), view.rect.height())
    if area is None:
        return
    painter.fillRect(area, _SELECTED)
    for row, top in view.placed_rows:
        if row == chosen.row:
            painter.fillRect(QtCore.QRectF(area.left(), top, area.width(), view.layout.row), _SELECTED)
    painter.setPen(QtGui.QColor(40, 110, 220))
    painter.drawLine(area.topLeft(), area.bottomLeft())
    painter.drawLine(area.topRight(), area.bottomRight())


def _in_pixels(view: View, trace: Trace, channel: int, lowest: Any, highest: Any) -> tuple[Any, Any]:
    """Return columns of a channel in pixels from the top of its row; what is turned by hand is drawn turned."""
    centre, half, height = trace.centre[channel], trace.half[channel], view.layout.row
    is_known = np.isfinite(lowest)
    if is_known.any() and (view.is_fitted or trace.is_wave):
        if view.is_fitted:
            low, high = float(np.nanmin(lowest)), float(np.nanmax(highest))
            centre, half = (low + high) / 2, max((high - low) / 2, 1e-12 + abs(low) * 1e-9)
        else:
            centre = float(np.nanmedian(lowest + highest)) / 2 + trace.offset[channel]
    scale = 0.45 * height * view.gain / half
    if trace.signal.name in view.content.turned:
        upper, lower = height / 2 + (lowest - centre) * scale, height / 2 + (highest - centre) * scale
    else:
        upper, lower = height / 2 - (highest - centre) * scale, height / 2 - (lowest - centre) * scale
    top, bottom = height / 2 - _CLIP * height, height / 2 + _CLIP * height
    is_out = (lower < top) | (upper > bottom)
    return np.where(is_out, np.nan, np.maximum(upper, top)), np.where(is_out, np.nan, np.minimum(lower, bottom))


def _paint_track(painter: QtGui.QPainter, view: View, lane: QtCore.QRectF, track: PredictionTrack) -> None:
    """Draw windows in the colour of the class that is predicted, true ones below, and the probabilities as lines."""
    ends = np.minimum(track.onset + track.duration, np.append(track.onset[1:], np.inf))
    strip = min(16.0, lane.height() / 3)
    rows = np.flatnonzero((ends >= view.start) & (track.onset <= view.start + view.span))
    for row in rows:
        left, right = view.pixel_of(float(track.onset[row])), view.pixel_of(float(ends[row]))
        area = QtCore.QRectF(left, lane.top(), max(right - left - 1, 1.0), strip)
        name = track.predicted[row] if track.classes else ""
        known = bool(np.isfinite(track.values[row]).any())
        _fill(painter, area, QtGui.QColor(view.content.colours.get(name, "#888888")), 150 if known else 40)
        if track.label[row]:
            true = QtCore.QRectF(left, lane.bottom() - 5, area.width(), 5)
            _fill(painter, true, QtGui.QColor(view.content.colours.get(track.label[row], "#888888")), 200)
        words = name if known else "withheld"
        if words and area.width() > 8 * len(words):
            painter.setPen(QtGui.QColor("#111111"))
            painter.drawText(area.adjusted(3, 0, 0, 0), int(QtCore.Qt.AlignmentFlag.AlignVCenter), words)
    top, height = lane.top() + strip + 3, lane.height() - strip - 11
    if len(rows) == 0 or height < 6:
        return
    low, high = 0.0, 1.0
    if not track.classes:
        low, high = np.nanmin(track.values, initial=np.inf), np.nanmax(track.values, initial=-np.inf)
    for line, values in enumerate(track.values.T):
        name = track.classes[line] if track.classes else ""
        painter.setPen(QtGui.QPen(QtGui.QColor(view.content.colours.get(name, "#1f3b5c")), 1.5))
        for row in rows:
            if np.isfinite(values[row]) and high > low:
                y = top + (1.0 - (values[row] - low) / (high - low)) * height
                left, right = view.pixel_of(float(track.onset[row])), view.pixel_of(float(ends[row]))
                painter.drawLine(QtCore.QLineF(left, y, right, y))


def _fill(painter: QtGui.QPainter, area: QtCore.QRectF, colour: QtGui.QColor, opacity: int) -> None:
    shade = QtGui.QColor(colour)
    shade.setAlpha(opacity)
    painter.fillRect(area, shade)


def _shade_of(trace: Trace) -> int:
    return _INKS.index(_INK.get(trace.signal.modality, _INKS[0])) + len(_SHADES)


def _is_about(one: Correction, row: Row) -> bool:
    return not one.channels or row.signal in one.channels or row.name in one.channels
