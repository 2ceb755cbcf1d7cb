"""The page of heart values: worst errors of the grid, noise, spectra, and R-peaks of annotated recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from biopercept.preprocessing.cardiac import bvp_beats
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.variability import NAMES, interval_features
from biopercept.recording import Signal
from measurements.annotated_hearts import Agreement, agreements
from measurements.hearts import (
    DIFFICULTIES,
    HEART_RATES,
    MEASURES,
    SAMPLING_RATES,
    TITLES,
    Outcome,
    given_values,
    grid,
    true_values,
)
from measurements.planted_hearts import Samples, pulse_of, regular_heart

Grid = Mapping[tuple[str, int, int], Outcome]
_PULSE_NOISE = (1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0)
_SPECTRUM_RATES = (50, 60, 70, 80, 90, 100)
_BREATHING_HZ = (0.20, 0.25, 0.30)
_FOLLOWED = "Written by `make measurements`; the code is `docs/measurements`."

_INTRODUCTION = f"""# Heart values beside planted and annotated beats

{_FOLLOWED} Every number is an error against beats that
are known: planted in made signals, or annotated in real ones.

## Made hearts

An ECG (P to T waves that move with the rate, wander of breathing, white noise), a pulse wave (systolic and diastolic
wave) or the intervals of a device (on a clock of 64 Hz), two minutes of each heart unless stated. Intervals swing by
4 % with breathing and by 2 % at 0.1 Hz. Each entry is **mean NN / SDNN / RMSSD**: the largest error over the cells in
percent of the planted value, as `prepare` gives it for a window of the whole length. A value that is not given (too few
intervals, or beats whose times are too uncertain) is no error; where none of the cells gives one the entry is a dash.
A made wave repeats itself as no heart's does: the tables show that nothing is wrong by method, not what a wrist gives.
"""


def page(records: Path | None) -> str:
    """Return the whole page as Markdown; minutes. ``records`` is a folder of annotated WFDB records."""
    parts = [_INTRODUCTION]
    for modality, title in TITLES.items():
        outcomes = grid(modality)
        parts.append(f"### {title}\n")
        parts.append(_by_rate(outcomes, SAMPLING_RATES[modality]))
        parts.append(_by_difficulty(outcomes))
    parts += [_noise_section(), _spectrum_section(), _records_section(records)]
    return "\n".join(parts).rstrip() + "\n"


def _by_rate(outcomes: Grid, sampling_rates: Sequence[int]) -> str:
    """Return the worst errors at every heart rate and sampling rate, over all difficulties."""
    header = ["beats a minute", *(f"{rate} Hz" for rate in sampling_rates)]
    if len(sampling_rates) == 1:
        header[1] = "worst"
    rows = []
    for heart_rate in HEART_RATES:
        at_rates = [[one for key, one in outcomes.items() if key[1:] == (heart_rate, rate)] for rate in sampling_rates]
        rows.append([str(heart_rate), *(_worst(some) for some in at_rates)])
    return _table(header, rows)


def _by_difficulty(outcomes: Grid) -> str:
    """Return the worst errors, lost and false beats, and least coverage of each difficulty, over all rates."""
    header = ["difficulty", "NN / SDNN / RMSSD, %", "beats missed, %", "beats that are none, %", "least coverage"]
    rows = []
    for name in DIFFICULTIES:
        some = [one for key, one in outcomes.items() if key[0] == name]
        if some:
            missed, extra = max(one.missed for one in some), max(one.extra for one in some)
            rows.append(
                [name, _worst(some), f"{missed:.1f}", f"{extra:.1f}", f"{min(one.coverage for one in some):.2f}"]
            )
    return _table(header, rows)


def _worst(some: Sequence[Outcome]) -> str:
    """Return the largest error of each measure, a dash where none is given."""
    columns = [[getattr(one, name) for one in some] for name in MEASURES]
    known = [[value for value in column if np.isfinite(value)] for column in columns]
    return " / ".join(f"{max(column):.1f}" if column else "–" for column in known)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def _noise_section() -> str:
    """Return what becomes of RMSSD as a pulse wave sinks into noise."""
    heart = regular_heart(300.0, 65.0, swing=0.02, slow_swing=0.02)
    rows = []
    for noise in _PULSE_NOISE:
        samples = pulse_of(heart, 300.0, 64.0, noise=noise)
        beats, _ = bvp_beats(samples, Signal.from_samples("BVP", "bvp", "a.u.", 64.0, samples), CleaningSettings())
        steps = 1000.0 * beats.successive_differences
        raw = np.sqrt(np.nanmean(steps**2)) if np.isfinite(steps).any() else np.nan
        given, error = given_values(beats, 300.0), 1000.0 * np.sqrt(np.mean(beats.timing_errors**2))
        shown = f"{given['rmssd']:.1f}" if np.isfinite(given["rmssd"]) else "missing"
        rate = 60_000.0 / given["mean_nn"]
        rows.append(
            [f"{2 * noise:.0f} %", f"{error:.1f}", f"{raw:.1f}", shown, f"{rate:.1f}", f"{given['coverage']:.2f}"]
        )
    true = true_values(heart.intervals)
    header = ["noise / height", "error of a beat's time, ms", "RMSSD before the check, ms", "RMSSD given, ms"]
    header += ["heart rate", "coverage"]
    return (
        "## Noise in the pulse wave\n\n"
        "White noise at 64 Hz, five minutes. Each beat's time comes with a standard error, from what its neighbours' "
        "mean shape leaves unexplained; where the errors would inflate RMSSD by more than a tenth, RMSSD, pNN50 and HF "
        f"are missing, while the heart rate stays. Planted: RMSSD {true['rmssd']:.1f} ms, "
        f"{60_000.0 / true['mean_nn']:.1f} beats a minute.\n\n{_table(header, rows)}"
    )


def _spectrum_section() -> str:
    """Return the errors of HF and LF/HF against a cubic spline through the planted intervals."""
    rows = []
    for rate in _SPECTRUM_RATES:
        errors = [spectrum_errors(rate, hertz) for hertz in _BREATHING_HZ]
        rows.append([str(rate), *(f"{hf:+.1f} / {ratio:+.1f}" for hf, ratio in errors)])
    header = ["beats a minute", *(f"breathing at {hertz:.2f} Hz" for hertz in _BREATHING_HZ)]
    return (
        "## HF power and LF/HF\n\n"
        "Five minutes of ECG at 250 Hz; the reference is scipy's cubic spline through the planted intervals, read at "
        "4 Hz, and its Hann periodogram. Errors of HF / of LF/HF in percent.\n\n" + _table(header, rows)
    )


def spectrum_errors(heart_rate: float, breathing_hz: float) -> tuple[float, float]:
    """Return the errors of HF power and of LF/HF, percent, of five minutes of made ECG."""
    from measurements.hearts import Difficulty, beats_of

    heart = regular_heart(300.0, heart_rate, swing=0.05, breathing_hz=breathing_hz, slow_swing=0.03)
    beats = beats_of(heart, "ecg", 250.0, Difficulty(seconds=300.0))
    low, high = reference_powers(heart.times[1:], 1000.0 * np.diff(heart.times))
    row = dict(zip(NAMES, interval_features(beats, np.zeros(1), 300.0)[0], strict=True))
    given_high, given_low = np.exp(row["log_hf"]) - 1.0, np.exp(row["log_lf"]) - 1.0
    return 100.0 * (given_high / high - 1.0), 100.0 * (given_low / given_high / (low / high) - 1.0)


def reference_powers(times: Samples, intervals: Samples) -> tuple[float, float]:
    """Return LF and HF power, ms^2, of intervals in ms: cubic spline at 4 Hz, Hann periodogram, trapezoidal rule."""
    from scipy.interpolate import CubicSpline
    from scipy.signal import periodogram

    even = CubicSpline(times, intervals)(np.arange(times[0], times[-1], 0.25))
    frequency, power = periodogram(even, fs=4.0, window="hann", detrend="linear")
    low, high = (
        float(np.trapezoid(power[inside], frequency[inside]))
        for inside in ((frequency >= a) & (frequency <= b) for a, b in ((0.04, 0.15), (0.15, 0.40)))
    )
    return low, high


def _records_section(records: Path | None) -> str:
    """Return the table of annotated recordings, or that they were not there."""
    title = "## R-peaks of annotated recordings\n\n"
    if records is None:
        return title + "Not measured here: no folder of annotated WFDB records was given (`RECORDS=DIR`).\n"
    header = ["record", "lead", "annotations", "beats", "sensitivity, %", "precision, %", "median distance, ms"]
    return title + _ANNOTATED + _table(header, [_agreement_row(one) for one in agreements(records)])


_ANNOTATED = """A beat found within 75 ms of an annotated one is that beat; the first and last 0.5 s are left out.
Only `atr` are people's annotations; the others are those of detectors that PhysioNet publishes beside the signal
(`qrs`, `gqrsh` by gqrs, `sqrs`), in which an error may be theirs. Records: MIT-BIH Arrhythmia 100 (Moody & Mark 2001)
and MIMIC 03700181, PhysioNet, as the wfdb library carries them.

"""


def _agreement_row(one: Agreement) -> list[str]:
    return [
        one.record,
        one.lead,
        one.annotator,
        str(one.n_annotated),
        f"{100 * one.sensitivity:.2f}",
        f"{100 * one.precision:.2f}",
        f"{1000 * one.median_distance_seconds:.0f}",
    ]
