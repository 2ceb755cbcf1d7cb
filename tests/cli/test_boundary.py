"""The boundary of the command line: each outcome becomes one line on stderr and its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from biopercept import errors
from biopercept.cli import main as door

EXIT_CODES = {
    errors.RecordingError: 1,
    errors.StudyError: 2,
    errors.SettingsError: 2,
    errors.StoreError: 2,
    errors.CheckpointError: 2,
    errors.TrainingError: 4,
    errors.OutputError: 74,
    errors.BusyError: 75,
    errors.UnfinishedError: 1,
}


def _outcome(monkeypatch: pytest.MonkeyPatch, words: list[str], work: object) -> int:
    """Run a command line whose only command, ``work``, does what it is told; return the exit code."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(lambda: None)

    @app.command("work")
    def _work(debug: bool = False) -> None:
        if isinstance(work, BaseException):
            raise work

    monkeypatch.setattr(door, "build_app", lambda *_: app)
    with pytest.raises(SystemExit) as leaving:
        door.main(words)
    assert isinstance(leaving.value.code, int)
    return leaving.value.code


def test_work_that_ends_well_leaves_with_0_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _outcome(monkeypatch, ["work"], None) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("error", "code"), EXIT_CODES.items(), ids=lambda value: getattr(value, "__name__", value))
def test_each_of_our_errors_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[Exception], code: int
) -> None:
    assert _outcome(monkeypatch, ["work"], error("S01.edf has no samples")) == code
    assert capsys.readouterr() == ("", "biopercept: S01.edf has no samples\n")


def test_every_error_of_ours_is_in_this_table() -> None:
    assert set(errors.BioperceptError.__subclasses__()) == set(EXIT_CODES)


def test_several_faults_come_one_on_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.StudyError("a; b")
    error.faults = ("a", "b")  # type: ignore[attr-defined]
    assert _outcome(monkeypatch, ["work"], error) == 2
    assert capsys.readouterr().err == "biopercept: 2 faults\n  - a\n  - b\n"


def test_an_error_cannot_move_the_cursor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _outcome(monkeypatch, ["work"], errors.StudyError("label \x1b[2J\nall well"))
    assert capsys.readouterr().err == "biopercept: label  [2J all well\n"


def test_debug_shows_the_traceback_and_keeps_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _outcome(monkeypatch, ["work", "--debug"], errors.BusyError("taken")) == 75
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_70_with_a_log_of_code_lines_and_no_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert _outcome(monkeypatch, ["work"], ZeroDivisionError("patient Jane Doe")) == 70
    [log] = tmp_path.iterdir()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(log) in said
    text = log.read_text(encoding="utf-8")
    assert "ZeroDivisionError" in text
    assert "test_boundary.py" in text
    assert "Jane Doe" not in text
    assert str(Path(__file__).parent) not in text


def test_a_full_disk_is_74(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _outcome(monkeypatch, ["work"], OSError(28, "No space left on device")) == 74
    assert capsys.readouterr().err.startswith("biopercept: a write failed (No space left on device)")


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _outcome(monkeypatch, ["work"], KeyboardInterrupt()) == 130
    assert (
        capsys.readouterr().err
        == "biopercept: stopped; files that were written are whole, what was not finished is lost\n"
    )


def test_an_exit_code_that_a_command_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _outcome(monkeypatch, ["work"], typer.Exit(1)) == 1


@pytest.mark.parametrize("words", [["no-such-command"], ["work", "--no-such-option"], ["work", "too", "many"]])
def test_wrong_usage_is_2_and_shows_how(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert _outcome(monkeypatch, words, None) == 2
    assert "Usage:" in capsys.readouterr().err


def test_handlers_of_signals_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    _outcome(monkeypatch, ["work"], None)
    assert signal.getsignal(signal.SIGTERM) is before


WAITING = """
import sys, time, typer
from biopercept.cli import main as door
app = typer.Typer()
@app.callback()
def root(): pass
@app.command("work")
def work():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("saved", flush=True)
        raise
door.build_app = lambda *_: app
door.main(["work"])
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGUSR1, 143)],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_a_signal_lets_work_save_itself_and_has_its_exit_code(number: signal.Signals, code: int) -> None:
    # Where the tests run in the background, signals may be ignored, and a child inherits that.
    heard = f"import signal; signal.signal(signal.{number.name}, signal.SIG_DFL); "
    heard += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", heard + WAITING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    sentence = "biopercept: stopped; files that were written are whole, what was not finished is lost\n"
    assert (process.returncode, out, err) == (code, "saved\n", sentence)


IN_A_DESTRUCTOR = """
import os, signal, sys, time
from biopercept.cli import main as door
class Stopped:
    def __del__(self):
        os.kill(os.getpid(), NUMBER)
        for _ in range(1000): pass  # here its exception is dropped by Python
def work(**words):
    Stopped()
    time.sleep(60)
door.build_app = lambda *_: work
door.main(["work"])
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_within_a_destructor_is_not_lost(number: signal.Signals, code: int) -> None:
    heard = "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL); "
    heard += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", heard + IN_A_DESTRUCTOR.replace("NUMBER", str(int(number)))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (run.returncode, run.stdout) == (code, "")
    assert run.stderr == "biopercept: stopped; files that were written are whole, what was not finished is lost\n"


def _config_show(stdout: int) -> tuple[int, str]:
    command = [sys.executable, "-m", "biopercept.cli", "config", "show", "general"]
    run = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    return run.returncode, run.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert _config_show(writing) == (141, "")
    finally:
        os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_results_that_cannot_be_written_to_stdout_are_74() -> None:
    with Path("/dev/full").open("w") as full:
        code, said = _config_show(full.fileno())
    assert code == 74
    assert said.startswith("biopercept: ")
    assert said.count("\n") == 1
