"""A page in a real browser, where there is one: what it says on its console, and what a person's clicks leave."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(_BROWSER is None, reason="no Chromium on this machine")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=3000",
)  # fmt: skip


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
    command = [str(_BROWSER), *_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},900", "--dump-dom"]
    done = subprocess.run([*command, shown.as_uri()], capture_output=True, text=True, timeout=180, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
