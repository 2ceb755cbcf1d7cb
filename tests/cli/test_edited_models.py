"""A model whose description somebody edited, its hash made right: refused in a sentence or used, and never a bug."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import biopercept
from biopercept.errors import BioperceptError
from biopercept.training.checkpoint import load_model

WRONG: tuple[Any, ...] = (None, "x", -1, 10**30, [], {}, [[1]], 1e308, "../../evil")


def _places(value: Any, path: tuple[Any, ...] = (), depth: int = 0) -> Iterator[tuple[Any, ...]]:
    """Give the places in a document: all keys to a depth of four, and of lists the first element."""
    if depth == 4:
        return
    items = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))[:1]
        if isinstance(value, list)
        else []
    )
    for key, inner in items:
        yield (*path, key)
        yield from _places(inner, (*path, key), depth + 1)


def _edited(document: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    at: Any = changed
    for key in place[:-1]:
        at = at[key]
    if value is Ellipsis:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    rest = {key: one for key, one in changed.items() if key != "description_sha256"}
    changed["description_sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    return changed


def test_no_edit_of_a_description_is_a_bug_of_ours(tmp_path: Path) -> None:
    shipped = Path(biopercept.__file__).parent / "shipped" / "stress-wrist"
    document = json.loads((shipped / "model.json").read_text())
    folder = tmp_path / "model"
    shutil.copytree(shipped, folder)
    draw = random.Random(0)
    edits = [(place, draw.choice([*WRONG, ...])) for place in draw.sample(list(_places(document)), 60)]
    n_refused = 0
    for place, value in [(("tokens", "highest_hz"), 10**30), (("feature_names",), ["x"]), (("versions",), []), *edits]:
        (folder / "model.json").write_text(json.dumps(_edited(document, place, value)))
        try:
            load_model(folder)
        except BioperceptError:
            n_refused += 1
        except Exception as fault:
            raise AssertionError(f"{place} as {value!r}: {fault!r}") from fault
    assert n_refused > 20
