"""Which folds are fitted at once: what can be stacked, what is by itself, and how folds are dealt into stacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from biopercept.data.splits import Fold
from biopercept.errors import SettingsError
from biopercept.evaluation.plan import EvaluationRequest, in_stacks, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.store.reading import open_store
from biopercept.training.settings import FitSettings

SMALL = FitSettings(model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2))
DERIVED = replace(SMALL, tokens=TokenSettings(raw=False))
WIDE = replace(DERIVED, model=PerceiverSettings())


@pytest.mark.parametrize(
    ("n_folds", "size", "asked_for", "n_seeds", "sizes"),
    [
        (20, 8, 0, 1, [5, 5, 5, 5]),  # on processors: even in number
        (20, 8, 8, 1, [7, 7, 6]),
        (34, 64, 0, 1, [34]),
        (34, 64, 0, 3, [17, 17]),
        (34, 64, 0, 5, [12, 11, 11]),
        (3, 2, 2, 1, [2, 1]),
        (3, 0, 0, 1, [1, 1, 1]),
    ],
)
def test_stacks_are_as_few_as_allowed_and_alike_in_size(
    n_folds: int, size: int, asked_for: int, n_seeds: int, sizes: list[int]
) -> None:
    folds = [Fold(f"{number:02d}", (), (), ()) for number in range(n_folds)]
    stacks = in_stacks(folds, size, EvaluationSettings(n_seeds=n_seeds, stack_size=asked_for))
    assert [len(stack) for stack in stacks] == sizes
    assert [fold for stack in stacks for fold in stack] == folds


def test_what_is_stacked_follows_the_setting_the_model_and_its_size(made: ModuleType, tmp_path: Path) -> None:
    store = made.store(tmp_path / "made.h5", made.study(6))

    def size(fit: FitSettings = SMALL, model: str = "perceiver-io", **changes: object) -> int:
        evaluation = replace(EvaluationSettings("k-fold", 3), **changes)
        with open_store(store) as opened:
            return plan_evaluation(
                opened, EvaluationRequest(store, model, fit=fit, evaluation=evaluation, device="cpu")
            ).stack_size

    assert size(folds_at_once="stacked", stack_size=2) == 2
    assert size(folds_at_once="stacked") == 8
    assert size() == 0  # raw signals
    assert size(DERIVED) == 8
    assert size(WIDE) == 0
    assert size(DERIVED, folds_at_once="single", stack_size=2) == 0
    assert size(DERIVED, "lstm") == 0
    with pytest.raises(SettingsError, match=r"is stacked, which logistic cannot be here \(perceiver-io, perceiver, "):
        size(model="logistic", folds_at_once="stacked")
    with pytest.raises(SettingsError, match=r"evaluation\.folds_at_once is 'yes'; allowed are auto, stacked, single"):
        EvaluationSettings(folds_at_once="yes")
