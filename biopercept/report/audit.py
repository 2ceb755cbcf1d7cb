"""An audit as a table, as lines on the terminal and as a Markdown page, the worst verdicts first."""

from __future__ import annotations

from biopercept.errors import count
from biopercept.report.text import Table, score, shown, terminal_table, with_interval
from biopercept.results.audit import LEAK, OK, VERDICTS, WARNING, Audit, Finding

MEANINGS = {
    LEAK: "A way to the label that is not the body was found: it could carry the score, or the model takes it.",
    WARNING: "The design or the data could raise a score; whether they do is not shown. Report it beside the score.",
    OK: "Nothing was found. That is no proof of absence: the interval says how much could have been missed.",
}


def audit_table(audit: Audit) -> Table:
    """Return a row per probe of an audit, the worst verdicts first, each with its sentence."""
    rows: tuple[tuple[str, ...], ...] = tuple(
        (
            row.probe,
            row.verdict,
            with_interval(row.score, row.ci95),
            "" if row.chance is None else score(row.chance),
            row.sentence,
        )
        for row in audit.worst_first
    )
    rows += tuple((skipped.probe, "not made", "", "", f"{skipped.reason}.") for skipped in audit.skipped)
    title = (
        f"Audit of task {audit.task}: {count(len(audit.findings), 'probe')}, {count(audit.n_subjects, 'subject')}, "
        f"{count(audit.n_folds, 'fold')} over subjects"
    )
    return Table(title, ("Probe", "Verdict", "Score", "Guessing", "What it means"), rows, (False,) * 5)


def print_audit(audit: Audit) -> None:
    """Print an audit to stdout: a line per probe, then the sentences of all that is not ok."""
    from rich.console import Console

    whole = audit_table(audit)
    names = {row.probe: row.score_name for row in audit.findings}
    rows = tuple((*row[:4], names.get(row[0], "")) for row in whole.rows)
    narrow = Table(whole.title, (*whole.columns[:4], "Score of"), rows, whole.numeric[:5])
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(terminal_table(narrow))
    for row in audit.worst_first:
        if row.verdict != OK:
            console.print(f"{row.verdict}: {shown(row.probe)}: {shown(row.sentence)}\n", soft_wrap=True)


def audit_page(audit: Audit) -> str:
    """Return the page: the sentences under their verdict, a table of numbers, what was not looked at."""
    what = f"the predictions of {audit.model}" if audit.model else "data and design"
    labels = f"classes {', '.join(_plain(c) for c in audit.classes)}" if audit.classes else "a number"
    lines = [
        f"# Audit of task {_plain(audit.task)}: {audit.verdict}",
        "",
        f"{count(audit.n_subjects, 'subject')}, {count(audit.n_windows, 'window')}, "
        f"{labels}, normalisation {audit.normalisation}, {audit.n_folds} folds "
        f"over subjects; audited: {what}. Intervals are 95 % bootstrap intervals over subjects.",
    ]
    for verdict in reversed(VERDICTS):
        findings = [f for f in audit.findings if f.verdict == verdict]
        if findings:
            lines += ["", f"## {verdict} ({len(findings)})", "", MEANINGS[verdict], ""]
            lines += [f"- **{_plain(f.probe)}**: {_plain(f.sentence)}" for f in findings]
    lines += ["", "## Numbers", "", "| probe | verdict | score | guessing | what | subjects | windows |"]
    lines += ["|---|---|---|---|---|---|---|", *(_row(f) for f in audit.findings)]
    if audit.skipped:
        lines += ["", "## Not looked at", ""]
        lines += [f"- **{_plain(s.probe)}**: {_plain(s.reason)}." for s in audit.skipped]
    lines += ["", "How each verdict is reached stands in docs/audit.md.", ""]
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    cells = (
        finding.probe,
        finding.verdict,
        with_interval(finding.score, finding.ci95),
        "" if finding.chance is None else f"{finding.chance:.3f}",
        finding.score_name,
        f"{finding.n_subjects:,}",
        f"{finding.n_windows:,}",
    )
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: object) -> str:
    """Return text of a study that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in shown(text))
