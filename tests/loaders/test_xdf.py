"""XDF: files written byte by byte with known clocks, and real ones beside the library that decodes them."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from loaders import xdf_writer as xdf
from loaders.test_conformance import check_recording

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.loaders.readers import xdf_chunks
from biopercept.recording import Recording

ECG = (("ECG", "mV", "ECG"),)


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Give a function that returns, afterwards, the most bytes that were allocated meanwhile."""
    peaks = [0]
    tracemalloc.start()
    try:
        yield lambda: peaks[0]
    finally:
        peaks[0] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def written(tmp_path: Path, content: bytes, name: str = "made.xdf") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def one_stream(rate: float = 100.0, seconds: float = 30.0, begin: float = 500.0) -> bytes:
    times = begin + np.arange(int(rate * seconds)) / rate
    return (
        xdf.file_header()
        + xdf.stream_header(1, "Heart", "ECG", 1, rate, channels=ECG)
        + xdf.in_chunks(1, times, np.sin(times))
    )


def two_clocks(tmp_path: Path, drift: float, offset: float, jitter: float) -> tuple[Path, np.ndarray]:
    """ECG 100 Hz on the recorder's clock and EDA 25 Hz on another; both have a spike at the same true times."""
    rng = np.random.default_rng(8)
    seconds, begin = 600.0, 1000.0
    spikes = np.arange(10.0, 590.0, 40.0)
    content = (
        xdf.file_header()
        + xdf.stream_header(1, "Heart", "ECG", 1, 100, channels=ECG)
        + xdf.stream_header(2, "Skin", "GSR", 1, 25, channels=[("GSR", "microsiemens", "GSR")])
    )
    for stream, rate in ((1, 100.0), (2, 25.0)):
        true = np.arange(int(seconds * rate)) / rate
        values = np.full(len(true), 1.0)
        values[np.round(spikes * rate).astype(int)] = 5.0
        times = begin + true + rng.normal(0, jitter / rate, len(true))
        if stream == 2:
            times = times * (1 + drift) + offset
        content += xdf.in_chunks(stream, times, values)
    for true_time in np.arange(begin, begin + seconds, 5.0):
        theirs = true_time * (1 + drift) + offset
        content += xdf.clock_offset(1, true_time, 0.0) + xdf.clock_offset(2, theirs, true_time - theirs)
    return written(tmp_path, content), spikes


@pytest.mark.parametrize(("drift", "offset", "jitter"), [(80e-6, 12.345, 0.0), (-80e-6, -3600.5, 0.3), (0.0, 0.0, 0.1)])
def test_two_clocks_with_drift_and_offset_come_together(
    tmp_path: Path, drift: float, offset: float, jitter: float
) -> None:
    path, spikes = two_clocks(tmp_path, drift, offset, jitter)
    recording = load_recording(path)
    check_recording(recording)
    heart, skin = recording.signal("ECG"), recording.signal("GSR")
    assert (heart.modality, skin.modality) == ("ecg", "eda")
    for signal in (heart, skin):
        at = signal.start_seconds + np.flatnonzero(signal.read()[0] > 3) / signal.sampling_rate
        np.testing.assert_allclose(at, spikes, atol=0.5 / 25 + 1e-3)
        assert abs(np.median(at - spikes)) < 0.001
        assert not np.isnan(signal.read()).any()
    assert skin.sampling_rate == pytest.approx(25, rel=2e-5)


def test_samples_and_times_are_those_of_the_library(tmp_path: Path) -> None:
    import pyxdf

    path, _ = two_clocks(tmp_path, 80e-6, 12.345, 0.2)
    streams, _ = pyxdf.load_xdf(path)
    recording = load_recording(path)
    zero = min(stream["time_stamps"][0] for stream in streams)
    for signal, stream in zip(recording.signals, streams, strict=True):
        np.testing.assert_array_equal(signal.read()[0], stream["time_series"][:, 0])
        np.testing.assert_allclose(signal.sample_times(), stream["time_stamps"] - zero, atol=0.5 / signal.sampling_rate)


@pytest.mark.parametrize("name", ["minimal", "clock_resets", "empty_streams"])
def test_real_files_hold_what_the_library_reads(reference_data: Path, name: str) -> None:
    import pyxdf

    path = reference_data / "formats" / "xdf" / f"{name}.xdf"
    recording = load_recording(path)
    check_recording(recording)
    streams, _ = pyxdf.load_xdf(path)
    numbers = [one for one in streams if one["info"]["channel_format"][0] != "string" and len(one["time_stamps"])]
    texts = [one for one in streams if one["info"]["channel_format"][0] == "string"]
    assert sum(signal.n_channels for signal in recording.signals) == sum(one["time_series"].shape[1] for one in numbers)
    for signal, stream in zip(recording.signals, numbers, strict=True):
        whole = signal.read()
        np.testing.assert_array_equal(whole[:, ~np.isnan(whole[0])].T, stream["time_series"])
        assert signal.sampling_rate == pytest.approx(stream["info"]["effective_srate"], rel=1e-4)
    assert len(recording.intervals) == sum(len(one["time_stamps"]) for one in texts)


def test_a_clock_reset_is_a_gap_between_the_segments(reference_data: Path) -> None:
    recording = load_recording(reference_data / "formats" / "xdf" / "clock_resets.xdf")
    eeg = recording.signal("EEG")
    is_there = ~np.isnan(eeg.read()[0])
    runs = np.flatnonzero(np.diff(is_there.astype(int)))
    # The library's own tests expect samples 0 to 12875 and 12876 to 27814, the clock reset between them.
    assert len(runs) == 2
    assert is_there[: runs[0] + 1].sum() == 12876
    assert is_there[runs[1] + 1 :].sum() == 27815 - 12876
    assert (runs[1] - runs[0]) / eeg.sampling_rate == pytest.approx(1221.995 - 948.116, abs=0.5)
    assert any("the header says 100 Hz, the stamps say 92.9344 Hz" in note for note in recording.notes)
    assert any("1 gap (breaks or clock resets), 273.9 s in all" in note for note in recording.notes)
    assert recording.intervals[0].label == "XXX"


def test_streams_without_samples_are_said_and_the_header_gives_the_start(reference_data: Path) -> None:
    recording = load_recording(reference_data / "formats" / "xdf" / "empty_streams.xdf")
    both = "Empty data stream: test stream 0 counter, Empty marker stream: test stream 0 counter"
    assert f"no samples in the streams: {both}" in recording.notes
    assert recording.started_at == datetime(2025, 1, 31, 0, 21, 17, tzinfo=UTC)
    assert load_recording(reference_data / "formats" / "xdf" / "minimal.xdf").started_at is None


def test_a_pause_in_a_slow_stream_stays_a_pause(tmp_path: Path) -> None:
    times = np.concatenate([np.arange(400) / 4, 160 + np.arange(400) / 4])  # 60.25 s without a sample
    content = xdf.file_header() + xdf.stream_header(1, "Skin", "EDA", 1, 4, channels=[("EDA", "uS", "EDA")])
    recording = load_recording(written(tmp_path, content + xdf.in_chunks(1, times, np.arange(800.0))))
    eda = recording.signal("EDA")
    assert eda.sampling_rate == 4.0
    assert np.isnan(eda.read()[0]).sum() == 240
    assert eda.read()[0, 640] == 400


def test_stamps_decide_and_not_the_nominal_rate(tmp_path: Path) -> None:
    times = np.arange(5000) / 98.7
    content = xdf.file_header() + xdf.stream_header(1, "Heart", "ECG", 1, 100, channels=ECG)
    recording = load_recording(written(tmp_path, content + xdf.in_chunks(1, times, np.sin(times))))
    assert recording.signal("ECG").sampling_rate == pytest.approx(98.7, rel=1e-9)
    assert "Heart: the header says 100 Hz, the stamps say 98.7 Hz; the stamps were used" in recording.notes


def test_samples_without_a_time_follow_the_one_before_at_the_nominal_rate(tmp_path: Path) -> None:
    content = xdf.file_header() + xdf.stream_header(1, "Heart", "ECG", 1, 100, channels=ECG)
    for block in range(20):
        content += xdf.samples(1, [10 + block / 2, *[None] * 49], np.arange(50.0)[:, None] + block)
    signal = load_recording(written(tmp_path, content)).signal("ECG")
    assert (signal.n_samples, signal.sampling_rate) == (1000, 100.0)


def kinds_file(tmp_path: Path) -> Path:
    times = 7 + np.arange(1280) / 128
    eeg = [("Fp1", "microvolts", "EEG"), ("A1", "uV", "EEG"), ("TRIGGER", "", "EEG"), ("E17", "uV", "EEG")]
    content = (
        xdf.file_header()
        + xdf.stream_header(1, "Cap", "EEG", 4, 128, channels=eeg)
        + xdf.stream_header(2, "Band", "PPG", 1, 128, form="int32")
        + xdf.stream_header(3, "Band", "PPG", 1, 128, form="double64")
        + xdf.stream_header(4, "Keys", "Markers", 1, 0, form="string")
        + xdf.stream_header(5, "Codes", "Markers", 1, 0, form="int16")
        + xdf.stream_header(6, "RR", "RR", 1, 0, form="float32", channels=[("RR interval", "ms", "")])
        + xdf.stream_header(7, "Mood", "Rating", 1, 0, form="float32")
        + xdf.in_chunks(1, times, np.arange(4 * 1280.0).reshape(-1, 4))
        + xdf.in_chunks(2, times, np.arange(1280), "int32")
        + xdf.in_chunks(3, times, -np.arange(1280.0), "double64")
        + xdf.strings(4, [(8.0, ["stroop, easy"]), (9.0, ["<b>\x1b[31m\n=1+1"]), (9.5, [" "])])
        + xdf.samples(5, [8.5, 10.25], np.array([[3], [255]]), "int16")
        + xdf.samples(6, [7.8, 8.7, 9.5, 10.6], np.array([[800.0], [900], [800], [1100]]))
        + xdf.samples(7, [7.1, 9.9, 10.0, 16.9], np.array([[1.0], [2], [3], [4]]))
    )
    return written(tmp_path, content)


def test_the_type_decides_where_the_label_does_not_and_streams_of_one_name_stay_apart(tmp_path: Path) -> None:
    recording = load_recording(kinds_file(tmp_path))
    check_recording(recording)
    by_name = {signal.name: signal for signal in recording.signals}
    assert by_name["EEG"].channel_names == ("Fp1", "E17")
    assert {by_name["A1"].modality, by_name["TRIGGER"].modality} == {"unknown"}
    assert by_name["Band"].modality == by_name["Band_2"].modality == "bvp"
    assert by_name["Band"].recognised_by == "format"
    np.testing.assert_array_equal(by_name["Band"].read()[0], np.arange(1280))
    np.testing.assert_array_equal(by_name["Band_2"].read()[0], -np.arange(1280))


def test_markers_are_intervals_and_beats_keep_their_own_times(tmp_path: Path) -> None:
    recording = load_recording(kinds_file(tmp_path))
    assert [one.label for one in recording.intervals] == ["stroop, easy", "3", "<b> [31m =1+1", "255"]
    np.testing.assert_allclose([one.onset_seconds for one in recording.intervals], [1, 1.5, 2, 3.25])
    assert {one.duration_seconds for one in recording.intervals} == {0.0}
    assert "Keys: 1 marker is empty and is left out" in recording.notes
    beats = recording.signals_of("ibi")[0]
    np.testing.assert_allclose(beats.sample_times(), [0.8, 1.7, 2.5, 3.6])
    np.testing.assert_allclose(beats.read()[0], [0.8, 0.9, 0.8, 1.1], rtol=1e-6)
    mood = recording.signal("Mood")
    assert not mood.is_regular
    np.testing.assert_allclose(mood.sample_times(), [0.1, 2.9, 3.0, 9.9])


def test_a_stream_without_clock_offsets_beside_others_is_said(tmp_path: Path) -> None:
    content = one_stream() + xdf.clock_offset(1, 500, 0.5) + xdf.clock_offset(1, 505, 0.5)
    content += xdf.stream_header(2, "Keys", "Markers", 1, 0, form="string") + xdf.strings(2, [(510.0, ["go"])])
    notes = load_recording(written(tmp_path, content)).notes
    assert "Keys: no clock offsets in the file, so its times are not brought to the others'" in notes


@pytest.mark.parametrize("name", ["made.xdfz", "made.xdf.gz", "renamed.xdf"])
def test_compressed_files_are_the_same_recording(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, gzip.compress(kinds_file(tmp_path).read_bytes()), name)
    assert_same(load_recording(path), load_recording(tmp_path / "made.xdf"))


def assert_same(one: Recording, other: Recording) -> None:
    assert one.intervals == other.intervals
    for a, b in zip(one.signals, other.signals, strict=True):
        assert (a.name, a.start_seconds, a.sampling_rate) == (b.name, b.start_seconds, b.sampling_rate)
        np.testing.assert_array_equal(a.read(), b.read())


def test_nothing_is_printed_or_logged(
    reference_data: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    load_recording(reference_data / "formats" / "xdf" / "clock_resets.xdf")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


# ---- files that lie ----


def lies() -> dict[str, bytes]:
    """Each: a sound stream, and something that is not."""
    good = one_stream()
    head = struct.pack("<I", 1)
    rest = (
        "<channel_count>1</channel_count><nominal_srate>1</nominal_srate><channel_format>int16</channel_format></info>"
    )
    entity = '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    bomb = f"<!DOCTYPE x [{entity}]><info><name>&b;</name>{rest}"
    outside = f'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><info><name>&a;</name>{rest}'
    deep = "<info>" + "<a>" * 20_000 + "</a>" * 20_000 + "</info>"
    return {
        "chunk length 2^62": good + b"\x08" + struct.pack("<Q", 1 << 62) + b"\x03\x00" + head,
        "chunk length 0": good + b"\x01\x00" + xdf.boundary(),
        "sample count 2^40": good + xdf.chunk(3, head + b"\x08" + struct.pack("<Q", 1 << 40)),
        "sample count one more": good + xdf.chunk(3, head + xdf.number(2) + b"\x00" + b"\x00" * 4),
        "string length 2^62": good
        + xdf.stream_header(2, "K", "Markers", 1, 0, form="string")
        + xdf.chunk(3, struct.pack("<I", 2) + b"\x01\x01\x00\x08" + struct.pack("<Q", 1 << 62) + b"x"),
        "channels 2e9": good
        + xdf.stream_header(2, "K", "EEG", 2_000_000_000, 100)
        + xdf.samples(2, [1.0], np.ones((1, 1))),
        "channels as text": good + xdf.stream_header(2, "K", "EEG", "many", 100),  # type: ignore[arg-type]
        "unknown kind of samples": good + xdf.stream_header(2, "K", "EEG", 1, 100, form="object"),
        "rate nan": good + xdf.stream_header(2, "K", "EEG", 1, float("nan")),
        "no name": good.replace(b"<name>Heart</name>", b"<name></name>     ") + xdf.stream_header(2, "K", "EEG", -1, 1),
        "entities": good
        + xdf.chunk(2, struct.pack("<I", 2) + bomb.encode())
        + xdf.samples(2, [1.0, 2.0], np.ones((2, 1)), "int16"),
        "outside entity": good + xdf.chunk(2, struct.pack("<I", 2) + outside.encode()),
        "deep header": good + xdf.chunk(2, struct.pack("<I", 2) + deep.encode()),
        "deep footer": good + xdf.chunk(6, head + deep.encode()),
        "broken footer": good + xdf.chunk(6, head + b"<info><sample_count>x</info>"),
        "samples of no stream": good + xdf.samples(9, [1.0], np.ones((1, 1))),
        "offset of no stream": good + xdf.clock_offset(9, 1.0, 1.0),
        "offset cut": good + xdf.chunk(4, head + b"\x00" * 5),
        "offset nan": good + xdf.clock_offset(1, float("nan"), float("inf")),
        "second header": good + xdf.stream_header(1, "Heart", "ECG", 7, 100),
        "times nan": good + xdf.samples(1, [float("nan")] * 3, np.ones((3, 1))),
        "time 1e300": good + xdf.samples(1, [1e300], np.ones((1, 1))),
        "time of another year": good + xdf.samples(1, [5e7], np.ones((1, 1))),
    }


@pytest.mark.parametrize("what", lies())
def test_what_lies_is_left_out_and_said_and_the_rest_is_read(tmp_path: Path, what: str) -> None:
    path = written(tmp_path, lies()[what])
    load_recording(written(tmp_path, one_stream(), "first.xdf"))  # imports are not part of the cost
    with peak_memory() as peak:
        recording = load_recording(path)
    check_recording(recording)
    assert peak() < 40_000_000
    assert recording.notes
    ecg = recording.signals_of("ecg")[0]
    times = 500 + np.arange(3000) / 100
    np.testing.assert_allclose(ecg.read(0, 3000)[0], np.sin(times), atol=1e-6)
    assert len(recording.signals) == 1
    assert "root:" not in repr(recording.notes)


def test_a_damaged_chunk_costs_that_chunk_up_to_the_next_boundary(tmp_path: Path) -> None:
    content = bytearray(one_stream())
    whole = load_recording(written(tmp_path, bytes(content), "whole.xdf")).signal("ECG").read()[0]
    place = content.index(b"\x03\x00" + struct.pack("<I", 1), len(content) // 2)
    content[place - 5 : place] = b"\x04\xff\xff\xff\x7f"  # the length of a chunk
    recording = load_recording(written(tmp_path, bytes(content)))
    samples = recording.signal("ECG").read()[0]
    is_there = ~np.isnan(samples)
    assert any("damaged and are left out" in note for note in recording.notes)
    assert 2800 <= is_there.sum() < 3000
    np.testing.assert_array_equal(samples[is_there], whole[is_there])


def test_what_unpacks_to_too_much_is_refused_before_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, gzip.compress(one_stream()[:-40] + bytes(60_000_000)), "bomb.xdfz")
    monkeypatch.setattr(xdf_chunks, "MOST_BYTES", 4 << 20)
    with (
        peak_memory() as peak,
        pytest.raises(RecordingError, match=r"bomb\.xdfz: what is kept .* needs more than 4 MB; unpack it"),
    ):
        load_recording(path)
    assert peak() < 30_000_000


def test_samples_that_are_numbers_stay_in_the_file_and_are_the_same_as_from_memory(tmp_path: Path) -> None:
    times = 500 + np.arange(20_000) / 1000
    values = np.random.default_rng(2).normal(0, 20, (len(times), 128)).astype("f4")
    names = tuple((f"F{number}", "uV", "EEG") for number in range(128))
    content = xdf.file_header() + xdf.stream_header(1, "Amp", "EEG", 128, 1000, channels=names)
    content += xdf.in_chunks(1, times, values)
    plain = written(tmp_path, content)
    with peak_memory() as peak:
        [signal] = load_recording(plain).signals
    assert peak() < values.nbytes / 2
    [packed] = load_recording(written(tmp_path, gzip.compress(content, 1), "made.xdfz")).signals
    for start, stop, rows in ((0, 20_000, slice(None)), (777, 15_001, slice(5, 9)), (19_999, 20_000, slice(127, 128))):
        block = signal.read(start, stop, rows)
        np.testing.assert_array_equal(block, values[start:stop, rows].T.astype(np.float64))
        np.testing.assert_array_equal(packed.read(start, stop, rows), block)
    plain.write_bytes(content[:-100_000])
    with pytest.raises(RecordingError, match="became shorter while it was read"):
        signal.read()


def test_times_that_do_not_fit_in_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xdf_chunks, "MOST_BYTES", 4000)
    with pytest.raises(RecordingError, match=r"cut it into parts, or export the stream as EDF"):
        load_recording(written(tmp_path, one_stream()))


@pytest.mark.parametrize("form", ["plain", "gz"])
def test_a_file_cut_at_any_place_is_read_in_part_with_a_note_or_refused_by_name(tmp_path: Path, form: str) -> None:
    content = kinds_file(tmp_path).read_bytes()
    content = gzip.compress(content) if form == "gz" else content
    rng = np.random.default_rng(4)
    for place in [1, 4, 5, *rng.integers(6, len(content) - 1, 20)]:
        path = written(tmp_path, content[:place], "cut.xdfz")
        try:
            check_recording(load_recording(path))
        except RecordingError as fault:
            assert "cut.xdfz" in str(fault)


def test_a_changed_byte_or_noise_never_ends_in_another_error(tmp_path: Path) -> None:
    content = kinds_file(tmp_path).read_bytes()
    rng = np.random.default_rng(5)
    for place in [*range(4, 120, 4), *rng.integers(120, len(content), 60)]:
        changed = bytearray(content)
        changed[place] = int(rng.integers(0, 256))
        path = written(tmp_path, bytes(changed), "changed.xdf")
        try:
            check_recording(load_recording(path))
        except RecordingError as fault:
            assert "changed.xdf" in str(fault)
            assert "cannot be read (" not in str(fault)  # the net under all readers
    with pytest.raises(RecordingError, match="noise"):
        load_recording(written(tmp_path, b"XDF:" + rng.bytes(5000), "noise.xdf"))


def test_a_file_of_markers_alone_is_refused(tmp_path: Path) -> None:
    content = xdf.file_header() + xdf.stream_header(2, "Keys", "Markers", 1, 0, form="string")
    with pytest.raises(RecordingError, match=r"made\.xdf: the XDF file holds no stream of numbers, so no signal"):
        load_recording(written(tmp_path, content + xdf.strings(2, [(510.0, ["go"])])))


@pytest.mark.parametrize("seconds", [1.0, 7.3])
def test_a_clock_that_goes_back_costs_the_samples_that_lie_twice_and_no_others(tmp_path: Path, seconds: float) -> None:
    numbers = np.arange(6000)
    times = 500.0 + numbers / 100 - seconds * (numbers >= 3000)
    content = xdf.file_header() + xdf.stream_header(1, "Heart", "ECG", 1, 100, channels=ECG)
    recording = load_recording(written(tmp_path, content + xdf.in_chunks(1, times, numbers.astype(float))))
    n_twice = round(100 * seconds)
    kept = [*range(3000), *range(3000 + n_twice, 6000)]
    np.testing.assert_array_equal(recording.signal("ECG").read()[0], kept)
    assert (
        f"Heart: {n_twice} samples lie where others lie already (its clock was set back); left out" in recording.notes
    )
    back = seconds - 0.01
    assert any(f"goes back 1 times (the first by {back:.3g} s at sample 3001)" in note for note in recording.notes)
