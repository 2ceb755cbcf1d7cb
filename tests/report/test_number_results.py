"""Reports of numbers and of several tasks: tables, warnings and figures from the files that are written."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from biopercept.errors import StudyError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings
from biopercept.report.page import print_scores, write_report
from biopercept.report.score_sections import write_figures
from biopercept.report.scores import number_table
from biopercept.report.warnings import warnings_of
from biopercept.results.cross_validation import load_validation
from biopercept.results.folder import load_results
from biopercept.results.predictions import load_lines
from biopercept.training.settings import FitSettings, TrainingSettings

FIT = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=1, batch_size=64),
)


@pytest.fixture(scope="module")
def results(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    store = made.store(folder / "made.h5", made.numbered(made.study(6)), task=(made.TASK, made.LOAD))
    evaluation = EvaluationSettings(split="k-fold", n_folds=3, n_bootstrap=100)
    for name, model, task in (
        ("ridge", "ridge", "load"),
        ("clock", "clock-only", "load"),
        ("joint", "perceiver-io", "stress,load"),
    ):
        request = EvaluationRequest(store, model, task, FIT, evaluation=evaluation)
        cross_validate(request, folder / "results" / name, config_text="windows: {}\n")
    return folder / "results"


def test_every_result_is_found_under_its_task_and_none_is_unfinished(results: Path) -> None:
    assert [held.name for held in load_results(results).cross_validations] == ["joint/stress"]
    assert load_results(results).unfinished == ()
    assert [held.name for held in load_results(results).number_validations] == ["joint/load", "ridge", "clock"]


def test_several_tasks_of_which_one_is_not_scored_are_unfinished(results: Path, tmp_path: Path) -> None:
    for name in ("folds.json",):
        (tmp_path / name).write_bytes((results / "joint" / name).read_bytes())
    with pytest.raises(StudyError, match="has not finished"):
        load_results(tmp_path)


def test_the_table_gives_error_and_agreement_with_intervals(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = load_validation(results / "ridge")
    row = dict(zip(number_table([held]).columns, number_table([held]).rows[0], strict=True))
    low, high = held.mae.ci95
    assert row["Mean absolute error"] == f"{held.mae.mean:.3f} [{low:.3f}, {high:.3f}]"
    low, high = held.ccc.pooled_ci95
    assert row["CCC pooled"] == f"{held.ccc.pooled:.3f} [{low:.3f}, {high:.3f}]"
    print_scores(results / "ridge")
    assert "Mean absolute error" in capsys.readouterr().out


def test_a_model_no_better_than_the_clock_is_said_to_be(results: Path) -> None:
    said = [warning.text for warning in warnings_of(load_results(results))]
    assert any(text.startswith("The probe clock-only errs by") and "where ridge errs by" in text for text in said)


def test_the_page_shows_numbers_and_figures_are_written_for_each_task(results: Path, tmp_path: Path) -> None:
    page = write_report(results, tmp_path / "page.html").read_text()
    assert "Predicted numbers" in page
    assert "Predicted and true load" in page
    names = [path.relative_to(results).as_posix() for path in write_figures(results / "joint")]
    assert "joint/load/figures/predicted-numbers.svg" in names
    assert "joint/stress/figures/confusion.svg" in names


def test_traces_and_numbers_of_predict_are_lines(tmp_path: Path) -> None:
    (tmp_path / "S1_trace.tsv").write_text(
        "onset\tprobability_a\tprobability_b\tn_windows\tlabel\n0\t0.2\t0.8\t1\ta\n5\t0.4\t0.6\t2\t\n"
    )
    (tmp_path / "S2_trace.tsv").write_text("onset\tpredicted\tn_windows\tlabel\n0\t3\t1\t4\n5\t2\t2\t\n")
    header = "onset\tduration\tpredicted\tquality\treason\tlabel\n"
    (tmp_path / "S1_predictions.tsv").write_text(header + "0\t20\t3.5\t1\t\t4\n10\t20\t\t1\tno signal\t\n")
    trace, of_numbers, numbers = load_lines(tmp_path, 6)
    assert (trace.names, trace.values[1].tolist(), trace.is_trace) == (
        ("probability_a", "probability_b"),
        [0.4, 0.6],
        True,
    )
    assert (of_numbers.names, of_numbers.values[0].tolist(), of_numbers.is_trace) == (
        ("predicted", "true"),
        [3.0, 4.0],
        True,
    )
    assert numbers.seconds.tolist() == [10.0, 20.0]
    assert numbers.values[0].tolist() == [3.5, 4.0]
