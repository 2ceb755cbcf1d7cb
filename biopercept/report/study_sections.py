"""The study behind the scores: its store and table, its people, data card, features by condition, and signals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

import numpy as np

from biopercept.data.windows import labelled_windows
from biopercept.errors import BioperceptError, StudyError, count, ranged
from biopercept.measures.columns import column_of
from biopercept.measures.conditions import ConditionEffect, condition_effects
from biopercept.measures.statistics import smallest_p
from biopercept.report.drawing import BLUE, FAINT, INK, Drawing, FigureData, draw, name_rows
from biopercept.report.layout import PictureBudget, Section
from biopercept.report.score_sections import longest_recording, middle_subject
from biopercept.report.scores import card_table
from biopercept.report.stored_signals import cleaning_of, signal_figures
from biopercept.report.text import (
    Table,
    duration,
    interval_text,
    listed,
    p_value,
    shortened,
    shown,
    span,
    with_interval,
)
from biopercept.results.cross_validation import CrossValidation
from biopercept.results.folder import LOG_SUFFIX, folders_below
from biopercept.results.predictions import Predictions, RecordingKey
from biopercept.results.reading import ResultTable, read_settings, read_table
from biopercept.tasks import Task
from biopercept.typed_values import path_meant

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from biopercept.store.reading import StudyStore

STORE_SUFFIX = ".h5"
PARTICIPANTS = "participants.tsv"
_STUDY = "study.yaml"
_MOST_LEVELS = 8
_NO_STORE = "not known here: the store that was scored is not in this folder (report --with STORE)"
_MOST_BARS = 20
_NOT_WRITTEN = {
    "How people were found, their consent, who set the labels, and when": "not known here beyond the content above and "
    "what it asks to cite",
}
_ID = "participant_id"


@dataclass(frozen=True)
class StudyFiles:
    """Paths of stores, and of tables of participants."""

    stores: tuple[Path, ...] = ()
    participants: tuple[Path, ...] = ()

    def store_of(self, run: CrossValidation) -> StudyStore | None:
        """Return the opened store whose people a cross-validation scored; None where it is not among them."""
        from biopercept.store.reading import open_store

        wanted = run.fingerprint.get("store")
        for path in self.stores if wanted else ():
            try:
                store = open_store(path)
                if store.fingerprint() == wanted:
                    return store
                store.close()
            except BioperceptError:  # of another version, damaged, or no store: the page says that it is not there
                continue
        return None

    def participants_of(self, study: str, people: Collection[str]) -> ResultTable | None:
        """Return the table that has each of these people, of the study of that name where it says its name."""
        for path in self.participants:
            name = str(_name_of(path.with_name(_STUDY)))
            if study and name and name != study:
                continue
            table = read_table(path)
            if table.has("participant_id") and set(people) <= set(table.texts("participant_id")):
                return table
        return None


def study_files(folder: Path, given: Sequence[Path] = ()) -> StudyFiles:
    """Return what lies in a folder of results and up to three levels below, and what is given from elsewhere.

    Each of ``given`` is a store or a folder with a table of participants. Raises StudyError where one is neither, and
    StoreError where a store cannot be read.
    """
    from biopercept.store.reading import open_store

    stores, participants = [], []
    for path in given:
        if path.is_file() and path.suffix == STORE_SUFFIX:
            open_store(path).close()
            stores.append(path)
        elif (path / PARTICIPANTS).is_file():
            participants.append(path / PARTICIPANTS)
        else:
            raise StudyError(
                f"{path} is no store ({STORE_SUFFIX}), no study with {PARTICIPANTS} and no folder of 'explain'; "
                f"--with takes one of these{path_meant(path)}"
            )
    for place in folders_below(folder):
        stores += sorted(place.glob(f"*{STORE_SUFFIX}"))
        participants += [place / PARTICIPANTS] if (place / PARTICIPANTS).is_file() else []
    return StudyFiles(tuple(stores), tuple(participants))


def _name_of(path: Path) -> str:
    """Return the name that a study's settings give it; empty where there are none."""
    try:
        return str(read_settings(path).get("name", "")) if path.is_file() else ""
    except StudyError:
        return ""


def people_section(run: CrossValidation, people: ResultTable | None, end: tuple[str, str]) -> Section:
    """Return who was scored: what a table of participants says of them (:func:`people_words`); windows and minutes.

    ``end`` are the ends of the section's anchor and title.
    """
    scored = {subject.participant for subject in run.subjects}
    columns = _shown_columns(scored, people)
    order = sorted({key[0] for key in run.predictions.keys})
    about = {} if people is None else dict(zip(people.texts(_ID), people.rows, strict=True))
    rows = []
    for person in order:
        of_person = [key for key in run.predictions.recordings if key[0] == person]
        row = {"Subject": person}
        for name in columns:
            row[_heading(name)] = about[person][people.columns.index(name)] if people is not None else ""
        row["Recordings"] = str(len(of_person))
        for label in run.classes:
            n, minutes = _amount(run.predictions, person, label)
            row[f"{shown(label)}: windows"] = f"{n:,}"
            row[f"{shown(label)}: min"] = f"{minutes:.1f}"
        rows.append(row)
    lead = [_totals(run), *people_words(scored, people)]
    title = f"{count(len(rows), 'scored subject')}: windows of each true class, and the minutes that they cover"
    return Section(
        f"people{end[0]}",
        f"Participants{end[1]}",
        lead=tuple(lead),
        tables=(Table.of(title, rows, ("Subject",), fold_above=40),),
    )


def people_words(subjects: Collection[str], people: ResultTable | None) -> tuple[str, ...]:
    """Return a sentence on age, sex and the like of subjects, for each column that says something of a group."""
    return (
        () if people is None else tuple(_summary(people, subjects, name) for name in _shown_columns(subjects, people))
    )


def _shown_columns(subjects: Collection[str], people: ResultTable | None) -> tuple[str, ...]:
    return () if people is None else tuple(c for c in people.columns if c != _ID and _is_shown(people, subjects, c))


def _heading(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _values(people: ResultTable, subjects: Collection[str], name: str) -> list[str]:
    pairs = zip(people.texts(_ID), people.texts(name), strict=True)
    return [value.strip() for person, value in pairs if person in subjects and value.strip() not in ("", "n/a")]


def _numbers(values: Sequence[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def _is_shown(people: ResultTable, subjects: Collection[str], name: str) -> bool:
    """Return whether a column says something of a group: numbers, or few words; free text may name a person."""
    values = _values(people, subjects, name)
    most = min(_MOST_LEVELS, max(2, len(values) // 2))
    return bool(values) and (_numbers(values) is not None or len(set(values)) <= most)


def _summary(people: ResultTable, subjects: Collection[str], name: str) -> str:
    values = _values(people, subjects, name)
    unknown = f", unknown of {len(subjects) - len(values)}" if len(values) < len(subjects) else ""
    numbers = _numbers(values)
    if numbers is not None and len(set(values)) > 2:
        sd = f", SD {stdev(numbers):.1f}" if len(numbers) > 1 else ""
        ends = ranged(f"{min(numbers):g}", f"{max(numbers):g}")
        return f"{_heading(name)}: mean {mean(numbers):.1f}{sd}, {ends} (n = {len(numbers)}{unknown})."
    counts = ", ".join(f"{shown(value)} {values.count(value)}" for value in sorted(set(values)))
    return f"{_heading(name)}: {counts} (n = {len(values)}{unknown})."


def _totals(run: CrossValidation) -> str:
    parts = []
    for label in run.classes:
        amounts = [_amount(run.predictions, s.participant, label) for s in run.subjects]
        n, minutes = sum(n for n, _ in amounts), sum(minutes for _, minutes in amounts)
        people = sum(n > 0 for n, _ in amounts)
        parts.append(f"{shown(label)} {count(n, 'window')} and {minutes:.1f} min of {count(people, 'subject')}")
    return f"Scored: {'; '.join(parts)}. Windows overlap where the step is shorter than the window; minutes count once."


def _amount(predictions: Predictions, person: str, label: str) -> tuple[int, float]:
    """Return how many windows of a class a person has, and how many minutes they cover."""
    rows = [r for r, key in enumerate(predictions.keys) if key[0] == person and predictions.label[r] == label]
    seconds = 0.0
    reached: dict[RecordingKey, float] = {}
    for row in sorted(rows, key=lambda r: (predictions.keys[r], predictions.onset[r])):
        key, start = predictions.keys[row], float(predictions.onset[row])
        end = start + float(predictions.duration[row])
        seconds += end - min(max(start, reached.get(key, start)), end)
        reached[key] = end
    return len(rows), seconds / 60.0


def data_card(run: CrossValidation, store: StudyStore | None, people: Sequence[str]) -> Table:
    """Return a line for each question on the data, answered from what was written down; what was not, says so.

    ``people`` are sentences on age, sex and the like (:func:`people_words`).

    References
    ----------
    T. Gebru et al., "Datasheets for Datasets", Communications of the ACM 64(12), 2021, doi:10.1145/3458723.
    """
    known = "" if store is None else f" of {len({recording.subject for recording in store.recordings}):,} in the store"
    task = None if store is None else store.tasks.get(run.task)
    rows = {
        "Study": shown(run.study) or "not stated",
        **_about_rows(store),
        "People": f"{run.n_subjects:,} scored{known}. {_groups_of(people)}",
        **_store_rows(store),
        "Labels": f"task {shown(run.task)}: {', '.join(map(shown, run.classes)) if task is None else _meaning(task)}",
        "Windows scored": _windows_line(run),
        "Windows left out": _left_out(run.n_windows_left_out),
        "Fingerprint of the store": run.fingerprint.get("store") or "not stated",
        **_NOT_WRITTEN,
    }
    return card_table(f"Data card: {shown(run.study or run.task)}", rows)


def store_card(store: StudyStore, people: Sequence[str] = ()) -> Table:
    """Return the data card of a prepared study that nothing was scored on: as :func:`data_card`, of all its people."""
    left_out: Counter[str] = Counter()
    for recording in store.recordings:
        left_out.update(recording.left_out)
    n_labelled = sum(int(recording.windows.is_labelled.sum()) for recording in store.recordings)
    size = f"of {store.window_length_seconds:g} s, one every {store.step_seconds:g} s"
    rows = {
        "Study": shown(store.name) or "not stated",
        **_about_rows(store),
        "People": f"{len({r.subject for r in store.recordings}):,}. {_groups_of(people)}",
        **_store_rows(store),
        "Labels": "; ".join(f"task {shown(task.name)}: {_meaning(task)}" for task in store.tasks.values()) or "none",
        "Labelled windows": f"{n_labelled:,} {size}",
        "Windows left out": _left_out(left_out),
        "Fingerprint of the store": store.fingerprint(),
        **_NOT_WRITTEN,
    }
    return card_table(f"Data card: {shown(store.name or store.path.name)}", rows)


def cards_of_stores(files: StudyFiles, logs: Collection[Path], scored: Collection[str]) -> list[Table]:
    """Return the card of each store that lies beside one of the logs, but those whose fingerprint is ``scored``."""
    from biopercept.store.reading import open_store

    cards = []
    for path in files.stores:
        if path.with_name(f"{path.stem}{LOG_SUFFIX}") not in logs:
            continue
        try:
            store = open_store(path)
        except BioperceptError:  # of another version, or damaged: its log stands on the page, its card cannot
            continue
        with store:
            if store.fingerprint() not in scored:
                subjects = {recording.subject for recording in store.recordings}
                people = files.participants_of(store.name, subjects)
                cards.append(store_card(store, people_words(subjects, people)))
    return cards


def _about_rows(store: StudyStore | None) -> dict[str, str]:
    about = {} if store is None else store.about
    missing = _NO_STORE if store is None else "not stated ({}: in study.yaml, then prepare again)"
    titles = {"description": "Content", "licence": "Licence", "citation": "To cite"}
    return {
        title: shown(" ".join(about[key].split())) if about.get(key) else missing.format(key)
        for key, title in titles.items()
    }


def _store_rows(store: StudyStore | None) -> dict[str, str]:
    if store is None:
        return dict.fromkeys(("Recordings", "Signals", "Corrected by hand", "Prepared with"), _NO_STORE)
    return {
        "Recordings": _recordings_line(store),
        "Signals": _signals_line(store),
        "Corrected by hand": _corrections_line(store),
        "Prepared with": f"biopercept {store.biopercept_version}",
    }


def _groups_of(people: Sequence[str]) -> str:
    return " ".join(people) or "Age, sex and the like: not stated (columns of participants.tsv)."


def _meaning(task: Task) -> str:
    """Return what a task predicts and from which labels of the study.

    >>> _meaning(Task("stress", classes={"rest": ("baseline", "relax"), "stress": ("stress",)}, ignore=("break",)))
    'rest (labels: baseline, relax), stress; ignored: break'
    """
    ignored = f"; ignored: {', '.join(map(shown, task.ignore))}" if task.ignore else ""
    if not task.is_classification:
        return f"a number, {shown(task.quantity)}"
    of_signal = f", from the signal {shown(task.signal)}" if task.signal else ""
    names = [
        shown(name) if labels in ((), (name,)) else f"{shown(name)} (labels: {', '.join(map(shown, labels))})"
        for name, labels in task.classes.items()
    ]
    return f"{', '.join(names)}{of_signal}{ignored}"


def _left_out(numbers: Mapping[str, int]) -> str:
    return "; ".join(f"{shown(reason)}: {n:,}" for reason, n in numbers.items() if n) or "none"


def _recordings_line(store: StudyStore) -> str:
    lengths = sorted(recording.duration_seconds for recording in store.recordings)
    sessions = len({(recording.subject, recording.session) for recording in store.recordings})
    ends = f"{ranged(duration(lengths[0]), duration(lengths[-1]))} each" if lengths else "none"
    return f"{count(len(lengths), 'recording')} in {count(sessions, 'session')}, {duration(sum(lengths))} ({ends})"


def _signals_line(store: StudyStore) -> str:
    """Return modality, channels and rate of every measured signal, and in how many recordings it is."""
    kinds = Counter(
        (signal.modality, len(signal.channels), round(signal.sampling_rate, 3))
        for recording in store.recordings
        for signal in recording.signals
        if not signal.derived_from
    )
    parts = [
        f"{modality}, {count(n_channels, 'channel')} at {rate:g} Hz (in {count(n, 'recording')})"
        for (modality, n_channels, rate), n in sorted(kinds.items())
    ]
    return f"{'; '.join(parts)}. Rates are those of the store."


def _windows_line(run: CrossValidation) -> str:
    size = "" if run.window_seconds is None else f" of {run.window_seconds:g} s"
    every = "" if run.step_seconds is None else f", one every {run.step_seconds:g} s"
    counts = Counter(run.predictions.label)
    return f"{run.n_windows:,}{size}{every}: {', '.join(f'{shown(c)} {counts[c]:,}' for c in run.classes)}"


def _corrections_line(store: StudyStore) -> str:
    numbers = [len(recording.corrections) for recording in store.recordings]
    with_some = sum(n > 0 for n in numbers)
    return f"{count(sum(numbers), 'correction')} in {count(with_some, 'recording')}" if with_some else "nothing"


def store_sections(
    run: CrossValidation, store: StudyStore, end: tuple[str, str], budget: PictureBudget
) -> list[Section]:
    """Return features by condition and the signals of one tested recording, from the store that was scored."""
    return [*_effect_section(run, store, end), *_signal_section(run, store, end, budget)]


def _effect_section(run: CrossValidation, store: StudyStore, end: tuple[str, str]) -> list[Section]:
    scored = {subject.participant for subject in run.subjects}
    recordings = [recording for recording in store.recordings if recording.subject in scored]
    task = store.tasks.get(run.task)
    if task is None or not task.is_classification:
        return []
    try:
        table = labelled_windows(
            recordings, task, length_seconds=store.window_length_seconds, feature_names=store.feature_names
        )
    except StudyError:
        return []
    classes = np.array(table.only.classes)[table.only.values]
    effects = condition_effects(table.raw_features(), store.feature_names, table.subject, classes)
    if not effects:
        return []
    people = count(len(set(table.subject)), "person", "people")
    lead = (
        "Means within each person of the store's features, not scaled, and their paired differences over people: "
        f"{count(len(table), 'labelled window')} of {people}. dz is the mean difference over its standard deviation; "
        "intervals are 95 % (Student's t for the difference, noncentral t for dz); p is of Wilcoxon's exact "
        f"signed-rank test, by Holm over all {len(effects)} comparisons.{_least_p(effects)} What a model "
        "learnt from is another question: see the explanation."
    )
    figure = _effect_figure(effects)
    return [
        Section(
            f"features{end[0]}",
            f"Features by condition{end[1]}",
            (lead,),
            figures=(figure,),
            tables=(_effect_table(effects),),
        )
    ]


def _least_p(effects: Sequence[ConditionEffect]) -> str:
    """Say where so few people cannot give a small p after so many comparisons, whatever the effect."""
    most = max(effect.n_people for effect in effects)
    least = min(smallest_p(most) * len(effects), 1.0)
    if least <= 0.05:
        return ""
    return (
        f" With {most} people the smallest p that the test can give is {p_value(smallest_p(most))}: times "
        f"{len(effects)} comparisons, none can be below {least:.2f}, whatever the effect; read the intervals."
    )


def _unit(name: str) -> str:
    try:
        return column_of(name).unit
    except KeyError:
        return ""


def _effect_table(effects: Sequence[ConditionEffect]) -> Table:
    rows = [
        {
            "Feature": effect.feature,
            "Unit": _unit(effect.feature),
            "Second minus first": f"{shown(effect.second)} - {shown(effect.first)}",
            "People": str(effect.n_people),
            "First, mean": f"{effect.means[0]:.4g}",
            "Second, mean": f"{effect.means[1]:.4g}",
            "Difference [95 % CI]": interval_text(effect.difference, effect.ci95, "{:+.3g}"),
            "dz [95 % CI]": with_interval(effect.dz, effect.dz_ci95, 2),
            "p": p_value(effect.p),
            "p, Holm": p_value(effect.p_holm),
        }
        for effect in effects
    ]
    title = f"{count(len(rows), 'paired comparison')}, the largest dz first"
    return Table.of(title, rows, ("Feature", "Unit", "Second minus first"), fold_above=30)


def _effect_figure(effects: Sequence[ConditionEffect]) -> Drawing:
    drawn = [effect for effect in effects if effect.dz is not None and effect.dz_ci95 is not None][:_MOST_BARS]
    several = len({(effect.first, effect.second) for effect in effects}) > 1
    names = [f"{e.feature}{f' ({e.second} - {e.first})' if several else ''}" for e in drawn]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0.0, color=INK, linewidth=0.9, linestyle="--")
        for row, effect in enumerate(drawn):
            low, high = effect.dz_ci95 or (0.0, 0.0)
            colour = BLUE if low > 0 or high < 0 else FAINT
            axes.plot([low, high], [row, row], color=colour, linewidth=1.6)
            axes.plot([effect.dz or 0.0], [row], "o", color=colour, markersize=5)
        name_rows(axes, [shortened(name, 40) for name in names])
        axes.set_xlabel("Cohen's dz over people (0: no difference)")
        axes.grid(axis="x")

    pairs = listed([f"{pair[1]} minus {pair[0]}" for pair in dict.fromkeys((e.first, e.second) for e in effects)])
    people = sorted({effect.n_people for effect in drawn})
    n = span((people[0], people[-1]))
    caption = (
        f"{pairs}: the {len(drawn)} largest of {len(effects)} paired effect sizes over n = {n} people with their 95 % "
        "intervals; blue where the interval leaves 0 out, without adjusting for the number of features."
    )
    data = FigureData(
        (
            "feature",
            "unit",
            "first",
            "second",
            "people",
            "difference",
            "low",
            "high",
            "dz",
            "dz low",
            "dz high",
            "p",
            "p Holm",
        ),
        tuple(
            (
                e.feature,
                _unit(e.feature),
                e.first,
                e.second,
                e.n_people,
                e.difference,
                *e.ci95,
                e.dz,
                *(e.dz_ci95 or (None, None)),
                e.p,
                e.p_holm,
            )
            for e in effects
        ),
    )
    return draw("effects", "Largest effects", caption, 0.9 + 0.24 * len(drawn), paint).with_data(data)


def _signal_section(
    run: CrossValidation, store: StudyStore, end: tuple[str, str], budget: PictureBudget
) -> list[Section]:
    chosen = _middle_recording(run)
    recording = next((r for r in store.recordings if chosen == (r.subject, r.session, r.recording)), None)
    if chosen is None or recording is None:
        return []
    note = f"{run.model}, the subject nearest to the median: "
    figures = signal_figures(recording, run.predictions.of_recording(chosen), cleaning_of(store.settings), note)
    key = " ".join(part for part in chosen if part)
    lead = (
        f"The longest recording of the held-out subject whose score is nearest to the median ({key}). Every recording "
        f"with its predictions, at any zoom: biopercept view {store.path.name} --predictions {run.name}."
    )
    kept, words = budget.kept(figures, f"make a report of {run.name} alone")
    title = f"Signals with predictions{end[1]}"
    return [Section(f"signals{end[0]}", title, (lead, *words), figures=kept)] if figures else []


def _middle_recording(run: CrossValidation) -> RecordingKey | None:
    """Return the recording with most windows of the subject whose score is nearest to the median over subjects."""
    subject = middle_subject(run)
    return None if subject is None else longest_recording(run.predictions, subject.participant)
