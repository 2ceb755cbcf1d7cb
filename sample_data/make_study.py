"""Write the sample study: ten made people with a chest and a wrist device.

Run as ``python -m biopercept.sample_data.make_study OUT``. Nothing in it was measured on anybody. The
same seed gives the same study.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biopercept.files import write_bytes, write_text
from biopercept.sample_data import physiology as body
from biopercept.studies.datasets.writing import StudyTables

if TYPE_CHECKING:
    import edfio

SEED = 20240229
STAGE_SECONDS = 60
ECG_RATE, EEG_RATE, RESP_RATE, WRIST_RATE = 128, 128, 16, 4
_BODY_RATE = 16  # stress, breathing phase and heart rate are made at this rate

DEFINITION = {
    "name": "sample",
    "description": "MADE data, measured on nobody: ECG, EEG and respiration from a chest device, EDA and skin "
    "temperature from a wrist device; short stages of rest and stress in an order that differs from person to person.",
    "licence": "BSD-3-Clause",
    "tasks": {"stress": {"classes": {"rest": ["baseline", "relax"], "stress": ["stroop", "interview"]}}},
}


@dataclass(frozen=True)
class Plan:
    """What happens to one made person.

    Attributes
    ----------
    response : float
        Strength of the planted effect; 1 is about +6 beats a minute.
    order : str
        One letter per stage: R rest, S stress.
    is_broken : bool
        The Pz electrode is dead and the ECG lead is off for half a minute.
    wrist_offset_seconds : float
        How much later than the chest device the wrist device started.
    """

    subject: str
    response: float
    order: str
    has_eeg: bool = True
    is_broken: bool = False
    wrist_offset_seconds: float = 0.0


# Orders come in pairs, each the mirror of the other: at every moment half the people rest, so a clock tells nothing.
# S04 and S08 hardly respond.
PLANS = (
    Plan("S01", 1.0, "RSRSRSR"),
    Plan("S02", 1.4, "SRSRSRS"),
    Plan("S03", 0.8, "RSSRSRR"),
    Plan("S04", 0.1, "SRRSRSS"),
    Plan("S05", 1.1, "RRSRSSR", has_eeg=False),
    Plan("S06", 1.2, "SSRSRRS"),
    Plan("S07", 0.9, "RSRRSSR", is_broken=True),
    Plan("S08", 0.2, "SRSSRRS"),
    Plan("S09", 1.3, "RRSSRSR", wrist_offset_seconds=12.5),
    Plan("S10", 0.7, "SSRRSRS"),
)


def stage_labels(order: str) -> list[str]:
    """Return the label of each stage: the first rest is the baseline, stress is Stroop and interview by turns.

    Examples
    --------
    >>> stage_labels("RSRS")
    ['baseline', 'stroop', 'relax', 'interview']
    """
    rest, stress = iter(["baseline"] + ["relax"] * len(order)), iter(["stroop", "interview"] * len(order))
    return [next(rest) if letter == "R" else next(stress) for letter in order]


def make_signals(plan: Plan) -> dict[str, body.Series]:
    """Return one person's signals in mV, uV, a.u., uS and degC; EEG is (4, n_samples), the others (n_samples,)."""
    random = np.random.default_rng([SEED, int(plan.subject[1:])])
    person = body.draw_person(random, plan.response)
    duration = STAGE_SECONDS * len(plan.order)
    is_stress = np.repeat([float(letter == "S") for letter in plan.order], STAGE_SECONDS * _BODY_RATE)
    stress = body.smooth_steps(is_stress, _BODY_RATE, 6.0, 12.0)
    belt, phase = body.breathing(random, person, stress, RESP_RATE)
    beats = body.beat_times(random, person, stress, phase, _BODY_RATE)
    at_ecg = _resampled(phase, duration * ECG_RATE)
    signals = {
        "RESP": belt,
        "ECG": body.electrocardiogram(random, person, beats, at_ecg, duration * ECG_RATE, ECG_RATE),
        "EEG": body.electroencephalogram(random, person, _resampled(stress, duration * EEG_RATE), EEG_RATE),
        "EDA": body.skin_conductance(random, person, stress[:: _BODY_RATE // WRIST_RATE], WRIST_RATE),
        "TEMP": body.skin_temperature(random, person, stress[:: _BODY_RATE // WRIST_RATE], WRIST_RATE),
    }
    return _with_flaws(signals, plan)


def _resampled(series: body.Series, n_samples: int) -> body.Series:
    """Return a slow series at a higher rate, by straight lines."""
    return np.asarray(np.interp(np.arange(n_samples) * len(series) / n_samples, np.arange(len(series)), series))


def _with_flaws(signals: Mapping[str, body.Series], plan: Plan) -> dict[str, body.Series]:
    """Return the signals without EEG, or with the broken parts, or the wrist ones starting late, as planned."""
    made = {name: samples.copy() for name, samples in signals.items()}
    if not plan.has_eeg:
        del made["EEG"]
    if plan.is_broken:
        made["EEG"][body.EEG_CHANNELS.index("Pz")] = 0.0
        made["ECG"][150 * ECG_RATE : 180 * ECG_RATE] = 0.0
    skipped = round(plan.wrist_offset_seconds * WRIST_RATE)
    return {name: samples[skipped:] if name in ("EDA", "TEMP") else samples for name, samples in made.items()}


def write_chest(path: Path, signals: Mapping[str, body.Series]) -> None:
    """Write ECG, EEG and respiration as an EDF file of 16-bit samples."""
    import edfio

    parts = [_edf_signal(signals["ECG"], ECG_RATE, "ECG", "mV", 5.0)]
    if "EEG" in signals:
        for name, samples in zip(body.EEG_CHANNELS, signals["EEG"], strict=True):
            parts.append(_edf_signal(samples, EEG_RATE, f"EEG {name}", "uV", 500.0))
    parts.append(_edf_signal(signals["RESP"], RESP_RATE, "Resp chest", "", 5.0))
    recording = edfio.Recording(startdate=date(2001, 1, 1), equipment_code="made_data")
    edf = edfio.Edf(parts, recording=recording, starttime=time(10, 0, 0), data_record_duration=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    edf.write(path)


def _edf_signal(samples: body.Series, sampling_rate: int, label: str, unit: str, limit: float) -> edfio.EdfSignal:
    import edfio

    clipped = np.clip(samples, -limit, limit)
    return edfio.EdfSignal(clipped, sampling_rate, label=label, physical_dimension=unit, physical_range=(-limit, limit))


def write_wrist(path: Path, signals: Mapping[str, body.Series]) -> None:
    """Write EDA and skin temperature as a compressed table with a JSON sidecar of the same name."""
    rows = zip(signals["EDA"], signals["TEMP"], strict=True)
    text = "".join(f"{eda:.4f},{temp:.2f}\n" for eda, temp in rows)
    # No time stamp and no name inside the archive, so that the same samples give the same bytes.
    write_bytes(path, gzip.compress(("EDA,TEMP\n" + text).encode("ascii"), 9, mtime=0))
    sidecar = {
        "SamplingFrequency": WRIST_RATE,
        "StartTime": 0,
        "Columns": ["EDA", "TEMP"],
        "EDA": {"Units": "uS", "Modality": "eda"},
        "TEMP": {"Units": "degC", "Modality": "temp"},
    }
    write_text(path.with_name(path.name.removesuffix(".csv.gz") + ".json"), json.dumps(sidecar, indent=1) + "\n")


def write_study(output: Path, subjects: Sequence[str] | None = None) -> None:
    """Write the study folder, or the part of it that is about the given subjects.

    Raises OutputError where it cannot be written.
    """
    tables = StudyTables()
    for number, plan in enumerate(PLANS):
        if subjects is not None and plan.subject not in subjects:
            continue
        signals = make_signals(plan)
        chest, wrist = f"recordings/{plan.subject}_chest.edf", f"recordings/{plan.subject}_wrist.csv.gz"
        write_chest(output / chest, signals)
        write_wrist(output / wrist, signals)
        who = {"participant_id": plan.subject, "recording": "protocol"}
        tables.participants.append(
            {"participant_id": plan.subject, "age": 21 + 3 * number % 20, "sex": "FM"[number % 2]}
        )
        tables.recordings.append({**who, "path": chest, "offset_seconds": 0.0})
        tables.recordings.append({**who, "path": wrist, "offset_seconds": plan.wrist_offset_seconds})
        for stage, label in enumerate(stage_labels(plan.order)):
            times = {"onset": stage * STAGE_SECONDS, "duration": STAGE_SECONDS}
            tables.events.append({**who, **times, "trial_type": label})
    tables.write(output, DEFINITION)
    (output / "import_report.txt").unlink(missing_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m biopercept.sample_data.make_study OUT")
    write_study(Path(sys.argv[1]))
