"""Scores that need no body, beside the model's: of confounds alone, of permuted labels, and of a random split.

The clock and movement say what a study's protocol gives away: a warning. Signal quality, missing values and the
length of the file are no physiology at all; where they reach what a model of the features reaches, they could
explain its score wholly: a leak.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biopercept.audit.data import AuditData, FoldValues, ProbeScore, accuracy, filled_and_scaled
from biopercept.baselines.features import fit_clock, fit_probe, fit_quality, quality_by_modality
from biopercept.data.windows import FloatArray, IntArray
from biopercept.errors import count
from biopercept.evaluation.metrics import bootstrap_interval, percentile_interval
from biopercept.report.text import score, with_interval
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
    meaning_of_numbers: str = ""


def clock_columns(data: AuditData) -> FloatArray:
    """Return the seconds since the recording began, (n_windows, 1)."""
    return data.windows.onset[:, None]


def position_columns(data: AuditData) -> FloatArray:
    """Return where a window lies: fraction of its recording, seconds to its end and since its session began."""
    windows = data.windows
    length = np.array([r.duration_seconds for r in windows.recordings])[windows.recording]
    columns = [windows.onset / np.maximum(length, 1e-9), length - windows.onset]
    if data.session_onset is not None:
        columns.append(data.session_onset)
    return np.stack(columns, axis=1)


def motion_columns(data: AuditData) -> FloatArray:
    """Return the features of movement, scaled as the model gets them."""
    names = data.windows.feature_names
    return data.features[:, [i for i, name in enumerate(names) if name.startswith("motion/")]]


def missing_columns(data: AuditData) -> FloatArray:
    """Return which features are undefined, which modalities absent, and each modality's fraction of real samples."""
    windows = data.windows
    is_undefined = ~np.isfinite(windows.raw_features())
    is_absent = ~np.isfinite(quality_by_modality(windows))
    return np.concatenate([is_undefined, is_absent, real_fractions(data)], axis=1).astype(np.float64)


def real_fractions(data: AuditData) -> FloatArray:
    """Return each measured signal's fraction of real samples per window, (n_windows, n_names); NaN where absent."""
    windows = data.windows
    names = sorted({s.name for r in data.recordings for s in r.signals if not s.derived_from})
    fractions = np.full((len(windows), len(names)), np.nan)
    for index, recording in enumerate(windows.recordings):
        rows = np.flatnonzero(windows.recording == index)
        for signal in recording.signals if len(rows) else ():
            if signal.derived_from:
                continue
            running = np.concatenate([[0.0], np.cumsum(recording.read(signal.name)[1].mean(axis=0))])
            first = np.round((windows.onset[rows] - signal.start_seconds) * signal.sampling_rate).astype(np.int64)
            n = max(1, int(windows.length_seconds * signal.sampling_rate))
            begin, end = (np.clip(at, 0, len(running) - 1) for at in (first, first + n))
            fractions[rows, names.index(signal.name)] = (running[end] - running[begin]) / n
    return fractions


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


PROBES: tuple[_Confound, ...] = (
    _Confound(
        "clock-only",
        "Time since the recording began, and nothing else,",
        "the order of conditions is fixed enough that a model which can read time can score this high without "
        "reading the state of the body",
        clock_columns,
        False,
        "recordings of the classes differ in length, or in when the condition begins",
        "the numbers follow a course in time that people share, so that a model which can read time can score this "
        "high without reading the state of the body",
    ),
    _Confound(
        "position-only",
        "The place of a window within its recording and session, and nothing else,",
        "where in a recording or session a condition lies gives the label away",
        position_columns,
        False,
        meaning_of_numbers="where in a recording or session a window lies gives its number away",
    ),
    _Confound(
        "motion-only",
        "Movement alone",
        "people moved differently in the conditions, so report a score without movement beside the full one",
        motion_columns,
        False,
        meaning_of_numbers="the number goes with how people moved, so report a score without movement beside the full "
        "one",
    ),
    _Confound(
        "quality-only",
        "Signal quality alone, without a single sample,",
        "recordings of the conditions differ in how clean they are",
        lambda data: quality_by_modality(data.windows),
        True,
        meaning_of_numbers="the number goes with how clean the recording is",
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
    data: AuditData, baseline: ProbeScore, baseline_name: str
) -> tuple[list[Finding | Skipped], ProbeScore]:
    """Return a finding per confound beside the named model of the features, and the score of the clock."""
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


def _reached(data: AuditData, confound: _Confound, columns: FloatArray) -> ProbeScore | None:
    """Return how well the columns predict the label; None where there is nothing to learn from."""
    if confound.name == "clock-only":
        return data.score(data.predict(fit_clock))
    filled = np.where(np.isfinite(columns), columns, -1e30)
    columns = columns[:, (filled != filled[:1]).any(axis=0)]
    if not columns.shape[1]:
        return None
    if confound.name == "quality-only":
        return data.score(data.predict(fit_quality))
    return data.score(data.predict(lambda request: fit_probe(request, columns)))


def lead_of(one: ProbeScore, other: ProbeScore, data: AuditData) -> tuple[float, tuple[float, float]] | None:
    """Return by how much ``one`` is ahead of ``other``, paired by subject, with its interval; None where unpaired."""
    shared = sorted(set(one.per_subject) & set(other.per_subject))
    if len(shared) < 2:
        return None
    gaps = np.array([one.per_subject[s] - other.per_subject[s] for s in shared])
    return float(gaps.mean()), bootstrap_interval(gaps, seed=data.seed, n_bootstrap=data.n_bootstrap)


def _finding(
    data: AuditData, confound: _Confound, reached: ProbeScore, baseline: ProbeScore, baseline_name: str
) -> Finding:
    predicts_label = reached.is_above_chance(data.settings.margin)
    reaches_baseline = predicts_label and data.reaches(reached, baseline)
    verdict = OK if not predicts_label else (LEAK if reaches_baseline and confound.can_leak else WARNING)
    lead = lead_of(reached, baseline, data)
    paired = "" if lead is None else f" (this probe less {baseline_name}, paired by subject: {with_interval(*lead)})"
    beside = f"{baseline_name} reaches {with_interval(baseline.value, baseline.ci95)} on the same windows{paired}"
    meaning = confound.meaning_in_files if data.holds_one_class.all() else confound.meaning
    meaning = (confound.meaning_of_numbers if data.is_of_numbers else meaning) or confound.meaning
    if not predicts_label:
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
    details = {"model": baseline_name, "model_score": baseline.value, "is_pooled": reached.is_pooled}
    return reached.finding(verdict, sentence, details, probe=confound.name, about="design", name=reached.name)


def permuted_labels(data: AuditData, random: np.random.Generator) -> IntArray:
    """Return labels that mean nothing but keep their counts per subject and their runs in time.

    Where a recording has several labels, their sequence is shifted by a circle within it. Where each recording of a
    subject has one, they are dealt among the subject's recordings; where each subject has one recording of one label,
    among subjects.
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
        labels = [windows.only.values[rows[0]] for rows in segments]
        for rows, label in zip(segments, random.permutation(labels), strict=True):
            drawn[rows] = label
    return drawn


def probe_permutation(data: AuditData) -> Finding:
    """Return what a linear model reaches on permuted labels (guessing, unless the evaluation leaks) and on the true."""
    windows = data.windows
    inputs = [replace(fold, values=filled_and_scaled(fold)) for fold in data.fold_features]
    truth = data.score(_linear_probabilities(data, inputs, windows.only.values))
    random = np.random.default_rng([data.seed, 12])
    null = []
    for _ in range(data.settings.n_permutations):
        labels = permuted_labels(data, random)
        null.append(_mean_balanced_accuracy(data, _linear_probabilities(data, inputs, labels), labels))
    interval, mean = percentile_interval(null), float(np.mean(null))
    p_value = (1 + sum(v >= truth.value for v in null)) / (1 + len(null))
    doubt = 1.96 * float(np.std(null, ddof=1)) / np.sqrt(len(null))  # of the mean over draws
    is_learnt = mean - doubt > truth.chance + data.settings.margin
    is_better = p_value < 0.05
    drawn = f"{with_interval(mean, interval)} over {count(len(null), 'draw')} (guessing: {score(truth.chance)})"
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
        score_name=f"{truth.name} with permuted labels",
        score=mean,
        ci95=interval,
        chance=truth.chance,
        n_subjects=truth.n_subjects,
        n_windows=truth.n_windows,
        details={
            "p_value": p_value,
            f"{truth.name.replace(' ', '_').lower()}_true_labels": truth.value,
            "n_draws": len(null),
        },
    )


def _linear_probabilities(data: AuditData, inputs: Sequence[FoldValues], labels: IntArray) -> FloatArray:
    """Return what a linear discriminant (of numbers: a ridge regression) fitted per fold on any labels predicts."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import Ridge

    if data.is_of_numbers:
        return data.fold_by_fold(
            inputs, labels, lambda values, numbers, _: Ridge(0.1 * len(values)).fit(values, numbers)
        )

    def fit(values: FloatArray, labels: IntArray, _: IntArray) -> Any:
        n = len(np.unique(labels))
        line = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1, priors=np.full(n, 1 / n))
        return line.fit(values, labels)

    return data.fold_by_fold(inputs, labels, fit)


def _mean_balanced_accuracy(data: AuditData, probabilities: FloatArray, labels: IntArray) -> float:
    """Return the mean over subjects of the balanced accuracy (numbers: CCC); pooled where subjects have one label."""
    if data.is_of_numbers:
        return data.score_numbers(probabilities[:, 0], labels.astype(np.float64)).value
    is_hit = probabilities.argmax(axis=1) == labels
    per_subject = []
    for subject in data.windows.subjects:
        rows = data.windows.rows_of([subject])
        present = np.unique(labels[rows])
        if len(present) > 1:
            per_subject.append(np.mean([is_hit[rows][labels[rows] == k].mean() for k in present]))
    if len(per_subject) < max(2, len(data.windows.subjects) / 2):
        return float(np.mean([is_hit[labels == k].mean() for k in np.unique(labels)]))
    return float(np.mean(per_subject))


def probe_random_split(data: AuditData, model: ProbeScore | None) -> Finding:
    """Return by how much a random split of windows would raise the score of trees: a diagnostic, never a result."""
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
    from sklearn.model_selection import KFold

    values = np.where(np.isfinite(data.features), data.features, -1e3)
    seed, labels = data.seed % 2**31, data.windows.only.values
    random = KFold(len(data.plan.folds), shuffle=True, random_state=seed).split(labels[:, None])

    def fit(values: FloatArray, labels: IntArray, _: IntArray) -> Any:
        if data.is_of_numbers:
            return ExtraTreesRegressor(data.settings.n_trees, random_state=seed, n_jobs=1).fit(values, labels)
        trees = ExtraTreesClassifier(data.settings.n_trees, class_weight="balanced", random_state=seed, n_jobs=1)
        return trees.fit(values, labels)

    grouped, inflated = (
        data.score(data.fold_by_fold([FoldValues(training, test, values) for training, test in folds], labels, fit))
        for folds in ([(fold.training, fold.test) for fold in data.fold_features], random)
    )
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
        score_name=f"inflation of {grouped.name}",
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
