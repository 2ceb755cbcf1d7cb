"""What costs nothing to say of a signal that was not measured: constants and mean patches of the training subjects.

All are in normalised units. Where windows are scaled by the recording's own past, *zero* is this past's mean: a
person's own level, which a sensor that was never worn would not give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biopercept.learning.token_source import TokenSource
from biopercept.learning.windows import IntArray

Floats = NDArray[np.float64]

_KEPT_FOR_MEDIANS = 200_000  # values of a channel


@dataclass(eq=False)
class _Sums:
    """Running sums over the training patches of one channel."""

    total: Floats  # (P, L)
    count: Floats  # (P, 1), patches
    values: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Fillers:
    """Fitted fillers.

    Attributes
    ----------
    of_channel : mapping of (modality, channel) to (mapping of filler to float64 array, shape (P, L))
    """

    of_channel: Mapping[tuple[str, str], Mapping[str, Floats]]

    def patches(self, modality: str, channel: str, n_patches: int) -> dict[str, Floats] | None:
        """Return each filler's patches, (n_patches, L); None for a channel that no training subject had.

        A place that training windows lack, as they are a sample shorter, is filled as the last one they have.
        """
        found = self.of_channel.get((modality, channel))
        if found is None:
            return None
        places = np.minimum(np.arange(n_patches), len(found["zero"]) - 1)
        return {name: patches[places] for name, patches in found.items()}


def fit_fillers(source: TokenSource, rows: IntArray, *, batch_size: int = 256) -> Fillers:
    """Return the fillers of every channel in ``source``, from the windows at ``rows``, each weighing the same.

    Parameters
    ----------
    source : TokenSource
        Of the signals that will be asked for.
    rows : int64 array
        Windows of training subjects.
    batch_size : int
        Windows read at once.
    """
    sums: dict[tuple[str, str], _Sums] = {}
    for start in range(0, len(rows), batch_size):
        for signal in source.scaled(rows[start : start + batch_size]):
            values = signal.patches.patches.cpu().numpy().astype(np.float64)  # (B, C, P, L)
            is_real = signal.patches.is_real.cpu().numpy()
            for number, channel in enumerate(signal.channels):
                _add(sums, (signal.patches.modality, channel), values[:, number], is_real[:, number])
    return Fillers({key: _fitted(held) for key, held in sums.items() if held.count.any()})


def _add(sums: dict[tuple[str, str], _Sums], key: tuple[str, str], values: Floats, is_real: NDArray[np.bool_]) -> None:
    _, p, length = values.shape
    held = sums.setdefault(key, _Sums(np.zeros((p, length)), np.zeros((p, 1))))
    if p > len(held.total):  # another sampling rate may fit one patch more
        more = ((0, p - len(held.total)), (0, 0))
        held.total, held.count = np.pad(held.total, more), np.pad(held.count, more)
    held.total[:p] += (values * is_real[..., None]).sum(0)
    held.count[:p] += is_real.sum(0)[:, None]
    held.values.append(values[is_real].astype(np.float32).ravel())


def _fitted(held: _Sums) -> dict[str, Floats]:
    everything = np.concatenate(held.values)
    few = everything[:: max(1, len(everything) // _KEPT_FOR_MEDIANS)]
    whole = held.total.sum(0) / held.count.sum()  # (L,)
    at_place = np.divide(
        held.total, held.count, out=np.broadcast_to(whole, held.total.shape).copy(), where=held.count > 0
    )
    shape = held.total.shape
    return {
        "zero": np.zeros(shape),
        "mean": np.full(shape, whole.mean()),
        "median": np.full(shape, float(np.median(few))),
        "mean patch": np.broadcast_to(whole, shape).copy(),
        "mean patch at its place": at_place,
    }
