"""Recordings that hold the same samples, wherever in them they lie.

Blocks of samples begin where a sample's own bits say so, so that a copy which was cut or shifted has the same blocks
(content-defined chunking: A. Muthitacharoen et al., "A Low-Bandwidth Network File System", SOSP 2001). Samples are
compared in half precision, since filters leave a last trace of where a recording began.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from biopercept.store.prepared import FloatSamples, WindowedRecording, give_back_pages

_BLOCK = 64
_LEAST_DISTINCT = 32
_ANCHOR_EVERY_SLOW, _ANCHOR_EVERY_FAST, _SLOW_HZ = 16, 256, 8.0
_LEAST_SHARED, _LEAST_SHARE = 3, 0.02


def blocks_of(recording: WindowedRecording) -> set[bytes]:
    """Return hashes of the recording's measured samples in blocks of 64; flat and coarse segments are excluded."""
    hashes: set[bytes] = set()
    for signal in recording.signals:
        if signal.derived_from:
            continue
        samples, mask = recording.read(signal.name)
        for channel in range(len(samples)):
            every = _ANCHOR_EVERY_SLOW if signal.sampling_rate <= _SLOW_HZ else _ANCHOR_EVERY_FAST
            hashes |= _blocks(np.asarray(samples[channel])[np.asarray(mask[channel])], signal.modality, every)
            give_back_pages(samples)
            give_back_pages(mask)
    return hashes


def _blocks(values: FloatSamples, modality: str, every: int) -> set[bytes]:
    with np.errstate(over="ignore"):
        coarse = values.astype(np.float16)
    bits = coarse.view(np.uint16).astype(np.uint32)
    anchors = np.flatnonzero((bits[: max(0, len(bits) - _BLOCK + 1)] * 2654435761 >> 7) % every == 0)
    hashes: set[bytes] = set()
    end = -1
    for start in anchors.tolist():
        if start < end:
            continue
        block = coarse[start : start + _BLOCK]
        if np.isfinite(block).all() and len(np.unique(block)) >= _LEAST_DISTINCT:
            hashes.add(hashlib.blake2b(modality.encode() + block.tobytes(), digest_size=12).digest())
            end = start + _BLOCK // 2
    return hashes


def shared_pairs(blocks: Sequence[set[bytes]]) -> list[tuple[int, int, float]]:
    """Return the pairs of recordings, given as their blocks, that hold the same samples.

    Each is (index of one, index of the other, fraction of the blocks of the one that has fewer).
    """
    owners: dict[bytes, list[int]] = defaultdict(list)
    for index, of_recording in enumerate(blocks):
        for block in of_recording:
            owners[block].append(index)
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for members in owners.values():
        for place, one in enumerate(members):
            for other in members[place + 1 :]:
                shared[one, other] += 1
    pairs = []
    for (one, other), n in sorted(shared.items()):
        fraction = n / max(1, min(len(blocks[one]), len(blocks[other])))
        if n >= _LEAST_SHARED and fraction >= _LEAST_SHARE:
            pairs.append((one, other, fraction))
    return pairs
