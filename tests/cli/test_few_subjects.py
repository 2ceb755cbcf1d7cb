"""Result files and pages call the same number of subjects few."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app


def run(*words: object) -> None:
    outcome = CliRunner().invoke(build_app(), [str(word) for word in (*words, "-q")], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output


@pytest.mark.parametrize(("n_subjects", "is_few"), [(19, True), (20, False)])
@pytest.mark.parametrize(("task", "model"), [("stress", "logistic"), ("load", "ridge")])
def test_scores_and_page_warn_of_fewer_than_twenty_subjects(
    made: ModuleType, tmp_path: Path, task: str, model: str, n_subjects: int, is_few: bool
) -> None:
    recordings = made.numbered(made.study(n_subjects))
    store = made.store(tmp_path / "made.h5", recordings, task=(made.TASK, made.LOAD))
    run("cross-validate", store, "-o", tmp_path / "cv", "--task", task, "--model", model,
        "--split", "k-fold", "--folds", 2, "--set", "evaluation.n_bootstrap=100")  # fmt: skip
    warnings = json.loads((tmp_path / "cv" / "scores.json").read_text())["warnings"]
    words = f"only {n_subjects} subjects: intervals are rough and small differences mean nothing"
    assert (words in warnings) == is_few
    run("report", tmp_path / "cv", "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8").lower()
    assert page.count(f"only {n_subjects} subjects") == is_few
