"""A folder of finished work: begun once, refused to another run, each item kept whole as it is done, resumed later.

What a run is, is said by its identity (settings, data, version) and its folds; both are written before anything is
fitted, and a later run goes on only where both are equal.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypedDict, TypeVar, Unpack

from biopercept.data.splits import Fold
from biopercept.errors import SettingsError
from biopercept.files import write_json
from biopercept.parallel import Executor, Work, run_jobs
from biopercept.progress import steps
from biopercept.results.folder import FoldsFile
from biopercept.results.plan import write_settings
from biopercept.results.reading import document_of
from biopercept.sharing import Sharing, Units
from biopercept.training.engine import engine_for
from biopercept.training.resuming import keeping_pieces, place_of_pieces, resuming

_HASH = "sha256"
"""Key of the hash over the rest of a fold's file, so that no damaged number is taken for a result."""

FoldDone = Callable[[Fold, bool, int], None]
"""Called with ``(fold, was_done_before, n_folds)`` as folds finish."""


class RunOptions(TypedDict, total=False):
    """How folds are run, whatever they are of.

    Attributes
    ----------
    n_jobs : int or Executor
        Folds at once (1), each in a process of its own, or what fits them elsewhere; results do not depend on it.
    config_text : str
        Effective settings (YAML), kept beside the results.
    overwrite : bool
        Remove the results of an earlier run, once it is sure that this one can begin.
    sharing : Sharing or None
        Which of the folds this process does, where several share them (None: all).
    """

    n_jobs: int | Executor
    config_text: str
    overwrite: bool
    sharing: Sharing | None


class FoldRunOptions(RunOptions, total=False):
    """How folds are run, and what is called as they finish."""

    on_fold: FoldDone | None


class FoldResultFile(Protocol):
    """A fold's result that is kept as a file of plain values.

    Where these hold ``seconds``, the time that the work itself took, what is kept is the wall-clock time that the run
    went on by until this fold was done: over all folds it adds up to the time that the run took, several folds at once
    or not, in one sitting or several.
    """

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""

    @classmethod
    def from_json(cls, document: dict[str, Any], fold: Fold) -> Self:
        """Return the result that :meth:`to_json` wrote."""


Result = TypeVar("Result", bound=FoldResultFile)
Part = TypeVar("Part", Fold, tuple[Fold, ...])
Fitted = TypeVar("Fitted")


@dataclass(frozen=True, eq=False)
class PlainFold:
    """What one fold found, all of it plain values: rows of a table, size of the network, wall-clock time."""

    fold: Fold
    rows: tuple[dict[str, Any], ...]
    n_parameters: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {**asdict(self), "fold": self.fold.name}

    @classmethod
    def from_json(cls, document: dict[str, Any], fold: Fold) -> Self:
        """Return the result that :meth:`to_json` wrote."""
        return cls(**{**document, "fold": fold, "rows": tuple(document["rows"])})


class FoldPlan(Protocol):
    """What is settled before the first fold is fitted."""

    @property
    def request(self) -> Any:
        """What is evaluated, on which ``device``."""

    @property
    def folds(self) -> tuple[Fold, ...]:
        """All folds of the run."""

    def units(self) -> Sequence[Sequence[Fold]]:
        """Return the folds by what is fitted in one go."""

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for finished folds of an earlier run to be used again."""


def require_own_folder(output: Path, kind: str, *, is_own: bool, overwrite: bool) -> None:
    """Refuse, by SettingsError, an output that is a file, or a folder with something in it that is not of this kind."""
    if output.is_file():  # not even --overwrite replaces a file by a folder
        raise SettingsError(f"{output} is a file; choose a folder for the results")
    if is_own or overwrite or not output.is_dir():
        return
    if any(not path.name.startswith(".") for path in output.iterdir()):
        raise SettingsError(f"{output} is not empty and holds no {kind}; choose another output or add --overwrite")


def remove(folder: Path, files: Sequence[str], folders: Sequence[str] = ()) -> None:
    """Remove the named files (patterns such as ``chosen*.yaml`` too) and folders, and only those; links stay."""
    for pattern in files:
        for path in folder.glob(pattern):
            path.unlink()
    for name in folders:
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            shutil.rmtree(folder / name)


@dataclass(frozen=True)
class RunFolder(Generic[Result]):
    """How one kind of run (as messages call it) keeps its finished folds.

    Identity and folds are in ``folds_file``, written before the first fold; each finished fold has a file in
    ``folds_folder``.
    """

    path: Path
    kind: str
    result: type[Result]
    folds_file: str = FoldsFile.FILE
    folds_folder: str = "folds"

    def run(
        self,
        plan: FoldPlan,
        fit: Callable[[Any, Sequence[Fold], int | Executor], Iterator[tuple[Fold, Result]]],
        clear: Callable[[], None],
        **options: Unpack[FoldRunOptions],
    ) -> tuple[Result, ...]:
        """Begin a run or go on with it, and return every fold's result; ``clear`` removes an earlier run.

        Raises SettingsError as :meth:`begin` and :meth:`results` do, UnfinishedError as the latter.
        """
        engine_for(plan.request.device)  # a device that is not there is refused before anything is removed
        self.begin(plan.identity(), plan.folds, clear if options.get("overwrite") else None)
        write_settings(self.path, options.get("config_text", ""), plan.request.settings_plan)
        n_jobs = options.get("n_jobs", 1)
        return self.results(
            plan.units(), lambda waiting: fit(plan, waiting, n_jobs), options.get("on_fold"), options.get("sharing")
        )

    def begin(
        self, identity: Mapping[str, Any], folds: Sequence[Fold], clear: Callable[[], None] | None = None
    ) -> None:
        """Write identity and folds into a folder that is free or ours, or check that those of an earlier run are equal.

        ``clear`` removes an earlier run, once it is sure that this one may; without it an earlier run is gone on with.

        Raises SettingsError where the folder holds something else, or another run, naming what differs.
        """
        path = self.path / self.folds_file
        try:
            require_own_folder(self.path, self.kind, is_own=path.is_file(), overwrite=clear is not None)
        except SettingsError:
            if not path.is_file():  # another part may have begun it between the two questions
                raise
        if clear is not None:
            clear()
        document = json.loads(json.dumps(document_of(FoldsFile(run=identity, folds=tuple(folds)))))
        if not path.is_file():
            write_json(path, document)
            return
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as fault:
            raise SettingsError(f"{path} is not JSON ({fault}); choose another output or add --overwrite") from fault
        if earlier != document:
            before = earlier.get("run") if isinstance(earlier, dict) else None
            was, now = before if isinstance(before, dict) else {}, document["run"]
            keys = dict.fromkeys((*now, *was)) if was else {}
            changed = [key for key in keys if was.get(key) != now.get(key)] or ["folds"]
            raise SettingsError(
                f"{self.path} holds a run with another {', '.join(changed)}; choose another output, "
                "or add --overwrite to start again"
            )

    def results(
        self,
        units: Sequence[Sequence[Fold]],
        fit: Callable[[Sequence[Fold]], Iterator[tuple[Fold, Result]]],
        on_fold: FoldDone | None = None,
        sharing: Sharing | None = None,
    ) -> tuple[Result, ...]:
        """Return every fold's result: those of an earlier run from their files, the others fitted now.

        ``units`` are the folds by what is fitted in one go; ``fit`` gives the results of folds that are still to be
        done, in any order. With ``sharing`` only the units of one part are fitted.

        Raises SettingsError where a fold's file is damaged. Raises UnfinishedError where units of other parts are
        missing.
        """
        report = on_fold or (lambda fold, was_done, n: None)
        folds = [fold for unit in units for fold in unit]
        names = {fold: f"{index:03d}" for index, fold in enumerate(folds, 1)}
        by_name = {names[unit[0]]: unit for unit in units}
        titles = {name: ", ".join(fold.name for fold in unit) for name, unit in by_name.items()}

        def is_kept(fold: Fold) -> bool:
            return self.file(names[fold]).is_file()

        kept_before = [fold for fold in folds if is_kept(fold)]
        for fold in kept_before:
            report(fold, True, len(folds))
        keeper = Keeper(self)
        with (
            keeping_pieces(self.path / ".fit"),
            Units(sharing, self.path, titles, lambda name: all(map(is_kept, by_name[name])), "folds") as shared,
            steps("folds", len(folds), done=len(kept_before), is_kept=True) as done,
        ):
            for unit_names in shared.rounds():
                waiting = [fold for name in unit_names for fold in by_name[name] if not is_kept(fold)]
                with closing(_generator(fit(waiting))) as finished:
                    for fold, result in finished:
                        keeper.keep(names[fold], fold, result)
                        done.advance()
                        report(fold, False, len(folds))
            shared.require_all()
        kept = []
        for fold in folds:
            if (read := self.find(names[fold], fold)) is None:
                raise SettingsError(
                    f"{self.file(names[fold])} is damaged; delete it and run the same command again to fit this fold"
                )
            kept.append(read)
        return tuple(kept)

    def clear(self, files: Sequence[str], folders: Sequence[str] = ()) -> None:
        """Remove the folds of an earlier run and its other files and folders, and only those."""
        remove(self.path, (self.folds_file, *files), (self.folds_folder, *folders))

    def file(self, name: str) -> Path:
        """Return the file of a finished fold."""
        return self.path / self.folds_folder / f"{name}.json"

    def find(self, name: str, fold: Fold) -> Result | None:
        """Return a kept result; None where it is absent or damaged."""
        try:
            document = json.loads(self.file(name).read_text(encoding="utf-8"))
            if not isinstance(document, dict) or document.pop(_HASH, _hashed(document)) != _hashed(document):
                return None
            return self.result.from_json(document, fold)
        except (OSError, ValueError, KeyError, TypeError):
            return None


class Keeper(Generic[Result]):
    """Writes the results of one sitting as they are done, with the wall-clock time since the one before."""

    def __init__(self, folder: RunFolder[Result]) -> None:
        self._folder = folder
        self._last = time.monotonic()

    def keep(self, name: str, fold: Fold, result: Result, **more: Any) -> Result:
        """Write a result, after ``more`` values of its own, and return it as it will be read back."""
        document = result.to_json()
        now = time.monotonic()
        if document.get("seconds"):
            ratio = (now - self._last) / document["seconds"]
            times = {key: value * ratio for key, value in document.items() if key.startswith("seconds")}
            document |= times  # its parts, such as those of pretraining, keep their fraction of it
        self._last = now
        content = json.loads(json.dumps({**more, **document}))
        write_json(self._folder.file(name), {**content, _HASH: _hashed(content)})
        return self._folder.result.from_json(document, fold)


@dataclass(frozen=True)
class _FoldJob(Generic[Part]):
    """A fold, or folds that are fitted together; ``states`` is the folder of the states of their fits."""

    part: Part
    states: Path | None

    @property
    def name(self) -> str:
        folds = (self.part,) if isinstance(self.part, Fold) else self.part
        return ", ".join(fold.name for fold in folds)


def fit_each(
    fit: Callable[[Any, Part], Fitted],
    open_plan: Callable[[Any], Any],
    plan: FoldPlan,
    parts: Sequence[Part],
    n_jobs: int | Executor,
) -> Iterator[tuple[Part, Fitted]]:
    """Give what ``fit(plan, part)`` gives for each part as it is done, ``n_jobs`` at once; a stopped fit goes on.

    A part is a fold, or several that are fitted together. ``open_plan`` makes the plan from its request in another
    process. Raises what ``fit`` raises.
    """
    jobs = [_FoldJob(part, place_of_pieces()) for part in parts]
    for job, result in run_jobs(Work(partial(_fit_kept, fit), open_plan, plan.request), jobs, n_jobs, plan):
        yield job.part, result


def _fit_kept(fit: Callable[[Any, Part], Fitted], plan: Any, job: _FoldJob[Part]) -> Fitted:
    if job.states is None:
        return fit(plan, job.part)
    with resuming(job.states):
        return fit(plan, job.part)


def _hashed(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a fold's file holds beside its hash."""
    content = {key: value for key, value in document.items() if key != _HASH}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def _generator(finished: Iterator[tuple[Fold, Result]]) -> Generator[tuple[Fold, Result], None, None]:
    """Give what an iterator gives; closing it ends the processes behind."""
    yield from finished
