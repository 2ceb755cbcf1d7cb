"""The code that a store's fingerprint covers is what runs between a file and its stored windows, wherever it lies."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from biopercept.prepare.reuse import code_from_file_to_store, code_hash, imports

PACKAGE = Path(__file__).resolve().parents[2] / "biopercept"
# Prepares the one recording of a study and prints which modules of ours that took.
PREPARE_ONE = """
import sys
from pathlib import Path
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study
study = load_study(Path(sys.argv[1]))
before = set(sys.modules)
from biopercept.prepare.recording import prepare_recording
prepare_recording(load_entry(study, study.entries[0]))
print(*sorted(name for name in set(sys.modules) - before if name.startswith("biopercept.")))
"""


def _files_of(package: Path, names: set[str]) -> set[Path]:
    stems = [package.joinpath(*name.split(".")[1:]) for name in names]
    return {stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py" for stem in stems}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a copy of the package, to change."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "biopercept", ignore=shutil.ignore_patterns("__pycache__")))


def test_all_loaders_and_all_preprocessing_are_covered() -> None:
    covered = _files_of(PACKAGE, set(code_from_file_to_store()))
    rooms = {path for room in ("loaders", "preprocessing") for path in (PACKAGE / room).rglob("[!_]*.py")}
    rooms -= {PACKAGE / "loaders" / "folders.py"}  # which recordings a folder has, and nothing of what is in them
    rooms -= {PACKAGE / "loaders" / "readers" / "matlab_pieces.py"}  # for an import
    assert {"edf.py", "tables.py", "cardiac.py", "windows.py"} <= {path.name for path in rooms}
    assert rooms <= covered
    assert all(path.is_file() for path in covered)


def test_each_changed_byte_in_covered_code_changes_the_hash_and_other_code_does_not(package: Path) -> None:
    before = code_hash(package)
    assert before == code_hash()
    covered = _files_of(package, set(code_from_file_to_store(package)))
    for path in sorted(covered):
        source = path.read_bytes()
        path.write_bytes(source.replace(b"a", b"e", 1))
        assert code_hash(package) != before, path
        path.write_bytes(source)
    others = set(package.rglob("*.py")) - covered
    assert {package / "config" / "loading.py", *(package / "report").glob("*.py")} <= others
    for path in others:
        path.write_bytes(path.read_bytes() + b"\nx = 1\n")
    assert code_hash(package) == before


def test_a_module_that_covered_code_begins_to_import_is_covered(package: Path) -> None:
    (package / "loaders" / "xdf.py").write_text("RATE = 4\n")
    before = code_hash(package)
    door = package / "loaders" / "loading.py"
    door.write_text(door.read_text() + "\ndef load_xdf():\n    from .xdf import RATE\n    return RATE\n")
    during = code_hash(package)
    (package / "loaders" / "xdf.py").write_text("RATE = 8\n")
    assert len({before, during, code_hash(package)}) == 3


def test_what_is_imported_while_a_recording_is_prepared_is_covered(tmp_path: Path) -> None:
    for name, rows in {
        "participants.tsv": ["participant_id", "S1"],
        "recordings.tsv": ["participant_id\trecording\tpath", "S1\tlab\tS1.csv"],
        "study.yaml": ["name: one", "tasks: {stress: {classes: {rest: [a], stress: [b]}}}"],
        "S1.csv": ["time,EDA (uS)", *(f"{sample / 4},{3 + sample % 5 / 9}" for sample in range(600))],
    }.items():
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    words = [sys.executable, "-c", PREPARE_ONE, str(tmp_path)]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = _files_of(PACKAGE, set(run.stdout.split()))
    covered = _files_of(PACKAGE, set(code_from_file_to_store()))
    assert len(loaded) > 10
    assert loaded - covered <= set(PACKAGE.rglob("__init__.py"))


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("import os, numpy as np  # comment", {"os", "numpy"}),
        ("    from .edf import (\n        load_edf,  # comment\n        is_edf as edf,\n    )",
         {"a.b.edf", "a.b.edf.load_edf", "a.b.edf.is_edf"}),
        ("from .. import c", {"a", "a.c"}),
        ("from a import d\nx = 'import y'", {"a", "a.d"}),
    ],
)  # fmt: skip
def test_imports_are_found_in_lines(line: str, names: set[str]) -> None:
    assert imports(line, "a.b") == names


def test_imports_found_in_lines_are_those_that_python_finds() -> None:
    for name, code in code_from_file_to_store().items():
        source, path = code.decode(), PACKAGE.joinpath(*name.split(".")[1:])
        package = name if path.is_dir() else name.rpartition(".")[0]
        assert imports(source, package) == _parsed_imports(source, package), name


def _parsed_imports(source: str, package: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            stem = ".".join([*parents, *([node.module] if node.module else [])])
            names.update([stem, *(f"{stem}.{alias.name}" for alias in node.names)])
    return names
