"""Figures and counts: counted as scikit-learn counts, drawn the same each time, all data as text."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from biopercept.recording import AlignedFile, Alignment
from biopercept.report.drawing import draw, name_rows
from biopercept.report.recording_quality import clock_figure
from biopercept.report.score_figures import confusion_counts, reliability_bins, subjects_figure
from biopercept.report.score_sections import subject_timelines, write_figures
from biopercept.report.timelines import overview_figure, timeline_figure
from biopercept.results.cross_validation import load_cross_validation
from biopercept.results.predictions import Predictions

pytestmark = pytest.mark.figures

NAMES = (
    "confusion",
    "data-overview",
    "quality",
    "reliability",
    "subjects",
    "timeline-best",
    "timeline-median",
    "timeline-worst",
)


def predictions(second: np.ndarray, label: list[str]) -> Predictions:
    n = len(label)
    return Predictions(
        classes=("rest", "stress"),
        keys=(("S1", "", "r"),) * n,
        onset=np.arange(n) * 30.0,
        duration=np.full(n, 60.0),
        label=tuple(label),
        predicted=tuple("stress" if p > 0.5 else "rest" for p in second),
        probabilities=np.stack([1 - second, second], axis=1),
        quality=np.full(n, np.nan),
    )


def test_the_confusion_matrix_counts_as_scikit_learn_does(finished: Path) -> None:
    held = load_cross_validation(finished).predictions
    expected = confusion_matrix(held.label, held.predicted, labels=list(held.classes))
    assert np.array_equal(confusion_counts(held), expected)


def test_reliability_bins_hold_every_window_once_and_are_of_equal_size() -> None:
    generator = np.random.default_rng(3)
    second = generator.uniform(size=3000)
    label = ["stress" if u < p else "rest" for u, p in zip(generator.uniform(size=3000), second, strict=True)]
    bins = reliability_bins(predictions(second, label))
    assert bins is not None
    assert bins.n.sum() == 3000 and set(bins.n.tolist()) == {200}
    assert np.all(np.diff(bins.predicted) > 0) and np.max(np.abs(bins.observed - bins.predicted)) < 0.12
    order = np.argsort(second)[:200]
    assert bins.predicted[0] == pytest.approx(second[order].mean())
    assert bins.observed[0] == pytest.approx(np.mean([label[row] == "stress" for row in order]))


def test_a_model_that_says_one_thing_has_one_bin() -> None:
    bins = reliability_bins(predictions(np.full(40, 0.3), ["rest"] * 30 + ["stress"] * 10))
    assert bins is not None
    assert bins.n.tolist() == [40] and bins.observed.tolist() == [0.25] and bins.predicted[0] == pytest.approx(0.3)


def test_windows_without_a_label_are_not_counted() -> None:
    held = predictions(np.array([0.9, 0.2, 0.7]), ["stress", "", ""])
    assert confusion_counts(held).sum() == 1
    assert reliability_bins(predictions(np.array([0.9]), [""])) is None


def test_figures_are_written_and_have_equal_bytes_each_time(finished: Path) -> None:
    paths = write_figures(finished)
    assert sorted(path.name for path in paths) == [f"{name}.svg" for name in NAMES]
    first = [path.read_bytes() for path in paths]
    assert first == [path.read_bytes() for path in write_figures(finished)]


def test_the_users_own_settings_of_matplotlib_do_not_reach_a_figure(finished: Path) -> None:
    held = load_cross_validation(finished)
    plain = subjects_figure(held).svg
    with mpl.rc_context({"text.usetex": True, "font.size": 40, "axes.facecolor": "black"}):
        assert subjects_figure(held).svg == plain
        assert mpl.rcParams["font.size"] == 40


def test_timelines_show_the_worst_the_median_and_the_best_subject(finished: Path) -> None:
    held = load_cross_validation(finished)
    scores = {s.participant: s.balanced_accuracy for s in held.subjects}
    worst, median, best = subject_timelines(held)
    ordered = sorted(scores, key=lambda name: (scores[name], name))
    half = statistics.median(scores.values())
    middle = min(ordered, key=lambda name: abs(scores[name] - half))
    for figure, subject in ((worst, ordered[0]), (median, middle), (best, ordered[-1])):
        assert figure.title == f"Timeline of {subject}, run1"
        assert f"({scores[subject]:.3f})" in figure.caption


def test_a_name_in_a_script_the_font_lacks_is_no_crash_and_no_warning() -> None:
    held = predictions(np.linspace(0, 1, 6), ["rest"] * 6)
    hostile = Predictions(
        **{**vars(held), "keys": (("被験者\U0001f600 \\alpha_{", "", "r"),) * 6, "classes": ("rest", "$x_{$ 被")}
    )
    hostile = Predictions(**{**vars(hostile), "predicted": ("rest",) * 6})
    assert "被験者" in timeline_figure(hostile, "timeline").title


def test_a_class_whose_name_begins_with_an_underscore_is_in_the_legend() -> None:
    held = predictions(np.linspace(0, 1, 6), ["rest"] * 6)
    hidden = Predictions(**{**vars(held), "classes": ("rest", "_hidden"), "predicted": ("rest",) * 6})
    assert b"<!-- _hidden -->" in overview_figure(hidden).svg


def test_the_figure_of_a_clock_has_each_piece_where_it_lies() -> None:
    pieces = ((0.0, 0.01), (600.0, -0.02), (1200.0, 0.01))
    clock = Alignment(1.5, 50.0, 0.02, 20.0, 0.014, 3, 0.9, pieces, n_sought=5)
    aligned = AlignedFile("<right>.csv", "left.csv", "motion", clock)
    drawing = clock_figure(aligned)
    assert drawing.svg == clock_figure(aligned).svg
    assert (
        "offset +1.500 s (sd 0.020), drift +50.0 ppm (sd 20.0), residual 0.014 s over 3 of 5 pieces" in drawing.caption
    )
    others = [replace(clock, pieces=(*pieces[:2], (1200.0, 0.011))), replace(clock, drift_sd=21.0)]
    assert all(clock_figure(replace(aligned, alignment=other)).svg != drawing.svg for other in others)
    assert clock_figure(AlignedFile("a", "b", "events", Alignment(1.5, 0.0, np.nan, np.nan, 0.0, 1))).svg


def test_a_figure_without_numbers_of_its_own_gives_those_of_its_lines_and_bars() -> None:
    def paint(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        left.set_title("waves\nof S01")
        left.plot([0.0, 1.0], [2.0, np.nan], label="=ECG")
        left.plot([0.5], [1.0], "v")
        left.axvline(0.3)
        right.barh([0, 1], [3.0, -1.0])
        name_rows(right, ["EDA", "TEMP"])
        right.set_ylabel("sensor")

    data = draw("f", "F", "C.", 2.0, paint).data
    assert data is not None
    assert data.columns == ("panel", "curve", "x", "y")
    assert data.rows[0] == ("waves of S01", "=ECG", 0.0, 2.0)
    assert data.rows[2:] == (
        ("waves of S01", "", 0.5, 1.0),
        ("sensor", "EDA", 3.0, None),
        ("sensor", "TEMP", -1.0, None),
    )
    assert data.csv.splitlines()[2] == b"waves of S01,'=ECG,1,"
    many = draw("f", "F", "C.", 2.0, lambda figure: figure.subplots().plot(range(2001), range(2001)))
    assert many.data is None
    assert draw("f", "F", "C.", 2.0, lambda figure: figure.subplots().axhline(0.0)).data is None
