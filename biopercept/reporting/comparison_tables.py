"""Tables of a comparison and its pages in Markdown and LaTeX; every difference with its interval."""

from __future__ import annotations

from biopercept.results.comparison import Comparison, Contender, Pair

from .table_text import latex, latex_table, markdown, markdown_table
from .tables import SPLITS, Table
from .text import NOT_DEFINED, count, score, with_interval


def p_value(p: float | None) -> str:
    """Return a p-value with three decimals, or "< 0.001"."""
    if p is None:
        return NOT_DEFINED
    return "< 0.001" if p < 0.001 else score(p)


def signed(value: float, digits: int = 3) -> str:
    """Return a difference with its sign."""
    return f"{value:+.{digits}f}"


def contender_table(held: Comparison) -> Table:
    """Return a row per model: mean score with its interval, spread, average rank."""
    rows = tuple(_contender_row(contender) for contender in held.contenders)
    title = (
        f"Models by {held.metric_words}, mean over {count(held.n_subjects, 'subject')} "
        f"({SPLITS.get(held.split, held.split)})"
    )
    columns = ("Model", "Mean [95 % CI]", "SD", "Average rank", "Normalisation")
    return Table(title, columns, rows, (False, True, True, True, False))


def _contender_row(held: Contender) -> tuple[str, ...]:
    scaling = f"{held.normalisation} (TRANSDUCTIVE)" if held.is_transductive else held.normalisation
    return (
        held.label,
        with_interval(held.mean, held.ci95),
        score(held.sd),
        f"{held.average_rank:.2f}",
        scaling,
    )


def pair_table(held: Comparison) -> Table:
    """Return a row per pair: difference, p-values, subjects, effect sizes, smallest detectable difference."""
    has_folds = any(pair.split_p is not None for pair in held.pairs)
    columns = (
        "First minus second",
        "Mean difference [95 % CI]",
        "Wilcoxon p",
        "p, Holm",
        "Better / equal / worse",
        "Rank-biserial [95 % CI]",
        "Cohen's dz [95 % CI]",
        "Smallest detectable",
        "Smallest detectable, adjusted",
        *(("Corrected t over folds, p Holm",) if has_folds else ()),
        "Established",
    )
    rows = tuple(_pair_row(pair, has_folds=has_folds) for pair in held.pairs)
    title = (
        f"Differences in {held.metric_words} within {count(held.n_subjects, 'subject')}"
        f"{'' if held.higher_is_better else ' (less is better)'}"
    )
    return Table(title, columns, rows, (False, *(True,) * (len(columns) - 2), False))


def brief_pair_table(held: Comparison) -> Table:
    """Return a row per pair with what decides: for a narrow terminal."""
    rows = tuple(
        (
            f"{pair.first} - {pair.second}",
            _difference(pair),
            p_value(pair.p_holm),
            score(pair.smallest_detectable),
            "yes" if pair.is_established else "no",
        )
        for pair in held.pairs
    )
    columns = ("First minus second", "Mean difference [95 % CI]", "p, Holm", "Detectable", "Established")
    return Table(pair_table(held).title, columns, rows, (False, True, True, True, False))


def _difference(pair: Pair) -> str:
    interval = "" if pair.ci95 is None else f" [{signed(pair.ci95[0])}, {signed(pair.ci95[1])}]"
    return f"{signed(pair.mean_difference)}{interval}"


def _pair_row(pair: Pair, *, has_folds: bool) -> tuple[str, ...]:
    return (
        f"{pair.first} - {pair.second}",
        _difference(pair),
        p_value(pair.p) + (" (normal)" if pair.p_method == "normal" else ""),
        p_value(pair.p_holm),
        f"{pair.wins} / {pair.ties} / {pair.losses}",
        with_interval(pair.rank_biserial, pair.rank_biserial_ci95, 2),
        with_interval(pair.dz, pair.dz_ci95, 2),
        score(pair.smallest_detectable),
        score(pair.smallest_detectable_adjusted),
        *((p_value(pair.split_p_holm),) if has_folds else ()),
        "yes" if pair.is_established else "no",
    )


def markdown_page(held: Comparison) -> str:
    """Return the comparison as a Markdown page: cautions, findings, tables, methods."""
    cautions = [f"- {markdown(text)}" for text in held.cautions]
    parts = [
        f"# Comparison by {markdown(held.metric_words)}: {markdown(held.task)}",
        *(("## Read this first", "\n".join(cautions)) if cautions else ()),
        "## Findings",
        "\n\n".join(markdown(text) for text in held.findings),
        "## Tables",
        markdown_table(contender_table(held)),
        markdown_table(pair_table(held)),
        "## Methods",
        " ".join(markdown(text) for text in held.methods),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def latex_page(held: Comparison) -> str:
    r"""Return the tables and the findings as LaTeX, to be read with ``\input``."""
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}.",
            latex_table(contender_table(held), "tab:models"),
            latex_table(pair_table(held), "tab:pairs"),
            latex(" ".join((*held.findings, *held.methods))),
            "",
        ]
    )
