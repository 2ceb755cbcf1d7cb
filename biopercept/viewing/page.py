"""The page of a timeline: one HTML file that opens offline, its signals packed in it and its tables readable as text.

Text from files is shown as text: tables are escaped, and what the script reads stands in a data block that no name can
end. The page runs the two scripts that it carries and nothing else, and loads nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import count, ranged
from biopercept.files import signed_page, write_text
from biopercept.modalities import MODALITIES
from biopercept.recording import Signal
from biopercept.report.recordings.strips import when
from biopercept.report.template import HERE, asset, carried, environment, uplot_licence
from biopercept.report.text import NOT_DEFINED, Table, duration, shown
from biopercept.version import __version__
from biopercept.viewing.packing import (
    Packed,
    PackedSignal,
    packed_marks,
    packed_quality,
    packed_signals,
    packed_track,
)
from biopercept.viewing.predictions import PredictionTrack
from biopercept.viewing.pyramids import Place, Pyramid, pyramids_of
from biopercept.viewing.timeline import PREPARED, RATING, RECORDED, SPOILT, Timeline

MOST_BYTES = 10_000_000
"""Size of a page, whatever is in the recording: mail takes it."""

_PACKAGE = "biopercept.viewing"
_MOST_ROWS = 400
_RESERVE = 60_000  # headings and the like, beside what is counted
_OPEN_ROWS = 12
_UNLIKE = "unlike what the model knows"
_FORMS = {
    RECORDED: "Signals are as they were recorded; quality and marks are of their cleaning.",
    PREPARED: "Signals are as prepared in a store: cleaned, at the rates that models read, gaps where masked. A "
    "store holds no single beats or responses.",
}


Rows = tuple[tuple[str, ...], ...]
Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Listing:
    """A table of a page; a row may be of a stretch of time, seconds, which a button then shows."""

    table: Table
    spans: tuple[tuple[float, float], ...] = ()


def write_page(
    timeline: Timeline, target: Path, place: Place | None = None, *, made_from: tuple[str, Path] | None = None
) -> int:
    """Write the page of a timeline and return its size in bytes; ``place`` is where its pyramids are kept.

    ``made_from`` is what the page is signed as: a page of the same may replace it (:func:`signed_page`).

    Raises OutputError where it cannot be written; an older one is then unharmed.
    """
    regular = [signal for signal in timeline.signals if signal.is_regular]
    with pyramids_of(regular, place) as pyramids:
        page = page_of(timeline, dict(pyramids))
    if made_from is not None:
        page = signed_page(page, *made_from, target)
    write_text(target, page)
    return len(page.encode("utf-8"))


def page_of(timeline: Timeline, pyramids: dict[str, Pyramid], most_bytes: int = MOST_BYTES) -> str:
    """Return the HTML page of a timeline whose regular signals have these pyramids."""
    blobs: list[bytes] = []
    document = _beside_signals(timeline, blobs)
    listings = _listings(timeline)
    irregular = {signal.name: signal for signal in timeline.signals if not signal.is_regular}
    taken = len(_rendered(timeline, document, blobs, (*listings, _signal_listing(timeline, {}))).encode("utf-8"))
    packed = packed_signals(pyramids, irregular, most_bytes - taken - _RESERVE)
    for row, signal in zip(document["signals"], timeline.signals, strict=True):
        row["levels"] = [_level(one, blobs) for one in _levels(packed[signal.name])]
    return _rendered(timeline, document, blobs, (_signal_listing(timeline, packed), *listings))


def _levels(packed: PackedSignal) -> tuple[Packed, ...]:
    return (packed.overview,) if packed.deepest is packed.overview else (packed.overview, packed.deepest)


def _level(one: Packed, blobs: list[bytes]) -> dict[str, Any]:
    blobs.append(one.data)
    return one.head | {"blob": len(blobs) - 1}


def _beside_signals(timeline: Timeline, blobs: list[bytes]) -> dict[str, Any]:
    """Return what the script reads, without the levels of the signals."""
    shades = {shown(name): shade for name, shade in timeline.shades.items()}
    reasons = next((quality.names for quality in timeline.quality.values()), ())

    def add(streams_and_data: tuple[list[dict[str, Any]], bytes]) -> dict[str, Any]:
        blobs.append(streams_and_data[1])
        return {"blob": len(blobs) - 1, "streams": streams_and_data[0]}

    def marks_of(signal: Signal) -> list[dict[str, Any]]:
        of_it = [one for one in timeline.marks if one.signal == signal.name]
        plain = [{"kind": m.kind, "channel": m.channel, "what": m.what, "unit": m.unit} for m in of_it]
        return [row | add(packed_marks(one)) for row, one in zip(plain, of_it, strict=True)]

    signals = [
        {
            "name": shown(signal.name),
            "what": shown(_what(signal)),
            "modality": shown(signal.modality),
            "unit": shown(signal.unit),
            "rate": signal.sampling_rate if signal.is_regular else None,
            "start": signal.start_seconds,
            "channels": [shown(name) for name in signal.channel_names],
            "isDerived": bool(signal.derived_from),
            "quality": add(packed_quality(timeline.quality[signal.name])) if signal.name in timeline.quality else None,
            "marks": marks_of(signal),
        }
        for signal in timeline.signals
    ]
    return {
        "title": shown(timeline.title),
        "duration": _end_of(timeline),
        "spoilt": SPOILT,
        "reasons": list(reasons),
        "colours": shades,
        "labels": [[one.onset_seconds, one.duration_seconds, shown(one.label)] for one in timeline.labels],
        "signals": signals,
        "predictions": [
            {"title": shown(one.title), "classes": [shown(name) for name in one.classes], "column": shown(one.column)}
            | add(packed_track(one))
            for one in timeline.predictions
        ],
    }


def _end_of(timeline: Timeline) -> float:
    """Return the end of what is shown: of the signals, or of a label or prediction beyond them."""
    ends = [timeline.duration_seconds, *(label.end_seconds for label in timeline.labels)]
    ends += [float(track.onset[-1] + track.duration[-1]) for track in timeline.predictions if len(track.onset)]
    return max(max(ends), 1e-3)


def _what(signal: Signal) -> str:
    if signal.modality == RATING:
        return "stated by a person"
    title = MODALITIES[signal.modality].title if signal.modality in MODALITIES else "not recognised"
    return f"{title}, from {signal.derived_from}" if signal.derived_from else title


def _rendered(timeline: Timeline, document: dict[str, Any], blobs: Sequence[bytes], tables: Sequence[Listing]) -> str:
    from markupsafe import Markup

    scripts, script_hashes = carried(
        (HERE, "uplot.min.js"), (_PACKAGE, "svg.js"), (_PACKAGE, "viewer.js"), (HERE, "tables.js")
    )
    styles, style_hashes = carried((HERE, "uplot.min.css"), (_PACKAGE, "viewer.css"), (HERE, "tables.css"))
    template = environment().from_string(asset(_PACKAGE, "viewer.html"))
    return template.render(
        title=timeline.title or "recording",
        summary=_summary(timeline),
        form=_FORMS[timeline.form],
        notes=(*timeline.corrections, *timeline.notes),
        tables=tables,
        open_rows=_OPEN_ROWS,
        document=Markup(_data_block(document)),  # noqa: S704 - no "<" is left in it
        blobs=[Markup(base64.b64encode(one).decode("ascii")) for one in blobs],  # noqa: S704 - letters of our own
        scripts=scripts,
        styles=styles,
        script_hashes=script_hashes,
        style_hashes=style_hashes,
        licence=uplot_licence(),
        version=__version__,
    )


def _data_block(document: dict[str, Any]) -> str:
    """Return JSON that can stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _summary(timeline: Timeline) -> str:
    words = [duration(timeline.duration_seconds), _n_signals(timeline)]
    words += [count(len(timeline.labels), "label")] if timeline.labels else []
    words += [f"{len(one.times):,} {one.kind}" for one in timeline.marks]
    words += [f"predictions of {one.title}" for one in timeline.predictions]
    return ", ".join(words)


def _n_signals(timeline: Timeline) -> str:
    n_derived = sum(bool(signal.derived_from) for signal in timeline.signals)
    words = count(len(timeline.signals) - n_derived, "signal")
    return f"{words} and {n_derived} derived" if n_derived else words


def _listings(timeline: Timeline) -> tuple[Listing, ...]:
    """Return the tables of what lies beside the signals."""
    listings = [_label_listing(timeline)] if timeline.labels else []
    listings += [_spoilt_listing(timeline)] if timeline.quality else []
    listings += [_mark_listing(timeline)] if timeline.marks else []
    return (*listings, *map(_prediction_listing, timeline.predictions))


def _signal_listing(timeline: Timeline, packed: dict[str, PackedSignal]) -> Listing:
    columns = (
        "Signal", "What", "Unit", "Rate", "In this page", "Rounded by", "Good quality", "Time", "Range", "Channels",
    )  # fmt: skip
    rows = [_signal_row(timeline, signal, packed.get(signal.name)) for signal in timeline.signals]
    numeric = tuple(name in ("Rate", "Rounded by", "Good quality") for name in columns)
    return Listing(Table(f"What is shown: {_n_signals(timeline)}", columns, tuple(rows), numeric, fold_above=len(rows)))


def _signal_row(timeline: Timeline, signal: Signal, packed: PackedSignal | None) -> tuple[str, ...]:
    quality = timeline.quality.get(signal.name)
    good = "" if quality is None or not quality.index.size else f"{100 * (quality.index >= SPOILT).mean():.0f} %"
    return (
        signal.name,
        _what(signal),
        signal.unit,
        f"{signal.sampling_rate:.6g} Hz" if signal.is_regular else "irregular",
        "" if packed is None else resolution(packed.deepest),
        "" if packed is None else _error(packed.deepest, signal.unit),
        good,
        f"{when(signal.start_seconds)} to {when(signal.end_seconds)}",
        "" if packed is None else _ends(packed.overview),
        f"{signal.n_channels}: {', '.join(signal.channel_names)}" if signal.n_channels > 1 else "1",
    )


def resolution(one: Packed) -> str:
    """Return in words how finely a level shows its signal."""
    if not one.head["range"]:
        return "every sample"
    samples = f" ({one.head['samples']} samples)" if one.head["samples"] > 1 else ""
    return f"lowest and highest of every {one.head['seconds']:.4g} s{samples}"


def _error(one: Packed, unit: str) -> str:
    error = float(one.error.max(initial=0.0))
    return "nothing" if error < 1e-3 * min(one.head["step"]) else f"{error:.1g} {unit}".strip()


def _ends(one: Packed) -> str:
    low, high = one.ends
    return ranged(f"{low:.4g}", f"{high:.4g}") if np.isfinite(low) else NOT_DEFINED


def _label_listing(timeline: Timeline) -> Listing:
    rows: Rows = tuple(
        (label.label, when(label.onset_seconds), duration(label.duration_seconds)) for label in timeline.labels
    )
    spans = tuple((label.onset_seconds, label.end_seconds) for label in timeline.labels)
    title, rows, spans = _first(count(len(rows), "label"), rows, spans)
    return Listing(Table(title, ("Label", "From", "Length"), rows, (False, True, True), fold_above=_OPEN_ROWS), spans)


def _first(title: str, rows: Rows, spans: Spans) -> tuple[str, Rows, Spans]:
    """Return no more rows than a page should have, and a title that says so."""
    if len(rows) <= _MOST_ROWS:
        return title, rows, spans
    return f"{title}, the first {_MOST_ROWS} of them", rows[:_MOST_ROWS], spans[:_MOST_ROWS]


def _spoilt_listing(timeline: Timeline) -> Listing:
    stretches = [
        (signal, channel, start, stop, reasons)
        for signal in timeline.signals
        if signal.name in timeline.quality
        for channel, start, stop, reasons in timeline.quality[signal.name].stretches()
    ]
    stretches.sort(key=lambda one: one[2] - one[3])
    rows: Rows = tuple(
        (
            signal.name if signal.n_channels == 1 else f"{signal.name} {signal.channel_names[channel]}",
            when(start),
            duration(stop - start),
            ", ".join(reasons) or "not known",
        )
        for signal, channel, start, stop, reasons in stretches
    )
    spans = tuple((float(start), float(stop)) for _, _, start, stop, _ in stretches)
    title = f"{count(len(rows), 'spoilt stretch', 'spoilt stretches')} (quality index below {SPOILT:g}), longest first"
    title, rows, spans = _first(title, rows, spans)
    return Listing(
        Table(title, ("Signal", "From", "Length", "Why"), rows, (False, True, True, False), fold_above=_OPEN_ROWS),
        spans,
    )


def _mark_listing(timeline: Timeline) -> Listing:
    rows = []
    for marks in timeline.marks:
        known = marks.values[np.isfinite(marks.values)]
        value = f"{np.median(known):.4g} {marks.unit}" if len(known) else NOT_DEFINED
        rows.append((marks.kind, marks.signal, f"{len(marks.times):,}", f"{marks.what}, median {value}"))
    columns = ("Marks", "Signal", "Number", "Value")
    return Listing(Table("What was detected", columns, tuple(rows), (False, False, True, False)))


def _prediction_listing(track: PredictionTrack) -> Listing:
    is_classes = bool(track.classes)
    columns = ("Window", "Length", "Predicted", "Probability" if is_classes else "", "True", "Remark")
    rows = []
    for row in range(len(track.onset)):
        best = np.nanmax(track.values[row]) if np.isfinite(track.values[row]).any() else np.nan
        named = track.predicted[row] if is_classes else _number(track.values[row, 0])
        sets = f" (may be: {track.sets[row]})" if track.sets[row] and track.sets[row] != track.predicted[row] else ""
        rows.append(
            (
                when(float(track.onset[row])),
                f"{track.duration[row]:g} s",
                f"{named or 'withheld'}{sets}",
                f"{best:.2f}" if is_classes and np.isfinite(best) else "",
                track.label[row] if is_classes else _number(track.truth[row]),
                track.reason[row] or (_UNLIKE if track.is_unlike[row] else ""),
            )
        )
    spans = tuple((float(a), float(a + b)) for a, b in zip(track.onset, track.duration, strict=True))
    title, cells, spans = _first(f"{count(len(rows), 'window')} predicted by {track.title}", tuple(rows), spans)
    numeric = (False, True, False, True, not is_classes, False)
    return Listing(Table(title, columns, cells, numeric, fold_above=_OPEN_ROWS), spans)


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else ""
