"""From the samples of a patch to a vector: one linear map, or two convolutions.

Both read the normalised shape of a patch and have no offset, so that a patch in which nothing was measured (all zero)
becomes zero. What a network is to tell (patches of signals, labels) does not depend on the choice.

References
----------
A few small convolutions in place of the one large linear map of patches: T. Xiao et al., "Early convolutions help
transformers see better", NeurIPS 2021, doi:10.48550/arXiv.2106.14881. There five layers with batch norm read the whole
picture; here two layers without it read each patch alone, so that a patch never knows of its neighbours (gaps stay
gaps, and causal masks stay causal).
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.errors import SettingsError
from biopercept.model.layers import _TRUNCATED_STD, _truncated_normal

PATCH_EMBEDDINGS = ("linear", "convolutional")
"""Names that :func:`patch_embedding` knows."""

_N_PLACES = 16  # at most: what the first convolution leaves of a patch, of any length
_N_FILTERS = 16


class ConvolutionalPatch(nn.Module):
    """A strided convolution of the samples, GELU, and a convolution over all that is left.

    Parameters
    ----------
    length : int
        Samples of a patch, at least 1.
    width : int
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        stride = math.ceil(length / _N_PLACES)
        n_places = math.ceil(length / stride)
        # A filter sees the samples of its own place and of half a place on both sides and is centred on a sample.
        self.filters = nn.Conv1d(1, _N_FILTERS, 2 * stride + 1, stride, padding=stride, bias=False)
        self.gather = nn.Conv1d(_N_FILTERS, width, n_places, bias=False)
        for convolution in (self.filters, self.gather):  # as the linear layers
            fan_in = convolution.weight[0].numel()
            _truncated_normal(convolution.weight, 1.0 / math.sqrt(fan_in) / _TRUNCATED_STD, None)

    def forward(self, shape: Tensor) -> Tensor:
        """Return (B, C, P, width) from patches (B, C, P, length)."""
        found = F.gelu(self.filters(shape.flatten(0, 2)[:, None]), approximate="tanh")  # (B C P, 16, places)
        embedded: Tensor = self.gather(found)[..., 0].view(*shape.shape[:3], -1)
        return embedded


def patch_embedding(kind: str, length: int, width: int) -> nn.Module:
    """Return an embedding by name, from patches (B, C, P, length) to (B, C, P, width).

    Parameters
    ----------
    kind : str
        "linear" or "convolutional".
    length : int
        Samples of a patch.
    width : int

    Raises
    ------
    SettingsError
        Where the kind is unknown.
    """
    if kind == "linear":
        return nn.Linear(length, width, bias=False)
    if kind == "convolutional":
        return ConvolutionalPatch(length, width)
    raise SettingsError(f"The token setting patch_embedding is {kind!r}; allowed are {', '.join(PATCH_EMBEDDINGS)}.")
