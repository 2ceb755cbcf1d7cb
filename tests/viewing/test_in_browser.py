"""The viewer in a browser: its scripts run under its own policy, nothing stands on the console, tables sort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from headless_browser import needs_browser, opened

from biopercept.recording import Interval, Signal
from biopercept.viewing.page import write_page
from biopercept.viewing.timeline import RECORDED, Timeline

pytestmark = needs_browser


def test_the_viewer_draws_and_says_nothing_on_the_console(tmp_path: Path) -> None:
    signal = Signal.from_samples("ECG", "ecg", "mV", 100.0, np.random.default_rng(0).normal(size=(1, 6000)))
    labels = (Interval(0.0, 20.0, "rest"), Interval(30.0, 20.0, "</script><b>stress"))
    write_page(Timeline("S01", "", "task", RECORDED, 60.0, (signal,), labels=labels), tmp_path / "view.html")
    page, console = opened(tmp_path / "view.html", tmp_path)
    assert console == []
    assert "<canvas" in page and '<section id="viewer" aria-label="Signals over time">' in page
    assert '<button type="button" class="sort">' in page
