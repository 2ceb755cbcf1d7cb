"""DEAP: 32 EEG channels and peripheral signals of 32 people in 40 music videos of a minute, each rated afterwards.

Layout, channels, rates, ratings and codes of the trigger channel are those of the data set's readme
(eecs.qmul.ac.uk/mmv/datasets/deap/readme.html). Both forms are read: the files prepared for Python (sNN.dat, 128 Hz,
video order), and the recordings themselves (sNN.bdf, 512 Hz, BioSemi), whose headers say the units. That each BDF
has 40 starts of a video (code 4 in the low byte of the last channel, for all people) and that ratings belong to them in
the order of "Trial" is what three public programs do that cut it (their authors' count: 40 in every file).
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from biopercept.errors import RecordingError, StudyError
from biopercept.loaders.readers.deap import BASELINE_SECONDS, FILE, RATINGS, STEP_SECONDS, TRIAL_SECONDS, read_deap
from biopercept.loaders.readers.edf import read_triggers
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.self_ratings import clip_label, rating_tasks
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_RAW = re.compile(r"s(\d\d)\.bdf")
_N_TRIALS = 40
_VIDEO_STARTS = 4
_VIDEO_SECONDS = TRIAL_SECONDS - BASELINE_SECONDS
_MIDDLE = 5.0
_TABLE = "participant_ratings.csv"
_COLUMNS = ("Participant_id", "Trial", "Experiment_id", "Valence", "Arousal", "Dominance", "Liking")

Clip = tuple[float, dict[str, float]]
"""Onset in seconds, and what the person said: the four ratings, and the number of the video."""

DEFINITION = {
    "name": "deap",
    "description": "EEG, EOG, EMG, respiration, pulse, skin and temperature while 40 music videos of a minute were "
    "watched, each rated afterwards.",
    "licence": "its end user licence agreement, to be signed; see the data set's page",
    "citation": "S. Koelstra, C. Muehl, M. Soleymani, J.-S. Lee, A. Yazdani, T. Ebrahimi, T. Pun, A. Nijholt, I. "
    "Patras, DEAP: A Database for Emotion Analysis using Physiological Signals, IEEE Transactions on Affective "
    "Computing 3(1):18-31, 2012",
    "tasks": rating_tasks(RATINGS),
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set; a person has one recording "videos", of sNN.dat or of sNN.bdf.

    Raises StudyError where the folder holds neither or both, or the table of ratings cannot be read. Raises OutputError
    where the study cannot be written.
    """
    prepared = _files(source, "data_preprocessed_python", FILE)
    raw = _files(source, "data_original", _RAW)
    if not prepared and not raw:
        raise StudyError(f"{source} holds no sNN.dat and no sNN.bdf; see 'biopercept datasets deap'")
    if prepared and raw:
        raise StudyError(
            f"{source} holds both sNN.dat and sNN.bdf, the same people twice; name the folder of one of the two"
        )
    rated = read_rating_table(_table_in(source)) if raw else {}
    tables = StudyTables()
    for number, file in sorted((prepared or raw).items()):
        try:
            clips = _prepared_clips(file) if prepared else _raw_clips(file, rated.get(number, {}))
        except RecordingError as fault:
            tables.left_out.append(f"s{number:02d}: {fault}.")
            continue
        ids = {"participant_id": f"s{number:02d}", "recording": "videos"}
        tables.participants.append({"participant_id": f"s{number:02d}"})
        tables.recordings.append({**ids, "path": file.resolve()})
        tables.events += [
            {
                **ids,
                "onset": onset,
                "duration": _VIDEO_SECONDS,
                "trial_type": clip_label(rated_as, _MIDDLE),
                **rated_as,
            }
            for onset, rated_as in clips
        ]
    if prepared:
        tables.notes.append(
            "The trials of sNN.dat are in the order of the videos for everybody: time in a recording is the number of "
            "the video, a clock-only score tells what each video does to all people, and what 'causal' normalisation "
            "takes for the past is not the past. The recordings themselves (sNN.bdf) have their true order."
        )
        tables.notes.append("The EEG of sNN.dat was filtered to 4 to 45 Hz by its authors: nothing is left of delta.")
    return tables.write(output, DEFINITION)


def _files(source: Path, folder: str, name: re.Pattern[str]) -> dict[int, Path]:
    """Return the files of a form by the person's number, in SOURCE or in the folder that the archive unpacks to."""
    home = source / folder if (source / folder).is_dir() else source
    return {int(match[1]): path for path in home.glob("s*") if (match := name.fullmatch(path.name))}


def _table_in(source: Path) -> Path:
    places = [source / folder / _TABLE for folder in ("", "metadata_csv", "metadata", "../metadata_csv", "..")]
    return next((place for place in places if place.is_file()), places[0])


def _prepared_clips(file: Path) -> list[Clip]:
    _, ratings = read_deap(file)
    return [
        (trial * STEP_SECONDS + BASELINE_SECONDS, {**dict(zip(RATINGS, row, strict=True)), "video": trial + 1.0})
        for trial, row in enumerate(ratings.tolist())
    ]


def _raw_clips(file: Path, rated: dict[int, dict[str, float]]) -> list[Clip]:
    """Return the videos in the order in which they were seen. Raises RecordingError where they cannot be told."""
    starts = [seconds for seconds, code in read_triggers(file) if code == _VIDEO_STARTS]
    if len(starts) != _N_TRIALS:
        raise RecordingError(f"{file.name}: {len(starts)} starts of a video in its trigger channel, not {_N_TRIALS}")
    absent = [trial for trial in range(1, _N_TRIALS + 1) if trial not in rated]
    if absent:
        raise RecordingError(f"{file.name}: {_TABLE} has no ratings of trial {absent[0]}")
    return [(start, rated[trial]) for trial, start in enumerate(starts, 1)]


def read_rating_table(path: Path) -> dict[int, dict[int, dict[str, float]]]:
    """Return person -> trial -> ratings and the video's number.

    Raises StudyError where the file cannot be read, a cell is no number, a rating is not from 1 to 9, or a trial is
    there twice.
    """
    ratings: dict[int, dict[int, dict[str, float]]] = {}
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), 2):
                _add_row(f"{path.name} line {number}", row, ratings)
    except OSError as fault:
        raise StudyError(
            f"{path} cannot be read ({fault.strerror}); it says how each video was rated, in the order of a recording"
        ) from fault
    return ratings


def _add_row(where: str, row: dict[str, str], ratings: dict[int, dict[int, dict[str, float]]]) -> None:
    try:
        person, trial, video, *values = (float(row[name]) for name in _COLUMNS)
    except (KeyError, TypeError, ValueError) as fault:
        raise StudyError(f"{where}: numbers are needed in {', '.join(_COLUMNS)} ({fault})") from fault
    if not all(1 <= value <= 9 for value in values):
        raise StudyError(f"{where}: ratings are from 1 to 9")
    trials = ratings.setdefault(int(person), {})
    if int(trial) in trials:
        raise StudyError(f"{where}: trial {int(trial)} of participant {int(person)} is there twice")
    names = [name.lower() for name in _COLUMNS[3:]]
    trials[int(trial)] = {**dict(zip(names, values, strict=True)), "video": video}


DATASET = Dataset(
    name="deap",
    title="DEAP (Database for Emotion Analysis using Physiological Signals)",
    content="32 people, 32 EEG channels, EOG, EMG, respiration, pulse, skin resistance and temperature, 40 music "
    "videos of a minute; as recorded (BDF, 512 Hz) or prepared by its authors (128 Hz)",
    labels="tasks 'arousal' and 'valence': below 5 against above 5 of what the person said after the video (1 to 9), "
    "exactly 5 in neither; 'arousal rating', 'valence rating', 'dominance rating', 'liking rating': the number. One "
    "label for a video of a minute; what people say and what their bodies do agree little",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://www.eecs.qmul.ac.uk/mmv/datasets/deap/download.html (an agreement is to be signed)",
    layout=(
        "[data_preprocessed_python/]s01.dat to s32.dat, or",
        "[data_original/]s01.bdf to s32.bdf with [metadata_csv/]participant_ratings.csv",
    ),
    write_study=write_study,
    dropped="the 3 s before each video (no label; nothing is subtracted), what lies between videos, videos rated "
    "exactly 5 (in the classes); of sNN.dat the skin resistance (in ohm, which no factor turns into a conductance) and "
    "the temperature (it lies about zero: its level was taken away); a person whose file has not 40 videos",
    alarms=(
        "balanced accuracy across people above 0.65: those reported are 0.50 to 0.60; 0.90 and more come from splits "
        "that put windows of one video, or of one person, on both sides",
        "a score that falls when whole videos are kept out: the same 40 videos are seen by all, and a model may "
        "recognise the video (its sound and light, and its mean rating)",
        "a clock-only score near the model's: in sNN.dat time is the video's number",
    ),
    files=(
        "data_preprocessed_python.zip: s01.dat to s32.dat, 103 MB each as 40 x 40 x 8064 numbers of 8 bytes",
        "or data_original.zip: s01.bdf to s32.bdf; and metadata_csv.zip: participant_ratings.csv",
    ),
)
