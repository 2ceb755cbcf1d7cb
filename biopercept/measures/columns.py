"""The dictionary of the columns: what each number is, its unit, what it was measured in, and the values it can take.

Names with a slash are the features that models of this package read, as they read them; the others are the measures
that studies publish, named as NeuroKit2 names them (Makowski et al., 2021, doi:10.3758/s13428-020-01516-y).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from biopercept.measures.variability import VARIABILITY, VariabilityMeasure
from biopercept.preprocessing.eeg import BANDS, REGIONS
from biopercept.preprocessing.features import FEATURE_NAMES

OF_A_ROW = ("participant_id", "session", "recording", "onset", "duration", "label")
"""Columns that say what a row is of; the others are measures."""

OF_A_RECORDING = {
    "participant_id": ("", "subject; of a file by itself its name"),
    "session": ("", "session of the study; empty where it has none"),
    "recording": ("", "recording of the study; of a file by itself its name"),
}
"""Unit and definition of the columns that say which recording a row is of."""


def plainly(columns: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    """Return columns by unit and definition as a dictionary of columns holds them."""
    return {name: {"unit": unit, "definition": words} for name, (unit, words) in columns.items()}


@dataclass(frozen=True)
class Column:
    """What a column of a table holds; ``lowest`` and ``highest`` are None where there is no bound."""

    name: str
    unit: str
    definition: str
    source: str
    lowest: float | None = None
    highest: float | None = None


_BEATS_OR_DEVICE = "beats, else hr"

# series in a feature's name -> what it is, unit, where it comes from, range
_SERIES: dict[str, tuple[str, str, str, float | None, float | None]] = {
    "heart/rate": (
        "heart rate (of beats; of the device's own rate where no beats were accepted)",
        "1/min",
        _BEATS_OR_DEVICE,
        25.0,
        240.0,
    ),
    "heart/variability": ("log of the mean absolute change from beat to beat over 10 s", "log ms", "beats", 0.0, None),
    "heart/pulse_amplitude": ("log of the pulse wave's amplitude", "log a.u.", "bvp", None, None),
    "eda/tonic": ("log of the tonic skin conductance level", "log uS", "eda", None, None),
    "eda/level": ("skin conductance", "uS", "eda", 0.0, 100.0),
    "eda/phasic": ("phasic skin conductance (above 0.05 Hz)", "uS", "eda", None, None),
    "resp/rate": ("breathing rate", "1/min", "breaths", 3.0, 60.0),
    "resp/amplitude": ("log of the breaths' height from trough to peak", "log a.u.", "breaths", None, None),
    "resp/spo2": ("blood oxygen saturation", "%", "spo2", 50.0, 100.0),
    "temp": ("skin temperature", "degC", "temp", 15.0, 45.0),
    "motion/activity": ("log of the movement's size, 0.5-15 Hz", "log g", "acc", None, None),
    "emg/envelope": ("log of muscle activity (root mean square over 0.25 s)", "log mV", "emg", None, None),
}
_SUMMARIES: dict[str, tuple[str, str]] = {
    "mean": ("mean of the {}", "{}"),
    "sd": ("standard deviation of the {}", "{}"),
    "slope": ("least-squares slope of the {}", "{} per minute"),
    "min": ("lowest value of the {}", "{}"),
    "max": ("highest value of the {}", "{}"),
    "log_sd": ("log of the standard deviation of the {}", "log {}"),
    "log_max": ("log of the highest value of the {}", "log {}"),
    "log_roughness": ("log of the mean absolute change of the {} in a quarter of a second", "log {}"),
}
_OTHERS = (
    Column("heart/mean_nn", "ms", "mean accepted interval between beats", "beats", 250.0, 2400.0),
    Column("heart/log_sdnn", "log ms", "log of 1 + SDNN", "beats", 0.0),
    Column("heart/log_rmssd", "log ms", "log of 1 + RMSSD", "beats", 0.0),
    Column("heart/pnn50", "fraction", "fraction of successive differences above 50 ms", "beats", 0.0, 1.0),
    Column("heart/log_lf", "log ms^2", "log of 1 + power of the intervals in 0.04-0.15 Hz", "beats", 0.0),
    Column("heart/log_hf", "log ms^2", "log of 1 + power of the intervals in 0.15-0.40 Hz", "beats", 0.0),
    Column("heart/log_lf_hf", "log ratio", "heart/log_lf less heart/log_hf", "beats"),
    Column("heart/coverage", "fraction", "fraction of the time that accepted intervals cover", "beats", 0.0, 1.0),
    Column("eda/scr_per_minute", "1/min", "skin conductance responses per minute searched", "responses", 0.0),
    Column("eda/scr_log_amplitude", "log uS", "mean of the log of the responses' amplitudes", "responses"),
)
_PUBLISHED = (
    Column("HRV_MeanNN", "ms", "mean accepted interval between beats", "beats", 250.0, 2400.0),
    Column("HRV_SDNN", "ms", "standard deviation of the accepted intervals (n - 1)", "beats", 0.0),
    Column("HRV_RMSSD", "ms", "root mean square of successive differences of intervals", "beats", 0.0),
    Column("HRV_pNN50", "%", "successive differences of intervals above 50 ms", "beats", 0.0, 100.0),
    Column("HRV_LF", "ms^2", "power of the intervals in 0.04-0.15 Hz, of windows of 60 s or more", "beats", 0.0),
    Column("HRV_HF", "ms^2", "power of the intervals in 0.15-0.40 Hz, of windows of 60 s or more", "beats", 0.0),
    Column("HRV_LFHF", "ratio", "HRV_LF by HRV_HF", "beats", 0.0),
    Column("HRV_Beats", "beats", "beats in the row's time", "beats", 0.0),
    Column("HRV_Coverage", "fraction", "fraction of the time that accepted intervals cover", "beats", 0.0, 1.0),
    Column(
        "SCR_Peaks_N", "responses", "skin conductance responses whose peak lies in the row's time", "responses", 0.0
    ),
    Column(
        "SCR_Peaks_Amplitude_Mean", "uS", "mean rise from onset to peak; missing without a response", "responses", 0.0
    ),
    Column("SCR_RiseTime_Mean", "s", "mean time from onset to peak", "responses", 0.25, 10.0),
    Column(
        "SCR_RecoveryTime_Mean", "s", "mean time from the peak to half of the rise lost, where it is", "responses", 0.0
    ),
    Column("SCR_Searched", "s", "time in which responses were looked for", "responses", 0.0),
    Column("RSP_Breaths_N", "breaths", "breaths whose peak lies in the row's time", "breaths", 0.0),
    Column("RSP_Period_Mean", "s", "mean accepted time from breath to breath", "breaths", 1.0, 20.0),
    Column("RSP_Period_SD", "s", "standard deviation of it (n - 1)", "breaths", 0.0),
    Column("RSP_Amplitude_Mean", "a.u.", "mean height of a breath above the trough before", "breaths", 0.0),
)


def _of_variability(name: str, measure: VariabilityMeasure) -> Column:
    words = measure.definition
    if measure.seconds:
        words += f"; of rows of {measure.seconds / 60:g} min or more"
    return Column(name, measure.unit, words, "beats", measure.lowest, measure.highest)


def _of_rate(name: str, what: str, source: str, lowest: float, highest: float) -> tuple[Column, ...]:
    words = f"{what} after the event (to --after)"
    span = highest - lowest
    return (
        Column(f"{name}_Baseline", "1/min", f"{what} at the event's onset", source, lowest, highest),
        Column(f"{name}_Max", "1/min", f"highest {words}, less the baseline", source, -span, span),
        Column(f"{name}_Min", "1/min", f"lowest {words}, less the baseline", source, -span, span),
        Column(f"{name}_Mean", "1/min", f"mean {words}, less the baseline", source, -span, span),
        Column(f"{name}_SD", "1/min", f"standard deviation (n) of the {words}", source, 0.0, span),
        Column(f"{name}_Max_Time", "s", f"from the onset to the highest {words}", source, 0.0),
        Column(f"{name}_Min_Time", "s", f"from the onset to the lowest {words}", source, 0.0),
        Column(f"{name}_Coverage", "fraction", f"time around the event in which the {what} is known", source, 0.0, 1.0),
    )


_AROUND = (
    Column("Other_Events", "events", "other chosen events from --before to --after around this one", "events", 0.0),
    *_of_rate("ECG_Rate", "heart rate (of ECG, pulse wave or device)", _BEATS_OR_DEVICE, 25.0, 240.0),
    *_of_rate("RSP_Rate", "breathing rate", "breaths", 3.0, 60.0),
    Column("EDA_SCR", "0 or 1", "whether a skin response begins 1 to 5 s after the event", "responses", 0.0, 1.0),
    Column("SCR_Peak_Amplitude", "uS", "rise of the first such response; missing without one", "responses", 0.0),
    Column("SCR_Peak_Amplitude_Time", "s", "from the event to the peak of that response", "responses", 1.0),
    Column("SCR_RiseTime", "s", "from onset to peak of that response", "responses", 0.25, 10.0),
    Column(
        "SCR_RecoveryTime", "s", "from its peak to half of the rise lost; missing where it never is", "responses", 0.0
    ),
    Column("SCR_Coverage", "fraction", "part of 1 to 5 s in which responses were looked for", "responses", 0.0, 1.0),
    Column("EEG_Coverage", "fraction", "time around the event in which band power is known", "eeg", 0.0, 1.0),
)
PUBLISHED = tuple(column.name for column in _PUBLISHED)
"""Measures of beats, responses and breaths in the units in which studies publish them."""

SAME_MEASURES = {
    "heart/mean_nn": "HRV_MeanNN",
    "heart/log_sdnn": "HRV_SDNN",
    "heart/log_rmssd": "HRV_RMSSD",
    "heart/pnn50": "HRV_pNN50",
    "heart/log_lf": "HRV_LF",
    "heart/log_hf": "HRV_HF",
    "heart/coverage": "HRV_Coverage",
}
"""What stands in a table twice: the feature that models read, and as it is published.

Where the feature's name has ``log_`` it is the logarithm of 1 + the other; ``pnn50`` is a fraction and the other per
cent; the others are equal.
"""

GROUP_OF_PREFIX = {"HRV": "heart", "SCR": "eda", "RSP": "resp", "EEG": "eeg"}
"""The group of features that a published column belongs to, by what stands before its first underscore."""

EEG_BANDS = {name.removeprefix("eeg_"): band for name, band in BANDS.items()}
"""Bands of power per channel and region, Hz."""


def column_of(name: str) -> Column:
    """Return what a column holds.

    Raises KeyError where no table has such a column.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith("quality_"):
        sensor = name.removeprefix("quality_")
        return Column(name, "fraction", f"mean quality index of {sensor}, 0 (useless) to 1 (good)", sensor, 0.0, 1.0)
    if name.startswith("coverage_"):
        sensor = name.removeprefix("coverage_")
        return Column(name, "fraction", f"share of {sensor} that is left after cleaning", sensor, 0.0, 1.0)
    if name.startswith("EEG_"):
        return _eeg_column(name)
    raise KeyError(f"no table has a column {name!r}")


def _eeg_column(name: str) -> Column:
    where, _, measure = name.removeprefix("EEG_").rpartition("_")
    if measure == "AlphaPeak":
        words = "frequency of the highest peak in 7-13 Hz above the 1/f background; missing where none stands out"
        return Column(name, "Hz", f"{words}; {_place(where)}", "eeg", 7.0, 13.0)
    where, _, band = where.rpartition("_")
    low, high = EEG_BANDS[band]
    if measure == "Relative":
        words = f"power in {low:g}-{high:g} Hz by that in all bands (1-45 Hz)"
        return Column(name, "fraction", f"{words}; {_place(where)}", "eeg", 0.0, 1.0)
    if measure == "Change":
        words = f"power in {low:g}-{high:g} Hz from 0.5 s after the event by that before, 10 log10; below 0 it fell"
        return Column(name, "dB", f"{words}; {_place(where)}", "eeg")
    if measure == "Baseline":
        words = f"mean power in {low:g}-{high:g} Hz before the event, to 0.5 s ahead of it"
        return Column(name, "uV^2", f"{words}; {_place(where)}", "eeg", 0.0)
    return Column(name, "uV^2", f"mean power in {low:g}-{high:g} Hz; {_place(where)}", "eeg", 0.0)


def _place(where: str) -> str:
    if where == "global":
        return "mean of all channels"
    return f"mean of the {where} channels" if where in REGIONS else f"channel {where}"


def _feature(name: str) -> Column:
    series = max((key for key in _SERIES if name.startswith((f"{key}_", f"{key}/"))), key=len)
    what, unit, source, lowest, highest = _SERIES[series]
    summary = name[len(series) + 1 :]
    words, in_unit = _SUMMARIES[summary]
    if summary not in ("mean", "min", "max"):
        lowest, highest = (0.0, None) if summary == "sd" else (None, None)
    return Column(name, in_unit.format(unit), words.format(what), source, lowest, highest)


def _eeg_feature(name: str) -> Column:
    rest = name.removeprefix("eeg/")
    ratios = {
        "theta_alpha": ("log ratio", "log theta power less log alpha power, over all channels"),
        "beta_alpha_theta": ("log ratio", "log beta power less the log of alpha and theta power, over all channels"),
        "frontal_theta_parietal_alpha": ("log ratio", "frontal log theta power less parietal log alpha power"),
        "alpha_asymmetry": ("log ratio", "frontal log alpha power, right less left"),
    }
    if rest in ratios:
        return Column(name, *ratios[rest], "eeg")
    band, _, where = rest.partition("_")
    low, high = EEG_BANDS[band]
    place = "all channels" if where == "global" else f"the {where} channels"
    return Column(name, "log uV^2", f"mean log power in {low:g}-{high:g} Hz, {place}", "eeg")


def _described() -> dict[str, Column]:
    known = {column.name: column for column in (*_OTHERS, *_PUBLISHED, *_AROUND)}
    known |= {name: _of_variability(name, measure) for name, measure in VARIABILITY.items()}
    rest = [name for name in FEATURE_NAMES if name not in known]
    known |= {name: _eeg_feature(name) if name.startswith("eeg/") else _feature(name) for name in rest}
    return known


_BY_NAME = _described()
