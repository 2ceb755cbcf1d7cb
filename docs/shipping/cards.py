"""What a shipped model's card says beside what every card does, and the table of docs/models.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from biopercept.resources import ShippedModel
from biopercept.training.checkpoint import Checkpoint, load_model, read_description
from biopercept.training.model_card import CardWords, model_card, model_scores_sentence, scores_by_task
from shipping.recipes import Recipe

SECTIONS = ("What the audit says", "With fewer sensors", "Licence", "How it was made")
START, END = "<!-- models: written by make models -->\n", "<!-- end -->\n"


def card(checkpoint: Checkpoint, recipe: Recipe, sha256: str, made_with: Mapping[str, str] | None = None) -> str:
    """Return the card (Markdown): that of a trained model, then the sections that a model for others needs.

    ``made_with`` are versions of packages, None for those that are installed.
    """
    shipped = checkpoint.training["shipped"]
    bodies = (
        tuple(_audit(shipped["audit"])),
        tuple(_fewer_sensors(checkpoint.training["scores"], shipped.get("across_studies"))),
        tuple(_licence(shipped)),
        tuple(_making(shipped, sha256)),
    )
    sections = [line for title, body in zip(SECTIONS, bodies, strict=True) for line in ("", f"## {title}", *body)]
    if "across_studies" in shipped:
        sections += ["", "## By study", *_by_study(checkpoint.training["scores"], shipped["across_studies"])]
    text = model_card(checkpoint, CardWords(recipe.not_for, recipe.unknown, recipe.first, made_with))
    return f"# {recipe.name}: {text.removeprefix('# ')}" + "\n".join(sections) + "\n"


def packaged_card(recipe: Recipe, home: Path) -> str:
    """Return the card of a model that was made before, from what its folder below ``home`` holds."""
    folder = home / recipe.name
    description = read_description(folder)
    return card(load_model(folder), recipe, description["weights_sha256"], description["versions"])


def _audit(findings: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the sentences of every finding that is not ok, and the names of the others."""
    by_study: dict[str, list[Mapping[str, str]]] = {}
    for row in findings:
        by_study.setdefault(f"{row['study']}: " if "study" in row else "", []).append(row)
    lines = []
    for study, rows in by_study.items():
        bad = [row for row in rows if row["verdict"] != "ok"]
        lines += [f"- {study}**{row['verdict']}**, {row['probe']}: {row['sentence']}" for row in bad]
        lines.append(f"- {study}ok: {', '.join(row['probe'] for row in rows if row['verdict'] == 'ok')}.")
    return lines


def _by_study(scores: Mapping[str, Any], across: Mapping[str, Any]) -> list[str]:
    """Return the scores of each study: by models that had others of its people, and by models of the others alone."""
    lines = [
        "| task | left out | study | people | balanced accuracy [95 % interval] | AUROC |",
        "|---|---|---|---|---|---|",
    ]
    for left_out, document in (("people", scores), ("the study", across)):
        for task, of_task in scores_by_task(dict(document)).items():
            for study, row in of_task.get("studies", {}).items():
                values = f"{_estimate(row['balanced_accuracy'])} | {_estimate(row['auroc'])}"
                lines.append(f"| {task} | {left_out} | {study} | {row['n_subjects']} | {values} |")
    return lines


def _fewer_sensors(scores: Mapping[str, Any], across: Mapping[str, Any] | None) -> list[str]:
    """Return the scores without one sensor, and with one alone, as a table; of several studies each left out."""
    lines = [] if across is None else [f"Task {across['task']}, each study tested by models of the others:", ""]
    lines += ["| sensors | balanced accuracy [95 % interval] | AUROC |", "|---|---|---|"]
    for row in (scores if across is None else across)["missing_sensors"]["subsets"]:
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
        *(
            f"Contains information from data that are made available under the licence {row['licence']}; whoever "
            f"passes the model on keeps this notice. The data: {row['citation']}."
            for row in shipped["data"]
        ),
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
    """Return how a model scored, in a sentence for each task, and on studies left out where there are several."""
    by_task = scores_by_task(training["scores"])
    if list(by_task) == [training["scores"].get("task")]:
        return model_scores_sentence(training["scores"])
    sentences = [f"{task}: {model_scores_sentence(scores)}" for task, scores in by_task.items()]
    if across := training["shipped"].get("across_studies"):
        sentences.append(f"{across['task']} of a study left out: {model_scores_sentence(across)}")
    return " ".join(sentences)


def _cell(scores: Mapping[str, Any], *, is_one: bool) -> str:
    task = "" if is_one else f"{scores['task']} "
    return f"{task}{_estimate(scores['balanced_accuracy'])} ({scores['split']}, {scores['n_folds']} folds)"


def page_with_table(page: str, models: Iterable[ShippedModel]) -> str:
    """Return docs/models.md with the rows of these models in the place of those that it had."""
    before, rest = page.split(START)
    lines = [
        "| model | predicts | from | windows | fitted on | balanced accuracy | weights |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in (model.to_json() for model in models):
        classes = "; ".join(", ".join(names) for names in row["tasks"].values())
        of_tasks = [*scores_by_task(row["scores"]).values()]
        across = [] if row["across_studies"] is None else [row["across_studies"]]
        score = "; ".join(_cell(scores, is_one=len(row["tasks"]) == 1) for scores in (*of_tasks, *across))
        people = "; ".join(
            f"{part['n_subjects']} people of {part['study']} ({part['licence']})" for part in row["data"]
        )
        cells = (f"`{row['name']}`", classes, ", ".join(row["sensors"]), f"{row['window_seconds']:g} s", people, score)
        lines.append(f"| {' | '.join(cells)} | {row['bytes'] / 1e6:.1f} MB, SHA-256 `{row['weights_sha256']}` |")
    return before + START + "\n".join(lines) + "\n" + END + rest.split(END)[1]
