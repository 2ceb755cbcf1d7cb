"""Empatica E4: folder and zip give the same, every sensor at its own time, damage costs the sensor it hit."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording

from .conftest import START


def test_values_equal_plain_parsing_and_acceleration_is_in_g(e4_folder: Path) -> None:
    recording = load_recording(e4_folder)
    raw = np.loadtxt(e4_folder / "ACC.csv", delimiter=",", skiprows=2)
    np.testing.assert_allclose(recording.signal("ACC").read(), raw.T / 64)
    assert (recording.signal("ACC").unit, recording.signal("ACC").channel_names) == ("g", ("x", "y", "z"))
    for name in ("BVP", "EDA", "TEMP", "HR"):
        np.testing.assert_array_equal(
            recording.signal(name).read()[0], np.loadtxt(e4_folder / f"{name}.csv", skiprows=2)
        )


def test_second_zero_is_the_start_of_the_sensors_and_heart_rate_lies_later(e4_folder: Path) -> None:
    recording = load_recording(e4_folder)
    assert recording.started_at == datetime.fromtimestamp(START, tz=UTC)
    starts = {signal.name: signal.start_seconds for signal in recording.signals}
    assert starts == {"EDA": 0, "BVP": 0, "ACC": 0, "TEMP": 0, "HR": 10, "IBI": 3.5}
    np.testing.assert_allclose(recording.signal("IBI").sample_times(), [3.5, 4.4, 9.0])
    np.testing.assert_allclose(recording.signal("IBI").read(), [[0.8, 0.9, 0.85]])
    assert [(i.onset_seconds, i.duration_seconds, i.label) for i in recording.intervals] == [(5.0, 0.0, "tag")]


def test_an_artefact_at_the_first_sample_is_left_and_noted(e4_folder: Path) -> None:
    recording = load_recording(e4_folder)
    assert recording.signal("EDA").read(0, 1)[0, 0] == 0
    assert any("first sample is 0" in note for note in recording.notes)


def test_a_zip_gives_what_the_folder_gives(e4_folder: Path, e4_zip: Path) -> None:
    one, other = load_recording(e4_folder), load_recording(e4_zip)
    assert one.name == other.name == "S01"
    for signal in one.signals:
        np.testing.assert_array_equal(other.signal(signal.name).read(), signal.read())


def test_file_names_in_any_case_and_tags_named_after_the_subject_are_found(e4_folder: Path) -> None:
    (e4_folder / "EDA.csv").rename(e4_folder / "eda.CSV")
    (e4_folder / "tags.csv").rename(e4_folder / "tags_S01.csv")
    recording = load_recording(e4_folder)
    assert recording.signal("EDA").n_samples == 80
    assert len(recording.intervals) == 1


def test_a_real_session_starts_where_its_authors_say(reference_data: Path) -> None:
    recording = load_recording(reference_data / "stress-predict" / "Raw_data" / "S02")
    assert recording.started_at == datetime.fromtimestamp(1644227574, tz=UTC)
    assert recording.signal("HR").start_seconds == 10
    assert recording.signal("ACC").sampling_rate == 32
    # At rest on a wrist the acceleration is that of gravity.
    magnitude = np.sqrt((recording.signal("ACC").read() ** 2).sum(axis=0))
    assert np.median(magnitude) == pytest.approx(1.0, abs=0.1)


def test_tags_far_from_the_recording_are_left_out_and_counted(reference_data: Path) -> None:
    recording = load_recording(reference_data / "stress-predict" / "Raw_data" / "S17")
    assert len(recording.intervals) == 5  # of seven; two were stamped twelve hours early
    assert any("2 tags lie outside the recording" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("name", "text", "note"),
    [
        ("EDA.csv", "", "EDA: the file holds no samples"),
        ("EDA.csv", "abc\n4\n1\n", "EDA: the first line (nan) is not a unix time"),
        ("EDA.csv", f"{START * 1000}\n4.0\n1.0\n", "is not a unix time in seconds"),
        ("EDA.csv", f"{START}\n0\n1.0\n", "EDA: the second line (0) is not a sampling rate"),
        ("EDA.csv", f"{START}\n-4\n1.0\n", "EDA: the second line (-4) is not a sampling rate"),
        ("IBI.csv", f"{START}, IBI\n", "IBI: no beats"),
        ("IBI.csv", "x, IBI\n1,2\n", "IBI: the first line is not a unix time"),
    ],
)
def test_a_damaged_sensor_is_left_out_by_name_and_the_others_stay(
    e4_folder: Path, name: str, text: str, note: str
) -> None:
    (e4_folder / name).write_text(text)
    recording = load_recording(e4_folder)
    assert name[:3] not in [signal.name for signal in recording.signals]
    assert {"BVP", "ACC", "TEMP"} <= {signal.name for signal in recording.signals}
    assert any(note in one for one in recording.notes)


def test_a_missing_sensor_is_noted(e4_folder: Path) -> None:
    (e4_folder / "BVP.csv").unlink()
    assert "BVP: no file" in load_recording(e4_folder).notes


def test_a_line_that_is_no_number_keeps_its_place_as_missing(e4_folder: Path) -> None:
    lines = (e4_folder / "TEMP.csv").read_text().splitlines()
    lines[12], lines[20] = "31,2", "hot"
    (e4_folder / "TEMP.csv").write_text("\n".join(lines) + "\n")
    recording = load_recording(e4_folder)
    samples = recording.signal("TEMP").read()[0]
    assert len(samples) == 80
    assert np.flatnonzero(np.isnan(samples)).tolist() == [10, 18]
    assert any("TEMP: 2 lines" in note for note in recording.notes)


@pytest.mark.filterwarnings("ignore")  # as outside of tests, where a warning of a parser is no error
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["1,2", "3,4,5,6"], [[np.nan] * 3] * 2),
        (["3,4,5,6", "1,2"], [[np.nan] * 3] * 2),
        (["1,2,3", "", "4,5,6"], [[1, 2, 3], [np.nan] * 3, [4, 5, 6]]),
        (["1, 2, 3", "4 5,6,7", "8,9,10"], [[1, 2, 3], [np.nan] * 3, [8, 9, 10]]),
        (["1,2,3", "4,5,0x6", "7,8,9"], [[1, 2, 3], [np.nan] * 3, [7, 8, 9]]),
        (["1e1,-2,+.5", "nan,1,2"], [[10, -2, 0.5], [np.nan, 1, 2]]),
    ],
)
def test_a_line_of_another_length_shifts_nothing(lines: list[str], expected: list[list[float]]) -> None:
    from biopercept.loaders.readers.empatica import read_numbers

    values, _ = read_numbers("\n".join([*lines, ""]).encode(), 3)
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("lines", [["1", "2 3", "", "4"], ["1", "2", "", "4"], ["1", "2,3", "4"], ["1\t2", "", "3"]])
def test_a_line_that_is_not_one_number_shifts_nothing(lines: list[str]) -> None:
    from biopercept.loaders.readers.empatica import read_numbers

    values, remarks = read_numbers("\n".join([*lines, ""]).encode(), 1)
    expected = [float(line) if line.isdigit() else np.nan for line in lines]
    np.testing.assert_array_equal(values[:, 0], expected)
    assert remarks


def test_a_file_cut_inside_its_last_number_loses_that_number(e4_folder: Path) -> None:
    content = (e4_folder / "TEMP.csv").read_text()
    (e4_folder / "TEMP.csv").write_text(content[:-4])
    recording = load_recording(e4_folder)
    assert recording.signal("TEMP").n_samples == 79
    assert any("TEMP: the last line" in note for note in recording.notes)


def test_beats_that_do_not_follow_each_other_are_left_out(e4_folder: Path) -> None:
    (e4_folder / "IBI.csv").write_text(f"{START}, IBI\n3,0.8\n2,0.7\n5,nan\n6,0.9\n6,0.9\n7,1.0\n")
    recording = load_recording(e4_folder)
    assert recording.signal("IBI").sample_times().tolist() == [3, 6, 7]
    assert any("IBI: 2 beats" in note for note in recording.notes)


def saved_again(content: bytes, line_end: bytes) -> bytes:
    """As spreadsheets save: a byte order mark, and line ends of another system."""
    return b"\xef\xbb\xbf" + content.replace(b"\n", line_end)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r", b"\n"])
@pytest.mark.parametrize("names", [("EDA",), ("ACC", "BVP", "EDA", "HR", "IBI", "TEMP", "tags", "info")])
def test_files_that_a_spreadsheet_saved_again_are_the_same(
    e4_folder: Path, names: tuple[str, ...], line_end: bytes
) -> None:
    before = load_recording(e4_folder)
    for file in e4_folder.iterdir():
        if file.stem in names:
            file.write_bytes(saved_again(file.read_bytes(), line_end))
    after = load_recording(e4_folder)
    assert [s.name for s in after.signals] == [s.name for s in before.signals]
    for one, other in zip(before.signals, after.signals, strict=True):
        np.testing.assert_array_equal(one.read(), other.read())
        np.testing.assert_array_equal(one.sample_times(), other.sample_times())
    assert (after.intervals, after.started_at, after.notes) == (before.intervals, before.started_at, before.notes)


def test_one_file_that_a_spreadsheet_saved_again_is_an_e4_file(e4_folder: Path, e4_files: dict[str, str]) -> None:
    path = e4_folder / "EDA.csv"
    path.write_bytes(saved_again(e4_files["EDA.csv"].encode(), b"\r\n"))
    assert load_recording(path).signal("EDA").n_samples == 80


@pytest.mark.parametrize("row", [0, 10, 299])
@pytest.mark.parametrize("wrong", [START, 250_000.0, -80_000.0])
def test_one_beat_at_a_wild_time_is_left_out(e4_folder: Path, row: int, wrong: float) -> None:
    times = 2 + 0.05 * np.arange(300)
    times[row] = wrong
    (e4_folder / "IBI.csv").write_text(f"{START}, IBI\n" + "".join(f"{t:.4f},0.8\n" for t in times))
    recording = load_recording(e4_folder)
    np.testing.assert_allclose(recording.signal("IBI").sample_times(), np.delete(times, row))
    assert recording.duration_seconds == 20
    assert any("IBI: 1 beats have a time that all others contradict" in note for note in recording.notes)


def test_beats_before_the_sensors_are_left_out_with_them(e4_folder: Path) -> None:
    (e4_folder / "IBI.csv").write_text(f"{START - 5000}, IBI\n1,0.8\n2,0.8\n5003,0.8\n5004,0.9\n")
    recording = load_recording(e4_folder)
    np.testing.assert_allclose(recording.signal("IBI").sample_times(), [3, 4])
    assert any("2 beats lie outside the time of the sensors (the first at -4999 s)" in n for n in recording.notes)


def test_beats_after_the_sensors_have_ended_are_left_out(e4_folder: Path) -> None:
    (e4_folder / "IBI.csv").write_text(f"{START}, IBI\n3,0.8\n4,0.9\n5,0.9\n6000,0.8\n6001,0.8\n")
    recording = load_recording(e4_folder)
    assert recording.signal("IBI").sample_times().tolist() == [3, 4, 5]
    assert any("2 beats lie outside the time of the sensors (the first at 6000 s)" in note for note in recording.notes)


@pytest.mark.parametrize("sensor", ["EDA", "ACC", "HR"])
@pytest.mark.parametrize("days", [-400, 400])
def test_the_sensor_with_another_day_is_left_out_and_not_the_others(e4_folder: Path, sensor: str, days: int) -> None:
    path = e4_folder / f"{sensor}.csv"
    first, _, rest = path.read_text().partition("\n")
    path.write_text(", ".join([f"{START + days * 86_400:.6f}"] * len(first.split(","))) + "\n" + rest)
    recording = load_recording(e4_folder)
    expected = {"EDA", "BVP", "ACC", "TEMP", "HR", "IBI"} - {sensor}
    assert {signal.name for signal in recording.signals} == expected
    assert recording.duration_seconds == 20
    assert any(note.startswith(f"{sensor}: starts 9") and "the other sensors" in note for note in recording.notes)


def test_two_sensors_of_different_days_are_refused(e4_folder: Path) -> None:
    for name in ("BVP", "ACC", "HR", "IBI"):
        (e4_folder / f"{name}.csv").unlink()
    text = (e4_folder / "EDA.csv").read_text()
    (e4_folder / "EDA.csv").write_text(text.replace(f"{START}", f"{START - 90 * 86_400}"))
    with pytest.raises(
        RecordingError, match=r"the sensors start on different days \(EDA on 2020-06-15, TEMP on 2020-09-13"
    ):
        load_recording(e4_folder)


def test_a_tag_that_cannot_be_read_is_said(e4_folder: Path) -> None:
    (e4_folder / "tags.csv").write_text(f"{START + 5}\nfive\n")
    recording = load_recording(e4_folder)
    assert len(recording.intervals) == 1
    assert any("tags: 1 line is not 1 plain numbers" in note for note in recording.notes)


def test_a_damaged_member_of_a_zip_costs_that_member(e4_zip: Path) -> None:
    with zipfile.ZipFile(e4_zip) as archive:
        at = archive.getinfo("BVP.csv").header_offset + 200
    content = bytearray(e4_zip.read_bytes())
    content[at : at + 20] = bytes(20)
    e4_zip.write_bytes(bytes(content))
    recording = load_recording(e4_zip)
    assert "BVP" not in [signal.name for signal in recording.signals]
    assert any(note.startswith("BVP: the file") for note in recording.notes)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../../EDA.csv", "has a name that leads out of the archive"),
        ("S01/..\\..\\EDA.csv", "has a name that leads out of the archive"),
        ("/etc/cron.d/BVP.csv", "has an absolute name"),
        ("/etc/passwd", "has an absolute name"),
        ("C:\\EDA.csv", "has an absolute name"),
        ("\\\\server\\EDA.csv", "has an absolute name"),
        ("TEMP.csv", "is there twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_names_that_no_device_writes_is_refused(e4_zip: Path, name: str, fault: str) -> None:
    with zipfile.ZipFile(e4_zip, "a") as archive:
        archive.writestr(name, "1700000000\n4\n")
    with pytest.raises(RecordingError) as caught:
        load_recording(e4_zip)
    assert str(caught.value).startswith(f"{e4_zip.name}: the member {name!r} of the zip {fault}")


def test_a_zip_with_links_or_a_password_or_zips_is_refused(e4_zip: Path, tmp_path: Path) -> None:
    link, secret, nested = tmp_path / "link.zip", tmp_path / "secret.zip", tmp_path / "nested.zip"
    info = zipfile.ZipInfo("HR.csv")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(link, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    content = bytearray(e4_zip.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + place] |= 1  # the flag of a member that needs a password
    secret.write_bytes(content)
    with zipfile.ZipFile(nested, "w") as archive:
        archive.write(e4_zip, "S01.zip")
    for path, sentence in (
        (link, r"^link\.zip: the member 'HR\.csv' of the zip is a link or a device and no file$"),
        (secret, r"^secret\.zip: the member '.*' of the zip needs a password: unpack the zip with it and give the fol"),
        (nested, r"^nested\.zip: the zip holds other zip files; unpack it and give one of those$"),
    ):
        with pytest.raises(RecordingError, match=sentence):
            load_recording(path)


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from biopercept.loaders.readers import empatica

    monkeypatch.setattr(empatica, "LARGEST_MEMBER", 1 << 20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("EDA.csv", "0" * (1 << 24))
    with pytest.raises(RecordingError, match=r"bomb.zip: .*larger than 1 MB unpacked"):
        load_recording(path)


def test_a_zip_of_sixty_thousand_members_and_two_sessions_in_one_are_refused(
    tmp_path: Path, e4_files: dict[str, str]
) -> None:
    many, two = tmp_path / "many.zip", tmp_path / "two.zip"
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(1500):
            archive.writestr(f"f{number}", "")
    with zipfile.ZipFile(two, "w") as archive:
        archive.writestr("a/EDA.csv", e4_files["EDA.csv"])
        archive.writestr("b/EDA.csv", e4_files["EDA.csv"])
    with pytest.raises(RecordingError, match=r"many.zip: 1500 members"):
        load_recording(many)
    with pytest.raises(RecordingError, match=r"two.zip: more than one file for EDA"):
        load_recording(two)


def test_what_macos_adds_to_a_zip_is_no_second_session(e4_zip: Path) -> None:
    names = [signal.name for signal in load_recording(e4_zip).signals]
    with zipfile.ZipFile(e4_zip, "a") as archive:
        for name in ("EDA.csv", "._EDA.csv", "._tags.csv"):
            archive.writestr(f"__MACOSX/S01/{name}", b"\x00\x05\x16\x07" + bytes(200))
    assert [signal.name for signal in load_recording(e4_zip).signals] == names


def test_a_sensor_an_hour_from_the_others_is_named(e4_folder: Path) -> None:
    path = e4_folder / "EDA.csv"
    path.write_text(path.read_text().replace("1600000000.000000", "1600003600.000000", 1))
    words = "EDA spans 3600 to 3620 s and overlaps no other signal; check its clock"
    assert words in load_recording(e4_folder).notes
