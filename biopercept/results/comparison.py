"""``compare.json``: the compared models, their pairs, the test over all of them, and the sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from biopercept.typed_values import Count, Interval, omitted, unwritten

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One of the compared cross-validations; ``name`` is its folder below the common folder.

    ``mean`` is over the compared subjects with its bootstrap interval, ``average_rank`` too, where 1 is best.
    """

    label: str
    model: str
    name: str
    normalisation: str
    mean: float
    ci95: Interval | None
    sd: float | None
    average_rank: float
    is_probe: bool
    is_transductive: bool


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The paired comparison of two models over ``n`` subjects; differences are first minus second.

    ``wins``, ``ties`` and ``losses`` count subjects for whom the first is better, equal, worse; ``sd`` is of the
    differences. ``p`` is Wilcoxon's signed-rank test, two-sided, ``p_holm`` the same adjusted for the number of pairs,
    and ``is_established`` says that it is below 0.05. ``rank_biserial`` is the matched rank-biserial correlation,
    ``dz`` is Cohen's. ``smallest_detectable`` is the true mean difference that a paired t-test finds with 80 % power at
    0.05, the adjusted one at 0.05 over the number of pairs. ``split_...`` is Nadeau and Bengio's corrected resampled t
    over folds; None where the split is not k-fold. ``mean_of_studies`` is the mean difference with every study counting
    the same, ``flip_p`` the permutation of signs that tests it; None where one study is compared. ``study`` is whose
    subjects they are, ``pooled`` where they are those of several.
    """

    first: str
    second: str
    n: Count
    mean_difference: float
    ci95: Interval | None
    sd: float
    wins: Count
    ties: Count
    losses: Count
    rank_sum_positive: float
    rank_sum_negative: float
    p: float
    p_holm: float
    p_method: Literal["exact", "normal"]
    n_zero: Count
    rank_biserial: float | None
    rank_biserial_ci95: Interval | None
    dz: float | None
    dz_ci95: Interval | None
    smallest_detectable: float | None
    smallest_detectable_adjusted: float | None
    is_established: bool
    split_t: float | None = None
    split_p: float | None = None
    split_p_holm: float | None = None
    split_ratio: float | None = None
    n_splits: Count | None = None
    mean_of_studies: float | None = omitted()
    mean_of_studies_ci95: Interval | None = omitted()
    flip_p: float | None = omitted()
    flip_p_holm: float | None = omitted()
    study: str = omitted("")


@dataclass(frozen=True, kw_only=True)
class SensorCost:
    """What a sensor's absence costs a model: score with all sensors minus score without it, on the same windows.

    ``sensor`` is empty for the mean over a subject's sensors. Subjects are those who had the sensor; ``answered`` is
    the part of their windows that is predicted without it. ``more`` is what it costs this model minus what it costs the
    reference, over the ``n_paired`` subjects for whom both are known; None without a reference, and for itself.
    """

    model: str
    sensor: str
    n_subjects: Count
    answered: float
    cost: float | None
    ci95: Interval | None
    n_paired: Count = 0
    more: float | None = None
    more_ci95: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that ``compare`` found and the words for it.

    ``reference`` is empty where all pairs are compared; ``left_out`` are subjects for whom the score is not defined;
    contenders stand by average rank, the best first. ``friedman`` holds ``chi_square``, ``p``, ``f``, ``p_f`` and
    ``critical_difference``; empty below three models. ``name`` is the folder below the one that is reported.

    Of several studies all numbers are over the subjects of all of them, and ``studies`` holds the comparison of each by
    itself; tasks, classes and splits are then joined, and ``store`` is empty. ``sensor_costs`` are of the models that
    were scored with missing sensors.
    """

    FILE: ClassVar[str] = "compare.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "compare"

    task: str
    classes: tuple[str, ...]
    metric: str
    higher_is_better: bool
    split: str
    n_subjects: Count
    left_out: tuple[str, ...]
    n_windows: Count
    reference: str
    n_resamples: Count
    seed: Count
    store: str
    contenders: tuple[Contender, ...]
    pairs: tuple[Pair, ...]
    friedman: Mapping[str, float | None]
    cautions: tuple[str, ...]
    findings: tuple[str, ...]
    methods: tuple[str, ...]
    study: str = omitted("")
    studies: tuple[Comparison, ...] = omitted(())
    sensor_costs: tuple[SensorCost, ...] = omitted(())
    name: str = unwritten("")

    @property
    def every_pair(self) -> tuple[Pair, ...]:
        """Return the pairs over all subjects, then those of each of several studies."""
        return (*self.pairs, *(pair for study in self.studies for pair in study.pairs))

    def difference(self, first: str, second: str) -> tuple[float, Interval | None, float]:
        """Return the mean of first minus second with its interval, and its adjusted p, whichever way they were paired.

        Raises LookupError where they were not compared.
        """
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair.mean_difference, pair.ci95, pair.p_holm
            if (pair.second, pair.first) == (first, second):
                ci95 = None if pair.ci95 is None else (-pair.ci95[1], -pair.ci95[0])
                return -pair.mean_difference, ci95, pair.p_holm
        raise LookupError(f"{first} and {second} were not compared")

    @property
    def metric_words(self) -> str:
        """Return the metric's name in words."""
        return METRIC_WORDS.get(self.metric, self.metric.replace("_", " "))

    def to_frame(self) -> pd.DataFrame:
        """Return a row per pair of models: the difference over subjects with its interval, and the tests of it.

        Of several studies those over the subjects of all stand first, then those of each study (column ``study``).
        """
        import pandas as pd

        return pd.DataFrame([vars(pair) for pair in self.every_pair])


POOLED = "pooled"
"""What stands for the study of a pair whose subjects are those of several."""
SENSOR_METRICS = {"balanced_accuracy": "difference", "auroc": "auroc_difference"}
"""Scores of which is known what a missing sensor costs, and the column of ``missing_sensors.csv`` that says so."""
WITHOUT = "without "
"""What the name of all sensors but one begins with."""
RANKS_AND_PAIRS = (
    "The two answer different questions and can disagree: Nemenyi's critical difference is about average ranks of all "
    "models at once, whatever the size of a difference, and is the same for every two models; the table of pairs "
    "tests the sizes of one pair's differences within subjects, adjusted for the pairs compared. What is claimed here "
    "is what the table says."
)
"""Why a bar of the critical-difference figure and the table of pairs need not agree."""
METRIC_WORDS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "auroc": "AUROC",
    "mcc": "Matthews correlation",
    "brier": "Brier score",
    "ece": "calibration error",
}
"""Names of scores as they stand in a sentence."""
