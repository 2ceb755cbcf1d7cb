"""Raw against permuted inputs: a fixed order for the places of every sample, and each network fitted anew.

A convolutional network takes neighbours in the grid for neighbours in the world, so shuffling the grid costs it;
a Perceiver reads a set of tokens, each with the code of its place, so nothing can change. Three ways:

``raw``
    As measured.
``permuted``
    Every sample's tokens in one random order, *with* their position codes: as in the original experiment,
    where the order is drawn after the codes are made.
``relabelled``
    Every sample's values in that order, position codes left in place: the codes then say nothing true about
    neighbourhood. Harder than the original experiment.

What the data are, and why, was settled before any network of these was fitted on permuted inputs:

``digits``
    Centred handwritten digits of 8 x 8 pixels. Each pixel has its own meaning, so neighbourhood is hardly needed: a
    linear model shows how far one comes without it.
``moved digits``
    The same at random places of 12 x 12 pixels. No pixel has a meaning of its own, as in photographs, which the
    original experiment used; weight sharing over neighbourhoods is what helps here. Added because centred digits are
    easy: in earlier trials a CNN lost only 1 to 3 points on them.
``windows``
    Short windows of sensors at random phase: what matters is how neighbouring samples go together.

References
----------
A. Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021, table 2,
doi:10.48550/arXiv.2103.03206. Here on small data: handwritten digits and windows of the made sample study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biopercept.store.reading import StudyStore, open_store
from biopercept.training.engine import seed_for, seeded
from experiments.classification import (
    FitSchedule,
    LabelledTokens,
    answers,
    fit_network,
    over_seeds,
    score_answers,
)
from experiments.networks import (
    ConvolutionsOnGrid,
    LinearOnTokens,
    NetworkSettings,
    PerceiverOnTokens,
    PlacedTokens,
    position_encoding,
)
from experiments.samples import CANVAS, N_WINDOW_SAMPLES, digit_tokens, moved_digit_tokens, window_tokens

VERSION = 2
"""Raised whenever what this experiment does changes, so that no older result is taken for a new one."""

WAYS = ("raw", "permuted", "relabelled")
N_BANDS = 4
"""Frequencies per axis of the position codes; 64 places are told apart."""


@dataclass(frozen=True)
class Contender:
    """A network of the experiment.

    Attributes
    ----------
    kind : str
        "perceiver", "convolutions" or "linear".
    encoding : str
        How places are coded: a name that ``position_encoding`` knows, or "none".
    ways : tuple of str
        The ways it is fitted; without codes, relabelling is permuting.
    """

    name: str
    kind: str
    encoding: str
    ways: tuple[str, ...] = ("raw", "permuted")

    def network(self, tokens: LabelledTokens, shape: Sequence[int]) -> PlacedTokens:
        """Return a new network for these tokens on a grid of this shape."""
        n_values, n_classes = tokens.values.shape[-1], len(tokens.classes)
        codes = position_encoding("fourier" if self.encoding == "none" else self.encoding, shape, n_bands=N_BANDS)
        if self.kind == "perceiver":
            return PerceiverOnTokens(n_values, codes, n_classes, NetworkSettings())
        if self.kind == "linear":
            return LinearOnTokens(n_values, codes, n_classes)
        return ConvolutionsOnGrid(n_values, codes, n_classes, reads_places=self.encoding != "none")


CONTENDERS = (
    Contender("linear (values alone)", "linear", "none", ("raw",)),
    Contender("CNN (values alone)", "convolutions", "none"),
    Contender("CNN (Fourier)", "convolutions", "fourier", WAYS),
    Contender("Perceiver IO (Fourier)", "perceiver", "fourier", WAYS),
    Contender("Perceiver IO (sinusoidal)", "perceiver", "sinusoidal"),
    Contender("Perceiver IO (learned)", "perceiver", "learned"),
)


def permuted(tokens: LabelledTokens, way: str, seed: int) -> LabelledTokens:
    """Return the tokens in one fixed random order of their places, the same for all samples; see the module.

    Parameters
    ----------
    tokens : LabelledTokens
        All with the same N places.
    way : str
        "raw", "permuted" or "relabelled".
    seed : int
        Of the order.
    """
    if way == "raw":
        return tokens
    order = torch.randperm(tokens.values.shape[1], generator=torch.Generator().manual_seed(seed))
    moved = replace(tokens, values=tokens.values[:, order])
    return moved if way == "relabelled" else replace(moved, positions=tokens.positions[:, order])


def fit_and_score(
    contender: Contender, tokens: LabelledTokens, shape: Sequence[int], way: str, seed: int, schedule: FitSchedule
) -> dict[str, Any]:
    """Return the score of one network fitted on one way of the tokens, with its size and its answers.

    Starting weights, batches and the order depend on the seed, not on the way. ``order_change`` is the largest change
    of any logit of the fitted network when it is asked the test samples in another order, values and codes together.
    """
    moved = permuted(tokens, way, seed_for("order", shape, seed))
    with seeded(seed_for(seed, contender.name)):
        network = contender.network(moved, shape)
        fit_network(network, moved, schedule)
    said = answers(network, moved)
    otherwise = answers(network, permuted(moved, "permuted", seed_for("another order", shape, seed)))
    return {
        "network": contender.name,
        "parameters": network.n_parameters,
        "way": way,
        "seed": seed,
        "chance": moved.chance,
        "n_training": len(moved.training),
        **score_answers(said, moved).to_json(),
        "answers": said.argmax(1).tolist(),
        "order_change": float((said - otherwise).abs().max()),
    }


DATA = ("digits", "moved digits", "windows")


@dataclass(frozen=True)
class PermutationFit:
    """One fit of the experiment, as a unit of work.

    Attributes
    ----------
    data : str
        One of :data:`DATA`.
    seed : int
        Draws split, starting weights, batches and order; a seed's raw and permuted fits share all of them.
    store : Path
        The study whose windows are read.
    """

    data: str
    contender: Contender
    way: str
    seed: int
    schedule: FitSchedule
    store: Path
    store_fingerprint: str

    @property
    def name(self) -> str:
        """Return what the fit is called."""
        return f"permutation {self.data} {self.contender.name} {self.way} seed {self.seed}"

    def identity(self) -> dict[str, Any]:
        """Return everything that the result depends on."""
        held = {"experiment": VERSION, "seed": self.seed, "way": self.way, "schedule": asdict(self.schedule)}
        held |= {"contender": asdict(self.contender), "size": asdict(NetworkSettings()), "bands": N_BANDS}
        return held | ({"store": self.store_fingerprint} if self.data == "windows" else {})

    def run(self) -> dict[str, Any]:
        """Fit and score."""
        if self.data == "windows":
            with open_store(self.store) as store:
                tokens, shape = window_tokens(tuple(store.recordings), self.seed), (N_WINDOW_SAMPLES,)
            return {"data": self.data, **self._fitted(tokens, shape)}
        is_moved = self.data == "moved digits"
        tokens = moved_digit_tokens(self.seed) if is_moved else digit_tokens(self.seed)
        return {"data": self.data, **self._fitted(tokens, (CANVAS, CANVAS) if is_moved else (8, 8))}

    def _fitted(self, tokens: LabelledTokens, shape: tuple[int, ...]) -> dict[str, Any]:
        return fit_and_score(self.contender, tokens, shape, self.way, self.seed, self.schedule)


def permutation_fits(
    store: StudyStore,
    *,
    seeds: Sequence[int],
    schedule: FitSchedule,
    contenders: Sequence[Contender],
    data: Sequence[str] = DATA,
) -> list[PermutationFit]:
    """Return the fits of the experiment, seed by seed."""
    known = store.fingerprint()
    return [
        PermutationFit(name, contender, way, seed, schedule, store.path, known)
        for seed in seeds
        for name in data
        for contender in contenders
        for way in contender.ways
    ]


def summary_of(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each data set, network and way, the mean over seeds and the paired differences from raw.

    Parameters
    ----------
    scores : sequence of mapping
        What :func:`fit_and_score` returned, with ``data``.

    Returns
    -------
    list of dict
        ``accuracy`` and ``minus_raw`` over seeds; ``same_answers``, the share of test samples answered as by the raw
        fit of the same seed; ``order_change``, the largest over seeds.
    """
    found: dict[tuple[str, str, str], dict[int, Mapping[str, Any]]] = {}
    for row in scores:
        found.setdefault((row["data"], row["network"], row["way"]), {})[row["seed"]] = row
    rows = []
    for (data, network, way), by_seed in sorted(found.items(), key=lambda item: DATA.index(item[0][0])):
        raw, mine = found[data, network, "raw"], list(by_seed.values())
        pairs = [(row, raw[seed]) for seed, row in by_seed.items()]
        same = [np.mean(np.equal(row["answers"], other["answers"])) for row, other in pairs]
        rows.append(
            {
                "data": data,
                "network": network,
                "way": way,
                "parameters": mine[0]["parameters"],
                "n_training": [int(r["n_training"]) for r in mine],
                "n_test": [int(r["n"]) for r in mine],
                "chance": float(np.mean([r["chance"] for r in mine])),
                "accuracy": over_seeds([r["accuracy"] for r in mine]),
                "minus_raw": over_seeds([row["accuracy"] - other["accuracy"] for row, other in pairs]),
                "same_answers": float(np.mean(same)),
                "order_change": max(r["order_change"] for r in mine),
            }
        )
    return rows
