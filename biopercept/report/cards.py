"""Data card and model card of a cross-validation: what a reader must know of both, filled from what was written down.

A line that nothing answers says so, and where the answer belongs; none is left out.

References
----------
T. Gebru et al., "Datasheets for Datasets", Communications of the ACM 64(12), 2021, doi:10.1145/3458723. M. Mitchell et
al., "Model Cards for Model Reporting", FAT* 2019, doi:10.1145/3287560.3287596.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from biopercept.report.layout import Section
from biopercept.report.scores import estimate, fitted_on_words, normalisation
from biopercept.report.text import SPLITS, Table, count, duration, interval_text, p_value, score, shown
from biopercept.results.cross_validation import CrossValidation
from biopercept.results.groups import GROUP_WORDS
from biopercept.version import INTENDED_USE

if TYPE_CHECKING:
    from biopercept.store.reading import StudyStore

_NO_STORE = "not known here: the store that was scored is not in this folder (report --with STORE)"
_COLUMNS = ("What", "Known")


def cards_section(
    run: CrossValidation, store: StudyStore | None, people: tuple[str, ...], end: tuple[str, str]
) -> Section:
    """Return both cards; ``people`` are sentences on age, sex and the like, ``end`` ends anchor and title."""
    lead = (
        "What was written down, in the files of the study and of this run. What is not stated here was not, and has to "
        "be looked up with whoever made the recordings."
    )
    tables = (
        _table(f"Data card: {shown(run.study or run.task)}", _data_rows(run, store, people)),
        _table(f"Model card: {run.model}", _model_rows(run)),
    )
    return Section(f"cards{end[0]}", f"Data card and model card{end[1]}", (lead,), tables=tables)


def _table(title: str, rows: Mapping[str, str]) -> Table:
    return Table(title, _COLUMNS, tuple(rows.items()), (False, False), is_sortable=False)


def _data_rows(run: CrossValidation, store: StudyStore | None, people: tuple[str, ...]) -> dict[str, str]:
    about = {} if store is None else store.about
    missing = _NO_STORE if store is None else "not stated ({}: in study.yaml, then prepare again)"
    stated = {
        key: shown(" ".join(about[key].split())) if about.get(key) else missing.format(key)
        for key in ("description", "licence", "citation")
    }
    left_out = [f"{shown(reason)}: {n:,}" for reason, n in run.n_windows_left_out.items() if n]
    return {
        "Study": shown(run.study) or "not stated",
        "Content": stated["description"],
        "Licence": stated["licence"],
        "To cite": stated["citation"],
        "People": _people(run, store, people),
        "Recordings": _NO_STORE if store is None else _recordings(store),
        "Signals": _NO_STORE if store is None else _signals(store),
        "Labels": f"task {shown(run.task)}: {', '.join(map(shown, run.classes))}",
        "Windows scored": _windows(run),
        "Windows left out": "; ".join(left_out) or "none",
        "Corrected by hand": _NO_STORE if store is None else _corrections(store),
        "Prepared with": _NO_STORE if store is None else f"biopercept {store.biopercept_version}",
        "How people were found, and their consent; who set the labels, and how": stated["description"]
        if about.get("description")
        else missing.format("description"),
    }


def _people(run: CrossValidation, store: StudyStore | None, people: tuple[str, ...]) -> str:
    known = "" if store is None else f" of {len({recording.subject for recording in store.recordings}):,} in the store"
    groups = " ".join(people) or "Age, sex and the like: not stated (columns of participants.tsv)."
    return f"{run.n_subjects:,} scored{known}. {groups}"


def _recordings(store: StudyStore) -> str:
    lengths = sorted(recording.duration_seconds for recording in store.recordings)
    sessions = len({(recording.subject, recording.session) for recording in store.recordings})
    ends = f"{duration(lengths[0])} to {duration(lengths[-1])} each" if lengths else "none"
    return f"{count(len(lengths), 'recording')} in {count(sessions, 'session')}, {duration(sum(lengths))} ({ends})"


def _signals(store: StudyStore) -> str:
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


def _windows(run: CrossValidation) -> str:
    size = "" if run.window_seconds is None else f" of {run.window_seconds:g} s"
    every = "" if run.step_seconds is None else f", one every {run.step_seconds:g} s"
    counts = Counter(run.predictions.label)
    return f"{run.n_windows:,}{size}{every}: {', '.join(f'{shown(c)} {counts[c]:,}' for c in run.classes)}"


def _corrections(store: StudyStore) -> str:
    numbers = [len(recording.corrections) for recording in store.recordings]
    with_some = sum(n > 0 for n in numbers)
    return f"{count(sum(numbers), 'correction')} in {count(with_some, 'recording')}" if with_some else "nothing"


def _model_rows(run: CrossValidation) -> dict[str, str]:
    made = {name: value for name, value in run.fingerprint.items() if name != "store"}
    return {
        "Model": _what(run),
        "Predicts": f"one of {', '.join(map(shown, run.classes))}"
        + (f" for each window of {run.window_seconds:g} s" if run.window_seconds else ""),
        "Inputs scaled": normalisation(run),
        "Fitted to": _fitted(run),
        "Balanced accuracy": f"{estimate(run.balanced_accuracy)} (mean over {count(run.n_subjects, 'subject')}, 95 % "
        f"bootstrap over subjects), worst subject {score(run.balanced_accuracy.worst)}",
        "AUROC": estimate(run.auroc),
        "Without a sensor": _fewer_sensors(run),
        "Groups of people": _groups(run),
        "Probabilities": _probabilities(run),
        "Made with": ", ".join(f"{name} {value}" for name, value in made.items()) or "not stated",
        "Use": INTENDED_USE,
        "Not known": "other people, devices, protocols and stressors than those of the study; how often it would be "
        "wrong in a day of ordinary life",
        "Warnings": " ".join(map(shown, run.warnings)) or "none",
    }


def _what(run: CrossValidation) -> str:
    size = "" if run.parameters is None else f", {run.parameters:,} trained numbers"
    seeds = "" if run.seeds == 1 else f", probabilities averaged over {run.seeds} seeds"
    return f"{run.model}{size}{seeds}"


def _fitted(run: CrossValidation) -> str:
    if run.external is not None:
        return fitted_on_words(run.external)
    tested = "later windows of the same people" if run.split == "time" else "people it has not seen"
    how = f"{SPLITS.get(run.split, run.split)}, {count(run.n_folds, 'fold')}"
    return f"{how}: the scores are of one fitted model per fold and seed, tested on {tested}"


def _fewer_sensors(run: CrossValidation) -> str:
    rows = [row for row in run.sensor_subsets if row.sensors.startswith("without ")]
    if not rows:
        return "not measured (cross-validate --missing-sensors)"
    return "; ".join(
        f"{row.sensors} {interval_text(row.difference.mean, row.difference.ci95, '{:+.3f}')}" for row in rows
    )


def _groups(run: CrossValidation) -> str:
    if run.groups is None:
        return "not compared (cross-validate --by COLUMN)"
    parts = [
        f"{GROUP_WORDS.get(d.score, d.score)} {shown(d.first)} minus {shown(d.second)} "
        f"{_signed(d.difference, d.ci95)} (p, Holm: {p_value(d.p_holm)})"
        for d in run.groups.differences
    ]
    return "; ".join(parts) or "too few people in each group to compare"


def _signed(difference: float | None, ci95: tuple[float, float] | None) -> str:
    return interval_text(difference, ci95, "{:+.3f}")


def _probabilities(run: CrossValidation) -> str:
    how = "not calibrated" if run.calibration is None else f"calibrated ({run.calibration.method})"
    return f"{how}; Brier score {score(run.brier)}, calibration error {score(run.ece)} over all windows"
