"""``compare.json``: the compared models, their pairs, the test over all of them, and the sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from biopercept.typed_values import Count, Interval, unwritten

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
    over folds; None where the split is not k-fold.
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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that ``compare`` found and the words for it.

    ``reference`` is empty where all pairs are compared; ``left_out`` are subjects for whom the score is not defined;
    contenders stand by average rank, the best first. ``friedman`` holds ``chi_square``, ``p``, ``f``, ``p_f`` and
    ``critical_difference``; empty below three models. ``name`` is the folder below the one that is reported.
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
    name: str = unwritten("")

    @property
    def metric_words(self) -> str:
        """Return the metric's name in words."""
        return METRIC_WORDS.get(self.metric, self.metric.replace("_", " "))

    def to_frame(self) -> pd.DataFrame:
        """Return a row per pair of models: the difference over subjects with its interval, and the tests of it."""
        import pandas as pd

        return pd.DataFrame([vars(pair) for pair in self.pairs])


METRIC_WORDS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "auroc": "AUROC",
    "mcc": "Matthews correlation",
    "brier": "Brier score",
    "ece": "calibration error",
}
"""Names of scores as they stand in a sentence."""
