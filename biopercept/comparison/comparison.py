"""The comparison itself: every pair over subjects, all models at once, what a reader must know, its files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.comparison.matching import METRICS, Matched, find_validations, index_of, match
from biopercept.comparison.statistics import (
    cohens_dz,
    cohens_dz_interval,
    corrected_resampled_t,
    friedman_test,
    holm,
    rank_biserial_interval,
    signed_rank_test,
    smallest_detectable_difference,
    spread,
    without_noise,
)
from biopercept.comparison.wording import cautions_of, findings_of, methods_of
from biopercept.errors import SettingsError
from biopercept.evaluation.metrics import bootstrap_interval
from biopercept.files import only_writer, write_bytes, write_text
from biopercept.report.comparison import comparison_figures, latex_page, markdown_page
from biopercept.results.comparison import Comparison, Contender, Pair
from biopercept.results.reading import write_result, write_rows

ALPHA = 0.05
LEAST_RESAMPLES = 2000
FILES = (Comparison.FILE, "compare.csv", "compare.md", "compare.tex", "report.html")


def compare(
    folders: Sequence[Path],
    *,
    metric: str = "balanced_accuracy",
    reference: str | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Return the paired comparison of several cross-validations of the same study.

    Raises StudyError where a folder holds nothing finished, or two of them cannot be compared. Raises SettingsError
    where the metric, the reference or the number of resamples is not allowed.

    Parameters
    ----------
    folders : sequence of Path
        Folders of ``cross-validate``, or parents of several.
    metric : str
        A column of ``scores.csv``: balanced_accuracy, macro_f1, auroc, mcc, brier or ece.
    reference : str, optional
        Folder, name or model that all others are compared with; None compares all pairs.
    n_resamples : int
        Of the subjects, for intervals; at least 2000.
    """
    if n_resamples < LEAST_RESAMPLES:
        raise SettingsError(f"{n_resamples} resamples; at least {LEAST_RESAMPLES} are needed for a 95 % interval")
    validations, unfinished = find_validations(folders)
    matched = match(validations, metric)
    chosen = None if reference is None else index_of(reference, matched)
    is_better = METRICS[metric]
    contenders = _contenders(matched, n_resamples=n_resamples, seed=seed)
    order = _by_merit(contenders, higher_is_better=is_better)
    compared = _compared(order, chosen)
    pairs = [_pair(matched, i, j, n_pairs=len(compared), n_resamples=n_resamples, seed=seed) for i, j in compared]
    bare = Comparison(
        task=validations[0].task,
        classes=validations[0].classes,
        metric=metric,
        higher_is_better=is_better,
        split=validations[0].split,
        n_subjects=len(matched.subjects),
        left_out=matched.left_out,
        n_windows=len(validations[0].predictions),
        reference="" if chosen is None else matched.labels[chosen],
        n_resamples=n_resamples,
        seed=seed,
        store=validations[0].fingerprint["store"],
        contenders=tuple(contenders[index] for index in order),
        pairs=_holm_over_pairs(pairs),
        friedman=_over_all(matched),
        cautions=(),
        findings=(),
        methods=(),
    )
    return replace(
        bare,
        cautions=cautions_of(bare, matched, unfinished),
        findings=findings_of(bare),
        methods=methods_of(bare),
    )


def _over_all(matched: Matched) -> dict[str, float | None]:
    """Return Friedman's test over three models or more, as named values."""
    if len(matched.labels) < 3:
        return {}
    test = asdict(friedman_test(matched.scores, higher_is_better=METRICS[matched.metric]))
    return {name: test[name] for name in ("chi_square", "p", "f", "p_f", "critical_difference")}


def _contenders(matched: Matched, *, n_resamples: int, seed: int) -> tuple[Contender, ...]:
    from scipy.stats import rankdata

    sign = -1.0 if METRICS[matched.metric] else 1.0
    ranks = rankdata(without_noise(sign * matched.scores), axis=1).mean(axis=0)
    return tuple(
        Contender(
            label=label,
            model=run.model,
            name=run.name,
            normalisation=run.normalisation,
            mean=float(column.mean()),
            ci95=bootstrap_interval(column, seed=seed, n_bootstrap=n_resamples),
            sd=float(column.std(ddof=1)),
            average_rank=float(rank),
            is_probe=run.is_probe,
            is_transductive=run.is_transductive,
        )
        for run, label, column, rank in zip(matched.validations, matched.labels, matched.scores.T, ranks, strict=True)
    )


def _by_merit(contenders: Sequence[Contender], *, higher_is_better: bool) -> list[int]:
    sign = -1.0 if higher_is_better else 1.0
    return sorted(range(len(contenders)), key=lambda i: (sign * contenders[i].mean, contenders[i].label))


def _compared(order: Sequence[int], reference: int | None) -> list[tuple[int, int]]:
    """Return which are compared: every two, the better one first, or every one with the reference."""
    if reference is None:
        return list(combinations(order, 2))
    return [(index, reference) for index in order if index != reference]


def _pair(matched: Matched, i: int, j: int, *, n_pairs: int, n_resamples: int, seed: int) -> Pair:
    """Return the comparison of two columns; the Holm-adjusted values are filled in later."""
    differences = without_noise(matched.scores[:, i] - matched.scores[:, j])
    n, sd = len(differences), spread(differences)
    ranks, dz = signed_rank_test(differences), cohens_dz(differences)
    gains = differences if METRICS[matched.metric] else -differences
    split = _split_test(matched, i, j)
    return Pair(
        first=matched.labels[i],
        second=matched.labels[j],
        n=n,
        mean_difference=float(differences.mean()),
        ci95=bootstrap_interval(differences, seed=seed, n_bootstrap=n_resamples),
        sd=sd,
        wins=int((gains > 0).sum()),
        ties=int((gains == 0).sum()),
        losses=int((gains < 0).sum()),
        rank_sum_positive=ranks.positive,
        rank_sum_negative=ranks.negative,
        p=ranks.p,
        p_holm=ranks.p,
        p_method=ranks.method,
        n_zero=ranks.n_zero,
        rank_biserial=ranks.rank_biserial,
        rank_biserial_ci95=rank_biserial_interval(differences, seed=seed, n_resamples=n_resamples),
        dz=dz,
        dz_ci95=None if dz is None else cohens_dz_interval(dz, n),
        smallest_detectable=smallest_detectable_difference(sd, n, alpha=ALPHA),
        smallest_detectable_adjusted=smallest_detectable_difference(sd, n, alpha=ALPHA / n_pairs),
        is_established=False,
        **split,
    )


def _split_test(matched: Matched, i: int, j: int) -> dict[str, Any]:
    """Return Nadeau and Bengio's test over the folds that both share; nothing where the split is not k-fold."""
    if not matched.partitions or matched.partitions[i].tests != matched.partitions[j].tests:
        return {}
    index = {subject: row for row, subject in enumerate(matched.subjects)}
    differences, n_tested, n_trained = [], [], []
    for test, n_train in zip(matched.partitions[i].tests, matched.partitions[i].n_trained, strict=True):
        rows = [index[subject] for subject in test if subject in index]
        if rows and n_train:
            differences.append(float(np.mean(matched.scores[rows, i] - matched.scores[rows, j])))
            n_tested.append(len(test))
            n_trained.append(n_train)
    values: NDArray[np.float64] = np.array(differences, dtype=np.float64)
    result = corrected_resampled_t(values, float(np.mean(n_tested)), float(np.mean(n_trained))) if n_tested else None
    if result is None:
        return {}
    return {
        "split_t": result.t,
        "split_p": result.p,
        "split_p_holm": result.p,
        "split_ratio": result.ratio,
        "n_splits": result.n_splits,
    }


def _holm_over_pairs(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Return the pairs with p-values adjusted for how many there are, and what is thereby significant."""
    adjusted = holm([pair.p for pair in pairs])
    with_splits = [index for index, pair in enumerate(pairs) if pair.split_p is not None]
    split_adjusted = dict(zip(with_splits, holm([pairs[index].split_p or 0.0 for index in with_splits]), strict=True))
    return tuple(
        replace(pair, p_holm=p, is_established=p < ALPHA, split_p_holm=split_adjusted.get(index))
        for index, (pair, p) in enumerate(zip(pairs, adjusted, strict=True))
    )


def write_comparison(comparison: Comparison, output: Path) -> None:
    """Write ``compare.json``, ``.csv``, ``.md``, ``.tex`` and ``figures/`` to a folder; other files in it stay.

    Raises OutputError where a file cannot be written. Raises BusyError where another process is writing there.
    """
    with only_writer(output):
        for name in FILES:
            (output / name).unlink(missing_ok=True)
        if (output / "figures").is_dir() and not (output / "figures").is_symlink():
            shutil.rmtree(output / "figures")
        for figure in comparison_figures(comparison):
            write_bytes(output / "figures" / f"{figure.name}.svg", figure.svg)
        write_rows(output / "compare.csv", comparison.pairs)
        write_text(output / "compare.md", markdown_page(comparison))
        write_text(output / "compare.tex", latex_page(comparison))
        write_result(output / Comparison.FILE, comparison)
