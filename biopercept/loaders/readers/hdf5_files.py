"""The door to HDF5: files opened, links left, and each data set checked before a sample of it is read.

A file may point out of itself (external links, external storage, virtual data sets) or ask for code that is not here
(filters): neither is followed. Sizes are compared with what is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import RecordingError

LARGEST_ATTRIBUTE = 4096
LARGEST_RATIO = 1100
"""Bytes of samples from a stored byte: what the strongest usual filter (deflate) can reach, and a little more."""
_SLACK = 1 << 20
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
"""Filters of the HDF5 library itself and of h5py; any other is code that a file asks to be loaded."""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Give an open file: the one door to the HDF5 library, whose errors become RecordingError."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except RecordingError:
        raise
    except Exception as fault:  # the library raises whatever the damage runs into
        words = str(fault).splitlines()[0][:200] if str(fault) else ""
        raise RecordingError(
            f"{path.name}: cannot be read as HDF5 ({words}); it is cut or damaged, copy it again"
        ) from fault


def members(group: Any) -> list[str]:
    """Return the names in a group that are its own, in order: links to elsewhere are no part of it."""
    import h5py

    return [name for name in group if isinstance(group.get(name, getlink=True), h5py.HardLink)]


def checked(path: Path, dataset: Any) -> None:
    """Refuse a data set that is not in the file, needs a foreign filter, or promises more than is stored.

    Raises RecordingError.
    """
    name = f"{path.name}: data set {dataset.name[:80]!r}"
    if dataset.external:
        raise RecordingError(f"{name} lies in other files ({dataset.external[0][0][:80]!r}), which are not opened")
    if dataset.is_virtual:
        raise RecordingError(f"{name} is put together from other files, which are not opened; export it as one file")
    properties = dataset.id.get_create_plist()
    codes = [int(properties.get_filter(i)[0]) for i in range(properties.get_nfilters())]
    foreign = [code for code in codes if code not in _FILTERS]
    if foreign:
        raise RecordingError(
            f"{name} is packed by filter {foreign[0]}, which is not part of HDF5; store it with gzip or unpacked"
        )
    n_promised = float(np.prod([float(size) for size in dataset.shape])) * dataset.dtype.itemsize
    n_stored = dataset.id.get_storage_size()
    if n_promised > LARGEST_RATIO * n_stored + _SLACK:
        raise RecordingError(
            f"{name} promises {n_promised:.3g} bytes by its shape {dataset.shape}, and {n_stored} are stored; export "
            "it again"
        )


def text_of(value: Any) -> Any:
    """Return an attribute's value as plain Python: text, a number, or a list of them; None for anything else."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.generic):
        return text_of(value.item())
    if isinstance(value, np.ndarray):
        if value.size == 1:
            return text_of(value.reshape(-1)[0])
        return [text_of(one) for one in value.reshape(-1)] if value.ndim == 1 else None
    return value if isinstance(value, str | int | float) else None


def attributes_of(thing: Any, names: list[str] | None = None) -> dict[str, Any]:
    """Return the attributes of these names that are small: of all that are there where none are given."""
    values = {}
    for name in list(thing.attrs) if names is None else [one for one in names if one in thing.attrs]:
        stored = thing.attrs.get_id(name)
        if int(np.prod(stored.shape, dtype=float)) <= LARGEST_ATTRIBUTE and stored.dtype.kind in "iufSUO":
            values[name] = text_of(thing.attrs[name])
    return values
