"""The comparison itself: every pair over subjects, all models at once, what a reader must know, its files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.comparison.matching import METRICS, Matched, find_validations, index_of, match
from biopercept.comparison.wording import ALPHA, cautions_of, findings_of, methods_of
from biopercept.errors import SettingsError
from biopercept.evaluation.metrics import percentile_interval
from biopercept.files import only_writer, write_bytes, write_text
from biopercept.measures.statistics import (
    cohens_dz,
    cohens_dz_interval,
    corrected_resampled_t,
    friedman_test,
    holm,
    rank_biserial_interval,
    resampled,
    sign_flip_p,
    signed_rank_test,
    smallest_detectable_difference,
    spread,
    study_weights,
    without_noise,
)
from biopercept.report.comparison import comparison_figures, latex_page, markdown_page
from biopercept.results.comparison import POOLED, SENSOR_METRICS, WITHOUT, Comparison, Contender, Pair, SensorCost
from biopercept.results.cross_validation import CrossValidation, load_sensor_scores
from biopercept.results.reading import write_result, write_rows
from biopercept.typed_values import Interval

LEAST_RESAMPLES = 2000
SENSORS_FILE = "sensor_costs.csv"
FILES = (Comparison.FILE, "compare.csv", SENSORS_FILE, "compare.md", "compare.tex", "report.html")


@dataclass(frozen=True)
class _Choices:
    """Which model all others are compared with (None: all pairs), and the resamples of subjects."""

    reference: int | None
    n_resamples: int
    seed: int


def compare(
    folders: Sequence[Path],
    *,
    metric: str = "balanced_accuracy",
    reference: str | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Return the paired comparison of several cross-validations of a study, or of the same models in several studies.

    Of several studies every subject's difference is taken within the study, and the subjects of all are tested
    together; each study stands beside it by itself.

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
    how = _Choices(chosen, n_resamples, seed)
    parts = [_compared_in(Matched((study,), metric), how) for study in matched.studies]
    if len(parts) == 1:
        return _in_words(parts[0], matched, unfinished)
    by_themselves = (_in_words(part, Matched((s,), metric)) for part, s in zip(parts, matched.studies, strict=True))
    return _in_words(replace(_compared_in(matched, how), studies=tuple(by_themselves)), matched, unfinished)


def _in_words(comparison: Comparison, matched: Matched, unfinished: Sequence[str] = ()) -> Comparison:
    return replace(
        comparison,
        cautions=cautions_of(comparison, matched, unfinished),
        findings=findings_of(comparison),
        methods=methods_of(comparison),
    )


def _compared_in(matched: Matched, how: _Choices) -> Comparison:
    """Return the comparison over the subjects of one study, or of several together, without words."""
    firsts = [study.validations[0] for study in matched.studies]
    classes = {run.classes for run in firsts}
    is_better = METRICS[matched.metric]
    contenders = _contenders(matched, how)
    order = _by_merit(contenders, higher_is_better=is_better)
    compared = _compared(order, how.reference)
    pairs = [_pair(matched, i, j, n_pairs=len(compared), how=how) for i, j in compared]
    is_one = len(firsts) == 1
    return Comparison(
        task=_joined(run.task for run in firsts),
        classes=firsts[0].classes if len(classes) == 1 else (),
        metric=matched.metric,
        higher_is_better=is_better,
        split=_joined(run.split for run in firsts),
        n_subjects=len(matched.scores),
        left_out=tuple(s if is_one else f"{of.study}/{s}" for of in matched.studies for s in of.left_out),
        n_windows=sum(len(run.predictions) for run in firsts),
        reference="" if how.reference is None else matched.labels[how.reference],
        n_resamples=how.n_resamples,
        seed=how.seed,
        store=firsts[0].fingerprint["store"] if is_one else "",
        contenders=tuple(contenders[index] for index in order),
        pairs=_holm_over_pairs(pairs),
        friedman=_over_all(matched),
        cautions=(),
        findings=(),
        methods=(),
        study=_study(matched),
        sensor_costs=_sensor_costs(matched, how),
    )


def _study(matched: Matched) -> str:
    return matched.studies[0].study if len(matched.studies) == 1 else POOLED


def _joined(words: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(words))


def _over_all(matched: Matched) -> dict[str, float | None]:
    """Return Friedman's test over three models or more, as named values."""
    if len(matched.labels) < 3:
        return {}
    test = asdict(friedman_test(matched.scores, higher_is_better=METRICS[matched.metric]))
    return {name: test[name] for name in ("chi_square", "p", "f", "p_f", "critical_difference")}


def _contenders(matched: Matched, how: _Choices) -> tuple[Contender, ...]:
    from scipy.stats import rankdata

    sign = -1.0 if METRICS[matched.metric] else 1.0
    ranks = rankdata(without_noise(sign * matched.scores), axis=1).mean(axis=0)
    draws = resampled(matched.sizes, seed=how.seed, n=how.n_resamples)
    return tuple(
        Contender(
            label=label,
            model=runs[0].model,
            name=_joined(run.name for run in runs),
            normalisation=_joined(run.normalisation for run in runs),
            mean=float(column.mean()),
            ci95=percentile_interval(column[draws].mean(axis=1)),
            sd=float(column.std(ddof=1)),
            average_rank=float(rank),
            is_probe=runs[0].is_probe,
            is_transductive=any(run.is_transductive for run in runs),
        )
        for runs, label, column, rank in zip(matched.runs, matched.labels, matched.scores.T, ranks, strict=True)
    )


def _by_merit(contenders: Sequence[Contender], *, higher_is_better: bool) -> list[int]:
    sign = -1.0 if higher_is_better else 1.0
    return sorted(range(len(contenders)), key=lambda i: (sign * contenders[i].mean, contenders[i].label))


def _compared(order: Sequence[int], reference: int | None) -> list[tuple[int, int]]:
    """Return which are compared: every two, the better one first, or every one with the reference."""
    if reference is None:
        return list(combinations(order, 2))
    return [(index, reference) for index in order if index != reference]


def _pair(matched: Matched, i: int, j: int, *, n_pairs: int, how: _Choices) -> Pair:
    """Return the comparison of two columns; the Holm-adjusted values are filled in later."""
    differences = without_noise(matched.scores[:, i] - matched.scores[:, j])
    n, sd, sizes = len(differences), spread(differences), matched.sizes
    ranks, dz = signed_rank_test(differences), cohens_dz(differences)
    gains = differences if METRICS[matched.metric] else -differences
    draws = resampled(sizes, seed=how.seed, n=how.n_resamples)
    of_folds_or_studies = (
        _split_test(matched, i, j) if len(sizes) == 1 else _over_studies(differences, draws, sizes, how)
    )
    return Pair(
        first=matched.labels[i],
        second=matched.labels[j],
        n=n,
        mean_difference=float(differences.mean()),
        ci95=percentile_interval(differences[draws].mean(axis=1)),
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
        rank_biserial_ci95=rank_biserial_interval(differences, seed=how.seed, n_resamples=how.n_resamples, sizes=sizes),
        dz=dz,
        dz_ci95=None if dz is None else cohens_dz_interval(dz, n),
        smallest_detectable=smallest_detectable_difference(sd, n, alpha=ALPHA),
        smallest_detectable_adjusted=smallest_detectable_difference(sd, n, alpha=ALPHA / n_pairs),
        is_established=False,
        study=_study(matched),
        **of_folds_or_studies,
    )


def _over_studies(
    differences: NDArray[np.float64], draws: NDArray[np.int64], sizes: Sequence[int], how: _Choices
) -> dict[str, Any]:
    """Return the difference with every study counting the same, however many subjects it has, and its test."""
    weighted = differences * study_weights(sizes)
    p = sign_flip_p(differences, sizes, seed=how.seed)
    return {
        "mean_of_studies": float(weighted.sum()),
        "mean_of_studies_ci95": percentile_interval(weighted[draws].sum(axis=1)),
        "flip_p": p,
        "flip_p_holm": p,
    }


def _split_test(matched: Matched, i: int, j: int) -> dict[str, Any]:
    """Return Nadeau and Bengio's test over the folds that both share; nothing where the split is not k-fold."""
    [study] = matched.studies
    if not study.partitions or study.partitions[i].tests != study.partitions[j].tests:
        return {}
    index = {subject: row for row, subject in enumerate(study.subjects)}
    differences, n_tested, n_trained = [], [], []
    for test, n_train in zip(study.partitions[i].tests, study.partitions[i].n_trained, strict=True):
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
    of_splits = _holm_where_known([pair.split_p for pair in pairs])
    of_flips = _holm_where_known([pair.flip_p for pair in pairs])
    return tuple(
        replace(pair, p_holm=p, is_established=p < ALPHA, split_p_holm=of_split, flip_p_holm=of_flip)
        for pair, p, of_split, of_flip in zip(pairs, adjusted, of_splits, of_flips, strict=True)
    )


def _holm_where_known(p_values: Sequence[float | None]) -> list[float | None]:
    known = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(known) for p in p_values]


Costs = dict[str, dict[str, float]]
"""By sensor, what its absence costs each subject who had it; "" is the mean over a subject's sensors."""


@dataclass(frozen=True)
class _CostsInStudy:
    """One model's costs in one study, and by sensor the windows of those who had it: predicted without it, and all."""

    costs: Costs
    windows: dict[str, tuple[int, int]]


def _sensor_costs(matched: Matched, how: _Choices) -> tuple[SensorCost, ...]:
    """Return what each sensor's absence costs each model that was scored with missing sensors; the mean stands first.

    A model is one of these where that is so in every study.
    """
    scored = {
        number: [_costs_in_study(run, matched.metric) for run in runs]
        for number, runs in enumerate(matched.runs)
        if matched.metric in SENSOR_METRICS and all(run.missing_sensors is not None for run in runs)
    }
    sensors = dict.fromkeys(sensor for studies in scored.values() for study in studies for sensor in study.windows)
    reference = None if how.reference is None else scored.get(how.reference)
    rows = []
    for sensor in ("", *sensors) if sensors else ():
        for number, studies in scored.items():
            by_subject = [_with_mean(study.costs).get(sensor, {}) for study in studies]
            cost, ci95 = _mean_over(by_subject, how)
            row = SensorCost(
                model=matched.labels[number],
                sensor=sensor,
                n_subjects=sum(map(len, by_subject)),
                answered=_answered(studies, sensor),
                cost=cost,
                ci95=ci95,
            )
            if reference is not None and number != how.reference:
                both = [_more(*pair).get(sensor, {}) for pair in zip(studies, reference, strict=True)]
                more, more_ci95 = _mean_over(both, how)
                row = replace(row, n_paired=sum(map(len, both)), more=more, more_ci95=more_ci95)
            rows.append(row)
    return tuple(rows)


def _costs_in_study(run: CrossValidation, metric: str) -> _CostsInStudy:
    costs: Costs = {}
    windows: dict[str, tuple[int, int]] = {}
    for row in load_sensor_scores(run):
        change = getattr(row, SENSOR_METRICS[metric])
        lost_nothing = change is None and row.n_windows_answered == row.n_windows
        if not row.sensors.startswith(WITHOUT) or lost_nothing:
            continue
        sensor = row.sensors.removeprefix(WITHOUT)
        n_answered, n_windows = windows.get(sensor, (0, 0))
        windows[sensor] = (n_answered + row.n_windows_answered, n_windows + row.n_windows)
        if change is not None:
            costs.setdefault(sensor, {})[row.participant] = -change
    return _CostsInStudy(costs, windows)


def _with_mean(costs: Costs) -> Costs:
    """Return the costs with, under "", the mean over the sensors of each subject."""
    by_subject: dict[str, list[float]] = {}
    for of_sensor in costs.values():
        for subject, cost in of_sensor.items():
            by_subject.setdefault(subject, []).append(cost)
    return {"": {subject: float(np.mean(values)) for subject, values in by_subject.items()}, **costs}


def _more(model: _CostsInStudy, reference: _CostsInStudy) -> Costs:
    """Return what sensors cost a model minus what they cost the reference, of subjects where both are known."""
    differences: Costs = {}
    for sensor, of_model in model.costs.items():
        of_reference = reference.costs.get(sensor, {})
        differences[sensor] = {s: of_model[s] - of_reference[s] for s in of_model if s in of_reference}
    return _with_mean(differences)


def _answered(studies: Sequence[_CostsInStudy], sensor: str) -> float:
    """Return the part of the windows that is predicted without a sensor; over all sensors where it is ""."""
    pairs = [pair for study in studies for name, pair in study.windows.items() if sensor in ("", name)]
    return sum(n_answered for n_answered, _ in pairs) / max(1, sum(n_windows for _, n_windows in pairs))


def _mean_over(by_study: Sequence[Mapping[str, float]], how: _Choices) -> tuple[float | None, Interval | None]:
    """Return the mean over the subjects of all studies, and its interval where there are several."""
    values = np.array([values[subject] for values in by_study for subject in sorted(values)], dtype=np.float64)
    if len(values) < 2:
        return (float(values[0]) if len(values) else None), None
    draws = resampled([len(values) for values in by_study if values], seed=how.seed, n=how.n_resamples)
    return float(values.mean()), percentile_interval(values[draws].mean(axis=1))


def write_comparison(comparison: Comparison, output: Path) -> None:
    """Write ``compare.json``, ``.csv``, ``.md``, ``.tex`` and ``figures/`` to a folder; other files in it stay.

    ``sensor_costs.csv`` is written where models were scored with missing sensors.

    Raises OutputError where a file cannot be written. Raises BusyError where another process is writing there.
    """
    with only_writer(output):
        for name in FILES:
            (output / name).unlink(missing_ok=True)
        if (output / "figures").is_dir() and not (output / "figures").is_symlink():
            shutil.rmtree(output / "figures")
        for figure in comparison_figures(comparison):
            write_bytes(output / "figures" / f"{figure.name}.svg", figure.svg)
        write_rows(output / "compare.csv", comparison.every_pair)
        if comparison.sensor_costs:
            write_rows(output / SENSORS_FILE, comparison.sensor_costs)
        write_text(output / "compare.md", markdown_page(comparison))
        write_text(output / "compare.tex", latex_page(comparison))
        write_result(output / Comparison.FILE, comparison)
