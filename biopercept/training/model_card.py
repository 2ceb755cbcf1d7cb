"""The model card of a saved model: what it was trained on, how it scored and on whom."""

from __future__ import annotations

from typing import Any

from biopercept.training.calibration import Calibration
from biopercept.training.checkpoint import Checkpoint


def model_card(checkpoint: Checkpoint) -> str:
    """Return the model card: data, subjects, scores with intervals, limits, intended use (Markdown)."""
    training, task = checkpoint.training, checkpoint.task
    return card_text(
        task.name,
        f"One of {', '.join(task.classes)} for each window of {checkpoint.prepare['windows']['length_seconds']:g} s.",
        ", ".join(f"{name} {n}" for name, n in training["windows_per_class"].items()),
        model_scores_sentence(training["scores"]),
        checkpoint.normalisation.mode,
        training,
        checkpoint.calibration,
    )


def card_text(
    title: str,
    answers: str,
    counts: str,
    scores: str,
    mode: str,
    training: dict[str, Any],
    calibration: Calibration | None = None,
) -> str:
    """Return a model card (Markdown) of any model.

    Parameters
    ----------
    title : str
        What it answers, in a word.
    answers : str
        What it answers, in sentences.
    counts : str
        Windows by class or task.
    scores : str
        What is known of its scores.
    mode : str
        Rung of the normalisation ladder.
    training : dict
        Of :func:`training_description`.
    """
    lines = [
        f"# {title}: a Perceiver IO for {', '.join(training['modalities'])}",
        "",
        "## Intended use",
        "Research on human factors. It is no medical device; nobody should be judged, diagnosed or hired by it.",
        "",
        "## What it answers",
        answers,
        f"Inputs are scaled by the `{mode}` rung of the normalisation ladder.",
        "",
        "## Data",
        f"Study {training['study']}: {len(training['subjects'])} training subjects, "
        f"{len(training['validation_subjects'])} more for early stopping; {training['n_windows']} windows ({counts}).",
        *(f"- left out: {n} windows, {reason}" for reason, n in training["n_windows_left_out"].items()),
        *_start_sentence(training.get("start_from")),
        *_calibration_sentence(calibration),
        "",
        "## Scores",
        scores,
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


def _start_sentence(start: dict[str, Any] | None) -> list[str]:
    if start is None:
        return []
    return [
        f"It started from the weights of a {start['kind']} network ({start['n_taken']} taken by name and shape, "
        f"{len(start['new'])} new) that had seen signals of {', '.join(start['studies'])}."
    ]


def _calibration_sentence(held: Calibration | None) -> list[str]:
    if held is None:
        return ["", "## Calibration", "None: read a probability as a score, not as a chance."]
    learnt = f"learnt from {held.source} ({len(held.subjects)} subjects, {held.n_windows} windows)"
    how = {
        "none": "Probabilities are not calibrated",
        "temperature": f"Probabilities are calibrated by temperature {held.temperature:.3f}",
        "isotonic": "Probabilities are calibrated by isotonic regression",
    }[held.method]
    sets = ""
    if held.coverage > 0 and held.threshold is None:
        sets = f" The subjects were too few for prediction sets of {held.coverage:.0%} coverage: every window abstains."
    elif held.coverage > 0:
        sets = (
            f" Prediction sets hold the true class in {held.coverage:.0%} of windows of people like these; a set of "
            "more than one class, or of none, is an abstention."
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
            "bootstrap over subjects; always answering the training mean has "
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
