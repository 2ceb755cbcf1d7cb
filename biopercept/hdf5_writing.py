"""A new HDF5 file written through Python, so that a full disk is an ordinary error and not a crash of the interpreter.

HDF5's own drivers try to write again when the library shuts down after a failed write, which has ended in a
segmentation fault; h5py's driver for Python files does not survive an exception inside a callback. So the file
below lets nothing out: it keeps its first fault, plays a working disk until HDF5 has closed, and then gives it up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biopercept.store_layout import FORMAT


@contextmanager
def hdf5_writer(path: Path) -> Iterator[Any]:
    """Give a new, empty HDF5 file at ``path``, a temporary name: nothing is kept of what was there.

    Raises
    ------
    OSError
        The first fault of the file system, once HDF5 has closed; and before that where it shows at once.
    """
    import h5py

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    stream = FaultKeepingFile(handle)
    try:
        with h5py.File(stream, "w", libver=FORMAT) as store:
            yield store
    except BaseException as consequence:
        if stream.fault is not None:
            raise stream.fault from consequence
        raise
    finally:
        os.close(handle)
    if stream.fault is not None:
        raise stream.fault


class FaultKeepingFile:
    """A file for h5py's driver that keeps its first fault and goes on as if all were well.

    Attributes
    ----------
    fault : BaseException or None
        The first fault; also an interrupt that struck inside a callback.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._place = 0
        self._size = 0
        self.fault: BaseException | None = None

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte; asks nothing of the disk."""
        self._place = place + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def read(self, size: int) -> bytes:
        """Return bytes from the place on, as h5py expects a file to have it."""
        content = bytearray(size)
        self.readinto(memoryview(content))
        return bytes(content)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer from the place on."""
        try:
            done = 0
            while self.fault is None and done < len(buffer):
                piece = os.preadv(self._handle, [buffer[done:]], self._place + done)
                if piece == 0:
                    break
                done += piece
        except BaseException as fault:
            self.fault = fault
        self._place += len(buffer)
        return len(buffer)

    def write(self, content: memoryview) -> int:
        """Write the whole content at the place; a write may be short and is then continued."""
        try:
            done = 0
            while self.fault is None and done < len(content):
                done += os.pwrite(self._handle, content[done:], self._place + done)
        except BaseException as fault:
            self.fault = fault
        self._place += len(content)
        self._size = max(self._size, self._place)
        return len(content)

    def truncate(self, size: int) -> int:
        """Cut or extend the file."""
        try:
            if self.fault is None:
                os.ftruncate(self._handle, size)
        except BaseException as fault:
            self.fault = fault
        self._size = size
        return size

    def flush(self) -> None:
        """Do nothing: nothing is buffered, and the file is synced once when it is whole."""
