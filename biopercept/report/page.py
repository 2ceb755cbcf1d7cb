"""One self-contained HTML page from a folder of results: opens offline, loads nothing, shows data as text.

The sections of the page, which figures a folder gets and in which order, and the scores as printed on the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from biopercept.errors import OutputError, StudyError
from biopercept.files import write_bytes, write_text
from biopercept.report.audit import audit_table
from biopercept.report.comparison import comparison_figures, comparison_tables
from biopercept.report.curves import (
    learning_figures,
    learning_sentence,
    learning_table,
    personal_figure,
    personal_sentences,
    personal_tables,
)
from biopercept.report.drawing import Drawing
from biopercept.report.explanation import explanation_sections
from biopercept.report.layout import Head, KeyNumber, Section, page_of
from biopercept.report.reconstruction import errors_section
from biopercept.report.score_figures import (
    confusion_figure,
    models_figure,
    number_figure,
    reliability_figure,
    risk_figure,
    sensor_figure,
    subjects_figure,
)
from biopercept.report.scores import (
    class_table,
    group_tables,
    methods_text,
    number_table,
    plan_table,
    run_table,
    score_table,
    sensor_table,
    study_table,
    subject_numbers,
    subject_table,
    trust_sentences,
)
from biopercept.report.text import Table, count, file_table, listed, score, terminal_table, turned
from biopercept.report.timelines import (
    line_figure,
    missing_figure,
    overview_figure,
    quality_figure,
    timeline_figure,
)
from biopercept.report.warnings import same_data, warnings_of
from biopercept.results.audit import VERDICTS, Audit
from biopercept.results.comparison import Comparison
from biopercept.results.cross_validation import (
    SCORES_FILE,
    ClassScore,
    CrossValidation,
    NumberValidation,
    load_validation,
)
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.results.folder import PrepareLog, Results, load_results, preparations_of
from biopercept.results.predictions import PredictionFolder, Predictions, RecordingKey, load_lines

_MAIN_MODEL = "perceiver-io"
_MOST_TURNED = 6
MOST_TIMELINES = 6
"""Timelines of new recordings that a page shows."""


def write_report(folder: Path, output: Path | None = None, *, title: str = "") -> Path:
    """Write the page of a folder of results and return its path: ``output``, or ``folder/report.html`` where None.

    ``title`` stands on top of it; the folder's name where empty. An existing file is replaced. Raises StudyError where the folder holds no results or a result is damaged. Raises
    OutputError where the page cannot be written; an older one is then unharmed.
    """
    target = folder / "report.html" if output is None else output
    if target.is_dir():
        fault = OutputError(f"{target} is a folder; give the name of a file that ends in .html")
        fault.exit_code = 2
        raise fault
    write_text(target, render(load_results(folder), title))
    return target


def render(results: Results, title: str = "") -> str:
    """Return the HTML page of results; ``title`` stands on top of it, or the folder's name where empty."""
    summary = f"{results.name}: {_summary(results)}" if title else _summary(results)
    head = Head(title or results.name, summary)
    return page_of(head, sections_of(results), warnings_of(results))


def _number_sections(validations: Sequence[NumberValidation]) -> list[Section]:
    if not validations:
        return []
    models = [run for run in validations if not run.is_probe]
    by_study = (study_table(f"{model.model}, {model.task},", model.split, model.studies) for model in models)
    tables = (
        number_table(validations),
        *(t for t in by_study if t),
        *(subject_numbers(model) for model in models),
        *(t for model in models for t in group_tables(model.groups)),
    )
    lead = (
        "MAE is the mean absolute error in the unit of the study's column; CCC is Lin's concordance (1: equal, 0: no "
        "agreement); R2 is 1 at best and 0 or less for predictions no better than one number.",
    )
    figures = tuple(number_figure(model) for model in models)
    return [Section("numbers", "Predicted numbers", lead=lead, figures=figures, tables=tables)]


def _summary(results: Results) -> str:
    runs: list[CrossValidation | NumberValidation] = [*results.cross_validations, *results.number_validations]
    n_external = sum(run.external is not None for run in runs)
    parts = [
        (len(runs) - n_external, "cross-validation"),
        (n_external, "external validation"),
        (len(results.comparisons), "comparison"),
        (len(results.learning_curves), "learning curve"),
        (len(results.personal_curves), "own-label curve"),
        (sum(len(folder.recordings) for folder in results.predictions), "predicted recording"),
        (sum(len(log.table) for log in results.logs), "prepared recording"),
        (len(results.audits), "audit"),
        (len(results.explanations), "explanation"),
        (len(results.reconstructions), "reconstruction"),
    ]
    return ", ".join(count(n, noun) for n, noun in parts if n)


def sections_of(results: Results) -> tuple[Section, ...]:
    """Return the parts of the page, in reading order."""
    questions = _questions(results.cross_validations)
    suffixes = _suffixes([question[0] for question in questions])
    ends = [(f"-{number}" if number > 1 else "", suffix) for number, suffix in enumerate(suffixes, 1)]
    sections = _number_sections(results.number_validations)
    for question, (anchor, suffix) in zip(questions, ends, strict=True):
        sections += score_sections(question, anchor, suffix)
    ending = {
        one.name: f" ({one.study or one.name})" if len(results.comparisons) > 1 else "" for one in results.comparisons
    }
    kinds: tuple[tuple[Sequence[Any], Callable[[Any, int], Section]], ...] = (
        (results.audits, _audit_section),
        (results.comparisons, lambda one, number: _comparison_section(one, number, ending[one.name])),
        (results.learning_curves, _learning_section),
        (results.personal_curves, _personal_section),
        (results.predictions, _prediction_section),
    )
    for of_kind, section in kinds:
        sections += [section(result, number) for number, result in enumerate(of_kind, 1)]
    for explanation in results.explanations:
        end = f": {explanation.name}" if len(results.explanations) > 1 else ""
        sections += explanation_sections(explanation, end)
    sections += [errors_section(reconstruction) for reconstruction in results.reconstructions]
    if results.logs:
        sections.append(_preparation_section(results.logs))
    for question, (anchor, suffix) in zip(questions, ends, strict=True):
        sections += method_sections(question, anchor, suffix)
    return tuple(sections)


def _questions(validations: Sequence[CrossValidation]) -> list[list[CrossValidation]]:
    """Return cross-validations grouped by the question they answer, the main model first in each group."""
    groups: list[list[CrossValidation]] = []
    for run in sorted(validations, key=lambda run: (run.is_probe, run.model != _MAIN_MODEL)):
        group = next((group for group in groups if same_data(group[0], run)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return groups


def _suffixes(mains: Sequence[CrossValidation]) -> list[str]:
    """Return what tells the headings of several questions apart: task, study, and the folder where both agree."""
    columns = ([run.task for run in mains], [" + ".join(run.study_names) for run in mains])
    differing = [column for column in columns if len(set(column)) > 1]
    names = [", ".join(filter(None, words)) for words in zip(*differing, strict=True)] or [""] * len(mains)
    if len(set(names)) < len(names):
        names = [f"{name} ({run.name})".strip() for name, run in zip(names, mains, strict=True)]
    return [f": {name}" if name else "" for name in names]


def _comparison_section(comparison: Comparison, number: int, ending: str) -> Section:
    return Section(
        f"comparison-{number}",
        f"Which differences are significant: {comparison.metric_words}{ending}",
        lead=comparison.findings,
        figures=comparison_figures(comparison),
        tables=comparison_tables(comparison),
        folded=(("How it was compared", "\n".join(comparison.methods)),),
    )


def _learning_section(curve: LearningCurve, number: int) -> Section:
    return Section(
        f"learning-{number}",
        f"Learning curve: {curve.name}",
        lead=(learning_sentence(curve),),
        figures=learning_figures(curve),
        tables=(learning_table(curve),),
    )


def _personal_section(curve: PersonalCurve, number: int) -> Section:
    return Section(
        f"personal-{number}",
        f"What labels of one's own are worth: {curve.name}",
        lead=personal_sentences(curve),
        figures=(personal_figure(curve),),
        tables=personal_tables(curve),
    )


def _prediction_section(folder: PredictionFolder, number: int) -> Section:
    windows = folder.recordings
    n, withheld = sum(map(len, windows)), sum(not name for predicted in windows for name in predicted.predicted)
    cut = f" The first {MOST_TIMELINES} are drawn." if len(windows) > MOST_TIMELINES else ""
    lead = (
        f"{count(len(windows), 'recording')} with {count(n, 'window')}, {withheld:,} of them withheld (the table says "
        f"why); {count(len(folder.failures), 'recording')} failed.{cut}"
    )
    tables = [file_table(folder.summary, f"Summary of {count(len(folder.summary), 'recording')}")]
    if len(folder.failures):
        tables.insert(0, file_table(folder.failures, f"{count(len(folder.failures), 'failure')}"))
    title, figures = f"New recordings: {folder.name}", prediction_timelines(folder)
    return Section(f"predictions-{number}", title, lead=(lead,), figures=figures, tables=tuple(tables))


def _audit_section(audit: Audit, number: int) -> Section:
    counts = [(sum(row.verdict == verdict for row in audit.findings), verdict) for verdict in reversed(VERDICTS)]
    what = f"the data and the predictions of {audit.model}" if audit.model else "the data"
    lead = (
        f"Task {audit.task}, {count(audit.n_subjects, 'subject')}, {count(audit.n_windows, 'window')}, normalisation "
        f"{audit.normalisation}; looked at: {what}. {', '.join(f'{n} {verdict}' for n, verdict in counts)}, "
        f"{len(audit.skipped)} not made. A verdict of ok means that nothing was found, not that nothing is there."
    )
    return Section(f"audit-{number}", f"Audit: {audit.name}", (lead,), tables=(audit_table(audit),))


def _preparation_section(logs: Sequence[PrepareLog]) -> Section:
    rows = [row for log in logs for row in preparations_of(log)]
    figure = missing_figure(rows)
    failed = [" ".join(part for part in row.key if part) for row in rows if row.is_failed]
    lead = f"{count(len(rows), 'recording')}, {len(failed)} failed{f': {listed(failed)}' if failed else ''}."
    tables = tuple(file_table(log.table, f"{log.name}: {count(len(log.table), 'recording')}") for log in logs)
    title, figures = "Preparation: what was kept and what was lost", (figure,) if figure else ()
    return Section("preparation", title, lead=(lead,), figures=figures, tables=tables)


def score_sections(validations: Sequence[CrossValidation], anchor: str, suffix: str) -> list[Section]:
    """Return what the cross-validations of one question found; the first, the main model, is shown in detail.

    ``anchor`` and ``suffix`` end the sections' anchors and titles, which tells several questions apart.
    """
    main = validations[0]
    table = score_table(validations)
    proper = [run for run in validations if run is main or not run.is_probe]
    by_study = [study_table(run.model, run.split, run.studies) for run in proper]
    compared = Section(
        f"scores{anchor}",
        ("Models side by side" if len(validations) > 1 else "Scores") + suffix,
        figures=(models_figure(validations),) if len(validations) > 1 else (),
        tables=(turned(table) if len(validations) <= _MOST_TURNED else table, *(run for run in by_study if run)),
    )
    claim = (
        f"{main.model} on task {main.task} ({', '.join(main.classes)}), {count(main.n_windows, 'window')} of "
        f"{count(main.n_subjects, 'subject')}{_of_study(main)}, normalisation {main.normalisation}"
        f"{', TRANSDUCTIVE' if main.is_transductive else ''}. Intervals are 95 % bootstrap intervals over subjects."
    )
    return [
        Section(f"key{anchor}", f"Key numbers{suffix}", lead=(claim,), numbers=_key_numbers(main, validations)),
        compared,
        Section(f"data{anchor}", f"Data{suffix}", figures=data_figures(main), tables=_left_out_tables(main)),
        Section(
            f"model{anchor}",
            f"{main.model} in detail{suffix}",
            lead=trust_sentences(main),
            figures=score_figures(main),
            tables=(
                *(table for table in (subject_table(main), class_table(main), sensor_table(main)) if table),
                *group_tables(main.groups),
            ),
        ),
        Section(
            f"timelines{anchor}",
            f"Predictions over time{suffix}",
            lead=("The worst held-out subject, the one nearest to the median over subjects, and the best.",),
            figures=subject_timelines(main),
        ),
    ]


def method_sections(validations: Sequence[CrossValidation], anchor: str, suffix: str) -> list[Section]:
    """Return how they were made; parameters as of :func:`score_sections`."""
    main = validations[0]
    planned = () if main.plan is None else (plan_table(main.plan),)
    folded = (("Effective settings of " + main.name, main.config_text),) if main.config_text else ()
    return [
        Section(f"methods{anchor}", f"Methods{suffix}", lead=(" ".join(methods_text(main)),)),
        Section(f"provenance{anchor}", f"Provenance{suffix}", tables=(run_table(main), *planned), folded=folded),
    ]


def _key_numbers(main: CrossValidation, validations: Sequence[CrossValidation]) -> tuple[KeyNumber, ...]:
    scores, n = main.balanced_accuracy, count(main.n_subjects, "subject")
    below = scores.subjects_below_chance
    numbers = [
        KeyNumber("Balanced accuracy", score(scores.mean), f"{_interval(scores.ci95)}, n = {n}"),
        KeyNumber(
            "AUROC per subject",
            score(main.auroc.mean),
            f"{_interval(main.auroc.ci95)}, pooled {score(main.auroc.pooled)}{_defined(main.auroc, main)}",
        ),
        KeyNumber("Macro-F1", score(main.macro_f1.mean), f"{_interval(main.macro_f1.ci95)}, n = {n}"),
        KeyNumber(
            "Worst subject", score(scores.worst), f"median over subjects {score(scores.median)}, SD {score(scores.sd)}"
        ),
        KeyNumber(
            "Below chance", "n/a" if below is None else str(below), f"of {n}; guessing gives {score(main.chance_level)}"
        ),
    ]
    clock = next((run for run in validations if run.model == "clock-only"), None)
    if clock is not None and clock is not main:
        reached = clock.balanced_accuracy
        numbers.append(KeyNumber("Clock alone", score(reached.mean), f"{_interval(reached.ci95)}, no sensor used"))
    else:
        numbers.append(KeyNumber("Calibration error", score(main.ece), f"Brier score {score(main.brier)}; 0 is best"))
    return tuple(numbers)


def _of_study(run: CrossValidation) -> str:
    return f" of {listed(run.study_names)}" if run.study_names else ""


def _defined(score: ClassScore, main: CrossValidation) -> str:
    """Return over how many subjects a score is defined, where that is not all of them."""
    n = score.n_subjects
    return "" if n is None or n == main.n_subjects else f", defined for {count(n, 'subject')}"


def _interval(ci95: tuple[float, float] | None) -> str:
    return "no interval" if ci95 is None else f"95 % CI {score(ci95[0])} to {score(ci95[1])}"


def _left_out_tables(main: CrossValidation) -> tuple[Table, ...]:
    if not main.n_windows_left_out:
        return ()
    rows = tuple((reason, f"{n:,}") for reason, n in main.n_windows_left_out.items())
    return (Table("Windows that were not scored", ("Reason", "Windows"), rows, (False, True)),)


def data_figures(run: CrossValidation) -> tuple[Drawing, ...]:
    """Return the figures of what was scored: labels over time, and quality where it is known."""
    drawn = (overview_figure(run.predictions) if len(run.predictions) else None, quality_figure(run.predictions))
    return tuple(figure for figure in drawn if figure)


def score_figures(run: CrossValidation) -> tuple[Drawing, ...]:
    """Return the figures of scores: subjects, confusion matrix, reliability, risk against coverage, fewer sensors."""
    painters = (subjects_figure, confusion_figure, reliability_figure, risk_figure, sensor_figure)
    return tuple(figure for paint in painters if (figure := paint(run)))


def subject_timelines(run: CrossValidation) -> tuple[Drawing, ...]:
    """Return timelines of the worst, the middle and the best subject, so that the choice flatters nobody.

    The middle one has the score nearest to the median over subjects, which of an even number is nobody's. Of a subject with several recordings the one with most windows is drawn.
    """
    rows = sorted(
        (s for s in run.subjects if s.balanced_accuracy is not None),
        key=lambda s: (s.balanced_accuracy or 0.0, s.participant),
    )
    if not rows:
        return ()
    half = median(s.balanced_accuracy or 0.0 for s in rows)
    middle = min(rows, key=lambda s: abs((s.balanced_accuracy or 0.0) - half))
    chosen = {rows[-1]: ("best", "Best"), middle: ("median", f"Nearest to the median of {score(half)}")}
    chosen[rows[0]] = ("worst", "Worst")
    figures = []
    for subject, (name, words) in sorted(chosen.items(), key=lambda one: one[0].balanced_accuracy or 0.0):
        key = _longest(run.predictions, subject.participant)
        if key is not None:
            note = f"{words} by balanced accuracy: {subject.participant} ({score(subject.balanced_accuracy)}), {run.model}: "
            figures.append(timeline_figure(run.predictions.of_recording(key), f"timeline-{name}", note))
    return tuple(figures)


def _longest(predictions: Predictions, participant: str) -> RecordingKey | None:
    keys = [key for key in predictions.recordings if key[0] == participant]
    return max(keys, key=lambda key: (predictions.keys.count(key), key), default=None)


def prediction_timelines(folder: PredictionFolder) -> tuple[Drawing, ...]:
    """Return timelines of the first recordings of a folder of ``predict``, and their numbers and traces."""
    recordings = [windows for windows in folder.recordings if len(windows)][:MOST_TIMELINES]
    lines = load_lines(folder.folder, MOST_TIMELINES)
    return (
        *(
            timeline_figure(windows.of_recording(windows.keys[0]), f"timeline-{number}")
            for number, windows in enumerate(recordings, 1)
        ),
        *(line_figure(line, f"line-{number}") for number, line in enumerate(lines, 1)),
    )


def write_figures(folder: Path) -> tuple[Path, ...]:
    """Draw the figures of a finished cross-validation into ``folder/figures`` (SVG) and return their paths.

    Of several tasks those of each, in the task's own folder. Raises StudyError where the folder is not a finished
    cross-validation. Raises OutputError where a figure cannot be written; those written before stay whole.
    """
    if not (folder / SCORES_FILE).is_file():
        below = sorted(path.parent for path in folder.glob(f"*/{SCORES_FILE}"))
        if below:
            return tuple(path for place in below for path in write_figures(place))
    paths = []
    run = load_validation(folder)
    if isinstance(run, NumberValidation):
        figures: tuple[Drawing, ...] = (number_figure(run),)
    else:
        figures = (*score_figures(run), *data_figures(run), *subject_timelines(run))
    for figure in figures:
        path = folder / "figures" / f"{figure.name}.svg"
        write_bytes(path, figure.svg)
        paths.append(path)
    return tuple(paths)


def print_scores(folder: Path) -> None:
    """Print the score table of a finished cross-validation, or of every one in a parent folder, to stdout.

    Raises StudyError where the folder holds no finished cross-validation, or one that is damaged.
    """
    from rich.console import Console

    results = load_results(folder)
    if not (results.cross_validations or results.number_validations):
        raise StudyError(f"{folder} holds no finished cross-validation; scores.json is needed")
    console = Console(markup=False, highlight=False, emoji=False)
    if results.cross_validations:
        console.print(terminal_table(turned(score_table(results.cross_validations))))
    if results.number_validations:
        console.print(terminal_table(turned(number_table(results.number_validations))))
