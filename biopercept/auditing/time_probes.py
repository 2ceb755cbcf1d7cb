"""Probes of what a model reads and gives: whether session time can be told from features, outputs or latents.

Beyond the label means: within windows of one recording and one of the study's own labels. Reading the time is a leak
where time tells the label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from biopercept.auditing.material import FoldValues, LabelScore, Material
from biopercept.auditing.nuisance import reaches
from biopercept.auditing.reading_probes import FEATURES, LATENTS, OUTPUTS, Readable
from biopercept.auditing.time_reading import Association, TimeReading, associate, read_time
from biopercept.auditing.wording import accuracy, correlation
from biopercept.learning.normalisation import FloatArray
from biopercept.reporting.text import with_interval
from biopercept.results.audit import LEAK, OK, WARNING, Finding, Skipped, Verdict

_MOST_NAMED = 3


def probe_time(
    material: Material, what: Readable, folds: Sequence[FoldValues], clock: LabelScore, rival: LabelScore
) -> Finding | Skipped:
    """Return whether session time can be read beyond the label, and whether that tells the label.

    Parameters
    ----------
    material : Material
    what : Readable
    folds : sequence of FoldValues
    clock : LabelScore
        How well time alone tells the label.
    rival : LabelScore
        What a model of the features reaches.
    """
    name = f"time-in-{what.name}"
    read = read_time(material, folds)
    found = read.found
    if found is None:
        return Skipped(probe=name, reason="too few windows share a recording and a label")
    is_readable = found.is_readable(material.settings.association)
    is_trace = found.is_readable(material.settings.trace)
    path = _path_score(material, folds, read.each) if is_readable else None
    if is_readable or not is_trace:
        verdict, rest = _time_verdict(material, what, clock, rival, path)
    else:
        verdict, rest = _trace_verdict(material, clock)
    can = "can" if is_readable else ("can faintly" if is_trace else "cannot reliably")
    most = _most_timely(material, found) if what is FEATURES and is_readable else ()
    carriers = f" (most from {', '.join(most)})" if most else ""
    sentence = (
        f"Within one label, session time {can} be read from {what.words}{carriers}: {correlation(found)}, read out on "
        f"people held out{_in_stages(material, read, is_trace)}; {rest}"
    )
    details: dict[str, object] = {
        "p_value": found.p_value,
        "clock_balanced_accuracy": clock.value,
        "balanced_accuracy_by_time_direction": None if path is None else path.value,
        "carriers": list(most),
        "has_cells_of_several_stages": read.is_cut,
        "within_unbroken_stages": None if read.in_stages is None else _numbers(read.in_stages),
    }
    return _finding(name, what.subject_matter, verdict, sentence, found, details)


def _in_stages(material: Material, read: TimeReading, is_trace: bool) -> str:
    """Return what is said of unbroken stages; empty where every cell is one, or time is read nowhere."""
    own, found, trace = read.in_stages, read.found, material.settings.trace
    if own is None or found is None:
        return ""
    if own.is_readable(trace):
        return f", and within unbroken stages {'too ' if is_trace else ''}({correlation(own)})"
    if not is_trace:
        return ""
    if own.ci95[1] < found.ci95[0]:
        return (
            f", but hardly within unbroken stages ({correlation(own)}): most of what is read is how later stages of a "
            "label differ from its earlier ones, as carry-over, habituation and slow drift can all cause"
        )
    return f"; within unbroken stages it is not shown ({correlation(own)})"


def _numbers(held: Association) -> dict[str, object]:
    return {
        "correlation": held.value,
        "ci95": list(held.ci95),
        "p_value": held.p_value,
        "n_subjects": held.n_subjects,
        "n_windows": held.n_windows,
    }


def _time_verdict(
    material: Material, what: Readable, clock: LabelScore, rival: LabelScore, path: LabelScore | None
) -> tuple[Verdict, str]:
    """Return the verdict on time that is readable (``path``: how well its direction tells the label) or not (None)."""
    margin = material.settings.margin
    if path is None:
        return OK, "no leak of time is shown."
    if not clock.is_above_chance(margin):
        return WARNING, (
            f"time does not tell the label here ({with_interval(clock.value, clock.ci95)}), so the score is not "
            "raised by it, but answers will drift over a session."
        )
    told = f"time alone tells the label with {with_interval(clock.value, clock.ci95)}"
    if what is LATENTS:
        return WARNING, f"{told}, and the network has it at hand; time-in-outputs says whether its answers show it."
    if what is OUTPUTS:
        return LEAK, (
            f"{told}, so a part of the score can come from reading the time and not the body, unless the body itself "
            "changes that way within a condition, which only another order of conditions would show."
        )
    through = f"the direction that was learnt from time alone tells the label with {accuracy(path)}"
    beside = f"a model of the features reaches {with_interval(rival.value, rival.ci95)}"
    if path.is_above_chance(margin) and reaches(path, rival, material):
        return LEAK, f"{told}, and {through} where {beside}: its score could come from reading the time alone."
    if path.is_above_chance(margin):
        return WARNING, f"{told}, and {through} where {beside}: a part of its score could come from reading the time."
    return WARNING, f"{told}, but {through}: little of the score ({beside}) can come that way."


def _trace_verdict(material: Material, clock: LabelScore) -> tuple[Verdict, str]:
    """Return the verdict on time that can be read, but faintly."""
    told = f"time alone tells the label with {with_interval(clock.value, clock.ci95)}"
    if clock.is_above_chance(material.settings.margin):
        return WARNING, f"{told}; a trace of time is there, too weak to carry the score."
    return OK, "time does not tell the label here, so this trace of it does no harm."


def _path_score(material: Material, folds: Sequence[FoldValues], readings: Sequence[FloatArray]) -> LabelScore:
    """Return how well each fold's reading of the time, one number per window, tells the label of test subjects."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    from biopercept.learning.task_objective import cell_weights

    windows = material.windows
    answers = np.full((len(windows), windows.only.n_classes), np.nan)
    for fold, reading in zip(folds, readings, strict=True):
        weights = cell_weights(windows.subject[fold.training], windows.only.values[fold.training]).numpy()
        trees = HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=0)
        trees.fit(
            reading[fold.training, None], windows.only.values[fold.training], sample_weight=weights / weights.mean()
        )
        answers[fold.test] = 0.0
        answers[fold.test[:, None], trees.classes_] = trees.predict_proba(reading[fold.test, None])
    return material.score(answers)


def _most_timely(material: Material, whole: Association) -> tuple[str, ...]:
    """Return the features that go with time within one label in most subjects, the strongest first."""
    names, values, time = material.windows.feature_names, material.features, material.windows.onset[:, None]
    strength = {}
    for column, name in enumerate(names):
        found = associate(material, values[:, column : column + 1], time)
        if found is not None and found.n_subjects >= whole.n_subjects / 2:
            strength[name] = abs(found.value)
    return tuple(sorted(strength, key=lambda name: -strength[name])[:_MOST_NAMED])


def probe_clock_agreement(
    material: Material, probabilities: FloatArray, clock_answers: FloatArray, clock: LabelScore
) -> Finding | Skipped:
    """Return whether the model's probabilities follow what a clock would answer, within one label and subject."""
    name = "outputs-follow-clock"
    found = associate(material, probabilities, clock_answers)
    if found is None:
        return Skipped(probe=name, reason="too few windows share a recording and a label")
    is_following = found.is_readable(material.settings.association)
    is_trace = found.is_readable(material.settings.trace)
    is_told = clock.is_above_chance(material.settings.margin)
    if is_following:
        verdict, word = (LEAK if is_told else WARNING), "go"
        end = "the model answers as a clock would where the label gives no reason to."
    elif is_trace and is_told:
        verdict, word, end = WARNING, "go faintly", "a trace of a clock's answers, too weak to carry the score."
    else:
        verdict, word, end = OK, "do not reliably go", "no sign that the model answers by the clock."
    sentence = (
        f"Within one label, the model's probabilities {word} with those of a "
        f"clock that sees no sensor: {correlation(found)}; {end}"
    )
    details = {"p_value": found.p_value, "clock_balanced_accuracy": clock.value}
    return _finding(name, "model", verdict, sentence, found, details)


def _finding(
    name: str, subject_matter: str, verdict: Verdict, sentence: str, found: Association, details: Mapping[str, object]
) -> Finding:
    """Return the finding whose score is a correlation within cells."""
    return Finding(
        probe=name,
        subject_matter=subject_matter,
        verdict=verdict,
        sentence=sentence,
        score_name="correlation",
        score=found.value,
        ci95=found.ci95,
        chance=0.0,
        n_subjects=found.n_subjects,
        n_windows=found.n_windows,
        details=details,
    )
