"""Score tables and warnings: golden text, no markup read from data, what must be said is said."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from biopercept.errors import StudyError
from biopercept.report.page import print_scores
from biopercept.report.scores import score_table
from biopercept.report.text import Table, listed, shortened, shown, terminal_table, turned, with_interval
from biopercept.report.warnings import warnings_of
from biopercept.results.folder import load_results


def on_terminal(table: Table, width: int = 78) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, markup=True).print(terminal_table(table))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


GOLDEN = """\
Scores: mean over subjects [95 % bootstrap interval over subjects]

                               perceiver-io            clock-only (probe)
 ───────────────────────────────────────────────────────────────────────────
 Balanced accuracy             0.812 [0.762, 0.853]    0.948 [0.898, 0.988]
 Macro-F1                      0.701 [0.660, 0.740]    0.701 [0.660, 0.740]
 AUROC per subject             0.803 [0.760, 0.840]    0.803 [0.760, 0.840]
 AUROC pooled                  0.792                   0.792
 Median over subjects          0.720                   0.720
 Worst subject                 0.708                   0.917
 Subjects below chance         0 of 8                  0 of 8
 Chance: guessing              0.500                   0.500
 Chance: majority (accuracy)   0.690                   0.690
 Chance: class fractions       0.499                   0.499
 Brier score                   0.183                   0.183
 Calibration error             0.046                   0.046
 Normalisation                 causal                  causal
 Split                         leave one subject out   leave one subject out
 Subjects                      8                       8
 Windows                       192                     192
"""


def test_the_score_table_reads_as_agreed(demo: Path) -> None:
    held = [v for v in load_results(demo).cross_validations if v.model != "logistic"]
    assert on_terminal(turned(score_table(held))).strip() == GOLDEN.strip()


def test_a_transductive_model_is_flagged_in_the_table(tmp_path: Path, write_validation: Callable[..., Path]) -> None:
    write_validation(tmp_path / "a", transductive=True, normalisation="recording")
    assert "recording (TRANSDUCTIVE)" in on_terminal(turned(score_table(load_results(tmp_path).cross_validations)))


def test_cells_are_text_on_the_terminal() -> None:
    names = ("[uV]", "[/bold]", "[bold]x", "a\x1b[31mb", ":smile:", "\u202etxt")
    text = on_terminal(Table("[red]t", names, (names,), (False,) * 6), width=120)
    for name in ("[red]t", "[uV]", "[/bold]", "[bold]x", r"a\x1b[31mb", ":smile:", r"\u202etxt"):
        assert name in text, name
    assert "\x1b" not in text


def test_printing_needs_a_finished_cross_validation(
    tmp_path: Path, write_store_log: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_store_log(tmp_path / "s.log.csv")
    with pytest.raises(StudyError, match=r"holds no finished cross-validation; scores\.json is needed"):
        print_scores(tmp_path)
    assert capsys.readouterr().out == ""


def sentences(folder: Path) -> list[str]:
    return [warning.text for warning in warnings_of(load_results(folder))]


def test_one_sentence_says_that_the_clock_beats_both_models(demo: Path) -> None:
    found = [text for text in sentences(demo) if "clock-only" in text]
    assert len(found) == 1
    assert "logistic reaches" in found[0] and "perceiver-io reaches" in found[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"transductive": True, "normalisation": "recording"}, "is transductive: its inputs were scaled"),
        ({"balanced_accuracy": {"mean": 0.52, "ci95": [0.48, 0.56]}}, "not shown to be better than guessing"),
        ({"balanced_accuracy": {"mean": 0.9, "ci95": [0.88, 0.92], "sd": 0.01}}, "so look for a leak"),
        ({"balanced_accuracy": {"mean": None, "ci95": None}}, "is not defined"),
        ({"auroc": {"mean": 0.8, "pooled": 0.7}}, "0.800 within subjects and 0.700 pooled"),
        ({"ece": 0.2}, "do not read them as chances"),
        ({"split": "time"}, "say nothing about people never seen"),
        ({"n_subjects": 9}, "counts 9 subjects and scores.csv has 8"),
        ({"warnings": ["LEAK: odd"]}, "LEAK: odd (perceiver-io)."),
    ],
)
def test_what_must_be_said_is_said(
    tmp_path: Path, write_validation: Callable[..., Path], changes: dict[str, object], sentence: str
) -> None:
    quiet = sentences(write_validation(tmp_path / "quiet"))
    assert quiet == ["Only 8 subjects: the intervals are rough, and small differences between models mean nothing."]
    assert any(sentence in text for text in sentences(write_validation(tmp_path / "loud", **changes)))


def test_models_scored_on_different_windows_are_not_compared_in_silence(
    tmp_path: Path, write_validation: Callable[..., Path]
) -> None:
    write_validation(tmp_path / "a")
    write_validation(tmp_path / "b", model="logistic", subjects=("S01", "S02", "S03"))
    assert any("were not scored on the same windows" in text for text in sentences(tmp_path))


def test_numbers_and_names_are_worded_once_for_all() -> None:
    assert with_interval(0.73, (0.693, 0.766)) == "0.730 [0.693, 0.766]"
    assert with_interval(None, None) == "n/a"
    assert shown("a\nb\ud800") == r"a\nb\ud800"
    assert shortened("x" * 300, 10) == "xxxxxx…xxx"
    assert listed(("a", "b", "c"), limit=2) == "a, b and 1 more"
