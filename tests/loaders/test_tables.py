"""CSV and TSV: sidecar or time column, the oddities of spreadsheets, and never a wrong value in silence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.loaders.recognition import SignalOverride

Write = Callable[..., Path]

SIDECAR: dict[str, object] = {
    "SamplingFrequency": 50,
    "StartTime": 2.5,
    "EDA": {"Units": "µS"},
    "belt": {"Units": "V", "Modality": "respiration"},
}


def rows(n: int = 200, rate: float = 50.0, delimiter: str = ",", decimal: str = ".") -> str:
    lines = [f"{i / rate:.6f}{delimiter}{2 + np.sin(i / 20):.6f}" for i in range(n)]
    return "".join(line.replace(".", decimal) + "\n" for line in lines)


def test_a_sidecar_gives_rate_start_unit_and_modality(write_table: Write) -> None:
    import pandas as pd

    frame = pd.DataFrame({"EDA": np.linspace(1, 2, 100), "belt": np.arange(100.0), "x1": 7.0})
    recording = load_recording(write_table(frame.to_csv(index=False), SIDECAR))
    found = {s.name: (s.modality, s.unit, s.recognised_by, s.sampling_rate, s.start_seconds) for s in recording.signals}
    assert found == {
        "EDA": ("eda", "uS", "label", 50.0, 2.5),
        "belt": ("resp", "a.u.", "sidecar", 50.0, 2.5),
        "x1": ("unknown", "", "", 50.0, 2.5),
    }
    np.testing.assert_allclose(recording.signal("EDA").read()[0], frame["EDA"], rtol=1e-14)


def test_a_headerless_gzipped_bids_file_takes_its_names_from_the_sidecar(write_table: Write) -> None:
    sidecar = {"SamplingFrequency": 10.0, "StartTime": -1.0, "Columns": ["cardiac", "EDA"], "EDA": {"Units": "uS"}}
    text = "".join(f"{i}\t{i / 10}\n" for i in range(30))
    recording = load_recording(write_table(gzip.compress(text.encode()), sidecar, name="made.tsv.gz"))
    np.testing.assert_allclose(recording.signal("EDA").read()[0], np.arange(30) / 10)
    assert recording.signal("EDA").start_seconds == -1.0
    assert recording.name == "made"


def test_a_time_column_in_seconds_places_the_rows_on_the_recordings_clock(write_table: Write) -> None:
    recording = load_recording(write_table("time,EDA [uS]\n" + "".join(f"{3 + i / 4},{i}\n" for i in range(40))))
    eda = recording.signal("EDA")
    assert (eda.unit, eda.sampling_rate, eda.start_seconds, recording.started_at) == ("uS", 4.0, 3.0, None)
    np.testing.assert_array_equal(eda.read()[0], np.arange(40))


@pytest.mark.parametrize("scale", [1, 1_000, 1_000_000, 1_000_000_000])
def test_unix_stamps_are_read_in_the_unit_that_their_size_tells(write_table: Write, scale: int) -> None:
    start = 1_600_000_000
    text = "timestamp,EDA (uS)\n" + "".join(f"{start * scale + i * scale // 4},{i}\n" for i in range(40))
    recording = load_recording(write_table(text))
    assert recording.started_at == datetime.fromtimestamp(start, tz=UTC)
    assert recording.signal("EDA").sampling_rate == pytest.approx(4.0)
    assert any("unix times in" in note for note in recording.notes) == (scale > 1)


@pytest.mark.parametrize("zone", ["", "Z", "+02:00", "-0530"])
def test_iso_stamps_are_local_time_unless_they_say_a_zone(write_table: Write, zone: str) -> None:
    text = "timestamp,EDA (uS)\n" + "".join(f"2024-03-01T12:00:{i:02d}.500{zone},{i}\n" for i in range(40))
    recording = load_recording(write_table(text))
    noon = datetime(2024, 3, 1, 12, 0, 0, 500000)
    expected = {"": noon, "Z": noon.replace(tzinfo=UTC), "+02:00": noon.replace(hour=10, tzinfo=UTC)}
    expected["-0530"] = noon.replace(hour=17, minute=30, tzinfo=UTC)
    assert recording.started_at == expected[zone]
    assert recording.started_at.tzinfo == expected[zone].tzinfo
    assert recording.signal("EDA").sampling_rate == 1.0


@pytest.mark.parametrize(
    "content",
    [
        ("time,EDA\n" + rows()).encode("utf-8-sig"),
        ("time,EDA\n" + rows()).replace("\n", "\r\n").encode(),
        ("time,EDA\n" + rows()).encode("utf-16"),
        ("time;EDA\n" + rows(delimiter=";", decimal=",")).encode(),
        ("time\tEDA\n" + rows(delimiter="\t", decimal=",")).encode(),
        ("time;EDA\n" + rows(delimiter=";")).encode(),
        ("sep=;\r\ntime;EDA\r\n" + rows(delimiter=";", decimal=",")).encode(),
        ('"time","EDA"\n' + rows()).encode(),
        ("time,EDA\n" + rows() + "\n\n").encode(),
    ],
    ids=["bom", "crlf", "utf16", "semicolon-comma", "tab-comma", "semicolon", "excel", "quoted", "blank-lines"],
)
def test_dialects_of_spreadsheets_give_the_same_samples(write_table: Write, content: bytes) -> None:
    recording = load_recording(write_table(content), overrides={"EDA": SignalOverride(unit="uS")})
    eda = recording.signal("EDA")
    assert eda.sampling_rate == pytest.approx(50)
    np.testing.assert_allclose(eda.read()[0], 2 + np.sin(np.arange(200) / 20), atol=1e-6)


def test_latin_1_is_read_with_a_note(write_table: Write) -> None:
    recording = load_recording(write_table(("time,EDA (µS)\n" + rows()).encode("latin-1")))
    assert recording.signal("EDA").unit == "uS"
    assert any("Latin-1" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("0.1,0.2\n0.3,0.4\n", "first line holds numbers and no column names"),
        ("EDA,ECG\n1,2\n2,3\n", "no time column .* and no sampling rate"),
        ("time,EDA\n0,1\n1,2,3\n2,3\n", r"lines cannot be divided into 2 columns \(line 3 has 3: '1,2,3'\)"),
        ("time,EDA\n0,99,1\n1,99,2\n2,99,3\n", r"lines cannot be divided into 2 columns \(line 2 has 3: '0,99,1'\)"),
        ("# a\ntime;EDA\n0;9;1\n1;9;2\n2;9;3\n", r"lines cannot be divided into 2 columns \(line 3 has 3: '0;9;1'\)"),
        ("time,EDA\n0,00,1,50\n0,25,1,60\n", r"line 2 has 4: '0,00,1,50'; are these decimal commas\?"),
        ('time,EDA\n"0",1,5\n"1",1,6\n', "lines cannot be divided into 2 columns"),
        ("EDA\n0,5\n0,6\n", r"lines cannot be divided into 1 columns \(line 2 has 2: '0,5'; are these decimal commas"),
        ('time,EDA\n0,"1\n1,2\n2,3\n', "lines cannot be divided into 2 columns"),
        ("time,EDA\n", "no readable time|no column of numbers|fewer than two rows"),
        ("time,EDA\n5,1\n", "fewer than two rows"),
        ("time,EDA\n5,1\n5,2\n", "fewer than two rows"),
        ("time,label\n0,rest\n1,rest\n", "no column of numbers beside the time"),
        ("time,timestamp,EDA\n0,0,1\n1,1,2\n", "more than one time column"),
        ("timestamp,EDA\n0,1\n1,2\n", "neither unix times nor ISO dates"),
        ("timestamp,EDA\nmonday,1\ntuesday,2\n", "'monday', which is neither a number nor an ISO date"),
        ("time,ECG (mV)\n" + "".join(f"{i * 4},{i}\n" for i in range(50)), "ECG as ecg would have 0.25 Hz"),
        ("nothing", "."),
    ],
)
def test_a_table_that_cannot_be_trusted_is_refused_by_name(write_table: Write, text: str, fault: str) -> None:
    with pytest.raises(RecordingError, match=f"made.csv: .*({fault})"):
        load_recording(write_table(text))


SLOW = {"EDA (uS)": 4.0, "RESP": 10.0, "TEMP (degC)": 4.0, "ACC_x (g)": 31.25, "hr (bpm)": 1.0, "SpO2 (%)": 1.0}


@pytest.mark.parametrize("column", SLOW)
def test_milliseconds_that_are_called_time_are_refused_for_slow_sensors_too(write_table: Write, column: str) -> None:
    rate = SLOW[column]
    rows = "".join(f"{1000 * i / rate:g},{90 + i % 5}\n" for i in range(400))
    label = column.partition(" ")[0]
    sentence = (
        rf"made.csv: {label} as \w+ would have {rate / 1000:.2g} Hz if its times are seconds, and {rate:.4g} Hz if "
        r"they are milliseconds; say the unit of the time column in its name: 'time \(s\)' or 'time \(ms\)'"
    )
    with pytest.raises(RecordingError, match=sentence):
        load_recording(write_table(f"time,{column}\n{rows}"))
    assert load_recording(write_table(f"time (ms),{column}\n{rows}")).signals[0].sampling_rate == pytest.approx(rate)
    in_sidecar = load_recording(write_table(f"time,{column}\n{rows}", {"time": {"Units": "ms"}}))
    assert in_sidecar.signals[0].sampling_rate == pytest.approx(rate)


@pytest.mark.parametrize(("unit", "seconds"), [("s", 60), ("sec", 60), ("min", 3600), ("minutes", 3600)])
def test_a_slow_logger_is_read_where_the_unit_of_its_times_is_said(
    write_table: Write, unit: str, seconds: float
) -> None:
    text = f"time ({unit}),TEMP (degC)\n" + "".join(f"{i * 60},{30 + i % 3}\n" for i in range(10))
    signal = load_recording(write_table(text)).signals[0]
    assert (signal.sampling_rate, signal.n_samples) == (pytest.approx(1 / seconds), 10)


def test_a_unit_of_time_that_is_none_is_refused(write_table: Write) -> None:
    with pytest.raises(RecordingError, match="column 'time' is in 'volts' by its sidecar; s, ms, us, ns, min and h"):
        load_recording(write_table("time,EDA (uS)\n" + rows(), {"time": {"Units": "Volts"}}))


def test_beats_at_times_in_another_unit_than_their_intervals_are_refused(write_table: Write) -> None:
    beats = 0.8 * np.arange(1, 100)
    in_ms = "".join(f"{1000 * t:.0f},800\n" for t in beats)
    with pytest.raises(
        RecordingError, match=r"ibi holds intervals of 0.8 s and its times are 800 s apart; say the units"
    ):
        load_recording(write_table("time,ibi (ms)\n" + in_ms))
    ibi = load_recording(write_table("time (ms),ibi (ms)\n" + in_ms)).signal("ibi")
    np.testing.assert_allclose(ibi.sample_times(), beats)


def test_milliseconds_are_taken_where_the_column_says_so(write_table: Write) -> None:
    text = "time (ms),ECG (mV)\n" + "".join(f"{i * 4},{i % 3}\n" for i in range(500))
    assert load_recording(write_table(text)).signal("ECG").sampling_rate == pytest.approx(250)


def test_words_among_numbers_are_missing_and_counted(write_table: Write) -> None:
    text = "time,EDA (uS)\n" + "".join(f"{i},{'off' if i == 7 else i}\n" for i in range(20))
    recording = load_recording(write_table(text))
    assert np.flatnonzero(np.isnan(recording.signal("EDA").read()[0])).tolist() == [7]
    assert any("EDA (uS): 1 cells are not numbers ('off' the first)" in note for note in recording.notes)


def test_short_lines_are_missing_and_counted(write_table: Write) -> None:
    text = "time,EDA (uS)\n" + "".join(f"{i},{i}\n" if i != 7 else "7\n" for i in range(20))
    recording = load_recording(write_table(text))
    assert np.flatnonzero(np.isnan(recording.signal("EDA").read()[0])).tolist() == [7]
    assert any("1 line has fewer than 2 cells" in note for note in recording.notes)


def test_a_file_cut_inside_its_last_number_loses_its_last_row(write_table: Write) -> None:
    recording = load_recording(write_table("time,EDA (uS)\n0,10\n1,11\n2,12\n3,1"))
    assert recording.signal("EDA").read()[0].tolist() == [10, 11, 12]
    assert any("no line end" in note for note in recording.notes)


def test_columns_of_one_name_are_kept_apart_and_called_out(write_table: Write) -> None:
    recording = load_recording(write_table("time,EDA (uS),EDA (uS)\n" + "".join(f"{i},{i},{-i}\n" for i in range(20))))
    assert [signal.name for signal in recording.signals] == ["EDA", "EDA_2"]
    assert any("columns of the same name" in note for note in recording.notes)


def test_a_sparse_column_has_its_own_rate(write_table: Write) -> None:
    text = "time,BVP,TEMP (C)\n" + "".join(
        f"{i / 32},{i % 7},{30 + i / 1000 if i % 8 == 0 else ''}\n" for i in range(640)
    )
    recording = load_recording(write_table(text))
    assert recording.signal("BVP").sampling_rate == pytest.approx(32)
    temperature = recording.signal("TEMP")
    assert (temperature.sampling_rate, temperature.unit) == (pytest.approx(4), "degC")
    np.testing.assert_allclose(temperature.read()[0], 30 + np.arange(0, 640, 8) / 1000)


def test_beat_intervals_stand_at_their_own_times(write_table: Write) -> None:
    beats = np.cumsum(np.random.default_rng(1).uniform(0.6, 1.0, 60))
    text = "time,ibi (ms)\n" + "".join(
        f"{t:.4f},{1000 * i:.1f}\n" for t, i in zip(beats[1:], np.diff(beats), strict=True)
    )
    ibi = load_recording(write_table(text)).signal("ibi")
    assert not ibi.is_regular
    np.testing.assert_allclose(ibi.sample_times(), beats[1:], atol=1e-4)
    np.testing.assert_allclose(ibi.read()[0], np.diff(beats), atol=1e-4)
    assert (ibi.unit, ibi.modality) == ("s", "ibi")


def test_the_study_goes_before_the_sidecar(write_table: Write) -> None:
    path = write_table("EDA,belt\n" + "1,2\n" * 100, SIDECAR)
    recording = load_recording(
        path, overrides={"BEL*": SignalOverride(modality="ppg"), "eda": SignalOverride(unit="mS")}
    )
    assert (recording.signal("belt").modality, recording.signal("belt").recognised_by) == ("bvp", "study")
    np.testing.assert_allclose(recording.signal("EDA").read()[0], 1000)


def test_the_times_go_before_the_sidecars_rate_and_the_difference_is_said(write_table: Write) -> None:
    text = "time,EDA (uS)\n" + "".join(f"{i / 4},1\n" for i in range(100))
    recording = load_recording(write_table(text, {"SamplingFrequency": 5}))
    assert recording.signal("EDA").sampling_rate == 4
    assert any("sidecar says 5 Hz, the times say 4 Hz" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("sidecar", "fault"),
    [
        ("{", "not valid JSON"),
        ("[1]", "one JSON object"),
        ("[" * 100_000, "not valid JSON"),
        ('{"SamplingFrequency": 0}', "SamplingFrequency is 0"),
        ('{"SamplingFrequency": -4}', "SamplingFrequency is -4"),
        ('{"SamplingFrequency": NaN}', "SamplingFrequency is nan"),
        ('{"SamplingFrequency": "fast"}', "SamplingFrequency is 'fast'"),
        ('{"SamplingFrequency": 4, "Columns": ["a"]}', "names 1 columns"),
        ('{"SamplingFrequency": 4, "EDA": {"Modality": "mood"}}', "unknown modality 'mood'"),
    ],
)
def test_a_sidecar_that_cannot_be_is_refused(write_table: Write, sidecar: str, fault: str) -> None:
    path = write_table("EDA,ECG\n" + "1,2\n" * 20)
    path.with_suffix(".json").write_text(sidecar)
    with pytest.raises(RecordingError, match=f"made.*{fault}"):
        load_recording(path)


def stamped(moments: list[datetime], zone: str = "") -> str:
    lines = [f"{m.isoformat(timespec='milliseconds')}{zone},{1 + i / 1000:.3f}\n" for i, m in enumerate(moments)]
    return "timestamp,EDA (uS)\n" + "".join(lines)


def local_moments(start: datetime, turn: datetime, hours: int, n: int = 1200) -> list[datetime]:
    """Moments at 4 Hz of a local clock that is set by ``hours`` when it reaches ``turn``."""
    moments = [start + timedelta(seconds=i / 4) for i in range(n)]
    return [m if m < turn else m + timedelta(hours=hours) for m in moments]


def test_local_time_over_the_end_of_summer_time_keeps_the_order_of_the_file(write_table: Write) -> None:
    moments = local_moments(datetime(2023, 10, 29, 2, 57, 30), datetime(2023, 10, 29, 3), -1)
    recording = load_recording(write_table(stamped(moments)))
    np.testing.assert_allclose(recording.signal("EDA").read()[0], 1 + np.arange(1200) / 1000)
    assert recording.duration_seconds == 300
    assert any("the clock was set back by 3600 s" in note for note in recording.notes)


def test_the_same_hour_with_its_zone_needs_no_repair(write_table: Write) -> None:
    utc = [datetime(2023, 10, 29, 0, 57, 30) + timedelta(seconds=i / 4) for i in range(1200)]
    zones = [(m + timedelta(hours=h), f"+0{h}:00") for m in utc for h in [2 if m < datetime(2023, 10, 29, 1) else 1]]
    text = "timestamp,EDA (uS)\n" + "".join(
        f"{m.isoformat(timespec='milliseconds')}{zone},{1 + i / 1000:.3f}\n" for i, (m, zone) in enumerate(zones)
    )
    recording = load_recording(write_table(text))
    np.testing.assert_allclose(recording.signal("EDA").read()[0], 1 + np.arange(1200) / 1000)
    assert recording.notes == ()
    assert recording.started_at == datetime(2023, 10, 29, 0, 57, 30, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["", "Z"])
def test_an_hour_that_local_time_jumps_is_said(write_table: Write, zone: str) -> None:
    moments = local_moments(datetime(2023, 3, 26, 1, 57, 30), datetime(2023, 3, 26, 2), 1)
    recording = load_recording(write_table(stamped(moments, zone)))
    is_noted = any("jumps by an hour at 2023-03-26T02:00:00" in note for note in recording.notes)
    assert is_noted == (zone == "")
    assert any("gaps: 14400 of" in note for note in recording.notes)


def test_a_zone_in_some_rows_alone_is_refused(write_table: Write) -> None:
    text = stamped([datetime(2024, 3, 1, 12, 0, i) for i in range(40)]).replace("12:00:00.000", "12:00:00.000Z")
    with pytest.raises(RecordingError, match="column 'timestamp' gives a time zone in 1 of 40 rows"):
        load_recording(write_table(text))


@pytest.mark.parametrize("row", [0, 600, 1199])
@pytest.mark.parametrize("wrong", [0.0, 4e9, 1_685_628_000 + 40_000, 1_685_628_000 - 40_000])
def test_a_row_with_a_wild_time_is_left_out_and_said(write_table: Write, row: int, wrong: float) -> None:
    stamps = 1_685_628_000 + np.arange(1200) / 4
    stamps[row] = wrong
    recording = load_recording(
        write_table("timestamp,EDA (uS)\n" + "".join(f"{t:.3f},{i}\n" for i, t in enumerate(stamps)))
    )
    eda = recording.signal("EDA")
    first = 1 if row == 0 else 0
    assert recording.duration_seconds == pytest.approx(300 - 0.25 * (row in (0, 1199)))
    assert recording.started_at == datetime.fromtimestamp(1_685_628_000 + first / 4, tz=UTC)
    expected = (
        np.delete(np.arange(1200.0), row)
        if row in (0, 1199)
        else np.where(np.arange(1200) == row, np.nan, np.arange(1200))
    )
    np.testing.assert_array_equal(eda.read()[0], expected)
    assert any("1 of 1200 rows have a time that all others contradict" in note for note in recording.notes)


def test_times_that_span_years_without_a_majority_are_refused(write_table: Write) -> None:
    halves = [*range(100), *range(1_685_628_000, 1_685_628_100)]
    with pytest.raises(RecordingError, match=r"column 'timestamp' spans 19510 days, at most 31 are read"):
        load_recording(write_table("timestamp,EDA (uS)\n" + "".join(f"{t + 1e9:.0f},1\n" for t in halves)))


@pytest.mark.parametrize("head", ["# made by hand\n", "# made by hand\r\n#\r\n", "% a\n% b\n\n", "#INFO,x\n#DATA\n"])
def test_comments_on_top_are_no_data(write_table: Write, head: str) -> None:
    recording = load_recording(write_table(head + "time,EDA (uS)\n" + rows()))
    np.testing.assert_allclose(recording.signal("EDA").read()[0], 2 + np.sin(np.arange(200) / 20), atol=1e-6)
    assert any("lines of comment on top" in note for note in recording.notes)


def test_a_header_that_numpy_wrote_as_a_comment_names_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "made.csv"
    table = np.column_stack([np.arange(200) / 50, 2 + np.sin(np.arange(200) / 20)])
    np.savetxt(path, table, delimiter=",", header="made by hand\ntime,EDA (uS)")
    recording = load_recording(path)
    np.testing.assert_allclose(recording.signal("EDA").read()[0], table[:, 1])
    assert recording.signal("EDA").unit == "uS"


@pytest.mark.filterwarnings("ignore")  # as outside of tests, where a warning of the parser is no error
@pytest.mark.parametrize("text", ["time,EDA\n0,99,1\n1,99,2\n2,99,3\n", "time,EDA\n0,00,1,50\n0,25,1,60\n"])
def test_rows_longer_than_the_header_are_refused_where_warnings_are_shown_only(write_table: Write, text: str) -> None:
    with pytest.raises(RecordingError, match=r"lines cannot be divided into 2 columns \(line 2 has"):
        load_recording(write_table(text))


def test_an_empty_last_cell_is_no_column(write_table: Write) -> None:
    text = "time,EDA (uS)\n" + rows().replace("\n", ",\n")
    np.testing.assert_allclose(
        load_recording(write_table(text)).signal("EDA").read()[0], 2 + np.sin(np.arange(200) / 20), atol=1e-6
    )


def test_a_gzip_bomb_is_refused(write_table: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from biopercept.loaders.readers import text_tables

    monkeypatch.setattr(text_tables, "LARGEST_TEXT", 1 << 20)
    path = write_table(gzip.compress(b"time,EDA\n" + b"0,1\n" * (1 << 20)), name="bomb.csv.gz")
    with pytest.raises(RecordingError, match=r"bomb.csv.gz: more than 1 MB of text"):
        load_recording(path)


def test_a_cut_gzip_file_is_refused(write_table: Write) -> None:
    content = gzip.compress(("time,EDA\n" + rows()).encode())
    with pytest.raises(RecordingError, match="the gzip file is cut"):
        load_recording(write_table(content[:-20], name="made.csv.gz"))


def german(value: float, n_decimals: int) -> str:
    return f"{value:,.{n_decimals}f}".translate(str.maketrans(",.", ".,"))


@pytest.mark.parametrize("n_decimals", [0, 1])
@pytest.mark.parametrize("rate", [4, 250])
def test_points_between_thousands_beside_decimal_commas_are_no_decimal_points(
    write_table: Write, n_decimals: int, rate: int
) -> None:
    """Milliseconds of more than a second, as a spreadsheet writes them where commas are decimal."""
    rows_ = [f"{german(1000 * i / rate, n_decimals)};{german(2 + 0.01 * (i % 7), 2)}" for i in range(20 * rate)]
    recording = load_recording(write_table("time (ms);EDA (uS)\n" + "\n".join(rows_) + "\n"))
    signal = recording.signal("EDA")
    assert (signal.sampling_rate, signal.n_samples) == (rate, 20 * rate)
    np.testing.assert_allclose(signal.read()[0], 2 + 0.01 * (np.arange(20 * rate) % 7))
    assert any("divides thousands" in note for note in recording.notes)


def test_commas_between_thousands_are_read_within_quotes(write_table: Write) -> None:
    text = "time (ms),EDA (nS)\n" + "".join(f'"{250.0 * i:,.1f}","{2000.5 + i:,.1f}"\n' for i in range(40))
    signal = load_recording(write_table(text)).signal("EDA")
    assert signal.sampling_rate == 4
    np.testing.assert_allclose(signal.read()[0], (2000.5 + np.arange(40)) / 1000)


def test_decimal_commas_within_quotes_are_read_where_commas_divide_cells(write_table: Write) -> None:
    text = "time,EDA (uS)\n" + "".join(f'"{german(i / 4, 2)}","{german(2 + i / 100, 2)}"\n' for i in range(40))
    signal = load_recording(write_table(text)).signal("EDA")
    assert signal.sampling_rate == 4
    np.testing.assert_allclose(signal.read()[0], 2 + np.arange(40) / 100)


def test_a_word_among_decimal_commas_costs_its_own_cell(write_table: Write) -> None:
    cells = [german(2 + i / 100, 2) for i in range(40)]
    cells[7] = "#WERT!"
    text = "time;EDA (uS)\n" + "".join(f"{german(i / 4, 2)};{cell}\n" for i, cell in enumerate(cells))
    samples = load_recording(write_table(text)).signal("EDA").read()[0]
    np.testing.assert_allclose(np.delete(samples, 7), np.delete(2 + np.arange(40) / 100, 7))
    assert np.isnan(samples[7])


def test_a_comma_before_the_fraction_of_a_second_is_an_iso_date(write_table: Write) -> None:
    text = "timestamp;EDA (uS)\n" + "".join(
        f"2024-05-01 12:00:{i // 4:02d},{250 * (i % 4):03d};{2 + i / 100}\n" for i in range(40)
    )
    signal = load_recording(write_table(text)).signal("EDA")
    assert (signal.sampling_rate, signal.n_samples) == (4, 40)


@pytest.mark.parametrize(
    ("name", "value", "modality", "unit", "expected"),
    [
        ("eda_uS", 2.5, "eda", "uS", 2.5),
        ("EDA_nS", 2500.0, "eda", "uS", 2.5),
        ("skin_temp_F", 95.0, "temp", "degC", 35.0),
        ("hr_bpm", 72.0, "hr", "bpm", 72.0),
        ("temp_us", 33.0, "temp", "", 33.0),
    ],
)
def test_a_unit_behind_the_name_is_read_where_it_fits_what_is_measured(
    write_table: Write, name: str, value: float, modality: str, unit: str, expected: float
) -> None:
    text = f"time,{name}\n" + "".join(f"{i / 4},{value}\n" for i in range(40))
    signal = load_recording(write_table(text)).signals[0]
    assert (signal.modality, signal.unit) == (modality, unit)
    np.testing.assert_allclose(signal.read(), expected, rtol=1e-9)


def test_intervals_of_a_fast_heart_are_read_although_most_share_the_time_of_their_packet(write_table: Write) -> None:
    stamps = 1_700_000_000_000 + 1000 * (np.cumsum(np.full(90, 0.46)).astype(int))
    text = "timestamp,IBI (ms)\n" + "".join(f"{stamp},460\n" for stamp in stamps)
    assert load_recording(write_table(text)).signals[0].n_samples == 90


def test_intervals_of_a_chest_belt_are_read_by_their_name_and_unit(write_table: Write) -> None:
    stamps = 1_700_000_000_000 + 1000 * np.repeat(np.arange(40), [1, 2] * 20)[:50]
    text = "timestamp,rr_ms\n" + "".join(f"{stamp},{830 + i % 7}\n" for i, stamp in enumerate(stamps))
    signal = load_recording(write_table(text)).signals[0]
    assert (signal.modality, signal.unit, signal.n_samples) == ("ibi", "s", 50)
    np.testing.assert_allclose(signal.read()[0], (830 + np.arange(50) % 7) / 1000)


def test_a_real_table_is_read_with_its_sidecar(reference_data: Path, tmp_path: Path) -> None:
    import pandas as pd

    source = reference_data / "formats" / "neurokit_csv" / "bio_resting_8min_100hz.csv"
    path = tmp_path / "rest.csv"
    path.write_bytes(source.read_bytes())
    path.with_suffix(".json").write_text(json.dumps({"SamplingFrequency": 100, "ECG": {"Units": "mV"}}))
    recording = load_recording(path)
    expected = pd.read_csv(source)["ECG"].to_numpy()
    np.testing.assert_array_equal(recording.signal("ECG").read()[0], expected[: recording.signal("ECG").n_samples])
    assert {s.name: s.modality for s in recording.signals} == {
        "ECG": "ecg",
        "RSP": "resp",
        "EDA": "eda",
        "PhotoSensor": "unknown",
    }
    assert recording.signal("EDA").unit == ""
    assert any(note.startswith("EDA: no unit") for note in recording.notes)


def test_beats_whose_clock_goes_back_or_stands_still_are_said(write_table: Callable[..., Path]) -> None:
    ends = np.arange(1, 101) * 0.8
    for times, words in (
        (ends - 2.0 * (np.arange(100) >= 50), "times go back 1 times (the first by 1.2 s at row 51)"),
        (np.where(np.arange(100) == 50, ends - 0.8, ends), "1 beats have the time of the one before"),
    ):
        rows = "".join(f"{time:.3f},800\n" for time in times)
        recording = load_recording(write_table(f"time (s),RR (ms)\n{rows}"))
        assert any(words in note for note in recording.notes), recording.notes
