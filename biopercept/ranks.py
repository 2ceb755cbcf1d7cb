"""Which of the processes that torchrun has started this is: they do one fit together, and the first of them writes.

The group that they form is :mod:`biopercept.training.engine`'s. Without torchrun there is one process, :data:`ALONE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from biopercept.errors import SettingsError

COMMANDS = ("pretrain",)
"""The commands that several processes of torchrun can do together."""

_RANK, _COUNT, _LOCAL = "RANK", "WORLD_SIZE", "LOCAL_RANK"
_NEEDED = (_RANK, _COUNT, "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Ranks:
    """One process, ``rank`` from 0, of ``n_ranks`` that do one fit; ``local`` is its place on this machine."""

    rank: int = 0
    n_ranks: int = 1
    local: int = 0

    def __str__(self) -> str:
        """Return how messages call it."""
        return f"process {self.rank + 1} of {self.n_ranks}"

    @staticmethod
    def of(environment: Mapping[str, str]) -> Ranks:
        """Return which process this is, by the variables that torchrun sets; ALONE where it did not start it.

        Raises SettingsError where they do not tell.
        """
        if any(name not in environment for name in _NEEDED):
            return ALONE
        try:
            ranks = Ranks(int(environment[_RANK]), int(environment[_COUNT]), int(environment.get(_LOCAL, "0")))
        except ValueError:
            ranks = Ranks(0, 0)
        if not 0 <= ranks.rank < ranks.n_ranks:
            given = f"{_RANK}={environment[_RANK]}, {_COUNT}={environment[_COUNT]}"
            raise SettingsError(f"which process of torchrun this is does not follow from {given}; unset both")
        return ranks if ranks.n_ranks > 1 else ALONE

    @property
    def is_first(self) -> bool:
        """Return whether this is the process that writes."""
        return self.rank == 0


ALONE = Ranks()
