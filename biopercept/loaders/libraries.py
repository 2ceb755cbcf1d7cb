"""Libraries that only some formats need: imported when a file of such a format is read."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biopercept.errors import RecordingError

EXTRA = "formats"
"""The extra of pyproject.toml that installs them."""


def library_for(path: Path, module: str, extra: str = EXTRA) -> Any:
    """Return an imported module.

    Raises RecordingError, with the line that installs it, where it is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError as fault:
        raise RecordingError(
            f"{path.name}: its format is read through {module.partition('.')[0]}, which is not installed; "
            f"python3 -m pip install 'biopercept[{extra}]'"
        ) from fault


@contextmanager
def quiet(logger: str = "") -> Iterator[None]:
    """Keep a library from warning, and from logging by the logger of that name: what it says becomes a note here."""
    log = logging.getLogger(logger or __name__)
    was_disabled = log.disabled
    log.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = was_disabled
