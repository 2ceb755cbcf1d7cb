"""Position encodings of grids: against the original code and the papers' formulas, and what each must hold."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from biopercept.errors import SettingsError
from experiments.networks import (
    POSITION_CODES,
    FourierPositions,
    LearnedPositions,
    SinusoidalPositions,
    grid_positions,
    position_encoding,
)

REFERENCE = np.load(Path(__file__).parents[1] / "model" / "perceiver_reference.npz")


def test_fourier_codes_equal_the_original_for_positions_of_each_sample() -> None:
    encoding = FourierPositions((50,), 4)
    got = encoding(torch.from_numpy(REFERENCE["ff_pos"]))
    assert got.shape[-1] == encoding.width
    np.testing.assert_allclose(got.numpy(), REFERENCE["ff"], atol=2e-5, rtol=0)


def test_fourier_codes_and_grid_equal_the_original_on_two_axes() -> None:
    got = FourierPositions((20, 50), 4)(grid_positions((3, 5)))
    np.testing.assert_allclose(got.numpy(), REFERENCE["ff2d"][0], atol=2e-5, rtol=0)


def test_sinusoidal_codes_equal_the_formula_of_the_paper() -> None:
    n_points, width = 20, 12
    got = SinusoidalPositions((n_points,), width)(grid_positions((n_points,))).numpy()
    want = np.zeros((n_points, width))
    for place in range(n_points):
        for i in range(width // 2):
            angle = place / 10_000 ** (2 * i / width)
            want[place, 2 * i], want[place, 2 * i + 1] = math.sin(angle), math.cos(angle)
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_sinusoidal_codes_of_two_axes_are_those_of_each_axis_side_by_side() -> None:
    got = SinusoidalPositions((4, 7), 16)(grid_positions((4, 7))).view(4, 7, 16)
    rows, columns = (SinusoidalPositions((n,), 8)(grid_positions((n,))) for n in (4, 7))
    torch.testing.assert_close(got[:, 3, :8], rows)
    torch.testing.assert_close(got[2, :, 8:], columns)


def test_learned_codes_are_one_vector_for_each_grid_point_in_grid_order() -> None:
    encoding = LearnedPositions((3, 5), 6)
    positions = grid_positions((3, 5))
    assert torch.equal(encoding(positions), encoding.codes)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encoding(positions[order]), encoding.codes[order])
    assert torch.equal(encoding(positions + 0.05), encoding.codes)  # the nearest point


def test_learned_codes_are_reached_by_gradients_and_only_those_asked_for() -> None:
    encoding = LearnedPositions((3, 5), 6)
    encoding(grid_positions((3, 5))[[4, 9]]).sum().backward()
    assert encoding.codes.grad is not None
    assert encoding.codes.grad.any(1).nonzero().flatten().tolist() == [4, 9]


@pytest.mark.parametrize("kind", POSITION_CODES)
@pytest.mark.parametrize("shape", [(9,), (4, 6), (3, 2, 5)])
def test_every_place_has_a_code_of_its_own(kind: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    encoding = position_encoding(kind, shape, n_bands=4)
    codes = encoding(grid_positions(shape))
    assert codes.shape == (math.prod(shape), encoding.width)
    distances = torch.cdist(codes, codes) + torch.eye(len(codes))
    assert distances.min() > 1e-2


@pytest.mark.parametrize("kind", POSITION_CODES)
def test_a_code_depends_on_its_own_position_alone(kind: str) -> None:
    torch.manual_seed(0)
    encoding = position_encoding(kind, (4, 6), n_bands=3)
    g = torch.Generator().manual_seed(1)
    positions = grid_positions((4, 6))[torch.randint(24, (3, 8), generator=g)]  # other places in every sample
    together = encoding(positions)
    for sample in range(3):
        for token in range(8):
            alone = encoding(positions[sample, token])
            torch.testing.assert_close(alone, together[sample, token], rtol=0, atol=1e-6)
    assert not torch.allclose(together[0], together[1])


def test_the_highest_fourier_frequency_is_the_nyquist_of_each_axis() -> None:
    encoding = FourierPositions((8, 30), 5)
    assert encoding.frequencies[:, -1].tolist() == [4.0, 15.0]
    assert encoding.frequencies[:, 0].tolist() == [1.0, 1.0]
    steps = encoding.frequencies.diff(dim=1)
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: position_encoding("polar", (3,), n_bands=2),
            "The position encoding is 'polar'; allowed are fourier, sinusoidal, learned.",
        ),
        (
            lambda: SinusoidalPositions((3, 3), 10),
            "Sinusoidal positions on 2 axes cannot be 10 wide; the width must be a multiple of 4.",
        ),
        (lambda: FourierPositions((3,), 0), "Fourier positions were asked for 0 bands; they need at least 1."),
        (lambda: LearnedPositions((3,), 0), "Learned positions cannot be 0 wide; the width must be at least 1."),
        (
            lambda: FourierPositions((3, 0), 2),
            "The grid of positions has the shape (3, 0); it must have axes of at least 1.",
        ),
    ],
)
def test_impossible_encodings_are_refused(make, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make()
    assert str(caught.value) == message
