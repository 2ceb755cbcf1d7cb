"""How far long work has come, from the code that does it to whoever shows it: steps within steps, and what is kept.

Work says ``with steps("folds", 10) as folds: ... folds.advance()``; steps opened inside are parts of the step that is
being done. Whoever shows it listens: :func:`listening`. Nothing is shown where nobody listens. What runs in child
processes is reported to the parent, which says how far they are: :func:`show_others`. What must be known although the
work goes on is a :func:`notice`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from biopercept.errors import OutputError

T = TypeVar("T")

Listener = Callable[["Progress"], None]


class Share(NamedTuple):
    """How much of one step another process has done, in [0, 1], and words on it."""

    fraction: float
    words: str = ""


@dataclass(eq=False)
class Steps:
    """Steps of one kind: ``done`` of ``total``, and words on the last of them, such as its loss.

    ``is_kept``: what is done is in files, and the same command goes on behind it; ``is_result``: these are results,
    which ``--overwrite`` removes. ``weight`` is how many steps of the
    outer kind these are together, ``before`` how many were done before, ``others`` steps that other processes are at,
    ``n_in_files`` gives how many are in files where this may be fewer than are done.
    """

    what: str
    total: int
    done: int = 0
    is_kept: bool = False
    is_result: bool = True
    weight: int = 1
    words: str = ""
    before: int = 0
    others: tuple[Share, ...] = ()
    n_in_files: Callable[[], int] | None = field(default=None, repr=False)

    @property
    def kept(self) -> int:
        """Return how many of those that are done are in files."""
        return self.done if self.n_in_files is None else min(self.done, self.n_in_files())

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
        inner, weight = sum(share.fraction for share in self.open[-1].others) if self.open else 0.0, 1
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
        words = _in_words(self.open[1:], self.open)
        busy = next((share.words for share in self.open[-1].others if share.words), "") if self.open else ""
        return ", ".join(filter(None, [words, busy]))

    @property
    def share(self) -> Share:
        """Return how far this process is with all its steps, for another one of whose steps they are a part."""
        return Share(self.fraction, _in_words(self.open, self.open))


def _in_words(inner: Sequence[Steps], all_open: Sequence[Steps]) -> str:
    counts = [f"{one.what} {min(one.done + 1, one.total)} of {one.total}" for one in inner if one.total > 1]
    last = next((one.words for one in reversed(all_open) if one.words), "")
    return ", ".join(filter(None, [*counts, last]))


_PROGRESS = Progress()
_LISTENERS: list[Listener] = []
_NOTICED: list[Callable[[str], None]] = []


def _tell() -> None:
    for listener in _LISTENERS:
        listener(_PROGRESS)


@contextmanager
def steps(
    what: str, total: int, *, done: int = 0, is_kept: bool = False, is_result: bool = True, weight: int = 1
) -> Iterator[Steps]:
    """Open steps, of which some may be ``done`` from before; see :class:`Steps`."""
    opened = Steps(what, total, done, is_kept, is_result, weight, before=done)
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


def notice(sentence: str) -> None:
    """Say a sentence that whoever waits must know although the work goes on; a warning where nobody asked for them."""
    if not _NOTICED:
        warnings.warn(sentence, stacklevel=3)
    for listener in _NOTICED[-1:]:
        listener(sentence)


@contextmanager
def noticing(listener: Callable[[str], None]) -> Iterator[None]:
    """Call a function with each sentence of :func:`notice` while the block runs."""
    _NOTICED.append(listener)
    try:
        yield
    finally:
        _NOTICED.remove(listener)


def show_others(shares: Sequence[Share], *, is_one_done: bool) -> None:
    """Say how far other processes are, each with one step of those that were opened last.

    Where one has just done its step, nothing is shown before that step is advanced by: all would seem to go back.
    """
    if _PROGRESS.open and _PROGRESS.open[-1].others != tuple(shares):
        _PROGRESS.open[-1].others = tuple(shares)
        if not is_one_done:
            _tell()


def stopped_words(afresh: str = "--overwrite") -> str:
    """Return what is kept of work that was ended early, a sentence for the user, and forget it.

    ``afresh`` is the option with which the command begins again whatever results are kept.
    """
    ended = _ended()
    if not ended.kept:
        return "stopped; files that were written are whole, what was not finished is lost"
    if not ended.parts:
        return f"stopped before the first of {ended.all_of_them} was finished"
    return f"stopped; kept are {ended.parts}: the same command{ended.without(afresh)} goes on there"


def unwritten_words(afresh: str = "--overwrite") -> str:
    """Return what is kept of work that ended as a file could not be written, and forget it; empty of a single file.

    ``afresh`` as in :func:`stopped_words`.
    """
    ended = _ended()
    if not ended.steps:
        return ""
    if not ended.kept:
        return "files that were written before are whole; the same command begins again"
    if not ended.parts and any(one.done for one in ended.kept):
        return f"there was no room for what was done of {ended.all_of_them}; the same command begins again"
    if not ended.parts:
        return f"none of {ended.all_of_them} was finished"
    return f"kept are {ended.parts}: once there is room, the same command{ended.without(afresh)} goes on there"


def forget_what_ended() -> None:
    """Forget the steps at which earlier work of this process ended: another command begins."""
    _PROGRESS.stopped = ()


class _Ended(NamedTuple):
    """The steps at which work ended early."""

    steps: tuple[Steps, ...]

    @property
    def kept(self) -> list[Steps]:
        return [one for one in self.steps if one.is_kept]

    @property
    def parts(self) -> str:
        return " and ".join(f"{one.kept} of {one.total} {_plural(one.what)}" for one in self.kept if one.kept)

    @property
    def all_of_them(self) -> str:
        return f"{self.kept[-1].total} {_plural(self.kept[-1].what)}"

    def without(self, afresh: str) -> str:
        """Return which option must not be given, where there are results that it would remove."""
        return f" without {afresh}" if any(one.is_result for one in self.kept if one.kept) else ""


def _ended() -> _Ended:
    """Return where work ended, and forget it."""
    stopped, _PROGRESS.stopped = _PROGRESS.stopped, ()
    return _Ended(stopped)


def _plural(what: str) -> str:
    return "epochs" if what == "epoch" else what
