"""One self-contained HTML page from a folder of results: opens offline, loads nothing, shows data as text.

The sections of the page, which figures a folder gets and in which order, and the scores as printed on the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from biopercept.errors import OutputError, StudyError, count, recording_title, the_model
from biopercept.files import signed_page, write_text
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
from biopercept.report.layout import PAGE_KIND, Head, PictureBudget, Section, page_of
from biopercept.report.reconstruction import errors_section
from biopercept.report.score_figures import (
    number_figure,
)
from biopercept.report.score_sections import method_sections, questions_of, score_sections, studies_section, suffixes_of
from biopercept.report.scores import (
    group_tables,
    model_card_table,
    number_table,
    other_split,
    score_table,
    study_table,
    subject_numbers,
)
from biopercept.report.study_sections import (
    StudyFiles,
    cards_of_stores,
    data_card,
    people_section,
    people_words,
    store_sections,
    study_files,
)
from biopercept.report.text import Table, file_table, listed, terminal_table, turned
from biopercept.report.timelines import (
    line_figure,
    missing_figure,
    timeline_figure,
)
from biopercept.report.warnings import K_FOLD, scored_beside, warnings_of
from biopercept.results.audit import VERDICTS, Audit
from biopercept.results.comparison import Comparison
from biopercept.results.cross_validation import (
    CrossValidation,
    NumberValidation,
)
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.results.explanation import Explanation
from biopercept.results.folder import Results, load_results, preparations_of
from biopercept.results.live import LiveFolder
from biopercept.results.predictions import PredictionFolder, load_lines
from biopercept.results.reading import ResultTable, read_result

_MOST_PICTURES = 2_400_000
MOST_TIMELINES = 6
"""Timelines of new recordings that a page shows."""


def write_report(folder: Path, output: Path | None = None, *, title: str = "", beside: Sequence[Path] = ()) -> Path:
    """Write the page of a folder of results and return its path: ``output``, or ``folder/report.html`` where None.

    ``title`` stands on top of it; the folder's name where empty. ``beside`` are stores, studies and folders of
    ``explain`` that lie elsewhere and say more of the results. An existing file is replaced.

    Raises StudyError where the folder holds no results or a result is damaged. Raises OutputError where the page cannot
    be written; an older one is then unharmed.
    """
    target = folder / "report.html" if output is None else output
    if target.is_dir():
        fault = OutputError(f"{target} is a folder; give the name of a file that ends in .html")
        fault.exit_code = 2
        raise fault
    results = load_results(folder)
    explained = [path for path in beside if (path / Explanation.FILE).is_file()]
    results = replace(results, explanations=(*results.explanations, *map(_explanation, explained)))
    files = study_files(folder, [path for path in beside if path not in explained])
    write_text(target, signed_page(render(results, title, files), PAGE_KIND, folder, target))
    return target


def _explanation(folder: Path) -> Explanation:
    return replace(read_result(folder / Explanation.FILE, Explanation), name=folder.resolve().name)


def render(results: Results, title: str = "", files: StudyFiles | None = None) -> str:
    """Return the HTML page of results; ``title`` stands on top of it, or the folder's name where empty."""
    summary = f"{results.name}: {_summary(results)}" if title else _summary(results)
    head = Head(title or results.name, summary)
    return page_of(head, sections_of(results, files), warnings_of(results))


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
        (len(results.lives), "live run"),
        (len(results.explanations), "explanation"),
        (len(results.reconstructions), "reconstruction"),
    ]
    return ", ".join(count(n, noun) for n, noun in parts if n)


def sections_of(results: Results, files: StudyFiles | None = None) -> tuple[Section, ...]:
    """Return the parts of the page, in reading order."""
    questions = questions_of(results.cross_validations)
    suffixes = suffixes_of([question[0] for question in questions])
    ends = [(f"-{number}" if number > 1 else "", suffix) for number, suffix in enumerate(suffixes, 1)]
    sections = [studies_section(questions)] if len(questions) > 1 else []
    sections += _number_sections(results.number_validations)
    for question, (anchor, suffix) in zip(questions, ends, strict=True):
        budget = PictureBudget(_MOST_PICTURES // len(questions))
        of_question = score_sections(question, anchor, suffix, budget)
        of_question += _study_sections(question[0], files or StudyFiles(), (anchor, suffix), budget)
        if len(questions) > 1:
            of_question += method_sections(question, anchor, suffix)
        sections += [replace(section, group=suffix.removeprefix(": ")) for section in of_question]
    ending = {
        one.name: f" ({one.study or one.name})" if len(results.comparisons) > 1 else "" for one in results.comparisons
    }
    kinds: tuple[tuple[Sequence[Any], Callable[[Any, int], Section]], ...] = (
        (results.audits, lambda one, number: audit_section(one, number, results.cross_validations)),
        (results.comparisons, lambda one, number: _comparison_section(one, number, ending[one.name])),
        (results.learning_curves, _learning_section),
        (results.personal_curves, _personal_section),
        (results.predictions, _prediction_section),
        (results.lives, _live_section),
    )
    for of_kind, section in kinds:
        sections += [section(result, number) for number, result in enumerate(of_kind, 1)]
    for explanation in results.explanations:
        end = f": {explanation.name}" if len(results.explanations) > 1 else ""
        sections += explanation_sections(explanation, end)
    sections += [errors_section(reconstruction) for reconstruction in results.reconstructions]
    if results.logs:
        sections.append(_preparation_section(results, files or StudyFiles()))
    if len(questions) == 1:
        sections += method_sections(questions[0], *ends[0])
    return tuple(sections)


def _study_sections(
    run: CrossValidation, files: StudyFiles, end: tuple[str, str], budget: PictureBudget
) -> list[Section]:
    """Return the people of a question and, where the store that was scored is at hand, its features and signals."""
    scored = {subject.participant for subject in run.subjects}
    people = files.participants_of(run.study, scored)
    sections, words = [people_section(run, people, end)], people_words(scored, people)
    store = files.store_of(run)
    if store is None:
        return [*sections, cards_section(run, data_card(run, None, words), end)]
    with store:
        cards = cards_section(run, data_card(run, store, words), end)
        return [*sections, *store_sections(run, store, end, budget), cards]


def cards_section(run: CrossValidation, data: Table, end: tuple[str, str]) -> Section:
    """Return the cards of data and model; ``end`` are the ends of the section's anchor and title."""
    lead = (
        "What was written down, in the files of the study and of this run. What is not stated here was not, and has to "
        "be looked up with whoever made the recordings."
    )
    tables = (data, model_card_table(run))
    return Section(f"cards{end[0]}", f"Data card and model card{end[1]}", (lead,), tables=tables)


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
    n, n_withheld = sum(map(len, windows)), sum(not name for predicted in windows for name in predicted.predicted)
    withheld = f"{n_withheld:,} withheld (the table says why)" if n_withheld else "none withheld"
    failed = f"{count(len(folder.failures), 'recording')} failed" if len(folder.failures) else "none failed"
    cut = f" The first {MOST_TIMELINES} are drawn." if len(windows) > MOST_TIMELINES else ""
    model = f"By {listed([the_model(name) for name in folder.models])}: " if folder.models else ""
    lead = f"{model}{count(len(windows), 'recording')} with {count(n, 'window')}, {withheld}; {failed}.{cut}"
    tables = [_summary_table(folder.summary)]
    if len(folder.failures):
        tables.insert(0, file_table(folder.failures, f"{count(len(folder.failures), 'failure')}"))
    title, figures = f"New recordings: {folder.name}", prediction_timelines(folder)
    remarks = _remarks(folder.summary)
    folded = (("Remarks by recording", remarks),) if remarks else ()
    return Section(f"predictions-{number}", title, (lead,), figures=figures, tables=tuple(tables), folded=folded)


def _summary_table(summary: ResultTable) -> Table:
    """Return the summary of predictions for a page: what is 0 throughout and long remarks are in the file alone."""
    left_out = {"remarks", "fitted_on"} | {
        name for name in ("abstained", "unlike", "outside_range") if {*summary.texts(name, "0")} <= {"", "0", "0.0"}
    }
    kept = [place for place, name in enumerate(summary.columns) if name not in left_out]
    columns = tuple(_in_words(summary.columns[place]) for place in kept)
    rows = tuple(tuple(_shorter(row[place]) for place in kept) for row in summary.rows)
    shown = ResultTable(summary.path, columns, rows)
    return file_table(shown, f"Summary of {count(len(summary), 'recording')}; all columns are in {summary.path.name}")


def _in_words(column: str) -> str:
    """Return the words for a column of a summary, the class behind what is said of it.

    >>> _in_words("share_rest"), _in_words("mean_probability_at_rest"), _in_words("windows")
    ('windows predicted rest, share', 'mean probability of at_rest', 'windows')
    """
    for opening, words in (("share_", "windows predicted {}, share"), ("mean_probability_", "mean probability of {}")):
        if column.startswith(opening):
            return words.format(column.removeprefix(opening))
    return column


def _shorter(cell: str) -> str:
    """Return a number between 0 and 1 with three decimals, and other cells as they are."""
    return f"{float(cell):.3f}" if cell[:2] in ("0.", "1.") and cell.replace(".", "", 1).isdigit() else cell


def _remarks(summary: ResultTable) -> str:
    """Return a line of remarks for each recording that has any."""
    who = (summary.texts(name, "") for name in ("participant_id", "session", "recording"))
    titles = (recording_title(*names) for names in zip(*who, strict=True))
    return "\n".join(
        f"{title}: {words}" for title, words in zip(titles, summary.texts("remarks", ""), strict=True) if words
    )


def _live_section(folder: LiveFolder, number: int) -> Section:
    """Return the section of a folder of ``live``; of its runs the last is shown."""
    summary = folder.summary
    run = f"the last of {count(folder.n_runs, 'run')}" if folder.n_runs > 1 else "one run"
    left_out = (
        f"{summary.left_out:,} left out, as the machine could not keep up" if summary.left_out else "none left out"
    )
    withheld = f"{summary.withheld:,} withheld" if summary.withheld else "none withheld"
    lead = (
        f"By {the_model(summary.model)}, {run}: {count(summary.predictions, 'prediction')} in {summary.seconds:,.0f} s "
        f"of the streams, {withheld}, {left_out}. Each rests on what had come until then; there was no truth to "
        "compare with."
    )
    tables = [_live_times(folder)]
    if summary.missing:
        rows = tuple((name, f"{n:,}") for name, n in sorted(summary.missing.items()))
        tables.append(Table("Signals that were missing", ("Signal", "Predictions without it"), rows, (False, True)))
    figures = tuple(line_figure(line, f"live-{number}-{place}") for place, line in enumerate(folder.lines, 1))
    return Section(f"live-{number}", f"Live: {folder.name}", (lead,), figures=figures, tables=tuple(tables))


def _live_times(folder: LiveFolder) -> Table:
    kinds = (("by the clock", folder.summary.latency_ms), ("processor time", folder.summary.processor_ms))
    names = (("p50", "Median"), ("p95", "95 %"), ("p99", "99 %"), ("max", "Largest"))
    rows = tuple((what, *(f"{values.get(key, float('nan')):.0f}" for key, _ in names)) for what, values in kinds)
    title = "Milliseconds from the last sample of a window to its prediction"
    return Table(title, ("Time", *(words for _, words in names)), rows, (False, True, True, True, True))


def audit_section(audit: Audit, number: int, validations: Sequence[CrossValidation]) -> Section:
    """Return what an audit found; ``validations`` are the scores that stand beside it."""
    counts = [(sum(row.verdict == verdict for row in audit.findings), verdict) for verdict in reversed(VERDICTS)]
    what = f"the data and the predictions of {audit.model}" if audit.model else "the data"
    lead = (
        f"Task {audit.task}, {count(audit.n_subjects, 'subject')}, {count(audit.n_windows, 'window')}, normalisation "
        f"{audit.normalisation}; looked at: {what}. {', '.join(f'{n} {verdict}' for n, verdict in counts)}, "
        f"{len(audit.skipped)} not made. A verdict of ok means that nothing was found, not that nothing is there."
    )
    apart = other_split(K_FOLD, audit.n_folds, scored_beside(audit, validations))
    lead += f" Where a probe has a score, it is of {apart}." if apart else ""
    return Section(f"audit-{number}", f"Audit: {audit.name}", (lead,), tables=(audit_table(audit),))


def _preparation_section(results: Results, files: StudyFiles) -> Section:
    """Return how recordings were prepared, with the data card of each store that no scores of the page are of."""
    logs, scored = results.logs, {run.fingerprint.get("store", "") for run in results.cross_validations}
    rows = [row for log in logs for row in preparations_of(log)]
    figure = missing_figure(rows)
    failed = [" ".join(part for part in row.key if part) for row in rows if row.is_failed]
    lead = f"{count(len(rows), 'recording')}, {len(failed)} failed{f': {listed(failed)}' if failed else ''}."
    tables = tuple(file_table(log.table, f"{log.name}: {count(len(log.table), 'recording')}") for log in logs)
    tables += tuple(cards_of_stores(files, {log.table.path for log in logs}, scored))
    title, figures = "Preparation: what was kept and what was lost", (figure,) if figure else ()
    return Section("preparation", title, lead=(lead,), figures=figures, tables=tables)


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
