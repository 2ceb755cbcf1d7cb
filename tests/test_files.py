"""Whole files and folders or nothing: what was there stays until the new one is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from biopercept.errors import BusyError, OutputError
from biopercept.files import only_writer, replacing, replacing_folder, write_table


def test_a_new_folder_takes_the_place_of_the_old_and_keeps_what_it_does_not_write(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    (target / "notes.txt").write_text("mine")
    with replacing_folder(target) as fresh:
        (fresh / "weights").write_text("new")
    assert (target / "weights").read_text() == "new"
    assert (target / "notes.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path, fault: type[BaseException]) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    with pytest.raises((KeyboardInterrupt, OutputError)), replacing_folder(target) as fresh:
        (fresh / "weights").write_text("half")
        raise fault
    assert (target / "weights").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "scores.json"
    target.write_text("old")
    with pytest.raises(OutputError, match=r"cannot write scores\.json"), replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        only_writer(tmp_path / "out"),
        pytest.raises(BusyError, match="another process is writing out"),
        only_writer(tmp_path / "out"),
    ):
        pass


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ("=id", "x"), [("+1", -1.5), ("@a", None), ("ok", float("nan"))])
    assert (tmp_path / "t.csv").read_text().splitlines() == ["'=id,x", "'+1,-1.5", "'@a,", "ok,"]
