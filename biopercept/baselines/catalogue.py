"""Every model by the name that ``--model`` takes."""

from __future__ import annotations

from pathlib import Path

from biopercept.baselines.attention_networks import EcgTransformer, Informer, Perceiver, Transformer
from biopercept.baselines.features import (
    fit_bagging,
    fit_boosting,
    fit_clock,
    fit_dummy,
    fit_lda,
    fit_logistic,
    fit_motion,
    fit_quality,
    fit_ridge,
)
from biopercept.baselines.late_fusion import fit_by_rule, fit_stacking, majority_vote, probability_mean
from biopercept.baselines.sensor_networks import CnnLateFusion, Hourglass, LongShortTermMemory
from biopercept.data.windows import WindowTable
from biopercept.errors import SettingsError
from biopercept.resources import shipped_models
from biopercept.training.fitting import Fitter, NetworkFitter, fit_perceiver_io, fitter_of_one_task
from biopercept.typed_values import did_you_mean

NETWORKS: dict[str, NetworkFitter] = {
    "perceiver-io": fit_perceiver_io,
    "perceiver": fitter_of_one_task(Perceiver, can_stack=True),
    "transformer": fitter_of_one_task(Transformer, can_stack=True),
    "ecg-transformer": fitter_of_one_task(EcgTransformer),
    "informer": fitter_of_one_task(Informer),
    "lstm": fitter_of_one_task(LongShortTermMemory),
    "cnn-late-fusion": fitter_of_one_task(CnnLateFusion, can_stack=True),
    "hourglass": fitter_of_one_task(Hourglass, can_stack=True),
}
"""Name -> what fits the network, to classes."""

PROBES: dict[str, Fitter] = {
    "clock-only": fit_clock,
    "motion-only": fit_motion,
    "quality-only": fit_quality,
    "dummy": fit_dummy,
}
"""Models that read nothing of what the question is about."""

MODELS: dict[str, Fitter] = {
    **NETWORKS,
    "majority-vote": fit_by_rule(majority_vote),
    "probability-mean": fit_by_rule(probability_mean),
    "stacking": fit_stacking,
    "bagging": fit_bagging,
    "boosting": fit_boosting,
    "logistic": fit_logistic,
    "lda": fit_lda,
    **PROBES,
}
"""Name -> function that fits the model to classes."""

REGRESSORS: dict[str, Fitter] = {
    "perceiver-io": fit_perceiver_io,
    "ridge": fit_ridge,
    "boosting": fit_boosting,
    **PROBES,
}
"""Name -> function that fits the model to a number."""


def fitter_named(name: str) -> Fitter:
    """Return the function that fits a model. Raises SettingsError where no model has the name."""
    if name not in MODELS:
        hint = f"; {', '.join(REGRESSORS)} predict a number" if name in REGRESSORS else ""
        near = did_you_mean(name, MODELS)
        if name in shipped_models() or Path(name, "model.json").is_file():
            hint = f"; {name} is a saved model, which evaluate scores on people whom it has not seen, and --start-from "
            hint, near = hint + "begins with", ""
        raise SettingsError(f"model is {name!r}; allowed are {', '.join(MODELS)}{hint}{near}")
    return MODELS[name]


def require_known(name: str) -> None:
    """Refuse a name that no model has, of classes or of numbers. Raises SettingsError."""
    if name not in REGRESSORS:
        fitter_named(name)


def fitter_for(name: str, windows: WindowTable) -> Fitter:
    """Return the function that fits a model to what the windows' tasks ask for.

    Raises SettingsError where no model has the name, or it cannot predict these tasks.
    """
    require_known(name)
    tasks = windows.tasks
    is_number = bool(tasks) and not tasks[0].is_classification
    if len(tasks) > 1 and name != "perceiver-io":
        raise SettingsError(f"{name} answers one task at a time; give --task one name, or use --model perceiver-io")
    if is_number and name not in REGRESSORS:
        raise SettingsError(
            f"{name} cannot predict the number that task {tasks[0].name!r} asks for; use {', '.join(REGRESSORS)}"
        )
    return REGRESSORS[name] if is_number else fitter_named(name)
