"""Curves in the report: every number of the files is shown, the random draw only with its stamp, faults are named."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from biopercept.errors import StudyError
from biopercept.report.curves import learning_figures, personal_figure, personal_sentences, personal_tables
from biopercept.report.drawing import Drawing, house_style
from biopercept.report.page import sections_of, write_report
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.results.folder import load_results
from biopercept.results.reading import read_result

pytestmark = pytest.mark.figures

STAMP = "CONTRAST, NOT A RESULT"


def point(tier: str, method: str, k: int, minutes: float, gain: float, **changes: Any) -> dict[str, Any]:
    def estimate(mean: float, below: int = 0) -> dict[str, Any]:
        return {"mean": mean, "ci95": [mean - 0.02, mean + 0.03], "n_subjects": 12, "n_below": below}

    held: dict[str, Any] = {
        "tier": tier, "method": method, "k": k, "n_subjects": 12, "label_minutes": minutes,
        "elapsed_minutes": minutes + 3, "n_subjects_fallen_back": 4, "n_subjects_unchecked": 0,
        "balanced_accuracy": estimate(0.7 + gain), "auroc": estimate(0.8 + gain),
    }  # fmt: skip
    if tier != "general":
        held["gain"] = {"balanced_accuracy": estimate(gain, 5), "auroc": estimate(gain / 2)}
    if tier == "random-draw contrast":
        held |= {"stamp": STAMP, "over_chronological": {"balanced_accuracy": estimate(0.0456)}}
    return held | changes


def write_personal(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    curve = [
        point("general", "general", 0, 0.0, 0.0),
        point("label-free", "reference", 0, 0.0, -0.0312),
        point("few-shot", "low-rank", 1, 2.0, 0.0, n_subjects_unchecked=12),
        point("few-shot", "low-rank", 3, 6.0, 0.0123),
        point("personal", "low-rank", 0, 17.5, 0.0234),
        point("personal", "scratch", 0, 17.5, -0.0678),
        point("random-draw contrast", "low-rank", 3, 5.5, 0.0789),
    ]
    document = {
        "schema": 1, "study": "made", "task": "stress", "normalisation": "causal", "chronology": "subject",
        "n_subjects": 12, "not_scored": {"S13": "too few windows of stress"}, "n_scored_windows": 340, "n_folds": 5,
        "classes": ["rest", "stress"], "split": "k-fold", "window_seconds": 60.0, "step_seconds": 30.0, "seed": 0,
        "n_bootstrap": 2000, "parameters": 1000, "seconds": 1.5, "subjects": [], "fingerprint": {},
        "seeds": 2, "gap_seconds": 60.0, "settings": {"unchecked": "keep"}, "curve": curve,
        "warnings": ["few-shot, k = 1: no label could be set aside"],
    }  # fmt: skip
    (folder / "personalisation.json").write_text(json.dumps(document | changes), encoding="utf-8")
    return folder


def write_learning(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    points = [
        {"share": share, "subjects_labelled": labelled, "task": task, "score": score, "mean": mean, "ci95": ci95}
        for task, score in (("stress", "balanced_accuracy"), ("load", "mae"))
        for share, labelled, mean, ci95 in (
            (1.0, [24, 25], 0.7345, [0.7001, 0.7612]),
            (0.25, [6, 6], 0.6123, [0.5512, 0.6634]),
        )
    ]
    document = {"schema": 1, "model": "logistic", "points": points, "warnings": ["labels of 6 of 24 were used"]}
    (folder / "learning_curve.json").write_text(json.dumps(document | changes), encoding="utf-8")
    return folder


def _personal(folder: Path) -> PersonalCurve:
    return read_result(folder / PersonalCurve.FILE, PersonalCurve)


def _learning(folder: Path) -> LearningCurve:
    return read_result(folder / LearningCurve.FILE, LearningCurve)


def painted(monkeypatch: pytest.MonkeyPatch, module: str, make: Callable[[], object]) -> Any:
    """Return the axes that a figure was drawn on."""
    from matplotlib.figure import Figure

    kept = []

    def draw(name: str, title: str, caption: str, height: float, paint: Callable[[Figure], None]) -> Drawing:
        with house_style():
            figure = Figure()
            paint(figure)
            kept.append(figure.axes[0])
        return Drawing(name, title, caption, b"")

    monkeypatch.setattr(f"biopercept.report.{module}.draw", draw)
    make()
    return kept[0]


def test_every_point_is_a_row_and_the_random_draw_stands_in_a_stamped_table(tmp_path: Path) -> None:
    results, contrast = personal_tables(_personal(write_personal(tmp_path / "curve")))
    assert [row[:6] for row in results.rows] == [
        ("label-free", "reference", "none", "0.0", "3.0", "12"),
        ("few-shot", "low-rank", "1", "2.0", "5.0", "12"),
        ("few-shot", "low-rank", "3", "6.0", "9.0", "12"),
        ("personal", "low-rank", "all", "17.5", "20.5", "12"),
        ("personal", "scratch", "all", "17.5", "20.5", "12"),
    ]
    assert results.rows[2][6:] == (
        "0.712 [0.692, 0.742]", "+0.012 [-0.008, +0.042]", "+0.006 [-0.014, +0.036]", "5", "4", "0",
    )  # fmt: skip
    assert [row[11] for row in results.rows] == ["0", "12", "0", "0", "0"]
    assert STAMP not in results.title and "+0.079" not in str(results.rows)
    assert contrast.title.startswith(f"{STAMP}: windows drawn at random")
    assert contrast.rows == (
        ("low-rank", "3", "5.5", "12", "+0.079 [+0.059, +0.109]", "+0.039 [+0.019, +0.069]", "+0.046 [+0.026, +0.076]"),
    )


def test_the_figure_has_a_line_per_method_with_intervals_and_the_contrast_dashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _personal(write_personal(tmp_path / "curve"))
    axes = painted(monkeypatch, "curves", lambda: personal_figure(held))
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["reference", "low-rank", "scratch", f"dashed: {STAMP}"]
    assert lines["low-rank"].get_ydata().tolist() == pytest.approx([0.0, 0.0123, 0.0234])
    assert lines["low-rank"].get_xdata().tolist() == pytest.approx([2.0, 6.0, 17.5], abs=0.5)
    assert lines["low-rank"].get_linestyle() == "-"
    dashed = [line for line in axes.lines if line.get_linestyle() == "--" and len(line.get_ydata())]
    assert [line.get_ydata().tolist() for line in dashed] == [pytest.approx([0.0789])]
    ends = sorted(tuple(bar.get_segments()[0][:, 1].round(4)) for bar in axes.collections)
    assert ends == sorted((round(g - 0.02, 4), round(g + 0.03, 4)) for g in (-0.0312, 0, 0.0123, 0.0234, -0.0678))
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_ydata().tolist() for line in hollow] == [[0.0]]


def test_without_a_contrast_nothing_speaks_of_one(tmp_path: Path) -> None:
    folder = write_personal(tmp_path / "curve")
    document = json.loads((folder / "personalisation.json").read_text())
    document["curve"] = [p for p in document["curve"] if p["tier"] != "random-draw contrast"]
    (folder / "personalisation.json").write_text(json.dumps(document), encoding="utf-8")
    held = _personal(folder)
    assert len(personal_tables(held)) == 1
    assert "CONTRAST" not in personal_figure(held).caption


def test_it_is_said_how_it_was_made_and_what_was_done_unchecked(tmp_path: Path) -> None:
    kept = " ".join(personal_sentences(_personal(write_personal(tmp_path / "a"))))
    assert "12 of 13 subjects scored, 5 folds over subjects, normalisation causal, 2 repetitions" in kept
    assert "balanced accuracy of 0.700 [0.680, 0.730] and an AUROC of 0.800 [0.780, 0.830]" in kept
    assert "with 60 s between them; the 340 scored windows are the same" in kept
    assert "set aside to check on, the general model was kept. Gains" in kept
    for number, settings in enumerate(({"unchecked": "adapt"}, {})):  # {}: of a version without the setting
        folder = write_personal(tmp_path / str(number), settings=settings)
        assert "made and the point is UNCHECKED" in personal_sentences(_personal(folder))[1]


def test_the_learning_curve_is_by_rising_share_with_a_figure_per_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _learning(write_learning(tmp_path / "curve"))
    assert [[p.share for p in points] for points in held.questions] == [[0.25, 1.0], [0.25, 1.0]]
    assert [figure.name for figure in learning_figures(held)] == ["learning-curve-1", "learning-curve-2"]
    axes = painted(monkeypatch, "curves", lambda: learning_figures(held))
    assert axes.get_ylabel() == "balanced accuracy"
    assert axes.lines[0].get_xydata().tolist() == [[6.0, 0.6123], [24.5, 0.7345]]
    ends = [bar.get_segments()[0].round(4).tolist() for bar in axes.collections]
    assert [[6.0, 0.5512], [6.0, 0.6634]] in ends and [[24.5, 0.7001], [24.5, 0.7612]] in ends
    assert [[24.0, 0.7345], [25.0, 0.7345]] in ends  # fewest and most labelled subjects of a fold


def test_the_page_shows_both_curves_and_what_they_warned_of(tmp_path: Path) -> None:
    write_personal(tmp_path / "own")
    write_learning(tmp_path / "labels", warnings=["labels of 6 of 24 were used", "LEAK: something"])
    results = load_results(tmp_path)
    assert [section.anchor for section in sections_of(results)] == ["learning-1", "personal-1"]
    text = write_report(tmp_path).read_text(encoding="utf-8")
    for words in (
        "1 learning curve, 1 own-label curve", "Learning curve: labels", "own are worth: own", STAMP,
        "0.735 [0.700, 0.761]", "24 to 25", "Labels of 6 of 24 were used (labels).",
        "Few-shot, k = 1: no label could be set aside (own).", '<li class="grave">LEAK: something (labels).',
    ):  # fmt: skip
        assert words in text, words
    assert 'id="personal-1-own-labels"' in text and 'id="learning-1-learning-curve-1"' in text


def test_an_unfinished_personal_curve_is_named_beside_what_is_shown(tmp_path: Path) -> None:
    write_personal(tmp_path / "done")
    (tmp_path / "done" / "personalisation_folds.json").write_text("{}", encoding="utf-8")
    (write_personal(tmp_path / "begun") / "personalisation.json").rename(
        tmp_path / "begun" / "personalisation_folds.json"
    )
    results = load_results(tmp_path)
    assert (results.unfinished, results.unfinished_curves) == ((), ("begun",))
    sentence = (
        "The curve over own labels in begun has not finished and is not shown; run its command again, it goes on."
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert sentence in page
    assert "in done has not finished" not in page


def test_a_warning_of_the_cross_validations_below_is_not_said_twice(
    tmp_path: Path, write_validation: Callable[..., Path]
) -> None:
    write_learning(tmp_path / "labels")
    write_validation(tmp_path / "labels" / "share-0.25", warnings=["labels of 6 of 24 were used"])
    assert write_report(tmp_path).read_text(encoding="utf-8").count("abels of 6 of 24 were used") == 1


def test_names_of_the_data_are_text_in_curves(tmp_path: Path) -> None:
    hostile = r"<script>$\zzz$"
    write_personal(tmp_path / "own", task=hostile, study=hostile)
    folder = write_learning(tmp_path / "labels", model=hostile)
    document = json.loads((folder / "learning_curve.json").read_text())
    document["points"][0]["task"] = hostile
    (folder / "learning_curve.json").write_text(json.dumps(document), encoding="utf-8")
    assert "<script>$" not in write_report(tmp_path).read_text(encoding="utf-8")


def test_figures_are_drawn_the_same_each_time_whatever_the_user_has_set(tmp_path: Path) -> None:
    held = _personal(write_personal(tmp_path / "curve"))
    first = personal_figure(held)
    with mpl.rc_context({"font.size": 30}):
        assert personal_figure(held).svg == first.svg
    assert base64.b64decode(first.data_uri.split(",")[1]) == first.svg


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 0}, "has schema 0; this version of biopercept reads schema 1"),
        ({"curve": []}, "has 0 points of the general model; one is needed"),
        ({"chronology": "any"}, "has 'any' for 'chronology'; one of subject, class is needed"),
        ({"settings": {"unchecked": 1}}, "has 1 for 'settings.unchecked'; one of keep, adapt is needed"),
        (
            {"curve": [point("few-shot", "magic", 1, 2.0, 0.1)]},
            "has 'magic' for 'curve[1].method'; one of general, reference, head, low-rank, full, scratch is needed",
        ),
        (
            {"curve": [{k: v for k, v in point("few-shot", "full", 1, 2.0, 0.1).items() if k != "gain"}]},
            ", curve[1], has no gain at a point of the tier few-shot; run personalise again",
        ),
        (
            {"curve": [{k: v for k, v in point("random-draw contrast", "full", 1, 2.0, 0.1).items() if k != "stamp"}]},
            ", curve[1], has no stamp at a point of the tier random-draw contrast; run personalise again",
        ),
    ],
)
def test_a_damaged_personal_curve_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = write_personal(tmp_path / "curve", **changes)
    with pytest.raises(StudyError) as refused:
        _personal(folder)
    assert str(refused.value) == f"{folder / 'personalisation.json'}{'' if words.startswith(',') else ' '}{words}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"points": []}, "has no points; run learning-curve again"),
        ({"model": None}, "has None for 'model'; text is needed"),
        (
            {"points": [{"share": 1, "task": "t", "score": "mae", "mean": 1}]},
            "has no 'points[1].subjects_labelled'; a list of two whole numbers of 0 or more, the lower one first, is "
            "needed, run learning-curve again",
        ),
    ],
)
def test_a_damaged_learning_curve_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = write_learning(tmp_path / "curve", **changes)
    with pytest.raises(StudyError) as refused:
        _learning(folder)
    assert str(refused.value) == f"{folder / 'learning_curve.json'}{'' if words.startswith(',') else ' '}{words}"
