"""The page that every report is: a head, what to read first, and sections, as one HTML file that loads nothing.

All text is shown as text, whatever stands in it; figures, styles and the scripts that it runs are part of the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from biopercept.errors import count
from biopercept.report.drawing import LINES, Drawing
from biopercept.report.template import HERE, carried, environment, uplot_licence
from biopercept.report.text import Table, shown
from biopercept.version import __version__

PAGE_KIND = "report"
"""What a page of a folder of results is signed as, whichever command wrote it: ``report`` may replace it."""

_STYLES = ((HERE, "report.css"), (HERE, "tables.css"))
_SCRIPTS = ((HERE, "report.js"), (HERE, "tables.js"))
_CURVE_STYLES = ((HERE, "uplot.min.css"),)
_CURVE_SCRIPTS = ((HERE, "uplot.min.js"), (HERE, "curves.js"))


@dataclass(frozen=True)
class Head:
    """What stands on top of a page: its name, and what is in it."""

    name: str
    summary: str


@dataclass(frozen=True)
class ReportWarning:
    """One thing to know before reading the scores; a grave one can make them mean something else than they seem to."""

    is_grave: bool
    text: str


@dataclass(frozen=True)
class KeyNumber:
    """One number in large type: what it is, its value, and what to read it with."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True)
class Section:
    """A part of the page: its title, an opening sentence, figures, tables and quoted text, in that order.

    ``numbers`` come first, ``folded`` (title and text) last and closed. ``group`` is the study that the section is of,
    where the page has several: the contents name it once.
    """

    anchor: str
    title: str
    lead: tuple[str, ...] = ()
    numbers: tuple[KeyNumber, ...] = ()
    figures: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[tuple[str, str], ...] = ()
    group: str = ""

    @property
    def entry(self) -> str:
        """Return its title in the contents, where the study stands above."""
        return self.title.removesuffix(f": {self.group}") if self.group else self.title


@dataclass
class PictureBudget:
    """How many bytes of pictures a part of the page may still have, so that the page can be sent by mail."""

    left: int

    def kept(self, figures: Sequence[Drawing], where: str) -> tuple[tuple[Drawing, ...], tuple[str, ...]]:
        """Return the figures that there is room for, and a sentence on the others that says ``where`` they are."""
        kept = []
        for figure in figures:
            if figure.n_bytes <= self.left:
                self.left -= figure.n_bytes
                kept.append(figure)
        n_out = len(figures) - len(kept)
        words = f"{count(n_out, 'figure')} left out, as this page would be too large with more: {where}."
        return tuple(kept), (words,) if n_out else ()


def page_of(head: Head, sections: Sequence[Section], warnings: Sequence[ReportWarning] = ()) -> str:
    """Return the HTML page of some sections."""
    from markupsafe import Markup

    made = environment()
    made.globals["image"] = lambda figure: Markup(figure.data_uri)  # noqa: S704 - base64 of our own bytes
    made.globals["csv"] = lambda data: Markup(data.data_uri)  # noqa: S704 - base64
    made.globals["panels"] = lambda data: json.dumps([[shown(title), n] for title, n in data.panels])
    made.globals["shades"] = lambda data: json.dumps(data.shades or LINES)
    has_curves = any(figure.data and figure.data.panels for section in sections for figure in section.figures)
    styles, style_hashes = carried(*_STYLES, *(_CURVE_STYLES if has_curves else ()))
    scripts, script_hashes = carried(*_SCRIPTS, *(_CURVE_SCRIPTS if has_curves else ()))
    return made.get_template("report.html").render(
        head=head,
        warnings=warnings,
        sections=sections,
        styles=styles,
        style_hashes=style_hashes,
        scripts=scripts,
        script_hashes=script_hashes,
        licence=uplot_licence() if has_curves else "",
        version=__version__,
    )
