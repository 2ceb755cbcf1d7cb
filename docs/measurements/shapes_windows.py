"""Two choices of windows compared on the same time: of the shorter windows, what they say on average within a longer.

A window of two minutes is easier to tell than one of a minute, whatever the network is worth. So answers to short
windows are averaged over each long window of the same recording before both are scored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biopercept.evaluation.metrics import score_numbers, score_subject

_PLACE = ["participant_id", "session", "recording"]
_GRACE_SECONDS = 0.01


def scores_on_common_windows(first: Path, second: Path, metric: str) -> dict[str, tuple[float, float]]:
    """Return the scores of two finished cross-validations by person, on the windows of the one whose are longer.

    A person is left out who has no such window, or no score in them (one class alone).
    """
    tables = [_predictions(folder) for folder in (first, second)]
    longer = int(tables[1]["duration"].median() > tables[0]["duration"].median())
    long, short = tables[longer], tables[1 - longer]
    outputs = [str(name) for name in long if str(name).startswith("probability_")] or ["predicted"]
    scores: dict[str, tuple[float, float]] = {}
    for person, windows in long.groupby("participant_id"):
        averaged = _averages_within(windows, short[short["participant_id"] == person], outputs)
        both = np.flatnonzero(np.isfinite(averaged).all(axis=1))
        values = (windows[outputs].to_numpy(float)[both], averaged[both])
        label = windows["label"].iloc[both]
        pair = [_score(label, values[index ^ longer], outputs, metric) for index in (0, 1)]
        if pair[0] is not None and pair[1] is not None:
            scores[str(person)] = (pair[0], pair[1])
    return scores


def _predictions(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "predictions.csv", dtype=dict.fromkeys(_PLACE, str), keep_default_na=False)
    return table.astype({"onset": float, "duration": float})


def _averages_within(windows: pd.DataFrame, short: pd.DataFrame, outputs: list[str]) -> NDArray[np.float64]:
    """Return the mean outputs of the short windows that lie within each window; NaN where none does."""
    averages = np.full((len(windows), len(outputs)), np.nan)
    values, onset = short[outputs].to_numpy(float), short["onset"].to_numpy(float)
    ends = onset + short["duration"].to_numpy(float)
    places = [tuple(place) for place in short[_PLACE].to_numpy(str)]
    for row, place in enumerate(windows[_PLACE].to_numpy(str)):
        begin = float(windows["onset"].iloc[row]) - _GRACE_SECONDS
        end = float(windows["onset"].iloc[row] + windows["duration"].iloc[row]) + _GRACE_SECONDS
        is_within = (onset >= begin) & (ends <= end) & np.array([one == tuple(place) for one in places], dtype=bool)
        if is_within.any():
            averages[row] = values[is_within].mean(axis=0)
    return averages


def _score(label: pd.Series, values: NDArray[np.float64], outputs: list[str], metric: str) -> float | None:
    if not len(label):
        return None
    score: float | None
    if outputs == ["predicted"]:
        score = getattr(score_numbers("", label.to_numpy(float), values[:, 0]), metric)
    else:
        classes = [name.removeprefix("probability_") for name in outputs]
        score = getattr(score_subject("", label.map(classes.index).to_numpy(int), values), metric)
    return score
