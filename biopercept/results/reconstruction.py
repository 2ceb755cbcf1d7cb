"""``reconstruction.json``: signals reconstructed from other sensors, with the error where they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from biopercept.typed_values import Count, Interval, unwritten

TABLE, FAILURES, PAGE = "reconstruction.csv", "failures.csv", "report.html"
SUFFIX = "_reconstruction.csv"

Verdict = Literal["better", "worse", "no difference shown", "not measured here"]
BETTER: Verdict = "better"
WORSE: Verdict = "worse"
LEVEL: Verdict = "no difference shown"
UNKNOWN: Verdict = "not measured here"


@dataclass(frozen=True, kw_only=True)
class ReconstructedChannel:
    """One channel of a reconstructed signal, and how far it is off where the recording has it, in its ``unit``.

    ``rmse``, ``mae`` and ``correlation`` are of the network, over ``n_compared`` samples; ``level``, ``recording_mean``
    and ``interpolation`` the root mean squared errors of what needs no network. ``difference`` is the network's less
    that of the ``strongest`` of them, mean over ``n_stretches`` stretches as long as a window, with its 95 % interval
    over these; below 0 the network is better. ``level_of`` says whose mean and scale the values have. None where
    nothing was measured.
    """

    participant_id: str
    session: str
    recording: str
    signal: str
    channel: str
    unit: str
    table: str
    made_from: str
    level_of: str
    n_compared: Count
    n_stretches: Count
    rmse: float | None
    mae: float | None
    correlation: float | None
    level: float | None
    recording_mean: float | None
    interpolation: float | None
    strongest: str
    difference: float | None
    ci95: Interval | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """A finished folder of ``reconstruct``."""

    FILE: ClassVar[str] = "reconstruction.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "reconstruct"

    model: str
    study: str
    sensor: str
    window_seconds: float
    baselines: Mapping[str, str]
    channels: tuple[ReconstructedChannel, ...]
    n_recordings: Count
    n_failed: Count
    columns: Mapping[str, str]
    warnings: tuple[str, ...]
    name: str = unwritten("")
