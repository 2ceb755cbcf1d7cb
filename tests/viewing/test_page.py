"""The page: what is packed in it is what was recorded, at the right seconds, whatever names say, within its size."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from viewed_page import Elements, Read

from biopercept.recording import Channel, FloatArray, Interval, Signal
from biopercept.viewing import packing
from biopercept.viewing.page import page_of, write_page
from biopercept.viewing.predictions import PredictionTrack
from biopercept.viewing.pyramids import pyramid_of
from biopercept.viewing.timeline import BEATS, RECORDED, Marks, Quality, Timeline

HOSTILE = "</script><b onclick='x'>\"&amp;<!--\u202e\u2028"


def page(timeline: Timeline, **budget: int) -> str:
    return page_of(timeline, {s.name: pyramid_of(s) for s in timeline.signals if s.is_regular}, **budget)


def timeline(*signals: Signal, **fields: Any) -> Timeline:
    end = max((signal.end_seconds for signal in signals), default=0.0)
    return Timeline("S01", "", "task", RECORDED, end, signals, **fields)


def walk(n: int, n_channels: int = 1, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(0, 1, (n_channels, n)).cumsum(axis=1)


def assert_envelope(read: Read, signal: int, samples: FloatArray) -> None:
    """Compare every bin of every level in the page with the samples themselves."""
    for place, _ in enumerate(read.data["signals"][signal]["levels"]):
        head, lowest, highest, _ = read.level(signal, place)
        starts = np.arange(0, samples.shape[1], head["samples"])
        wanted = [f.reduceat(samples, starts, axis=1) for f in (np.fmin, np.fmax)]
        for shown, true in zip((lowest, highest), wanted, strict=True):
            assert np.array_equal(np.isnan(shown), np.isnan(true))
            assert np.nanmax(np.abs(shown - true) / np.array(head["step"])[:, None]) <= 0.51


def test_what_is_packed_is_the_signal_and_gaps_stay_gaps() -> None:
    samples = walk(9_000, 2)
    samples[:, 3000:3500] = np.nan
    samples[1, 100] = np.nan
    read = Read(page(timeline(Signal.from_samples("ECG", "ecg", "mV", 250.0, samples))))
    head, lowest, highest, _ = read.level(0)
    assert (head["samples"], head["range"], head["seconds"]) == (1, False, 1 / 250)
    assert np.array_equal(lowest, highest, equal_nan=True)
    assert_envelope(read, 0, samples)
    assert read.level(0, 0)[0]["samples"] == 16


def test_numbers_in_the_steps_of_a_device_are_not_rounded() -> None:
    samples = np.round(walk(5_000) * 3.0) / 64.0
    read = Read(page(timeline(Signal.from_samples("ACC", "acc", "g", 32.0, samples))))
    head, lowest, _, _ = read.level(0)
    assert head["step"] == pytest.approx([1 / 64])
    assert np.array_equal(lowest, samples)
    assert "nothing" in read.elements.text  # rounded by


def test_rounding_is_below_a_pixel_of_any_narrow_view() -> None:
    calm = walk(20_000) * 0.01
    calm[0, 5000:5100] += 400.0  # an artefact does not make the rest coarse
    read = Read(page(timeline(Signal.from_samples("EDA", "eda", "uS", 4.0, calm))))
    _, lowest, _, _ = read.level(0)
    error = np.abs(lowest - calm)[0]
    for first in range(0, 20_000 - 256, 128):
        view = calm[0, first : first + 256]
        assert error[first : first + 256].max() < np.ptp(view) / 400  # a plot is some hundred pixels high


@pytest.mark.parametrize("wild", [1e15, -1e30])
def test_a_sample_that_no_sensor_gives_is_in_the_page_and_says_its_rounding(wild: float) -> None:
    samples = walk(3_000)
    samples[0, 1000] = wild
    read = Read(page(timeline(Signal.from_samples("ECG", "ecg", "mV", 250.0, samples))))
    _, lowest, _, _ = read.level(0)
    assert lowest[0, 1000] == pytest.approx(wild, rel=1e-6)


def test_means_are_of_all_known_samples_of_their_bins() -> None:
    samples = walk(400_000)
    samples[0, 5000:5020] = np.nan
    read = Read(page(timeline(Signal.from_samples("ECG", "ecg", "mV", 500.0, samples)), most_bytes=300_000))
    head, _, _, parts = read.level(0)
    size = head["samples"] * head["meanBins"]
    assert head["samples"] > 1
    assert_envelope(read, 0, samples)
    for place in (0, 5000 // size, 30):
        values = samples[0, place * size : (place + 1) * size]
        assert parts["count"][0, place] == np.isfinite(values).sum()
        shown = parts["mean"][0, place] * head["step"][0] + head["offset"][0]
        assert shown == pytest.approx(np.nanmean(values), abs=head["step"][0])


def test_samples_at_irregular_times_stay_at_their_times() -> None:
    times = np.cumsum(np.random.default_rng(3).uniform(0.6, 1.1, 500))
    intervals = np.round(np.diff(times, prepend=times[0] - 0.8), 3)
    signal = Signal.from_samples("IBI", "ibi", "s", 1.2, intervals)
    signal = replace(signal, times=times, start_seconds=float(times[0]))
    read = Read(page(timeline(signal)))
    head, lowest, _, parts = read.level(0)
    assert np.allclose(times[0] + parts["times"][0] * head["timeStep"], times, atol=6e-5)
    assert np.allclose(lowest[0], intervals, atol=1e-4)


def test_labels_marks_and_quality_are_at_their_seconds() -> None:
    signal = Signal.from_samples("ECG", "ecg", "mV", 100.0, walk(12_000))
    index = np.ones((1, 120), dtype=np.float32)
    index[0, 30:36] = 0.2
    reasons = np.where(index < 0.5, np.uint32(2), np.uint32(0))
    beats = Marks(BEATS, "ECG", 0, np.array([1.25, 60.0001]), np.array([np.nan, 812.0]), "interval", "ms")
    made = timeline(
        signal,
        labels=(Interval(10.0, 20.5, "rest"), Interval(40.0, 0.0, "button")),
        marks=(beats,),
        quality={"ECG": Quality(index, reasons, ("missing", "noise"))},
    )
    read = Read(page(made))
    assert read.data["labels"] == [[10.0, 20.5, "rest"], [40.0, 0.0, "button"]]
    [row] = read.data["signals"]
    marks = read.unpacked(row["marks"][0])
    assert np.allclose(marks["times"] * 1e-4, [[1.25, 60.0001]])
    assert np.allclose(marks["values"], [[np.nan, 812.0]], equal_nan=True)
    quality = read.unpacked(row["quality"])
    assert np.array_equal(quality["index"][0], np.rint(100 * index[0]))
    assert read.data["reasons"][1] == "noise"
    assert np.array_equal(quality["reasons"], reasons)
    assert re.search(r"ECG\s+0:30\s+6 s\s+noise", read.elements.text)  # the table of spoilt stretches


def track(**fields: Any) -> PredictionTrack:
    given: dict[str, Any] = {
        "title": "model", "classes": ("calm", "tense"), "column": "", "onset": np.array([0.0, 30.0]),
        "duration": np.array([60.0, 60.0]), "values": np.array([[0.25, 0.75], [np.nan, np.nan]]),
        "predicted": ("tense", ""), "label": ("calm", ""), "truth": np.full(2, np.nan), "reason": ("", "too noisy"),
        "sets": ("", ""), "is_unlike": np.array([True, False]),
        "trace_seconds": np.zeros(0), "trace_values": np.zeros((0, 2)),
    }  # fmt: skip
    return PredictionTrack(**given | fields)


def test_predictions_lie_underneath_with_probabilities_and_why_they_were_withheld() -> None:
    signal = Signal.from_samples("ECG", "ecg", "mV", 100.0, walk(12_000))
    read = Read(page(timeline(signal, predictions=(track(),))))
    [row] = read.data["predictions"]
    parts = read.unpacked(row)
    assert parts["onset"].tolist() == [[0.0, 30.0]]
    assert np.allclose(parts["values"], [[0.25, np.nan], [0.75, np.nan]], equal_nan=True)
    assert (parts["predicted"].tolist(), parts["label"].tolist()) == ([[2.0, 0.0]], [[1.0, 0.0]])
    assert re.search(r"tense\s+0\.75\s+calm\s+unlike what the model knows", read.elements.text)
    assert parts["unlike"].tolist() == [[1.0, 0.0]]
    assert re.search(r"withheld\s+too noisy", read.elements.text)


def test_names_that_would_be_code_are_text() -> None:
    signal = Signal.from_samples(HOSTILE, "ecg", HOSTILE, 100.0, walk(500), (Channel(HOSTILE),))
    labels = (Interval(0.0, 1.0, HOSTILE),)
    predictions = (track(title=HOSTILE, classes=(HOSTILE, "b"), predicted=(HOSTILE, ""), reason=(HOSTILE, "")),)
    plain = timeline(Signal.from_samples("A", "ecg", "mV", 100.0, walk(500)), predictions=(track(),), labels=labels)
    made = timeline(signal, labels=labels, predictions=predictions, notes=(HOSTILE,), corrections=(HOSTILE,))
    html = page(replace(made, recording=HOSTILE))
    read = Read(html)
    assert read.data["signals"][0]["name"].startswith("</script><b onclick='x'>\"&amp;<!--\\u202e")
    tags, harmless = (Elements(one).tags for one in (html, page(plain)))
    assert tags.count("b") == harmless.count("b") == 0
    assert tags.count("script") == harmless.count("script")
    assert "onclick" not in read.elements.attributes
    assert "\u202e" not in html and "\u2028" not in html
    assert html.count("<!--") == 1  # the licence of uPlot


def test_the_page_loads_nothing_and_runs_its_two_scripts_alone(tmp_path: Path) -> None:
    html = page(timeline(Signal.from_samples("A", "ecg", "mV", 100.0, walk(500))))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None and policy.group(1).startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.group(1)
    assert re.findall(r'(?:src|href)\s*=\s*"([^"]*)', html) == ["#tables"]  # a link within the page
    assert "Permission is hereby granted, free of charge" in html
    assert "Leon Sorokin" in html


def test_equal_recordings_make_equal_pages_and_one_without_signals_is_a_page(tmp_path: Path) -> None:
    made = timeline(Signal.from_samples("A", "ecg", "mV", 100.0, walk(5000)), predictions=(track(),))
    sizes = [write_page(made, tmp_path / name) for name in ("a.html", "b.html")]
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sizes[0] == (tmp_path / "a.html").stat().st_size
    write_page(timeline(labels=(Interval(0.0, 5.0, "rest"),)), tmp_path / "none.html")
    assert Read((tmp_path / "none.html").read_text(encoding="utf-8")).data["signals"] == []


def lazy(name: str, n_channels: int, rate: float, seconds: float) -> Signal:
    """Return a long signal of a wave and noise that is made as it is read."""
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 10, 1 << 16)
    channels = tuple(Channel(f"{name}{number}") for number in range(n_channels))

    def read(start: int, stop: int, rows: slice) -> FloatArray:
        places = np.arange(start, stop)
        wave = 30 * np.sin(places / rate * 6.28) + noise[places % len(noise)]
        return np.tile(wave, (n_channels, 1)) + np.arange(n_channels)[:, None]

    return Signal(name, "eeg", "uV", rate, 0.0, channels, int(seconds * rate), read)


def test_flat_signals_that_take_no_room_are_cut_in_depth_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_MOST_BINS", 20_000)
    flat = Signal.from_samples("EEG", "eeg", "uV", 250.0, np.zeros((4, 100_000)))
    head = Read(page(timeline(flat))).level(0)[0]
    assert 10_000 <= 4 * head["n"] <= 20_000


def test_signals_that_do_not_fit_are_cut_in_depth_and_slow_ones_last() -> None:
    fast, slow = lazy("EEG", 4, 250.0, 1200.0), Signal.from_samples("EDA", "eda", "uS", 4.0, walk(4800))
    most = 400_000
    html = page(timeline(fast, slow), most_bytes=most)
    assert most / 3 < len(html) <= most
    read = Read(html)
    assert read.level(1)[0]["samples"] == 1
    assert read.level(0)[0]["samples"] > 1
    assert_envelope(read, 0, fast.read())
    seconds = read.level(0)[0]["seconds"]
    assert f"lowest and highest of every {seconds:.4g} s" in read.elements.text


def test_signals_and_what_is_derived_from_them_are_counted_apart_as_in_the_heading() -> None:
    measured = Signal.from_samples("EDA", "eda", "uS", 4.0, walk(400))
    derived = replace(Signal.from_samples("tonic", "tonic", "log uS", 4.0, walk(400)), derived_from="EDA")
    text = Read(page(timeline(measured, derived))).elements.text
    assert text.count("1 signal and 1 derived") == 2  # under the title, and over the table
    assert "What is shown: 1 signal\n" not in text


def test_channels_are_counted_before_they_are_named() -> None:
    assert (
        "2: ACC1, ACC2" in Read(page(timeline(Signal.from_samples("ACC", "acc", "g", 4.0, walk(400, 2))))).elements.text
    )
