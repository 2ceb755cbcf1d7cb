"""What a reader must know before the numbers: sentences drawn from comparisons of figures that the files give."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from biopercept.errors import count
from biopercept.report.layout import ReportWarning
from biopercept.report.scores import estimate, other_split, pooled
from biopercept.report.text import listed, score, shown
from biopercept.results.audit import Audit
from biopercept.results.cross_validation import CrossValidation, NumberValidation
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.results.folder import Results, preparations_of
from biopercept.results.groups import Groups
from biopercept.results.predictions import PredictionFolder
from biopercept.results.reading import FEW_SUBJECTS

_Run = TypeVar("_Run", bound=CrossValidation | NumberValidation)
K_FOLD = "k-fold"
"""How every audit divides people."""
_SMALL_SPREAD = 0.03
_LARGE_POOLING_GAP = 0.05
_LARGE_CALIBRATION_ERROR = 0.10
_GRAVE_WORDS = ("leak", "transductive")
PROBE_MEANING = {
    "clock-only": "a clock that sees no sensor; the order of the protocol gives the label away, and a model may "
    "be using it",
    "motion-only": "movement alone; the model may be reading what the hands did, not the state of the body",
    "quality-only": "signal quality alone; the label can be predicted from how clean the recording is",
    "dummy": "guessing by class fractions",
}


def _grave(text: str) -> ReportWarning:
    return ReportWarning(True, text)


def _light(text: str) -> ReportWarning:
    return ReportWarning(False, text)


def warnings_of(results: Results) -> tuple[ReportWarning, ...]:
    """Return every warning about a folder of results, the grave ones first, each once."""
    warnings = [*_of_validations(results.cross_validations), *_of_audits(results)]
    warnings += [
        ReportWarning(_is_grave(text), text) for comparison in results.comparisons for text in comparison.cautions
    ]
    warnings += _of_curves(results)
    warnings += [*_of_comparison(results.cross_validations), *_of_failures(results)]
    for numbers in _by_study(results.number_validations):
        warnings += _of_study(numbers, results.number_validations, _of_numbers(numbers))
    warnings += _of_predictions(results.predictions)
    done = [(one.name, one.warnings) for one in results.explanations]
    done += [(one.name, one.warnings) for one in results.reconstructions]
    warnings += [_light(f"{words[:1].upper()}{words[1:]} ({name}).") for name, of_one in done for words in of_one]
    everything: list[CrossValidation | NumberValidation] = [*results.cross_validations, *results.number_validations]
    for runs in _by_study(everything):
        of_groups = [warning for run in runs for warning in _of_groups(run.groups, run.model)]
        warnings += _of_study(runs, everything, of_groups)
    return tuple(sorted(dict.fromkeys(warnings), key=lambda warning: not warning.is_grave))


def _of_validations(validations: Sequence[CrossValidation]) -> Iterator[ReportWarning]:
    """Give what is to be said of cross-validations, with the study in front where they are of several."""
    for runs in _by_study(validations):
        warnings = [*_of_probes(runs), *_of_files(runs)]
        for run in runs:
            warnings += [*_of_protocol(run), *_of_scores(run)]
        yield from _of_study(runs, validations, warnings)


def _by_study(validations: Sequence[_Run]) -> list[list[_Run]]:
    studies = dict.fromkeys(run.study for run in validations)
    return [[run for run in validations if run.study == study] for study in studies]


def _of_study(
    runs: Sequence[CrossValidation | NumberValidation],
    validations: Sequence[CrossValidation | NumberValidation],
    warnings: Iterable[ReportWarning],
) -> list[ReportWarning]:
    """Return warnings of ``runs``, all of one study, with its name in front where ``validations`` are of others too."""
    study = shown(runs[0].study)
    if not study or len({run.study for run in validations}) == 1:
        return list(warnings)
    return [replace(warning, text=f"{study}: {warning.text}") for warning in warnings]


def _of_predictions(folders: Sequence[PredictionFolder]) -> Iterator[ReportWarning]:
    """Say what is remarked of recordings, each remark once with how many it is of; and what no prediction says."""
    for folder in folders:
        counts = Counter(remark for one in folder.sidecars for remark in dict.fromkeys(one.remarks))
        whole = count(len(folder.sidecars), "recording")
        for remark, n in counts.most_common():
            yield _light(f"{folder.name}: {n} of {whole}: {remark}.")
        if folder.models:
            yield _light(
                f"{folder.name}: whether predictions are right is not known here. What the model was fitted on, how it "
                f"scored on people it had not seen, and what it is not for, its card says ({listed(folder.models)})."
            )


def _of_groups(groups: Groups | None, model: str) -> list[ReportWarning]:
    return [_light(f"{words[:1].upper()}{words[1:]} ({model}).") for words in (groups.warnings if groups else ())]


def same_data(one: CrossValidation, other: CrossValidation) -> bool:
    """Return whether two cross-validations answer the same question: task, classes and store agree."""
    first, second = ((run.task, run.classes, run.fingerprint.get("store")) for run in (one, other))
    return first == second


def scored_beside(audit: Audit, validations: Sequence[CrossValidation]) -> list[CrossValidation]:
    """Return the cross-validations of the task and the store that were audited."""
    audited = (audit.task, audit.fingerprint.get("store"))
    return [run for run in validations if (run.task, run.fingerprint.get("store")) == audited and not run.is_probe]


def _of_probes(validations: Sequence[CrossValidation]) -> Iterator[ReportWarning]:
    """Compare every probe with the models that answer the same question, in one sentence per probe."""
    for probe in validations:
        models = [other for other in validations if same_data(probe, other) and not other.is_probe]
        reached = probe.balanced_accuracy.mean
        if not probe.is_probe or not models or reached is None:
            continue
        beaten = [other for other in models if (other.balanced_accuracy.mean or 0.0) <= reached]
        meaning = PROBE_MEANING[probe.model]
        apart = other_split(probe.split, probe.n_folds, beaten or models)
        meaning += f" (the probe is of {apart})" if apart else ""
        if beaten:
            others = " and ".join(f"{other.model} reaches {estimate(other.balanced_accuracy)}" for other in beaten)
            yield _grave(
                f"The probe {probe.model} reaches a balanced accuracy of {estimate(probe.balanced_accuracy)} where "
                f"{others}: it is {meaning}."
            )
        elif probe.model != "dummy" and _ends_above(probe, probe.chance_level):
            yield _light(
                f"The probe {probe.model} alone reaches {estimate(probe.balanced_accuracy)}, above guessing "
                f"({score(probe.chance_level)}): it is {meaning}."
            )


def _ends_above(run: CrossValidation, level: float) -> bool:
    return run.balanced_accuracy.ci95 is not None and run.balanced_accuracy.ci95[0] > level


def _of_files(validations: Sequence[CrossValidation]) -> Iterator[ReportWarning]:
    """Give what the cross-validations themselves warned of, the same words once, with the models they are about."""
    models: dict[str, list[str]] = {}
    for run in validations:
        for warning in dict.fromkeys(run.warnings):
            models.setdefault(warning, []).append(run.model)
    for warning, names in models.items():
        yield ReportWarning(
            _is_grave(warning), f"{warning[:1].upper()}{warning[1:]} ({', '.join(dict.fromkeys(names))})."
        )


def _of_curves(results: Results) -> Iterator[ReportWarning]:
    """Give what the curves warned of, where their own cross-validations do not say it already."""
    validations: list[CrossValidation | NumberValidation] = [*results.cross_validations, *results.number_validations]
    known = {warning for run in validations for warning in run.warnings}
    curves: list[LearningCurve | PersonalCurve] = [*results.learning_curves, *results.personal_curves]
    for curve in curves:
        for warning in curve.warnings:
            if warning not in known:
                is_grave = _is_grave(warning) or "UNCHECKED" in warning
                yield ReportWarning(is_grave, f"{warning[:1].upper()}{warning[1:]} ({curve.name}).")


def _is_grave(text: str) -> bool:
    return any(word in text.lower() for word in _GRAVE_WORDS)


def _of_protocol(run: CrossValidation) -> Iterator[ReportWarning]:
    if run.is_transductive and not _is_said(run, "transductive"):
        yield _grave(
            f"{run.model} is transductive: its inputs were scaled with statistics of each tested subject's whole "
            f"recording (normalisation {run.normalisation}), which a live system would not have."
        )
    if run.split == "time":
        yield _light(
            f"{run.model} was split by time within each subject: the scores are those of subject-specific models and "
            "say nothing about people never seen."
        )


def _is_said(run: CrossValidation, word: str) -> bool:
    """Return whether one of the file's own warnings says it already."""
    return any(word in warning.lower() for warning in run.warnings)


def _of_scores(run: CrossValidation) -> Iterator[ReportWarning]:
    scores, n = run.balanced_accuracy, run.n_subjects
    undefined = sum(row.balanced_accuracy is None for row in run.subjects)
    if undefined and not _is_said(run, "one class"):
        yield _light(
            f"{count(undefined, 'subject')} of {n} had one class only, so the scores are over the other "
            f"{n - undefined}."
        )
    if len(run.subjects) != n:
        yield _grave(f"{run.name}: scores.json counts {n} subjects and scores.csv has {len(run.subjects)}.")
    if run.is_probe:
        return
    if n < FEW_SUBJECTS and not _is_said(run, "intervals are rough"):
        yield _light(
            f"Only {count(n, 'subject')}: the intervals are rough, and small differences between models mean nothing."
        )
    if scores.mean is None:
        yield _grave(f"The balanced accuracy of {run.model} is not defined: no subject has windows of two classes.")
    elif scores.ci95 is None:
        yield _grave(f"{run.model} has no interval, so its score cannot be told from chance.")
    elif scores.ci95[0] <= run.chance_level:
        yield _grave(
            f"{run.model} is not shown to be better than guessing: its interval {estimate(scores)} reaches down to "
            f"{score(run.chance_level)} or below."
        )
    if scores.subjects_below_chance:
        yield _light(
            f"{run.model} is below chance for {scores.subjects_below_chance} of {n} subjects; the worst has "
            f"{score(scores.worst)}."
        )
    yield from _of_spread(run)


def _of_spread(run: CrossValidation) -> Iterator[ReportWarning]:
    spread, pooled, per_subject = run.balanced_accuracy.sd, run.auroc.pooled, run.auroc.mean
    if spread is not None and spread < _SMALL_SPREAD and _ends_above(run, run.chance_level) and run.n_subjects > 2:
        yield _grave(
            f"Scores of {run.model} differ by only {score(spread)} (SD) over subjects; people differ more than "
            "that, so look for a leak."
        )
    if pooled is not None and per_subject is not None and abs(pooled - per_subject) > _LARGE_POOLING_GAP:
        yield _light(
            f"AUROC of {run.model} is {score(per_subject)} within subjects and {score(pooled)} pooled: one "
            "threshold does not suit everybody."
        )
    if run.ece is not None and math.isfinite(run.ece) and run.ece > _LARGE_CALIBRATION_ERROR:
        yield _light(
            f"Probabilities of {run.model} are off by {score(run.ece)} on average; do not read them as chances."
        )


def _of_comparison(validations: Sequence[CrossValidation]) -> Iterator[ReportWarning]:
    for run in validations:
        for other in validations:
            if run.name >= other.name or not same_data(run, other):
                continue
            if {s.participant: s.n_windows for s in run.subjects} != {
                s.participant: s.n_windows for s in other.subjects
            }:
                yield _grave(
                    f"{run.model} ({run.name}) and {other.model} ({other.name}) were not scored on the same windows "
                    f"({run.n_windows:,} of {run.n_subjects} subjects, {other.n_windows:,} of {other.n_subjects}): do "
                    "not compare them."
                )


def _of_audits(results: Results) -> Iterator[ReportWarning]:
    for audit in results.audits:
        apart = other_split(K_FOLD, audit.n_folds, scored_beside(audit, results.cross_validations))
        of_folds = f" (The probe is of {apart}.)" if apart else ""
        for row in audit.findings:
            if row.verdict != "ok":
                which = f" of {shown(audit.name)}" if len(results.audits) > 1 else ""
                words = f"Audit{which}, {row.probe}: {row.sentence}{of_folds if row.chance is not None else ''}"
                yield ReportWarning(row.verdict == "leak", words)


def _of_failures(results: Results) -> Iterator[ReportWarning]:
    begun = [f"The cross-validation in {name}" for name in results.unfinished]
    begun += [f"The curve over own labels in {name}" for name in results.unfinished_curves]
    for what in begun:
        yield _light(f"{what} has not finished and is not shown; run its command again, it goes on.")
    for folder in results.predictions:
        if "adapt" in folder.summary.columns and any("TRANSDUCTIVE" in how for how in folder.summary.texts("adapt")):
            yield _grave(
                f"{folder.name} is transductive: the threshold of each recording was moved by the whole of it "
                "(--adapt all), which a live system would not have."
            )
        if len(folder.failures):
            yield _light(
                f"{count(len(folder.failures), 'recording')} in {folder.name} could not be predicted; see the "
                "table of failures."
            )
    for log in results.logs:
        failed = [" ".join(part for part in row.key if part) for row in preparations_of(log) if row.is_failed]
        if failed:
            yield _light(
                f"{count(len(failed), 'recording')} of {log.name} failed or were not yet prepared: {listed(failed)}."
            )


def _of_numbers(validations: Sequence[NumberValidation]) -> Iterator[ReportWarning]:
    for run in validations:
        for warning in run.warnings:
            yield ReportWarning(_is_grave(warning), warning)
        if run.is_probe:
            continue
        if run.n_subjects < FEW_SUBJECTS and not any("intervals are rough" in w for w in run.warnings):
            yield _light(f"Only {count(run.n_subjects, 'subject')}: small differences between models mean nothing.")
        explained = run.r2.pooled_ci95
        if explained is None or explained[0] <= 0:
            yield _grave(
                f"{run.model} is not shown to predict {run.task} better than one number for everybody: "
                f"its pooled R2 is {pooled(run.r2)}."
            )
        for probe in validations:
            same = (probe.task, probe.fingerprint.get("store")) == (run.task, run.fingerprint.get("store"))
            if probe.is_probe and same and (probe.mae.mean or 0.0) <= (run.mae.mean or 0.0):
                apart = other_split(probe.split, probe.n_folds, [run])
                yield _grave(
                    f"The probe {probe.model} errs by {estimate(probe.mae)} in {run.task} where {run.model} errs by "
                    f"{estimate(run.mae)}: the model is no better than what knows nothing of the body"
                    f"{f' (the probe is of {apart})' if apart else ''}."
                )
