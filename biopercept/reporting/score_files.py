"""Reading a folder of ``cross-validate`` into one checked :class:`CrossValidation`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from biopercept.errors import StudyError
from biopercept.results.reading import ResultTable, read_json, read_settings, read_table, read_text

from .fields import Fields
from .prediction_files import predictions_of
from .results import CrossValidation, Labels, SubjectScore
from .sensor_files import subsets_of
from .study_files import studies_of
from .trust_files import trust_of

SCHEMA = 1


def read_scores(folder: Path) -> Fields:
    """Return the named values of a folder's ``scores.json``. Raises StudyError where it cannot be read."""
    return Fields(folder / "scores.json", read_json(folder / "scores.json"))


def load_cross_validation(folder: Path, name: str = "") -> CrossValidation:
    """Return the scores, subjects, predictions and settings of a finished cross-validation.

    Parameters
    ----------
    folder : Path
        Holds ``scores.json``, ``scores.csv``, ``predictions.csv``, ``folds.json`` and ``config.yaml``.
    name : str
        What the report calls it; the folder's own name where empty.

    Raises
    ------
    StudyError
        Where a file is missing, damaged, of another schema, or contradicts another.
    """
    scores = read_scores(folder)
    schema = scores.content.get("schema")
    if schema != SCHEMA:
        raise StudyError(f"{scores.path} has schema {schema!r}; this version of biopercept reads schema {SCHEMA}")
    classes = scores.texts("classes")
    if len(set(classes)) < 2 or len(set(classes)) != len(classes):
        raise StudyError(f"{scores.path} lists the classes {list(classes)!r}; two or more different ones are needed")
    table = read_table(folder / "predictions.csv")
    predictions = predictions_of(table, classes, needs_labels=True)
    subjects = _subjects(read_table(folder / "scores.csv"))
    _check_subjects(folder, subjects, predictions.keys)
    return CrossValidation(
        name=name or folder.resolve().name,
        folder=folder,
        model=scores.text("model"),
        task=scores.text("task"),
        classes=classes,
        split=scores.text("split"),
        n_subjects=scores.whole("n_subjects") or 0,
        n_windows=scores.whole("n_windows") or 0,
        n_folds=scores.whole("n_folds") or 0,
        normalisation=scores.text("normalisation"),
        is_transductive=scores.flag("transductive", default=False),
        seeds=scores.whole("seeds", optional=True) or 1,
        balanced_accuracy=scores.estimate("balanced_accuracy"),
        macro_f1=scores.estimate("macro_f1", optional=True),
        auroc=scores.estimate("auroc", optional=True),
        mcc=scores.estimate("mcc", optional=True),
        trust=trust_of(scores),
        sensor_subsets=subsets_of(scores),
        studies=studies_of(scores),
        subjects=subjects,
        predictions=predictions,
        is_label_the_file=scores.flag("label_is_file", default=False),
        parameters=scores.whole("parameters", optional=True),
        operations=scores.whole("operations_per_window", optional=True),
        seconds=scores.number("seconds"),
        window_seconds=scores.number("window_seconds"),
        step_seconds=scores.number("step_seconds"),
        brier=scores.number("brier"),
        ece=scores.number("ece"),
        chance={key: scores.part("chance").number(key) for key in scores.part("chance", optional=True).content},
        warnings=scores.texts("warnings", optional=True),
        left_out=_left_out(scores),
        by_class=_by_class(scores),
        fingerprint={key: str(value) for key, value in scores.part("fingerprint", optional=True).content.items()},
        labels=_labels(scores),
        config_text=read_text(folder / "config.yaml"),
        config=read_settings(folder / "config.yaml"),
    )


def _labels(scores: Fields) -> Labels | None:
    held = scores.part("labels", optional=True)
    names = ("subjects_labelled", "subjects_of_training_side", "subjects_for_early_stopping")
    share, spans = held.number("share"), [held.interval(name) for name in names]
    if share is None or None in spans:
        return None
    labelled, everybody, aside = ((int(span[0]), int(span[1])) for span in spans if span is not None)
    return Labels(share, labelled, everybody, aside)


def _left_out(scores: Fields) -> dict[str, int]:
    reasons = scores.part("n_windows_left_out", optional=True)
    return {reason: reasons.whole(reason) or 0 for reason in reasons.content}


def _by_class(scores: Fields) -> dict[str, dict[str, float | None]]:
    """Return what ``scores_by_class`` holds: per class a number, or an object of numbers."""
    held = scores.part("scores_by_class", optional=True)
    table: dict[str, dict[str, float | None]] = {}
    for label, value in held.content.items():
        if isinstance(value, dict):
            row = held.part(label)
            table[label] = {key: row.number(key) for key in row.content}
        else:
            table[label] = {"score": held.number(label)}
    return table


def _subjects(table: ResultTable) -> tuple[SubjectScore, ...]:
    """Return the rows of ``scores.csv``."""
    ids = table.texts("participant_id")
    folds = table.texts("fold", "")
    windows = table.numbers("n_windows")
    names = (
        "balanced_accuracy",
        "macro_f1",
        "auroc",
        "brier",
        "mcc",
        "ece",
        "balanced_accuracy_low",
        "balanced_accuracy_high",
    )
    columns = {name: table.numbers(name, optional=name != "balanced_accuracy") for name in names}
    rows = []
    for place, participant in enumerate(ids):
        held = {name: None if np.isnan(values[place]) else float(values[place]) for name, values in columns.items()}
        if np.isnan(windows[place]):
            raise StudyError(f"{table.path} has no n_windows for subject {participant!r}; a whole number is needed")
        low, high = held.pop("balanced_accuracy_low"), held.pop("balanced_accuracy_high")
        rows.append(
            SubjectScore(
                participant=participant,
                fold=folds[place],
                n_windows=int(windows[place]),
                ci95=None if low is None or high is None else (low, high),
                **held,
            )
        )
    return tuple(rows)


def _check_subjects(folder: Path, subjects: tuple[SubjectScore, ...], keys: tuple[tuple[str, str, str], ...]) -> None:
    """Refuse a folder whose tables come from different runs."""
    scored = {subject.participant for subject in subjects}
    if len(scored) != len(subjects):
        raise StudyError(f"{folder / 'scores.csv'} has a subject twice; one row per subject is needed")
    if not scored:
        raise StudyError(f"{folder / 'scores.csv'} has no subject; run cross-validate again")
    stranger = sorted({key[0] for key in keys} - scored)
    if stranger:
        raise StudyError(
            f"{folder / 'predictions.csv'} has subject {stranger[0]!r}, which scores.csv lacks; "
            "the two files come from different runs, run cross-validate again"
        )
