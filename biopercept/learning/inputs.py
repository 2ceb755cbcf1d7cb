"""From windows to what models read: normalised features, and batches of token inputs for the Perceiver.

A :class:`Normaliser` is fitted on the recordings of training subjects alone; a change in any
other subject leaves it, and everything trained on it, unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.learning.layouts import Layouts
from biopercept.learning.normalisation import (
    UNSEEN,
    Affine,
    FloatArray,
    Moments,
    NormalisationSettings,
    Population,
    Statistics,
    affine_of,
    cumulative_moments,
    moments_until,
    population_statistics,
)
from biopercept.learning.prepared_banks import PreparedBank
from biopercept.learning.sessions import Sessions
from biopercept.learning.signals import N_CHANNEL_CODES, SignalBank, bank_moments, build_banks
from biopercept.learning.windows import IntArray, WindowTable
from biopercept.modalities import MODALITIES
from biopercept.model.tokens import FeatureGroup, SensorPatches, TokenInputs, TokenSettings, TokenVocabulary


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
    def banks(self) -> tuple[SignalBank, ...]:
        """Return the signal banks, read once."""
        return build_banks(self.windows.recordings, raw=self.raw, derived=self.derived)

    @cached_property
    def bank_moments(self) -> tuple[tuple[Moments, Moments], ...]:
        """Return per bank the moments of the windows' own recordings."""
        found = []
        for bank in self.banks:
            own, whole, reference = bank_moments(bank, self.windows, self.settings.mode, self.reference_ends)
            found.append((self._of_session(own, whole, reference), whole))
        return tuple(found)

    @cached_property
    def sessions(self) -> Sessions:
        """Return which recordings came before which, as far as the normalisation asks."""
        return Sessions.of(self.windows.recordings, self.settings.scope)

    @cached_property
    def reference_ends(self) -> FloatArray:
        """Return where the reference ends in each recording, seconds (n_recordings,)."""
        return self.sessions.reference_ends(self.windows.recordings, self.settings.reference_seconds)

    def _of_session(self, own: Moments, whole: Moments, reference: Moments) -> Moments:
        return self.sessions.known(self.settings.mode, own, whole, reference, self.windows.recording)

    @cached_property
    def raw_features(self) -> FloatArray:
        """Return the un-normalised features (n_windows, n_features)."""
        return self.windows.raw_features()

    @cached_property
    def feature_moments(self) -> tuple[Moments, Moments]:
        """Return the moments of the features over each recording's grid windows, as for signals."""
        own, whole, reference = _feature_moments(self.windows, self.settings.mode, self.reference_ends)
        return self._of_session(own, whole, reference), whole

    def fit(self, training_subjects: Collection[str]) -> Population:
        """Return the population's statistics, from the recordings of these subjects alone."""
        chosen = np.array([r.subject in set(training_subjects) for r in self.windows.recordings], dtype=bool)
        found: dict[str, tuple[list[float], list[float]]] = {}
        for bank, (_, whole) in zip(self.banks, self.bank_moments, strict=True):
            for column, channel in enumerate(bank.channels):
                means, variances = found.setdefault(f"{bank.modality}/{channel.name}", ([], []))
                has = chosen & (whole.count[:, column] > 0)
                means.extend(whole.mean[has, column])
                variances.extend(whole.variance[has, column])
        signals = {key: population_statistics(np.array(m), np.array(v)) for key, (m, v) in found.items() if m}
        _, whole = self.feature_moments
        features: dict[str, Statistics] = {}
        for column, name in enumerate(self.windows.feature_names):
            has = chosen & (whole.count[:, column] > 0)
            if has.any():
                features[name] = population_statistics(whole.mean[has, column], whole.variance[has, column])
        return Population(signals, features)

    def features(self, population: Population) -> FloatArray:
        """Return normalised features (n_windows, n_features), NaN where undefined, clipped (not in mode ``raw``)."""
        own, _ = self.feature_moments
        statistics = [population.features.get(name, UNSEEN) for name in self.windows.feature_names]
        prior = self.settings.prior_seconds / self.step_seconds
        affine = affine_of(self.settings.mode, own, statistics, prior_count=prior)
        values = (self.raw_features - affine.centre) / affine.spread
        return values if self.settings.mode == "raw" else np.clip(values, -self.settings.clip, self.settings.clip)

    def signal_affine(self, index: int, population: Population) -> Affine:
        """Return the affine map of every window and channel of bank ``index``."""
        bank, (own, _) = self.banks[index], self.bank_moments[index]
        statistics = [population.of_channel(bank.modality, channel.name) for channel in bank.channels]
        prior = self.settings.prior_seconds * bank.sampling_rate
        return affine_of(self.settings.mode, own, statistics, prior_count=prior)


def _feature_moments(windows: WindowTable, mode: str, reference_ends: FloatArray) -> tuple[Moments, Moments, Moments]:
    """Return moments of features over grid windows: those ended by each window's end, all, those of the reference."""
    n_features = len(windows.feature_names)
    own = Moments(*(np.zeros((len(windows), n_features)) for _ in range(3)))
    shape = (len(windows.recordings), n_features)
    whole, reference = (Moments(*(np.zeros(shape) for _ in range(3))) for _ in range(2))
    for index, recording in enumerate(windows.recordings):
        table = recording.windows
        grid = np.flatnonzero(~np.asarray(table.is_labelled))
        grid = grid[np.argsort(np.asarray(table.onset)[grid], kind="stable")]
        ends = np.asarray(table.onset)[grid] + windows.length_seconds
        values = np.asarray(table.features, dtype=np.float64)[grid]
        rows = np.flatnonzero(windows.recording == index)
        limit = reference_ends[index : index + 1]
        until = np.repeat(limit, len(rows)) if mode == "reference" else windows.onset[rows] + windows.length_seconds
        known = np.full(len(rows), len(ends)) if mode == "recording" else _ended_by(ends, until)
        at = np.array([index])
        for column in range(n_features):
            is_real = np.isfinite(values[:, column])
            running = cumulative_moments(np.where(is_real, values[:, column], 0.0), is_real)
            parts = ((own, rows, known), (whole, at, np.array([len(grid)])), (reference, at, _ended_by(ends, limit)))
            for into, where, stop in parts:
                found = moments_until(running, stop)
                into.count[where, column], into.mean[where, column] = found.count, found.mean
                into.variance[where, column] = found.variance
    return own, whole, reference


def _ended_by(ends: FloatArray, times: FloatArray) -> IntArray:
    """Return how many windows (in time order) have ended by each time."""
    # Half a millisecond of grace: onsets are sums of floats.
    return np.searchsorted(ends, times + 5e-4, side="right").astype(np.int64)


@dataclass(frozen=True, eq=False)
class ScaledPatches:
    """Patches of one signal in B windows, and how their C channels were scaled.

    Attributes
    ----------
    channels : tuple of str
    patches : SensorPatches
        Normalised.
    centre, spread : float32 Tensor (B, C)
        In the signal's unit: a value is ``centre + spread * normalised``, unless it was clipped.
    """

    channels: tuple[str, ...]
    patches: SensorPatches
    centre: torch.Tensor
    spread: torch.Tensor


class TokenSource:
    """Batches of token inputs for a table's windows, normalised with statistics of the training subjects.

    Sensors and features that no training subject had are left out: the network has never seen them.

    Parameters
    ----------
    inputs : WindowInputs
    population : Population
        Fitted on the training subjects.
    tokens : TokenSettings
        Which kinds of tokens are built.
    device : torch.device
        Where samples lie and batches are made.

    Attributes
    ----------
    layouts : Layouts
        Which windows have the same channels, and so are best read together.

    Raises
    ------
    SettingsError
        Where the windows are longer than a learned time code reaches.
    """

    def __init__(
        self, inputs: WindowInputs, population: Population, tokens: TokenSettings, device: torch.device
    ) -> None:
        self.device = device
        self._clip = inputs.settings.clip if inputs.settings.mode != "raw" else math.inf
        self._length = inputs.windows.length_seconds
        tokens.require_reach(self._length)
        self._banks: list[PreparedBank] = []
        for index, bank in enumerate(inputs.banks):
            if population.has_modality(bank.modality):
                affine = inputs.signal_affine(index, population)
                self._banks.append(PreparedBank(bank, affine, inputs.windows, device))
        n_patches = [bank.shape(self._length)[1] for bank in self._banks]
        self.layouts = Layouts.of([bank.bank for bank in self._banks], n_patches, inputs.windows)
        self._groups: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        if tokens.features:
            values = inputs.features(population)
            for name, columns in feature_groups(inputs.windows.feature_names).items():
                part = values[:, columns]
                is_known = np.array([inputs.windows.feature_names[c] in population.features for c in columns])
                is_real = np.isfinite(part) & is_known
                filled = torch.from_numpy(np.where(is_real, part, 0.0).astype(np.float32)).to(device)
                self._groups.append((name, filled, torch.from_numpy(is_real).to(device)))

    def batch(self, rows: IntArray, *, is_whole: bool = False) -> TokenInputs:
        """Return the token inputs of the windows at ``rows`` of the table.

        Signals of which nothing is real, and channels that none of the windows' recordings has, are left out; the
        latter stay with ``is_whole``, so that a channel has one number in all batches.
        """
        rows = np.asarray(rows, dtype=np.int64)
        at = torch.from_numpy(rows).to(self.device)
        chosen = [None] * len(self._banks) if is_whole or not len(rows) else self.layouts.channels(rows)
        sensors = tuple(
            bank.patches(at, self._length, self._clip, channels)
            for bank, channels in zip(self._banks, chosen, strict=True)
            if channels is None or len(channels)
        )
        groups = tuple(FeatureGroup(name, values[at], is_real[at]) for name, values, is_real in self._groups)
        present = tuple(sensor for sensor in sensors if bool(sensor.is_real.any()))
        measured = tuple(group for group in groups if bool(group.is_real.any()))
        if not present and not measured:
            if not sensors and not groups:  # no channel of any bank: the first stands for what is absent
                sensors = tuple(bank.patches(at, self._length, self._clip) for bank in self._banks)
            return TokenInputs(sensors, groups)  # nothing is real: the network answers from its query alone
        return TokenInputs(present, measured)

    def scaled(self, rows: IntArray) -> tuple[ScaledPatches, ...]:
        """Return every signal's patches in the windows at ``rows`` with their scale, absent signals too."""
        at = torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(self.device)
        return tuple(
            ScaledPatches(
                tuple(channel.name for channel in bank.bank.channels),
                bank.patches(at, self._length, self._clip),
                bank.centre[at],
                bank.spread[at],
            )
            for bank in self._banks
        )

    def has_tokens(
        self, rows: IntArray, *, read: Callable[[TokenInputs], TokenInputs] | None = None, batch_size: int = 256
    ) -> NDArray[np.bool_]:
        """Return which of the windows at ``rows`` have at least one real token, (len(rows),).

        Parameters
        ----------
        rows : int64 array
        read : callable, optional
            Gives the part of a batch whose tokens count; None: all of it.
        batch_size : int
        """
        found = [torch.zeros(0, dtype=torch.bool)]
        for start in range(0, len(rows), batch_size):
            batch = self.batch(rows[start : start + batch_size])
            batch = batch if read is None else read(batch)
            real = [s.is_real.flatten(1).any(1) for s in batch.sensors] + [g.is_real.any(1) for g in batch.features]
            none = torch.zeros(min(batch_size, len(rows) - start), dtype=torch.bool, device=self.device)
            found.append(torch.stack([none, *real]).any(0).cpu())
        return np.asarray(torch.cat(found).numpy(), dtype=bool)


def feature_groups(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the columns of each feature group ("group/name"), in order of appearance.

    >>> feature_groups(["heart/mean", "eda/scl", "heart/sd"])
    {'heart': [0, 2], 'eda': [1]}
    """
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        groups.setdefault(name.split("/", 1)[0], []).append(column)
    return groups


def vocabulary_of(feature_names: Sequence[str]) -> TokenVocabulary:
    """Return what a model must be able to read: every modality at its model rate, and these feature groups.

    It does not depend on which sensors a study happens to have.
    """
    return TokenVocabulary(
        patch_samples={name: row.patch_samples for name, row in MODALITIES.items()},
        feature_groups={name: len(columns) for name, columns in feature_groups(feature_names).items()},
        n_channel_codes=N_CHANNEL_CODES,
    )
