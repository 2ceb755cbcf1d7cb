"""Probes of what a model reads and gives: whether subjects can be told from features, outputs or latents.

Beyond the label means: within windows of one recording and one of the study's own labels. Recognising people is a leak
where people tell the label; reading the time (``time_probes``) is one where time does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biopercept.auditing.identity_reading import Recognition, recognise
from biopercept.auditing.material import FoldValues, LabelScore, Material
from biopercept.auditing.wording import recognition
from biopercept.learning.normalisation import FloatArray
from biopercept.reporting.text import score
from biopercept.results.audit import LEAK, OK, WARNING, Finding, Skipped

_CERTAIN = 1e-6


@dataclass(frozen=True)
class Readable:
    """Numbers about windows, and the words for them."""

    name: str
    words: str
    subject_matter: str


FEATURES = Readable("features", "the features, as the model gets them", "inputs")
OUTPUTS = Readable("outputs", "the model's outputs", "model")
LATENTS = Readable("latents", "the model's latents", "model")


def probe_identity(
    material: Material, what: Readable, groups: Sequence[FoldValues], tie: LabelScore
) -> Finding | Skipped:
    """Return whether subjects can be recognised beyond the label, and whether who it is tells the label.

    Parameters
    ----------
    material : Material
    what : Readable
    groups : sequence of FoldValues
        Test subjects of one group are told from each other.
    tie : LabelScore
        How well the subject alone tells the label.
    """
    name = f"identity-in-{what.name}"
    found = recognise(material, groups)
    if found is None:
        return Skipped(probe=name, reason="no two subjects have windows far enough apart in time")
    corrected = (tie.value - tie.chance) / (1 - tie.chance)
    is_tied = corrected >= 0.5
    is_known = found.ci95[0] > found.chance + material.settings.margin
    is_striking = found.above_chance(found.ci95[0]) >= material.settings.identity
    verdict = LEAK if is_known and is_tied else (WARNING if is_striking else OK)
    sentence = (
        f"From {what.words}, beyond the label, {recognition(found)} are given to their owner across halves of time; "
        f"{_identity_end(found, tie, is_known=is_known, is_tied=is_tied, is_striking=is_striking)}"
    )
    return Finding(
        probe=name,
        subject_matter=what.subject_matter,
        verdict=verdict,
        sentence=sentence,
        score_name="share of windows given to their owner",
        score=found.value,
        ci95=found.ci95,
        chance=found.chance,
        n_subjects=found.n_subjects,
        n_windows=found.n_windows,
        details={"balanced_accuracy_of_label_from_subject": tie.value},
    )


def _identity_end(found: Recognition, tie: LabelScore, *, is_known: bool, is_tied: bool, is_striking: bool) -> str:
    if is_known and is_tied:
        return (
            f"who it is tells the label ({score(tie.value)}, guessing: {score(tie.chance)}), so people and label "
            "cannot be told apart, and holding subjects out does not show it."
        )
    if is_striking:
        return (
            "people are recognised almost as by name: any split that puts windows of one person on both sides "
            "would be inflated, so hold whole subjects out."
        )
    if is_known:
        return (
            "people differ, as they do; label and person are not tied "
            f"({score(tie.value)}), and whole subjects are held out."
        )
    return "people are not recognised better than by guessing."


def subject_tells_label(material: Material) -> LabelScore:
    """Return how well the label is told by the subject alone: by the class that the person has more than others."""
    windows, k = material.windows, material.windows.only.n_classes
    overall = np.bincount(windows.only.values, minlength=k) / len(windows)
    answers = np.zeros((len(windows), k))
    for subject in windows.subjects:
        rows = windows.rows_of([subject])
        own = np.bincount(windows.only.values[rows], minlength=k) / len(rows)
        answers[rows] = np.where(overall > 0, own / np.where(overall > 0, overall, 1.0), 0.0)
    return material.pooled(answers)


def logits_of(probabilities: FloatArray) -> FloatArray:
    """Return log odds of each class but the first against the first, (n_windows, n_classes - 1); NaN stays."""
    logs = np.log(np.clip(probabilities, _CERTAIN, 1.0))
    odds: FloatArray = logs[:, 1:] - logs[:, :1]
    return odds
