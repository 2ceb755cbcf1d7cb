"""The page of ``explain``: what each task's answers rested on, with the faithfulness of every method before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from biopercept.errors import count, recording_title
from biopercept.files import signed_page, write_text
from biopercept.report.drawing import BLUE, FAINT, INK, RED, Drawing, draw, name_rows
from biopercept.report.layout import PAGE_KIND, Head, KeyNumber, ReportWarning, Section, page_of
from biopercept.report.text import Table, interval_text, listed, shortened, span, turned
from biopercept.results.explanation import (
    ATTENTION,
    BETTER,
    CHANNEL,
    FEATURE,
    GRADIENTS,
    KINDS,
    METHODS,
    MODALITY,
    OCCLUSION,
    PAGE,
    SENSOR,
    TIME,
    ExplainedTask,
    Explanation,
    Faithfulness,
    PartScore,
)
from biopercept.results.reading import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHADES = {ATTENTION: FAINT, GRADIENTS: BLUE, OCCLUSION: RED}
_WORDS = {ATTENTION: "attention roll-out", GRADIENTS: "integrated gradients", OCCLUSION: "occlusion"}
_TITLES = {SENSOR: "sensor", MODALITY: "modality", CHANNEL: "channel", TIME: "time in the window", FEATURE: "feature"}
_MOST_BARS = 24
_FEWEST_ELECTRODES = 4
_ROW_INCHES = 0.24


def write_page(result: Explanation, folder: Path) -> Path:
    """Write the page of an explanation into its folder, and return its path.

    Raises OutputError where it cannot be written.
    """
    path = folder / PAGE
    n = sum(one.n_explained for one in result.recordings)
    summary = f"{result.model}: {count(n, 'window')} of {count(len(result.recordings), 'recording')} explained"
    head = Head(folder.resolve().name, summary)
    warnings = [ReportWarning(False, words) for words in result.warnings]
    page = page_of(head, explanation_sections(result), warnings)
    write_text(path, signed_page(page, PAGE_KIND, folder, path))
    return path


def faithfulness_lines(result: Explanation) -> list[str]:
    """Return a line for each task and method: how faithful it is, beside as many tokens at random."""
    return [
        f"{row.task}, {_WORDS[row.method]}: comprehensiveness {_number(row.comprehensiveness)} (random "
        f"{_number(row.random_comprehensiveness)}), sufficiency {_number(row.sufficiency)} (random "
        f"{_number(row.random_sufficiency)}) {row.unit}, n = {count(row.n_windows, 'window')}: {row.verdict}"
        for row in result.faithfulness
    ]


def _number(value: Estimate) -> str:
    """Return a mean and its interval with as many decimals as the largest of the three needs for three digits."""
    known = [abs(one) for one in (value.mean, *(value.ci95 or ())) if one is not None and math.isfinite(one)]
    most = max(known, default=0.0)
    decimals = min(max(2 - math.floor(math.log10(most)), 0), 6) if most else 3
    return interval_text(value.mean, value.ci95, f"{{:.{decimals}f}}")


def explanation_sections(result: Explanation, suffix: str = "") -> list[Section]:
    """Return the parts of the page; ``suffix`` ends their titles and anchors, to tell several explanations apart."""
    sections = []
    mark = "".join(c if c.isalnum() else "-" for c in suffix)
    for number, task in enumerate(result.tasks, 1):
        rows = [row for row in result.faithfulness if row.task == task.name]
        end = (f": {task.name}" if len(result.tasks) > 1 else "") + suffix
        anchor = f"-{number}{mark}"
        sections.append(_believed(result, task, rows, anchor, end))
        for kind in KINDS:
            parts = result.mean_parts(task.name, kind)
            if parts:
                figures = _figures(task, kind, parts)
                lead = (_TABLE_WORDS[kind],)
                tables = (_table(task, kind, parts),)
                title = f"By {_TITLES[kind]}{end}"
                sections.append(Section(f"{kind}{anchor}", title, lead=lead, figures=figures, tables=tables))
    return [*sections, _recordings(result, mark, suffix)]


_TABLE_WORDS = {
    SENSOR: "A sensor has all that is computed from it: its signal, derived series and features.",
    MODALITY: "Signals and series by what they are; features of all sensors stand together.",
    CHANNEL: "A channel of a signal or series, or a group of features.",
    TIME: "Parts of the window, from its start; features are of the whole window and have no time.",
    FEATURE: "Single features. Attention sees groups of features only, and stands with the channels.",
}


def _believed(result: Explanation, task: ExplainedTask, rows: Sequence[Faithfulness], anchor: str, end: str) -> Section:
    best = [row for row in rows if row.verdict == BETTER]
    top = max(result.mean_parts(task.name, SENSOR), key=lambda part: part.occlusion or -math.inf, default=None)
    numbers = [
        KeyNumber(
            "Mean answer", f"{task.answer:.3g}", f"{task.unit}; {task.usual:.3g} at the usual value of all inputs"
        ),
        KeyNumber("More faithful than random", f"{len(best)} of {len(rows)}", listed([_WORDS[r.method] for r in best])),
    ]
    if top is not None:
        numbers.append(KeyNumber("Largest fall without", top.name, f"{_or_none(top.occlusion)} {task.unit}, mean"))
    lead = (
        f"What is explained of {task.name}: {task.of}.",
        "Comprehensiveness: how far the answer falls when the most important tokens are absent (5, 10, 20 and 50 % of "
        "them, mean); higher is better. Sufficiency: how far it falls when they alone are there; lower is better. "
        "Random: as many taken at random, five draws. Brackets are 95 % intervals over windows that do not overlap; "
        "windows of one person say nothing about other people.",
    )
    heads = ("Method", "Windows", "Comprehensiveness", "Comprehensiveness at random", "Comprehensiveness above random")
    ends = ("Sufficiency", "Sufficiency at random", "Sufficiency below random", "Verdict")
    cells = [
        (
            _WORDS[row.method],
            str(row.n_windows),
            _number(row.comprehensiveness),
            _number(row.random_comprehensiveness),
            _number(row.more_comprehensive),
            _number(row.sufficiency),
            _number(row.random_sufficiency),
            _number(row.more_sufficient),
            row.verdict,
        )
        for row in rows
    ]
    title = f"Faithfulness of each method ({task.unit}; in the rows above and below random, above 0 is better)"
    table = turned(Table(title, (*heads, *ends), tuple(cells), (False, *[True] * 7, False)))
    folded = (("What the methods are", "\n".join(f"{name}: {words}" for name, words in METHODS.items())),)
    head = Section(f"faithful{anchor}", f"Can it be believed?{end}", lead=lead, numbers=tuple(numbers))
    return replace(head, tables=(table,), folded=folded)


def _table(task: ExplainedTask, kind: str, parts: Sequence[PartScore]) -> Table:
    columns = {
        "Attention": ATTENTION,
        f"Integrated gradients ({task.unit})": GRADIENTS,
        f"Size ({task.unit})": f"{GRADIENTS}_size",
        f"Through branches ({task.unit})": "branches",
        f"Occlusion ({task.unit})": OCCLUSION,
    }
    used = {head: name for head, name in columns.items() if any(getattr(part, name) for part in parts)}
    ordered = parts if kind == TIME else sorted(parts, key=_size, reverse=True)
    rows = [
        {
            "Name": part.name,
            **({"Sensor": part.sensor} if kind in (CHANNEL, FEATURE) else {}),
            **{head: _or_none(getattr(part, name)) for head, name in used.items()},
            "Windows": str(part.n_windows),
        }
        for part in ordered
    ]
    title = f"{count(len(parts), 'part')} of the input, mean over windows; size is the mean without signs"
    return Table.of(title, rows, ("Name", "Sensor"), fold_above=12)


def _or_none(value: float | None) -> str:
    return "n/a" if value is None else f"{value:#.3g}".rstrip(".")


def _size(part: PartScore) -> float:
    return abs(part.occlusion or 0.0) + (part.integrated_gradients_size or 0.0)


def _figures(task: ExplainedTask, kind: str, parts: Sequence[PartScore]) -> tuple[Drawing, ...]:
    if kind == TIME:
        return (_time_figure(task, parts),)
    shown = sorted(parts, key=_size, reverse=True)[:_MOST_BARS]
    return (_bars(task, kind, shown, len(parts)), *(_topographies(task, parts) if kind == CHANNEL else ()))


def _bars(task: ExplainedTask, kind: str, parts: Sequence[PartScore], n_parts: int) -> Drawing:
    """Return bars of every method that sees this kind of part, the largest on top."""
    methods = [m for m in METHODS if any(getattr(part, m) is not None for part in parts)]

    def paint(figure: Figure) -> None:
        for axes, method in zip(figure.subplots(1, len(methods), sharey=True, squeeze=False)[0], methods, strict=True):
            values = [getattr(part, method) for part in parts]
            known = [0.0 if value is None else value for value in values]
            axes.barh(range(len(parts)), known, color=_SHADES[method], height=0.7)
            axes.axvline(0.0, color=INK, linewidth=0.8)
            axes.set_title(_WORDS[method])
            axes.set_xlabel("fraction" if method == ATTENTION else task.unit)
            axes.grid(axis="x")
            name_rows(axes, [shortened(part.name, 34) for part in parts])

    more = f" The largest {len(parts)} of {n_parts}." if n_parts > len(parts) else ""
    caption = (
        f"Means over {_windows(parts)}, each {_TITLES[kind]} sorted by the size of both.{more} Above 0: for the answer."
    )
    height = 0.9 + _ROW_INCHES * len(parts)
    return draw(f"{kind}-{task.name}", f"What the answers to {task.name} rested on", caption, height, paint)


def _time_figure(task: ExplainedTask, parts: Sequence[PartScore]) -> Drawing:
    methods = [m for m in METHODS if any(getattr(part, m) is not None for part in parts)]

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(methods), 1, sharex=True, squeeze=False)[:, 0]
        for axes, method in zip(panels, methods, strict=True):
            for part in parts:
                value, ends = getattr(part, method), (part.start or 0.0, part.stop or 0.0)
                axes.stairs([math.nan if value is None else value], ends, color=_SHADES[method], fill=True)
            axes.axhline(0.0, color=INK, linewidth=0.8)
            axes.set_title(_WORDS[method])
            axes.set_ylabel("fraction" if method == ATTENTION else task.unit)
            axes.grid(axis="y")
        panels[-1].set_xlabel("seconds from the window's start")

    caption = f"Means over {_windows(parts)}. Above 0: for the answer. Features have no time and are not in here."
    return draw(f"time-{task.name}", f"When the answers to {task.name} were read", caption, 1.5 * len(methods), paint)


def _windows(parts: Sequence[PartScore]) -> str:
    low, high = min(part.n_windows for part in parts), max(part.n_windows for part in parts)
    return f"{span((low, high))} window{'s' * (high != 1)}"


def _topographies(task: ExplainedTask, parts: Sequence[PartScore]) -> list[Drawing]:
    """Return a figure with a head for each modality of four electrodes or more whose places are known."""
    placed: dict[str, list[PartScore]] = {}
    for part in parts:
        if None not in (part.x, part.y, part.z, part.occlusion, part.integrated_gradients):
            placed.setdefault(part.modality, []).append(part)
    heads = {name: rows for name, rows in placed.items() if len(rows) >= _FEWEST_ELECTRODES}
    if not heads:
        return []

    def paint(figure: Figure) -> None:
        methods = (GRADIENTS, OCCLUSION)
        panels = figure.subplots(len(methods), len(heads), squeeze=False)
        for column, (name, rows) in enumerate(heads.items()):
            for axes, method in zip(panels[:, column], methods, strict=True):
                axes.set_title(f"{name}\n{_WORDS[method]}", fontsize=8)
                _head(figure, axes, rows, [float(getattr(row, method)) for row in rows])

    caption = (
        f"Seen from above, nose up; {task.unit}, red for the answer and blue against it, dots are electrodes. Between "
        "electrodes the colour is interpolated."
    )
    width = max(8.0, 1.9 * len(heads))
    return [draw(f"heads-{task.name}", f"Where on the head, {task.name}", caption, 4.4, paint, width=width)]


def _head(figure: Figure, axes: Axes, rows: Sequence[PartScore], values: Sequence[float]) -> None:
    import mne

    names = [str(number) for number in range(len(rows))]
    info = mne.create_info(names, 1.0, "eeg", verbose="error")
    places = {name: (row.x, row.y, row.z) for name, row in zip(names, rows, strict=True)}
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"), verbose="error")
    most = max(max(abs(value) for value in values), 1e-12)
    image, _ = mne.viz.plot_topomap(values, info, axes=axes, show=False, cmap="RdBu_r", vlim=(-most, most), contours=0)
    figure.colorbar(image, ax=axes, shrink=0.6)


def _recordings(result: Explanation, mark: str, suffix: str) -> Section:
    rows = tuple(
        (
            recording_title(one.participant_id, one.session, one.recording),
            str(one.n_windows),
            str(one.n_explained),
            "; ".join(f"{why}: {n}" for why, n in one.left_out.items()),
            one.table,
        )
        for one in result.recordings
    )
    heads = ("Recording", "Windows", "Explained", "Left out", "Table")
    table = Table(count(len(rows), "recording"), heads, rows, (False, True, True, False, False), fold_above=20)
    failed = f" {count(result.n_failed, 'recording')} could not be explained: failures.csv." if result.n_failed else ""
    lead = (
        f"Windows of {result.window_seconds:g} s. Every window and part stands in the table of its recording.{failed}",
    )
    return Section(f"recordings{mark}", f"Recordings explained{suffix}", lead=lead, tables=(table,))
