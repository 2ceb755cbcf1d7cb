"""What the window needs and does not have is one sentence with exit code 2, and Qt is in no other room."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app
from biopercept.desktop import opening
from biopercept.errors import SettingsError

PAGE = "or add --html FILE for a page that any browser opens"


def fault(*words: object) -> str:
    outcome = CliRunner().invoke(build_app(), ["view", *map(str, words)])
    assert isinstance(outcome.exception, SettingsError)
    assert outcome.exception.exit_code == 2
    return str(outcome.exception)


@pytest.fixture(autouse=True)
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: object())


def test_without_the_extra(recording_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: None)
    assert fault(recording_file) == (
        "the window needs PySide6-Essentials and pyqtgraph; install with: pip install 'biopercept[desktop]', " + PAGE
    )


def test_without_a_display(recording_file: Path) -> None:
    assert fault(recording_file) == (
        f"there is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set); open one, {PAGE}"
    )


def test_with_a_display_that_cannot_be_used(recording_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":99")
    words = "x\nqt.qpa.xcb: could not connect to display :99\nThis application failed to start.\n"
    answer = subprocess.CompletedProcess([], -6, "", words)
    monkeypatch.setattr(opening.subprocess, "run", lambda *_, **__: answer)
    assert fault(recording_file) == (
        f"the window cannot be shown (qt.qpa.xcb: could not connect to display :99); mend that, {PAGE}"
    )


def test_a_recording_that_is_not_there_is_named_before_a_window_opens(tmp_path: Path) -> None:
    assert "no recording" in fault(tmp_path, "--subjects", "S9") or "S9" in fault(tmp_path, "--subjects", "S9")


@pytest.mark.parametrize("option", ["--overwrite", "--json"])
def test_options_of_pages_are_refused(recording_file: Path, option: str) -> None:
    assert fault(recording_file, option) == f"{option}: of pages, and not of the window; add --html FILE for a page"


def test_the_door_of_the_room_loads_no_qt() -> None:
    code = "import sys, biopercept.desktop.opening; print('PySide6' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(importlib.util.find_spec("PySide6") is None, reason="the extra desktop is not installed")
def test_the_command_shows_the_window_until_it_is_told_to_stop(recording_file: Path) -> None:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-m", "biopercept.cli", "view", str(recording_file)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        limit = threading.Timer(120, process.kill)
        limit.start()
        # Qt says this as the window is shown.
        assert "propagateSizeHints" in process.stderr.readline()
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        words = process.stderr.read()
        assert process.wait(60) == 143, words
        limit.cancel()
    assert "Traceback" not in words
