"""What a run of ``live`` did, for a page of results: its predictions over time, and how long each took."""

from __future__ import annotations

from biopercept.errors import the_model
from biopercept.report.layout import Section
from biopercept.report.text import Table, count
from biopercept.report.timelines import line_figure
from biopercept.results.live import LiveFolder


def live_section(folder: LiveFolder, number: int) -> Section:
    """Return the section of a folder of ``live``; of its runs the last is shown."""
    summary = folder.summary
    run = f"the last of {count(folder.n_runs, 'run')}" if folder.n_runs > 1 else "one run"
    left_out = (
        f"{summary.left_out:,} left out, as the machine could not keep up" if summary.left_out else "none left out"
    )
    withheld = f"{summary.withheld:,} withheld" if summary.withheld else "none withheld"
    lead = (
        f"By {the_model(summary.model)}, {run}: {count(summary.predictions, 'prediction')} in {summary.seconds:,.0f} s "
        f"of the streams, {withheld}, {left_out}. Each rests on what had come until then; there was no truth to "
        "compare with."
    )
    tables = [_times(folder)]
    if summary.missing:
        rows = tuple((name, f"{n:,}") for name, n in sorted(summary.missing.items()))
        tables.append(Table("Signals that were missing", ("Signal", "Predictions without it"), rows, (False, True)))
    figures = tuple(line_figure(line, f"live-{number}-{place}") for place, line in enumerate(folder.lines, 1))
    return Section(f"live-{number}", f"Live: {folder.name}", (lead,), figures=figures, tables=tuple(tables))


def _times(folder: LiveFolder) -> Table:
    kinds = (("by the clock", folder.summary.latency_ms), ("processor time", folder.summary.processor_ms))
    names = (("p50", "Median"), ("p95", "95 %"), ("p99", "99 %"), ("max", "Largest"))
    rows = tuple((what, *(f"{values.get(key, float('nan')):.0f}" for key, _ in names)) for what, values in kinds)
    title = "Milliseconds from the last sample of a window to its prediction"
    return Table(title, ("Time", *(words for _, words in names)), rows, (False, True, True, True, True))
