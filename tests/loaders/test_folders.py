"""What is in a folder: each recording once, its companions not, to a bounded depth, and links in circles end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.folders import recordings_in


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in recordings_in(folder).paths]


def write_record(folder: Path, name: str) -> None:
    import wfdb

    wfdb.wrsamp(
        name, fs=100, units=["mV"], sig_name=["ECG"], p_signal=np.zeros((500, 1)), fmt=["16"], write_dir=str(folder)
    )


def test_companions_are_left_out_and_other_files_are_counted(edf_file: Path, e4_folder: Path) -> None:
    folder = edf_file.parent
    for name in ("made.json", "made_corrections.tsv", "sub-01_events.tsv", ".hidden.edf", "a.fdt", "b.eeg", "b.vmrk"):
        (folder / name).write_text("{}")
    (folder / "a.set").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    (folder / "b.vhdr").write_text("Brain Vision Data Exchange Header File\nDataFile=raw/../c.eeg\nMarkerFile=d.vmrk\n")
    (folder / "d.vmrk").write_text("x")
    (folder / "README.txt").write_text("about")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "below/more").mkdir(parents=True)
    (folder / "below/more/table.csv").write_text("time,EDA\n")
    write_record(folder, "100")
    (folder / "100.qrs").write_bytes(b"\x00\x00")
    listing = recordings_in(folder)
    expected = {"100.hea", "a.set", "b.vhdr", "below/more/table.csv", edf_file.name, e4_folder.name}
    assert set(names(folder)) == expected
    assert listing.words(folder) == "2 files are no recording: README.txt, photo.jpg"


def test_records_that_share_their_first_word_are_one_recording(tmp_path: Path) -> None:
    for name in ("Subject1_A", "Subject1_B", "Subject2_A"):
        write_record(tmp_path, name)
    assert names(tmp_path) == ["Subject1", "Subject2_A.hea"]
    for file in tmp_path.glob("Subject2*"):
        file.unlink()
    assert recordings_in(tmp_path).paths == (tmp_path,)


def test_links_in_circles_end_and_depth_is_bounded(tmp_path: Path) -> None:
    below = tmp_path / "a"
    below.mkdir()
    (below / "table.csv").write_text("time,EDA\n")
    (below / "back").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(below)
    deep = tmp_path / Path(*"123456789")
    deep.mkdir(parents=True)
    (deep / "table.csv").write_text("time,EDA\n")
    listing = recordings_in(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in listing.paths] == ["a/table.csv"]
    assert listing.notes == ("folders deeper than 8 were not entered (9)",)


def test_a_recording_with_several_names_is_listed_once_and_a_folder_above_is_not_entered(tmp_path: Path) -> None:
    folder, beside = tmp_path / "study", tmp_path / "beside"
    for place in (folder / "data", beside):
        place.mkdir(parents=True)
        (place / "table.csv").write_text("time,EDA\n")
    (folder / "data" / "a_link.csv").symlink_to("table.csv")
    (folder / "hard.csv").hardlink_to(folder / "data" / "table.csv")
    (folder / "up").symlink_to("..")
    (folder / "top").symlink_to("/")
    (folder / "elsewhere").symlink_to(beside)
    listing = recordings_in(folder)
    assert [str(path.relative_to(folder)) for path in listing.paths] == ["data/table.csv", "elsewhere/table.csv"]
    assert listing.notes == ("links to other recordings of the folder are left out: data/a_link.csv, hard.csv",)


def test_a_folder_without_a_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("nothing")
    with pytest.raises(
        RecordingError, match=rf"^{tmp_path.name}: a folder that holds no recording of a known layout; read"
    ):
        recordings_in(tmp_path)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("formats/wfdb_samples", ["03700181.hea", "041s.hea", "100.hea", "a103l.hea"]),
        ("formats/wfdb_multifreq_drivedb", ["drive17a.hea", "drive17b.hea"]),
        ("formats/opensignals_h5", 5),
        ("formats/empatica_e4_flirt", ["."]),
        ("formats/brainvision", ["test.vhdr", "test_old_layout_latin1_software_filter.vhdr"]),
        ("formats/eeglab_set", ["eeglab_data.set", "eeglab_data_epochs_ica.set"]),
        ("eegmat", 36),
        ("stress-predict/Raw_data", 35),
        ("noneeg/Dataset", 20),
    ],
)
def test_real_folders_are_listed(reference_data: Path, folder: str, expected: list[str] | int) -> None:
    listed = names(reference_data / folder)
    assert len(listed) == expected if isinstance(expected, int) else listed == expected
