"""Raw against permuted inputs: one fixed order for the places of every sample, and each network fitted anew.

A convolutional network takes neighbours in the grid for neighbours in the world, so shuffling the grid costs it;
a Perceiver reads a set of tokens, each with the code of its place, so nothing can change. Three ways:

``raw``
    As measured.
``permuted``
    Every sample's tokens in one fixed random order, *with* their position codes: as in the original experiment,
    where the order is drawn after the codes are made.
``relabelled``
    Every sample's values in that order, position codes left in place: the codes then say nothing true about
    neighbourhood. Harder than the original experiment.

References
----------
A. Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021, table 2,
doi:10.48550/arXiv.2103.03206. Here on small data: handwritten digits and windows of the made sample study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from biopercept.claims.classification import FitSchedule, LabelledTokens, fit_network, over_seeds, score_network
from biopercept.claims.networks import ConvolutionsOnGrid, NetworkSettings, PerceiverOnTokens, PlacedTokens
from biopercept.claims.samples import N_WINDOW_SAMPLES, digit_tokens, window_tokens
from biopercept.learning.engine import seed_for, seeded
from biopercept.model.positions import position_encoding
from biopercept.windowed import WindowedRecording

WAYS = ("raw", "permuted", "relabelled")
N_BANDS = 4
"""Frequencies per axis of the position codes; 64 places are told apart."""


@dataclass(frozen=True)
class Contender:
    """A network of the experiment.

    Attributes
    ----------
    name : str
    kind : str
        "perceiver" or "convolutions".
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
        return ConvolutionsOnGrid(n_values, codes, n_classes, reads_places=self.encoding != "none")


CONTENDERS = (
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
    """Return the score of one network fitted on one way of the tokens, with its size.

    The starting weights and the order of the batches depend on the seed alone, not on the way.
    """
    moved = permuted(tokens, way, seed_for("order", shape))
    with seeded(seed_for(seed, contender.name)):
        network = contender.network(moved, shape)
        fit_network(network, moved, schedule)
    return {
        "network": contender.name,
        "parameters": network.n_parameters,
        "way": way,
        "seed": seed,
        "chance": moved.chance,
        **score_network(network, moved).to_json(),
    }


def run_permutation(
    recordings: Sequence[WindowedRecording],
    *,
    seeds: Sequence[int],
    schedule: FitSchedule,
    contenders: Sequence[Contender],
) -> dict[str, Any]:
    """Return every score of the experiment, and for each network the mean over seeds and what permuting changed.

    Parameters
    ----------
    recordings : sequence of WindowedRecording
        Whose windows are the biosignals.
    seeds : sequence of int
        Each draws a split, starting weights and batches; a seed's raw and permuted fits share them.
    schedule : FitSchedule
    contenders : sequence of Contender

    Returns
    -------
    dict
        ``scores``: a row for each fit; ``summary``: a row for each data set, network and way.
    """
    scores: list[dict[str, Any]] = []
    for seed in seeds:
        data = {
            "digits": (digit_tokens(seed), (8, 8)),
            "windows": (window_tokens(recordings, seed), (N_WINDOW_SAMPLES,)),
        }
        for name, (tokens, shape) in data.items():
            for contender in contenders:
                for way in contender.ways:
                    row = fit_and_score(contender, tokens, shape, way, seed, schedule)
                    scores.append({"data": name, **row})
    return {"scores": scores, "summary": summary_of(scores)}


def summary_of(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each data set, network and way, the mean over seeds and the paired difference from raw."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in scores:
        found.setdefault((row["data"], row["network"], row["way"]), {})[row["seed"]] = row["accuracy"]
    rows = []
    for (data, network, way), by_seed in found.items():
        raw = found[data, network, "raw"]
        mine = [r for r in scores if (r["data"], r["network"], r["way"]) == (data, network, way)]
        rows.append(
            {
                "data": data,
                "network": network,
                "way": way,
                "parameters": mine[0]["parameters"],
                "n_test": [int(r["n"]) for r in mine],
                "chance": sum(r["chance"] for r in mine) / len(mine),
                "accuracy": over_seeds(list(by_seed.values())),
                "minus_raw": over_seeds([value - raw[seed] for seed, value in by_seed.items()]),
            }
        )
    return rows
