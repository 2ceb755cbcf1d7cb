"""Which folds a cross-validation has: dealt by identity, by class or by study, or those of an earlier run.

Folds whose training side could not teach what is tested are refused before anything is fitted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from biopercept.data.splits import (
    K_FOLD,
    SPLITS,
    STUDY,
    Fold,
    choose_validation,
    dealt_by_class,
    fold_name,
    folds_of,
    identity_place,
    make_folds,
    stand_ins,
)
from biopercept.data.windows import WindowTable
from biopercept.errors import SettingsError, ranged
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.results.folder import FoldsFile
from biopercept.version import version_needed

_GROUPS = ("training", "validation", "test", "unlabelled")
_MORE_SUBJECTS = "--split subject or more folds, another --seed, a larger --label-share"


def read_run(path: Path) -> dict[str, Any]:
    """Return what the ``folds.json`` of an earlier run holds, given as file or folder (of ``tune``: the folder nested).

    Raises SettingsError where there are no folds over subjects.
    """
    file = path / "folds.json" if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        run = document["run"]
        if newer := version_needed(document, FoldsFile.SCHEMA):
            raise SettingsError(f"{file} has schema {document['schema']}; {newer}")
        if "tuned" in run and "split" not in run:
            raise SettingsError(
                f"{path} was written by a version of tune that did not say how it dealt its folds; run the same tune "
                "command again"
            )
        dealt = {"split": str(run["split"]["split"]), "n_folds": int(run["split"]["n_folds"]), "seed": int(run["seed"])}
        dealt |= {"stratify": bool(run["split"].get("stratify")), "label_share": float(run.get("label_share", 1.0))}
        dealt["folds"] = [
            Fold(str(row["name"]), *(tuple(str(s) for s in row.get(group, ())) for group in _GROUPS))
            for row in document["folds"]
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as fault:
        raise SettingsError(
            f"{path} holds no folds of a cross-validation; --folds-from takes its result folder or its folds.json (of "
            "tune: the folder nested)"
        ) from fault
    if dealt["split"] not in SPLITS:
        raise SettingsError(
            f"{path} holds folds of split {dealt['split']}; --folds-from takes those of {', '.join(SPLITS)}"
        )
    return dealt


def given_settings(path: Path) -> dict[str, Any]:
    """Return the settings that an earlier run's folds were made by; raises SettingsError as :func:`read_run`."""
    dealt = read_run(path)
    return {f"evaluation.{name}": dealt[name] for name in ("split", "n_folds", "stratify")}


def require_same(path: Path, *, split: str, label_share: float) -> dict[str, Any]:
    """Return what the ``folds.json`` of an earlier run holds, where this run's settings can take its folds.

    Raises SettingsError where there are no such folds, they are of another split, or of another share of labels.
    """
    dealt = read_run(path)
    for name, wanted in (("split", split), ("label_share", label_share)):
        is_whole = name == "label_share" and dealt[name] == 1  # any share can be drawn from all
        if dealt[name] != wanted and not is_whole:
            raise SettingsError(
                f"{path} holds folds of {name} {dealt[name]}, and {name} is {wanted} here; give the same to take them"
            )
    return dealt


def given_folds(
    path: Path, everyone: Sequence[str], *, split: str, validation_fraction: float, label_share: float = 1.0
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Return the folds of an earlier run for the subjects of this one, and what every output says of them.

    Whoever was there stays where it was, on all sides of every fold. Subjects that are no longer there are dropped, and
    a fold that tests nobody any more with them. New subjects are dealt by identity, as the earlier run would have dealt
    them (of split ``study`` by their study); in the other folds they join the training side, without their labels where
    the run used only a share of the labels. Where it used all of them and this one uses a share, each fold draws who
    keeps them from its training side, and validation subjects among those by ``validation_fraction``, which also counts
    for folds that are new or whose validation subjects have all gone.

    Raises SettingsError where there are no such folds, they are of another split or share of labels, or fewer than two
    are left.
    """
    dealt = require_same(path, split=split, label_share=label_share)
    earlier: list[Fold] = dealt["folds"]
    known = {s for fold in earlier for s in fold.test}
    new = sorted(set(everyone) - known)
    homes = {s: _home(s, dealt) for s in new}
    order = list(dict.fromkeys((*(fold.name for fold in earlier), *sorted(homes.values()))))
    if dealt["split"] == K_FOLD:
        order.sort()
    by_name = {fold.name: fold for fold in earlier}
    sides = partial(folds_of, seed=dealt["seed"], validation_fraction=validation_fraction, label_share=label_share)
    folds: list[Fold] = []
    for name in order:
        guests = [s for s in new if homes[s] == name]
        if name not in by_name:
            folds += sides([(name, guests)], sorted(everyone))
        elif fold := _of_today(by_name[name], guests, set(everyone), new, dealt, validation_fraction):
            is_drawn = label_share == dealt["label_share"]
            folds += [fold] if is_drawn else sides([(name, fold.test)], sorted((*fold.fitting, *fold.test)))
    if len(folds) < 2 or sorted(s for fold in folds for s in fold.test) != sorted(everyone):
        raise SettingsError(f"the folds of {path} do not test every subject once in at least two folds; deal them anew")
    return tuple(folds), _words_for(new, sorted(known - set(everyone)))


def _home(subject: str, dealt: Mapping[str, Any]) -> str:
    """Return the name of the fold that tests a new subject."""
    if dealt["split"] == K_FOLD:
        position = int(identity_place(subject, f"fold-{dealt['seed']}", dealt["n_folds"]))
        return fold_name(position, dealt["n_folds"])
    return subject.rpartition("/")[0] if dealt["split"] == STUDY else subject


def _of_today(
    fold: Fold,
    guests: Sequence[str],
    everyone: set[str],
    new: Sequence[str],
    dealt: Mapping[str, Any],
    validation_fraction: float,
) -> Fold | None:
    """Return a fold for the subjects of today; None where it tests nobody any more."""
    training, validation, test, unlabelled = ([s for s in getattr(fold, group) if s in everyone] for group in _GROUPS)
    test = sorted([*test, *guests])
    if not test:
        return None
    (training if dealt["label_share"] == 1 else unlabelled).extend(s for s in new if s not in guests)
    if fold.validation and not validation:
        validation = list(choose_validation(training, validation_fraction, f"{dealt['seed']}-{fold.name}"))
        training = [s for s in training if s not in validation]
    if not training:
        raise SettingsError(f"nobody of the training side of fold {fold.name} is there any more; deal the folds anew")
    return Fold(fold.name, tuple(sorted(training)), tuple(validation), tuple(test), tuple(sorted(unlabelled)))


def _words_for(new: Sequence[str], gone: Sequence[str]) -> tuple[str, ...]:
    if not new and not gone:
        return ()
    parts = [f"{', '.join(new)} came and {'was' if len(new) == 1 else 'were'} dealt by identity"] if new else []
    parts += [f"{', '.join(gone)} went"] if gone else []
    return (f"folds of an earlier run: {'; '.join(parts)}",)


def choose_folds(
    windows: WindowTable,
    evaluation: EvaluationSettings,
    *,
    seed: int,
    validation_fraction: float,
    studies: Mapping[str, Sequence[str]],
    folds_from: Path | None = None,
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Return the folds and the warnings that every output carries because of them.

    ``validation_fraction`` of each fold's labelled subjects stop training early; ``studies`` gives the subjects by
    study.

    Raises SettingsError where the split does not fit the subjects or studies.
    """
    subjects, share = windows.subjects, evaluation.label_share
    sides = partial(folds_of, everyone=subjects, seed=seed, validation_fraction=validation_fraction, label_share=share)
    if folds_from is not None:
        return given_folds(
            folds_from, subjects, split=evaluation.split, validation_fraction=validation_fraction, label_share=share
        )
    if evaluation.split == STUDY:
        groups = [(name, [s for s in members if s in subjects]) for name, members in studies.items()]
        groups = [(name, members) for name, members in groups if members]
        if len(groups) < 2:
            raise SettingsError(
                "--split study tests each study by models of the others; give at least two stores with labelled windows"
            )
        return sides(groups), ()
    if evaluation.stratify:
        folds = sides(_by_class(windows, evaluation.n_folds, seed))
    else:
        folds = make_folds(
            subjects,
            evaluation.split,
            n_folds=evaluation.n_folds,
            seed=seed,
            validation_fraction=validation_fraction,
            label_share=share,
        )
    is_by_identity = evaluation.split == K_FOLD and not evaluation.stratify
    return folds, stand_ins(folds, evaluation.n_folds, seed) if is_by_identity else ()


def _by_class(windows: WindowTable, n_folds: int, seed: int) -> list[tuple[str, list[str]]]:
    for task in windows.tasks:
        if not task.is_classification:
            raise SettingsError(f"evaluation.stratify balances classes, and task {task.name!r} predicts a number")
    if not 2 <= n_folds <= len(windows.subjects):
        n = len(windows.subjects)
        raise SettingsError(f"{n_folds} folds for {n} subjects; allowed are 2 to {n} (--folds, evaluation.n_folds)")
    groups = dealt_by_class(windows.subject, [targets.values for targets in windows.targets.values()], n_folds, seed)
    if len(groups) < 2:
        raise SettingsError(f"all {len(windows.subjects)} subjects fall into one of {n_folds} folds; use more folds")
    return groups


def check_classes_per_fold(windows: WindowTable, folds: Sequence[Fold], *, instead: str = _MORE_SUBJECTS) -> None:
    """Refuse folds whose training subjects lack a class: no model could learn it.

    ``instead`` is what the user may do beside ``training.validation_fraction=0``.

    Raises SettingsError naming the first such fold and class.
    """
    for fold in folds:
        trained = set(windows.only.values[windows.rows_of(fold.training)].tolist())
        for index, name in enumerate(windows.only.classes):
            if index not in trained:
                raise SettingsError(
                    f"fold {fold.name} has no training subject with class {name!r}; use {instead}, "
                    "or set training.validation_fraction=0"
                )


def check_numbers_per_fold(windows: WindowTable, folds: Sequence[Fold]) -> None:
    """Refuse folds whose training subjects all have one number: raises SettingsError naming the first."""
    targets = windows.only
    if not targets.task.is_regression:
        return
    for fold in folds:
        if len(set(targets.values[windows.rows_of(fold.training)].tolist())) < 2:
            raise SettingsError(
                f"the training subjects of fold {fold.name} have fewer than two numbers for task "
                f"{targets.task.name!r}; "
                "use more folds, another --seed, or set training.validation_fraction=0"
            )


def check_subjects_per_class(windows: WindowTable) -> None:
    """Refuse a class that one subject alone has, which no fold could learn for it: raises SettingsError naming both."""
    for index, name in enumerate(windows.only.classes):
        owners = sorted({str(s) for s in windows.subject[windows.only.values == index]})
        if len(owners) < 2:
            who = owners[0] if owners else "nobody"
            raise SettingsError(f"class {name!r} has windows of {who} only; each class needs at least 2 subjects")


def count_labels(folds: Sequence[Fold]) -> dict[str, list[int]]:
    """Return lowest and highest number over the folds of labelled, all training-side, and early-stopping subjects."""
    counts = {
        "subjects_labelled": [len(fold.fitting) for fold in folds],
        "subjects_of_training_side": [len(fold.fitting) + len(fold.unlabelled) for fold in folds],
        "subjects_for_early_stopping": [len(fold.validation) for fold in folds],
    }
    return {name: [min(numbers), max(numbers)] for name, numbers in counts.items() if numbers}


def few_labels(share: float, folds: Sequence[Fold], *, is_pretrained: bool) -> tuple[str, ...]:
    """Return what every output says where only part of the labels is used."""
    if share == 1 or not folds:
        return ()
    counts = count_labels(folds)
    labelled, everybody, aside = (
        ranged(str(low), str(high))
        for low, high in (counts[f"subjects_{name}"] for name in ("labelled", "of_training_side", "for_early_stopping"))
    )
    sentence = f"labels of {labelled} of {everybody} training subjects per fold were used (label share {share:g})"
    if is_pretrained:
        sentence += "; pretraining read the signals of the others too"
    stopping = f"{aside} of them for early stopping" if aside != "0" else "too few to set any aside for early stopping"
    return (f"{sentence}; {stopping}",)
