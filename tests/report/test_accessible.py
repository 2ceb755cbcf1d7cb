"""Pages for keyboard and screen reader, read as HTML: language, headings, landmarks, names, tables, figures."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from biopercept.measures.quality import RatedSignal, RecordingQuality
from biopercept.measures.recording import measured_and_cleaned, whole_recording
from biopercept.preprocessing.quality import SignalQuality
from biopercept.recording import Interval, Recording, Signal
from biopercept.report.drawing import Drawing, FigureData
from biopercept.report.layout import Head, ReportWarning, Section, page_of
from biopercept.report.page import write_report
from biopercept.report.recording_quality import quality_page
from biopercept.report.recordings.page import page_of_recording
from biopercept.report.text import Table, turned
from biopercept.viewing.page import write_page as write_view
from biopercept.viewing.timeline import RECORDED, Timeline

VOID = {"meta", "img", "br", "wbr", "input", "link", "hr"}
LANDMARKS = {"header": 1, "main": 1, "footer": 1}


class Reading(HTMLParser):
    """Every element of a page in its order: name, attributes, those around it, and the text that is in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], tuple[int, ...]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(page)
        assert [self.elements[place][0] for place in self._open] == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, tuple(self._open)))
        self.texts.append("")
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.elements[self._open.pop()][0], tag

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.texts[place] += data

    def of(self, *tags: str) -> list[tuple[str, dict[str, str], str]]:
        """Return name, attributes and text of the elements of these names."""
        rows = zip(self.elements, self.texts, strict=True)
        return [(tag, attrs, text.strip()) for (tag, attrs, _), text in rows if tag in tags]


def faults(page: str) -> list[str]:
    """Return what stands between a page and a person who does not see it, or has no mouse."""
    reading, wrong = Reading(page), []
    [(_, html, _)] = reading.of("html")
    ids = [attrs["id"] for _, attrs, _ in reading.elements if "id" in attrs]
    wrong += [] if html.get("lang") == "en" else ["no language"]
    wrong += [f"the id {name} twice" for name in {*ids} if ids.count(name) > 1]
    levels = [int(tag[1]) for tag, _, _ in reading.of("h1", "h2", "h3", "h4")]
    wrong += [] if levels[:1] == [1] and levels.count(1) == 1 else ["not one h1, in front of all headings"]
    wrong += ["a level of headings is left out" for one, other in pairwise(levels) if other > one + 1]
    wrong += [f"{len(reading.of(tag))} of {tag}" for tag, n in LANDMARKS.items() if len(reading.of(tag)) != n]
    links = [attrs["href"] for tag, attrs, _ in reading.of("a") if attrs.get("href", "").startswith("#")]
    wrong += [f"a link to {link}, which is not there" for link in links if link[1:] not in ids]
    first = reading.of("a")[0][1]
    wrong += [] if first.get("class") == "skip" else ["no link that skips"]
    for tag, attrs, text in reading.of("button", "a", "summary", "h1", "h2", "h3"):
        if not (text or attrs.get("aria-label")):
            wrong.append(f"a {tag} without a name")
    for _, attrs, _ in reading.of("img"):
        wrong += [] if attrs.get("alt") else ["a picture without words"]
    for tag, attrs, _ in reading.of("figure", "nav", "section", "canvas"):
        named = attrs.get("aria-label") or attrs.get("aria-labelledby")
        wrong += [] if named or tag == "section" else [f"a {tag} without a name"]
    for _, attrs, _ in [(tag, attrs, text) for tag, attrs, text in reading.of(*{e[0] for e in reading.elements})]:
        for reference in ("aria-labelledby", "aria-controls"):
            wrong += [f"{reference} of nothing" for name in attrs.get(reference, "").split() if name not in ids]
        if attrs.get("tabindex") == "0" and attrs.get("role") != "slider" and not attrs.get("aria-label"):
            wrong.append("a stop of the keyboard without a name")
        if int(attrs.get("tabindex", "0")) > 0:
            wrong.append("a stop of the keyboard out of order")
    for _, attrs, text in reading.of("th"):
        wrong += [] if attrs.get("scope") in ("col", "row") else [f"a heading of a table without a scope: {text}"]
        wrong += [] if text else ["an empty heading of a table"]
    return wrong


def report_page(demo: Path) -> str:
    return write_report(demo).read_text(encoding="utf-8")


def page_with_everything() -> str:
    table = Table("things", ("Name", "Value"), (("a", "1"), ("b", "2")), (False, True))
    data = FigureData(("x", "y"), ((0, 1),), (("p", 1),))
    figure = Drawing("f", "Figure", "Caption.", b"<svg/>", data)
    one = Section(
        "one", "One", ("Lead.",), figures=(figure,), tables=(table, turned(table)), folded=(("More", "text"),)
    )
    return page_of(Head("x", "y"), [one], [ReportWarning(True, "careful")])


def recording_page() -> str:
    warm = Signal.from_samples("TEMP", "temp", "degC", 4.0, np.full(720, 33.0))
    recording = Recording("S1", "", "r", (warm,), (Interval(0.0, 60.0, "rest"),))
    features, clean = measured_and_cleaned(recording, rows="whole")
    return page_of_recording(features, clean, whole_recording(clean))


def page_of_quality() -> str:
    signal = RatedSignal("EDA", "eda", ("EDA",), SignalQuality(np.ones((1, 5)), {}, np.ones((1, 5))))
    return quality_page("made", [RecordingQuality("S01", "", "r", (signal,))], [("S02", "damaged")])


def view_page(folder: Path) -> str:
    labels = tuple(Interval(5.0 * k, 5.0, f"label {k}") for k in range(30))
    signal = Signal.from_samples("EDA", "eda", "uS", 4.0, np.ones((1, 600)))
    made = Timeline("S01", "", "t", RECORDED, 150.0, (signal,), labels=labels, notes=("a note",))
    write_view(made, folder / "view.html")
    return (folder / "view.html").read_text(encoding="utf-8")


@pytest.mark.figures
@pytest.mark.parametrize("page", [page_with_everything, recording_page, page_of_quality])
def test_a_page_can_be_used_without_eyes_and_without_a_mouse(page: Callable[[], str]) -> None:
    assert faults(page()) == []


def test_the_viewer_can_be_used_without_eyes_and_without_a_mouse(tmp_path: Path) -> None:
    assert faults(view_page(tmp_path)) == []


@pytest.mark.figures
def test_a_report_can_be_used_without_eyes_and_without_a_mouse(demo: Path) -> None:
    assert faults(report_page(demo)) == []


def test_what_is_looked_for_is_seen() -> None:
    page = page_with_everything()
    for words, other in (
        ('<html lang="en">', "<html>"),
        ("<h1>x</h1>", "<p>x</p>"),
        ('<h2 id="one-title">One</h2>', '<h4 id="one-title">One</h4>'),
        ('class="skip"', ""),
        ('href="#one"', 'href="#two"'),
        (' scope="col"', ""),
        ('alt="Figure. Caption."', ""),
        (' aria-labelledby="one-f-title"', ""),
        ('<div class="scroll" tabindex="0" role="group" aria-label="things">', '<div tabindex="0">'),
        ("<main id", "<div id"),
    ):
        assert words in page, words
        changed = page.replace(words, other)
        assert faults(changed.replace("</main>", "</div>") if other.startswith("<div id") else changed) != [], words
