"""Every model by the name that ``--model`` takes."""

from __future__ import annotations

from biopercept.comparators.bagging import fit_bagging
from biopercept.comparators.cnn_late_fusion import CnnLateFusion
from biopercept.comparators.ecg_transformer import EcgTransformer
from biopercept.comparators.features import fit_boosting, fit_lda, fit_logistic
from biopercept.comparators.hourglass import Hourglass
from biopercept.comparators.informer import Informer
from biopercept.comparators.late_fusion import fit_by_rule, fit_stacking, majority_vote, probability_mean
from biopercept.comparators.lstm import LongShortTermMemory
from biopercept.comparators.perceiver import Perceiver
from biopercept.comparators.probes import fit_clock, fit_dummy, fit_motion, fit_quality
from biopercept.comparators.transformer import Transformer
from biopercept.errors import SettingsError
from biopercept.learning.fitting import Fitter, fit_perceiver_io, network_fitter

MODELS: dict[str, Fitter] = {
    "perceiver-io": fit_perceiver_io,
    "perceiver": network_fitter(Perceiver),
    "transformer": network_fitter(Transformer),
    "ecg-transformer": network_fitter(EcgTransformer),
    "informer": network_fitter(Informer),
    "lstm": network_fitter(LongShortTermMemory),
    "cnn-late-fusion": network_fitter(CnnLateFusion),
    "hourglass": network_fitter(Hourglass),
    "majority-vote": fit_by_rule(majority_vote),
    "probability-mean": fit_by_rule(probability_mean),
    "stacking": fit_stacking,
    "bagging": fit_bagging,
    "boosting": fit_boosting,
    "logistic": fit_logistic,
    "lda": fit_lda,
    "clock-only": fit_clock,
    "motion-only": fit_motion,
    "quality-only": fit_quality,
    "dummy": fit_dummy,
}
"""Name -> function that fits the model."""

PROBES = ("clock-only", "motion-only", "quality-only", "dummy")
"""Models that read nothing of what the question is about."""


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
