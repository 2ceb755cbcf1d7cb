"""A whole audit: every probe in turn, on one set of windows and folds, each ending in a verdict and a sentence.

Its files are audit.json for programs and audit.md for people; what is no audit is not written over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from biopercept.audit.confounds import probe_design, probe_permutation, probe_random_split
from biopercept.audit.data import (
    FEATURES,
    LATENTS,
    OUTPUTS,
    AuditData,
    AuditSettings,
    FoldValues,
    LabelScore,
    gather,
    has_all_values,
)
from biopercept.audit.design import (
    constant_label,
    fixed_order,
    label_is_file,
    overlap,
    probe_duplicates,
    probe_sets,
    read_participants,
    spread,
)
from biopercept.audit.identity import logits_of, probe_identity, subject_tells_label
from biopercept.audit.model_outputs import FOLDER, ModelOutputs, fit_model, probe_folds, read_outputs
from biopercept.audit.time import probe_clock_agreement, probe_time
from biopercept.baselines.features import fit_clock, fit_logistic
from biopercept.data.normalisation import FloatArray
from biopercept.data.splits import Fold
from biopercept.errors import SettingsError
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.runs import remove, require_own_folder
from biopercept.files import write_text
from biopercept.report.audit import audit_page
from biopercept.results.audit import VERDICTS, Audit, Finding, Skipped, Verdict, worst_verdict
from biopercept.results.reading import write_result
from biopercept.store.reading import open_store
from biopercept.training.checkpoint import versions
from biopercept.training.engine import threads

Told = Callable[[str], None]
FoldDone = Callable[[Fold, bool, int], None]
REFERENCE = "logistic"
"""The model of the features that probes are compared with where no other is given."""
PAGE_FILE = "audit.md"
_OWN = (Audit.FILE, PAGE_FILE, "config.yaml", "report.html")


@dataclass(frozen=True)
class AuditRequest:
    """What to audit and how.

    Attributes
    ----------
    evaluation : EvaluationRequest
        Store, task, normalisation, subjects, seed; and how a network would be fitted.
    model_scores : Path or None
        A finished folder of ``cross-validate`` whose answers are audited.
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
class AuditResult:
    """All findings of an audit, and what they are about.

    Attributes
    ----------
    model : str or None
        Name of the model whose answers were audited.
    """

    data: AuditData
    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    model: str | None

    @property
    def verdict(self) -> Verdict:
        """Return the worst verdict."""
        return worst_verdict(self.findings)


@dataclass(frozen=True, eq=False)
class _Model:
    """The model under audit: its answers, and its latents where it was fitted here."""

    outputs: ModelOutputs
    score: LabelScore
    latents: tuple[FoldValues, ...] = ()


def audit(
    request: AuditRequest,
    output: Path,
    *,
    n_jobs: int = 1,
    on_probe: Told | None = None,
    on_fold: FoldDone | None = None,
) -> AuditResult:
    """Return the findings of an audit.

    Raises StudyError where task, windows, subjects, scores or participants cannot be used. Raises SettingsError where
    settings, scores and store do not fit each other.

    Parameters
    ----------
    output : Path
        Where folds that are fitted are kept, so that an interrupted audit goes on.
    n_jobs : int
        Folds fitted at once.
    on_probe : callable, optional
        Told the name of each group of probes as it begins.
    on_fold : callable, optional
        Told ``(fold, was_done_before, n_folds)`` as folds of the network finish.
    """
    with open_store(request.evaluation.store) as store, threads(1):
        data = gather(store, request.evaluation, request.settings)
        model = None
        if request.model_scores is not None:
            outputs = read_outputs(request.model_scores, data)
            model = _Model(outputs, data.score(outputs.probabilities))
        elif request.fits:
            outputs, latents = fit_model(store, request.evaluation, data, output, n_jobs=n_jobs, on_fold=on_fold)
            model = _Model(outputs, data.score(outputs.probabilities), latents)
        participants = {} if request.participants is None else read_participants(request.participants)
        outcomes = list(_probes(data, model, participants, on_probe or (lambda name: None)))
    return AuditResult(
        data,
        tuple(f for f in outcomes if isinstance(f, Finding)),
        tuple(s for s in outcomes if isinstance(s, Skipped)),
        None if model is None else model.outputs.name,
    )


def _probes(
    data: AuditData, model: _Model | None, participants: dict[str, dict[str, str]], tell: Told
) -> Iterator[Finding | Skipped]:
    """Give the findings one after the other."""
    tell("make-up of the study")
    yield constant_label(data)
    yield label_is_file(data)
    yield fixed_order(data)
    yield overlap(data)
    yield from probe_sets(data, participants)
    tell("label from clock, movement, quality, gaps and file")
    reference = data.score(data.predict(fit_logistic))
    baseline, baseline_name = (reference, REFERENCE) if model is None else (model.score, model.outputs.name)
    design, clock = probe_design(data, baseline, baseline_name)
    yield from design
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
    scores = {REFERENCE: reference} if model is None else {REFERENCE: reference, model.outputs.name: model.score}
    yield from spread(data, scores)
    if model is not None:
        tell("the model's outputs and latents")
        yield from _of_model(data, model, clock, tie)


def _of_model(data: AuditData, model: _Model, clock: LabelScore, tie: LabelScore) -> Iterator[Finding | Skipped]:
    yield probe_folds(data, model.outputs)
    probabilities = model.outputs.probabilities
    folds = [_given(fold, logits_of(probabilities)) for fold in data.fold_features]
    yield probe_time(data, OUTPUTS, folds, clock, model.score)
    yield probe_clock_agreement(data, probabilities, data.predict(fit_clock), clock)
    everybody = FoldValues(np.empty(0, dtype=np.int64), np.arange(len(data.windows)), logits_of(probabilities))
    yield probe_identity(data, OUTPUTS, [everybody], tie)
    if model.latents:
        yield probe_time(data, LATENTS, model.latents, clock, model.score)
        yield probe_identity(data, LATENTS, model.latents, tie)


def _given(fold: FoldValues, values: FloatArray) -> FoldValues:
    """Return the rows of a fold for which the model gave an answer."""
    is_given = has_all_values(values)
    return FoldValues(fold.training[is_given[fold.training]], fold.test[is_given[fold.test]], values)


def audit_of(result: AuditResult) -> Audit:
    """Return what an audit found as it is written."""
    plan, windows = result.data.plan, result.data.windows
    return Audit(
        verdict=result.verdict,
        counts={v: sum(f.verdict == v for f in result.findings) for v in VERDICTS},
        task=plan.task.name,
        classes=windows.only.classes,
        model=result.model,
        normalisation=plan.normalisation.mode,
        n_subjects=len(windows.subjects),
        n_windows=len(windows),
        n_folds=len(plan.folds),
        seed=plan.request.seed,
        findings=result.findings,
        skipped=result.skipped,
        warnings=plan.warnings,
        settings=asdict(result.data.settings),
        fingerprint={"store": plan.store_fingerprint, **versions()},
    )


def write_audit(result: AuditResult, output: Path) -> Audit:
    """Write ``audit.json`` and ``audit.md`` and return what they hold.

    Raises OutputError where they cannot be written.
    """
    audit = audit_of(result)
    write_text(output / PAGE_FILE, audit_page(audit))
    write_result(output / Audit.FILE, audit)
    return audit


def claim(output: Path, *, overwrite: bool) -> None:
    """Make sure that an audit may write here, and clear the files of an earlier one where it is to start again.

    An audit that has begun or ended here goes on, or is made again.

    Raises SettingsError where the output is a file, or a folder that holds something else and ``overwrite`` is not set.
    """
    is_own = (output / Audit.FILE).is_file() or (output / FOLDER).is_dir()
    require_own_folder(output, "audit", is_own=is_own, overwrite=overwrite)
    if overwrite:
        remove(output, _OWN, (FOLDER,))
