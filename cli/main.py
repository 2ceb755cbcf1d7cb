"""The door of the command line: every command by its name, and every outcome turned into a sentence and an exit code.

Command modules import nothing heavy at their top, so that ``--help`` is instant. Exit codes: 0 well; 1 some recordings
failed, or parts of shared work are missing; 2 the user's mistake; 4 training met non-finite numbers; 70 a bug of ours;
74 a write failed; 75 another process holds the output; 130 interrupted (Ctrl-C); 141 the reader of our output went
away; 143 told to stop (SIGTERM, SIGHUP, SIGUSR1).
"""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType, TracebackType

import typer

from biopercept.errors import BioperceptError, SettingsError, is_out_of_memory
from biopercept.version import __version__

from .panels import PanelCommand, PanelGroup, with_options
from .terminal import say

COMMANDS: dict[str, tuple[str, ...]] = {
    "Start here": ("demo", "init", "check", "inspect"),
    "Data": ("datasets", "import_study", "prepare", "quality", "correct", "features", "deidentify"),
    "Models": ("models", "train", "predict", "live", "explain", "pretrain", "reconstruct"),
    "Evaluate": (
        "cross_validate",
        "evaluate",
        "compare",
        "audit",
        "tune",
        "learning_curve",
        "personalise",
        "score_generation",
    ),
    "Look and export": ("view", "report", "export"),
    "Tools": ("config", "benchmark", "doctor"),
}
"""The functions of the commands by heading, as the help lists them; each lies in a module of its name."""

_MEASURING = ("scipy.signal", "biopercept.preprocessing.cleaning")
READING: dict[str, tuple[str, ...]] = {
    "inspect": ("biopercept.preprocessing.cleaning",),
    "features": _MEASURING,
    "quality": _MEASURING,
    "view": _MEASURING,
    "correct": (),
    "predict": _MEASURING,
    "explain": _MEASURING,
    "reconstruct": _MEASURING,
}
"""Commands that read recordings, and the modules that they import while the first is read."""

_BUG, _WRITE_FAILED, _INTERRUPTED, _READER_GONE, _TOLD_TO_STOP = 70, 74, 130, 141, 143
_SOON_SECONDS = 0.05
_NO_MEMORY = (
    "there is not enough memory for this: take a smaller training.batch_size, model.width or model.n_latents, shorter "
    "windows, or fewer --jobs at once"
)
_OF_NAMES = {errno.ENAMETOOLONG, errno.ELOOP}
_OTHERS_SECONDS = 2.0
"""Another process of torchrun waits so long with its words for the first to end over the same."""

_COLLECTED_AFTER = 100_000
"""New objects after which cycles are looked for: tables make millions of objects and no cycle, and a tenth of a load
went into looking."""

_FULL_OR_FROZEN = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)  # noqa: T201
        raise typer.Exit()


def _root(
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_show_version, help="Print the version."),
) -> None:
    """Turn recordings of the body into predictions of human factors, with scores that can be trusted."""


def command_name(function: str) -> str:
    """Return the command of a function: import_study, as import is a word of Python, is the command import."""
    return function.removesuffix("_study").replace("_", "-")


def build_app(only: str = "") -> typer.Typer:
    """Return the command-line application with every command registered, or with ``only`` one: that takes a tenth."""
    app = typer.Typer(
        name="biopercept",
        cls=PanelGroup,
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "obj": build_app},
    )
    app.callback()(_root)
    for heading, names in COMMANDS.items():
        for name in names:
            command = command_name(name)
            if only not in ("", command):
                continue
            module = import_module(f"biopercept.cli.{name}")
            if hasattr(module, "app"):  # a command with commands of its own
                app.add_typer(module.app, name=command, rich_help_panel=heading)
            else:
                app.command(command, cls=PanelCommand, rich_help_panel=heading)(with_options(getattr(module, name)))
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with the exit code of the outcome."""
    from biopercept.files import sweep_temporary
    from biopercept.progress import forget_what_ended, noticing, stopped_words

    words = list(sys.argv[1:] if arguments is None else arguments)
    forget_what_ended()
    _leave_removed_folder()
    sweep_temporary()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # that a home without room keeps no fonts is no news
    gc.set_threshold(_COLLECTED_AFTER)
    with (
        _stops_as_interrupts() as stops,
        noticing(_say_notice),
        _reading_apart(words),
        _only_the_first_speaks() as outcomes,
    ):
        code = _run(words, is_debugging="--debug" in words)
        if code == _INTERRUPTED:
            code = _TOLD_TO_STOP if stops else _INTERRUPTED
            say(f"biopercept: {stopped_words(_afresh(words))}")
        outcomes.append(code)
    sys.exit(_after_flushing(code))


def _leave_removed_folder() -> None:
    """Work from the root where the working folder was removed: libraries look for it, and no path below it exists."""
    try:
        Path.cwd()
    except OSError:
        os.chdir("/")


@contextmanager
def _only_the_first_speaks() -> Iterator[list[int]]:
    """Let only the first of several processes of torchrun speak, and another one where it fails alone.

    Give the list for the exit code. Where the first meets the same fault, torchrun ends the others while they wait.
    """
    from biopercept.ranks import Ranks

    with suppress(BioperceptError):  # it is said by the command
        if not (ranks := Ranks.of(os.environ)).is_first:
            outcomes: list[int] = []
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as words:
                yield outcomes
            if outcomes[-1] not in (0, _INTERRUPTED, _TOLD_TO_STOP):
                with suppress(KeyboardInterrupt):
                    time.sleep(_OTHERS_SECONDS)
                    for line in words.getvalue().splitlines():
                        if line.startswith("biopercept: "):
                            say(f"{ranks}: {line}")
            return
    yield []


def _refuse_torchrun(words: Sequence[str]) -> None:
    """Raise SettingsError where several processes of torchrun were started for what one does."""
    from biopercept.ranks import COMMANDS as SHARED
    from biopercept.ranks import Ranks

    command = next(iter(words), "")
    if command not in SHARED and (n := Ranks.of(os.environ).n_ranks) > 1:
        raise SettingsError(
            f"torchrun has started {n} processes of {command or 'biopercept'}, which only {', '.join(SHARED)} "
            "can share; start it without torchrun (docs/scaling.md says how work is divided)"
        )


def _reading_apart(words: Sequence[str]) -> AbstractContextManager[None]:
    """Have recordings read in a process apart; it starts before anything else where the command will need it."""
    from biopercept.loaders.reading_process import reading_apart

    command = next(iter(words), "")
    is_needed = command in READING and not {"-h", "--help", "-j", "--jobs"} & {*words}
    return reading_apart(is_started=is_needed, meanwhile=READING.get(command, ()))


@contextmanager
def _stops_as_interrupts() -> Iterator[list[int]]:
    """Let SIGTERM, SIGHUP and SIGUSR1 end work the way Ctrl-C does; give the list of those that came."""
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    def again(lost: sys.UnraisableHookArgs) -> None:
        """Send a stop once more that came within a destructor or a callback, where its exception is dropped."""
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            report(lost)
            return
        number = received[-1] if received else signal.SIGINT
        threading.Timer(_SOON_SECONDS, signal.pthread_kill, (threading.main_thread().ident, number)).start()

    before, report = {}, sys.unraisablehook
    if threading.current_thread() is threading.main_thread():
        sys.unraisablehook = again
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup and the like asked to be left alone
                before[number] = signal.signal(number, stop)
    try:
        yield received
    finally:
        sys.unraisablehook = report
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(words: list[str], *, is_debugging: bool) -> int:
    """Run one command and return its exit code, having said what went wrong."""
    known = {command_name(name) for names in COMMANDS.values() for name in names}
    try:
        _refuse_torchrun(words)
        build_app(next(iter({*words[:1]} & known), ""))(args=words, prog_name="biopercept")
    except SystemExit as leaving:
        return _code_of(leaving)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BioperceptError as error:
        if is_debugging:
            traceback.print_exc()
        _say_error(error)
        if error.exit_code == _WRITE_FAILED:
            _say_what_is_kept(words)
        return error.exit_code
    except Exception as fault:
        if is_debugging:
            traceback.print_exc()
        if isinstance(fault, OSError) and fault.errno in _FULL_OR_FROZEN:
            say(f"biopercept: a write failed ({fault.strerror}); make room or choose another output and run it again")
            _say_what_is_kept(words)
            return _WRITE_FAILED
        if isinstance(fault, OSError) and fault.errno in _OF_NAMES:
            say(f"biopercept: {fault.strerror}: {str(fault.filename)[:80]}...; give a path that the system allows")
            return 2
        if is_out_of_memory(fault):
            say(f"biopercept: {_NO_MEMORY}")
            return 1
        log = _write_crash_log(fault)
        say(f"biopercept: a bug of ours ({type(fault).__name__}: {fault}); please report it with the log {log}")
        return _BUG
    return 0


def _code_of(leaving: SystemExit) -> int:
    cause = leaving.__context__
    if isinstance(cause, OSError) and cause.errno == errno.EPIPE:
        return _READER_GONE
    return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)


def _afresh(words: Sequence[str]) -> str:
    """Return the option with which a command begins again: prepare goes on with its parts under --overwrite, too."""
    return "--restart" if words[:1] == ["prepare"] else "--overwrite"


def _say_what_is_kept(words: Sequence[str]) -> None:
    """Say what of long work is there although a file could not be written."""
    from biopercept.progress import unwritten_words

    if sentence := unwritten_words(_afresh(words)):
        say(f"biopercept: {sentence}")


def _say_notice(sentence: str) -> None:
    say(f"biopercept: {sentence}")


def _say_error(error: BioperceptError) -> None:
    """Say the error: one line, or where it carries several faults one line for each."""
    faults: Sequence[str] = getattr(error, "faults", ())
    if len(faults) < 2:
        say(f"biopercept: {error}")
        return
    say(f"biopercept: {len(faults)} faults")
    for fault in faults:
        say(f"  - {fault}")


def _after_flushing(code: int) -> int:
    """Return the exit code once everything printed is out, or the code of why it could not be."""
    try:
        sys.stdout.flush()
    except OSError as fault:
        # What is still buffered would fail again, loudly, when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if fault.errno == errno.EPIPE:
            return _READER_GONE
        say(f"biopercept: the results could not be written to the standard output ({fault.strerror})")
        return _WRITE_FAILED
    return code


def _write_crash_log(fault: BaseException) -> str:
    """Write where it happened to a file in the temporary folder and return its path.

    The log holds code lines only: messages of exceptions can carry samples, names or header text of a recording.
    """
    import platform
    import tempfile

    lines = [f"biopercept {__version__}, Python {platform.python_version()}, {platform.system()}"]
    seen: BaseException | None = fault
    while seen is not None:
        lines += [type(seen).__name__, *_frames(seen.__traceback__), ""]
        seen = seen.__cause__ or seen.__context__
    handle, path = tempfile.mkstemp(prefix="biopercept-crash-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines))
    return path


def _frames(trace: TracebackType | None) -> list[str]:
    """Return one line for each frame, with the last folders of its file only: a full path names the user."""
    return [
        f"  {'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(trace)
    ]
