"""How far long work has come, from the code that does it to whoever shows it: steps within steps, and what is kept.

Work says ``with steps("folds", 10) as folds: ... folds.advance()``; steps opened inside are parts of the step that is
being done. Whoever shows it listens: :func:`listening`. Nothing is shown where nobody listens, and what runs in other
processes is not heard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from biopercept.errors import OutputError

T = TypeVar("T")

Listener = Callable[["Progress"], None]


@dataclass(eq=False)
class Steps:
    """Steps of one kind: ``done`` of ``total``, and words on the last of them, such as its loss.

    ``is_kept``: what is done is in files, and the same command goes on behind it. ``weight`` is how many steps of the
    outer kind these are together, ``before`` how many were done before.
    """

    what: str
    total: int
    done: int = 0
    is_kept: bool = False
    weight: int = 1
    words: str = ""
    before: int = 0

    def advance(self, words: str = "", *, by: int = 1) -> None:
        """Say that one more step is done, or ``by`` of them."""
        self.done += by
        self.words = words
        _tell()


@dataclass(eq=False)
class Progress:
    """All steps that are open now, the outermost first; ``stopped`` are those at which work was last ended early.

    Work may end early behind its steps, too: the last outermost ones that are kept stand there until others begin.
    """

    open: list[Steps] = field(default_factory=list)
    stopped: tuple[Steps, ...] = ()

    @property
    def fraction(self) -> float:
        """Return how much of all is done, in [0, 1]."""
        inner, weight = 0.0, 1
        for one in reversed(self.open):
            inner = min(max(one.done + weight * inner, 0.0) / one.total, 1.0) if one.total else 0.0
            weight = one.weight
        return inner

    @property
    def fraction_before(self) -> float:
        """Return how much of all was done before this run began."""
        outer = self.open[0] if self.open else None
        return 0.0 if outer is None or not outer.total else max(outer.before, 0) / outer.total

    @property
    def words(self) -> str:
        """Return what was said last, and what is being done below the outermost steps: "epoch 12 of 96, loss 0.61"."""
        inner = [f"{one.what} {min(one.done + 1, one.total)} of {one.total}" for one in self.open[1:] if one.total > 1]
        last = next((one.words for one in reversed(self.open) if one.words), "")
        return ", ".join(filter(None, [*inner, last]))


_PROGRESS = Progress()
_LISTENERS: list[Listener] = []


def _tell() -> None:
    for listener in _LISTENERS:
        listener(_PROGRESS)


@contextmanager
def steps(what: str, total: int, *, done: int = 0, is_kept: bool = False, weight: int = 1) -> Iterator[Steps]:
    """Open steps, of which some may be ``done`` from before; see :class:`Steps`."""
    opened = Steps(what, total, done, is_kept, weight, before=done)
    if not _PROGRESS.open:
        _PROGRESS.stopped = ()  # what was ended before is another work's
    _PROGRESS.open.append(opened)
    _tell()
    try:
        yield opened
        if is_kept and _PROGRESS.open[:1] == [opened]:
            _PROGRESS.stopped = (opened,)
    except (KeyboardInterrupt, OutputError, OSError):
        _PROGRESS.stopped = (opened, *_PROGRESS.stopped)
        raise
    finally:
        if opened in _PROGRESS.open:
            del _PROGRESS.open[_PROGRESS.open.index(opened) :]


def each(what: str, items: Sequence[T]) -> Iterator[T]:
    """Give items one after the other, each a step that is done when the next is asked for."""
    with steps(what, len(items)) as done:
        for item in items:
            yield item
            done.advance()


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call a function with the progress whenever a step is done, while the block runs."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


def stopped_words(afresh: str = "--overwrite") -> str:
    """Return what is kept of work that was ended early, a sentence for the user, and forget it.

    ``afresh`` is the option with which the command begins again whatever is kept.
    """
    kept, parts = _kept()[1:]
    if not kept:
        return "stopped; files that were written are whole, what was not finished is lost"
    if not parts:
        return f"stopped before the first of {kept[-1].total} {kept[-1].what} was finished"
    return f"stopped; kept are {' and '.join(parts)}: the same command without {afresh} goes on there"


def unwritten_words(afresh: str = "--overwrite") -> str:
    """Return what is kept of work that ended as a file could not be written, and forget it; empty of a single file.

    ``afresh`` as in :func:`stopped_words`.
    """
    stopped, kept, parts = _kept()
    if not stopped:
        return ""
    if not kept:
        return "files that were written before are whole; the same command begins again"
    if not parts:
        return f"none of {kept[-1].total} {kept[-1].what} was finished"
    return f"kept are {' and '.join(parts)}: once there is room, the same command without {afresh} goes on there"


def _kept() -> tuple[tuple[Steps, ...], list[Steps], list[str]]:
    """Return the steps at which work ended, those of them that are kept, and how many in words; forget them."""
    stopped, _PROGRESS.stopped = _PROGRESS.stopped, ()
    kept = [one for one in stopped if one.is_kept]
    return stopped, kept, [f"{one.done} of {one.total} {one.what}" for one in kept if one.done]
