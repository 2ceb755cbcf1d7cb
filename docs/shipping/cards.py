"""What a shipped model's card says beside what every card does, and the table of docs/models.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from biopercept.resources import ShippedModel
from biopercept.training.checkpoint import Checkpoint
from biopercept.training.model_card import model_card, model_scores_sentence
from shipping.recipes import Recipe

SECTIONS = ("Not for", "What is unknown", "What the audit says", "With fewer sensors", "Licence", "How it was made")
START, END = "<!-- models: written by make models -->\n", "<!-- end -->\n"


def card(checkpoint: Checkpoint, recipe: Recipe, sha256: str) -> str:
    """Return the card (Markdown): that of a trained model, then the sections that a model for others needs."""
    shipped = checkpoint.training["shipped"]
    bodies = (
        (*(f"- {line}" for line in recipe.not_for), "", recipe.first),
        tuple(f"- {line}" for line in recipe.unknown),
        tuple(_audit(shipped["audit"])),
        tuple(_fewer_sensors(checkpoint.training["scores"])),
        tuple(_licence(shipped)),
        tuple(_making(shipped, sha256)),
    )
    sections = [line for title, body in zip(SECTIONS, bodies, strict=True) for line in ("", f"## {title}", *body)]
    text = model_card(checkpoint)
    return f"# {recipe.name}: {text.removeprefix('# ')}" + "\n".join(sections) + "\n"


def _audit(findings: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the sentences of every finding that is not ok, and the names of the others."""
    rows = list(findings)
    lines = [f"- **{row['verdict']}**, {row['probe']}: {row['sentence']}" for row in rows if row["verdict"] != "ok"]
    fine = [row["probe"] for row in rows if row["verdict"] == "ok"]
    return [*lines, f"- ok: {', '.join(fine)}."]


def _fewer_sensors(scores: Mapping[str, Any]) -> list[str]:
    """Return the scores without one sensor, and with one alone, as a table."""
    lines = ["| sensors | balanced accuracy [95 % interval] | AUROC |", "|---|---|---|"]
    for row in scores["missing_sensors"]["subsets"]:
        if row["sensors"] == "all" or row["sensors"].startswith(("without ", "only ")):
            lines.append(f"| {row['sensors']} | {_estimate(row['balanced_accuracy'])} | {_estimate(row['auroc'])} |")
    return lines


def _estimate(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return "not defined"
    interval = score["ci95"]
    return f"{score['mean']:.3f}" + ("" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]")


def _licence(shipped: Mapping[str, Any]) -> list[str]:
    return [
        "Weights and card: BSD-3-Clause, as biopercept. No recording, and no name of a person, is in this folder.",
        f"Contains information from data that are made available under the licence {shipped['licence']}; whoever "
        f"passes the model on keeps this notice. The data: {shipped['citation']}.",
    ]


def _making(shipped: Mapping[str, Any], sha256: str) -> list[str]:
    return [
        "`make models DATA=DIR` in a checkout, which runs:",
        "```bash",
        *(f"biopercept {words}" for words in shipped["commands"]),
        "```",
        f"SHA-256 of the weights: `{sha256}`, on {shipped['machine']}; another processor or release of torch rounds "
        "differently and gives other weights of like scores.",
    ]


def scored(training: Mapping[str, Any]) -> str:
    """Return how a model of one task scored, in a sentence."""
    return model_scores_sentence(training["scores"])


def page_with_table(page: str, models: Iterable[ShippedModel]) -> str:
    """Return docs/models.md with the rows of these models in the place of those that it had."""
    before, rest = page.split(START)
    lines = [
        "| model | predicts | from | windows | fitted on | balanced accuracy | weights |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in (model.to_json() for model in models):
        classes = "; ".join(", ".join(names) for names in row["tasks"].values())
        split = f"{row['scores']['split']}, {row['scores']['n_folds']} folds"
        score = f"{_estimate(row['scores']['balanced_accuracy'])} ({split})"
        people = f"{row['n_subjects']} people of {row['study']} ({row['data_licence']})"
        cells = (f"`{row['name']}`", classes, ", ".join(row["sensors"]), f"{row['window_seconds']:g} s", people, score)
        lines.append(f"| {' | '.join(cells)} | {row['bytes'] / 1e6:.1f} MB, SHA-256 `{row['weights_sha256']}` |")
    return before + START + "\n".join(lines) + "\n" + END + rest.split(END)[1]
