"""Alarms about the make-up of a study: labels tied to people, files, order or sets, and scores that are too even."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from biopercept.auditing.material import LabelScore, Material
from biopercept.learning.normalisation import PER_RECORDING_MODES
from biopercept.reporting.text import count, listed, score
from biopercept.results.audit import LEAK, OK, WARNING, Finding, Skipped, Verdict

_LEAST_SUBJECTS = 5


def constant_label(material: Material) -> Finding:
    """Return whether subjects have one label each: then whatever tells people apart tells the label."""
    windows = material.windows
    constant = [s for s in windows.subjects if len(np.unique(windows.only.values[windows.rows_of([s])])) == 1]
    n, share = len(windows.subjects), len(constant) / len(windows.subjects)
    if not constant:
        sentence = (
            f"Each of {count(n, 'subject')} has windows of more than one class: who it is does not fix the label."
        )
    elif len(constant) == n:
        sentence = (
            f"Each of {count(n, 'subject')} has one class only: every lasting difference between people can stand "
            "for the label, no score per subject exists, and holding subjects out does not show it."
        )
    else:
        sentence = (
            f"{len(constant)} of {count(n, 'subject')} have one class only ({listed(constant)}): they have no score "
            "of their own."
        )
    verdict = WARNING if share >= 0.25 else OK
    return _share("constant-label-per-subject", verdict, sentence, "share of subjects", share, material)


def label_is_file(material: Material) -> Finding:
    """Return whether each recording has one label: then whatever tells files apart tells the label."""
    windows = material.windows
    held = {int(i): np.unique(windows.only.values[windows.recording == i]) for i in np.unique(windows.recording)}
    share = float(np.mean([len(labels) == 1 for labels in held.values()]))
    mode, scope = material.plan.normalisation.mode, material.plan.normalisation.scope
    is_tied = share == 1.0
    if is_tied and mode in PER_RECORDING_MODES and scope == "session":
        verdict = WARNING
        end = (
            f"normalisation {mode} reaches over the recordings of a session, so that order and drift over the session "
            "can pass for the label, as can every other difference between files."
        )
    elif is_tied and mode in PER_RECORDING_MODES:
        verdict = LEAK
        end = f"normalisation {mode} uses statistics of a file, which are statistics of its label; use global."
    elif is_tied:
        verdict = WARNING
        end = (
            "order, electrodes, gain, length and every other difference between files can stand for the label "
            f"(normalisation {mode} at least takes no statistics of a file)."
        )
    else:
        verdict, end = OK, "label and file can be told apart."
    sentence = f"{share:.0%} of {count(len(held), 'recording')} hold one class only: {end}"
    return _share("label-equals-file", verdict, sentence, "share of recordings", share, material)


def fixed_order(material: Material) -> Finding | Skipped:
    """Return whether the conditions came in one order for nearly everybody."""
    from scipy.stats import binomtest

    orders = _orders(material)
    if len(orders) < _LEAST_SUBJECTS:
        return Skipped(
            probe="label-order",
            reason=f"{len(orders)} subjects have several labels in a known order; at least 5 are needed",
        )
    (order, n_same), n = Counter(orders.values()).most_common(1)[0], len(orders)
    interval = binomtest(n_same, n).proportion_ci(0.95, method="wilson")
    is_fixed = interval.low > 0.5
    shown = " - ".join(order if len(order) <= 9 else (*order[:9], "..."))
    end = (
        "label and time are confounded by design: report what a clock reaches beside every score."
        if is_fixed
        else "no single order is the rule."
    )
    sentence = (
        f"{n_same} of {count(n, 'subject')} ({n_same / n:.0%}, 95 % interval {interval.low:.0%} to "
        f"{interval.high:.0%}) met the conditions in the same order ({shown}): {end}"
    )
    return Finding(
        probe="label-order",
        subject_matter="design",
        verdict=WARNING if is_fixed else OK,
        sentence=sentence,
        score_name="share of subjects with the commonest order",
        score=n_same / n,
        ci95=(float(interval.low), float(interval.high)),
        chance=None,
        n_subjects=n,
        n_windows=len(material.windows),
        details={"order": list(order), "n_orders": len(set(orders.values()))},
    )


def _orders(material: Material) -> dict[str, tuple[str, ...]]:
    """Return per subject the classes in the order of time, runs counted once, from the session with most of them.

    Where a study does not say how its recordings follow each other, each recording stands for itself.
    """
    windows = material.windows
    time = windows.onset if material.session_onset is None else material.session_onset
    sessions = [r.key if material.session_onset is None else f"{r.subject}\0{r.session}" for r in windows.recordings]
    session = np.array(sessions)[windows.recording]
    found: dict[str, tuple[str, ...]] = {}
    for name in np.unique(session):
        rows = np.flatnonzero(session == name)
        rows = rows[np.argsort(time[rows], kind="stable")]
        target = windows.only.values[rows]
        runs = target[np.concatenate([[True], target[1:] != target[:-1]])]
        subject = str(windows.subject[rows[0]])
        if len(runs) > max(1, len(found.get(subject, ()))):
            found[subject] = tuple(windows.only.classes[k] for k in runs)
    return found


def spread(material: Material, scores: Mapping[str, LabelScore]) -> list[Finding | Skipped]:
    """Return per model whether its scores over subjects are too even, too good or too uneven to be believed."""
    return [_spread_of(material, name, held) for name, held in scores.items()]


def _spread_of(material: Material, name: str, held: LabelScore) -> Finding | Skipped:
    probe, settings = f"spread-of-{name}", material.settings
    values = np.array(list(held.per_subject.values()))
    if len(values) < _LEAST_SUBJECTS:
        return Skipped(probe=probe, reason=f"{len(values)} subjects have a score of their own; at least 5 are needed")
    sd = float(values.std(ddof=1))
    is_better = held.ci95[0] > held.chance
    n_reversed = int(np.sum(values < held.chance - 0.2))
    if is_better and values.min() >= 0.995:
        verdict, end = WARNING, "everybody is predicted without a fault, which people are not; look for a leak."
    elif is_better and sd < settings.small_spread:
        verdict, end = WARNING, "people differ more than that, so look for a leak."
    elif sd > settings.large_spread:
        verdict = WARNING
        end = f"{n_reversed} lie more than 0.2 below guessing; look for labels that are swapped or belong to others."
    else:
        verdict, end = OK, "people differ about as much as people do."
    sentence = (
        f"Scores of {name} have a mean of {score(held.value)} and differ by {score(sd)} (SD) over "
        f"{count(len(values), 'subject')}, worst {score(float(values.min()))}: {end}"
    )
    return Finding(
        probe=probe,
        subject_matter="evaluation",
        verdict=verdict,
        sentence=sentence,
        score_name="standard deviation over subjects",
        score=sd,
        ci95=None,
        chance=None,
        n_subjects=len(values),
        n_windows=held.n_windows,
        details={"mean": held.value, "worst": float(values.min()), "n_reversed": n_reversed},
    )


def overlap(material: Material) -> Finding:
    """Return how much windows share with their neighbours: their number is no sample size."""
    windows = material.windows
    n_sharing = 0
    for index in np.unique(windows.recording):
        onsets = np.sort(windows.onset[windows.recording == index])
        gaps = np.diff(onsets) < windows.length_seconds - 1e-6
        n_sharing += int(np.sum(np.concatenate([[False], gaps]) | np.concatenate([gaps, [False]])))
    share = n_sharing / len(windows)
    end = (
        f"their number is no sample size: n is {count(len(windows.subjects), 'subject')}, and windows of one person "
        "must stay on one side of every split, as they do here."
        if n_sharing
        else "each second is counted once."
    )
    sentence = (
        f"{share:.0%} of {count(len(windows), 'window')} ({windows.length_seconds:g} s) share time with another: {end}"
    )
    return _share("window-overlap", OK, sentence, "share of windows", share, material)


def _share(probe: str, verdict: Verdict, sentence: str, score_name: str, share: float, material: Material) -> Finding:
    n_subjects, n_windows = len(material.windows.subjects), len(material.windows)
    return Finding(
        probe=probe,
        subject_matter="design",
        verdict=verdict,
        sentence=sentence,
        score_name=score_name,
        score=share,
        n_subjects=n_subjects,
        n_windows=n_windows,
    )
