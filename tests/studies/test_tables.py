"""Tables of a study as .csv and .xlsx: read as the .tsv of the same cells, every fault with its cell."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from biopercept.studies.loading import load_study
from biopercept.studies.structure import StudyFaults
from biopercept.studies.tables import told_once

Writer = Callable[..., Path]
TABLES = ("participants", "recordings", "events")


def rows_of(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


def as_csv(path: Path, *, delimiter: str = ",", quoting: Any = csv.QUOTE_MINIMAL) -> None:
    """Write a .tsv again as .csv, by the library that spreadsheets agree with, and remove it."""
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream, delimiter=delimiter, quoting=quoting).writerows(rows_of(path))
    path.unlink()


def as_sheet(path: Path, change: Callable[[list[list[Any]]], None] = lambda _: None, title: str = "Sheet1") -> None:
    """Write a .tsv again as a workbook, whose numbers are numbers, and remove it."""
    rows: list[list[Any]] = [[_typed(cell) for cell in row] for row in rows_of(path)]
    change(rows)
    write_book(path.with_suffix(".xlsx"), {title: rows})
    path.unlink()


def write_book(path: Path, sheets: dict[str, Sequence[Sequence[Any]]]) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    book.save(path)


def _typed(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell


def faults_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(StudyFaults) as caught:
        load_study(folder)
    return caught.value.faults


WAYS: dict[str, Callable[[Path], None]] = {
    "commas": as_csv,
    "semicolons": lambda path: as_csv(path, delimiter=";"),
    "quotes": lambda path: as_csv(path, quoting=csv.QUOTE_ALL),
    "workbook": as_sheet,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_study_is_the_same_however_its_tables_are_written(way: str, write_study: Writer) -> None:
    folder = write_study()
    before = load_study(folder)
    for table in TABLES:
        WAYS[way](folder / f"{table}.tsv")
    after = load_study(folder)
    assert after.entries == before.entries
    assert [person.columns for person in after.participants] == [person.columns for person in before.participants]


@pytest.mark.parametrize("table", TABLES)
def test_two_tables_of_one_name_are_a_fault(table: str, write_study: Writer) -> None:
    folder = write_study()
    text = (folder / f"{table}.tsv").read_text()
    (folder / f"{table}.csv").write_text(text.replace("\t", ","))
    assert faults_of(folder) == (f"{table}.tsv, {table}.csv are all the table {table}; keep one of them",)


def test_a_fault_in_a_workbook_names_its_cell(write_study: Writer) -> None:
    folder = write_study()

    def spoil(rows: list[list[Any]]) -> None:
        rows[2][2] = "60,5"
        rows[3][4] = None

    as_sheet(folder / "events.tsv", spoil)
    assert faults_of(folder) == (
        "events.xlsx cell C3: onset is '60,5'; a number of seconds is needed, with a point: 60.5",
        "events.xlsx cell E4: trial_type is ''; a label is needed, or remove the row",
    )


def test_faults_alike_in_a_workbook_are_told_once_by_their_rows(write_study: Writer) -> None:
    folder = write_study()
    as_sheet(folder / "events.tsv", lambda rows: [row.__setitem__(0, "S09") for row in rows[1:]] and None)
    (fault,) = faults_of(folder)
    assert fault.startswith("events.xlsx row 2: no recording 'S09 lab' in recordings.tsv")
    assert fault.endswith("(so too in 3 more: rows 3, 4, 5)")


def test_other_faults_are_cut_after_whole_words_and_lines_are_counted() -> None:
    unquoted = [
        f"S0{n} stress: of S0{n}_wrist.csv, S0{n}_chest.csv and S0{n}_stress_recording.csv, none" for n in (1, 2, 3)
    ]
    (fault,) = told_once(unquoted)
    assert fault == (
        f"{unquoted[0]} (so too in 2 more: S02 stress: of S02_wrist.csv, S02_chest.csv and ..., "
        "S03 stress: of S03_wrist.csv, S03_chest.csv and ...)"
    )
    (lines,) = told_once(f"a.tsv line {n}: onset is 'x'; a number of seconds is needed" for n in range(2, 15))
    assert lines.endswith("(so too in 12 more: lines 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more)")


def test_names_of_tables_in_faults_are_those_that_are_there(write_study: Writer) -> None:
    folder = write_study(participants="participant_id\nS01\n")
    for table in TABLES:
        as_csv(folder / f"{table}.tsv")
    assert faults_of(folder) == ("recordings of 'S02' (recordings.csv line 3), who is not in participants.csv",)


def test_of_several_sheets_the_one_of_the_tables_name_is_read(write_study: Writer) -> None:
    folder = write_study()
    rows = rows_of(folder / "participants.tsv")
    (folder / "participants.tsv").unlink()
    path = folder / "participants.xlsx"
    write_book(path, {"notes": [["a"], ["b"]], "participants": rows})
    assert load_study(folder).subjects == ("S01", "S02")
    write_book(path, {"notes": [["a"], ["b"]], "people": rows})
    assert faults_of(folder)[0] == (
        "participants.xlsx has 2 sheets (notes, people); keep one, or name the one meant participants"
    )
    path.write_bytes(b"PK\x03\x04 no workbook")
    assert faults_of(folder)[0].startswith("participants.xlsx: cannot be read as a workbook (")


def test_quoted_cells_may_hold_commas_and_no_line_ends(write_study: Writer) -> None:
    folder = write_study(participants=None)
    (folder / "participants.csv").write_text('participant_id,city\nS01,"Bern, Wabern"\nS02,\n')
    assert load_study(folder).participants[0].columns["city"] == "Bern, Wabern"
    (folder / "participants.csv").write_text('participant_id,city\nS01,"Bern\nWabern"\nS02,\n')
    assert faults_of(folder) == ("participants.csv line 2: a cell holds a tab or a line's end; remove it",)
