"""Files that are there whole or not at all: write beside the target, sync, rename; and one writer at a time."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from biopercept.errors import BusyError, OutputError
from biopercept.progress import notice

_CHUNK = 1 << 20


def _machine() -> str:
    """Return what tells machines, and containers on one machine, apart that may share a folder and a name."""
    parts = [socket.gethostname().encode("utf-8", "surrogateescape")]
    with suppress(OSError):
        parts.append(Path("/etc/machine-id").read_bytes())
    with suppress(OSError):
        parts.append(
            os.fsencode(Path("/proc/self/ns/pid").readlink())
        )  # numbers of processes mean something in it alone
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:6]


MACHINE = _machine()
"""Names this machine, 6 hex digits."""

_LEFT = re.compile(r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{6})-(?P<process>\d+)\.(?P<kind>tmp|old)")
"""Names of what is being written: of a machine's process, which tells whether it is still being written."""
_SWEPT: set[Path] = set()
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
_AT_WORKING_FOLDER, _EXCHANGE = -100, 2


def cause(fault: OSError) -> str:
    """Return why a file operation failed, in the system's words; of files copied together, why the first did."""
    if isinstance(fault, shutil.Error) and fault.args and isinstance(fault.args[0], list) and fault.args[0]:
        words = str(fault.args[0][0][-1])
        return re.sub(r"^\[Errno \d+\] |: '.*$", "", words, flags=re.S)
    return fault.strerror or str(fault)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that becomes ``target`` when the block ends well.

    The temporary file is synced to disk and renamed over the target, so that a reader sees the
    old file or the new one and never part of one. It is removed where the block fails.

    What processes that were killed left behind in the folder is removed.

    Raises OutputError where the folder cannot be written to or the disk is full.
    """
    temporary = _beside(target, "tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as fault:
        raise OutputError(
            f"cannot write {target.name} in {target.parent}: {cause(fault)}; what was there is unchanged"
        ) from fault
    finally:
        with suppress(OSError):  # the folder itself may be what cannot be written
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside ``target`` that becomes ``target``, files and all, when the block ends well.

    What was there before goes only when the new folder is whole, and stays where the block fails; files in it that
    the new folder does not write itself are carried over. Where the system can exchange two folders in one step, one of
    the two is there at any moment; elsewhere a process that is killed between two steps leaves the old one aside, and
    the next that writes in this place puts it back.

    Raises OutputError where the folder cannot be written to or the disk is full.
    """
    fresh, former = _beside(target, "tmp"), _beside(target, "old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        yield fresh
        if target.is_dir():
            _carry_over(target, fresh)
        _sync(fresh)
        if not (target.exists() and _exchanged(fresh, target)):
            if target.exists():
                target.replace(former)
            fresh.replace(target)
        _sync(target.parent)
    except OSError as fault:
        raise OutputError(
            f"cannot write {target.name} in {target.parent}: {cause(fault)}; what was there is unchanged"
        ) from fault
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if former.exists() and not target.exists():
            former.replace(target)
        shutil.rmtree(former, ignore_errors=True)


def _beside(target: Path, kind: str) -> Path:
    """Return where this process writes what will be ``target``, or puts what it was aside."""
    return target.with_name(f".{target.name}.{MACHINE}-{os.getpid()}.{kind}")


def _exchanged(fresh: Path, target: Path) -> bool:
    """Exchange two folders in one step; return False where the system cannot."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # Linux
    if exchange is None:
        return False
    names = (_AT_WORKING_FOLDER, os.fsencode(fresh), _AT_WORKING_FOLDER, os.fsencode(target))
    if exchange(*names, _EXCHANGE) == 0:
        return True
    if (code := ctypes.get_errno()) in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # this file system cannot
        return False
    raise OSError(code, os.strerror(code))


def _sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left in a folder, once; put back a folder that was set aside."""
    place = folder.resolve()
    if place in _SWEPT:
        return
    _SWEPT.add(place)
    try:
        members = [*place.iterdir()]
    except OSError:  # written to, and not listed
        return
    for path in members:
        left = _LEFT.fullmatch(path.name)
        if left is None or left["host"] != MACHINE or is_running(int(left["process"])):
            continue
        with suppress(OSError):  # another process sweeps, too
            if left["kind"] == "old" and not (target := place / left["name"]).exists():
                path.replace(target)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


_TEMPORARY = re.compile(r"biopercept-(?P<host>[0-9a-f]{6})-(?P<process>\d+)-.*")


def temporary_prefix() -> str:
    """Return how names of temporary folders of this process begin, by which :func:`sweep_temporary` knows them."""
    return f"biopercept-{MACHINE}-{os.getpid()}-"


def sweep_temporary() -> None:
    """Remove temporary folders of processes of this machine that were killed: samples may be in them."""
    with suppress(OSError):
        for path in Path(tempfile.gettempdir()).iterdir():
            name = _TEMPORARY.fullmatch(path.name)
            if name is not None and name["host"] == MACHINE and not is_running(int(name["process"])):
                shutil.rmtree(path, ignore_errors=True)


def is_running(process: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def _carry_over(source: Path, target: Path) -> None:
    """Copy what ``target`` lacks of the folder ``source``."""
    for member in source.iterdir():
        if not (target / member.name).exists():
            copy = shutil.copytree if member.is_dir() and not member.is_symlink() else shutil.copy2
            copy(member, target / member.name)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(target: Path, content: bytes) -> None:
    """Write a whole file or nothing. Raises OutputError where it cannot be written."""
    with replacing(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Write a whole UTF-8 text file or nothing. Raises OutputError where it cannot be written."""
    write_bytes(target, content.encode("utf-8"))


def write_json(target: Path, content: Any) -> None:
    """Write a whole JSON file or nothing; NaN is refused. Raises OutputError where it cannot be written."""
    write_text(target, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def visible_members(folder: Path) -> tuple[Path, ...]:
    """Return what lies in a folder, by name, without names that begin with a dot.

    Those are what systems keep for themselves: macOS writes a "._NAME" beside every NAME on disks that are not its own.
    """
    return tuple(sorted(member for member in folder.iterdir() if not member.name.startswith(".")))


def is_folder(path: Path) -> bool:
    """Return whether a folder is there; none is under a name that no file can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Return whether a file is there; none is under a name that is too long for the system."""
    try:
        return path.is_file()
    except OSError:
        return False


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, or of a folder's file names and bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    members = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for member in members:
        if member != path:
            digest.update(str(member.relative_to(path)).encode("utf-8", "surrogateescape") + b"\0")
        with member.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def only_writer(target: Path, *, is_shared: bool = False) -> Iterator[None]:
    """Hold the right to write ``target`` (a file or a folder) while the block runs.

    The lock is the operating system's and ends with the process, so a dead owner never blocks; file systems of networks
    may not have it. Its file, ``.NAME.lock`` beside the target, goes when the last block ends; that of a process that
    was killed stays, and whoever takes it over says so. ``is_shared``: others that share the work have it, too.

    Raises BusyError where another process holds it. Raises OutputError where the folder cannot be written to.
    """
    place = target.resolve()  # ".", and a link to the target, are the target
    if not place.name:
        raise OutputError(f"cannot write {target}: it is the root of the disk; choose another output")
    lock = place.with_name(f".{place.name}.lock")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = locked(lock, target, is_shared=is_shared)
    except OSError as fault:
        raise OutputError(f"cannot write in {target.parent}: {fault.strerror}; choose another output") from fault
    try:
        if not is_shared:
            _sign(handle, target)
        yield
    finally:
        with suppress(OSError):  # while it is locked, by nobody else: whoever opened it meanwhile looks for another
            _flock(handle, is_shared=False)
            if os.path.samestat(os.fstat(handle), lock.stat()):  # else somebody removed it by hand, and it is another's
                lock.unlink()
        os.close(handle)


def _sign(handle: int, target: Path) -> None:
    """Write into a lock whose it is; say where a process had done so that could not remove it."""
    if os.fstat(handle).st_size:
        notice(f"a process that was killed left the lock of {target.name} behind; it is taken over")
    with suppress(OSError):  # on a full disk it is a lock all the same
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def locked(lock: Path, target: Path, *, is_shared: bool = False) -> int:
    """Return an open file that this process, or all that share it, has locked until it is closed.

    It is made where it is not there, and may be removed while it is locked: who opened it before that finds another
    file in its place, or none, and takes that one. Nothing is locked where the file system has no locks.

    Raises BusyError where another process writes ``target``. Raises OSError where the file cannot be made.
    """
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _flock(handle, is_shared=is_shared)
            if os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
        except FileNotFoundError:
            pass  # removed between opening and locking
        except OSError as fault:
            os.close(handle)
            raise BusyError(
                f"another process is writing {target.name}; wait for it or choose another output"
            ) from fault
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _flock(handle: int, *, is_shared: bool) -> None:
    """Lock an open file, or do nothing where the file system has no locks. Raises OSError where another has."""
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as fault:
        if fault.errno not in _NO_LOCKS:
            raise


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


FILE_ENDINGS = frozenset(
    f".{ending}"
    for kind in (
        "csv tsv txt md json yaml yml xml xls xlsx ods parquet rds",
        "htm html pdf doc docx rtf tex bmp gif jpg jpeg png svg",
        "h5 hdf5 mat npy npz pickle pkl onnx pt pth",
        "edf bdf fif set xdf gz bz2 tar zip",
    )
    for ending in kind.split()
)
"""Endings of files that a user may expect where something else is written, or a folder; v1.2 is none."""


def refuse_ending(output: Path, what: str, endings: Sequence[str] = ()) -> None:
    """Refuse an output whose name promises another kind of file than what is written.

    Names without one of :data:`FILE_ENDINGS` pass, and so does a folder that is there where a folder is written.

    Parameters
    ----------
    what : str
        What is written, with its article, for the sentence: "a store".
    endings : sequence of str
        Of that file, the usual one first; empty where a folder is written.

    Raises OutputError with exit code 2.
    """
    ending = output.suffix.lower()
    if ending not in FILE_ENDINGS or ending in endings or (not endings and is_folder(output)):
        return
    right = output.with_suffix(endings[0] if endings else "")
    kind = f"{what} ends in {' or '.join(endings)}" if endings else f"{what} is a folder of files"
    fault = OutputError(f"{output} ends in {ending}, and {kind}; give another output, such as {right}")
    fault.exit_code = 2
    raise fault


def refuse_existing(output: Path, *, overwrite: bool, is_folder: bool = True, beside: str = "") -> None:
    """Refuse an output that exists and is not empty, or is a file where a folder is written.

    ``beside`` is the name of a file in it that does not count. Raises OutputError with exit code 2 where it does and
    ``overwrite`` is not set.
    """
    is_taken = output.is_file() or (output.is_dir() and any(path.name != beside for path in output.iterdir()))
    if is_taken and not overwrite:
        fault = OutputError(f"{output} exists and is not empty; choose another output or add --overwrite")
        fault.exit_code = 2
        raise fault
    if is_folder and output.is_file():
        fault = OutputError(f"{output} is a file; choose a folder for the results")
        fault.exit_code = 2
        raise fault


def refuse_inputs(
    output: Path, inputs: Iterable[Path], *, is_in_study_allowed: bool = True, is_within_allowed: bool = False
) -> None:
    """Refuse, overwriting or not, an output that is what is read, or lies in a folder of recordings that is read.

    The folder of a study, or of a BIDS data set, may hold results, where that is allowed; ``is_within_allowed``: what
    is read are results, and others may lie in their folder. Raises OutputError with exit code 2.
    """
    place = output.resolve()
    for path in inputs:
        source = path.resolve()
        is_study = any(is_file(source / name) for name in ("study.yaml", "dataset_description.json"))
        is_within = source in place.parents and not (is_within_allowed or (is_in_study_allowed and is_study))
        if source == place or is_within:
            what = "is what is read" if source == place else f"lies in {path}, which is read"
            fault = OutputError(f"{output} {what}; choose another output")
            fault.exit_code = 2
            raise fault


_SIGNATURE = re.compile(rb"<!-- made by biopercept (?P<what>[0-9a-f]{12}) (?P<content>[0-9a-f]{64}) -->\n\Z")


def signed_page(page: str, what: str, source: Path, target: Path) -> str:
    """Return a page with a last line that tells it again: ``what`` it shows of which source, and that none changed it.

    No path can be read from it; where source and target lie to each other is all that it depends on.
    """
    body = page if page.endswith("\n") else f"{page}\n"
    content = hashlib.sha256(body.encode("utf-8")).hexdigest()
    return f"{body}<!-- made by biopercept {_page_digest(what, source, target)} {content} -->\n"


def _page_digest(what: str, source: Path, target: Path) -> str:
    place = os.path.relpath(source.resolve(), target.resolve().parent)
    return hashlib.sha256(f"{MACHINE}\0{what}\0{place}".encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _is_signed_page(target: Path, what: str, source: Path) -> bool:
    """Return whether a file is a page as :func:`signed_page` made it here of the same, untouched since."""
    try:
        content = target.read_bytes()
    except OSError:
        return False
    line = _SIGNATURE.search(content)
    if line is None or line["what"].decode() != _page_digest(what, source, target):
        return False
    return hashlib.sha256(content[: line.start()]).hexdigest() == line["content"].decode()


def refuse_other_than_page(target: Path, *, overwrite: bool, what: str, source: Path) -> None:
    """Refuse the place of a page where something is that may not be replaced, or that is no page (.html).

    A page that :func:`signed_page` made of the same may be replaced. Raises OutputError with exit code 2.
    """
    if is_file(target) and target.suffix.lower() not in (".html", ".htm"):
        fault = OutputError(f"{target} is there and is no page (.html); choose another output")
        fault.exit_code = 2
        raise fault
    refuse_existing(target, overwrite=overwrite or _is_signed_page(target, what, source), is_folder=False)


def guarded_cell(text: str) -> str:
    """Return text for a CSV or TSV cell that no spreadsheet runs as a formula; :func:`plain_cell` undoes it.

    Text that starts with ``= + - @`` TAB or CR gets an apostrophe in front; numbers must not go through here.
    """
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA_STARTS) else text


def plain_cell(cell: str) -> str:
    """Return the text that :func:`guarded_cell` was given."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA_STARTS) else cell


def safe_cell(value: object) -> str:
    """Return a table cell that no spreadsheet reads as a formula; numbers stay as they are, None is empty.

    >>> safe_cell("=1+1"), safe_cell(-2.5), safe_cell(None)
    ("'=1+1", '-2.5', '')
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(float(value)) if value == value else ""
    return str(value) if isinstance(value, int) else guarded_cell(str(value))


def write_table(
    target: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], *, delimiter: str = ","
) -> None:
    """Write a whole table or nothing: a header and rows, missing values empty, formulas disarmed.

    Raises OutputError where it cannot be written.
    """
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow([safe_cell(column) for column in columns])
    writer.writerows([safe_cell(value) for value in row] for row in rows)
    write_text(target, text.getvalue())
