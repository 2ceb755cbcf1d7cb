"""The files of an audit: audit.json for programs, audit.md for people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from biopercept.auditing.audit import AuditResult
from biopercept.files import write_text
from biopercept.learning.checkpoint import versions
from biopercept.reporting.audit import audit_page
from biopercept.results.audit import VERDICTS, Audit
from biopercept.results.reading import write_result

PAGE_FILE = "audit.md"


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
