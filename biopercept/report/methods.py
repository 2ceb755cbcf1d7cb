"""The methods paragraph of a cross-validation, written from its own settings."""

from __future__ import annotations

from collections.abc import Mapping

from biopercept.report.scores import N_BINS
from biopercept.report.text import count, shown, span
from biopercept.results.cross_validation import CrossValidation

_SPLITS = {
    "subject": "Every subject was held out once and predicted by a model that was fitted on the others only",
    "k-fold": "Subjects were divided into folds, whole, and each fold was predicted by a model that was fitted "
    "on the others only",
    "study": "Every study was held out once and predicted by a model that was fitted on the other studies only",
    "time": "Within each subject, later windows were predicted by a model that was fitted on earlier ones",
}
_NORMALISATIONS = {
    "raw": "Inputs were not scaled.",
    "global": "Inputs were scaled with the mean and spread of the training subjects of each fold.",
    "causal": "Inputs were scaled with the mean and spread of the subject's own past up to the end of each "
    "window, never later.",
    "reference": "Inputs were scaled with the first part of each recording as reference; windows in it were not "
    "scored.",
    "recording": "Inputs were scaled with the mean and spread of each whole recording, including the tested subject's: "
    "the scores are transductive.",
}


def methods_text(run: CrossValidation) -> tuple[str, ...]:
    """Return sentences that say how the scores were made: windows, split, scaling, early stopping, intervals."""
    return (
        _windows(run),
        f"{_SPLITS.get(run.split, f'The split was {shown(run.split)}')} ({count(run.n_folds, 'fold')}"
        f"{'' if run.seeds == 1 else f', probabilities averaged over {run.seeds} seeds before scoring'}).",
        _NORMALISATIONS.get(run.normalisation, f"Normalisation: {shown(run.normalisation)}."),
        *_labels(run),
        _stopping(run),
        _intervals(run),
        "Balanced accuracy is the mean of the recalls of the classes that a subject has; AUROC is given per "
        "subject (mean) and pooled "
        "over all windows; the Brier score runs from 0 (best) to 1. The confusion matrix and the reliability "
        "curve are over windows, "
        f"the curve in up to {N_BINS} bins of equal size; the calibration error is that of the predicted class.",
    )


def _windows(run: CrossValidation) -> str:
    length, step = run.window_seconds, run.step_seconds
    if length is None:
        durations = sorted(set(run.predictions.duration.tolist()))
        length = durations[0] if len(durations) == 1 else None
    size = "" if length is None else f" of {length:g} s"
    every = "" if step is None else f", one every {step:g} s"
    left = sum(run.left_out.values())
    reasons = ", ".join(f"{shown(reason)}: {number:,}" for reason, number in run.left_out.items() if number)
    out = f" {count(left, 'window')} were left out ({reasons})." if left else ""
    return (
        f"{count(run.n_windows, 'window')}{size}{every} of {count(run.n_subjects, 'subject')} were scored, each "
        "wholly inside one "
        f"labelled stretch.{out}"
    )


def _labels(run: CrossValidation) -> tuple[str, ...]:
    """Say whose labels were used, where it is not everybody's."""
    if run.labels is None or run.labels.share == 1:
        return ()
    aside = (
        f"{span(run.labels.for_stopping)} of them for early stopping"
        if run.labels.for_stopping[1]
        else "too few to set any aside, so that training ran to its last epoch"
    )
    return (
        f"In each fold the labels of {span(run.labels.labelled)} of {span(run.labels.everybody)} training subjects "
        f"were used, drawn at random by identity (label share {run.labels.share:g}; {aside}); nothing else was fitted "
        "on the others, except pretraining where it was asked for, which reads signals and no label.",
    )


def _stopping(run: CrossValidation) -> str:
    """Say what early stopping looked at."""
    looked = (
        "the last of the subject's own earlier windows, never at the later ones, which are scored"
        if run.split == "time"
        else "validation subjects taken from the training subjects, never at the held-out ones"
    )
    return (
        "Everything that is learnt (scaling, weights, when to stop) was learnt inside the training side of a fold: "
        f"early stopping, where a model uses it, looked at {looked}."
    )


def _intervals(run: CrossValidation) -> str:
    draws = _setting(run.config, "evaluation", "n_bootstrap")
    times = "" if draws is None else f" ({draws:,.0f} resamples)"
    return (
        "A score is computed within each subject and averaged over subjects; its 95 % interval is a bootstrap "
        f"over subjects{times}, "
        "because windows of one person are not independent."
    )


def _setting(config: Mapping[str, object], section: str, name: str) -> float | None:
    """Return a number of the effective settings, or None where it is absent or no number."""
    part = config.get(section)
    value = part.get(name) if isinstance(part, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
