"""Tables in other layouts: without a header, with units under it, counters for times, beats that follow each other."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording

Write = Callable[..., Path]


def refusal(path: Path) -> str:
    with pytest.raises(RecordingError) as caught:
        load_recording(path)
    return str(caught.value)


def test_a_column_without_a_name_is_refused_with_what_to_write_and_read_with_it(write_table: Write) -> None:
    text = "".join(f"{400 + i % 50}\n" for i in range(500))
    assert refusal(write_table(text)) == (
        "made.csv: the first line holds numbers and no column names; write what the column is, and its rate, in "
        'made.json beside it, for example {"Columns": ["PPG"], "SamplingFrequency": 100}, or {"Columns": ["RR (ms)"]} '
        "of intervals from beat to beat"
    )
    pulse = load_recording(write_table(text, {"Columns": ["PPG"], "SamplingFrequency": 100})).signal("PPG")
    assert (pulse.modality, pulse.sampling_rate, pulse.n_samples) == ("bvp", 100, 500)


@pytest.mark.parametrize("name", ["made.log", "made.asc", "made.dat", "made.txt"])
def test_columns_without_names_are_refused_with_what_to_write(write_table: Write, name: str) -> None:
    text = "".join(f"{i / 100},{i},{-i}\n" for i in range(500))
    assert refusal(write_table(text, name=name)) == (
        f"{name}: the first line holds numbers and no column names; write the names of the 3 columns in made.json "
        'beside it, for example {"Columns": ["time (s)", "ECG (mV)", "EDA (uS)"]}; without a column of times '
        '"SamplingFrequency" belongs there too'
    )
    path = write_table(text, {"Columns": ["time (s)", "ECG (mV)", "EDA (uS)"]}, name=name)
    assert [(s.name, s.sampling_rate) for s in load_recording(path).signals] == [("ECG", 100), ("EDA", 100)]


def test_dates_in_the_first_line_are_no_names(write_table: Write) -> None:
    text = "".join(f"2023-12-25 14:03:{i:02d};ON;{i}\n" for i in range(40))
    assert "the first line holds numbers and no column names" in refusal(write_table(text))


def test_a_rate_that_is_missing_is_asked_for_with_the_units_that_are(write_table: Write) -> None:
    assert refusal(write_table("ECG,EDA (uS),RSP\n" + "1,2,3\n" * 50)) == (
        "made.csv: no time column ('time' in seconds or 'timestamp') and no sampling rate; write the rate and the "
        "units in made.json beside it in this form, with the file's own values: "
        '{"SamplingFrequency": 100, "ECG": {"Units": "mV"}}'
    )


def test_a_row_of_units_under_the_header_is_no_data(write_table: Write) -> None:
    rows = "".join(f"{i / 4:.2f};{i};33.5;a\n".replace(".", ",") for i in range(100))
    text = f"time;EDA;TEMP;note\ns;uS;degC;\n{rows}"
    recording = load_recording(write_table(text))
    assert {s.name: s.unit for s in recording.signals} == {"EDA": "uS", "TEMP": "degC"}
    np.testing.assert_array_equal(recording.signal("EDA").read()[0], np.arange(100))


def test_a_counter_places_rows_and_what_it_leaves_out_is_missing(write_table: Write) -> None:
    places = np.setdiff1d(np.arange(1000), np.arange(400, 460))
    rows = "".join(f"{(250 + i) % 256},{i}\n" for i in places)
    recording = load_recording(write_table(f"sample,EDA (uS)\n{rows}", {"SamplingFrequency": 50}))
    samples = recording.signal("EDA").read()[0]
    assert np.flatnonzero(np.isfinite(samples)).tolist() == places.tolist()
    np.testing.assert_array_equal(samples[places], places)
    assert [signal.name for signal in recording.signals] == ["EDA"]
    assert any("the counter leaves out 60 of 1000 samples (1.2 s); they are missing" in n for n in recording.notes)


def test_numbers_that_do_not_count_are_no_counter(write_table: Write) -> None:
    rows = "".join(f"{(i * 7) % 100},{i}\n" for i in range(200))
    recording = load_recording(write_table(f"number,EDA (uS)\n{rows}", {"SamplingFrequency": 50}))
    assert recording.signal("EDA").n_samples == 200


def test_two_columns_of_times_are_refused_with_what_to_write(write_table: Write) -> None:
    text = "time,timestamp,EDA (uS)\n" + "".join(f"{i / 4},{1.6e9 + i / 4},{i}\n" for i in range(50))
    assert refusal(write_table(text)) == (
        "made.csv: more than one time column (time, timestamp); keep one, or write of the others in made.json beside "
        'it {"timestamp": {"Modality": "unknown"}}'
    )
    assert load_recording(write_table(text, {"timestamp": {"Modality": "unknown"}})).signal("EDA").sampling_rate == 4


def test_a_timer_without_a_unit_is_refused_and_read_with_it(write_table: Write) -> None:
    text = "timer,PPG\n" + "".join(f"{i * 8.5},{i % 60}\n" for i in range(500))
    assert refusal(write_table(text)) == (
        "made.csv: column 'timer' gives no unit of time; write it in made.json beside it: "
        '{"timer": {"Units": "ms"}}, or "s"'
    )
    pulse = load_recording(write_table(text, {"timer": {"Units": "ms"}})).signal("PPG")
    assert pulse.sampling_rate == pytest.approx(1000 / 8.5)


def test_a_wave_that_is_called_heart_rate_is_none(write_table: Write) -> None:
    recording = load_recording(write_table("time,hr\n" + "".join(f"{i / 100},{400 + i % 90}\n" for i in range(900))))
    assert [signal.modality for signal in recording.signals] == ["unknown"]
    assert any('write in made.json {"hr": {"Modality": "ppg"}}' in note for note in recording.notes)


INTERVALS = 800 + np.round(80 * np.sin(np.arange(300) / 5))


@pytest.mark.parametrize(
    ("name", "header", "scale"),
    [
        ("made.txt", "RR (ms)\n", 1),
        ("made.txt", "RR-interval [ms]\n", 1),
        ("made.csv", "ibi_s\n", 1000),
        ("made.csv", "IBI\n", 1000),
        ("made.csv", "RR\n", 1),
        ("S01_RR.txt", "", 1),
        ("S01-rri.csv", "", 1000),
    ],
)
def test_a_list_of_beats_needs_no_times(write_table: Write, name: str, header: str, scale: float) -> None:
    text = header + "".join(f"{interval / scale:g}\n" for interval in INTERVALS)
    [ibi] = load_recording(write_table(text, name=name)).signals
    assert (ibi.modality, ibi.unit, ibi.is_regular) == ("ibi", "s", False)
    np.testing.assert_allclose(ibi.read()[0], INTERVALS / 1000)
    np.testing.assert_allclose(ibi.sample_times(), np.cumsum(INTERVALS) / 1000)


def test_a_beat_that_is_missing_is_refused_for_nothing_tells_when_the_others_were(write_table: Write) -> None:
    text = "RR (ms)\n" + "".join(f"{0 if i == 7 else 800}\n" for i in range(50))
    assert refusal(write_table(text)) == (
        "made.csv: RR holds 0 in row 8 of 50, which is no interval, and nothing tells when the beats after it were; "
        "correct it, or add a column of times"
    )


def test_beats_in_another_unit_than_they_say_are_refused(write_table: Write) -> None:
    assert "those of a heart in ms; correct the unit" in refusal(write_table("RR (s)\n" + "800\n" * 50))


def test_a_name_within_quotes_may_go_over_lines(write_table: Write) -> None:
    text = 'time,"EDA\n(uS)","a, b"\n' + "".join(f"{i / 4},{i},x\n" for i in range(100))
    recording = load_recording(write_table(text))
    assert [(s.name, s.unit, s.n_samples) for s in recording.signals] == [("EDA", "uS", 100)]


def test_an_exponent_far_too_large_costs_its_cell(write_table: Write) -> None:
    for cell in ("1e40999999990", "1e-40999999990", "-1e40999999990", "1e99999999999999999999"):
        recording = load_recording(write_table(f"time,EDA (uS)\n0,1\n1,{cell}\n2,3\n3,4\n"))
        samples = recording.signal("EDA").read()[0]
        assert samples[[0, 2, 3]].tolist() == [1, 3, 4]
        assert np.isnan(samples[1]) or samples[1] == 0
        if "e-" not in cell:
            assert any("1 cells are" in note and "count as missing" in note for note in recording.notes)


def test_an_exponent_far_too_large_in_a_wristbands_file_costs_its_line(tmp_path: Path) -> None:
    (tmp_path / "EDA.csv").write_text("1600000000\n4\n" + "0.5\n" * 20 + "1e40999999990\n" + "0.5\n" * 20)
    samples = load_recording(tmp_path).signal("EDA").read()[0]
    assert np.flatnonzero(np.isnan(samples)).tolist() == [20]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (",".join(f"c{i}" for i in range(100_000)) + "\n" + "1," * 99_999 + "1\n", "100000 columns, allowed are 4096"),
        ("time,EDA\n0," + "1" * (3 << 20) + "\n", "a line of 3072 kB, allowed are 1024; this is no table"),
    ],
    ids=["columns", "line"],
)
def test_what_is_far_too_wide_is_refused(write_table: Write, text: str, fault: str) -> None:
    assert fault in refusal(write_table(text))
    assert fault in refusal(write_table(gzip.compress(text.encode()), name="made.csv.gz"))
