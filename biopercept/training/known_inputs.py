"""What inputs a model knows, kept with it: sensors, ranges in their units, a distance in feature space, fingerprints.

* **Ranges** are of the windows that a model was fitted to: root mean square and standard deviation of the cleaned
  samples of each measured modality, and every feature, unscaled. From the lowest 1 % to the highest 99 % quantile of
  any one person, and further by the standard deviation of these quantiles between people; signals by their logarithms.
* **Distance** is Mahalanobis's (1936), of features scaled as the network reads them, by sensor, covariances shrunk
  after Ledoit and Wolf (2004); missing features count as expected from the others. It is divided by the border, which
  1 % of the windows of people exceed who were left out in turn (every person weighs the same), and the largest of the
  sensors counts.
* **Fingerprints** are a few hashes of each recording's samples (:mod:`biopercept.data.duplicates`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.data.duplicates import blocks_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import FloatArray, TrainingStatistics
from biopercept.data.windows import IntArray, WindowTable
from biopercept.store.prepared import StoredSignal, WindowedRecording, give_back_pages
from biopercept.typed_values import Count, Interval

UNLIKE_FRACTION = 0.01
"""Of the windows of people left out, how many are beyond the border of the distance."""
_N_FOLDS = 5
_LEAST_USUAL, _USUAL_QUANTILE = 0.05, 0.95
_LEAST_KNOWN = 0.1  # of the windows must have a feature that the distance reads
_LEAST_REAL = 0.25  # of a window's samples must be real for it to have a size
_HASHES, _MOST_HASHES, _LEAST_SHARED, _HASH_BYTES = 16, 1024, 2, 8
_LOWEST, _HIGHEST = 0.01, 0.99
_SAMPLES_AT_ONCE = 1 << 19  # of a channel: half an hour at 256 Hz


@dataclass(frozen=True)
class KnownSensor:
    """What is known of a measured modality.

    * ``sampling_rate``: lowest and highest of the recordings, Hz, as measured.
    * ``size``, ``spread``: ranges of root mean square and standard deviation of a window's samples; None where no
      window has enough of them.
    * ``present``: the fraction of windows that have, of the person with the fewest.
    """

    units: tuple[str, ...]
    sampling_rate: Interval
    channels: tuple[str, ...]
    size: Interval | None
    spread: Interval | None
    present: float


@dataclass(frozen=True)
class KnownFeatures:
    """The scaled features of one sensor: centre and scale of each, the lower triangle of their shrunk correlation.

    ``border`` is the Mahalanobis distance that counts as 1.
    """

    names: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    correlation: tuple[tuple[float, ...], ...]
    border: float

    def __post_init__(self) -> None:
        n = len(self.names)
        sizes = {len(self.centre), len(self.scale), len(self.correlation)}
        if sizes != {n} or [len(row) for row in self.correlation] != list(range(1, n + 1)) or not self.border > 0:
            raise ValueError("the known features are damaged")

    def distances(self, values: FloatArray) -> FloatArray:
        """Return the distance of each window, (n_windows,), from its scaled features, (n_windows, n_features).

        NaN where none is defined. What is missing adds nothing: the rest has the distance of the whole whose missing
        part is as expected from the rest.
        """
        correlation = np.zeros((len(self.names), len(self.names)))
        for place, row in enumerate(self.correlation):
            correlation[place, : place + 1] = correlation[: place + 1, place] = row
        scaled = (values - np.array(self.centre)) / np.array(self.scale)
        distances = np.full(len(values), np.nan)
        patterns, pattern = np.unique(np.isfinite(scaled), axis=0, return_inverse=True)
        for number, is_known in enumerate(patterns):
            if is_known.any():
                rows = np.flatnonzero(pattern.reshape(-1) == number)
                part = scaled[np.ix_(rows, is_known)]
                solved = np.linalg.solve(correlation[np.ix_(is_known, is_known)], part.T).T
                distances[rows] = np.sqrt(np.maximum((part * solved).sum(axis=1), 0.0)) / self.border
        return distances


@dataclass(frozen=True)
class KnownInputs:
    """What inputs a model knows.

    * ``sensors``: measured modalities.
    * ``features``: the range of each, unscaled.
    * ``distances``: the features of each sensor in the space of the distance.
    * ``usual``: the fraction of a person's windows beyond the border that 19 of 20 people left out do not exceed, at
      least 5 %.
    * ``fingerprints``: hashes of samples, by recording in no order.
    """

    n_people: Count
    n_windows: Count
    sensors: Mapping[str, KnownSensor]
    features: Mapping[str, Interval]
    distances: Mapping[str, KnownFeatures]
    usual: float
    fingerprints: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> set[str]:
        """Return the features that are known."""
        return {*self.features, *(name for known in self.distances.values() for name in known.names)}

    def distances_by_sensor(self, scaled: FloatArray, names: Sequence[str]) -> dict[str, FloatArray]:
        """Return the distances of windows by sensor from their scaled features, (n_windows, n_features).

        1 is the border; NaN where a window has no feature of the sensor.
        """
        column = {name: place for place, name in enumerate(names)}
        return {
            sensor: known.distances(scaled[:, [column[name] for name in known.names]])
            for sensor, known in self.distances.items()
        }

    def is_copy(self, blocks: Collection[bytes]) -> bool:
        """Return whether a recording, given as :func:`blocks_of`, holds samples of one that the model was fitted to."""
        hashes = {_hash(block) for block in blocks}
        return any(
            len(hashes.intersection(known)) >= min(_LEAST_SHARED, len(known)) for known in self.fingerprints if known
        )


def learn_known_inputs(
    inputs: WindowInputs, population: TrainingStatistics, modalities: Collection[str]
) -> KnownInputs:
    """Return what a model knows that was fitted to all windows of a table, scaled with ``population``.

    ``modalities`` are the measured ones that it reads. Of one person, stretches of time stand for people.
    """
    windows = inputs.windows
    people = windows.subject if len(windows.subjects) > 1 else _stretches(len(windows))
    used = [int(index) for index in np.unique(windows.recording)]
    raw = windows.raw_features()
    distances, usual = _learn_distances(inputs, population, people)
    known = [place for place, name in enumerate(windows.feature_names) if name in population.features]
    ranges = {windows.feature_names[k]: _range(raw[:, k], people, is_positive=False) for k in known}
    return KnownInputs(
        n_people=len(windows.subjects),
        n_windows=len(windows),
        sensors=_known_sensors(windows, people, modalities),
        features={name: interval for name, interval in ranges.items() if interval is not None},
        distances=distances,
        usual=usual,
        fingerprints=tuple(sorted(_fingerprint(windows.recordings[i], len(used)) for i in used)),
    )


def _stretches(n_windows: int) -> NDArray[np.str_]:
    """Return which of a few consecutive stretches each window of one person lies in."""
    return np.array([str(k * _N_FOLDS // max(n_windows, 1)) for k in range(n_windows)], dtype=np.str_)


def _fingerprint(recording: WindowedRecording, n_recordings: int) -> tuple[str, ...]:
    n_hashes = max(_LEAST_SHARED * 2, min(_HASHES, _MOST_HASHES // n_recordings))
    return tuple(sorted(_hash(block) for block in blocks_of(recording))[:n_hashes])


def _hash(block: bytes) -> str:
    return block[:_HASH_BYTES].hex()


def window_sizes(recording: WindowedRecording, onset: FloatArray, length: float) -> dict[str, tuple[FloatArray, ...]]:
    """Return root mean square and standard deviation of the windows' samples, by measured signal: (n_windows,) each.

    Over all channels, the standard deviation about each channel's mean; NaN where too few samples are real.
    """
    return {s.name: _sizes(recording, s, onset, length) for s in recording.signals if not s.derived_from}


def _sizes(
    recording: WindowedRecording, signal: StoredSignal, onset: FloatArray, length: float
) -> tuple[FloatArray, FloatArray]:
    first = np.rint((onset - signal.start_seconds) * signal.sampling_rate).astype(np.int64)
    ends = [np.clip(first + k, 0, signal.n_samples) for k in (0, round(length * signal.sampling_rate))]
    counts, squares, about_mean = (np.zeros(len(onset)) for _ in range(3))
    for rows in _neighbours(*ends):
        begin, end = int(ends[0][rows].min()), int(ends[1][rows].max())
        within = [edges[rows] - begin for edges in ends]
        samples, mask = recording.read(signal.name, begin, end)
        for channel in range(signal.n_channels):
            is_real = np.asarray(mask[channel], dtype=bool)
            values = np.where(is_real, np.asarray(samples[channel], dtype=np.float64), 0.0)
            n, total, square = (_between(column, *within) for column in (is_real.astype(np.float64), values, values**2))
            counts[rows], squares[rows] = counts[rows] + n, squares[rows] + square
            about_mean[rows] += square - np.divide(total**2, n, out=np.zeros(len(n)), where=n > 0)
        give_back_pages(samples)
        give_back_pages(mask)
    least = _LEAST_REAL * length * signal.sampling_rate * signal.n_channels
    is_enough = counts >= max(least, 1.0)

    def root(sums: FloatArray) -> FloatArray:
        mean = np.divide(np.maximum(sums, 0.0), counts, out=np.full(len(sums), np.nan), where=is_enough)
        return np.asarray(np.sqrt(mean), dtype=np.float64)

    return root(squares), root(about_mean)


def _neighbours(start: IntArray, stop: IntArray) -> Iterator[IntArray]:
    """Give the rows of windows that lie beside one another, so many that a day's samples are never read at once."""
    rows = np.argsort(start, kind="stable")
    first = 0
    while first < len(rows):
        last = int(np.searchsorted(start[rows], start[rows[first]] + _SAMPLES_AT_ONCE, side="right"))
        yield rows[first:last]
        first = last


def _between(values: FloatArray, start: IntArray, stop: IntArray) -> FloatArray:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(sums[stop] - sums[start], dtype=np.float64)


def _known_sensors(
    windows: WindowTable, people: NDArray[np.str_], modalities: Collection[str]
) -> dict[str, KnownSensor]:
    """Return what is known of each measured modality."""
    signals: dict[str, list[StoredSignal]] = {}
    sizes: dict[str, list[tuple[FloatArray, FloatArray, NDArray[np.str_]]]] = {}
    for index in np.unique(windows.recording):
        recording, rows = windows.recordings[index], np.flatnonzero(windows.recording == index)
        of_signal = window_sizes(recording, windows.onset[rows], windows.length_seconds)
        for signal in recording.signals:
            if not signal.derived_from and signal.modality in modalities:
                signals.setdefault(signal.modality, []).append(signal)
                size, spread = of_signal[signal.name]
                sizes.setdefault(signal.modality, []).append((size, spread, people[rows]))
    sensors: dict[str, KnownSensor] = {}
    for modality, of_modality in sorted(signals.items()):
        size, spread, owner = (np.concatenate(parts) for parts in zip(*sizes[modality], strict=True))
        rates = [signal.native_sampling_rate for signal in of_modality]
        sensors[modality] = KnownSensor(
            units=tuple(sorted({signal.unit for signal in of_modality})),
            sampling_rate=(_rounded(min(rates)), _rounded(max(rates))),
            channels=tuple(sorted({channel.name for signal in of_modality for channel in signal.channels})),
            size=_range(size, owner, is_positive=True),
            spread=_range(spread, owner, is_positive=True),
            present=_rounded(min(float(np.isfinite(size[owner == person]).mean()) for person in np.unique(owner))),
        )
    return sensors


def _range(values: FloatArray, people: NDArray[np.str_], *, is_positive: bool) -> Interval | None:
    """Return the range of a number that people have; None where nobody has it."""
    lowest, highest = [], []
    for person in np.unique(people):
        theirs = values[(people == person) & np.isfinite(values)]
        if len(theirs):
            low, high = np.quantile(theirs, [_LOWEST, _HIGHEST])
            lowest.append(float(low))
            highest.append(float(high))
    if not lowest:
        return None
    if not is_positive:
        return _rounded(min(lowest) - float(np.std(lowest))), _rounded(max(highest) + float(np.std(highest)))
    least = min(lowest)
    low = least * float(np.exp(-np.std(np.log(lowest)))) if least > 0 else 0.0
    above_0 = [value for value in highest if value > 0]
    return _rounded(low), _rounded(max(highest) * float(np.exp(np.std(np.log(above_0)))) if above_0 else 0.0)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _learn_distances(
    inputs: WindowInputs, population: TrainingStatistics, people: NDArray[np.str_]
) -> tuple[dict[str, KnownFeatures], float]:
    """Return the features of each sensor with their borders, and the fraction of a person's windows that is usual."""
    names, scaled = inputs.windows.feature_names, inputs.features(population)
    columns = _columns_by_sensor(scaled, names, population)
    folds = np.unique(people, return_inverse=True)[1].reshape(-1) % min(_N_FOLDS, len(np.unique(people)))
    is_of_several = len(inputs.windows.subjects) > 1
    left_out = {sensor: np.full(len(scaled), np.nan) for sensor in columns}
    for fold in np.unique(folds):
        is_out = folds == fold
        others = {str(subject) for subject in inputs.windows.subject[~is_out]}
        values = inputs.features(inputs.fit(others)) if is_of_several else scaled
        for sensor, chosen in columns.items():
            known = _learn_features(values[np.ix_(~is_out, chosen)], [names[k] for k in chosen])
            if known is not None:
                at = [names.index(name) for name in known.names]
                left_out[sensor][is_out] = known.distances(values[np.ix_(is_out, at)])
    weights = 1.0 / np.unique(people, return_counts=True)[1][np.unique(people, return_inverse=True)[1].reshape(-1)]
    borders = {sensor: _quantile(values, weights, 1 - UNLIKE_FRACTION) for sensor, values in left_out.items()}
    relative = {sensor: left_out[sensor] / border for sensor, border in borders.items() if border > 0}
    largest = largest_of(relative, len(scaled))
    of_largest = _quantile(largest, weights, 1 - UNLIKE_FRACTION)
    distances = {}
    for sensor in relative:
        known = _learn_features(scaled[:, columns[sensor]], [names[k] for k in columns[sensor]])
        if known is not None and of_largest > 0:
            distances[sensor] = KnownFeatures(
                known.names, known.centre, known.scale, known.correlation, _rounded(borders[sensor] * of_largest)
            )
    is_beyond = np.nan_to_num(largest) > of_largest
    per_person = [float(is_beyond[people == person].mean()) for person in np.unique(people)]
    return distances, _rounded(max(_LEAST_USUAL, float(np.quantile(per_person, _USUAL_QUANTILE))))


def largest_of(by_sensor: Mapping[str, FloatArray], n_windows: int) -> FloatArray:
    """Return the largest distance of each window over the sensors, (n_windows,); NaN where it has none."""
    largest = np.full(n_windows, np.nan)
    for values in by_sensor.values():
        largest = np.fmax(largest, values)
    return largest


def _columns_by_sensor(
    scaled: FloatArray, names: Sequence[str], population: TrainingStatistics
) -> dict[str, list[int]]:
    """Return the features that the distance reads, by what stands before the "/" of their names."""
    columns: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        values = scaled[:, place]
        if name in population.features and np.isfinite(values).mean() >= _LEAST_KNOWN:
            columns.setdefault(name.split("/")[0], []).append(place)
    return columns


def _learn_features(values: FloatArray, names: Sequence[str]) -> KnownFeatures | None:
    """Return centre, scale and shrunk correlation of features, (n_windows, n_features); None where none of them varies.

    What is missing is set to the mean, and correlations are divided by what that takes from the variances.
    """
    from sklearn.covariance import ledoit_wolf

    is_real = np.isfinite(values)
    count = is_real.sum(axis=0)
    filled = np.where(is_real, values, 0.0)
    centre = filled.sum(axis=0) / np.maximum(count, 1)
    scale = np.sqrt((np.where(is_real, values - centre, 0.0) ** 2).sum(axis=0) / np.maximum(count, 1))
    varies = np.flatnonzero((scale > 1e-6) & (count > 2))
    if not len(varies):
        return None
    standard = np.where(is_real, (filled - centre) / np.where(scale > 0, scale, 1.0), 0.0)[:, varies]
    covariance = ledoit_wolf(standard[is_real[:, varies].any(axis=1)], assume_centered=True)[0]
    deviation = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(deviation, deviation)
    return KnownFeatures(
        names=tuple(names[k] for k in varies.tolist()),
        centre=tuple(_rounded(value) for value in centre[varies]),
        scale=tuple(_rounded(value) for value in scale[varies]),
        correlation=tuple(tuple(_rounded(v) for v in row[: k + 1]) for k, row in enumerate(correlation)),
        border=1.0,
    )


def _quantile(values: FloatArray, weights: FloatArray, fraction: float) -> float:
    """Return the smallest value with at least this fraction of the weights at or below it; 0 where there is none."""
    is_real = np.isfinite(values)
    if not is_real.any():
        return 0.0
    order = np.argsort(values[is_real], kind="stable")
    mass = np.cumsum(weights[is_real][order])
    place = int(np.searchsorted(mass, fraction * mass[-1] * (1 - 1e-12)))
    return float(values[is_real][order][min(place, len(order) - 1)])
