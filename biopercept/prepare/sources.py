"""The recordings that a command reads: files by themselves, and those of study folders, of some subjects or all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from biopercept.errors import SettingsError
from biopercept.loaders.loading import load_recording
from biopercept.parallel import Work, run_jobs
from biopercept.prepare.alignment import load_aligned
from biopercept.recording import Recording
from biopercept.store.prepared import recording_key
from biopercept.studies.loading import is_study, load_study
from biopercept.studies.structure import Entry, Study

Request = TypeVar("Request")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, eq=False)
class Source:
    """A recording not yet loaded, a file's or a study's; ``key`` names its output files, ``title`` it in messages."""

    subject: str
    key: str
    title: str
    path: Path
    study: Study | None = None
    entry: Entry | None = None

    def load(self) -> Recording:
        """Return the recording; of a file by itself the subject and the recording are called what the file is.

        Raises RecordingError where it cannot be read, or StudyError where its labels contradict it.
        """
        if self.study is not None and self.entry is not None:
            return load_aligned(self.study, self.entry)
        return load_recording(self.path, subject=self.subject, name=self.subject)


def sources_of(
    paths: Sequence[Path], subjects: Collection[str] | None = None, excluded: Collection[str] = ()
) -> list[Source]:
    """Return the recordings that are wanted of files and study folders, in the order given.

    Raises SettingsError where a named subject has no recording, nothing is left, or two recordings would share an
    output file.
    """
    sources = list(_every_source(paths))
    known = {source.subject for source in sources}
    if unknown := sorted((set(subjects or ()) | set(excluded)) - known):
        raise SettingsError(f"no recording of subject {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    wanted = [s for s in sources if (subjects is None or s.subject in subjects) and s.subject not in excluded]
    if not wanted:
        raise SettingsError("no recording is left; check --subjects and --exclude-subjects")
    titles: dict[str, str] = {}
    for source in wanted:
        if (key := source.key.lower()) in titles:
            raise SettingsError(
                f"{titles[key]} and {source.title} would both be written under the name {source.key}; "
                "rename one, or write them into two outputs"
            )
        titles[key] = source.title
    return wanted


def each_of(
    function: Callable[[Request, Source], Outcome],
    request: Request,
    sources: Sequence[Source],
    n_jobs: int,
    on_done: Callable[[Outcome, int], None],
) -> list[Outcome]:
    """Return what a function of a module makes of every recording, in their order, in several processes or this one.

    ``on_done`` is told of each as it is done, and how many there are.
    """
    work = Work(function, None, request)
    by_key: dict[str, Outcome] = {}
    for source, outcome in run_jobs(work, sources, n_jobs, request):
        by_key[source.key] = outcome
        on_done(outcome, len(sources))
    return [by_key[source.key] for source in sources]


def _every_source(paths: Sequence[Path]) -> Iterator[Source]:
    for path in paths:
        if not is_study(path):
            stem = path.resolve().name.split(".")[0]  # a file or folder is called what stands before its first dot
            yield Source(stem, recording_key(stem, "", stem), str(path), path)
            continue
        study = load_study(path)
        for entry in study.entries:
            key = recording_key(entry.subject, entry.session, entry.recording)
            yield Source(entry.subject, key, entry.title, path, study, entry)
