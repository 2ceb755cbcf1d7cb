"""The page in a browser: nothing on the console, tables that sort by key and click, nothing wider than the screen."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from headless_browser import needs_browser, opened

from biopercept.report.drawing import Drawing, FigureData
from biopercept.report.layout import Head, Section, page_of
from biopercept.report.page import write_report
from biopercept.report.text import Table

pytestmark = [needs_browser, pytest.mark.figures]

SORT = """
const table = document.querySelector("table");
const column = () => [...table.tBodies[0].rows].map((row) => row.cells[%d].textContent).join("|");
const button = table.tHead.rows[0].cells[%d].querySelector("button");
const seen = [];
for (let n = 0; n < 3; n += 1) {
  button.click();
  seen.push(`${button.parentElement.getAttribute("aria-sort")}: ${column()}`);
}
document.title = seen.join(" / ");
"""


def sorted_by(folder: Path, cells: tuple[str, ...]) -> list[str]:
    """Return what three clicks on the heading of a column make of it."""
    rows = tuple((f"r{place}", cell) for place, cell in enumerate(cells))
    table = Table("things", ("Name", "Value"), rows, (False, True))
    path = folder / "page.html"
    path.write_text(page_of(Head("x", "y"), [Section("one", "One", tables=(table,))]), encoding="utf-8")
    page, console = opened(path, folder, clicks=SORT % (1, 1))
    assert console == []
    [title] = re.findall(r"<title>(.*?)</title>", page)
    return title.replace("&lt;", "<").split(" / ")


def test_a_page_of_results_says_nothing_on_the_console(demo: Path, tmp_path: Path) -> None:
    page, console = opened(write_report(demo), tmp_path)
    assert console == []
    assert "aria-current" in page  # the scripts ran under the page's policy
    assert '<button type="button" class="sort">' in page


def test_hostile_names_run_nothing_in_a_browser(hostile_demo: Path, tmp_path: Path) -> None:
    page, console = opened(write_report(hostile_demo), tmp_path)
    assert console == [] and "aria-current" in page


@pytest.mark.parametrize(
    ("cells", "rising"),
    [
        (("0.9 [0.8, 1.0]", "n/a", "0.10 [0, 1]", "1,234"), "0.10 [0, 1]|0.9 [0.8, 1.0]|1,234|n/a"),
        (("2.1 h", "45 s", "13.5 min"), "45 s|13.5 min|2.1 h"),
        (("S10", "S9", "", "S1"), "S1|S9|S10|"),
        (("-0.5", "+0.2", "\u22120.7"), "\u22120.7|-0.5|+0.2"),
    ],
)
def test_a_heading_sorts_rising_falling_and_back(cells: tuple[str, ...], rising: str, tmp_path: Path) -> None:
    first, second, third = sorted_by(tmp_path, cells)
    known = [cell for cell in rising.split("|") if cell not in ("", "n/a")]
    rest = [cell for cell in rising.split("|") if cell in ("", "n/a")]
    assert first == f"ascending: {rising}"
    assert second == f"descending: {'|'.join([*reversed(known), *rest])}"
    assert third == f"null: {'|'.join(cells)}"


WIDTHS = """
const wide = [...document.querySelectorAll("body *")].filter((one) => !one.closest(".scroll, .plot, nav, .skip")
  && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.tagName);
const clipped = [...document.querySelectorAll(".scroll td, .scroll th")].filter((one) => {
  const range = document.createRange();
  range.selectNodeContents(one);
  return range.getBoundingClientRect().width > one.getBoundingClientRect().width + 1;
}).map((one) => one.textContent);
document.title = JSON.stringify({ page: document.documentElement.scrollWidth > innerWidth, wide, clipped });
"""


@pytest.mark.parametrize("width", [500, 980, 1400])
def test_nothing_is_wider_than_the_screen_and_no_cell_is_cut(hostile_demo: Path, tmp_path: Path, width: int) -> None:
    page, _ = opened(write_report(hostile_demo), tmp_path, clicks=WIDTHS, width=width)
    [title] = re.findall(r"<title>(.*?)</title>", page)
    assert title == '{"page":false,"wide":[],"clipped":[]}'


CURVES = """
const button = [...document.querySelectorAll(".tools button")][0];
button.click();
const box = document.querySelector(".curves");
const press = (key) => box.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
setTimeout(() => {
  press("ArrowRight");
  press("ArrowRight");
  for (const key of "+-----+") press(key);  // not beyond the ends
}, 100);
setTimeout(() => {
  document.title = JSON.stringify({
    pressed: button.getAttribute("aria-pressed"),
    picture: document.querySelector(".plot").hidden,
    canvases: box.querySelectorAll("canvas").length,
    titles: [...box.querySelectorAll(".u-title")].map((one) => one.textContent),
    status: box.querySelector("[role=status]").textContent,
    read: [...box.querySelectorAll(".u-value")].map((one) => one.textContent),
    names: [...box.querySelectorAll(".u-label")].map((one) => one.textContent),
    svg: document.querySelector("a[data-svg]").href === document.querySelector("figure img").src,
  });
}, 300);
"""


def test_curves_are_drawn_from_the_numbers_and_read_off_by_key(tmp_path: Path) -> None:
    names = ('a, "b"', "<img src=x onerror=alert(1)>", "unknown")
    rows = ((0.0, 1.5, 10.0, None), (1.0, 2.5, 20.0, 3.0), (2.0, 3.5, 30.0, None))
    data = FigureData(("time (s)", *names), rows, (("first <b>", 1), ("second", 2)))
    figure = Drawing("f", "Figure", "Caption.", b"<svg/>").with_data(data)
    path = tmp_path / "page.html"
    path.write_text(page_of(Head("x", "y"), [Section("one", "One", figures=(figure,))]), encoding="utf-8")
    assert opened(path, tmp_path)[1] == []  # under the page's policy
    page, console = opened(path, tmp_path, clicks=CURVES)
    assert console == []
    [title] = re.findall(r"<title>(.*?)</title>", page)
    seen = json.loads(unescape(title))
    assert (seen["pressed"], seen["picture"], seen["canvases"], seen["svg"]) == ("true", True, 2, True)
    assert seen["titles"] == ["first <b>", "second"]
    assert seen["status"] == 'time (s) 1, a, "b" 2.5, <img src=x onerror=alert(1)> 20, unknown 3'  # for a screen reader
    assert [name for name in seen["names"] if name != "time (s)"] == list(names)
    assert [value for value in seen["read"] if value != "--"] == ["1", "2.5", "1", "20", "3"]
