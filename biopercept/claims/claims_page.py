"""The Markdown page of the experiments: how they were made, a table each, and a sentence on what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biopercept.claims.fusion_page import fusion_part
from biopercept.report.text import direction, lowest_to_highest, percent, table

_QUICK = """
**This is the quick run**: one seed, four subjects, hardly any training. It shows that the experiments work; its figures
are no result.
"""

_PERMUTATION = """
## Permutation

Each network is fitted anew on raw inputs and on inputs in a random order of places, the same order for all samples.
*Permuted*: values and position codes together, as in the original experiment; *relabelled*: values alone, under codes
left in place. All networks take {n_steps} steps of {batch_size} samples (AdamW, peak rate {learning_rate:g}, warm-up
and cosine, label smoothing {label_smoothing:g}); nothing is stopped early or chosen by its score. A seed draws the
split, the starting weights, the batches and the order; its raw and permuted fits share them all. The CNN: three
convolutions of 3 x 3 (5 on a line), batch norm, maxima over 2, the mean over the grid. The linear model has a weight
for each place and shows how far one comes without neighbourhood.

- `digits`: 8 x 8 pixels, centred (scikit-learn): each pixel has a meaning of its own; neighbourhood is hardly needed.
- `moved digits`: the same digits at random places of 12 x 12 pixels: a pixel has no meaning of its own. They were added
  because centred digits are easy: in earlier trials a CNN lost only 1 to 3 points on them.
- `windows` (made data): 64 samples of one sensor, each window standardised; the class is the sensor; test subjects are
  unseen in training.

Means over seeds, and the difference from raw paired by seed (Student's interval). *Same answers*: test samples answered
as by the raw fit of the same seed. *Order change*: the largest change of any logit when the fitted network is asked the
same samples in yet another order, codes and values together.
"""

_ARCHITECTURE = """
## One architecture

One class, `PerceiverIO`, with {n_latents} latents of width {width}, on four kinds of input. Picture, point cloud and
sound: fitted as above, mean over seeds with Student's interval, test samples unseen in training. Biosignals: every
subject is tested once by a network that never saw them; bootstrap over subjects. Point clouds, sounds and the study
are made data.
"""


def claims_page(found: Mapping[str, Any]) -> str:
    """Return the Markdown page of what ``run_claims`` found."""
    parts = [_introduction(found), _permutation_part(found), _architecture_part(found)]
    return "".join([*parts, fusion_part(found["fusion"], "made data")])


def _introduction(found: Mapping[str, Any]) -> str:
    libraries = ", ".join(f"{name} {held}" for name, held in found["libraries"].items())
    return f"""# What the talk claims, shown on small data

Written by `biopercept benchmark --claims{" --quick" if found["quick"] else ""} -o OUT --seed {found["seed"]}` with \
biopercept {found["version"]}
({libraries}; {found["machine"]}): {found["n_units"]} units of work,
{found["cpu_seconds"] / 60:.1f} CPU minutes on one thread each; `-j N` runs N at a time, and a run that was stopped
goes on where it was. Digits are those of scikit-learn; shapes, sounds and the sample study are **made**: a score on
them says that the network can do it, and nothing about people. Brackets are 95 % intervals. Data, networks and schedule
were settled before any of these networks met permuted inputs, and every fit is in the tables.
{_QUICK if found["quick"] else ""}"""


def _permutation_part(found: Mapping[str, Any]) -> str:
    summary = found["permutation"]["summary"]
    rows = [
        (
            row["data"],
            row["network"],
            row["way"],
            percent(row["accuracy"]),
            "" if row["way"] == "raw" else percent(row["minus_raw"], signed=True),
            "" if row["way"] == "raw" else f"{100 * row['same_answers']:.1f}",
            f"{row['order_change']:.1g}",
            f"{100 * row['chance']:.1f}",
            f"{lowest_to_highest(row['n_training'])} / {lowest_to_highest(row['n_test'])}",
            str(row["accuracy"]["n_seeds"]),
            f"{row['parameters']:,}",
        )
        for row in summary
    ]
    heads = ("Data", "Network", "Inputs", "Accuracy %", "Minus raw", "Same answers %", "Order change", "Chance %")
    words = _PERMUTATION.format(**found["extent"]["schedule"])
    return (
        f"{words}{table((*heads, 'n training / test', 'Seeds', 'Parameters'), rows)}\n{permutation_reading(summary)}\n"
    )


def permutation_reading(summary: Sequence[Mapping[str, Any]]) -> str:
    """Return one sentence on what permuting did to the convolutional networks and to the Perceivers."""
    moved = [row for row in summary if row["way"] == "permuted"]
    nets = [row for row in moved if row["network"].startswith("CNN")]
    perceivers = [row for row in moved if row["network"].startswith("Perceiver")]
    if not nets or not perceivers:
        return "Nothing was permuted."
    falls = "; ".join(f"{row['network']} on {row['data']} {percent(row['minus_raw'], signed=True)}" for row in nets)
    n_fell = sum(direction(row["minus_raw"]) < 0 for row in nets)
    largest = max(perceivers, key=lambda row: abs(row["minus_raw"]["mean"]))
    n_moved = sum(direction(row["minus_raw"]) != 0 for row in perceivers)
    change = max(row["order_change"] for row in perceivers)
    return (
        f"Permuting changes the CNN's accuracy, in points, by: {falls}, a fall whose interval lies below 0 in {n_fell} "
        f"of {len(nets)}; the Perceivers change by at most {percent(largest['minus_raw'], signed=True)} "
        f"({largest['network']} on {largest['data']}), with an interval that leaves out 0 in {n_moved} of "
        f"{len(perceivers)}, and once fitted they answer a set of tokens in any order with logits that differ by at "
        f"most {change:.0e}."
    )


def _architecture_part(found: Mapping[str, Any]) -> str:
    rows = [
        (
            row["input"],
            row["token"],
            row["score"],
            percent({"mean": row["accuracy"], "ci95": row["ci95"]}),
            f"{100 * row['chance']:.1f}",
            str(row["n_training"]),
            f"{row['n']}" + (f" ({row['n_subjects']} subjects)" if "n_subjects" in row else ""),
            str(row["n_seeds"]),
            str(len(row["classes"])),
            f"{row['parameters']:,}",
        )
        for row in found["one_architecture"]
    ]
    heads = ("Input", "A token is", "Score", "%", "Chance %", "n training", "n test", "Seeds", "Classes", "Parameters")
    words = _ARCHITECTURE.format(**found["network"])
    return f"{words}{table(heads, rows)}\n{architecture_reading(found['one_architecture'])}\n"


def architecture_reading(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return one sentence on which inputs the one network class learnt."""
    scored = [row for row in rows if row["accuracy"] is not None]
    learnt = [row for row in scored if row["ci95"] is not None and row["ci95"][0] > row["chance"]]
    worst = min(scored, key=lambda row: row["accuracy"] - row["chance"])
    return (
        f"On {len(learnt)} of {len(rows)} kinds of input the whole interval lies above chance; the smallest gain over "
        f"chance is on the {worst['input']}, {100 * (worst['accuracy'] - worst['chance']):.1f} points."
    )
