"""Recordings of one session, one after the other: what a window may know of the recordings before its own.

In many studies every condition is a file of its own. Statistics of such a file are its label in disguise, but the
session that it belongs to began before it: with ``normalisation.scope: session`` a window's own past reaches back to
the start of the session's first recording, in the order in which the study lists its recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StudyError
from biopercept.learning.normalisation import FloatArray, Moments
from biopercept.windowed import WindowedRecording


@dataclass(frozen=True)
class Sessions:
    """Which recordings came before which.

    Attributes
    ----------
    members : tuple of tuple of int
        For each recording, the positions of all recordings of its session, in time order.
    earlier : tuple of tuple of int
        For each recording, those of them that came before it.
    """

    members: tuple[tuple[int, ...], ...]
    earlier: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(recordings: Sequence[WindowedRecording], scope: str) -> Sessions:
        """Return the sessions of some recordings; with scope ``recording`` each is a session of its own.

        Raises
        ------
        StudyError
            Where two recordings of a session have no known order.
        """
        alone = tuple((index,) for index in range(len(recordings)))
        if scope == "recording":
            return Sessions(alone, tuple(() for _ in alone))
        groups: dict[tuple[str, str], list[int]] = {}
        for index, recording in enumerate(recordings):
            groups.setdefault((recording.subject, recording.session), []).append(index)
        members = {}
        for (subject, session), indices in groups.items():
            places = [recordings[index].place for index in indices]
            if len(indices) > 1 and any(place is None for place in places):
                name = f"{subject} {session}".strip()
                raise StudyError(
                    f"the order of the {len(indices)} recordings of {name} is not in the store, and "
                    "normalisation.scope is session; prepare the study again"
                )
            ordered = tuple(sorted(indices, key=lambda index: recordings[index].place or 0))
            members.update(dict.fromkeys(indices, ordered))
        every = tuple(members[index] for index in range(len(recordings)))
        return Sessions(every, tuple(m[: m.index(index)] for index, m in enumerate(every)))

    def reference_ends(self, recordings: Sequence[WindowedRecording], reference_seconds: float) -> FloatArray:
        """Return how far the session's reference reaches into each recording, seconds from its start; at least 0."""
        spent = [sum(recordings[i].duration_seconds for i in before) for before in self.earlier]
        return np.maximum(0.0, reference_seconds - np.asarray(spent, dtype=np.float64))

    def known(
        self, mode: str, own: Moments, whole: Moments, reference: Moments, recording: NDArray[np.int64]
    ) -> Moments:
        """Return what each window may know of its session.

        Parameters
        ----------
        mode : str
            A rung of the normalisation ladder.
        own : Moments (n_windows, n_channels)
            Of the window's recording, as far as the rung allows.
        whole, reference : Moments (n_recordings, n_channels)
            Of each recording, and of the part of it that lies in the session's reference.
        recording : int64 array (n_windows,)
            Position of each window's recording.
        """
        if all(len(members) == 1 for members in self.members):
            return own
        result = Moments(own.count.copy(), own.mean.copy(), own.variance.copy())
        for index, (members, earlier) in enumerate(zip(self.members, self.earlier, strict=True)):
            rows = np.flatnonzero(recording == index)
            if mode == "recording":
                parts = [_rows(whole, m, len(rows)) for m in members]
            elif mode == "reference":
                parts = [_rows(reference, m, len(rows)) for m in members]
            else:
                parts = [_rows(whole, m, len(rows)) for m in earlier]
                parts.append(Moments(own.count[rows], own.mean[rows], own.variance[rows]))
            joined = pooled(parts)
            result.count[rows], result.mean[rows], result.variance[rows] = joined.count, joined.mean, joined.variance
        return result


def _rows(moments: Moments, index: int, n_rows: int) -> Moments:
    """Return one row of moments, repeated."""
    return Moments(
        *(np.repeat(a[index : index + 1], n_rows, 0) for a in (moments.count, moments.mean, moments.variance))
    )


def pooled(parts: Sequence[Moments]) -> Moments:
    """Return the moments of all values that the parts, of one shape, were taken of.

    The sums are taken about the mean of all, so that nothing is lost where the mean is far from zero.
    """
    count = np.sum([part.count for part in parts], axis=0)
    means = [np.nan_to_num(part.mean) for part in parts]
    total = np.sum([part.count * mean for part, mean in zip(parts, means, strict=True)], axis=0)
    mean = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    centre = np.nan_to_num(mean)
    squares = np.sum(
        [part.count * (part.variance + (own - centre) ** 2) for part, own in zip(parts, means, strict=True)], axis=0
    )
    return Moments(count, mean, np.divide(squares, count, out=np.zeros(count.shape), where=count > 0))
