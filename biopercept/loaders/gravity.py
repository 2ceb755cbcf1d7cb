"""The scale of an accelerometer told by gravity: at rest, and in the middle of any recording, it feels one g."""

from __future__ import annotations

import numpy as np

from biopercept.recording import FloatArray

_NEAR = 0.12


def counts_of_one_g(samples: FloatArray, known: tuple[float, ...]) -> float | None:
    """Return how many counts are one g, (3, n) samples given; None where none of the ``known`` scales fits.

    >>> counts_of_one_g(np.array([[-36.0, -28], [620, 628], [-824, -828]]), (1000.0, 4096.0))
    1000.0
    """
    lengths = np.linalg.norm(samples, axis=0)
    if not np.isfinite(lengths).any():
        return None
    middle = float(np.nanmedian(lengths))
    return next((scale for scale in known if abs(middle / scale - 1) <= _NEAR), None)
