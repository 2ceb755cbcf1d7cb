"""What a comparison means, in sentences: what is significant and what is not, how it was done, what to know first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any

from biopercept.comparison.matching import Matched, MatchedStudy
from biopercept.errors import count
from biopercept.measures.statistics import smallest_p
from biopercept.report.text import SPLITS, interval_text, listed, p_value, score, shown, with_interval
from biopercept.report.warnings import PROBE_MEANING
from biopercept.results.comparison import RANKS_AND_PAIRS, SENSOR_METRICS, Comparison, Pair, SensorCost
from biopercept.results.cross_validation import CrossValidation
from biopercept.results.reading import FEW_SUBJECTS
from biopercept.typed_values import Interval

ALPHA = 0.05

_MOST_NAMED = 12


def findings_of(comparison: Comparison) -> tuple[str, ...]:
    """Return a paragraph that can be quoted: what was compared, which differences are significant, which are not."""
    return (
        _opening(comparison),
        *_significant(comparison),
        *_not_significant(comparison),
        *_by_study(comparison),
        *_over_all(comparison),
        *_ranks_beside_pairs(comparison),
        *_sensors(comparison),
    )


def _opening(comparison: Comparison) -> str:
    means = "; ".join(f"{c.label} {with_interval(c.mean, c.ci95)}" for c in comparison.contenders[:_MOST_NAMED])
    against = f", each with {comparison.reference}" if comparison.reference else ""
    if comparison.studies:
        studies = "; ".join(f"{s.study}: {s.task}, {count(s.n_subjects, 'subject')}" for s in comparison.studies)
        return (
            f"{count(len(comparison.contenders), 'model')} were compared by {comparison.metric_words} over the "
            f"{count(comparison.n_subjects, 'subject')} of {count(len(comparison.studies), 'study', 'studies')} "
            f"({studies}), subject by subject within the study, in {count(len(comparison.pairs), 'pair')}{against}. "
            f"Mean over subjects [95 % CI]: {means}."
        )
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
    return _unsigned(pair.mean_difference, pair.ci95)


def _unsigned(mean: float, ci95: Interval | None) -> str:
    if ci95 is None:
        return score(abs(mean))
    return with_interval(abs(mean), ci95 if mean >= 0 else (-ci95[1], -ci95[0]))


def _is(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _and_more(pairs: Sequence[object]) -> str:
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


def _by_study(comparison: Comparison) -> Iterator[str]:
    """Say what each of several studies says by itself, and whether it matters that some have more subjects."""
    if not comparison.studies:
        return
    yield _below_in_a_study(comparison) if comparison.reference else _turned_in_a_study(comparison)
    unlike = [pair for pair in comparison.pairs if ((pair.flip_p_holm or 0.0) < ALPHA) != pair.is_established]
    if not unlike:
        yield (
            "With every study counting the same, however many subjects it has (mean of the studies' means, permutation "
            "of signs), the same differences are significant."
        )
        return
    parts = [
        f"{pair.first} minus {pair.second} "
        f"({interval_text(pair.mean_of_studies, pair.mean_of_studies_ci95, '{:+.3f}')}, Holm-adjusted p "
        f"{_is(pair.flip_p_holm or 0.0)}, over subjects {_is(pair.p_holm)})"
        for pair in unlike[:_MOST_NAMED]
    ]
    yield (
        "It matters whether subjects or studies count the same (mean of the studies' means, "
        f"permutation of signs): {'; '.join(parts)}{_and_more(unlike)}. Such a difference should not be claimed for "
        "the studies together without that."
    )


def _below_in_a_study(comparison: Comparison) -> str:
    """Say in which studies the reference is below which models, by the mean."""
    reference, sign = comparison.reference, 1.0 if comparison.higher_is_better else -1.0
    parts = []
    for study in comparison.studies:
        others = [c.label for c in comparison.contenders if c.label != reference]
        differences = {label: study.difference(label, reference) for label in others}
        above = {label: values for label, values in differences.items() if sign * values[0] > 0}
        if above:
            named = [
                f"{label} by {_unsigned(mean, ci95)}, Holm-adjusted p {_is(p)}"
                for label, (mean, ci95, p) in above.items()
            ]
            n_significant = sum(p < ALPHA for _, _, p in above.values())
            parts.append(f"on {study.study} below {'; '.join(named)} ({n_significant or 'none'} significant)")
    n = count(len(comparison.studies), "study", "studies")
    if not parts:
        return f"On each of {n} by itself the mean of {reference} is below that of no other model."
    rest = f"; on the others of {n} below none" if len(parts) < len(comparison.studies) else ""
    return f"By the means of each study by itself, {reference} is {'; '.join(parts)}{rest}."


def _turned_in_a_study(comparison: Comparison) -> str:
    """Say which differences over all subjects have the other sign in a study."""
    parts = []
    for pair in comparison.pairs:
        by_study = [(s.study, *s.difference(pair.first, pair.second)) for s in comparison.studies]
        turned = [
            f"{study} {interval_text(mean, ci95, '{:+.3f}')}"
            for study, mean, ci95, _ in by_study
            if mean * pair.mean_difference < 0
        ]
        if turned:
            parts.append(f"{pair.first} minus {pair.second} ({', '.join(turned)})")
    n = count(len(comparison.studies), "study", "studies")
    if not parts:
        return f"On each of {n} by itself every difference has the same direction as over all subjects."
    more = f"; and {len(parts) - _MOST_NAMED} more" if len(parts) > _MOST_NAMED else ""
    return f"A study by itself has the other direction for {'; '.join(parts[:_MOST_NAMED])}{more}."


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


def _ranks_beside_pairs(comparison: Comparison) -> Iterator[str]:
    """Name the pairs of which the ranks of all models say something else than the tests of pairs, and why they can."""
    width = comparison.friedman.get("critical_difference") if comparison.friedman else None
    if width is None:
        return
    ranks = {c.label: c.average_rank for c in comparison.contenders}
    unlike = []
    for pair in comparison.pairs:
        apart = abs(ranks[pair.first] - ranks[pair.second])
        if (apart > width) != pair.is_established:
            verdict = "significant in the table" if pair.is_established else "not significant in the table"
            unlike.append(f"{pair.first} and {pair.second} (ranks {apart:.2f} apart, {verdict})")
    if unlike:
        named = f"{'; '.join(unlike[:_MOST_NAMED])}{_and_more(unlike)}"
        yield f"Ranks and pairs differ on {named}. {RANKS_AND_PAIRS}"


def _sensors(comparison: Comparison) -> Iterator[str]:
    """Say what a missing sensor costs on average over sensors, and who loses more or less than the reference."""
    means = [cost for cost in comparison.sensor_costs if not cost.sensor and cost.cost is not None]
    if not means:
        return
    costs = "; ".join(f"{c.model} {with_interval(c.cost, c.ci95)}" for c in means[:_MOST_NAMED])
    text = (
        f"A missing sensor costs, as {comparison.metric_words} averaged over the sensors of a subject and then over "
        f"subjects [95 % CI]: {costs}."
    )
    compared = [c for c in means if c.more is not None and c.model != comparison.reference]
    if compared:
        parts = [f"{c.model} {interval_text(c.more, c.more_ci95, '{:+.3f}')} ({_more_words(c)})" for c in compared]
        text += (
            f" More than it costs {comparison.reference}, paired: {'; '.join(parts[:_MOST_NAMED])}{_and_more(parts)}."
        )
    yield text


def _more_words(cost: SensorCost) -> str:
    low, high = cost.more_ci95 or (-1.0, 1.0)
    return "loses more" if low > 0 else "loses less" if high < 0 else "the interval holds 0"


def methods_of(comparison: Comparison) -> tuple[str, ...]:
    """Return sentences that say how the numbers were made."""
    pairs = "every pair" if not comparison.reference else f"every model with {comparison.reference}"
    ties = any(pair.n_zero or pair.ties for pair in comparison.pairs)
    methods = {pair.p_method for pair in comparison.pairs}
    return (
        "The unit is the subject: a score within each subject, the difference of two models within each subject, "
        f"n = {comparison.n_subjects}. {pairs.capitalize()} was tested with Wilcoxon's two-sided signed-rank test, "
        f"{_p_words(methods)}; differences of 0 are ranked and then left out (Pratt)"
        f"{', ties share the mean rank and the distribution is that of the ranks at hand' if ties else ''}.",
        f"P-values are adjusted for {count(len(comparison.pairs), 'pair')} by Holm's method; significant means an "
        "adjusted "
        "p below 0.05.",
        "Intervals of means, mean differences and the matched rank-biserial correlation are 95 % percentile bootstrap "
        f"intervals over subjects ({comparison.n_resamples:,} resamples, seed {comparison.seed}). Those in the scores "
        "of a model by itself are of as many as its settings say, 2,000 as a rule, and may differ in the third decimal."
        " That of Cohen's dz (mean difference over its standard deviation) comes from the noncentral t distribution.",
        "The smallest detectable difference is the true mean difference that a two-sided paired t-test at 0.05 finds "
        "with 80 % power, from the noncentral t distribution with this n and this standard deviation of differences; "
        f"adjusted, at 0.05 / {len(comparison.pairs)}.",
        *_method_of_studies(comparison),
        *_method_of_friedman(comparison),
        *_method_of_folds(comparison),
        *_method_of_sensors(comparison),
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


def _method_of_studies(comparison: Comparison) -> Iterator[str]:
    if comparison.studies:
        yield (
            "Studies are fixed: each subject's difference is taken within the study, subjects are resampled within "
            "it, and nothing is said of studies that are not here. Beside the signed ranks over all subjects, to which "
            "a study adds by its number of subjects and the size of its differences, stands the mean of the studies' "
            "means, in which each counts the same: its p is that of all assignments of signs to the subjects' "
            "differences, or of 100,000 random ones, adjusted by Holm's method as well. What is called significant is "
            "so by the signed ranks. In the tables of single studies p is adjusted within the study."
        )


def _method_of_sensors(comparison: Comparison) -> Iterator[str]:
    if comparison.sensor_costs:
        yield (
            "The cost of a missing sensor is a subject's score with all sensors minus that without it, on the windows "
            "that are still predicted, nothing fitted again; subjects who never had it do not count. Networks get "
            "fewer inputs; models of features get undefined ones (linear models take the training median, trees go the "
            "way their splits send them, late fusion leaves the part out). Differences between models are within "
            "subjects, over sensors that both predict without, and are not tested."
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
    several = len(matched.studies) > 1
    of_studies = [
        f"{study.study}: {text}" if several else text
        for study in matched.studies
        for text in (*_of_unlike_runs(study.validations, study.labels), *_of_folds(study))
    ]
    return tuple(
        dict.fromkeys(
            [
                *sorted(of_studies, key=lambda text: "LEAK" not in text),
                *(_of_mixture(matched) if several else ()),
                *_of_probes(comparison, matched),
                *_of_size(comparison),
                *_of_sensors(comparison, matched),
                *(f"The cross-validation in {name} has not finished and is not compared." for name in unfinished),
            ]
        )
    )


def _of_mixture(matched: Matched) -> Iterator[str]:
    """Say in what the studies differ that makes their scores unlike, and where it is not known which they are."""
    firsts = {study.study: study.validations[0] for study in matched.studies}
    for words, values in (
        ("have different numbers of classes", {name: str(len(run.classes)) for name, run in firsts.items()}),
        ("were split differently", {name: SPLITS.get(run.split, run.split) for name, run in firsts.items()}),
    ):
        if len(set(values.values())) > 1:
            stated = ", ".join(f"{name}: {value}" for name, value in values.items())
            yield (
                f"The studies {words} ({stated}), so a difference is not as large or as hard to reach in each: read "
                "each by itself, too."
            )
    if unknown := [name for name, run in firsts.items() if not run.study_names]:
        yield (
            f"The results of {listed(unknown)} do not say which study they are of (an older version wrote them): that "
            "no study is given twice was not checked."
        )


def _of_sensors(comparison: Comparison, matched: Matched) -> Iterator[str]:
    """Say which models were not scored with missing sensors where others were, or why nothing is said of sensors."""
    without = [
        label
        for label, runs in zip(matched.labels, matched.runs, strict=True)
        if not runs[0].is_probe and not all(run.missing_sensors is not None for run in runs)
    ]
    has_some = any(run.missing_sensors is not None for runs in matched.runs for run in runs)
    if has_some and comparison.metric not in SENSOR_METRICS:
        yield (
            f"What a missing sensor costs was not scored by {comparison.metric_words} and is left out; compare by "
            f"{' or '.join(SENSOR_METRICS)} to see it."
        )
    elif has_some and without:
        yield (
            f"What a missing sensor costs {listed(without)} is not known"
            f"{' in every study' if len(matched.studies) > 1 else ''}; run cross-validate with --missing-sensors."
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


def _of_folds(matched: MatchedStudy) -> Iterator[str]:
    if len({partition.tests for partition in matched.partitions}) > 1:
        yield (
            "The subjects were divided into folds differently: each score is of a held-out subject, but the "
            "models "
            "learnt from different people; run cross-validate with the same --folds and --seed to compare more sharply."
        )


def _of_probes(comparison: Comparison, matched: Matched) -> Iterator[str]:
    models = {label: runs[0] for label, runs in zip(matched.labels, matched.runs, strict=True)}
    probes = {label for label, run in models.items() if run.is_probe}
    for label, run in models.items():
        if not run.is_probe:
            continue
        not_above = _not_above(comparison, label, probes)
        if not not_above and not _is_above_guessing(run):
            continue  # nothing is given away, and every model is better
        more = f" Not significantly better than it: {listed(not_above)}." if not_above else ""
        yield f"{label} is a probe that must not be good: {PROBE_MEANING[run.model]}.{more}"


def _is_above_guessing(run: Any) -> bool:
    """Return whether what a probe reaches is above guessing; of numbers, and where no interval is known, it may be."""
    if not isinstance(run, CrossValidation) or run.balanced_accuracy.ci95 is None:
        return True
    return run.balanced_accuracy.ci95[0] > run.chance_level


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
