"""From the subjects' errors to a table: what the network says of a hidden signal, beside the strongest filler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biopercept.evaluation.fillers import FILLERS
from biopercept.evaluation.generation_errors import ERRORS, NETWORK
from biopercept.evaluation.metrics import summarise
from biopercept.modalities import MODALITIES

BETTER, WORSE, LEVEL = "better", "worse", "no difference shown"


def generation_scores(rows: Sequence[Mapping[str, Any]], *, seed: int, n_bootstrap: int) -> list[dict[str, Any]]:
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

    def over_subjects(values: Sequence[float | None]) -> dict[str, Any]:
        found = summarise(values, chance=0.0, seed=seed, n_bootstrap=n_bootstrap)
        ends = None if found.ci95 is None else list(found.ci95)
        return {"mean": found.mean, "ci95": ends, "n_subjects": found.n_subjects}

    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["sensor"], row["signal"]), []).append(row)
    order = list(MODALITIES)
    table = []
    for sensor, signal in sorted(groups, key=lambda key: (key[0], order.index(key[1]))):
        held = sorted(groups[sensor, signal], key=lambda row: str(row["subject"]))
        known = MODALITIES[signal]
        entry: dict[str, Any] = {
            "sensor": sensor,
            "signal": signal,
            "title": known.title,
            "unit": known.unit,
            "is_derived": known.is_derived,
            "n_subjects": len(held),
            "n_windows": sum(row["n_windows"] for row in held),
            "n_patches": sum(row["n_patches"] for row in held),
        }
        for error in ERRORS:
            said = {name: over_subjects([row[error][name] for row in held]) for name in (NETWORK, *FILLERS)}
            best = min(FILLERS, key=lambda name: said[name]["mean"])
            differences = [row[error][NETWORK] - row[error][best] for row in held]
            difference = {**over_subjects(differences), "n_better": sum(value < 0 for value in differences)}
            entry[error] = {**said, "best_filler": best, "network_minus_best_filler": difference}
        entry["correlation"] = over_subjects([row["correlation"] for row in held])
        entry["verdict"] = _verdict(entry["rmse"]["network_minus_best_filler"]["ci95"])
        table.append(entry)
    return table


def _verdict(interval: Sequence[float] | None) -> str:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return LEVEL
    return BETTER if interval[1] < 0 else WORSE


def generation_page(found: Mapping[str, Any]) -> str:
    """Return the Markdown page of what was found."""
    signals = found["signals"]
    counts = {word: sum(row["verdict"] == word for row in signals) for word in (BETTER, LEVEL, WORSE)}
    fillers = "\n".join(f"- *{name}*: {words}" for name, words in FILLERS.items())
    head = f"""# A hidden sensor, told from the others

Study {found["study"]}: {found["n_subjects"]} subjects, {found["n_windows"]} windows of {found["window_seconds"]:g} s,
{found["n_folds"]} folds over subjects, normalisation `{found["normalisation"]}`, seed {found["seed"]}. In each fold a
network of {found["parameters"]:,} parameters was pretrained ({found["n_epochs"]} epochs, masked, no label) on the
training subjects alone; then each sensor, with all computed from it, was hidden from the test subjects' windows and
asked for. {found["seconds"]:.0f} s in all.

Errors are computed within each test subject and averaged over subjects; brackets are 95 % bootstrap intervals over
subjects; differences are paired, network minus the strongest filler, below 0 where the network is better. The
strongest is picked on these same test subjects, in the fillers' favour. The scale of the window (centre and spread, by
its normalisation) is given to network and fillers alike, so nothing here says that the level of a person never measured
can be told. The phase of a raw waveform cannot be known from others. Fillers, fitted on training subjects:

{fillers}

By RMSE the network is better than the strongest filler for {counts[BETTER]} of {len(signals)} signals, no difference is
shown for {counts[LEVEL]}, and it is worse for {counts[WORSE]}.
"""
    warnings = "".join(f"\n- {warning}" for warning in found["warnings"])
    return "\n".join(
        [
            head + (warnings and warnings + "\n"),
            "## In normalised units (1 is the spread of the window's scale)\n",
            _table(signals, "rmse", "mae", is_normalised=True),
            "\n## In the signal's own unit\n",
            _table(signals, "rmse_unit", "mae_unit", is_normalised=False),
            "",
        ]
    )


def _table(signals: Sequence[Mapping[str, Any]], squared: str, absolute: str, *, is_normalised: bool) -> str:
    ours = ("Correlation", "Verdict (RMSE)") if is_normalised else ("Unit",)
    heads = ("Hidden", "Signal", "Subjects", "Windows", "RMSE", "Strongest filler", "Difference", "Better for")
    heads = (*heads, "MAE", "Strongest filler", "Difference", *ours)
    lines = [heads, ["---"] * len(heads)]
    for row in signals:
        last = (_estimate(row["correlation"]), row["verdict"]) if is_normalised else (row["unit"],)
        lines.append(
            [
                row["sensor"],
                row["title"],
                str(row["n_subjects"]),
                f"{row['n_windows']:,}",
                *_compared(row[squared]),
                f"{row[squared]['network_minus_best_filler']['n_better']} of {row['n_subjects']}",
                *_compared(row[absolute]),
                *last,
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _compared(error: Mapping[str, Any]) -> tuple[str, str, str]:
    best = error["best_filler"]
    difference = _estimate(error["network_minus_best_filler"], is_signed=True)
    return _estimate(error[NETWORK]), f"{_estimate(error[best])} ({best})", difference


def _estimate(held: Mapping[str, Any], *, is_signed: bool = False) -> str:
    if held["mean"] is None:
        return "not defined"
    form = "{:+.3g}" if is_signed else "{:.3g}"
    if held["ci95"] is None:
        return form.format(held["mean"])
    return f"{form.format(held['mean'])} [{', '.join(form.format(end) for end in held['ci95'])}]"
