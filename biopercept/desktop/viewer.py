"""The part of the window in which recordings are looked at: which one, which signals, montage, topography, places.

What takes longer than a frame (reading, montages, maps of the head) runs beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from biopercept.desktop.canvas import Canvas, clock
from biopercept.desktop.montage import AS_RECORDED, drawn, montages_of, topography_of
from biopercept.desktop.painting import Selection
from biopercept.desktop.traces import Row, Trace, is_shown_at_first, rows_of, traces_of, words_of
from biopercept.errors import BioperceptError, SettingsError, fault_of_ours
from biopercept.recording import Signal
from biopercept.viewing.files import Viewable
from biopercept.viewing.pyramids import pyramid_of, pyramids_of
from biopercept.viewing.timeline import Timeline

FIRST_SECONDS = 30.0
_EEG = "eeg"
_WIDTH, _HEIGHT = 1500, 900
_DOCK_WIDTH = 330
_BAR_STEPS = 100.0  # of the scroll bar, in a second

Entry = tuple[str, str, str, Callable[[], object]]
"""A row of a menu: name, text, key, and what it does."""


@dataclass(eq=False)
class Opened:
    """A recording that was read; ``stack`` keeps what its pyramids are read from."""

    viewable: Viewable
    timeline: Timeline
    note: str
    traces: dict[str, Trace]
    stack: ExitStack = field(default_factory=ExitStack)


class _Job(QtCore.QRunnable):
    """One thing done beside the window."""

    class Signals(QtCore.QObject):
        """What is said when it is done."""

        done = QtCore.Signal(object)
        failed = QtCore.Signal(str)

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__()
        self._work = work
        self.signals = _Job.Signals()

    def run(self) -> None:
        """Do it; a fault becomes a sentence."""
        try:
            result = self._work()
        except BioperceptError as fault:
            self.signals.failed.emit(str(fault))
        except Exception as fault:
            self.signals.failed.emit(fault_of_ours(fault))
        else:
            self.signals.done.emit(result)


class Viewer(QtWidgets.QMainWindow):
    """Recordings in a window, to be looked at."""

    settled = QtCore.Signal()

    def __init__(self, recordings: Sequence[Viewable]) -> None:
        super().__init__()
        self.recordings = tuple(recordings)
        self.opened: Opened | None = None
        self.last_words = ""
        self._recorded: dict[str, Trace] = {}
        self._eeg: list[Signal] = []
        self._jobs: set[_Job] = set()
        self._pool = QtCore.QThreadPool()
        self._pool.setMaxThreadCount(1)  # one thing after the other: recordings are read by one process apart
        self.hidden: dict[str, bool] = {}
        self.actions_by_name: dict[str, QtGui.QAction] = {}
        self.canvas = Canvas()
        self._lay_out()
        self._make_menus()
        self._connect()
        self.resize(_WIDTH, _HEIGHT)

    # Parts

    def _lay_out(self) -> None:
        self._bar = QtWidgets.QScrollBar(QtCore.Qt.Orientation.Horizontal)
        middle = QtWidgets.QWidget()
        box = QtWidgets.QVBoxLayout(middle)
        box.setContentsMargins(4, 4, 4, 0)
        box.addWidget(self.canvas, 1)
        box.addWidget(self._bar)
        self.setCentralWidget(middle)
        self.recording_choice, self.montage_choice = QtWidgets.QComboBox(), QtWidgets.QComboBox()
        for choice in (self.recording_choice, self.montage_choice):
            choice.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToContents)
            choice.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        self.recording_choice.addItems([one.title for one in self.recordings])
        self.signal_list = QtWidgets.QListWidget()
        self.signal_list.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.signal_list.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        self.map = QtWidgets.QLabel("Select a stretch and press T", alignment=QtCore.Qt.AlignmentFlag.AlignCenter)
        self.docks: dict[str, QtWidgets.QDockWidget] = {}
        self.add_dock("Signals", self.signal_list)
        self.add_dock("Topography", self.map)
        self._where = QtWidgets.QLabel()
        self.statusBar().addPermanentWidget(self._where)

    def add_dock(self, title: str, widget: QtWidgets.QWidget) -> None:
        """Add a panel on the right."""
        dock = QtWidgets.QDockWidget(title)
        dock.setWidget(widget)
        dock.setMinimumWidth(_DOCK_WIDTH)
        self.addDockWidget(QtCore.Qt.DockWidgetArea.RightDockWidgetArea, dock)
        self.docks[title] = dock

    def menus(self) -> dict[str, list[Entry]]:
        """Return the rows of each menu."""
        canvas = self.canvas
        return {
            "&File": [("close", "Close", "Ctrl+Q", self.close)],
            "&View": [
                ("later", "Later", "Right", partial(canvas.move, 0.1)),
                ("earlier", "Earlier", "Left", partial(canvas.move, -0.1)),
                ("next", "Next screen", "PgDown", partial(canvas.move, 0.9)),
                ("before", "Screen before", "PgUp", partial(canvas.move, -0.9)),
                ("first", "Start", "Home", lambda: canvas.set_view(0.0, canvas.span)),
                ("last", "End", "End", lambda: canvas.set_view(math.inf, canvas.span)),
                ("closer", "Closer", "+", partial(canvas.zoom, 0.5)),
                ("wider", "Wider", "-", partial(canvas.zoom, 2.0)),
                ("everything", "All of it", "A", lambda: canvas.set_view(0.0, math.inf)),
                ("selection", "The selected stretch", "Z", self.show_selection),
                ("larger", "Larger waves", "Up", partial(canvas.scale, 1.25)),
                ("smaller", "Smaller waves", "Down", partial(canvas.scale, 0.8)),
                ("fit", "Fit each row to what is in view, or not", "F", self.fit),
                ("spoilt", "Next spoilt stretch", "N", self.next_spoilt),
                ("go", "Go to a time ...", "G", self.ask_time),
                ("topography", "Topography of the stretch", "T", self.show_topography),
            ],
            "&Help": [("keys", "Keys", "F1", self.show_keys)],
        }

    def on_bar(self) -> dict[str, str]:
        """Return the actions that are buttons, too, and what these are called; an empty name is a gap."""
        return {"closer": "Closer", "wider": "Wider", "everything": "All"}

    def _make_menus(self) -> None:
        for title, rows in self.menus().items():
            menu = self.menuBar().addMenu(title)
            for name, text, key, slot in rows:
                action = QtGui.QAction(text, self)
                action.setShortcuts([QtGui.QKeySequence(key), *([QtGui.QKeySequence("=")] if key == "+" else [])])
                action.triggered.connect(partial(self.attempt, slot))
                menu.addAction(action)
                self.actions_by_name[name] = action
        bar = self.addToolBar("Tools")
        bar.setMovable(False)
        self._choices = [bar.addWidget(self.recording_choice), bar.addWidget(self.montage_choice)]
        for name, text in self.on_bar().items():
            action = self.actions_by_name[name]
            action.setIconText(text)
            bar.addAction(action)

    def _connect(self) -> None:
        self.canvas.viewed.connect(self._show_place)
        self.canvas.selected.connect(self._show_place)
        self.canvas.hovered.connect(self.statusBar().showMessage)
        self._bar.valueChanged.connect(lambda value: self.canvas.set_view(value / _BAR_STEPS, self.canvas.span))
        self.recording_choice.activated.connect(self.open_recording)
        self.montage_choice.activated.connect(lambda place: self.use_montage(self.montage_choice.itemText(place)))
        self.signal_list.itemChanged.connect(self._on_signal)

    # Work beside the window

    def work(self, words: str, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Do something beside the window, and go on with what it returns; a fault is said."""
        job = _Job(function)
        job.setAutoDelete(False)
        self._jobs.add(job)  # kept, or its signals would go with it
        job.signals.done.connect(partial(self._on_done, job, done))
        job.signals.failed.connect(partial(self._on_failed, job))
        self.statusBar().showMessage(f"{words} ...")
        self._pool.start(job)

    def _on_done(self, job: _Job, done: Callable[[Any], None], result: Any) -> None:
        self.statusBar().clearMessage()
        self._jobs.discard(job)
        done(result)
        if not self._jobs:
            self.settled.emit()

    def _on_failed(self, job: _Job, words: str) -> None:
        self._jobs.discard(job)
        self.say(words)
        if not self._jobs:
            self.settled.emit()

    @property
    def is_busy(self) -> bool:
        """Return whether something is done beside the window."""
        return bool(self._jobs)

    def say(self, words: str) -> None:
        """Show a sentence: why something was not done, or what was."""
        self.statusBar().showMessage(words)
        self.last_words = words

    def attempt(self, slot: Callable[[], object], *_: object) -> None:
        """Do something that a person wants; where it is refused, say why."""
        try:
            slot()
        except BioperceptError as fault:
            self.say(str(fault))

    # Recordings

    def open_recording(self, place: int) -> None:
        """Read one of the recordings and show it, unless what is shown is to be kept."""
        if not self.may_leave():
            self.recording_choice.setCurrentIndex(self.shown_place())
            return
        viewable = self.recordings[place]
        self.recording_choice.setCurrentIndex(place)
        self.setWindowTitle(f"{viewable.title} - biopercept")
        self.work(f"reading {viewable.title}", partial(_read, viewable), self.show_recording)

    def may_leave(self) -> bool:
        """Return whether what is shown may be left."""
        return True

    def shown_place(self) -> int:
        """Return the place of what is shown among the recordings."""
        titles = [one.title for one in self.recordings]
        return titles.index(self.opened.viewable.title) if self.opened is not None else 0

    def show_recording(self, opened: Opened) -> None:
        """Show what was read; the same recording as before at the same place."""
        before, self.opened = self.opened, opened
        is_same = before is not None and before.viewable.title == opened.viewable.title
        if before is not None:
            before.stack.close()
        timeline = opened.timeline
        self._recorded = dict(opened.traces)
        self._eeg = [one for one in timeline.signals if one.modality == _EEG]
        montages, montage = list(montages_of(self._eeg[0])) if self._eeg else [], self.montage_choice.currentText()
        self.montage_choice.clear()
        self.montage_choice.addItems(montages)
        self._choices[1].setVisible(len(montages) > 1)
        self.docks["Topography"].setVisible(len(montages) > 1)
        if not is_same:
            self.hidden = {one.name: not is_shown_at_first(one) for one in timeline.signals}
            self.canvas.start, self.canvas.span = 0.0, FIRST_SECONDS
            self.canvas.select(None)
        self._list_signals()
        self.refresh()
        if is_same and montage in montages[1:]:
            self.use_montage(montage)
        notes = [*([opened.note] if opened.note else []), *timeline.notes]
        if notes and not is_same:
            self.statusBar().showMessage(notes[0])

    def refresh(self) -> None:
        """Draw what is shown again."""
        raise NotImplementedError

    def _list_signals(self) -> None:
        state = QtCore.Qt.CheckState
        self.signal_list.blockSignals(True)
        self.signal_list.clear()
        for signal in self.timeline.signals:
            item = QtWidgets.QListWidgetItem(words_of(signal))
            item.setData(QtCore.Qt.ItemDataRole.UserRole, signal.name)
            item.setFlags(item.flags() | QtCore.Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(state.Unchecked if self.hidden.get(signal.name) else state.Checked)
            self.signal_list.addItem(item)
        self.signal_list.blockSignals(False)

    def _on_signal(self, item: QtWidgets.QListWidgetItem) -> None:
        is_shown = item.checkState() == QtCore.Qt.CheckState.Checked
        self.hidden[item.data(QtCore.Qt.ItemDataRole.UserRole)] = not is_shown
        self.refresh()

    @property
    def timeline(self) -> Timeline:
        """Return what is shown. Raises SettingsError while nothing is."""
        if self.opened is None:
            raise SettingsError("no recording is shown yet")
        return self.opened.timeline

    def release(self) -> None:
        """Close the files of what is shown, after the window was closed."""
        self._pool.waitForDone()
        if self.opened is not None:
            self.opened.stack.close()
            self.opened = None

    # Montage and topography

    def use_montage(self, name: str) -> None:
        """Show EEG in another montage."""
        self.montage_choice.setCurrentText(name)
        if name == AS_RECORDED:
            self._use_traces(self._recorded)
            return
        makers = [montages_of(one, self.bad_channels(one)).get(name) for one in self._eeg]
        self.work(f"montage: {name}", partial(_montaged, [make() for make in makers if make]), self._use_traces)

    def _use_traces(self, traces: dict[str, Trace]) -> None:
        if self.opened is not None:
            self.opened.traces = {**self.opened.traces, **traces}
            self.refresh()

    def is_as_recorded(self, row: Row) -> bool:
        """Return whether a row is a channel that was recorded, and no difference of two."""
        return row.name in {one.name for one in rows_of(self.timeline.signals)}

    def bad_channels(self, signal: Signal) -> set[str]:
        """Return the channels of a signal that are bad throughout."""
        raise NotImplementedError

    def show_topography(self) -> None:
        """Show the power of the stretch that is selected, or in view, on the head.

        Raises SettingsError where there is no EEG.
        """
        if not self._eeg:
            raise SettingsError("there is no EEG in this recording")
        chosen, canvas = self.canvas.selection, self.canvas
        begin, end = (chosen.begin, chosen.end) if chosen else (canvas.start, canvas.start + canvas.span)
        signal = max(self._eeg, key=lambda one: one.n_channels)
        self.work("topography", partial(_mapped, signal, begin, end, self.bad_channels(signal)), self._show_map)

    def _show_map(self, made: tuple[Any, str]) -> None:
        picture, words = made
        height, width = picture.shape[:2]
        image = QtGui.QImage(picture.data, width, height, 4 * width, QtGui.QImage.Format.Format_RGBA8888)
        self.map.setPixmap(QtGui.QPixmap.fromImage(image.copy()))
        self.docks["Topography"].setWindowTitle(f"Topography, {words}")

    # Places

    def selected_stretch(self) -> Selection:
        """Return the selected stretch. Raises SettingsError where there is none."""
        if self.canvas.selection is None:
            raise SettingsError("select a stretch first: drag over it")
        return self.canvas.selection

    def show_selection(self) -> None:
        """Show the selected stretch on the whole screen."""
        chosen = self.selected_stretch()
        self.canvas.set_view(chosen.begin, chosen.end - chosen.begin)

    def fit(self) -> None:
        """Scale each row to what is in view of it, or as usual in the recording."""
        self.canvas.fit(is_fitted=not self.canvas.is_fitted)

    def next_spoilt(self) -> None:
        """Go to the next stretch of a shown signal whose quality is low. Raises SettingsError where none follows."""
        begins = sorted(
            float(begin)
            for name, quality in self.timeline.quality.items()
            if not self.hidden.get(name)
            for _, begin, _, _ in quality.stretches()
        )
        middle = self.canvas.start + self.canvas.span / 2
        later = next((begin for begin in begins if begin > middle + 1e-6), None)
        if later is None:
            raise SettingsError("no spoilt stretch follows" if begins else "no stretch is spoilt")
        self.canvas.set_view(later - self.canvas.span / 2, self.canvas.span)

    def ask_time(self) -> None:
        """Ask for a time and go there."""
        text, is_given = QtWidgets.QInputDialog.getText(self, "Go to", "Seconds, or h:mm:ss from the start:")
        if is_given:
            self.go_to(text)

    def go_to(self, text: str) -> None:
        """Show a time, given as seconds or h:mm:ss, in the middle. Raises SettingsError where it is none."""
        try:
            parts = [float(part) for part in text.strip().split(":")]
        except ValueError:
            parts = []
        if not parts or not all(map(math.isfinite, parts)):
            raise SettingsError(f"{text!r} is no time; give seconds, or h:mm:ss from the recording's start")
        seconds = sum(part * 60.0**power for power, part in enumerate(reversed(parts)))
        self.canvas.set_view(seconds - self.canvas.span / 2, self.canvas.span)

    def show_keys(self) -> None:
        """List what the keys and the mouse do."""
        box = QtWidgets.QMessageBox(QtWidgets.QMessageBox.Icon.NoIcon, "Keys", self.key_text(), parent=self)
        box.open()

    def key_text(self) -> str:
        """Return what the mouse and the keys do, a line each."""
        mouse = ("drag\tselect a stretch", "wheel\tgo on; with Ctrl zoom; with Shift other rows")
        keys = [(action.shortcut().toString(), action.text()) for action in self.actions_by_name.values()]
        return "\n".join([*mouse, "Shift and drag\tmove", *(f"{key}\t{text}" for key, text in keys if key)])

    def _show_place(self) -> None:
        canvas, bar = self.canvas, self._bar
        bar.blockSignals(True)
        bar.setRange(0, round(max(canvas.content.duration - canvas.span, 0.0) * _BAR_STEPS))
        bar.setPageStep(max(round(canvas.span * _BAR_STEPS), 1))
        bar.setSingleStep(max(round(canvas.span * _BAR_STEPS / 10), 1))
        bar.setValue(round(canvas.start * _BAR_STEPS))
        bar.blockSignals(False)
        chosen = canvas.selection
        words = f"{clock(canvas.start)} to {clock(canvas.start + canvas.span)} of {clock(canvas.content.duration)}"
        if chosen is not None:
            words = f"selected {chosen.begin:.2f} to {chosen.end:.2f} s ({chosen.end - chosen.begin:.2f} s)    {words}"
        self._where.setText(words)


def _read(viewable: Viewable) -> Opened:
    """Read a recording with its pyramids, which stay open with it."""
    timeline, note = viewable.read()
    with ExitStack() as stack:
        regular = [signal for signal in timeline.signals if signal.is_regular]
        pyramids = stack.enter_context(pyramids_of(regular, viewable.place))
        return Opened(viewable, timeline, note, traces_of(timeline, pyramids), stack.pop_all())


def _montaged(signals: Sequence[Signal]) -> dict[str, Trace]:
    return {signal.name: Trace(signal, pyramid_of(signal)) for signal in signals}


def _mapped(signal: Signal, begin: float, end: float, bad: set[str]) -> tuple[Any, str]:
    """Return the picture of a topography, and what it is of."""
    topography = topography_of(signal, begin, end, bad)
    words = f"{clock(topography.begin)} to {clock(topography.end)}: dB of 1 {topography.unit}²"
    return drawn(topography, _DOCK_WIDTH - 10), words
