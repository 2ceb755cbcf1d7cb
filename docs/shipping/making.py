"""Shipped models made: public data imported, prepared, scored, audited and trained on, then written without names."""

from __future__ import annotations

import csv
import json
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from biopercept.errors import OutputError, SettingsError
from biopercept.evaluation.cross_validation import read_scores
from biopercept.training.checkpoint import Checkpoint, load_model, read_description, save_checkpoint, subject_digest
from shipping.cards import card, scored
from shipping.recipes import ACROSS, AUDIT, LARGEST_BYTES, SCORES, Recipe

People = Mapping[str, tuple[str, ...]]
"""Everybody in each study, by its name."""

SCORES_KEPT = (
    "model", "task", "classes", "split", "n_subjects", "n_windows", "n_folds", "seeds", "seed", "window_seconds",
    "step_seconds", "normalisation", "normalisation_scope", "balanced_accuracy", "macro_f1", "auroc",
    "brier_over_subjects", "ece_over_subjects", "chance", "missing_sensors", "warnings", "fingerprint", "studies",
)  # fmt: skip
"""Of ``scores.json``, what a model that is given away carries."""


def run_steps(recipe: Recipe, data: Path, work: Path, split: tuple[str, ...], n_jobs: int) -> None:
    """Run the commands of a recipe below ``work``; what an earlier run finished is used again.

    Raises SettingsError where one fails; it has written why on stderr.
    """
    for written, words in recipe.steps(str(data), str(work), split, n_jobs).items():
        if words[0] == "import" and (work / written / "study.yaml").is_file():
            continue
        run = subprocess.run([sys.executable, "-m", "biopercept.cli", *words], stdout=sys.stderr, check=False)
        if run.returncode:
            raise SettingsError(
                f"{recipe.name}: 'biopercept {shlex.join(words)}' ended with {run.returncode}, see above"
            )


def ship(recipe: Recipe, work: Path, target: Path, split: tuple[str, ...]) -> str:
    """Write the model that :func:`run_steps` made as one to give away, and return the SHA-256 of its weights.

    Raises OutputError where it is too large, or would name a person or a place on this machine.
    """
    model = load_model(work / "model")
    sha256 = str(read_description(work / "model")["weights_sha256"])
    people = {_definition(work / study)["name"]: participants(work / study) for study in recipe.studies}
    training = without_names({**model.training, **_added(recipe, work, split)}, people)
    training["shipped"]["scored"] = scored(training)
    given = replace(model, training=training, calibration=_calibration(model, people))
    folder = target / recipe.name
    save_checkpoint(given, folder, card(given, recipe, sha256))
    refuse_unfit(folder, people, sha256)
    return sha256


def _added(recipe: Recipe, work: Path, split: tuple[str, ...]) -> dict[str, Any]:
    """Return what is put into a model's description beside its training, and the scores that are kept of it."""
    import torch

    definitions = [_definition(work / study) for study in recipe.studies]
    commands = recipe.steps("DATA", f"WORK/{recipe.name}", split)
    shipped: dict[str, Any] = {
        "title": recipe.title,
        "data": [
            {"study": row["name"], "licence": row["licence"], "citation": " ".join(row["citation"].split())}
            for row in definitions
        ],
        "commands": [shlex.join(words) for words in commands.values()],
        "machine": f"{platform.machine()} ({torch.backends.cpu.get_cpu_capability()}), torch {torch.__version__}",
        "audit": _findings(work, [name for name in commands if name.startswith(AUDIT)], definitions),
    }
    if ACROSS in commands:
        shipped["across_studies"] = _kept(read_scores(work / ACROSS))
    return {"shipped": shipped, "scores": _kept(read_scores(work / SCORES))}


def _definition(study: Path) -> dict[str, Any]:
    """Return what the ``study.yaml`` of an imported study says."""
    import yaml

    return dict(yaml.safe_load((study / "study.yaml").read_text(encoding="utf-8")))


def _findings(work: Path, audits: list[str], definitions: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return verdict and sentence of every probe; of several studies with the study that it is of."""
    findings = []
    for name, definition in zip(audits, definitions, strict=True):
        of_study = {"study": definition["name"]} if len(audits) > 1 else {}
        for row in json.loads((work / name / "audit.json").read_text(encoding="utf-8"))["findings"]:
            findings.append({**of_study, **{key: row[key] for key in ("probe", "verdict", "sentence")}})
    return findings


def _kept(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of scores, of one task or of several."""
    if "tasks" in scores:
        return {"tasks": {name: _kept(of_task) for name, of_task in scores["tasks"].items()}}
    return {key: scores[key] for key in SCORES_KEPT if key in scores}


def participants(study: Path) -> tuple[str, ...]:
    """Return the identifiers of everybody in a study."""
    with (study / "participants.tsv").open(encoding="utf-8", newline="") as stream:
        return tuple(row["participant_id"] for row in csv.DictReader(stream, delimiter="\t"))


def _calibration(model: Checkpoint, people: People) -> Any:
    if model.calibration is None:
        return None
    kept = without_names({"study": model.training["study"], "subjects": model.calibration.subjects}, people)
    return replace(model.calibration, subjects=tuple(kept["subjects"]))


def without_names(value: Any, people: People, study: str = "") -> Any:
    """Return plain values with digests in the place of identifiers, and ``a person`` for those within a sentence.

    An identifier by itself is of the ``study`` that the nearest mapping around it names; one of several studies joined
    is "study/identifier", and has the digest that it has in its own study.
    """
    if isinstance(value, dict):
        named = value.get("study")
        within = named if isinstance(named, str) and named in people else study
        return {key: without_names(one, people, within) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_names(one, people, study) for one in value]
    if not isinstance(value, str):
        return value
    if value in people.get(study, ()):
        return subject_digest(study, value)
    for name, identifiers in people.items():
        if value.startswith(f"{name}/") and value.removeprefix(f"{name}/") in identifiers:
            return subject_digest(name, value.removeprefix(f"{name}/"))
    return _named(people).sub("a person", value)


def _named(people: People) -> re.Pattern[str]:
    """Return what matches anybody within a sentence, with the study before the name or without."""
    whole = [f"{study}/{person}" for study, everybody in people.items() for person in everybody]
    alone = [person for everybody in people.values() for person in everybody]
    words = "|".join(re.escape(word) for word in sorted({*whole, *alone}, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])")


def refuse_unfit(folder: Path, people: People, sha256: str) -> None:
    """Raise OutputError where a model folder is too large, names a person or a place, or has other weights."""
    if read_description(folder)["weights_sha256"] != sha256:
        raise OutputError(f"the weights in {folder} are not those that were trained; please report it")
    if (size := sum(path.stat().st_size for path in folder.iterdir())) > LARGEST_BYTES:
        raise OutputError(f"{folder} takes {size} bytes; a model that is shipped may take {LARGEST_BYTES}")
    for path in (folder / "model.json", folder / "card.md"):
        text = path.read_text(encoding="utf-8")
        if seen := _named(people).search(text):
            raise OutputError(f"{path} names a person of the study ({seen.group()}); it must not be shipped")
        if seen := re.search(r"(?<![\w.)])(?:/[\w.-]+){2,}|\b[A-Z]:\\", text):
            raise OutputError(f"{path} names a place on this machine ({seen.group()}); it must not be shipped")
