"""A folder given to a command stands for the recordings in it, each under a name of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from biopercept.errors import RecordingError
from biopercept.prepare.sources import sources_of

TABLE = "time,EDA (uS)\n" + "".join(f"{i / 4},1\n" for i in range(40))


def test_recordings_of_a_folder_have_names_that_tell_them_apart(tmp_path: Path) -> None:
    for name in ("one.csv", "a/two.csv", "b/two.csv", "c/three.csv", "c/three.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TABLE.replace(",", "\t") if name.endswith(".tsv") else TABLE)
    sources = sources_of([tmp_path])
    assert {source.path.relative_to(tmp_path).as_posix(): source.subject for source in sources} == {
        "one.csv": "one",
        "a/two.csv": "a_two",
        "b/two.csv": "b_two",
        "c/three.csv": "c_three_csv",
        "c/three.tsv": "c_three_tsv",
    }
    assert [source.load().signals[0].n_samples for source in sources] == [40] * 5
    assert [source.subject for source in sources_of([tmp_path], subjects=["b_two"])] == ["b_two"]


def test_a_folder_without_recordings_fails_as_one_recording_and_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "one.csv").write_text(TABLE)
    empty, one = sources_of([tmp_path / "empty", tmp_path / "one.csv"])
    assert one.load().signals
    with pytest.raises(RecordingError, match=r"^empty: a folder that holds no recording of a known layout; read are"):
        empty.load()
