"""Scores by study in the report: every study of ``scores.json`` is a row, and one store alone has no such table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from biopercept.errors import StudyError
from biopercept.report.page import write_report
from biopercept.report.score_figures import subjects_figure
from biopercept.report.scores import model_card_table, study_table
from biopercept.report.warnings import warnings_of
from biopercept.results.cross_validation import load_cross_validation
from biopercept.results.folder import load_results
from biopercept.results.reading import few_subjects_warnings

STUDIES = {
    "wesad": {
        "n_subjects": 5,
        "balanced_accuracy": {"mean": 0.8123, "ci95": [0.7511, 0.8702]},
        "macro_f1": {"mean": 0.8011, "ci95": [0.7, 0.9]},
        "auroc": {"mean": None, "ci95": None},
    },
    "noneeg": {
        "n_subjects": 3,
        "balanced_accuracy": {"mean": 0.6034, "ci95": None},
        "macro_f1": {"mean": 0.5, "ci95": [0.4, 0.6]},
        "auroc": {"mean": 0.65, "ci95": [0.6, 0.7]},
    },
}


def test_every_study_is_a_row_with_its_own_intervals(tmp_path: Path, write_validation: Callable[..., Path]) -> None:
    folder = write_validation(tmp_path / "joint", split="study", studies=STUDIES)
    held = load_cross_validation(folder)
    table = study_table(held.model, held.split, held.studies)
    assert table is not None
    assert table.title == "perceiver-io by study (leave one study out): 2 studies"
    assert table.columns == ("Study", "Subjects", "Balanced accuracy", "Macro-F1", "AUROC per subject")
    assert table.rows == (
        ("wesad", "5", "0.812 [0.751, 0.870]", "0.801 [0.700, 0.900]", "n/a"),
        ("noneeg", "3", "0.603", "0.500 [0.400, 0.600]", "0.650 [0.600, 0.700]"),
    )
    page = write_report(folder).read_text(encoding="utf-8")
    assert table.title in page and "0.812 [0.751, 0.870]" in page
    assert page.count("leave one study out") >= 2  # the table's title and the split in the scores


def test_models_side_by_side_have_a_table_each_and_probes_none(
    tmp_path: Path, write_validation: Callable[..., Path]
) -> None:
    for model in ("perceiver-io", "logistic", "clock-only"):
        write_validation(tmp_path / model, model=model, studies=STUDIES)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("<caption><span>perceiver-io by study") == page.count("<caption><span>logistic by study") == 1
    assert "clock-only by study" not in page


def test_one_store_alone_has_no_such_table(finished: Path) -> None:
    assert load_cross_validation(finished).studies == {}
    assert "by study" not in write_report(finished).read_text(encoding="utf-8")


def test_a_damaged_study_is_named(finished: Path) -> None:
    scores = json.loads((finished / "scores.json").read_text())
    scores["studies"] = {"wesad": {"n_subjects": 5, "balanced_accuracy": 0.8}}
    (finished / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    with pytest.raises(StudyError) as refused:
        load_cross_validation(finished)
    path = finished / "scores.json"
    sentence = "has 0.8 for 'studies.wesad.balanced_accuracy'; an object with named values or null is needed"
    assert str(refused.value) == f"{path} {sentence}"


def test_what_to_read_first_names_the_study_where_there_are_several(
    tmp_path: Path, write_validation: Callable[..., Path]
) -> None:
    for study in ("first", "second"):
        path = write_validation(tmp_path / study, study=study, warnings=["only 8 subjects: intervals are rough"])
        scores = json.loads((path / "scores.json").read_text())
        scores["fingerprint"]["store"] = study
        (path / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    texts = [warning.text for warning in warnings_of(load_results(tmp_path))]
    assert [text for text in texts if not text.startswith(("first: ", "second: "))] == []
    assert [text for text in texts if "intervals are rough" in text] == [
        "first: Only 8 subjects: intervals are rough (perceiver-io).",
        "second: Only 8 subjects: intervals are rough (perceiver-io).",
    ]
    alone = [warning.text for warning in warnings_of(load_results(tmp_path / "first"))]
    assert [text for text in alone if text.startswith("first: ")] == [] and len(alone) * 2 == len(texts)


def test_one_person_is_said_to_have_no_interval(tmp_path: Path, write_validation: Callable[..., Path]) -> None:
    run = load_cross_validation(write_validation(tmp_path / "cv", study="made"))
    alone = replace(run, n_subjects=1, balanced_accuracy=replace(run.balanced_accuracy, ci95=None))
    accuracy = dict(model_card_table(alone).rows)["Balanced accuracy"]
    assert accuracy.endswith(" (mean over 1 subject, no interval)")
    assert "without an interval" in subjects_figure(alone).caption
    assert "the band is its 95 % bootstrap interval" in subjects_figure(run).caption
    assert few_subjects_warnings(1) == ["only 1 subject: there is no interval, and nothing is said of other people"]
    assert few_subjects_warnings(2)[0].startswith("only 2 subjects: intervals are rough")
