"""Sidecars: beside a table, or inherited from above as BIDS has it; the nearest goes first, value by value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.loaders.sidecars import inherited_files, read_sidecar, sidecars_of

NAME = "sub-01_ses-a_task-rest_recording-belt_physio"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A physio table of a data set whose folder is ``set``: sub-01/ses-a/func/..."""
    path = tmp_path / "set" / "sub-01" / "ses-a" / "func" / f"{NAME}.tsv.gz"
    path.parent.mkdir(parents=True)
    import gzip

    path.write_bytes(gzip.compress("".join(f"{i % 7}\t{i % 5}\n" for i in range(500)).encode()))
    return path


def write(path: Path, **content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


LEVELS = (
    f"sub-01/ses-a/func/{NAME}.json",
    "sub-01/ses-a/func/sub-01_task-rest_physio.json",
    "sub-01/ses-a/sub-01_ses-a_physio.json",
    "sub-01/sub-01_recording-belt_physio.json",
    "task-rest_physio.json",
    "physio.json",
)


@pytest.mark.parametrize("where", LEVELS)
def test_a_sidecar_applies_from_every_level(table: Path, tmp_path: Path, where: str) -> None:
    write(tmp_path / "set" / where, SamplingFrequency=50, StartTime=-2, Columns=["cardiac", "respiratory"])
    recording = load_recording(table)
    found = [(s.name, s.modality, s.sampling_rate, s.start_seconds) for s in recording.signals]
    assert found == [("cardiac", "bvp", 50.0, -2.0), ("respiratory", "resp", 50.0, -2.0)]


def test_the_nearest_goes_first_value_by_value(table: Path, tmp_path: Path) -> None:
    for number, where in enumerate(LEVELS):
        write(tmp_path / "set" / where, **{"SamplingFrequency": 10 + number, f"only{number}": {"Units": "V"}})
    write(tmp_path / "set" / LEVELS[2], SamplingFrequency=12, StartTime=3.5)
    assert [file.relative_to(tmp_path / "set").as_posix() for file in sidecars_of(table)] == list(LEVELS)
    sidecar = read_sidecar(table)
    assert (sidecar.sampling_rate, sidecar.start_seconds) == (10, 3.5)
    assert sorted(sidecar.units) == ["only0", "only1", "only3", "only4", "only5"]


@pytest.mark.parametrize(
    "where",
    [
        "task-move_physio.json",
        "task-rest_eeg.json",
        "task-rest_run-2_physio.json",
        "sub-01/sub-01_recording-ecg_physio.json",
        "sub-01/sub-02_physio.json",
        "notes_physio.json",
        "../physio.json",
        "../task-rest_physio.json",
    ],
)
def test_what_is_of_another_file_or_outside_the_data_set_does_not_apply(
    table: Path, tmp_path: Path, where: str
) -> None:
    write(tmp_path / "set" / where, SamplingFrequency=50)
    assert sidecars_of(table) == ()


def test_a_relative_path_has_the_same_sidecars(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in LEVELS:
        write(tmp_path / "set" / where, SamplingFrequency=50)
    monkeypatch.chdir(table.parent)
    assert sidecars_of(Path(table.name)) == sidecars_of(table)
    assert len(sidecars_of(table)) == len(LEVELS)


def test_a_table_without_entities_has_only_the_sidecar_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "made.csv"
    path.parent.mkdir()
    write(tmp_path / "physio.json", SamplingFrequency=50)
    assert sidecars_of(path) == ()
    beside = write(path.with_suffix(".json"), SamplingFrequency=50)
    assert sidecars_of(path) == (beside,)


def test_a_fault_is_told_of_the_file_that_has_it(table: Path, tmp_path: Path) -> None:
    write(tmp_path / "set" / LEVELS[0], StartTime=0, Columns=["cardiac", "respiratory"])
    write(tmp_path / "set" / "physio.json", SamplingFrequency=-1)
    with pytest.raises(RecordingError, match=r"^physio.json: SamplingFrequency is -1, allowed is more than 0"):
        load_recording(table)


def test_tables_of_another_kind_are_inherited_too(table: Path, tmp_path: Path) -> None:
    (tmp_path / "set" / "task-rest_events.tsv").touch()
    (tmp_path / "set" / "task-move_events.tsv").touch()
    assert [file.name for file in inherited_files(table, ".tsv", "events")] == ["task-rest_events.tsv"]


def test_a_sidecar_with_a_byte_order_mark_and_windows_line_ends_is_read(table: Path, tmp_path: Path) -> None:
    text = json.dumps({"SamplingFrequency": 50, "Columns": ["cardiac", "respiratory"]}, indent=1)
    (tmp_path / "set" / "physio.json").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_recording(table).signals[0].sampling_rate == 50
