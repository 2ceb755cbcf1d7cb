"""Columns of plain numbers from text, with a word on every line that is not one."""

from __future__ import annotations

import io

import numpy as np

from biopercept.recording import FloatArray


def read_numbers(content: bytes, n_columns: int) -> tuple[FloatArray, tuple[str, ...]]:
    """Return lines of comma-separated numbers as an array, and remarks on what could not be read.

    A file that does not end with a line end may have been cut inside its last number, so its
    last line is left out. A line that cannot be read keeps its place in time, as NaN.

    Parameters
    ----------
    content : bytes
    n_columns : int
        Numbers expected per line.

    Returns
    -------
    values : array (n_lines, n_columns), float64
        NaN where a number is missing or is not one.
    remarks : tuple of str
    """
    remarks: list[str] = []
    if content and not content.endswith((b"\n", b"\r")):
        whole, _, cut = content.rpartition(b"\n")
        content = whole
        remarks.append(f"the last line ({len(cut)} bytes) has no line end, may be cut and is left out")
    text = content.decode("latin-1").rstrip()
    if not text:
        return np.zeros((0, n_columns)), tuple(remarks)
    values = _fast(text, n_columns)
    if values is None:
        values = np.array([_line(line, n_columns) for line in text.splitlines()])
    n_unreadable = int(np.isnan(values).any(axis=1).sum())
    if n_unreadable:
        remarks.append(f"{n_unreadable} lines are not {n_columns} plain numbers and count as missing")
    return values, tuple(remarks)


def _fast(text: str, n_columns: int) -> FloatArray | None:
    """Return the numbers where every line is well formed, None where one is not."""
    import pandas as pd

    try:
        frame = pd.read_csv(
            io.StringIO(text),
            header=None,
            names=range(n_columns),
            index_col=False,
            skipinitialspace=True,
            skip_blank_lines=False,
            dtype=np.float64,
            na_filter=False,
            on_bad_lines="error",
        )
    except (ValueError, OverflowError, pd.errors.ParserWarning):  # a ParserError is a ValueError
        return None
    # A first line with too many fields is cut in silence by the parser, hence the count.
    return frame.to_numpy() if text.count(",") == (n_columns - 1) * len(frame) else None


def _line(line: str, n_columns: int) -> list[float]:
    fields = line.split(",")
    if len(fields) != n_columns:
        return [np.nan] * n_columns
    try:
        return [float(field) for field in fields]
    except ValueError:
        return [np.nan] * n_columns
