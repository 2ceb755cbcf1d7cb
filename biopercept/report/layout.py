"""The page that every report is: a head, what to read first, and sections, as one HTML file that loads nothing.

All text is shown as text, whatever stands in it; there is no script, and figures are part of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from biopercept.report.drawing import Drawing
from biopercept.report.text import Table, shown
from biopercept.version import __version__


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

    ``numbers`` come first, ``folded`` (title and text) last and closed.
    """

    anchor: str
    title: str
    lead: tuple[str, ...] = ()
    numbers: tuple[KeyNumber, ...] = ()
    figures: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[tuple[str, str], ...] = ()


def page_of(head: Head, sections: Sequence[Section], warnings: Sequence[ReportWarning] = ()) -> str:
    """Return the HTML page of some sections."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        return value if isinstance(value, Markup) else shown(value)

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=finalize, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["image"] = lambda figure: Markup(figure.data_uri)  # noqa: S704 - base64 of our own bytes
    template = environment.from_string(files("biopercept.report").joinpath("report.html").read_text(encoding="utf-8"))
    return template.render(
        name=head.name, summary=head.summary, warnings=warnings, sections=sections, version=__version__
    )
