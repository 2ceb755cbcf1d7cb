"""Figures of the other sensors: the whole recording, skin responses, breaths, EEG bands, spectra and traces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from biopercept.errors import count
from biopercept.measures.excerpts import Excerpt, covered_share, eeg_scores, excerpts_of
from biopercept.measures.shapes import REJECTED, beat_kinds, eeg_spectra, response_waves
from biopercept.modalities import MODALITIES
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.preprocessing.eeg import BANDS
from biopercept.preprocessing.respiration import Breaths
from biopercept.recording import FloatArray, Signal
from biopercept.report.drawing import BLUE, FAINT, GREEN, INK, LINES, RED, Drawing, FigureData, draw
from biopercept.report.recordings.strips import (
    MASKED,
    Clock,
    Marks,
    Strip,
    channel_words,
    excerpts,
    overview,
    title_of,
    when,
)
from biopercept.report.text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SKIN_SECONDS, BREATH_SECONDS, EEG_SECONDS = 120.0, 60.0, 5.0
_LOGS = {"emg_envelope": "muscle activity (mV)", "activity": "movement (g)"}
_ORDER = (
    "ecg",
    "bvp",
    "heart_rate",
    "hr",
    "eda",
    "resp",
    "resp_rate",
    "spo2",
    "temp",
    "activity",
    "emg_envelope",
    "eog",
)
_MOST_CHANNELS = 32
_MOST_STRIPS = 20
_COLUMNS = 500


def overview_figure(clean: CleanRecording, classes: tuple[str, ...] = ()) -> Drawing | None:
    """Return every sensor over the whole recording, with what was found in it along the bottom.

    ``classes`` are those of the study's tasks, in their order: a label has the colour that it has on every page.

    EEG has figures of its own: None where nothing else was recorded.
    """
    order = {modality: place for place, modality in enumerate(_ORDER)}
    signals = sorted(clean.recording.signals, key=lambda signal: order.get(signal.modality, len(order)))
    strips = [strip for signal in signals for strip in _strips(clean, signal)]
    n = len(strips)
    strips = strips[:_MOST_STRIPS]
    if not strips:
        return None
    if clean.recording.intervals:
        labels = Strip("labels", np.empty(0), 1.0, 0.0, intervals=clean.recording.intervals, classes=classes)
        strips.insert(0, labels)
    cut = f" The first {len(strips)} of {n} are drawn." if len(strips) < n else ""
    caption = (
        "Signals as cleaned and what was derived from them, lowest to highest value of each column; of several "
        "channels the one that was used, else the first. Shaded: masked or not recorded. Axes hold 99 % of the values."
        f"{cut}"
    )
    duration = clean.recording.duration_seconds
    return overview(strips, duration, ("overview", "The whole recording", caption))


def _strips(clean: CleanRecording, signal: Signal) -> Iterator[Strip]:
    """Give the strip of a signal; none of those that have figures of their own."""
    channel = clean.used_channel.get(signal.name, 0)
    if signal.modality == "heart_rate":
        kinds = beat_kinds(clean.beats)
        ticks = (clean.beats.times[kinds == REJECTED], "interval not accepted")
        yield Strip.of(signal, 0, f"heart rate (1/min), from {shortened(signal.derived_from, 32)}", ticks=ticks)
    elif signal.modality == "resp_rate":
        yield Strip.of(signal, 0, f"breathing rate (1/min), from {shortened(signal.derived_from, 32)}")
    elif signal.modality in _LOGS:
        strip = Strip.of(signal, 0, f"{_LOGS[signal.modality]}, from {shortened(signal.derived_from, 32)}")
        yield Strip(strip.title, np.exp(strip.samples), strip.sampling_rate, strip.start_seconds)
    elif signal.derived_from or signal.modality in ("eeg", "acc", "ibi", "emg"):
        return
    else:
        title = f"{channel_words(signal, channel)}: {MODALITIES[signal.modality].title} ({signal.unit})"
        if signal.name != _skin_name(clean):
            yield Strip.of(signal, channel, title)
            return
        tonic = _tonic(clean, signal)
        over = () if tonic is None else (("tonic level", tonic, RED),)
        ticks = (clean.responses.times, "peak of a skin response")
        yield Strip.of(signal, channel, title, ticks=ticks, over=over)


def _skin_name(clean: CleanRecording) -> str:
    names = [s.name for s in clean.recording.signals if s.modality == "eda" and s.name in clean.used_channel]
    return names[0] if names else ""


def _tonic(clean: CleanRecording, skin: Signal) -> FloatArray | None:
    """Return the tonic level at the samples of the skin conductance, uS; None where it was not derived."""
    tonic = clean.recording.signals_of("tonic")
    if not tonic:
        return None
    return np.exp(Strip.of(tonic[0], 0, "").at(skin.sample_times()))


def skin_figures(clean: CleanRecording) -> Iterator[Drawing]:
    """Give excerpts of skin conductance with its responses, and all responses aligned at their onsets."""
    name, responses = _skin_name(clean), clean.responses
    if not name:
        return
    skin, channel = clean.recording.signal(name), clean.used_channel[name]
    bare = Strip.of(skin, channel, f"{channel_words(skin, channel)} (uS)")
    pairs = np.stack([responses.onsets, responses.times], axis=1)
    heights = np.stack([bare.at(responses.onsets), bare.at(responses.times)], axis=1)
    tonic = _tonic(clean, skin)
    strip = Strip(
        bare.title, bare.samples, bare.sampling_rate, bare.start_seconds,
        marks=(
            Marks("onset of a response", responses.onsets, heights[:, 0], "o", GREEN, is_hollow=True),
            Marks("its peak", responses.times, heights[:, 1], "o", GREEN),
        ),
        over=() if tonic is None else (("tonic level", tonic, RED),),
        lines=tuple(zip(pairs, heights, strict=True)),
    )  # fmt: skip

    def scores(starts: FloatArray, length: float) -> FloatArray:
        first, last = (np.searchsorted(responses.times, edge) for edge in (starts, starts + length))
        return np.asarray(last - first, dtype=np.float64)

    chosen = excerpts_of(skin, channel, SKIN_SECONDS, scores)
    if chosen:
        caption = (
            f"Cleaned skin conductance; a line joins onset and peak of each of {count(len(responses), 'response')}"
            f"{_smallest(clean)}. Shown are the {chosen[0].length_seconds:.0f} s with most, with a median number of "
            "and with fewest responses, of stretches of which at least half was measured."
        )
        words = {"Best": "Most", "Worst": "Fewest"}
        renamed = [(_renamed(excerpt, words), strip) for excerpt in chosen]
        yield excerpts(renamed, ("skin", "Skin responses, one by one", caption), "responses: {:.0f}")
    if len(responses):
        yield _aligned_figure(clean, skin, channel)


def _renamed(excerpt: Excerpt, words: dict[str, str]) -> Excerpt:
    return Excerpt(words.get(excerpt.word, excerpt.word), excerpt.start_seconds, excerpt.length_seconds, excerpt.score)


def _smallest(clean: CleanRecording) -> str:
    smallest = clean.responses.smallest
    return f", of {smallest:.2g} uS or more" if np.isfinite(smallest) else ""


def _aligned_figure(clean: CleanRecording, skin: Signal, channel: int) -> Drawing:
    waves, responses = response_waves(clean.responses, skin, channel), clean.responses

    def paint(figure: Figure) -> None:
        from matplotlib.collections import LineCollection

        left, right = figure.subplots(1, 2)
        lines = [np.stack([waves.seconds, row], axis=1) for row in waves.values]
        left.add_collection(
            LineCollection(lines, colors=FAINT, linewidths=0.5, alpha=0.7, rasterized=len(lines) > 50, label="_each")
        )
        left.plot(waves.seconds, waves.mean, color=BLUE, linewidth=1.8, label="mean")
        left.axvline(0.0, color=INK, linewidth=0.8, linestyle="--")
        known = waves.values[np.isfinite(waves.values)]
        left.set_xlim(waves.seconds[0], waves.seconds[-1])
        left.set_ylim(*_with_margin(np.percentile(known, [1, 99]) if len(known) else np.array([0.0, 1.0])))
        left.set_title(f"aligned at onset, n = {len(responses):,}")
        left.set_xlabel("time from onset (s)")
        left.set_ylabel("above onset (uS)")
        left.grid()
        left.legend(loc="upper left")
        right.hist(responses.amplitudes, bins=min(max(len(responses) // 5, 5), 40), color=BLUE)
        right.axvline(responses.smallest, color=RED, linewidth=1.2, label="smallest that is counted")
        right.set_title("amplitudes")
        right.set_xlabel("amplitude (uS)")
        right.set_ylabel("responses")
        right.legend(loc="upper right")

    recovery = responses.half_recovery_seconds
    caption = (
        f"{count(len(responses), 'response')}; median amplitude {np.median(responses.amplitudes):.3g} uS, median rise "
        f"{np.median(responses.rise_seconds):.2f} s, half recovery known of {int(np.isfinite(recovery).sum()):,}. "
        "Responses rise within seconds and fall more slowly; lines that jump or fall at once are artefacts."
    )
    return draw("responses", "Skin responses together", caption, 2.9, paint)


def _with_margin(ends: FloatArray) -> tuple[float, float]:
    low, high = float(ends.min()), float(ends.max())
    margin = 0.1 * (high - low) or 0.01
    return low - margin, high + margin


def breath_figure(clean: CleanRecording) -> Drawing | None:
    """Return excerpts of respiration with its breaths; None where it was not recorded, or nowhere enough of it."""
    chests = [s for s in clean.recording.signals if s.modality == "resp" and s.name in clean.used_channel]
    if not chests:
        return None
    chest, breaths = chests[0], clean.breaths
    channel = clean.used_channel[chest.name]
    bare = Strip.of(chest, channel, f"{channel_words(chest, channel)} ({chest.unit})")
    strip = Strip(bare.title, bare.samples, bare.sampling_rate, bare.start_seconds, marks=_breath_marks(breaths, bare))
    chosen = excerpts_of(
        chest,
        channel,
        BREATH_SECONDS,
        lambda starts, length: covered_share(breaths.times, breaths.periods, starts, length),
    )
    if not chosen:
        return None
    n_accepted = int(np.isfinite(breaths.periods).sum())
    caption = (
        f"Cleaned respiration; {count(len(breaths), 'breath')}, the period before {n_accepted:,} of them accepted. The "
        f"score of a stretch of {chosen[0].length_seconds:.0f} s is the share of its time that accepted periods cover; "
        "shown are the highest, the one nearest to the median and the lowest (of equals the one nearest to the middle)."
    )
    return excerpts([(one, strip) for one in chosen], ("breaths", "Single breaths", caption), "score {:.2f}")


def _breath_marks(breaths: Breaths, strip: Strip) -> tuple[Marks, ...]:
    heights, is_accepted = strip.at(breaths.times), np.isfinite(breaths.periods)
    styles = (
        (is_accepted, "breath, period accepted", "o", BLUE),
        (~is_accepted, "breath, period not accepted", "x", RED),
    )
    return tuple(
        Marks(label, breaths.times[one], heights[one], marker, colour) for one, label, marker, colour in styles
    )


def brain_figures(clean: CleanRecording, peaks: dict[str, float]) -> Iterator[Drawing]:
    """Give band power over time, spectra by region, and traces of every EEG signal.

    ``peaks`` are the frequencies of the alpha peak by region, those that stand out.
    """
    bands = {s.modality: s for s in clean.recording.signals if s.modality in BANDS}
    if bands:
        yield _bands_figure(clean, bands)
    for number, eeg in enumerate(clean.recording.signals_of("eeg"), 1):
        end = f"-{number}" if number > 1 else ""
        spectra = _spectra_figure(eeg, peaks, f"eeg-spectra{end}")
        if spectra is not None:
            yield spectra
        traces = _traces_figure(clean, eeg, f"eeg-traces{end}")
        if traces is not None:
            yield traces


def _bands_figure(clean: CleanRecording, bands: dict[str, Signal]) -> Drawing:
    duration = clean.recording.duration_seconds
    clock, shades = Clock.of(duration), dict(zip(bands, LINES, strict=False))
    width = max(duration / _COLUMNS, 1.0)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for band, signal in bands.items():
            low, high = BANDS[band]
            times, power = _mean_power(signal, width)
            name = f"{band.removeprefix('eeg_')} ({low:g}-{high:g} Hz)"
            axes.plot(times / clock.seconds, power, color=shades[band], linewidth=0.9, label=name)
        _logarithmic(axes)
        axes.set_xlim(0.0, duration / clock.seconds)
        axes.set_ylabel("power (uV²)")
        axes.set_xlabel(f"time since the recording began ({clock.unit})")
        axes.grid()
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(bands))

    n = next(iter(bands.values())).n_channels
    caption = f"Mean of {count(n, 'channel')} and of every {width:.1f} s, on a logarithmic scale; blank where masked."
    courses = {band.removeprefix("eeg_"): _mean_power(signal, width) for band, signal in bands.items()}
    times = next(iter(courses.values()))[0] / clock.seconds
    columns = (f"time ({clock.unit})", *(f"{band} (uV^2)" for band in courses))
    rows = tuple(zip(times, *(power for _, power in courses.values()), strict=True))
    data = FigureData(columns, rows, (("power (uV^2)", len(courses)),))
    return draw("eeg-bands", "EEG band power over time", caption, 2.6, paint).with_data(data)


def _logarithmic(axes: Axes) -> None:
    """Give an axes a logarithmic scale with plain numbers: the house style reads no markup in labels."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _mean_power(signal: Signal, width_seconds: float) -> tuple[FloatArray, FloatArray]:
    """Return middles of columns in time and the mean power in each, uV^2; NaN where nothing is known."""
    power = np.exp(signal.read())
    size = max(round(width_seconds * signal.sampling_rate), 1)
    starts = np.arange(0, power.shape[1], size)
    known = np.isfinite(power)
    total = np.add.reduceat(np.where(known, power, 0.0).sum(axis=0), starts)
    n = np.add.reduceat(known.sum(axis=0), starts)
    mean = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
    middles = signal.start_seconds + (starts + 0.5 * size) / signal.sampling_rate
    return np.asarray(middles, dtype=np.float64), np.asarray(mean, dtype=np.float64)


def _spectra_figure(eeg: Signal, peaks: dict[str, float], name: str) -> Drawing | None:
    frequency, spectra, n = eeg_spectra(eeg)
    if not spectra:
        return None
    shades = dict(zip(spectra, LINES, strict=False))
    is_drawn = (frequency >= 1.0) & (frequency <= 45.0)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (low, high) in enumerate(BANDS.values()):
            if place % 2 == 0:
                axes.axvspan(low, high, color="#f1f3f5", linewidth=0, zorder=0)
        for region, density in spectra.items():
            line = axes.plot(frequency[is_drawn], density[is_drawn], color=shades[region], linewidth=1.3, label=region)
            if region in peaks:
                height = float(np.interp(peaks[region], frequency, density))
                axes.plot(peaks[region], height, "v", color=line[0].get_color(), markersize=6, label="_peak")
        _logarithmic(axes)
        axes.set_xlim(1.0, 45.0)
        axes.set_xlabel("frequency (Hz)")
        axes.set_ylabel("density (uV²/Hz)")
        axes.grid(axis="y")
        axes.legend(loc="upper right")

    where = ", ".join(f"{region} {hz:.1f} Hz" for region, hz in peaks.items())
    caption = (
        f"{shortened(eeg.name, 32)}: mean over the channels of a region, Welch's method over up to {n:,} stretches of "
        "4 s without a masked sample. Grey: every other band. Alpha peak that stands out of the background: "
        f"{where or 'none'}."
    )
    columns = ("frequency (Hz)", *(f"{region} (uV^2/Hz)" for region in spectra))
    rows = tuple(zip(frequency[is_drawn], *(density[is_drawn] for density in spectra.values()), strict=True))
    data = FigureData(columns, rows, (("density (uV^2/Hz)", len(spectra)),))
    return draw(name, "EEG spectra by region", caption, 3.0, paint).with_data(data)


def _traces_figure(clean: CleanRecording, eeg: Signal, name: str) -> Drawing | None:
    """Return stretches of all channels under each other; None where no channel has enough."""
    scores = eeg_scores(clean, eeg)
    best_channel = int(np.argmax(np.isfinite(eeg.read()).sum(axis=1)))
    chosen = excerpts_of(eeg, best_channel, EEG_SECONDS, scores)
    if not chosen:
        return None
    n_drawn = min(eeg.n_channels, _MOST_CHANNELS)
    samples = eeg.read()[:n_drawn]
    sizes = np.array([np.nanstd(row) for row in samples if np.isfinite(row).any()])
    spacing = float(f"{max(8.0 * np.median(sizes) if len(sizes) else 0.0, 1.0):.1g}")

    def paint(figure: Figure) -> None:
        parts = figure.subplots(1, len(chosen), squeeze=False, sharey=True)[0]
        for axes, excerpt in zip(parts, chosen, strict=True):
            inside = (eeg.sample_times() >= excerpt.start_seconds) & (eeg.sample_times() <= excerpt.end_seconds)
            for place, row in enumerate(samples):
                wave = np.clip(row[inside] / spacing, -1.5, 1.5)
                axes.plot(
                    eeg.sample_times()[inside], wave - place, color=INK, linewidth=0.5, rasterized=True, label="_trace"
                )
                if not np.isfinite(wave).any():
                    axes.axhspan(-place - 0.4, -place + 0.4, color=MASKED, linewidth=0)
            axes.set_xlim(excerpt.start_seconds, excerpt.end_seconds)
            title_of(axes, f"{excerpt.word}: {when(excerpt.start_seconds)}")
            axes.set_xlabel("time (s)")
            axes.locator_params(axis="x", nbins=5)
        parts[0].set_yticks(
            [-place for place in range(n_drawn)], [shortened(c, 10) for c in eeg.channel_names[:n_drawn]]
        )
        parts[0].set_ylim(-n_drawn + 0.2, 0.8)
        parts[0].tick_params(axis="y", length=0)

    cut = f" The first {n_drawn} of {eeg.n_channels} channels are drawn." if n_drawn < eeg.n_channels else ""
    scored = ", ".join(f"{one.word.lower()} {one.score:.2f}" for one in chosen)
    caption = (
        f"Cleaned EEG; from a channel to the next {spacing:g} uV, waves cut at one and a half times that. Shaded: "
        f"masked. Stretches of {chosen[0].length_seconds:.0f} s, scored by the mean quality of all channels, divided "
        f"by how many times larger than usual the waves are where they are larger ({scored}).{cut}"
    )
    return draw(name, f"EEG traces: {shortened(eeg.name, 32)}", caption, 1.0 + 0.2 * max(n_drawn, 5), paint)
