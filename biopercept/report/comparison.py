"""A comparison as tables, figures and pages in Markdown and LaTeX; every difference with its interval.

The critical-difference diagram shows average ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from biopercept.errors import count
from biopercept.report.drawing import BLUE, FAINT, INK, Drawing, FigureData, draw, name_rows, reach
from biopercept.report.text import (
    SPLITS,
    Table,
    interval_text,
    latex,
    latex_table,
    listed,
    markdown,
    markdown_table,
    p_value,
    score,
    shortened,
    with_interval,
)
from biopercept.results.comparison import RANKS_AND_PAIRS, Comparison, Contender, Pair, SensorCost

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MOST_PAIRS = 60


def contender_table(comparison: Comparison) -> Table:
    """Return a row per model: mean score with its interval, spread, average rank."""
    rows = [
        {
            "Model": model.label,
            "Mean [95 % CI]": with_interval(model.mean, model.ci95),
            "SD": score(model.sd),
            "Average rank": f"{model.average_rank:.2f}",
            "Normalisation": f"{model.normalisation} (TRANSDUCTIVE)" if model.is_transductive else model.normalisation,
        }
        for model in comparison.contenders
    ]
    split = SPLITS.get(comparison.split, comparison.split)
    title = f"Models by {comparison.metric_words}, mean over {_subjects(comparison)} ({split})"
    return Table.of(title, rows, ("Model", "Normalisation"))


def _subjects(comparison: Comparison) -> str:
    """Return how many subjects, and of how many studies where there are several."""
    n = count(comparison.n_subjects, "subject")
    return f"{n} of {count(len(comparison.studies), 'study', 'studies')}" if comparison.studies else n


def pair_table(comparison: Comparison) -> Table:
    """Return a row per pair: difference, p-values, subjects, effect sizes, smallest detectable difference."""
    has_folds = any(pair.split_p is not None for pair in comparison.pairs)
    rows = [
        {
            "First minus second": f"{pair.first} - {pair.second}",
            "Mean difference [95 % CI]": interval_text(pair.mean_difference, pair.ci95, "{:+.3f}"),
            "Wilcoxon p": p_value(pair.p) + (" (normal)" if pair.p_method == "normal" else ""),
            "p, Holm": p_value(pair.p_holm),
            "Better / equal / worse": f"{pair.wins} / {pair.ties} / {pair.losses}",
            "Rank-biserial [95 % CI]": with_interval(pair.rank_biserial, pair.rank_biserial_ci95, 2),
            "Cohen's dz [95 % CI]": with_interval(pair.dz, pair.dz_ci95, 2),
            "Smallest detectable": score(pair.smallest_detectable),
            "Smallest detectable, adjusted": score(pair.smallest_detectable_adjusted),
            **({"Corrected t over folds, p Holm": p_value(pair.split_p_holm)} if has_folds else {}),
            **(_of_studies(pair) if comparison.studies else {}),
            "Significant": "yes" if pair.is_established else "no",
        }
        for pair in comparison.pairs
    ]
    title = (
        f"Differences in {comparison.metric_words} within {_subjects(comparison)}"
        f"{'' if comparison.higher_is_better else ' (less is better)'}"
    )
    return Table.of(title, rows, ("First minus second", "Significant"))


def _of_studies(pair: Pair) -> dict[str, str]:
    return {
        "Mean of studies [95 % CI]": interval_text(pair.mean_of_studies, pair.mean_of_studies_ci95, "{:+.3f}"),
        "Its permutation p, Holm": p_value(pair.flip_p_holm),
    }


def study_tables(comparison: Comparison) -> tuple[Table, ...]:
    """Return the scores of each of several studies by itself, and the differences; none where one was compared."""
    if not comparison.studies:
        return ()
    every = (comparison, *comparison.studies)
    heads = [f"{'All' if one is comparison else one.study} (n = {one.n_subjects})" for one in every]
    means = [{c.label: with_interval(c.mean, c.ci95) for c in one.contenders} for one in every]
    of_models = [
        {"Model": c.label, **{head: of[c.label] for head, of in zip(heads, means, strict=True)}}
        for c in comparison.contenders
    ]
    of_pairs = [
        {
            "First minus second": f"{pair.first} - {pair.second}",
            **{head: _with_p(one, pair) for head, one in zip(heads, every, strict=True)},
        }
        for pair in comparison.pairs
    ]
    return (
        Table.of(f"Each study by itself: {comparison.metric_words} [95 % CI]", of_models, ("Model",)),
        Table.of("Each study by itself: difference [95 % CI], p by Holm in it", of_pairs, ("First minus second",)),
    )


def _with_p(comparison: Comparison, pair: Pair) -> str:
    mean, ci95, p = comparison.difference(pair.first, pair.second)
    return f"{interval_text(mean, ci95, '{:+.3f}')}, p {p_value(p)}"


def sensor_cost_table(comparison: Comparison) -> Table | None:
    """Return what each missing sensor costs each model; None where no model was scored without sensors."""
    if not comparison.sensor_costs:
        return None
    reference = comparison.reference
    is_paired = any(cost.n_paired for cost in comparison.sensor_costs)
    rows = [
        {
            "Missing": cost.sensor or "mean over sensors",
            "Model": cost.model,
            "Cost [95 % CI]": with_interval(cost.cost, cost.ci95),
            "Subjects": f"{cost.n_subjects:,}",
            "Windows predicted": f"{cost.answered:.0%}",
            **({f"More than {reference} [95 % CI]": _more(cost, reference)} if is_paired else {}),
        }
        for cost in comparison.sensor_costs
    ]
    title = f"What a missing sensor costs: {comparison.metric_words} with all sensors minus without it"
    return Table.of(title, rows, ("Missing", "Model"), fold_above=40)


def _more(cost: SensorCost, reference: str) -> str:
    if cost.model == reference:
        return ""
    return f"{interval_text(cost.more, cost.more_ci95, '{:+.3f}')}{f' (n = {cost.n_paired})' if cost.n_paired else ''}"


def comparison_tables(comparison: Comparison) -> tuple[Table, ...]:
    """Return every table of a comparison: models, pairs, each of several studies, missing sensors."""
    sensors = sensor_cost_table(comparison)
    tables = (contender_table(comparison), pair_table(comparison), *study_tables(comparison))
    return (*tables, sensors) if sensors else tables


def brief_pair_table(comparison: Comparison) -> Table:
    """Return a row per pair with what decides: for a narrow terminal."""
    whole = pair_table(comparison)
    shorter = {"Smallest detectable": "Detectable"}
    names = ("First minus second", "Mean difference [95 % CI]", "p, Holm", "Smallest detectable", "Significant")
    kept = [whole.columns.index(name) for name in names]
    columns = tuple(shorter.get(name, name) for name in names)
    rows = tuple(tuple(row[column] for column in kept) for row in whole.rows)
    return Table(whole.title, columns, rows, tuple(whole.numeric[column] for column in kept))


def markdown_page(comparison: Comparison) -> str:
    """Return the comparison as a Markdown page: cautions, findings, tables, methods."""
    cautions = [f"- {markdown(text)}" for text in comparison.cautions]
    parts = [
        f"# Comparison by {markdown(comparison.metric_words)}: {markdown(comparison.task)}",
        *(("## Read this first", "\n".join(cautions)) if cautions else ()),
        "## Findings",
        "\n\n".join(markdown(text) for text in comparison.findings),
        "## Tables",
        *(markdown_table(table) for table in comparison_tables(comparison)),
        "## Methods",
        " ".join(markdown(text) for text in comparison.methods),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def latex_page(comparison: Comparison) -> str:
    r"""Return the tables and the findings as LaTeX, to be read with ``\input``."""
    tables = comparison_tables(comparison)
    of_studies = ("tab:studies", "tab:study-pairs") if comparison.studies else ()
    labels = ("tab:models", "tab:pairs", *of_studies, "tab:sensors")[: len(tables)]
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}.",
            *(latex_table(table, label) for label, table in zip(labels, tables, strict=True)),
            latex(" ".join((*comparison.findings, *comparison.methods))),
            "",
        ]
    )


def comparison_figures(comparison: Comparison) -> tuple[Drawing, ...]:
    """Return the figures of a comparison: ranks where there are three models or more, and the differences."""
    figures = [critical_difference_figure(comparison)] if comparison.friedman else []
    return (*figures, *([differences_figure(comparison)] if len(comparison.pairs) <= _MOST_PAIRS else ()))


def alike(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """Return first and last index of the largest groups of sorted ranks no further apart than ``difference``.

    Groups have two members or more, and none lies inside another.

    >>> alike([1.0, 1.5, 2.6, 4.0], 1.2)
    [(0, 1), (1, 2)]
    """
    groups: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(place for place, other in enumerate(ranks) if other - rank <= difference)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


def critical_difference_figure(comparison: Comparison) -> Drawing:
    """Return average ranks on a line; a bar joins models whose ranks are not shown to differ (Demsar 2006)."""
    ranked = sorted(comparison.contenders, key=lambda c: (c.average_rank, c.label))
    width = comparison.friedman["critical_difference"] or 0.0
    groups = alike([c.average_rank for c in ranked], width)
    n_left = (len(ranked) + 1) // 2
    depth = 0.8 + 0.28 * len(groups)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_axis_off()
        _rank_axis(axes, len(ranked), width)
        for place, contender in enumerate(ranked):
            is_left = place < n_left
            row = place if is_left else len(ranked) - 1 - place
            _leader(axes, contender, len(ranked), depth + 0.55 * row, is_left=is_left)
        for number, (first, last) in enumerate(groups):
            ends = [ranked[first].average_rank - 0.03, ranked[last].average_rank + 0.03]
            axes.plot(ends, [0.5 + 0.28 * number] * 2, color=BLUE, linewidth=4, solid_capstyle="butt")
        axes.set_ylim(depth + 0.55 * n_left, -1.7)

    caption = (
        f"Average ranks by {comparison.metric_words} over {_subjects(comparison)}, 1 is best. Models "
        "joined by a bar are not shown to differ at the 0.05 level: their ranks lie no further apart than the critical "
        f"difference of {width:.2f} (Nemenyi). {RANKS_AND_PAIRS}{_disagreements(comparison, width)}"
    )
    data = FigureData(("model", "average rank"), tuple((c.label, c.average_rank) for c in ranked))
    return draw("critical-difference", "Critical difference of ranks", caption, 1.6 + 0.32 * n_left, paint).with_data(
        data
    )


def _disagreements(comparison: Comparison, width: float) -> str:
    """Name the pairs of which the figure of ranks and the table of pairs say different things."""
    ranks = {c.label: c.average_rank for c in comparison.contenders}
    joined: list[str] = []
    apart: list[str] = []
    for pair in comparison.pairs:
        is_joined = abs(ranks[pair.first] - ranks[pair.second]) <= width
        if is_joined == pair.is_established:
            (joined if is_joined else apart).append(f"{pair.first} and {pair.second}")
    sentences = [
        (joined, "joined by a bar here and significant in the table"),
        (apart, "not joined here and not significant in the table"),
    ]
    words = "; ".join(f"{listed(names)} ({what})" for names, what in sentences if names)
    return f" They disagree on {words}." if words else " Here they agree on every pair in the table."


def _rank_axis(axes: Axes, n: int, width: float) -> None:
    """Draw the line of ranks with its ticks, and the critical difference above it."""
    axes.plot([1, n], [0, 0], color=INK, linewidth=1.0)
    for rank in range(1, n + 1):
        axes.plot([rank, rank], [0, -0.15], color=INK, linewidth=1.0)
        axes.text(rank, -0.25, str(rank), ha="center", va="bottom")
    axes.plot([1, 1 + width], [-1.0, -1.0], color=INK, linewidth=1.6, marker="|", markersize=8)
    axes.text(1 + width / 2, -1.15, f"critical difference {width:.2f}", ha="center", va="bottom")


def _leader(axes: Axes, contender: Contender, n: int, depth: float, *, is_left: bool) -> None:
    """Draw the line from a model's rank to its name."""
    rank, margin = contender.average_rank, 0.08 * (n - 1)
    end = 1 - margin if is_left else n + margin
    axes.plot([rank, rank, end], [0, depth, depth], color=FAINT if contender.is_probe else INK, linewidth=0.9)
    gap = -0.02 * (n - 1) if is_left else 0.02 * (n - 1)
    axes.text(
        end + gap, depth, f"{shortened(contender.label, 30)} {rank:.2f}", ha="right" if is_left else "left", va="center"
    )


def differences_figure(comparison: Comparison) -> Drawing:
    """Return the mean difference of every pair with its interval, beside what could have been detected."""
    names = [row[0] for row in pair_table(comparison).rows]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0.0, color=INK, linestyle="--", linewidth=0.9)
        for row, pair in enumerate(comparison.pairs):
            least = pair.smallest_detectable
            if least is not None:
                axes.barh(row, 2 * least, left=-least, height=0.62, color=FAINT, alpha=0.3, linewidth=0)
            mean, bars = pair.mean_difference, reach(pair.mean_difference, pair.ci95)
            face = BLUE if pair.is_established else "white"
            axes.errorbar([mean], [row], xerr=bars, fmt="o", color=BLUE, markerfacecolor=face, capsize=3)
        name_rows(axes, [shortened(name, 44) for name in names])
        axes.margins(x=0.04)
        axes.grid(axis="x")
        axes.set_xlabel(f"mean difference in {comparison.metric_words}, first minus second")

    differences = "; ".join(
        f"{name} {pair.mean_difference:+.3f}" for name, pair in zip(names[:6], comparison.pairs[:6], strict=True)
    )
    caption = (
        f"Mean difference within {_subjects(comparison)} with its 95 % bootstrap interval over "
        "subjects; filled where the Holm-adjusted exact signed-rank p is below 0.05. The grey band is what this many "
        f"subjects would miss in more than one study of five. {differences}."
    )
    rows = tuple(
        (p.first, p.second, p.n, p.mean_difference, *(p.ci95 or (None, None)), p.p_holm) for p in comparison.pairs
    )
    data = FigureData(("first", "second", "subjects", "first minus second", "low", "high", "p Holm"), rows)
    return draw("differences", "Differences between models", caption, 1.0 + 0.34 * len(names), paint).with_data(data)
