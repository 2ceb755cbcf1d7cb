"""Normalisation modes: raw, global, causal, reference, recording; chosen at training time from stored raw data.

Every mode is one affine map per window and channel, ``(value - centre) / spread``, so windows stay slices of the
continuous signal and nothing is copied:

* ``raw``: no map.
* ``global``: mean and spread of the training subjects.
* ``causal`` (default): mean and spread of this recording from its start to the *end of the
window*, nothing later. The spread of a short past is pulled toward the training subjects' mean within-recording spread,
as if ``prior_seconds`` of it had been seen.
* ``reference``: mean and spread of the first ``reference_seconds``; windows there are not scored.
* ``recording``: mean and spread of the whole recording: transductive, flagged in every output.

With ``scope: session`` a recording's own statistics are those of its session: the recordings of one subject and session
in the study's order. Where every condition is a file of its own, statistics of a file are its label in disguise, but
the session that it belongs to began before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StudyError
from biopercept.store.prepared import WindowedRecording
from biopercept.typed_values import ABOVE_0, refuse_other_than, refuse_outside

SCOPES = ("recording", "session")
MODES = ("raw", "global", "causal", "reference", "recording")
PER_RECORDING_MODES = ("causal", "reference", "recording")
"""Modes that use statistics of the recording itself; where the file is the label they leak it."""

FloatArray = NDArray[np.float64]
Running = tuple[FloatArray, FloatArray, FloatArray, float]


@dataclass(frozen=True)
class NormalisationSettings:
    """How inputs are scaled before a model sees them.

    Attributes
    ----------
    mode : str
        raw, global, causal, reference or recording.
    reference_seconds : float
        Length of the reference at the start of a recording (mode ``reference``).
    prior_seconds : float
        Weight of the training subjects' spread in a recording's own, as seconds of data.
    scope : str
        Whether the past, the reference or the whole is that of a ``recording`` or of its ``session``.
    clip : float
        Normalised values beyond plus or minus this many spreads are set to it.
    """

    mode: str = "causal"
    reference_seconds: float = 180.0
    prior_seconds: float = 120.0
    clip: float = 8.0
    scope: str = "recording"

    def __post_init__(self) -> None:
        refuse_other_than("normalisation", self, {"mode": MODES, "scope": SCOPES})
        refuse_outside("normalisation", self, {ABOVE_0: ("reference_seconds", "prior_seconds", "clip")})

    @property
    def is_transductive(self) -> bool:
        """Return whether a window is scaled by parts of its recording that come after it."""
        return self.mode == "recording"


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean (NaN where the count is 0) and variance of what each window may know, (n_windows, n_channels)."""

    count: FloatArray
    mean: FloatArray
    variance: FloatArray


@dataclass(frozen=True, eq=False)
class Affine:
    """``(value - centre) / spread`` for each window and channel; arrays of shape (n_windows, n_channels)."""

    centre: FloatArray
    spread: FloatArray


def cumulative_moments(values: FloatArray, is_real: NDArray[np.bool_]) -> Running:
    """Return running count, sum and sum of squares, each (n + 1,), and the offset that the sums are taken about.

    The offset (the first real value, so that nothing later enters) keeps the sums of squares exact for signals far from
    zero; it cancels in :func:`moments_until`.
    """
    real = values[is_real]
    offset = float(real[0]) if len(real) else 0.0
    shifted = np.where(is_real, values - offset, 0.0)
    return (
        np.concatenate([[0.0], np.cumsum(is_real, dtype=np.float64)]),
        np.concatenate([[0.0], np.cumsum(shifted)]),
        np.concatenate([[0.0], np.cumsum(shifted**2)]),
        offset,
    )


def moments_until(running: Running, stop: NDArray[np.int64]) -> Moments:
    """Return the moments of the values before each index in ``stop``, arrays of shape (len(stop),)."""
    count, total, squares, offset = running
    n = count[stop]
    mean = np.divide(total[stop], n, out=np.full(len(stop), np.nan), where=n > 0)
    variance = np.divide(squares[stop], n, out=np.zeros(len(stop)), where=n > 0) - np.nan_to_num(mean) ** 2
    return Moments(n, mean + offset, np.maximum(variance, 0.0))


@dataclass(frozen=True)
class Statistics:
    """What the training subjects say of one channel or feature.

    The centre is the mean over recordings of each one's mean; ``within`` the mean variance within a recording; the
    spread the standard deviation over everything, within and between recordings.
    """

    centre: float
    within: float
    spread: float


UNSEEN = Statistics(0.0, 1.0, 1.0)
"""Statistics of something that no training recording has."""


@dataclass(frozen=True)
class TrainingStatistics:
    """The fitted part of the normalisation: training subjects' statistics, by "modality/channel" and by feature."""

    signals: dict[str, Statistics]
    features: dict[str, Statistics]

    def of_channel(self, modality: str, channel: str) -> Statistics:
        """Return the statistics of a channel; where it was never seen, the mean of its modality's channels."""
        if (known := self.signals.get(f"{modality}/{channel}")) is not None:
            return known
        relatives = [s for key, s in self.signals.items() if key.startswith(f"{modality}/")]
        if not relatives:
            return UNSEEN
        columns = np.array([(s.centre, s.within, s.spread) for s in relatives]).mean(axis=0)
        return Statistics(*(float(v) for v in columns))

    def has_modality(self, modality: str) -> bool:
        """Return whether a training subject had this modality."""
        return any(key.startswith(f"{modality}/") for key in self.signals)

    def to_json(self) -> dict[str, dict[str, list[float]]]:
        """Return plain lists [centre, within, spread] by name."""
        return {
            kind: {name: [s.centre, s.within, s.spread] for name, s in getattr(self, kind).items()}
            for kind in ("signals", "features")
        }

    @staticmethod
    def from_json(document: dict[str, dict[str, list[float]]]) -> TrainingStatistics:
        """Return the statistics that :meth:`to_json` wrote."""
        parts = {
            kind: {name: Statistics(*map(float, row)) for name, row in document[kind].items()}
            for kind in ("signals", "features")
        }
        return TrainingStatistics(**parts)


def population_statistics(means: FloatArray, variances: FloatArray) -> Statistics:
    """Return the statistics of one channel from the mean and variance of each training recording that has it."""
    if not len(means):
        return UNSEEN
    within, between = float(np.mean(variances)), float(np.var(means))
    total = within + between
    return Statistics(float(np.mean(means)), within if within > 0 else 1.0, float(np.sqrt(total)) if total > 0 else 1.0)


def affine_of(mode: str, past: Moments, population: Sequence[Statistics], *, prior_count: float) -> Affine:
    """Return the affine map of every window and channel under one normalisation mode.

    Parameters
    ----------
    population : sequence of Statistics
        Of each channel, from the training subjects.
    prior_count : float
        Weight of the training subjects' spread in a recording's own, as a number of values.
    """
    shape = past.mean.shape
    if mode == "raw":
        return Affine(np.zeros(shape), np.ones(shape))
    centre = np.array([s.centre for s in population])
    within = np.array([s.within for s in population])
    if mode == "global":
        spread = np.array([s.spread for s in population])
        return Affine(np.broadcast_to(centre, shape), np.broadcast_to(spread, shape))
    variance = (past.count * past.variance + prior_count * within) / (past.count + prior_count)
    return Affine(np.where(past.count > 0, past.mean, centre), np.sqrt(variance))


def affine_without_own(mode: str, population: Statistics) -> tuple[float, float]:
    """Return centre and spread of a channel that the recording lacks: those of the training subjects."""
    nothing = Moments(np.zeros((1, 1)), np.full((1, 1), np.nan), np.zeros((1, 1)))
    affine = affine_of(mode, nothing, [population], prior_count=1.0)
    return float(affine.centre[0, 0]), float(affine.spread[0, 0])


@dataclass(frozen=True)
class Sessions:
    """For each recording, the positions of all recordings of its session in time order, and of those before it."""

    members: tuple[tuple[int, ...], ...]
    earlier: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(recordings: Sequence[WindowedRecording], scope: str) -> Sessions:
        """Return the sessions of some recordings; with scope ``recording`` each is a session of its own.

        Raises StudyError where two recordings of a session have no known order.
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
        self, mode: str, past: Moments, whole: Moments, reference: Moments, recording: NDArray[np.int64]
    ) -> Moments:
        """Return what each window may know of its session.

        ``past`` is of the windows' own recordings as far as the mode allows, ``whole`` and ``reference`` of each
        recording and of its part in the session's reference; ``recording`` is the position of each window's recording.
        """
        if all(len(members) == 1 for members in self.members):
            return past
        result = Moments(past.count.copy(), past.mean.copy(), past.variance.copy())
        for index, (members, earlier) in enumerate(zip(self.members, self.earlier, strict=True)):
            rows = np.flatnonzero(recording == index)
            if mode == "recording":
                parts = [_rows(whole, m, len(rows)) for m in members]
            elif mode == "reference":
                parts = [_rows(reference, m, len(rows)) for m in members]
            else:
                parts = [_rows(whole, m, len(rows)) for m in earlier]
                parts.append(Moments(past.count[rows], past.mean[rows], past.variance[rows]))
            joined = pooled(parts)
            result.count[rows], result.mean[rows], result.variance[rows] = joined.count, joined.mean, joined.variance
        return result


def _rows(moments: Moments, index: int, n_rows: int) -> Moments:
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
        [part.count * (part.variance + (m - centre) ** 2) for part, m in zip(parts, means, strict=True)], axis=0
    )
    return Moments(count, mean, np.divide(squares, count, out=np.zeros(count.shape), where=count > 0))
