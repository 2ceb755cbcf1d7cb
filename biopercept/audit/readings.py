"""Whether session time, or who the subject is, can be read from features, outputs or latents beyond the label.

Reading the time is a leak where time predicts the label, recognising people where people do. Within a cell (the windows
of one recording with one of the study's own labels) the label is constant, and whatever still tells the time or the
person is not the label.

Time: a ridge regression is fitted on the cells of the training subjects and read out on the test subjects, whose
correlations are averaged. Neighbouring windows resemble each other, which makes single correlations large but not their
mean over subjects, each of whom drifts their own way; so the interval resamples subjects, and a null shifts the reading
in time, by a circle within each cell, which keeps its smoothness.

Identity: each cell is cut in two halves of time. A linear discriminant learns from one half who the windows are of, the
class means taken off, and names the owners of the other half's windows; then the other way round. Windows of the second
half that overlap the first are excluded.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.audit.data import AuditData, FoldValues, ProbeScore, accuracy, filled_and_scaled, has_all_values
from biopercept.data.windows import FloatArray, IntArray, WindowTable
from biopercept.errors import count
from biopercept.report.text import score, with_interval
from biopercept.results.audit import LEAK, OK, WARNING, Finding, Skipped, Verdict

_LEAST_IN_CELL = 4
_LEAST_WINDOWS = 8
_RIDGE = 0.1
_MOST_NAMED = 3
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


def cells_of(windows: WindowTable) -> tuple[IntArray, ...]:
    """Return the rows of each cell (one recording, one of the study's own labels) in the order of time."""
    keys: dict[tuple[int, str], list[int]] = {}
    for row in np.argsort(windows.onset, kind="stable"):
        keys.setdefault((int(windows.recording[row]), str(windows.label[row])), []).append(int(row))
    return tuple(np.array(rows, dtype=np.int64) for rows in keys.values() if len(rows) >= _LEAST_IN_CELL)


def probe_time(
    data: AuditData, what: Readable, folds: Sequence[FoldValues], clock: ProbeScore, baseline: ProbeScore
) -> Finding | Skipped:
    """Return whether session time can be read beyond the label, and whether that predicts the label.

    ``clock`` is how well time alone predicts the label, ``baseline`` what a model of the features reaches.
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
    top_words = f" (most from {', '.join(most)})" if most else ""
    sentence = (
        f"Within one label, session time {can} be read from {what.words}{top_words}: {correlation(overall)}, read out "
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
    return overall.finding(verdict, sentence, details, probe=name, about=what.subject_matter, name="correlation")


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


def _numbers(association: ProbeScore) -> dict[str, object]:
    return {
        "correlation": association.value,
        "ci95": list(association.ci95),
        "p_value": association.p_value,
        "n_subjects": association.n_subjects,
        "n_windows": association.n_windows,
    }


def _time_verdict(
    data: AuditData, what: Readable, clock: ProbeScore, baseline: ProbeScore, path: ProbeScore | None
) -> tuple[Verdict, str]:
    """Return the verdict on time that is readable (``path``: how well its direction predicts the label) or not."""
    margin = data.settings.margin
    if path is None:
        return OK, "no leak of time is shown."
    if not clock.is_above_chance(margin):
        return WARNING, (
            f"time does not tell the label here ({with_interval(clock.value, clock.ci95)}), so the score is not "
            "raised by it, but predictions will drift over a session."
        )
    clock_words = f"time alone tells the label with {with_interval(clock.value, clock.ci95)}"
    if what is LATENTS:
        return (
            WARNING,
            f"{clock_words}, and the network has it at hand; time-in-outputs says whether its predictions show it.",
        )
    if what is OUTPUTS:
        return LEAK, (
            f"{clock_words}, so a part of the score can come from reading the time and not the body, unless the body "
            "itself "
            "changes that way within a condition, which only another order of conditions would show."
        )
    through = f"the direction that was learnt from time alone tells the label with {accuracy(path)}"
    beside = f"a model of the features reaches {with_interval(baseline.value, baseline.ci95)}"
    if path.is_above_chance(margin) and data.reaches(path, baseline):
        return LEAK, f"{clock_words}, and {through} where {beside}: its score could come from reading the time alone."
    if path.is_above_chance(margin):
        return (
            WARNING,
            f"{clock_words}, and {through} where {beside}: a part of its score could come from reading the time.",
        )
    return WARNING, f"{clock_words}, but {through}: little of the score ({beside}) can come that way."


def _trace_verdict(data: AuditData, clock: ProbeScore) -> tuple[Verdict, str]:
    """Return the verdict on time that can be read, but faintly."""
    clock_words = f"time alone tells the label with {with_interval(clock.value, clock.ci95)}"
    if clock.is_above_chance(data.settings.margin):
        return WARNING, f"{clock_words}; a trace of time is there, too weak to carry the score."
    return OK, "time does not tell the label here, so this trace of it does no harm."


def _path_score(data: AuditData, folds: Sequence[FoldValues], readings: Sequence[FloatArray]) -> ProbeScore:
    """Return how well each fold's reading of the time, one number per window, predicts the label of test subjects."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    from biopercept.training.objective import cell_weights

    windows = data.windows

    def fit(values: FloatArray, labels: IntArray, rows: IntArray) -> Any:
        weights = cell_weights(windows.subject[rows], labels).numpy()
        trees = HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=0)
        return trees.fit(values, labels, sample_weight=weights / weights.mean())

    by_fold = [replace(fold, values=reading[:, None]) for fold, reading in zip(folds, readings, strict=True)]
    return data.score(data.fold_by_fold(by_fold, windows.only.values, fit))


def _top_features(data: AuditData, whole: ProbeScore) -> tuple[str, ...]:
    """Return the features that go with time within one label in most subjects, the strongest first."""
    names, values, time = data.windows.feature_names, data.features, data.windows.onset[:, None]
    strength = {}
    for column, name in enumerate(names):
        association = associate(data, values[:, column : column + 1], time)
        if association is not None and association.n_subjects >= whole.n_subjects / 2:
            strength[name] = abs(association.value)
    return tuple(sorted(strength, key=lambda name: -strength[name])[:_MOST_NAMED])


def probe_clock_agreement(
    data: AuditData, probabilities: FloatArray, clock_probabilities: FloatArray, clock: ProbeScore
) -> Finding | Skipped:
    """Return whether the model's probabilities follow those of a clock, within one label and subject."""
    name = "outputs-follow-clock"
    association = associate(data, probabilities, clock_probabilities)
    if association is None:
        return Skipped(probe=name, reason="too few windows share a recording and a label")
    is_following = association.is_readable(data.settings.association)
    is_trace = association.is_readable(data.settings.trace)
    predicts_label = clock.is_above_chance(data.settings.margin)
    if is_following:
        verdict, word = (LEAK if predicts_label else WARNING), "go"
        end = "the model predicts as a clock would where the label gives no reason to."
    elif is_trace and predicts_label:
        verdict, word, end = WARNING, "go faintly", "a trace of predictions by the clock, too weak to carry the score."
    else:
        verdict, word, end = OK, "do not reliably go", "no sign that the model predicts by the clock."
    sentence = (
        f"Within one label, the model's probabilities {word} with those of a "
        f"clock that sees no sensor: {correlation(association)}; {end}"
    )
    details = {"p_value": association.p_value, "clock_balanced_accuracy": clock.value}
    return association.finding(verdict, sentence, details, probe=name, about="model", name="correlation")


def stages_of(windows: WindowTable) -> tuple[IntArray, ...]:
    """Return the rows of each unbroken stage: cells, cut between labelled segments that lie a window or more apart."""
    stage, stages = windows.stages(), []
    for rows in cells_of(windows):
        is_other = np.diff(stage[rows]) != 0
        is_far = np.diff(windows.onset[rows]) >= 2 * windows.length_seconds  # from end to onset: a length
        stages += np.split(rows, np.flatnonzero(is_other & is_far) + 1)
    return tuple(rows for rows in stages if len(rows) >= _LEAST_IN_CELL)


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
    overall : ProbeScore or None
        Of the test subjects' readings with time within cells; None where no subject has enough windows in cells.
    is_cut : bool
        Whether some cell holds several stages.
    in_stages : ProbeScore or None
        The same readings within unbroken stages; None where no cell is cut, or too few windows are left in stages.
    each : tuple of float64 arrays, shape (n_windows,)
        The direction each fold learnt from time alone, applied to all its windows; NaN outside the fold.
    """

    overall: ProbeScore | None
    is_cut: bool
    in_stages: ProbeScore | None
    each: tuple[FloatArray, ...]


def read_time(data: AuditData, folds: Sequence[FoldValues]) -> TimeReading:
    """Return how well session time is read within cells, and within the unbroken stages that they consist of."""
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
    line = Ridge(alpha=_RIDGE * len(at)).fit(inputs, time / max(time.std(), 1e-9), sample_weight=weights)
    reading[rows] = line.predict(values[rows])
    return reading


def associate(
    data: AuditData, one: FloatArray, other: FloatArray, within: Sequence[IntArray] | None = None
) -> ProbeScore | None:
    """Return the correlation within cells of two sets of columns (n_windows, d), pairwise, averaged over subjects.

    Windows in which either is NaN are excluded. ``within`` gives other cells than :func:`cells_of`. None where no
    subject has enough windows.
    """
    windows = data.windows
    is_given = has_all_values(one) & has_all_values(other)
    cells = cells_of(windows) if within is None else within
    cells = [kept for cell in cells for kept in [cell[is_given[cell]]] if len(kept) >= _LEAST_IN_CELL]
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
    reached = int(np.sum(null / len(per_subject) >= np.array(list(per_subject.values())).mean()))
    p_value = (1 + reached) / (1 + len(null))
    return data.over_subjects(per_subject, chance=0.0, n_windows=n_windows, p_value=p_value)


def _shifted_products(a: FloatArray, b: FloatArray, n: int, random: np.random.Generator) -> FloatArray:
    """Return ``n`` sums of products of ``a``, shifted by a circle, with ``b``."""
    length = len(a)
    shifts = random.integers(1, length, size=n)
    every = np.array([(np.roll(a, shift, axis=0) * b).sum() for shift in range(length)])
    drawn: FloatArray = every[shifts]
    return drawn


def correlation(association: ProbeScore) -> str:
    """Return "r = 0.41 [0.35, 0.47] in 34 subjects, p = 0.002"."""
    return (
        f"r = {with_interval(association.value, association.ci95, 2)} in {count(association.n_subjects, 'subject')}, "
        f"p = {score(association.p_value)} against circular shifts"
    )


def probe_identity(data: AuditData, what: Readable, groups: Sequence[FoldValues], tie: ProbeScore) -> Finding | Skipped:
    """Return whether subjects can be recognised beyond the label, and whether who it is predicts the label.

    Test subjects of one group are told apart; ``tie`` is how well the subject alone predicts the label.
    """
    name = f"identity-in-{what.name}"
    recognised = recognise(data, groups)
    if recognised is None:
        return Skipped(probe=name, reason="no two subjects have windows far enough apart in time")
    is_tied = tie.above_chance(tie.value) >= 0.5
    is_known = recognised.is_above_chance(data.settings.margin)
    is_striking = recognised.above_chance(recognised.ci95[0]) >= data.settings.identity
    verdict = LEAK if is_known and is_tied else (WARNING if is_striking else OK)
    sentence = (
        f"From {what.words}, beyond the label, {with_interval(recognised.value, recognised.ci95, 2)} of the windows of "
        f"{count(recognised.n_subjects, 'subject')} (guessing: {score(recognised.chance, 2)}) are given to their owner "
        "across halves of time; "
    )
    if is_known and is_tied:
        sentence += (
            f"who it is tells the label ({score(tie.value)}, guessing: {score(tie.chance)}), so people and label "
            "cannot be told apart, and holding subjects out does not show it."
        )
    elif is_striking:
        sentence += (
            "people are recognised almost as by name: any split that puts windows of one person on both sides "
            "would be inflated, so hold whole subjects out."
        )
    elif is_known:
        sentence += (
            "people differ, as they do; label and person are not tied "
            f"({score(tie.value)}), and whole subjects are held out."
        )
    else:
        sentence += "people are not recognised better than by guessing."
    details = {"balanced_accuracy_of_label_from_subject": tie.value}
    score_name = "share of windows given to their owner"
    return recognised.finding(verdict, sentence, details, probe=name, about=what.subject_matter, name=score_name)


def subject_tells_label(data: AuditData) -> ProbeScore:
    """Return how well the subject alone predicts the label: by the class that the person has more than others."""
    windows, k = data.windows, data.windows.only.n_classes
    overall = np.bincount(windows.only.values, minlength=k) / len(windows)
    evidence = np.zeros((len(windows), k))
    for subject in windows.subjects:
        rows = windows.rows_of([subject])
        fractions = np.bincount(windows.only.values[rows], minlength=k) / len(rows)
        evidence[rows] = np.where(overall > 0, fractions / np.where(overall > 0, overall, 1.0), 0.0)
    return data.pooled(evidence)


def logits_of(probabilities: FloatArray) -> FloatArray:
    """Return log odds of each class but the first against the first, (n_windows, n_classes - 1); NaN stays."""
    logs = np.log(np.clip(probabilities, _CERTAIN, 1.0))
    odds: FloatArray = logs[:, 1:] - logs[:, :1]
    return odds


def halves_of(windows: WindowTable) -> tuple[IntArray, IntArray]:
    """Return the rows of the earlier and the later half of every cell; the two do not overlap in time."""
    first, second = [], []
    for cell in cells_of(windows):
        early, late = cell[: len(cell) // 2], cell[len(cell) // 2 :]
        ends = windows.onset[early].max() + windows.length_seconds
        first.append(early)
        second.append(late[windows.onset[late] >= ends - 1e-6])
    joined = [np.concatenate(part) if part else np.empty(0, dtype=np.int64) for part in (first, second)]
    return joined[0], joined[1]


def recognise(data: AuditData, groups: Sequence[FoldValues]) -> ProbeScore | None:
    """Return how well subjects are recognised among the test subjects of each group.

    Values need only be comparable within a group. None where in no group two subjects have windows in both halves.
    """
    windows = data.windows
    early, late = halves_of(windows)
    per_subject: dict[str, float] = {}
    n_choices, n_windows = [], 0
    for group in groups:
        is_given = np.asarray(np.isfinite(group.values).any(axis=1))
        test = group.test[is_given[group.test]]
        a, b = early[np.isin(early, test)], late[np.isin(late, test)]
        both = sorted({str(s) for s in windows.subject[a]} & {str(s) for s in windows.subject[b]})
        if len(both) < 2:
            continue
        a, b = (rows[np.isin(windows.subject[rows], both)] for rows in (a, b))
        right = _named(windows, group, a, b)
        for subject, fraction in _named(windows, group, b, a).items():
            per_subject[subject] = (fraction + right[subject]) / 2
        n_choices += [len(both)] * len(both)
        n_windows += len(a) + len(b)
    if not per_subject:
        return None
    return data.over_subjects(per_subject, chance=float(np.mean(1.0 / np.array(n_choices))), n_windows=n_windows)


def _named(windows: WindowTable, group: FoldValues, known: IntArray, tested: IntArray) -> dict[str, float]:
    """Return per subject the fraction of ``tested`` windows whose owner is named, learnt from the ``known`` windows."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    values = filled_and_scaled(FoldValues(known, tested, _filled_by_owner(group.values, known, windows.subject)))
    values = values[:, values[known].std(axis=0) > 0]
    if not values.shape[1]:
        return {str(s): 1.0 / len(np.unique(windows.subject[tested])) for s in np.unique(windows.subject[tested])}
    values = _without_label(values, windows.only.values, known, windows.subject)
    owners = windows.subject[known]
    values = values / _spread_within(values[known], owners)  # shrinkage must not drown a column in which all are still
    n = len(np.unique(owners))
    line = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1, priors=np.full(n, 1.0 / n))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scores far apart overflow in the softmax, not in the choice
        named = line.fit(values[known], owners).predict(values[tested])
    is_right = named == windows.subject[tested]
    return {str(s): float(is_right[windows.subject[tested] == s].mean()) for s in np.unique(windows.subject[tested])}


def _filled_by_owner(values: FloatArray, known: IntArray, subject: NDArray[np.str_]) -> FloatArray:
    """Return values whose gaps in the known windows hold the owner's median, so that gaps widen nobody's spread."""
    filled = values.copy()
    for name in np.unique(subject[known]):
        rows = known[subject[known] == name]
        of_owner = values[rows]
        has = np.isfinite(of_owner).any(axis=0)
        middle = np.full(of_owner.shape[1], np.nan)
        middle[has] = np.nanmedian(of_owner[:, has], axis=0)
        filled[rows] = np.where(np.isfinite(of_owner), of_owner, middle)
    return filled


def _spread_within(values: FloatArray, owners: NDArray[np.str_]) -> FloatArray:
    """Return the standard deviation of each column within owners, (n_columns,)."""
    left = values.copy()
    for name in np.unique(owners):
        left[owners == name] -= left[owners == name].mean(axis=0)
    spread: FloatArray = np.maximum(left.std(axis=0), 1e-3)
    return spread


def _without_label(values: FloatArray, target: IntArray, known: IntArray, subject: NDArray[np.str_]) -> FloatArray:
    """Return values less what the label explains, as far as labels change within subjects.

    The step between two classes is measured within the subjects that have both: a subject's own level must not be
    taken for an effect of the label it happens to have.
    """
    from sklearn.linear_model import LinearRegression

    classes = np.unique(target)
    shown = (target[:, None] == classes[None, 1:]).astype(np.float64)
    centred_values, centred_shown = values[known].copy(), shown[known].copy()
    for name in np.unique(subject[known]):
        is_named = subject[known] == name
        centred_values[is_named] -= centred_values[is_named].mean(axis=0)
        centred_shown[is_named] -= centred_shown[is_named].mean(axis=0)
    if not np.abs(centred_shown).max(initial=0.0) > 0:
        return values
    effect = LinearRegression(fit_intercept=False).fit(centred_shown, centred_values)
    left: FloatArray = values - effect.predict(shown)
    return left
