"""What training makes small: losses of tasks and of queries, each with its mask and its weight.

A mask is True where the truth is known. What is masked adds exactly nothing, neither to the loss
nor to any gradient, whatever stands there; a batch in which nothing is known has the loss 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.model.queries import CLASSIFICATION, ORDINAL, TaskSpec


def masked_mean(values: Tensor, mask: Tensor | None, weight: Tensor | None = None) -> Tensor:
    """Return the weighted mean of the values whose mask is True; 0 (with its graph) where there is none.

    Parameters
    ----------
    values : float Tensor, any shape
    mask : bool Tensor of that shape, or None for all
    weight : float Tensor of that shape, or None for equal weights
    """
    share = torch.ones_like(values) if weight is None else weight.to(values.dtype)
    if mask is not None:
        values, share = values.masked_fill(~mask, 0.0), share.masked_fill(~mask, 0.0)
    return (values * share).sum() / share.sum().clamp_min(torch.finfo(values.dtype).tiny)


def task_losses(
    spec: TaskSpec, outputs: Tensor, truth: Tensor, mask: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the loss of each answer of one task, not yet averaged; where masked, of a harmless stand-in.

    Parameters
    ----------
    spec : TaskSpec
    outputs : Tensor (..., n_outputs)
    truth : Tensor
        Class or level, int64 (...); or values, float (..., n_outputs).
    mask : bool Tensor (...), or None for all known
    label_smoothing : float
        Of a classification: probability moved from the label to the other classes.

    Returns
    -------
    float32 Tensor (...)
        Cross-entropy of a classification; of an ordinal scale, the mean binary cross-entropy of "above level j" for
        each step j; Huber's loss of a regression.

    References
    ----------
    Ordinal by cumulative steps: E. Frank and M. Hall, "A simple approach to ordinal classification", ECML 2001,
    doi:10.1007/3-540-44795-4_13.
    """
    outputs = outputs.float()
    if mask is not None:
        hidden = ~mask if truth.ndim == mask.ndim else (~mask)[..., None]
        truth = truth.masked_fill(hidden, 0)
    if spec.kind == CLASSIFICATION:
        losses = F.cross_entropy(
            outputs.flatten(0, -2), truth.flatten(), reduction="none", label_smoothing=label_smoothing
        )
        return losses.view(truth.shape)
    if spec.kind == ORDINAL:
        above = truth[..., None] > torch.arange(spec.n_outputs, device=truth.device)
        return F.binary_cross_entropy_with_logits(outputs, above.float(), reduction="none").mean(-1)
    return F.smooth_l1_loss(outputs, truth.float(), reduction="none").mean(-1)


def joint_loss(
    specs: Sequence[TaskSpec],
    outputs: Mapping[str, Tensor],
    truths: Mapping[str, Tensor],
    masks: Mapping[str, Tensor] | None = None,
    weights: Mapping[str, Tensor] | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the sum over tasks of each task's weight times its masked mean loss.

    Parameters
    ----------
    specs : sequence of TaskSpec
    outputs, truths : mapping of str to Tensor
        By task, as in :func:`task_losses`; a task that is absent from either is left out.
    masks : mapping of str to bool Tensor, optional
        Where each task's truth is known; a task without a mask is known everywhere.
    weights : mapping of str to float Tensor, optional
        Weight of each answer within its task.
    label_smoothing : float
        As in :func:`task_losses`.
    """
    total = torch.zeros((), device=next(iter(outputs.values())).device)
    for spec in specs:
        if spec.name in outputs and spec.name in truths:
            mask = (masks or {}).get(spec.name)
            losses = task_losses(spec, outputs[spec.name], truths[spec.name], mask, label_smoothing=label_smoothing)
            total = total + spec.weight * masked_mean(losses, mask, (weights or {}).get(spec.name))
    return total


def answer_probabilities(spec: TaskSpec, outputs: Tensor) -> Tensor:
    """Return probabilities of classes (..., n_outputs), or of the levels of an ordinal scale (..., n_outputs + 1).

    Of an ordinal scale the chance to be above a level never rises with the level: where the steps disagree, the
    lower one counts. A regression's outputs come back as they are.
    """
    if spec.kind == CLASSIFICATION:
        return outputs.softmax(-1)
    if spec.kind != ORDINAL:
        return outputs
    above = outputs.sigmoid().cummin(-1).values
    edge = torch.ones_like(above[..., :1])
    return torch.cat((edge, above), -1) - torch.cat((above, 0.0 * edge), -1)


def patch_loss(told: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return Huber's loss between patches (B, Q, L), mean over samples and over the patches whose mask (B, Q) is True.

    Huber rather than squared: an artefact of many spreads must not be all that is learnt from.
    """
    truth = truth.masked_fill(~mask[..., None], 0.0)
    return masked_mean(F.smooth_l1_loss(told.float(), truth.float(), reduction="none").mean(-1), mask)


def contrastive_loss(told: Tensor, truth: Tensor, temperature: float, *, both_ways: bool = False) -> Tensor:
    """Return how hard it is to find each row's own truth among all rows' (InfoNCE); 0 for fewer than two rows.

    Parameters
    ----------
    told, truth : Tensor (R, D)
        Compared by their cosine.
    temperature : float
    both_ways : bool
        Also find each truth's own row, and average the two, as CLIP does.

    References
    ----------
    A. van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
    doi:10.48550/arXiv.1807.03748. A. Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", ICML 2021, doi:10.48550/arXiv.2103.00020.
    """
    if len(told) < 2:
        return 0.0 * (told.sum() + truth.sum())
    likeness = F.normalize(told.float(), dim=-1) @ F.normalize(truth.float(), dim=-1).T / temperature
    own = torch.arange(len(told), device=told.device)
    loss = F.cross_entropy(likeness, own)
    return 0.5 * (loss + F.cross_entropy(likeness.T, own)) if both_ways else loss
