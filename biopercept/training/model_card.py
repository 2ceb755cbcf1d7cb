"""The model card of a saved model: what it was trained on, how it scored and on whom.

References
----------
M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, doi:10.1145/3287560.3287596.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biopercept.errors import count
from biopercept.tasks import Task
from biopercept.training.calibration import Calibration
from biopercept.training.checkpoint import Checkpoint, start_words, versions
from biopercept.training.lag import lag_words
from biopercept.version import INTENDED_USE, NOT_FOR

_UNKNOWN = (
    "Population: age, sex, health, medication and skin tone of these people are not kept with a model; the study's "
    "participants.tsv may have them. Whether groups of people are served alike: `cross-validate --by COLUMN`.",
    "Device, protocol and people other than those of its study: not tried. `evaluate` scores a model on another study.",
    "Order of conditions: whether it gives the label away is looked for by `audit`, which is not part of this card.",
)
_SCALING = {
    "raw": "Inputs are not scaled.",
    "global": "Inputs are scaled with the mean and spread of the training subjects.",
    "causal": "Inputs are scaled with mean and spread of the {scope}'s own past up to the end of each window.",
    "reference": "Inputs are scaled with the first {reference_seconds:g} s of the {scope}, which are not predicted.",
    "recording": "Inputs are scaled with mean and spread of the whole {scope}, which looks ahead of each window.",
}


_TESTED = {
    "time": "later windows of the people whom they were fitted to",
    "study": "studies that they had not seen",
}


@dataclass(frozen=True)
class CardWords:
    """What stands in a card and follows from neither data nor scores.

    * ``made_with``: versions of packages, by name; None for those that are installed.
    """

    not_for: tuple[str, ...] = NOT_FOR
    unknown: tuple[str, ...] = _UNKNOWN
    first: str = ""
    made_with: Mapping[str, str] | None = None


def model_card(checkpoint: Checkpoint, words: CardWords = CardWords()) -> str:
    """Return the model card: use, data, people, scores with intervals, limits, how made (Markdown)."""
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
        "## Not for",
        *(f"- {line}" for line in words.not_for),
        *(["", words.first] if words.first else []),
        "",
        "## What it predicts",
        f"For each window of {checkpoint.window_seconds:g} s, one every {training['step_seconds']:g} s:",
        *predicts,
        "",
        _scaling(checkpoint),
        "",
        "## What it reads",
        *_sensor_lines(checkpoint),
        "",
        "## Data",
        f"Study {training['study']}: {_people(training)}; {training['n_windows']} windows ({_counts(training)}).",
        *(f"- {part['study']}: {len(part['subjects'])} people" for part in training.get("studies", ())),
        *_about_lines(training),
        *(f"- left out: {n} windows, {reason}" for reason, n in training["n_windows_left_out"].items() if n),
        f"- fingerprint of the store: `{training['store']}`",
        *_start_sentence(training["start_from"]),
        *_calibration_sentence(checkpoint.calibration),
        *plan_lines(training.get("plan")),
        "",
        "## Scores",
        *_scores(training["scores"], checkpoint),
        "",
        "## Limits",
        "Known for the devices, protocol and people of its study only. Exercise, other devices and other "
        "stressors were not seen unless the study had them. Scores of a fixed protocol may rest on its order: the "
        "probe `clock-only` of `audit` says what time alone reaches.",
        *(f"- {warning}" for warning in _warnings(training)),
        "",
        "## What is unknown",
        *(f"- {line}" for line in words.unknown),
        "",
        "## People and privacy",
        *_privacy(training),
        "",
        "## Model",
        *_making(checkpoint, versions() if words.made_with is None else words.made_with),
    ]
    return "\n".join(lines) + "\n"


def _scaling(checkpoint: Checkpoint) -> str:
    settings = checkpoint.normalisation
    sentence = _SCALING[settings.mode].format(scope=settings.scope, reference_seconds=settings.reference_seconds)
    return f"{sentence.removesuffix('.')} (normalisation `{settings.mode}`)."


def _sensor_lines(checkpoint: Checkpoint) -> list[str]:
    """Return a line for each sensor: channels, unit and rate as the recordings had them."""
    if checkpoint.known is None:
        return [f"{', '.join(checkpoint.training['modalities'])}; channels, units and rates were not kept."]
    lines = []
    for name, sensor in sorted(checkpoint.known.sensors.items()):
        low, high = (f"{rate:.4g}" for rate in sensor.sampling_rate)
        rate = f"{low} Hz" if low == high else f"{low} to {high} Hz"
        unit = ", ".join(sensor.units)
        rare = "" if sensor.present > 0.99 else f"; one person has it in {sensor.present:.0%} of the windows only"
        lines.append(f"- {name}: {', '.join(sensor.channels)}; {unit}; {rate}{rare}")
    return [
        *lines,
        "",
        "Any of them may be missing; units and rates are those of the recordings that it was fitted to.",
    ]


def _warnings(training: Mapping[str, Any]) -> list[str]:
    """Return the warnings of training, and what its plan warned of, once each."""
    plan = training.get("plan") or {}
    return list(dict.fromkeys([*training["warnings"], *plan.get("warnings", ()), *plan.get("losses", ())]))


def _privacy(training: Mapping[str, Any]) -> list[str]:
    """Return what is known of consent, and what of people is in the folder."""
    ids = "digests of the identifiers" if "shipped" in training else "the identifiers"
    return [
        "- How people were found, what they consented to, who approved it and who set the labels: not known here "
        "beyond what the study says of itself above and in what it asks to cite.",
        f"- No recording is in this folder. In model.json are {ids} of these people, and hashes of samples, so that a "
        "test on the same people is noticed: whoever has an identifier or a recording can tell that it was among them.",
    ]


def _making(checkpoint: Checkpoint, made_with: Mapping[str, str]) -> list[str]:
    """Return architecture, length of training, versions, and where the hash of the weights stands."""
    training, model = checkpoint.training, checkpoint.model
    has = [name for name, is_on in (("linear", model.linear_branch), ("convolutional", model.conv_branch)) if is_on]
    branches = f", averaged with a {' and a '.join(has)} branch beside it" if has else ""
    n_run, n_aside = len(training["history"]), len(training["validation_subjects"])
    stop = f"epoch {training['best_epoch']} of {n_run}, the best for those set aside" if n_aside else f"{n_run} epochs"
    if "personal" in training:
        stop = "as said above"
    return [
        f"- Perceiver IO (latent attention){branches}: {training['parameters']:,} trained numbers",
        f"- training: {stop}; seed {training['seed']}; {training['seconds']:g} s",
        f"- made with {', '.join(f'{name} {value}' for name, value in made_with.items())}; the day is not recorded",
        "- SHA-256 of the weights: `weights_sha256` in model.json, which is checked whenever the model is loaded",
    ]


def _about_lines(training: Mapping[str, Any]) -> list[str]:
    """Return what each study says of itself, and that it does not say under which licence it may be used."""
    lines = []
    for study, texts in (training.get("about") or {training["study"]: {}}).items():
        description = " ".join((texts.get("description") or "no description (description: in study.yaml)").split())
        lines.append(f"- {study}: {description}")
        licence = texts.get("licence") or "not stated (licence: in study.yaml)"
        citation = " ".join((texts.get("citation") or "not stated (citation: in study.yaml)").split())
        lines.append(f"- licence of the data of {study}: {licence}; to cite: {citation}")
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
    before = {name: f"- {name}: " if len(names) > 1 else "" for name in names}
    lines = [f"{before[name]}{model_scores_sentence(by_task.get(name))}{_more(by_task.get(name))}" for name in names]
    return [*lines, "", *_whose(next(iter(by_task.values())))]


def _more(scores: Mapping[str, Any] | None) -> str:
    """Return what guessing reaches, and how good the probabilities are, as far as they were kept with the scores."""
    if scores is None or scores.get("kind") == "regression" or scores["balanced_accuracy"]["mean"] is None:
        return ""
    known = {
        "AUROC": scores.get("auroc"),
        "Brier score": scores.get("brier_over_subjects"),
        "calibration error": scores.get("ece_over_subjects"),
    }
    parts = [f"{name} {_with_interval(score)}" for name, score in known.items() if score]
    more = f" In the same way: {', '.join(parts)}." if parts else ""
    return f" Guessing by the shares of the classes: {scores['chance']['dummy']:.3f}.{more}"


def _whose(scores: Mapping[str, Any]) -> list[str]:
    """Return that scores are of other networks than the one in the folder, and on whom these were tested."""
    n = scores.get("seeds", 1)
    seeds = (
        "" if n == 1 else f" Probabilities of {n} networks a fold were averaged before scoring; here is one network."
    )
    return [
        "These are scores of the networks of a cross-validation, whose settings are not compared with this one's, "
        f"tested on {_TESTED.get(scores['split'], 'people whom they had not seen')}. The network in this folder is one "
        f"more, fitted to everybody named under Data, so that no score of itself exists.{seeds}"
    ]


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
            "set any aside to check on, so nothing was adapted (personalisation.unchecked=adapt would adapt it "
            f"without a check).{before}"
        )
    return (
        f"This is the starting model, unchanged, and no model of {whose}'s own: adapting it ({personal['method']}) to "
        f"{personal['fitting_minutes']:.1f} of the {minutes:.1f} minutes of {whose}'s labels was not better on the "
        f"other {personal['checking_minutes']:.1f}, the last of each class.{before}"
    )


def plan_lines(plan: dict[str, Any] | None) -> list[str]:
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
    whose = f"{count(len(calibration.subjects), 'subject')}, {count(calibration.n_windows, 'window')}"
    learnt = f"learnt from {calibration.source} ({whose})"
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
