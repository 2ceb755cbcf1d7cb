"""The door: what is not a recording is refused in one sentence that names it."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording


def test_what_is_no_regular_file_is_refused_without_being_opened(tmp_path: Path) -> None:
    pipe, dangling, loop = tmp_path / "pipe.edf", tmp_path / "dangling.edf", tmp_path / "loop.edf"
    os.mkfifo(pipe)
    dangling.symlink_to(tmp_path / "gone.edf")
    loop.symlink_to(loop)
    empty, folder = tmp_path / "empty.edf", tmp_path / "folder"
    empty.touch()
    folder.mkdir()
    for path, fault in [
        (pipe, "pipe.edf: not a regular file"),
        (Path("/dev/zero"), "zero: not a regular file"),
        (dangling, "dangling.edf: a link that leads nowhere"),
        (loop, "loop.edf: cannot be reached"),
        (empty, "empty.edf: the file is empty"),
        (folder, "folder: a folder that holds no recording of a known layout"),
        (tmp_path / "gone.edf", "gone.edf: no such file or folder"),
        (tmp_path / ("x" * 300), "xxx: cannot be re(ached|ad)"),
    ]:
        with pytest.raises(RecordingError, match=fault):
            load_recording(path)


def test_a_folder_named_like_a_file_is_refused_without_its_path(tmp_path: Path) -> None:
    for name in ("S01.csv", "S01.acq", "S01.mat", "S01.edf"):
        (tmp_path / name).mkdir()
        with pytest.raises(RecordingError) as fault:
            load_recording(tmp_path / name)
        assert str(fault.value).startswith(f"{name}: a folder that holds no recording") and str(tmp_path) not in str(
            fault.value
        )


def test_escapes_of_a_header_are_spelt_out_and_said(write_table: Callable[..., Path]) -> None:
    rows = "".join(f"{i / 32},{i % 9 / 10},{'x' if i == 9 else 1}\n" for i in range(320))
    recording = load_recording(write_table(f"time,ED\x1b[31mA (uS),\x1b]0;go\x07b\n{rows}"))
    assert all(note.isprintable() for note in recording.notes)
    assert any("labels hold characters that cannot be printed" in note for note in recording.notes)
    assert any(r"\x1b]0;go\x07b: 1 cells are not numbers" in note for note in recording.notes)
    with pytest.raises(RecordingError) as fault:
        load_recording(Path("no\x1b[31m\nsuch.edf"))
    assert str(fault.value) == r"no\x1b[31m\nsuch.edf: no such file or folder"


@pytest.mark.parametrize("address", ["https://example.org/a.edf", "simplecache::http://example.org/a.edf"])
def test_addresses_are_not_opened(address: str) -> None:
    with pytest.raises(RecordingError, match="addresses are not opened"):
        load_recording(Path(address))


@pytest.mark.parametrize(
    ("first", "title"),
    [
        (b"\x80\x04\x95", "a Python pickle"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path: Path, first: bytes, title: str) -> None:
    path = tmp_path / "other.csv"
    path.write_bytes(first + bytes(100))
    with pytest.raises(RecordingError, match=f"other.csv: {title}, which is not read; "):
        load_recording(path)


def test_a_name_that_looks_like_an_option_or_holds_markup_is_just_a_name(tmp_path: Path) -> None:
    for name in ("-rf.csv", "[bold]x.csv", "a\nb.csv", "%s{}.csv"):
        path = tmp_path / name
        path.write_text("time,EDA (uS)\n" + "".join(f"{i},{i}\n" for i in range(10)))
        assert load_recording(path).name == name.removesuffix(".csv")


def test_no_format_is_both_read_and_known_as_unread() -> None:
    from biopercept.loaders.formats import FORMATS
    from biopercept.loaders.glance import Glance
    from biopercept.loaders.unread import known_but_unread

    beginnings = (b"XDF:", b"GDF 2.20", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY", b"MATLAB 5.0", b"PAR1", b"Brain Vision")
    for beginning in beginnings:
        glance = Glance(Path("some.bin"), beginning + bytes(300))
        read = [one.name for one in FORMATS if one.matches(glance)]
        assert not (read and known_but_unread(glance)), beginning


def test_every_format_names_a_reader_that_is_there() -> None:
    from biopercept.loaders.formats import FORMATS

    for form in FORMATS:
        parameters = inspect.signature(form.reader()).parameters
        assert list(parameters) == ["path", "overrides"], form.name


@pytest.mark.parametrize(
    ("where", "library"),
    [
        ("xdf/minimal.xdf", "pyxdf"),
        ("biopac_acq/physio-5.0.1.acq", "bioread"),
        ("garmin_fit/garmin-edge-500-activity.fit", "fitdecode"),
        ("eeglab_set/eeglab_data.set", "pymatreader"),
    ],
)
def test_a_missing_library_of_a_format_is_one_sentence_with_the_line_that_installs_it(
    reference_data: Path, where: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = reference_data / "formats" / where
    assert load_recording(path).signals
    monkeypatch.setitem(sys.modules, library, None)  # so that importing it fails
    monkeypatch.setitem(sys.modules, f"{library}.data_reader", None)
    expected = (
        f"{path.name}: its format is read through {library}, which is not installed; "
        "python3 -m pip install 'biopercept[formats]'"
    )
    with pytest.raises(RecordingError, match=f"^{re.escape(expected)}$"):
        load_recording(path)


def test_the_longest_name_that_a_file_can_have_is_read(write_table: Callable[..., Path]) -> None:
    short = write_table("time,ECG (mV)\n" + "".join(f"{i / 250},{i % 200 / 200}\n" for i in range(1000)))
    long = short.rename(short.with_name("n" * 251 + ".csv"))
    assert load_recording(long).signals[0].name == "ECG"
