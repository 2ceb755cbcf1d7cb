"""The viewer in a browser: its scripts run under its own policy, nothing stands on the console, tables sort."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
from headless_browser import needs_browser, opened

from biopercept.recording import Interval, Signal
from biopercept.viewing.page import write_page
from biopercept.viewing.predictions import PredictionTrack
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


WRITTEN = """
const written = [], plain = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y, most) {
  const width = Math.min(this.measureText(text).width, most || Infinity);
  const from = x + this.getTransform().e / devicePixelRatio - (this.textAlign === "right" ? width : 0);
  written.push([text, from, from + width]);
  return plain.apply(this, arguments);
};
document.querySelector("[data-do=full]").click();
setTimeout(() => { document.title = JSON.stringify(written); }, 900);
"""


def test_names_on_a_narrow_page_lie_beside_the_data_and_not_over_each_other(tmp_path: Path) -> None:
    points = tuple(Interval(50.0 + k, 0.0, name) for k, name in enumerate(("button", "pressed", "again")))
    none = np.full(2, np.nan)
    track = PredictionTrack(
        "m", ("rest", "stress"), "", np.array([0.0, 50.0]), np.full(2, 50.0), np.full((2, 2), 0.5), ("rest", "stress"),
        ("rest", "rest"), none, ("", ""), ("", ""), np.zeros(2, dtype=bool), np.empty(0), np.empty((0, 2)),
    )  # fmt: skip
    signal = Signal.from_samples("EDA", "eda", "uS", 4.0, np.ones((1, 400)))
    made = Timeline("S01", "", "t", RECORDED, 100.0, (signal,), labels=points, predictions=(track,))
    write_page(made, tmp_path / "view.html")
    page, _ = opened(tmp_path / "view.html", tmp_path, clicks=WRITTEN, width=500)
    texts = json.loads(unescape(re.findall(r"<title>(.*?)</title>", page)[0]))
    names = {text: (left, right) for text, left, right in texts}
    assert [name for name in ("button", "pressed", "again") if name in names] == ["again"]
    assert all(right <= 46 for _, right in (names["predicted"], names["true"]))  # in the gutter
