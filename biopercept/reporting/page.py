"""One self-contained HTML page from a folder of results: opens offline, runs no script, shows data as text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from biopercept.errors import OutputError
from biopercept.files import write_text
from biopercept.results.audit import VERDICTS, Audit
from biopercept.results.comparison import Comparison
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.version import __version__

from .audit import audit_table
from .cautions import Caution, cautions_of, same_data
from .comparison_figures import comparison_figures
from .comparison_tables import contender_table, pair_table
from .curves import (
    learning_figures,
    learning_sentence,
    learning_table,
    personal_figure,
    personal_sentences,
    personal_tables,
)
from .discovery import load_numbers, load_results
from .figures import MOST_TIMELINES, prediction_timelines, write_figures
from .number_results import NumberValidation
from .number_views import number_cautions, number_figure, number_table, subject_numbers
from .prediction_results import PredictionFolder
from .preparation import preparations_of
from .results import CrossValidation, PrepareLog, Results
from .sections import Section, method_sections, score_sections
from .study_views import study_table
from .tables import file_table
from .text import count, listed, shown
from .time_figures import missing_figure

__all__ = ["render", "sections_of", "write_figures", "write_report"]

_MAIN_MODEL = "perceiver-io"


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write the page of a folder of results and return its path.

    Parameters
    ----------
    folder : Path
        A folder of ``cross-validate``, ``learning-curve``, ``personalise`` or ``predict``, one with a store's log, or a
        parent of several.
    output : Path, or None
        The page; ``folder/report.html`` where None. An existing file is replaced.

    Raises
    ------
    StudyError
        Where the folder holds no results or a result is damaged.
    OutputError
        Where the page cannot be written; an older one is then unharmed.
    """
    target = folder / "report.html" if output is None else output
    if target.is_dir():
        fault = OutputError(f"{target} is a folder; give the name of a file that ends in .html")
        fault.exit_code = 2
        raise fault
    write_text(target, render(load_results(folder), load_numbers(folder)))
    return target


def render(results: Results, numbers: Sequence[NumberValidation] = ()) -> str:
    """Return the HTML page of results, and of cross-validations of numbers."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        return value if isinstance(value, Markup) else shown(value)

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=finalize, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["image"] = lambda figure: Markup(figure.data_uri)  # noqa: S704 - base64 of our own bytes
    template = environment.from_string(
        files("biopercept.reporting").joinpath("report.html").read_text(encoding="utf-8")
    )
    return template.render(
        name=results.name,
        summary=_summary(results, len(numbers)),
        cautions=_cautions(results, numbers),
        sections=(*_number_sections(numbers), *sections_of(results)),
        version=__version__,
    )


def _cautions(results: Results, numbers: Sequence[NumberValidation]) -> tuple[Caution, ...]:
    said = [warning for held in numbers for warning in held.warnings]
    found = (*cautions_of(results, said), *(Caution(is_grave, text) for is_grave, text in number_cautions(numbers)))
    return tuple(sorted(dict.fromkeys(found), key=lambda caution: not caution.is_grave))


def _number_sections(numbers: Sequence[NumberValidation]) -> list[Section]:
    if not numbers:
        return []
    shown_numbers = [held for held in numbers if not held.is_probe]
    by_study = (study_table(f"{held.model}, {held.task},", held.split, held.studies) for held in shown_numbers)
    tables = (number_table(numbers), *(t for t in by_study if t), *(subject_numbers(held) for held in shown_numbers))
    figures = tuple(number_figure(held) for held in shown_numbers)
    lead = (
        "MAE is the mean absolute error in the unit of the study's column; CCC is Lin's concordance (1: equal, 0: no "
        "agreement); R2 is 1 at best and 0 or less for answers no better than one number.",
    )
    return [Section("numbers", "Predicted numbers", lead=lead, figures=figures, tables=tables)]


def _summary(results: Results, n_numbers: int = 0) -> str:
    parts = [
        (len(results.cross_validations) + n_numbers, "cross-validation"),
        (len(results.comparisons), "comparison"),
        (len(results.learning_curves), "learning curve"),
        (len(results.personal_curves), "own-label curve"),
        (sum(len(folder.recordings) for folder in results.predictions), "predicted recording"),
        (sum(len(log.table) for log in results.logs), "prepared recording"),
        (len(results.audits), "audit"),
    ]
    return ", ".join(count(n, noun) for n, noun in parts if n)


def sections_of(results: Results) -> tuple[Section, ...]:
    """Return the parts of the page, in reading order."""
    questions = _questions(results.cross_validations)
    sections: list[Section] = []
    for number, rivals in enumerate(questions, 1):
        suffix = f": {rivals[0].task}" if len(questions) > 1 else ""
        sections += score_sections(rivals, f"-{number}" if number > 1 else "", suffix)
    for number, held in enumerate(results.audits, 1):
        sections.append(_audit_section(held, number))
    sections += [_comparison_section(held, number) for number, held in enumerate(results.comparisons, 1)]
    sections += [_learning_section(held, number) for number, held in enumerate(results.learning_curves, 1)]
    sections += [_personal_section(held, number) for number, held in enumerate(results.personal_curves, 1)]
    for number, folder in enumerate(results.predictions, 1):
        sections.append(_prediction_section(folder, number))
    if results.logs:
        sections.append(_preparation_section(results.logs))
    for number, rivals in enumerate(questions, 1):
        suffix = f": {rivals[0].task}" if len(questions) > 1 else ""
        sections += method_sections(rivals, f"-{number}" if number > 1 else "", suffix)
    return tuple(sections)


def _questions(validations: Sequence[CrossValidation]) -> list[list[CrossValidation]]:
    """Return cross-validations grouped by the question they answer, the main model first in each group."""
    groups: list[list[CrossValidation]] = []
    for held in sorted(validations, key=lambda held: (held.is_probe, held.model != _MAIN_MODEL)):
        group = next((group for group in groups if same_data(group[0], held)), None)
        if group is None:
            groups.append([held])
        else:
            group.append(held)
    return groups


def _comparison_section(held: Comparison, number: int) -> Section:
    return Section(
        f"comparison-{number}",
        f"Which differences are established: {held.metric_words}",
        lead=held.findings,
        figures=comparison_figures(held),
        tables=(contender_table(held), pair_table(held)),
        folded=(("How it was compared", "\n".join(held.methods)),),
    )


def _learning_section(held: LearningCurve, number: int) -> Section:
    return Section(
        f"learning-{number}",
        f"Learning curve: {held.name}",
        lead=(learning_sentence(held),),
        figures=learning_figures(held),
        tables=(learning_table(held),),
    )


def _personal_section(held: PersonalCurve, number: int) -> Section:
    return Section(
        f"personal-{number}",
        f"What labels of one's own are worth: {held.name}",
        lead=personal_sentences(held),
        figures=(personal_figure(held),),
        tables=personal_tables(held),
    )


def _prediction_section(folder: PredictionFolder, number: int) -> Section:
    windows = [held for _, held in folder.recordings]
    n, withheld = sum(len(held) for held in windows), sum(not name for held in windows for name in held.predicted)
    cut = f" The first {MOST_TIMELINES} are drawn." if len(windows) > MOST_TIMELINES else ""
    lead = (
        f"{count(len(windows), 'recording')} with {count(n, 'window')}, {withheld:,} of them withheld (the "
        "table says why); "
        f"{count(len(folder.failures), 'recording')} failed.{cut}"
    )
    tables = [file_table(folder.summary, f"Summary of {count(len(folder.summary), 'recording')}")]
    if len(folder.failures):
        tables.insert(0, file_table(folder.failures, f"{count(len(folder.failures), 'failure')}"))
    return Section(
        f"predictions-{number}",
        f"New recordings: {folder.name}",
        (lead,),
        (),
        prediction_timelines(folder),
        tuple(tables),
    )


def _audit_section(held: Audit, number: int) -> Section:
    counts = [(sum(row.verdict == verdict for row in held.findings), verdict) for verdict in reversed(VERDICTS)]
    what = f"the data and the answers of {held.model}" if held.model else "the data"
    lead = (
        f"Task {held.task}, {count(held.n_subjects, 'subject')}, {count(held.n_windows, 'window')}, normalisation "
        f"{held.normalisation}; looked at: {what}. "
        f"{', '.join(f'{n} {verdict}' for n, verdict in counts)}, {len(held.skipped)} not made. "
        "A verdict of ok means that nothing was found, not that nothing is there."
    )
    return Section(f"audit-{number}", f"Audit: {held.name}", (lead,), tables=(audit_table(held),))


def _preparation_section(logs: Sequence[PrepareLog]) -> Section:
    rows = [row for log in logs for row in preparations_of(log)]
    figure = missing_figure(rows)
    failed = [" ".join(part for part in row.key if part) for row in rows if row.is_failed]
    lead = f"{count(len(rows), 'recording')}, {len(failed)} failed{f': {listed(failed)}' if failed else ''}."
    tables = tuple(file_table(log.table, f"{log.name}: {count(len(log.table), 'recording')}") for log in logs)
    return Section(
        "preparation", "Preparation: what was kept and what was lost", (lead,), (), (figure,) if figure else (), tables
    )
