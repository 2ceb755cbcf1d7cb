"""The plot of the window: all rows on one time axis, with stretches and beats for the mouse."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtGui

from biopercept.desktop.painting import BEAT_TOOL, SELECT, Content, FramePainter, Layout, Selection, View
from biopercept.desktop.traces import Row

SHORTEST_SECONDS = 0.05
_LANE, _TRACK = 22.0, 76.0  # pixels
_NEAR_PIXELS = 7
_LONGEST_NAME, _NAME_PIXELS = 15, 120
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200)


class _TimeAxis(pg.AxisItem):  # type: ignore[misc]
    """Seconds as a clock from the recording's start."""

    def tickSpacing(self, low: float, high: float, size: float) -> list[tuple[float, float]]:  # noqa: N802
        """Return the distance of ticks, a round one."""
        wanted = (high - low) * 90 / max(size, 1)
        return [(next((step for step in _TICKS if step >= wanted), _TICKS[-1]), 0.0)]

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:  # noqa: N802
        """Return what stands at ticks."""
        return [clock(value, spacing) for value in values]


def clock(seconds: float, spacing: float = 1.0) -> str:
    """Return seconds as h:mm:ss, with as many digits as ticks that far apart need."""
    digits = 0 if spacing >= 1 else 1 if spacing >= 0.1 else 2
    whole = round(abs(seconds), digits)
    hours, minutes, rest = int(whole // 3600), int(whole % 3600 // 60), whole % 60
    text = f"{rest:0{3 + digits if digits else 2}.{digits}f}"
    return f"{'-' if seconds < 0 else ''}{f'{hours}:{minutes:02d}' if hours else minutes}:{text}"


class Canvas(pg.PlotWidget):  # type: ignore[misc]
    """The plot; ``selected``, ``beat_clicked`` and ``beat_moved`` say what the mouse did, in seconds."""

    viewed = QtCore.Signal()
    selected = QtCore.Signal()
    hovered = QtCore.Signal(str)
    beat_clicked = QtCore.Signal(float, str, bool)  # seconds, signal, whether there is a beat
    beat_moved = QtCore.Signal(float, float, str)
    menu_wanted = QtCore.Signal(QtCore.QPoint)

    def __init__(self) -> None:
        axes = {"bottom": _TimeAxis("bottom"), "left": pg.AxisItem("left")}
        super().__init__(axisItems=axes, background="w")
        self.content = Content()
        self.start, self.span = 0.0, 30.0
        self.gain, self.is_fitted = 1.0, False
        self.first_row, self.most_rows = 0, 40
        self.tool = SELECT
        self.selection: Selection | None = None
        self.row: Row | None = None
        self.frame_seconds: deque[float] = deque(maxlen=2000)
        self._drag: dict[str, Any] | None = None
        self._painter = FramePainter()
        self._item = _Picture(self)
        box = self.getPlotItem().getViewBox()
        box.setMouseEnabled(x=False, y=False)
        box.setMenuEnabled(False)
        box.invertY(True)
        box.setDefaultPadding(0.0)
        box.sigResized.connect(lambda _: self.set_view(self.start, self.span))
        self.getPlotItem().hideButtons()
        self.getAxis("left").setWidth(_NAME_PIXELS)
        for axis in axes.values():
            axis.setPen("#555555")
            axis.setTextPen("#222222")
        self.getAxis("left").setStyle(tickLength=0)
        self.addItem(self._item, ignoreBounds=True)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
        self.viewport().setMouseTracking(True)
        self._refining = QtCore.QTimer(self, singleShot=True, interval=0)
        self._refining.timeout.connect(self._item.update)

    # What is shown

    def show_content(self, content: Content) -> None:
        """Draw something else, at the same place where there is one."""
        self.content = content
        self.first_row = min(self.first_row, max(len(content.rows) - 1, 0))
        if self.row not in content.rows:
            self.row = None
        self._painter.forget()
        self.set_view(self.start, self.span)

    def set_view(self, start: float, span: float) -> None:
        """Show ``span`` seconds from ``start`` on, as far as there is anything."""
        longest = max(self.content.duration, 1.0)
        self.span = min(max(span, SHORTEST_SECONDS), longest)
        self.start = min(max(start, 0.0), longest - self.span)
        layout = self.layout_in_pixels()
        box = self.getPlotItem().getViewBox()
        whole = {"xRange": (self.start, self.start + self.span), "yRange": (0.0, layout.height)}
        box.setRange(**whole, padding=0, disableAutoRange=True)
        self.getAxis("left").setTicks([self._names(layout)])
        self._item.update()
        self.viewed.emit()

    def zoom(self, factor: float, at: float | None = None) -> None:
        """Show ``factor`` times as much, what is at a time, or in the middle, staying where it is."""
        at = self.start + self.span / 2 if at is None else at
        span = min(max(self.span * factor, SHORTEST_SECONDS), self.content.duration)
        self.set_view(at - (at - self.start) * span / self.span, span)

    def move(self, screens: float) -> None:
        """Go on by so many screens."""
        self.set_view(self.start + screens * self.span, self.span)

    def scroll_rows(self, n_rows: int) -> None:
        """Show other rows, where there are more than fit."""
        last = max(len(self.content.rows) - self.most_rows, 0)
        self.first_row = min(max(self.first_row + n_rows, 0), last)
        self._painter.forget()
        self.set_view(self.start, self.span)

    def scale(self, factor: float) -> None:
        """Draw waves larger, or smaller."""
        self.gain = min(max(self.gain * factor, 0.01), 1000.0)
        self._painter.forget()
        self._item.update()

    def fit(self, *, is_fitted: bool) -> None:
        """Scale each row to what is in view of it, or as usual in the recording."""
        self.is_fitted = is_fitted
        self.gain = 1.0
        self._painter.forget()
        self._item.update()

    def select(self, selection: Selection | None) -> None:
        """Select a stretch, or nothing."""
        self.selection = selection
        if selection is not None and selection.row is not None:
            self.row = selection.row
        self._item.update()
        self.selected.emit()

    @property
    def visible_rows(self) -> tuple[Row, ...]:
        """Return the rows that are on the screen."""
        return self.content.rows[self.first_row : self.first_row + self.most_rows]

    def layout_in_pixels(self) -> Layout:
        """Return where things are drawn, in pixels from the top of the plot."""
        n_rows, n_tracks = max(len(self.visible_rows), 1), len(self.content.predictions)
        height = max(self.plot_rect().height(), 1.0)
        lane = _LANE if self.content.labels else 0.0
        track = min(_TRACK, 0.4 * height / n_tracks) if n_tracks else 0.0
        row = max((height - lane - n_tracks * track) / n_rows, 1.0)
        rows = tuple(lane + n * row for n in range(len(self.visible_rows)))
        return Layout(lane, rows, row, tuple(lane + n_rows * row + n * track for n in range(n_tracks)), track, height)

    def _names(self, layout: Layout) -> list[tuple[float, str]]:
        names = [(layout.lane / 2, "labels")] if layout.lane else []
        rows = zip(layout.rows, self.visible_rows, strict=True)
        names += [(top + layout.row / 2, _short(row.title)) for top, row in rows]
        tracks = zip(layout.tracks, self.content.predictions, strict=True)
        return names + [(top + layout.track / 2, _short(track.title)) for top, track in tracks]

    # Between pixels and seconds

    def plot_rect(self) -> QtCore.QRectF:
        """Return where rows are drawn, in pixels of the widget."""
        return QtCore.QRectF(self.getPlotItem().getViewBox().sceneBoundingRect())

    def seconds_at(self, x: float) -> float:
        """Return the time under a pixel."""
        rect = self.plot_rect()
        return self.start + (x - rect.left()) / max(rect.width(), 1.0) * self.span

    def pixel_of(self, seconds: float) -> float:
        """Return the pixel of a time."""
        rect = self.plot_rect()
        return rect.left() + (seconds - self.start) / self.span * rect.width()

    def row_at(self, y: float) -> Row | None:
        """Return the row under a pixel."""
        layout, place = self.layout_in_pixels(), y - self.plot_rect().top()
        rows = zip(layout.rows, self.visible_rows, strict=True)
        return next((row for top, row in rows if top <= place < top + layout.row), None)

    def middle_of(self, row: Row) -> float:
        """Return the pixel of the middle of a visible row."""
        layout = self.layout_in_pixels()
        return self.plot_rect().top() + layout.rows[self.visible_rows.index(row)] + layout.row / 2

    def beat_near(self, x: float, row: Row | None) -> float | None:
        """Return the beat under a pixel of a row, if there is one."""
        beats = self.content.beats
        if row is None or row.signal != self.content.beat_signal or not len(beats):
            return None
        beat = float(beats[np.argmin(np.abs(beats - self.seconds_at(x)))])
        return beat if abs(self.pixel_of(beat) - x) <= _NEAR_PIXELS else None

    # The mouse

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: N802
        """Begin what the mouse does."""
        x, row = event.position().x(), self.row_at(event.position().y())
        shift = bool(event.modifiers() & QtCore.Qt.KeyboardModifier.ShiftModifier)
        if event.button() == QtCore.Qt.MouseButton.RightButton:
            self.row = row or self.row
            self._item.update()
            self.menu_wanted.emit(event.globalPosition().toPoint())
        elif event.button() == QtCore.Qt.MouseButton.MiddleButton or shift:
            self._drag = {"kind": "move", "x": x, "start": self.start}
        elif self.tool == BEAT_TOOL and row is not None:
            self._drag = {"kind": BEAT_TOOL, "x": x, "row": row, "beat": self.beat_near(x, row), "to": x}
        else:
            self.row = row or self.row
            self._drag = {"kind": SELECT, "x": x, "row": row}
        event.accept()

    def mouseMoveEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: N802
        """Move, select or drag; without a button say what is under the mouse."""
        x, drag = event.position().x(), self._drag
        if drag is None:
            self.hovered.emit(self._words_at(x, self.row_at(event.position().y())))
        elif drag["kind"] == "move":
            self.set_view(drag["start"] - (x - drag["x"]) / max(self.plot_rect().width(), 1.0) * self.span, self.span)
        elif drag["kind"] == SELECT and abs(x - drag["x"]) > 2:
            begin, end = sorted((self.seconds_at(drag["x"]), self.seconds_at(x)))
            self.select(Selection(max(begin, 0.0), min(end, self.content.duration), drag["row"]))
        elif drag["kind"] == BEAT_TOOL:
            drag["to"] = x
            self._item.update()
        event.accept()

    def mouseReleaseEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: N802
        """End what the mouse does."""
        x, drag, self._drag = event.position().x(), self._drag, None
        if drag is not None and drag["kind"] == SELECT and abs(x - drag["x"]) <= 2:
            self.select(None)
        if drag is not None and drag["kind"] == BEAT_TOOL:
            signal, beat = drag["row"].signal, drag["beat"]
            if abs(x - drag["x"]) <= 3:
                self.beat_clicked.emit(self.seconds_at(x) if beat is None else beat, signal, beat is not None)
            elif beat is not None:
                self.beat_moved.emit(beat, self.seconds_at(x), signal)
        self._item.update()
        event.accept()

    def mouseDoubleClickEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: N802
        """Do nothing more than a click."""
        event.accept()

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:  # noqa: N802
        """Go on in time; with Ctrl zoom, with Shift go to other rows."""
        steps = event.angleDelta().y() / 120 or event.angleDelta().x() / 120
        if event.modifiers() & QtCore.Qt.KeyboardModifier.ControlModifier:
            self.zoom(0.8**steps, self.seconds_at(event.position().x()))
        elif event.modifiers() & QtCore.Qt.KeyboardModifier.ShiftModifier:
            self.scroll_rows(-round(3 * steps))
        else:
            self.move(-0.1 * steps)
        event.accept()

    def use_tool(self, tool: str) -> None:
        """Use the mouse for stretches, or for beats; what it was doing is let go."""
        self.tool, self._drag = tool, None
        shapes = QtCore.Qt.CursorShape
        self.setCursor(shapes.CrossCursor if tool == BEAT_TOOL else shapes.IBeamCursor)
        self._item.update()

    def _words_at(self, x: float, row: Row | None) -> str:
        at = self.seconds_at(x)
        words = [f"{clock(at, 0.01)}  ({at:.2f} s)"]
        if row is not None:
            width = self.span / max(self.plot_rect().width(), 1.0)
            columns = self.content.traces[row.signal].columns(at, at + width, 1)
            value = (columns.lowest[row.channel, 0] + columns.highest[row.channel, 0]) / 2
            words.append(f"{row.name}: {value:.5g} {row.unit}" if np.isfinite(value) else f"{row.name}: missing")
        words += [f"label {one.label}" for one in self.content.labels if one.onset_seconds <= at < one.end_seconds]
        return "    ".join(words)

    def paint_frame(self, painter: QtGui.QPainter) -> None:
        """Draw what is in view; where it is coarse, again as soon as nothing else is to do."""
        began = time.perf_counter()
        drag = self._drag or {}
        is_moved = drag.get("kind") == BEAT_TOOL and drag.get("beat") is not None
        view = View(
            content=self.content,
            start=self.start,
            span=self.span,
            rect=self.plot_rect(),
            layout=self.layout_in_pixels(),
            rows=self.visible_rows,
            gain=self.gain,
            is_fitted=self.is_fitted,
            row=self.row,
            selection=self.selection,
            tool=self.tool,
            moved_beat=self.seconds_at(drag["to"]) if is_moved else None,
        )
        if not self._painter.paint(painter, view):
            self._refining.start()
        self.frame_seconds.append(time.perf_counter() - began)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


class _Picture(pg.GraphicsObject):  # type: ignore[misc]
    """The place of the scene in which frames are drawn, in pixels."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self._canvas = canvas

    def boundingRect(self) -> QtCore.QRectF:  # noqa: N802
        """Return all that is in view."""
        box = self.getViewBox()
        return QtCore.QRectF() if box is None else QtCore.QRectF(box.viewRect())

    def viewRangeChanged(self) -> None:  # noqa: N802
        """Be drawn anew."""
        self.prepareGeometryChange()

    def paint(self, painter: QtGui.QPainter, *_: object) -> None:
        """Draw a frame."""
        painter.save()
        painter.setTransform(self.sceneTransform().inverted()[0], True)
        self._canvas.paint_frame(painter)
        painter.restore()
