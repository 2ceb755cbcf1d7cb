"""A whole audit: every probe in turn, on one set of windows and folds, each ending in a verdict and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from biopercept.audit.confounds import probe_design, probe_permutation, probe_random_split
from biopercept.audit.data import AuditData, FoldValues, ProbeScore, gather
from biopercept.audit.design import (
    constant_label,
    fixed_order,
    label_is_file,
    overlap,
    person_effect,
    probe_duplicates,
    probe_sets,
    spread,
)
from biopercept.audit.model_outputs import FOLDER, ModelOutputs, fit_model, probe_folds, read_outputs, require_scores
from biopercept.audit.readings import (
    FEATURES,
    LATENTS,
    OUTPUTS,
    logits_of,
    probe_clock_agreement,
    probe_identity,
    probe_time,
    subject_tells_label,
)
from biopercept.audit.settings import AuditSettings
from biopercept.baselines.features import fit_clock, fit_logistic, fit_ridge
from biopercept.errors import SettingsError
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.runs import FoldDone, remove, require_own_folder
from biopercept.files import write_text
from biopercept.progress import steps
from biopercept.report.audit import audit_page
from biopercept.results.audit import VERDICTS, Audit, Finding, Skipped, worst_verdict
from biopercept.results.plan import SETTINGS_FILES
from biopercept.results.reading import write_result
from biopercept.store.reading import open_store
from biopercept.studies.plain import groups_by_subject
from biopercept.training.engine import engine_for, threads

ProbeBegins = Callable[[str], None]
"""Called with the name of each group of probes as it begins."""
REFERENCE = "logistic"
"""The model of the features that probes are compared with where no other is given."""
_NOT_OF_NUMBERS = {
    "label-order": "a number has no order of conditions; clock-only says what time alone tells of it",
    "time-in-features": "a number changes from window to window, so that there is no time in which the label stands "
    "still; clock-only says what time alone tells of it",
    "identity-in-features": "it is read where the label stands still; person-effect says how much of the number is who "
    "the person is",
    "spread-of-ridge": "its bars are those of balanced accuracy; read the CCC of each subject in scores.csv",
}
"""Probes that need classes, and why."""
PAGE_FILE = "audit.md"
_OWN = (Audit.FILE, PAGE_FILE, *SETTINGS_FILES, "report.html")


@dataclass(frozen=True)
class AuditRequest:
    """What to audit and how.

    Attributes
    ----------
    evaluation : EvaluationRequest
        Store, task, normalisation, subjects, seed; and how a network would be fitted.
    model_scores : Path or None
        A finished folder of ``cross-validate`` whose predictions are audited.
    fits : bool
        Whether a Perceiver is fitted in few folds, so that its latents can be audited.
    participants : Path or None
        A participants.tsv whose columns are sets.
    """

    evaluation: EvaluationRequest
    settings: AuditSettings
    model_scores: Path | None = None
    fits: bool = False
    participants: Path | None = None

    def __post_init__(self) -> None:
        if self.fits and self.model_scores is not None:
            raise SettingsError("--model-scores and --fit are both given; audit one model at a time")


@dataclass(frozen=True, eq=False)
class _Model:
    """The model under audit: its predictions, and its latents where it was fitted here."""

    outputs: ModelOutputs
    score: ProbeScore
    latents: tuple[FoldValues, ...] = ()


def audit(
    request: AuditRequest,
    output: Path,
    *,
    n_jobs: int = 1,
    on_probe: ProbeBegins | None = None,
    on_fold: FoldDone | None = None,
) -> Audit:
    """Return the findings of an audit; folds that it fits are kept in ``output``, so that it goes on if interrupted.

    Raises StudyError where task, windows, subjects, scores or participants cannot be used. Raises SettingsError where
    settings, scores and store do not fit each other.

    """
    if request.model_scores is not None:
        require_scores(request.model_scores)
    engine_for(request.evaluation.device)  # one that is not there is refused before hours of work
    with open_store(request.evaluation.store) as store, threads(1):
        data = gather(store, request.evaluation, request.settings)
        if data.is_of_numbers and (request.fits or request.model_scores is not None):
            raise SettingsError(
                f"task {data.plan.task.name!r} predicts a number, and outputs of models are audited of classes and "
                "levels alone; leave --model-scores and --fit out"
            )
        model = None
        if request.model_scores is not None:
            outputs = read_outputs(request.model_scores, data)
            model = _Model(outputs, data.score(outputs.probabilities))
        elif request.fits:
            outputs, latents = fit_model(store, request.evaluation, data, output, n_jobs=n_jobs, on_fold=on_fold)
            model = _Model(outputs, data.score(outputs.probabilities), latents)
        participants = {} if request.participants is None else groups_by_subject(request.participants)
        n_groups = 5 + (not data.is_of_numbers) * (1 if model is None else 2)
        with steps("probes", n_groups, done=-1) as done:

            def tell(name: str) -> None:
                done.advance(name)
                if on_probe is not None:
                    on_probe(name)

            outcomes = list(_probes(data, model, participants, tell))
    findings = tuple(f for f in outcomes if isinstance(f, Finding))
    plan, windows = data.plan, data.windows
    return Audit(
        verdict=worst_verdict(findings),
        counts={v: sum(f.verdict == v for f in findings) for v in VERDICTS},
        task=plan.task.name,
        classes=windows.only.classes,
        model=None if model is None else model.outputs.name,
        normalisation=plan.normalisation.mode,
        n_subjects=len(windows.subjects),
        n_windows=len(windows),
        n_folds=len(plan.folds),
        seed=plan.request.seed,
        findings=findings,
        skipped=tuple(s for s in outcomes if isinstance(s, Skipped)),
        warnings=plan.warnings,
        settings=asdict(data.settings),
        fingerprint=plan.fingerprint,
    )


def _probes(
    data: AuditData, model: _Model | None, participants: dict[str, dict[str, str]], tell: ProbeBegins
) -> Iterator[Finding | Skipped]:
    tell("make-up of the study")
    yield constant_label(data)
    yield label_is_file(data)
    yield person_effect(data) if data.is_of_numbers else fixed_order(data)
    yield overlap(data)
    yield from probe_sets(data, participants)
    tell("label from clock, movement, quality, gaps and file")
    reference_name = "ridge" if data.is_of_numbers else REFERENCE
    reference = data.score(data.predict(fit_ridge if data.is_of_numbers else fit_logistic))
    baseline, baseline_name = (reference, reference_name) if model is None else (model.score, model.outputs.name)
    design, clock = probe_design(data, baseline, baseline_name)
    yield from design
    if not data.is_of_numbers:
        tell("time and identity in the features")
        tie = subject_tells_label(data)
        yield probe_time(data, FEATURES, data.fold_features, clock, reference)
        everybody = FoldValues(np.empty(0, dtype=np.int64), np.arange(len(data.windows)), data.features)
        yield probe_identity(data, FEATURES, [everybody], tie)
    tell("permuted labels")
    yield probe_permutation(data)
    tell("random split")
    yield probe_random_split(data, None if model is None else model.score)
    tell("copies")
    yield probe_duplicates(data)
    if data.is_of_numbers:
        yield from (Skipped(probe=probe, reason=reason) for probe, reason in _NOT_OF_NUMBERS.items())
        return
    scores = {REFERENCE: reference} if model is None else {REFERENCE: reference, model.outputs.name: model.score}
    yield from spread(data, scores)
    if model is not None:
        tell("the model's outputs and latents")
        yield from _of_model(data, model, clock, tie)


def _of_model(data: AuditData, model: _Model, clock: ProbeScore, tie: ProbeScore) -> Iterator[Finding | Skipped]:
    yield probe_folds(data, model.outputs)
    probabilities = model.outputs.probabilities
    folds = [fold.with_values(logits_of(probabilities)) for fold in data.fold_features]
    yield probe_time(data, OUTPUTS, folds, clock, model.score)
    yield probe_clock_agreement(data, probabilities, data.predict(fit_clock), clock)
    everybody = FoldValues(np.empty(0, dtype=np.int64), np.arange(len(data.windows)), logits_of(probabilities))
    yield probe_identity(data, OUTPUTS, [everybody], tie)
    if model.latents:
        yield probe_time(data, LATENTS, model.latents, clock, model.score)
        yield probe_identity(data, LATENTS, model.latents, tie)


def write_audit(audit: Audit, output: Path) -> None:
    """Write ``audit.json`` for programs and ``audit.md`` for people; raises OutputError where they cannot be."""
    write_result(output / Audit.FILE, audit)  # first: by it the folder is known as an audit's after a stop
    write_text(output / PAGE_FILE, audit_page(audit))


def claim(output: Path, *, overwrite: bool) -> None:
    """Make sure that an audit may write here, and clear the files of an earlier one where it is to start again.

    Raises SettingsError where the output is a file, or a folder that holds something else and ``overwrite`` is not set.
    """
    is_own = (output / Audit.FILE).is_file() or (output / FOLDER).is_dir()
    require_own_folder(output, "audit", is_own=is_own, overwrite=overwrite)
    if overwrite:
        remove(output, _OWN, (FOLDER,))
