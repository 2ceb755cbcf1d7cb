"""What a reader must know before the numbers: sentences drawn from comparisons of figures that the files give."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from biopercept.report.tables import estimate
from biopercept.report.text import count, listed, score
from biopercept.report.timelines import preparations_of
from biopercept.results.cross_validation import CrossValidation
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.results.folder import Results
from biopercept.results.reading import FEW_SUBJECTS

_SMALL_SPREAD = 0.03
_LARGE_POOLING_GAP = 0.05
_LARGE_CALIBRATION_ERROR = 0.10
_GRAVE_WORDS = ("leak", "transductive")
PROBE_MEANING = {
    "clock-only": "a clock that sees no sensor; the order of the protocol gives the label away, and a model may "
    "be using it",
    "motion-only": "movement alone; the model may be reading what the hands did, not the state of the body",
    "quality-only": "signal quality alone; the label can be told from how clean the recording is",
    "dummy": "guessing by class shares",
}


@dataclass(frozen=True)
class Caution:
    """One thing to know before reading the scores.

    Attributes
    ----------
    is_grave : bool
        It can make the scores mean something else than they seem to.
    text : str
        One or two sentences.
    """

    is_grave: bool
    text: str


def cautions_of(results: Results, said: Collection[str] = ()) -> tuple[Caution, ...]:
    """Return every caution about a folder of results, the grave ones first, each once.

    Parameters
    ----------
    said : collection of str
        Warnings that stand elsewhere on the page.
    """
    found: list[Caution] = list(_of_probes(results.cross_validations))
    found += _of_files(results.cross_validations)
    for held in results.cross_validations:
        found += [*_of_protocol(held), *_of_scores(held)]
    found += _of_audits(results)
    found += [Caution(_is_grave(text), text) for held in results.comparisons for text in held.cautions]
    found += _of_curves(results, said)
    found += [*_of_comparison(results.cross_validations), *_of_failures(results)]
    return tuple(sorted(dict.fromkeys(found), key=lambda caution: not caution.is_grave))


def same_data(one: CrossValidation, other: CrossValidation) -> bool:
    """Return whether two cross-validations answer the same question: task, classes and store agree."""
    return (one.task, one.classes, one.fingerprint.get("store")) == (
        other.task,
        other.classes,
        other.fingerprint.get("store"),
    )


def _of_probes(held: Sequence[CrossValidation]) -> Iterator[Caution]:
    """Compare every probe with the models that answer the same question, in one sentence per probe."""
    for probe in held:
        rivals = [other for other in held if same_data(probe, other) and not other.is_probe]
        reached = probe.balanced_accuracy.mean
        if not probe.is_probe or not rivals or reached is None:
            continue
        beaten = [other for other in rivals if (other.balanced_accuracy.mean or 0.0) <= reached]
        meaning = PROBE_MEANING[probe.model]
        if beaten:
            others = " and ".join(f"{other.model} reaches {estimate(other.balanced_accuracy)}" for other in beaten)
            yield Caution(
                True,
                f"The probe {probe.model} reaches a balanced accuracy of {estimate(probe.balanced_accuracy)} where "
                f"{others}: it is {meaning}.",
            )
        elif probe.model != "dummy" and _ends_above(probe, probe.chance_level):
            yield Caution(
                False,
                f"The probe {probe.model} alone reaches {estimate(probe.balanced_accuracy)}, above guessing "
                f"({score(probe.chance_level)}): it is {meaning}.",
            )


def _ends_above(held: CrossValidation, level: float) -> bool:
    return held.balanced_accuracy.ci95 is not None and held.balanced_accuracy.ci95[0] > level


def _of_files(validations: Sequence[CrossValidation]) -> Iterator[Caution]:
    """Give what the cross-validations themselves warned of, the same words once, with the models they are about."""
    models: dict[str, list[str]] = {}
    for held in validations:
        for warning in dict.fromkeys(held.warnings):
            models.setdefault(warning, []).append(held.model)
    for warning, names in models.items():
        yield Caution(_is_grave(warning), f"{warning[:1].upper()}{warning[1:]} ({', '.join(dict.fromkeys(names))}).")


def _of_curves(results: Results, said: Collection[str]) -> Iterator[Caution]:
    """Give what the curves warned of, where their own cross-validations do not say it already."""
    known = {*said, *(warning for held in results.cross_validations for warning in held.warnings)}
    curves: list[LearningCurve | PersonalCurve] = [*results.learning_curves, *results.personal_curves]
    for curve in curves:
        for warning in curve.warnings:
            if warning not in known:
                yield Caution(
                    _is_grave(warning) or "UNCHECKED" in warning, f"{warning[:1].upper()}{warning[1:]} ({curve.name})."
                )


def _is_grave(text: str) -> bool:
    return any(word in text.lower() for word in _GRAVE_WORDS)


def _of_protocol(held: CrossValidation) -> Iterator[Caution]:
    if held.is_transductive and not _is_said(held, "transductive"):
        yield Caution(
            True,
            f"{held.model} is transductive: its inputs were scaled with statistics of each tested subject's whole "
            f"recording (normalisation {held.normalisation}), which a live system would not have.",
        )
    if held.is_label_the_file and held.normalisation not in ("global", "raw"):
        yield Caution(
            True,
            f"In task {held.task} each file has one label, and {held.model} was scaled by statistics of the file "
            f"(normalisation {held.normalisation}): the label leaks into the inputs. Score it with global.",
        )
    elif held.is_label_the_file:
        yield Caution(
            False,
            f"In task {held.task} each file has one label: whatever differs between files (order, electrodes, "
            "the day) can stand for the label.",
        )
    if held.split == "time":
        yield Caution(
            False,
            f"{held.model} was split by time within each subject: the scores are those of subject-specific models and "
            "say nothing about people never seen.",
        )


def _is_said(held: CrossValidation, word: str) -> bool:
    """Return whether one of the file's own warnings says it already."""
    return any(word in warning.lower() for warning in held.warnings)


def _of_scores(held: CrossValidation) -> Iterator[Caution]:
    scores, n = held.balanced_accuracy, held.n_subjects
    undefined = sum(row.balanced_accuracy is None for row in held.subjects)
    if undefined and not _is_said(held, "one class"):
        yield Caution(
            False,
            f"{count(undefined, 'subject')} of {n} had one class only, so the scores are over the other "
            f"{n - undefined}.",
        )
    if len(held.subjects) != n:
        yield Caution(True, f"{held.name}: scores.json counts {n} subjects and scores.csv has {len(held.subjects)}.")
    if held.is_probe:
        return
    if n < FEW_SUBJECTS and not _is_said(held, "intervals are rough"):
        yield Caution(
            False,
            f"Only {count(n, 'subject')}: the intervals are rough, and small differences between models mean nothing.",
        )
    if scores.mean is None:
        yield Caution(
            True, f"The balanced accuracy of {held.model} is not defined: no subject has windows of two classes."
        )
    elif scores.ci95 is None:
        yield Caution(True, f"{held.model} has no interval, so its score cannot be told from chance.")
    elif scores.ci95[0] <= held.chance_level:
        yield Caution(
            True,
            f"{held.model} is not shown to be better than guessing: its interval {estimate(scores)} reaches down to "
            f"{score(held.chance_level)} or below.",
        )
    if scores.subjects_below_chance:
        yield Caution(
            False,
            f"{held.model} is below chance for {scores.subjects_below_chance} of {n} subjects; the worst has "
            f"{score(scores.worst)}.",
        )
    yield from _of_spread(held)


def _of_spread(held: CrossValidation) -> Iterator[Caution]:
    spread, pooled, per_subject = held.balanced_accuracy.sd, held.auroc.pooled, held.auroc.mean
    if spread is not None and spread < _SMALL_SPREAD and _ends_above(held, held.chance_level) and held.n_subjects > 2:
        yield Caution(
            True,
            f"Scores of {held.model} differ by only {score(spread)} (SD) over subjects; people differ more than "
            "that, so look for a leak.",
        )
    if pooled is not None and per_subject is not None and abs(pooled - per_subject) > _LARGE_POOLING_GAP:
        yield Caution(
            False,
            f"AUROC of {held.model} is {score(per_subject)} within subjects and {score(pooled)} pooled: one "
            "threshold does not suit everybody.",
        )
    if held.ece is not None and math.isfinite(held.ece) and held.ece > _LARGE_CALIBRATION_ERROR:
        yield Caution(
            False,
            f"Probabilities of {held.model} are off by {score(held.ece)} on average; do not read them as chances.",
        )


def _of_comparison(validations: Sequence[CrossValidation]) -> Iterator[Caution]:
    for held in validations:
        for other in validations:
            if held.name >= other.name or not same_data(held, other):
                continue
            if {s.participant: s.n_windows for s in held.subjects} != {
                s.participant: s.n_windows for s in other.subjects
            }:
                yield Caution(
                    True,
                    f"{held.model} ({held.name}) and {other.model} ({other.name}) were not scored on the same windows "
                    f"({held.n_windows:,} of {held.n_subjects} subjects, {other.n_windows:,} of "
                    f"{other.n_subjects}): do not compare them.",
                )


def _of_audits(results: Results) -> Iterator[Caution]:
    for held in results.audits:
        for row in held.findings:
            if row.verdict != "ok":
                yield Caution(row.verdict == "leak", f"Audit, {row.probe}: {row.sentence}")


def _of_failures(results: Results) -> Iterator[Caution]:
    begun = [f"The cross-validation in {name}" for name in results.unfinished]
    begun += [f"The curve over own labels in {name}" for name in results.unfinished_curves]
    for what in begun:
        yield Caution(False, f"{what} has not finished and is not shown; run its command again, it goes on.")
    for folder in results.predictions:
        if len(folder.failures):
            yield Caution(
                False,
                f"{count(len(folder.failures), 'recording')} in {folder.name} could not be predicted; see the "
                "table of failures.",
            )
    for log in results.logs:
        failed = [" ".join(part for part in row.key if part) for row in preparations_of(log) if row.is_failed]
        if failed:
            yield Caution(
                False,
                f"{count(len(failed), 'recording')} of {log.name} failed or were not yet prepared: {listed(failed)}.",
            )
