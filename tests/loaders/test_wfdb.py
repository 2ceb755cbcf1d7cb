"""WFDB: held to the wfdb library's own reading, several rates, several records, notes as intervals."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import wfdb

from biopercept.errors import RecordingError
from biopercept.loaders.identity import COMMENTS
from biopercept.loaders.loading import load_recording
from biopercept.loaders.recognition import SignalOverride


def test_samples_of_every_rate_equal_the_librarys(wfdb_record: Path) -> None:
    theirs = wfdb.rdrecord(str(wfdb_record.with_suffix("")), smooth_frames=False).e_p_signal
    ours = load_recording(wfdb_record)
    assert [(s.name, s.modality, s.unit, s.sampling_rate) for s in ours.signals] == [
        ("ECG", "ecg", "mV", 256.0),
        ("RESP", "resp", "a.u.", 32.0),
        ("TEMP", "temp", "degC", 8.0),
    ]
    for signal, expected in zip(ours.signals, theirs, strict=True):
        np.testing.assert_allclose(signal.read()[0], expected)


def test_notes_become_intervals_that_last_to_the_next(wfdb_record: Path) -> None:
    found = [(i.onset_seconds, i.duration_seconds, i.label) for i in load_recording(wfdb_record).intervals]
    assert found == [(0.5, 3.5, "Relax"), (4.0, 6.0, "Stress")]


def test_several_records_of_one_person_are_one_recording(reference_data: Path) -> None:
    recording = load_recording(
        reference_data / "noneeg" / "Dataset" / "Subject1",
        overrides={"a[xyz]": SignalOverride(unit="g"), "eda": SignalOverride(unit="uS")},
    )
    assert [(s.name, s.modality, s.unit, s.sampling_rate, s.channel_names) for s in recording.signals] == [
        ("ACC", "acc", "g", 8.0, ("x", "y", "z")),
        ("temp", "temp", "degC", 8.0, ("temp",)),
        ("EDA", "eda", "uS", 8.0, ("EDA",)),
        ("SpO2", "spo2", "%", 1.0, ("SpO2",)),
        ("hr", "hr", "bpm", 1.0, ("hr",)),
    ]
    folder = reference_data / "noneeg" / "Dataset"
    theirs = wfdb.rdrecord(str(folder / "Subject1_AccTempEDA")).p_signal
    np.testing.assert_allclose(recording.signal("ACC").read(), theirs[:, :3].T)
    np.testing.assert_allclose(recording.signal("EDA").read()[0], theirs[:, 4])
    assert [i.label for i in recording.intervals][:3] == ["Relax", "PhysicalStress", "Relax"]
    assert recording.name == "Subject1"


def test_the_unit_nu_is_not_guessed(reference_data: Path) -> None:
    recording = load_recording(reference_data / "noneeg" / "Dataset" / "Subject1_AccTempEDA.hea")
    assert recording.signal("EDA").unit == "NU"
    assert recording.signal("EDA").modality == "eda"
    assert any(note.startswith("EDA: unit 'NU'") for note in recording.notes)


def test_a_folder_of_one_persons_records_is_read_and_of_many_is_refused(reference_data: Path, tmp_path: Path) -> None:
    source = reference_data / "noneeg" / "Dataset"
    for file in source.glob("Subject3_*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert len(load_recording(tmp_path).signals) == 5
    with pytest.raises(RecordingError, match="records of 20 names"):
        load_recording(source)


def test_real_records_of_several_rates_equal_the_librarys(reference_data: Path) -> None:
    path = reference_data / "formats" / "wfdb_multifreq_drivedb" / "drive17a"
    theirs = wfdb.rdrecord(str(path), smooth_frames=False)
    ours = load_recording(path.with_suffix(".hea"))
    for name, expected in zip(theirs.sig_name, theirs.e_p_signal, strict=True):
        np.testing.assert_allclose(ours.signal(name).read()[0], expected)
    assert ours.signal("ECG").sampling_rate == 480
    assert ours.signal("foot GSR").unit == "mV"  # not a conductance: kept and called out
    assert any("foot GSR" in note and "cannot be turned into uS" in note for note in ours.notes)


def test_segments_follow_each_other_and_a_missing_one_is_missing_samples(reference_data: Path, tmp_path: Path) -> None:
    source = reference_data / "formats" / "wfdb_samples"
    for file in source.glob("041s*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = load_recording(tmp_path / "041s.hea").signal("III").read()[0]
    parts = [load_recording(source / f"041s0{n}.hea").signal("III").read()[0] for n in (1, 2)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    (tmp_path / "041s01.hea").unlink()
    recording = load_recording(tmp_path / "041s.hea")
    damaged = recording.signal("III").read()[0]
    assert np.isnan(damaged[:4000]).all()
    np.testing.assert_array_equal(damaged[4000:], parts[1])
    assert any("segment 041s01 cannot be used" in note for note in recording.notes)


def test_a_cut_signal_file_is_used_as_far_as_it_goes(wfdb_record: Path) -> None:
    whole = load_recording(wfdb_record).signal("ECG").read()[0]
    data = wfdb_record.with_suffix(".dat")
    data.write_bytes(data.read_bytes()[:-101])
    recording = load_recording(wfdb_record)
    part = recording.signal("ECG").read()[0]
    assert 0 < len(part) < len(whole)
    np.testing.assert_array_equal(part, whole[: len(part)])
    assert any("is cut: 78 of 80 frames" in note for note in recording.notes)


@pytest.mark.parametrize("name", ["../secret.dat", "/etc/passwd", "sub/x.dat", "..", "http://a/x.dat"])
def test_a_signal_file_outside_the_folder_is_not_opened(wfdb_record: Path, name: str) -> None:
    wfdb_record.write_text(wfdb_record.read_text().replace("p1_all.dat", name))
    with pytest.raises(RecordingError, match=r"p1_all.hea"):
        load_recording(wfdb_record)


def test_a_record_that_is_its_own_segment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop.hea").write_text("loop/2 1 100 200\nloop 100\nloop 100\n")
    with pytest.raises(RecordingError, match="loop"):
        load_recording(tmp_path / "loop.hea")


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("1000.0(0)/mV", "", "gives no gain for ECG"),
        ("1000.0(0)/mV", "0/mV", "gives no gain for ECG"),
        ("1000.0(0)/mV", "1000.0", "gives no unit for ECG; mV by the WFDB standard"),
        ("p1_all 3", "other 3", "calls the record by another name than its file, 'p1_all'"),
    ],
)
def test_a_doubtful_header_is_called_out(wfdb_record: Path, old: str, new: str, note: str) -> None:
    text = wfdb_record.read_text()
    assert old in text
    if not new:  # a gain cannot be left out with the fields after it in place
        lines = text.splitlines()
        lines[1] = "p1_all.dat 16x32"
        text = "\n".join(lines) + "\n"
    wfdb_record.write_text(text.replace(old, new))
    recording = load_recording(wfdb_record)
    assert any(note in one.replace("signal 1", "ECG") for one in recording.notes)


@pytest.mark.parametrize(
    "line", ["", "p1_all", "p1_all x 8 80", "p1_all 3 0 80", "p1_all 3 -8 80", "p1_all 99999 8 80"]
)
def test_a_record_line_that_cannot_be_is_refused(wfdb_record: Path, line: str) -> None:
    lines = wfdb_record.read_text().splitlines()
    wfdb_record.write_text("\n".join([line, *lines[1:]]) + "\n")
    with pytest.raises(RecordingError, match="p1_all"):
        load_recording(wfdb_record)


@pytest.mark.parametrize("length", ["", " 0"])
@pytest.mark.parametrize("fmt", ["16", "212", "24", "80"])
def test_a_header_without_a_length_gives_all_that_its_file_holds(tmp_path: Path, fmt: str, length: str) -> None:
    x = np.round(100 * np.sin(np.arange(2500) / 20)).astype(int)
    samples = np.column_stack([x, -x])
    wfdb.wrsamp(
        "rec", 250, ["mV", "mV"], ["ECG", "V5"], d_signal=samples, fmt=[fmt] * 2, adc_gain=[200.0] * 2,
        baseline=[0, 0], write_dir=str(tmp_path),
    )  # fmt: skip
    header = tmp_path / "rec.hea"
    lines = header.read_text().splitlines()
    assert lines[0] == "rec 2 250 2500"
    header.write_text("\n".join([f"rec 2 250{length}", *lines[1:]]) + "\n")
    recording = load_recording(header)
    assert [(s.name, s.n_samples) for s in recording.signals] == [("ECG", 2500), ("V5", 2500)]
    np.testing.assert_allclose(recording.signal("ECG").read()[0], x / 200)
    np.testing.assert_allclose(recording.signal("V5").read(100, 137)[0], -x[100:137] / 200)
    assert any("gives no length; rec.dat holds 2500 frames" in note for note in recording.notes)


def test_a_real_record_without_a_length_equals_the_librarys(reference_data: Path, tmp_path: Path) -> None:
    source = reference_data / "formats" / "wfdb_samples"
    (tmp_path / "100.dat").symlink_to(source / "100.dat")
    text = (source / "100.hea").read_text()
    (tmp_path / "100.hea").write_text(text.replace("100 2 360 650000", "100 2 360", 1))
    ours = load_recording(tmp_path / "100.hea")
    assert [signal.n_samples for signal in ours.signals] == [650_000, 650_000]
    theirs = wfdb.rdrecord(str(source / "100")).p_signal
    for column, signal in enumerate(ours.signals):
        np.testing.assert_allclose(signal.read()[0], theirs[:, column])


def test_several_rates_without_a_length_equal_those_with_one(wfdb_record: Path) -> None:
    before = [signal.read() for signal in load_recording(wfdb_record).signals]
    lines = wfdb_record.read_text().splitlines()
    assert lines[0].split() == ["p1_all", "3", "8", "80"]
    wfdb_record.write_text("\n".join(["p1_all 3 8", *lines[1:]]) + "\n")
    for signal, expected in zip(load_recording(wfdb_record).signals, before, strict=True):
        np.testing.assert_array_equal(signal.read(), expected)


@pytest.mark.parametrize("top", [b"\xef\xbb\xbf", b"# made by hand\n#\n", b"\xef\xbb\xbf# made by hand\r\n"])
def test_marks_comments_and_line_ends_of_an_editor_change_nothing(wfdb_record: Path, top: bytes) -> None:
    before = load_recording(wfdb_record)
    content = wfdb_record.read_bytes()
    wfdb_record.write_bytes(top + (content.replace(b"\n", b"\r\n") if b"\r" in top else content))
    after = load_recording(wfdb_record)
    assert after.notes == (*([COMMENTS] if b"made by hand" in top else []), *before.notes)
    assert after.intervals == before.intervals
    for one, other in zip(before.signals, after.signals, strict=True):
        np.testing.assert_array_equal(one.read(), other.read())


def test_a_wild_length_of_a_segment_is_refused(wfdb_record: Path, tmp_path: Path) -> None:
    (tmp_path / "long.hea").write_text("long/2 3 8 1000000000080\np1_all 80\n~ 1000000000000\n")
    with pytest.raises(RecordingError, match=r"long.hea: the record spans 1446759 days by its segments, at most 31"):
        load_recording(tmp_path / "long.hea")


def test_records_of_different_days_are_refused(wfdb_record: Path, tmp_path: Path) -> None:
    lines = wfdb_record.read_text().splitlines()
    for name, date in (("p1_all", "01/06/2023"), ("p1_more", "01/01/1970")):
        (tmp_path / f"{name}.hea").write_text("\n".join([f"{name} 3 8 80 10:00:00 {date}", *lines[1:]]) + "\n")
    with pytest.raises(
        RecordingError, match=r"records that start on different days \(p1_all on 2023-06-01, p1_more on 1970"
    ):
        load_recording(tmp_path / "p1")


def test_more_lines_than_announced_signals_are_refused(wfdb_record: Path) -> None:
    wfdb_record.write_text(wfdb_record.read_text().replace("p1_all 3", "p1_all 2", 1))
    with pytest.raises(RecordingError, match=r"p1_all.hea: 2 signals are announced, 3 described; correct the header"):
        load_recording(wfdb_record)


def test_a_missing_signal_file_is_refused_by_name(wfdb_record: Path) -> None:
    wfdb_record.with_suffix(".dat").unlink()
    with pytest.raises(RecordingError, match=r"p1_all.dat is missing"):
        load_recording(wfdb_record)


def test_what_macos_writes_beside_headers_is_no_record(wfdb_record: Path) -> None:
    for path in list(wfdb_record.parent.iterdir()):
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(200))
    for path in (wfdb_record.parent, wfdb_record.with_name("p1")):
        assert [signal.name for signal in load_recording(path).signals] == ["ECG", "RESP", "TEMP"]


@pytest.mark.parametrize("part", ["100.qrs", "100.atr", "100.dat", "a103l.mat", "03700181.gqrsh"])
def test_a_signal_file_or_an_annotator_stands_for_its_record(reference_data: Path, part: str) -> None:
    folder = reference_data / "formats/wfdb_samples"
    by_part, by_header = load_recording(folder / part), load_recording((folder / part).with_suffix(".hea"))
    assert by_part.name == by_header.name
    assert [s.name for s in by_part.signals] == [s.name for s in by_header.signals]
    np.testing.assert_array_equal(by_part.signals[0].read(0, 500), by_header.signals[0].read(0, 500))


@pytest.mark.parametrize("stated", [101 * 500, 10**12])
def test_a_header_that_promises_far_more_than_there_is_is_refused(tmp_path: Path, stated: int) -> None:
    record = write_single(tmp_path, "16")
    text = record.read_text()
    record.write_text(text.replace(" 100 500", f" 100 {stated}"))
    with pytest.raises(RecordingError) as fault:
        load_recording(record)
    assert str(fault.value) == (
        f"one.hea: the header promises {stated} frames and one.dat holds 500; one of them is damaged or of another "
        "record, copy both again"
    )


def write_single(folder: Path, fmt: str) -> Path:
    samples = np.round(np.random.default_rng(2).normal(0, 1, (500, 1)), 3)
    wfdb.wrsamp(
        "one",
        fs=100,
        units=["mV"],
        sig_name=["ECG"],
        p_signal=samples,
        fmt=[fmt],
        adc_gain=[1000.0],
        baseline=[0],
        write_dir=str(folder),
    )
    return folder / "one.hea"


@pytest.mark.parametrize("fmt", ["508", "516", "524"])
def test_a_record_in_flac_equals_the_librarys_and_its_length_is_checked(tmp_path: Path, fmt: str) -> None:
    record = write_single(tmp_path, fmt) if fmt != "508" else _small_flac(tmp_path)
    (ecg,) = load_recording(record).signals
    expected = wfdb.rdrecord(str(record.with_suffix(""))).p_signal[:, 0]
    np.testing.assert_allclose(ecg.read()[0], expected)
    text = record.read_text()
    record.write_text(text.replace(" 100 500", " 100 5000"))
    recording = load_recording(record)
    assert recording.signals[0].n_samples == 500
    assert "one.dat is cut: 500 of 5000 frames are there and used" in recording.notes
    record.write_text(text.replace(" 100 500", " 100 1000000000"))
    with pytest.raises(
        RecordingError, match=r"^one\.hea: the header promises 1000000000 frames and one\.dat holds 500;"
    ):
        load_recording(record)
    (tmp_path / "one.dat").write_bytes(b"fLaC" + bytes(100))
    with pytest.raises(RecordingError, match=r"^one\.hea: one\.dat cannot be read as FLAC \("):
        load_recording(record)


def _small_flac(folder: Path) -> Path:
    """Write a record in the format of 8 bits."""
    samples = np.random.default_rng(2).integers(-100, 100, (500, 1))
    wfdb.wrsamp(
        "one",
        fs=100,
        units=["mV"],
        sig_name=["ECG"],
        d_signal=samples,
        fmt=["508"],
        adc_gain=[100.0],
        baseline=[0],
        write_dir=str(folder),
    )
    return folder / "one.hea"


def test_a_file_of_two_formats_is_left_out(tmp_path: Path) -> None:
    record = write_single(tmp_path, "16")
    lines = record.read_text().splitlines()
    second = lines[1].replace(" 16 ", " 212 ")
    record.write_text("\n".join([lines[0].replace("one 1 ", "one 2 "), lines[1], second]) + "\n")
    with pytest.raises(RecordingError) as fault:
        load_recording(record)
    assert str(fault.value) == (
        "one.hea: no signal of the record can be used (one.dat is stored in the formats 16, 212, which one file cannot "
        "have; its signals are left out)"
    )


def test_beats_of_an_annotator_are_intervals_of_the_record(reference_data: Path) -> None:
    recording = load_recording(reference_data / "formats/wfdb_samples/100.hea")
    theirs = wfdb.rdann(str(reference_data / "formats/wfdb_samples/100"), "atr")
    at = np.array([s for s, symbol in zip(theirs.sample, theirs.symbol, strict=True) if symbol != "+"]) / theirs.fs
    (ibi,) = recording.signals_of("ibi")
    assert (ibi.name, ibi.unit, ibi.recognised_by) == ("IBI atr", "s", "format")
    np.testing.assert_allclose(ibi.sample_times(), at[1:])
    np.testing.assert_allclose(ibi.read()[0], np.diff(at))
    assert "IBI atr: 2273 beats of the annotator 100.atr; 100.qrs are not used" in recording.notes


def test_a_program_s_beats_are_read_at_their_own_rate_where_no_person_marked_any(reference_data: Path) -> None:
    recording = load_recording(reference_data / "formats/wfdb_samples/03700181.hea")
    (ibi,) = recording.signals_of("ibi")
    assert ibi.name == "IBI gqrsh"
    np.testing.assert_allclose(ibi.sample_times()[:3], np.array([1306, 1549, 2035]) / 500)


def test_no_interval_spans_what_nobody_could_read(wfdb_record: Path) -> None:
    name = wfdb_record.stem
    rate = wfdb.rdheader(str(wfdb_record.with_suffix(""))).fs
    marks = [("N", 0.5), ("N", 1.25), ("V", 2.0), ("~", 2.5), ("N", 4.0), ("N", 4.75), ("N", 900.0)]
    for old in wfdb_record.parent.glob(f"{name}.atr"):
        old.unlink()
    wfdb.wrann(
        name,
        "qrs",
        np.array([round(at * rate) for _, at in marks]),
        [symbol for symbol, _ in marks],
        subtype=np.array([-1 if symbol == "~" else 0 for symbol, _ in marks]),
        write_dir=str(wfdb_record.parent),
        fs=rate,
    )
    (ibi,) = load_recording(wfdb_record).signals_of("ibi")
    np.testing.assert_allclose(ibi.sample_times(), [1.25, 2.0, 4.0, 4.75], atol=1 / rate)
    np.testing.assert_allclose(ibi.read()[0], [0.75, 0.75, np.nan, 0.75], atol=1 / rate)


def test_beats_of_several_records_lie_on_their_common_clock(tmp_path: Path) -> None:
    for name, second in (("S1_a", 0), ("S1_b", 30)):
        wfdb.wrsamp(
            name,
            fs=100,
            units=["mV"],
            sig_name=[f"ECG {name}"],
            p_signal=np.random.default_rng(1).normal(size=(1000, 1)),
            fmt=["16"],
            write_dir=str(tmp_path),
            base_time=datetime(2024, 1, 1, 8, 0, second).time(),
            base_date=datetime(2024, 1, 1).date(),
        )
        wfdb.wrann(name, "qrs", np.array([100, 180, 260]), ["N"] * 3, write_dir=str(tmp_path), fs=100)
    first, second = load_recording(tmp_path / "S1").signals_of("ibi")
    np.testing.assert_allclose(first.sample_times(), [1.8, 2.6])
    np.testing.assert_allclose(second.sample_times(), [31.8, 32.6])
