"""Losses against torch's and numpy's own, and what masks and weights do to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from biopercept.tasks import Task
from biopercept.training.objective import contrastive_loss, masked_mean, patch_loss, task_loss, task_losses, values_of

STRESS = Task("stress", classes={"rest": (), "stress": (), "joy": ()})
EFFORT = Task("effort", kind="ordinal", classes={"low": (), "middle": (), "high": ()})
AGE = Task("age", kind="regression", column="age", mean=40.0, scale=10.0)
G = torch.Generator().manual_seed(0)
OUTPUTS = {
    "stress": torch.randn(4, 3, generator=G),
    "effort": torch.randn(4, 2, generator=G),
    "age": torch.randn(4, 1, generator=G),
}
TRUTHS = {
    "stress": torch.tensor([0, 2, 1, 1]),
    "effort": torch.tensor([0, 1, 2, 1]),
    "age": torch.randn(4, generator=G),
}


def test_each_kind_of_task_has_its_textbook_loss() -> None:
    logits = OUTPUTS["stress"].numpy()
    plain = [-np.log(np.exp(row[k]) / np.exp(row).sum()) for row, k in zip(logits, (0, 2, 1, 1), strict=True)]
    np.testing.assert_allclose(task_losses(STRESS, OUTPUTS["stress"], TRUTHS["stress"]), plain, rtol=1e-5)
    steps = 1 / (1 + np.exp(-OUTPUTS["effort"].numpy().astype(float)))
    above = np.array([[0, 0], [1, 0], [1, 1], [1, 0]])
    plain = -(above * np.log(steps) + (1 - above) * np.log(1 - steps)).mean(1)
    np.testing.assert_allclose(task_losses(EFFORT, OUTPUTS["effort"], TRUTHS["effort"]), plain, rtol=1e-5)
    far = np.abs((OUTPUTS["age"][:, 0] - TRUTHS["age"]).numpy())
    plain = np.where(far < 1, 0.5 * far**2, far - 0.5)
    np.testing.assert_allclose(task_losses(AGE, OUTPUTS["age"], TRUTHS["age"]), plain, rtol=1e-5)


@pytest.mark.parametrize("task", [STRESS, EFFORT, AGE])
def test_the_loss_of_a_batch_is_the_mean_of_what_is_known_and_nothing_else_reaches_a_gradient(task: Task) -> None:
    outputs, truth = OUTPUTS[task.name].clone().requires_grad_(), TRUTHS[task.name].clone()
    each, mask = task_losses(task, outputs, truth), torch.tensor([True, False, True, False])
    torch.testing.assert_close(task_loss(task, outputs, truth), each.mean())
    truth[~mask] = 0
    loss = task_loss(task, outputs, truth, mask)
    torch.testing.assert_close(loss, each[mask].mean())
    loss.backward()
    assert (outputs.grad[~mask] == 0).all()
    assert (outputs.grad[mask] != 0).any()


def test_a_mean_over_nothing_is_zero_and_has_a_gradient_of_zero() -> None:
    values = torch.tensor([1.0, float("inf")], requires_grad=True)
    mean = masked_mean(values, torch.tensor([False, False]))
    mean.backward()
    assert mean == 0
    assert (values.grad == 0).all()


def test_traces_are_scored_like_windows() -> None:
    outputs, truth = torch.randn(2, 5, 3, generator=G), torch.randint(0, 3, (2, 5), generator=G)
    mask = torch.rand(2, 5, generator=G) > 0.4
    found = task_loss(STRESS, outputs, truth, mask)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(outputs[mask], truth[mask]))


def test_probabilities_of_an_ordinal_scale_are_those_of_its_levels_even_where_steps_disagree() -> None:
    found = values_of(EFFORT, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    up, down = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))
    np.testing.assert_allclose(found, [[1 - up, up - down, down], [1 - down, 0.0, down]], atol=1e-6)
    torch.testing.assert_close(values_of(STRESS, OUTPUTS["stress"]), OUTPUTS["stress"].softmax(-1))


def test_a_number_comes_back_in_the_unit_of_its_column() -> None:
    assert values_of(AGE, torch.tensor([[0.0], [-1.5]])).tolist() == [[40.0], [25.0]]


def test_masked_patches_teach_nothing() -> None:
    told = torch.randn(2, 3, 4, generator=G).requires_grad_()
    truth, mask = torch.randn(2, 3, 4, generator=G), torch.tensor([[True, False, True], [False, False, False]])
    junk = truth.masked_fill(~mask[..., None], torch.nan)
    loss = patch_loss(told, junk, mask)
    loss.backward()
    torch.testing.assert_close(loss, torch.nn.functional.smooth_l1_loss(told[mask], truth[mask]))
    assert (told.grad[~mask] == 0).all()


def test_contrast_is_log_of_the_number_of_rows_at_chance_and_low_when_each_finds_its_own() -> None:
    same = torch.ones(8, 3)
    assert contrastive_loss(same, same, 0.1).item() == pytest.approx(np.log(8), rel=1e-5)
    own = torch.eye(8)
    assert contrastive_loss(own, own, 0.1) < 1e-3
    assert contrastive_loss(own, own.roll(1, 0), 0.1) > 9
    assert contrastive_loss(own[:1], own[:1], 0.1) == 0


def test_contrast_both_ways_is_the_mean_of_the_two_ways() -> None:
    one, other = torch.randn(5, 3, generator=G), torch.randn(5, 3, generator=G)
    both = contrastive_loss(one, other, 0.5, both_ways=True)
    torch.testing.assert_close(both, (contrastive_loss(one, other, 0.5) + contrastive_loss(other, one, 0.5)) / 2)
