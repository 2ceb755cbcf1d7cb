"""Docstrings: each file opens with its purpose, each public thing says what it gives and what it raises."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from biopercept import errors

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for folder in ("biopercept", "cli", "configs", "sample_data") for path in (ROOT / folder).rglob("*.py")
)
OUR_ERRORS = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.ClassDef | FunctionNode]]:
    for node in body:
        if isinstance(node, ast.ClassDef | FunctionNode) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{prefix}{node.name}.")


def _raised_here(function: FunctionNode) -> set[str]:
    """Names of our errors that the function itself raises (not those of functions defined in it)."""
    found: set[str] = set()
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            found.add(node.exc.func.id)
        if not isinstance(node, FunctionNode | ast.ClassDef):
            todo += ast.iter_child_nodes(node)
    return found & OUR_ERRORS


def _is_command(node: FunctionNode) -> bool:
    return any(argument.arg in ("debug", "run") for argument in node.args.args)


def _faults(source: str, *, is_command: bool = False) -> list[str]:
    """Every way in which a file's docstrings fall short; a command's is its help, where exit codes stand for errors."""
    tree = ast.parse(source)
    faults = []
    opening = (ast.get_docstring(tree) or "").split("\n\n")[0].strip()
    if not opening.endswith((".", "::")) or len(opening.split()) < 3:
        faults.append("the file does not open with one sentence of purpose")
    for name, node in _public(tree.body):
        text = ast.get_docstring(node)
        if text is None:
            faults.append(f"{name} has no docstring")
            continue
        if not text.split("\n\n")[0].rstrip().endswith((".", ":", "::")):
            faults.append(f"the first line of {name} is no sentence")
        if not isinstance(node, ast.ClassDef) and not (is_command and _is_command(node)):
            faults += [
                f"{name} raises {error} and does not say so"
                for error in sorted(_raised_here(node))
                if error not in text
            ]
    return faults


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_docstrings_are_complete(path: Path) -> None:
    assert _faults(path.read_text(encoding="utf-8"), is_command=path.parent.name == "cli") == []


def test_settings_describe_each_of_their_fields() -> None:
    for path in FILES:
        for name, node in _public(ast.parse(path.read_text(encoding="utf-8")).body):
            if not (isinstance(node, ast.ClassDef) and name.endswith("Settings")):
                continue
            text = ast.get_docstring(node) or ""
            settings = [
                row.target.id
                for row in node.body
                if isinstance(row, ast.AnnAssign) and isinstance(row.target, ast.Name)
                if not ast.unparse(row.annotation).endswith("Settings")  # they describe themselves
            ]
            missing = [setting for setting in settings if setting not in text]
            assert missing == [], f"{name} in {_name(path)} says nothing about {missing}"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("x = 1", "the file does not open with one sentence of purpose"),
        ('"""A file of tests."""\ndef f():\n    return 1', "f has no docstring"),
        ('"""A file of tests."""\nclass A:\n    """Be it"""', "the first line of A is no sentence"),
        (
            '"""A file of tests."""\ndef f():\n    """Return it."""\n    raise StoreError("no")',
            "f raises StoreError and does not say so",
        ),
    ],
)
def test_each_fault_is_found(source: str, fault: str) -> None:
    assert _faults(source) == [fault]
