"""What of a split by time is scored: the later parts alone; and for whom the starting model was kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from biopercept.evaluation.folds import FoldResult
from biopercept.evaluation.planning import Plan
from biopercept.evaluation.time_planning import TimePlan, renamed
from biopercept.personalising.settings import KEEP


def scored_part(plan: Plan, results: Sequence[FoldResult]) -> tuple[Plan, Sequence[FoldResult]]:
    """Return the plan and the folds' results with only the windows that are scored; those over subjects as they are.

    Parameters
    ----------
    plan : Plan
    results : sequence of FoldResult
    """
    if not isinstance(plan, TimePlan):
        return plan, results
    rows = np.sort(np.concatenate([plan.windows.rows_of(fold.test) for fold in plan.folds]))
    place = np.full(len(plan.windows), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    learnt = len(plan.windows) - len(rows)
    excluded = {"in the earlier part, which is learnt from": learnt}
    table = renamed(plan.windows, rows, list(plan.windows.subject[rows]), excluded)
    warnings = plan.warnings if plan.checkpoint is None else (*plan.warnings, *_fall_backs(plan, results))
    scored = replace(plan, inputs=replace(plan.inputs, windows=table), warnings=warnings)
    return scored, [replace(result, rows=place[result.rows]) for result in results]


def _fall_backs(plan: TimePlan, results: Sequence[FoldResult]) -> list[str]:
    """Return for whom the starting model was kept after a check, and for whom nothing could be checked."""
    settings = plan.request.personalisation
    fallen = [result.fold.name for result in results if result.n_fallen_back and result.fold.validation]
    unchecked = [result.fold.name for result in results if not result.fold.validation]
    who = f" ({', '.join(fallen)})" if fallen else ""
    n_seeds = plan.request.evaluation.n_seeds
    repeated = f" in one or more of {n_seeds} repetitions" if n_seeds > 1 else ""
    found = [
        f"adapted by {settings.method}: for {len(fallen)} of {len(results)} subjects{who} it was not better on their "
        f"own check windows{repeated}, and the starting model was kept"
    ]
    if unchecked:
        done = (
            "the starting model was kept (personalisation.unchecked=keep)"
            if settings.unchecked == KEEP
            else "UNCHECKED, only a few steps were made (personalisation.unchecked=adapt)"
        )
        found.append(
            f"no label could be set aside to check on for {len(unchecked)} of {len(results)} subjects "
            f"({', '.join(unchecked)}); {done}"
        )
    return found
