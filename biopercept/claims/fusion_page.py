"""The tables of early against late fusion as Markdown, each with one sentence that says what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biopercept.claims.fusion import EARLY, LATE, WAYS
from biopercept.report.text import direction, percent, table


def fusion_part(found: Mapping[str, Any], note: str = "") -> str:
    """Return the part of a page on one study.

    Parameters
    ----------
    found : mapping
        What ``fusion_document`` returned.
    note : str
        What must be known of the study, as ``"made data"``.
    """
    sensors = "; ".join(f"{name} ({', '.join(signals)})" for name, signals in found["sensors"].items())
    words = f"""
## Early and late fusion, and missing sensors: {found["store"]}{f" ({note})" if note else ""}

Task {found["task"]} ({", ".join(found["classes"])}), {found["n_windows"]} windows of {found["n_subjects"]} subjects,
{found["folds"]} folds over subjects, at most {found["n_epochs"]} epochs, normalisation {found["normalisation"]}.
Balanced accuracy per subject, mean over subjects. Early: one Perceiver IO reads all sensors; in training whole sensors
are hidden at random (modality dropout {found["modality_dropout"]:g}). Late: one Perceiver IO for each sensor, on the
same settings, and the mean of their probabilities.

Sensors, each with the signals that come and go with it: {sensors}.
"""
    cautions = "".join(f"\nCaution: {warning}.\n" for warning in found["warnings"])
    gaps = "".join(
        f"\nIn fold {fold} late fusion has no network for {', '.join(gone)}: too little to train on.\n"
        for fold, gone in found["without_model"].items()
    )
    return words + cautions + gaps + _all_sensors(found) + _missing_sensors(found["scores"])


def _all_sensors(found: Mapping[str, Any]) -> str:
    whole = found["scores"][0]
    rows = [
        (
            way,
            percent(whole[way]),
            f"{100 * found['chance']:.1f}",
            str(whole[way]["n_subjects"]),
            f"{found['parameters'][way]:,}",
            f"{found['cpu_seconds'][way]:.0f}",
        )
        for way in WAYS
    ]
    heads = ("Fusion", "All sensors %", "Chance %", "Subjects", "Parameters", "CPU seconds of fitting, all folds")
    times = found["cpu_seconds"][LATE] / found["cpu_seconds"][EARLY]
    sizes = found["parameters"][LATE] / found["parameters"][EARLY]
    return f"{table(heads, rows)}\n{verdict(whole['early_minus_late'])[:-1]}; late took {times:.1f} times the CPU time \
and {sizes:.1f} times the parameters of early.\n"


def verdict(difference: Mapping[str, Any]) -> str:
    """Return one sentence on early minus late, paired over subjects."""
    if difference["mean"] is None:
        return "No subject has windows of both classes, so nothing can be said."
    found = {1: "early fusion is better", -1: "late fusion is better", 0: "neither can be called better"}
    said = f"Early minus late is {percent(difference, signed=True)} points over {difference['n_subjects']} subjects"
    return f"{said}: {found[direction(difference)]}."


def _missing_sensors(scores: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            row["sensors"],
            percent(row[EARLY]),
            percent(row[LATE]),
            percent(row["early_minus_late"], signed=True),
            percent(row["early_minus_all"], signed=True) if row["sensors"] != "all" else "",
            percent(row["late_minus_all"], signed=True) if row["sensors"] != "all" else "",
            f"{row[EARLY]['n_subjects']} ({row['n_windows']})",
        )
        for row in scores
    ]
    heads = ("Asked with", "Early %", "Late %", "Early minus late", "Early minus its all", "Late minus its all")
    return f"{table((*heads, 'Subjects (windows)'), rows)}\n{_reading(scores)}\n"


def _reading(scores: Sequence[Mapping[str, Any]]) -> str:
    gone = [
        row for row in scores if row["sensors"].startswith("without") and row["early_minus_all"]["mean"] is not None
    ]
    if not gone:
        return "No set of fewer sensors could be scored."
    worst = {way: min(gone, key=lambda row: row[f"{way}_minus_all"]["mean"]) for way in WAYS}
    parts = [
        f"{way} fusion at worst changes by {percent(row[f'{way}_minus_all'], signed=True)} points ({row['sensors']})"
        for way, row in worst.items()
    ]
    fewer = [row for row in scores if row["sensors"] != "all"]
    signs = [direction(row["early_minus_late"]) for row in fewer]
    return (
        f"With a sensor taken away, {' and '.join(parts)}; of {len(fewer)} sets of fewer sensors early is better in "
        f"{signs.count(1)}, late in {signs.count(-1)}, and neither can be called better in {signs.count(0)}."
    )
