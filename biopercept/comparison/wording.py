"""What a comparison means, in sentences: what is significant and what is not, how it was done, what to know first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from biopercept.comparison.matching import Matched
from biopercept.comparison.statistics import smallest_p
from biopercept.report.text import SPLITS, count, interval_text, listed, p_value, score, shown, with_interval
from biopercept.report.warnings import PROBE_MEANING
from biopercept.results.comparison import Comparison, Pair
from biopercept.results.cross_validation import CrossValidation
from biopercept.results.reading import FEW_SUBJECTS

_MOST_NAMED = 12


def findings_of(comparison: Comparison) -> tuple[str, ...]:
    """Return a paragraph that can be quoted: what was compared, which differences are significant, which are not."""
    return (_opening(comparison), *_significant(comparison), *_not_significant(comparison), *_over_all(comparison))


def _opening(comparison: Comparison) -> str:
    means = "; ".join(f"{c.label} {with_interval(c.mean, c.ci95)}" for c in comparison.contenders[:_MOST_NAMED])
    against = f", each with {comparison.reference}" if comparison.reference else ""
    return (
        f"{count(len(comparison.contenders), 'cross-validation')} of task {comparison.task} "
        f"({', '.join(comparison.classes)}) were "
        f"compared by {comparison.metric_words} over the same {count(comparison.n_subjects, 'subject')} and "
        f"{count(comparison.n_windows, 'window')} ({SPLITS.get(comparison.split, comparison.split)}), in "
        f"{count(len(comparison.pairs), 'pair')}{against}. Mean over subjects [95 % CI]: {means}."
    )


def _better(pair: Pair, comparison: Comparison) -> tuple[str, str, int]:
    """Return who is better by the mean, who is worse, and for how many subjects that holds."""
    if (pair.mean_difference >= 0) == comparison.higher_is_better:
        return pair.first, pair.second, pair.wins
    return pair.second, pair.first, pair.losses


def _significant(comparison: Comparison) -> Iterator[str]:
    pairs = [pair for pair in comparison.pairs if pair.is_established]
    if not pairs:
        yield "No difference is significant at the 0.05 level."
        return
    parts = []
    for pair in pairs[:_MOST_NAMED]:
        better, worse, n_better = _better(pair, comparison)
        parts.append(
            f"{better} is better than {worse} by {_size(pair)}, Holm-adjusted p {_is(pair.p_holm)}, better for "
            f"{n_better} of {count(pair.n, 'subject')}"
        )
    yield f"Significant at the 0.05 level: {'; '.join(parts)}{_and_more(pairs)}."


def _size(pair: Pair) -> str:
    """Return the size of a difference with its interval, both without sign."""
    if pair.ci95 is None:
        return score(abs(pair.mean_difference))
    low, high = pair.ci95 if pair.mean_difference >= 0 else (-pair.ci95[1], -pair.ci95[0])
    return with_interval(abs(pair.mean_difference), (low, high))


def _is(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _and_more(pairs: Sequence[Pair]) -> str:
    return f"; and {len(pairs) - _MOST_NAMED} more" if len(pairs) > _MOST_NAMED else ""


def _not_significant(comparison: Comparison) -> Iterator[str]:
    pairs = [pair for pair in comparison.pairs if not pair.is_established]
    if not pairs:
        return
    parts = []
    for pair in pairs[:_MOST_NAMED]:
        difference = interval_text(pair.mean_difference, pair.ci95, "{:+.3f}")
        least = (
            "no smallest detectable difference can be given"
            if pair.smallest_detectable is None
            else f"smallest detectable difference {score(pair.smallest_detectable)}"
        )
        parts.append(
            f"{pair.first} minus {pair.second}: {difference}, Holm-adjusted p {_is(pair.p_holm)}, n = {pair.n}, {least}"
        )
    yield (
        f"Not significant: {'; '.join(parts)}{_and_more(pairs)}. Not significant does not mean equal: a true "
        "difference below the smallest detectable one would be missed in more than one study of five."
    )


def _over_all(comparison: Comparison) -> Iterator[str]:
    if not comparison.friedman:
        return
    f, p_f = comparison.friedman["f"], comparison.friedman["p_f"]
    f_words = "" if f is None or p_f is None else f" (Iman and Davenport's F = {f:.2f}, p {_is(p_f)})"
    ranks = "; ".join(
        f"{c.label} {c.average_rank:.2f}"
        for c in sorted(comparison.contenders, key=lambda c: c.average_rank)[:_MOST_NAMED]
    )
    yield (
        f"Over all models, Friedman's chi-square = {comparison.friedman['chi_square'] or 0.0:.2f} with "
        f"{len(comparison.contenders) - 1} degrees of freedom, p {_is(comparison.friedman['p'] or 0.0)}{f_words}; "
        "average ranks "
        f"(1 is best): {ranks}; two ranks differ at the 0.05 level where they lie more than "
        f"{comparison.friedman['critical_difference'] or 0.0:.2f} apart (Nemenyi)."
    )


def methods_of(comparison: Comparison) -> tuple[str, ...]:
    """Return sentences that say how the numbers were made."""
    pairs = "every pair" if not comparison.reference else f"every model with {comparison.reference}"
    ties = any(pair.n_zero or pair.ties for pair in comparison.pairs)
    methods = {pair.p_method for pair in comparison.pairs}
    return (
        f"The unit is the subject: a score within each subject, the difference of two models within each subject, "
        f"n = {comparison.n_subjects}. {pairs.capitalize()} was tested with Wilcoxon's two-sided signed-rank test, "
        f"{_p_words(methods)}; differences of 0 are ranked and then left out (Pratt)"
        f"{', ties share the mean rank and the distribution is that of the ranks at hand' if ties else ''}.",
        f"P-values are adjusted for {count(len(comparison.pairs), 'pair')} by Holm's method; significant means an "
        "adjusted "
        "p below 0.05.",
        f"Intervals of means, mean differences and the matched rank-biserial correlation are 95 % percentile bootstrap "
        f"intervals over subjects ({comparison.n_resamples:,} resamples, seed {comparison.seed}); that of Cohen's dz "
        "(mean "
        "difference over its standard deviation) comes from the noncentral t distribution.",
        "The smallest detectable difference is the true mean difference that a two-sided paired t-test at 0.05 finds "
        "with 80 % power, from the noncentral t distribution with this n and this standard deviation of differences; "
        f"adjusted, at 0.05 / {len(comparison.pairs)}.",
        *_method_of_friedman(comparison),
        *_method_of_folds(comparison),
    )


def _p_words(methods: Set[str]) -> str:
    if methods == {"exact"}:
        return "exact"
    return "by its normal approximation where more than 1000 subjects differ, else exact"


def _method_of_friedman(comparison: Comparison) -> Iterator[str]:
    if comparison.friedman:
        yield (
            "Friedman's test is corrected for ties and uses the chi-square approximation; the critical difference is "
            "Nemenyi's, from the studentised range (Demsar 2006). It is not adjusted together with the pairs."
        )


def _method_of_folds(comparison: Comparison) -> Iterator[str]:
    ratios = [pair.split_ratio for pair in comparison.pairs if pair.split_ratio is not None]
    if ratios:
        yield (
            "Beside it stands Nadeau and Bengio's corrected resampled t over folds, of mean scores per fold, its "
            "variance corrected by tested over trained subjects "
            f"({score(ratios[0])}) because training sets overlap; with few folds it has little power."
        )


def cautions_of(comparison: Comparison, matched: Matched, unfinished: Sequence[str]) -> tuple[str, ...]:
    """Return what must be known before the numbers, the grave things first."""
    validations = matched.validations
    return tuple(
        dict.fromkeys(
            [
                *_of_unlike_runs(validations, matched.labels),
                *_of_folds(matched),
                *_of_probes(comparison, validations, matched.labels),
                *_of_size(comparison),
                *(f"The cross-validation in {name} has not finished and is not compared." for name in unfinished),
            ]
        )
    )


def _of_unlike_runs(validations: Sequence[CrossValidation], labels: Sequence[str]) -> Iterator[str]:
    for validation, label in zip(validations, labels, strict=True):
        for warning in validation.warnings:
            if warning.startswith("LEAK"):
                yield f"{label}: {warning}."
    transductive = [n for v, n in zip(validations, labels, strict=True) if v.is_transductive]
    if transductive and len(transductive) < len(labels):
        yield (
            f"Transductive and not: {listed(transductive)} saw each tested recording whole, its future included, the "
            "others did not; a difference between them says nothing about the models."
        )
    elif transductive:
        yield (
            "All are transductive: each tested recording was scaled, or its threshold moved, by the whole of itself, "
            "its future included."
        )
    yield from _of_differences(validations, labels)


def _of_differences(validations: Sequence[CrossValidation], labels: Sequence[str]) -> Iterator[str]:
    held_fixed = (
        ("scaled differently (normalisation {})", [v.normalisation for v in validations]),
        ("averaged over different numbers of seeds ({})", [str(v.seeds) for v in validations]),
        ("run by different versions of biopercept ({})", [v.fingerprint.get("biopercept", "?") for v in validations]),
    )
    for words, values in held_fixed:
        if len(set(values)) > 1:
            stated = ", ".join(f"{label}: {shown(value)}" for label, value in zip(labels, values, strict=True))
            yield f"The models were {words.format(stated)}: a difference can come from that."


def _of_folds(matched: Matched) -> Iterator[str]:
    if len({partition.tests for partition in matched.partitions}) > 1:
        yield (
            "The subjects were divided into folds differently: each score is of a held-out subject, but the "
            "models "
            "learnt from different people; run cross-validate with the same --folds and --seed to compare more sharply."
        )


def _of_probes(comparison: Comparison, validations: Sequence[CrossValidation], labels: Sequence[str]) -> Iterator[str]:
    probes = {label for validation, label in zip(validations, labels, strict=True) if validation.is_probe}
    for validation, label in zip(validations, labels, strict=True):
        if not validation.is_probe:
            continue
        not_above = _not_above(comparison, label, probes)
        more = f" Not significantly better than it: {listed(not_above)}." if not_above else ""
        yield f"{label} is a probe that must not be good: {PROBE_MEANING[validation.model]}.{more}"


def _not_above(comparison: Comparison, probe: str, probes: set[str]) -> list[str]:
    """Return the models that were compared with a probe and are not significantly better than it."""
    models = []
    for pair in comparison.pairs:
        better, _, _ = _better(pair, comparison)
        other = pair.second if pair.first == probe else pair.first
        if probe in (pair.first, pair.second) and other not in probes and not (pair.is_established and better == other):
            models.append(other)
    return models


def _of_size(comparison: Comparison) -> Iterator[str]:
    n, n_pairs = comparison.n_subjects, len(comparison.pairs)
    if min(1.0, smallest_p(n) * n_pairs) >= 0.05:
        yield (
            f"With {count(n, 'subject')} and {count(n_pairs, 'pair')} the smallest adjusted p that the signed-rank "
            f"test can give is {score(min(1.0, smallest_p(n) * n_pairs))}: no single difference can be significant."
        )
    elif n < FEW_SUBJECTS:
        yield f"Only {count(n, 'subject')}: intervals are rough and small differences will be missed."
    if comparison.left_out:
        yield (
            f"{count(len(comparison.left_out), 'subject')} without a defined {comparison.metric_words} left out: "
            f"{listed(comparison.left_out)}."
        )
