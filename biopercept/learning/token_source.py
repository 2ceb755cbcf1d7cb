"""Batches of token inputs for the windows of a table, and what a network must be able to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.learning.inputs import WindowInputs
from biopercept.learning.layouts import Layouts
from biopercept.learning.normalisation import Population
from biopercept.learning.prepared_banks import PreparedBank
from biopercept.learning.signals import N_CHANNEL_CODES
from biopercept.learning.windows import IntArray
from biopercept.modalities import MODALITIES
from biopercept.model.tokens import FeatureGroup, SensorPatches, TokenInputs, TokenSettings, TokenVocabulary


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
