"""AffectiveROAD: an Empatica E4 on both wrists in drives on real roads, and an observer's rating of the stress.

Files are those of the README that comes with the data; how the ratings lie on the wristband's clock is what three
public programs do that read them. Ratings (Subj_metric/SM_ID.csv) have 4 rows a second; in each table of annotations
(Annot_*.csv) Z_Start and the last Z_End are the rows, 4 a second too, at which the drive began and ended. Two programs
have drives with an ID such as GM2 or NM3, and one of them reads its letters as the driver, its number as the drive, and
the ratings as 0 to 1. A later release calls the drives Drv1 to Drv13, which does not say who drove.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.e4_sessions import session_start
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_ROWS_PER_SECOND = 4.0
_FILE = re.compile(r"^SM_(?P<driver>[A-Z]+)(?P<drive>\d+)\.csv$")
_NUMBERED = re.compile(r"^SM_Drv\d+\.csv$")
_WRISTS = ("Left", "Right")
_MOST_DIFFERENCE_SECONDS = 30.0
"""A drive that lasts this much longer by one table than by the other has no certain place."""

DEFINITION = {
    "name": "affective-road",
    "description": "Empatica E4 on both wrists (BVP, EDA, skin temperature, acceleration, heart rate) in drives "
    "through a town and on a motorway, with a continuous rating of the driver's stress, 0 to 1, by an observer in the "
    "car.",
    "licence": "none is stated in what comes with the data; the paper is to be cited",
    "citation": "N. El Haouij, J.-M. Poggi, S. Sevestre-Ghalila, R. Ghozi, M. Jaidane, AffectiveROAD system and "
    "database to assess driver's attention, SAC 2018, pp. 800-803, doi 10.1145/3167132.3167395",
    "tasks": {
        "rating": {"kind": "regression", "signal": "stress rating"},
        "level": {"kind": "classification", "signal": "stress rating", "classes": {"low": [0, 0.4], "high": [0.6, 1]}},
    },
}


@dataclass(frozen=True)
class _Wrist:
    """A wristband of a drive: its folder, the unix time of its EDA's first sample, and the drive's rows in it."""

    folder: Path
    zero: float
    rows: tuple[int, int]


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set; the drives of a person are recordings of that person.

    Raises StudyError where the folder holds no such layout, the drives are those of the release that does not say who
    drove, or a table of annotations cannot be read. Raises OutputError where the study cannot be written.
    """
    data = source / "Database" if (source / "Database").is_dir() else source
    names = sorted(path.name for path in (data / "Subj_metric").glob("SM_*.csv"))
    drives = {match["driver"] + match["drive"]: match for name in names if (match := _FILE.match(name))}
    if not drives and any(_NUMBERED.match(name) for name in names):
        raise StudyError(
            f"{source} numbers its drives (SM_Drv1.csv ...), and nothing in this release says who drove, so that "
            "people cannot be kept apart; import the release whose files carry the drivers' letters (SM_AD1.csv ...)"
        )
    if not drives:
        raise StudyError(f"{source} holds no Subj_metric/SM_AD1.csv; see 'biopercept datasets affective-road'")
    rated = read_route(data / "Subj_metric" / "Annot_Subjective_metric.csv")
    worn = {wrist: read_route(data / "E4" / f"Annot_E4_{wrist}.csv") for wrist in _WRISTS}
    tables = StudyTables()
    for drive, match in drives.items():
        rows = rated.get(drive)
        if rows is None:
            tables.left_out.append(f"{drive}: Annot_Subjective_metric.csv does not say when its drive was.")
            continue
        wrists = [wrist for name in _WRISTS if (wrist := _wrist(data, drive, name, worn[name].get(drive), tables))]
        _add_drive(match, data / "Subj_metric" / match.string, rows, wrists, tables)
    people = dict.fromkeys(row["participant_id"] for row in tables.recordings)
    tables.participants += [{"participant_id": person} for person in people]
    tables.notes.append(
        "Where both wristbands are there, signals without a number are of the left wrist and those with a 2 (EDA_2) of "
        "the right."
    )
    tables.notes.append(
        "The rating is an observer's and follows the body by some seconds: lag_seconds of a task in study.yaml says by "
        "how many, 0 where it is not given."
    )
    return tables.write(output, DEFINITION)


def _wrist(data: Path, drive: str, name: str, rows: tuple[int, int] | None, tables: StudyTables) -> _Wrist | None:
    """Return one wristband of a drive; None, with a note, where its folder or its rows are not there."""
    folders = [folder / name for folder in sorted((data / "E4").glob(f"*-{drive}")) if (folder / name).is_dir()]
    zero = session_start(folders[0], ("EDA.csv",)) if len(folders) == 1 else None
    if zero is None or rows is None:
        what = (
            f"no folder E4/N-E4-{drive}/{name} with a start time" if zero is None else f"no row in Annot_E4_{name}.csv"
        )
        tables.notes.append(f"{drive}: there is {what}; the {name.lower()} wristband is left out.")
        return None
    return _Wrist(folders[0], zero, rows)


def _add_drive(
    match: re.Match[str], ratings: Path, rated: tuple[int, int], wrists: list[_Wrist], tables: StudyTables
) -> None:
    """Add a drive, its ratings placed by the row at which it began on the first wristband, or say why not."""
    drive = match["driver"] + match["drive"]
    if not wrists:
        tables.left_out.append(f"{drive}: none of its wristbands can be used.")
        return
    first = wrists[0]
    length, theirs = ((rows[1] - rows[0]) / _ROWS_PER_SECOND for rows in (first.rows, rated))
    if abs(length - theirs) > _MOST_DIFFERENCE_SECONDS:
        tables.left_out.append(
            f"{drive}: the drive lasts {length:.0f} s on the wristband and {theirs:.0f} s in the ratings, so they "
            "cannot be put on one clock."
        )
        return
    starts = [start for wrist in wrists if (start := session_start(wrist.folder)) is not None]
    begin = first.zero - min(starts) + first.rows[0] / _ROWS_PER_SECOND
    ids = {"participant_id": match["driver"], "recording": f"drive{match['drive']}"}
    offset = begin - rated[0] / _ROWS_PER_SECOND
    tables.recordings += [{**ids, "path": wrist.folder.resolve()} for wrist in wrists]
    tables.recordings.append({**ids, "path": ratings.resolve(), "offset_seconds": offset})
    tables.events.append({**ids, "onset": begin, "duration": min(length, theirs), "trial_type": "drive"})


def read_route(path: Path) -> dict[str, tuple[int, int]]:
    """Return for each drive the first row of the drive and the one after its last, by a table of annotations.

    Raises StudyError where the table cannot be read, has no such columns, or a cell is no number of a row.
    """
    number = 1
    routes: dict[str, tuple[int, int]] = {}
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            rows = csv.reader(stream)
            header = [cell.strip() for cell in next(rows, [])]
            ids = [place for place, name in enumerate(header) if name in ("Drive-id", "Drive_id")]
            begins = [place for place, name in enumerate(header) if name == "Z_Start"]
            ends = [place for place, name in enumerate(header) if name in ("Z_End", "Z_End.1")]
            if not (ids and begins and ends):
                raise StudyError(f"{path.name} has no columns Drive_id, Z_Start and Z_End; they say when a drive was")
            for number, row in enumerate(rows, 2):  # noqa: B007
                if any(cell.strip() for cell in row):
                    start, end = int(row[begins[0]]), int(row[ends[-1]])
                    if not 0 <= start < end:
                        raise ValueError(f"rows {start} to {end}")
                    routes[row[ids[0]].strip()] = (start, end)
    except OSError as fault:
        raise StudyError(f"{path} cannot be read ({fault.strerror}); it says when each drive was") from fault
    except (ValueError, IndexError) as fault:
        raise StudyError(
            f"{path.name} line {number}: Z_Start and Z_End must be the rows of a drive's begin and end ({fault})"
        ) from fault
    return routes


DATASET = Dataset(
    name="affective-road",
    title="AffectiveROAD",
    content="13 drives by 9 people, Empatica E4 on both wrists (BVP 64 Hz, EDA and temperature 4 Hz, acceleration "
    "32 Hz), and an observer's rating of the driver's stress at 4 Hz",
    labels="task 'rating': the rating as a number, 0 to 1, a window's mean; task 'level': low (below 0.4) against high "
    "(0.6 and above). The observer sees the road that the driver sees, so that the rating tells the road as well",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://www.media.mit.edu/tools/affectiveroad/",
    layout=(
        "[Database/]Subj_metric/{Annot_Subjective_metric,SM_AD1,SM_BK1,...}.csv",
        "[Database/]E4/{Annot_E4_Left,Annot_E4_Right}.csv",
        "[Database/]E4/N-E4-AD1/{Left,Right}/{ACC,BVP,EDA,HR,IBI,TEMP}.csv",
    ),
    write_study=write_study,
    dropped="what was recorded before and after the drive; the chest belt (Bioharness: the form of its times could not "
    "be confirmed); wristbands whose recording was cut in two; windows whose mean rating lies from 0.4 to 0.6, in the "
    "task 'level'; the release with drives Drv1 to Drv13, which does not say who drove",
    alarms=(
        "a motion-only score close to the model's: turning the wheel moves both wrists, and the road is what is rated",
        "a clock-only score close to the model's: everybody drove the same route in the same order",
        "drives split at random: three people drove twice or three times",
    ),
    files=("AffectiveROAD_Data.zip (unpack it: Database)",),
)
