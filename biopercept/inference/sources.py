"""What ``predict`` is given: recordings by themselves or of a study, with what is known to be true of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from biopercept.errors import SettingsError
from biopercept.loaders.loading import load_recording
from biopercept.recording import Recording, RecordingLabels
from biopercept.store.prepared import recording_key
from biopercept.studies.labels import labels_of
from biopercept.studies.loading import is_study, load_entry, load_study
from biopercept.studies.structure import Entry, Study
from biopercept.tasks import Task


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a recording beside its signals, and the tasks that turn it into true classes and numbers.

    The tasks are those of the ``study``, whose words its labels are. A file by itself has none of both: its labels are
    read in the words of the study that the model was trained on.
    """

    labels: RecordingLabels = field(default_factory=RecordingLabels)
    study: str = ""
    tasks: Mapping[str, Task] | None = None

    def task_for(self, task: Task) -> Task | None:
        """Return the task whose words the labels are; None where the study has none that predicts the same."""
        if self.tasks is None:
            return task
        return None if self.lacking(task) else self.tasks[task.name]

    def lacking(self, task: Task) -> str:
        """Return why the study knows no truth for a task of the model; empty where it does."""
        if self.tasks is None:
            return ""
        no_truth = "so no truth is written beside its predictions"
        same = self.tasks.get(task.name)
        if same is None:
            return f"study {self.study!r} has no task {task.name!r}, {no_truth}"
        if same.kind != task.kind:
            kinds = f"is a {same.kind} and the model's is a {task.kind}"
            return f"task {task.name!r} of study {self.study!r} {kinds}, {no_truth}"
        if set(same.classes) != set(task.classes):
            return (
                f"task {task.name!r} of study {self.study!r} has the classes {', '.join(same.classes)} and the model's "
                f"are {', '.join(task.classes)}, {no_truth}"
            )
        return ""


NO_TRUTH = Truth()


@dataclass(frozen=True, eq=False)
class Source:
    """A recording to predict, not yet loaded: ``key`` of its output files, ``title`` in messages."""

    subject: str
    key: str
    title: str
    load: Callable[[], tuple[Recording, Truth]]


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
                f"{titles[key]} and {source.title} would both be written to {source.key}_predictions.tsv; "
                "rename one, or predict them into two outputs"
            )
        titles[key] = source.title
    return wanted


def _every_source(paths: Sequence[Path]) -> Iterator[Source]:
    for path in paths:
        if not is_study(path):
            stem = path.resolve().name.split(".")[0]  # a file or folder is called what stands before its first dot
            yield Source(stem, recording_key(stem, "", stem), str(path), partial(_load_file, path, stem))
            continue
        study = load_study(path)
        for entry in study.entries:
            key = recording_key(entry.subject, entry.session, entry.recording)
            yield Source(entry.subject, key, entry.title, partial(_load_entry, study, entry))


def _load_file(path: Path, stem: str) -> tuple[Recording, Truth]:
    recording = load_recording(path, subject=stem, name=stem)
    return recording, Truth(RecordingLabels(recording.intervals))


def _load_entry(study: Study, entry: Entry) -> tuple[Recording, Truth]:
    """Return a study's recording with the labels on its own clock, and the tasks that say what they mean."""
    recording = load_entry(study, entry)
    labels = labels_of(study, entry)
    extra = tuple(i for i in recording.intervals if i not in labels.intervals)  # the condition
    labels = replace(labels, intervals=(*labels.intervals, *extra), interval_values=labels.interval_values)
    return recording, Truth(labels, study.name, study.tasks)
