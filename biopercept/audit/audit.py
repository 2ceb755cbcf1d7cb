"""A whole audit: every probe in turn, on one set of windows and folds, each ending in a verdict and a sentence.

Its files are audit.json for programs and audit.md for people; what is no audit is not written over.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from biopercept.audit.confounds import probe_design
from biopercept.audit.contrasts import probe_permutation, probe_random_split
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
from biopercept.audit.material import (
    FEATURES,
    LATENTS,
    OUTPUTS,
    AuditSettings,
    FoldValues,
    LabelScore,
    Material,
    gather,
    has_all_values,
)
from biopercept.audit.model_outputs import FOLDER, ModelOutputs, fit_model, probe_folds, read_outputs
from biopercept.audit.time import probe_clock_agreement, probe_time
from biopercept.baselines.features import fit_logistic
from biopercept.baselines.probes import fit_clock
from biopercept.data.normalisation import FloatArray
from biopercept.data.splits import Fold
from biopercept.errors import OutputError, SettingsError
from biopercept.evaluation.plan import EvaluationRequest
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

    material: Material
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

    Raises
    ------
    StudyError
        Where task, windows, subjects, scores or participants cannot be used.
    SettingsError
        Where settings, scores and store do not fit each other.
    """
    with open_store(request.evaluation.store) as store, threads(1):
        material = gather(store, request.evaluation, request.settings)
        model = None
        if request.model_scores is not None:
            outputs = read_outputs(request.model_scores, material)
            model = _Model(outputs, material.score(outputs.probabilities))
        elif request.fits:
            outputs, latents = fit_model(
                store, request.evaluation, request.settings, material, output, n_jobs=n_jobs, on_fold=on_fold
            )
            model = _Model(outputs, material.score(outputs.probabilities), latents)
        participants = {} if request.participants is None else read_participants(request.participants)
        outcomes = list(_probes(material, model, participants, on_probe or (lambda name: None)))
    return AuditResult(
        material,
        tuple(f for f in outcomes if isinstance(f, Finding)),
        tuple(s for s in outcomes if isinstance(s, Skipped)),
        None if model is None else model.outputs.name,
    )


def _probes(
    material: Material, model: _Model | None, participants: dict[str, dict[str, str]], tell: Told
) -> Iterator[Finding | Skipped]:
    """Give the findings one after the other."""
    tell("make-up of the study")
    yield constant_label(material)
    yield label_is_file(material)
    yield fixed_order(material)
    yield overlap(material)
    yield from probe_sets(material, participants)
    tell("label from clock, movement, quality, gaps and file")
    reference = material.score(material.answers(fit_logistic))
    rival, rival_name = (reference, REFERENCE) if model is None else (model.score, model.outputs.name)
    design, clock = probe_design(material, rival, rival_name)
    yield from design
    tell("time and identity in the features")
    tie = subject_tells_label(material)
    yield probe_time(material, FEATURES, material.fold_features, clock, reference)
    everybody = FoldValues(np.empty(0, dtype=np.int64), np.arange(len(material.windows)), material.features)
    yield probe_identity(material, FEATURES, [everybody], tie)
    tell("permuted labels")
    yield probe_permutation(material)
    tell("random split")
    yield probe_random_split(material, None if model is None else model.score)
    tell("copies")
    yield probe_duplicates(material)
    scores = {REFERENCE: reference} if model is None else {REFERENCE: reference, model.outputs.name: model.score}
    yield from spread(material, scores)
    if model is not None:
        tell("the model's outputs and latents")
        yield from _of_model(material, model, clock, tie)


def _of_model(material: Material, model: _Model, clock: LabelScore, tie: LabelScore) -> Iterator[Finding | Skipped]:
    yield probe_folds(material, model.outputs)
    probabilities = model.outputs.probabilities
    folds = [_given(fold, logits_of(probabilities)) for fold in material.fold_features]
    yield probe_time(material, OUTPUTS, folds, clock, model.score)
    yield probe_clock_agreement(material, probabilities, material.answers(fit_clock), clock)
    everybody = FoldValues(np.empty(0, dtype=np.int64), np.arange(len(material.windows)), logits_of(probabilities))
    yield probe_identity(material, OUTPUTS, [everybody], tie)
    if model.latents:
        yield probe_time(material, LATENTS, model.latents, clock, model.score)
        yield probe_identity(material, LATENTS, model.latents, tie)


def _given(fold: FoldValues, values: FloatArray) -> FoldValues:
    """Return the rows of a fold for which the model gave an answer."""
    is_given = has_all_values(values)
    return FoldValues(fold.training[is_given[fold.training]], fold.test[is_given[fold.test]], values)


def audit_of(result: AuditResult) -> Audit:
    """Return what an audit found as it is written."""
    plan, windows = result.material.plan, result.material.windows
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
        settings=asdict(result.material.settings),
        fingerprint={"store": plan.store_fingerprint, **versions()},
    )


def write_audit(result: AuditResult, output: Path) -> Audit:
    """Write ``audit.json`` and ``audit.md`` and return what they hold.

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    audit = audit_of(result)
    write_text(output / PAGE_FILE, audit_page(audit))
    write_result(output / Audit.FILE, audit)
    return audit


def claim(output: Path, *, overwrite: bool) -> None:
    """Make sure that an audit may write here, and clear the files of an earlier one where it is to start anew.

    An audit that has begun or ended here goes on, or is made again.

    Raises
    ------
    OutputError
        With exit code 2 where the output is a file, or a folder that holds something else and ``overwrite`` is not set.
    """
    reason = ""
    if output.is_file():  # not even --overwrite replaces a file by a folder
        reason = f"{output} is a file; choose a folder for the results"
    elif output.is_dir() and not overwrite:
        is_own = (output / Audit.FILE).is_file() or (output / FOLDER).is_dir()
        if not is_own and any(not path.name.startswith(".") for path in output.iterdir()):
            reason = f"{output} is not empty and holds no audit; choose another output or add --overwrite"
    if reason:
        fault = OutputError(reason)
        fault.exit_code = 2
        raise fault
    if overwrite:
        for name in _OWN:
            (output / name).unlink(missing_ok=True)
        if (output / FOLDER).is_dir() and not (output / FOLDER).is_symlink():
            shutil.rmtree(output / FOLDER)
