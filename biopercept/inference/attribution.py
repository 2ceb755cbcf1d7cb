"""What a network's answer rested on, token by token: attention roll-out, integrated gradients, things taken away.

1. **Attention roll-out**: the attention of the task's query to the latents, of the latents to each other layer by
   layer, and of the latents to the tokens, multiplied; residuals count half. Where the network looked, not why it
   decided; a branch has no attention.
2. **Integrated gradients**: what each input added between inputs at their usual value (0 once scaled) and as they are.
   They sum to the difference of the two answers; how far they do not is given as ``gap``. Ours and not captum's: some
   lines that tell network and branches apart in one pass, and equal captum's (tested).
3. **Occlusion**: how the answer falls when something is absent, as a sensor that was not worn is: the network knows
   absence from its training, so no stand-in value is made up.

**Faithfulness** compares each with deleting as many tokens at random: *comprehensiveness* is how far the answer falls
without the tokens called most important (more is better), *sufficiency* how far it falls with these alone (less is
better), mean over several fractions of tokens.

References
----------
S. Abnar and W. Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, doi:10.18653/v1/2020.acl-main.385.
M. Sundararajan, A. Taly and Q. Yan, "Axiomatic Attribution for Deep Networks", ICML 2017,
doi:10.48550/arXiv.1703.01365. M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV
2014, doi:10.1007/978-3-319-10590-1_53. J. DeYoung et al., "ERASER: A Benchmark to Evaluate Rationalized NLP Models",
ACL 2020, doi:10.18653/v1/2020.acl-main.408. S. Jain and B. Wallace, "Attention is not Explanation", NAACL 2019,
doi:10.18653/v1/N19-1357.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.dropout import sensors_of
from biopercept.model.layers import CrossAttention, LatentLayer
from biopercept.model.token_inputs import FeatureGroup, TokenInputs
from biopercept.tasks import Task
from biopercept.training.objective import answer_of

FloatArray = NDArray[np.float64]
FEATURES = "features"
"""Stands as the modality of a feature group's token."""
DELETED_FRACTIONS = (0.05, 0.1, 0.2, 0.5)
N_RANDOM = 5
"""Random deletions that are averaged."""
_N_NODES = 32


@dataclass(frozen=True, eq=False)
class TokenMap:
    """The N tokens of B windows, and a number for each, 0 at absent ones.

    Each token has a ``modality`` (``features`` for a feature group), a ``channel`` ("modality number" from 1, or the
    name of the feature group) and the measured modality ``sensor`` that it comes from. ``seconds``, (B, N), are the
    tokens' centres from the window's start; NaN for features and at absent tokens.
    """

    weights: FloatArray
    is_real: NDArray[np.bool_]
    modality: tuple[str, ...]
    channel: tuple[str, ...]
    sensor: tuple[str, ...]
    seconds: FloatArray

    def at_times(self, edges: FloatArray) -> list[NDArray[np.bool_]]:
        """Return which tokens (B, N) have their centre in each interval of time, its end excluded.

        The T + 1 rising ``edges`` are seconds from the window's start. Features have no time.
        """
        index = np.searchsorted(edges, self.seconds, side="right") - 1
        index[~np.isfinite(self.seconds)] = -1
        return [index == number for number in range(len(edges) - 1)]


@dataclass(frozen=True, eq=False)
class Question:
    """What is explained: the answer of a network to one task for B windows, as one number for each.

    The number is the log odds of the class ``target`` (B,) against all others, the expected level of an ordinal scale
    counted from 0, or the number of a regression; then there is no target.
    """

    network: BiosignalPerceiver
    task: Task
    target: Tensor | None

    def answer(self, inputs: TokenInputs, of_branch: TokenInputs | None = None) -> Tensor:
        """Return the answers (B,); ``of_branch`` is what branches read in place of ``inputs``."""
        outputs = self.network.read_out(self.network.encode(inputs))
        if self.network.branches:
            outputs = self.network.with_branches(outputs, self.network.of_branches(of_branch or inputs))
        return answer_of(self.task, outputs.tasks[self.task.name], self.target)

    def answers(self, inputs: TokenInputs) -> FloatArray:
        """Return the answers (B,) without gradients."""
        with torch.inference_mode():
            return _array(self.answer(inputs))


def attention_map(network: BiosignalPerceiver, inputs: TokenInputs, task: int = 0) -> TokenMap:
    """Return how much of the attention behind a task's answers goes to each token: attention roll-out.

    Fractions sum to 1 over the real tokens of a window, and to 0 in a window without any. ``task`` is the number of its
    query. The network is left in evaluation mode.

    Raises CheckpointError where the inputs hold what the network's vocabulary does not.
    """
    network.eval()
    core = network.core
    with torch.inference_mode():
        tokens, mask = network.fusion(inputs)
        latents: Tensor = core.latents()
        flow = torch.zeros((1, 1, 1), dtype=torch.float64, device=mask.device)  # what latents hold of each token
        for number in range(core.settings.n_blocks):
            if number < core.settings.n_cross_attentions:
                reader = cast(CrossAttention, core.cross_attentions[min(number, len(core.cross_attentions) - 1)])
                read = reader.weights(latents, tokens, mask).mean(1).double()  # (B, L, N), mean over heads
                flow = read if number == 0 else 0.5 * (flow + read)
                latents = reader(latents, tokens, mask)
            for layer in cast(nn.ModuleList, core.blocks[min(number, len(core.blocks) - 1)]):
                exchanged = cast(LatentLayer, layer).weights(latents).mean(1).double()  # (B, L, L)
                flow = 0.5 * (flow + exchanged @ flow)
                latents = layer(latents)
        of_query = core.decoder.weights(network.queries()[:, task : task + 1], latents).mean(1).double()
        weights = (of_query @ flow)[:, 0]
        weights = weights / weights.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return _token_map(network, inputs, _array(weights))


def _token_map(network: BiosignalPerceiver, inputs: TokenInputs, weights: FloatArray) -> TokenMap:
    read = network.fusion.settings.part_read(inputs)
    mask = torch.cat(read.masks(), 1)
    of_signals, of_groups = sensors_of([(s.modality, s.source) for s in read.sensors], [g.name for g in read.features])
    modality, channel, sensor, seconds = [], [], [], []
    for signal, measured in zip(read.sensors, of_signals, strict=True):
        _, n_channels, n_patches = signal.is_real.shape
        modality += [signal.modality] * (n_channels * n_patches)
        channel += [f"{signal.modality} {c + 1}" for c in range(n_channels) for _ in range(n_patches)]
        sensor += [measured] * (n_channels * n_patches)
        seconds.append(signal.times[:, None].expand(-1, n_channels, -1).flatten(1))
    for group, measured in zip(read.features, of_groups, strict=True):
        modality.append(FEATURES)
        channel.append(group.name)
        sensor.append(measured)
        seconds.append(torch.full((len(mask), 1), torch.nan, device=mask.device))
    is_real = mask.cpu().numpy()
    return TokenMap(
        weights=np.where(is_real, weights, 0.0),
        is_real=is_real,
        modality=tuple(modality),
        channel=tuple(channel),
        sensor=tuple(sensor),
        seconds=np.where(is_real, _array(torch.cat(seconds, 1)), np.nan),
    )


@dataclass(frozen=True, eq=False)
class Gradients:
    """Integrated gradients of B windows, in the unit of the answer.

    ``tokens`` hold the sum of each token; ``features`` by group (B, F), NaN where a feature is undefined;
    ``branch_tokens`` (B, N) and ``branch_features`` the part of these that went through branches. ``usual`` (B,) is the
    answer to inputs at their usual value, ``gap`` (B,) what the sum lacks of the difference to it.
    """

    tokens: TokenMap
    features: Mapping[str, FloatArray]
    branch_tokens: FloatArray
    branch_features: Mapping[str, FloatArray]
    usual: FloatArray
    gap: FloatArray


def integrated_gradients(question: Question, inputs: TokenInputs) -> Gradients:
    """Return what each input adds to the answers on the way from its usual value; the network is left in evaluation."""
    question.network.eval()
    read = question.network.fusion.settings.part_read(inputs)
    ends = [*(s.patches for s in read.sensors), *(g.values for g in read.features)]
    n_signals, n_sides = len(read.sensors), 2 if question.network.branches else 1
    sums = [torch.zeros_like(end, dtype=torch.float64) for end in ends * n_sides]  # the network's, then its branches'
    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    for place, weight in zip(0.5 * (nodes + 1.0), 0.5 * weights, strict=True):
        leaves = [(float(place) * end).requires_grad_() for end in ends * n_sides]
        answers = question.answer(_moved(read, leaves[: len(ends)]), _moved(read, leaves[-len(ends) :]))
        given = torch.autograd.grad(answers.sum(), leaves, allow_unused=True)
        for total, gradient in zip(sums, given, strict=True):
            if gradient is not None:
                total += float(weight) * gradient
    parts = [total * end for total, end in zip(sums, ends * n_sides, strict=True)]
    of_branch = parts[len(ends) :] or [torch.zeros_like(part) for part in parts]
    whole = [a + b for a, b in zip(parts[: len(ends)], of_branch, strict=True)]
    usual = question.answers(_moved(read, [0.0 * end for end in ends]))
    known = [(g.name, g.is_real.cpu().numpy()) for g in read.features]

    def by_token(parts: list[Tensor]) -> Tensor:
        of_patches = [part.sum(-1).flatten(1) for part in parts[:n_signals]]
        return torch.cat([*of_patches, *(part.sum(-1, keepdim=True) for part in parts[n_signals:])], 1)

    def by_group(parts: list[Tensor]) -> dict[str, FloatArray]:
        features = zip(known, parts[n_signals:], strict=True)
        return {name: np.where(real, _array(part), np.nan) for (name, real), part in features}

    token_map = _token_map(question.network, read, _array(by_token(whole)))
    branch_tokens = np.where(token_map.is_real, _array(by_token(of_branch)), 0.0)
    gap = question.answers(read) - usual - token_map.weights.sum(1)
    return Gradients(token_map, by_group(whole), branch_tokens, by_group(of_branch), usual, gap)


def _moved(inputs: TokenInputs, leaves: Sequence[Tensor]) -> TokenInputs:
    """Return the inputs with other values, of signals and then of feature groups."""
    n = len(inputs.sensors)
    sensors = tuple(replace(s, patches=leaf) for s, leaf in zip(inputs.sensors, leaves[:n], strict=True))
    features = zip(inputs.features, leaves[n:], strict=True)
    return TokenInputs(sensors, tuple(replace(group, values=leaf) for group, leaf in features))


def without_tokens(inputs: TokenInputs, absent: NDArray[np.bool_]) -> TokenInputs:
    """Return the inputs as if the tokens of (B, N) or (N,) had not been measured."""
    mask = torch.cat(inputs.masks(), 1)
    return inputs.with_mask(~torch.from_numpy(np.broadcast_to(absent, tuple(mask.shape)).copy()).to(mask.device))


def without_feature(inputs: TokenInputs, group: str, column: int) -> TokenInputs:
    """Return the inputs as if one feature were undefined."""

    def cut(part: FeatureGroup) -> FeatureGroup:
        is_real = part.is_real.clone()
        is_real[:, column] = False
        return replace(part, is_real=is_real)

    return TokenInputs(inputs.sensors, tuple(cut(g) if g.name == group else g for g in inputs.features))


def named(tokens: TokenMap, inputs: TokenInputs, names: Sequence[Sequence[str]]) -> TokenMap:
    """Return the map with channels called as in ``names``, which are by signal of the inputs, in place of numbers."""
    channel = [
        name
        for signal, channels in zip(inputs.sensors, names, strict=True)
        for name in channels
        for _ in range(signal.is_real.shape[2])
    ]
    return replace(tokens, channel=(*channel, *map(called, tokens.channel[len(channel) :])))


def called(group: str) -> str:
    """Return what the channel of a feature group is called, so that it is not taken for a signal."""
    return f"{group} features"


@dataclass(frozen=True, eq=False)
class Deletions:
    """How far the answers (B,) fall when tokens are deleted, mean over fractions; NaN in windows of one token.

    ``without`` the most important, ``alone`` with these alone; the same of as many tokens taken at random.
    """

    without: FloatArray
    alone: FloatArray
    random_without: FloatArray
    random_alone: FloatArray


def deletions(
    question: Question,
    inputs: TokenInputs,
    importance: Mapping[str, FloatArray],
    direction: FloatArray,
    random: np.random.Generator,
) -> dict[str, Deletions]:
    """Return what deleting tokens by each kind of importance (B, N) does to the answers.

    ``direction`` (B,) is 1 where the answer is expected to fall, -1 where it is expected to rise.
    """
    read = question.network.fusion.settings.part_read(inputs)
    is_real = torch.cat(read.masks(), 1).cpu().numpy()
    whole = question.answers(read)
    n_real = is_real.sum(1)

    def falls(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
        ranked = np.where(is_real, scores, -np.inf)
        # Equal scores in random order, so that the order of sensors decides nothing.
        order = np.lexsort((random.random(ranked.shape), -ranked), axis=1)
        rank = np.argsort(order, axis=1)
        sums = [np.zeros(len(whole)), np.zeros(len(whole))]
        for fraction in DELETED_FRACTIONS:
            n = np.clip(np.rint(fraction * n_real), 1, np.maximum(n_real - 1, 1))[:, None]
            for total, absent in zip(sums, (rank < n, rank >= n), strict=True):
                total += direction * (whole - question.answers(without_tokens(read, absent)))
        means = [np.where(n_real > 1, total / len(DELETED_FRACTIONS), np.nan) for total in sums]
        return means[0], means[1]

    draws = [falls(random.random(is_real.shape)) for _ in range(N_RANDOM)]
    by_chance = [np.mean([draw[k] for draw in draws], axis=0) for k in (0, 1)]
    return {name: Deletions(*falls(scores), *by_chance) for name, scores in importance.items()}


def _array(values: Tensor) -> FloatArray:
    return np.asarray(values.detach().double().cpu().numpy(), dtype=np.float64)
