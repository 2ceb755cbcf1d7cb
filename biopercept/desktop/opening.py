"""The window opened: what it needs is looked for first, so that what is missing is one sentence and never a crash."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from biopercept.errors import SettingsError
from biopercept.viewing.files import Meant, Viewable, viewables

_NEEDED = {"PySide6": "PySide6-Essentials", "pyqtgraph": "pyqtgraph"}
_PAGE = "or add --html FILE for a page that any browser opens"
_WITHOUT_SCREEN = ("offscreen", "minimal")
# Qt ends the process where it cannot show anything: tried in another one, which also finds missing system libraries.
_TRIAL = "from PySide6.QtWidgets import QApplication; QApplication([])"
_TRIAL_SECONDS = 60.0
_TELLING = ("could not connect", "is needed", "Error")
"""Words of the line in which Qt, or Python, says why."""


def open_window(meant: Meant) -> None:
    """Show recordings in a window until it is closed.

    Raises SettingsError where the extra ``desktop`` is not installed or there is no display, and what
    :func:`biopercept.viewing.files.view` raises.
    """
    _refuse_without_extra()
    with ExitStack() as stack:
        recordings = stack.enter_context(viewables(meant))
        _refuse_without_display()
        _run(meant, recordings)


def _run(meant: Meant, recordings: tuple[Viewable, ...]) -> None:
    """Show the window and give it the process until it is closed."""
    from PySide6 import QtWidgets

    from biopercept.desktop.window import Window

    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["biopercept"])
    window = Window(recordings, lambda: _again(meant))
    window.show()
    try:
        with _stops_close(window.close):
            application.exec()
    finally:
        window.release()


@contextmanager
def _stops_close(close: Callable[[], object]) -> Iterator[None]:
    """Let Ctrl-C and the like close the window, which asks for what is not saved, and end the command after that."""
    from PySide6 import QtCore

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    received: list[tuple[int, FrameType | None]] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append((number, frame))
        close()

    wakes = QtCore.QTimer(interval=200)  # Python looks for signals only when something of it runs
    wakes.timeout.connect(lambda: None)
    wakes.start()
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, stop)
    try:
        yield
    finally:
        wakes.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
    for one, frame in received[:1]:
        ends = before[signal.Signals(one)]
        if callable(ends):
            ends(one, frame)


def _again(meant: Meant) -> tuple[Viewable, ...]:
    """Return the recordings of files or studies anew, with what was corrected since; of a store nothing is."""
    with viewables(meant) as recordings:
        return recordings


def _refuse_without_extra() -> None:
    missing = [name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise SettingsError(
            f"the window needs {' and '.join(missing)}; install with: pip install 'biopercept[desktop]', {_PAGE}"
        )


def _refuse_without_display() -> None:
    if os.environ.get("QT_QPA_PLATFORM", "").partition(":")[0] in _WITHOUT_SCREEN:
        return
    is_unix = sys.platform not in ("win32", "darwin")
    if is_unix and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise SettingsError(f"there is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set); open one, {_PAGE}")
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL], capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise SettingsError(f"the display does not answer; try again, {_PAGE}") from None
    if trial.returncode != 0:
        lines = [line.strip() for line in trial.stderr.splitlines() if line.strip()]
        why = next((line for line in lines if any(word in line for word in _TELLING)), "Qt cannot start")
        raise SettingsError(f"the window cannot be shown ({why.rstrip('.')}); mend that, {_PAGE}")
