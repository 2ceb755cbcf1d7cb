"""The command `datasets`: public data sets that biopercept knows, where to get them, how they must lie on disk."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .terminal import console, print_json


def datasets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show one data set in full.")] = None,
    run: options.Printing = options.Printing(),
) -> None:
    """List the public data sets we know: content, licence, where to get them, the folder layout expected.

    Example: biopercept datasets eegmat
    """
    from biopercept.studies.datasets.catalogue import DATASETS, NOT_OFFERED, dataset_named

    chosen = list(DATASETS.values()) if name is None else [dataset_named(name)]
    if run.as_json:
        print_json([row.to_json() for row in chosen])
        return
    if name is None:
        from rich.table import Table

        table = Table("name", "content", "licence", "import checked on", box=None, pad_edge=False)
        for row in chosen:
            table.add_row(row.name, row.content, row.licence, row.checked_on)
        console().print(table)
        console().print("\nnot offered:")
        for title, reason in NOT_OFFERED.items():
            console().print(f"{title}: {reason}", soft_wrap=True)
        console().print("\n'biopercept datasets NAME' tells where to get one and how it must lie on disk.")
        return
    row = chosen[0]

    def listed(lines: tuple[str, ...]) -> str:
        return "\n" + "\n".join(f"  {line}" for line in lines)

    fields = {
        "title": row.title,
        "content": row.content,
        "labels": row.labels,
        "licence": row.licence,
        "cite": row.citation,
        "get it from": row.where,
        "files": listed(row.files),
        "layout of SOURCE": listed(row.layout),
        "left out by the import": row.dropped,
        "a leak is likely at": listed(row.alarms),
        "import checked on": row.checked_on,
        "then": f"biopercept import {row.name} SOURCE -o STUDY",
    }
    for title, value in fields.items():
        console().print(f"{title}: {value}", soft_wrap=True)
