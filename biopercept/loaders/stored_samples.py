"""Samples that a file stores as plain numbers, all of one type: read on demand, a piece at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.assembly import BlockReader
from biopercept.recording import FloatArray

_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, eq=False)
class StoredSamples:
    """Where samples lie in a file: from its first byte on, sample after sample, or channel after channel.

    ``scales`` are what a stored step of each channel is in its unit; ``n_samples`` are those of every channel.
    """

    file: Path
    kind: np.dtype[np.generic]
    scales: FloatArray
    n_samples: int
    by_channel: bool = False

    def block(self) -> BlockReader:
        """Return the reader of the channels, each in its unit."""
        n_channels, size = len(self.scales), self.kind.itemsize

        def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
            rows = list(keys)
            samples: FloatArray = np.empty((len(rows), max(stop - start, 0)))
            if self.by_channel:
                for row, key in enumerate(rows):
                    samples[row] = self._stored((key * self.n_samples + start) * size, samples.shape[1])
            else:
                step = max(1, _CHUNK_BYTES // (n_channels * size))
                for first in range(start, stop, step):
                    n = min(step, stop - first)
                    frames = self._stored(first * n_channels * size, n * n_channels).reshape(n, n_channels)
                    samples[:, first - start : first - start + n] = frames[:, rows].T
            samples *= self.scales[rows, None]
            return samples

        return read

    def _stored(self, offset: int, count: int) -> NDArray[Any]:
        try:
            with self.file.open("rb") as stream:
                stream.seek(offset)
                content = stream.read(count * self.kind.itemsize)
        except OSError as fault:
            raise RecordingError(f"{self.file.name}: cannot be read ({fault.strerror})") from fault
        if len(content) < count * self.kind.itemsize:
            raise RecordingError(f"{self.file.name}: the file became shorter while it was read; load it again")
        return np.frombuffer(content, dtype=self.kind)
