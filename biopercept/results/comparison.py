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
    """One of the compared cross-validations.

    Attributes
    ----------
    label : str
        Unique among those compared.
    model, name, normalisation : str
        Model, folder below the common folder, scaling of the inputs.
    mean : float
        Of the score, over the compared subjects.
    ci95 : tuple of two floats, or None
        Bootstrap over subjects.
    sd : float or None
        Over subjects.
    average_rank : float
        Over subjects; 1 is best.
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
    """The paired comparison of two models over subjects; differences are first minus second.

    Attributes
    ----------
    first, second : str
        Labels.
    n : int
        Subjects.
    ci95 : tuple of two floats, or None
        Bootstrap of the mean difference over subjects.
    sd : float
        Of the differences.
    wins, ties, losses : int
        Subjects for whom the first is better, equal, worse.
    rank_sum_positive, rank_sum_negative : float
        Wilcoxon's rank sums.
    p, p_holm : float
        Two-sided; as it is, and adjusted for the number of pairs.
    p_method : str
        ``exact`` or ``normal``.
    n_zero : int
        Differences of exactly 0.
    rank_biserial, dz : float or None
        Matched rank-biserial correlation and Cohen's dz, each with its interval.
    smallest_detectable, smallest_detectable_adjusted : float or None
        True mean difference that a paired t-test finds with 80 % power at 0.05, and at 0.05 over the number of pairs.
    split_t, split_p, split_p_holm, split_ratio : float or None
        Nadeau and Bengio's corrected resampled t over folds; None where the split is not k-fold.
    n_splits : int or None
    is_established : bool
        ``p_holm`` is below 0.05.
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

    Attributes
    ----------
    name : str
        Folder below the one that is reported; empty before it is written.
    task, metric, split, reference : str
        ``reference`` is empty where all pairs are compared.
    classes, left_out : tuple of str
        ``left_out`` are subjects for whom the score is not defined.
    contenders : tuple of Contender
        The best average rank first.
    friedman : mapping of name to value
        ``chi_square``, ``p``, ``f``, ``p_f``, ``critical_difference``; empty below three models.
    cautions, findings, methods : tuple of str
        Sentences.
    store : str
        Fingerprint.
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
