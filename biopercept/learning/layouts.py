"""Which sensors and channels each window can have, and batches of windows alike in them, so that little is padding.

A batch of windows with other sensors or montages holds, for each window, masked tokens in place of what only the others
have. Here windows are told apart by the channels that their recordings have (a gap is no other layout), without
looking at a sample. Windows are put together while the padding that this costs is less work than one more call of a
network; a study whose recordings all have the same channels is never divided, and its batches are what they were.

A training batch is drawn as ever (by subject and class) and then read in parts: the parts' outputs lie in the order
of the draw before any loss is taken, so that what is learnt from is the same. Only the dropout draws of a divided batch
differ from those of an undivided one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopercept.learning.signals import ABSENT, SignalBank
from biopercept.learning.windows import IntArray, WindowTable

CALL_TOKENS = 2048
"""Masked tokens that cost as much as one more call of a network (a processor took 1900 in training, 900 else)."""


@dataclass(frozen=True, eq=False)
class Layouts:
    """The layouts of a table's windows.

    Attributes
    ----------
    kind : int64 array, shape (n_windows,)
        Number of each window's layout.
    has : bool array, shape (n_layouts, n_channels in all banks)
        Which channels a layout has.
    n_tokens : int64 array, shape (n_channels in all banks,)
        Tokens of a channel in a window.
    n_channels : tuple of int
        Channels of each bank.
    """

    kind: IntArray
    has: NDArray[np.bool_]
    n_tokens: IntArray
    n_channels: tuple[int, ...]

    @staticmethod
    def of(banks: Sequence[SignalBank], n_patches: Sequence[int], windows: WindowTable) -> Layouts:
        """Return the layouts of the windows of a table.

        Parameters
        ----------
        banks : sequence of SignalBank
            Of the table's recordings.
        n_patches : sequence of int
            Patches of a window, by bank.
        windows : WindowTable
        """
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
        found = self.has[np.unique(self.kind[rows])].any(0)
        parts = np.split(found, np.cumsum(self.n_channels)[:-1]) if self.n_channels else []
        return [None if part.all() else np.flatnonzero(part).astype(np.int64) for part in parts]

    def parts(self, rows: IntArray, *, most: int | None = None) -> list[IntArray]:
        """Return positions in ``rows``, rising in each part, by which the windows are best read together.

        Parameters
        ----------
        rows : int64 array
            Windows of the table, in any order, also more than once.
        most : int, optional
            Windows in a part, at most.
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
        """Return the share of padding among the tokens of signals, read in these parts; 0 where there are none."""
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
        for place in np.argsort(-(self.has[kinds] @ self.n_tokens), kind="stable").tolist():
            own, count = self.has[kinds[place]], int(counts[place])
            padded = [
                (size + count) * int((union | own) @ self.n_tokens)
                - size * int(union @ self.n_tokens)
                - count * int(own @ self.n_tokens)
                for union, size in zip(unions, sizes, strict=True)
            ]
            best = int(np.argmin(padded)) if padded else -1
            if padded and padded[best] <= CALL_TOKENS:
                unions[best] = unions[best] | own
                sizes[best] += count
            else:
                best = len(unions)
                unions.append(own)
                sizes.append(count)
            group_of[place] = best
        return group_of


Read = TypeVar("Read", Tensor, dict[str, Tensor])


def in_order(parts: Sequence[IntArray], call: Callable[[IntArray], Read]) -> Read:
    """Return what ``call`` gives for all positions, in their order, from one call for each part.

    Parameters
    ----------
    parts : sequence of int64 arrays
        Each position in one of them, see :meth:`Layouts.parts`.
    call : callable
        From positions (n,) to a tensor (n, ...), or to several by name.
    """
    if len(parts) == 1:
        return call(parts[0])
    back = torch.from_numpy(np.argsort(np.concatenate(parts), kind="stable"))
    found = [call(part) for part in parts]
    first = found[0]
    if isinstance(first, Tensor):
        return torch.cat(found)[back.to(first.device)]
    return {name: torch.cat([own[name] for own in found])[back.to(own.device)] for name, own in first.items()}
