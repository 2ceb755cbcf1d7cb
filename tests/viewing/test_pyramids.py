"""Pyramids against brute force over every bin, gaps kept, and a cache that is used only where it is whole and fresh."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biopercept.recording import Channel, FloatArray, Signal
from biopercept.viewing import pyramids
from biopercept.viewing.pyramids import FACTOR, FINEST, Level, Place, Pyramid, pyramid_of, pyramids_of, sweep


def made(n_samples: int, n_channels: int = 2, seed: int = 0) -> tuple[Signal, FloatArray]:
    """Return noise with single missing samples, a long gap, a spike and an infinite sample."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(5.0, 2.0, (n_channels, n_samples)).cumsum(axis=1)
    samples[rng.random(samples.shape) < 0.01] = np.nan
    samples[:, n_samples // 3 : n_samples // 2] = np.nan
    if n_samples:
        samples[-1, -1], samples[0, 0] = 1e6, np.inf
    return Signal.from_samples("S", "ecg", "mV", 100.0, samples), samples


def assert_is_brute_force(level: Level, samples: FloatArray) -> None:
    """Compare every bin of a level with what Python's own functions give of its samples."""
    assert level.n_bins == -(-samples.shape[1] // level.size)
    for channel, row in enumerate(samples):
        bins = [row[first : first + level.size].tolist() for first in range(0, len(row), level.size)]
        known = [[value for value in one if math.isfinite(value)] for one in bins]
        assert level.known[channel].tolist() == [len(one) for one in known]
        for of_bin, values in ((min, level.lowest[channel]), (max, level.highest[channel])):
            wanted = np.array([of_bin(one) if one else math.nan for one in known], dtype=np.float32)
            assert np.array_equal(values, wanted, equal_nan=True)
        means = np.array([math.fsum(one) / len(one) if one else math.nan for one in known])
        assert np.allclose(level.mean[channel], means, rtol=1e-5, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 4096, 5001])
@pytest.mark.parametrize("power", range(0, 14, 2))
def test_every_bin_of_every_size_is_what_brute_force_gives(n: int, power: int) -> None:
    signal, samples = made(n)
    assert_is_brute_force(pyramid_of(signal).at(2**power), samples)


def test_levels_that_are_filled_piece_by_piece_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    signal, samples = made(40_000)
    monkeypatch.setattr(pyramids, "FEWEST_BINS", 8)
    monkeypatch.setattr(pyramids, "_AT_ONCE", 3 * FINEST * FACTOR)
    levels = pyramid_of(signal).levels
    assert [level.size for level in levels] == [32, 128, 512, 2048, 8192]
    for level in levels:
        assert_is_brute_force(level, samples)


def test_ten_hours_of_32_channels_at_500_hz_are_never_in_memory_whole() -> None:
    rate, n_channels, n_samples = 500.0, 32, 10 * 3600 * 500 // 50  # a fiftieth: what is read at once is what counts
    pieces = []

    def read(start: int, stop: int, rows: slice) -> FloatArray:
        pieces.append(stop - start)
        return np.zeros((n_channels, stop - start))

    channels = tuple(Channel(f"c{number}") for number in range(n_channels))
    signal = Signal("EEG", "eeg", "uV", rate, 0.0, channels, n_samples, read)
    tracemalloc.start()
    levels = pyramid_of(signal).levels
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(pieces) * n_channels <= 1 << 21
    kept = sum(getattr(level, name).nbytes for level in levels for name in ("lowest", "highest", "mean", "known"))
    assert kept < n_channels * n_samples * 8 / 10
    assert peak < kept + 200e6


def counting(signal: Signal) -> tuple[Signal, list[int]]:
    """Return a signal that counts how often its samples are read."""
    reads: list[int] = []

    def read(start: int, stop: int, rows: slice) -> FloatArray:
        reads.append(start)
        return signal.read(start, stop, rows)

    return replace(signal, reader=read), reads


def opened(signal: Signal, place: Place, use: Callable[[Pyramid], None] = lambda _: None) -> None:
    with pyramids_of([signal], place) as made_or_kept:
        use(made_or_kept["S"])


def test_a_cache_is_used_while_it_is_whole_and_of_the_same_content(tmp_path: Path) -> None:
    whole, samples = made(10_000)
    signal, reads = counting(whole)
    place = Place.beside(tmp_path / "study.h5", "S01", "abc")
    opened(signal, place, lambda one: assert_is_brute_force(one.at(64), samples))
    n_reads = len(reads)
    opened(signal, place, lambda one: assert_is_brute_force(one.at(128), samples))
    assert len(reads) == n_reads > 0
    opened(signal, replace(place, content_hash="another"))
    assert len(reads) > n_reads
    assert [path.name for path in place.path.parent.iterdir()] == ["S01.pyramids.h5"]


@pytest.mark.parametrize("where", ["a value", "the end"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, where: str) -> None:
    whole, samples = made(20_000)
    signal, reads = counting(whole)
    place = Place.beside(tmp_path / "study.h5", "S01", "abc")
    opened(signal, place)
    content = bytearray(place.path.read_bytes())
    n_reads = len(reads)
    if where == "a value":
        lowest = np.ascontiguousarray(pyramid_of(whole).levels[0].lowest[0, :8]).tobytes()
        content[content.index(lowest)] ^= 0xFF
    else:
        del content[len(content) // 2 :]
    place.path.write_bytes(content)
    opened(signal, place, lambda one: assert_is_brute_force(one.at(32), samples))
    assert len(reads) > n_reads


def test_a_folder_that_cannot_be_written_to_costs_the_cache_alone(tmp_path: Path) -> None:
    signal, samples = made(5_000)
    (tmp_path / ".study.h5.view").write_text("a file where the folder would be")
    opened(
        signal, Place.beside(tmp_path / "study.h5", "S01", "abc"), lambda p: assert_is_brute_force(p.at(32), samples)
    )


def test_what_is_stale_is_swept_and_nothing_else(tmp_path: Path) -> None:
    signal, _ = made(5_000)
    store = tmp_path / "study.h5"
    kept, changed, gone = (Place.beside(store, name, "1") for name in ("kept", "changed", "gone"))
    for place in (kept, changed, gone):
        opened(signal, place)
    (kept.path.parent / "notes.txt").write_text("mine")
    (kept.path.parent / f".new{kept.path.name}.77.tmp").write_text("a writer at work")
    sweep(store, [kept, replace(changed, content_hash="2")])
    names = {path.name for path in kept.path.parent.iterdir()}
    assert names == {kept.path.name, "notes.txt", f".new{kept.path.name}.77.tmp"}
