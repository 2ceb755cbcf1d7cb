"""Whether subjects can be recognised from features, outputs or latents beyond what the label gives away.

Beyond the label means: within windows of one recording and one of the study's own labels. Recognising people is a leak
where people tell the label; reading the time (``audit/time.py``) is one where time does.

Each cell (one recording, one label) is cut in two halves of time. A linear discriminant learns from one half who
the windows are of, the class means taken off, and names the owners of the other half's windows; then the other way
round. Windows that overlap the first half are left out of the second.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.audit.data import (
    AuditData,
    FoldValues,
    LabelScore,
    Readable,
    cells_of,
    filled_and_scaled,
    has_values,
)
from biopercept.data.normalisation import FloatArray
from biopercept.data.windows import IntArray, WindowTable
from biopercept.evaluation.metrics import bootstrap_interval
from biopercept.report.text import count, score, with_interval
from biopercept.results.audit import LEAK, OK, WARNING, Finding, Skipped

_CERTAIN = 1e-6


def probe_identity(data: AuditData, what: Readable, groups: Sequence[FoldValues], tie: LabelScore) -> Finding | Skipped:
    """Return whether subjects can be recognised beyond the label, and whether who it is tells the label.

    Parameters
    ----------
    groups : sequence of FoldValues
        Test subjects of one group are told from each other.
    tie : LabelScore
        How well the subject alone tells the label.
    """
    name = f"identity-in-{what.name}"
    recognised = recognise(data, groups)
    if recognised is None:
        return Skipped(probe=name, reason="no two subjects have windows far enough apart in time")
    corrected = (tie.value - tie.chance) / (1 - tie.chance)
    is_tied = corrected >= 0.5
    is_known = recognised.ci95[0] > recognised.chance + data.settings.margin
    is_striking = recognised.above_chance(recognised.ci95[0]) >= data.settings.identity
    verdict = LEAK if is_known and is_tied else (WARNING if is_striking else OK)
    sentence = (
        f"From {what.words}, beyond the label, {recognition(recognised)} are given to their owner across halves of "
        "time; "
        f"{_identity_end(recognised, tie, is_known=is_known, is_tied=is_tied, is_striking=is_striking)}"
    )
    return Finding(
        probe=name,
        subject_matter=what.subject_matter,
        verdict=verdict,
        sentence=sentence,
        score_name="share of windows given to their owner",
        score=recognised.value,
        ci95=recognised.ci95,
        chance=recognised.chance,
        n_subjects=recognised.n_subjects,
        n_windows=recognised.n_windows,
        details={"balanced_accuracy_of_label_from_subject": tie.value},
    )


def _identity_end(recognised: Recognition, tie: LabelScore, *, is_known: bool, is_tied: bool, is_striking: bool) -> str:
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


def subject_tells_label(data: AuditData) -> LabelScore:
    """Return how well the label is told by the subject alone: by the class that the person has more than others."""
    windows, k = data.windows, data.windows.only.n_classes
    overall = np.bincount(windows.only.values, minlength=k) / len(windows)
    answers = np.zeros((len(windows), k))
    for subject in windows.subjects:
        rows = windows.rows_of([subject])
        fractions = np.bincount(windows.only.values[rows], minlength=k) / len(rows)
        answers[rows] = np.where(overall > 0, fractions / np.where(overall > 0, overall, 1.0), 0.0)
    return data.pooled(answers)


def logits_of(probabilities: FloatArray) -> FloatArray:
    """Return log odds of each class but the first against the first, (n_windows, n_classes - 1); NaN stays."""
    logs = np.log(np.clip(probabilities, _CERTAIN, 1.0))
    odds: FloatArray = logs[:, 1:] - logs[:, :1]
    return odds


@dataclass(frozen=True, eq=False)
class Recognition:
    """How often the owner of a window is named, averaged over subjects.

    Attributes
    ----------
    value : float
        Share of windows whose owner is named, mean over subjects.
    ci95 : tuple of two floats
        Bootstrap over subjects.
    chance : float
        One over the number of subjects to choose from.
    """

    value: float
    ci95: tuple[float, float]
    chance: float
    n_subjects: int
    n_windows: int
    per_subject: Mapping[str, float]

    def above_chance(self, share: float) -> float:
        """Return a share corrected for guessing: 0 is guessing, 1 is always right."""
        return (share - self.chance) / (1.0 - self.chance)


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


def recognise(data: AuditData, groups: Sequence[FoldValues]) -> Recognition | None:
    """Return how well subjects are recognised among the test subjects of each group.

    Parameters
    ----------
    groups : sequence of FoldValues
        Test subjects of one group are told from each other; values need only be comparable within a group.

    Returns
    -------
    Recognition or None
        None where in no group two subjects have windows in both halves.
    """
    windows = data.windows
    early, late = halves_of(windows)
    per_subject: dict[str, float] = {}
    n_choices, n_windows = [], 0
    for group in groups:
        is_given = has_values(group.values)
        test = group.test[is_given[group.test]]
        a, b = early[np.isin(early, test)], late[np.isin(late, test)]
        both = sorted({str(s) for s in windows.subject[a]} & {str(s) for s in windows.subject[b]})
        if len(both) < 2:
            continue
        a, b = (rows[np.isin(windows.subject[rows], both)] for rows in (a, b))
        right = _named(windows, group, a, b)
        for subject, share in _named(windows, group, b, a).items():
            per_subject[subject] = (share + right[subject]) / 2
        n_choices += [len(both)] * len(both)
        n_windows += len(a) + len(b)
    if not per_subject:
        return None
    values = np.array(list(per_subject.values()))
    interval = bootstrap_interval(values, seed=data.seed, n_bootstrap=data.n_bootstrap)
    chance = float(np.mean(1.0 / np.array(n_choices)))
    return Recognition(float(values.mean()), interval, chance, len(per_subject), n_windows, per_subject)


def _named(windows: WindowTable, group: FoldValues, known: IntArray, tested: IntArray) -> dict[str, float]:
    """Return per subject the share of ``asked`` windows whose owner is named, learnt from the ``known`` windows."""
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


def recognition(recognised: Recognition) -> str:
    """Return "0.21 [0.17, 0.25] of the windows in 34 subjects (guessing: 0.03)"."""
    return (
        f"{with_interval(recognised.value, recognised.ci95, 2)} of the windows of "
        f"{count(recognised.n_subjects, 'subject')} "
        f"(guessing: {score(recognised.chance, 2)})"
    )
