"""A fitted model asked as if some sensors had not been worn: nothing is fitted, and nothing stands in for them.

Networks get fewer tokens. Feature models get undefined features, which each treats as it does any undefined feature:
linear models by the training windows' median, trees by the way their splits send them, late fusion by abstaining.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from biopercept.comparators.features import FittedFeatureModel
from biopercept.comparators.late_fusion import FittedByRule, FittedStack
from biopercept.errors import SettingsError
from biopercept.learning.fitting import Fitted, NetworkOnStudy
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.token_source import TokenSource
from biopercept.learning.windows import IntArray
from biopercept.model.tokens import TokenSettings
from biopercept.personalising.starting_model import AdaptedOnStudy

Answers = NDArray[np.float64]


def answers_from(fitted: Fitted, read: WindowInputs, rows: IntArray, tokens: TokenSettings) -> Answers:
    """Return the probabilities of the windows at ``rows``, (len(rows), n_classes), from what ``read`` has of them.

    Parameters
    ----------
    fitted : Fitted
        Fitted on the whole study.
    read : WindowInputs
        The same windows, in the order of ``rows``, with fewer sensors.
    rows : int64 array
        Of the study's table.
    tokens : TokenSettings

    Returns
    -------
    float64 array; NaN for windows in which nothing is left that the model reads.

    Raises
    ------
    SettingsError
        Where the model reads no sensors.
    """
    own = np.arange(len(rows), dtype=np.int64)
    if isinstance(fitted, NetworkOnStudy | AdaptedOnStudy):
        made = fitted.adapted if isinstance(fitted, AdaptedOnStudy) else fitted.fitted
        population = fitted.population if isinstance(fitted, AdaptedOnStudy) else fitted.fitted.population
        source = TokenSource(read, population, tokens, fitted.source.device)
        # A network that reads only some kinds of tokens says which; of the others its answer is a constant.
        has = source.has_tokens(own, read=getattr(made.network, "tokens_read", None))[:, None]
        answers = np.full((len(rows), read.windows.only.task.n_values), np.nan)
        if has.any():  # a network cannot be asked with nothing
            answers[has[:, 0]] = replace(fitted, source=source).probabilities(own[has[:, 0]])
    elif isinstance(fitted, FittedFeatureModel) and fitted.columns is not None:
        values = _left(fitted.values[rows], read.raw_features[:, fitted.columns])
        answers, has = replace(fitted, values=values).probabilities(own), _any_in_rows(values)
    elif isinstance(fitted, FittedByRule | FittedStack):
        members = replace(fitted.members, values=_left(fitted.members.values[rows], read.raw_features))
        answers = replace(fitted, members=members).probabilities(own)
        votes = members.probabilities(own)  # (n_members, n, n_classes)
        has = _any_in_rows(np.moveaxis(votes, 0, 1).reshape(len(own), -1))
    else:
        raise SettingsError(f"{type(fitted).__name__} reads no sensors; use evaluation.missing_sensors=none")
    return np.where(has, answers, np.nan)


def _any_in_rows(values: Answers) -> NDArray[np.bool_]:
    """Return which rows have a finite value, (n, 1)."""
    return np.asarray(np.isfinite(values).any(axis=1), dtype=bool)[:, None]


def _left(values: Answers, raw: Answers) -> Answers:
    """Return the normalised values where the features themselves are still defined, NaN elsewhere."""
    return np.where(np.isfinite(raw), values, np.nan)
