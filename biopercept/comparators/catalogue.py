"""Every model by the name that ``--model`` takes."""

from __future__ import annotations

from biopercept.comparators.features import fit_boosting, fit_logistic
from biopercept.comparators.probes import fit_clock, fit_dummy
from biopercept.errors import SettingsError
from biopercept.learning.fitting import Fitter, fit_perceiver_io

MODELS: dict[str, Fitter] = {
    "perceiver-io": fit_perceiver_io,
    "logistic": fit_logistic,
    "boosting": fit_boosting,
    "clock-only": fit_clock,
    "dummy": fit_dummy,
}
"""Name -> function that fits the model."""

PROBES = ("clock-only", "dummy")
"""Models that read no physiology."""


def fitter_named(name: str) -> Fitter:
    """Return the function that fits a model.

    Raises
    ------
    SettingsError
        Where no model has the name.
    """
    if name not in MODELS:
        raise SettingsError(f"model is {name!r}; allowed are {', '.join(MODELS)}")
    return MODELS[name]
