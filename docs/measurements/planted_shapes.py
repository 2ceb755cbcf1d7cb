"""Made studies of many shapes: people who differ, a planted effect, drift and artefacts; files, stages or ratings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.files import write_text
from biopercept.sample_data import physiology as body
from biopercept.studies.datasets.writing import StudyTables
from measurements.planted_hearts import Heart, pulse_of

Samples = NDArray[np.float64]

_RATE = 16
"""Hz of what happens in a body before it is measured."""
_RATING_RATE = 4
_RATING_LAG_SECONDS = 2.0
ORGANS = ("heart", "breath", "skin", "brain")

LOADS: Mapping[str, tuple[float, float, float, float]] = {
    "rest": (0.0, 0.0, 0.0, 0.0),
    "mental": (0.8, 0.9, 0.6, 1.0),
    "social": (1.3, 0.2, 1.2, 0.4),
    "film": (0.1, 0.6, 0.6, -0.5),
    "effort": (1.6, 1.1, 0.3, 0.1),
}
"""What a class does to each organ: 1 is about +6 beats, +2.6 breaths, +5 skin responses a minute, -30 % of alpha."""


@dataclass(frozen=True)
class Shape:
    """What a made study is like.

    Attributes
    ----------
    stages : tuple of (str, float)
        Class and seconds of each stage; the order is drawn for each person, but for the first. In a study of ratings
        and numbers the classes do not count, only how long it lasts, or each stage.
    label : str
        What is labelled: "stages" of one recording, "files" (each stage is one), "rating" (a signal), "numbers" (one
        for each stage).
    effect : float
        How strongly a usual person reacts.
    """

    name: str
    words: str
    n_people: int
    stages: tuple[tuple[str, float], ...]
    sensors: tuple[str, ...]
    label: str = "stages"
    effect: float = 0.8

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes, in the order of their first stage."""
        return tuple(dict.fromkeys(label for label, _ in self.stages))

    @property
    def seconds(self) -> float:
        """Return how long a person is measured."""
        return sum(seconds for _, seconds in self.stages)

    @property
    def n_studies(self) -> int:
        """Return how many made studies are one round of this shape: of few people several, for they tell little."""
        return 5 if self.n_people < 10 else 1

    @property
    def is_of_numbers(self) -> bool:
        """Return whether a number is predicted."""
        return self.label in ("rating", "numbers")


_WRIST = ("BVP", "EDA", "TEMP")
_CHEST = ("ECG", "RESP", "EDA")
_TWICE = (("rest", 150.0), ("mental", 150.0)) * 2

SHAPES: tuple[Shape, ...] = (
    Shape("files", "the file is the label, rest first", 16, (("rest", 180.0), ("mental", 180.0)), _CHEST, "files"),
    Shape("eight people", "8 people", 8, _TWICE, ("BVP", "EDA", "TEMP", "ACC")),
    Shape("sixty people", "60 people", 60, _TWICE, ("RESP", "EDA", "TEMP")),
    Shape("three classes", "3 classes", 15, tuple((c, 210.0) for c in ("rest", "mental", "social")), _CHEST),
    Shape("four classes", "4 classes", 15, tuple((c, 180.0) for c in list(LOADS)[:4]), _CHEST),
    Shape("five classes", "5 classes", 15, tuple((c, 150.0) for c in LOADS), _CHEST),
    Shape("one sensor", "skin conductance alone", 15, _TWICE, ("EDA",)),
    Shape("no motion", "a wristband without acceleration", 15, _TWICE, _WRIST),
    Shape("EEG", "EEG alone", 14, (("rest", 60.0), ("mental", 60.0)) * 3, ("EEG",)),
    Shape("rating", "a rating all the time", 15, (("film", 480.0),), _CHEST, "rating"),
    Shape("numbers", "a number for each of six stages", 15, (("mental", 90.0),) * 6, _CHEST, "numbers"),
)


@dataclass(frozen=True)
class _Course:
    """What happens to one person: stages with their classes, seconds and numbers, and how far each organ is moved."""

    stages: tuple[tuple[str, float, float], ...]
    moved: Mapping[str, Samples]
    rating: Samples

    @property
    def n_seconds(self) -> int:
        return round(sum(seconds for _, seconds, _ in self.stages))


def write_study(shape: Shape, folder: Path, seed: int = 0) -> None:
    """Write a study of this shape: EDF files and tables; another seed makes other people."""
    tables = StudyTables()
    for number in range(shape.n_people):
        subject = f"P{number + 1:02d}"
        random = np.random.default_rng([seed, number, *shape.name.encode()])
        tables.participants.append({"participant_id": subject})
        course = _course(shape, random)
        signals = dict(_signals(shape, course, random))
        for row in _recordings(shape, subject, course):
            first, last = row.pop("first"), row.pop("last")
            cut = {name: (rate, samples[..., first * rate : last * rate]) for name, (rate, samples) in signals.items()}
            path = f"recordings/{subject}_{row['recording']}.edf"
            _write_edf(folder / path, {n: (r, _file_effect(s, random)) for n, (r, s) in cut.items()})
            tables.recordings.append({"participant_id": subject, **row, "path": path})
        if shape.label == "rating":
            path = f"recordings/{subject}_rating.csv"
            _write_rating(folder / path, course.rating)
            tables.recordings.append({"participant_id": subject, "recording": "all", "path": path})
        if shape.label in ("stages", "numbers"):
            tables.events += _events(shape, subject, course)
    tables.write(folder, {"name": shape.name.replace(" ", "-"), "tasks": {"state": _task(shape)}})
    (folder / "import_report.txt").unlink(missing_ok=True)


def _task(shape: Shape) -> dict[str, Any]:
    if shape.label == "rating":
        return {"kind": "regression", "signal": "Rating"}
    if shape.label == "numbers":
        return {"kind": "regression", "column": "load"}
    return {"classes": {name: [name] for name in shape.classes}}


def _recordings(shape: Shape, subject: str, course: _Course) -> Iterator[dict[str, Any]]:
    if shape.label != "files":
        yield {"recording": "all", "first": 0, "last": course.n_seconds}
        return
    first = 0
    for number, (label, seconds, _) in enumerate(course.stages, 1):
        yield {"recording": f"{number}-{label}", "condition": label, "first": first, "last": first + round(seconds)}
        first += round(seconds)


def _events(shape: Shape, subject: str, course: _Course) -> Iterator[dict[str, Any]]:
    onset = 0.0
    for label, seconds, number in course.stages:
        cells = {"participant_id": subject, "recording": "all", "onset": onset, "duration": seconds}
        yield {**cells, "trial_type": label, **({"load": round(number, 2)} if shape.label == "numbers" else {})}
        onset += seconds


def _course(shape: Shape, random: np.random.Generator) -> _Course:
    """Draw the order of stages and how each organ follows them; the first stage is the same for all, as often."""
    first, *others = shape.stages
    stages = [first, *(others[i] for i in random.permutation(len(others)))]
    n = round(shape.seconds * _RATE)
    seconds = np.arange(n) / _RATE
    level = np.zeros(n)
    numbers = [0.0] * len(stages)
    if shape.label == "rating":
        level = np.clip(0.5 + 0.35 * body.coloured_noise(random, n, _RATE, 2.0), 0, 1)
    elif shape.label == "numbers":
        numbers = list(random.uniform(0, 1, len(stages)))
        level = np.repeat(numbers, [round(length * _RATE) for _, length in stages])
    moved = {}
    wander = 0.25 * body.coloured_noise(random, n, _RATE, 1.5)
    arrival = random.exponential(0.3) * np.exp(-seconds / 90)  # excited at first, whatever the label
    tiring = 1 - random.uniform(0, 0.4) * seconds / seconds[-1]
    for place, organ in enumerate(ORGANS):
        goal = level * 2 if shape.is_of_numbers else _goal(stages, place)
        strength = shape.effect * np.exp(0.45 * random.normal()) * (random.random() > 0.12)
        alone = 0.15 * body.coloured_noise(random, n, _RATE, 1.5)
        followed = body.smooth_steps(goal + 1, _RATE, 6.0, 12.0) - 1 if len(stages) > 1 else goal
        moved[organ] = strength * tiring * followed + wander + arrival + alone
    bias, gain, late = random.normal(0, 6), np.exp(0.2 * random.normal()), round(_RATING_LAG_SECONDS * _RATE)
    numbers = [50 + gain * 50 * (number - 0.5) + bias + random.normal(0, 6) for number in numbers]
    rating = 50 + gain * 50 * (np.roll(level, late) - 0.5) + bias
    return _Course(
        tuple((label, length, number) for (label, length), number in zip(stages, numbers, strict=True)),
        moved,
        rating[:: _RATE // _RATING_RATE] + random.normal(0, 3, n * _RATING_RATE // _RATE),
    )


def _goal(stages: Sequence[tuple[str, float]], organ: int) -> Samples:
    return np.concatenate([np.full(round(seconds * _RATE), LOADS[label][organ]) for label, seconds in stages])


def _signals(shape: Shape, course: _Course, random: np.random.Generator) -> Iterator[tuple[str, tuple[int, Samples]]]:
    """Give each signal with its sampling rate (Hz), with what movement and electrodes spoil."""
    person = body.draw_person(random, 1.0)
    n = course.n_seconds
    moves = _movement(course, random)
    belt, phase = body.breathing(random, person, course.moved["breath"], _RATE)
    beats = body.beat_times(random, person, course.moved["heart"], phase, _RATE)
    skin, drift = course.moved["skin"][:: _RATE // 4], np.linspace(0, 1, 4 * n)
    shaken = {rate: np.repeat(moves, rate) for rate in (4, 16, 32, 64, 128)}
    for name in shape.sensors:
        if name == "RESP":
            yield name, (16, belt + shaken[16] * random.normal(0, 0.8, 16 * n))
        elif name == "ECG":
            ecg = body.electrocardiogram(random, person, beats, _at(phase, 128 * n), 128 * n, 128)
            yield name, (128, _off(ecg + shaken[128] * random.normal(0, 0.25, 128 * n), 128, random))
        elif name == "BVP":
            heart = Heart(beats, np.ones(len(beats), dtype=bool))
            pulse = pulse_of(heart, n, 64, noise=2.0) + shaken[64] * 60 * body.coloured_noise(random, 64 * n, 64, 1.0)
            yield name, (64, pulse)
        elif name == "EDA":
            eda = body.skin_conductance(random, person, skin, 4) * (1 + random.normal(0.15, 0.2) * drift)
            yield name, (4, _off(np.maximum(eda + shaken[4] * random.normal(0, 0.05, 4 * n), 0.05), 4, random))
        elif name == "TEMP":
            yield name, (4, body.skin_temperature(random, person, skin, 4) + random.normal(0.3, 0.4) * drift)
        elif name == "ACC":
            still = np.array([[0.1], [0.2], [0.97]]) + random.normal(0, 0.01, (3, 32 * n))
            yield name, (32, still + shaken[32] * 0.3 * random.normal(0, 1, (3, 32 * n)))
        else:
            eeg = body.electroencephalogram(random, person, _at(course.moved["brain"], 128 * n), 128)
            yield name, (128, eeg + shaken[128] * 30 * body.coloured_noise(random, 128 * n, 128, 1.5))


def _movement(course: _Course, random: np.random.Generator) -> Samples:
    """Return how strongly somebody moves in each second: bursts, a third more often where something is to be done."""
    moves = np.zeros(course.n_seconds)
    first = 0
    for label, seconds, _ in course.stages:
        last = first + round(seconds)
        for start in np.flatnonzero(random.random(last - first) < (0.015 if label == "rest" else 0.02)).tolist():
            moves[first + start : first + start + int(random.integers(2, 7))] = random.uniform(0.3, 1)
        first = last
    return moves


def _at(series: Samples, n: int) -> Samples:
    return np.asarray(np.interp(np.arange(n) * len(series) / n, np.arange(len(series)), series))


def _off(samples: Samples, rate: int, random: np.random.Generator) -> Samples:
    """Return a signal whose electrode is off for some seconds, of one person in four."""
    if random.random() < 0.25:
        start = int(random.integers(len(samples) // 2))
        samples[start : start + rate * int(random.integers(5, 25))] = 0.0
    return samples


def _file_effect(samples: Samples, random: np.random.Generator) -> Samples:
    """Return a signal as electrodes that were put on anew would give it: its size a little different."""
    return np.asarray(samples * np.exp(0.03 * random.normal()))


_CHANNELS = {
    "ECG": (("ECG",), "mV", 5.0),
    "RESP": (("Resp chest",), "", 6.0),
    "EDA": (("EDA",), "uS", 60.0),
    "TEMP": (("TEMP",), "degC", 60.0),
    "BVP": (("BVP",), "", 400.0),
    "ACC": (("ACC x", "ACC y", "ACC z"), "g", 4.0),
    "EEG": (tuple(f"EEG {name}" for name in body.EEG_CHANNELS), "uV", 500.0),
}


def _write_edf(path: Path, signals: Mapping[str, tuple[int, Samples]]) -> None:
    import edfio

    parts = []
    for name, (rate, samples) in signals.items():
        labels, unit, limit = _CHANNELS[name]
        for label, row in zip(labels, np.atleast_2d(samples), strict=True):
            clipped, span = np.clip(row, -limit, limit), (-limit, limit)
            parts.append(edfio.EdfSignal(clipped, rate, label=label, physical_dimension=unit, physical_range=span))
    recording = edfio.Recording(startdate=date(2001, 1, 1), equipment_code="made_data")
    edf = edfio.Edf(parts, recording=recording, starttime=time(10, 0, 0), data_record_duration=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    edf.write(path)


def _write_rating(path: Path, rating: Samples) -> None:
    write_text(path, "Rating\n" + "".join(f"{value:.2f}\n" for value in rating))
    sidecar = {"SamplingFrequency": _RATING_RATE, "StartTime": 0, "Columns": ["Rating"]}
    write_text(path.with_suffix(".json"), json.dumps(sidecar) + "\n")
