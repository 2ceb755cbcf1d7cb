"""The report command: prints the page's path and nothing else to stdout, refuses what exists, and explains itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from biopercept.cli.report import report
from biopercept.errors import OutputError, StudyError
from biopercept.files import write_table


@pytest.fixture
def app() -> typer.Typer:
    """The command alone."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(report)
    return app


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with the log of a store."""
    columns = ("participant_id", "session", "recording", "status", "seconds", "windows_labelled", "left_out", "message")
    write_table(tmp_path / "out" / "s.log.csv", columns, [("[bold]", "", "r", "prepared", 1.0, 3, "too short: 1", "")])
    return tmp_path / "out"


def test_the_path_of_the_page_is_the_only_line_on_stdout(app: typer.Typer, results: Path) -> None:
    outcome = CliRunner().invoke(app, [str(results)])
    assert outcome.exit_code == 0
    assert outcome.stdout == f"{results / 'report.html'}\n"
    assert "[bold]" in (results / "report.html").read_text(encoding="utf-8")


def test_a_page_that_exists_is_replaced_only_on_demand(app: typer.Typer, results: Path) -> None:
    page = results / "mine.html"
    page.write_text("mine")
    refused = CliRunner().invoke(app, [str(results), "-o", str(page)])
    assert isinstance(refused.exception, OutputError) and refused.exception.exit_code == 2
    assert page.read_text() == "mine"
    assert CliRunner().invoke(app, [str(results), "-o", str(page), "--overwrite"]).exit_code == 0
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_a_page_of_the_same_folder_is_replaced_and_one_of_another_or_changed_is_not(
    app: typer.Typer, results: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(results, other)
    page = tmp_path / "page.html"
    for _ in range(2):
        assert CliRunner().invoke(app, [str(results), "-o", str(page)]).exit_code == 0
    made = page.read_bytes()
    assert isinstance(CliRunner().invoke(app, [str(other), "-o", str(page)]).exception, OutputError)
    assert page.read_bytes() == made and str(tmp_path).encode() not in made
    page.write_bytes(made.replace(b"<h1>out</h1>", b"<h1>mine</h1>"))
    assert isinstance(CliRunner().invoke(app, [str(results), "-o", str(page)]).exception, OutputError)


def test_a_folder_without_results_is_one_sentence(app: typer.Typer, tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(outcome.exception, StudyError)
    assert not (tmp_path / "report.html").exists()
