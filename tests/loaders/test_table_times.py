"""Dates and times of day in tables: read where there is one reading, refused with what to write where there are two."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.recording import Recording

Write = Callable[..., Path]
START = datetime(2023, 12, 25, 14, 3, 5)


def stamped(form: str, start: datetime = START, column: str = "timestamp", n: int = 240, rate: float = 4.0) -> str:
    """Return a table of EDA whose times are written by ``form``, with milliseconds where it has %f."""
    rows = []
    for i in range(n):
        moment = start + timedelta(seconds=i / rate)
        text = moment.strftime(form.replace("%f", f"{moment.microsecond // 1000:03d}"))
        rows.append(f"{text}\t{1 + i / 100:.2f}\n")
    return f"{column}\tEDA (uS)\n{''.join(rows)}"


def check(recording: Recording, started_at: datetime | None) -> None:
    eda = recording.signal("EDA")
    assert recording.started_at == started_at
    assert (eda.sampling_rate, eda.n_samples) == (4, 240)
    np.testing.assert_allclose(eda.read()[0], 1 + np.arange(240) / 100)


@pytest.mark.parametrize(
    "form",
    [
        "%d.%m.%Y %H:%M:%S.%f",
        "%d/%m/%Y %H:%M:%S.%f",
        "%m/%d/%Y %H:%M:%S.%f",
        "%d-%m-%Y %H:%M:%S,%f",
        "%Y/%m/%d %H:%M:%S.%f",
        "%m/%d/%Y %I:%M:%S.%f %p",
        "%Y-%m-%d %H:%M:%S.%f",
        "%Y-%m-%dT%H:%M:%S.%f",
    ],
)
def test_a_date_with_one_reading_is_read(write_table: Write, form: str) -> None:
    check(load_recording(write_table(stamped(form))), START)


def test_dates_with_points_have_the_day_first_and_it_is_said(write_table: Write) -> None:
    recording = load_recording(write_table(stamped("%d.%m.%Y %H:%M:%S.%f", datetime(2023, 4, 3, 12))))
    check(recording, datetime(2023, 4, 3, 12))
    assert any("dates with points (03.04.2023) were read with the day first" in note for note in recording.notes)


def test_a_date_with_two_readings_is_refused_with_what_to_write(write_table: Write) -> None:
    text = stamped("%d/%m/%Y %H:%M:%S.%f", datetime(2023, 4, 3, 12))
    with pytest.raises(RecordingError) as caught:
        load_recording(write_table(text))
    assert str(caught.value) == (
        "made.csv: column 'timestamp' holds '03/04/2023 12:00:00.000', of which the first number may be the day or the "
        'month; write how to read it in made.json beside it: {"timestamp": {"Format": "%d/%m/%Y %H:%M:%S"}}'
    )
    for form, month, day in (("%d/%m/%Y %H:%M:%S.%f", 4, 3), ("%m/%d/%Y %H:%M:%S.%f", 3, 4)):
        recording = load_recording(write_table(text, {"timestamp": {"Format": form}}))
        check(recording, datetime(2023, month, day, 12))


def test_the_number_that_moves_on_at_midnight_is_the_day(write_table: Write) -> None:
    start = datetime(2023, 4, 3, 23, 59, 30)
    for form in ("%d/%m/%Y %H:%M:%S.%f", "%m/%d/%Y %H:%M:%S.%f"):
        check(load_recording(write_table(stamped(form, start))), start)


@pytest.mark.parametrize("form", ["%H:%M:%S.%f", "%I:%M:%S.%f %p"])
def test_times_of_day_go_on_over_midnight(write_table: Write, form: str) -> None:
    recording = load_recording(write_table(stamped(form, datetime(2023, 4, 3, 23, 59, 30), "time")))
    check(recording, None)
    assert any("pass midnight 1 times" in note for note in recording.notes)
    assert any("times of day without a date; the first row is second zero" in note for note in recording.notes)


def test_a_date_and_a_time_in_two_columns_are_one_clock(write_table: Write) -> None:
    text = stamped("%d.%m.%Y\t%H:%M:%S.%f", datetime(2023, 12, 24, 23, 59, 30), "Date\tTime")
    check(load_recording(write_table(text)), datetime(2023, 12, 24, 23, 59, 30))


def test_days_of_a_spreadsheet_become_seconds(write_table: Write) -> None:
    days = (START - datetime(1899, 12, 30)).total_seconds() / 86_400
    rows = "".join(f"{days + i / 4 / 86_400:.11f},{1 + i / 100:.2f}\n" for i in range(240))
    recording = load_recording(write_table(f"timestamp,EDA (uS)\n{rows}"))
    eda = recording.signal("EDA")
    assert recording.started_at is not None
    assert abs((recording.started_at - START).total_seconds()) < 1e-3
    assert (eda.sampling_rate, eda.n_samples) == (4, 240)
    assert any("days since 1900, as spreadsheets write dates" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("25.12.23 14:03:05", "a date without a year of four digits; write how to read it in made.json beside it: "),
        ("14:03", "holds '14:03', which may be hours and minutes or minutes and seconds; write how to read it"),
        ("25.12.2023", "holds dates without a time of day ('25.12.2023'), which place no row"),
        ("noon", "holds 'noon', which is neither a number nor an ISO date, nor another date or time of day; write how"),
    ],
)
def test_what_no_reading_gives_is_refused_in_one_sentence(write_table: Write, cell: str, sentence: str) -> None:
    with pytest.raises(RecordingError) as caught:
        load_recording(write_table("time\tEDA (uS)\n" + f"{cell}\t1\n" * 50))
    assert str(caught.value).startswith("made.csv: column 'time' ")
    assert sentence in str(caught.value)


def test_ticks_of_a_windows_clock_are_spread_over_their_rows(write_table: Write) -> None:
    true_times = np.arange(6000) / 100
    ticks = np.floor(true_times / 0.015625) * 0.015625
    rows = "".join(
        f"{(START + timedelta(seconds=float(t))).isoformat(timespec='milliseconds')},{np.sin(i / 30):.5f}\n"
        for i, t in enumerate(ticks)
    )
    pulse = load_recording(write_table(f"datetime,PPG\n{rows}")).signal("PPG")
    assert pulse.sampling_rate == pytest.approx(100, rel=1e-3)
    assert pulse.n_samples == 6000
    np.testing.assert_allclose(pulse.read()[0], np.sin(np.arange(6000) / 30), atol=1e-5)


def test_a_format_that_is_none_is_refused(write_table: Write) -> None:
    path = write_table(stamped("%d.%m.%Y %H:%M:%S.%f"), {"timestamp": {"Format": "%Q"}})
    with pytest.raises(RecordingError, match=r"made\.csv: the sidecar's Format of 'timestamp' is '%Q'"):
        load_recording(path)
