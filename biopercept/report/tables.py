"""Tables of results for the terminal, the page, Markdown and LaTeX: every number with unit, n and interval.

No markup is taken from any cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biopercept.report.text import NOT_DEFINED, count, duration, score, shown, span, with_interval
from biopercept.results.cross_validation import CrossValidation
from biopercept.results.reading import ResultTable, ScoreEstimate

if TYPE_CHECKING:
    from rich.table import Table as RichTable


SPLITS = {
    "subject": "leave one subject out",
    "k-fold": "k-fold over subjects",
    "study": "leave one study out",
    "time": "by time within each subject",
}
"""What the values of ``split`` mean."""

CHANCE = {"majority": "Chance: majority (accuracy)", "dummy": "Chance: class shares"}
"""Headings of the chance levels that a cross-validation measures."""
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # at the start of a row it would be an option of the line break before
    "]": "{]}",
    "…": r"\ldots{}",
}


@dataclass(frozen=True)
class Table:
    """A table of text, ready to be shown.

    Attributes
    ----------
    title : str
        What the rows are, with n.
    columns : tuple of str
        Headings; the first names the row.
    rows : tuple of tuple of str
        Cells, not yet escaped for any medium.
    numeric : tuple of bool
        Whether a column is set to the right.
    fold_above : int
        A page shows the table closed where it has more rows.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    fold_above: int = 60


def score_table(validations: Sequence[CrossValidation]) -> Table:
    """Return a row per cross-validation: scores with 95 % intervals, chance, split and scaling."""
    levels = tuple(dict.fromkeys(name for run in validations for name in run.chance))
    has_mcc = any(run.mcc.mean is not None for run in validations)
    has_few_labels = any(run.labels is not None and run.labels.share < 1 for run in validations)
    columns = (
        "Model",
        "Balanced accuracy",
        "Macro-F1",
        "AUROC per subject",
        "AUROC pooled",
        *(("MCC",) if has_mcc else ()),
        "Median subject",
        "Worst subject",
        "Subjects below chance",
        "Chance: guessing",
        *(CHANCE.get(name, f"Chance: {name}") for name in levels),
        "Brier score",
        "Calibration error",
        "Normalisation",
        "Split",
        *(("Labels of training subjects",) if has_few_labels else ()),
        "Subjects",
        "Windows",
    )
    rows = tuple(
        _score_row(run, _label(run, validations), levels, has_few_labels, has_mcc=has_mcc) for run in validations
    )
    title = "Scores: mean over subjects [95 % bootstrap interval over subjects]"
    words = (False,) * (2 + has_few_labels)
    return Table(title, columns, rows, (False,) + (True,) * (10 + has_mcc + len(levels)) + (*words, True, True))


def _score_row(
    run: CrossValidation, label: str, levels: Sequence[str], has_few_labels: bool, *, has_mcc: bool
) -> tuple[str, ...]:
    below = run.balanced_accuracy.subjects_below_chance
    return (
        label,
        estimate(run.balanced_accuracy),
        estimate(run.macro_f1),
        estimate(run.auroc),
        score(run.auroc.pooled),
        *((estimate(run.mcc),) if has_mcc else ()),
        score(run.balanced_accuracy.median),
        score(run.balanced_accuracy.worst),
        NOT_DEFINED if below is None else f"{below} of {run.n_subjects}",
        score(run.chance_level),
        *(score(run.chance.get(name)) for name in levels),
        score(run.brier),
        score(run.ece),
        normalisation(run),
        SPLITS.get(run.split, run.split),
        *((labels_used(run),) if has_few_labels else ()),
        f"{run.n_subjects:,}",
        f"{run.n_windows:,}",
    )


def _label(run: CrossValidation, among: Sequence[CrossValidation]) -> str:
    """Return the model's name, with its folder where two share it, and marked where it is a probe."""
    name = f"{run.model} ({run.name})" if sum(other.model == run.model for other in among) > 1 else run.model
    return f"{name} (probe)" if run.is_probe else name


def labels_used(run: CrossValidation) -> str:
    """Return of how many training subjects per fold the labels were used, such as "3 of 33"."""
    if run.labels is None:
        return NOT_DEFINED
    return f"{span(run.labels.labelled)} of {span(run.labels.everybody)}"


def labels_of(validations: Sequence[CrossValidation]) -> tuple[str, ...]:
    """Return a name for each cross-validation that no other one has."""
    return tuple(_label(run, validations) for run in validations)


def estimate(value: ScoreEstimate) -> str:
    """Return "mean [low, high]" of a score over subjects."""
    return with_interval(value.mean, value.ci95)


def normalisation(run: CrossValidation) -> str:
    """Return the normalisation, flagged where it is transductive."""
    return f"{run.normalisation} (TRANSDUCTIVE)" if run.is_transductive else run.normalisation


def subject_table(run: CrossValidation) -> Table:
    """Return a row per subject of a cross-validation, the lowest balanced accuracy first."""
    order = sorted(
        run.subjects,
        key=lambda row: (row.balanced_accuracy is None, row.balanced_accuracy or 0.0, row.participant),
    )
    rows = tuple(
        (
            row.participant,
            with_interval(row.balanced_accuracy, row.ci95),
            score(row.macro_f1),
            score(row.auroc),
            score(row.brier),
            f"{row.n_windows:,}",
            row.fold,
        )
        for row in order
    )
    columns = ("Subject", "Balanced accuracy", "Macro-F1", "AUROC", "Brier score", "Windows", "Fold")
    title = f"Scores of {count(len(rows), 'held-out subject')}, lowest first"
    return Table(title, columns, rows, (False, True, True, True, True, True, True))


def class_table(run: CrossValidation) -> Table | None:
    """Return a row per class with the scores that the file gives by class; None where it gives none."""
    if not run.by_class:
        return None
    names = tuple(dict.fromkeys(name for row in run.by_class.values() for name in row))
    rows = tuple((label, *(_plain_number(row.get(name)) for name in names)) for label, row in run.by_class.items())
    headings = tuple(_heading(name) for name in names)
    return Table("Scores by class", ("Class", *headings), rows, (False,) + (True,) * len(names))


def _plain_number(value: float | None) -> str:
    """Return a count as a whole number and a score with three decimals."""
    if value is not None and value > 1 and float(value).is_integer():
        return f"{value:,.0f}"
    return score(value)


def file_table(table: ResultTable, title: str) -> Table:
    """Return a table of a result folder as it is, headings in words, without columns that are empty throughout."""
    used = [place for place in range(len(table.columns)) if any(row[place] for row in table.rows) or not table.rows]
    headings = tuple(_heading(table.columns[place]) for place in used)
    numeric = tuple(all(_reads_as_number(row[place]) for row in table.rows) for place in used)
    rows = tuple(tuple(row[place] for place in used) for row in table.rows)
    return Table(title, headings, rows, numeric, fold_above=12)


def _heading(column: str) -> str:
    words = column.replace("_", " ").replace("participant id", "subject")
    return words[:1].upper() + words[1:]


def _reads_as_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).isdigit() or cell in ("", NOT_DEFINED)


def run_table(run: CrossValidation) -> Table:
    """Return what was run: settings that fix the scores, versions and fingerprints."""
    rows = [
        ("Folder", run.name),
        ("Model", run.model),
        ("Task", run.task),
        ("Classes", ", ".join(run.classes)),
        ("Split", f"{SPLITS.get(run.split, run.split)}, {count(run.n_folds, 'fold')}"),
        ("Normalisation", normalisation(run)),
        ("Seeds", str(run.seeds)),
        ("Trained parameters", NOT_DEFINED if run.parameters is None else f"{run.parameters:,}"),
        ("Multiply-adds per window", NOT_DEFINED if run.operations is None else f"{run.operations:,}"),
        ("Wall-clock time", duration(run.seconds)),
        *((f"{name} (fingerprint)" if name == "store" else name, value) for name, value in run.fingerprint.items()),
    ]
    return Table("What was run", ("Item", "Value"), tuple(rows), (False, False))


def turned(table: Table) -> Table:
    """Return the table with its rows as columns: right for many scores of a few models."""
    heads = ("", *(row[0] for row in table.rows))
    rows = tuple((name, *(row[place] for row in table.rows)) for place, name in enumerate(table.columns) if place)
    return Table(table.title, heads, rows, (False,) * len(heads))


def terminal_table(table: Table) -> RichTable:
    """Return a table for the terminal, no markup read from any cell."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(shown(table.title)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for head, is_right in zip(table.columns, table.numeric, strict=True):
        drawn.add_column(Text(shown(head)), justify="right" if is_right else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(shown(cell)) for cell in row))
    return drawn


def latex(text: object) -> str:
    r"""Return text in which LaTeX sees letters and no commands.

    Examples
    --------
    >>> latex("50 % of a_b & c")
    '50 \\% of a\\_b \\& c'
    """
    return "".join(_LATEX.get(c, c) for c in shown(text))


def markdown(text: object) -> str:
    r"""Return text in which Markdown sees letters and no markup.

    Examples
    --------
    >>> markdown("a|b *c* <i>")
    'a\\|b \\*c\\* \\<i\\>'
    """
    return re.sub(r"([\\`*_\[\]<>|#~$!])", r"\\\1", shown(text))


def markdown_table(table: Table) -> str:
    """Return a table in Markdown, its title as a line above it."""
    lines = [table.columns, ["---:" if is_right else "---" for is_right in table.numeric]]
    heads = "| " + " | ".join(markdown(head) for head in lines[0]) + " |"
    rule = "| " + " | ".join(lines[1]) + " |"
    rows = ["| " + " | ".join(markdown(cell) for cell in row) + " |" for row in table.rows]
    return "\n".join([f"**{markdown(table.title)}**", "", heads, rule, *rows]) + "\n"


def latex_table(table: Table, label: str) -> str:
    r"""Return a table in LaTeX with the rules of booktabs (``\usepackage{booktabs}``), its title as the caption."""
    columns = "".join("r" if is_right else "l" for is_right in table.numeric)
    heads = " & ".join(latex(head) for head in table.columns)
    rows = [" & ".join(latex(cell) for cell in row) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            r"\footnotesize",
            rf"\caption{{{latex(table.title)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            rf"{heads} \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
