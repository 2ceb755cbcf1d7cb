"""Whether EEG is in the microvolts of an Emotiv headset: they lie on the offset that its converter gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

OFFSET_UV = (3500.0, 5000.0)
"""Where the middle of a recording lies: about 4200 uV by the maker's manual, moved by slow drift of the electrodes."""

ELECTRODES = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
"""The 14 electrodes of the EPOC, in the order in which it gives them."""


def emotiv_unit(samples: NDArray[np.floating[Any]]) -> str:
    """Return "uV" where samples lie on the headset's offset; else nothing, as their unit is then not known.

    Counts of its converter lie about 8192, volts about 0.0042, and filtered or centred EEG about 0.

    >>> emotiv_unit(np.array([4190.0, 4230.5])), emotiv_unit(np.array([8180.0, 8200.0]))
    ('uV', '')
    """
    known = samples[np.isfinite(samples)]
    low, high = OFFSET_UV
    return "uV" if known.size and low < float(np.median(known)) < high else ""
