"""The folder of an audit: what may be written over, and what is cleared when a run starts anew."""

from __future__ import annotations

import shutil
from pathlib import Path

from biopercept.auditing.fitted import FOLDER
from biopercept.auditing.writing import PAGE_FILE
from biopercept.errors import OutputError
from biopercept.results.audit import Audit

_OWN = (Audit.FILE, PAGE_FILE, "config.yaml", "report.html")


def claim(output: Path, *, overwrite: bool) -> None:
    """Make sure that an audit may write here, and clear the files of an earlier one where it is to start anew.

    An audit that has begun or ended here goes on, or is made again.

    Raises
    ------
    OutputError
        With exit code 2 where the output is a file, or a folder that holds something else and ``overwrite`` is not set.
    """
    reason = ""
    if output.is_file():  # not even --overwrite replaces a file by a folder
        reason = f"{output} is a file; choose a folder for the results"
    elif output.is_dir() and not overwrite:
        is_own = (output / Audit.FILE).is_file() or (output / FOLDER).is_dir()
        if not is_own and any(not path.name.startswith(".") for path in output.iterdir()):
            reason = f"{output} is not empty and holds no audit; choose another output or add --overwrite"
    if reason:
        fault = OutputError(reason)
        fault.exit_code = 2
        raise fault
    if overwrite:
        for name in _OWN:
            (output / name).unlink(missing_ok=True)
        if (output / FOLDER).is_dir() and not (output / FOLDER).is_symlink():
            shutil.rmtree(output / FOLDER)
