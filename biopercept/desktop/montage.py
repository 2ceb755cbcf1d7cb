"""EEG for the eye: other references than the recorded one, and where on the head the power of a stretch is.

A montage is a signal of its own, computed where it is read, so that nothing of it is kept twice. What prepare does to
EEG is no matter of what was chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.recognition import electrode_name, electrode_position
from biopercept.preprocessing.eeg import BANDS
from biopercept.recording import Channel, FloatArray, Signal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AS_RECORDED, AVERAGE, EARS = "as recorded", "average reference", "linked ears"
LONGITUDINAL, TRANSVERSE = "bipolar, front to back", "bipolar, left to right"
_CHAINS: dict[str, tuple[str, ...]] = {
    LONGITUDINAL: (
        "Fp1 F7 T7 P7 O1",
        "Fp1 F3 C3 P3 O1",
        "Fz Cz Pz",
        "Fp2 F4 C4 P4 O2",
        "Fp2 F8 T8 P8 O2",
    ),
    TRANSVERSE: ("F7 Fp1 Fp2 F8", "F7 F3 Fz F4 F8", "T7 C3 Cz C4 T8", "P7 P3 Pz P4 P8", "P7 O1 O2 P8"),
}
_NEW_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_EARS = ({"A1", "A2"}, {"M1", "M2"})
_FEWEST_PAIRS = 2

MOST_SECONDS = 60.0
"""A topography is of no more than this, around the middle of a stretch."""
_FEWEST_ELECTRODES, _LEAST_SECONDS, _MOST_MISSING = 4, 2.0, 0.1


def montages_of(signal: Signal, bad: Collection[str] = ()) -> dict[str, Callable[[], Signal]]:
    """Return what makes an EEG signal in each montage that its electrodes allow, by name, the recorded one first.

    ``bad`` are channels that no average is taken of.
    """
    names = [_electrode(channel.name) for channel in signal.channels]
    good = [n for n, channel in enumerate(signal.channels) if channel.name not in bad and names[n]]
    made: dict[str, Callable[[], Signal]] = {AS_RECORDED: lambda: signal}
    if signal.n_channels > 1 and len(good) > 1:
        made[AVERAGE] = lambda: _referenced(signal, good)
    for pair in _EARS:
        ears = [n for n, channel in enumerate(signal.channels) if channel.name.upper() in pair]
        if len(ears) == len(pair):
            made[EARS] = lambda ears=ears: _referenced(signal, ears)  # type: ignore[misc]
    for montage, chains in _CHAINS.items():
        pairs = _pairs(names, chains)
        if len(pairs) >= _FEWEST_PAIRS:
            made[montage] = lambda pairs=pairs: _bipolar(signal, pairs)  # type: ignore[misc]
    return made


def _electrode(label: str) -> str:
    """Return the new name of an electrode, also of one with its reference ("T3-A1"); empty where it is none."""
    name = electrode_name(label) or electrode_name(label.partition("-")[0]) or ""
    return _NEW_NAMES.get(name.upper(), name)


def _pairs(names: Sequence[str], chains: Sequence[str]) -> list[tuple[int, int]]:
    """Return neighbours of chains as places of channels; where an electrode is missing, the next one follows."""
    pairs = []
    for chain in chains:
        there = [names.index(name) for name in chain.split() if name in names]
        pairs += list(pairwise(there))
    return list(dict.fromkeys(pairs))


def _referenced(signal: Signal, reference: Sequence[int]) -> Signal:
    """Return a signal against the mean of some of its channels, as far as they are known."""

    def read(start: int, stop: int, rows: slice) -> FloatArray:
        samples = signal.read(start, stop)
        known = np.isfinite(samples[reference])
        total = np.where(known, samples[reference], 0.0).sum(axis=0)
        count = known.sum(axis=0)
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        return np.asarray(samples[rows] - mean)

    return replace(signal, reader=read)


def _bipolar(signal: Signal, pairs: Sequence[tuple[int, int]]) -> Signal:
    """Return differences of pairs of channels."""
    first, second = (list(places) for places in zip(*pairs, strict=True))
    names = signal.channel_names
    channels = tuple(Channel(f"{names[a]}-{names[b]}") for a, b in pairs)

    def read(start: int, stop: int, rows: slice) -> FloatArray:
        samples = signal.read(start, stop)
        return np.asarray((samples[first] - samples[second])[rows])

    return replace(signal, channels=channels, reader=read)


@dataclass(frozen=True, eq=False)
class Topography:
    """Power of a stretch of EEG by electrode: ``bands`` by name, decibels, (n,); ``positions`` in metres, (n, 3).

    It is against the average of the electrodes. ``begin`` and ``end`` are what it is of, seconds.
    """

    names: tuple[str, ...]
    positions: FloatArray
    bands: dict[str, FloatArray]
    unit: str
    begin: float
    end: float


def topography_of(signal: Signal, begin: float, end: float, bad: Collection[str] = ()) -> Topography:
    """Return the band power of a stretch at each electrode whose place is known, bad channels apart.

    Raises RecordingError where the stretch is too short, or too few electrodes are known in it.
    """
    from mne.time_frequency import psd_array_welch

    begin, end = max(begin, signal.start_seconds), min(end, signal.end_seconds)
    middle, half = (begin + end) / 2, min(end - begin, MOST_SECONDS) / 2
    begin, end = middle - half, middle + half
    if end - begin < _LEAST_SECONDS:
        raise RecordingError(f"a topography needs {_LEAST_SECONDS:g} s of EEG or more")
    first, last = (round((edge - signal.start_seconds) * signal.sampling_rate) for edge in (begin, end))
    samples = signal.read(first, last)
    places = [channel.position or electrode_position(_electrode(channel.name)) for channel in signal.channels]
    is_used = [
        place is not None and channel.name not in bad and np.isnan(row).mean() <= _MOST_MISSING
        for place, channel, row in zip(places, signal.channels, samples, strict=True)
    ]
    if sum(is_used) < _FEWEST_ELECTRODES:
        raise RecordingError(
            f"a topography needs {_FEWEST_ELECTRODES} good electrodes with a known place; there are {sum(is_used)}"
        )
    samples = samples[is_used]
    samples = np.where(np.isnan(samples), np.nanmean(samples, axis=1, keepdims=True), samples)
    samples = samples - samples.mean(axis=0)
    n_fft = min(round(_LEAST_SECONDS * signal.sampling_rate), samples.shape[1])
    power, frequencies = psd_array_welch(samples, signal.sampling_rate, n_fft=n_fft, verbose="error")
    bands = {}
    for name, (low, high) in BANDS.items():
        inside = (frequencies >= low) & (frequencies < high)
        if inside.any():
            of_band = power[:, inside].sum(axis=1) * (frequencies[1] - frequencies[0])
            bands[name.removeprefix("eeg_")] = 10.0 * np.log10(np.maximum(of_band, 1e-12))
    return Topography(
        names=tuple(c.name for c, used in zip(signal.channels, is_used, strict=True) if used),
        positions=np.array([place for place, used in zip(places, is_used, strict=True) if used], dtype=np.float64),
        bands=bands,
        unit=signal.unit,
        begin=begin,
        end=end,
    )


def drawn(topography: Topography, width: int = 300) -> NDArray[np.uint8]:
    """Return the maps of all bands as a picture, (height, width, 4) bytes of red, green, blue and opacity."""
    import mne
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    info = mne.create_info(list(topography.names), 1.0, "eeg", verbose="error")
    for channel, place in zip(info["chs"], topography.positions, strict=True):
        channel["loc"][:3] = place
    n_columns = 2
    n_lines = -(-len(topography.bands) // n_columns)
    figure = Figure(figsize=(width / 100, n_lines * width / 100 / n_columns * 1.05), dpi=100)
    canvas = FigureCanvasAgg(figure)
    for number, (name, values) in enumerate(topography.bands.items()):
        axes = figure.add_subplot(n_lines, n_columns, number + 1)
        image, _ = mne.viz.plot_topomap(
            values, info, axes=axes, show=False, contours=4, sensors="k.", sphere=_head(), cmap="viridis",
            vlim=(float(values.min()), float(values.max())),
        )  # fmt: skip
        axes.set_title(name, fontsize=8, pad=2)
        _colour_bar(figure, image, axes)
    figure.subplots_adjust(left=0.02, right=0.88, top=0.93, bottom=0.03, wspace=0.35, hspace=0.25)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba()))  # type: ignore[no-untyped-call]


def _head() -> tuple[float, float, float, float]:
    """Return centre and radius of the sphere that is drawn: at the ears' height, as wide as the electrodes lie."""
    ring = np.array([electrode_position(name) for name in ("Fpz", "Oz", "T7", "T8")], dtype=np.float64)
    centre = ring.mean(axis=0) * (1.0, 1.0, 0.0)
    radius = np.linalg.norm(ring - centre, axis=1).mean()
    return float(centre[0]), float(centre[1]), 0.0, float(radius)


def _colour_bar(figure: Figure, image: Any, axes: Any) -> None:
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.03)
    bar.ax.tick_params(labelsize=6, length=2)
    bar.outline.set_visible(False)
