"""Words, numbers and tables of results as text, for the terminal, the page, Markdown and LaTeX.

Names from data are made harmless: no markup is taken from any of them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biopercept import errors
from biopercept.results.reading import ResultTable

if TYPE_CHECKING:
    from rich.table import Table as RichTable

NOT_DEFINED = "n/a"
"""What stands where a figure has no value (one class only, no window)."""

SPLITS = {
    "subject": "leave one subject out",
    "k-fold": "k-fold over subjects",
    "study": "leave one study out",
    "time": "by time within each subject",
    "external": "external: a saved model, nothing fitted",
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


_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def shown(text: object) -> str:
    r"""Return text from a file with every invisible character spelt out, so that two names never look alike.

    Control characters, direction marks, line breaks, lone surrogates and unassigned code points become their escape
    (``\x1b``, ``\u202e``). The user's home folder is written ``~``, so that no page carries a login name.

    >>> shown("S1\x1b[31m")
    'S1\\x1b[31m'
    """
    raw = str(text)
    home = str(Path.home())
    if len(home) > 1:
        raw = raw.replace(home + "/", "~/")
    return "".join(c if unicodedata.category(c) not in _HIDDEN else ascii(c)[1:-1] for c in raw)


def shortened(text: object, length: int = 24) -> str:
    """Return :func:`shown` text of at most ``length`` characters, its middle replaced by one ellipsis."""
    whole = shown(text)
    if len(whole) <= length:
        return whole
    head = (length - 1) * 2 // 3
    return f"{whole[:head]}…{whole[len(whole) - (length - 1 - head) :]}"


def score(value: float | None, digits: int = 3) -> str:
    """Return a score with ``digits`` decimals, or "n/a" where it is None or not finite."""
    if value is None or not math.isfinite(value):
        return NOT_DEFINED
    return f"{value:.{digits}f}"


def with_interval(mean: float | None, interval: tuple[float, float] | None, digits: int = 3) -> str:
    """Return "mean [low, high]"; only the mean where no interval is known."""
    if mean is None or interval is None:
        return score(mean, digits)
    return f"{score(mean, digits)} [{score(interval[0], digits)}, {score(interval[1], digits)}]"


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that reads best: "45 s", "13.5 min", "2.1 h"."""
    if seconds is None or not math.isfinite(seconds):
        return NOT_DEFINED
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def listed(names: list[str] | tuple[str, ...], limit: int = 6) -> str:
    """Return names joined by commas, cut after ``limit`` with the number of those left out."""
    return errors.listed(map(shown, names), limit)


def span(ends: tuple[int, int]) -> str:
    """Return a lowest and a highest whole number as one word or three.

    >>> span((3, 3)), span((3, 5))
    ('3', '3 to 5')
    """
    low, high = ends
    return errors.ranged(f"{low:,}", f"{high:,}")


def interval_text(
    mean: float | None, interval: tuple[float, float] | None, form: str, undefined: str = NOT_DEFINED
) -> str:
    """Return "mean [low, high]", each in a ``form`` such as "{:+.3f}"; the mean where no interval is known."""
    if mean is None:
        return undefined
    ends = "" if interval is None else f" [{', '.join(form.format(end) for end in interval)}]"
    return form.format(mean) + ends


def p_value(p: float | None) -> str:
    """Return a p-value with three decimals, or "< 0.001"."""
    if p is None:
        return NOT_DEFINED
    return "< 0.001" if p < 0.001 else score(p)


def percent(estimate: Mapping[str, Any], *, signed: bool = False) -> str:
    """Return a fraction as per cent with its interval.

    >>> percent({"mean": 0.5, "ci95": [0.41, 0.6]})
    '50.0 [41.0, 60.0]'
    """
    mean, ci95 = estimate["mean"], estimate["ci95"]
    ends = None if ci95 is None else (100 * ci95[0], 100 * ci95[1])
    return interval_text(None if mean is None else 100 * mean, ends, "{:+.1f}" if signed else "{:.1f}", "not defined")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table between empty lines; cells are Markdown already."""
    return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *rows]) + "\n"


@dataclass(frozen=True)
class Table:
    """A table of text, ready to be shown: cells are not yet escaped for any medium.

    ``title`` says what the rows are, with n; ``numeric`` which columns are set to the right. A page shows the table
    closed where it has more than ``fold_above`` rows, and the first cell of each as a link to one of ``links``, if any;
    it can be sorted where ``is_sortable``.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    fold_above: int = 60
    links: tuple[str, ...] = ()
    is_sortable: bool = True

    def of_columns(self, names: Collection[str]) -> Table:
        """Return the table with some of its columns alone, in its own order."""
        places = [place for place, name in enumerate(self.columns) if name in names]
        columns, numeric = tuple(self.columns[p] for p in places), tuple(self.numeric[p] for p in places)
        return replace(
            self, columns=columns, numeric=numeric, rows=tuple(tuple(r[p] for p in places) for r in self.rows)
        )

    @staticmethod
    def of(title: str, rows: Sequence[Mapping[str, str]], words: Collection[str], fold_above: int = 60) -> Table:
        """Return a table from the cells of each row by heading; headings not among ``words`` are over numbers."""
        columns, cells = tuple(rows[0]), tuple(tuple(row.values()) for row in rows)
        return Table(title, columns, cells, tuple(name not in words for name in columns), fold_above)


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
    return Table(table.title, heads, rows, (False,) * len(heads), is_sortable=False)


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
    rule = ["---:" if is_right else "---" for is_right in table.numeric]
    heads, *rows = ([markdown(cell) for cell in line] for line in (table.columns, *table.rows))
    lines = "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *rows))
    return f"**{markdown(table.title)}**\n\n{lines}\n"


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
