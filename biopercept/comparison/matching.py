"""Which cross-validations can be compared: found in folders, and refused where they answer different questions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError, StudyError, count
from biopercept.report.scores import labels_of
from biopercept.report.text import listed, shown
from biopercept.results.cross_validation import CrossValidation
from biopercept.results.folder import FoldsFile, load_results
from biopercept.results.reading import read_result
from biopercept.typed_values import did_you_mean

METRICS = {"balanced_accuracy": True, "macro_f1": True, "auroc": True, "mcc": True, "brier": False, "ece": False}
"""Columns of ``scores.csv`` that can be compared, and whether more is better."""


@dataclass(frozen=True)
class Partition:
    """The folds of a cross-validation in order: sorted test subjects, and numbers of subjects fitted on."""

    tests: tuple[tuple[str, ...], ...]
    n_trained: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class MatchedStudy:
    """Cross-validations of the same windows of one study, subject by subject, each under a label that no other has.

    Attributes
    ----------
    study : str
        Its name; of several studies what the folder is called where the results do not say it.
    subjects, left_out : tuple of str
        Whose score is defined in all of them, and whose is not.
    scores : float64 array, shape (n_subjects, n_validations)
    partitions : tuple of Partition
        Empty where the split is not k-fold.
    """

    study: str
    validations: tuple[CrossValidation, ...]
    labels: tuple[str, ...]
    subjects: tuple[str, ...]
    left_out: tuple[str, ...]
    scores: NDArray[np.float64]
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, eq=False)
class Matched:
    """One study or several, their models in the same order under the same labels; subjects stand by study."""

    studies: tuple[MatchedStudy, ...]
    metric: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the name of each model."""
        return self.studies[0].labels

    @property
    def runs(self) -> tuple[tuple[CrossValidation, ...], ...]:
        """Return the cross-validations of each model, one per study."""
        return tuple(zip(*(study.validations for study in self.studies), strict=True))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of compared subjects of each study."""
        return tuple(len(study.subjects) for study in self.studies)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """Return the scores of all subjects, shape (n_subjects, n_models)."""
        return np.concatenate([study.scores for study in self.studies])


def find_validations(folders: Sequence[Path]) -> tuple[tuple[CrossValidation, ...], tuple[str, ...]]:
    """Return the finished cross-validations in folders and below, and the names of those that have not finished.

    Raises StudyError where a folder holds no finished cross-validation, one is found twice, or fewer than two are left.
    """
    by_folder: dict[Path, CrossValidation] = {}
    unfinished: list[str] = []
    for folder in folders:
        results = load_results(folder)
        if not results.cross_validations:
            raise StudyError(
                f"{folder} holds no finished cross-validation (scores.json); give what cross-validate wrote"
            )
        unfinished += results.unfinished
        for run in results.cross_validations:
            path = run.folder.resolve()
            if path in by_folder:
                raise StudyError(f"{run.folder} is given twice; name each cross-validation once")
            by_folder[path] = run
    if len(by_folder) < 2:
        raise StudyError(
            f"{listed([str(f) for f in folders])} holds one cross-validation; a comparison needs at least two"
        )
    common = os.path.commonpath(by_folder)
    named = (replace(run, name=_name(path, common)) for path, run in by_folder.items())
    return tuple(named), tuple(unfinished)


def _name(path: Path, common: str) -> str:
    inside = path.relative_to(common).as_posix()
    return path.name if inside == "." else inside


def match(validations: Sequence[CrossValidation], metric: str) -> Matched:
    """Return the cross-validations side by side: by study, and in each the same models, subjects in one order.

    Of several studies each must have every model once: by its name, or where a study has two of one name, by that of
    the folder.

    Raises SettingsError where there is no such metric. Raises StudyError where two of one study cannot be compared:
    another store, task, split, other subjects, windows or labels; where a study is given twice or lacks a model; or
    fewer than two subjects of a study have a defined score.
    """
    if metric not in METRICS:
        raise SettingsError(f"metric is {metric!r}; allowed are {', '.join(METRICS)}{did_you_mean(metric, METRICS)}")
    by_store: dict[str, list[CrossValidation]] = {}
    for run in validations:
        if not run.fingerprint.get("store"):
            raise StudyError(f"{run.name} does not say which store it scored; run cross-validate again")
        by_store.setdefault(run.fingerprint["store"], []).append(run)
    groups = list(by_store.values())
    if len(groups) == 1:
        return Matched((_side_by_side(groups[0][0].study, groups[0], labels_of(groups[0]), metric),), metric)
    _require_different(groups)
    names = _study_names(groups)
    columns = _columns(groups, names)
    labels = tuple(_label(key, [group[key] for group in columns]) for key in columns[0])
    ordered = zip(names, columns, strict=True)
    return Matched(
        tuple(_side_by_side(name, [group[key] for key in columns[0]], labels, metric) for name, group in ordered),
        metric,
    )


def _study_names(groups: Sequence[Sequence[CrossValidation]]) -> list[str]:
    """Return what each study is called: as its results say, else as its folder, else by its store."""
    folders = [[run.folder.resolve() for run in group] for group in groups]
    ways = (
        ["+".join(group[0].study_names) for group in groups],
        [Path(os.path.commonpath(paths)).name for paths in folders],
        [min((path.name for path in paths), key=len) for paths in folders],
    )
    names: list[str] = []
    for number, group in enumerate(groups):
        alone = (way[number] for way in ways if way[number] and way.count(way[number]) == 1)
        names.append(next(alone, f"store {group[0].fingerprint['store'][:12]}"))
    return names


def _require_different(groups: Sequence[Sequence[CrossValidation]]) -> None:
    """Refuse two stores of one study: raises StudyError."""
    first: dict[str, CrossValidation] = {}
    for group in groups:
        for run in group:
            for study in run.study_names:
                other = first.setdefault(study, run)
                if other.fingerprint["store"] != run.fingerprint["store"]:
                    raise StudyError(
                        f"{shown(other.name)} and {shown(run.name)} scored different stores of the study "
                        f"{shown(study)}, whose people would count twice; run cross-validate for both on the same store"
                    )


def _columns(groups: Sequence[Sequence[CrossValidation]], names: list[str]) -> list[dict[str, CrossValidation]]:
    """Return the cross-validations of each study by what the models are known by in all of them.

    Raises StudyError where a study lacks a model of another one, or it cannot be told which belong together.
    """
    is_by_model = all(len({run.model for run in group}) == len(group) for group in groups)
    columns = []
    for group, name in zip(groups, names, strict=True):
        keys = [run.model if is_by_model else run.folder.resolve().name for run in group]
        if twice := [key for key, n in Counter(keys).items() if n > 1]:
            raise StudyError(
                f"study {shown(name)} has {keys.count(twice[0])} cross-validations in folders called "
                f"{shown(twice[0])}; where a study has a model twice, models are matched by the names of their folders"
            )
        columns.append(dict(zip(keys, group, strict=True)))
    everywhere = set.intersection(*map(set, columns))
    if not everywhere:
        raise StudyError(
            f"{shown(groups[0][0].name)} and {shown(groups[1][0].name)} scored different stores; run cross-validate "
            "for both on the same store, or, to compare over studies, for every model on each of them (no model is "
            f"in all of {listed(names)})"
        )
    lacking = {key: [n for n, of in zip(names, columns, strict=True) if key not in of] for of in columns for key in of}
    if missing := [f"{shown(key)} is missing in {listed(where)}" for key, where in lacking.items() if where]:
        raise StudyError(
            f"a comparison over studies needs every model in each of them, and {'; '.join(missing)}; run "
            "cross-validate for it there, or give the folders of those that all have"
        )
    for key in columns[0]:
        if len({group[key].model for group in columns}) > 1:
            models = ", ".join(f"{shown(g[key].model)} in {shown(n)}" for n, g in zip(names, columns, strict=True))
            raise StudyError(f"the folders called {shown(key)} hold different models ({models}); name them alike")
    if len(everywhere) < 2:
        raise StudyError(f"each of {listed(names)} has {listed(sorted(everywhere))} alone; a comparison needs two")
    return columns


def _label(key: str, runs: Sequence[CrossValidation]) -> str:
    name = key if key == runs[0].model else f"{runs[0].model} ({key})"
    return f"{name} (probe)" if runs[0].is_probe else name


def _side_by_side(
    study: str, validations: Sequence[CrossValidation], labels: tuple[str, ...], metric: str
) -> MatchedStudy:
    """Return the cross-validations of one study; raises StudyError as :func:`match`."""
    for other in validations[1:]:
        require_comparable(validations[0], other)
    columns = [{s.participant: getattr(s, metric) for s in run.subjects} for run in validations]
    for run, column in zip(validations, columns, strict=True):
        if all(value is None for value in column.values()):
            raise StudyError(f"{run.name} has no {metric} of any subject in scores.csv; run cross-validate again")
    everyone = sorted(columns[0])
    subjects = tuple(s for s in everyone if all(column[s] is not None for column in columns))
    if len(subjects) < 2:
        raise StudyError(
            f"{count(len(subjects), 'subject')} of {len(everyone)} have a defined {metric} in all cross-validations"
            f"{f' of {shown(study)}' if study else ''}; a paired comparison needs at least 2"
        )
    return MatchedStudy(
        study,
        tuple(validations),
        labels,
        subjects,
        tuple(s for s in everyone if s not in subjects),
        np.array([[column[s] for column in columns] for s in subjects], dtype=np.float64),
        tuple(read_partition(run) for run in validations) if validations[0].split == "k-fold" else (),
    )


def require_comparable(one: CrossValidation, other: CrossValidation) -> None:
    """Refuse two of one store whose per-subject scores are no pairs: raises StudyError naming what differs."""
    names = f"{shown(one.name)} and {shown(other.name)}"
    if (one.task, one.classes) != (other.task, other.classes):
        raise StudyError(
            f"{names} answer different questions ({one.task}: {', '.join(one.classes)}; "
            f"{other.task}: {', '.join(other.classes)}); compare runs of one task"
        )
    if one.split != other.split:
        raise StudyError(
            f"{names} were split differently ({one.split}, {other.split}), so their models learnt from different "
            "numbers of people; run cross-validate for both with the same --split"
        )
    mine, theirs = ({s.participant for s in run.subjects} for run in (one, other))
    if mine != theirs:
        lacking = sorted(mine ^ theirs)
        raise StudyError(
            f"{names} scored different subjects ({listed(lacking)} in one only); run both with the same subjects"
        )
    _require_same_windows(one, other, names)


def _require_same_windows(one: CrossValidation, other: CrossValidation, names: str) -> None:
    first, second = _labelled_windows(one), _labelled_windows(other)
    if first.keys() != second.keys():
        n = len(first.keys() ^ second.keys())
        raise StudyError(
            f"{names} scored different windows ({len(first):,} and {len(second):,}, {n:,} in one only); "
            "run both with the same windows and normalisation"
        )
    changed = sum(first[key] != second[key] for key in first)
    if changed:
        raise StudyError(
            f"{names} scored the same windows with different labels ({changed:,} of {len(first):,}); "
            "run both on the same store and task"
        )


def _labelled_windows(run: CrossValidation) -> dict[tuple[tuple[str, str, str], float, float], str]:
    predictions = run.predictions
    keys = zip(predictions.keys, predictions.onset.tolist(), predictions.duration.tolist(), strict=True)
    return dict(zip(keys, predictions.label, strict=True))


def read_partition(run: CrossValidation) -> Partition:
    """Return the folds in ``folds.json`` of a cross-validation.

    Raises StudyError where the file is missing or damaged, or does not test every scored subject once.
    """
    path = run.folder / FoldsFile.FILE
    folds = read_result(path, FoldsFile).folds
    tests = tuple(tuple(sorted(fold.test)) for fold in folds)
    if sorted(s for test in tests for s in test) != sorted(s.participant for s in run.subjects):
        raise StudyError(
            f"{path} does not test each subject of scores.csv once; run cross-validate again with --overwrite"
        )
    n_trained = tuple(len(fold.fitting) for fold in folds)
    order = sorted(range(len(folds)), key=lambda number: tests[number])
    return Partition(tuple(tests[i] for i in order), tuple(n_trained[i] for i in order))


def index_of(reference: str, matched: Matched) -> int:
    """Return which model is meant by the folder, name, model or label of any of its cross-validations.

    Raises SettingsError unless it is one.
    """
    ways = (
        [any(run.folder.resolve() == Path(reference).resolve() for run in runs) for runs in matched.runs],
        [any(run.name == reference for run in runs) for runs in matched.runs],
        [label == reference for label in matched.labels],
        [any(run.model == reference for run in runs) for runs in matched.runs],
        [all(run.folder.resolve().name == reference for run in runs) for runs in matched.runs],
    )
    for hits in ways:
        if sum(hits) == 1:
            return hits.index(True)
        if sum(hits) > 1:
            names = ", ".join(run.name for runs, hit in zip(matched.runs, hits, strict=True) if hit for run in runs)
            raise SettingsError(f"--reference {reference} means several cross-validations: {names}; give the folder")
    known = [run.name for runs in matched.runs for run in runs]
    raise SettingsError(
        f"--reference {reference} is none of the compared cross-validations: {', '.join(known)}"
        f"{did_you_mean(reference, known)}"
    )
