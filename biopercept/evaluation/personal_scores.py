"""From the subjects' rows to the curve: gain over the general model against minutes of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biopercept.evaluation.metrics import summarise
from biopercept.personalising.settings import ADAPT, KEEP, METHODS
from biopercept.results.curves import ALL, CONTRAST, FEW, GENERAL, STAMP, TIERS, CurveScore, Gain, PersonalPoint

SCORES = ("balanced_accuracy", "auroc")


def curve_of(rows: Sequence[Mapping[str, Any]], *, seed: int, n_bootstrap: int) -> tuple[PersonalPoint, ...]:
    """Return a point for each tier, method and k: scores and gains over subjects, fall-backs, minutes of labels.

    Parameters
    ----------
    rows : sequence of mapping
        Of :class:`~.personal_folds.PersonalFold`.
    seed, n_bootstrap : int
        Of the bootstrap over subjects.

    Returns
    -------
    tuple of PersonalPoint
        ``gain`` is paired with the general model on the same windows of the same subjects; ``over_chronological``,
        of the random-draw contrast, is its gain less that of the first windows: what the random draw adds. Fallen back
        are those checked and found no better; who could not be checked is counted apart, kept or not.
    """
    held = {(r["subject"], r["tier"], r["method"], r["k"]): r for r in rows}
    order = (GENERAL, *METHODS)
    keys = sorted(
        {(r["tier"], r["method"], r["k"]) for r in rows},
        key=lambda key: (TIERS.index(key[0]), order.index(key[1]), key[2]),
    )
    subjects = sorted({str(r["subject"]) for r in rows})

    def over_subjects(values: Sequence[float | None]) -> CurveScore:
        found = summarise(values, chance=0.0, seed=seed, n_bootstrap=n_bootstrap)
        return CurveScore(mean=found.mean, ci95=found.ci95, n_subjects=found.n_subjects, n_below=found.below_chance)

    def gain(first: tuple[str, str, int], second: tuple[str, str, int]) -> Gain:
        return Gain(**{name: over_subjects(paired(first, second, name)) for name in SCORES})

    def paired(first: tuple[str, str, int], second: tuple[str, str, int], name: str) -> list[float | None]:
        both = [s for s in subjects if (s, *first) in held and (s, *second) in held]
        pairs = [(held[(s, *first)][name], held[(s, *second)][name]) for s in both]
        return [None if a is None or b is None else a - b for a, b in pairs]

    points = []
    for tier, method, k in keys:
        own = [held[(s, tier, method, k)] for s in subjects if (s, tier, method, k) in held]
        key, few = (tier, method, k), (FEW, method, k)
        points.append(
            PersonalPoint(
                tier=tier,
                method=method,
                k=k,
                n_subjects=len(own),
                label_minutes=sum(r["label_minutes"] for r in own) / len(own),
                elapsed_minutes=sum(r["elapsed_minutes"] for r in own) / len(own),
                n_subjects_fallen_back=sum(r["n_fallen_back"] > 0 and r["is_checked"] for r in own),
                n_subjects_unchecked=sum(not r["is_checked"] for r in own),
                balanced_accuracy=over_subjects([r["balanced_accuracy"] for r in own]),
                auroc=over_subjects([r["auroc"] for r in own]),
                gain=Gain() if tier == GENERAL else gain(key, (GENERAL, GENERAL, 0)),
                stamp=STAMP if tier == CONTRAST else "",
                over_chronological=gain(key, few) if tier == CONTRAST else Gain(),
            )
        )
    return tuple(points)


def unchecked_sentences(rows: Sequence[Mapping[str, Any]], unchecked: str) -> list[str]:
    """Return of which subjects nothing could be checked, by tier and k, and what was done with them.

    Parameters
    ----------
    rows : sequence of mapping
        Of :class:`~.personal_folds.PersonalFold`.
    unchecked : str
        ``personalisation.unchecked``: keep or adapt.
    """
    done = {
        KEEP: "the general model was kept (personalisation.unchecked=keep)",
        ADAPT: "UNCHECKED, only a few steps were made (personalisation.unchecked=adapt)",
    }[unchecked]
    found = []
    granted = {(str(r["tier"]), int(r["k"])) for r in rows if r["tier"] in (FEW, ALL)}
    for tier, k in sorted(granted, key=lambda held: (TIERS.index(held[0]), held[1])):
        own = [r for r in rows if (r["tier"], r["k"]) == (tier, k)]
        everybody = sorted({str(r["subject"]) for r in own})
        without = sorted({str(r["subject"]) for r in own if not r["is_checked"]})
        if without:
            what = f"{tier}, k = {k}" if tier == FEW else f"{tier}, all earlier labels"
            who = f"all {len(everybody)} subjects" if without == everybody else f"{', '.join(without)}"
            found.append(f"{what}: no label could be set aside to check on for {who}; {done}")
    return found
