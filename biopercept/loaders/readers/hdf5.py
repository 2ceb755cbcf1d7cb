"""HDF5 files: OpenSignals, MATLAB 7.3, and any whose attributes or sidecar say the rate of their arrays.

The attributes of an array, of the groups above it and numbers beside it (``fs``) say what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.identity import identity_of_entries
from biopercept.loaders.readers.arrays import MOST_ARRAYS, Arrays, Index, NamedArray, meaning_of, recording_of_arrays
from biopercept.loaders.readers.hdf5_files import LARGEST_ATTRIBUTE, attributes_of, checked, members, opened, text_of
from biopercept.loaders.readers.opensignals_h5 import is_opensignals, recording_of_opensignals
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import Recording

DEEPEST = 16
MOST_OBJECTS = 20_000


def is_hdf5(first_bytes: bytes) -> bool:
    """Return whether a file begins as HDF5 or as MATLAB 7.3, which is HDF5 behind a header of its own."""
    return first_bytes.startswith((b"\x89HDF\r\n\x1a\n", b"MATLAB 7.3 MAT-file"))


def load_hdf5(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an HDF5 file: OpenSignals where it has that layout, else its arrays.

    Raises RecordingError where the file is damaged or hostile, or nothing says the rate of an array.
    """
    with opened(path) as file:
        if is_opensignals(file):
            return recording_of_opensignals(path, file, overrides)
        content = _arrays(path, file)
    return recording_of_arrays(path, content, overrides)


def _meanings(thing: Any) -> dict[str, Any]:
    names = [name for name in list(thing.attrs)[:LARGEST_ATTRIBUTE] if meaning_of(name)]
    return {meaning_of(name): value for name, value in attributes_of(thing, names).items()}


def _arrays(path: Path, file: Any) -> Arrays:
    """Return the arrays of numbers in a file, and what is left out."""
    import h5py

    arrays: list[NamedArray] = []
    left_out: dict[str, list[str]] = {}
    seen: set[Any] = {h5py.h5o.get_info(file.id).addr}

    def visit(group: Any, above: dict[str, Any], depth: int) -> None:
        if depth > DEEPEST:
            raise RecordingError(f"{path.name}: groups in groups, deeper than {DEEPEST}; store the arrays further up")
        names = members(group)
        links = [name for name in group if name not in set(names)]
        if links:
            left_out.setdefault("links, which are not followed", []).extend(
                f"{group.name.rstrip('/')}/{one}" for one in links
            )
        # An array may have several names, and a group contain itself: each thing is looked at once.
        here = {}
        for name in names:
            address = h5py.h5o.get_info(group[name].id).addr
            if address not in seen:
                seen.add(address)
                here[name] = group[name]
        if len(seen) > MOST_OBJECTS or len(arrays) > MOST_ARRAYS:
            raise RecordingError(f"{path.name}: more than {MOST_ARRAYS} arrays, which no recording has")
        datasets = {name: one for name, one in here.items() if isinstance(one, h5py.Dataset)}
        around = {**above, **_meanings(group), **_numbers(datasets)}
        for dataset in datasets.values():
            why = _why_not(dataset)
            if why:
                left_out.setdefault(why, []).append(dataset.name)
            elif dataset.size > 1:
                checked(path, dataset)
                place = dataset.name.strip("/")
                arrays.append(
                    NamedArray(place, dataset.shape, _reader(path, dataset.name), {**around, **_meanings(dataset)})
                )
        for name, inner in here.items():
            if isinstance(inner, h5py.Group) and name != "#refs#":
                visit(inner, around, depth + 1)

    visit(file, {}, 0)
    notes = [f"left out are {why}: {', '.join(n[:80] for n in names[:8])}" for why, names in left_out.items()]
    whose = identity_of_entries(attributes_of(file, list(file.attrs)[:LARGEST_ATTRIBUTE]))
    return Arrays(tuple(arrays), notes=(*notes, *whose))


def _numbers(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data sets of one number whose name says what it means, as attributes of their group."""
    return {
        meaning_of(name): text_of(one[()])
        for name, one in datasets.items()
        if one.shape is not None and one.size == 1 and one.dtype.kind in "iuf" and meaning_of(name) and not one.external
    }


def _why_not(dataset: Any) -> str:
    """Return why a data set is no array of numbers, in words that follow "left out are"; empty where it is one."""
    if dataset.shape is None or dataset.size == 0:
        return "empty data sets"
    if dataset.dtype.kind not in "iufb" or "MATLAB_empty" in dataset.attrs:
        return "data sets of text, times, references or records"
    if text_of(dataset.attrs.get("MATLAB_class", "")) == "char":
        return "data sets of text, times, references or records"
    if len([size for size in dataset.shape if size != 1]) > 2:
        return "data sets of more than two dimensions"
    return ""


def _reader(path: Path, name: str) -> Any:
    def samples(index: Index) -> NDArray[Any]:
        with opened(path) as file:
            return np.asarray(file[name][index])

    return samples
