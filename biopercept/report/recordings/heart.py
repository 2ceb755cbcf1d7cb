"""Figures of a heart: its wave with beats, intervals over time, Poincare plot, spectrum of the intervals, mean beat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from biopercept.errors import count
from biopercept.measures.excerpts import excerpts_of, heart_scores
from biopercept.measures.shapes import (
    ACCEPTED,
    BEAT_KINDS,
    BEAT_SECONDS,
    FIRST,
    REJECTED,
    IntervalSpectrum,
    Poincare,
    beat_kinds,
    beat_waves,
    heart_wave,
    interval_spectrum,
    intervals_before,
    poincare,
)
from biopercept.preprocessing.cardiac import LONGEST_INTERVAL, Beats
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.preprocessing.variability import HF_HZ, LF_HZ
from biopercept.recording import BEAT_REMOVED, Signal
from biopercept.report.drawing import BLUE, FAINT, GREEN, GRID, INK, RED, Drawing, draw
from biopercept.report.recordings.strips import MOST_POINTS, Clock, Marks, Strip, channel_words, excerpts, legend_of
from biopercept.report.text import NOT_DEFINED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXCERPT_SECONDS = 20.0
ADDED, REMOVED = "added by hand", "removed by hand"
KIND_STYLES = {ACCEPTED: ("o", BLUE, False), REJECTED: ("x", RED, False), FIRST: ("o", INK, True)}
"""Marker, colour and whether it is hollow, of each kind of beats."""

_MOST_REJECTED = 40
_HIGHEST_HZ = 0.5


def heart_figures(clean: CleanRecording, is_known: dict[str, bool]) -> Iterator[Drawing]:
    """Give the figures of the heart, none where there is neither a wave nor a beat.

    ``is_known`` says whether SDNN and RMSSD of the recording are known: without them no spread is stated.
    """
    waves = [s for s in clean.recording.signals if s.modality in BEAT_SECONDS and s.name in clean.used_channel]
    source = heart_wave(clean)
    for number, signal in enumerate(waves, 1):
        figure = wave_figure(clean, signal, source is not None and signal is source, number)
        if figure is not None:
            yield figure
    if len(clean.beats) == 0:
        return
    yield tachogram_figure(clean)
    yield variability_figure(clean, is_known)
    shape = beat_figure(clean)
    if shape is not None:
        yield shape


def kinds_sentence(beats: Beats) -> str:
    """Return how many beats there are of each kind, by the interval that ends with each."""
    kinds = beat_kinds(beats)
    n = {kind: int((kinds == kind).sum()) for kind in BEAT_KINDS}
    added = f", {beats.by_hand.sum():,} of them added by hand" if beats.by_hand.any() else ""
    return (
        f"{count(len(beats), 'beat')}{added}; the interval before was accepted for {n[ACCEPTED]:,} and not for "
        f"{n[REJECTED]:,}; {n[FIRST]:,} {'has' if n[FIRST] == 1 else 'have'} none, as the first or more than "
        f"{LONGEST_INTERVAL:g} s after the beat before"
    )


def _marks(clean: CleanRecording, strip: Strip) -> Iterator[Marks]:
    """Give the beats by kind, and those that a person added or removed."""
    beats = clean.beats
    kinds, heights = beat_kinds(beats), strip.at(beats.times)
    for kind in BEAT_KINDS:
        yield Marks(BEAT_KINDS[kind], beats.times[kinds == kind], heights[kinds == kind], *KIND_STYLES[kind])
    yield Marks(ADDED, beats.times[beats.by_hand], heights[beats.by_hand], "D", GREEN, is_hollow=True, size=8.0)
    removed = np.array([one.onset_seconds for one in clean.corrections if one.kind == BEAT_REMOVED], dtype=np.float64)
    yield Marks(REMOVED, removed, strip.at(removed), "s", RED, is_hollow=True, size=8.0)


def wave_figure(clean: CleanRecording, signal: Signal, is_source: bool, number: int) -> Drawing | None:
    """Return excerpts of a heart wave with the beats in them; None where nowhere enough of it was measured."""
    channel = clean.used_channel.get(signal.name, 0)
    title = f"{channel_words(signal, channel)} ({signal.unit})"
    strip = Strip.of(signal, channel, title)
    marked = Strip.of(signal, channel, title, marks=tuple(_marks(clean, strip)))
    chosen = excerpts_of(signal, channel, EXCERPT_SECONDS, heart_scores(clean))
    if not chosen:
        return None
    whose = "found in it" if is_source else f"of {clean.beats.source}" if len(clean.beats) else "none were found"
    caption = (
        f"Cleaned wave; beats: {whose}. The score of a stretch of {chosen[0].length_seconds:.0f} s is the share of its "
        "time that accepted intervals cover, times the mean correlation of its beats with the mean beat; shown are "
        "the highest, the one nearest to the median and the lowest score, of stretches of which at least half was "
        "measured (of equals the one nearest to the middle; where all are equal, that one alone)."
    )
    words = (f"wave-{number}", f"Single beats: {channel_words(signal, channel)}", caption)
    return excerpts([(excerpt, marked) for excerpt in chosen], words, "score {:.2f}")


def tachogram_figure(clean: CleanRecording) -> Drawing:
    """Return the time from beat to beat over the recording, accepted and not."""
    beats, since, kinds = clean.beats, 1000.0 * intervals_before(clean.beats), beat_kinds(clean.beats)
    clock = Clock.of(clean.recording.duration_seconds)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for kind in (REJECTED, ACCEPTED):
            chosen = kinds == kind
            marker, colour, _ = KIND_STYLES[kind]
            if chosen.any():
                axes.plot(
                    beats.times[chosen] / clock.seconds, since[chosen], "." if marker == "o" else marker,
                    color=colour, markersize=3.5, markeredgewidth=0.7,
                    label=BEAT_KINDS[kind],
                    rasterized=int(chosen.sum()) > MOST_POINTS,
                )  # fmt: skip
        axes.set_xlim(0, max(clean.recording.duration_seconds, 1e-3) / clock.seconds)
        axes.set_ylabel("interval (ms)")
        axes.set_xlabel(f"time since the recording began ({clock.unit})")
        axes.grid()
        legend_of(figure, [axes])

    caption = f"Every interval between beats of {beats.source}. {kinds_sentence(beats)}."
    return draw("tachogram", "Intervals over time (tachogram)", caption, 2.5, paint)


def variability_figure(clean: CleanRecording, is_known: dict[str, bool]) -> Drawing:
    """Return the Poincare plot beside the spectrum of the intervals."""
    pairs = poincare(clean.beats)
    spectrum = interval_spectrum(clean.beats, clean.recording.duration_seconds)

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        _paint_poincare(left, pairs, all(is_known.values()))
        _paint_spectrum(right, spectrum)

    sd1, sd2 = (
        f"{value:.1f} ms" if np.isfinite(value) and known else NOT_DEFINED
        for value, known in ((pairs.sd1, is_known["rmssd"]), (pairs.sd2, all(is_known.values())))
    )
    caption = (
        f"Left: each accepted interval over the one before, {count(len(pairs.after), 'pair')}; SD1 (across the line, "
        f"beat to beat) {sd1}, SD2 (along it) {sd2}{_why_not(is_known)}. {_spectrum_sentence(spectrum)}"
    )
    return draw("variability", "Poincare plot, and spectrum of the intervals", caption, 3.5, paint)


def _why_not(is_known: dict[str, bool]) -> str:
    if all(is_known.values()):
        return ""
    return "; a spread is not stated where the errors of the beats' times would inflate it, or too few were accepted"


def _paint_poincare(axes: Axes, pairs: Poincare, is_known: bool) -> None:
    from matplotlib.patches import Ellipse

    axes.set_title("Poincare plot")
    axes.set_xlabel("interval before (ms)")
    axes.set_ylabel("interval (ms)")
    if len(pairs.after) == 0:
        axes.text(0.5, 0.5, "no two accepted intervals\nfollow each other", ha="center", transform=axes.transAxes)
        return
    ends = [min(pairs.before.min(), pairs.after.min()) - 20.0, max(pairs.before.max(), pairs.after.max()) + 20.0]
    axes.plot(ends, ends, color=FAINT, linewidth=0.8, linestyle="--", label="_equal")
    axes.plot(
        pairs.before, pairs.after, ".", color=BLUE, markersize=3, alpha=0.6, label="pairs",
        rasterized=len(pairs.after) > MOST_POINTS,
    )  # fmt: skip
    if is_known and np.isfinite(pairs.sd1):
        middle = (float(pairs.before.mean()), float(pairs.after.mean()))
        axes.add_patch(
            Ellipse(
                middle, 2 * pairs.sd2, 2 * pairs.sd1, angle=45.0, fill=False, edgecolor=RED, linewidth=1.6, zorder=5
            )
        )
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_aspect("equal", adjustable="box")
    axes.locator_params(nbins=5)
    axes.grid()


def _paint_spectrum(axes: Axes, spectrum: IntervalSpectrum | None) -> None:
    axes.set_title("Spectrum of the intervals")
    axes.set_xlabel("frequency (Hz)")
    axes.set_ylabel("density (ms²/Hz)")
    axes.set_xlim(0.0, _HIGHEST_HZ)
    if spectrum is None:
        axes.text(0.5, 0.5, "not defined", ha="center", transform=axes.transAxes)
        return
    is_drawn = spectrum.frequency <= _HIGHEST_HZ
    frequency, density = spectrum.frequency[is_drawn], spectrum.density[is_drawn]
    for name, (low, high), colour in (("LF", LF_HZ, RED), ("HF", HF_HZ, BLUE)):
        inside = (frequency >= low) & (frequency <= high)
        axes.fill_between(frequency[inside], density[inside], color=colour, alpha=0.35, linewidth=0, label=name)
    axes.plot(frequency, density, color=INK, linewidth=1.0, label="_density")
    axes.set_ylim(0.0, 1.08 * float(density[frequency >= LF_HZ[0]].max()) or 1.0)
    axes.grid()
    axes.legend(loc="upper right")


def _spectrum_sentence(spectrum: IntervalSpectrum | None) -> str:
    if spectrum is None:
        return (
            "Right: no spectrum; it needs 60 s of which accepted intervals cover 80 %, with beats that are timed "
            "exactly enough."
        )
    stretches = count(spectrum.n_stretches, "stretch", "stretches")
    high = (
        f"{spectrum.high:,.0f} ms²" if np.isfinite(spectrum.high) else "not stated, as the beats' times are too inexact"
    )
    return (
        f"Right: mean spectrum of {stretches} of {spectrum.stretch_seconds:.0f} s in which accepted intervals cover at "
        f"least 80 %; LF ({LF_HZ[0]:g}-{LF_HZ[1]:g} Hz) {spectrum.low:,.0f} ms², "
        f"HF ({HF_HZ[0]:g}-{HF_HZ[1]:g} Hz) {high}."
    )


def beat_figure(clean: CleanRecording) -> Drawing | None:
    """Return the mean beat, and beats whose interval was not accepted beside it; None where beats have no wave."""
    signal = heart_wave(clean)
    kinds = beat_kinds(clean.beats)
    accepted, rejected = (beat_waves(clean, kinds == kind) for kind in (ACCEPTED, REJECTED))
    if signal is None or accepted is None or rejected is None or not np.isfinite(accepted.values).any():
        return None
    n_rejected = len(rejected.values)
    shown = np.linspace(0, n_rejected - 1, min(n_rejected, _MOST_REJECTED)).round().astype(int)
    low, high = np.nanpercentile(accepted.values, [10, 90], axis=0)

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharex=True)
        left.fill_between(accepted.seconds, low, high, color=GRID, label="8 of 10 beats")
        left.plot(accepted.seconds, accepted.mean, color=BLUE, linewidth=1.6, label="mean")
        for place in shown:
            right.plot(rejected.seconds, rejected.values[place], color=RED, linewidth=0.6, alpha=0.7, label="_rejected")
        right.plot(accepted.seconds, accepted.mean, color=BLUE, linewidth=1.6, label="_mean")
        if n_rejected == 0:
            right.text(0.95, 0.9, "none", ha="right", transform=right.transAxes)
        left.set_title(f"accepted, n = {len(accepted.values):,}")
        right.set_title(f"not accepted, n = {n_rejected:,}")
        left.set_ylabel(f"{signal.unit}")
        for axes in (left, right):
            axes.set_xlabel("time from the beat (s)")
            axes.grid()
        left.legend(loc="upper right")

    cut = f" {len(shown)} of them are drawn, evenly taken." if len(shown) < n_rejected else ""
    caption = (
        f"{signal.name}, cleaned. Left: mean of {count(len(accepted.values), 'beat')} whose interval was accepted. "
        f"Right: {count(n_rejected, 'beat')} whose interval was not, over the same mean: waves that look like it were "
        f"beats at an unlikely time, others were no beats.{cut}"
    )
    return draw("mean-beat", "Mean beat", caption, 2.7, paint)
