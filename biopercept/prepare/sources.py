"""The recordings that a command reads: files, those of a folder, and those of studies, of some subjects or all."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from biopercept.errors import BioperceptError, RecordingError, SettingsError, fault_of_ours
from biopercept.files import is_folder
from biopercept.loaders.corrections import with_labels_by_hand
from biopercept.loaders.folders import recordings_in, without_parts
from biopercept.loaders.loading import reading_of
from biopercept.loaders.reading_process import Reading, read_ahead, read_apart
from biopercept.loaders.recognition import SignalOverride, override_for
from biopercept.parallel import ChildProcesses, Limits, Lost, Work
from biopercept.prepare.alignment import load_aligned, load_placed_aligned
from biopercept.recording import Recording
from biopercept.store.prepared import recording_key
from biopercept.studies.loading import PlacedFile, is_study, load_study
from biopercept.studies.structure import Entry, Study
from biopercept.studies.tables import TABLES
from biopercept.typed_values import not_among

_ANY = SignalOverride()
Request = TypeVar("Request")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, eq=False)
class Source:
    """A recording not yet loaded, a file's or a study's; ``key`` names its output files, ``title`` it in messages.

    ``stated`` is what its user says of the channels of a file.
    """

    subject: str
    key: str
    title: str
    path: Path
    study: Study | None = None
    entry: Entry | None = None
    stated: Stated | None = None

    def load(self) -> Recording:
        """Return the recording; of a file by itself the subject and the recording are called what the file is.

        Raises RecordingError where it cannot be read, or StudyError where its labels contradict it.
        """
        if self.study is not None and self.entry is not None:
            return recording_of(self.study, self.entry)
        return recording_at(self.path, self.subject, self.stated)

    def read_ahead(self) -> None:
        """Have the recording read while this process does something else; what is wrong is said when it is loaded."""
        if self.study is not None and self.entry is not None:
            read_ahead(_reading_of(self.study, self.entry))
        else:
            read_ahead(_reading_at(self.path, self.subject, self.stated))


@dataclass(frozen=True)
class Stated:
    """What a user says of channels, by patterns of their labels; ``is_of_one`` is whether a single file is meant."""

    overrides: Mapping[str, SignalOverride]
    is_of_one: bool = True


def recording_at(path: Path, subject: str = "", stated: Stated | None = None) -> Recording:
    """Return the recording at a path, read apart where a process was opened; it is called what the subject is.

    Raises RecordingError where it cannot be read, or is the one of which something is ``stated`` of no channel.
    """
    recording = with_labels_by_hand(read_apart(_reading_at(path, subject, stated)))
    labels = [label for signal in recording.signals for label in (signal.name, *signal.channel_names)]
    overrides = stated.overrides if stated is not None else {}
    unmatched = [name for name in overrides if not any(override_for(label, {name: _ANY}) for label in labels)]
    if stated is None or not unmatched:
        return recording
    sentence = f"no channel is called {not_among(unmatched, dict.fromkeys(labels))}"
    if stated.is_of_one:
        raise RecordingError(f"{path.name}: {sentence}")
    return replace(recording, notes=(*recording.notes, sentence))


def _reading_at(path: Path, subject: str, stated: Stated | None) -> Reading[Recording]:
    return reading_of(path, subject=subject, name=subject, overrides=None if stated is None else stated.overrides)


def recording_of(study: Study, entry: Entry) -> Recording:
    """Return a recording of a study as :func:`load_aligned` does, read apart where a process was opened."""
    return read_apart(_reading_of(study, entry))


def _reading_of(study: Study, entry: Entry) -> Reading[Recording]:
    return Reading(entry.title, _paths(entry), partial(load_aligned, _alone(study, entry), entry))


def placed_recording_of(study: Study, entry: Entry) -> tuple[Recording, tuple[PlacedFile, ...]]:
    """Return a recording of a study as :func:`load_placed_aligned` does, read apart where a process was opened."""
    return read_apart(Reading(entry.title, _paths(entry), partial(load_placed_aligned, _alone(study, entry), entry)))


def _paths(entry: Entry) -> tuple[Path, ...]:
    return tuple(file.path for file in entry.files)


def _alone(study: Study, entry: Entry) -> Study:
    """Return a study without what is of other recordings, so that it can be sent with each of thousands."""
    return replace(study, participants=(), entries=(entry,), notes=())


def sources_of(
    paths: Sequence[Path],
    subjects: Collection[str] | None = None,
    excluded: Collection[str] = (),
    overrides: Mapping[str, SignalOverride] | None = None,
) -> list[Source]:
    """Return the recordings that are wanted of files, folders and studies, in the order given.

    ``overrides`` is what a user says of channels of files; of a study its own tables say it.

    Raises SettingsError where a named subject has no recording, nothing is left, or two recordings would share an
    output file, or something is said of channels of a study.
    """
    sources = list(_every_source(paths))
    if overrides:
        refuse_of_study(next((source.path for source in sources if source.study is not None), None))
        stated = Stated(overrides, is_of_one=len(sources) == 1)
        sources = [replace(source, stated=stated) for source in sources]
    known = {source.subject for source in sources}
    if unknown := sorted((set(subjects or ()) | set(excluded)) - known):
        raise SettingsError(f"no recording of subject {not_among(unknown, sorted(known))}")
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


def refuse_of_study(path: Path | None) -> None:
    """Refuse a study where something is said of the channels of files. Raises SettingsError."""
    if path is not None:
        raise SettingsError(f"--signals and --unit are of files; the study {path} says it in its study.yaml (signals:)")


def each_of(
    work: EachWork[Request, Outcome],
    sources: Sequence[Source],
    n_jobs: int,
    on_done: Callable[[Outcome, int], None],
) -> list[Outcome]:
    """Return what is made of every recording, in their order, each in one of several processes or all in this one.

    ``on_done`` is told of each as it is done, and how many there are. Where several processes work, a recording that
    ends its process costs itself.
    """
    by_key: dict[str, Outcome] = {}
    for source, outcome in _outcomes(work, sources, n_jobs):
        by_key[source.key] = work.failed(source, outcome.reason) if isinstance(outcome, Failure) else outcome
        on_done(by_key[source.key], len(sources))
    return [by_key[source.key] for source in sources]


@dataclass(frozen=True)
class Failure:
    """Why nothing could be made of a recording."""

    reason: str


@dataclass(frozen=True)
class EachWork(Generic[Request, Outcome]):
    """What is made of every recording, by a function of a module, and what stands in its place where that fails."""

    function: Callable[[Request, Source], Outcome]
    request: Request
    failed: Callable[[Source, str], Outcome]


def _outcomes(
    work: EachWork[Request, Outcome], sources: Sequence[Source], n_jobs: int
) -> Iterator[tuple[Source, Outcome | Failure]]:
    if n_jobs == 1 or len(sources) < 2:
        for source in sources:
            yield source, outcome_of(work.function, work.request, source)
        return
    there: Work[Any, Any, Source, Any] = Work(_outcome_there, None, (work.function, work.request))
    with closing(ChildProcesses(n_jobs, Limits(seconds=math.inf)).run(there, sources)) as results:
        for index, result in results:
            if not isinstance(result, Lost):
                yield sources[index], result
            elif result.fault is not None:
                raise result.fault
            else:
                yield sources[index], Failure(result.reason)


def outcome_of(function: Callable[[Request, Source], Outcome], request: Request, source: Source) -> Outcome | Failure:
    """Return what a function makes of a recording, or why it cannot: a fault in one recording costs it alone.

    Raises OutputError and the like: what is no fault of the recording.
    """
    try:
        return function(request, source)
    except BioperceptError as fault:
        if fault.exit_code not in (1, 2):
            raise
        return Failure(str(fault))
    except OSError:
        raise
    except Exception as fault:
        return Failure(fault_of_ours(fault))


def _outcome_there(work: tuple[Callable[[Request, Source], Outcome], Request], source: Source) -> Outcome | Failure:
    return outcome_of(*work, source)


def _places(path: Path) -> tuple[Path, ...]:
    """Return the recordings of a folder; the path itself where it is a file, or where loading it will say its fault."""
    if not is_folder(path):
        return (path,)
    try:
        return recordings_in(path).paths
    except RecordingError:
        return (path,)


def _named(given: Path, places: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Give the recordings of a path and what each is called: what stands before its first dot, if that is its alone.

    Where it does not, the folders between go before it, and where that does not either, the suffix behind.
    """
    plain = {place: place.resolve().name.split(".")[0] for place in places}
    long = {
        place: "_".join((*place.relative_to(given).parts[:-1], plain[place])) if place != given else plain[place]
        for place in places
    }
    for place in places:
        if sum(name.lower() == plain[place].lower() for name in plain.values()) == 1:
            yield place, plain[place]
        elif sum(name.lower() == long[place].lower() for name in long.values()) == 1:
            yield place, long[place]
        else:
            yield place, f"{long[place]}_{place.suffix.lstrip('.')}"


def recording_paths(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the paths that stand for recordings: files, folders, studies; without files that are parts of another.

    Raises SettingsError where one is a table of a study.
    """
    for path in paths:
        if path.is_file() and path.stem in (*TABLES, "study") and is_study(path.parent):
            raise SettingsError(f"{path} is a table of a study and no recording; give the folder {path.parent}")
    return without_parts(list(dict.fromkeys(paths)))


def _every_source(paths: Sequence[Path]) -> Iterator[Source]:
    for path in recording_paths(paths):
        if not is_study(path):
            for place, name in _named(path, _places(path)):
                yield Source(name, recording_key(name, "", name), str(place), place)
            continue
        study = load_study(path)
        for entry in study.entries:
            key = recording_key(entry.subject, entry.session, entry.recording)
            yield Source(entry.subject, key, entry.title, path, study, entry)
