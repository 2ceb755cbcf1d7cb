"""Folds of an earlier run, taken again for another model or after subjects came or went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from biopercept.errors import SettingsError
from biopercept.learning.identities import identity_place
from biopercept.learning.splits import (
    K_FOLD,
    SPLITS,
    STUDY,
    Fold,
    choose_validation,
    fold_name,
    folds_of,
)

_GROUPS = ("training", "validation", "test", "unlabelled")


def read_run(path: Path) -> dict[str, Any]:
    """Return what the ``folds.json`` of an earlier run holds, of ``cross-validate`` or nested by ``tune``.

    Parameters
    ----------
    path : Path
        The file, or the result folder that it lies in.

    Raises
    ------
    SettingsError
        Where there are no folds over subjects.
    """
    file = path / "folds.json" if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        run = document["run"]
        if "tuned" in run and "split" not in run:
            raise SettingsError(
                f"{path} was written by a version of tune that did not say how it dealt its folds; run the same tune "
                "command again"
            )
        held = {"split": str(run["split"]["split"]), "n_folds": int(run["split"]["n_folds"]), "seed": int(run["seed"])}
        held |= {"stratify": bool(run["split"].get("stratify")), "label_share": float(run.get("label_share", 1.0))}
        held["folds"] = [
            Fold(str(row["name"]), *(tuple(str(s) for s in row.get(group, ())) for group in _GROUPS))
            for row in document["folds"]
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as fault:
        raise SettingsError(
            f"{path} holds no folds of a cross-validation; --folds-from takes its result folder or its folds.json (of "
            "tune: the folder nested)"
        ) from fault
    if held["split"] not in SPLITS:
        raise SettingsError(
            f"{path} holds folds of split {held['split']}; --folds-from takes those of {', '.join(SPLITS)}"
        )
    return held


def given_settings(path: Path) -> dict[str, Any]:
    """Return the settings by which the folds of an earlier run were made: they go with its folds.

    Raises
    ------
    SettingsError
        Where there are no folds over subjects.
    """
    held = read_run(path)
    return {f"evaluation.{name}": held[name] for name in ("split", "n_folds", "stratify")}


def require_same(path: Path, *, split: str, label_share: float) -> dict[str, Any]:
    """Return what the ``folds.json`` of an earlier run holds, where this run's settings can take its folds.

    Raises
    ------
    SettingsError
        Where there are no such folds, they are of another split, or of a share of labels that is not this one.
    """
    held = read_run(path)
    for name, asked in (("split", split), ("label_share", label_share)):
        is_whole = name == "label_share" and held[name] == 1  # any share can be drawn from all
        if held[name] != asked and not is_whole:
            raise SettingsError(
                f"{path} holds folds of {name} {held[name]}, and {name} is {asked} here; give the same to take them"
            )
    return held


def given_folds(
    path: Path, everyone: Sequence[str], *, split: str, validation_fraction: float, label_share: float = 1.0
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Return the folds of an earlier run for the subjects of this one, and what every output says of them.

    Whoever was there stays where it was, on all sides of every fold, unless labels are drawn anew. Subjects that are no
    longer there are left out, and a fold that tests nobody any more with them. New subjects are dealt by identity, as
    the earlier run would have dealt them (of split ``study`` by their study); in the other folds they join the training
    side, without their labels where the run used only a share of the labels. Where it used all of them and this one
    uses a share, each fold draws who keeps them from its training side, and validation subjects among those by
    ``validation_fraction``.

    Parameters
    ----------
    path : Path
        Result folder or ``folds.json`` of the earlier run.
    everyone : sequence of str
    split : str
        Must be that of the earlier run.
    validation_fraction : float
        For folds that are new, or whose validation subjects have all gone.
    label_share : float
        Must be that of the earlier run, unless that used all labels.

    Raises
    ------
    SettingsError
        Where there are no such folds, they are of another split or share of labels, or fewer than two are left.
    """
    held = require_same(path, split=split, label_share=label_share)
    earlier: list[Fold] = held["folds"]
    known = {s for fold in earlier for s in fold.test}
    new = sorted(set(everyone) - known)
    homes = {s: _home(s, held) for s in new}
    order = list(dict.fromkeys((*(fold.name for fold in earlier), *sorted(homes.values()))))
    if held["split"] == K_FOLD:
        order.sort()
    by_name = {fold.name: fold for fold in earlier}
    sides = partial(folds_of, seed=held["seed"], validation_fraction=validation_fraction, label_share=label_share)
    folds: list[Fold] = []
    for name in order:
        guests = [s for s in new if homes[s] == name]
        if name not in by_name:
            folds += sides([(name, guests)], sorted(everyone))
        elif fold := _of_today(by_name[name], guests, set(everyone), new, held, validation_fraction):
            is_drawn = label_share == held["label_share"]
            folds += [fold] if is_drawn else sides([(name, fold.test)], sorted((*fold.fitting, *fold.test)))
    if len(folds) < 2 or sorted(s for fold in folds for s in fold.test) != sorted(everyone):
        raise SettingsError(f"the folds of {path} do not test every subject once in at least two folds; deal them anew")
    return tuple(folds), _said(new, sorted(known - set(everyone)))


def _home(subject: str, held: Mapping[str, Any]) -> str:
    """Return the name of the fold that tests a new subject."""
    if held["split"] == K_FOLD:
        place = int(identity_place(subject, f"fold-{held['seed']}", held["n_folds"]))
        return fold_name(place, held["n_folds"])
    return subject.rpartition("/")[0] if held["split"] == STUDY else subject


def _of_today(
    fold: Fold,
    guests: Sequence[str],
    everyone: set[str],
    new: Sequence[str],
    held: Mapping[str, Any],
    validation_fraction: float,
) -> Fold | None:
    """Return a fold for the subjects of today; None where it tests nobody any more."""
    training, validation, test, unlabelled = ([s for s in getattr(fold, group) if s in everyone] for group in _GROUPS)
    test = sorted([*test, *guests])
    if not test:
        return None
    (training if held["label_share"] == 1 else unlabelled).extend(s for s in new if s not in guests)
    if fold.validation and not validation:
        validation = list(choose_validation(training, validation_fraction, f"{held['seed']}-{fold.name}"))
        training = [s for s in training if s not in validation]
    if not training:
        raise SettingsError(f"nobody of the training side of fold {fold.name} is there any more; deal the folds anew")
    return Fold(fold.name, tuple(sorted(training)), tuple(validation), tuple(test), tuple(sorted(unlabelled)))


def _said(new: Sequence[str], gone: Sequence[str]) -> tuple[str, ...]:
    if not new and not gone:
        return ()
    parts = [f"{', '.join(new)} came and {'was' if len(new) == 1 else 'were'} dealt by identity"] if new else []
    parts += [f"{', '.join(gone)} went"] if gone else []
    return (f"folds of an earlier run: {'; '.join(parts)}",)
