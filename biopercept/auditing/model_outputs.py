"""The answers of a model under audit: from a finished cross-validation, brought into line with the store's windows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biopercept.auditing.material import Material
from biopercept.errors import SettingsError
from biopercept.learning.normalisation import FloatArray
from biopercept.reporting.score_files import load_cross_validation
from biopercept.reporting.text import count, listed
from biopercept.results.audit import LEAK, OK, Finding
from biopercept.results.reading import read_json, read_table


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """Out-of-fold answers of a model.

    Attributes
    ----------
    name : str
        The model.
    probabilities : float64 array, shape (n_windows, n_classes)
        NaN for windows that it was not asked about.
    fold : tuple of str
        The fold that tested each window; empty where none did.
    training : mapping of fold to tuple of str
        Subjects that were fitted on, or looked at for early stopping.
    """

    name: str
    probabilities: FloatArray
    fold: tuple[str, ...]
    training: Mapping[str, Sequence[str]]


def read_outputs(folder: Path, material: Material) -> ModelOutputs:
    """Return the answers in a folder of ``cross-validate``.

    Raises
    ------
    StudyError
        Where the folder is no finished cross-validation or is damaged.
    SettingsError
        Where it is of another task, store or set of windows.
    """
    held = load_cross_validation(folder)
    plan, windows = material.plan, material.windows
    if held.task != plan.task.name or held.classes != windows.only.classes:
        raise SettingsError(
            f"{folder} is of task {held.task!r} ({', '.join(held.classes)}) and the audit of {plan.task.name!r} "
            f"({', '.join(windows.only.classes)}); give the scores of the same task"
        )
    store = held.fingerprint.get("store")
    if store != plan.store_fingerprint:
        raise SettingsError(f"{folder} was scored on another store; cross-validate on this store again")
    table = read_table(folder / "predictions.csv")
    folds = table.texts("fold", "")
    row_of = {}
    for row in range(len(windows)):
        recording = windows.recordings[windows.recording[row]]
        row_of[_key(recording.subject, recording.session, recording.recording, windows.onset[row])] = row
    probabilities = np.full((len(windows), windows.only.n_classes), np.nan)
    fold = [""] * len(windows)
    answers = held.predictions
    for place, key in enumerate(answers.keys):
        at = row_of.get(_key(*key, answers.onset[place]))
        if at is not None:
            probabilities[at], fold[at] = answers.probabilities[place], folds[place]
    n_given = int(np.isfinite(probabilities).all(axis=1).sum())
    if n_given < len(windows) / 2:
        raise SettingsError(
            f"{folder} has answers for {n_given} of {len(windows)} windows under audit; audit the subjects that were "
            "scored, with --subjects"
        )
    return ModelOutputs(held.model, probabilities, tuple(fold), _training(folder))


def _key(subject: str, session: str, recording: str, onset: float) -> tuple[str, str, str, int]:
    return subject, session, recording, round(float(onset) * 1000)


def _training(folder: Path) -> dict[str, Sequence[str]]:
    """Return the subjects of each fold that touched the model; empty where the folder does not say."""
    path = folder / "folds.json"
    rows = read_json(path).get("folds", []) if path.is_file() else []
    return {str(r["name"]): [*r.get("training", ()), *r.get("validation", ())] for r in rows if isinstance(r, dict)}


def probe_folds(material: Material, outputs: ModelOutputs) -> Finding:
    """Return whether a tested person, or a window that overlaps a tested one, was on the training side."""
    windows = material.windows
    leaked = sorted(
        {
            str(windows.subject[row])
            for row, name in enumerate(outputs.fold)
            if name and str(windows.subject[row]) in set(outputs.training.get(name, ()))
        }
    )
    n_torn = _n_torn(material, outputs)
    if leaked:
        end = f"{count(len(leaked), 'subject')} ({listed(leaked)}) are on both sides of a fold."
    elif n_torn:
        end = f"{count(n_torn, 'window')} overlap in time with a window of another fold."
    else:
        end = "no subject is on both sides of a fold, and no window overlaps one of another fold."
    sentence = f"In the folds of {outputs.name}, {end}"
    n_subjects, n_windows = len(windows.subjects), len(windows)
    return Finding(
        probe="folds-of-model",
        subject_matter="evaluation",
        verdict=LEAK if leaked or n_torn else OK,
        sentence=sentence,
        score_name="subjects on both sides",
        score=float(len(leaked)),
        ci95=None,
        chance=0.0,
        n_subjects=n_subjects,
        n_windows=n_windows,
        details={"subjects": leaked, "n_windows_overlapping_other_folds": n_torn},
    )


def _n_torn(material: Material, outputs: ModelOutputs) -> int:
    """Return how many windows overlap in time with a window of their recording that another fold tested."""
    windows = material.windows
    by_recording: dict[int, list[int]] = defaultdict(list)
    for row in np.argsort(windows.onset, kind="stable"):
        if outputs.fold[row]:
            by_recording[int(windows.recording[row])].append(int(row))
    torn = set()
    for rows in by_recording.values():
        if len({outputs.fold[row] for row in rows}) < 2:
            continue
        for place, row in enumerate(rows):
            for other in rows[place + 1 :]:
                if windows.onset[other] >= windows.onset[row] + windows.length_seconds - 1e-6:
                    break
                if outputs.fold[other] != outputs.fold[row]:
                    torn |= {row, other}
    return len(torn)
