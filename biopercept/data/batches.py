"""Batches of token inputs for the windows of a table, put together so that little of them is padding.

A batch of windows with other sensors or montages holds masked tokens in place of what only some of them have. Windows
are therefore grouped by the channels that their recordings have (a gap is no other layout), while the padding that this
costs is less work than one more call of a network. A study whose recordings all have the same channels is never
divided.

A training batch is drawn as ever and then read in parts, whose outputs are put back in the order of the draw before any
loss is taken. Only the dropout draws of a divided batch differ from those of an undivided one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import TrainingStatistics
from biopercept.data.signals import ABSENT, N_CHANNEL_CODES, PreparedArrays, SignalArrays
from biopercept.data.windows import IntArray, WindowTable
from biopercept.modalities import MODALITIES
from biopercept.model.settings import TokenSettings
from biopercept.model.token_inputs import FeatureGroup, SensorPatches, TokenInputs, TokenVocabulary

CALL_TOKENS = 2048
"""Masked tokens that cost as much as one more call of a network (a processor took 1900 in training, 900 else)."""

AMOUNTS = frozenset(["heart/coverage"])
"""Features that say how much was measured: where nothing else of their group is known, they are absent, too."""


@dataclass(frozen=True, eq=False)
class ScaledPatches:
    """Normalised patches of a signal in B windows: a value is ``centre + spread * normalised``, unless it was clipped.

    Centre and spread have shape (B, C), in the signal's unit.
    """

    channels: tuple[str, ...]
    patches: SensorPatches
    centre: torch.Tensor
    spread: torch.Tensor


class TokenSource:
    """Batches of token inputs for a table's windows, normalised with ``population``, the training subjects' statistics.

    Sensors and features that no training subject had are excluded. ``device`` is where samples lie and batches are
    made.

    Raises SettingsError where the windows are longer than a learned time code reaches.
    """

    def __init__(
        self, inputs: WindowInputs, population: TrainingStatistics, tokens: TokenSettings, device: torch.device
    ) -> None:
        self.device = device
        self._population, self._tokens = population, tokens
        self._clip = inputs.settings.clip if inputs.settings.mode != "raw" else math.inf
        self._length = inputs.windows.length_seconds
        tokens.require_reach(self._length)
        self._banks: list[PreparedArrays] = []
        for index, bank in enumerate(inputs.banks):
            if population.has_modality(bank.modality):
                affine = inputs.signal_affine(index, population)
                self._banks.append(PreparedArrays(bank, affine, inputs.windows, device))
        n_patches = [bank.shape(self._length)[1] for bank in self._banks]
        self.layouts = Layouts.of([bank.bank for bank in self._banks], n_patches, inputs.windows)
        self._groups: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        if tokens.features:
            values = inputs.features(population)
            for name, columns in feature_groups(inputs.windows.feature_names).items():
                part = values[:, columns]
                is_known = np.array([inputs.windows.feature_names[c] in population.features for c in columns])
                is_real = np.isfinite(part) & is_known
                amounts = np.array([inputs.windows.feature_names[c] in AMOUNTS for c in columns])
                is_real[:, amounts] &= is_real[:, ~amounts].any(axis=1, keepdims=True)
                filled = torch.from_numpy(np.where(is_real, part, 0.0).astype(np.float32)).to(device)
                self._groups.append((name, filled, torch.from_numpy(is_real).to(device)))

    def reading(self, inputs: WindowInputs) -> TokenSource:
        """Return a source of other windows, or of these with fewer sensors, that scales as this one does."""
        return TokenSource(inputs, self._population, self._tokens, self.device)

    def batch(self, rows: IntArray, *, is_whole: bool = False) -> TokenInputs:
        """Return the token inputs of the windows at ``rows`` of the table.

        Signals of which nothing is real, and channels that none of the windows' recordings has, are absent; the latter
        stay with ``is_whole``, so that a channel has one number in all batches.
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

        ``read`` gives the part of a batch whose tokens count; None: all of it.
        """
        by_batch = [torch.zeros(0, dtype=torch.bool)]
        for start in range(0, len(rows), batch_size):
            batch = self.batch(rows[start : start + batch_size])
            batch = batch if read is None else read(batch)
            real = [s.is_real.flatten(1).any(1) for s in batch.sensors] + [g.is_real.any(1) for g in batch.features]
            none = torch.zeros(min(batch_size, len(rows) - start), dtype=torch.bool, device=self.device)
            by_batch.append(torch.stack([none, *real]).any(0).cpu())
        return np.asarray(torch.cat(by_batch).numpy(), dtype=bool)


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


@dataclass(frozen=True, eq=False)
class Layouts:
    """Which channels the windows of a table have: windows of one layout have the same.

    Attributes
    ----------
    kind : int64 array, shape (n_windows,)
        Number of each window's layout.
    has : bool array, shape (n_layouts, n_channels in all banks)
    n_tokens : int64 array, shape (n_channels in all banks,)
        Tokens of a channel in a window.
    n_channels : tuple of int
        By bank.
    """

    kind: IntArray
    has: NDArray[np.bool_]
    n_tokens: IntArray
    n_channels: tuple[int, ...]

    @staticmethod
    def of(banks: Sequence[SignalArrays], n_patches: Sequence[int], windows: WindowTable) -> Layouts:
        """Return the layouts of the windows of a table; ``n_patches`` of a window by bank."""
        columns = [bank.offset != ABSENT for bank in banks]
        nothing = np.zeros((len(windows.recordings), 0), dtype=bool)
        of_recording = np.concatenate([nothing, *columns], axis=1)
        counts = [np.full(bank.n_channels, n, dtype=np.int64) for bank, n in zip(banks, n_patches, strict=True)]
        # Recordings without a window in the table make no layout.
        used, index = np.unique(windows.recording, return_inverse=True)
        if not of_recording.shape[1]:  # nothing but features
            has, kind = np.zeros((1, 0), dtype=bool), np.zeros(len(used), dtype=np.int64)
        else:
            has, kind = np.unique(of_recording[used], axis=0, return_inverse=True)
        return Layouts(
            kind.reshape(-1).astype(np.int64)[index.reshape(-1)],
            has,
            np.concatenate([np.zeros(0, dtype=np.int64), *counts]),
            tuple(bank.n_channels for bank in banks),
        )

    def channels(self, rows: IntArray) -> list[IntArray | None]:
        """Return by bank which channels any of the windows can have; None for all."""
        is_there = self.has[np.unique(self.kind[rows])].any(0)
        parts = np.split(is_there, np.cumsum(self.n_channels)[:-1]) if self.n_channels else []
        return [None if part.all() else np.flatnonzero(part).astype(np.int64) for part in parts]

    def parts(self, rows: IntArray, *, most: int | None = None) -> list[IntArray]:
        """Return positions in ``rows``, rising in each part, by which the windows are best read together.

        ``rows`` are in any order and may repeat; ``most`` limits the windows in a part.
        """
        kinds, index = np.unique(self.kind[rows], return_inverse=True)
        if len(kinds) > 1:
            number = self._together(kinds, np.bincount(index.reshape(-1)))[index.reshape(-1)]
            groups = [np.flatnonzero(number == n) for n in dict.fromkeys(number.tolist())]
        else:
            groups = [np.arange(len(rows))]
        size = most or max(len(rows), 1)
        return [group[start : start + size] for group in groups for start in range(0, len(group), size)]

    def padding(self, rows: IntArray, parts: Sequence[IntArray]) -> float:
        """Return the fraction of padding among the tokens of signals read in these parts; 0 where there are none."""
        real = int((self.has @ self.n_tokens)[self.kind[rows]].sum())
        made = 0
        for part in parts:
            union = self.has[np.unique(self.kind[rows[part]])].any(0)
            made += len(part) * int(union @ self.n_tokens)
        return 1.0 - real / made if made else 0.0

    def _together(self, kinds: IntArray, counts: IntArray) -> IntArray:
        """Return for each kind the number of its group: the largest first, each joined to what it pads least."""
        group_of = np.zeros(len(kinds), dtype=np.int64)
        unions: list[NDArray[np.bool_]] = []
        sizes: list[int] = []
        for index in np.argsort(-(self.has[kinds] @ self.n_tokens), kind="stable").tolist():
            sensors, count = self.has[kinds[index]], int(counts[index])
            padded = [
                (size + count) * int((union | sensors) @ self.n_tokens)
                - size * int(union @ self.n_tokens)
                - count * int(sensors @ self.n_tokens)
                for union, size in zip(unions, sizes, strict=True)
            ]
            best = int(np.argmin(padded)) if padded else -1
            if padded and padded[best] <= CALL_TOKENS:
                unions[best] = unions[best] | sensors
                sizes[best] += count
            else:
                best = len(unions)
                unions.append(sensors)
                sizes.append(count)
            group_of[index] = best
        return group_of


Read = TypeVar("Read", Tensor, dict[str, Tensor])


def in_order(parts: Sequence[IntArray], call: Callable[[IntArray], Read]) -> Read:
    """Return what ``call`` gives for all positions, in their order, from one call for each of :meth:`Layouts.parts`."""
    if len(parts) == 1:
        return call(parts[0])
    back = torch.from_numpy(np.argsort(np.concatenate(parts), kind="stable"))
    results = [call(part) for part in parts]
    first = results[0]
    if isinstance(first, Tensor):
        return torch.cat(results)[back.to(first.device)]
    return {
        name: torch.cat([result[name] for result in results])[back.to(result.device)] for name, result in first.items()
    }
