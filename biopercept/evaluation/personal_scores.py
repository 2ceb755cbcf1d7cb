"""From the subjects' rows to the curve: gain over the general model against minutes of labels, and its page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from biopercept.evaluation.metrics import summarise
from biopercept.evaluation.personal_folds import ALL, CONTRAST, FEW, GENERAL, NO_LABELS, TIERS
from biopercept.personalising.settings import ADAPT, KEEP, METHODS

STAMP = "CONTRAST, NOT A RESULT"
SCORES = ("balanced_accuracy", "auroc")

_UNCHECKED = {KEEP: "the general model is kept", ADAPT: "only a few steps are made"}


def curve_of(rows: Sequence[Mapping[str, Any]], *, seed: int, n_bootstrap: int) -> list[dict[str, Any]]:
    """Return a point for each tier, method and k: scores and gains over subjects, fall-backs, minutes of labels.

    Parameters
    ----------
    rows : sequence of mapping
        Of :class:`~.personal_folds.PersonalFold`.
    seed, n_bootstrap : int
        Of the bootstrap over subjects.

    Returns
    -------
    list of dict
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

    def over_subjects(values: Sequence[float | None], chance: float = 0.0) -> dict[str, Any]:
        found = summarise(values, chance=chance, seed=seed, n_bootstrap=n_bootstrap)
        ends = None if found.ci95 is None else list(found.ci95)
        return {"mean": found.mean, "ci95": ends, "n_subjects": found.n_subjects, "n_below": found.below_chance}

    def paired(first: tuple[str, str, int], second: tuple[str, str, int], name: str) -> list[float | None]:
        both = [s for s in subjects if (s, *first) in held and (s, *second) in held]
        pairs = [(held[(s, *first)][name], held[(s, *second)][name]) for s in both]
        return [None if a is None or b is None else a - b for a, b in pairs]

    points = []
    for tier, method, k in keys:
        own = [held[(s, tier, method, k)] for s in subjects if (s, tier, method, k) in held]
        point: dict[str, Any] = {
            "tier": tier,
            "method": method,
            "k": k,
            "n_subjects": len(own),
            "label_minutes": sum(r["label_minutes"] for r in own) / len(own),
            "elapsed_minutes": sum(r["elapsed_minutes"] for r in own) / len(own),
            "n_subjects_fallen_back": sum(r["n_fallen_back"] > 0 and r["is_checked"] for r in own),
            "n_subjects_unchecked": sum(not r["is_checked"] for r in own),
            **{name: over_subjects([r[name] for r in own]) for name in SCORES},
        }
        if tier != GENERAL:
            general = (GENERAL, GENERAL, 0)
            gains = {name: over_subjects(paired((tier, method, k), general, name)) for name in SCORES}
            point["gain"] = gains
        if tier == CONTRAST:
            point["stamp"] = STAMP
            point["over_chronological"] = {
                name: over_subjects(paired((tier, method, k), (FEW, method, k), name)) for name in SCORES
            }
        points.append(point)
    return points


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


def personal_page(found: Mapping[str, Any]) -> str:
    """Return the Markdown page of the curve."""
    results = [p for p in found["curve"] if p["tier"] not in (GENERAL, CONTRAST)]
    contrast = [p for p in found["curve"] if p["tier"] == CONTRAST]
    [general] = [p for p in found["curve"] if p["tier"] == GENERAL]
    order = {
        "subject": "Every labelled window of a subject comes before every scored one",
        "class": "Within each class labelled windows come before scored ones (a stage has windows on both sides)",
    }[found["chronology"]]
    everybody = found["n_subjects"] + len(found["not_scored"])
    made = (
        f"Study {found['study']}, task {found['task']}: {found['n_subjects']} of {everybody} subjects scored, "
        f"{found['n_folds']} folds over subjects, normalisation `{found['normalisation']}`, repetitions: "
        f"{found['seeds']}, seed {found['seed']}. The general model was fitted on other people alone. {order}, with "
        f"{found['gap_seconds']:g} s between them; a subject's scored windows ({found['n_scored_windows']} in all) are "
        "the same for every k and method. Where adapting was not better than the general model on the last labels, "
        "which were kept out of the fit, the general model was kept (fell back); with one window per class nothing can "
        f"be checked, and {_UNCHECKED[found['settings']['unchecked']]} (unchecked). Gains are paired, over subjects, "
        "with 95 % bootstrap intervals over subjects."
    )
    reached = (
        f"The general model: balanced accuracy {_estimate(general['balanced_accuracy'])}, AUROC "
        f"{_estimate(general['auroc'])}."
    )
    head = "\n\n".join(
        ["# What labels of one's own are worth", textwrap.fill(made, 120), textwrap.fill(reached, 120), ""]
    )
    parts = [head]
    if found["warnings"]:
        parts.append("\n".join(f"- {warning}" for warning in found["warnings"]) + "\n")
    parts += ["## The curve\n", _results_table(results), ""]
    if contrast:
        parts += [
            f"## {STAMP}: windows drawn at random\n",
            "The same k, drawn at random from the subject's whole recording, so that labelled windows overlap the "
            "scored ones or are among them. Each repetition draws anew, and minutes are means over the draws. No "
            "deployed system has this; the last column is what it adds.\n",
            _contrast_table(contrast),
            "",
        ]
    return "\n".join(parts)


def _results_table(points: Sequence[Mapping[str, Any]]) -> str:
    heads = ("Tier", "Method", "k", "Label min", "Until min", "Subjects", "Balanced accuracy", "Gain", "AUROC gain")
    lines = [(*heads, "Worse for", "Fell back", "Unchecked")]
    for p in points:
        gain = p["gain"]
        lines.append(
            (
                p["tier"],
                p["method"],
                str(p["k"]) if p["tier"] == FEW else {ALL: "all", NO_LABELS: "none"}[p["tier"]],
                f"{p['label_minutes']:.1f}",
                f"{p['elapsed_minutes']:.1f}",
                str(p["n_subjects"]),
                _estimate(p["balanced_accuracy"]),
                _estimate(gain["balanced_accuracy"], is_signed=True),
                _estimate(gain["auroc"], is_signed=True),
                str(gain["balanced_accuracy"]["n_below"]),
                str(p["n_subjects_fallen_back"]),
                str(p["n_subjects_unchecked"]),
            )
        )
    return _table(lines)


def _contrast_table(points: Sequence[Mapping[str, Any]]) -> str:
    lines = [("Method", "k", "Label min", "Subjects", "Gain", "AUROC gain", "More than the first windows")]
    for p in points:
        lines.append(
            (
                p["method"],
                str(p["k"]),
                f"{p['label_minutes']:.1f}",
                str(p["n_subjects"]),
                _estimate(p["gain"]["balanced_accuracy"], is_signed=True),
                _estimate(p["gain"]["auroc"], is_signed=True),
                _estimate(p["over_chronological"]["balanced_accuracy"], is_signed=True),
            )
        )
    return _table(lines)


def _table(lines: Sequence[Sequence[str]]) -> str:
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _estimate(held: Mapping[str, Any], *, is_signed: bool = False) -> str:
    if held["mean"] is None:
        return "not defined"
    form = "{:+.3f}" if is_signed else "{:.3f}"
    if held["ci95"] is None:
        return form.format(held["mean"])
    return f"{form.format(held['mean'])} [{', '.join(form.format(end) for end in held['ci95'])}]"
