"""DREAMER: EEG of an Emotiv EPOC and ECG of a Shimmer while 18 film clips were watched, each rated afterwards.

DREAMER.mat holds all people: DREAMER.Data{person}.{EEG,ECG}.{baseline,stimuli}{clip}, samples by channels, and
ScoreValence, ScoreArousal and ScoreDominance of each clip; that, the rates (128 and 256 Hz) and the scale (1 to 5) are
those of its readme (v1.0.2) and of two public loaders. As a recording is a file of one person, the import writes one
for each. The unit of the EEG is the headset's and is believed where the numbers lie on its offset; that of the ECG is
said nowhere, so the ECG is kept without one and used by nothing until study.yaml states it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, StudyError
from biopercept.files import write_bytes, write_json
from biopercept.loaders.emotiv import ELECTRODES, emotiv_unit
from biopercept.loaders.readers.matlab_pieces import pieces
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.self_ratings import clip_label, rating_tasks
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_RATES = {"EEG": 128, "ECG": 256}
_CHANNELS = {"EEG": ELECTRODES, "ECG": ("ECG 1", "ECG 2")}
_PARTS = {"baseline": "neutral", "stimuli": ""}
_SCORES = ("valence", "arousal", "dominance")
_MIDDLE = 3.0
_GAP_SECONDS = 10
_FOLDER = "recordings"

Person = Mapping[str, NDArray[np.generic] | str]
"""Place below DREAMER/Data/N -> numbers or text."""

DEFINITION = {
    "name": "dreamer",
    "description": "EEG (14 channels) and ECG while 18 film clips were watched, each after a neutral clip and rated "
    "afterwards.",
    "licence": "none could be confirmed; see the data set's page",
    "citation": "S. Katsigiannis, N. Ramzan, DREAMER: A Database for Emotion Recognition Through EEG and ECG Signals "
    "From Wireless Low-cost Off-the-Shelf Devices, IEEE Journal of Biomedical and Health Informatics 22(1):98-107, "
    "2018, doi 10.1109/JBHI.2017.2688239",
    "tasks": rating_tasks(_SCORES, ignore=["neutral"]),
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set, and in it a file for each person: recordings/PNN.npz.

    Raises StudyError where there is no DREAMER.mat, or it cannot be read. Raises OutputError where the study cannot be
    written.
    """
    file = source / "DREAMER.mat"
    if not file.is_file():
        raise StudyError(f"{source} holds no DREAMER.mat; see 'biopercept datasets dreamer'")
    tables = StudyTables()
    try:
        _check_header(file)
        for number, person in _people(file):
            _add_person(f"P{number:02d}", person, output, tables)
    except RecordingError as fault:
        raise StudyError(str(fault)) from fault
    tables.notes.append(
        "The recordings were copied into the study, a file for each person, as DREAMER.mat holds all. Clips are in the "
        f"order of the file, with {_GAP_SECONDS} s between them: time in a recording is not time in the session."
    )
    tables.notes.append(
        "No unit of the ECG is published, so it is not used; if you know it, write it into study.yaml "
        "(signals: {ECG 1: {unit: ...}})."
    )
    return tables.write(output, DEFINITION)


def _check_header(file: Path) -> None:
    """Refuse a file that states other rates or electrodes than those that are written down here."""
    content = dict(pieces(file, lambda place: not place.startswith("DREAMER/Data")))
    for kind, rate in _RATES.items():
        stated = content.get(f"DREAMER/{kind}_SamplingRate")
        if not isinstance(stated, np.ndarray) or stated.ravel().tolist() != [rate]:
            raise RecordingError(f"{file.name}: DREAMER.{kind}_SamplingRate is not {rate}, as in the published file")
    names = [content.get(f"DREAMER/EEG_Electrodes/{i}") for i in range(len(ELECTRODES))]
    if names != list(ELECTRODES):
        raise RecordingError(f"{file.name}: DREAMER.EEG_Electrodes are not {', '.join(ELECTRODES)}")


def _people(file: Path) -> Iterator[tuple[int, Person]]:
    """Give each person's number, from 1, and what the file holds of them, one person at a time."""
    number = ""
    person: dict[str, NDArray[np.generic] | str] = {}
    for place, content in pieces(file, lambda place: place.startswith("DREAMER/Data")):
        here, _, below = place.removeprefix("DREAMER/Data/").partition("/")
        if here != number and person:
            yield int(number) + 1, person
            person = {}
        number, person[below] = here, content
    if person:
        yield int(number) + 1, person


def _add_person(subject: str, person: Person, output: Path, tables: StudyTables) -> None:
    """Write a person's file and add the clips, or the sentence that says why the person is left out."""
    try:
        scores = [_scores(person, name) for name in _SCORES]
        arrays, clips = _on_one_clock(person, len(scores[0]))
    except RecordingError as fault:
        tables.left_out.append(f"{subject}: {fault}.")
        return
    unit = emotiv_unit(arrays["EEG"])
    if not unit:
        tables.notes.append(f"{subject}: its EEG does not lie on the headset's offset (about 4200 uV) and has no unit.")
    home = output / _FOLDER / f"{subject}.npz"
    content = io.BytesIO()
    np.savez_compressed(content, EEG=arrays["EEG"], ECG=arrays["ECG"])
    write_bytes(home, content.getvalue())
    stated = {kind: {"SamplingFrequency": rate, "Modality": kind.lower()} for kind, rate in _RATES.items()}
    columns = {kind: {"Columns": list(names)} for kind, names in _CHANNELS.items()}
    units = {"EEG": {"Units": unit} if unit else {}, "ECG": {}}
    write_json(home.with_suffix(".json"), {kind: {**stated[kind], **columns[kind], **units[kind]} for kind in _RATES})
    ids = {"participant_id": subject, "recording": "clips"}
    about = {name.lower(): person.get(name) for name in ("Age", "Gender")}
    tables.participants.append({"participant_id": subject, **{k: v for k, v in about.items() if isinstance(v, str)}})
    tables.recordings.append({**ids, "path": f"{_FOLDER}/{home.name}"})
    for onset, duration, part, clip in clips:
        rated = {name: float(values[clip]) for name, values in zip(_SCORES, scores, strict=True)}
        label = {"trial_type": _PARTS[part]} if _PARTS[part] else {"trial_type": clip_label(rated, _MIDDLE), **rated}
        tables.events.append({**ids, "onset": onset, "duration": duration, **label})


def _scores(person: Person, name: str) -> Sequence[float]:
    values = person.get(f"Score{name.capitalize()}")
    if not isinstance(values, np.ndarray) or not values.size or not np.isin(values, np.arange(1, 6)).all():
        raise RecordingError(f"Score{name.capitalize()} is no list of ratings from 1 to 5")
    return [float(value) for value in values.ravel()]


def _on_one_clock(
    person: Person, n_clips: int
) -> tuple[dict[str, NDArray[np.float32]], list[tuple[float, float, str, int]]]:
    """Return EEG and ECG with seconds of NaN between the clips, and onset, duration, part and number of each clip."""
    rows: dict[str, list[NDArray[np.float32]]] = {kind: [] for kind in _RATES}
    clips = []
    onset = 0
    for clip in range(n_clips):
        for part in _PARTS:
            arrays = {kind: _clip(person, kind, part, clip) for kind in _RATES}
            seconds = min(len(array) / _RATES[kind] for kind, array in arrays.items())
            clips.append((float(onset), seconds, part, clip))
            room = int(np.ceil(max(len(array) / _RATES[kind] for kind, array in arrays.items()))) + _GAP_SECONDS
            for kind, array in arrays.items():
                filled = np.full((room * _RATES[kind], array.shape[1]), np.nan, np.float32)
                filled[: len(array)] = array
                rows[kind].append(filled)
            onset += room
    return {kind: np.concatenate(parts) for kind, parts in rows.items()}, clips


def _clip(person: Person, kind: str, part: str, clip: int) -> NDArray[np.generic]:
    array = person.get(f"{kind}/{part}/{clip}")
    n_channels = len(_CHANNELS[kind])
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.shape[1] != n_channels or not len(array):
        there = f"the shape {array.shape}" if isinstance(array, np.ndarray) else "no numbers"
        raise RecordingError(f"{kind}.{part}{{{clip + 1}}} has {there}, not (samples, {n_channels})")
    return array


DATASET = Dataset(
    name="dreamer",
    title="DREAMER",
    content="23 people, 14 EEG channels of an Emotiv EPOC at 128 Hz and two ECG leads of a Shimmer at 256 Hz, 18 film "
    "clips, each after a neutral clip",
    labels="tasks 'arousal' and 'valence': 1 and 2 against 4 and 5 of what the person said after the clip, 3 in "
    "neither; 'valence rating', 'arousal rating', 'dominance rating': the number, 1 to 5. One label for a whole clip; "
    "the neutral clip before each is ignored and nothing is subtracted",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://zenodo.org/records/546113",
    layout=("DREAMER.mat",),
    write_study=write_study,
    dropped="clips rated 3 (in the classes: the middle of five steps is neither low nor high); the neutral clips (no "
    "label); the ECG, whose unit could not be confirmed (it is kept, and used once study.yaml states a unit); EEG that "
    "does not lie on the headset's offset; a person one of whose clips is not as documented",
    alarms=(
        "balanced accuracy across people above 0.65: those reported are 0.50 to 0.60; 0.90 and more come from splits "
        "that put windows of one clip, or of one person, on both sides",
        "a score that falls when whole clips are kept out: all people saw the same 18 clips, and a model may recognise "
        "the clip and know its mean rating",
        "a clock-only score near the model's: clips are in the file's order, so time is the clip's number",
    ),
    files=("DREAMER.mat (MATLAB version 5; the import writes about half a gigabyte more)",),
)
