"""How far what was said of hidden patches is from what was measured, of one subject, signal by signal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.fillers import Fillers
from biopercept.learning.generating import told_patches
from biopercept.learning.token_source import ScaledPatches, TokenSource
from biopercept.learning.windows import IntArray
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.results.generation import ERRORS, FILLERS, NETWORK

Floats = NDArray[np.float64]


@dataclass(eq=False)
class _Running:
    """Sums over the samples of one subject and signal."""

    n_windows: int = 0
    n_patches: int = 0
    n_samples: int = 0
    errors: dict[str, Floats] = field(default_factory=dict)  # by what was said: the four sums of ERRORS
    moments: Floats = field(default_factory=lambda: np.zeros(5))  # told, truth, told^2, truth^2, told * truth

    def add(self, truth: Floats, spread: Floats, said: dict[str, Floats]) -> None:
        """Add patches (n, L) with the spread of each (n, 1)."""
        self.n_patches += len(truth)
        self.n_samples += truth.size
        for name, values in said.items():
            difference = np.abs(values - truth)
            in_unit = difference * spread
            sums = [(difference**2).sum(), difference.sum(), (in_unit**2).sum(), in_unit.sum()]
            self.errors[name] = self.errors.get(name, np.zeros(4)) + np.array(sums)
        told = said[NETWORK]
        self.moments += np.array([told.sum(), truth.sum(), (told**2).sum(), (truth**2).sum(), (told * truth).sum()])

    def row(self) -> dict[str, Any]:
        """Return the subject's errors by what was said, and the correlation of what the network said."""
        found: dict[str, Any] = {"n_windows": self.n_windows, "n_patches": self.n_patches}
        means = {name: sums / self.n_samples for name, sums in self.errors.items()}
        for place, error in enumerate(ERRORS):
            values = {name: float(held[place]) for name, held in means.items()}
            found[error] = {n: math.sqrt(v) for n, v in values.items()} if error.startswith("rmse") else values
        told, truth, told_2, truth_2, both = self.moments / self.n_samples
        spread = (told_2 - told**2) * (truth_2 - truth**2)
        found["correlation"] = float((both - told * truth) / math.sqrt(spread)) if spread > 1e-12 else None
        return found


def subject_errors(
    network: BiosignalPerceiver,
    shown: TokenSource,
    hidden: TokenSource,
    fillers: Fillers,
    rows: IntArray,
    *,
    batch_size: int = 64,
) -> list[dict[str, Any]]:
    """Return a row for each hidden signal that has a patch in these windows.

    Parameters
    ----------
    network : BiosignalPerceiver
    shown : TokenSource
        The windows without the hidden sensor; windows in which it leaves nothing are not asked about.
    hidden : TokenSource
        The same windows with the hidden sensor alone: what is true.
    fillers : Fillers
        Fitted on training subjects; a channel that they lack is not asked about.
    rows : int64 array
        Windows of one subject.
    batch_size : int

    Returns
    -------
    list of dict
        ``signal`` (a modality), ``n_windows`` and ``n_patches`` that were asked about, each of :data:`ERRORS` by
        what was said, and ``correlation`` (Pearson's, over samples, normalised; None where either is constant).
    """
    found: dict[str, _Running] = {}
    rows = rows[shown.has_tokens(rows)]
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        wanted = [signal for signal in hidden.scaled(batch) if bool(signal.patches.is_real.any())]
        if not wanted:
            continue
        told = told_patches(network, shown.batch(batch), [signal.patches for signal in wanted])
        asked: dict[str, NDArray[np.bool_]] = {}
        for signal, answer in zip(wanted, told, strict=True):
            name = signal.patches.modality
            held = found.setdefault(name, _Running())
            is_asked = _add(held, signal, answer.cpu().numpy().astype(np.float64), fillers)
            asked[name] = asked.get(name, np.zeros(len(batch), dtype=bool)) | is_asked
        for name, is_asked in asked.items():
            found[name].n_windows += int(is_asked.sum())
    return [{"signal": name, **held.row()} for name, held in found.items() if held.n_samples]


def _add(held: _Running, signal: ScaledPatches, told: Floats, fillers: Fillers) -> NDArray[np.bool_]:
    """Add a signal's real patches, channel by channel; return which windows had one."""
    is_real = signal.patches.is_real.cpu().numpy()  # (B, C, P)
    truth = signal.patches.patches.cpu().numpy().astype(np.float64)
    spread = signal.spread.cpu().numpy().astype(np.float64)
    is_asked = np.zeros(len(is_real), dtype=bool)
    for number, channel in enumerate(signal.channels):
        real = is_real[:, number]
        filled = fillers.patches(signal.patches.modality, channel, real.shape[1])
        if filled is None or not real.any():
            continue
        window, place = np.nonzero(real)
        said = {NETWORK: told[:, number][real], **{name: filled[name][place] for name in FILLERS}}
        held.add(truth[:, number][real], spread[window, number][:, None], said)
        is_asked |= real.any(1)
    return is_asked
