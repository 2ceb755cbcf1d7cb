"""What the schema of BIDS says against a derivative data set: names, description, tables, sidecars."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest


def faults(top: Path) -> list[str]:
    """Return what is wrong with a derivative data set, a sentence each. Skips where the packages are missing."""
    pytest.importorskip("bidsschematools", reason="needs bidsschematools (pip install 'biopercept[dev]')")
    pytest.importorskip("jsonschema", reason="needs jsonschema (pip install 'biopercept[dev]')")
    from bidsschematools.schema import load_schema

    schema = load_schema()
    return [
        *_of_names(top, schema),
        *_of_description(top, schema),
        *(fault for path in sorted(top.rglob("*_events.tsv")) for fault in _of_events(path, schema)),
    ]


def _of_names(top: Path, schema: Any) -> Iterator[str]:
    """Give the files whose name or place no rule of raw or derived data sets allows."""
    from bidsschematools.rules import regexify_filename_rules

    groups = schema.rules.files
    rules = [
        rule["regex"]
        for group in (groups.common.core, groups.deriv.preprocessed_data, groups.deriv.tables)
        for rule in regexify_filename_rules(group, schema, level=1)
    ]
    known = {rule.path for rule in groups.common.core.values() if "path" in rule}
    known |= {rule.stem for rule in groups.common.core.values() if "stem" in rule}
    for path in sorted(path for path in top.rglob("*") if path.is_file()):
        name = path.relative_to(top).as_posix()
        if name not in known and not any(re.fullmatch(rule, name) for rule in rules):
            yield f"{name} has a name that no rule allows"
        if path.stat().st_size == 0:
            yield f"{name} is empty"


def _of_description(top: Path, schema: Any) -> Iterator[str]:
    import jsonschema

    description = json.loads((top / "dataset_description.json").read_text(encoding="utf-8"))
    rules = [schema.rules.json.dataset[name] for name in ("dataset_description", "derivative_description")]
    for field, how in ((field, how) for rule in rules for field, how in rule.fields.items()):
        if _level(how) == "required" and field not in description:
            yield f"dataset_description.json lacks {field}"
    for field, value in description.items():
        try:
            jsonschema.validate(value, schema.objects.metadata[field].to_dict())
        except jsonschema.ValidationError as fault:
            yield f"dataset_description.json: {field}: {fault.message}"
    if description["BIDSVersion"].rpartition(".")[0] != schema.bids_version.rpartition(".")[0]:
        yield f"dataset_description.json is of BIDS {description['BIDSVersion']}, the schema of {schema.bids_version}"
    with (top / "descriptions.tsv").open(encoding="utf-8", newline="") as stream:
        said = {row["desc_id"] for row in csv.DictReader(stream, delimiter="\t")}
    used = {f"desc-{desc}" for path in top.rglob("*_events.tsv") for desc in re.findall(r"_desc-([^_]+)_", path.name)}
    if said != used:
        yield f"descriptions.tsv has {sorted(said)} and the files {sorted(used)}"


def _level(how: Any) -> str:
    return str(how if isinstance(how, str) else how["level"])


def _of_events(path: Path, schema: Any) -> Iterator[str]:
    """Give what is wrong with columns, cells and the sidecar of a table of events."""
    import jsonschema

    text = path.read_text(encoding="utf-8")
    if "\r" in text:
        yield f"{path.name} has lines that end in a carriage return"
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    rule = schema.rules.tabular_data.events.Events
    columns = list(rows[0]) if rows else text.rstrip("\n").split("\t")
    if columns[: len(rule.initial_columns)] != list(rule.initial_columns):
        yield f"{path.name} begins with {columns[:3]}"
    sidecar = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    for missing in [name for name in columns if name not in rule.columns and name not in sidecar]:
        yield f"{path.name}: the column {missing} is not described"
    for name in [name for name in columns if isinstance(sidecar.get(name), Mapping)]:
        about = sidecar[name]
        for field in about:
            jsonschema.validate(about[field], schema.objects.metadata[field].to_dict())
        if "Levels" in about and (stray := {row[name] for row in rows} - {*about["Levels"], "n/a"}):
            yield f"{path.name}: {name} has {sorted(stray)}, which Levels does not"
    for field in ("TaskName", "Description"):  # recommended of tables of behaviour, and of all derivatives
        if not isinstance(sidecar.get(field), str):
            yield f"{path.with_suffix('.json').name} lacks {field}"
    onsets = [float(row["onset"]) for row in rows]
    if onsets != sorted(onsets) or any(float(row["duration"]) < 0 for row in rows if row["duration"] != "n/a"):
        yield f"{path.name}: onsets do not rise, or a duration is below 0"
