"""The house style of figures: colours that colour-blind readers tell apart, no markup from data, always equal bytes."""

from __future__ import annotations

import base64
import csv
import io
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from biopercept.files import guarded_cell
from biopercept.report.text import shortened, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 8.0
"""Width of a figure, inches."""

INK = "#1f2933"
FAINT = "#7b8794"
GRID = "#e4e7eb"
BLUE = "#0072b2"
RED = "#d55e00"
GREEN = "#009e73"

# After Okabe and Ito's palette, without yellow and its lightest colours darkened: each stands out from paper by 3 to 1
# (WCAG 2.2, 1.4.11), and of the first four neighbours differ in lightness too.
_PALETTE = ("#459bd2", "#bd4b00", "#009e73", "#cc79a7", "#0072b2", "#000000")
LINES = (BLUE, RED, GREEN, "#cc79a7", INK, "#c07f00", "#459bd2")
"""Colours of lines that are no classes (channels, bands), by their order; pages that draw by
script have the same."""
_MOST_ROWS = 2000
"""Points of a figure that are given as numbers beside it; waves have more, and are in the recording itself."""
_HATCHES = ("", "///", "...", "xxx")

_STYLE: Any = {
    "text.parse_math": False,  # `$` in a name is a dollar sign
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # reads the same on a machine without the font
    "svg.hashsalt": "biopercept",
}


@dataclass(frozen=True)
class FigureData:
    """The numbers of a figure as a table, to be taken away as CSV; units stand in the names of the columns.

    Where there are ``panels`` the page can also draw them as curves to zoom and read off: the first column is the
    horizontal axis, in rising order, and each panel has a title and the next so many columns. ``shades`` are the
    colours of these columns, where they are not :data:`LINES`.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    panels: tuple[tuple[str, int], ...] = ()
    shades: tuple[str, ...] = ()

    @property
    def csv(self) -> bytes:
        """Return the table as CSV in UTF-8: numbers to six digits, nothing where one is not known."""
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([map(_cell, row) for row in (self.columns, *self.rows)])
        return stream.getvalue().encode("utf-8")

    @property
    def data_uri(self) -> str:
        """Return the CSV as a ``data:`` address."""
        return "data:text/csv;charset=utf-8;base64," + base64.b64encode(self.csv).decode("ascii")


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return guarded_cell(shown(value))
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Drawing:
    """A finished figure: file name without suffix, what it shows, and how to read it, with n and the uncertainty.

    ``data`` are the numbers in it; None where they are too many, or no lines and bars.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    data: FigureData | None = None

    def with_data(self, data: FigureData) -> Drawing:
        """Return the figure with the numbers in it."""
        return replace(self, data=data)

    @property
    def n_bytes(self) -> int:
        """Return about how many bytes the figure takes in a page."""
        return 4 * (len(self.svg) + (len(self.data.csv) if self.data else 0)) // 3

    @property
    def data_uri(self) -> str:
        """Return the figure as a ``data:`` address for an image."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


def colours(classes: Sequence[str], others: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """Return a fill colour and a hatch for every class; the hatch tells apart classes that share a colour.

    Classes are in the order of their task, so that one has one colour on every page; ``others``, labels that are no
    class of it, follow by the alphabet.
    """
    names = dict.fromkeys((*classes, *sorted(others)))
    return {
        name: (_PALETTE[place % len(_PALETTE)], _HATCHES[(place // len(_PALETTE)) % len(_HATCHES)])
        for place, name in enumerate(names)
    }


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style while the block runs, whatever the user's own settings of matplotlib are."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def draw(
    name: str, title: str, caption: str, height: float, paint: Callable[[Figure], None], *, width: float = WIDTH
) -> Drawing:
    """Return what ``paint`` puts on an empty figure of ``height`` and ``width`` inches, with its numbers."""
    from matplotlib.figure import Figure

    with house_style():
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        svg = rendered(figure)
        data = numbers_in(figure)
    return Drawing(name, title, caption, svg, data)


def numbers_in(figure: Figure) -> FigureData | None:
    """Return every point of the lines and bars of a figure, a row each; None where there is none, or too many.

    It is for figures that state no numbers of their own. ``panel`` is what stands above or beside a plot, ``curve``
    what the legend calls a line, or the row of a bar; lines that only guide the eye are left out.
    """
    import numpy as np

    rows: list[tuple[Any, ...]] = []
    for place, axes in enumerate(figure.axes, 1):
        panel = axes.get_title("left") or axes.get_title() or axes.get_ylabel() or f"panel {place}"
        panel = " ".join(panel.split())
        for line in axes.get_lines():
            label = str(line.get_label())
            is_data = line.get_transform() is axes.transData  # not so of lines from edge to edge
            points = np.column_stack((line.get_xdata(False), line.get_ydata(False))).tolist() if is_data else []
            rows += [(panel, "" if label.startswith("_") else label, float(x), float(y)) for x, y in points]
        names = [text.get_text() for text in axes.get_yticklabels()]
        for bars in axes.containers:
            if getattr(bars, "orientation", "") == "horizontal" and len(bars) == len(names):
                rows += [(panel, name, float(bar.get_width()), None) for name, bar in zip(names, bars, strict=True)]
    return FigureData(("panel", "curve", "x", "y"), tuple(rows)) if 0 < len(rows) <= _MOST_ROWS else None


def rendered(figure: Figure) -> bytes:
    """Return a figure as an SVG file that depends on nothing but the figure."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def reach(mean: float, ci95: tuple[float, float] | None) -> list[list[float]] | None:
    """Return how far an interval reaches to both sides of the mean, as error bars have it; None without one."""
    return None if ci95 is None else [[mean - ci95[0]], [ci95[1] - mean]]


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a figure, the first on top, without ticks."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def class_legend(
    target: Axes | Figure, classes: Sequence[str], shades: dict[str, tuple[str, str]], **place: Any
) -> None:
    """Add a legend of classes, in the colours and hatches of ``shades``."""
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=shades[name][0], hatch=shades[name][1], edgecolor="white") for name in classes]
    legend = target.legend(handles=patches, labels=[str(n) for n in range(len(patches))], **place)
    # Set afterwards: matplotlib drops a label that begins with an underscore.
    for text, name in zip(legend.get_texts(), classes, strict=True):
        text.set_text(shortened(name))
