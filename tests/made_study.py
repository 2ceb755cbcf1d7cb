"""Small prepared studies with a planted effect, made in memory for the tests of learning and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from biopercept.recording import Channel, Interval, Rating, RecordingLabels
from biopercept.store.prepared import PreparedRecording, StoredSignal, StoredWindows
from biopercept.store.writing import StoreHeader, write_recording_part, write_store
from biopercept.tasks import Task

LENGTH, STEP, RATE = 20.0, 10.0, 4.0
FEATURES = ("heart/hr_mean", "eda/scl_mean", "eda/phasic_sd")
TASK = Task("stress", classes={"rest": ("baseline",), "stress": ("stroop",)}, ignore=("break",))
STAGES = ("baseline", "stroop", "baseline", "break", "stroop", "baseline")
STAGE_SECONDS = 60.0
LOAD = Task("load", kind="regression", column="load")
JOY = Task("joy", kind="regression", signal="Joy", max_lag_seconds=10.0)
LEVEL = Task("level", kind="ordinal", classes={"low": ("baseline",), "middle": ("break",), "high": ("stroop",)})


def recording(
    subject: str, *, seed: int, effect: float = 1.0, missing: Sequence[str] = (), offset: float = 0.0
) -> PreparedRecording:
    """Return a recording at 4 Hz whose levels rise with stress, around a level of the subject's own."""
    random = np.random.default_rng([seed, *subject.encode()])
    n = int(len(STAGES) * STAGE_SECONDS * RATE)
    stage = np.repeat(STAGES, int(STAGE_SECONDS * RATE))
    level = np.where(stage == "stroop", effect, 0.0)
    made = {
        "heart_rate": 70 + 8 * random.normal() + 6 * level + 4 * random.normal(size=n),
        "tonic": random.normal() + 0.5 * level + 0.3 * random.normal(size=n),
        "EDA": 3 + random.normal() + 0.5 * level + 0.3 * random.normal(size=n),
    }
    modality = {"heart_rate": "heart_rate", "tonic": "tonic", "EDA": "eda"}
    origin = {"heart_rate": "ECG", "tonic": "EDA", "EDA": ""}
    present = {name: values + offset for name, values in made.items() if name not in missing}
    signals = tuple(
        StoredSignal(name, modality[name], "a.u.", RATE, RATE, 0.0, (Channel(name),), n, origin[name])
        for name in present
    )
    samples = {name: values[None].astype(np.float32) for name, values in present.items()}
    masks = {name: np.ones((1, n), dtype=bool) for name in present}
    return PreparedRecording(
        subject=subject,
        session="",
        recording="protocol",
        duration_seconds=n / RATE,
        signals=signals,
        samples=samples,
        masks=masks,
        windows=_windows(present, n / RATE, len(signals)),
        quality={name: np.ones((1, int(n / RATE)), dtype=np.float32) for name in present},
    )


def _windows(signals: dict[str, np.ndarray], duration: float, n_signals: int) -> StoredWindows:
    labelled = [
        (start + k * STEP, label, stage)
        for stage, (start, label) in enumerate(zip(np.arange(len(STAGES)) * STAGE_SECONDS, STAGES, strict=True))
        for k in range(int((STAGE_SECONDS - LENGTH) // STEP) + 1)
    ]
    grid = [(onset, "", -1) for onset in np.arange(0, duration - LENGTH + 1e-9, STEP)]
    rows = labelled + grid
    features = np.full((len(rows), len(FEATURES)), np.nan, dtype=np.float32)
    for row, (onset, _, _) in enumerate(rows):
        cut = slice(int(onset * RATE), int((onset + LENGTH) * RATE))
        if "heart_rate" in signals:
            features[row, 0] = signals["heart_rate"][cut].mean()
        if "EDA" in signals:
            features[row, 1:] = signals["EDA"][cut].mean(), signals["EDA"][cut].std()
    return StoredWindows(
        onset=np.array([r[0] for r in rows], dtype=np.float64),
        label=np.array([r[1] for r in rows], dtype=np.str_),
        stage=np.array([r[2] for r in rows], dtype=np.int32),
        is_labelled=np.array([r[2] >= 0 for r in rows], dtype=bool),
        features=features,
        quality=np.ones((len(rows), n_signals), dtype=np.float32),
    )


def numbered(recordings: Sequence[PreparedRecording]) -> tuple[PreparedRecording, ...]:
    """Return the recordings with their stretches, and in each but the breaks a ``load``: about 50, or 80 in stress."""
    random = np.random.default_rng(1)
    intervals = tuple(Interval(i * STAGE_SECONDS, STAGE_SECONDS, label) for i, label in enumerate(STAGES))
    known = []
    for held in recordings:
        loads = [{"baseline": 50.0, "stroop": 80.0}.get(label) for label in STAGES]
        numbers = tuple({} if load is None else {"load": load + round(random.normal(), 3)} for load in loads)
        known.append(replace(held, labels=RecordingLabels(intervals, numbers)))
    return tuple(known)


def study(n_subjects: int = 6, *, seed: int = 0, effect: float = 1.0) -> tuple[PreparedRecording, ...]:
    """Return the recordings of subjects P01, P02, ...; the last one has no EDA."""
    last = f"P{n_subjects:02d}"
    return tuple(
        recording(name, seed=seed, effect=effect, missing=("EDA", "tonic") if name == last else ())
        for name in (f"P{i + 1:02d}" for i in range(n_subjects))
    )


def rated(
    lag: float, *, noise: float = 0.5, seed: int = 0, wild: str = "", n_subjects: int = 6
) -> tuple[PreparedRecording, ...]:
    """Return people who state their heart rate ``lag`` seconds late; of one, ``wild``, all is otherwise."""
    random = np.random.default_rng(seed)
    people = []
    for one in study(n_subjects, seed=seed):
        heart = one.samples["heart_rate"][0].astype(np.float64)
        stated = heart + noise * random.normal(size=len(heart))
        labels = RecordingLabels(ratings={"Joy": Rating(stated, RATE, start_seconds=lag)})
        if one.subject == wild:
            labels = RecordingLabels(ratings={"Joy": Rating(1e3 * random.normal(size=len(heart)), RATE)})
            features = 1e3 * random.normal(size=one.windows.features.shape)
            one = replace(one, windows=replace(one.windows, features=features.astype(np.float32)))
        people.append(replace(one, labels=labels))
    return tuple(people)


AUDIT_FEATURES = ("heart/rate_mean", "heart/rate_sd", "eda/scl_mean", "eda/phasic_sd", "temp/mean", "motion/activity")
PLANTS = ("", "order", "drift", "offset", "constant", "length", "gaps", "copy", "motion")


def planted(plant: str = "", *, n_subjects: int = 12, seed: int = 0) -> tuple[PreparedRecording, ...]:
    """Return a study of counterbalanced conditions, an honest effect, and one planted leak or confound.

    Parameters
    ----------
    plant : str
        "" (none); "order" (conditions in one order for all, nothing that tells the time); "drift" (the same, and the
        temperature rises with time); "offset" (each subject has a temperature of their own); "constant" (the same,
        and one label per subject); "length" (one label per file, stress files are longer); "gaps" (a feature is
        missing under stress); "copy" (two subjects hold the same samples); "motion" (people move under stress).
    n_subjects : int
    seed : int
    """
    made = []
    for i in range(n_subjects):
        random = np.random.default_rng([seed, i])
        offset = 40.0 * random.normal() if plant in ("offset", "constant") else 0.0
        for name, labels in _protocol(plant, i, random):
            samples_of = 0 if plant == "copy" and i == 1 else i
            made.append(_planted_recording(f"P{i + 1:02d}", name, labels, plant, offset, random, [seed, samples_of]))
    return tuple(made)


def _protocol(plant: str, subject: int, random: np.random.Generator) -> list[tuple[str, list[str]]]:
    """Return the recordings of a subject, each with the labels of its stages of one minute."""
    balanced = ["baseline", "stroop"] * 4
    if plant in ("order", "drift"):
        return [("protocol", sorted(balanced))]
    if plant == "constant":
        return [("protocol", [balanced[subject % 2]] * 8)]
    if plant == "length":
        return [("rest", ["baseline"] * 4), ("task", ["stroop"] * 6)]
    return [("protocol", [str(label) for label in random.permutation(balanced)])]


def _planted_recording(
    subject: str,
    name: str,
    labels: Sequence[str],
    plant: str,
    offset: float,
    random: np.random.Generator,
    sample_seed: Sequence[int],
) -> PreparedRecording:
    duration = len(labels) * STAGE_SECONDS
    n = int(duration * RATE)
    eda = 5 + np.random.default_rng(sample_seed).normal(size=n).cumsum() * 0.05
    mask = np.repeat(random.random(n // 20 + 1) > 0.02, 20)[None, :n]  # gaps of five seconds, whatever the label
    signal = StoredSignal("EDA", "eda", "uS", RATE, RATE, 0.0, (Channel("EDA"),), n, "")
    rows = [
        (start * STAGE_SECONDS + k * STEP, label, start)
        for start, label in enumerate(labels)
        for k in range(int((STAGE_SECONDS - LENGTH) // STEP) + 1)
    ]
    rows += [(onset, "", -1) for onset in np.arange(0, duration - LENGTH + 1e-9, STEP)]
    onset = np.array([r[0] for r in rows])
    is_stress = np.array([labels[min(int(t // STAGE_SECONDS), len(labels) - 1)] == "stroop" for t in onset])
    features = random.normal(size=(len(rows), len(AUDIT_FEATURES)))
    features[:, :2] += random.normal(0.8, 0.3) * is_stress[:, None]
    features[:, 4] += offset + (onset / 10.0 if plant == "drift" else 0.0)
    features[:, 5] += 4.0 * is_stress if plant == "motion" else 0.0
    features[random.random(features.shape) < 0.03] = np.nan
    if plant == "gaps":
        features[is_stress, 3] = np.nan
    return PreparedRecording(
        subject=subject,
        session="",
        recording=name,
        duration_seconds=duration,
        signals=(signal,),
        samples={"EDA": np.where(mask, eda, 0.0).astype(np.float32)},
        masks={"EDA": mask},
        windows=StoredWindows(
            onset=onset.astype(np.float64),
            label=np.array([r[1] for r in rows], dtype=np.str_),
            stage=np.array([r[2] for r in rows], dtype=np.int32),
            is_labelled=np.array([r[2] >= 0 for r in rows], dtype=bool),
            features=features.astype(np.float32),
            quality=random.uniform(0.7, 1.0, size=(len(rows), 1)).astype(np.float32),
        ),
        quality={"EDA": np.ones((1, int(duration)), dtype=np.float32)},
    )


def store(
    path: Path,
    recordings: Sequence[PreparedRecording],
    *,
    task: Task | Sequence[Task] = TASK,
    features: Sequence[str] = FEATURES,
    name: str = "made",
    length: float = LENGTH,
    is_ordered: bool = False,
    about: Mapping[str, str] | None = None,
) -> Path:
    """Write the recordings as a store of the named study at ``path`` and return it."""
    sources = []
    for held in recordings:
        part = path.parent / f"{path.stem}-{held.key}.part.h5"
        write_recording_part(part, held, source_hash="0" * 64, settings_hash="0" * 64)
        sources.append((held.key, part))
    settings = {"windows": {"length_seconds": length, "step_seconds": STEP}, "cleaning": {}}
    tasks = (task,) if isinstance(task, Task) else tuple(task)
    order = tuple(held.key for held in recordings) if is_ordered else ()
    labels = {held.key: held.labels for held in recordings if not held.labels.is_empty()}
    write_store(
        path,
        StoreHeader(name, tasks, settings, tuple(features), labels, order, about or {}),
        sources,
    )
    return path
