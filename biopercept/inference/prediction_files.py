"""The files of predictions: a table per recording with its sidecar, traces at single times, and a summary of all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from biopercept.files import write_json, write_table
from biopercept.inference.prediction import PredictedNumbers, PredictedRecording, Trace

_COUNTS = ("windows", "withheld", "modalities_used", "modalities_ignored")
SUMMARY_COLUMNS = ("participant_id", "session", "recording", *_COUNTS)


def write_prediction(predicted: PredictedRecording, folder: Path, model: str) -> Path:
    """Write ``SUBJECT_SESSION_RECORDING_predictions.tsv`` with its JSON sidecar and return the table's path.

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    path = folder / f"{predicted.key}_predictions.tsv"
    classes = predicted.classes
    columns = ("onset", "duration", "predicted", *(f"probability_{c}" for c in classes), "quality", "reason", "label")
    columns = (*columns, "prediction_set") if predicted.sets else columns
    rows = [
        (
            float(predicted.onset[i]),
            predicted.length_seconds,
            predicted.predicted[i],
            *(None if np.isnan(p) else round(float(p), 6) for p in predicted.probabilities[i]),
            None if np.isnan(predicted.quality[i]) else round(float(predicted.quality[i]), 4),
            predicted.reason[i],
            predicted.label[i],
            *((predicted.sets[i],) if predicted.sets else ()),
        )
        for i in range(len(predicted.onset))
    ]
    sidecar = {
        "participant_id": predicted.subject,
        "session": predicted.session,
        "recording": predicted.recording,
        "model": model,
        "classes": list(classes),
        "modalities_used": list(predicted.used),
        "modalities_ignored": list(predicted.ignored),
        "notes": list(predicted.notes),
        "columns": {
            "onset": "start of the window, seconds from the recording's start",
            "duration": "length of the window, seconds",
            "predicted": "most probable class; empty where withheld",
            "quality": "mean signal quality, 0 (useless) to 1",
            "reason": "why no answer is given; empty where one is",
            "label": "class of the labelled interval the window lies wholly inside, where known",
            **(
                {"prediction_set": "classes that may be true; the answer is withheld unless it is one"}
                if predicted.sets
                else {}
            ),
        },
    }
    write_json(path.with_suffix(".json"), sidecar)
    write_table(path, columns, rows, delimiter="\t")
    return path


def summary_row(predicted: PredictedRecording) -> tuple[object, ...]:
    """Return the recording's row of ``summary.csv``: counts, sensors, each class's share and mean probability."""
    given = np.array([not why for why in predicted.reason])
    n_given = int(given.sum())
    names = np.array(predicted.predicted)
    shares = [round(float((names[given] == c).mean()), 4) if n_given else None for c in predicted.classes]
    means = (
        [round(float(v), 4) for v in predicted.probabilities[given].mean(axis=0)] if n_given else [None] * len(shares)
    )
    return (
        predicted.subject,
        predicted.session,
        predicted.recording,
        len(given),
        len(given) - n_given,
        " ".join(predicted.used),
        " ".join(predicted.ignored),
        *shares,
        *means,
    )


def write_summary(
    folder: Path, classes: tuple[str, ...], rows: list[tuple[object, ...]], failures: list[tuple[str, str]]
) -> None:
    """Write ``summary.csv`` and ``failures.csv`` (recording, message).

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    shares = [f"share_{c}" for c in classes]
    means = [f"mean_probability_{c}" for c in classes]
    write_table(folder / "summary.csv", (*SUMMARY_COLUMNS, *shares, *means), rows)
    write_table(folder / "failures.csv", ("recording", "message"), failures)


def write_numbers(predicted: PredictedNumbers, folder: Path, model: str) -> Path:
    """Write ``KEY_predictions.tsv`` of a regression with its JSON sidecar and return the table's path.

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    path = folder / f"{predicted.key}_predictions.tsv"
    rows = [
        (
            float(predicted.onset[i]),
            predicted.length_seconds,
            _cell(predicted.values[i]),
            None if np.isnan(predicted.quality[i]) else round(float(predicted.quality[i]), 4),
            predicted.reason[i],
            _cell(predicted.label[i]),
        )
        for i in range(len(predicted.onset))
    ]
    write_json(path.with_suffix(".json"), {
        "participant_id": predicted.subject,
        "session": predicted.session,
        "recording": predicted.recording,
        "model": model,
        "column": predicted.column,
        "modalities_used": list(predicted.used),
        "modalities_ignored": list(predicted.ignored),
        "columns": {
            "onset": "start of the window, seconds from the recording's start",
            "duration": "length of the window, seconds",
            "predicted": f"in the unit of {predicted.column}; empty where withheld",
            "quality": "mean signal quality, 0 (useless) to 1",
            "reason": "why no answer is given; empty where one is",
            "label": f"{predicted.column} as the study gives it, where known",
        },
    })  # fmt: skip
    write_table(path, ("onset", "duration", "predicted", "quality", "reason", "label"), rows, delimiter="\t")
    return path


def write_trace(trace: Trace, folder: Path, model: str) -> Path:
    """Write ``KEY_trace.tsv`` with its JSON sidecar and return the table's path.

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    path = folder / f"{trace.key}_trace.tsv"
    names = [f"probability_{name}" for name in trace.classes] or ["predicted"]
    rows = [
        (round(float(onset), 6), *(_cell(value) for value in answers), int(n))
        for onset, answers, n in zip(trace.onset, trace.answers, trace.n_windows, strict=True)
    ]
    write_json(path.with_suffix(".json"), {
        "model": model,
        "every_seconds": trace.every_seconds,
        "columns": {
            "onset": "the time that is answered for, seconds from the recording's start",
            "n_windows": "windows that hold the time, whose answers were averaged; each reads up to its own end",
        },
    })  # fmt: skip
    write_table(path, ("onset", *names, "n_windows"), rows, delimiter="\t")
    return path


def _cell(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.6g}")


_COLUMNS = ("participant_id", "session", "recording", "windows", "withheld", "modalities_used", "modalities_ignored")
NUMBER_COLUMNS = (*_COLUMNS, "mean", "lowest", "highest")


def number_row(predicted: PredictedNumbers) -> tuple[object, ...]:
    """Return the recording's row of ``summary.csv``: counts, sensors, and mean, lowest and highest number."""
    given = predicted.values[~np.isnan(predicted.values)]
    numbers = [_cell(float(v)) for v in (given.mean(), given.min(), given.max())] if len(given) else [None] * 3
    return (
        predicted.subject,
        predicted.session,
        predicted.recording,
        len(predicted.values),
        len(predicted.values) - len(given),
        " ".join(predicted.used),
        " ".join(predicted.ignored),
        *numbers,
    )
