"""Whether session time can be read from features, outputs or latents beyond what the label gives away.

Beyond the label means: within windows of one recording and one of the study's own labels. Reading the time is a leak
where time tells the label.

A cell is the windows of one recording with one of the study's own labels: within a cell the label is constant, and
whatever still tells the time is not the label. A ridge regression is fitted on the cells of the training subjects
and read out on the test subjects, whose correlations are averaged over subjects. Neighbouring windows resemble each
other, which makes single correlations large but not their mean over subjects, each of whom drifts their own way; so
the interval resamples subjects, and a null shifts the reading in time, by a circle within each cell, which keeps
its smoothness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.audit.confounds import reaches
from biopercept.audit.data import (
    FEATURES,
    LATENTS,
    LEAST_IN_CELL,
    OUTPUTS,
    RIDGE,
    AuditData,
    FoldValues,
    LabelScore,
    Readable,
    accuracy,
    cells_of,
    filled_and_scaled,
    has_all_values,
)
from biopercept.data.normalisation import FloatArray
from biopercept.data.windows import IntArray, WindowTable
from biopercept.evaluation.metrics import bootstrap_interval
from biopercept.report.text import count, score, with_interval
from biopercept.results.audit import LEAK, OK, WARNING, Finding, Skipped, Verdict

_MOST_NAMED = 3
_LEAST_WINDOWS = 8


def probe_time(
    data: AuditData, what: Readable, folds: Sequence[FoldValues], clock: LabelScore, baseline: LabelScore
) -> Finding | Skipped:
    """Return whether session time can be read beyond the label, and whether that tells the label.

    Parameters
    ----------
    clock : LabelScore
        How well time alone tells the label.
    baseline : LabelScore
        What a model of the features reaches.
    """
    name = f"time-in-{what.name}"
    read = read_time(data, folds)
    overall = read.overall
    if overall is None:
        return Skipped(probe=name, reason="too few windows share a recording and a label")
    is_readable = overall.is_readable(data.settings.association)
    is_trace = overall.is_readable(data.settings.trace)
    path = _path_score(data, folds, read.each) if is_readable else None
    if is_readable or not is_trace:
        verdict, rest = _time_verdict(data, what, clock, baseline, path)
    else:
        verdict, rest = _trace_verdict(data, clock)
    can = "can" if is_readable else ("can faintly" if is_trace else "cannot reliably")
    most = _top_features(data, overall) if what is FEATURES and is_readable else ()
    carriers = f" (most from {', '.join(most)})" if most else ""
    sentence = (
        f"Within one label, session time {can} be read from {what.words}{carriers}: {correlation(overall)}, read out "
        "on "
        f"people held out{_in_stages(data, read, is_trace)}; {rest}"
    )
    details: dict[str, object] = {
        "p_value": overall.p_value,
        "clock_balanced_accuracy": clock.value,
        "balanced_accuracy_by_time_direction": None if path is None else path.value,
        "carriers": list(most),
        "has_cells_of_several_stages": read.is_cut,
        "within_unbroken_stages": None if read.in_stages is None else _numbers(read.in_stages),
    }
    return _finding(name, what.subject_matter, verdict, sentence, overall, details)


def _in_stages(data: AuditData, read: TimeReading, is_trace: bool) -> str:
    """Return what is said of unbroken stages; empty where every cell is one, or time is read nowhere."""
    in_stages, overall, trace = read.in_stages, read.overall, data.settings.trace
    if in_stages is None or overall is None:
        return ""
    if in_stages.is_readable(trace):
        return f", and within unbroken stages {'too ' if is_trace else ''}({correlation(in_stages)})"
    if not is_trace:
        return ""
    if in_stages.ci95[1] < overall.ci95[0]:
        return (
            f", but hardly within unbroken stages ({correlation(in_stages)}): most of what is read is how later "
            "stages of a "
            "label differ from its earlier ones, as carry-over, habituation and slow drift can all cause"
        )
    return f"; within unbroken stages it is not shown ({correlation(in_stages)})"


def _numbers(association: Association) -> dict[str, object]:
    return {
        "correlation": association.value,
        "ci95": list(association.ci95),
        "p_value": association.p_value,
        "n_subjects": association.n_subjects,
        "n_windows": association.n_windows,
    }


def _time_verdict(
    data: AuditData, what: Readable, clock: LabelScore, baseline: LabelScore, path: LabelScore | None
) -> tuple[Verdict, str]:
    """Return the verdict on time that is readable (``path``: how well its direction tells the label) or not (None)."""
    margin = data.settings.margin
    if path is None:
        return OK, "no leak of time is shown."
    if not clock.is_above_chance(margin):
        return WARNING, (
            f"time does not tell the label here ({with_interval(clock.value, clock.ci95)}), so the score is not "
            "raised by it, but answers will drift over a session."
        )
    clock_words = f"time alone tells the label with {with_interval(clock.value, clock.ci95)}"
    if what is LATENTS:
        return (
            WARNING,
            f"{clock_words}, and the network has it at hand; time-in-outputs says whether its answers show it.",
        )
    if what is OUTPUTS:
        return LEAK, (
            f"{clock_words}, so a part of the score can come from reading the time and not the body, unless the body "
            "itself "
            "changes that way within a condition, which only another order of conditions would show."
        )
    through = f"the direction that was learnt from time alone tells the label with {accuracy(path)}"
    beside = f"a model of the features reaches {with_interval(baseline.value, baseline.ci95)}"
    if path.is_above_chance(margin) and reaches(path, baseline, data):
        return LEAK, f"{clock_words}, and {through} where {beside}: its score could come from reading the time alone."
    if path.is_above_chance(margin):
        return (
            WARNING,
            f"{clock_words}, and {through} where {beside}: a part of its score could come from reading the time.",
        )
    return WARNING, f"{clock_words}, but {through}: little of the score ({beside}) can come that way."


def _trace_verdict(data: AuditData, clock: LabelScore) -> tuple[Verdict, str]:
    """Return the verdict on time that can be read, but faintly."""
    clock_words = f"time alone tells the label with {with_interval(clock.value, clock.ci95)}"
    if clock.is_above_chance(data.settings.margin):
        return WARNING, f"{clock_words}; a trace of time is there, too weak to carry the score."
    return OK, "time does not tell the label here, so this trace of it does no harm."


def _path_score(data: AuditData, folds: Sequence[FoldValues], readings: Sequence[FloatArray]) -> LabelScore:
    """Return how well each fold's reading of the time, one number per window, tells the label of test subjects."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    from biopercept.training.objective import cell_weights

    windows = data.windows
    answers = np.full((len(windows), windows.only.n_classes), np.nan)
    for fold, reading in zip(folds, readings, strict=True):
        weights = cell_weights(windows.subject[fold.training], windows.only.values[fold.training]).numpy()
        trees = HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=0)
        trees.fit(
            reading[fold.training, None], windows.only.values[fold.training], sample_weight=weights / weights.mean()
        )
        answers[fold.test] = 0.0
        answers[fold.test[:, None], trees.classes_] = trees.predict_proba(reading[fold.test, None])
    return data.score(answers)


def _top_features(data: AuditData, whole: Association) -> tuple[str, ...]:
    """Return the features that go with time within one label in most subjects, the strongest first."""
    names, values, time = data.windows.feature_names, data.features, data.windows.onset[:, None]
    strength = {}
    for column, name in enumerate(names):
        association = associate(data, values[:, column : column + 1], time)
        if association is not None and association.n_subjects >= whole.n_subjects / 2:
            strength[name] = abs(association.value)
    return tuple(sorted(strength, key=lambda name: -strength[name])[:_MOST_NAMED])


def probe_clock_agreement(
    data: AuditData, probabilities: FloatArray, clock_probabilities: FloatArray, clock: LabelScore
) -> Finding | Skipped:
    """Return whether the model's probabilities follow what a clock would answer, within one label and subject."""
    name = "outputs-follow-clock"
    association = associate(data, probabilities, clock_probabilities)
    if association is None:
        return Skipped(probe=name, reason="too few windows share a recording and a label")
    is_following = association.is_readable(data.settings.association)
    is_trace = association.is_readable(data.settings.trace)
    is_told = clock.is_above_chance(data.settings.margin)
    if is_following:
        verdict, word = (LEAK if is_told else WARNING), "go"
        end = "the model answers as a clock would where the label gives no reason to."
    elif is_trace and is_told:
        verdict, word, end = WARNING, "go faintly", "a trace of a clock's answers, too weak to carry the score."
    else:
        verdict, word, end = OK, "do not reliably go", "no sign that the model answers by the clock."
    sentence = (
        f"Within one label, the model's probabilities {word} with those of a "
        f"clock that sees no sensor: {correlation(association)}; {end}"
    )
    details = {"p_value": association.p_value, "clock_balanced_accuracy": clock.value}
    return _finding(name, "model", verdict, sentence, association, details)


def _finding(
    name: str,
    subject_matter: str,
    verdict: Verdict,
    sentence: str,
    association: Association,
    details: Mapping[str, object],
) -> Finding:
    """Return the finding whose score is a correlation within cells."""
    return Finding(
        probe=name,
        subject_matter=subject_matter,
        verdict=verdict,
        sentence=sentence,
        score_name="correlation",
        score=association.value,
        ci95=association.ci95,
        chance=0.0,
        n_subjects=association.n_subjects,
        n_windows=association.n_windows,
        details=details,
    )


@dataclass(frozen=True, eq=False)
class Association:
    """A correlation within cells, averaged over subjects.

    Attributes
    ----------
    value : float
        Mean over subjects.
    ci95 : tuple of two floats
        Bootstrap over subjects.
    p_value : float
        Share of circular shifts whose mean is at least as high.
    """

    value: float
    ci95: tuple[float, float]
    p_value: float
    n_subjects: int
    n_windows: int
    per_subject: Mapping[str, float]

    def is_readable(self, least: float) -> bool:
        """Return whether the whole interval passes ``least`` and few shifts reach as far (p < 0.05)."""
        return self.ci95[0] > least and self.p_value < 0.05


def stages_of(windows: WindowTable) -> tuple[IntArray, ...]:
    """Return the rows of each unbroken stage: cells, cut between labelled stretches that lie a window or more apart."""
    stage, stages = windows.stages(), []
    for rows in cells_of(windows):
        is_other = np.diff(stage[rows]) != 0
        is_far = np.diff(windows.onset[rows]) >= 2 * windows.length_seconds  # from end to onset: a length
        stages += np.split(rows, np.flatnonzero(is_other & is_far) + 1)
    return tuple(rows for rows in stages if len(rows) >= LEAST_IN_CELL)


def within_cells(values: FloatArray, cells: Sequence[IntArray]) -> FloatArray:
    """Return values (n_windows, n_columns) less the mean of their cell; 0 outside all cells."""
    left = np.zeros_like(values)
    for rows in cells:
        left[rows] = values[rows] - values[rows].mean(axis=0)
    return left


@dataclass(frozen=True, eq=False)
class TimeReading:
    """How well session time is read from numbers about windows.

    Attributes
    ----------
    found : Association or None
        Of the test subjects' readings with time within cells; None where no subject has enough windows in cells.
    is_cut : bool
        Whether some cell holds several stages.
    in_stages : Association or None
        The same readings within unbroken stages; None where no cell is cut, or too few windows are left in stages.
    each : tuple of float64 arrays, shape (n_windows,)
        The direction each fold learnt from time alone, applied to all its windows; NaN outside the fold.
    """

    overall: Association | None
    is_cut: bool
    in_stages: Association | None
    each: tuple[FloatArray, ...]


def read_time(data: AuditData, folds: Sequence[FoldValues]) -> TimeReading:
    """Return how well session time is read within cells, and within the unbroken stages that they consist of.

    Parameters
    ----------
    folds : sequence of FoldValues
        Numbers about windows; each fold's training and test subjects differ.
    """
    windows = data.windows
    cells, stages = cells_of(windows), stages_of(windows)
    joined = np.full(len(windows), np.nan)
    readings = []
    for fold in folds:
        reading = _reading(windows, fold, cells)
        readings.append(reading)
        joined[fold.test] = reading[fold.test]
    overall = associate(data, joined[:, None], windows.onset[:, None])
    is_cut = [len(stage) for stage in stages] != [len(cell) for cell in cells]
    in_stages = associate(data, joined[:, None], windows.onset[:, None], stages) if is_cut else None
    return TimeReading(overall, is_cut, in_stages, tuple(readings))


def _reading(windows: WindowTable, fold: FoldValues, cells: Sequence[IntArray]) -> FloatArray:
    """Return one number per window: a direction fitted on training cells, in which time is all that varies."""
    from sklearn.linear_model import Ridge

    rows = np.concatenate([fold.training, fold.test])
    values = filled_and_scaled(fold)
    training_cells = [cell for cell in cells if np.isin(cell[0], fold.training)]
    reading = np.full(len(windows), np.nan)
    if not training_cells:
        return reading
    at = np.concatenate(training_cells)
    inputs = within_cells(values, training_cells)[at]
    time = within_cells(windows.onset[:, None], training_cells)[at, 0]
    _, owner, n_own = np.unique(windows.subject[at], return_inverse=True, return_counts=True)
    weights = len(at) / (len(n_own) * n_own[owner])
    line = Ridge(alpha=RIDGE * len(at)).fit(inputs, time / max(time.std(), 1e-9), sample_weight=weights)
    reading[rows] = line.predict(values[rows])
    return reading


def associate(
    data: AuditData, one: FloatArray, other: FloatArray, within: Sequence[IntArray] | None = None
) -> Association | None:
    """Return the correlation within cells of two sets of columns (n_windows, d), pairwise, averaged over subjects.

    Windows in which either is NaN are left out. ``within`` gives other cells than :func:`own_cells`. None where no
    subject has enough windows.
    """
    windows = data.windows
    is_given = has_all_values(one) & has_all_values(other)
    cells = cells_of(windows) if within is None else within
    cells = [kept for cell in cells for kept in [cell[is_given[cell]]] if len(kept) >= LEAST_IN_CELL]
    a = within_cells(np.where(is_given[:, None], one, 0.0), cells)
    b = within_cells(np.where(is_given[:, None], other, 0.0), cells)
    by_subject: dict[str, list[IntArray]] = {}
    for cell in cells:
        by_subject.setdefault(str(windows.subject[cell[0]]), []).append(cell)
    random = np.random.default_rng([data.seed, 11])
    per_subject, null, n_windows = {}, np.zeros(data.settings.n_shifts), 0
    for subject, own_cells in sorted(by_subject.items()):
        rows = np.concatenate(own_cells)
        scale = np.sqrt((a[rows] ** 2).sum() * (b[rows] ** 2).sum())
        if len(rows) < _LEAST_WINDOWS or (b[rows] ** 2).sum() <= 1e-12:
            continue
        scale = scale if scale > 1e-9 else np.inf  # a constant reading tells nothing
        per_subject[subject] = float((a[rows] * b[rows]).sum() / scale)
        null += sum(_shifted_products(a[cell], b[cell], len(null), random) for cell in own_cells) / scale
        n_windows += len(rows)
    if len(per_subject) < 2:
        return None
    values = np.array(list(per_subject.values()))
    interval = bootstrap_interval(values, seed=data.seed, n_bootstrap=data.n_bootstrap)
    reached = int(np.sum(null / len(per_subject) >= values.mean()))
    p_value = (1 + reached) / (1 + len(null))
    return Association(float(values.mean()), interval, p_value, len(per_subject), n_windows, per_subject)


def _shifted_products(a: FloatArray, b: FloatArray, n: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return ``n`` sums of products of ``a``, shifted by a circle, with ``b``."""
    length = len(a)
    shifts = random.integers(1, length, size=n)
    every = np.array([(np.roll(a, shift, axis=0) * b).sum() for shift in range(length)])
    drawn: NDArray[np.float64] = every[shifts]
    return drawn


def correlation(association: Association) -> str:
    """Return "r = 0.41 [0.35, 0.47] in 34 subjects, p = 0.002"."""
    return (
        f"r = {with_interval(association.value, association.ci95, 2)} in {count(association.n_subjects, 'subject')}, "
        f"p = {score(association.p_value)} against circular shifts"
    )
