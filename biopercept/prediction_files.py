"""The files of ``predict``: a table per recording with its sidecar, and a summary of all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from biopercept.files import write_json, write_table
from biopercept.prediction import PredictedRecording

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
