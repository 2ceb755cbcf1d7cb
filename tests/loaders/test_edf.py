"""EDF and BDF: held to edfio and mne on the same files, and to the standard on damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording


def patched(path: Path, offset: int, text: str) -> Path:
    """Write ``text`` over the header at ``offset``."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(text)] = text.encode("latin-1")
    path.write_bytes(bytes(content))
    return path


def channel_field(n_channels: int, start: int, width: int, channel: int) -> int:
    """Return where a channel's field lies in the header, given the bytes of the fields before it."""
    return 256 + n_channels * start + width * channel


def test_samples_equal_those_of_another_reader(edf_file: Path) -> None:
    import edfio

    theirs = edfio.read_edf(edf_file)
    ours = load_recording(edf_file)
    eeg = ours.signal("EEG").read()
    np.testing.assert_allclose(eeg[0], theirs.get_signal("EEG Fp1").data, atol=1e-9)
    np.testing.assert_allclose(eeg[1], theirs.get_signal("EEG T3").data * 1000, atol=1e-9)  # mV in the file
    np.testing.assert_allclose(ours.signal("ECG").read()[0], theirs.get_signal("ECG ECG").data, atol=1e-12)
    np.testing.assert_allclose(ours.signal("EDA").read()[0], theirs.get_signal("EDA").data, atol=1e-12)


def test_every_signal_keeps_its_own_rate_and_is_grouped_by_what_it_is(edf_file: Path) -> None:
    recording = load_recording(edf_file, subject="S1")
    assert {s.name: (s.modality, s.unit, s.sampling_rate, s.n_channels) for s in recording.signals} == {
        "EEG": ("eeg", "uV", 128.0, 2),
        "A2-A1": ("unknown", "uV", 128.0, 1),
        "ECG": ("ecg", "mV", 256.0, 1),
        "EDA": ("eda", "uS", 4.0, 1),
    }
    assert recording.signal("EEG").channel_names == ("Fp1", "T3")
    assert recording.signal("A2-A1").channels[0].position is None
    assert any("A2-A1" in note for note in recording.notes)
    assert recording.subject == "S1"


def test_annotations_become_intervals(edf_file: Path) -> None:
    found = [(i.onset_seconds, i.duration_seconds, i.label) for i in load_recording(edf_file).intervals]
    assert found == [(2.0, 3.0, "stroop"), (6.5, 0.0, "press")]


def test_24_bit_samples_equal_those_of_another_reader(reference_data: Path) -> None:
    import edfio

    path = reference_data / "formats" / "bdf" / "test_bdf_stim_channel.bdf"
    theirs = edfio.read_bdf(path)
    ours = load_recording(path).signal("EEG")
    for row, name in zip(ours.read(), ours.channel_names, strict=True):
        np.testing.assert_allclose(row, theirs.get_signal(name).data, rtol=1e-12)


def test_real_eeg_equals_mne(reference_data: Path) -> None:
    import mne

    path = reference_data / "eegmat" / "Subject03_1.edf"
    raw = mne.io.read_raw_edf(path, verbose="error")
    ours = load_recording(path)
    eeg = ours.signal("EEG")
    assert eeg.n_channels == 19
    theirs = raw.get_data([f"EEG {name}" for name in eeg.channel_names]) * 1e6
    np.testing.assert_allclose(eeg.read(), theirs, atol=1e-6)
    # mne types the ECG as EEG and takes its header's mV at its word; so do we.
    np.testing.assert_allclose(ours.signal("ECG").read()[0], raw.get_data(["ECG ECG"])[0] * 1e3, atol=1e-9)
    assert (ours.signal("ECG").unit, ours.signal("ECG").modality) == ("mV", "ecg")


def test_a_subsecond_start_moves_the_clock_and_not_the_annotations(reference_data: Path) -> None:
    import edfio

    path = reference_data / "formats" / "edf" / "test_subsecond.edf"
    theirs = edfio.read_edf(path)
    ours = load_recording(path)
    assert ours.started_at == theirs.startdatetime  # EDF keeps no zone, so neither may we
    expected = sorted(a.onset for a in theirs.annotations)
    np.testing.assert_allclose([i.onset_seconds for i in ours.intervals], expected, atol=1e-6)


@pytest.fixture
def discontinuous(tmp_path: Path) -> Callable[[list[float]], Path]:
    """Return a function that writes EDF+D with one-second records at the given onsets; sample values count up."""
    import edfio

    def write(onsets: list[float]) -> Path:
        data = np.arange(len(onsets) * 10, dtype=float)
        signal = edfio.EdfSignal(data, 10, label="EDA", physical_dimension="uS", physical_range=(-32768, 32767))
        path = tmp_path / "gaps.edf"
        edfio.Edf([signal], annotations=[edfio.EdfAnnotation(0, None, "x" * 30)]).write(path)
        content = bytearray(path.read_bytes())
        content[192:197] = b"EDF+D"
        header, record = 256 * 3, 20 + (len(content) - 256 * 3) // len(onsets) - 20
        for number, onset in enumerate(onsets):
            place = header + number * record + 20
            content[place : place + record - 20] = f"+{onset:g}\x14\x14\x00".encode().ljust(record - 20, b"\x00")
        path.write_bytes(bytes(content))
        return path

    return write


def test_gaps_of_a_discontinuous_file_are_missing_samples_at_their_place(
    discontinuous: Callable[[list[float]], Path],
) -> None:
    recording = load_recording(discontinuous([0, 1, 2, 100, 101]))
    eda = recording.signal("EDA")
    samples = eda.read()[0]
    assert eda.duration_seconds == pytest.approx(102)
    np.testing.assert_allclose(samples[:30], np.arange(30), atol=0.01)
    assert np.isnan(samples[30:1000]).all()
    np.testing.assert_allclose(samples[1000:], np.arange(30, 50), atol=0.01)
    np.testing.assert_array_equal(eda.read(25, 1005), samples[None, 25:1005])
    assert any("1 gap, 97.0 s" in note for note in recording.notes)


def test_records_that_jump_back_are_left_out(discontinuous: Callable[[list[float]], Path]) -> None:
    recording = load_recording(discontinuous([0, 1, 2, 1, 3]))
    samples = recording.signal("EDA").read()[0]
    np.testing.assert_allclose(samples, [*range(30), *range(40, 50)], atol=0.01)
    assert any("1 data records start before" in note for note in recording.notes)


def test_onsets_beyond_any_recording_are_refused(discontinuous: Callable[[list[float]], Path]) -> None:
    with pytest.raises(RecordingError, match=r"gaps.edf: a data record starts 1e\+09 s after the first"):
        load_recording(discontinuous([0, 1e9]))


@pytest.mark.parametrize("row", [0, 1, 25, 199])
@pytest.mark.parametrize("wrong", [1e9, 400_000.0, 9000.0])
def test_one_record_at_a_wild_onset_is_missing_and_the_others_stay(
    discontinuous: Callable[[list[float]], Path], row: int, wrong: float
) -> None:
    onsets = [float(n) for n in range(200)]
    onsets[row] = wrong
    recording = load_recording(discontinuous(onsets))
    samples = recording.signal("EDA").read()[0]
    truth = np.arange(2000.0)
    truth[10 * row : 10 * row + 10] = np.nan
    expected = truth[10:] if row == 0 else truth[:-10] if row == 199 else truth
    np.testing.assert_allclose(samples, expected, atol=0.01)
    assert any(f"1 data records have an onset that all others contradict ({wrong:g} s" in n for n in recording.notes)
    assert [interval.onset_seconds for interval in recording.intervals] == []


@pytest.mark.parametrize(
    ("offset", "text", "fault"),
    [
        (252, "0   ", "number of channels is '0'"),
        (252, "-3  ", "number of channels is '-3'"),
        (252, "9999", "number of channels is '9999'"),
        (252, "x   ", "number of channels is 'x'"),
        (252, "4000", "needs 1024256 bytes"),
        (244, "0       ", "duration of a data record is 0 s"),
        (244, "-1      ", "duration of a data record is -1 s"),
        (244, "NaN     ", "duration of a data record is nan s"),
    ],
)
def test_a_header_whose_counts_cannot_be_is_refused(edf_file: Path, offset: int, text: str, fault: str) -> None:
    with pytest.raises(RecordingError, match=f"made.edf: .*{fault}"):
        load_recording(patched(edf_file, offset, text))


@pytest.mark.parametrize(
    ("start", "text"),
    [(104, "nan     "), (104, "1e999   "), (104, "10      "), (120, "99999   "), (120, "32767   "), (216, "0       ")],
)
def test_a_channel_whose_calibration_cannot_be_is_left_out_and_named(edf_file: Path, start: int, text: str) -> None:
    # The last channel before the annotations is EDA, physical -10 to 10.
    recording = load_recording(patched(edf_file, channel_field(6, start, 8, 4), text))
    assert "EDA" not in [signal.name for signal in recording.signals]
    assert any(note.startswith("EDA: ") and "left out" in note for note in recording.notes)


def test_physical_limits_the_other_way_round_turn_the_polarity(edf_file: Path) -> None:
    before = load_recording(edf_file).signal("EDA").read()
    patched(edf_file, channel_field(6, 104, 8, 4), "10      ")
    patched(edf_file, channel_field(6, 112, 8, 4), "-10     ")
    np.testing.assert_allclose(load_recording(edf_file).signal("EDA").read(), -before, atol=1e-3)


@pytest.mark.parametrize("unit", ["furlong", "", ".V", "V/m"])
def test_an_unknown_unit_is_kept_and_called_out_and_never_taken_for_volts(edf_file: Path, unit: str) -> None:
    recording = load_recording(patched(edf_file, channel_field(6, 96, 8, 3), unit.ljust(8)))
    assert recording.signal("ECG").unit == unit
    assert any(note.startswith("ECG: ") and "cannot be turned into mV" in note for note in recording.notes)


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1e-3), ("\xb5V", 1e-3), ("nV", 1e-6), ("V", 1e3), ("?V", 1e-3)])
def test_units_are_converted_by_the_table(edf_file: Path, unit: str, factor: float) -> None:
    before = load_recording(edf_file).signal("ECG").read()
    recording = load_recording(patched(edf_file, channel_field(6, 96, 8, 3), unit.ljust(8)))
    np.testing.assert_allclose(recording.signal("ECG").read(), before * factor, rtol=1e-9)


@pytest.mark.parametrize(
    ("offset", "text", "note"),
    [
        (236, "-1      ", "did not finish"),
        (236, "12      ", "the file is cut: 10 of 12"),
        (236, "8       ", "says 8 data records but 10 are there"),
        (184, "300     ", "says it is '300' bytes long"),
        (168, "31.02.20", "start date or time in the header is impossible"),
    ],
)
def test_a_doubtful_header_field_is_used_with_a_note(edf_file: Path, offset: int, text: str, note: str) -> None:
    whole = load_recording(edf_file).signal("EEG").read()
    recording = load_recording(patched(edf_file, offset, text))
    assert any(note in one for one in recording.notes)
    np.testing.assert_array_equal(recording.signal("EEG").read(), whole)


def test_a_cut_file_gives_its_whole_records(edf_file: Path) -> None:
    whole = load_recording(edf_file).signal("ECG").read()
    content = edf_file.read_bytes()
    edf_file.write_bytes(content[:-1])
    recording = load_recording(edf_file)
    assert any("9 of 10 data records" in note for note in recording.notes)
    assert any("bytes after the last whole data record" in note for note in recording.notes)
    np.testing.assert_array_equal(recording.signal("ECG").read(), whole[:, : 9 * 256])


def test_a_file_of_annotations_only_is_refused(reference_data: Path) -> None:
    with pytest.raises(RecordingError, match="annotations only"):
        load_recording(reference_data / "formats" / "edf" / "SC4001EC-Hypnogram.edf")


def test_another_format_named_edf_is_refused_and_bdf_named_edf_is_read_as_what_it_is(
    reference_data: Path, tmp_path: Path
) -> None:
    source = reference_data / "formats" / "bdf" / "test_bdf_stim_channel.bdf"
    disguised = tmp_path / "disguised.edf"
    disguised.write_bytes(source.read_bytes())
    np.testing.assert_array_equal(
        load_recording(disguised).signal("EEG").read(), load_recording(source).signal("EEG").read()
    )
    disguised.write_text("time,ECG\n0,1\n1,2\n")
    with pytest.raises(RecordingError, match=r"disguised.edf: named .edf but does not begin as EDF or BDF"):
        load_recording(disguised)


def test_data_records_that_are_too_short_for_any_rate_are_refused(edf_file: Path) -> None:
    content = edf_file.read_bytes()
    edf_file.write_bytes(content[:244] + b"1e-7    " + content[252:])
    with pytest.raises(RecordingError, match=r"^made\.edf: a sampling rate is \S+ Hz \(data records of 1e-07 s\)"):
        load_recording(edf_file)
