"""Colours: one condition has one colour on every page, and what a page draws by script is coloured as its picture."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from biopercept.measures.around import HEART_RATE
from biopercept.measures.averages import MeanCourse
from biopercept.measures.quality import RatedSignal, RecordingQuality
from biopercept.measures.recording import measured_and_cleaned
from biopercept.preprocessing.quality import REASONS, SignalQuality
from biopercept.recording import Interval, Recording, Signal
from biopercept.report import drawing
from biopercept.report.around import around_figure
from biopercept.report.drawing import FAINT, GREEN, INK, LINES, colours
from biopercept.report.layout import Head, Section
from biopercept.report.layout import page_of as report_of
from biopercept.report.recording_quality import _COLOURS as SPOILING
from biopercept.report.recording_quality import _GOOD as GOOD
from biopercept.report.recording_quality import strips_figure
from biopercept.report.recordings.body import overview_figure
from biopercept.report.template import asset
from biopercept.report.text import Table
from biopercept.report.timelines import timeline_figure
from biopercept.results.predictions import Predictions
from biopercept.viewing.page import page_of
from biopercept.viewing.predictions import PredictionTrack
from biopercept.viewing.timeline import RECORDED, Timeline

pytestmark = pytest.mark.figures
CLASSES = ("stress", "rest", "amusement")  # in the order of their task, which is neither the alphabet's nor time's


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn while the test runs."""
    drawn: list[Any] = []
    monkeypatch.setattr(drawing, "rendered", lambda figure: drawn.append(figure) or b"<svg/>")
    return drawn


def track() -> PredictionTrack:
    values, none = np.full((2, 3), 1 / 3), np.full(2, np.nan)
    return PredictionTrack(
        "m", CLASSES, "", np.array([0.0, 10.0]), np.full(2, 10.0), values, ("rest", "stress"), ("", ""), none,
        ("", ""), ("", ""), np.zeros(2, dtype=bool), np.empty(0), np.empty((0, 3)),
    )  # fmt: skip


def test_a_condition_has_the_colour_of_its_place_in_the_task_on_report_and_view_pages() -> None:
    of_report = {name: shade for name, (shade, _) in colours(CLASSES).items()}
    labels = (Interval(0.0, 5.0, "rest"), Interval(5.0, 5.0, "walk"), Interval(10.0, 5.0, "stress"))
    page = page_of(Timeline("S01", "", "task", RECORDED, 20.0, (), labels=labels, predictions=(track(),)), {})
    of_view = dict(json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])["colours"])
    assert {name: of_view[name] for name in CLASSES} == of_report
    assert of_view["walk"] not in of_report.values()
    by_place = [shade for shade, _ in colours(("a", "b", "c")).values()]
    assert [of_report[name] for name in CLASSES] == by_place  # and not by the alphabet
    early, late = (colours((), names) for names in (("walk", "rest"), ("rest", "walk")))  # of two recordings
    assert early == late


def test_without_predictions_the_order_of_the_tasks_of_its_study_gives_the_colours(figures: list[Any]) -> None:
    labels = tuple(Interval(5.0 * place, 5.0, name) for place, name in enumerate(("amusement", "rest", "walk")))
    shades = Timeline("S01", "", "task", RECORDED, 20.0, (), labels=labels, classes=CLASSES).shades
    assert {name: shades[name] for name in CLASSES} == {name: shade for name, (shade, _) in colours(CLASSES).items()}
    none = np.full(3, np.nan)
    courses = [
        MeanCourse(name, HEART_RATE, np.arange(3.0), np.arange(3.0), none, none, 1, 1) for name in ("walk", "rest")
    ]
    around_figure(courses, CLASSES)
    drawn = [line.get_color() for line in figures[0].axes[0].get_lines()[:2]]
    assert drawn == [shades["walk"], shades["rest"]]


def test_windows_on_a_timeline_have_the_colours_of_their_classes(figures: list[Any]) -> None:
    windows = Predictions(
        classes=CLASSES, keys=(("S01", "", "r"),) * 2, onset=np.array([0.0, 10.0]), duration=np.full(2, 10.0),
        label=("rest", "stress"), predicted=("stress", "rest"), probabilities=np.full((2, 3), 1 / 3),
        quality=np.ones(2),
    )  # fmt: skip
    timeline_figure(windows, "t")
    shades = {name: shade for name, (shade, _) in colours(CLASSES).items()}
    bars = [bars for axes in figures[0].axes for bars in axes.collections if len(bars.get_paths())]
    drawn = {to_hex(np.reshape(bar.get_facecolor(), (-1, 4))[0]) for bar in bars}
    assert {shades["rest"], shades["stress"]} <= drawn and shades["amusement"] not in drawn


def test_labels_on_the_page_of_measures_have_the_colours_of_the_tasks_of_their_study(figures: list[Any]) -> None:
    labels = tuple(Interval(60.0 * place, 60.0, name) for place, name in enumerate(("amusement", "rest", "walk")))
    warm = Signal.from_samples("TEMP", "temp", "degC", 4.0, np.full(720, 33.0))
    _, clean = measured_and_cleaned(Recording("S1", "", "r", (warm,), labels), rows="whole")
    for classes in (CLASSES, ()):
        assert overview_figure(clean, classes) is not None
        bars = [bar.get_facecolor()[0] for bar in figures.pop().axes[0].collections]
        shades = colours(classes, ("amusement", "rest", "walk"))
        assert [to_hex(bar) for bar in bars] == [shades[one.label][0] for one in labels]


def test_curves_that_are_explored_have_the_colours_of_their_picture() -> None:
    windows = Predictions(
        classes=CLASSES, keys=(("S01", "", "r"),) * 2, onset=np.array([0.0, 10.0]), duration=np.full(2, 10.0),
        label=("", ""), predicted=("rest", "stress"), probabilities=np.full((2, 3), 1 / 3), quality=np.ones(2),
    )  # fmt: skip
    figure = timeline_figure(windows, "t")
    page = unescape(report_of(Head("x", "y"), [Section("one", "One", figures=(figure,))]))
    [shades] = re.findall(r'data-shades="(\[.*?\])"', page)
    assert json.loads(shades) == [shade for shade, _ in colours(CLASSES).values()]
    assert [shade for shade in json.loads(shades) if shade.encode() not in figure.svg] == []


def test_the_viewer_draws_channels_in_the_colours_of_every_other_page() -> None:
    [first] = re.findall(r'lines: \["(.*?)"\]', asset("biopercept.viewing", "viewer.js"))[:1]
    assert first.split('", "')[:3] == list(LINES[:3])


def luminance(colour: Any) -> float:
    """Return the relative luminance of a colour after WCAG 2.2: "#rrggbb", or three numbers from 0 to 1."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: Any, other: Any) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def turned_dark(colour: Any) -> tuple[float, ...]:
    """Return a colour after invert(0.9) hue-rotate(180deg) of the Filter Effects module."""
    weights = np.array([0.213, 0.715, 0.072])
    turn = 2 * np.tile(weights, (3, 1)) - np.eye(3)
    inverted = 0.9 - 0.8 * np.array(to_rgb(colour))
    return tuple(np.clip(turn @ inverted, 0, 1))


def themes(package: str, name: str) -> list[dict[str, str]]:
    """Return the colours by name of a style on a light page and on a dark one."""
    found = re.findall(r":root \{ (--ink.*?) \}", asset(package, name))
    assert len(found) == 2
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", one)) for one in found)
    return [light, {**light, **dark}]


@pytest.mark.parametrize("style", [("biopercept.report", "report.css"), ("biopercept.viewing", "viewer.css")])
def test_text_stands_out_from_its_ground_on_light_and_dark_pages(style: tuple[str, str]) -> None:
    for theme in themes(*style):
        for text in ("ink", "soft", "blue", "grave"):
            assert [contrast(theme[text], theme[ground]) >= 4.5 for ground in ("paper", "ground")] == [True, True], text


def test_what_figures_draw_stands_out_from_paper_and_from_a_dark_page() -> None:
    """By 3 to 1, as WCAG 2.2 asks of graphics."""
    assert "filter: invert(0.9) hue-rotate(180deg); } /* drawn on white" in asset("biopercept.report", "report.css")
    classes = [shade for shade, _ in colours([f"class {k}" for k in range(12)]).values()]
    for colour in (*classes, *LINES, FAINT, GREEN, INK):
        assert contrast(colour, "#ffffff") >= 3, colour
        assert contrast(turned_dark(colour), turned_dark("#ffffff")) >= 3, colour
    assert len({*classes}) == 6 and len(set(colours([str(k) for k in range(24)]).values())) == 24
    first = list(map(luminance, classes[:3]))
    assert abs(first[0] - first[1]) > 0.1 < abs(first[1] - first[2]) + 0.01  # told apart without hues


def test_what_spoils_a_signal_stands_out_from_what_is_good_however_little_it_spoils(figures: list[Any]) -> None:
    assert len(set(SPOILING)) == len(SPOILING) == len(REASONS)
    for colour in SPOILING:
        for ground in ("#ffffff", GOOD):
            assert contrast(colour, ground) >= 3, colour
            assert contrast(turned_dark(colour), turned_dark(ground)) >= 3, colour
    index = np.repeat([[1.0, 0.75, 0.5, 0.0]], 30, axis=0).T.reshape(1, -1)
    shares = {"flat": np.asarray(1.0 - index), "noise": np.zeros_like(index)}
    rated = RatedSignal("EDA", "eda", ("EDA",), SignalQuality(index, shares, index))
    assert strips_figure(RecordingQuality("S01", "", "r", (rated,))).svg
    image = np.asarray(figures[0].axes[0].images[0].get_array())
    of_flat = np.all(np.isclose(image, to_rgb(SPOILING[list(REASONS).index("flat")])), axis=2)
    of_good = np.all(np.isclose(image, GOOD), axis=2)
    assert (of_flat | of_good).all()  # no shade between the two
    assert [round(float(of_flat[:, at].mean()), 2) for at in (10, 40, 70, 100)] == [0, 0.25, 0.5, 1]
    assert of_flat[-1, 40] and not of_flat[0, 40]  # bars stand on the ground


def test_what_the_viewer_draws_stands_out_on_both_pages() -> None:
    script = asset("biopercept.viewing", "viewer.js")
    for name, paper in (("LIGHT", "#ffffff"), ("DARK", "#1b222a")):
        [block] = re.findall(rf"const {name} = \{{(.*?)\n\}};", script, flags=re.DOTALL)
        assert f'paper: "{paper}"' in block
        [lines] = re.findall(r"lines: \[(.*?)\]", block)
        [marks] = re.findall(r"marks: \{(.*?)\}", block)
        quality = " ".join(re.findall(r'(?:good|bad): "#[0-9a-f]{6}"', block))
        drawn = re.findall(r"#[0-9a-f]{6}", lines + marks + quality)
        assert len(drawn) == 11
        assert [colour for colour in drawn if contrast(colour, paper) < 3] == []
        of_classes = [shade for shade, _ in colours([f"class {k}" for k in range(6)]).values()]
        assert [shade for shade in of_classes if shade != "#000000" and contrast(shade, paper) < 3] == []
    assert script.count('=== "#000000" ? C.ink') == 3  # black is the ink of the page


def test_explored_curves_are_turned_dark_as_their_picture_is() -> None:
    style = asset("biopercept.report", "report.css")
    assert ".plot img, .curves canvas, .curves .u-marker { filter: invert(0.9) hue-rotate(180deg); }" in style
    assert "getComputedStyle" not in asset("biopercept.report", "curves.js")  # drawn in the inks of a light page


def test_a_table_without_a_row_is_a_word_and_no_heading_over_nothing() -> None:
    empty = Table("0 spoilt stretches", ("Signal", "Why"), (), (False, False))
    page = report_of(Head("x", "y"), [Section("one", "One", tables=(empty,))])
    assert "<p>0 spoilt stretches: none.</p>" in page and "<thead>" not in page
