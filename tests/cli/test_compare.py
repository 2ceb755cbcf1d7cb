"""The compare command: words to stderr, results to stdout, refusals in one line and exit code 2."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from biopercept.cli import main as door


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A parent of two cross-validations of 12 subjects, one better for all of them."""
    write_run = import_module("comparison.conftest").write_run
    scores = [0.6 + 0.01 * i for i in range(12)]
    write_run(tmp_path / "runs" / "a", [s + 0.1 + 0.001 * i for i, s in enumerate(scores)], model="lstm")
    write_run(tmp_path / "runs" / "b", scores, model="lda")
    return tmp_path / "runs"


def outcome(words: list[str]) -> int:
    with pytest.raises(SystemExit) as leaving:
        door.main(words)
    assert isinstance(leaving.value.code, int)
    return leaving.value.code


def test_what_is_established_is_printed_and_written(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(["compare", str(runs), "-o", str(tmp_path / "out"), "--reference", "lda"]) == 0
    told = capsys.readouterr()
    assert "lstm is better than lda by 0.10" in told.out
    assert told.out.splitlines()[-1] == str(tmp_path / "out" / "compare.md")
    assert "Only 12 subjects" in told.err
    assert (tmp_path / "out" / "figures" / "differences.svg").is_file()


def test_json_is_the_file_and_nothing_else(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["compare", str(runs / "a"), str(runs / "b"), "-o", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out" / "compare.json").read_text())


def test_an_output_that_exists_is_replaced_only_on_demand(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(runs), "-o", str(tmp_path / "out")]
    assert [outcome(words), outcome(words), outcome([*words, "--overwrite"])] == [0, 2, 0]
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize("extra", [["--metric", "kappa"], ["--reference", "nobody"], ["--resamples", "100"]])
def test_a_wrong_option_is_exit_code_2_and_writes_nothing(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    assert outcome(["compare", str(runs), "-o", str(tmp_path / "out"), *extra]) == 2
    assert capsys.readouterr().err and not (tmp_path / "out").exists()


def test_what_cannot_be_compared_is_one_line(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((runs / "a" / "scores.json").read_text())
    (runs / "a" / "scores.json").write_text(json.dumps({**document, "fingerprint": {"store": "0" * 64}}))
    assert outcome(["compare", str(runs), "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("biopercept: b and a scored different stores; ")
    assert told.err.count("\n") == 1 and not (tmp_path / "out").exists()
