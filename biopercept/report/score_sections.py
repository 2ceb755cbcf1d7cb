"""Cross-validations as parts of a page: key numbers, models side by side, each model in detail, methods, provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from biopercept.errors import count
from biopercept.files import write_bytes
from biopercept.report.drawing import Drawing
from biopercept.report.layout import KeyNumber, PictureBudget, Section
from biopercept.report.score_figures import (
    confusion_figure,
    models_figure,
    number_figure,
    reliability_figure,
    risk_figure,
    sensor_figure,
    subjects_figure,
    training_figure,
)
from biopercept.report.scores import (
    class_table,
    group_tables,
    labels_of,
    methods_text,
    normalisation,
    other_split,
    plan_table,
    run_table,
    score_table,
    sensor_table,
    study_table,
    subject_table,
    trust_sentences,
)
from biopercept.report.text import SPLITS, Table, listed, score, turned, with_interval
from biopercept.report.timelines import overview_figure, quality_figure, timeline_figure
from biopercept.report.warnings import same_data
from biopercept.results.command import commands_of
from biopercept.results.cross_validation import (
    PROBES,
    SCORES_FILE,
    ClassScore,
    CrossValidation,
    NumberValidation,
    SubjectScore,
    load_validation,
)
from biopercept.results.plan import PlanLine
from biopercept.results.predictions import Predictions, RecordingKey
from biopercept.results.training import training_courses

_MAIN_MODEL = "perceiver-io"
_MOST_TURNED = 6
_UNKNOWN_COMMAND = "not written down: made from Python, or by an older version"


def questions_of(validations: Sequence[CrossValidation]) -> list[list[CrossValidation]]:
    """Return cross-validations grouped by the question they answer, the main model first in each group."""
    groups: list[list[CrossValidation]] = []
    for run in sorted(validations, key=lambda run: (run.is_probe, run.model != _MAIN_MODEL)):
        group = next((group for group in groups if same_data(group[0], run)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return groups


def suffixes_of(mains: Sequence[CrossValidation]) -> list[str]:
    """Return what tells the headings of several questions apart: task, study, and the folder where both agree."""
    columns = ([run.task for run in mains], [" + ".join(run.study_names) for run in mains])
    differing = [column for column in columns if len(set(column)) > 1]
    names = [", ".join(filter(None, words)) for words in zip(*differing, strict=True)] or [""] * len(mains)
    if len(set(names)) < len(names):
        names = [f"{name} ({run.name})".strip() for name, run in zip(names, mains, strict=True)]
    return [f": {name}" if name else "" for name in names]


def score_sections(
    validations: Sequence[CrossValidation], anchor: str, suffix: str, budget: PictureBudget
) -> list[Section]:
    """Return what the cross-validations of one question found: side by side, and then each model in detail.

    ``anchor`` and ``suffix`` end the sections' anchors and titles, which tells several questions apart; ``budget`` is
    what the pictures of all of them may take.
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
    data, no_data = budget.kept(data_figures(main), _in_figures(main))
    first, *others = [_model_in_detail(run, main, budget) for run in (main, *validations[1:])]
    timelines, no_timelines = budget.kept(subject_timelines(main), _in_figures(main))
    details = [
        replace(
            section,
            anchor=f"model{anchor}{f'-{number}' if number > 1 else ''}",
            title=f"{label} in detail{suffix}",
        )
        for number, (section, label) in enumerate(zip((first, *others), labels_of(validations), strict=True), 1)
    ]
    chosen = "The worst held-out subject, the one nearest to the median over subjects, and the best."
    return [
        Section(f"key{anchor}", f"Key numbers{suffix}", lead=(claim,), numbers=_key_numbers(main, validations)),
        compared,
        Section(f"data{anchor}", f"Data{suffix}", lead=no_data, figures=data, tables=_left_out_tables(main)),
        details[0],
        Section(f"timelines{anchor}", f"Predictions over time{suffix}", (chosen, *no_timelines), figures=timelines),
        *details[1:],
    ]


def _in_figures(run: CrossValidation) -> str:
    return f"see {run.name}/figures, or make a report of {run.name} alone"


def _model_in_detail(run: CrossValidation, main: CrossValidation, budget: PictureBudget) -> Section:
    """Return a model's figures and tables, of a probe its subjects alone; anchor and title are to come."""
    figures = list(score_figures(run))
    training = training_figure(training_courses(run.folder), run.model)
    figures += [training] if training else []
    if run.is_probe and run is not main:
        figures = figures[:1]
    kept, words = budget.kept(figures, _in_figures(run))
    tables = (subject_table(run), class_table(run), sensor_table(run))
    shown = (*(table for table in tables if table), *group_tables(run.groups))
    return Section("", "", lead=(*trust_sentences(run), *words), figures=kept, tables=shown)


def studies_section(questions: Sequence[Sequence[CrossValidation]]) -> Section:
    """Return one table of the scores of several studies or tasks: a row for each, a column per model."""
    models = list(dict.fromkeys(run.model for question in questions for run in question))
    rows = []
    for question in questions:
        main = question[0]
        by_model = {run.model: run for run in reversed(question)}
        scores = {
            f"{name} (probe)" if name in PROBES else name: (
                with_interval(by_model[name].balanced_accuracy.mean, by_model[name].balanced_accuracy.ci95)
                if name in by_model
                else ""
            )
            for name in models
        }
        rows.append(
            {
                "Study": " + ".join(main.study_names) or main.name,
                "Task": main.task,
                "Subjects": f"{main.n_subjects:,}",
                "Windows": f"{main.n_windows:,}",
                "Guessing": score(main.chance_level),
                **scores,
                "Normalisation": normalisation(main),
                "Split": SPLITS.get(main.split, main.split),
            }
        )
    title = f"Balanced accuracy, mean over subjects [95 % bootstrap interval over subjects]: {count(len(rows), 'row')}"
    lead = (
        "Each row is a question of its own, with its own people, classes and recordings: compare models within a row. "
        "Whether a model is better over all studies is what 'compare' tests.",
    )
    table = Table.of(title, rows, ("Study", "Task", "Normalisation", "Split"))
    return Section("studies", "Studies side by side", lead=lead, tables=(table,))


def method_sections(validations: Sequence[CrossValidation], anchor: str, suffix: str) -> list[Section]:
    """Return how they were made, by whom and with which settings; parameters as of :func:`score_sections`."""
    main = validations[0]
    folded = tuple((f"Effective settings of {run.name}", run.config_text) for run in validations if run.config_text)
    return [
        *_plan_sections(validations, anchor, suffix),
        Section(f"methods{anchor}", f"Methods{suffix}", lead=(" ".join(methods_text(main)),)),
        Section(
            f"provenance{anchor}",
            f"Provenance{suffix}",
            lead=("The commands that made the results, as a shell takes them, the last one of each folder below.",),
            tables=(_command_table(validations), *map(run_table, validations)),
            folded=folded,
        ),
    ]


def _plan_sections(validations: Sequence[CrossValidation], anchor: str, suffix: str) -> list[Section]:
    """Return the settings that follow from the data with their reasons, those of several models once where alike."""
    by_lines: dict[tuple[PlanLine, ...], list[CrossValidation]] = {}
    for run in validations:
        if run.plan is not None and run.plan.lines:
            by_lines.setdefault(run.plan.lines, []).append(run)
    tables, notes = [], []
    for runs in by_lines.values():
        plan = runs[0].plan
        if plan is not None:
            tables.append(plan_table(plan, listed([run.model for run in runs])))
            notes += [*plan.losses, *plan.warnings]
    if not tables:
        return []
    lead = (
        "What was not given was chosen from what the study is made of, before any score was seen; each with its reason."
    )
    return [
        Section(
            f"plan{anchor}",
            f"The plan and its reasons{suffix}",
            lead=(lead, *dict.fromkeys(notes)),
            tables=tuple(tables),
        )
    ]


def _command_table(validations: Sequence[CrossValidation]) -> Table:
    rows = [(run.name, line) for run in validations for line in (_commands_above(run) or (_UNKNOWN_COMMAND,))]
    return Table("Commands", ("Folder", "Command"), tuple(rows), (False, False), is_sortable=False)


def _commands_above(run: CrossValidation) -> tuple[str, ...]:
    """Return the commands of the folder; of several tasks they lie with the whole, one folder above."""
    return commands_of(run.folder) or commands_of(run.folder.parent)


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
        words = other_split(clock.split, clock.n_folds, [main])
        apart = f"; {words}" if words else ""
        numbers.append(
            KeyNumber("Clock alone", score(reached.mean), f"{_interval(reached.ci95)}, no sensor used{apart}")
        )
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

    The middle one has the score nearest to the median over subjects, which of an even number is nobody's.
    Of a subject with several recordings the one with most windows is drawn.
    """
    rows = sorted(
        (s for s in run.subjects if s.balanced_accuracy is not None),
        key=lambda s: (s.balanced_accuracy or 0.0, s.participant),
    )
    if not rows:
        return ()
    middle, half = middle_subject(run) or rows[0], median(s.balanced_accuracy or 0.0 for s in rows)
    chosen = {rows[-1]: ("best", "Best"), middle: ("median", f"Nearest to the median of {score(half)}")}
    chosen[rows[0]] = ("worst", "Worst")
    figures = []
    for subject, (name, words) in sorted(chosen.items(), key=lambda one: one[0].balanced_accuracy or 0.0):
        key = longest_recording(run.predictions, subject.participant)
        if key is not None:
            reached = f"{subject.participant} ({score(subject.balanced_accuracy)})"
            note = f"{words} by balanced accuracy: {reached}, {run.model}: "
            figures.append(timeline_figure(run.predictions.of_recording(key), f"timeline-{name}", note))
    return tuple(figures)


def middle_subject(run: CrossValidation) -> SubjectScore | None:
    """Return the subject whose score is nearest to the median over subjects; None where no score is defined."""
    rows = sorted((s for s in run.subjects if s.balanced_accuracy is not None), key=lambda s: s.participant)
    half = median(s.balanced_accuracy or 0.0 for s in rows) if rows else 0.0
    return min(rows, key=lambda s: (abs((s.balanced_accuracy or 0.0) - half), s.balanced_accuracy or 0.0), default=None)


def longest_recording(predictions: Predictions, participant: str) -> RecordingKey | None:
    """Return a subject's recording with most windows; None where the subject has none."""
    keys = [key for key in predictions.recordings if key[0] == participant]
    return max(keys, key=lambda key: (predictions.keys.count(key), key), default=None)


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
