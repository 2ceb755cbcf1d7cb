"""What commands of this package wrote, told from recordings: tables of results have columns of numbers, and no signals.

A table is known by its name beside a file that the same command wrote; a store, and the log of one, by what is in it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

RESULTS = {
    "scores.json": "cross-validate",
    "folds.json": "cross-validate",
    "groups.json": "cross-validate",
    "audit.json": "audit",
    "compare.json": "compare",
    "tuning.json": "tune",
    "learning_curve.json": "learning-curve",
    "personalisation.json": "personalise",
    "generation.json": "score-generation",
    "model.json": "train",
    "features.json": "features",
    "around.json": "features",
    "quality.json": "quality",
    "explanation.json": "explain",
    "reconstruction.json": "reconstruct",
    "command.json": "a command of biopercept",
}
"""Files that stand in folders of results, and the command that wrote the folder."""
_SIDECAR = "_predictions.json"
_TABLE = re.compile(
    r"(features|around|averages|courses|beats|responses|breaths|notes|failures|quality|sensors|summary|scores|predictions"
    r"|missing_sensors|groups|compare|sensor_costs|tuning|inner_scores|learning_curve|personalisation|generation|tidy"
    r"|explanation|reconstruction|.+_(predictions|trace|explanation|reconstruction|annotations))\.(csv|tsv|edf)"
)
_LOG = b"participant_id,session,recording,status,"
_STORES = (".h5", ".hdf5")
_FIRST_BYTES = 4096


def outputs_among(folder: Path, files: Iterable[Path]) -> dict[Path, str]:
    """Return the files of a folder that a command wrote, with its name; those of recordings are not among them."""
    files = list(files)
    maker = _maker(folder, {file.name for file in files})
    return {file: by for file in files if (by := _maker_of_file(file, maker))}


def maker_of(path: Path) -> str:
    """Return the name of the command that wrote a table, or a folder of results; empty of what may be a recording.

    Of a store the reader of its format says more.
    """
    try:
        if path.is_dir():
            return _maker(path, {file.name for file in path.iterdir()})
        known = {file.name for file in path.parent.iterdir()} if _TABLE.fullmatch(path.name) else ()
        return _maker_of_table(path, _maker(path.parent, known))
    except OSError:
        return ""  # that it cannot be opened is said when it is read


def _maker(folder: Path, names: Collection[str]) -> str:
    """Return the command that wrote results into a folder of these files; empty where none did."""
    by_name = [(name, by) for name, by in RESULTS.items() if name in names]
    by_name += [(name, "predict") for name in sorted(names) if name.endswith(_SIDECAR)][:1]
    return next((by for name, by in by_name if _is_result(folder / name)), "")


def _is_result(path: Path) -> bool:
    """Return whether a JSON file begins as results do: others may have written one of that name."""
    first = _first_bytes(path)
    return first.lstrip().startswith(b"{") and (b'"schema"' in first or path.name.endswith(_SIDECAR))


def _maker_of_file(file: Path, of_folder: str) -> str:
    is_store = file.suffix.lower() in _STORES and _is_store(file)
    return "prepare" if is_store else _maker_of_table(file, of_folder)


def _maker_of_table(file: Path, of_folder: str) -> str:
    if of_folder and _TABLE.fullmatch(file.name):
        return of_folder
    return "prepare" if file.name.endswith(".log.csv") and _first_bytes(file).startswith(_LOG) else ""


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_FIRST_BYTES)
    except OSError:
        return b""


def _is_store(path: Path) -> bool:
    """Return whether an HDF5 file is a store, or a part of one that is being made."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            return "biopercept_version" in file.attrs or ("schema" in file.attrs and "recordings" in file)
    except OSError:
        return False
