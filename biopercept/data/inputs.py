"""From windows to what models read: features and signals, and how each is scaled.

What is fitted (:class:`TrainingStatistics`) is fitted on the recordings of training subjects alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from biopercept.data.normalisation import (
    UNSEEN,
    Affine,
    FloatArray,
    Moments,
    NormalisationSettings,
    Sessions,
    Statistics,
    TrainingStatistics,
    affine_of,
    cumulative_moments,
    population_statistics,
)
from biopercept.data.signals import Column, SignalArrays, bank_moments, build_banks, known_moments
from biopercept.data.windows import IntArray, WindowTable


@dataclass(frozen=True, eq=False)
class WindowInputs:
    """The inputs of a window table: features, signal banks and what each window may know of its own recording.

    Nothing here is fitted; :meth:`fit` fits the population part of the normalisation on training recordings.
    """

    windows: WindowTable
    settings: NormalisationSettings
    step_seconds: float
    raw: bool = True
    derived: bool = True

    @cached_property
    def banks(self) -> tuple[SignalArrays, ...]:
        """Return the signal banks, read once."""
        return build_banks(self.windows.recordings, raw=self.raw, derived=self.derived)

    @cached_property
    def bank_moments(self) -> tuple[tuple[Moments, Moments], ...]:
        """Return per bank the moments of the windows' own recordings."""
        moments = []
        for bank in self.banks:
            past, whole, reference = bank_moments(bank, self.windows, self.settings.mode, self.reference_ends)
            moments.append((self._of_session(past, whole, reference), whole))
        return tuple(moments)

    @cached_property
    def sessions(self) -> Sessions:
        """Return which recordings came before which, as far as the normalisation asks."""
        return Sessions.of(self.windows.recordings, self.settings.scope)

    @cached_property
    def reference_ends(self) -> FloatArray:
        """Return where the reference ends in each recording, seconds (n_recordings,)."""
        return self.sessions.reference_ends(self.windows.recordings, self.settings.reference_seconds)

    def _of_session(self, past: Moments, whole: Moments, reference: Moments) -> Moments:
        return self.sessions.known(self.settings.mode, past, whole, reference, self.windows.recording)

    @cached_property
    def raw_features(self) -> FloatArray:
        """Return the un-normalised features (n_windows, n_features)."""
        return self.windows.raw_features()

    @cached_property
    def feature_moments(self) -> tuple[Moments, Moments]:
        """Return the moments of the features over each recording's grid windows, as for signals."""
        windows = self.windows

        def columns(index: int) -> Iterator[Column]:
            table = windows.recordings[index].windows
            grid = np.flatnonzero(~np.asarray(table.is_labelled))
            grid = grid[np.argsort(np.asarray(table.onset)[grid], kind="stable")]
            ends = np.asarray(table.onset)[grid] + windows.length_seconds
            values = np.asarray(table.features, dtype=np.float64)[grid]
            for column in range(len(windows.feature_names)):
                is_real = np.isfinite(values[:, column])
                running = cumulative_moments(np.where(is_real, values[:, column], 0.0), is_real)
                yield column, running, partial(_ended_by, ends)

        n_columns = len(windows.feature_names)
        past, whole, reference = known_moments(windows, self.settings.mode, self.reference_ends, n_columns, columns)
        return self._of_session(past, whole, reference), whole

    def fit(self, training_subjects: Collection[str]) -> TrainingStatistics:
        """Return the population's statistics, from the recordings of these subjects alone."""
        chosen = np.array([r.subject in set(training_subjects) for r in self.windows.recordings], dtype=bool)
        by_channel: dict[str, tuple[list[float], list[float]]] = {}
        for bank, (_, whole) in zip(self.banks, self.bank_moments, strict=True):
            for column, channel in enumerate(bank.channels):
                means, variances = by_channel.setdefault(f"{bank.modality}/{channel.name}", ([], []))
                has = chosen & (whole.count[:, column] > 0)
                means.extend(whole.mean[has, column])
                variances.extend(whole.variance[has, column])
        signals = {key: population_statistics(np.array(m), np.array(v)) for key, (m, v) in by_channel.items() if m}
        _, whole = self.feature_moments
        features: dict[str, Statistics] = {}
        for column, name in enumerate(self.windows.feature_names):
            has = chosen & (whole.count[:, column] > 0)
            if has.any():
                features[name] = population_statistics(whole.mean[has, column], whole.variance[has, column])
        return TrainingStatistics(signals, features)

    def features(self, population: TrainingStatistics) -> FloatArray:
        """Return normalised features (n_windows, n_features), NaN where undefined, clipped (not in mode ``raw``)."""
        past, _ = self.feature_moments
        statistics = [population.features.get(name, UNSEEN) for name in self.windows.feature_names]
        prior = self.settings.prior_seconds / self.step_seconds
        affine = affine_of(self.settings.mode, past, statistics, prior_count=prior)
        values = (self.raw_features - affine.centre) / affine.spread
        return values if self.settings.mode == "raw" else np.clip(values, -self.settings.clip, self.settings.clip)

    def signal_affine(self, index: int, population: TrainingStatistics) -> Affine:
        """Return the affine map of every window and channel of bank ``index``."""
        bank, (past, _) = self.banks[index], self.bank_moments[index]
        statistics = [population.of_channel(bank.modality, channel.name) for channel in bank.channels]
        prior = self.settings.prior_seconds * bank.sampling_rate
        return affine_of(self.settings.mode, past, statistics, prior_count=prior)


def _ended_by(ends: FloatArray, times: FloatArray) -> IntArray:
    """Return how many windows (in time order) have ended by each time."""
    # Half a millisecond of grace: onsets are sums of floats.
    return np.searchsorted(ends, times + 5e-4, side="right").astype(np.int64)
