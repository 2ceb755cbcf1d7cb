"""The page in a real browser: zoomed, moved, measured and driven by keys, and its console stays empty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from headless_browser import Browser, browser_path, needs_browser

from biopercept.recording import Interval, Signal
from biopercept.viewing.page import write_page
from biopercept.viewing.timeline import RECORDED, Timeline

pytestmark = needs_browser
SECONDS = 100.0
SVG = "{http://www.w3.org/2000/svg}"
CLOCK = r"(?:(\d+):)?(\d+):([\d.]+)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(browser_path() or "", tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of 100 s: a ramp whose value is its second, a wave with a spike, labels from 40 to 60 s."""
    seconds = np.arange(0, SECONDS, 0.25)
    wave = np.sin(2 * np.pi * np.arange(0, SECONDS, 0.01))
    wave[5000] = 50.0
    signals = (
        Signal.from_samples("EDA", "eda", "uS", 4.0, seconds[None]),
        Signal.from_samples("ECG", "ecg", "mV", 100.0, wave[None]),
    )
    labels = (Interval(0.0, 40.0, "rest"), Interval(40.0, 20.0, "stress"))
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(Timeline("S01", "", "task", RECORDED, SECONDS, signals, labels=labels), path)
    return path


@pytest.fixture
def viewer(browser: Browser, page: Path) -> Iterator[Browser]:
    """Give the page opened anew with the plots clicked, and see afterwards that nothing was said on the console."""
    browser.open(page)
    browser.wait("document.readyState === 'complete' && document.querySelectorAll('figure canvas').length > 2")
    shows(browser, 0, SECONDS)
    browser.value("document.getElementById('stack').focus({preventScroll: true})")
    assert browser.value("document.getElementById('fault').hidden")
    yield browser
    assert browser.messages == []


def seconds_of(clock: tuple[str, str, str]) -> float:
    hours, minutes, seconds = clock
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds)


def in_view(browser: Browser) -> tuple[float, float]:
    start, end = re.findall(CLOCK, browser.value("document.getElementById('range').textContent").partition(" (")[0])
    return seconds_of(start), seconds_of(end)


def shows(browser: Browser, start: float, end: float, within: float = 0.3) -> None:
    """See that the page comes to say that it shows these seconds."""
    try:
        browser.wait(
            "(() => { const shown = document.getElementById('range').textContent.split(' (')[0].split(' to ');"
            "const seconds = (text) => text.split(':').reduce((sum, part) => 60 * sum + Number(part), 0);"
            f"return shown.length === 2 && Math.abs(seconds(shown[0]) - {start}) <= {within}"
            f" && Math.abs(seconds(shown[1]) - {end}) <= {within} }})()"
        )
    except AssertionError:
        assert in_view(browser) == pytest.approx((start, end), abs=within)


def place(browser: Browser, share: float, figure: int = 1) -> tuple[float, float]:
    """Return where a share of the time in view lies on a figure of the page, in pixels."""
    left, width, top = browser.value(
        "(() => { const over = document.getElementById('overlay').getBoundingClientRect();"
        f"const box = document.querySelectorAll('#stack figure')[{figure}].getBoundingClientRect();"
        "return [over.left, over.width, box.top + 50] })()"
    )
    return left + share * width, top


def test_the_page_opens_with_everything_in_view(viewer: Browser) -> None:
    words = viewer.value("[...document.querySelectorAll('#stack canvas')].map((one) => one.getAttribute('aria-label'))")
    assert words[0] == "From 0:00.0 to 1:40.0, 2 labels in view"
    assert any(text.startswith("EDA in view: from 0 to 99.75 uS, every sample") for text in words)
    assert viewer.value("document.querySelector('noscript') !== null && document.images.length === 0")


def test_keys_zoom_and_move(viewer: Browser) -> None:
    for key, is_shifted, start, end in (
        ("+", False, 25, 75), ("ArrowRight", False, 30, 80), ("ArrowRight", True, 50, 100), ("-", False, 0, 100),
        ("+", False, 25, 75), ("+", False, 37.5, 62.5), ("ArrowLeft", False, 35, 60), ("ArrowLeft", True, 12.5, 37.5),
        ("End", False, 75, 100), ("Home", False, 0, 100),
    ):  # fmt: skip
        viewer.press(key, is_shifted=is_shifted)
        shows(viewer, start, end)


def test_buttons_do_what_the_keys_do(viewer: Browser) -> None:
    for name, start, end in (("in", 25, 75), ("left", 20, 70), ("right", 25, 75), ("out", 0, 100), ("whole", 0, 100)):
        viewer.value(f"document.querySelector('[data-do={name}]').click()")
        shows(viewer, start, end)


def test_a_drag_zooms_a_shifted_one_moves_and_a_double_click_shows_everything(viewer: Browser) -> None:
    viewer.drag(place(viewer, 0.2), place(viewer, 0.4))
    shows(viewer, 20, 40)
    viewer.drag(place(viewer, 0.75), place(viewer, 0.25), is_shifted=True)
    shows(viewer, 30, 50)
    x, y = place(viewer, 0.5)
    for count in (1, 2):
        for kind, buttons in (("mousePressed", 1), ("mouseReleased", 0)):
            viewer.mouse(kind, x, y, button="left", buttons=buttons, clickCount=count)
    shows(viewer, 0, 100)


def test_the_wheel_zooms_about_the_pointer_and_with_shift_moves(viewer: Browser) -> None:
    factor = np.exp(-0.2)
    viewer.mouse("mouseWheel", *place(viewer, 0.25), deltaX=0, deltaY=-100)
    shows(viewer, 25 - 25 * factor, 25 + 75 * factor)
    start, end = in_view(viewer)
    viewer.mouse("mouseWheel", *place(viewer, 0.25), deltaX=0, deltaY=100, modifiers=8)
    by = min(0.15 * (end - start), SECONDS - end)
    shows(viewer, start + by, end + by, within=0.6)


def test_the_wheel_scrolls_the_page_until_the_plots_were_clicked(viewer: Browser) -> None:
    viewer.press("Escape")
    viewer.wait("document.activeElement === document.body")
    viewer.mouse("mouseWheel", *place(viewer, 0.5), deltaX=0, deltaY=-100)
    viewer.press("+")
    shows(viewer, 25, 75)  # of the key alone


def measured(viewer: Browser, signal: str) -> list[float]:
    row = viewer.wait(
        "[...document.querySelectorAll('#measured tbody tr')].map((row) => [...row.children].map((one) =>"
        f" one.textContent)).find((row) => row[0].startsWith('{signal}'))"
    )
    return [float(cell) for cell in row[1:]]


def test_two_cursors_measure_what_lies_between_them(viewer: Browser) -> None:
    viewer.press("m")
    viewer.wait("!document.getElementById('measured').hidden")
    at_a, at_b, rise, mean, lowest, highest = measured(viewer, "EDA")
    assert (at_a, at_b) == pytest.approx((100 / 3, 200 / 3), abs=0.26)
    assert rise == pytest.approx(at_b - at_a)
    assert (lowest, highest) == pytest.approx((33.5, 66.5), abs=0.26)
    assert mean == pytest.approx(50.0, abs=0.26)
    words = viewer.value("document.getElementById('between').textContent")
    assert words.endswith("B - A is 33.333 s, 1.8 per minute.")
    assert measured(viewer, "ECG")[5] == pytest.approx(50.0, abs=0.1)  # the spike of one sample
    viewer.press("m")
    viewer.wait("document.getElementById('measured').hidden")


def test_a_cursor_is_moved_by_arrows_by_a_drag_and_by_a_click(viewer: Browser) -> None:
    viewer.press("m")
    now = "Number(document.getElementById('cursor-a').getAttribute('aria-valuenow'))"
    before = viewer.wait(now)
    width = viewer.value("document.getElementById('overlay').getBoundingClientRect().width")
    viewer.value("document.getElementById('cursor-a').focus()")
    viewer.press("ArrowRight", is_shifted=True)
    assert viewer.value(now) == pytest.approx(before + 10 * SECONDS / width, rel=0.02)
    shows(viewer, 0, 100)  # the view stays
    middle = viewer.value(
        "(() => { const box = document.getElementById('cursor-a').getBoundingClientRect();"
        "return box.left + box.width / 2 })()"
    )
    viewer.drag((middle, place(viewer, 0)[1]), place(viewer, 0.1))
    assert viewer.value(now) == pytest.approx(10, abs=0.5)
    spot = place(viewer, 0.2)
    viewer.drag(spot, spot)
    assert viewer.value(now) == pytest.approx(20, abs=0.5)


def test_full_range_lets_the_spike_into_the_axis_and_arrows_change_the_scale(viewer: Browser) -> None:
    def covered() -> float:
        """Return how many pixels of the wave's plot are drawn in strong colour: those that it covers."""
        return float(
            viewer.value(
                "(() => { const canvas = document.querySelectorAll('#stack figure')[2].querySelector('.u-wrap canvas');"
                "const copy = new OffscreenCanvas(canvas.width, canvas.height)"
                ".getContext('2d', {willReadFrequently: true});"
                "copy.drawImage(canvas, 0, 0);"
                "const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;"
                "let n = 0; for (let i = 3; i < data.length; i += 4) if (data[i] > 60) n++; return n })()"
            )
        )

    viewer.wait("document.querySelector('[data-do=full]').getAttribute('aria-pressed') === 'false'")
    usual = covered()
    viewer.press("f")
    viewer.wait("document.querySelector('[data-do=full]').getAttribute('aria-pressed') === 'true'")
    viewer.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert covered() < 0.6 * usual  # a wave of 1 beside a spike of 50 is flat
    viewer.press("f")
    viewer.press("ArrowDown")
    viewer.press("ArrowDown")
    viewer.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert covered() < 0.9 * usual


def test_signals_are_chosen_help_opens_and_a_label_is_gone_to(viewer: Browser) -> None:
    viewer.press("s")
    viewer.wait("!document.getElementById('chooser').hidden")
    shown = "[...document.querySelectorAll('#stack figure')].filter((one) => !one.hidden).length"
    before = viewer.value(shown)
    viewer.value("document.querySelector('#chooser input').click()")
    assert viewer.value(shown) == before - 1
    viewer.value("document.getElementById('stack').focus()")
    viewer.press("?")
    viewer.wait("document.getElementById('help').open")
    viewer.press("+")  # goes to no plot meanwhile
    viewer.press("Escape")
    viewer.wait("!document.getElementById('help').open")
    shows(viewer, 0, 100)
    viewer.value("[...document.querySelectorAll('.go')].find((one) => one.textContent === 'stress').click()")
    shows(viewer, 37, 63)


def test_the_pointer_reads_out_the_value_under_it(viewer: Browser) -> None:
    viewer.mouse("mouseMoved", *place(viewer, 0.5))
    text = viewer.wait("document.querySelectorAll('#stack figure .value')[1].textContent")
    assert float(text) == pytest.approx(50.0, abs=0.3)
    assert viewer.value("document.querySelectorAll('#stack figure .value')[0].textContent").endswith("stress")


def pictures(browser: Browser, n: int) -> list[str]:
    """Return the pictures that the page gave to be saved, once there are as many."""
    browser.wait(f"window.saved.length === {n}")
    saved: list[str] = browser.value("window.saved")
    return saved


def test_what_is_in_view_is_saved_as_a_picture(viewer: Browser, tmp_path: Path) -> None:
    viewer.value(
        "(() => { window.saved = []; window.names = []; const made = URL.createObjectURL;"
        "HTMLAnchorElement.prototype.click = function () { window.names.push(this.download); };"
        "URL.createObjectURL = (blob) => { blob.text().then((text) => window.saved.push(text)); return made(blob); };"
        "})()"
    )
    viewer.value("document.querySelector('[data-do=picture]').click()")
    whole = ElementTree.fromstring(pictures(viewer, 1)[0])
    viewer.press("+")
    shows(viewer, 25, 75)
    viewer.press("p")
    part = ElementTree.fromstring(pictures(viewer, 2)[1])
    assert viewer.value("window.names[1]").endswith("0-25.0 to 1-15.0.svg")
    texts = ["".join(one.itertext()) for one in part.iter(f"{SVG}text")]
    assert {"EDA", "ECG", "(uS)", "rest", "stress", "0:30"} <= set(texts) and "0:20" not in texts
    assert texts[0] == "S01 task, 0:25.0 to 1:15.0 (50 s)"
    for picture, first, last in ((whole, 0.0, 99.75), (part, 25.0, 75.0)):
        x, y = ramp(picture)
        assert np.corrcoef(x, y)[0, 1] == pytest.approx(-1, abs=1e-4)  # a ramp is a straight line upwards
        texts_of_it = list(picture.iter(f"{SVG}text"))
        until = [one.text for one in texts_of_it].index("ECG")
        numbers = [one for one in texts_of_it[:until] if re.fullmatch(r"\d+", one.text or "")]
        ticks = {float(one.text or ""): float(one.get("y", "")) - 4 for one in numbers}
        (low, at), (high, above) = sorted(ticks.items())[:2]
        values = low + (y - at) * (high - low) / (above - at)
        assert (values.min(), values.max()) == pytest.approx((first, last), abs=0.8)
    (tmp_path / "part.svg").write_text(viewer.value("window.saved[1]"))
    shades = {value for one in part.iter() for name, value in one.items() if name in ("fill", "stroke")}
    assert all(re.fullmatch(r"#[0-9a-f]{6}|none", shade) for shade in shades)
    assert "#0072b2" in shades and "#1b222a" not in shades  # on white, whatever the page


def ramp(picture: ElementTree.Element) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of the first line that a picture draws: the ramp."""
    line = next(one for one in picture.iter(f"{SVG}path") if one.get("stroke") == "#0072b2")
    points = np.array(
        [[float(number) for number in pair.split()] for pair in re.findall(r"[ML]([^ML]+)", line.get("d") or "")]
    )
    return points[:, 0], points[:, 1]
