"""The full set of heart rate variability: every further measure of ``neurokit2.hrv``, from accepted intervals.

What :mod:`biopercept.preprocessing.variability` measures keeps its definition, and its fractions and ratios here are of
those values. The rest is neurokit2's, with these differences, as its functions do not look at gaps or durations:

- SDANN and SDNNI are of minutes of the clock: neurokit2 pushes the intervals together over gaps.
- Powers are ms^2, of the one spectrum that HRV_LF and HRV_HF are of: ``neurokit2.hrv`` divides them by the highest.
- The plane of each interval against the next leaves out pairs that do not follow each other by our own beats, whose
  times a device may have rounded by more than the 10 ms that neurokit2 allows.
- Whatever a row is too short for, or has too many beats missing for, is missing. It is missing too where errors of the
  beats' times would inflate what it rests on (HRV_RMSSD or HRV_SDNN is missing then).

References
----------
Makowski et al. (2021), doi:10.3758/s13428-020-01516-y, and Pham et al. (2021), doi:10.3390/s21123998 (neurokit2's
measures); Task Force of the ESC and NASPE (1996), doi:10.1161/01.CIR.93.5.1043 (20 minutes for histograms, a day for
ULF); Shaffer & Ginsberg (2017), doi:10.3389/fpubh.2017.00258 (five minutes for VLF and non-linear measures); Yentes et
al. (2013), doi:10.1007/s10439-012-0668-3 (200 values for entropies).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from biopercept.preprocessing.cardiac import Beats
from biopercept.preprocessing.variability import HF_HZ, LF_HZ, band_powers
from biopercept.recording import FloatArray

SHORT_TERM_SECONDS = 300.0
"""From this length on a row has the non-linear measures, VLF and total power."""

MOST_INTERVALS = 2000
"""Above this number the non-linear measures of sequences are missing: their time grows with its square, to minutes."""

_HISTOGRAM_SECONDS = 1200.0
_DAY_SECONDS = 86_400.0
_MIN_COVERAGE = 0.5
_MIN_SEQUENCE_COVERAGE = 0.95  # of a sequence that is read as if nothing were missing in it
_MIN_SEQUENCE_INTERVALS = 200
_MIN_SEGMENTS = 3
_MIN_SEGMENT_COVERAGE = 0.5
_EDGE_SECONDS = 1e-6
_ULF_HZ, _VLF_HZ, _VHF_HZ = (0.0, 0.0033), (0.0033, 0.04), (0.40, 0.50)

_MEAN, _SD, _DIFFERENCES = ("HRV_MeanNN",), ("HRV_SDNN",), ("HRV_RMSSD",)
_BOTH, _LOW, _HIGH, _POWERS = (*_SD, *_DIFFERENCES), ("HRV_LF",), ("HRV_HF",), ("HRV_LF", "HRV_HF")


@dataclass(frozen=True)
class VariabilityMeasure:
    """What a measure is; ``needs`` are the measures without which it is missing, ``seconds`` the shortest row."""

    unit: str
    definition: str
    needs: tuple[str, ...]
    seconds: float = 0.0
    lowest: float | None = 0.0
    highest: float | None = None


def _time_measures() -> dict[str, VariabilityMeasure]:
    one = VariabilityMeasure
    nn = "accepted intervals"
    table = {
        "HRV_SDSD": one("ms", "standard deviation of successive differences (n - 1)", _DIFFERENCES),
        "HRV_CVNN": one("ratio", "HRV_SDNN by HRV_MeanNN", _SD),
        "HRV_CVSD": one("ratio", "HRV_RMSSD by HRV_MeanNN", _DIFFERENCES),
        "HRV_SDRMSSD": one("ratio", "HRV_SDNN by HRV_RMSSD", _BOTH),
        "HRV_pNN20": one("%", "successive differences of intervals above 20 ms", _DIFFERENCES, highest=100.0),
        "HRV_MedianNN": one("ms", f"median of the {nn}", _MEAN, lowest=250.0, highest=2400.0),
        "HRV_MadNN": one("ms", f"median absolute deviation of the {nn}, times 1.4826", _SD),
        "HRV_MCVNN": one("ratio", "HRV_MadNN by HRV_MedianNN", _SD),
        "HRV_IQRNN": one("ms", f"distance between the quartiles of the {nn}", _SD),
        "HRV_Prc20NN": one("ms", f"20th percentile of the {nn}", _SD, lowest=250.0, highest=2400.0),
        "HRV_Prc80NN": one("ms", f"80th percentile of the {nn}", _SD, lowest=250.0, highest=2400.0),
        "HRV_MinNN": one("ms", "shortest accepted interval", _SD, lowest=250.0, highest=2400.0),
        "HRV_MaxNN": one("ms", "longest accepted interval", _SD, lowest=250.0, highest=2400.0),
        "HRV_HTI": one(
            "ratio", "intervals by those in the fullest 1/128 s of their histogram", _SD, _HISTOGRAM_SECONDS
        ),
        "HRV_TINN": one("ms", "base of the triangle fitted to the intervals' histogram", _SD, _HISTOGRAM_SECONDS),
    }
    for minutes in (1, 2, 5):
        shortest = _MIN_SEGMENTS * 60.0 * minutes
        of = f"of the intervals of {minutes} min each"
        table |= {
            f"HRV_SDANN{minutes}": one("ms", f"standard deviation (n - 1) of the means {of}", _SD, shortest),
            f"HRV_SDNNI{minutes}": one("ms", f"mean of the standard deviations (n - 1) {of}", _SD, shortest),
        }
    return table


def _spectrum_measures() -> dict[str, VariabilityMeasure]:
    one = VariabilityMeasure
    of = "of HRV_ULF (where known), VLF, LF, HF and VHF"
    return {
        "HRV_ULF": one("ms^2", "power of the intervals below 0.0033 Hz", _LOW, _DAY_SECONDS),
        "HRV_VLF": one("ms^2", "power of the intervals in 0.0033-0.04 Hz", _LOW, SHORT_TERM_SECONDS),
        "HRV_VHF": one("ms^2", "power of the intervals in 0.40-0.50 Hz", _HIGH),
        "HRV_TP": one("ms^2", f"total power: the sum {of}", _POWERS, SHORT_TERM_SECONDS),
        "HRV_LFn": one("fraction", "HRV_LF by HRV_TP", _POWERS, SHORT_TERM_SECONDS, highest=1.0),
        "HRV_HFn": one("fraction", "HRV_HF by HRV_TP", _POWERS, SHORT_TERM_SECONDS, highest=1.0),
        "HRV_LnHF": one("log ms^2", "natural logarithm of HRV_HF", _HIGH, lowest=None),
    }


def _plane_measures() -> dict[str, VariabilityMeasure]:
    def one(unit: str, definition: str, lowest: float | None = 0.0) -> VariabilityMeasure:
        return VariabilityMeasure(unit, definition, _BOTH, SHORT_TERM_SECONDS, lowest)

    return {
        "HRV_SD1": one("ms", "spread of each interval against the next, across the line of equal ones"),
        "HRV_SD2": one("ms", "spread of each interval against the next, along the line of equal ones"),
        "HRV_SD1SD2": one("ratio", "HRV_SD1 by HRV_SD2"),
        "HRV_S": one("ms^2", "area of the ellipse: pi times HRV_SD1 times HRV_SD2"),
        "HRV_CSI": one("ratio", "cardiac sympathetic index: HRV_SD2 by HRV_SD1"),
        "HRV_CVI": one("log10 ms^2", "cardiac vagal index: log10 of 16 times HRV_SD1 times HRV_SD2", None),
        "HRV_CSI_Modified": one("ms", "4 times HRV_SD2 squared, by HRV_SD1"),
    }


_HALVES = {"d": "decelerations", "a": "accelerations"}
_SINGULARITIES = {
    "Width": "width",
    "Peak": "exponent at the highest point",
    "Mean": "mean of the smallest and largest exponent",
    "Max": "height at the largest exponent",
    "Delta": "difference in height between the two ends",
    "Asymmetry": "asymmetry",
    "Fluctuation": "fluctuation",
    "Increment": "mean of the squared steps",
}
_ENTROPIES = {
    "ApEn": "approximate entropy, two intervals, tolerance 0.2 standard deviations",
    "SampEn": "sample entropy, two intervals, tolerance 0.2 standard deviations",
    "ShanEn": "Shannon entropy of the intervals' values, bits",
    "FuzzyEn": "fuzzy entropy, two intervals, tolerance 0.2 standard deviations",
    "MSEn": "multiscale sample entropy",
    "CMSEn": "composite multiscale sample entropy",
    "RCMSEn": "refined composite multiscale sample entropy",
    "CD": "correlation dimension, two intervals",
    "HFD": "Higuchi's fractal dimension, up to 10 intervals",
    "KFD": "Katz's fractal dimension",
    "LZC": "Lempel-Ziv complexity of the intervals, above and below their mean",
}
_WORDS = {
    "0V": "that do not vary",
    "1V": "of one change",
    "2LV": "of two changes the same way",
    "2UV": "of two changes to and fro",
}


def _sequence_measures() -> dict[str, VariabilityMeasure]:
    def one(unit: str, definition: str, lowest: float | None = 0.0, highest: float | None = None) -> VariabilityMeasure:
        return VariabilityMeasure(unit, definition, _BOTH, SHORT_TERM_SECONDS, lowest, highest)

    table = {
        "HRV_PIP": one("fraction", "intervals at which the heart turns from slowing to quickening or back", 0.0, 1.0),
        "HRV_IALS": one("1/intervals", "inverse of the mean length of stretches of slowing or quickening", 0.0, 1.0),
        "HRV_PSS": one("fraction", "stretches of slowing or quickening shorter than three intervals", 0.0, 1.0),
        "HRV_PAS": one("fraction", "stretches of at least four intervals that alternate", 0.0, 1.0),
        "HRV_GI": one("%", "Guzik's index of asymmetry: distance of decelerations from the line", 0.0, 100.0),
        "HRV_SI": one("%", "slope index of asymmetry: angle of decelerations to the line", 0.0, 100.0),
        "HRV_AI": one("%", "area index of asymmetry: sectors of decelerations", 0.0, 100.0),
        "HRV_PI": one("%", "Porta's index of asymmetry: accelerations among all changes", 0.0, 100.0),
    }
    for letter, half in _HALVES.items():
        table |= {
            f"HRV_C1{letter}": one("fraction", f"part of {half} in the short-term variance", 0.0, 1.0),
            f"HRV_SD1{letter}": one("ms", f"short-term spread of {half}"),
            f"HRV_C2{letter}": one("fraction", f"part of {half} in the long-term variance", 0.0, 1.0),
            f"HRV_SD2{letter}": one("ms", f"long-term spread of {half}"),
            f"HRV_C{letter}": one("fraction", f"part of {half} in the whole variance", 0.0, 1.0),
            f"HRV_SDNN{letter}": one("ms", f"whole spread of {half}"),
        }
    for name, over in (("alpha1", "4 to 11 intervals"), ("alpha2", "12 intervals to a tenth of them")):
        table[f"HRV_DFA_{name}"] = one("exponent", f"detrended fluctuation analysis over {over}", None)
        for suffix, words in _SINGULARITIES.items():
            what = f"{words} of the singularity spectrum, multifractal detrended fluctuation analysis over {over}"
            table[f"HRV_MFDFA_{name}_{suffix}"] = one("exponent", what, None)
    table |= {f"HRV_{name}": one("number", words, None) for name, words in _ENTROPIES.items()}
    for name, words in _WORDS.items():
        what = f"words of three intervals {words}, in four equally frequent classes"
        table[f"HRV_Symbolic_EqualProb4_{name}"] = one("fraction", what, 0.0, 1.0)
    return table


_TIME, _SPECTRUM, _PLANE = _time_measures(), _spectrum_measures(), _plane_measures()
_SEQUENCES = _sequence_measures()
VARIABILITY = {**_TIME, **_SPECTRUM, **_PLANE, **_SEQUENCES}
"""Every measure of this module by its column's name, in the order of the columns."""


@dataclass(frozen=True, eq=False)
class _Row:
    """Accepted intervals of one row, ms, with the ends of each, s; differences of those that follow each other, ms."""

    times: FloatArray
    intervals: FloatArray
    differences: FloatArray
    basic: dict[str, float]

    def has(self, name: str, length_seconds: float) -> bool:
        """Return whether a measure may be given of a row of this length."""
        measure = VARIABILITY[name]
        is_known = all(np.isfinite(self.basic[name]) for name in measure.needs)
        return is_known and length_seconds >= measure.seconds - _EDGE_SECONDS


def heart_variability(
    beats: Beats, onset: FloatArray, length: float, basic: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Return every measure of :data:`VARIABILITY` of stretches of one length, NaN where it cannot be borne.

    ``basic`` are HRV_MeanNN, SDNN, RMSSD, LF, HF and Coverage of the same stretches. A row of which intervals cover
    less than half has none; one of which they cover less than 95 %, or that has fewer than 200 or more than
    :data:`MOST_INTERVALS`, has no measure of sequences.
    """
    out = {name: np.full(len(onset), np.nan) for name in VARIABILITY}
    first, last = np.searchsorted(beats.times, onset), np.searchsorted(beats.times, onset + length)
    differences = 1000.0 * beats.successive_differences
    for number, (low, high) in enumerate(zip(first, last, strict=True)):
        if not basic["HRV_Coverage"][number] >= _MIN_COVERAGE:
            continue
        is_used = np.isfinite(beats.intervals[low:high])
        row = _Row(
            beats.times[low:high][is_used],
            1000.0 * beats.intervals[low:high][is_used],
            differences[low:high][is_used],
            {name: float(values[number]) for name, values in basic.items()},
        )
        for name, value in _of_row(row, float(onset[number]), length).items():
            out[name][number] = value if row.has(name, length) and np.isfinite(value) else np.nan
    return out


def _of_row(row: _Row, onset: float, length: float) -> dict[str, float]:
    """Return what can be computed of a row, whether or not the row bears it."""
    values: dict[str, float] = {}
    if row.has("HRV_MedianNN", length):
        values |= _of_time(row, onset, length)
    if row.has("HRV_LnHF", length) or row.has("HRV_VLF", length):
        values |= _of_spectrum(row, length)
    if row.has("HRV_SD1", length):
        values |= _of_plane(row)
        n = len(row.intervals)
        if row.basic["HRV_Coverage"] >= _MIN_SEQUENCE_COVERAGE and _MIN_SEQUENCE_INTERVALS <= n <= MOST_INTERVALS:
            values |= _of_sequence(row)
    return values


def _of_time(row: _Row, onset: float, length: float) -> dict[str, float]:
    import neurokit2 as nk

    steps = row.differences[np.isfinite(row.differences)]
    theirs = _measured_by(nk.hrv_time, row)
    median = theirs.get("HRV_MedianNN", np.nan)
    values = {
        **{name: value for name, value in theirs.items() if name in _TIME},
        "HRV_CVNN": _ratio(row.basic["HRV_SDNN"], row.basic["HRV_MeanNN"]),
        "HRV_CVSD": _ratio(row.basic["HRV_RMSSD"], row.basic["HRV_MeanNN"]),
        "HRV_SDRMSSD": _ratio(row.basic["HRV_SDNN"], row.basic["HRV_RMSSD"]),
        "HRV_MCVNN": _ratio(theirs.get("HRV_MadNN", np.nan), median),
    }
    if len(steps) > 1:
        values |= {
            "HRV_SDSD": float(np.std(steps, ddof=1)),
            "HRV_pNN20": 100.0 * float(np.mean(np.abs(steps) > 20.0)),
        }
    for minutes in (1, 2, 5):
        values |= _of_segments(row, onset, length, minutes)
    return values


def _ratio(above: float, below: float) -> float:
    return above / below if below else np.nan


def _of_segments(row: _Row, onset: float, length: float, minutes: int) -> dict[str, float]:
    """Return SDANN and SDNNI over the whole segments of the clock of which intervals cover at least half."""
    seconds = 60.0 * minutes
    place = np.floor((row.times - onset) / seconds + _EDGE_SECONDS).astype(np.int64)
    segments = [row.intervals[place == n] for n in range(int((length + _EDGE_SECONDS) // seconds))]
    known = [s for s in segments if len(s) > 1 and s.sum() / 1000.0 >= _MIN_SEGMENT_COVERAGE * seconds]
    if len(known) < _MIN_SEGMENTS:
        return {}
    return {
        f"HRV_SDANN{minutes}": float(np.std([s.mean() for s in known], ddof=1)),
        f"HRV_SDNNI{minutes}": float(np.mean([s.std(ddof=1) for s in known])),
    }


def _of_spectrum(row: _Row, length: float) -> dict[str, float]:
    bands = (_ULF_HZ, _VLF_HZ, LF_HZ, HF_HZ, _VHF_HZ)
    ulf, vlf, low, high, vhf = band_powers(row.times, row.intervals, bands)
    total = vlf + low + high + vhf + (ulf if length >= _DAY_SECONDS else 0.0)
    return {
        "HRV_ULF": ulf,
        "HRV_VLF": vlf,
        "HRV_VHF": vhf,
        "HRV_TP": total,
        "HRV_LFn": low / total if total > 0 else np.nan,
        "HRV_HFn": high / total if total > 0 else np.nan,
        "HRV_LnHF": float(np.log(high)) if high > 0 else np.nan,
    }


def plane_spread(after: FloatArray, step: FloatArray) -> tuple[float, float]:
    """Return SD1 across and SD2 along the line of equal intervals, of intervals and what they differ by from the last.

    Brennan et al. (2001), doi:10.1109/10.959330, with n - 1; NaN with fewer than two.
    """
    if len(after) < 2:
        return np.nan, np.nan
    across, along = (float(np.std(row, ddof=1) / np.sqrt(2.0)) for row in (step, 2.0 * after - step))
    return across, along


def _of_plane(row: _Row) -> dict[str, float]:
    """Return the measures of each interval against the next, of those that follow each other."""
    follows = np.isfinite(row.differences)
    short, long = plane_spread(row.intervals[follows], row.differences[follows])
    values = {"HRV_SD1": short, "HRV_SD2": long, "HRV_S": np.pi * short * long}
    if short > 0 and long > 0:
        values |= {
            "HRV_SD1SD2": short / long,
            "HRV_CSI": long / short,
            "HRV_CVI": float(np.log10(16.0 * short * long)),
            "HRV_CSI_Modified": 4.0 * long**2 / short,
        }
    return values


def _of_sequence(row: _Row) -> dict[str, float]:
    import neurokit2 as nk

    values = _measured_by(nk.hrv_nonlinear, row)
    return {name: value for name, value in values.items() if name in _SEQUENCES}


def _as_neurokit_reads(row: _Row) -> dict[str, FloatArray]:
    """Return intervals with times at which neurokit2 sees the same neighbours as we do.

    It takes two intervals for neighbours where their times lie as far apart as the second is long, within 10 ms; those
    of a device may not, though no beat is missing between them.
    """
    pause = np.where(np.isfinite(row.differences), 0.0, 1.0)
    return {"RRI": row.intervals, "RRI_Time": np.cumsum(row.intervals / 1000.0 + pause)}


def _measured_by(function: Callable[[dict[str, FloatArray]], Any], row: _Row) -> dict[str, float]:
    """Return what a function of neurokit2 gives by name; nothing where it stumbles over intervals that hardly vary."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            table = function(_as_neurokit_reads(row))
        except (ValueError, IndexError, ArithmeticError, np.linalg.LinAlgError):
            return {}
    return {str(name): float(value) for name, value in table.iloc[0].items()}
