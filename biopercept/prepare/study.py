"""Prepare a whole study: load, clean, cut and store every recording, each in a child process, resumable at any moment.

1. Every recording's files, labels and settings are hashed; what an earlier run prepared from the same is used again.
2. The others are prepared in child processes; each writes its part, whole or not at all. One that fails is a row in
   the log, and the rest goes on.
3. The parts are joined into the store, in the order of their keys, so that its bytes depend on the study and the
   settings and on nothing else.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from biopercept.errors import BioperceptError, OutputError, SettingsError, fault_of_ours, listed
from biopercept.files import only_writer
from biopercept.parallel import ONE_THREAD, ChildProcesses, Executor, Limits, Lost, Work
from biopercept.prepare.recording import PrepareSettings, prepare_recording
from biopercept.prepare.reuse import (
    KeptRows,
    LogRow,
    Reusable,
    SourceFiles,
    failures_of,
    log_path,
    parts_folder,
    refuse_dropping,
    refuse_other_file,
    refuse_other_settings,
    reused_row,
    settings_hash,
    source_hash,
    used_and_ignored,
    write_log,
)
from biopercept.prepare.sources import recording_of
from biopercept.preprocessing.cleaning import signals_left_out
from biopercept.preprocessing.derived import DEVICE_DISAGREES
from biopercept.preprocessing.features import FEATURE_NAMES
from biopercept.preprocessing.windows import cut_windows
from biopercept.progress import steps
from biopercept.sharing import Sharing, Units, is_begun, joining
from biopercept.store.prepared import recording_key
from biopercept.store.writing import StoreHeader, says, write_recording_part, write_store
from biopercept.studies.entries import BEYOND
from biopercept.studies.labels import labels_of
from biopercept.studies.structure import Entry, Study
from biopercept.typed_values import not_among

if TYPE_CHECKING:
    import pandas as pd

OnProgress = Callable[[int, int, LogRow], None]


@dataclass(frozen=True)
class PrepareSummary:
    """What became of a study: rows in its order, wall-clock seconds, and the store, None where nothing was prepared."""

    store: Path | None
    log: Path
    rows: tuple[LogRow, ...]
    seconds: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what a note in the log is too little for: whose labels lie beyond, whose heart rates disagree.

        Signals that are not used are among them, each with the reason.
        """
        lost, apart = (
            [row.title for row in self.rows if any(words in note for note in row.notes)]
            for words in (BEYOND, DEVICE_DISAGREES)
        )
        warnings = []
        if lost:
            warnings.append(
                f"labels lie beyond the signals of {listed(lost)}, and nothing is cut there; "
                "'biopercept check STUDY --recordings' says which"
            )
        if apart:
            warnings.append(
                f"{DEVICE_DISAGREES} in {listed(apart)}: one of the two is wrong there; the notes in {self.log.name} "
                "say by how much"
            )
        return (*warnings, *signals_left_out([row.notes for row in self.rows if row.status in ("prepared", "reused")]))

    def to_frame(self) -> pd.DataFrame:
        """Return a row per recording: what became of it, with its windows and what was left out of them."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows]).rename(columns={"subject": "participant_id"})

    def count(self, status: str) -> int:
        """Return how many recordings have a status: "prepared", "reused", "failed", "not done"."""
        return sum(row.status == status for row in self.rows)


@dataclass(frozen=True)
class PrepareRun:
    """How the recordings of a study are worked through; the bytes of the store do not depend on it.

    ``n_jobs`` are child processes, or what prepares recordings elsewhere, within ``limits`` for each recording.
    ``restart`` uses nothing that an earlier run prepared; ``overwrite`` replaces a store of other settings, or of
    another study. ``isolate`` False prepares in this process, one after the other, for debugging and for scripts
    without a main guard: a recording that crashes or hangs then takes the run with it, and sums may differ in the last
    digit unless numerical libraries run with one thread. ``sharing`` says which recordings this process prepares, where
    several share them (None: all).
    """

    n_jobs: int | Executor = 1
    restart: bool = False
    overwrite: bool = False
    isolate: bool = True
    limits: Limits = field(default_factory=Limits)
    sharing: Sharing | None = None


def chosen_subjects(study: Study, subjects: Sequence[str] | None, exclude: Sequence[str] | None) -> tuple[str, ...]:
    """Return the subjects of a study that are among ``subjects`` (None: all of them) and not excluded, in its order.

    Raises SettingsError where a subject is not in the study, or none is left.
    """
    unknown = [s for s in (*(subjects or ()), *(exclude or ())) if s not in study.subjects]
    if unknown:
        raise SettingsError(f"the study {study.name} has no recording of {not_among(unknown, study.subjects)}")
    kept = tuple(s for s in study.subjects if (subjects is None or s in subjects) and s not in (exclude or ()))
    if not kept:
        raise SettingsError(f"no subject of the study {study.name} is left; name fewer in --exclude-subjects")
    return kept


def of_subjects(study: Study, subjects: Collection[str]) -> Study:
    """Return a study with the recordings of some subjects alone, as its plan is made for a run of these."""
    return replace(study, entries=tuple(entry for entry in study.entries if entry.subject in subjects))


def prepare_study(
    study: Study,
    output: Path,
    settings: PrepareSettings | None = None,
    *,
    subjects: Sequence[str] | None = None,
    run: PrepareRun | None = None,
    on_progress: OnProgress | None = None,
) -> PrepareSummary:
    """Prepare every recording of a study and write the store (an .h5 file) and its log.

    The store's parts lie in ``OUTPUT.parts`` until it is whole. ``on_progress(n_done, n_recordings, row)`` is called
    after each recording.

    Raises StoreError where ``output`` is something else than a store, or holds recordings that this run would drop.
    Raises SettingsError where the settings cannot be used, or a subject is not in the study. Raises OutputError where
    nothing can be written there (disk full, read-only). Raises BusyError where another process is preparing into the
    same store. Raises UnfinishedError where recordings are missing that other processes prepare.
    """
    begun = time.monotonic()
    settings, run = settings or PrepareSettings(), run or PrepareRun()
    cut_windows((), 0.0, settings.windows)  # refuses lengths that cannot be used before any work
    kept = chosen_subjects(study, subjects, None)
    chosen = replace(study, entries=tuple(entry for entry in study.entries if entry.subject in kept))
    refuse_other_file(output)
    if not (run.restart or run.overwrite):
        refuse_other_settings(output, study.name, settings.as_plain_values())
    is_shared = run.sharing is not None
    with (
        only_writer(output, is_shared=is_shared),
        parts_folder(output, restart=run.restart, is_shared=is_shared) as parts,
    ):
        context = PrepareContext(chosen, settings, settings_hash(settings.as_plain_values(), FEATURE_NAMES))
        reusable = Reusable(output, parts, context.settings_hash, restart=run.restart)
        refuse_dropping(reusable.keys, [*map(_key, chosen.entries)], [*map(_key, study.entries)], output)
        progress = _Progress(
            context, reusable, KeptRows(parts, context.settings_hash) if is_shared else None, on_progress
        )
        if run.sharing is not None and run.sharing.part is None and not is_begun(parts):
            progress.failed_before = failures_of(log_path(output))  # joined already: nobody is at them
        try:
            _prepare_missing(context, progress, parts, run)
            with joining(run.sharing, parts):
                _join(context, progress.sources, output)
                write_log(log_path(output), progress.rows())
                if progress.sources or is_shared:
                    shutil.rmtree(parts, ignore_errors=is_shared)  # others of the same part may look into it
        except BaseException:
            if not is_shared:
                with contextlib.suppress(OutputError):  # what ended the run is what the user must read
                    write_log(log_path(output), progress.rows())
            raise
    store = output if progress.sources else None
    return PrepareSummary(store, log_path(output), progress.rows(), time.monotonic() - begun)


def _prepare_missing(context: PrepareContext, progress: _Progress, parts: Path, run: PrepareRun) -> None:
    """Prepare what no run has, of all or of one part. Raises UnfinishedError where other parts are missing."""
    titles = {key: entry.title for key, entry in progress.entries.items()}
    with Units(run.sharing, parts, titles, progress.is_done, "recordings") as shared:
        for keys in shared.rounds():
            jobs = [job for job in map(progress.job, keys) if job is not None]
            n_all = len(titles)
            with steps("recordings", n_all, done=n_all - len(jobs), is_kept=True) as done:
                for index, result in _results(context, jobs, run):
                    progress.take(jobs[index], result)
                    done.advance()
                    shared.done(_key(jobs[index].entry))
        shared.require_all()


def _join(context: PrepareContext, sources: Mapping[str, Path], output: Path) -> None:
    """Join the recordings into the store, where there are any and it does not hold exactly these."""
    if not sources:
        return
    header = _header(context, sources)
    if any(source != output for source in sources.values()) or not says(output, header, sources):
        write_store(output, header, tuple(sources.items()))


class _Progress:
    """What has become of each recording so far: done by this run, by earlier ones, or by others that share the work."""

    def __init__(
        self, context: PrepareContext, reusable: Reusable, kept: KeptRows | None, on_progress: OnProgress | None
    ) -> None:
        self._context = context
        self._reusable = reusable
        self._kept = kept
        self._on_progress = on_progress
        self._files = SourceFiles()
        self._hashes: dict[str, str] = {}
        self._rows: dict[str, LogRow] = {}
        self.entries = {_key(entry): entry for entry in context.study.entries}
        self.sources: dict[str, Path] = {}
        self.failed_before: dict[str, LogRow] = {}

    def is_done(self, key: str) -> bool:
        """Return whether a recording is finished, having noted it where it is.

        Files of a recording that others prepare are not looked at before there is something of it.
        """
        if key in self._rows:
            return True
        if self._kept is not None and not (self._kept.is_there(key) or self._reusable.may_have(key)):
            if key in self.failed_before:
                self._note(self.failed_before[key])
            return key in self.failed_before
        if not self._is_hashed(key):
            return True
        hashed, entry = self._hashes[key], self.entries[key]
        row = None if self._kept is None else self._kept.find(key, hashed)
        if row is not None and row.status == "failed":
            self._note(row)
            return True
        source = self._reusable.find(key, hashed)
        if source is None:
            return False
        self.sources[key] = source
        if row is None:
            row = reused_row(source, entry, self._context.study.tasks.values())
            if self._kept is not None and source == self._reusable.part(key):  # ended before its row was kept
                row = replace(row, status="prepared")
        self._note(row)
        return True

    def job(self, key: str) -> PrepareJob | None:
        """Return what must be done for a recording; None, having noted it, where its files cannot be read."""
        if not self._is_hashed(key):
            return None
        return PrepareJob(self.entries[key], self._reusable.part(key), self._hashes[key])

    def take(self, job: PrepareJob, result: LogRow | Unwritable | Lost) -> None:
        """Note what became of a job. Raises OutputError where its part could not be written."""
        if isinstance(result, Unwritable):
            raise OutputError(result.message)
        row = failed_row(job.entry, result.reason) if isinstance(result, Lost) else result
        if row.status == "prepared":
            self.sources[_key(job.entry)] = job.part
        if self._kept is not None:
            self._kept.keep(_key(job.entry), job.source_hash, row)
        self._note(row)

    def _is_hashed(self, key: str) -> bool:
        """Return whether it is known what a recording is read from; where its files cannot be read, note that."""
        if key in self._hashes:
            return True
        entry = self.entries[key]
        try:
            self._hashes[key] = source_hash(self._context.study, entry, self._files)
        except (OSError, ValueError) as fault:
            row = failed_row(entry, f"its files cannot be read ({fault})")
            if self._kept is not None:
                self._kept.keep(key, "", row)
            self._note(row)
            return False
        return True

    def _note(self, row: LogRow) -> None:
        self._rows[recording_key(row.subject, row.session, row.recording)] = row
        if self._on_progress is not None:
            self._on_progress(len(self._rows), len(self.entries), row)

    def rows(self) -> tuple[LogRow, ...]:
        """Return a row for every recording, in the order of the study."""
        return tuple(
            self._rows.get(key, LogRow(e.subject, e.session, e.recording, "not done"))
            for key, e in self.entries.items()
        )


def _key(entry: Entry) -> str:
    return recording_key(entry.subject, entry.session, entry.recording)


def _header(context: PrepareContext, stored: Collection[str]) -> StoreHeader:
    """Return the header of a store that will hold these recordings."""
    study = context.study
    order = tuple(key for key in map(_key, study.entries) if key in stored)
    settings = context.settings.as_plain_values()
    labels = {_key(entry): labels_of(study, entry) for entry in study.entries}
    stated = {key: labels_held for key, labels_held in labels.items() if not labels_held.is_empty()}
    texts = {"description": study.description, "licence": study.licence, "citation": study.citation}
    about = {key: text for key, text in texts.items() if text}
    return StoreHeader(study.name, tuple(study.tasks.values()), settings, FEATURE_NAMES, stated, order, about)


def _results(
    context: PrepareContext, jobs: Sequence[PrepareJob], run: PrepareRun
) -> Iterator[tuple[int, LogRow | Unwritable | Lost]]:
    """Yield the index of each job and what became of it, as they come."""
    if run.isolate:
        executor = ChildProcesses(run.n_jobs) if isinstance(run.n_jobs, int) else run.n_jobs
        study = replace(context.study, participants=(), entries=(), notes=())  # each job has its own entry
        work = Work(prepare_one, None, replace(context, study=study), run.limits, ONE_THREAD)
        yield from executor.run(work, jobs)
        return
    for index, job in enumerate(jobs):
        yield index, prepare_one(context, job)


@dataclass(frozen=True)
class PrepareJob:
    """One recording to prepare, where its part goes, and the hash of what it is made from."""

    entry: Entry
    part: Path
    source_hash: str


@dataclass(frozen=True)
class PrepareContext:
    """What is the same for every recording of a run."""

    study: Study
    settings: PrepareSettings
    settings_hash: str


@dataclass(frozen=True)
class Unwritable:
    """A part could not be written: the run must end, for the next could not be either."""

    message: str


def prepare_one(context: PrepareContext, job: PrepareJob) -> LogRow | Unwritable:
    """Return the row of a recording that was loaded, prepared and stored as a part; a fault is a row too."""
    entry, begun = job.entry, time.monotonic()
    try:
        prepared = prepare_recording(recording_of(context.study, entry), context.settings)
        hashes = {"source_hash": job.source_hash, "settings_hash": context.settings_hash}
        write_recording_part(job.part, prepared, **hashes)
    except OutputError as fault:
        return Unwritable(str(fault))
    except MemoryError:
        raise
    except BioperceptError as fault:
        return replace(failed_row(entry, "", time.monotonic() - begun), message=str(fault))
    except Exception as fault:
        return failed_row(entry, fault_of_ours(fault), time.monotonic() - begun)
    windows = prepared.windows
    labels = windows.label[windows.is_labelled].tolist()
    n_used, ignored = used_and_ignored(labels, context.study.tasks.values())
    return LogRow(
        entry.subject,
        entry.session,
        entry.recording,
        "prepared",
        time.monotonic() - begun,
        windows_labelled=n_used,
        windows_grid=len(windows) - len(labels),
        left_out=dict(prepared.left_out) | ignored,
        signals=tuple(signal.name for signal in prepared.signals),
        notes=prepared.notes,
    )


def failed_row(entry: Entry, reason: str, seconds: float = 0.0) -> LogRow:
    """Return the row of a recording that could not be prepared."""
    return LogRow(entry.subject, entry.session, entry.recording, "failed", seconds, message=f"{entry.title}: {reason}")
