"""Tables as text for papers: Markdown and LaTeX (booktabs), no markup taken from any cell."""

from __future__ import annotations

import re

from .tables import Table
from .text import shown

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
