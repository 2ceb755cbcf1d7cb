"""The layout of a store's HDF5 file: its schema, what may stand in it, and the hash that covers each recording.

::

    /                     attributes: schema, biopercept_version, study, tasks, settings, feature_names, labels,
                          order; about (description, licence, citation), where the study says something of itself
      recordings/KEY      attributes: subject, session, recording, duration_seconds, signal_names, left_out, notes,
                          source_hash, settings_hash, content_hash; corrections, where some were made by hand
        signals/NAME      float32 (n_channels, n_samples), contiguous; attributes: name, modality, unit, rates, ...
        masks/NAME        uint8, same shape, 1 = real
        quality/NAME      float32 (n_channels, n_seconds)
        reasons/NAME      uint32, same shape, of measured signals: bits of what is wrong in the second; the names of the
                          bits are the recording's attribute reason_names. Neither is in a store of an older version.
        ratings/NAME      float32 (2, n), values (0 where unknown) and 1 = known; attributes: name, sampling_rate,
                          start_seconds. Only where the study's tasks name continuous ratings.
        windows/COLUMN    onset, label, stage, is_labelled: (n_windows,)
        features          float32 (n_windows, n_features)
        window_quality    float32 (n_windows, n_signals)

Only hard links, contiguous uncompressed data and fixed-length text occur. The file is written in a
format whose metadata HDF5 itself checksums; the samples are covered by ``content_hash``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StoreError

SCHEMA = 1
"""Version of the layout; a store of a newer one is refused."""

FORMAT = ("v110", "v110")
"""HDF5 format bounds: the oldest with checksums on all metadata, readable by every HDF5 since 1.10."""

GROUPS = ("signals", "masks", "quality", "windows")
"""Groups of one recording, each holding only datasets."""

REASONS = "reasons"
"""Group of the same kind that a store of an older version lacks."""

RATINGS = "ratings"
"""Group of continuous labels, where a recording has some."""

TABLES = ("features", "window_quality")
"""Datasets that lie beside the groups."""

SIGNAL_ATTRIBUTES = {
    "name": str, "modality": str, "unit": str, "sampling_rate": float, "native_sampling_rate": float,
    "start_seconds": float, "derived_from": str,
}  # fmt: skip
"""What is written of a signal as it is; channels are written as text, and samples are the dataset."""

_LONGEST_TEXT = 64 << 20
_BLOCK_BYTES = 8 << 20
_HDF5_FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError)


def read_attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a group or dataset as text and numbers. Raises StoreError as :func:`read_attribute`."""
    return {name: read_attribute(node, name) for name in sorted(node.attrs)}


def read_attribute(node: Any, name: str) -> Any:
    """Return one attribute: str, int or float.

    Raises StoreError where it is absent, or neither one number nor one fixed-length text of reasonable size.
    """
    try:
        try:
            attribute = node.attrs.get_id(name)
        except KeyError as fault:
            raise StoreError(f"{node.name} lacks {name!r}; the file is no store of biopercept or is damaged") from fault
        if attribute.shape != () or attribute.dtype.kind not in "Sif" or attribute.dtype.itemsize > _LONGEST_TEXT:
            raise StoreError(f"{node.name} holds a {name!r} that no store of biopercept has; prepare the study again")
        value = np.empty((), dtype=attribute.dtype)
        attribute.read(value)
        return value.item().decode("utf-8") if attribute.dtype.kind == "S" else value.item()
    except _HDF5_FAULTS as fault:
        raise StoreError(f"{node.name} has a {name!r} that cannot be read, it is damaged; prepare again") from fault


def child(group: Any, name: str, *, is_group: bool) -> Any:
    """Return a member of a group, refusing everything that could lead out of the file.

    Raises StoreError where the member is absent, a soft or external link, of the other kind, or not plain contiguous
    data.
    """
    import h5py

    try:
        link = group.get(name, getlink=True)
        if link is None:
            raise StoreError(f"{group.name} lacks {name!r}; the file is no store of biopercept or is damaged")
        if not isinstance(link, h5py.HardLink):
            raise StoreError(f"{group.name}/{name} is a link to somewhere else; links are refused in a store")
        node = group.get(name)
        if not isinstance(node, h5py.Group if is_group else h5py.Dataset):
            kind = "group" if is_group else "table of data"
            raise StoreError(f"{group.name}/{name} is not a {kind} as the layout has it")
        if not is_group:
            _refuse_unusual_data(node)
        return node
    except _HDF5_FAULTS as fault:
        raise StoreError(f"{group.name}/{name} cannot be read, it is damaged; prepare the study again") from fault


def _refuse_unusual_data(dataset: Any) -> None:
    properties = dataset.id.get_create_plist()
    is_plain = (
        not dataset.is_virtual
        and properties.get_external_count() == 0
        and properties.get_nfilters() == 0
        and dataset.chunks is None
        and dataset.shape is not None
        and dataset.dtype.kind in "fiuS"
    )
    if not is_plain:
        raise StoreError(f"{dataset.name} is not plain contiguous data; such data is refused in a store")


def datasets_of(recording: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path within the recording and the dataset, of every dataset, in the order they are hashed and copied.

    Raises StoreError where the recording holds anything the layout does not have, or lacks something.
    """
    extra = sorted(set(recording) - {*GROUPS, REASONS, RATINGS, *TABLES})
    if extra:
        raise StoreError(f"{recording.name} holds {extra[0]!r}, which no store of biopercept has; prepare it again")
    for group_name in (*GROUPS, *(name for name in (REASONS, RATINGS) if name in recording)):
        group = child(recording, group_name, is_group=True)
        for name in sorted(group):
            yield f"{group_name}/{name}", child(group, name, is_group=False)
    for name in TABLES:
        yield name, child(recording, name, is_group=False)


def blocks(dataset: Any) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield a dataset in pieces of a few megabytes, with the rows or columns each piece covers."""
    if dataset.size == 0:
        return
    if dataset.ndim == 1:
        step = max(1, _BLOCK_BYTES // dataset.dtype.itemsize)
        for start in range(0, dataset.shape[0], step):
            rows = slice(start, start + step)
            yield rows, dataset[rows]
        return
    for row in range(dataset.shape[0]):
        yield slice(row, row + 1), dataset[row : row + 1]


def content_hash(recording: Any) -> str:
    """Return the SHA-256 over all attributes, names, types and samples of a stored recording but the hash itself.

    Raises StoreError where the recording is not of the layout.
    """
    digest = hashlib.sha256()
    _hash_attributes(digest, recording)
    for path, dataset in datasets_of(recording):
        digest.update(f"{path}\0{dataset.dtype.str}\0{dataset.shape}\0".encode())
        _hash_attributes(digest, dataset)
        for _, block in blocks(dataset):
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def _hash_attributes(digest: Any, node: Any) -> None:
    for name, value in read_attributes(node).items():
        if name != "content_hash":
            digest.update(f"{name}\0{value!r}\0".encode("utf-8", "backslashreplace"))


def is_intact(recording: Any) -> bool:
    """Return whether a stored recording is of the layout and its content is what was written."""
    try:
        return bool(read_attribute(recording, "content_hash") == content_hash(recording))
    except (StoreError, *_HDF5_FAULTS):
        return False
