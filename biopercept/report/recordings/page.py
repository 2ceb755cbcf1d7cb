"""The page of one recording, and the page that lists several: numbers, signals, doubts, and what cleaning noted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np

from biopercept.errors import count
from biopercept.files import write_text
from biopercept.measures.columns import column_of
from biopercept.measures.files import Measured
from biopercept.measures.recording import RecordingFeatures
from biopercept.measures.shapes import REJECTED, beat_kinds
from biopercept.measures.stretches import Measures
from biopercept.modalities import MODALITIES
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.preprocessing.eeg import REGIONS
from biopercept.recording import LABEL, Correction
from biopercept.report.drawing import Drawing
from biopercept.report.layout import Head, KeyNumber, ReportWarning, Section, page_of
from biopercept.report.recordings.body import brain_figures, breath_figure, overview_figure, skin_figures
from biopercept.report.recordings.heart import heart_figures, kinds_sentence
from biopercept.report.text import NOT_DEFINED, Table, duration

_MANY_REJECTED, _LITTLE_COVERED, _MUCH_MASKED = 0.1, 0.8, 0.5
_MOST_NOTES = 40


def write_page(
    features: RecordingFeatures, clean: CleanRecording, whole: Measures, path: Path, classes: tuple[str, ...] = ()
) -> None:
    """Write the page of a recording. Raises OutputError where it cannot be written; an older one is then unharmed."""
    write_text(path, page_of_recording(features, clean, whole, classes))


def page_of_recording(
    features: RecordingFeatures, clean: CleanRecording, whole: Measures, classes: tuple[str, ...] = ()
) -> str:
    """Return the HTML page of a recording; ``whole`` is what was measured of all of it, one row.

    ``classes`` are those of the study's tasks, in their order: a label has the colour that it has on every page.
    """
    values = dict(zip(whole.names, whole.values[0].tolist(), strict=True))
    parts = dict.fromkeys(part for part in (features.subject, features.session, features.recording) if part)
    measured = [s for s in clean.recording.signals if not s.derived_from]
    summary = f"{duration(clean.recording.duration_seconds)}, {count(len(measured), 'signal')}"
    head = Head(" ".join(parts) or "recording", summary)
    return page_of(head, tuple(_sections(features, clean, values, classes)), tuple(_doubts(clean, values)))


def _sections(
    features: RecordingFeatures, clean: CleanRecording, values: dict[str, float], classes: tuple[str, ...]
) -> Iterator[Section]:
    yield Section("numbers", "Numbers of the whole recording", numbers=tuple(_key_numbers(clean, values)))
    whole = overview_figure(clean, classes)
    yield Section("signals", "Signals", figures=(whole,) if whole else (), tables=(_signal_table(clean),))
    is_known = {"sdnn": _is_known(values, "HRV_SDNN"), "rmssd": _is_known(values, "HRV_RMSSD")}
    of_beats = kinds_sentence(clean.beats) if len(clean.beats) else "No beats were found"
    breaths = breath_figure(clean)
    peaks = {region: values.get(f"EEG_{region}_AlphaPeak", np.nan) for region in REGIONS}
    peaks = {region: hz for region, hz in peaks.items() if np.isfinite(hz)}
    parts: tuple[tuple[str, str, tuple[str, ...], tuple[Drawing, ...]], ...] = (
        ("heart", "Heart", (f"{of_beats}.",), tuple(heart_figures(clean, is_known))),
        ("skin", "Skin", (), tuple(skin_figures(clean))),
        ("breathing", "Breathing", (), () if breaths is None else (breaths,)),
        ("brain", "Brain", (), tuple(brain_figures(clean, peaks))),
    )
    for anchor, title, lead, figures in parts:
        if figures:
            yield Section(anchor, title, lead=lead, figures=figures)
    if clean.corrections:
        table = _correction_table(clean.corrections)
        yield Section("corrections", "Corrections by hand", tables=(table,))
    yield _notes_section(features)
    yield Section("measures", "All measures of the whole recording", tables=(_measure_table(values),))


def _is_known(values: dict[str, float], name: str) -> bool:
    return bool(np.isfinite(values.get(name, np.nan)))


def _notes_section(features: RecordingFeatures) -> Section:
    n, title = len(features.notes), "Notes of reading and cleaning"
    if n == 0:
        return Section("notes", title, lead=("Nothing was left out or masked.",))
    rest = features.notes[_MOST_NOTES:]
    folded = ((f"{count(len(rest), 'more note')}", "\n".join(rest)),) if rest else ()
    return Section("notes", f"{title} ({n:,})", lead=features.notes[:_MOST_NOTES], folded=folded)


def _doubts(clean: CleanRecording, values: dict[str, float]) -> Iterator[ReportWarning]:
    """Give what a reader must know before the numbers."""
    modalities = {s.modality for s in clean.recording.signals if not s.derived_from}
    beats = clean.beats
    if len(beats) == 0 and modalities & {"ecg", "bvp", "ibi"}:
        yield ReportWarning(True, "No heart beats were found, though a sensor for them was recorded.")
    if len(beats):
        share = float((beat_kinds(beats) == REJECTED).mean())
        covered = values.get("HRV_Coverage", np.nan)
        if share > _MANY_REJECTED:
            yield ReportWarning(True, f"{100 * share:.0f} % of the intervals between beats were not accepted.")
        if covered < _LITTLE_COVERED:
            words = f"Accepted intervals between beats cover {100 * covered:.0f} % of the time"
            yield ReportWarning(covered < _MUCH_MASKED, f"{words}; heart rate and variability are of that part alone.")
        for name, what in (("HRV_SDNN", "SDNN and LF"), ("HRV_RMSSD", "RMSSD, pNN50 and HF")):
            if not _is_known(values, name):
                yield ReportWarning(
                    False, f"{what} are not stated: too few intervals, or beats that are timed too inexactly."
                )
    for signal in clean.recording.signals:
        masked = _masked_share(clean, signal.name)
        if not signal.derived_from and masked > _MUCH_MASKED:
            yield ReportWarning(
                True, f"{signal.name}: {100 * masked:.0f} % of the recording's time is masked or missing."
            )


def _masked_share(clean: CleanRecording, name: str) -> float:
    signal = clean.recording.signal(name)
    n_whole = clean.recording.duration_seconds * signal.sampling_rate * max(signal.n_channels, 1)
    return max(0.0, 1.0 - float(np.isfinite(signal.read()).sum()) / max(n_whole, 1.0))


def _key_numbers(clean: CleanRecording, values: dict[str, float]) -> Iterator[KeyNumber]:
    beats, responses, breaths = clean.beats, clean.responses, clean.breaths
    n_accepted = int(np.isfinite(beats.intervals).sum())
    if len(beats):
        covered = f"{count(n_accepted, 'accepted interval')}, {100 * values.get('HRV_Coverage', 0.0):.0f} % of the time"
        mean_nn = values.get("HRV_MeanNN", np.nan)
        yield KeyNumber("Heart rate (1/min)", _text(60_000.0 / mean_nn, 1), covered)
        n_steps = int(np.isfinite(beats.successive_differences).sum())
        yield KeyNumber("RMSSD (ms)", _text(values.get("HRV_RMSSD", np.nan), 1), count(n_steps, "difference"))
        yield KeyNumber("SDNN (ms)", _text(values.get("HRV_SDNN", np.nan), 1), count(n_accepted, "interval"))
    elif "heart/rate_mean" in values:
        yield KeyNumber("Heart rate (1/min)", _text(values["heart/rate_mean"], 1), "as the device gave it")
    if len(responses.searched):
        searched = f"{count(len(responses), 'response')} in {duration(values.get('SCR_Searched'))}"
        yield KeyNumber("Skin responses (1/min)", _text(values.get("eda/scr_per_minute", np.nan), 2), searched)
    if "eda/level_mean" in values:
        yield KeyNumber("Skin conductance (uS)", _text(values["eda/level_mean"], 2), _mean_of(clean, "eda"))
    if len(breaths):
        n_periods = int(np.isfinite(breaths.periods).sum())
        rate = _text(values.get("resp/rate_mean", np.nan), 1)
        yield KeyNumber("Breathing (1/min)", rate, f"{count(len(breaths), 'breath')}, {n_periods:,} periods accepted")
    slow = (("temp/mean", "temp", "Skin temperature (degC)", 2), ("resp/spo2_mean", "spo2", "SpO2 (%)", 1))
    for name, modality, what, digits in slow:
        if clean.recording.signals_of(modality):
            yield KeyNumber(what, _text(values.get(name, np.nan), digits), _mean_of(clean, modality))
    if "EEG_global_alpha_Absolute" in values:
        peak = _text(values.get("EEG_global_AlphaPeak", np.nan), 1)
        yield KeyNumber("Alpha peak (Hz)", peak, "mean of all channels, over the 1/f background")
    qualities = [value for name, value in values.items() if name.startswith("quality_")]
    if qualities:
        yield KeyNumber("Signal quality", _text(float(np.mean(qualities)), 2), "0 to 1, mean of the sensors")


def _mean_of(clean: CleanRecording, modality: str) -> str:
    """Return of how much time a mean is taken: what is known of the first signal of a modality."""
    signal = clean.recording.signals_of(modality)[0]
    return f"mean of {duration(float(np.isfinite(signal.read()[0]).sum()) / signal.sampling_rate)}"


def _text(value: float | None, digits: int) -> str:
    return NOT_DEFINED if value is None or not np.isfinite(value) else f"{value:,.{digits}f}"


def _mean_index(clean: CleanRecording, name: str) -> float | None:
    index = clean.ratings[name].index
    return float(index.mean()) if index.size else None


def _signal_table(clean: CleanRecording) -> Table:
    rows = [
        {
            "Signal": signal.name,
            "Sensor": MODALITIES[signal.modality].title,
            "Channels": ", ".join(signal.channel_names[:4]) + (" ..." if signal.n_channels > 4 else ""),
            "Unit": signal.unit,
            "Rate (Hz)": f"{signal.sampling_rate:g}",
            "Masked (%)": f"{100 * _masked_share(clean, signal.name):.1f}",
            "Quality": _text(_mean_index(clean, signal.name), 2),
        }
        for signal in clean.recording.signals
        if not signal.derived_from
    ]
    return Table.of(f"{count(len(rows), 'signal')} as cleaned", rows, ("Signal", "Sensor", "Channels", "Unit"))


def _correction_table(corrections: Sequence[Correction]) -> Table:
    rows = [
        {
            "Kind": one.kind,
            "Onset (s)": "" if np.isinf(one.duration_seconds) else f"{one.onset_seconds:g}",
            "Duration (s)": "" if np.isinf(one.duration_seconds) else f"{one.duration_seconds:g}",
            "Of": (one.label or "no label") if one.kind == LABEL else ", ".join(one.channels),
            "Who": one.who,
            "When": one.when,
            "From": one.source,
        }
        for one in corrections
    ]
    title = f"{count(len(rows), 'correction')} that were applied; without a time: of the full recording"
    return Table.of(title, rows, ("Kind", "Of", "Who", "When", "From"), fold_above=30)


def _measure_table(values: dict[str, float]) -> Table:
    columns = [column_of(name) for name in values]
    rows = [
        {"Measure": c.name, "Value": _digits(values[c.name]), "Unit": c.unit, "What it is": c.definition}
        for c in columns
    ]
    return Table.of(count(len(rows), "measure"), rows, ("Measure", "Unit", "What it is"), fold_above=0)


def _digits(value: float) -> str:
    return NOT_DEFINED if not np.isfinite(value) else f"{value:.4g}"


def write_index(outcomes: Sequence[Measured], folder: Path) -> Path:
    """Write the page that lists recordings, with a few numbers and links to theirs, and return its path."""
    target = folder / "index.html"
    write_text(target, index_of(outcomes))
    return target


def index_of(outcomes: Sequence[Measured]) -> str:
    """Return the HTML page that lists recordings in the order given; those without a page say why."""
    done = [one for one in outcomes if one.whole is not None]
    rows = [_index_row(one) for one in done]
    links = tuple(f"{quote(one.source.key)}.html" for one in done)
    sections = []
    if rows:
        table = Table.of(count(len(rows), "recording"), rows, ("Recording",), fold_above=len(rows))
        sections.append(Section("recordings", "Recordings", tables=(replace(table, links=links),)))
    failed = [{"Recording": one.source.title, "Why": one.failure} for one in outcomes if one.whole is None]
    if failed:
        table = Table.of(count(len(failed), "recording"), failed, ("Recording", "Why"), fold_above=len(failed))
        sections.append(Section("failed", "Not measured", tables=(table,)))
    summary = f"{count(len(done), 'recording')} measured, {len(failed)} not"
    return page_of(Head("Recordings", summary), sections)


_INDEX = (
    ("RMSSD (ms)", "HRV_RMSSD", 1),
    ("Beats accepted (% of time)", "HRV_Coverage", 0),
    ("Skin responses (1/min)", "eda/scr_per_minute", 2),
    ("Breathing (1/min)", "resp/rate_mean", 1),
)


def _index_row(one: Measured) -> dict[str, str]:
    assert one.whole is not None
    values = dict(zip(one.whole.names, one.whole.values[0].tolist(), strict=True))
    mean_nn = values.get("HRV_MeanNN", np.nan)
    rate = 60_000.0 / mean_nn if np.isfinite(mean_nn) else values.get("heart/rate_mean", np.nan)
    row = {
        "Recording": one.source.title,
        "Duration": duration(float(one.whole.duration[0])),
        "Heart rate (1/min)": _text(rate, 1),
    }
    for title, name, digits in _INDEX:
        value = values.get(name, np.nan)
        row[title] = _text(100.0 * value if name == "HRV_Coverage" else value, digits)
    qualities = [value for name, value in values.items() if name.startswith("quality_")]
    row["Quality (0 to 1)"] = _text(float(np.mean(qualities)) if qualities else np.nan, 2)
    return row
