"""How many draws the probes of an audit make, and what counts as a finding."""

from __future__ import annotations

from dataclasses import dataclass

from biopercept.errors import SettingsError
from biopercept.typed_values import BETWEEN_0_AND_1, at_least, refuse_outside


@dataclass(frozen=True)
class AuditSettings:
    """Sizes and thresholds of the probes.

    Attributes
    ----------
    n_folds : int
        Folds over subjects of the probes on data.
    fit_folds : int
        Folds over subjects when the audit fits a network itself.
    margin : float
        Balanced accuracy above guessing that a probe's whole interval must pass before it counts.
    association : float
        Correlation within label and subject that the whole interval must pass before time counts as readable.
    trace : float
        The same, for a trace of time that is too weak to carry a score.
    identity : float
        Chance-corrected fraction of windows whose owner is recognised, from which identity alone is a warning.
    small_spread, large_spread : float
        Standard deviations of the scores over subjects below and above which they are not believed.
    n_permutations : int
        Draws of the labels within subjects.
    n_shifts : int
        Circular shifts in time that an association is compared with.
    n_trees : int
        Trees of the random-split contrast.
    """

    n_folds: int = 5
    fit_folds: int = 3
    margin: float = 0.05
    association: float = 0.15
    trace: float = 0.05
    identity: float = 0.5
    small_spread: float = 0.03
    large_spread: float = 0.25
    n_permutations: int = 100
    n_shifts: int = 500
    n_trees: int = 100

    def __post_init__(self) -> None:
        ranges = {
            at_least(2): ("n_folds", "fit_folds"),
            at_least(20): ("n_permutations",),
            at_least(100): ("n_shifts",),
            at_least(10): ("n_trees",),
            BETWEEN_0_AND_1: ("margin", "association", "trace", "identity", "small_spread", "large_spread"),
        }
        refuse_outside("audit", self, ranges)
        if self.small_spread >= self.large_spread:
            raise SettingsError(
                f"audit.small_spread is {self.small_spread}; it must be below audit.large_spread ({self.large_spread})"
            )
