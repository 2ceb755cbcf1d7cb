"""The names of the package: docs/python.md runs as it stands, and what cannot be meant is refused by name."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from made_tables import people, write_study
from typer.testing import CliRunner

import biopercept as bp
from biopercept import notebook
from biopercept.cli.main import build_app
from biopercept.errors import OutputError, SettingsError

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_on_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert (tmp_path / "scores.html").is_file()
    features, scores, prepared = names["features"], names["scores"], names["prepared"]
    assert len(features) == 40  # type: ignore[arg-type]
    assert features["heart/rate_mean"].between(40, 120).all()  # type: ignore[index]
    assert list(scores.to_frame()["participant_id"]) == names["people"]  # type: ignore[attr-defined]
    assert set(prepared.to_frame()["status"]) == {"prepared"}  # type: ignore[attr-defined]
    predicted = names["predictions"].to_frame()  # type: ignore[attr-defined]
    probabilities = predicted.filter(like="probability_").sum(axis=1)
    assert probabilities[predicted["reason"] == ""].round(6).eq(1.0).all()
    assert (tmp_path / "models" / "S04" / "card.md").is_file()
    words = ["evaluate", "models/everybody", "sample.h5", "-o", "typed", "--subjects", "S04", "-q"]
    assert CliRunner().invoke(build_app(), words).exit_code == 0
    typed = (tmp_path / "typed" / "scores.json").read_text()
    assert re.sub(r'"seconds":.*', "", typed) == re.sub(
        r'"seconds":.*', "", (tmp_path / "external/scores.json").read_text()
    )
    assert list(names["external"].to_frame()["participant_id"]) == ["S04"]  # type: ignore[attr-defined]


def test_the_page_on_python_imports_nothing_but_the_package() -> None:
    assert set(re.findall(r"^\s*(?:import|from) (\S+)", PAGE, flags=re.M)) == {"biopercept"}


def test_every_name_of_the_package_is_there_and_listed() -> None:
    assert {name for name in dir(bp) if not name.startswith("__")} == set(bp._DOOR)
    assert all(callable(getattr(bp, name)) for name in bp._DOOR)
    with pytest.raises(AttributeError, match=r"has no attribute 'no_such'; it offers .*, cross_validate, "):
        _ = bp.no_such


def test_names_stay_functions_when_the_rooms_are_loaded() -> None:
    code = (
        "import importlib, pkgutil, biopercept as bp\n"
        "[importlib.import_module(f'biopercept.{module.name}') for module in pkgutil.iter_modules(bp.__path__)]\n"
        "print([name for name in bp._DOOR if not callable(getattr(bp, name))])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_settings_of_any_type_are_given_as_they_are() -> None:
    overrides = {"windows.length_seconds": 30, "evaluation.stratify": True, "evaluation.split": "k-fold"}
    settings = notebook._config(None, overrides)
    assert settings.windows.length_seconds == 30.0
    assert settings.evaluation.stratify is True
    assert settings.evaluation.split == "k-fold"


def test_a_wrong_setting_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the setting windows\.lenght_seconds is unknown; did you mean"):
        bp.features(tmp_path / "a.edf", overrides={"windows.lenght_seconds": 30})


def test_a_keyword_that_is_not_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="there is no keyword 'fold'; there are: task, subjects"):
        bp.cross_validate(tmp_path / "a.h5", tmp_path / "out", fold=5)  # type: ignore[call-arg]
    with pytest.raises(
        TypeError, match="there is no keyword 'by'; there are: task, subjects, exclude_subjects, missing_s"
    ):
        bp.evaluate(tmp_path / "model", tmp_path / "a.h5", tmp_path / "out", by="sex")  # type: ignore[call-arg]
    request = bp.EvaluationRequest(tmp_path / "a.h5")
    with pytest.raises(TypeError, match="the request says everything itself; leave out seed"):
        bp.cross_validate(request, tmp_path / "out", seed=1)


def test_results_that_are_there_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists and is not empty"):
        bp.compare(tmp_path, tmp_path)


def test_prepare_study_warns_of_all_that_the_command_warns_of(tmp_path: Path) -> None:
    tasks = "{t: {classes: {rest: [rest], task: [task]}}, u: {classes: {rest: [rest, task], gone: [gone]}}}"
    folder = write_study(tmp_path / "study", people(2, ("rest", 130), ("task", 70)), tasks=tasks)
    events = folder / "events.tsv"
    events.write_text(events.read_text() + "P02\tall\t900\t40\ttask\n")
    given = ["--subjects", "P02", "-c", "stress-wrist"]
    command = CliRunner().invoke(build_app(), ["prepare", str(folder), "-o", str(tmp_path / "a.h5"), *given])
    assert command.exit_code == 0, command.output
    expected = [line.removeprefix("warning: ") for line in command.stderr.splitlines() if line.startswith("warning: ")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bp.prepare_study(folder, tmp_path / "b.h5", "stress-wrist", subjects=["P02"])
    assert [str(warning.message) for warning in caught] == expected
    assert len(expected) == 4  # a class of nobody, windows too long for a class, for a label, a label beyond the end
