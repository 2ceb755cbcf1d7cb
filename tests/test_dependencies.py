"""What pyproject declares is what the code imports: nothing unused is installed, nothing used is missing."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORTED_AS = {
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "perceiver-pytorch": "perceiver_pytorch",
    "PySide6-Essentials": "PySide6",
}
PEERS = {"perceiver"}  # installs only against its own pins: docs/experiments/speed.md says how
RUN_TIME_EXTRAS = ("bench", "cluster", "desktop", "edf", "formats", "live", "onnx", "parquet")
NOT_IMPORTED = {
    "pytest-benchmark",  # a plugin of pytest
    "onnx",
    "onnxscript",  # loaded by torch.onnx
}


def _names(requirements: Iterable[str]) -> set[str]:
    names = (Requirement(text).name for text in requirements)
    return {IMPORTED_AS.get(name, name).replace("-", "_") for name in names if name not in NOT_IMPORTED}


def _imports(folders: Iterable[str]) -> Iterator[str]:
    """Give the top name of every absolute import in the product, inside functions and through library_for too."""
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    yield node.module.partition(".")[0]
                elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "library_for":
                    yield str(ast.literal_eval(node.args[1])).partition(".")[0]


def _product() -> set[str]:
    return set(_imports(("biopercept", "cli"))) - set(sys.stdlib_module_names) - {"biopercept"}


def test_every_declared_dependency_is_imported_by_the_product() -> None:
    assert _names(PROJECT["dependencies"]) - _product() == set()


def test_every_import_of_the_product_is_declared() -> None:
    extras = [text for extra in RUN_TIME_EXTRAS for text in PROJECT["optional-dependencies"][extra]]
    assert _product() - _names([*PROJECT["dependencies"], *extras]) - PEERS == set()


def test_what_an_extra_installs_is_imported_somewhere() -> None:
    for extra in RUN_TIME_EXTRAS:
        unused = _names(PROJECT["optional-dependencies"][extra]) - _product()
        assert unused == set(), f"the extra {extra} installs {unused} for nobody"


def test_every_declared_package_has_a_tested_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {Requirement(line).name.lower() for line in lines if line and not line.startswith("#")}
    declared = {Requirement(text).name.lower() for text in PROJECT["dependencies"]}
    assert declared - pinned == set()
