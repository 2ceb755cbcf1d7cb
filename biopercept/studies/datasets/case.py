"""CASE: ECG, pulse, skin conductance, breathing, temperature and EMG at 1000 Hz in eight film clips, rated throughout.

Files, columns and units are those of the READMEs in the data set (data/interpolated/physiological,
data/interpolated/annotations, metadata). The clips' numbers are those that its own scripts give: 1 and 2 amusing, 3 and
4 boring, 5 and 6 relaxing, 7 and 8 scary; 10, 11 and 12 are the clips between them.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_FILE = re.compile(r"^sub_(\d+)\.csv$")
CLIPS = {1: "amusing", 2: "amusing", 3: "boring", 4: "boring", 5: "relaxing", 6: "relaxing", 7: "scary", 8: "scary"}
_COLUMNS = ("jstime", "valence", "arousal", "video")

Clip = tuple[float, float, int, float, float]
"""Onset and end in seconds, number of the clip, mean valence and arousal."""

DEFINITION = {
    "name": "case",
    "description": "ECG, pulse, skin conductance, respiration, skin temperature and three EMG while eight film clips "
    "were watched and rated throughout; each person saw them in another order.",
    "licence": "CC0 1.0",
    "citation": "K. Sharma, C. Castellini, E. L. van den Broek, A. Albu-Schaeffer, F. Schwenker, A dataset of "
    "continuous affect annotations and physiological signals for emotion analysis, Scientific Data 6:196, 2019, doi "
    "10.1038/s41597-019-0209-0",
    "tasks": {
        "emotion": {"classes": {name: [name] for name in dict.fromkeys(CLIPS.values())}},
        "arousal": {"kind": "regression", "column": "arousal"},
        "valence": {"kind": "regression", "column": "valence"},
    },
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set: a recording of each person, the clips with their mean ratings as labels.

    Raises StudyError where the folder holds no such layout, or ratings cannot be read. Raises OutputError where the
    study cannot be written.
    """
    data = next((p for p in (source, source / "CASE_full") if (p / "data" / "interpolated").is_dir()), source)
    signals, ratings = (data / "data" / "interpolated" / name for name in ("physiological", "annotations"))
    files = {int(match[1]): p for p in signals.glob("sub_*.csv") if (match := _FILE.match(p.name))}
    if not files:
        raise StudyError(f"{source} holds no data/interpolated/physiological/sub_N.csv; see 'biopercept datasets case'")
    tables = StudyTables()
    for number, file in sorted(files.items()):
        subject = f"sub{number:02d}"
        table = ratings / file.name
        if not table.is_file():
            tables.left_out.append(f"{subject}: annotations/{file.name} is not there, which says when each clip was.")
            continue
        clips = read_clips(table)
        if sorted(clip[2] for clip in clips) != sorted(CLIPS):
            shown = ", ".join(str(clip[2]) for clip in clips)
            tables.left_out.append(f"{subject}: its clips are {shown or 'none'}, not each of 1 to 8 once.")
            continue
        ids = {"participant_id": subject, "recording": "clips"}
        tables.participants.append({"participant_id": subject})
        tables.recordings.append({**ids, "path": file.resolve()})
        tables.events += [
            {
                **ids,
                "onset": onset,
                "duration": end - onset,
                "trial_type": CLIPS[clip],
                "arousal": arousal,
                "valence": valence,
            }
            for onset, end, clip, valence, arousal in clips
        ]
    tables.notes.append("Ratings are means over a clip; their course within a clip is not used.")
    return tables.write(output, DEFINITION)


def read_clips(path: Path) -> list[Clip]:
    """Return the clips of one table of ratings in the order in which they were seen, those between them left out.

    Raises StudyError where a column is missing, or a cell is no number.
    """
    clips: list[list[float]] = []
    last = 0
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        rows = csv.DictReader(stream)
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise StudyError(f"annotations/{path.name} has no column {missing[0]}; it holds the ratings")
        for number, row in enumerate(rows, 2):
            try:
                time, valence, arousal, video = (float(row[name]) for name in _COLUMNS)
            except (TypeError, ValueError) as fault:
                raise StudyError(f"annotations/{path.name} line {number}: a cell is no number ({fault})") from fault
            if video in CLIPS and video != last:
                clips.append([time / 1000, time / 1000, video, 0.0, 0.0, 0.0])
            if video in CLIPS:
                clip = clips[-1]
                clip[1] = time / 1000
                clip[3:] = [clip[3] + valence, clip[4] + arousal, clip[5] + 1]
            last = int(video)
    return [(clip[0], clip[1], int(clip[2]), clip[3] / clip[5], clip[4] / clip[5]) for clip in clips]


DATASET = Dataset(
    name="case",
    title="CASE (Continuously Annotated Signals of Emotion)",
    content="30 people, ECG, pulse, skin conductance, respiration, skin temperature and three EMG at 1000 Hz, eight "
    "film clips, about 40 min each",
    labels="task 'emotion': amusing, boring, relaxing, scary; 'arousal' and 'valence' (0.5 to 9.5), the mean of each "
    "clip. The order of the clips differs from person to person; a clip is the same for everybody, so that its length "
    "and its sounds are part of what is told apart",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://doi.org/10.6084/m9.figshare.8869157 (CASE_Dataset-full)",
    layout=(
        "data/interpolated/physiological/sub_N.csv",
        "data/interpolated/annotations/sub_N.csv",
    ),
    write_study=write_study,
    dropped="the first and last clip and the blue screens between the clips (no emotion is meant); people whose "
    "ratings do not show each of the eight clips once",
    alarms=(
        "four emotions far above what others report across people (0.3 to 0.5)",
        "a random split over windows: windows of one clip are of one label",
    ),
    files=("CASE_full.zip, sha256 03818aa2e017e53ca7f7c9a39e9268ec6eeb7afd5ee245d5745f258e9e3c554e (unpack it)",),
)
