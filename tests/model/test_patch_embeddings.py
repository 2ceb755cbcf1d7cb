"""The convolutional patch embedding: against a plain loop, for every patch length, and inside the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_inputs import OPEN, SMALL, VOCABULARY, Classifier, inputs

from biopercept.errors import SettingsError
from biopercept.modalities import MODALITIES
from biopercept.model.biosignals import BiosignalPerceiver, queries_of
from biopercept.model.settings import TokenSettings
from biopercept.model.token_inputs import TokenInputs, TokenVocabulary
from biopercept.model.tokens import ConvolutionalPatch, EarlyFusion, patch_embedding

CONVOLUTIONAL = replace(OPEN, patch_embedding="convolutional")


def _by_loop(stem: ConvolutionalPatch, patch: np.ndarray) -> np.ndarray:
    first = stem.filters.weight.detach().numpy()[:, 0]  # (filters, kernel)
    second = stem.gather.weight.detach().numpy()  # (width, filters, places)
    reach = first.shape[1] // 2
    found = np.zeros(second.shape[1:])
    for place in range(found.shape[1]):
        for step in range(-reach, reach + 1):
            at = place * reach + step
            if 0 <= at < len(patch):
                found[:, place] += first[:, reach + step] * patch[at]
    found = 0.5 * found * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (found + 0.044715 * found**3)))
    return np.einsum("wfp,fp->w", second, found)


@pytest.mark.parametrize("length", sorted({1, 2, 17, 33} | {m.patch_samples for m in MODALITIES.values()}))
def test_it_equals_a_plain_loop_for_every_patch_length(length: int) -> None:
    torch.manual_seed(length)
    stem = ConvolutionalPatch(length, 5)
    patches = torch.randn(2, 1, 3, length)
    got = stem(patches)
    assert got.shape == (2, 1, 3, 5)
    np.testing.assert_allclose(got[1, 0, 2].detach().numpy(), _by_loop(stem, patches[1, 0, 2].numpy()), atol=2e-5)


def test_every_sample_of_every_patch_length_reaches_it_and_nothing_stays_nothing() -> None:
    for length in {m.patch_samples for m in MODALITIES.values()}:
        torch.manual_seed(0)
        stem = ConvolutionalPatch(length, 8)
        patches = torch.randn(1, 1, 1, length, requires_grad=True)
        stem(patches).square().sum().backward()
        assert (patches.grad != 0).all(), length
        assert torch.equal(stem(torch.zeros(1, 1, 1, length)), torch.zeros(1, 1, 1, 8))
        assert sum(p.numel() for p in stem.parameters()) < 16 * 16 * 8 + 16 * 66  # small, however long the patch


def test_starting_values_have_the_spread_of_their_fan_in() -> None:
    stem = ConvolutionalPatch(128, 64)
    assert stem.gather.weight.std().item() == pytest.approx((16 * 16) ** -0.5, rel=0.05)
    assert stem.filters.weight.std().item() == pytest.approx(17**-0.5, rel=0.15)


def test_masked_patches_say_nothing_as_with_the_linear_one() -> None:
    torch.manual_seed(0)
    model = Classifier(SMALL, CONVOLUTIONAL, VOCABULARY, 2).eval()
    hidden, junk = inputs(), inputs()
    for held, filled in ((hidden, 0.0), (junk, 1e4)):
        held.sensors[0].is_real[:, 1, 2:4] = False
        held.sensors[0].patches[:, 1, 2:4] = filled
    junk.sensors[0].patches[:, 1, 2] = torch.nan
    assert torch.equal(model(hidden), model(junk))
    assert not torch.equal(model(hidden), model(inputs()))


def test_patches_are_read_alone_whatever_the_batch() -> None:
    torch.manual_seed(0)
    fusion = EarlyFusion(16, CONVOLUTIONAL, VOCABULARY).eval()
    together = fusion(inputs())[0]
    moved = inputs()
    moved.sensors[0].patches[:, 0, 0] += 3.0
    difference = (fusion(moved)[0] - together).abs().amax((0, 2))
    assert difference[0] > 1e-3
    assert (difference[1:] == 0).all()
    one = fusion(inputs().rows(torch.tensor([1])))[0]
    torch.testing.assert_close(one[0], together[1], rtol=0, atol=2e-6)


def test_what_is_told_of_a_signal_keeps_its_shape_and_scale() -> None:
    torch.manual_seed(0)
    linear = BiosignalPerceiver(SMALL, OPEN, VOCABULARY, {}, reconstructs=True).eval()
    convolved = BiosignalPerceiver(SMALL, CONVOLUTIONAL, VOCABULARY, {}, reconstructs=True).eval()
    asked = (queries_of(inputs().sensors[0]),)
    assert linear(inputs(), patches=asked).patches[0].shape == convolved(inputs(), patches=asked).patches[0].shape
    assert {n: p.shape for n, p in linear.named_parameters() if "shapes" not in n} == {
        n: p.shape for n, p in convolved.named_parameters() if "shapes" not in n
    }


def test_an_unknown_embedding_is_refused() -> None:
    with pytest.raises(SettingsError, match="patch_embedding is 'deep'; allowed are linear, convolutional"):
        TokenSettings(patch_embedding="deep")
    with pytest.raises(SettingsError, match="patch_embedding is 'deep'; allowed are linear, convolutional"):
        patch_embedding("deep", 8, 4)
    empty = TokenInputs((replace(inputs().sensors[0], modality="temp"),))
    with pytest.raises(Exception, match="given temp patches of 8 samples"):
        EarlyFusion(8, CONVOLUTIONAL, TokenVocabulary({"temp": 6}, {}, 6))(empty)
