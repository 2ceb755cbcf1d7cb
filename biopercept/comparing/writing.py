"""The files of a comparison: JSON, CSV, Markdown, LaTeX and figures, each whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from biopercept.files import only_writer, write_bytes, write_text
from biopercept.reporting.comparison_figures import comparison_figures
from biopercept.reporting.comparison_tables import latex_page, markdown_page
from biopercept.results.comparison import Comparison
from biopercept.results.reading import write_result, write_rows

FILES = (Comparison.FILE, "compare.csv", "compare.md", "compare.tex", "report.html")


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
        write_rows(output / "compare.csv", held.pairs)
        write_text(output / "compare.md", markdown_page(held))
        write_text(output / "compare.tex", latex_page(held))
        write_result(output / Comparison.FILE, held)
