"""A page in a headless Chromium, where there is one: as its scripts left it, or driven by mouse and keys.

It is driven over two pipes by DevTools' protocol (https://chromedevtools.github.io/devtools-protocol/), JSON
with a zero byte behind each message, so that nothing has to be installed beside the browser itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 30.0
_FLAGS = (
    "headless=new", "no-sandbox", "remote-debugging-pipe", "disable-gpu", "disable-quic", "no-first-run",
    "disable-background-networking", "disable-component-update", "disable-sync", "hide-scrollbars",
    "disable-dev-shm-usage", "window-size=1000,900",
)  # fmt: skip
_SHIFT = 8
_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "ArrowUp": 38, "ArrowDown": 40, "Home": 36, "End": 35, "Escape": 27}
_DUMP_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=3000",
)  # fmt: skip


def browser_path() -> str | None:
    """Return the browser of this machine; None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


needs_browser = pytest.mark.skipif(browser_path() is None, reason="no Chromium on this machine")


def opened(page: Path, folder: Path, *, clicks: str = "", width: int = 1300) -> tuple[str, list[str]]:
    """Return the page as its scripts left it, and every line of the console.

    ``clicks`` is a script that runs after the page's own; the page's policy must then be taken out, in a copy.
    """
    shown = page
    if clicks:
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
        shown = folder / "clicked.html"
        shown.write_text(text.replace("</body>", f"<script>{clicks}</script></body>"), encoding="utf-8")
    profile = folder / "profile"
    command = [
        str(browser_path()),
        *_DUMP_FLAGS,
        f"--user-data-dir={profile}",
        f"--window-size={width},900",
        "--dump-dom",
    ]
    done = subprocess.run([*command, shown.as_uri()], capture_output=True, text=True, timeout=180, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


class Browser:
    """One page in a browser without a window; ``messages`` are the console's messages, exceptions and refusals."""

    def __init__(self, path: str, profile: Path) -> None:
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for pair in (os.pipe(), os.pipe()) for end in pair]
        theirs_in, self._out, self._in, theirs_out = ends
        flags = [f"--{flag}" for flag in _FLAGS]
        words = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", words, path, *flags, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._number, self._session = b"", 0, ""
        self.messages: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def open(self, page: Path) -> None:
        """Open a file; what its scripts do is waited for by :meth:`wait`."""
        self.messages.clear()
        self._ask("Page.navigate", url=page.as_uri())

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression gives, as plain values. Raises AssertionError where it fails."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Return what an expression gives once that is true. Raises AssertionError where it never is."""
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            if result := self.value(expression):
                return result
            time.sleep(0.03)
        raise AssertionError(f"never true: {expression}; the page says {self.messages}")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send one event of the mouse: mousePressed, mouseMoved, mouseReleased or mouseWheel."""
        self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float], *, is_shifted: bool = False) -> None:
        """Press the left button at one place, move, and let it go at another; equal places are a click."""
        pressed = {"button": "left", "buttons": 1, "clickCount": 1, "modifiers": _SHIFT * is_shifted}
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start, **pressed)
        if start != end:
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
            for place in (middle, end):
                self.mouse("mouseMoved", *place, **pressed)
        self.mouse("mouseReleased", *end, **{**pressed, "buttons": 0})

    def press(self, key: str, *, is_shifted: bool = False) -> None:
        """Press a key by its name in the DOM, such as ArrowLeft or m, and let it go."""
        text = {} if key in _KEYS else {"text": key}
        for kind in ("keyDown", "keyUp"):
            self._ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=_KEYS.get(key, ord(key.upper()[0])),
                modifiers=_SHIFT * is_shifted,
                **(text if kind == "keyDown" else {}),
            )

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        os.close(self._in)
        os.close(self._out)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], _SECONDS)
            chunk = os.read(self._in, 1 << 16) if ready else b""
            assert chunk, "the browser does not answer"
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what the console would show."""
        content = event.get("params", {})
        if event.get("method") == "Runtime.consoleAPICalled":
            self.messages.append(f"console: {[one.get('value') for one in content['args']]}")
        elif event.get("method") == "Runtime.exceptionThrown":
            self.messages.append(f"exception: {content['exceptionDetails']}")
        elif event.get("method") == "Log.entryAdded":
            self.messages.append(f"{content['entry']['level']}: {content['entry']['text']}")
