"""What a part of the page is, and the parts that the cross-validations of one question fill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .drawing import Drawing
from .figures import data_figures, score_figures, subject_timelines
from .methods import methods_text
from .results import CrossValidation, Estimate
from .score_figures import models_figure
from .sensor_views import sensor_table
from .study_views import study_table
from .tables import Table, class_table, run_table, score_table, subject_table, turned
from .text import count, score
from .trust_figures import trust_sentences

_MOST_TURNED = 6


@dataclass(frozen=True)
class KeyNumber:
    """One number in large type: what it is, its value, and what to read it with."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True)
class Section:
    """A part of the page: its title, an opening sentence, figures, tables and quoted text, in that order.

    ``numbers`` come first, ``folded`` (title and text) last and closed.
    """

    anchor: str
    title: str
    lead: tuple[str, ...] = ()
    numbers: tuple[KeyNumber, ...] = ()
    figures: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[tuple[str, str], ...] = ()


def score_sections(rivals: Sequence[CrossValidation], anchor: str, suffix: str) -> list[Section]:
    """Return what the cross-validations of one question found.

    Parameters
    ----------
    rivals : sequence of CrossValidation
        The main model first, which is shown in detail.
    anchor, suffix : str
        Ends of the sections' anchors and titles, which tell several questions apart.
    """
    main = rivals[0]
    table = score_table(rivals)
    proper = [held for held in rivals if held is main or not held.is_probe]
    by_study = [study_table(held.model, held.split, held.studies) for held in proper]
    compared = Section(
        f"scores{anchor}",
        ("Models side by side" if len(rivals) > 1 else "Scores") + suffix,
        figures=(models_figure(rivals),) if len(rivals) > 1 else (),
        tables=(turned(table) if len(rivals) <= _MOST_TURNED else table, *(held for held in by_study if held)),
    )
    by_class = class_table(main)
    return [
        Section(f"key{anchor}", f"Key numbers{suffix}", lead=(_claim(main),), numbers=_key_numbers(main, rivals)),
        compared,
        Section(f"data{anchor}", f"Data{suffix}", figures=data_figures(main), tables=_left_out_tables(main)),
        Section(
            f"model{anchor}",
            f"{main.model} in detail{suffix}",
            lead=trust_sentences(main),
            figures=score_figures(main),
            tables=tuple(table for table in (subject_table(main), by_class, sensor_table(main)) if table),
        ),
        Section(
            f"timelines{anchor}",
            f"Predictions over time{suffix}",
            lead=("The worst, the median and the best held-out subject.",),
            figures=subject_timelines(main),
        ),
    ]


def method_sections(rivals: Sequence[CrossValidation], anchor: str, suffix: str) -> list[Section]:
    """Return how they were made; parameters as of :func:`score_sections`."""
    main = rivals[0]
    folded = (("Effective settings of " + main.name, main.config_text),) if main.config_text else ()
    return [
        Section(f"methods{anchor}", f"Methods{suffix}", lead=(" ".join(methods_text(main)),)),
        Section(
            f"provenance{anchor}",
            f"Provenance{suffix}",
            tables=tuple(run_table(held) for held in rivals[:1]),
            folded=folded,
        ),
    ]


def _claim(main: CrossValidation) -> str:
    return (
        f"{main.model} on task {main.task} ({', '.join(main.classes)}), {count(main.n_windows, 'window')} of "
        f"{count(main.n_subjects, 'subject')}, normalisation {main.normalisation}"
        f"{', TRANSDUCTIVE' if main.is_transductive else ''}. Intervals are 95 % bootstrap intervals over subjects."
    )


def _key_numbers(main: CrossValidation, rivals: Sequence[CrossValidation]) -> tuple[KeyNumber, ...]:
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
            "Worst subject", score(scores.worst), f"median {score(scores.median)}, SD {score(scores.sd)} over subjects"
        ),
        KeyNumber(
            "Below chance", "n/a" if below is None else str(below), f"of {n}; guessing gives {score(main.chance_level)}"
        ),
    ]
    clock = next((rival for rival in rivals if rival.model == "clock-only"), None)
    if clock is not None and clock is not main:
        reached = clock.balanced_accuracy
        numbers.append(KeyNumber("Clock alone", score(reached.mean), f"{_interval(reached.ci95)}, no sensor used"))
    else:
        numbers.append(KeyNumber("Calibration error", score(main.ece), f"Brier score {score(main.brier)}; 0 is best"))
    return tuple(numbers)


def _defined(held: Estimate, main: CrossValidation) -> str:
    """Return over how many subjects a score is defined, where that is not all of them."""
    n = held.n_subjects
    return "" if n is None or n == main.n_subjects else f", defined for {count(n, 'subject')}"


def _interval(ci95: tuple[float, float] | None) -> str:
    return "no interval" if ci95 is None else f"95 % CI {score(ci95[0])} to {score(ci95[1])}"


def _left_out_tables(main: CrossValidation) -> tuple[Table, ...]:
    if not main.left_out:
        return ()
    rows = tuple((reason, f"{n:,}") for reason, n in main.left_out.items())
    return (Table("Windows that were not scored", ("Reason", "Windows"), rows, (False, True)),)
