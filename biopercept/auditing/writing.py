"""The files of an audit: audit.json for programs, audit.md for people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from biopercept.auditing.audit import AuditResult
from biopercept.auditing.findings import LEAK, OK, VERDICTS, WARNING
from biopercept.files import write_json, write_text
from biopercept.learning.checkpoint import versions
from biopercept.reporting.text import count, shown, with_interval

SCHEMA = 1
JSON_FILE, PAGE_FILE = "audit.json", "audit.md"
MEANINGS = {
    LEAK: "A way to the label that is not the body was found: it could carry the score, or the model takes it.",
    WARNING: "The design or the data could raise a score; whether they do is not shown. Report it beside the score.",
    OK: "Nothing was found. That is no proof of absence: the interval says how much could have been missed.",
}


def document_of(result: AuditResult) -> dict[str, Any]:
    """Return the content of ``audit.json``."""
    plan, windows = result.material.plan, result.material.windows
    return {
        "schema": SCHEMA,
        "verdict": result.verdict,
        "counts": {v: sum(f.verdict == v for f in result.findings) for v in VERDICTS},
        "task": plan.task.name,
        "classes": list(windows.classes),
        "model": result.model,
        "normalisation": plan.normalisation.mode,
        "n_subjects": len(windows.subjects),
        "n_windows": len(windows),
        "n_folds": len(plan.folds),
        "seed": plan.request.seed,
        "findings": [finding.to_json() for finding in result.findings],
        "skipped": [asdict(skipped) for skipped in result.skipped],
        "warnings": list(plan.warnings),
        "settings": asdict(result.material.settings),
        "fingerprint": {"store": plan.store_fingerprint, **versions()},
    }


def write_audit(result: AuditResult, output: Path) -> dict[str, Any]:
    """Write ``audit.json`` and ``audit.md`` and return the content of the first.

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    document = document_of(result)
    write_text(output / PAGE_FILE, page_of(document))
    write_json(output / JSON_FILE, document)
    return document


def page_of(document: dict[str, Any]) -> str:
    """Return the page: the sentences under their verdict, a table of numbers, what was not looked at."""
    what = f"the answers of {document['model']}" if document["model"] else "data and design"
    lines = [
        f"# Audit of task {_plain(document['task'])}: {document['verdict']}",
        "",
        f"{count(document['n_subjects'], 'subject')}, {count(document['n_windows'], 'window')}, classes "
        f"{', '.join(_plain(c) for c in document['classes'])}, normalisation {document['normalisation']}, "
        f"{document['n_folds']} folds over subjects; audited: {what}. Intervals are 95 % bootstrap intervals over "
        "subjects.",
    ]
    for verdict in reversed(VERDICTS):
        held = [f for f in document["findings"] if f["verdict"] == verdict]
        if held:
            lines += ["", f"## {verdict} ({len(held)})", "", MEANINGS[verdict], ""]
            lines += [f"- **{_plain(f['probe'])}**: {_plain(f['sentence'])}" for f in held]
    lines += ["", "## Numbers", "", "| probe | verdict | score | guessing | what | subjects | windows |"]
    lines += ["|---|---|---|---|---|---|---|", *(_row(f) for f in document["findings"])]
    if document["skipped"]:
        lines += ["", "## Not looked at", ""]
        lines += [f"- **{_plain(s['probe'])}**: {_plain(s['reason'])}." for s in document["skipped"]]
    lines += ["", "How each verdict is reached stands in docs/audit.md.", ""]
    return "\n".join(lines)


def _row(finding: dict[str, Any]) -> str:
    interval = None if finding["ci95"] is None else (finding["ci95"][0], finding["ci95"][1])
    chance = "" if finding["chance"] is None else f"{finding['chance']:.3f}"
    cells = (
        finding["probe"],
        finding["verdict"],
        with_interval(finding["score"], interval),
        chance,
        finding["score_name"],
        f"{finding['n_subjects']:,}",
        f"{finding['n_windows']:,}",
    )
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: object) -> str:
    """Return text of a study that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in shown(text))
