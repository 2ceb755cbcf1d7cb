"""A prepared recording drawn from its store: every signal with predictions beneath, beats, and spectra by condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from biopercept.errors import SettingsError, count
from biopercept.preprocessing.cardiac import Beats, bvp_beats, ecg_beats, no_beats
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Signal
from biopercept.report.drawing import BLUE, FAINT, INK, RED, Drawing, FigureData, class_legend, colours, draw
from biopercept.report.text import duration, shortened
from biopercept.report.timelines import class_strips, title_of
from biopercept.results.predictions import Predictions
from biopercept.store.prepared import StoredSignal, WindowedRecording

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_SIGNALS = 8
_N_BINS = 700
_EXCERPT_SECONDS = 12.0
_SHOWN_SERIES = ("heart_rate",)
_LEAST_RATE = 4.0
_NO_SPECTRUM = ("temp",)
_LEAST_DENSITY = 1e-6  # of the highest: below it lies what filters left


def signal_of_store(recording: WindowedRecording, signal: StoredSignal) -> Signal:
    """Return a prepared signal as one that is read like any other: NaN where masked."""

    def read(start: int, stop: int, rows: slice) -> FloatArray:
        samples, mask = recording.read(signal.name, start, stop)
        return np.where(mask[rows], samples[rows], np.nan).astype(np.float64)

    return Signal(
        name=signal.name,
        modality=signal.modality,
        unit=signal.unit,
        sampling_rate=signal.sampling_rate,
        start_seconds=signal.start_seconds,
        channels=signal.channels,
        n_samples=signal.n_samples,
        reader=read,
        derived_from=signal.derived_from,
    )


@dataclass(frozen=True, eq=False)
class _Line:
    """One channel of a signal, NaN where masked; ``title`` has its unit."""

    title: str
    signal: Signal
    values: FloatArray

    def between(self, start: float, stop: float) -> FloatArray:
        """Return the samples from one time to another, seconds."""
        first, last = (round((at - self.signal.start_seconds) * self.signal.sampling_rate) for at in (start, stop))
        return self.values[max(first, 0) : max(last, 0)]


def signal_figures(
    recording: WindowedRecording, predictions: Predictions, cleaning: CleaningSettings, note: str
) -> tuple[Drawing, ...]:
    """Return the figures of one tested recording: signals over predictions, beats where there is a heart, spectra.

    ``predictions`` are its windows in time order; ``note`` says why it was chosen and begins the captions.
    """
    lines = _lines(recording)
    if not lines:
        return ()
    beats = _beats_figure(lines, cleaning, note)
    spectra = _spectra_figure(lines, predictions, note)
    return tuple(figure for figure in (_overview(lines, recording, predictions, note), beats, spectra) if figure)


def _lines(recording: WindowedRecording) -> list[_Line]:
    chosen = [s for s in recording.signals if s.n_samples and (not s.derived_from or s.modality in _SHOWN_SERIES)]
    lines = []
    for stored in sorted(chosen, key=lambda one: bool(one.derived_from))[:_MOST_SIGNALS]:
        signal = signal_of_store(recording, stored)
        channel = signal.channel_names[0]
        name = signal.name if signal.n_channels == 1 else f"{signal.name} {channel}"
        lines.append(_Line(f"{name} ({signal.unit or 'no unit'})", signal, signal.read()[0]))
    return lines


def _overview(lines: Sequence[_Line], recording: WindowedRecording, predictions: Predictions, note: str) -> Drawing:
    edges = np.linspace(0.0, recording.duration_seconds, _N_BINS + 1)
    minutes = (edges[:-1] + edges[1:]) / 120.0
    envelopes = [_envelope(line, edges) for line in lines]
    of_class = predictions.classes[1] if len(predictions.classes) == 2 else "the predicted class"
    probability = _probability_at(predictions, 60.0 * minutes)

    def paint(figure: Figure) -> None:
        heights = [1.0] * len(lines) + [0.9, 0.5]
        *panels, likely, strips = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        for axes, line, (low, high) in zip(panels, lines, envelopes, strict=True):
            axes.fill_between(minutes, low, high, color=BLUE, linewidth=0.4, edgecolor=BLUE)
            axes.set_ylabel(shortened(line.title, 20), fontsize=7.5, rotation=0, ha="right", va="center")
            axes.grid(axis="x")
        likely.plot(minutes, probability, color=INK, linewidth=1.2)
        likely.set_ylim(-0.05, 1.05)
        likely.set_ylabel(
            f"probability of\n{shortened(of_class, 16)}", fontsize=7.5, rotation=0, ha="right", va="center"
        )
        likely.grid()
        class_strips(strips, predictions)
        strips.set_xlabel("time since the recording began (minutes)")
        class_legend(figure, predictions.classes, colours(predictions.classes), loc="outside upper right", ncols=6)

    columns = ["time (min)"]
    for line in lines:
        columns += [f"{line.title} lowest", f"{line.title} highest"]
    values = [column for envelope in envelopes for column in envelope]
    rows = tuple(zip(*(column.tolist() for column in (minutes, *values, probability)), strict=True))
    panels = tuple((line.title, 2) for line in lines)
    data = FigureData(
        (*columns, f"probability of {of_class}"), rows, (*panels, (f"probability of {of_class} (0 to 1)", 1))
    )
    caption = (
        f"{note}{title_of(predictions.keys[0])}, {duration(recording.duration_seconds)}, as prepared in the store: "
        f"from the lowest to the highest value of every {edges[1]:.2g} s, nothing where masked; of a signal with "
        f"several channels the first. Beneath, the probability of {of_class} in {count(len(predictions), 'window')}, "
        "and the true and the predicted class."
    )
    height = 0.9 + 0.62 * len(lines) + 1.0
    return draw("signals", "Signals with predictions beneath", caption, height, paint).with_data(data)


def _envelope(line: _Line, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return lowest and highest known value between each two edges, NaN where none is known."""
    rate, start = line.signal.sampling_rate, line.signal.start_seconds
    at = np.clip(np.rint((edges - start) * rate).astype(np.int64), 0, len(line.values))
    low, high = np.full(len(edges) - 1, np.nan), np.full(len(edges) - 1, np.nan)
    for place, (first, last) in enumerate(pairwise(at)):
        known = line.values[first : max(last, first + 1)]
        known = known[np.isfinite(known)]
        if len(known):
            low[place], high[place] = known.min(), known.max()
    return low, high


def _probability_at(predictions: Predictions, seconds: FloatArray) -> FloatArray:
    """Return at each time the probability of the window whose middle is nearest, NaN where no window holds the time."""
    middle = predictions.onset + predictions.duration / 2.0
    nearest = np.abs(seconds[:, None] - middle[None, :]).argmin(axis=1)
    is_inside = np.abs(seconds - middle[nearest]) <= predictions.duration[nearest] / 2.0
    of_two = len(predictions.classes) == 2
    values = predictions.probabilities[:, 1] if of_two else predictions.probabilities.max(axis=1)
    return np.where(is_inside, values[nearest], np.nan)


def _beats_figure(lines: Sequence[_Line], cleaning: CleaningSettings, note: str) -> Drawing | None:
    """Return an excerpt with the beats that are found in the stored signal; None without heart or beats."""
    line = next((one for kind in ("ecg", "bvp") for one in lines if one.signal.modality == kind), None)
    beats = no_beats() if line is None else _beats_of(line, cleaning)
    if line is None or len(beats.times) < 3:
        return None
    start = float(beats.times[len(beats.times) // 2]) - _EXCERPT_SECONDS / 2.0
    values = line.between(start, start + _EXCERPT_SECONDS)
    seconds = max(start, line.signal.start_seconds) + np.arange(len(values)) / line.signal.sampling_rate
    times = beats.times[(beats.times >= seconds[0]) & (beats.times <= seconds[-1])]
    heights = np.interp(times, seconds, values)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(seconds, values, color=BLUE, linewidth=0.9)
        axes.plot(times, heights, "v", color=RED, markersize=5, label="beat")
        axes.set_xlabel("time since the recording began (s)")
        axes.set_ylabel(shortened(line.title, 24))
        axes.grid()
        axes.legend(loc="upper right")

    intervals = beats.intervals[np.isfinite(beats.intervals)]
    rate = 60.0 / float(np.mean(intervals)) if len(intervals) else float("nan")
    caption = (
        f"{note}{_EXCERPT_SECONDS:g} s around the middle beat of {line.signal.name} as stored, at "
        f"{line.signal.sampling_rate:g} Hz, and the beats that are found in it: {count(len(beats.times), 'beat')} in"
        f" the whole recording, {rate:.1f} per minute from {count(len(intervals), 'accepted interval')}."
    )
    data = FigureData(
        ("time (s)", line.title), tuple(zip(seconds.tolist(), values.tolist(), strict=True)), ((line.title, 1),)
    )
    return draw("beats", "Heart beats", caption, 2.4, paint).with_data(data)


def _beats_of(line: _Line, cleaning: CleaningSettings) -> Beats:
    find = ecg_beats if line.signal.modality == "ecg" else bvp_beats
    return find(line.values, line.signal, cleaning)[0]


def _spectra_figure(lines: Sequence[_Line], predictions: Predictions, note: str) -> Drawing | None:
    """Return the power spectrum of each signal by true class; None where no signal has a whole window."""
    spectra = []
    for line in lines:
        if line.signal.derived_from or line.signal.modality in _NO_SPECTRUM or line.signal.sampling_rate < _LEAST_RATE:
            continue
        by_class = {
            name: one for name in predictions.classes if (one := _spectrum(line, predictions, name)) is not None
        }
        if by_class:
            spectra.append((line, by_class))
    if not spectra:
        return None
    shades = colours(predictions.classes)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(-(-len(spectra) // 2), 2, squeeze=False)
        for axes, (line, by_class) in zip(grid.ravel(), spectra, strict=False):
            for name, (frequency, density, _) in by_class.items():
                axes.loglog(frequency, density, color=shades[name][0], linewidth=1.2)
            highest = max(float(density.max()) for _, density, _ in by_class.values())
            axes.set_ylim(bottom=highest * _LEAST_DENSITY)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_minor_formatter(lambda value, _: "")
            axes.set_title(shortened(line.title, 30), fontsize=8.5)
            axes.set_xlabel("Hz", fontsize=8)
            axes.grid(color=FAINT, alpha=0.3)
        for axes in grid.ravel()[len(spectra) :]:
            axes.set_axis_off()
        class_legend(figure, predictions.classes, shades, loc="outside upper right", ncols=6)

    rows = [
        (line.title, name, float(f), float(d), n)
        for line, by_class in spectra
        for name, (frequency, density, n) in by_class.items()
        for f, d in zip(frequency, density, strict=True)
    ]
    counts = "; ".join(
        f"{line.signal.name} {', '.join(f'{name} {n}' for name, (_, _, n) in by_class.items())}"
        for line, by_class in spectra
    )
    caption = (
        f"{note}Power density (the signal's unit squared per Hz) by true class: mean over windows without a masked "
        f"sample, Hann taper, mean taken out. Windows: {counts}. One person, so without interval."
    )
    data = FigureData(("signal", "class", "frequency (Hz)", "density (unit^2/Hz)", "windows"), tuple(rows))
    return draw("spectra", "Spectra by class", caption, 0.5 + 1.9 * -(-len(spectra) // 2), paint).with_data(data)


def _spectrum(line: _Line, predictions: Predictions, name: str) -> tuple[FloatArray, FloatArray, int] | None:
    """Return frequencies, mean density and the number of windows of a class; None where no window is whole."""
    rate = line.signal.sampling_rate
    n = round(float(predictions.duration.min()) * rate)
    windows = [
        line.between(onset, onset + n / rate)
        for onset, label in zip(predictions.onset, predictions.label, strict=True)
        if label == name
    ]
    whole = np.array([values for values in windows if len(values) == n and np.isfinite(values).all()])
    if not len(whole) or n < 8:
        return None
    taper = np.hanning(n)
    power = np.square(np.abs(np.fft.rfft((whole - whole.mean(axis=1, keepdims=True)) * taper, axis=1)))
    density = 2.0 * power.mean(axis=0) / (rate * np.square(taper).sum())
    frequency = np.asarray(np.fft.rfftfreq(n, 1.0 / rate)[1:], dtype=np.float64)
    return frequency, np.asarray(density[1:], dtype=np.float64), len(whole)


def cleaning_of(settings: Any) -> CleaningSettings:
    """Return the cleaning that a store was prepared with, the usual one where it is of another version."""
    try:
        return CleaningSettings(**settings.get("cleaning", {}))
    except (TypeError, SettingsError):
        return CleaningSettings()
