"""Losses of tasks and of reconstructed patches, each with its mask.

A mask is True where the truth is known. What is masked adds exactly nothing, neither to the loss
nor to any gradient, whatever stands there; a batch in which nothing is known has the loss 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.tasks import Task


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the values whose mask is True; 0, with its graph, where there is none."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp_min(1)


def task_loss(
    task: Task, outputs: Tensor, truth: Tensor, mask: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean loss of a network's outputs for one task where the mask is True (None: everywhere)."""
    if mask is None:
        return task_losses(task, outputs, truth, label_smoothing=label_smoothing, reduction="mean")
    return masked_mean(task_losses(task, outputs, truth, label_smoothing=label_smoothing), mask)


def task_losses(
    task: Task, outputs: Tensor, truth: Tensor, *, label_smoothing: float = 0.0, reduction: str = "none"
) -> Tensor:
    """Return the loss of each of a network's outputs for one task, or their mean.

    Parameters
    ----------
    task : Task
    outputs : Tensor (..., n_outputs)
    truth : Tensor (...)
        Class or level, int64; or scaled number, float. What stands where nothing is known must be a class, or finite.
    label_smoothing : float
        Of a classification: probability moved from the label to the other classes.
    reduction : str
        "none" or "mean".

    Returns
    -------
    float32 Tensor (...), or () for the mean
        Cross-entropy of a classification; of an ordinal scale, the mean binary cross-entropy of "above level j" for
        each step j; Huber's loss of a regression.

    References
    ----------
    Ordinal by cumulative steps: E. Frank and M. Hall, "A simple approach to ordinal classification", ECML 2001,
    doi:10.1007/3-540-44795-4_13.
    """
    outputs = outputs.float()
    if task.is_regression:
        return F.smooth_l1_loss(outputs[..., 0], truth.float(), reduction=reduction)
    if task.is_ordinal:
        above = truth[..., None] > torch.arange(task.n_outputs, device=truth.device)
        losses = F.binary_cross_entropy_with_logits(outputs, above.float(), reduction=reduction)
        return losses.mean(-1) if reduction == "none" else losses
    losses = F.cross_entropy(
        outputs.flatten(0, -2), truth.flatten(), reduction=reduction, label_smoothing=label_smoothing
    )
    return losses.view(truth.shape) if reduction == "none" else losses


def values_of(task: Task, outputs: Tensor) -> Tensor:
    """Return what a network's outputs (..., n_outputs) for a task say, (..., n_values).

    Probabilities of classes, or of the levels of an ordinal scale, of which the chance to be above a level never rises
    with the level: where the steps disagree, the lower one counts. Of a regression the number in its column's unit.
    """
    if task.is_regression:
        return outputs * task.scale + task.mean
    if not task.is_ordinal:
        return outputs.softmax(-1)
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
