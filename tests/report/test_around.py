"""The figure of what follows events: a line per condition, a band where there are several subjects, n in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from biopercept.measures.averages import MeanCourse
from biopercept.report import drawing
from biopercept.report.around import around_figure

OFFSETS = np.arange(-8, 40) / 4


def course(condition: str, series: str, height: float, n_subjects: int) -> MeanCourse:
    mean = height * np.maximum(OFFSETS, 0.0)
    reach = np.full(len(OFFSETS), 0.5 if n_subjects > 1 else np.nan)
    return MeanCourse(condition, series, OFFSETS, mean, mean - reach, mean + reach, n_subjects, 3 * n_subjects)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn while the test runs."""
    drawn: list[Any] = []
    monkeypatch.setattr(drawing, "rendered", lambda figure: drawn.append(figure) or b"<svg/>")
    return drawn


def test_each_series_has_a_panel_with_a_line_and_a_band_per_condition(figures: list[Any]) -> None:
    courses = [course(c, s, 1.0, 4) for s in ("heart_rate", "skin_conductance") for c in ("_loud", "soft")]
    shown = around_figure(courses)
    (figure,) = figures
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "change of heart rate,\n1/min",
        "change of skin conductance,\nuS",
    ]
    for axes, of_panel in zip(figure.axes, (courses[:2], courses[2:]), strict=True):
        for line, one in zip(axes.get_lines(), of_panel, strict=False):
            assert np.array_equal(line.get_ydata(), one.mean)
        assert len(axes.collections) == 2
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert texts == ["_loud (4 subjects, 12 events)", "soft (4 subjects, 12 events)"]
    assert "no interval" not in shown.caption


def test_a_condition_of_one_subject_has_no_band_and_says_so(figures: list[Any]) -> None:
    shown = around_figure([course("loud", "heart_rate", 1.0, 4), course("soft", "heart_rate", 2.0, 1)])
    (axes,) = figures[0].axes
    assert len(axes.collections) == 1
    assert axes.get_legend().get_texts()[1].get_text() == "soft (1 subject, no interval, 3 events)"
    assert shown.caption.endswith("Of one subject there is no interval: soft.")
    assert figures[0].get_supxlabel().replace("\n", " ") == shown.caption
