"""The command that made a folder: written once, as a shell takes it, without the user's home."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from biopercept.cli import main as door
from biopercept.errors import StudyError
from biopercept.results.command import add_command, commands_of


def test_commands_stand_in_order_each_once_and_a_first_one_replaces_them(tmp_path: Path) -> None:
    for words in (("a", "x y"), ("b",), ("a", "x y")):
        add_command(tmp_path, words, is_first=False)
    assert commands_of(tmp_path) == ("b", "a 'x y'")
    add_command(tmp_path, ("c",), is_first=True)
    assert commands_of(tmp_path) == ("c",)


def test_no_folder_of_the_machine_is_written(tmp_path: Path) -> None:
    words = ("predict", "/home/jane.doe/my model", "new/a.edf", "--with=/data/x.h5", "/srv/study/", "a/b", "1/2")
    add_command(tmp_path, words, is_first=False)
    assert commands_of(tmp_path) == ("predict 'my model' new/a.edf --with=x.h5 study a/b 1/2",)
    assert "jane" not in (tmp_path / "command.json").read_text()


def test_a_folder_without_has_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert commands_of(tmp_path) == ()
    (tmp_path / "command.json").write_text("{")
    with pytest.raises(StudyError, match=r"command\.json is not valid JSON"):
        commands_of(tmp_path)


def test_a_command_line_leaves_its_line_beside_its_results(tmp_path: Path) -> None:
    write_run = import_module("comparison.conftest").write_run
    scores = [0.6 + 0.01 * i for i in range(12)]
    for name in ("lstm", "lda"):
        write_run(tmp_path / "runs" / name, scores, model=name)
    words = ["compare", str(tmp_path / "runs"), "-o", str(tmp_path / "out"), "-q"]
    for more in ([], ["--overwrite"]):
        with pytest.raises(SystemExit) as leaving:
            door.main([*words, *more])
        assert leaving.value.code == 0
    assert commands_of(tmp_path / "out") == ("biopercept compare runs -o out -q --overwrite",)


def test_a_command_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit):
        door.main(["compare", str(tmp_path / "nothing"), "-o", str(tmp_path / "out")])
    assert list((tmp_path / "out").iterdir()) == []
