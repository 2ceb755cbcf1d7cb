"""Min/max pyramids: every signal at coarser and coarser bins, so that any zoom of any length is drawn from few numbers.

A bin holds the lowest, the highest and the mean of its known samples and how many there are; it is a gap where there is
none. Nothing is left out between two bins, so that what is drawn of them never aliases.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import OutputError
from biopercept.files import replacing
from biopercept.recording import FloatArray, Signal

FINEST, FACTOR = 32, 4
"""Samples of a bin of the finest level that is kept, and how many bins become one of the next level."""

FEWEST_BINS = 512
"""Bins below which no coarser level is made."""

_FIELDS: dict[str, str] = {"lowest": "<f4", "highest": "<f4", "mean": "<f4", "known": "<u4"}
_AT_ONCE = 1 << 21  # samples of all channels that are read at once: 16 MB
_LAYOUT = "biopercept pyramids 1"
_SUFFIX = ".pyramids.h5"
_LEFT_OVER_SECONDS = 86_400.0


@dataclass(frozen=True, eq=False)
class Level:
    """A signal in bins of ``size`` samples; arrays are (n_channels, n_bins), in memory or in a file.

    ``lowest``, ``highest`` and ``mean`` are of the known samples of each bin, float32, NaN where ``known``, their
    number, is 0. The last bin may be shorter.
    """

    size: int
    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]
    mean: NDArray[np.float32]
    known: NDArray[np.uint32]

    @property
    def n_bins(self) -> int:
        """Return the number of bins."""
        return int(self.lowest.shape[1])

    def part(self, start: int, stop: int) -> Level:
        """Return bins ``start`` to ``stop`` in memory."""
        return Level(self.size, *(np.asarray(getattr(self, name)[:, start:stop]) for name in _FIELDS))

    def coarser(self, factor: int) -> Level:
        """Return bins of ``factor`` times the size."""
        lowest, highest, mean, known = (_in_rows(np.asarray(getattr(self, name)), factor) for name in _FIELDS)
        n = np.where(np.isfinite(mean), known, 0.0).astype(np.float64)
        total = np.where(np.isfinite(mean), mean, 0.0).astype(np.float64) * n
        return _level(self.size * factor, lowest, highest, total.sum(axis=2), n.sum(axis=2))


def binned(samples: FloatArray, size: int) -> Level:
    """Return samples, (n_channels, n_samples), in bins of ``size``; what is not finite counts as missing."""
    rows = _in_rows(np.where(np.isfinite(samples), samples, np.nan), size)
    is_known = np.isfinite(rows)
    total = np.where(is_known, rows, 0.0).sum(axis=2)
    return _level(size, rows, rows, total, is_known.sum(axis=2))


def _in_rows(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Return values in rows of ``size``, (n_channels, n_rows, size), the last filled up with what is missing."""
    n_channels, n = values.shape
    n_rows = math.ceil(n / size)
    if n_rows * size == n:
        return values.reshape(n_channels, n_rows, size)
    filler = 0 if values.dtype.kind == "u" else np.nan
    whole = np.full((n_channels, n_rows * size), filler, dtype=values.dtype)
    whole[:, :n] = values
    return whole.reshape(n_channels, n_rows, size)


def _level(size: int, lowest: Any, highest: Any, total: FloatArray, known: NDArray[Any]) -> Level:
    mean = np.divide(total, known, out=np.full(total.shape, np.nan), where=known > 0)
    low, high = np.fmin.reduce(lowest, axis=2), np.fmax.reduce(highest, axis=2)
    return Level(
        size, low.astype(np.float32), high.astype(np.float32), mean.astype(np.float32), known.astype(np.uint32)
    )


@dataclass(frozen=True, eq=False)
class Pyramid:
    """The levels of a regular signal, the finest first; each has bins of :data:`FACTOR` times the size."""

    signal: Signal
    levels: tuple[Level, ...]

    def at(self, size: int) -> Level:
        """Return the whole signal in bins of ``size`` samples, in memory: a power of two, 1 being the samples.

        Below :data:`FINEST` the samples are read, and otherwise the coarsest level that it is a multiple of.
        """
        for level in reversed(self.levels):
            if size % level.size == 0:
                return _joined(list(_coarser_pieces(level, size // level.size)))
        return _joined(list(_pieces(self.signal, size)))


def _joined(pieces: Sequence[Level]) -> Level:
    rows = {name: np.concatenate([getattr(piece, name) for piece in pieces], axis=1) for name in _FIELDS}
    return Level(pieces[0].size, **rows)


def _pieces(signal: Signal, size: int) -> Iterator[Level]:
    """Give a signal in bins, some at a time, so that its samples are never in memory all at once."""
    step = max(_AT_ONCE // max(signal.n_channels, 1) // size, 1) * size
    for start in range(0, max(signal.n_samples, 1), step):
        yield binned(signal.read(start, start + step), size)


def _sizes(n_samples: int) -> Iterator[tuple[int, int]]:
    """Give the size of each level that is kept, and its number of bins."""
    size = FINEST
    while True:
        n_bins = math.ceil(n_samples / size)
        yield size, n_bins
        if n_bins <= FEWEST_BINS:
            return
        size *= FACTOR


def _fill(levels: Sequence[Level], signal: Signal) -> None:
    """Compute the levels of a signal into arrays of the right shape, which may lie in a file, a piece at a time."""
    for place, level in enumerate(levels):
        done = 0
        pieces = _pieces(signal, level.size) if place == 0 else _coarser_pieces(levels[place - 1], FACTOR)
        for piece in pieces:
            for name in _FIELDS:
                getattr(level, name)[:, done : done + piece.n_bins] = getattr(piece, name)
            done += piece.n_bins


def _coarser_pieces(level: Level, factor: int) -> Iterator[Level]:
    step = max(_AT_ONCE // max(level.lowest.shape[0], 1) // factor, 1) * factor
    for start in range(0, max(level.n_bins, 1), step):
        part = level.part(start, start + step)
        yield part if factor == 1 else part.coarser(factor)


def pyramid_of(signal: Signal) -> Pyramid:
    """Return the pyramid of a regular signal, in memory: an eighth of what its samples take as float32."""
    levels = tuple(
        Level(size, *(np.empty((signal.n_channels, n_bins), dtype=kind) for kind in _FIELDS.values()))
        for size, n_bins in _sizes(signal.n_samples)
    )
    _fill(levels, signal)
    return Pyramid(signal, levels)


@dataclass(frozen=True)
class Place:
    """Where the pyramids of a recording are kept, and what they are of: the hash of all that the recording holds."""

    path: Path
    content_hash: str

    @staticmethod
    def beside(store: Path, file_stem: str, content_hash: str) -> Place:
        """Return the place of a store's recording: a hidden folder beside the store."""
        return Place(_folder(store) / f"{file_stem}{_SUFFIX}", content_hash)

    @property
    def fingerprint(self) -> str:
        """Return what the file must say for its pyramids to be used."""
        return hashlib.sha256(f"{_LAYOUT}\n{FINEST} {FACTOR}\n{self.content_hash}".encode()).hexdigest()


def _folder(store: Path) -> Path:
    return store.with_name(f".{store.name}.view")


@contextmanager
def pyramids_of(signals: Sequence[Signal], place: Place | None = None) -> Iterator[Mapping[str, Pyramid]]:
    """Give the pyramids of regular signals by name, while the block runs: kept ones, where a place has them whole.

    What is kept there of something else, or damaged, is made again; where nothing can be written they are in memory.
    """
    with ExitStack() as stack:
        if place is not None:
            kept = _opened(place, signals, stack)
            if kept is None:
                with suppress(OutputError):
                    _keep(place, signals)
                kept = _opened(place, signals, stack)
            if kept is not None:
                yield kept
                return
        yield {signal.name: pyramid_of(signal) for signal in signals}


def _keep(place: Place, signals: Sequence[Signal]) -> None:
    import h5py

    with replacing(place.path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        for number, signal in enumerate(signals):
            levels = []
            for size, n_bins in _sizes(signal.n_samples):
                group = file.create_group(f"{number}/{size}")
                # A checksum of each chunk, so that damage is seen when it is read.
                arrays = (
                    group.create_dataset(name, (signal.n_channels, n_bins), kind, chunks=True, fletcher32=True)
                    for name, kind in _FIELDS.items()
                )
                levels.append(Level(size, *arrays))
            _fill(levels, signal)
        file.attrs["fingerprint"] = place.fingerprint  # last: a file without it is not whole


def _opened(place: Place, signals: Sequence[Signal], stack: ExitStack) -> dict[str, Pyramid] | None:
    """Return the pyramids that are kept, their file open until the stack ends; None where they cannot be used."""
    import h5py

    try:
        with ExitStack() as opening:
            file = opening.enter_context(h5py.File(place.path, "r", locking=False))
            if file.attrs.get("fingerprint") != place.fingerprint:
                return None
            pyramids = {signal.name: _read(file[str(number)], signal) for number, signal in enumerate(signals)}
            stack.push(opening.pop_all())
            return pyramids
    except (OSError, RuntimeError, KeyError, ValueError):  # not there, cut, or damaged: made again
        return None


def _read(group: Any, signal: Signal) -> Pyramid:
    levels = []
    for size, n_bins in _sizes(signal.n_samples):
        arrays = [group[f"{size}/{name}"] for name in _FIELDS]
        if any(array.shape != (signal.n_channels, n_bins) for array in arrays):
            raise ValueError(f"level {size} of {signal.name} has another shape")
        level = Level(size, *arrays)
        step = max(_AT_ONCE // max(signal.n_channels, 1), 1)
        for start in range(0, n_bins, step):
            level.part(start, start + step)  # every chunk is compared with its checksum
        levels.append(level)
    return Pyramid(signal, tuple(levels))


def sweep(store: Path, places: Collection[Place]) -> None:
    """Remove what is kept beside a store of recordings that it no longer has as they were, and what writers left."""
    import h5py

    folder = _folder(store)
    wanted = {place.path: place.fingerprint for place in places}
    for path in folder.glob(f"*{_SUFFIX}*") if folder.is_dir() else ():
        with suppress(OSError):
            if path.name.endswith(".tmp"):
                is_stale = time.time() - path.stat().st_mtime > _LEFT_OVER_SECONDS
            else:
                try:
                    with h5py.File(path, "r", locking=False) as file:
                        is_stale = file.attrs.get("fingerprint") != wanted.get(path, "")
                except OSError:
                    is_stale = True
            if is_stale:
                path.unlink()
