"""``generation.json``: how well each hidden sensor was reconstructed from the others, beside imputation baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from biopercept.results.reading import CountedEstimate
from biopercept.typed_values import Check, Count, written_as

FILLERS: dict[str, str] = {
    "zero": "the centre that the window was scaled by",
    "mean": "training mean of the channel, one number",
    "median": "training median of the channel, one number",
    "mean patch": "training mean of each sample of a patch",
    "mean patch at its place": "training mean of each sample of the patch at this place in the window",
}
"""Every filler by its name, with what it says."""
FillerName = Annotated[str, Check(lambda name: name in FILLERS, f"one of {', '.join(FILLERS)}")]

NETWORK = "network"
ERRORS = ("rmse", "mae", "rmse_unit", "mae_unit")
"""Root mean squared and mean absolute error, in normalised units and in the signal's own."""

Verdict = Literal["better", "worse", "no difference shown"]
BETTER: Verdict = "better"
WORSE: Verdict = "worse"
LEVEL: Verdict = "no difference shown"


@dataclass(frozen=True, kw_only=True)
class Difference(CountedEstimate):
    """The network's error less that of the strongest filler; ``n_better`` subjects have the network below it."""

    n_better: Count


@dataclass(frozen=True, kw_only=True)
class SignalError:
    """One kind of error of one signal, over subjects: of the network and of each filler.

    The filler that the network is compared with is the one with the lowest mean error on these very test subjects.
    """

    network: CountedEstimate
    zero: CountedEstimate
    mean: CountedEstimate
    median: CountedEstimate
    mean_patch: CountedEstimate = written_as("mean patch")
    mean_patch_at_its_place: CountedEstimate = written_as("mean patch at its place")
    best_filler: FillerName
    network_minus_best_filler: Difference

    @property
    def strongest(self) -> CountedEstimate:
        """Return the error of the best filler."""
        error: CountedEstimate = getattr(self, self.best_filler.replace(" ", "_"))
        return error


@dataclass(frozen=True, kw_only=True)
class SignalScore:
    """How well one signal, measured or derived, of a hidden sensor was reconstructed.

    ``correlation`` is Pearson's over normalised samples; the verdict is by the interval of the difference in RMSE.
    """

    sensor: str
    signal: str
    title: str
    unit: str
    is_derived: bool
    n_subjects: Count
    n_windows: Count
    n_patches: Count
    rmse: SignalError
    mae: SignalError
    rmse_unit: SignalError
    mae_unit: SignalError
    correlation: CountedEstimate
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class SubjectErrors:
    """The errors of one subject and signal, each by what was said: ``network``, or a filler's name."""

    sensor: str
    subject: str
    signal: str
    n_windows: Count
    n_patches: Count
    rmse: Mapping[str, float]
    mae: Mapping[str, float]
    rmse_unit: Mapping[str, float]
    mae_unit: Mapping[str, float]
    correlation: float | None


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A finished folder of ``score-generation``; ``n_epochs`` are of each fold's pretraining, its seconds of all."""

    FILE: ClassVar[str] = "generation.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "score-generation"

    study: str
    n_subjects: Count
    n_windows: Count
    window_seconds: float
    step_seconds: float
    n_folds: Count
    normalisation: str
    seed: Count
    n_epochs: Count
    parameters: Count
    seconds: float
    seconds_pretraining: float
    fillers: Mapping[str, str]
    signals: tuple[SignalScore, ...]
    subjects: tuple[SubjectErrors, ...]
    warnings: tuple[str, ...]
    fingerprint: Mapping[str, Any]
