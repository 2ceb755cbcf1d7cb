"""Whether the folds of a cross-validation are fitted one by one or in stacks, as was measured (``docs/speed.md``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from biopercept.comparators.catalogue import MODELS, fitter_for
from biopercept.errors import SettingsError
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.learning.engine import engine_for
from biopercept.learning.fitting import FitSettings, Fitter, NetworkFitter
from biopercept.learning.splits import Fold
from biopercept.learning.windows import WindowTable

_ON_CUDA, _ON_PROCESSORS = 64, 8
_SMALL_BATCH = 2**15
"""Numbers in a batch of latents up to which stacks of 8 took less processor time than single fits (measured)."""


def stack_size(model: str, windows: WindowTable, fit: FitSettings, evaluation: EvaluationSettings, device: str) -> int:
    """Return how many networks are fitted at once; 0 where each is fitted on its own.

    With ``auto``, networks are stacked on CUDA, and on processors where they are small.
    """
    if evaluation.folds_at_once == "single" or not _can_stack(fitter_for(model, windows), fit):
        return 0
    is_cuda = engine_for(device).device.type == "cuda"
    if evaluation.folds_at_once == "auto" and not is_cuda and not _is_small(model, fit):
        return 0
    return evaluation.stack_size or (_ON_CUDA if is_cuda else _ON_PROCESSORS)


def in_stacks(folds: Sequence[Fold], size: int, evaluation: EvaluationSettings) -> list[tuple[Fold, ...]]:
    """Return the folds that are fitted together: as few stacks as ``size`` networks allow, alike in size.

    Where the size is that of processors and was not asked for, several stacks are made even in number, so that two
    processes end together.
    """
    if not size:
        return [(fold,) for fold in folds]
    n_stacks = math.ceil(len(folds) / max(1, size // evaluation.n_seeds))
    if not evaluation.stack_size and size == _ON_PROCESSORS and 1 < n_stacks < len(folds):
        n_stacks += n_stacks % 2
    edges = [math.ceil(len(folds) * number / n_stacks) for number in range(n_stacks + 1)] if n_stacks else [0]
    return [tuple(folds[low:high]) for low, high in pairwise(edges)]


def require_stackable(model: str, windows: WindowTable, fit: FitSettings) -> None:
    """Refuse to stack what cannot be.

    Raises
    ------
    SettingsError
        Naming the models that can.
    """
    if not _can_stack(fitter_for(model, windows), fit):
        able = ", ".join(name for name, fitter in MODELS.items() if _can_stack(fitter, FitSettings()))
        raise SettingsError(
            f"evaluation.folds_at_once is stacked, which {model} cannot be here ({able} can, without "
            "training.dense_weight); use auto or single"
        )


def _can_stack(fitter: Fitter, fit: FitSettings) -> bool:
    is_dense = fit.training.dense_weight > 0  # single times are drawn as training goes on
    return isinstance(fitter, NetworkFitter) and fitter.can_stack and not is_dense


def _is_small(model: str, fit: FitSettings) -> bool:
    """Return whether the work of a fit is mostly calling: measured for the Perceiver without long raw signals."""
    latents = fit.training.batch_size * fit.model.n_latents * fit.model.width
    return model == "perceiver-io" and not fit.tokens.raw and latents <= _SMALL_BATCH
