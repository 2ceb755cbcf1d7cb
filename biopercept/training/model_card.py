"""The model card of a saved model: what it was trained on, how it scored and on whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from biopercept.tasks import Task
from biopercept.training.calibration import Calibration
from biopercept.training.checkpoint import Checkpoint, start_words
from biopercept.training.lag import lag_words
from biopercept.version import INTENDED_USE


def model_card(checkpoint: Checkpoint) -> str:
    """Return the model card: data, subjects, scores with intervals, limits, intended use (Markdown)."""
    training, personal = checkpoint.training, checkpoint.training.get("personal")
    names = " and ".join(task.name for task in checkpoint.tasks)
    lags = training.get("estimated_lags", {})
    predicts = [f"- {task.name}: {_prediction(task, lags)}" for task in checkpoint.tasks]
    if checkpoint.is_dense:
        predicts.append("- the same at any time within a window (`predict --every SECONDS`)")
    lines = [
        f"# {names}: a Perceiver IO for {', '.join(training['modalities'])}",
        "",
        *([] if personal is None else [f"## {_personal_title(personal)}", personal_sentence(personal), ""]),
        "## Intended use",
        INTENDED_USE,
        "",
        "## What it predicts",
        f"For each window of {checkpoint.window_seconds:g} s:",
        *predicts,
        "",
        f"Inputs are scaled by the normalisation `{checkpoint.normalisation.mode}`.",
        "",
        "## Data",
        f"Study {training['study']}: {_people(training)}; {training['n_windows']} windows ({_counts(training)}).",
        *(f"- {part['study']}: {len(part['subjects'])} people" for part in training.get("studies", ())),
        *_about_lines(training.get("about", {})),
        *(f"- excluded: {n} windows, {reason}" for reason, n in training["n_windows_left_out"].items() if n),
        *_start_sentence(training["start_from"]),
        *_calibration_sentence(checkpoint.calibration),
        *_plan_lines(training.get("plan")),
        "",
        "## Scores",
        *_scores(training["scores"], checkpoint),
        "",
        "## Limits",
        "Known for the devices, protocol and people of its study only. Exercise, other devices and other "
        "stressors were not seen unless the study had them. Scores of a fixed protocol may rest on its order: read the "
        "clock-only probe beside them.",
        *(f"- {warning}" for warning in training["warnings"]),
        "",
        f"{training['parameters']} parameters, seed {training['seed']}, best epoch {training['best_epoch']}, "
        f"{training['seconds']} s of training.",
    ]
    return "\n".join(lines) + "\n"


def _about_lines(about: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what each study says of itself, and that it does not say under which licence it may be used."""
    lines = []
    for study, texts in about.items():
        if description := texts.get("description"):
            lines.append(f"- {study}: {' '.join(description.split())}")
        licence = texts.get("licence") or "not stated (licence: in study.yaml)"
        citation = f"; to cite: {' '.join(texts['citation'].split())}" if texts.get("citation") else ""
        lines.append(f"- licence of the data of {study}: {licence}{citation}")
    return lines


def _prediction(task: Task, lags: Mapping[str, float | None]) -> str:
    is_estimated = task.name in lags
    how = "estimated on the training subjects" if lags.get(task.name) is not None else lag_words(None, task)
    lag = f", stated {task.lag_seconds:g} s later" if task.lag_seconds or is_estimated else ""
    lag += f" ({how})" if is_estimated else ""
    if not task.is_classification:
        number = f"a number, the study's {task.quantity} ({task.mean:.4g} +- {task.scale:.4g} among training subjects)"
        return f"{number}{lag}"
    return f"one of {', '.join(task.classes)}{', in order' if task.is_ordinal else ''}{lag}"


def _personal_title(personal: Mapping[str, Any]) -> str:
    return "No personal model: the starting model" if personal["fell_back"] else "A personal model"


def _people(training: dict[str, Any]) -> str:
    if (personal := training.get("personal")) is not None:
        what = "tried on, and nothing of it kept" if personal["fell_back"] else "the one person that it was fitted to"
        return f"{personal['subject']}, {what}"
    n, n_aside = len(training["subjects"]), len(training["validation_subjects"])
    aside = f"{n_aside} more for early stopping" if n_aside else "nobody set aside for early stopping"
    return f"{n} training subject{'s' * (n != 1)}, {aside}"


def _counts(training: dict[str, Any]) -> str:
    """Return the windows of each class of the one task, or of each of several tasks."""
    per_task, per_class = training["windows_per_task"], training["windows_per_class"]
    counts = next(iter(per_class.values())) if len(per_task) == len(per_class) == 1 else per_task
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _scores(scores: dict[str, Any] | None, checkpoint: Checkpoint) -> list[str]:
    """Return what is known of the scores of one task, or of each of several by name."""
    if scores is None and (personal := checkpoint.training.get("personal")) is not None:
        whose = "The scores of the starting model are in its own card" if personal["fell_back"] else "Not evaluated"
        return [f"{whose}; what a person's own labels are worth is measured by `personalise`."]
    if scores is None:
        return [model_scores_sentence(None)]
    by_task, names = scores_by_task(scores), [task.name for task in checkpoint.tasks]
    if len(names) == 1:
        return [model_scores_sentence(by_task.get(names[0]))]
    return [f"- {name}: {model_scores_sentence(by_task.get(name))}" for name in names]


def scores_by_task(scores: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the content of each task's ``scores.json``, of one task or of several."""
    return dict(scores["tasks"]) if "tasks" in scores else {scores["task"]: scores}


def personal_sentence(personal: dict[str, Any]) -> str:
    """Return whose a model is, what labels it has seen, and whether it fell back."""
    whose, minutes = personal["subject"], personal["label_minutes"]
    if personal["fell_back"]:
        return _fallen_back(personal)
    labels = (
        f"This model is for {whose} alone and says nothing about anybody else. It has seen {minutes:.1f} minutes of "
        f"that person's labels: {personal['fitting_minutes']:.1f} to fit, {personal['checking_minutes']:.1f}, the last "
        "of each class, to check on."
    )
    if personal["method"] == "scratch":
        return f"{labels} It was fitted from new weights."
    adapted = f"{labels} It was adapted ({personal['method']}) from the starting model."
    if not personal["is_checked"]:
        return (
            f"{adapted} UNCHECKED: they were too few to check on; only a few steps were made, and nothing shows a gain."
        )
    if personal.get("had_seen_subject"):
        return (
            f"{adapted} It scored higher there than the starting model, which shows no gain: that model had been "
            "fitted to this person before."
        )
    return f"{adapted} It was better there than the starting model."


def _fallen_back(personal: dict[str, Any]) -> str:
    """Return why a model that was to be a person's is the one that it started from."""
    whose, minutes = personal["subject"], personal["label_minutes"]
    before = " It had been fitted to this person before." if personal.get("had_seen_subject") else ""
    if not personal["is_checked"]:
        return (
            f"This is the starting model, unchanged: of {whose}'s labels there were {minutes:.1f} minutes, too few to "
            f"set any aside to check on, so nothing was adapted (personalisation.unchecked=adapt would adapt it "
            f"without a check).{before}"
        )
    return (
        f"This is the starting model, unchanged, and no model of {whose}'s own: adapting it ({personal['method']}) to "
        f"{personal['fitting_minutes']:.1f} of the {minutes:.1f} minutes of {whose}'s labels was not better on the "
        f"other {personal['checking_minutes']:.1f}, the last of each class.{before}"
    )


def _plan_lines(plan: dict[str, Any] | None) -> list[str]:
    """Return the settings that followed from the data, a line each with its reason."""
    if plan is None:
        return []
    lines = [f"- {row['setting']} = {json.dumps(row['value'])}: {row['because']}" for row in plan["lines"]]
    return ["", "## Settings that follow from the data", *lines]


def _start_sentence(start: dict[str, Any] | None) -> list[str]:
    if start is None:
        return []
    return [
        f"It started from the weights of a {start['kind']} network that had seen signals of "
        f"{', '.join(start['studies'])}: {start_words(start)}."
    ]


def _calibration_sentence(calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return ["", "## Calibration", "None: read a probability as a score, not as a chance."]
    learnt = f"learnt from {calibration.source} ({len(calibration.subjects)} subjects, {calibration.n_windows} windows)"
    how = {
        "none": "Probabilities are not calibrated",
        "temperature": f"Probabilities are calibrated by temperature {calibration.temperature:.3f}",
        "isotonic": "Probabilities are calibrated by isotonic regression",
    }[calibration.method]
    sets = ""
    if calibration.coverage > 0 and calibration.threshold is None:
        sets = (
            f" The subjects were too few for prediction sets of {calibration.coverage:.0%} coverage: every window "
            "abstains."
        )
    elif calibration.coverage > 0:
        sets = (
            f" Prediction sets hold the true class in {calibration.coverage:.0%} of windows of people like these; a "
            "set of more than one class, or of none, is an abstention."
        )
    return ["", "## Calibration", f"{how}, {learnt}.{sets}"]


def model_scores_sentence(scores: dict[str, Any] | None) -> str:
    """Return what the card says of a ``scores.json``; None for a model that was not evaluated."""
    if scores is None:
        return "Not evaluated: this model was trained on everybody it was given. Run `cross-validate` for its scores."
    if scores.get("kind") == "regression":
        error, agreement = scores["mae"], scores["ccc"]
        return (
            f"Cross-validated over {scores['n_subjects']} subjects ({scores['split']}, {scores['n_folds']} folds): "
            f"mean absolute error {_with_interval(error)} in the unit of {scores['column']} (mean over subjects, 95% "
            "bootstrap over subjects; always predicting the training mean has "
            f"{scores['chance']['training_mean_mae']:.3f}), pooled concordance {_number(agreement['pooled'])}, "
            f"worst subject {error['worst']:.3f}."
        )
    accuracy = scores["balanced_accuracy"]
    if accuracy["mean"] is None:
        return "Not evaluated: no subject of the cross-validation had windows of two classes."
    interval = "" if accuracy["ci95"] is None else f" [{accuracy['ci95'][0]:.3f}, {accuracy['ci95'][1]:.3f}]"
    return (
        f"Cross-validated over {scores['n_subjects']} subjects ({scores['split']}, {scores['n_folds']} folds): "
        f"balanced accuracy {accuracy['mean']:.3f}{interval} (mean over subjects, 95% bootstrap over subjects), "
        f"worst subject {accuracy['worst']:.3f}."
    )


def _with_interval(score: dict[str, Any]) -> str:
    interval = "" if score["ci95"] is None else f" [{score['ci95'][0]:.3f}, {score['ci95'][1]:.3f}]"
    return f"{_number(score['mean'])}{interval}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
