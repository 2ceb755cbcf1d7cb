"""The window: recordings looked at and corrected by hand, each correction with the command that does the same.

Corrections are kept in :mod:`biopercept.desktop.editing` until they are saved, by what the command ``correct`` calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from PySide6 import QtCore, QtGui, QtWidgets

from biopercept.desktop.editing import Edits
from biopercept.desktop.montage import AS_RECORDED
from biopercept.desktop.painting import BEAT_TOOL, SELECT, Content
from biopercept.desktop.traces import Row, SpoiltSeconds, rows_of
from biopercept.desktop.viewer import Entry, Opened, Viewer
from biopercept.errors import SettingsError
from biopercept.prepare.corrections import CorrectionTables, undo_corrections, write_corrections
from biopercept.preprocessing.corrections import described
from biopercept.recording import CHANNEL_BAD, Signal
from biopercept.viewing.files import Viewable
from biopercept.viewing.timeline import Timeline

_EDITING = ("beats", "bad", "bad_here", "bad_channel", "polarity", "label", "take_back")


class Window(Viewer):
    """Recordings in a window; ``again`` gives them anew after corrections were saved."""

    def __init__(self, recordings: Sequence[Viewable], again: Callable[[], Sequence[Viewable]]) -> None:
        super().__init__(recordings)
        self._again = again
        self.edits: Edits | None = None
        self._spoilt: dict[str, SpoiltSeconds] = {}
        self._is_closing = False
        self._add_corrections()
        self.canvas.beat_clicked.connect(self._on_beat)
        self.canvas.beat_moved.connect(self._on_moved_beat)
        self.canvas.menu_wanted.connect(self._show_menu)
        for name in ("select", "beats"):
            self.actions_by_name[name].setCheckable(True)
        self.use_tool(SELECT)
        self.open_recording(0)

    def _add_corrections(self) -> None:
        self.correction_list = QtWidgets.QListWidget()
        self.command_text = QtWidgets.QPlainTextEdit(readOnly=True)
        self.who = QtWidgets.QLineEdit(placeholderText="who (written beside each correction)")
        for widget in (self.correction_list, self.command_text, self.who):
            widget.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        panel = QtWidgets.QWidget()
        box = QtWidgets.QVBoxLayout(panel)
        box.setContentsMargins(2, 2, 2, 2)
        for widget, stretch in ((self.correction_list, 3), (self.command_text, 2), (self.who, 0)):
            box.addWidget(widget, stretch)
        self.add_dock("Corrections", panel)
        self.correction_list.itemClicked.connect(self._on_correction)
        self.who.textChanged.connect(lambda _: self._show_edits())

    def menus(self) -> dict[str, list[Entry]]:
        """Return the rows of each menu, with those that correct."""
        whole = super().menus()
        files: list[Entry] = [
            ("save", "Save corrections", "Ctrl+S", self.save),
            ("take_back", "Take back what was saved last", "", self.take_back),
        ]
        edit: list[Entry] = [
            ("undo", "Undo", "Ctrl+Z", partial(self._step, "undo")),
            ("redo", "Redo", "Ctrl+Shift+Z", partial(self._step, "redo")),
            ("select", "Select stretches", "S", partial(self.use_tool, SELECT)),
            ("beats", "Beats: a click adds or removes, dragging moves", "B", partial(self.use_tool, BEAT_TOOL)),
            ("bad", "Mark the stretch bad in all signals", "X", partial(self.mark_bad, everywhere=True)),
            ("bad_here", "Mark the stretch bad in this row", "Shift+X", partial(self.mark_bad, everywhere=False)),
            ("bad_channel", "Mark this row bad throughout, or not", "C", self.mark_channel_bad),
            ("polarity", "Turn this ECG or pulse wave, or not", "P", self.turn),
            ("label", "Set the label of the stretch ...", "L", self.ask_label),
        ]
        return {"&File": [*files, *whole.pop("&File")], "&Edit": edit, **whole}

    def on_bar(self) -> dict[str, str]:
        """Return the actions that are buttons, too."""
        tools = {"select": "Select", "beats": "Beats"}
        return {**tools, **super().on_bar(), "undo": "Undo", "redo": "Redo", "save": "Save"}

    def use_tool(self, tool: str) -> None:
        """Use the mouse for stretches or for beats."""
        self.canvas.use_tool(tool)
        for name, of in (("select", SELECT), ("beats", BEAT_TOOL)):
            self.actions_by_name[name].setChecked(tool == of)

    # What is shown

    def show_recording(self, opened: Opened) -> None:
        """Show what was read, with nothing corrected yet."""
        self.edits = Edits(opened.timeline, opened.viewable.source)
        self._spoilt = {name: SpoiltSeconds(quality) for name, quality in opened.timeline.quality.items()}
        super().show_recording(opened)

    def refresh(self) -> None:
        """Draw what is shown again: signals, montage and corrections as they are now."""
        if self.opened is None or self.edits is None:
            return
        timeline, edits, traces = self.timeline, self.edits, self.opened.traces
        rows = rows_of([trace.signal for name, trace in traces.items() if not self.hidden.get(name)])
        recorded = {row.signal for row in rows if self.is_as_recorded(row)}
        hearts = [one.name for one in timeline.signals if edits.can_have_beats(one.name)]
        self.canvas.show_content(
            Content(
                rows=rows,
                traces=traces,
                labels=edits.labels(),
                spoilt={name: spoilt for name, spoilt in self._spoilt.items() if name in recorded},
                marks=timeline.marks,
                predictions=timeline.predictions,
                saved=timeline.by_hand,
                pending=edits.pending,
                beats=edits.beats(hearts[0]) if hearts else np.zeros(0),
                beat_signal=hearts[0] if hearts else "",
                turned=frozenset(one.name for one in timeline.signals if edits.is_turned(one.name)),
                colours=replace(timeline, labels=edits.labels()).shades,
                duration=_end_of(timeline),
            )
        )
        self._show_edits()

    def _show_edits(self) -> None:
        edits = self.edits
        if edits is None or self.opened is None:
            return
        saved, pending = self.timeline.by_hand, edits.pending
        self.correction_list.clear()
        for one, opening in [(one, "not saved: ") for one in pending] + [(one, "") for one in saved]:
            item = QtWidgets.QListWidgetItem(f"{opening}{described(one)}")
            item.setData(QtCore.Qt.ItemDataRole.UserRole, one.span)
            self.correction_list.addItem(item)
        self.correction_list.addItems([] if saved else list(self.timeline.corrections))
        self.command_text.setPlainText("\n".join(edits.commands(self.who.text().strip())))
        why = edits.why_not()
        for name, is_on in (("undo", edits.can_undo), ("redo", edits.can_redo), ("save", bool(pending))):
            self.actions_by_name[name].setEnabled(not why and is_on)
        for name in _EDITING:
            self.actions_by_name[name].setEnabled(not why)
            self.actions_by_name[name].setStatusTip(why)
        self.setWindowTitle(f"{self.timeline.title}[*] - biopercept")
        self.setWindowModified(bool(pending))
        self.command_text.setPlaceholderText(why.capitalize() or "The command lines that do the same")
        self.docks["Corrections"].setWindowTitle(f"Corrections{f': {len(pending)} not saved' if pending else ''}")

    def bad_channels(self, signal: Signal) -> set[str]:
        """Return the channels of a signal that were marked bad throughout, saved or not."""
        marks = (*self.timeline.by_hand, *(self.edits.pending if self.edits is not None else ()))
        bad = {name for one in marks if one.kind == CHANNEL_BAD for name in one.channels}
        return {channel for channel in signal.channel_names if f"{signal.name}/{channel}" in bad}

    def _on_correction(self, item: QtWidgets.QListWidgetItem) -> None:
        span = item.data(QtCore.Qt.ItemDataRole.UserRole)
        if span is not None and math.isfinite(span[0]):
            self.canvas.set_view((span[0] + span[1] - self.canvas.span) / 2, self.canvas.span)

    def _show_menu(self, position: QtCore.QPoint) -> None:
        menu = QtWidgets.QMenu(self)
        for name in ("bad", "bad_here", "label", "bad_channel", "polarity", "topography"):
            menu.addAction(self.actions_by_name[name])
        menu.popup(position)

    # Corrections

    def _editing(self) -> Edits:
        """Return what is corrected. Raises SettingsError where nothing can be."""
        if self.edits is None or self.opened is None:
            raise SettingsError("no recording is shown yet")
        if why := self.edits.why_not():
            raise SettingsError(why)
        return self.edits

    def _chosen_row(self) -> Row:
        row = self.canvas.row
        if row is None:
            raise SettingsError("choose a row first: click into it")
        if not self.is_as_recorded(row):
            raise SettingsError(f"{row.title} is of two electrodes: choose the montage '{AS_RECORDED}' to correct one")
        return row

    def mark_bad(self, *, everywhere: bool) -> None:
        """Mark the selected stretch bad, in all signals or in the row that it was selected in."""
        edits, chosen = self._editing(), self.selected_stretch()
        edits.mark_bad(chosen.begin, chosen.end, "" if everywhere else self._chosen_row().name)
        self.refresh()

    def mark_channel_bad(self) -> None:
        """Mark the chosen row bad throughout, or take that back."""
        self._editing().mark_channel_bad(self._chosen_row().name)
        self.refresh()

    def turn(self) -> None:
        """Turn the chosen ECG or pulse wave, or take that back."""
        self._editing().turn(self._chosen_row().signal)
        self.refresh()

    def ask_label(self) -> None:
        """Ask for the label of the selected stretch."""
        names = self._editing().label_names()
        self.selected_stretch()
        menu = QtWidgets.QMenu(self)
        choices: list[tuple[str, Callable[[], object]]] = [(name, partial(self.set_label, name)) for name in names]
        choices += [("another ...", self._ask_other_label), ("no label", partial(self.set_label, ""))]
        for text, slot in choices:
            menu.addAction(text).triggered.connect(partial(self.attempt, slot))
        menu.popup(QtGui.QCursor.pos())

    def _ask_other_label(self) -> None:
        text, is_given = QtWidgets.QInputDialog.getText(self, "Label", "Label of the stretch:")
        if is_given and text.strip():
            self.set_label(text.strip())

    def set_label(self, label: str) -> None:
        """Set the label of the selected stretch; empty: it has none."""
        edits, chosen = self._editing(), self.selected_stretch()
        edits.set_label(chosen.begin, chosen.end, label)
        self.refresh()

    def _on_beat(self, seconds: float, signal: str, is_beat: bool) -> None:
        self.attempt(lambda: (self._editing().remove_beat if is_beat else self._editing().add_beat)(seconds, signal))
        self.refresh()

    def _on_moved_beat(self, origin: float, target: float, signal: str) -> None:
        self.attempt(lambda: self._editing().move_beat(origin, target, signal))
        self.refresh()

    def _step(self, name: str) -> None:
        edits = self._editing()
        (edits.undo if name == "undo" else edits.redo)()
        self.refresh()

    # Saving

    def save(self) -> None:
        """Write what is not saved into the table beside the recording, and read the recording again.

        Raises SettingsError where there is nothing to save.
        """
        edits = self._editing()
        if not edits.pending:
            raise SettingsError("there is nothing to save")
        source = self.opened.viewable.source if self.opened is not None else None
        if source is not None:
            write = partial(write_corrections, source, edits.pending, self.who.text().strip())
            self.work("saving", partial(self._written, write), self._on_saved)

    def take_back(self) -> None:
        """Take back what was saved last, as ``correct --undo`` does."""
        self._editing()
        source = self.opened.viewable.source if self.opened is not None else None
        if source is not None and self.may_leave():
            self.work("taking back", partial(self._written, partial(undo_corrections, source)), self._on_saved)

    def _written(self, write: Callable[[], CorrectionTables]) -> tuple[CorrectionTables, tuple[Viewable, ...]]:
        return write(), tuple(self._again())

    def _on_saved(self, done: tuple[CorrectionTables, tuple[Viewable, ...]]) -> None:
        tables, self.recordings = done
        self.edits = None  # all of it is saved: nothing is lost by leaving
        if self._is_closing:
            self.close()
            return
        self.open_recording(self.shown_place())
        written = [f"{'written' if path.is_file() else 'removed'}: {path.name}" for path in tables.changed]
        self.say("; ".join([*written, *tables.notes]))

    def may_leave(self) -> bool:
        """Return whether what is shown may be left: nothing is unsaved, or it may be lost."""
        if self.edits is None or not self.edits.pending:
            return True
        buttons = QtWidgets.QMessageBox.StandardButton
        answer = self.ask_unsaved(len(self.edits.pending))
        if answer == buttons.Save:
            self.attempt(self.save)
        return bool(answer == buttons.Discard)

    def ask_unsaved(self, n: int) -> QtWidgets.QMessageBox.StandardButton:
        """Ask what is to become of corrections that are not saved."""
        buttons = QtWidgets.QMessageBox.StandardButton
        words = f"{n} correction{'s' * (n > 1)} of {self.timeline.title} {'are' if n > 1 else 'is'} not saved."
        return QtWidgets.QMessageBox.question(
            self, "Not saved", words, buttons.Save | buttons.Discard | buttons.Cancel, buttons.Save
        )

    def closeEvent(self, event: QtGui.QCloseEvent) -> None:  # noqa: N802
        """Close, unless what is not saved is to be kept; where it is to be saved, close after that."""
        self._is_closing = True
        may_close = self.may_leave()
        self._is_closing = not may_close and self.is_busy
        event.setAccepted(may_close)


def _end_of(timeline: Timeline) -> float:
    """Return the end of what is shown: of the signals, or of a label or prediction beyond them."""
    ends = [timeline.duration_seconds, *(label.end_seconds for label in timeline.labels)]
    ends += [float(track.onset[-1] + track.duration[-1]) for track in timeline.predictions if len(track.onset)]
    return max(max(ends), 1e-3)
