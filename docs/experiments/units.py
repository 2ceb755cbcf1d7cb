"""Units of work: each is done once, in a child process if asked, and kept as a small file as soon as it is done.

A unit's file is named after a hash of everything its result depends on (settings, seed, data, version of the
experiment), so that a run goes on where it stopped and never takes a result of other settings for its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from biopercept.errors import BioperceptError, SettingsError
from biopercept.files import write_json
from biopercept.parallel import ONE_THREAD, ChildProcesses, Limits, Lost, Work
from biopercept.training.engine import threads
from biopercept.version import __version__

SCHEMA = 1
FOLDER = "units"
_LIMITS = Limits(seconds=24 * 3600.0)


class Unit(Protocol):
    """One piece of work; it is sent to child processes, so it must be picklable."""

    @property
    def name(self) -> str:
        """Return what it is called in file names and messages: "permutation digits cnn raw 0"."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Return everything that the result depends on, as plain values."""
        ...

    def run(self) -> dict[str, Any]:
        """Do the work, on one thread, and return the result as plain values."""
        ...


UnitDone = Callable[[Unit, bool, int], None]


def fingerprint(unit: Unit) -> str:
    """Return the SHA-256 (64 hex digits) of a unit's identity and the version of biopercept."""
    held = json.dumps([SCHEMA, __version__, unit.name, unit.identity()], sort_keys=True)
    return hashlib.sha256(held.encode()).hexdigest()


def unit_path(unit: Unit, output: Path) -> Path:
    """Return the file that holds a unit's result."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", unit.name).strip("-")
    return output / FOLDER / f"{words}-{fingerprint(unit)[:12]}.json"


def run_units(
    units: Sequence[Unit],
    output: Path,
    *,
    n_jobs: int = 1,
    anew: bool = False,
    on_unit: UnitDone | None = None,
) -> list[dict[str, Any]]:
    """Return every unit's file: those of earlier runs as they are, the others done now.

    Raises SettingsError where units were lost with their process; the finished ones are kept. Raises BioperceptError:
    what a unit itself met, once all others are done.

    Parameters
    ----------
    output : Path
        Folder; the units' files lie in its folder ``units``.
    n_jobs : int
        Units at a time, each in a child process of one thread; results do not depend on it.
    anew : bool
        Do every unit again.
    on_unit : callable, optional
        Told ``(unit, was_done_before, n_units)`` as units are done.

    Returns
    -------
    list of dict
        In the order of ``units``, each with ``result`` and ``cpu_seconds`` (processor time of the work).
    """
    tell = on_unit or (lambda unit, was_done, n: None)
    paths = [unit_path(unit, output) for unit in units]
    waiting = []
    for index, (unit, path) in enumerate(zip(units, paths, strict=True)):
        if not anew and read_unit(unit, path) is not None:
            tell(unit, True, len(units))
        else:
            waiting.append(index)
    faults: list[tuple[Unit, BioperceptError | Lost]] = []
    for index, done in _each([units[i] for i in waiting], n_jobs):
        unit, path = units[waiting[index]], paths[waiting[index]]
        if isinstance(done, BioperceptError | Lost):
            faults.append((unit, done))
            continue
        result, cpu_seconds = done
        held = {"schema": SCHEMA, "fingerprint": fingerprint(unit), "unit": unit.name, "identity": unit.identity()}
        write_json(path, {**held, "cpu_seconds": cpu_seconds, "result": result})
        tell(unit, False, len(units))
    _raise_first(faults, len(units))
    found = [read_unit(unit, path) for unit, path in zip(units, paths, strict=True)]
    return [held for held in found if held is not None]


def read_unit(unit: Unit, path: Path) -> dict[str, Any] | None:
    """Return the content of a unit's file, or None where it is absent, damaged, or of another identity."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(held, dict) and {"fingerprint", "result", "cpu_seconds"} <= held.keys()
    return held if is_whole and held["fingerprint"] == fingerprint(unit) else None


def _each(units: Sequence[Unit], n_jobs: int) -> Iterator[tuple[int, Any]]:
    if n_jobs == 1 or len(units) < 2:
        for index, unit in enumerate(units):
            with threads(1):
                yield index, _timed(None, unit)
        return
    yield from ChildProcesses(n_jobs, _LIMITS, ONE_THREAD).run(Work(_timed, None, None), units)


def _timed(context: None, unit: Unit) -> tuple[dict[str, Any], float] | BioperceptError:
    """Do a unit and measure its processor time; what the user can mend comes back as it is."""
    started = time.process_time()
    try:
        result = unit.run()
    except BioperceptError as fault:
        return fault
    return result, time.process_time() - started


def _raise_first(faults: Sequence[tuple[Unit, BioperceptError | Lost]], n_units: int) -> None:
    if not faults:
        return
    unit, fault = faults[0]
    if isinstance(fault, BioperceptError):
        raise fault
    raise SettingsError(
        f"{len(faults)} of {n_units} units were not done, the first ({unit.name}) because {fault.reason}; run the same "
        "command again, perhaps with fewer --jobs (finished units are kept)"
    )
