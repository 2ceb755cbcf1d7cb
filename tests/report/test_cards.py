"""Data card and model card: filled from the store, the table of people and the scores; what is not stated is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from biopercept.prepare.reuse import LogRow, log_path, write_log
from biopercept.report.page import cards_section, write_report
from biopercept.report.scores import model_card_table
from biopercept.report.study_sections import data_card, store_card
from biopercept.report.text import Table
from biopercept.results.cross_validation import CrossValidation, load_cross_validation
from biopercept.store.reading import open_store
from biopercept.version import INTENDED_USE, __version__

Write = Callable[..., Path]
ABOUT = {"description": "Eight people\nat  rest.", "licence": "CC0-1.0", "citation": "A. Author, Journal 1, 2020"}


def cells(table: Table) -> dict[str, str]:
    return dict(table.rows)


@pytest.fixture
def run(write_validation: Write, tmp_path: Path) -> CrossValidation:
    return load_cross_validation(write_validation(tmp_path / "cv", study="made"))


def test_the_data_card_says_what_study_and_store_say(made: ModuleType, tmp_path: Path, run: CrossValidation) -> None:
    path = made.store(tmp_path / "made.h5", made.study(9)[:9], about=ABOUT)
    with open_store(path) as store:
        assert dict(store.about) == ABOUT
        table = data_card(run, store, ("Age: mean 30.0 (n = 8).",))
    data, section = cells(table), cards_section(run, table, ("-2", ": made"))
    assert (section.anchor, section.title) == ("cards-2", "Data card and model card: made")
    assert data["Content"] == "Eight people at rest."
    assert (data["Licence"], data["To cite"]) == (ABOUT["licence"], ABOUT["citation"])
    assert data["People"] == "8 scored of 9 in the store. Age: mean 30.0 (n = 8)."
    assert data["Recordings"].startswith("9 recordings in 9 sessions, ")
    assert data["Signals"] == "eda, 1 channel at 4 Hz (in 8 recordings). Rates are those of the store."
    assert data["Windows scored"].startswith(f"{run.n_windows:,} of 60 s")
    assert data["Prepared with"] == f"biopercept {__version__}"
    assert data["Corrected by hand"] == "nothing"
    assert data["Fingerprint of the store"] == run.fingerprint["store"]
    assert data["Labels"] == "task stress: rest (labels: baseline), stress (labels: stroop); ignored: break"


def test_a_prepared_study_without_scores_has_its_card_too(made: ModuleType, tmp_path: Path) -> None:
    path = made.store(tmp_path / "made.h5", made.study(9)[:9], name="<made>", about=ABOUT)
    log = LogRow("S01", "", "", "prepared", 1.0, 3, 3)
    write_log(log_path(path), [log])
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\n" + "".join(f"{one.subject}\t{30 + i}\n" for i, one in enumerate(made.study(9)[:9]))
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Data card: &lt;made&gt;" in page and "Model card" not in page
    with open_store(path) as store:
        data = cells(store_card(store))
        assert data["Fingerprint of the store"] == store.fingerprint()
    assert data["Licence"] == ABOUT["licence"]
    assert data["People"] == "9. Age, sex and the like: not stated (columns of participants.tsv)."
    assert "9. Age: mean 34.0" in page
    assert data["Labels"].endswith("; ignored: break")
    assert data["How people were found, their consent, who set the labels, and when"].startswith("not known here")


def test_what_is_not_stated_is_said_with_where_it_belongs(
    made: ModuleType, tmp_path: Path, run: CrossValidation
) -> None:
    with open_store(made.store(tmp_path / "made.h5", made.study(8))) as store:
        assert dict(store.about) == {}
        stated = cells(data_card(run, store, ()))
    assert stated["Licence"] == "not stated (licence: in study.yaml, then prepare again)"
    assert stated["People"].endswith("Age, sex and the like: not stated (columns of participants.tsv).")
    without = cells(data_card(run, None, ()))
    assert without["Licence"].startswith("not known here") and "--with STORE" in without["Signals"]


def test_the_model_card_has_the_scores_and_what_was_not_measured(run: CrossValidation) -> None:
    model = cells(model_card_table(run))
    mean, (low, high) = run.balanced_accuracy.mean, run.balanced_accuracy.ci95
    assert model["Balanced accuracy"].startswith(f"{mean:.3f} [{low:.3f}, {high:.3f}] (mean over 8 subjects")
    assert model["Use"] == INTENDED_USE
    assert model["Not for"].startswith("Decisions about a person: no diagnosis")
    assert model["Guessing"] == f"{run.chance['dummy']:.3f} by the shares of the classes"
    assert model["Weights"].startswith("none kept")
    assert model["Probabilities"] == "not calibrated; Brier score 0.183, calibration error 0.046 over all windows"
    known = cells(model_card_table(replace(run, brier_ci95=(0.1, 0.2), ece_ci95=(0.03, 0.08))))
    assert known["Probabilities"].endswith("calibration error 0.046 [0.030, 0.080] over all windows")
    assert model["Groups of people"] == "not compared (cross-validate --by COLUMN)"
    assert model["Fitted to"].endswith("tested on people it has not seen")
    by_time = cells(model_card_table(replace(run, split="time")))
    assert by_time["Fitted to"].endswith("tested on later windows of the same people")
    told = cells(model_card_table(replace(run, warnings=("<b>", "two"))))
    assert told["Warnings"] == "2 warnings of this run, among those on top of this page"


def test_every_report_of_scores_has_both_cards(finished: Path) -> None:
    page = write_report(finished).read_text(encoding="utf-8")
    assert page.count('id="cards"') == 1 and "Data card: " in page and "Model card: " in page
