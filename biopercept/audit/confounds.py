"""Scores that need no body, beside the model's: of confounds alone, of permuted labels, and of a random split.

The clock and movement say what a study's protocol gives away: a warning. Signal quality, missing values and the
length of the file are no physiology at all; where they reach what a model of the features reaches, they could
explain its score wholly: a leak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.audit.data import AuditData, LabelScore, accuracy, filled_and_scaled
from biopercept.baselines.features import fit_clock, fit_probe, fit_quality, quality_by_modality
from biopercept.data.normalisation import FloatArray
from biopercept.data.windows import IntArray
from biopercept.evaluation.metrics import bootstrap_interval
from biopercept.report.text import count, score, with_interval
from biopercept.results.audit import LEAK, OK, WARNING, Finding, Skipped


@dataclass(frozen=True)
class _Confound:
    """What a probe sees, in words, and how far its verdict goes."""

    name: str
    seen: str
    meaning: str
    columns: Callable[[AuditData], FloatArray]
    can_leak: bool
    meaning_in_files: str = ""


def clock_columns(data: AuditData) -> FloatArray:
    """Return the seconds since the recording began, (n_windows, 1)."""
    return data.windows.onset[:, None]


def position_columns(data: AuditData) -> FloatArray:
    """Return where a window lies: share of its recording, seconds to its end, and seconds since its session began."""
    windows = data.windows
    length = np.array([r.duration_seconds for r in windows.recordings])[windows.recording]
    places = [windows.onset / np.maximum(length, 1e-9), length - windows.onset]
    if data.session_onset is not None:
        places.append(data.session_onset)
    return np.stack(places, axis=1)


def motion_columns(data: AuditData) -> FloatArray:
    """Return the features of movement, scaled as the model gets them."""
    names = data.windows.feature_names
    return data.features[:, [i for i, name in enumerate(names) if name.startswith("motion/")]]


def missing_columns(data: AuditData) -> FloatArray:
    """Return which features are undefined, which modalities absent, and each modality's share of real samples."""
    windows = data.windows
    is_undefined = ~np.isfinite(windows.raw_features())
    is_absent = ~np.isfinite(quality_by_modality(windows))
    return np.concatenate([is_undefined, is_absent, real_fractions(data)], axis=1).astype(np.float64)


def real_fractions(data: AuditData) -> FloatArray:
    """Return each measured signal's share of real samples per window, (n_windows, n_names); NaN where absent."""
    windows = data.windows
    names = sorted({s.name for r in data.recordings for s in r.signals if not s.derived_from})
    shares = np.full((len(windows), len(names)), np.nan)
    for index, recording in enumerate(windows.recordings):
        rows = np.flatnonzero(windows.recording == index)
        for signal in recording.signals if len(rows) else ():
            if signal.derived_from:
                continue
            running = np.concatenate([[0.0], np.cumsum(recording.read(signal.name)[1].mean(axis=0))])
            first = np.round((windows.onset[rows] - signal.start_seconds) * signal.sampling_rate).astype(np.int64)
            n = max(1, int(windows.length_seconds * signal.sampling_rate))
            begin, end = (np.clip(at, 0, len(running) - 1) for at in (first, first + n))
            shares[rows, names.index(signal.name)] = (running[end] - running[begin]) / n
    return shares


def file_columns(data: AuditData) -> FloatArray:
    """Return what is known of the file alone: its length, and when its signals begin and end."""
    windows = data.windows
    per_file = np.array(
        [
            [
                r.duration_seconds,
                min((s.start_seconds for s in r.signals), default=np.nan),
                min((s.end_seconds for s in r.signals), default=np.nan),
                float(len(r.signals)),
            ]
            for r in windows.recordings
        ]
    )
    columns: FloatArray = per_file[windows.recording]
    return columns


def has_one_label_per_file(data: AuditData) -> bool:
    """Return whether no recording holds windows of two classes."""
    windows = data.windows
    pairs = {(int(r), int(t)) for r, t in zip(windows.recording, windows.only.values, strict=True)}
    return len(pairs) == len({recording for recording, _ in pairs})


PROBES: tuple[_Confound, ...] = (
    _Confound(
        "clock-only",
        "Time since the recording began, and nothing else,",
        "the order of conditions is fixed enough that a model which can read time can score this high without "
        "reading the state of the body",
        clock_columns,
        False,
        "recordings of the classes differ in length, or in when the condition begins",
    ),
    _Confound(
        "position-only",
        "The place of a window within its recording and session, and nothing else,",
        "where in a recording or session a condition lies gives the label away",
        position_columns,
        False,
    ),
    _Confound(
        "motion-only",
        "Movement alone",
        "people moved differently in the conditions, so report a score without movement beside the full one",
        motion_columns,
        False,
    ),
    _Confound(
        "quality-only",
        "Signal quality alone, without a single sample,",
        "recordings of the conditions differ in how clean they are",
        lambda data: quality_by_modality(data.windows),
        True,
    ),
    _Confound(
        "missingness-only",
        "Which values are missing, without a single value,",
        "gaps and absent sensors go with the label",
        missing_columns,
        True,
    ),
    _Confound(
        "file-only",
        "The length of the file, and when its signals begin and end,",
        "anything computed over a file can stand for its label",
        file_columns,
        True,
    ),
)


def probe_design(
    data: AuditData, baseline: LabelScore, baseline_name: str
) -> tuple[list[Finding | Skipped], LabelScore]:
    """Return a finding per confound, and the score of the clock.

    Parameters
    ----------
    baseline : LabelScore
        What a model of the features reaches on the same windows.
    """
    outcomes: list[Finding | Skipped] = []
    clock = baseline
    for confound in PROBES:
        columns = confound.columns(data)
        reached = _reached(data, confound, columns)
        if reached is None:
            outcomes.append(Skipped(probe=confound.name, reason="the study has nothing of it that varies"))
            continue
        if confound.name == "clock-only":
            clock = reached
        outcomes.append(_finding(data, confound, reached, baseline, baseline_name))
    return outcomes, clock


def _reached(data: AuditData, confound: _Confound, columns: FloatArray) -> LabelScore | None:
    """Return how well the columns tell the label; None where there is nothing to learn from."""
    if confound.name == "clock-only":
        return data.score(data.predict(fit_clock))
    filled = np.where(np.isfinite(columns), columns, -1e30)
    columns = columns[:, (filled != filled[:1]).any(axis=0)]
    if not columns.shape[1]:
        return None
    if confound.name == "quality-only":
        return data.score(data.predict(fit_quality))
    return data.score(data.predict(lambda request: fit_probe(request, columns)))


def reaches(probe: LabelScore, baseline: LabelScore, data: AuditData) -> bool:
    """Return whether a probe is as good as a model, or within the margin of it."""
    return probe.value >= baseline.value - data.settings.margin


def lead_of(one: LabelScore, other: LabelScore, data: AuditData) -> tuple[float, tuple[float, float]] | None:
    """Return by how much ``one`` is ahead of ``other``, paired by subject, with its interval; None where unpaired."""
    shared = sorted(set(one.per_subject) & set(other.per_subject))
    if len(shared) < 2:
        return None
    gaps = np.array([one.per_subject[s] - other.per_subject[s] for s in shared])
    return float(gaps.mean()), bootstrap_interval(gaps, seed=data.seed, n_bootstrap=data.n_bootstrap)


def _finding(
    data: AuditData, confound: _Confound, reached: LabelScore, baseline: LabelScore, baseline_name: str
) -> Finding:
    is_told = reached.is_above_chance(data.settings.margin)
    reaches_baseline = is_told and reaches(reached, baseline, data)
    verdict = OK if not is_told else (LEAK if reaches_baseline and confound.can_leak else WARNING)
    lead = lead_of(reached, baseline, data)
    paired = "" if lead is None else f" (this probe less {baseline_name}, paired by subject: {with_interval(*lead)})"
    beside = f"{baseline_name} reaches {with_interval(baseline.value, baseline.ci95)} on the same windows{paired}"
    meaning = confound.meaning_in_files if has_one_label_per_file(data) else confound.meaning
    meaning = meaning or confound.meaning
    if not is_told:
        bar = reached.chance + data.settings.margin
        sentence = (
            f"{confound.seen} tells the label with {accuracy(reached)}: its interval does not lie wholly above "
            f"{score(bar)}, so no confound of this kind is shown."
        )
    elif reaches_baseline:
        sentence = (
            f"{confound.seen} tells the label with {accuracy(reached)}, and {beside}: {meaning}; the "
            "model's score is no evidence of anything more until this is ruled out."
        )
    else:
        sentence = f"{confound.seen} tells the label with {accuracy(reached)}: {meaning}; {beside}."
    return Finding(
        probe=confound.name,
        subject_matter="design",
        verdict=verdict,
        sentence=sentence,
        score_name="balanced accuracy",
        score=reached.value,
        ci95=reached.ci95,
        chance=reached.chance,
        n_subjects=reached.n_subjects,
        n_windows=reached.n_windows,
        details={"model": baseline_name, "model_score": baseline.value, "is_pooled": reached.is_pooled},
    )


def permuted_labels(data: AuditData, random: np.random.Generator) -> IntArray:
    """Return labels that mean nothing but keep their counts per subject and their runs in time.

    Where a recording has several labels, their sequence is shifted by a circle within it. Where each recording of
    a subject has one, they are dealt again among the subject's recordings; where each subject has one recording of
    one label, among subjects.
    """
    windows = data.windows
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


def probe_permutation(data: AuditData) -> Finding:
    """Return what a linear model reaches on permuted labels (guessing, unless the evaluation leaks) and on the true."""
    windows = data.windows
    inputs = [filled_and_scaled(fold) for fold in data.fold_features]
    truth = data.score(_linear_probabilities(data, inputs, windows.only.values))
    random = np.random.default_rng([data.seed, 12])
    null = []
    for _ in range(data.settings.n_permutations):
        labels = permuted_labels(data, random)
        null.append(_mean_balanced_accuracy(data, _linear_probabilities(data, inputs, labels), labels))
    low, high = (float(v) for v in np.percentile(null, [2.5, 97.5]))
    mean = float(np.mean(null))
    p_value = (1 + sum(v >= truth.value for v in null)) / (1 + len(null))
    doubt = 1.96 * float(np.std(null, ddof=1)) / np.sqrt(len(null))  # of the mean over draws
    is_learnt = mean - doubt > truth.chance + data.settings.margin
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


def _linear_probabilities(data: AuditData, inputs: list[NDArray[np.float64]], labels: IntArray) -> NDArray[np.float64]:
    """Return the probabilities of a linear discriminant fitted per fold on any labels."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    answers = np.full((len(labels), data.windows.only.n_classes), np.nan)
    for fold, values in zip(data.fold_features, inputs, strict=True):
        known = np.unique(labels[fold.training])
        answers[fold.test] = 0.0
        if len(known) < 2:
            answers[fold.test, known] = 1.0
            continue
        line = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1, priors=np.full(len(known), 1 / len(known)))
        line.fit(values[fold.training], labels[fold.training])
        answers[fold.test[:, None], known] = line.predict_proba(values[fold.test])
    return answers


def _mean_balanced_accuracy(data: AuditData, answers: NDArray[np.float64], labels: IntArray) -> float:
    """Return the mean over subjects of the balanced accuracy; pooled where subjects have one label only."""
    is_hit = answers.argmax(axis=1) == labels
    per_subject = []
    for subject in data.windows.subjects:
        rows = data.windows.rows_of([subject])
        present = np.unique(labels[rows])
        if len(present) > 1:
            per_subject.append(np.mean([is_hit[rows][labels[rows] == k].mean() for k in present]))
    if len(per_subject) < max(2, len(data.windows.subjects) / 2):
        return float(np.mean([is_hit[labels == k].mean() for k in np.unique(labels)]))
    return float(np.mean(per_subject))


def probe_random_split(data: AuditData, model: LabelScore | None) -> Finding:
    """Return by how much a random split of windows would raise the score of trees: a diagnostic, never a result.

    Parameters
    ----------
    model : LabelScore or None
        Of the model under audit; a warning where it is as good as the inflated figure.
    """
    by_subject = [(fold.training, fold.test) for fold in data.fold_features]
    grouped = data.score(_tree_probabilities(data, by_subject))
    inflated = data.score(_tree_probabilities(data, _random_folds(data)))
    lead = lead_of(inflated, grouped, data)
    gain, interval = lead or (inflated.value - grouped.value, None)
    is_inflating = (gain if interval is None else interval[0]) > data.settings.margin
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


def _random_folds(data: AuditData) -> list[tuple[IntArray, IntArray]]:
    from sklearn.model_selection import KFold

    split = KFold(len(data.plan.folds), shuffle=True, random_state=data.seed % 2**31)
    return [(np.asarray(a), np.asarray(b)) for a, b in split.split(data.windows.only.values[:, None])]


def _tree_probabilities(data: AuditData, folds: list[tuple[IntArray, IntArray]]) -> NDArray[np.float64]:
    """Return the probabilities of randomised trees on the features, fitted on one side of each fold."""
    from sklearn.ensemble import ExtraTreesClassifier

    windows = data.windows
    values = np.where(np.isfinite(data.features), data.features, -1e3).astype(np.float32)
    answers = np.zeros((len(windows), windows.only.n_classes))
    for training, test in folds:
        trees = ExtraTreesClassifier(
            data.settings.n_trees, class_weight="balanced", random_state=data.seed % 2**31, n_jobs=1
        )
        trees.fit(values[training], windows.only.values[training])
        answers[test[:, None], trees.classes_] = trees.predict_proba(values[test])
    return answers
