"""The demo: its study is copied whole, and what is of another store is made anew while the rest is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biopercept.cli import demo as command
from biopercept.resources import copy_sample_study, sample_study
from biopercept.studies.loading import load_study


def test_the_sample_study_is_copied_whole_and_loads(tmp_path: Path) -> None:
    copy_sample_study(tmp_path / "study")
    with sample_study() as source:
        wanted = {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    copied = tmp_path / "study"
    assert {p.relative_to(copied): p.read_bytes() for p in copied.rglob("*") if p.is_file()} == wanted
    assert set(command.UNSEEN) <= set(load_study(copied).subjects)


def test_a_copy_that_is_there_is_kept(tmp_path: Path) -> None:
    copy_sample_study(tmp_path / "study")
    (tmp_path / "study" / "note.txt").write_text("mine")
    copy_sample_study(tmp_path / "study")
    assert (tmp_path / "study" / "note.txt").is_file()


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, None), (json.dumps({"run": {"store": "abc"}}), "abc"), ("{", "unreadable"), ("[]", "unreadable")],
)
def test_scores_tell_which_store_they_are_of(tmp_path: Path, content: str | None, found: str | None) -> None:
    if content is not None:
        (tmp_path / "folds.json").write_text(content)
    assert command._scored_store(tmp_path) == found


def test_starting_anew_removes_what_the_demo_wrote_and_nothing_else(tmp_path: Path) -> None:
    for name in ("study/a.txt", "scores/b.txt", "model/c.txt", "mine/d.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    for name in ("study.h5", "report.html", "mine.txt"):
        (tmp_path / name).write_text("x")
    command._clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.txt"]
