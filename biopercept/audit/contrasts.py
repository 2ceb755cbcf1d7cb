"""Probes of the evaluation: labels permuted within subject, and what a random split of windows would have claimed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biopercept.audit.confounds import lead_of
from biopercept.audit.material import LabelScore, Material, accuracy, filled_and_scaled
from biopercept.data.windows import IntArray
from biopercept.report.text import count, score, with_interval
from biopercept.results.audit import LEAK, OK, WARNING, Finding


def permuted_labels(material: Material, random: np.random.Generator) -> IntArray:
    """Return labels that mean nothing but keep their counts per subject and their runs in time.

    Where a recording has several labels, their sequence is shifted by a circle within it. Where each recording of
    a subject has one, they are dealt anew among the subject's recordings; where each subject has one recording of
    one label, among subjects.
    """
    windows = material.windows
    drawn = windows.only.values.copy()
    constant: dict[str, list[IntArray]] = {}
    for index in np.unique(windows.recording):
        rows = np.flatnonzero(windows.recording == index)
        rows = rows[np.argsort(windows.onset[rows], kind="stable")]
        if len(np.unique(windows.only.values[rows])) > 1:
            drawn[rows] = np.roll(windows.only.values[rows], int(random.integers(1, len(rows))))
        else:
            constant.setdefault(str(windows.subject[rows[0]]), []).append(rows)
    single = [segments[0] for segments in constant.values() if len(segments) == 1]
    groups = [segments for segments in constant.values() if len(segments) > 1]
    if len(single) == len(windows.subjects):
        groups.append(single)
    for segments in groups:
        labels = [int(windows.only.values[rows[0]]) for rows in segments]
        for rows, label in zip(segments, random.permutation(labels), strict=True):
            drawn[rows] = label
    return drawn


def probe_permutation(material: Material) -> Finding:
    """Return what a linear model reaches on permuted labels (guessing, unless the evaluation leaks) and on the true."""
    windows = material.windows
    inputs = [filled_and_scaled(fold) for fold in material.fold_features]
    truth = material.score(_linear_answers(material, inputs, windows.only.values))
    random = np.random.default_rng([material.seed, 12])
    null = []
    for _ in range(material.settings.n_permutations):
        labels = permuted_labels(material, random)
        null.append(_mean_balanced_accuracy(material, _linear_answers(material, inputs, labels), labels))
    low, high = (float(v) for v in np.percentile(null, [2.5, 97.5]))
    mean = float(np.mean(null))
    p_value = (1 + sum(v >= truth.value for v in null)) / (1 + len(null))
    doubt = 1.96 * float(np.std(null, ddof=1)) / np.sqrt(len(null))  # of the mean over draws
    is_learnt = mean - doubt > truth.chance + material.settings.margin
    is_better = p_value < 0.05
    drawn = f"{with_interval(mean, (low, high))} over {count(len(null), 'draw')} (guessing: {score(truth.chance)})"
    if is_learnt:
        end = (
            "labels without meaning can be learnt across people, so data of one person is on both sides of a fold or "
            "the folds are not independent."
        )
    else:
        end = f"the evaluation itself gives nothing away. With the true labels it reaches {accuracy(truth)}, " + (
            f"more than chance allows (p = {score(p_value)})."
            if is_better
            else f"no more than permuted labels do (p = {score(p_value)}): no effect is shown."
        )
    sentence = f"With labels permuted within subject a linear model reaches {drawn}: {end}"
    return Finding(
        probe="label-permutation",
        subject_matter="evaluation",
        verdict=LEAK if is_learnt else OK,
        sentence=sentence,
        score_name="balanced accuracy with permuted labels",
        score=mean,
        ci95=(low, high),
        chance=truth.chance,
        n_subjects=truth.n_subjects,
        n_windows=truth.n_windows,
        details={"p_value": p_value, "balanced_accuracy_true_labels": truth.value, "n_draws": len(null)},
    )


def _linear_answers(material: Material, inputs: list[NDArray[np.float64]], labels: IntArray) -> NDArray[np.float64]:
    """Return the probabilities of a linear discriminant fitted per fold on any labels."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    answers = np.full((len(labels), material.windows.only.n_classes), np.nan)
    for fold, values in zip(material.fold_features, inputs, strict=True):
        known = np.unique(labels[fold.training])
        answers[fold.test] = 0.0
        if len(known) < 2:
            answers[fold.test, known] = 1.0
            continue
        line = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1, priors=np.full(len(known), 1 / len(known)))
        line.fit(values[fold.training], labels[fold.training])
        answers[fold.test[:, None], known] = line.predict_proba(values[fold.test])
    return answers


def _mean_balanced_accuracy(material: Material, answers: NDArray[np.float64], labels: IntArray) -> float:
    """Return the mean over subjects of the balanced accuracy; pooled where subjects have one label only."""
    is_hit = answers.argmax(axis=1) == labels
    per_subject = []
    for subject in material.windows.subjects:
        rows = material.windows.rows_of([subject])
        present = np.unique(labels[rows])
        if len(present) > 1:
            per_subject.append(np.mean([is_hit[rows][labels[rows] == k].mean() for k in present]))
    if len(per_subject) < max(2, len(material.windows.subjects) / 2):
        return float(np.mean([is_hit[labels == k].mean() for k in np.unique(labels)]))
    return float(np.mean(per_subject))


def probe_random_split(material: Material, model: LabelScore | None) -> Finding:
    """Return by how much a random split of windows would raise the score of trees: a diagnostic, never a result.

    Parameters
    ----------
    model : LabelScore or None
        Of the model under audit; a warning where it is as good as the inflated figure.
    """
    by_subject = [(fold.training, fold.test) for fold in material.fold_features]
    grouped = material.score(_tree_answers(material, by_subject))
    inflated = material.score(_tree_answers(material, _random_folds(material)))
    lead = lead_of(inflated, grouped, material)
    gain, interval = lead or (inflated.value - grouped.value, None)
    is_inflating = (gain if interval is None else interval[0]) > material.settings.margin
    is_reached = model is not None and is_inflating and model.value >= inflated.value
    sentence = (
        f"DIAGNOSTIC, NOT A RESULT: a random split of windows would claim {score(inflated.value)} where subjects "
        f"held out give {accuracy(grouped)}: {with_interval(gain, interval)} too much for the same trees"
    )
    if is_reached and model is not None:
        sentence += (
            f"; the model under audit reaches {score(model.value)}, as much as the inflated figure: check how it "
            "was split."
        )
    else:
        sentence += "; no score here was made that way."
    return Finding(
        probe="random-split-contrast",
        subject_matter="evaluation",
        verdict=WARNING if is_reached else OK,
        sentence=sentence,
        score_name="inflation of balanced accuracy",
        score=gain,
        ci95=interval,
        chance=0.0,
        n_subjects=grouped.n_subjects,
        n_windows=grouped.n_windows,
        details={
            "stamp": "diagnostic, never a result",
            "random_split": inflated.value,
            "subjects_held_out": grouped.value,
        },
    )


def _random_folds(material: Material) -> list[tuple[IntArray, IntArray]]:
    from sklearn.model_selection import KFold

    split = KFold(len(material.plan.folds), shuffle=True, random_state=material.seed % 2**31)
    return [(np.asarray(a), np.asarray(b)) for a, b in split.split(material.windows.only.values[:, None])]


def _tree_answers(material: Material, folds: list[tuple[IntArray, IntArray]]) -> NDArray[np.float64]:
    """Return the probabilities of randomised trees on the features, fitted on one side of each fold."""
    from sklearn.ensemble import ExtraTreesClassifier

    windows = material.windows
    values = np.where(np.isfinite(material.features), material.features, -1e3).astype(np.float32)
    answers = np.zeros((len(windows), windows.only.n_classes))
    for training, test in folds:
        trees = ExtraTreesClassifier(
            material.settings.n_trees, class_weight="balanced", random_state=material.seed % 2**31, n_jobs=1
        )
        trees.fit(values[training], windows.only.values[training])
        answers[test[:, None], trees.classes_] = trees.predict_proba(values[test])
    return answers
