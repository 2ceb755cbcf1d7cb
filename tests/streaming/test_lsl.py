"""Streams of the Lab Streaming Layer: placed by their stamps, followed over loopback from another program, and lost."""

from __future__ import annotations

import csv
import importlib.util
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from biopercept.errors import SettingsError
from biopercept.loaders.readers.xdf import Placed, channels_of
from biopercept.loaders.readers.xdf_chunks import XdfChannel, XdfStream
from biopercept.progress import noticing
from biopercept.streaming.buffers import RingBuffer, Stream
from biopercept.streaming.lsl import LslSource, Placement, keep, library

HAS_LIBRARY = importlib.util.find_spec("pylsl") is not None
needs_library = pytest.mark.skipif(not HAS_LIBRARY, reason="pylsl is not installed (biopercept[live])")
needs_player = pytest.mark.skipif(
    not HAS_LIBRARY or importlib.util.find_spec("mne_lsl") is None, reason="pylsl or mne-lsl is not installed"
)
LOOPBACK = """
[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
AddressesOverride = {127.0.0.1}
[lab]
KnownPeers = {127.0.0.1}
SessionID = %s
[log]
level = -3
"""
GIVING = """
import sys, time
import numpy, pylsl

name, kind, rate, labels, unit, seconds, format = sys.argv[1:8]
rate, labels = float(rate), labels.split(",")
info = pylsl.StreamInfo(name, kind, len(labels), rate, format, "of " + name)
channels = info.desc().append_child("channels")
for label in labels:
    channel = channels.append_child("channel")
    for key, value in (("label", label), ("unit", unit), ("type", kind)):
        channel.append_child_value(key, value)
outlet = pylsl.StreamOutlet(info)
print("there", flush=True)
random, begun, n = numpy.random.default_rng(0), pylsl.local_clock(), 0
while pylsl.local_clock() - begun < float(seconds):
    due = int((pylsl.local_clock() - begun) * rate)
    if due > n:
        if format == "string":
            outlet.push_sample(["mark"] * len(labels))
        else:
            samples = numpy.array(10 * random.standard_normal((due - n, len(labels))), dtype=numpy.float32)
            outlet.push_chunk(samples, begun + (due - 1) / rate)
        n = due
    time.sleep(0.02)
"""


@pytest.fixture(scope="module", autouse=True)
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have streams of this machine and of this test alone be seen."""
    path = tmp_path_factory.mktemp("lsl") / "lsl_api.cfg"
    path.write_text(LOOPBACK % f"test{os.getpid()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSLAPICFG", str(path))
        yield


def stop(program: subprocess.Popen[str]) -> None:
    program.kill()
    program.wait()
    if program.stdout is not None:
        program.stdout.close()


@pytest.fixture
def giving() -> Iterator[Any]:
    """Give what starts another program that has a stream; all are ended after the test."""
    running = []

    def start(name: str, kind: str = "EEG", rate: float = 100.0, **more: str) -> subprocess.Popen[str]:
        values = {"labels": "Fz,Cz,Pz,Oz", "unit": "microvolts", "seconds": "300", "format": "float32"} | more
        words = [name, kind, str(rate), values["labels"], values["unit"], values["seconds"], values["format"]]
        one = subprocess.Popen([sys.executable, "-c", GIVING, *words], stdout=subprocess.PIPE, text=True)
        running.append(one)
        assert one.stdout is not None
        assert one.stdout.readline() == "there\n"
        return one

    yield start
    for one in running:
        stop(one)


def numbers(placement: Placement, times: np.ndarray, at_once: int = 16) -> np.ndarray:
    placed = []
    for first in range(0, len(times), at_once):
        for number, piece in placement.pieces(times[first : first + at_once]):
            placed += list(range(number, number + piece.stop - piece.start))
    return np.array(placed)


def test_jitter_moves_no_sample() -> None:
    random = np.random.default_rng(0)
    times = 3.0 + np.arange(5000) / 64 + random.uniform(0, 0.05, 5000)
    for at_once in (1, 16, 64):
        placed = numbers(Placement(64.0), times, at_once)
        assert (np.diff(placed) == 1).sum() >= 4990
        assert abs(placed[-1] - 4999) <= 4


def test_a_pause_is_a_gap_of_its_length() -> None:
    times = np.arange(640) / 64
    times[320:] += 7.5
    placed = numbers(Placement(64.0), times)
    assert placed[319] == 319
    assert placed[320] == 320 + 480


def test_a_clock_that_drifts_is_followed() -> None:
    # 300 ppm: in an hour a second, which samples that were only counted would be off.
    times = np.arange(64 * 3600) / (64 * (1 - 3e-4))
    placement = Placement(64.0)
    placed = numbers(placement, times, 64)
    away = placed / 64 + (placement.start_seconds or 0.0) - times
    assert np.abs(away).max() < 0.06
    assert abs((placed[-1] - len(times)) / 64) > 1.0


def test_a_clock_that_was_set_back_leaves_nothing_out() -> None:
    times = 100 + np.arange(640) / 64
    times[320:] -= 60
    placed = numbers(Placement(64.0), times)
    assert placed.tolist() == list(range(640))


def test_a_pause_after_a_clock_was_set_back_is_a_gap_as_before() -> None:
    times = 100 + np.arange(640) / 64
    times[320:] -= 60
    times[480:] += 7.5
    placed = numbers(Placement(64.0), times)
    assert placed[:480].tolist() == list(range(480))
    assert abs(placed[480] - (480 + 480)) <= 1


def test_samples_lie_at_their_stamps_less_the_offset_of_their_clock() -> None:
    buffer = RingBuffer(1, 4.0, 60.0)
    stream = Stream("A", buffer, ())
    inlet = SimpleNamespace(
        time_correction=lambda timeout: -1000.0,
        pull_chunk=lambda **_: (np.arange(8.0)[:, None], 1002.0 + np.arange(8) / 4),
    )
    source = LslSource.__new__(LslSource)
    source._zero, source._placements = 1.0, {"A": Placement(4.0)}
    connection = SimpleNamespace(inlet=inlet, offset=None, asked_at=0.0)
    assert source._correct(connection)  # type: ignore[arg-type]
    source._take(stream, connection)  # type: ignore[arg-type]
    assert buffer.start_seconds == pytest.approx(1.0)  # 1002 on its clock, 2 on this one, whose second zero is 1
    assert buffer.end_seconds == pytest.approx(3.0)
    np.testing.assert_array_equal(buffer.read([0], 0, 8)[0], np.arange(8.0))


def test_samples_of_before_second_zero_and_without_a_time_are_dropped() -> None:
    buffer = RingBuffer(1, 1.0, 60.0)
    stream, placement = Stream("A", buffer, ()), Placement(1.0)
    keep(stream, placement, np.array([-2.0, -1.0, 0.5, math.nan, 1.5]), np.arange(5.0)[None])
    assert buffer.start_seconds == 0.5
    np.testing.assert_array_equal(buffer.read([0], 0, 2)[0], [2.0, 4.0])


def test_a_stream_that_comes_back_otherwise_stays_missing_and_is_said_once() -> None:
    def announced(uid: str, n_channels: int, rate: float) -> SimpleNamespace:
        return SimpleNamespace(uid=lambda: uid, channel_count=lambda: n_channels, nominal_srate=lambda: rate)

    there: list[SimpleNamespace] = [announced("a", 4, 200.0)]
    source = LslSource.__new__(LslSource)
    source._pylsl = SimpleNamespace(StreamInlet=lambda info, recover: "inlet")
    source._resolvers = {"Cap": SimpleNamespace(results=lambda: there)}
    source._others = set()
    source._described = {"Cap": SimpleNamespace(n_channels=4, rate=100.0)}  # type: ignore[dict-item]
    said: list[str] = []
    with noticing(said.append):
        for _ in range(3):
            assert source._again("Cap") is None
        assert said == [
            "the stream 'Cap' is back with 4 channels at 200 Hz, and had 4 channels at 100 Hz: it stays missing until "
            "it is as before; begin the run again to follow it"
        ]
        there.append(announced("b", 4, 100.0))
        connection = source._again("Cap")
    assert connection is not None
    assert connection.uid == "b"
    assert len(said) == 1


def test_without_the_library_the_line_that_installs_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(SettingsError, match=r"not installed; python3 -m pip install 'biopercept\[live\]'"):
        library()


def opened(*names: str, wait: float = 4.0) -> LslSource:
    return LslSource(names, 20.0, (wait, 1.0))


@needs_library
def test_a_stream_is_followed_lost_and_taken_up_again(giving: Any) -> None:
    first = giving("Cap", seconds="300")
    source = opened("Cap")
    assert [(s.name, s.modality, s.unit, s.n_channels) for s in source.streams[0].signals] == [("EEG", "eeg", "uV", 4)]
    assert source.reach(3.0)
    [eeg] = source.streams[0].between(1.0, 3.0)
    assert np.isfinite(eeg.read()).mean() > 0.95
    assert 5 < np.nanstd(eeg.read()) < 20
    stop(first)
    lost_at = source.now()
    while source.streams[0].is_there and source.now() < lost_at + 30:
        source.reach(source.now())
    assert not source.streams[0].is_there
    assert source.reach(source.now() + 1.0)  # nobody waits for it
    giving("Cap")
    again_at = source.now()
    while source.streams[0].buffer.end_seconds < again_at and source.now() < again_at + 60:
        source.reach(source.now())
    end = source.streams[0].buffer.end_seconds
    assert source.streams[0].is_there
    assert again_at < end < again_at + 60
    [eeg] = source.streams[0].between(end - 12.0, end)
    assert 0.0 < np.isfinite(eeg.read()).mean() < 1.0  # the pause is missing
    source.close()


@needs_library
def test_streams_that_cannot_be_followed_are_one_sentence(giving: Any) -> None:
    with pytest.raises(SettingsError, match="no stream is on the network, and Nobody was looked for during 1 s"):
        opened("Nobody", wait=1.0)
    giving("Marks", "Markers", labels="mark", format="string")
    giving("Cap")
    giving("Cap")
    with pytest.raises(SettingsError, match=r"no stream on the network is called Cup.*there are: Cap, Marks"):
        opened("Cup", wait=3.0)
    with pytest.raises(SettingsError, match=r"the stream 'Marks' gives texts \(markers\), which are no signal"):
        opened("Marks")
    with pytest.raises(SettingsError, match=r"2 streams are called 'Cap' \(from .*\); give each a name of its own"):
        opened("Cap")
    with pytest.raises(SettingsError, match="--stream Cap is given twice; give each stream once"):
        opened("Cap", "Cap")


@needs_library
def test_the_command_follows_streams_and_gives_its_predictions_out_as_one(giving: Any, tmp_path: Path) -> None:
    import pylsl

    giving("Cap")
    out = tmp_path / "out"
    words = ["live", "workload-eeg", "--stream", "Cap", "--seconds", "13", "--outlet", "Answers", "-o", str(out)]
    run = subprocess.Popen([sys.executable, "-m", "biopercept.cli", *words], stderr=subprocess.PIPE, text=True)
    [info] = pylsl.resolve_byprop("name", "Answers", timeout=120)
    inlet = pylsl.StreamInlet(info, recover=False)
    labels = inlet.info(timeout=20).get_channel_labels()
    inlet.open_stream(timeout=20)
    samples: list[list[float]] = []
    until = time.monotonic() + 60
    while len(samples) < 2 and time.monotonic() < until:
        sample, _ = inlet.pull_sample(timeout=1.0)
        samples += [] if sample is None else [sample]
    _, errors = run.communicate(timeout=120)
    inlet.close_stream()
    assert run.returncode == 0, errors
    assert labels == ["workload rest", "workload arithmetic", "quality", "distance"]
    with (out / "live_predictions.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["onset"] for row in rows][:2] == ["0.0", "1.0"]
    given = {(row["probability_rest"], row["probability_arithmetic"]) for row in rows}
    assert {(f"{round(one[0], 6)}", f"{round(one[1], 6)}") for one in samples} <= given


@pytest.mark.parametrize(("unit", "kind", "meant"), [("0", "EEG", "V"), ("-6", "eeg", "uV"), ("-3", "Acc", "-3")])
def test_a_unit_may_be_a_power_of_ten_of_volts(unit: str, kind: str, meant: str) -> None:
    # As mne-lsl announces them: 0 for V, -6 for uV.
    stream = XdfStream(0, "A", kind, 1, 128.0, "float32", (XdfChannel("Fz", unit, ""),), False)
    placed = Placed(128.0, 0.0, 0, lambda keys, start, stop: np.empty((len(keys), 0)))
    assert [channel.unit for channel in channels_of(stream, placed, "A", 128.0)] == [meant]


@needs_player
def test_streams_of_another_program_are_followed(tmp_path: Path) -> None:
    player = tmp_path / "play.py"
    player.write_text(
        """
import mne, numpy, time
from mne_lsl.player import PlayerLSL

info = mne.create_info(["Fz", "Cz", "Pz", "Oz"], 128.0, "eeg")
times = numpy.arange(128 * 20) / 128
raw = mne.io.RawArray(2e-5 * numpy.sin(2 * numpy.pi * 10 * times) * numpy.ones((4, 1)), info, verbose="error")
player = PlayerLSL(raw, chunk_size=16, name="Played").start()
print("there", flush=True)
time.sleep(300)
""",
        encoding="utf-8",
    )
    run = subprocess.Popen([sys.executable, str(player)], stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        while run.stdout.readline() not in ("there\n", ""):
            pass
        source = opened("Played", wait=20.0)
        assert source.reach(4.0)
        [eeg] = source.streams[0].between(1.0, 3.5)
        samples = eeg.read()
        assert (eeg.modality, eeg.unit, eeg.channel_names) == ("eeg", "uV", ("Fz", "Cz", "Pz", "Oz"))
        assert np.isfinite(samples).mean() > 0.9
        assert np.nanmax(samples) == pytest.approx(20.0, rel=0.05)  # 20 uV, announced in volts
        source.close()
    finally:
        stop(run)
