"""Commands that start at once: each is a fork of one process that has imported everything, disturbed as it is told to.

Nothing but the imports is shared. A library that fails file operations (LD_PRELOAD) reads its settings again in each.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_AGAIN = "fault_settings_again"
STATE_SECONDS = "TEST_STATE_SECONDS"
"""What a command is set, so that states of its fits are written as often as this."""
_POLL_SECONDS = 0.005
_SOURCE = '#include "{source}"\nvoid {again}(void) {{ init(); }}\n'
_IMPORTED = ("torch.optim", "torch.func", "torch.utils.flop_counter", "sklearn.linear_model", "sklearn.ensemble")


def build_library(source: Path, folder: Path) -> Path:
    """Return a library built from the source of one that fails file operations, whose settings can be read again."""
    library, wrapper = folder / "faults.so", folder / "faults.c"
    wrapper.write_text(_SOURCE.format(source=source.resolve(), again=_AGAIN), encoding="utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, wrapper, "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, below 0 the signal that killed it, and what it said on standard error."""

    code: int
    words: str


class ForkedCommands:
    """A process that runs commands as forks of itself; ``library`` can fail their file operations.

    ``mounts`` are lines of a shell that give the process, and nobody else, other file systems in some places.
    """

    def __init__(self, folder: Path, library: Path | None = None, mounts: str = "") -> None:
        self._words = folder / "words.txt"
        self._library = library
        environment = {**os.environ, **({"LD_PRELOAD": str(library)} if library else {})}
        apart = ["unshare", "--mount", "bash", "-ec", f'{mounts}\nexec "$@"', "bash"] if mounts else []
        self._server = subprocess.Popen(
            [*apart, sys.executable, __file__, str(library or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(
        self,
        words: Sequence[str],
        faults: Mapping[str, str] | None = None,
        kill_after: float = 600.0,
        kill_with: int = signal.SIGKILL,
        kill_when: Path | None = None,
    ) -> Ended:
        """Run a command to its end, or send it a signal after so many seconds; -9 goes to its children, too.

        It is sent it as well once ``kill_when`` is a folder with something in it.
        """
        assert self._server.stdin is not None and self._server.stdout is not None
        kill = {"after": kill_after, "number": int(kill_with), "folder": str(kill_when or "")}
        request = {"words": [*words], "set": faults or {}, "err": str(self._words), "kill": kill}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return Ended(code, self._words.read_text(encoding="utf-8", errors="replace"))

    def seen(self, path: Path) -> Path:
        """Return by what path something is there that lies at ``path`` for the commands, on a mount perhaps."""
        return Path(f"/proc/{self._server.pid}/root") / path.resolve().relative_to("/")

    def close(self) -> None:
        """End the process."""
        with self._server:  # closes its pipes and waits
            pass


def _import_everything() -> None:
    import biopercept
    import biopercept.cli

    for name in _IMPORTED:
        importlib.import_module(name)
    for package in (biopercept, biopercept.cli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not {"desktop", "streaming", "__main__"} & {*module.name.split(".")}:
                with contextlib.suppress(ImportError):
                    importlib.import_module(module.name)


def _serve(library: str) -> list[str] | None:
    """Fork for each command that is asked for; return its words in the fork, None once nothing more is asked for."""
    _import_everything()
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if process == 0:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
            _become(request, library)
            return list(request["words"])
        sys.stdout.write(f"{_code(process, **request['kill'])}\n")
        sys.stdout.flush()
    return None


def _become(request: dict, library: str) -> None:
    """Let this fork be the command: its environment, and where its words go."""
    os.environ.update(request["set"])
    if seconds := request["set"].get(STATE_SECONDS):
        from biopercept.training import resuming

        resuming.SECONDS = float(seconds)
    if not request["set"]:
        os.environ.pop("LD_PRELOAD", None)  # its children need none
    elif library:
        getattr(ctypes.CDLL(library), _AGAIN)()
    nothing = os.open(os.devnull, os.O_RDWR)
    said = os.open(request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for number, handle in enumerate((nothing, nothing, said)):
        os.dup2(handle, number)


def _code(process: int, after: float, number: int, folder: str) -> int:
    """Return how a fork ended; it is sent a signal where it takes too long, and its children are killed after it."""
    ends, was_sent = time.monotonic() + after, False
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if not was_sent and (time.monotonic() >= ends or (folder and any(Path(folder).glob("*")))):
            was_sent = True
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if number == signal.SIGKILL else os.kill)(process, number)
        time.sleep(_POLL_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    given = _serve(sys.argv[1])
    if given is not None:
        from biopercept.cli.main import main

        sys.argv = ["biopercept", *given]
        main()
