"""Shipped models made: public data imported, prepared, scored, audited and trained on, then written without names."""

from __future__ import annotations

import csv
import json
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from biopercept.errors import OutputError, SettingsError
from biopercept.training.checkpoint import Checkpoint, load_model, read_description, save_checkpoint, subject_digest
from shipping.cards import card, scored
from shipping.recipes import LARGEST_BYTES, Recipe

SCORES_KEPT = (
    "model", "task", "classes", "split", "n_subjects", "n_windows", "n_folds", "seeds", "seed", "window_seconds",
    "step_seconds", "normalisation", "normalisation_scope", "balanced_accuracy", "macro_f1", "auroc",
    "brier_over_subjects", "ece_over_subjects", "chance", "missing_sensors", "warnings", "fingerprint",
)  # fmt: skip
"""Of ``scores.json``, what a model that is given away carries."""


def run_steps(recipe: Recipe, data: Path, work: Path, split: tuple[str, ...], n_jobs: int) -> None:
    """Run the commands of a recipe below ``work``; what an earlier run finished is used again.

    Raises SettingsError where one fails; it has written why on stderr.
    """
    for written, words in recipe.steps(str(data), str(work), split, n_jobs).items():
        if written == "study" and (work / "study" / "study.yaml").is_file():
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
    people = participants(work / "study")
    training = without_names({**model.training, **_added(recipe, work, split)}, people, model.training["study"])
    training["shipped"]["scored"] = scored(training)
    given = replace(model, training=training, calibration=_calibration(model, people))
    folder = target / recipe.name
    save_checkpoint(given, folder, card(given, recipe, sha256))
    refuse_unfit(folder, people, sha256)
    return sha256


def _added(recipe: Recipe, work: Path, split: tuple[str, ...]) -> dict[str, Any]:
    """Return what is put into a model's description beside its training, and the scores that are kept of it."""
    import torch
    import yaml

    study = yaml.safe_load((work / "study" / "study.yaml").read_text(encoding="utf-8"))
    scores = json.loads((work / "scores" / "scores.json").read_text(encoding="utf-8"))
    audit = json.loads((work / "audit" / "audit.json").read_text(encoding="utf-8"))
    commands = recipe.steps("DATA", f"WORK/{recipe.name}", split).values()
    shipped = {
        "title": recipe.title,
        "licence": study["licence"],
        "citation": " ".join(study["citation"].split()),
        "commands": [shlex.join(words) for words in commands],
        "machine": f"{platform.machine()} ({torch.backends.cpu.get_cpu_capability()}), torch {torch.__version__}",
        "audit": [{key: row[key] for key in ("probe", "verdict", "sentence")} for row in audit["findings"]],
    }
    return {"shipped": shipped, "scores": {key: scores[key] for key in SCORES_KEPT if key in scores}}


def participants(study: Path) -> tuple[str, ...]:
    """Return the identifiers of everybody in a study."""
    with (study / "participants.tsv").open(encoding="utf-8", newline="") as stream:
        return tuple(row["participant_id"] for row in csv.DictReader(stream, delimiter="\t"))


def _calibration(model: Checkpoint, people: Collection[str]) -> Any:
    if model.calibration is None:
        return None
    digests = tuple(subject_digest(model.training["study"], s) for s in model.calibration.subjects if s in people)
    return replace(model.calibration, subjects=digests)


def without_names(value: Any, people: Collection[str], study: str) -> Any:
    """Return plain values with digests in the place of identifiers, and ``a person`` for those within a sentence."""
    if isinstance(value, dict):
        return {key: without_names(one, people, study) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_names(one, people, study) for one in value]
    if not isinstance(value, str):
        return value
    return subject_digest(study, value) if value in people else _named(people).sub("a person", value)


def _named(people: Collection[str]) -> re.Pattern[str]:
    words = "|".join(re.escape(person) for person in sorted(people, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])")


def refuse_unfit(folder: Path, people: Collection[str], sha256: str) -> None:
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
