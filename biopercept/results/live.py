"""``live.json``: what a run of ``live`` did, how long predictions took, and which signals were missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from biopercept.typed_values import Count


@dataclass(frozen=True, kw_only=True)
class LiveSummary:
    """One run of ``live``.

    ``seconds`` of the stream were followed; ``withheld`` counts predictions with a reason for being withheld, and
    ``left_out`` those that were not made because the machine could not keep up. ``missing`` counts the predictions
    without a sample of a signal, by its name. ``latency_ms`` has the percentiles p50, p95, p99 and max of the time from
    the last sample of a window to its prediction, ``processor_ms`` those of the processor time of it.
    """

    FILE: ClassVar[str] = "live.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "live"

    model: str
    seconds: float
    predictions: Count
    withheld: Count
    left_out: Count
    missing: Mapping[str, int]
    latency_ms: Mapping[str, float]
    processor_ms: Mapping[str, float]
