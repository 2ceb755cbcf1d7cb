"""Files, studies and stores looked at: which recordings are meant, where each page goes, and how each one went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from biopercept.errors import SettingsError, StoreError
from biopercept.files import is_file, is_folder, refuse_other_than_page
from biopercept.prepare.sources import EachWork, Source, each_of, sources_of
from biopercept.results.predictions import RecordingKey
from biopercept.store.prepared import safe_file_stem
from biopercept.store.reading import StoredRecording, StudyStore, open_store
from biopercept.tasks import Task
from biopercept.typed_values import did_you_mean, not_among
from biopercept.viewing.page import write_page
from biopercept.viewing.predictions import PredictionSource
from biopercept.viewing.pyramids import Place, sweep
from biopercept.viewing.timeline import Timeline, timeline_of, timeline_of_stored

_MOST_NAMED = 8


@dataclass(frozen=True, eq=False)
class Meant:
    """What is looked at: a recording, a folder of them, a study or a store; of some subjects, or one recording only.

    ``recording`` is the name or the key of those that are meant; ``predictions`` is a folder of what is drawn beneath.
    """

    path: Path
    predictions: Path | None = None
    subjects: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    recording: str | None = None


@dataclass(frozen=True, eq=False)
class ViewRequest:
    """Pages of what is looked at, in one process or several.

    ``html`` is a page (.html) where there is one recording, or a folder of pages by the recordings' names; what is
    there is replaced only with ``overwrite``, or where it is an earlier page of the same.
    """

    meant: Meant
    html: Path
    overwrite: bool = False
    n_jobs: int = 1


@dataclass(frozen=True, eq=False)
class Viewable:
    """A recording that can be looked at, not yet read: ``read`` gives its timeline, and a note on what it lacks.

    ``place`` is where its pyramids are kept, ``source`` what is corrected of it; each is None where there is none.
    """

    title: str
    read: Callable[[], tuple[Timeline, str]]
    place: Place | None = None
    source: Source | None = None


@dataclass(frozen=True)
class Viewed:
    """How one recording went: its page with its size in bytes, or why there is none.

    ``note`` says what the page lacks of what was wanted.
    """

    title: str
    page: Path | None = None
    size: int = 0
    failure: str = ""
    note: str = ""


def view(
    request: ViewRequest, *, on_recording: Callable[[Viewed, int], None] = lambda _, __: None
) -> tuple[Viewed, ...]:
    """Write a page for each recording that is meant, and return how each went, in the order given.

    A recording that cannot be read costs itself alone. ``on_recording`` is told of each, and how many there are.

    Raises SettingsError where no recording is meant, or the predictions are of others. Raises StudyError where there
    are no predictions, StoreError where the store is damaged, and OutputError where a page cannot be written.
    """
    meant = request.meant
    source = None if meant.predictions is None else PredictionSource(meant.predictions)
    if _is_store(meant.path):
        with open_store(meant.path) as store:
            return tuple(_of_store(request, store, source, on_recording))
    chosen = _chosen_sources(meant, source)
    keys = [one.key for one in chosen]
    alone = "__".join(dict.fromkeys(keys[0].split("__"))) if chosen[0].entry is None else ""
    pages = _targets(request, keys, alone)
    targets = {one.key: (page, _made_from(meant, one.key)) for one, page in zip(chosen, pages, strict=True)}
    work = EachWork(_viewed, (source, targets), _failed)
    return tuple(each_of(work, chosen, request.n_jobs, on_recording))


@contextmanager
def viewables(meant: Meant) -> Iterator[tuple[Viewable, ...]]:
    """Give the recordings that are meant, to be read while the block runs: a store is open as long.

    Raises what :func:`view` raises.
    """
    source = None if meant.predictions is None else PredictionSource(meant.predictions)
    if _is_store(meant.path):
        with open_store(meant.path) as store:
            chosen, places = _chosen_stored(meant, store, source)
            classes = Task.classes_of(store.tasks.values())
            yield tuple(
                Viewable(one.key, partial(_stored_timeline, one, source, classes), places[one.key]) for one in chosen
            )
        return
    yield tuple(
        Viewable(one.title, partial(_timeline, one, source), source=one) for one in _chosen_sources(meant, source)
    )


def _timeline(source: Source, predictions: PredictionSource | None) -> tuple[Timeline, str]:
    classes = () if source.study is None else Task.classes_of(source.study.tasks.values())
    return _with_predictions(replace(timeline_of(source.load()), classes=classes), predictions, _key(source))


def _stored_timeline(
    one: StoredRecording, predictions: PredictionSource | None, classes: tuple[str, ...]
) -> tuple[Timeline, str]:
    return _with_predictions(replace(timeline_of_stored(one), classes=classes), predictions, _stored_key(one))


def _chosen_sources(meant: Meant, source: PredictionSource | None) -> list[Source]:
    """Return the recordings of files and studies that are meant. Raises SettingsError where there are none."""
    sources = sources_of((meant.path,), meant.subjects, meant.excluded)
    keys = [_key(one) for one in sources]
    chosen = [one for one, key in zip(sources, keys, strict=True) if _is_meant(meant, one.key, key)]
    _refuse_none(meant, chosen, [one.title for one in sources])
    _refuse_strangers(source, [_key(one) for one in chosen])
    return chosen


def _chosen_stored(
    meant: Meant, store: StudyStore, source: PredictionSource | None
) -> tuple[list[StoredRecording], dict[str, Place]]:
    """Return the recordings of a store that are meant, and where pyramids are kept; stale ones are removed."""
    places = {one.key: Place.beside(meant.path, safe_file_stem(one.key), one.content_hash) for one in store.recordings}
    sweep(meant.path, places.values())
    chosen = [one for one in store.recordings if _is_chosen(meant, one)]
    known = {one.subject for one in store.recordings}
    if strangers := sorted((set(meant.subjects or ()) | set(meant.excluded)) - known):
        raise SettingsError(f"{meant.path.name} has no recording of subject {not_among(strangers, sorted(known))}")
    _refuse_none(meant, chosen, [one.key for one in store.recordings])
    _refuse_strangers(source, [_stored_key(one) for one in chosen])
    return chosen, places


def _is_store(path: Path) -> bool:
    import h5py

    if not is_file(path) or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            return "biopercept_version" in file.attrs
    except (OSError, RuntimeError):
        return False


def _key(source: Source) -> RecordingKey:
    if source.entry is None:
        return source.subject, "", source.subject
    return source.entry.subject, source.entry.session, source.entry.recording


def _is_meant(meant: Meant, key: str, names: RecordingKey) -> bool:
    return meant.recording is None or meant.recording in (key, names[2], " ".join(filter(None, names)))


def _refuse_none(meant: Meant, chosen: Sequence[object], titles: Sequence[str]) -> None:
    if not chosen:
        raise SettingsError(
            f"no recording is called {meant.recording!r}; there are: {_some(titles)}"
            f"{did_you_mean(meant.recording or '', [word for title in titles for word in (title, *title.split())])}"
        )


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:_MOST_NAMED]) + ("; ..." if len(names) > _MOST_NAMED else "")


def _refuse_strangers(source: PredictionSource | None, keys: Sequence[RecordingKey]) -> None:
    """Refuse predictions of other recordings only, before any is read."""
    if source is None or set(keys) & set(source.keys()):
        return
    wanted, there = ([" ".join(dict.fromkeys(filter(None, key))) for key in some] for some in (keys, source.keys()))
    raise SettingsError(
        f"{source.folder} predicts none of what is viewed ({_some(wanted)}); it predicts: {_some(there)}"
    )


def _targets(request: ViewRequest, keys: Sequence[str], alone: str = "") -> list[Path]:
    """Return where each page goes; what is there is refused, unless it may be replaced.

    In a folder a page has the key for its name, or ``alone`` where it is the only one.
    """
    is_named = request.html.suffix.lower() in (".html", ".htm") and not is_folder(request.html)
    if len(keys) > 1 and (is_file(request.html) or is_named):
        raise SettingsError(
            f"{request.meant.path} holds {len(keys)} recordings, each with a page of its own: give --html a folder, or "
            "choose one with --recording or --subjects"
        )
    is_new_folder = not request.html.suffix and not is_file(request.html)
    if len(keys) == 1 and not (is_named or is_folder(request.html) or is_new_folder):
        raise SettingsError(
            f"--html {request.html} is neither a page nor a folder: a page ends in .html, and a folder that is not yet "
            "there has no dot in its name"
        )
    names = [alone] if alone and len(keys) == 1 else keys
    pages = [request.html] if is_named else [request.html / f"{name}.html" for name in names]
    for page, key in zip(pages, keys, strict=True):
        what, source = _made_from(request.meant, key)
        refuse_other_than_page(page, overwrite=request.overwrite, what=what, source=source)
    return pages


def _made_from(meant: Meant, key: str) -> tuple[str, Path]:
    """Return what the page of a recording is signed as."""
    beneath = "" if meant.predictions is None else str(meant.predictions.resolve())
    return f"view {key} {beneath}", meant.path


_Target = tuple[Path, tuple[str, Path]]


def _viewed(work: tuple[PredictionSource | None, dict[str, _Target]], source: Source) -> Viewed:
    predictions, targets = work
    timeline, note = _timeline(source, predictions)
    page, made_from = targets[source.key]
    return Viewed(source.title, page, write_page(timeline, page, made_from=made_from), note=note)


def _failed(source: Source, reason: str) -> Viewed:
    return Viewed(source.title, failure=reason)


def _with_predictions(timeline: Timeline, source: PredictionSource | None, key: RecordingKey) -> tuple[Timeline, str]:
    if source is None:
        return timeline, ""
    tracks = source.of(key)
    note = "" if tracks else f"{source.folder} predicts nothing of {timeline.title}"
    return replace(timeline, predictions=tracks, notes=(*timeline.notes, *([f"{note}."] if note else []))), note


def _of_store(
    request: ViewRequest,
    store: StudyStore,
    source: PredictionSource | None,
    on_recording: Callable[[Viewed, int], None],
) -> Iterator[Viewed]:
    chosen, places = _chosen_stored(request.meant, store, source)
    for one, page in zip(chosen, _targets(request, [one.key for one in chosen]), strict=True):
        try:
            timeline, note = _stored_timeline(one, source, Task.classes_of(store.tasks.values()))
            size = write_page(timeline, page, places[one.key], made_from=_made_from(request.meant, one.key))
            viewed = Viewed(timeline.title, page, size, note=note)
        except StoreError as fault:
            viewed = Viewed(one.key, failure=str(fault))
        on_recording(viewed, len(chosen))
        yield viewed


def _stored_key(one: StoredRecording) -> RecordingKey:
    return one.subject, one.session, one.recording


def _is_chosen(meant: Meant, one: StoredRecording) -> bool:
    is_of = meant.subjects is None or one.subject in meant.subjects
    return is_of and one.subject not in meant.excluded and _is_meant(meant, one.key, _stored_key(one))
