"""The page of the quality index: errors against it as a table and a figure, and the borders checked on other trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biopercept.files import write_bytes
from biopercept.preprocessing.quality import BORDERS
from biopercept.report.drawing import BLUE, FAINT, GREEN, draw
from measurements.quality import DAMAGES, LIMITS, RATE_OF, RATES, Window, borders, in_bands, trials
from measurements.signals_page import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN, CHECKED = range(3), range(100, 102)
"""Seeds of the trials that the borders are read off, and of those that they are checked on."""

FIGURE = "quality.svg"
_STEPS = tuple(np.arange(10) / 10.0)

_INTRODUCTION = f"""# Errors against the quality index

Written by `make measurements`; the code is `docs/measurements`. Recordings of four minutes of which everything is
known, with one damage each: white noise of up to {max(DAMAGES["noise"])} of the wave's height; bursts of 4 s of sway
three times as high, or losses of 4 s, in up to {100 * max(DAMAGES["motion"]):.0f} % of the time. Of each minute: the
mean of the index, as `features` gives it (`quality_ecg`), and the error of each measure. *Given* is the share of the
minutes for which there is a value at all: where beats or breaths are doubtful none is given, so that a low index says
first of all that little is left. A cell has the median and the 95th percentile of the errors of those that are given,
in per cent.

![Errors against the index]({FIGURE})
"""

_BANDS = """## Believe, with care, do not

From the upper border on, nineteen of twenty minutes have a value whose error is at most the smaller limit; from the
lower border on, at most the larger; below, do not believe it. Borders are read off the trials above. The last columns
are other trials, of other seeds: the share of the minutes in each band that keep the limit (of *do not*: that break
the larger limit, or have no value), with their number.
"""

_WORDS = """RMSSD is more delicate than the rate: see its tables. It is withheld where the times of the beats are known
to be uncertain, but a few false or lost beats that look alike can still change it, in a pulse wave above all, at any
index.

What the index does not see: noise that is in a signal throughout and looks like it. An even noise in EEG cannot be told
from EEG, so that band power has no border here; skin conductance that really changed for another reason; anything in
temperature and acceleration but losses. Of these sensors the usual borders are said, for what is left of them.
"""


def page(folder: Path) -> str:
    """Return the whole page as Markdown, and draw its figure into a folder; minutes."""
    drawn = {modality: list(trials(modality, DRAWN)) for modality in RATES}
    checked = {modality: list(trials(modality, CHECKED)) for modality in RATES}
    return made_page(drawn, checked, folder)


def made_page(drawn: Mapping[str, Sequence[Window]], checked: Mapping[str, Sequence[Window]], folder: Path) -> str:
    """Return the page of trials that borders are read off, and of others."""
    write_bytes(folder / FIGURE, _figure(drawn))
    parts = [_INTRODUCTION]
    for modality, windows in drawn.items():
        parts += [f"## {modality}\n", _errors_table(windows)]
    rows = [_band_row(modality, drawn[modality], checked[modality]) for modality in drawn]
    heads = ["sensor", "limits, %", "borders read off", "borders in the code", "believe", "with care", "do not"]
    return "\n".join([*parts, _BANDS, table(heads, rows), _WORDS]).rstrip() + "\n"


def _errors_table(windows: Sequence[Window]) -> str:
    measures = tuple(dict.fromkeys(one.measure for one in windows))
    rows = []
    for step in reversed(_STEPS):
        inside = [one for one in windows if step <= one.index < step + 0.1 or (step == _STEPS[-1] and one.index >= 1)]
        cells = [f"{step:.1f} to {step + 0.1:.1f}", str(sum(one.measure == measures[0] for one in inside))]
        for measure in measures:
            cells += _errors_cells(np.array([one.error for one in inside if one.measure == measure]))
        rows.append(cells)
    heads = [part for measure in measures for part in (f"{measure}: given", "error, %")]
    return table(["index", "minutes", *heads], rows)


def _errors_cells(errors: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[str]:
    given = errors[np.isfinite(errors)]
    if len(given) == 0:
        return ["0.00" if len(errors) else "", ""]
    return [f"{len(given) / len(errors):.2f}", f"{np.median(given):.1f} ({np.quantile(given, 0.95):.1f})"]


def _band_row(modality: str, drawn: Sequence[Window], checked: Sequence[Window]) -> list[str]:
    care, believed = LIMITS[modality]
    by_band = in_bands(checked, modality)
    kept = {
        "believe": [error <= believed for error in by_band["believe"]],
        "with care": [error <= care for error in by_band["with care"]],
        "do not": [not error <= care for error in by_band["do not"]],
    }
    shares = [f"{np.mean(some):.2f} ({len(some)})" if some else "none" for some in kept.values()]
    read, coded = (f"{low:.2f}, {high:.2f}" for low, high in (borders(drawn, modality), BORDERS[modality]))
    return [f"{modality}, {RATE_OF[modality]}", f"{care:.0f}, {believed:.0f}", read, coded, *shares]


def _figure(drawn: Mapping[str, Sequence[Window]]) -> bytes:
    """Return errors against the index: median and 95th percentile of each tenth, and the borders."""

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, len(drawn), sharey=True)
        for axes, (modality, windows) in zip(panels, drawn.items(), strict=True):
            of_rate = [one for one in windows if one.measure == RATE_OF[modality] and np.isfinite(one.error)]
            index, error = np.array([one.index for one in of_rate]), np.array([one.error for one in of_rate])
            tenth = np.minimum((10 * index).astype(int), 9)
            known = [step for step in range(10) if (tenth == step).sum() >= 5]
            for quantile, colour in ((0.5, GREEN), (0.95, BLUE)):
                at = [max(float(np.quantile(error[tenth == step], quantile)), 0.05) for step in known]
                axes.plot([0.1 * step + 0.05 for step in known], at, color=colour, marker=".", linewidth=1.2)
            for border in BORDERS[modality]:
                axes.axvline(border, color=FAINT, linestyle="--", linewidth=0.9)
            axes.set_yscale("log")
            axes.set_xlim(0, 1)
            axes.set_title(f"{modality}: {RATE_OF[modality]}")
            axes.set_xlabel("index of a minute")
        panels[0].set_ylabel("error, %: median, 95th percentile")

    return draw("quality", "", "", 2.3, paint).svg
