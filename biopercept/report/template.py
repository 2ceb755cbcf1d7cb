"""What every page is made of: templates that escape all text, and the styles and scripts that it carries by hash."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from biopercept.report.text import shown

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

HERE = "biopercept.report"
"""The package that holds what pages share: the table, its script, uPlot."""


def environment() -> Environment:
    """Return an environment that shows text as text, and whose templates may import ``tables.html``.

    The filter ``breaks`` lets a long name break after an underscore, and nowhere else.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        return value if isinstance(value, Markup) else shown(value)

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: asset(HERE, name)),
    )
    made.filters["breaks"] = breaks
    return made


def breaks(text: object) -> Markup:
    """Return :func:`shown` text, escaped, with a place to break the line after each underscore.

    >>> str(breaks("mean_rate <b>"))
    'mean_<wbr>rate &lt;b&gt;'
    """
    from markupsafe import Markup, escape

    return Markup(str(escape(shown(text))).replace("_", "_<wbr>"))  # noqa: S704 - escaped on this line


def asset(package: str, name: str) -> str:
    """Return a text file that lies in a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8").strip()


def carried(*names: tuple[str, str]) -> tuple[list[Any], Markup]:
    """Return the texts of scripts or styles, (package, name) each, and their hashes for the page's security policy."""
    from markupsafe import Markup

    texts = [asset(package, name) for package, name in names]
    return [Markup(text) for text in texts], Markup(" ".join(map(_hash_of, texts)))  # noqa: S704 - our own files


def _hash_of(text: str) -> str:
    """Return the hash of a script or style that stands between two line breaks."""
    digest = hashlib.sha256(f"\n{text}\n".encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def uplot_licence() -> str:
    """Return uPlot's licence, as it may stand in a comment."""
    return asset(HERE, "uplot.license.txt").replace("--", "- -")
