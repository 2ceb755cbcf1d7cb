"""Options of commands whose work several processes or machines share: by parts, or on a cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from .options import FoldRun, run_option
from .terminal import say

if TYPE_CHECKING:
    from biopercept.parallel import Executor
    from biopercept.sharing import Sharing

SLURM, WHOLE = "slurm", "1/1"
Part = Annotated[
    str | None,
    run_option(
        "--part",
        metavar="I/N|slurm",
        help="Do part I of N of the work in an output that all share; by default that of an array job of SLURM.",
    ),
]
Cluster = Annotated[
    str | None,
    run_option(
        "--cluster",
        metavar="local:N|dask://HOST:PORT|slurm",
        help="Do the work in N processes, on the workers of a Dask scheduler, or as jobs of SLURM.",
    ),
]
Collect = Annotated[bool, run_option("--collect", help="Do nothing but join what the parts have done.")]


@dataclass(frozen=True)
class Shared:
    """Which part of the work this process does, where several processes or machines share it."""

    part: Part = None
    collect: Collect = False
    cluster: Cluster = None

    def executor(self, jobs: int, output: Path) -> int | Executor:
        """Return what does the work: child processes, or a cluster. Raises SettingsError where that is not there."""
        if self.cluster is None:
            return jobs
        from biopercept.cluster import executor_of
        from biopercept.errors import SettingsError

        if jobs != 1:
            raise SettingsError("--jobs and --cluster both say where the work is done; give one of them")
        return executor_of(self.cluster, output)

    def sharing(self, *anew: str) -> Sharing | None:
        """Return what this process does of the work; None for all. In an array job of SLURM it is said on stderr.

        ``anew`` are options that are given and begin anew, which no part may. Raises SettingsError where the options do
        not go together.
        """
        from biopercept.errors import SettingsError
        from biopercept.sharing import Part, Sharing

        chosen = None
        if self.collect and self.part is not None:
            raise SettingsError("--part does a part of the work and --collect none; give one of them")
        if self.part is not None and self.part != SLURM:
            chosen = Part.of(self.part)
        elif not self.collect:
            chosen = Part.of_slurm(os.environ)
            if chosen is None and self.part == SLURM:
                raise SettingsError("--part slurm: this is no task of an array job of SLURM; give --part I/N")
            if chosen is not None:
                say(f"{chosen}, by the array job of SLURM; all of the work in this process: --part {WHOLE}")
        if not self.collect and (chosen is None or chosen.n_parts == 1):
            return None
        if anew:
            whose = "what the parts have done" if chosen is None else "what other parts have done"
            raise SettingsError(f"{anew[0]} would remove {whose}; to begin anew, remove the output first")
        return Sharing(chosen, on_wait=say)


@dataclass(frozen=True)
class SharedFoldRun(Shared, FoldRun):
    """How a command fits networks fold by fold, on one machine or several."""

    @property
    def anew(self) -> tuple[str, ...]:
        """Return the options that are given and remove what was done before."""
        return ("--overwrite",) if self.overwrite else ()
