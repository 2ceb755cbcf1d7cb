"""Probes of the design: how well the label is told by what should know nothing of it, subjects held out.

The clock and movement say what a study's protocol gives away: a warning. Signal quality, missing values and the
length of the file are no physiology at all; where they reach what a model of the features reaches, they could
explain its score wholly: a leak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from biopercept.audit.material import LabelScore, Material, accuracy
from biopercept.baselines.features import columns_with_data
from biopercept.baselines.probes import fit_clock, fit_dummy, fit_quality, fit_trees, quality_by_modality
from biopercept.data.normalisation import FloatArray
from biopercept.evaluation.metrics import bootstrap_interval
from biopercept.report.text import score, with_interval
from biopercept.results.audit import LEAK, OK, WARNING, Finding, Skipped
from biopercept.training.fitting import Fitted
from biopercept.training.loop import FitRequest


@dataclass(frozen=True)
class _Nuisance:
    """What a probe sees, in words, and how far its verdict goes."""

    name: str
    seen: str
    meaning: str
    columns: Callable[[Material], FloatArray]
    can_leak: bool
    meaning_in_files: str = ""


def clock_columns(material: Material) -> FloatArray:
    """Return the seconds since the recording began, (n_windows, 1)."""
    return material.windows.onset[:, None]


def position_columns(material: Material) -> FloatArray:
    """Return where a window lies: share of its recording, seconds to its end, and seconds since its session began."""
    windows = material.windows
    length = np.array([r.duration_seconds for r in windows.recordings])[windows.recording]
    places = [windows.onset / np.maximum(length, 1e-9), length - windows.onset]
    if material.session_onset is not None:
        places.append(material.session_onset)
    return np.stack(places, axis=1)


def motion_columns(material: Material) -> FloatArray:
    """Return the features of movement, scaled as the model gets them."""
    names = material.windows.feature_names
    return material.features[:, [i for i, name in enumerate(names) if name.startswith("motion/")]]


def missing_columns(material: Material) -> FloatArray:
    """Return which features are undefined, which modalities absent, and each modality's share of real samples."""
    windows = material.windows
    is_undefined = ~np.isfinite(windows.raw_features())
    is_absent = ~np.isfinite(quality_by_modality(windows))
    return np.concatenate([is_undefined, is_absent, real_shares(material)], axis=1).astype(np.float64)


def real_shares(material: Material) -> FloatArray:
    """Return each measured signal's share of real samples per window, (n_windows, n_names); NaN where absent."""
    windows = material.windows
    names = sorted({s.name for r in material.recordings for s in r.signals if not s.derived_from})
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


def file_columns(material: Material) -> FloatArray:
    """Return what is known of the file alone: its length, and when its signals begin and end."""
    windows = material.windows
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


def has_one_label_per_file(material: Material) -> bool:
    """Return whether no recording holds windows of two classes."""
    windows = material.windows
    pairs = {(int(r), int(t)) for r, t in zip(windows.recording, windows.only.values, strict=True)}
    return len(pairs) == len({recording for recording, _ in pairs})


PROBES: tuple[_Nuisance, ...] = (
    _Nuisance(
        "clock-only",
        "Time since the recording began, and nothing else,",
        "the order of conditions is fixed enough that a model which can read time can score this high without "
        "reading the state of the body",
        clock_columns,
        False,
        "recordings of the classes differ in length, or in when the condition begins",
    ),
    _Nuisance(
        "position-only",
        "The place of a window within its recording and session, and nothing else,",
        "where in a recording or session a condition lies gives the label away",
        position_columns,
        False,
    ),
    _Nuisance(
        "motion-only",
        "Movement alone",
        "people moved differently in the conditions, so report a score without movement beside the full one",
        motion_columns,
        False,
    ),
    _Nuisance(
        "quality-only",
        "Signal quality alone, without a single sample,",
        "recordings of the conditions differ in how clean they are",
        lambda material: quality_by_modality(material.windows),
        True,
    ),
    _Nuisance(
        "missingness-only",
        "Which values are missing, without a single value,",
        "gaps and absent sensors go with the label",
        missing_columns,
        True,
    ),
    _Nuisance(
        "file-only",
        "The length of the file, and when its signals begin and end,",
        "anything computed over a file can stand for its label",
        file_columns,
        True,
    ),
)


def probe_design(material: Material, rival: LabelScore, rival_name: str) -> tuple[list[Finding | Skipped], LabelScore]:
    """Return a finding per nuisance, and the score of the clock.

    Parameters
    ----------
    rival : LabelScore
        What a model of the features reaches on the same windows.
    """
    outcomes: list[Finding | Skipped] = []
    clock = rival
    for nuisance in PROBES:
        columns = nuisance.columns(material)
        reached = _reached(material, nuisance, columns)
        if reached is None:
            outcomes.append(Skipped(probe=nuisance.name, reason="the study has nothing of it that varies"))
            continue
        if nuisance.name == "clock-only":
            clock = reached
        outcomes.append(_finding(material, nuisance, reached, rival, rival_name))
    return outcomes, clock


def _reached(material: Material, nuisance: _Nuisance, columns: FloatArray) -> LabelScore | None:
    """Return how well the columns tell the label; None where there is nothing to learn from."""
    if nuisance.name == "clock-only":
        return material.score(material.answers(fit_clock))
    filled = np.where(np.isfinite(columns), columns, -1e30)
    columns = columns[:, (filled != filled[:1]).any(axis=0)]
    if not columns.shape[1]:
        return None
    if nuisance.name == "quality-only":
        return material.score(material.answers(fit_quality))

    def fit(request: FitRequest) -> Fitted:
        known = columns[:, columns_with_data(columns, request.fitting)]
        return fit_trees(request, known) if known.shape[1] else fit_dummy(request)

    return material.score(material.answers(fit))


def reaches(probe: LabelScore, rival: LabelScore, material: Material) -> bool:
    """Return whether a probe is as good as a model, or within the margin of it."""
    return probe.value >= rival.value - material.settings.margin


def lead_of(one: LabelScore, other: LabelScore, material: Material) -> tuple[float, tuple[float, float]] | None:
    """Return by how much ``one`` is ahead of ``other``, paired by subject, with its interval; None where unpaired."""
    shared = sorted(set(one.per_subject) & set(other.per_subject))
    if len(shared) < 2:
        return None
    gaps = np.array([one.per_subject[s] - other.per_subject[s] for s in shared])
    return float(gaps.mean()), bootstrap_interval(gaps, seed=material.seed, n_bootstrap=material.n_bootstrap)


def _finding(
    material: Material, nuisance: _Nuisance, reached: LabelScore, rival: LabelScore, rival_name: str
) -> Finding:
    is_told = reached.is_above_chance(material.settings.margin)
    reaches_rival = is_told and reaches(reached, rival, material)
    verdict = OK if not is_told else (LEAK if reaches_rival and nuisance.can_leak else WARNING)
    lead = lead_of(reached, rival, material)
    paired = "" if lead is None else f" (this probe less {rival_name}, paired by subject: {with_interval(*lead)})"
    beside = f"{rival_name} reaches {with_interval(rival.value, rival.ci95)} on the same windows{paired}"
    meaning = nuisance.meaning_in_files if has_one_label_per_file(material) else nuisance.meaning
    meaning = meaning or nuisance.meaning
    if not is_told:
        bar = reached.chance + material.settings.margin
        sentence = (
            f"{nuisance.seen} tells the label with {accuracy(reached)}: its interval does not lie wholly above "
            f"{score(bar)}, so no confound of this kind is shown."
        )
    elif reaches_rival:
        sentence = (
            f"{nuisance.seen} tells the label with {accuracy(reached)}, and {beside}: {meaning}; the "
            "model's score is no evidence of anything more until this is ruled out."
        )
    else:
        sentence = f"{nuisance.seen} tells the label with {accuracy(reached)}: {meaning}; {beside}."
    return Finding(
        probe=nuisance.name,
        subject_matter="design",
        verdict=verdict,
        sentence=sentence,
        score_name="balanced accuracy",
        score=reached.value,
        ci95=reached.ci95,
        chance=reached.chance,
        n_subjects=reached.n_subjects,
        n_windows=reached.n_windows,
        details={"model": rival_name, "model_score": rival.value, "is_pooled": reached.is_pooled},
    )
