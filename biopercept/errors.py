"""The errors users can meet, one tree, each with the exit code its command ends with.

::

    BioperceptError            anything we can explain in one sentence      2
    |-- RecordingError         a file or a signal in it cannot be used      1
    |-- StudyError             a study folder or one of its tables          2
    |-- SettingsError          a configuration value or an option           2
    |-- StoreError             the HDF5 store of a prepared study           2
    |-- CheckpointError        a saved model                                2
    |-- TrainingError          training met non-finite numbers              4
    |-- UnfinishedError        units of shared work are not done yet         1
    |-- OutputError            a result could not be written                74
    `-- BusyError              another process holds the output             75

A message is one sentence: what was found, where (file, subject, channel), what is
allowed, what to do. Errors of lower libraries are caught at one door per library and
raised again ``from`` their cause.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "cannot allocate memory",
    "failed to map segment",
)


class BioperceptError(Exception):
    """Something that the user can understand and mend; the message is one sentence."""

    exit_code: int = 2


class RecordingError(BioperceptError):
    """A recording's file, or a signal in it, cannot be used."""

    exit_code = 1


class StudyError(BioperceptError):
    """A study folder, or one of its tables, is wrong."""


class SettingsError(BioperceptError):
    """A setting or an option has a value that is not allowed."""


class StoreError(BioperceptError):
    """A store is missing, damaged, of another schema, or lacks what was asked for."""


class CheckpointError(BioperceptError):
    """A saved model is missing, damaged, of another schema, or does not fit the data."""


class TrainingError(BioperceptError):
    """Training stopped on numbers that are not finite."""

    exit_code = 4


class UnfinishedError(BioperceptError):
    """Units of work that several processes share are not done yet; what is done is kept."""

    exit_code = 1


class OutputError(BioperceptError):
    """A result could not be written; what was there before is unharmed."""

    exit_code = 74


class BusyError(BioperceptError):
    """Another process is writing to the same output."""

    exit_code = 75


def is_out_of_memory(fault: BaseException) -> bool:
    """Return whether a fault says that memory is used up; torch raises plain RuntimeErrors of it, in several words."""
    if isinstance(fault, MemoryError) or type(fault).__name__ == "OutOfMemoryError":
        return True
    if isinstance(fault, OSError) and fault.errno == errno.ENOMEM:
        return True
    return isinstance(fault, RuntimeError | ImportError | OSError) and any(
        words in str(fault).lower() for words in _OUT_OF_MEMORY
    )


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return names as a phrase of a sentence, cut after ``most`` with the number of those left out.

    >>> listed("abcd", 3)
    'a, b, c and 1 more'
    """
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def count(n: int, noun: str, plural: str = "") -> str:
    """Return a number with what it is of, in the singular where it is one; ``plural`` where it is not noun + "s".

    >>> count(1, "window"), count(0, "window"), count(1200, "person", "people")
    ('1 window', '0 windows', '1,200 people')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def ranged(low: str, high: str) -> str:
    """Return the lowest and the highest of some values, as they are written, as one phrase; once where they read alike.

    >>> ranged("4", "4"), ranged("4", "6")
    ('4', '4 to 6')
    """
    return low if low == high else f"{low} to {high}"


def the_model(folder: object, noun: str = "the model") -> str:
    """Return a saved model by its folder, whose name is often "model" itself.

    >>> the_model("stress"), the_model("model", "the saved model")
    ('the model stress', 'the saved model in folder model')
    """
    return f"{noun} in folder {folder}" if str(folder).lower().startswith("model") else f"{noun} {folder}"


def recording_title(subject: str, session: str, recording: str) -> str:
    """Return subject, session and recording as one phrase for messages; what is empty or said already is left out.

    >>> recording_title("S01", "", "baseline"), recording_title("S01_E4", "", "S01_E4")
    ('S01 baseline', 'S01_E4')
    """
    return " ".join(dict.fromkeys(part for part in (subject, session, recording) if part))


_OF_PROGRAMS = re.compile(
    r"""(File ".*?", line \d+,?( in \w+)?\s*)"""  # a line of a trace
    r"""|(\b[A-Za-z_.]+(Error|Exception|Warning)\b:?\s*)"""  # the name of a class
)


def library_words(fault: BaseException) -> str:
    r"""Return what a library says of a file, as half a sentence: its last line, without names of classes and code.

    >>> library_words(ValueError('File "a.py", line 3, in read\n  x = y\nIndexError: 3 bytes are left.'))
    '3 bytes are left'
    >>> library_words(KeyError())
    'nothing more is known'
    """
    if isinstance(fault, RecursionError):
        return "it is nested too deeply"
    lines = [_OF_PROGRAMS.sub("", line).strip(" .;'\"~^") for line in str(fault).splitlines()]
    texts = [line for line in lines if any(letter.isalpha() for letter in line)]
    return texts[-1][:200] if texts else "nothing more is known"


def fault_of_ours(fault: BaseException) -> str:
    """Return what went wrong and where in our code, as half a sentence; without its words, which may hold data."""
    import traceback
    from pathlib import Path

    places = [f"{Path(frame.filename).name} line {frame.lineno}" for frame in traceback.extract_tb(fault.__traceback__)]
    return (
        f"a fault of ours, {type(fault).__name__} in {places[-1] if places else 'an unknown place'}; please report it"
    )
