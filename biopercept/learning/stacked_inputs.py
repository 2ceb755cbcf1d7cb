"""Batches of several folds at once: one gather for all, each fold's windows scaled by its own training subjects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopercept.learning.inputs import WindowInputs
from biopercept.learning.normalisation import Population
from biopercept.learning.prepared_banks import PreparedBank
from biopercept.learning.signals import ABSENT
from biopercept.learning.token_source import TokenSource
from biopercept.learning.windows import IntArray
from biopercept.model.tokens import FeatureGroup, SensorPatches, TokenInputs, TokenSettings

Present = tuple[tuple[tuple[int, tuple[int, ...]], ...], tuple[int, ...]]
"""Numbers of the signal banks, each with those of its channels, and of the feature groups, that a batch has."""

_CHUNK = 256


class StackedSource:
    """What :class:`TokenSource` is for one fold, for several: a table of folds x windows.

    The samples lie on the device once. Which sensors a batch has is known beforehand, on the host, so that
    making a batch never waits for the device.

    Parameters
    ----------
    inputs : WindowInputs
    populations : sequence of Population
        Of each fold, fitted on its own subjects.
    tokens : TokenSettings
    device : torch.device
    """

    def __init__(
        self, inputs: WindowInputs, populations: Sequence[Population], tokens: TokenSettings, device: torch.device
    ) -> None:
        self._n_windows = len(inputs.windows)
        self._device = device
        found: list[dict[tuple[str, float], tuple[Tensor, Tensor]]] = []
        banks: dict[tuple[str, float], PreparedBank] = {}
        groups: list[list[tuple[str, Tensor, Tensor]]] = []
        for population in populations:
            source = TokenSource(inputs, population, tokens, device)
            held = {(b.bank.modality, b.bank.sampling_rate): b for b in source._banks}
            found.append({key: (b.centre, b.spread) for key, b in held.items()})
            for key, bank in held.items():
                banks.setdefault(key, bank)
            groups.append(source._groups)
            self._length, self._clip = source._length, source._clip
        keys = [key for b in inputs.banks if (key := (b.modality, b.sampling_rate)) in banks]
        self._banks = [_for_folds(banks[key], [of_fold.get(key) for of_fold in found]) for key in keys]
        self._groups = [
            (parts[0][0], torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts]))
            for parts in zip(*groups, strict=True)
        ]
        has_bank = np.array([[key in of_fold for key in keys] for of_fold in found], dtype=bool)
        has_bank = has_bank.reshape(len(found), 1, len(keys))
        # (F, windows, banks), (F, windows, groups): what is real does not depend on how it is scaled
        self._has_bank = has_bank & self._windows_with_banks()[None]
        self._has_channel = [(b.bank.offset != ABSENT)[inputs.windows.recording] for b in self._banks]
        self._is_fitted = has_bank[:, 0]
        real = [is_real.any(1).cpu().numpy().reshape(len(found), -1) for _, _, is_real in self._groups]
        self._has_group = np.stack(real, -1) if real else np.zeros((len(found), self._n_windows, 0), dtype=bool)

    def present(self, fold: int, rows: IntArray) -> Present:
        """Return of what a fold's batch of these windows holds something real; of nothing: all that the fold has."""
        banks = self._with_channels(np.flatnonzero(self._has_bank[fold, rows].any(0)), rows)
        groups = tuple(np.flatnonzero(self._has_group[fold, rows].any(0)).tolist())
        if banks or groups:
            return banks, groups
        return self._with_channels(np.flatnonzero(self._is_fitted[fold])), tuple(range(len(self._groups)))

    def _with_channels(self, banks: IntArray, rows: IntArray | None = None) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Return banks with the channels that any recording of the windows has; None: all channels."""
        has = [self._has_channel[i] if rows is None else self._has_channel[i][rows] for i in banks]
        return tuple((int(i), tuple(np.flatnonzero(own.any(0)).tolist())) for i, own in zip(banks, has, strict=True))

    def batch(self, folds: Sequence[int], rows: Sequence[IntArray], present: Present) -> TokenInputs:
        """Return the inputs of K folds' windows, one fold after the other: K x B samples.

        Parameters
        ----------
        folds : sequence of int (K)
        rows : sequence of int64 arrays (B,)
            Of each fold, all of one length.
        present : tuple
            Of all these folds; see :meth:`present`.
        """
        places = np.concatenate([f * self._n_windows + r for f, r in zip(folds, rows, strict=True)])
        at = torch.from_numpy(places.astype(np.int64)).to(self._device)
        sensors = tuple(self._patches(i, channels, at) for i, channels in present[0])
        chosen = [self._groups[i] for i in present[1]]
        return TokenInputs(sensors, tuple(FeatureGroup(name, values[at], real[at]) for name, values, real in chosen))

    def _patches(self, number: int, channels: tuple[int, ...], at: Tensor) -> SensorPatches:
        bank = self._banks[number]
        only = None if len(channels) == bank.bank.n_channels else np.array(channels, dtype=np.int64)
        return bank.patches(at, self._length, self._clip, only)

    def _windows_with_banks(self) -> NDArray[np.bool_]:
        """Return which windows have a real patch of each bank, (n_windows, n_banks)."""
        has = np.zeros((self._n_windows, len(self._banks)), dtype=bool)
        for start in range(0, self._n_windows, _CHUNK):
            at = torch.arange(start, min(start + _CHUNK, self._n_windows), device=self._device)
            for number, bank in enumerate(self._banks):
                patches = bank.patches(at, self._length, self._clip)
                has[start : start + _CHUNK, number] = patches.is_real.flatten(1).any(1).cpu().numpy()
        return has


def split_tensors(inputs: TokenInputs, n_folds: int) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], TokenInputs]]:
    """Return the tensors of a batch of ``n_folds`` x B windows, each (n_folds, B, ...), and what puts B back together.

    Returns
    -------
    tensors : list of Tensor
    join : callable
        Makes a fold's TokenInputs from its part (B, ...) of each tensor.
    """
    held: tuple[SensorPatches | FeatureGroup, ...] = (*inputs.sensors, *inputs.features)
    names = [[f.name for f in fields(part) if isinstance(getattr(part, f.name), Tensor)] for part in held]
    tensors = [
        getattr(part, name).unflatten(0, (n_folds, -1)) for part, own in zip(held, names, strict=True) for name in own
    ]

    def join(parts: Sequence[Tensor]) -> TokenInputs:
        left = iter(parts)
        made: list[SensorPatches | FeatureGroup] = []
        for part, own in zip(held, names, strict=True):
            values: dict[str, Any] = {name: next(left) for name in own}
            made.append(replace(part, **values))
        sensors = tuple(p for p in made if isinstance(p, SensorPatches))
        return TokenInputs(sensors, tuple(p for p in made if isinstance(p, FeatureGroup)))

    return tensors, join


def _for_folds(bank: PreparedBank, maps: Sequence[tuple[Tensor, Tensor] | None]) -> PreparedBank:
    """Return a prepared bank whose window tables hold every window once per fold, with the fold's own affine map.

    A fold none of whose subjects had the sensor has no map; it is never asked for this bank.
    """
    stacked = copy.copy(bank)
    for name in ("first", "begin", "length", "quality_begin", "quality_length"):
        setattr(stacked, name, torch.cat([getattr(bank, name)] * len(maps)))
    nothing = torch.zeros_like(bank.centre), torch.ones_like(bank.spread)
    stacked.centre = torch.cat([(nothing if m is None else m)[0] for m in maps])
    stacked.spread = torch.cat([(nothing if m is None else m)[1] for m in maps])
    return stacked
