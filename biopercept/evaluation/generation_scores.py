"""From the subjects' errors to a table: what the network says of a hidden signal, beside the strongest filler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biopercept.evaluation.metrics import summarise
from biopercept.modalities import MODALITIES
from biopercept.results.generation import (
    BETTER,
    ERRORS,
    FILLERS,
    LEVEL,
    NETWORK,
    WORSE,
    Difference,
    SignalError,
    SignalScore,
    Verdict,
)
from biopercept.results.reading import CountedEstimate


def generation_scores(rows: Sequence[Mapping[str, Any]], *, seed: int, n_bootstrap: int) -> tuple[SignalScore, ...]:
    """Return a row for each hidden sensor and signal: errors over subjects and the paired difference to a filler.

    The filler compared with is the one with the lowest mean error on these very test subjects, for each error anew: a
    choice in the fillers' favour.

    Parameters
    ----------
    rows : sequence of mapping
        Of :func:`~.generation_errors.subject_errors`, with ``subject`` and ``sensor``.
    seed, n_bootstrap : int
        Of the bootstrap over subjects.
    """

    def over_subjects(values: Sequence[float | None]) -> CountedEstimate:
        found = summarise(values, chance=0.0, seed=seed, n_bootstrap=n_bootstrap)
        return CountedEstimate(mean=found.mean, ci95=found.ci95, n_subjects=found.n_subjects)

    def error_of(rows: Sequence[Mapping[str, Any]], error: str) -> SignalError:
        said = {name: over_subjects([row[error][name] for row in rows]) for name in (NETWORK, *FILLERS)}
        best = min(FILLERS, key=lambda name: said[name].mean or 0.0)
        differences = [row[error][NETWORK] - row[error][best] for row in rows]
        difference = over_subjects(differences)
        return SignalError(
            **{name.replace(" ", "_"): estimate for name, estimate in said.items()},
            best_filler=best,
            network_minus_best_filler=Difference(
                mean=difference.mean,
                ci95=difference.ci95,
                n_subjects=difference.n_subjects,
                n_better=sum(value < 0 for value in differences),
            ),
        )

    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["sensor"], row["signal"]), []).append(row)
    order = list(MODALITIES)
    table = []
    for sensor, signal in sorted(groups, key=lambda key: (key[0], order.index(key[1]))):
        subjects = sorted(groups[sensor, signal], key=lambda row: str(row["subject"]))
        known = MODALITIES[signal]
        errors = {error: error_of(subjects, error) for error in ERRORS}
        table.append(
            SignalScore(
                sensor=sensor,
                signal=signal,
                title=known.title,
                unit=known.unit,
                is_derived=known.is_derived,
                n_subjects=len(subjects),
                n_windows=sum(row["n_windows"] for row in subjects),
                n_patches=sum(row["n_patches"] for row in subjects),
                **errors,
                correlation=over_subjects([row["correlation"] for row in subjects]),
                verdict=_verdict(errors["rmse"].network_minus_best_filler.ci95),
            )
        )
    return tuple(table)


def _verdict(interval: Sequence[float] | None) -> Verdict:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return LEVEL
    return BETTER if interval[1] < 0 else WORSE
