"""The same samples under two names: found by content, wherever in a recording they lie.

Blocks of samples begin where a sample's own bits say so, so that a copy which was cut or shifted has the same blocks
(content-defined chunking: A. Muthitacharoen et al., "A Low-Bandwidth Network File System", SOSP 2001). Samples are
compared in half precision, since filters leave a last trace of where a recording began.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np

from biopercept.auditing.material import Material
from biopercept.reporting.text import count, listed
from biopercept.results.audit import LEAK, OK, Finding
from biopercept.windowed import FloatSamples, WindowedRecording

_BLOCK = 64
_LEAST_DISTINCT = 32
_ANCHOR_EVERY_SLOW, _ANCHOR_EVERY_FAST, _SLOW_HZ = 16, 256, 8.0
_LEAST_SHARED, _LEAST_SHARE = 3, 0.02


def blocks_of(recording: WindowedRecording) -> set[bytes]:
    """Return hashes of the recording's measured samples in blocks of 64; flat and coarse stretches are left out."""
    found: set[bytes] = set()
    for signal in recording.signals:
        if signal.derived_from:
            continue
        samples, mask = recording.read(signal.name)
        for channel in range(len(samples)):
            every = _ANCHOR_EVERY_SLOW if signal.sampling_rate <= _SLOW_HZ else _ANCHOR_EVERY_FAST
            found |= _blocks(np.asarray(samples[channel])[np.asarray(mask[channel])], signal.modality, every)
    return found


def _blocks(values: FloatSamples, modality: str, every: int) -> set[bytes]:
    with np.errstate(over="ignore"):
        coarse = values.astype(np.float16)
    bits = coarse.view(np.uint16).astype(np.uint32)
    anchors = np.flatnonzero((bits[: max(0, len(bits) - _BLOCK + 1)] * 2654435761 >> 7) % every == 0)
    found: set[bytes] = set()
    end = -1
    for start in anchors.tolist():
        if start < end:
            continue
        block = coarse[start : start + _BLOCK]
        if np.isfinite(block).all() and len(np.unique(block)) >= _LEAST_DISTINCT:
            found.add(hashlib.blake2b(modality.encode() + block.tobytes(), digest_size=12).digest())
            end = start + _BLOCK // 2
    return found


def probe_duplicates(material: Material) -> Finding:
    """Return whether recordings of different subjects hold the same samples."""
    owners: dict[bytes, set[int]] = defaultdict(set)
    sizes = []
    for index, recording in enumerate(material.recordings):
        blocks = blocks_of(recording)
        sizes.append(len(blocks))
        for block in blocks:
            owners[block].add(index)
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for held in owners.values():
        if len(held) > 1:
            members = sorted(held)
            for i, one in enumerate(members):
                for other in members[i + 1 :]:
                    shared[one, other] += 1
    pairs = []
    for (one, other), n in shared.items():
        a, b = material.recordings[one], material.recordings[other]
        share = n / max(1, min(sizes[one], sizes[other]))
        if a.subject != b.subject and n >= _LEAST_SHARED and share >= _LEAST_SHARE:
            pairs.append((share, a.key, b.key))
    pairs.sort(reverse=True)
    n_recordings = len(material.recordings)
    if pairs:
        shown = listed([f"{a} and {b} ({share:.0%})" for share, a, b in pairs], limit=4)
        sentence = (
            f"{count(len(pairs), 'pair')} of recordings of different subjects hold the same samples: {shown}; a model "
            "is tested on what it was trained on."
        )
    else:
        sentence = f"No samples are shared between {count(n_recordings, 'recording')} of different subjects."
    return Finding(
        probe="duplicates",
        subject_matter="evaluation",
        verdict=LEAK if pairs else OK,
        sentence=sentence,
        score_name="pairs of recordings with the same samples",
        score=float(len(pairs)),
        ci95=None,
        chance=0.0,
        n_subjects=len(material.windows.subjects),
        n_windows=len(material.windows),
        details={"pairs": [[a, b, round(share, 4)] for share, a, b in pairs], "n_blocks": int(sum(sizes))},
    )
