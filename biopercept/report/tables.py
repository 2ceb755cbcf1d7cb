"""Tables of results for the terminal, the page, Markdown and LaTeX: every number with unit, n and interval.

No markup is taken from any cell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biopercept.report.text import NOT_DEFINED, shown
from biopercept.results.reading import ResultTable

if TYPE_CHECKING:
    from rich.table import Table as RichTable


SPLITS = {
    "subject": "leave one subject out",
    "k-fold": "k-fold over subjects",
    "study": "leave one study out",
    "time": "by time within each subject",
}
"""What the values of ``split`` mean."""
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
    """A table of text, ready to be shown: cells are not yet escaped for any medium.

    ``title`` says what the rows are, with n; ``numeric`` which columns are set to the right. A page shows the table
    closed where it has more than ``fold_above`` rows.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    fold_above: int = 60


def file_table(table: ResultTable, title: str) -> Table:
    """Return a table of a result folder as it is, headings in words, without columns that are empty throughout."""
    used = [place for place in range(len(table.columns)) if any(row[place] for row in table.rows) or not table.rows]
    headings = tuple(heading(table.columns[place]) for place in used)
    numeric = tuple(all(_reads_as_number(row[place]) for row in table.rows) for place in used)
    rows = tuple(tuple(row[place] for place in used) for row in table.rows)
    return Table(title, headings, rows, numeric, fold_above=12)


def heading(column: str) -> str:
    """Return the words for a column of a file."""
    words = column.replace("_", " ").replace("participant id", "subject")
    return words[:1].upper() + words[1:]


def _reads_as_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).isdigit() or cell in ("", NOT_DEFINED)


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

    >>> latex("50 % of a_b & c")
    '50 \\% of a\\_b \\& c'
    """
    return "".join(_LATEX.get(c, c) for c in shown(text))


def markdown(text: object) -> str:
    r"""Return text in which Markdown sees letters and no markup.

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
