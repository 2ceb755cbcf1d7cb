"""A folder of folds: begun once, refused to another run, each fold kept whole as it is done, resumed where it stopped.

What a run is, is said by its identity (settings, data, version) and its folds; both are written before anything is
fitted, and a later run goes on only where both are equal.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from biopercept.data.splits import Fold
from biopercept.errors import SettingsError
from biopercept.files import write_json

SCHEMA = 1
FoldDone = Callable[[Fold, bool, int], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class RunFolder(Generic[Result]):
    """How one kind of run keeps its folds.

    Attributes
    ----------
    kind : str
        What messages call it, such as "cross-validation".
    folds_file : str
        Written before the first fold: identity and folds.
    folds_folder : str
        Where each finished fold's file goes.
    to_json, from_json : callable
        A fold's result as plain values, and back.
    """

    path: Path
    kind: str
    folds_file: str
    folds_folder: str
    to_json: Callable[[Result], dict[str, Any]]
    from_json: Callable[[dict[str, Any], Fold], Result]

    def require_own(self, *, overwrite: bool) -> None:
        """Refuse an output that is a file, or a folder with something in it that no run of this kind began.

        Raises
        ------
        SettingsError
            Naming what is there.
        """
        output = self.path
        if output.is_file():
            raise SettingsError(f"{output} is a file; choose a folder for the results")
        is_begun = (output / self.folds_file).is_file() or not output.is_dir()
        if not is_begun and not overwrite and any(not path.name.startswith(".") for path in output.iterdir()):
            raise SettingsError(
                f"{output} is not empty and holds no {self.kind}; choose another output or add --overwrite"
            )

    def begin(self, identity: Mapping[str, Any], folds: Sequence[Fold]) -> None:
        """Write identity and folds, or check that those of an earlier run are the same.

        Raises
        ------
        SettingsError
            Where they differ, naming what does.
        """
        path = self.path / self.folds_file
        rows = [fold.to_json() for fold in folds]
        document = json.loads(json.dumps({"schema": SCHEMA, "run": identity, "folds": rows}))
        if not path.is_file():
            write_json(path, document)
            return
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as fault:
            raise SettingsError(f"{path} is not JSON ({fault}); choose another output or add --overwrite") from fault
        if earlier != document:
            found = earlier.get("run") if isinstance(earlier, dict) else None
            was, now = found if isinstance(found, dict) else {}, document["run"]
            keys = dict.fromkeys((*now, *was)) if was else {}
            changed = [key for key in keys if was.get(key) != now.get(key)] or ["folds"]
            raise SettingsError(
                f"{self.path} holds a run with another {', '.join(changed)}; choose another output, "
                "or add --overwrite to start anew"
            )

    def results(
        self,
        folds: Sequence[Fold],
        fit: Callable[[Sequence[Fold]], Iterator[tuple[Fold, Result]]],
        on_fold: FoldDone | None = None,
    ) -> tuple[Result, ...]:
        """Return every fold's result: those of an earlier run from their files, the others fitted now.

        Parameters
        ----------
        fit : callable
            Gives the results of the folds that are still to be done, in any order.
        on_fold : callable, optional
            Told ``(fold, was_done_before, n_folds)`` as folds finish.

        Raises
        ------
        SettingsError
            Where a fold's file is damaged.
        """
        tell = on_fold or (lambda fold, was_done, n: None)
        paths = {fold: self.path / self.folds_folder / f"{index:03d}.json" for index, fold in enumerate(folds, 1)}
        waiting = [fold for fold in folds if not paths[fold].is_file()]
        for fold in folds:
            if fold not in waiting:
                tell(fold, True, len(folds))
        for fold, result in fit(waiting):
            write_json(paths[fold], self.to_json(result))
            tell(fold, False, len(folds))
        return tuple(self._read(paths[fold], fold) for fold in folds)

    def _read(self, path: Path, fold: Fold) -> Result:
        try:
            return self.from_json(json.loads(path.read_text(encoding="utf-8")), fold)
        except (ValueError, KeyError, TypeError) as fault:
            raise SettingsError(
                f"{path} is damaged; delete it and run the same command again to fit this fold"
            ) from fault

    def clear(self, files: Sequence[str], folders: Sequence[str] = ()) -> None:
        """Remove the folds of an earlier run and its other files and folders, and only those."""
        for name in (self.folds_file, *files):
            (self.path / name).unlink(missing_ok=True)
        for name in (self.folds_folder, *folders):
            folder = self.path / name
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
