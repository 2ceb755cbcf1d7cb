"""How many subjects had labels in each fold, counted and said."""

from __future__ import annotations

from collections.abc import Sequence

from biopercept.learning.splits import Fold


def count_labels(folds: Sequence[Fold]) -> dict[str, list[int]]:
    """Return lowest and highest number over the folds of labelled, all training-side, and early-stopping subjects."""
    counts = {
        "subjects_labelled": [len(fold.fitting) for fold in folds],
        "subjects_of_training_side": [len(fold.fitting) + len(fold.unlabelled) for fold in folds],
        "subjects_for_early_stopping": [len(fold.validation) for fold in folds],
    }
    return {name: [min(found), max(found)] for name, found in counts.items() if found}


def few_labels(share: float, folds: Sequence[Fold], *, is_pretrained: bool) -> tuple[str, ...]:
    """Return what every output says where only part of the labels is used."""
    if share == 1 or not folds:
        return ()
    counts = count_labels(folds)
    labelled, everybody, aside = (
        str(low) if low == high else f"{low} to {high}"
        for low, high in (counts[f"subjects_{name}"] for name in ("labelled", "of_training_side", "for_early_stopping"))
    )
    said = f"labels of {labelled} of {everybody} training subjects per fold were used (label share {share:g})"
    if is_pretrained:
        said += "; pretraining read the signals of the others too"
    stopping = f"{aside} of them for early stopping" if aside != "0" else "too few to set any aside for early stopping"
    return (f"{said}; {stopping}",)
