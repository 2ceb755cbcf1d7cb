"""Pages of recordings: beats, responses and breaths are drawn as the tables have them, names of data are text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import biopercept as bp
from biopercept.cli.main import build_app
from biopercept.measures.recording import measured_and_cleaned, whole_recording
from biopercept.measures.shapes import ACCEPTED, BEAT_KINDS, REJECTED, beat_kinds
from biopercept.recording import Channel, Correction, Interval, Recording, Signal
from biopercept.report.drawing import BLUE, RED
from biopercept.report.recordings.page import page_of_recording
from biopercept.report.recordings.strips import MASKED, Clock, Strip, columns_of, when
from biopercept.resources import copy_sample_study
from measurements.planted_hearts import ecg_of, pulse_of, regular_heart, with_premature_beats
from measurements.planted_signals import breath_peaks, chest_of, pink_eeg, skin_of

RATE = 250.0


class Text(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._is_hidden = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._is_hidden = tag in ("style", "script")
        if tag == "wbr":
            self.words.append("\0")

    def handle_endtag(self, tag: str) -> None:
        self._is_hidden = False

    def handle_data(self, data: str) -> None:
        if not self._is_hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace(" \0 ", "").split())


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The figures that were painted, in order."""
    painted: list[Any] = []

    def keep(figure: Any) -> bytes:
        figure.canvas.draw_idle()
        painted.append(figure)
        return b"<svg/>"

    monkeypatch.setattr("biopercept.report.drawing.rendered", keep)
    return painted


def ecg(seconds: float = 300.0, every: int = 12) -> Signal:
    heart = with_premature_beats(regular_heart(seconds, 66.0), every)
    return Signal.from_samples("ECG", "ecg", "mV", RATE, ecg_of(heart, seconds, RATE))


def skin(seconds: float = 300.0) -> Signal:
    return Signal.from_samples("EDA", "eda", "uS", 8.0, skin_of(np.arange(20.0, seconds - 20, 20.0), 0.4, seconds, 8.0))


def chest(seconds: float = 300.0) -> Signal:
    return Signal.from_samples("RSP", "resp", "a.u.", 25.0, chest_of(breath_peaks(12.0, seconds), seconds, 25.0))


def eeg(seconds: float = 60.0) -> Signal:
    channels = tuple(Channel(name) for name in ("F3", "F4", "C3", "C4", "O1", "O2"))
    return Signal.from_samples("EEG", "eeg", "uV", RATE, pink_eeg(6, seconds, RATE), channels)


def page_of(*signals: Signal, intervals: tuple[Interval, ...] = (), subject: str = "S1") -> tuple[str, Any]:
    recording = Recording(subject, "", "lab", signals, intervals)
    features, clean = measured_and_cleaned(recording, rows="whole")
    return page_of_recording(features, clean, whole_recording(clean)), clean


def lines_of(figure: Any, label: str) -> list[Any]:
    return [line for axes in figure.axes for line in axes.get_lines() if line.get_label() == label]


def titles(figure: Any) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_every_interval_of_the_beats_table_is_drawn(figures: list[Any]) -> None:
    page, clean = page_of(ecg())
    kinds = beat_kinds(clean.beats)
    assert (kinds == REJECTED).sum() > 5
    tachogram = next(one for one in figures if one.axes[0].get_ylabel() == "interval (ms)")
    for kind, colour in ((ACCEPTED, BLUE), (REJECTED, RED)):
        (line,) = lines_of(tachogram, BEAT_KINDS[kind])
        assert line.get_color() == colour
        assert line.get_xdata() == pytest.approx(clean.beats.times[kinds == kind] / 60.0)
    accepted = clean.beats.intervals[np.isfinite(clean.beats.intervals)]
    assert lines_of(tachogram, BEAT_KINDS[ACCEPTED])[0].get_ydata() == pytest.approx(1000.0 * accepted)
    (pairs,) = [line for one in figures for line in lines_of(one, "pairs")]
    assert len(pairs.get_xdata()) == np.isfinite(clean.beats.successive_differences).sum()
    assert (
        f"{len(clean.beats)} beats; the interval before was accepted for {len(accepted)} and not for "
        f"{(kinds == REJECTED).sum()}; 1 has none"
    ) in Text(page).text


def test_excerpts_hold_every_beat_of_their_time_on_the_wave(figures: list[Any]) -> None:
    _, clean = page_of(ecg())
    waves = next(one for one in figures if titles(one)[0].startswith("Best: "))
    assert [title.split(":")[0] for title in titles(waves)] == ["Best", "Ordinary", "Worst"]
    drawn = [line for label in BEAT_KINDS.values() for line in lines_of(waves, label)]
    seen = np.concatenate([line.get_xdata() for line in drawn])
    ends = [axes.get_xlim() for axes in waves.axes]
    expected = [t for low, high in ends for t in clean.beats.times if low <= t <= high]
    assert sorted(seen) == pytest.approx(sorted(expected))
    wave = clean.recording.signal("ECG").read()[0]
    for line in drawn:
        where = np.asarray(line.get_xdata()) * 128.0
        assert line.get_ydata() == pytest.approx(np.interp(where, np.arange(len(wave)), wave))
    assert any(len(line.get_xdata()) for line in lines_of(waves, BEAT_KINDS[REJECTED]))


def test_beats_that_a_person_added_or_removed_are_marked(figures: list[Any]) -> None:
    signal = ecg(40.0, every=99)
    beats = page_of(signal)[1].beats.times
    figures.clear()
    corrections = (
        Correction("beat-removed", beats[20], 0.0, who="A. B.", source="<i>S1_corrections.tsv"),
        Correction("beat-added", beats[20] + 0.2, 0.0),
    )
    recording = Recording("S1", "", "lab", (signal,), corrections=corrections)
    features, clean = measured_and_cleaned(recording, rows="whole")
    page = page_of_recording(features, clean, whole_recording(clean))
    for label, time in (("added by hand", beats[20] + 0.2), ("removed by hand", beats[20])):
        drawn = np.concatenate([line.get_xdata() for one in figures for line in lines_of(one, label)])
        assert len(drawn) and drawn == pytest.approx(time, abs=0.06), label
    text = Text(page).text
    assert f"{len(beats)} beats, 1 of them added by hand; " in text
    assert "Corrections by hand 2 corrections that were applied" in text
    assert "A. B." in text and "<i>S1_corrections.tsv" in text


def test_responses_and_breaths_are_drawn_as_the_tables_have_them(figures: list[Any]) -> None:
    page, clean = page_of(skin(), chest())
    overview = figures[0]
    (ticks,) = lines_of(overview, "peak of a skin response")
    assert 60 * np.asarray(ticks.get_xdata()) == pytest.approx(clean.responses.times)
    excerpts = next(one for one in figures if titles(one)[0].startswith("Most: "))
    for axes, title in zip(excerpts.axes, titles(excerpts), strict=True):
        low, high = axes.get_xlim()
        n = sum(low <= t < high for t in clean.responses.times)
        assert f"responses: {n}." in title
        joined = [line.get_xydata() for line in axes.get_lines() if line.get_label() == "_lines"]
        for (onset, lowest), (peak, highest) in joined:
            assert onset in clean.responses.onsets and peak in clean.responses.times and highest > lowest
    (aligned,) = [one for one in figures if titles(one)[0].startswith("aligned at onset")]
    assert len(aligned.axes[0].collections[0].get_segments()) == len(clean.responses) == 13
    breathing = next(one for one in figures if lines_of(one, "breath, period accepted"))
    shown = np.concatenate([line.get_xdata() for line in lines_of(breathing, "breath, period accepted")])
    assert len(shown) > 20 and set(shown) <= set(clean.breaths.times)
    assert "13 responses in 5.0 min" in Text(page).text


def test_numbers_are_those_of_the_tables(figures: list[Any]) -> None:
    page, clean = page_of(ecg(), skin(), chest())
    whole = whole_recording(clean)
    values = dict(zip(whole.names, whole.values[0], strict=True))
    text = Text(page).text
    for words in (
        f"Heart rate (1/min) {60_000 / values['HRV_MeanNN']:.1f}",
        f"RMSSD (ms) {values['HRV_RMSSD']:.1f}",
        f"SDNN (ms) {values['HRV_SDNN']:.1f}",
        f"Skin responses (1/min) {values['eda/scr_per_minute']:.2f}",
        f"Breathing (1/min) {values['resp/rate_mean']:.1f}",
    ):
        assert words in text, words
    assert all(f"{name} " in text for name in whole.names)


def test_the_quality_of_a_signal_is_the_index_that_the_tables_have(figures: list[Any]) -> None:
    spiked = skin().read()
    spiked[0, ::400] += 3.0
    page, clean = page_of(replace(skin(), reader=lambda first, last, rows: spiked[rows, first:last]))
    index, of_models = clean.ratings["EDA"].index.mean(), clean.quality["EDA"].mean()
    assert f"{index:.2f}" != f"{of_models:.2f}"
    (row,) = re.findall(r"<tr>(?:(?!</tr>).)*?electrodermal.*?</tr>", page, flags=re.S | re.I)
    assert f"{index:.2f}" in row


def test_eeg_has_bands_spectra_and_traces(figures: list[Any]) -> None:
    page, clean = page_of(eeg())
    bands = next(one for one in figures if one.axes[0].get_ylabel() == "power (uV²)")
    assert len(bands.axes[0].get_lines()) == 5
    alpha = next(line for line in bands.axes[0].get_lines() if line.get_label().startswith("alpha"))
    series = np.exp(clean.recording.signal("eeg_alpha").read())
    assert np.nanmean(alpha.get_ydata()) == pytest.approx(np.nanmean(series), rel=0.02)
    spectra = next(one for one in figures if one.axes[0].get_ylabel() == "density (uV²/Hz)")
    assert [line.get_label() for line in spectra.axes[0].get_lines() if line.get_label()[0] != "_"] == [
        "frontal", "central", "occipital",
    ]  # fmt: skip
    traces = figures[-1]
    assert len([line for line in traces.axes[0].get_lines() if line.get_label() == "_trace"]) == 6
    assert "$" not in "".join(label.get_text() for label in bands.axes[0].get_yticklabels())
    assert "Brain" in Text(page).text


def test_masked_stretches_are_shaded_and_said(figures: list[Any]) -> None:
    samples = skin().read()[0]
    samples[8 * 100 : 8 * 290] = np.nan
    page, _ = page_of(skin().with_samples(samples, 8.0))
    axes = figures[0].axes[0]
    shades = [patch for patch in axes.patches if patch.get_facecolor()[:3] == pytest.approx(_rgb(MASKED))]
    spans = [(patch.get_x() * 60, (patch.get_x() + patch.get_width()) * 60) for patch in shades]
    assert spans[0] == pytest.approx((100.0, 290.0), abs=1.0)
    assert "EDA: 63 % of the recording's time is masked or missing." in Text(page).text


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))


def test_a_sensor_without_beats_is_doubted(figures: list[Any]) -> None:
    noise = np.random.default_rng(1).normal(0, 0.5, round(120 * RATE))
    page, clean = page_of(Signal.from_samples("ECG", "ecg", "mV", RATE, noise))
    assert len(clean.beats) == 0
    text = Text(page).text
    assert "No heart beats were found, though a sensor for them was recorded." in text
    assert "Heart No beats were found. " in text and "RMSSD (ms)" not in text
    assert not [line for one in figures for kind in BEAT_KINDS.values() for line in lines_of(one, kind)]


def test_ten_seconds_and_a_device_that_gives_intervals_alone(figures: list[Any]) -> None:
    page, clean = page_of(ecg(10.0, every=99), skin(10.0))
    assert clean.recording.duration_seconds == 10.0
    assert "no spectrum; it needs 60 s" in Text(page).text
    times = np.cumsum(np.full(200, 0.8))
    device = Signal.from_samples("IBI", "ibi", "s", 1.25, np.full(200, 0.8))
    page, clean = page_of(replace(device, times=times))
    assert len(clean.beats) == 200
    assert "Single beats" not in Text(page).text and "Intervals over time" in Text(page).text


def test_other_channels_and_pulse_are_drawn_once(figures: list[Any]) -> None:
    heart = regular_heart(120.0, 70.0)
    leads = np.stack([ecg_of(heart, 120.0, RATE, seed=seed) for seed in range(3)])
    leads[0, : round(60 * RATE)] = np.nan
    both = (
        Signal.from_samples("ECG", "ecg", "mV", RATE, leads),
        Signal.from_samples("PPG", "bvp", "a.u.", 64.0, pulse_of(heart, 120.0, 64.0)),
    )
    page, clean = page_of(*both)
    text = Text(page).text
    assert clean.used_channel == {"ECG": 1, "PPG": 0}
    assert "Single beats: ECG, channel ECG2. Cleaned wave; beats: found in it." in text
    assert "Single beats: PPG. Cleaned wave; beats: of ECG." in text
    assert len([one for one in figures if any("PPG" in title for title in titles(one))]) == 2


def test_labels_are_bars_and_events_without_a_duration_are_ticks(figures: list[Any]) -> None:
    intervals = (Interval(0, 100, "rest"), Interval(100, 150, "task"), Interval(50, 0, "press"))
    page_of(skin(), intervals=intervals)
    axes = figures[0].axes[0]
    assert axes.get_title(loc="left") == "labels"
    assert [text.get_text() for text in axes.texts] == ["rest", "task"]
    (ticks,) = lines_of(figures[0], "event without a duration")
    assert ticks.get_xdata() == pytest.approx([50 / 60])


def test_names_of_data_are_text(figures: list[Any]) -> None:
    hostile = "<script>alert(1)</script>$\\frac$"
    odd = replace(skin(60.0), name=f"_{hostile}\u202e", channels=(Channel("<b>x</b>"),))
    page, _ = page_of(odd, intervals=(Interval(0, 40, hostile),), subject='"><img src=x onerror=y>')
    parsed = Text(page)
    assert sum(tag == "script" for tag, _ in parsed.tags) == 2 and "b" in {tag for tag, _ in parsed.tags}
    assert not any(name.startswith("on") for _, attrs in parsed.tags for name in attrs)
    assert '"><img src=x onerror=y>' in parsed.text and "\u202e" not in page
    drawn = " ".join(text.get_text() for one in figures for axes in one.axes for text in (*axes.texts, axes.title))
    assert "\u202e" not in drawn


def test_times_read_as_clocks_do() -> None:
    assert [when(t) for t in (0, 59.96, 75.5, 3599.9, 3725, -2)] == [
        "0:00",
        "1:00",
        "1:15.5",
        "59:59.9",
        "1:02:05",
        "-0:02",
    ]
    assert [Clock.of(seconds).unit for seconds in (10, 3600, 90_000)] == ["s", "minutes", "hours"]


def test_columns_hold_the_lowest_and_highest_sample_of_their_time() -> None:
    samples = np.sin(np.arange(100_000) / 50.0)
    samples[1000], samples[50_000:60_000] = 9.0, np.nan
    middles, low, high, is_masked = columns_of(Strip("x", samples, 100.0, 5.0))
    assert 900 <= len(middles) <= 1000
    assert np.nanmax(high) == 9.0 and middles[np.nanargmax(high)] == pytest.approx(15.0, abs=1.2)
    assert np.nanmin(low) == pytest.approx(-1.0, abs=0.01)
    assert is_masked.mean() == pytest.approx(0.1, abs=0.01)
    assert [len(part) for part in columns_of(Strip("x", np.empty(0), 4.0, 0.0))] == [0, 0, 0, 0]


def test_the_command_writes_a_page_each_and_one_that_lists_them(tmp_path: Path) -> None:
    study = copy_sample_study(tmp_path / "study")
    bad = tmp_path / "b&d.csv"
    bad.write_text("time,eda (uS)\n0,1\n0.25,1\n")
    words = [study, bad, "--subjects", "S01,S02,b&d", "--whole", "--pages", "-q", "-o"]
    for folder, jobs in (("one", 1), ("two", 2)):
        outcome = CliRunner().invoke(
            build_app(), ["features", *map(str, words), str(tmp_path / folder), "-j", str(jobs)]
        )
        assert outcome.exit_code == 1, outcome.output
    pages = tmp_path / "one" / "pages"
    index = Text((pages / "index.html").read_text(encoding="utf-8"))
    links = [str(attrs["href"]) for tag, attrs in index.tags if tag == "a" and not str(attrs["href"]).startswith("#")]
    assert len(links) == 2 and all((pages / link).is_file() for link in links)
    assert links == sorted(links)
    assert sorted(path.name for path in pages.iterdir()) == sorted([*links, "index.html"])
    with (tmp_path / "one" / "features.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        assert f"{float(row['HRV_RMSSD']):.1f}" in index.text
    assert "Not measured" in index.text and "b&d" in index.text
    assert (tmp_path / "two" / "pages" / "index.html").read_bytes() == (pages / "index.html").read_bytes()


def test_without_the_option_there_are_no_pages(tmp_path: Path) -> None:
    study = copy_sample_study(tmp_path / "study")
    words = ["features", str(study), "--subjects", "S01", "-q", "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(build_app(), words).exit_code == 0
    assert not (tmp_path / "out" / "pages").exists()


def test_the_page_from_python_is_that_of_the_command(tmp_path: Path) -> None:
    study = copy_sample_study(tmp_path / "study")
    path = bp.load_study(study).entries[0].files[0].path
    words = ["features", str(path), "--pages", "-q", "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(build_app(), words).exit_code == 0
    (written,) = (tmp_path / "out" / "pages").iterdir()
    assert bp.write_recording_page(path, tmp_path / "mine.html") == tmp_path / "mine.html"
    assert (tmp_path / "mine.html").read_bytes() == written.read_bytes()
    page = written.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?https?://|url\(", page)
    assert "default-src 'none'" in page
