"""The common options, spelt once: every command takes them from here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path, typer.Option("--output", "-o", help="Where the results go.")]
OptionalOutput = Annotated[Path | None, typer.Option("--output", "-o", help="Where the results go.")]
ConfigName = Annotated[str | None, typer.Option("--config", "-c", metavar="NAME|FILE", help="A preset or a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random choice.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|cuda:N", help="Where the model runs.")]
Subjects = Annotated[str | None, typer.Option("--subjects", metavar="ID,ID...", help="Use only these subjects.")]
ExcludeSubjects = Annotated[
    str | None, typer.Option("--exclude-subjects", metavar="ID,ID...", help="Leave these subjects out.")
]
Normalisation = Annotated[
    str | None,
    typer.Option("--normalisation", metavar="raw|global|causal|reference|recording", help="How inputs are scaled."),
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Worker processes.")]
TaskName = Annotated[
    str | None, typer.Option("--task", metavar="NAME[,NAME]", help="The study's task, or several learnt at once.")
]
Stratify = Annotated[
    bool, typer.Option("--stratify", help="Balance the classes over the folds of k-fold (depends on who is there).")
]
FoldsFrom = Annotated[
    Path | None,
    typer.Option(
        "--folds-from", metavar="DIR|FILE", help="Take the folds of an earlier run; new subjects are dealt in."
    ),
]
StartFrom = Annotated[
    Path | None,
    typer.Option(
        "--start-from", metavar="MODEL", help="Begin with the weights of this model that fit by name and shape."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More detail on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]


def listed(ids: str | None) -> tuple[str, ...] | None:
    """Return the ids of a comma-separated option, or None where the option was not given."""
    return None if ids is None else tuple(part.strip() for part in ids.split(",") if part.strip())
