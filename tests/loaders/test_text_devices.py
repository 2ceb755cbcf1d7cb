"""Text files of devices: planted values in their documented layouts, and real files held to what they say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Recording


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(RecordingError) as caught:
        load_recording(path)
    return str(caught.value)


def local(seconds: float) -> str:
    """Return a date and time as phones write it."""
    return datetime.fromtimestamp(seconds, tz=UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def has_note(recording: Recording, words: str) -> bool:
    return any(words in note for note in recording.notes)


# OpenSignals


def opensignals(rows: list[list[int]], **fields: object) -> str:
    device: dict[str, object] = {
        "sensor": ["ECG", "EDA"],
        "column": ["nSeq", "DI", "CH1", "CH2"],
        "time": "9:33:55.606",
        "channels": [1, 2],
        "date": "2017-1-17",
        "device": "biosignalsplux",
        "sampling rate": 100,
        "label": ["CH1", "CH2"],
        "resolution": [16, 16],
    }
    header = json.dumps({"00:07:80:3B:46:61": device | fields})
    lines = "".join("\t".join(str(cell) for cell in row) + "\t\n" for row in rows)
    return f"# OpenSignals Text File Format\n# {header}\n# EndOfHeader\n{lines}"


def test_counts_of_plux_become_the_planted_units_and_lost_samples_a_gap(tmp_path: Path) -> None:
    ecg = np.linspace(-1.0, 1.0, 200)
    eda = np.linspace(2.0, 8.0, 200)
    counts = np.stack([(ecg * 1.019 / 3 + 0.5) * 65536, eda * 0.12 / 3 * 65536]).round().astype(int)
    rows = [[(65_530 + i) % 65_536, 0, *counts[:, i]] for i in range(200) if not 50 <= i < 70]
    recording = load_recording(written(tmp_path, "made.txt", opensignals(rows)))
    assert recording.started_at == datetime(2017, 1, 17, 9, 33, 55, 606000)
    is_there = (np.arange(200) < 50) | (np.arange(200) >= 70)
    for name, planted, unit, tolerance in (("ECG", ecg, "mV", 1e-4), ("EDA", eda, "uS", 1e-3)):
        signal = recording.signal(name)
        assert (signal.unit, signal.sampling_rate, signal.n_samples) == (unit, 100, 200)
        np.testing.assert_allclose(signal.read()[0][is_there], planted[is_there], atol=tolerance)
        assert np.isnan(signal.read()[0][~is_there]).all()
    assert has_note(recording, "gaps: the counter leaves out 20 of 200 samples (0.2 s)")


def test_real_counts_of_plux_are_what_its_own_formula_gives(reference_data: Path) -> None:
    folder = reference_data / "formats/opensignals_txt"
    counts = np.loadtxt(folder / "ecg_sample.txt", usecols=2)
    ecg = load_recording(folder / "ecg_sample.txt").signal("ECG").read()[0]
    np.testing.assert_allclose(ecg, (counts / 2**16 - 0.5) * 3 / 1.019, rtol=1e-12)  # the sensor's data sheet
    counts = np.loadtxt(folder / "eda_hot_surface.txt", usecols=5)
    eda = load_recording(folder / "eda_hot_surface.txt").signal("EDA").read()[0]
    np.testing.assert_allclose(eda, counts / 2**10 * 3.3 / 0.132, rtol=1e-12)


def test_a_sensor_without_a_published_function_is_not_used(tmp_path: Path) -> None:
    text = opensignals([[i, 0, 100 + i, 7] for i in range(30)], sensor=["CUSTOM", "LOADCELL"])
    recording = load_recording(written(tmp_path, "made.txt", text))
    assert {signal.modality for signal in recording.signals} == {"unknown"}
    assert has_note(recording, "no published transfer function")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# OpenSignals Text File Format\n# {}\n# EndOfHeader\n1\t2\n", "names no device; export it again"),
        ("# OpenSignals Text File Format\n# {\n# EndOfHeader\n1\t2\n", "is damaged"),
        ("# OpenSignals Text File Format\n1\t2\n", "has no end (# EndOfHeader); export it again"),
        (opensignals([[0, 0, 1, 2]], **{"sampling rate": 0}), "the sampling rate in the header of OpenSignals is 0"),
        (opensignals([[0, 0, 1, 2]], column=[]), "gives no column; export it again"),
        (opensignals([]), "a header and no rows"),
    ],
)
def test_a_damaged_header_of_opensignals_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in refusal(written(tmp_path, "made.txt", text))


# OpenBCI


def openbci(places: np.ndarray, rate: float = 250.0) -> str:
    names = ["Sample Index", "EXG Channel 0", "EXG Channel 1", *(f"Accel Channel {i}" for i in range(3))]
    head = f"%OpenBCI Raw EXG Data\n%Number of channels = 2\n%Sample Rate = {rate:g} Hz\n%Board = made\n"
    rows = "".join(
        f"{i % 256}, {i % 100:.2f}, {-(i % 50):.2f}, 0.0, 0.6, 0.8, {1.6e9 + i / rate:.4f}, {int(i == 300)}, x\n"
        for i in places
    )
    return f"{head}{', '.join([*names, 'Timestamp', 'Marker Channel', 'Timestamp (Formatted)'])}\n{rows}"


def test_openbci_keeps_the_places_of_samples_over_turns_of_its_counter(tmp_path: Path) -> None:
    places = np.concatenate([np.arange(0, 500), np.arange(510, 700), np.arange(700 + 3 * 256, 1600)])
    recording = load_recording(written(tmp_path, "made.txt", openbci(places)))
    acc = recording.signal("ACC")
    assert (acc.sampling_rate, acc.n_samples, acc.channel_names) == (250, 1600, ("x", "y", "z"))
    assert np.flatnonzero(np.isfinite(acc.read()[0])).tolist() == places.tolist()
    exg = recording.signal("EXG Channel 0")
    np.testing.assert_array_equal(exg.read()[0][places], places % 100)
    assert (exg.modality, exg.unit) == ("unknown", "uV")
    assert recording.started_at == datetime.fromtimestamp(1_600_000_000, tz=UTC)
    assert [(i.onset_seconds, i.label) for i in recording.intervals] == [(300 / 250, "marker 1")]
    assert has_note(recording, "say it in the study (signals: {'EXG*': {modality: eeg}})")


def test_what_the_study_says_of_openbci_channels_is_used(tmp_path: Path) -> None:
    path = written(tmp_path, "made.txt", openbci(np.arange(500)))
    recording = load_recording(path, overrides={"EXG*": SignalOverride(modality="eeg")})
    assert [(s.modality, s.n_channels) for s in recording.signals] == [("eeg", 2), ("acc", 3)]


def test_the_old_program_of_openbci_writes_no_header_and_calls_it_eeg(tmp_path: Path) -> None:
    head = (
        "%OpenBCI Raw EEG Data\n%\n%Number of channels = 2\n%Sample Rate = 250.0 Hz\n%First Column = SampleIndex\n"
        "%Last Column = Timestamp\n%Other Columns = EEG data in microvolts followed by Accel Data (in G)\n"
    )
    rows = "".join(f"{i % 256}, {i:.2f}, {-i:.2f}, 0.0, 0.6, 0.8, 12:00:{i // 250:02d}.000\n" for i in range(600))
    recording = load_recording(written(tmp_path, "made.txt", head + rows))
    assert [(s.modality, s.n_channels, s.n_samples) for s in recording.signals] == [("eeg", 2, 600), ("acc", 3, 600)]
    np.testing.assert_array_equal(recording.signals[0].read()[1], -np.arange(600.0))


def test_openbci_without_a_rate_is_refused(tmp_path: Path) -> None:
    text = openbci(np.arange(50)).replace("%Sample Rate = 250 Hz\n", "")
    assert refusal(written(tmp_path, "made.txt", text)) == (
        "made.txt: the header of OpenBCI gives no sampling rate above 0 and up to 20000 Hz; write "
        "'%Sample Rate = 250 Hz' on top"
    )


# Shimmer, Muse, Polar


def test_shimmer_columns_are_read_by_their_unit_row(tmp_path: Path) -> None:
    names = ["Timestamp_Unix", "Accel_LN_X", "Accel_LN_Y", "Accel_LN_Z", "GSR_Skin_Conductance", "PPG_A13", "Battery"]
    units = ["ms", "m/(s^2)", "m/(s^2)", "m/(s^2)", "uS", "mV", "mV"]
    head = ";".join(f"Shimmer_40AC_{name}_CAL" for name in names) + ";\n" + ";".join(units) + ";\n"
    jitter = np.random.default_rng(2).uniform(0, 60, 2000)
    rows = "".join(
        f"{1.6e12 + i * 1000 / 51.2 + jitter[i]:.13E};0;9.80665;0;{2 + i / 1000};{1500 + i % 7};4100;\n".replace(
            "E+", "E"
        )
        for i in range(2000)
        if not 800 <= i < 900
    )
    recording = load_recording(written(tmp_path, "made.csv", f'"sep=;"\n{head}{rows}'))
    eda, acc = recording.signal("gsr skin conductance"), recording.signal("accel ln")
    assert (eda.sampling_rate, eda.n_samples, eda.unit, eda.modality) == (51.2, 2000, "uS", "eda")
    places = np.setdiff1d(np.arange(2000), np.arange(800, 900))
    samples = eda.read()[0]
    assert np.abs(np.flatnonzero(np.isfinite(samples)) - places).max() <= 1
    np.testing.assert_allclose(samples[np.isfinite(samples)], 2 + places / 1000)
    np.testing.assert_allclose(np.nanmean(acc.read(), axis=1), [0, 1, 0], atol=1e-9)
    assert recording.signal("ppg a13").modality == "bvp"
    assert recording.started_at is not None and recording.started_at.year == 2020


def test_uncalibrated_columns_of_shimmer_have_no_unit(tmp_path: Path) -> None:
    head = "sep=\t\nShimmer_4DF5\tShimmer_4DF5\tShimmer_4DF5\nTimestamp\tECG LL-RA\tGSR Skin Conductance\n"
    head += "CAL\tRAW\tCAL\nms\tno units\tuS\n"
    rows = "".join(f"{i * 7.8125:.4f}\t{i % 50}\t{3.5}\n" for i in range(400))
    recording = load_recording(written(tmp_path, "made.csv", head + rows))
    assert recording.signal("gsr skin conductance").sampling_rate == 128
    assert recording.signal("ecg ll-ra").unit == ""
    assert has_note(recording, "ecg ll-ra: no unit in the file")


def test_muse_reads_raw_eeg_and_marks_and_leaves_bands_out(tmp_path: Path) -> None:
    names = "TimeStamp,Delta_TP9,RAW_TP9,RAW_AF7,RAW_AF8,RAW_TP10,Accelerometer_X,Accelerometer_Y,Accelerometer_Z"
    lines = [f"{names},HeadBandOn,Elements"]
    for i in range(2560):
        stamp = local(1_617_637_684 + (i // 12 * 12 + 12) / 256).replace("T", " ")
        if i == 1280:
            lines.append(f"{stamp},,,,,,,,,,/Marker/2")
        lines.append(f"{stamp},0.5,{800 + 50 * np.sin(i / 4):.4f},801,802,803,0,0,1,1")
    recording = load_recording(written(tmp_path, "made.csv", "\n".join(lines) + "\n"))
    eeg, acc = recording.signals[:2]
    assert (eeg.name, eeg.channel_names, eeg.sampling_rate, eeg.n_samples) == (
        "EEG",
        ("TP9", "AF7", "AF8", "TP10"),
        256,
        2560,
    )
    assert all(channel.position is not None for channel in eeg.channels)
    np.testing.assert_allclose(eeg.read()[0], 800 + 50 * np.sin(np.arange(2560) / 4), atol=1e-4)
    assert (acc.modality, acc.unit) == ("acc", "g")
    assert [interval.label for interval in recording.intervals] == ["2"]
    assert recording.intervals[0].onset_seconds == pytest.approx(5.0, abs=0.06)
    assert not any("Delta" in signal.name for signal in recording.signals)


def polar(n: int, columns: str, row: str) -> str:
    lines = [f"Phone timestamp;sensor timestamp [ns];{columns}"]
    for i in range(n):
        packet = local(1_700_000_000 + (i // 73 * 73 + 73) / 130)
        sensor = 599_628_000_000_000_000 + round(i * 1e9 / 130)
        lines.append(f"{packet};{sensor};{row.format(i=i)}")
    return "\n".join(lines) + "\n"


def test_polar_ecg_lies_by_the_sensors_clock_and_begins_by_the_phones(tmp_path: Path) -> None:
    path = written(tmp_path, "Polar_H10_ECG.txt", polar(1300, "timestamp [ms];ecg [uV]", "{i};{i}"))
    recording = load_recording(path)
    ecg = recording.signal("ECG")
    assert (ecg.sampling_rate, ecg.n_samples, ecg.unit) == (pytest.approx(130, rel=1e-6), 1300, "mV")
    np.testing.assert_allclose(ecg.read()[0], np.arange(1300) / 1000)
    assert recording.started_at is not None and recording.started_at.tzinfo is None
    late = (recording.started_at - datetime(2023, 11, 14, 22, 13, 20)).total_seconds()
    assert 0 <= late < 0.1


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_phone_whose_clock_is_set_while_polar_records_does_not_move_the_start(tmp_path: Path, share: float) -> None:
    """At half by an hour back (summer time ends); or not set at all (1970) up to there."""
    lines = polar(1460, "timestamp [ms];ecg [uV]", "{i};{i}").splitlines()
    for row in range(1, 731) if share == 0 else range(731, 1461):
        stamp, _, rest = lines[row].partition(";")
        seconds = datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()
        lines[row] = f"{local(seconds - (1_700_000_000 if share == 0 else 3600))};{rest}"
    recording = load_recording(written(tmp_path, "Polar_H10_ECG.txt", "\n".join(lines) + "\n"))
    assert recording.started_at is not None
    assert abs((recording.started_at - datetime(2023, 11, 14, 22, 13, 20)).total_seconds()) < 0.1
    words = "was not set in 730 rows" if share == 0 else "from row 731 on the phone's clock is 3600 s behind"
    assert has_note(recording, words)


@pytest.mark.parametrize("step", [-1_600_000_000.0, -3600.0, 90_000.0])
def test_a_computer_whose_clock_is_set_while_openbci_records_is_named(tmp_path: Path, step: float) -> None:
    lines = openbci(np.arange(1000)).splitlines()
    for row in range(len(lines) - 500, len(lines)):
        cells = lines[row].split(", ")
        lines[row] = ", ".join([*cells[:6], f"{float(cells[6]) + step:.4f}", *cells[7:]])
    recording = load_recording(written(tmp_path, "made.txt", "\n".join(lines) + "\n"))
    assert recording.started_at == datetime.fromtimestamp(1_600_000_000, tz=UTC)
    assert recording.signals[0].n_samples == 1000
    assert has_note(recording, "the computer's clock was not set in 500 rows" if step < -1e9 else "from row 501 on")


def test_polar_acceleration_and_intervals_are_read_in_their_units(tmp_path: Path) -> None:
    acc = load_recording(written(tmp_path, "a_ACC.txt", polar(500, "X [mg];Y [mg];Z [mg]", "0;0;1000"))).signal("ACC")
    np.testing.assert_allclose(np.nanmedian(acc.read(), axis=1), [0, 0, 1])
    beats = np.cumsum(np.full(60, 0.8))
    rows = "".join(f"{local(1_700_000_000 + t)};800\n" for t in beats)
    rr = load_recording(written(tmp_path, "a_RR.txt", f"Phone timestamp;RR-interval [ms]\n{rows}")).signal("RR")
    assert (rr.modality, rr.unit) == ("ibi", "s")
    np.testing.assert_allclose(rr.read()[0], 0.8)
    np.testing.assert_allclose(rr.sample_times(), beats - beats[0], atol=2e-3)


# Garmin, Everion, Faros, BioSPPy


def test_garmin_acceleration_is_believed_where_gravity_confirms_it(tmp_path: Path) -> None:
    def rows(one_g: int) -> str:
        return "".join(f"2019-10-16T12:09:{i / 25:06.3f}+02:00;0;0;{-one_g}\n" for i in range(1000))

    acc = load_recording(written(tmp_path, "acc.csv", rows(1000))).signal("ACC")
    assert (acc.unit, acc.sampling_rate, acc.modality) == ("g", 25, "acc")
    np.testing.assert_allclose(acc.read()[2], -1)
    assert refusal(written(tmp_path, "other.csv", rows(64))) == (
        "other.csv: lines of a time and three numbers without a header, which are no acceleration in mg; write what "
        'they are in other.json beside it: {"Columns": ["timestamp", "...", "...", "..."]}'
    )


def test_garmin_long_lines_give_each_name_its_values_at_its_times(reference_data: Path) -> None:
    path = reference_data / "formats/garmin_csv/data.csv"
    recording = load_recording(path)
    lines = [line.split(";") for line in path.read_text().splitlines() if "2019-10-16" in line]
    beats = [float(value) / 1000 for _, name, value in lines if name == "HEART_RATE_VARIABILITY"]
    ibi = recording.signal("IBI").read()[0]
    np.testing.assert_allclose(ibi[:10_000], beats[:10_000])
    rates = [float(value) for _, name, value in lines if name == "HEART_RATE"]
    hr = recording.signal("HR").read()[0]
    assert np.nanmedian(hr) == np.median(rates)
    assert recording.signal("HR").is_regular


def everion(stream: int, rows: list[tuple[int, int, int, str]]) -> str:
    lines = "".join(f"{count},{stream},{tag},{time},{values}\n" for count, tag, time, values in rows)
    return f"count,streamType,tag,time,values\n{lines}"


def test_everion_gives_each_code_its_signal_and_no_value_of_quality_0(tmp_path: Path) -> None:
    zero = 1_551_454_000
    signals = [
        (i, tag, zero + i, value)
        for i in reversed(range(120))
        for tag, value in ((6, f"{60 + i % 5}.0;{0 if i < 30 else 85}"), (118, f"{33 + i / 1000}"), (15, "37.0;100.0"))
    ]
    intervals = 900 + 100 * np.sin(np.arange(100) / 3)
    ends = np.cumsum(intervals) / 1000
    beats = [(i, 14, zero + int(ends[i]), f"{intervals[i]:.0f};12.0") for i in range(100)]
    written(tmp_path, "CsvData_signals_X.csv", everion(2, signals))
    written(tmp_path, "CsvData_features_X.csv", everion(4, beats))
    written(tmp_path, "CsvData_everion_events_X.csv", everion(6, [(1, 128, zero, "0.0")]))
    recording = load_recording(tmp_path)
    hr, temp, ibi = (recording.signal(name) for name in ("HR", "TEMP", "IBI"))
    assert (hr.sampling_rate, hr.n_samples, temp.unit) == (1, 120, "degC")
    assert np.isnan(hr.read()[0][:30]).all()
    np.testing.assert_array_equal(hr.read()[0][30:], 60 + np.arange(30, 120) % 5)
    assert has_note(recording, "HR: 25 % of its values have quality 0 by the device; they are missing")
    np.testing.assert_allclose(ibi.sample_times(), ends, atol=0.3)
    np.testing.assert_allclose(np.diff(ibi.sample_times()), ibi.read()[0][1:], atol=1e-9)
    assert recording.signal("core temperature (computed)").modality == "unknown"
    assert recording.started_at == datetime.fromtimestamp(zero, tz=UTC)
    assert has_note(recording, "CsvData_everion_events_X.csv: events, no signals; left out")


def test_an_everion_file_without_signals_is_refused(reference_data: Path) -> None:
    folder = reference_data / "formats/biovotion_everion"
    words = {"aggregates": "means of minutes", "everion_events": "events", "attributes_dailys": "daily values"}
    for kind, holds in words.items():
        name = f"CsvData_{kind}_EV-EC39-7079-57A8.csv"
        assert refusal(folder / name) == (
            f"{name}: holds {holds} and no signals; give the folder, or its file of signals, features or sensor_data"
        )


def faros(folder: Path, **meta: object) -> Path:
    content = {
        "start_time": "2018-10-12 16:54:12",
        "sample_freqs": {"ECG": 500.0, "ACC": 25.0, "Marker": 1.0, "HRV": 5.0},
        "units": {"ECG": "uV", "ACC": "mg", "HRV": "ms"},
    }
    written(folder, "meta.json", json.dumps(content | meta))
    written(folder, "ECG.csv", "ECG\n" + "".join(f"{i}\n" for i in range(5000)))
    written(folder, "ACC.csv", "X,Y,Z\n" + "0,0,1000\n" * 250)
    written(folder, "HRV.csv", "HRV\n" + "".join("820\n" if i % 4 == 3 else "0\n" for i in range(50)))
    written(folder, "Marker.csv", "Marker\n" + "".join(f"{int(i == 7)}\n" for i in range(10)))
    return folder


def test_a_faros_folder_gives_its_files_their_rates_and_units(tmp_path: Path) -> None:
    recording = load_recording(faros(tmp_path))
    ecg, acc, ibi = recording.signals
    assert (ecg.unit, ecg.sampling_rate, acc.sampling_rate) == ("mV", 500, 25)
    np.testing.assert_allclose(ecg.read()[0], np.arange(5000) / 1000)
    np.testing.assert_allclose(acc.read()[2], 1)
    np.testing.assert_allclose(ibi.read()[0], 0.82)
    np.testing.assert_allclose(ibi.sample_times(), np.arange(3, 50, 4) / 5)
    assert [(i.onset_seconds, i.duration_seconds) for i in recording.intervals] == [(7, 0)]
    assert recording.started_at == datetime(2018, 10, 12, 16, 54, 12)
    assert [signal.name for signal in load_recording(tmp_path / "ECG.csv").signals] == ["ECG"]


def test_a_real_faros_folder_holds_what_its_edf_holds(reference_data: Path) -> None:
    folder = reference_data / "formats/bittium_faros"
    text, edf = load_recording(folder), load_recording(folder / "testfile_read.EDF")
    np.testing.assert_allclose(text.signal("ECG").read()[0], edf.signal("ECG").read()[0], atol=1e-3)


def test_a_rate_of_faros_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = faros(tmp_path, sample_freqs={"ECG": 0})
    assert refusal(path) == (f"{tmp_path.name}/meta.json: the rate of ECG is 0, allowed is more than 0 up to 100000 Hz")


def test_simple_text_of_biosppy_is_read_with_its_rate_and_labels(tmp_path: Path) -> None:
    head = "# Simple Text Format\n# Sampling Rate (Hz):= 1000.00\n# Resolution:= 12\n# Labels:= ECG\tEDA\n"
    path = written(tmp_path, "made.txt", head + "".join(f"{i}\t{2 * i}\n" for i in range(2000)))
    recording = load_recording(path)
    assert [(s.name, s.sampling_rate, s.unit) for s in recording.signals] == [("ECG", 1000, ""), ("EDA", 1000, "")]
    np.testing.assert_array_equal(recording.signals[1].read()[0], 2 * np.arange(2000))
    assert has_note(recording, "counts, without a unit")
    written(tmp_path, "made.json", json.dumps({"ECG": {"Units": "mV"}}))
    assert load_recording(path).signal("ECG").unit == "mV"
    bare = written(tmp_path, "bare.txt", "# Simple Text Format\n1\n2\n")
    assert refusal(bare) == "bare.txt: the header gives no 'Sampling Rate (Hz):='; add the line, or a JSON sidecar"


FLOW = (
    "Name,Sport,Date,Start time,Duration,Total distance (km),Average heart rate (bpm),HR max,\n"
    "Ada Lovelace,OTHER_INDOOR,05-04-2024,06:07:08,00:10:00,0.00,72,190,\n"
    "Sample rate,Time,HR (bpm),Speed (km/h),Pace (min/km),Cadence,Altitude (m),Temperatures (C),Power (W),\n"
)


def flow(rows: str) -> str:
    return FLOW + rows


def test_a_session_of_polar_flow_is_heart_rate_by_the_second(tmp_path: Path) -> None:
    path = tmp_path / "session.csv"
    rows = "".join(
        f"{1 if i == 0 else ''},00:{i // 60:02}:{i % 60:02},{'' if i == 30 else 60 + i % 7},,,,,21.0,,\n"
        for i in range(90)
    )
    path.write_text(flow(rows))
    recording = load_recording(path)
    (hr,) = recording.signals
    assert (hr.name, hr.modality, hr.unit, hr.sampling_rate, hr.recognised_by) == ("HR", "hr", "bpm", 1.0, "format")
    wanted = 60.0 + np.arange(90) % 7
    wanted[30] = np.nan
    np.testing.assert_array_equal(hr.read()[0], wanted)
    assert recording.started_at == datetime(2024, 4, 5, 6, 7, 8)
    assert any(note.startswith("left out: Speed") for note in recording.notes)
    assert "Ada" not in repr(recording)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FLOW.split("Sample rate")[0], "a session of Polar Flow without samples"),
        (flow("1,,72,,,,,,,\n,x,73,,,,,,,\n"), "no row of samples has a time"),
        (FLOW, "no row of samples has a time"),
    ],
)
def test_a_session_of_polar_flow_without_samples_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "session.csv"
    path.write_text(text)
    with pytest.raises(RecordingError, match=rf"^session\.csv: {words}"):
        load_recording(path)
