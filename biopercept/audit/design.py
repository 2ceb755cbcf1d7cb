"""Probes of a study's design: labels tied to people, files, order or sets, scores too even, duplicates.

A set is a session, a device or a group of people; it alarms where it lacks a class or predicts one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from biopercept.audit.data import AuditData, ProbeScore, accuracy
from biopercept.baselines.features import fit_trees
from biopercept.data.duplicates import blocks_of, shared_pairs
from biopercept.data.normalisation import PER_RECORDING_MODES
from biopercept.errors import count
from biopercept.report.text import listed, score, shown
from biopercept.results.audit import LEAK, OK, WARNING, Finding, Skipped, Verdict
from biopercept.store.prepared import StoredSignal, WindowedRecording
from biopercept.studies.plain import UNKNOWN

_LEAST_SUBJECTS = 5
_MOST_LEVELS = 12
_RECORDED = ("session", "sensors")
_EVENTS = ("ibi",)  # a beat at a time: its rate is the heart's and not the device's


def _label_word(data: AuditData) -> str:
    return "number" if data.is_of_numbers else "class"


def person_effect(data: AuditData) -> Finding:
    """Return how much of a number's variance lies between people, which telling people apart would explain."""
    windows, numbers = data.windows, data.windows.only.values.astype(np.float64)
    means = np.full(len(windows), np.nan)
    for subject in windows.subjects:
        rows = windows.rows_of([subject])
        means[rows] = numbers[rows].mean()
    spread = float(np.square(numbers - numbers.mean()).sum())
    between = float(np.square(means - numbers.mean()).sum()) / spread if spread > 0 else 0.0
    is_large = between > 0.5
    end = (
        "most of what is to be told is who it is, so read the CCC of each subject and not the pooled one."
        if is_large
        else "most of it changes within people."
    )
    sentence = f"{between:.0%} of the variance of {windows.only.task.quantity} lies between people: {end}"
    verdict = WARNING if is_large else OK
    return _of_fraction("person-effect", verdict, sentence, "share of variance", between, data)


def constant_label(data: AuditData) -> Finding:
    """Return whether subjects have one label each: then whatever tells people apart predicts the label."""
    windows = data.windows
    constant = [s for s in windows.subjects if len(np.unique(windows.only.values[windows.rows_of([s])])) == 1]
    n, fraction = len(windows.subjects), len(constant) / len(windows.subjects)
    word = _label_word(data)
    if not constant:
        sentence = (
            f"Each of {count(n, 'subject')} has windows of more than one {word}: who it is does not fix the label."
        )
    elif len(constant) == n:
        sentence = (
            f"Each of {count(n, 'subject')} has one {word} only: every lasting difference between people can stand "
            "for the label, no score per subject exists, and holding subjects out does not show it."
        )
    else:
        sentence = (
            f"{len(constant)} of {count(n, 'subject')} have one {word} only ({listed(constant)}): they have no score "
            "of their own."
        )
    verdict = WARNING if fraction >= 0.25 else OK
    return _of_fraction("constant-label-per-subject", verdict, sentence, "share of subjects", fraction, data)


def label_is_file(data: AuditData) -> Finding:
    """Return whether each recording has one label: then whatever tells files apart predicts the label."""
    fraction, is_tied = float(data.holds_one_class.mean()), bool(data.holds_one_class.all())
    mode, scope = data.plan.normalisation.mode, data.plan.normalisation.scope
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
    sentence = f"{fraction:.0%} of {count(len(data.recordings), 'recording')} hold one {_label_word(data)} only: {end}"
    return _of_fraction("label-equals-file", verdict, sentence, "share of recordings", fraction, data)


def fixed_order(data: AuditData) -> Finding | Skipped:
    """Return whether the conditions came in one order for nearly everybody."""
    from scipy.stats import binomtest

    orders = _orders(data)
    if len(orders) < _LEAST_SUBJECTS:
        return Skipped(
            probe="label-order",
            reason=f"{count(len(orders), 'subject has several', 'subjects have several')}"
            f" labels in a known order; at least 5 are needed",
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
        n_subjects=n,
        n_windows=len(data.windows),
        details={"order": list(order), "n_orders": len(set(orders.values()))},
    )


def _orders(data: AuditData) -> dict[str, tuple[str, ...]]:
    """Return per subject the classes in the order of time, runs counted once, from the session with most of them.

    Where a study does not say how its recordings follow each other, each recording stands for itself.
    """
    windows = data.windows
    time = windows.onset if data.session_onset is None else data.session_onset
    sessions = [r.key if data.session_onset is None else f"{r.subject}\0{r.session}" for r in windows.recordings]
    session = np.array(sessions)[windows.recording]
    orders: dict[str, tuple[str, ...]] = {}
    for name in np.unique(session):
        rows = np.flatnonzero(session == name)
        rows = rows[np.argsort(time[rows], kind="stable")]
        target = windows.only.values[rows]
        runs = target[np.concatenate([[True], target[1:] != target[:-1]])]
        subject = str(windows.subject[rows[0]])
        if len(runs) > max(1, len(orders.get(subject, ()))):
            orders[subject] = tuple(windows.only.classes[k] for k in runs)
    return orders


def spread(data: AuditData, scores: Mapping[str, ProbeScore]) -> list[Finding | Skipped]:
    """Return per model whether its scores over subjects are too even, too good or too uneven to be believed."""
    return [_spread_of(data, name, of_subjects) for name, of_subjects in scores.items()]


def _spread_of(data: AuditData, name: str, of_subjects: ProbeScore) -> Finding | Skipped:
    probe, settings = f"spread-of-{name}", data.settings
    values = np.array(list(of_subjects.per_subject.values()))
    if len(values) < _LEAST_SUBJECTS:
        return Skipped(
            probe=probe,
            reason=f"{count(len(values), 'subject has', 'subjects have')} a score of their own; at least 5 are needed",
        )
    sd = float(values.std(ddof=1))
    is_better = of_subjects.ci95[0] > of_subjects.chance
    n_reversed = int(np.sum(values < of_subjects.chance - 0.2))
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
        f"Scores of {name} have a mean of {score(of_subjects.value)} and differ by {score(sd)} (SD) over "
        f"{count(len(values), 'subject')}, worst {score(float(values.min()))}: {end}"
    )
    return Finding(
        probe=probe,
        subject_matter="evaluation",
        verdict=verdict,
        sentence=sentence,
        score_name="standard deviation over subjects",
        score=sd,
        n_subjects=len(values),
        n_windows=of_subjects.n_windows,
        details={"mean": of_subjects.value, "worst": float(values.min()), "n_reversed": n_reversed},
    )


def overlap(data: AuditData) -> Finding:
    """Return how much time windows share with their neighbours: their number is no sample size."""
    windows = data.windows
    n_sharing = 0
    for index in np.unique(windows.recording):
        onsets = np.sort(windows.onset[windows.recording == index])
        gaps = np.diff(onsets) < windows.length_seconds - 1e-6
        n_sharing += int(np.sum(np.concatenate([[False], gaps]) | np.concatenate([gaps, [False]])))
    part = n_sharing / len(windows)
    end = (
        f"their number is no sample size: n is {count(len(windows.subjects), 'subject')}, and windows of one person "
        "must stay on one side of every split, as they do here."
        if n_sharing
        else "each second is counted once."
    )
    sentence = (
        f"{part:.0%} of {count(len(windows), 'window')} ({windows.length_seconds:g} s) share time with another: {end}"
    )
    return _of_fraction("window-overlap", OK, sentence, "share of windows", part, data)


def _of_fraction(
    probe: str, verdict: Verdict, sentence: str, score_name: str, fraction: float, data: AuditData
) -> Finding:
    return Finding(
        probe=probe,
        subject_matter="design",
        verdict=verdict,
        sentence=sentence,
        score_name=score_name,
        score=fraction,
        n_subjects=len(data.windows.subjects),
        n_windows=len(data.windows),
    )


def sets_of(data: AuditData, participants: Mapping[str, Mapping[str, str]]) -> dict[str, NDArray[np.str_]]:
    """Return per set variable the level of each window: session, sensors, and the columns of participants.tsv."""
    windows = data.windows
    groups = {
        "session": np.array([windows.recordings[i].session or UNKNOWN for i in windows.recording], dtype=np.str_),
        "sensors": np.array([sensors_of(windows.recordings[i]) for i in windows.recording], dtype=np.str_),
    }
    columns = sorted({column for row in participants.values() for column in row})
    for column in columns:
        of = {subject: row.get(column, UNKNOWN) for subject, row in participants.items()}
        groups[column] = np.array([of.get(str(s), UNKNOWN) for s in windows.subject], dtype=np.str_)
    return groups


def sensors_of(recording: WindowedRecording) -> str:
    """Return the measured sensors of a recording with their rates: recordings of one device have the same."""
    measured = [s for s in recording.signals if not s.derived_from]
    return ", ".join(sorted(s.modality if s.modality in _EVENTS else _with_rate(s) for s in measured))


def _with_rate(signal: StoredSignal) -> str:
    return f"{signal.modality} {signal.native_sampling_rate:.4g} Hz"


def probe_sets(data: AuditData, participants: Mapping[str, Mapping[str, str]]) -> list[Finding | Skipped]:
    """Return a finding per set variable that has between 2 and 12 levels."""
    return [_of_set(data, name, levels) for name, levels in sets_of(data, participants).items()]


def _of_set(data: AuditData, name: str, levels: NDArray[np.str_]) -> Finding | Skipped:
    probe = f"set-{shown(name)}"
    names, code = np.unique(levels, return_inverse=True)
    if not 2 <= len(names) <= _MOST_LEVELS:
        what = "everybody has the same" if len(names) < 2 else f"{len(names)} different values are no sets"
        return Skipped(probe=probe, reason=what)
    lacking = _lacking(data, names, code)
    columns = (code[:, None] == np.arange(len(names))).astype(np.float64)
    reached = data.pooled(data.predict(lambda request: fit_trees(request, columns)))
    predicts_label = reached.is_above_chance(data.settings.margin)
    is_whole = len(lacking) == len(names) and predicts_label
    verdict = LEAK if is_whole and name in _RECORDED else (WARNING if lacking or predicts_label else OK)
    parts = [f"{shown(name)} ({count(len(names), 'level')}) tells the label with {accuracy(reached)}"]
    if lacking:
        parts.append(f"windows of some classes are absent: {'; '.join(lacking[:4])}")
    if predicts_label or lacking:
        parts.append("whatever marks the set can stand for the label, so score the sets apart")
    else:
        parts.append(f"all {'numbers' if data.is_of_numbers else 'classes'} are in all sets, about alike")
    sentence = "; ".join(parts) + "."
    sentence = sentence[:1].upper() + sentence[1:]
    details = {"levels": {str(n): int(np.sum(code == i)) for i, n in enumerate(names)}, "lacking": lacking}
    return reached.finding(verdict, sentence, details, probe=probe, about="design", name=reached.name)


def _lacking(data: AuditData, names: NDArray[np.str_], code: NDArray[np.int64]) -> list[str]:
    """Return the sets of at least 2 subjects (or sets that subjects share) that lack a class, in words."""
    windows = data.windows
    sentences: list[str] = []
    if data.is_of_numbers:
        return sentences
    for index, name in enumerate(names):
        rows = np.flatnonzero(code == index)
        absent = sorted(set(range(windows.only.n_classes)) - set(windows.only.values[rows].tolist()))
        if absent and len(np.unique(windows.subject[rows])) > 1:
            classes = listed([windows.only.classes[k] for k in absent])
            sentences.append(f"{shown(str(name))[:60]} has no {classes} in {count(len(rows), 'window')}")
    return sentences


def probe_duplicates(data: AuditData) -> Finding:
    """Return whether recordings of different subjects hold the same samples."""
    blocks = [blocks_of(recording) for recording in data.recordings]
    pairs = [
        (fraction, data.recordings[one].key, data.recordings[other].key)
        for one, other, fraction in shared_pairs(blocks)
        if data.recordings[one].subject != data.recordings[other].subject
    ]
    pairs.sort(reverse=True)
    n_recordings = len(data.recordings)
    if pairs:
        shown = listed([f"{a} and {b} ({fraction:.0%})" for fraction, a, b in pairs], limit=4)
        sentence = (
            f"{count(len(pairs), 'pair')} of recordings of different subjects hold the same samples: {shown}; a model "
            "is tested on what it was trained on."
        )
    else:
        sentence = f"No samples are shared between {count(n_recordings, 'recording')} of different subjects."
    return Finding(
        probe="duplicates",
        subject_matter="evaluation",
        verdict=LEAK if pairs else OK,
        sentence=sentence,
        score_name="pairs of recordings with the same samples",
        score=float(len(pairs)),
        chance=0.0,
        n_subjects=len(data.windows.subjects),
        n_windows=len(data.windows),
        details={"pairs": [[a, b, round(fraction, 4)] for fraction, a, b in pairs], "n_blocks": sum(map(len, blocks))},
    )
