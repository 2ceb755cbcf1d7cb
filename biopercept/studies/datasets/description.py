"""What is said of a public data set: content, licence, where to get it, layout, what is dropped, alarms of leaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biopercept.studies.datasets.writing import ImportSummary


@dataclass(frozen=True)
class Dataset:
    """One public data set.

    Attributes
    ----------
    name : str
        Word for ``biopercept import``.
    content, labels : str
        What was measured on whom; what can be predicted and what to beware of.
    where : str
        The address from which users get it.
    layout : tuple of str
        Files that must lie in SOURCE.
    dropped : str
        Labels and people that an import leaves out, and why.
    alarms : tuple of str
        Scores that tell of a leak rather than of a good model.
    files : tuple of str
        What is to be got, with size and checksum where they are known.
    checked_on : str
        Whether the import was tried on the data themselves or on a folder that the tests make.
    """

    name: str
    title: str
    content: str
    labels: str
    licence: str
    citation: str
    where: str
    layout: tuple[str, ...]
    write_study: Callable[[Path, Path], ImportSummary]
    dropped: str = ""
    alarms: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    checked_on: str = "a made folder in the documented layout"

    def to_json(self) -> dict[str, Any]:
        """Return everything but the function as plain JSON values."""
        values = {key: value for key, value in vars(self).items() if key != "write_study"}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
