"""The window as a person uses it, without a screen: looked at, corrected, saved, and honoured by prepare."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import biopercept as bp
from biopercept.cli.main import build_app
from biopercept.errors import OutputError
from biopercept.recording import Channel, Signal
from biopercept.viewing.files import Meant, Viewable, viewables
from biopercept.viewing.timeline import BEATS, RECORDED, Timeline

QtWidgets = pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
QtCore = pytest.importorskip("PySide6.QtCore")
QtTest = pytest.importorskip("PySide6.QtTest")
pytest.importorskip("pyqtgraph")

LEFT = QtCore.Qt.MouseButton.LeftButton
PLAIN = QtCore.Qt.KeyboardModifier.NoModifier
SHIFT, CONTROL = QtCore.Qt.KeyboardModifier.ShiftModifier, QtCore.Qt.KeyboardModifier.ControlModifier
Key = QtCore.Qt.Key
Open = Callable[..., Any]


@pytest.fixture
def open_window(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open windows on paths or recordings; what fails in what the mouse and the keys call fails the test."""
    from biopercept.desktop.window import Window

    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    faults: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, fault, trace: faults.append(fault))
    windows, contexts = [], []

    def unexpected(_: Any, n: int) -> None:
        raise AssertionError(f"asked what is to become of {n} corrections")

    monkeypatch.setattr(Window, "ask_unsaved", unexpected)  # a question would wait for a person

    def opened(what: Path | Viewable) -> Any:
        meant = Meant(what) if isinstance(what, Path) else None
        recordings = (what,)
        if meant is not None:
            contexts.append(viewables(meant))
            recordings = contexts[-1].__enter__()

        def again() -> tuple[Viewable, ...]:
            assert meant is not None
            with viewables(meant) as recordings:
                return recordings

        window = Window(recordings, again)
        windows.append(window)
        window.show()
        return settled(window)

    yield opened
    for window in windows:
        window.edits = None
        window.close()
        window.release()
    for context in contexts:
        context.__exit__(None, None, None)
    application.processEvents()
    assert faults == []


def settled(window: Any) -> Any:
    """Wait until nothing is done beside the window."""
    application, until = QtWidgets.QApplication.instance(), time.monotonic() + 60
    while (window.is_busy or window.opened is None) and time.monotonic() < until:
        application.processEvents()
        time.sleep(0.002)
    assert not window.is_busy
    for _ in range(3):
        application.processEvents()
    return window


def row_of(window: Any, name: str) -> Any:
    return next(row for row in window.canvas.content.rows if row.name == name)


def point(window: Any, seconds: float, name: str) -> Any:
    canvas = window.canvas
    return QtCore.QPoint(round(canvas.pixel_of(seconds)), round(canvas.middle_of(row_of(window, name))))


def drag(window: Any, name: str, begin: float, end: float, modifiers: Any = PLAIN) -> None:
    view = window.canvas.viewport()
    QtTest.QTest.mousePress(view, LEFT, modifiers, point(window, begin, name))
    QtTest.QTest.mouseMove(view, point(window, (begin + end) / 2, name))
    QtTest.QTest.mouseMove(view, point(window, end, name))
    QtTest.QTest.mouseRelease(view, LEFT, modifiers, point(window, end, name))


def click(window: Any, name: str, seconds: float) -> None:
    QtTest.QTest.mouseClick(window.canvas.viewport(), LEFT, PLAIN, point(window, seconds, name))


def press(window: Any, key: Any, modifiers: Any = PLAIN) -> None:
    QtTest.QTest.keyClick(window.canvas, key, modifiers)


def test_a_recording_is_shown_with_its_labels_beats_and_waves(study: Path, open_window: Open) -> None:
    window = open_window(study)
    canvas = window.canvas
    names = [row.name for row in canvas.content.rows]
    assert names == ["ECG", "EDA", *(f"EEG/{name}" for name in ("Fp1", "Fp2", "C3", "C4", "O1", "O2"))]
    assert [label.label for label in canvas.content.labels] == ["rest", "task"]
    assert (canvas.start, canvas.span) == (0.0, 30.0)
    picture = window.grab().toImage()
    # The wave of a beat stands above the line between two beats.
    beats = canvas.content.beats
    tops = [top_of_wave(window, picture, seconds) for seconds in (beats[5], (beats[5] + beats[6]) / 2)]
    assert tops[0] < tops[1] - 20


def top_of_wave(window: Any, picture: Any, seconds: float) -> int:
    """The uppermost pixel of the ECG near a time: dark red."""
    canvas = window.canvas
    corner = canvas.mapTo(window, QtCore.QPoint(0, 0))
    layout = canvas.layout_in_pixels()
    top = round(canvas.plot_rect().top() + layout.rows[0]) + corner.y()
    x = round(canvas.pixel_of(seconds)) + corner.x()
    for y in range(top, top + round(layout.row)):
        for beside in range(-3, 4):
            colour = picture.pixelColor(x + beside, y)
            if colour.red() > 100 and colour.green() < 90 and colour.blue() < 90:
                return y
    raise AssertionError("no wave there")


def test_keys_and_wheel_go_on_in_time_zoom_and_scale(study: Path, open_window: Open) -> None:
    window = open_window(study)
    canvas = window.canvas
    press(window, Key.Key_Right)
    assert canvas.start == pytest.approx(3.0)
    press(window, Key.Key_PageDown)
    assert canvas.start == pytest.approx(30.0)  # the recording ends at 60 s
    press(window, Key.Key_Home)
    press(window, Key.Key_Plus)
    assert (canvas.start, canvas.span) == (7.5, 15.0)
    press(window, Key.Key_A)
    assert (canvas.start, canvas.span) == (0.0, 60.0)
    press(window, Key.Key_Up)
    assert canvas.gain == pytest.approx(1.25)
    canvas.zoom(0.1, at=20.0)
    assert canvas.seconds_at(canvas.pixel_of(20.0)) == pytest.approx(20.0)
    assert canvas.start < 20.0 < canvas.start + canvas.span
    drag(window, "ECG", 20.0, 19.0, SHIFT)
    assert canvas.selection is None
    window.go_to("0:45")
    assert canvas.start == pytest.approx(42.0)
    window.attempt(lambda: window.go_to("soon"))
    assert window.last_words == "'soon' is no time; give seconds, or h:mm:ss from the recording's start"


def test_what_is_marked_by_mouse_and_keys_is_saved_and_prepare_honours_it(
    study: Path, open_window: Open, tmp_path: Path
) -> None:
    window = open_window(study)
    press(window, Key.Key_X)
    assert window.last_words == "select a stretch first: drag over it"
    drag(window, "EDA", 12.0, 18.0)
    assert window.canvas.selection.begin == pytest.approx(12.0, abs=0.05)
    press(window, Key.Key_X, SHIFT)
    drag(window, "EEG/C3", 4.0, 6.0)
    press(window, Key.Key_X)
    assert [one.channels for one in window.edits.pending] == [("EDA",), ()]
    press(window, Key.Key_Z, CONTROL)
    assert len(window.edits.pending) == 1
    click(window, "EEG/O1", 5.0)
    press(window, Key.Key_C)
    drag(window, "ECG", 10.0, 20.0)
    window.set_label("task")
    assert "--bad-channel EEG/O1" in window.command_text.toPlainText()
    assert window.isWindowModified()
    window.who.setText("Anna")
    press(window, Key.Key_S, CONTROL)
    settled(window)
    table = study / "one_corrections.tsv"
    rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    assert [(row[2], row[3], row[4]) for row in rows] == [
        ("bad", "EDA", "Anna"),
        ("channel-bad", "EEG/O1", "Anna"),
        ("label", "n/a", "Anna"),
    ]
    # What is shown now was read again: all of it is saved, and the label is the study's.
    assert window.edits.pending == ()
    assert not window.isWindowModified()
    assert [one.label for one in window.canvas.content.labels] == ["rest", "task", "rest", "task"]
    assert "written: one_corrections.tsv" in window.last_words
    store = tmp_path / "made.h5"
    sets = ("--set", "windows.length_seconds=5", "--set", "windows.step_seconds=5")
    assert CliRunner().invoke(build_app(), ["prepare", str(study), "-o", str(store), *sets]).exit_code == 0
    with bp.open_store(store) as opened:
        recording = opened.recordings[0]
        assert {row["kind"] for row in recording.corrections} == {"bad", "channel-bad", "label"}
        _, mask = recording.read("EDA", 0, 10_000)
        rate = next(signal.sampling_rate for signal in recording.signals if signal.name == "EDA")
        assert not mask[0, round(13 * rate) : round(17 * rate)].any()
        assert mask[0, : round(11 * rate)].all()
        windows = recording.windows
        rows = np.flatnonzero(np.asarray(windows.is_labelled))
        labels = sorted((float(windows.onset[row]), str(windows.label[row])) for row in rows)
        assert {label for onset, label in labels if onset < 5 or 20 < onset < 25} == {"rest"}
        assert [label for onset, label in labels if 9 < onset < 15] == ["task"]


def test_beats_are_clicked_away_added_and_dragged(study: Path, open_window: Open) -> None:
    window = open_window(study)
    press(window, Key.Key_B)
    planted = 0.7 + np.cumsum(0.8 + 0.04 * np.sin(np.arange(70) / 3))
    missed, false = float(planted[30]), float(planted[50] + 0.4)
    window.canvas.set_view(missed - 2, 5.0)
    click(window, "ECG", missed)
    window.canvas.set_view(false - 2, 5.0)
    click(window, "ECG", false)
    assert sorted(one.kind for one in window.edits.pending) == ["beat-added", "beat-removed"]
    window.canvas.set_view(0.0, 5.0)
    origin = float(window.canvas.content.beats[2])
    drag(window, "ECG", origin, origin + 0.1)
    assert window.canvas.content.beats[2] == pytest.approx(origin + 0.1, abs=0.02)
    press(window, Key.Key_Z, CONTROL)
    assert window.canvas.content.beats[2] == origin
    click(window, "EDA", 3.0)
    assert window.last_words == "the beats are those of ECG, and not of EDA"
    press(window, Key.Key_S, CONTROL)
    settled(window)
    times = next(marks.times for marks in window.timeline.marks if marks.kind == BEATS)
    inside = planted[planted < 59]
    assert len(times) == len(inside)
    np.testing.assert_allclose(times, inside, atol=0.02)


def test_what_is_saved_is_taken_back_as_the_command_does(study: Path, open_window: Open) -> None:
    window = open_window(study)
    click(window, "ECG", 5.0)
    press(window, Key.Key_P)
    assert window.canvas.content.turned == {"ECG"}
    press(window, Key.Key_S, CONTROL)
    settled(window)
    assert (study / "one_corrections.tsv").is_file()
    window.actions_by_name["take_back"].trigger()
    settled(window)
    assert not (study / "one_corrections.tsv").exists()
    assert window.canvas.content.turned == frozenset()


def test_nothing_unsaved_is_lost_by_closing_or_by_a_fault(
    study: Path, open_window: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = open_window(study)
    buttons = QtWidgets.QMessageBox.StandardButton
    drag(window, "ECG", 2.0, 4.0)
    press(window, Key.Key_X)

    def refuse(*_: object) -> None:
        raise OutputError("cannot write one_corrections.tsv: no space left; nothing was changed")

    with monkeypatch.context() as patched:
        patched.setattr("biopercept.desktop.window.write_corrections", refuse)
        press(window, Key.Key_S, CONTROL)
        settled(window)
        assert window.last_words.startswith("cannot write one_corrections.tsv")
        assert len(window.edits.pending) == 1
    monkeypatch.setattr(window, "ask_unsaved", lambda n: buttons.Cancel)
    assert not window.close()
    assert window.isVisible()
    monkeypatch.setattr(window, "ask_unsaved", lambda n: buttons.Save)
    assert not window.close()
    settled(window)
    assert not window.isVisible()
    assert (study / "one_corrections.tsv").is_file()


def test_another_recording_is_shown_only_where_nothing_unsaved_is_lost(
    recording_file: Path, open_window: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recording_file.parent / "two.edf").write_bytes(recording_file.read_bytes())
    window = open_window(recording_file.parent)
    drag(window, "ECG", 2.0, 4.0)
    press(window, Key.Key_X)
    buttons = QtWidgets.QMessageBox.StandardButton
    monkeypatch.setattr(window, "ask_unsaved", lambda n: buttons.Cancel)
    window.open_recording(1)
    assert window.recording_choice.currentIndex() == 0
    assert len(window.edits.pending) == 1
    monkeypatch.setattr(window, "ask_unsaved", lambda n: buttons.Discard)
    window.open_recording(1)
    settled(window)
    assert "two" in window.windowTitle()
    assert window.edits.pending == ()


def test_montages_and_topography(study: Path, open_window: Open) -> None:
    window = open_window(study)
    window.use_montage("bipolar, front to back")
    settled(window)
    titles = [row.title for row in window.canvas.content.rows]
    assert titles[2:] == ["Fp1-O1", "Fp1-C3", "C3-O1", "Fp2-C4", "C4-O2", "Fp2-O2"]
    drag(window, "EEG/Fp1-C3", 2.0, 8.0)
    press(window, Key.Key_X, SHIFT)
    assert window.last_words.startswith("Fp1-C3 is of two electrodes: choose the montage 'as recorded'")
    press(window, Key.Key_T)
    settled(window)
    assert not window.map.pixmap().isNull()
    assert window.docks["Topography"].windowTitle().startswith("Topography, 0:02 to 0:08: dB of 1 uV")
    window.canvas.select(None)
    drag(window, "EDA", 2.0, 8.0)
    press(window, Key.Key_X)
    press(window, Key.Key_S, CONTROL)
    settled(window)
    assert window.timeline.by_hand != ()
    assert window.canvas.content.rows[2].title == "Fp1-O1"  # as it was chosen
    window.use_montage("as recorded")
    assert window.canvas.content.rows[2].name == "EEG/Fp1"


def test_a_store_is_looked_at_and_not_corrected(study: Path, open_window: Open, tmp_path: Path) -> None:
    store = tmp_path / "made.h5"
    sets = ("--set", "windows.length_seconds=5", "--set", "windows.step_seconds=5")
    assert CliRunner().invoke(build_app(), ["prepare", str(study), "-o", str(store), *sets]).exit_code == 0
    window = open_window(store)
    assert {"ECG", "EDA"} <= {row.name for row in window.canvas.content.rows}
    assert (tmp_path / ".made.h5.view").is_dir()
    assert not window.actions_by_name["bad"].isEnabled()
    drag(window, "ECG", 2.0, 4.0)
    window.attempt(lambda: window.mark_bad(everywhere=True))
    assert window.last_words == "a store is not corrected: view the study or file that it was made of"


def test_frames_of_many_channels_cost_less_than_a_twentieth_of_a_second(open_window: Open) -> None:
    """Processor time, which other work on the machine does not change; 32 channels, 20 minutes at 256 Hz."""
    samples = np.random.default_rng(0).integers(-400, 400, (32, 20 * 60 * 256), dtype=np.int16)

    def read(start: int, stop: int, rows: slice) -> np.ndarray:
        return samples[rows, start:stop] * 0.1

    channels = tuple(Channel(f"E{n}") for n in range(32))
    signal = Signal("EEG", "eeg", "uV", 256.0, 0.0, channels, samples.shape[1], read)
    timeline = Timeline("S1", "", "long", RECORDED, 1200.0, (signal,))
    window = open_window(Viewable("S1 long", lambda: (timeline, "")))
    application, canvas = QtWidgets.QApplication.instance(), window.canvas
    references = sys.getrefcount(None)
    for span in (5.0, 60.0, 1200.0):
        canvas.set_view(100.0, span)
        costs = []
        for _ in range(15):
            began = time.process_time()
            canvas.move(0.1 if span < 1200 else 0.0)
            canvas.scale(1.01)
            application.processEvents()
            costs.append(time.process_time() - began)
        assert np.median(costs) < 0.05
    # PySide6 6.12.0 takes a reference to None away with each call, until Python 3.11 ends.
    assert sys.getrefcount(None) > references - 500
