"""The files of a comparison: JSON, CSV, Markdown, LaTeX and figures, each whole or not at all."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from biopercept.files import only_writer, write_bytes, write_json, write_table, write_text
from biopercept.reporting.comparison_figures import comparison_figures
from biopercept.reporting.comparison_files import COMPARISON_FILE, comparison_to_json
from biopercept.reporting.comparison_tables import contender_table, pair_table
from biopercept.reporting.comparisons import Comparison, Pair
from biopercept.reporting.table_text import latex, latex_table, markdown, markdown_table

_INTERVALS = ("ci95", "rank_biserial_ci95", "dz_ci95")
FILES = (COMPARISON_FILE, "compare.csv", "compare.md", "compare.tex", "report.html")


def write_comparison(held: Comparison, output: Path) -> None:
    """Write ``compare.json``, ``.csv``, ``.md``, ``.tex`` and ``figures/`` to a folder; other files in it stay.

    Raises
    ------
    OutputError
        Where a file cannot be written.
    BusyError
        Where another process is writing there.
    """
    with only_writer(output):
        for name in FILES:
            (output / name).unlink(missing_ok=True)
        if (output / "figures").is_dir() and not (output / "figures").is_symlink():
            shutil.rmtree(output / "figures")
        for figure in comparison_figures(held):
            write_bytes(output / "figures" / f"{figure.name}.svg", figure.svg)
        rows = [_row(pair) for pair in held.pairs]
        write_table(output / "compare.csv", tuple(rows[0]), [tuple(row.values()) for row in rows])
        write_text(output / "compare.md", markdown_page(held))
        write_text(output / "compare.tex", latex_page(held))
        write_json(output / COMPARISON_FILE, comparison_to_json(held))


def _row(pair: Pair) -> dict[str, object]:
    """Return a pair as a flat row: an interval as two columns, its lower and its upper end."""
    row: dict[str, object] = {}
    for name, value in asdict(pair).items():
        if name in _INTERVALS:
            low, high = value or (None, None)
            row |= {f"{name}_low": low, f"{name}_high": high}
        else:
            row[name] = value
    return row


def markdown_page(held: Comparison) -> str:
    """Return the comparison as a Markdown page: cautions, findings, tables, methods."""
    cautions = [f"- {markdown(text)}" for text in held.cautions]
    parts = [
        f"# Comparison by {markdown(held.metric_words)}: {markdown(held.task)}",
        *(("## Read this first", "\n".join(cautions)) if cautions else ()),
        "## Findings",
        "\n\n".join(markdown(text) for text in held.findings),
        "## Tables",
        markdown_table(contender_table(held)),
        markdown_table(pair_table(held)),
        "## Methods",
        " ".join(markdown(text) for text in held.methods),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def latex_page(held: Comparison) -> str:
    r"""Return the tables and the findings as LaTeX, to be read with ``\input``."""
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}.",
            latex_table(contender_table(held), "tab:models"),
            latex_table(pair_table(held), "tab:pairs"),
            latex(" ".join((*held.findings, *held.methods))),
            "",
        ]
    )
