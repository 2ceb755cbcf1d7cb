"""What a page, a docstring, a message or a comment refers to exists: files, commands, options, settings, code."""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path

from typer.main import get_command

from biopercept.cli.config import app as config_app
from biopercept.cli.main import build_app
from biopercept.config.settings import Config

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(p for folder in ("biopercept", "cli", "configs", "sample_data") for p in (ROOT / folder).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").glob("*.yaml")])
PAGES.remove(ROOT / "CHANGELOG.md")  # history may name what is gone

# Names that look like references and are not.
OF_PIP = {"--extra-index-url", "--ignore-requires-python", "--no-deps", "--require-hashes", "--upgrade"}
OF_CLUSTERS = {"--array", "--cpus-per-task", "--dependency", "--parsable", "--nthreads", "--nworkers"}  # sbatch, dask
OF_TORCHRUN = {"--nnodes", "--nproc-per-node", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--standalone"}
OF_OTHER_PROGRAMS = OF_PIP | OF_CLUSTERS | OF_TORCHRUN
OF_THE_PROGRAM = {"--show-completion", "--version", "--help", "--install-completion"}
FILE_ENDINGS = ("py", "json", "csv", "md")  # audit.json is a file, and audit.margin a setting


@cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def named(pattern: str, paths: Iterable[Path] = (*PAGES, *CODE)) -> Iterator[tuple[str, str]]:
    """Give where a pattern matches, and what its group holds."""
    for path in paths:
        for found in re.finditer(pattern, read(path)):
            line = read(path).count("\n", 0, found.start()) + 1
            yield f"{path.relative_to(ROOT)}:{line}", found.group(1)


def said(pattern: str) -> Iterator[tuple[str, str]]:
    """Give the same of pages, and of code its strings alone: ``evaluation.calibrating`` in code is an attribute."""
    yield from named(pattern, PAGES)
    for path in CODE:
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for found in re.finditer(pattern, node.value):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", found.group(1)


def test_every_file_that_is_named_exists() -> None:
    rooms = "docs|configs|tests|biopercept|cli|sample_data|\\.ci"
    pattern = rf"(?<![\w/.-])((?:{rooms})/[\w./-]*\w\.(?:md|py|yaml|html|tsv|json|toml)|\.ci/[\w-]+(?![\w.-]))\b"
    missing = [f"{where} names {path}" for where, path in named(pattern) if not (ROOT / path).exists()]
    assert missing == []


def test_every_page_that_a_page_links_to_exists() -> None:
    missing = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", read(page)):
            if not (page.parent / target).exists():
                missing.append(f"{page.relative_to(ROOT)} links to {target}")
    assert missing == []


def commands() -> dict[str, set[str]]:
    """Return the options of each command."""
    of_all, of_config = get_command(build_app()).commands, get_command(config_app).commands  # type: ignore[attr-defined]
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in (*of_all.items(), *((f"config {name}", one) for name, one in of_config.items()))
    }


def test_every_command_that_is_named_exists() -> None:
    known = {*commands(), "config", "COMMAND"}
    lines = named(r"(?m)^ *biopercept ([a-z][\w-]+) .*-", PAGES)  # a command line, and no sentence that begins so
    quoted = named(r"[`']biopercept ([a-z][\w-]+)")
    assert [f"{where} names the command {name}" for where, name in (*lines, *quoted) if name not in known] == []


def test_every_option_that_is_named_exists() -> None:
    own = [*(ROOT / ".ci").iterdir(), *(ROOT / "docs").glob("*/*.py")]
    typed = {"--people", "--stage-seconds"}  # of measurements: the last is by the name of its parameter
    scripts = {option for path in own for option in re.findall(r"[\"'](--[a-z-]+)", read(path))}
    known = {option for options in commands().values() for option in options} | scripts | typed
    known |= OF_OTHER_PROGRAMS | OF_THE_PROGRAM
    pattern = r"(?<![\w-])(--[a-z][a-z-]*[a-z])(?![\w-])"
    assert [f"{where} names {option}" for where, option in named(pattern) if option not in known] == []


def test_every_setting_that_is_named_exists() -> None:
    sections = {name: {f.name for f in fields(kind)} for name, kind in typing.get_type_hints(Config).items()}
    known = {f"{section}.{name}" for section, names in sections.items() for name in (*names, *FILE_ENDINGS)}
    pattern = rf"(?<![\w./])((?:{'|'.join(sections)})\.[a-z]\w*)(?=[= `,;:\"')\]]|\.?\s)"
    assert [f"{where} names {setting}" for where, setting in said(pattern) if setting not in known] == []


def test_every_piece_of_code_that_a_docstring_names_exists() -> None:
    pattern = r":(?:mod|func|class|meth|data|attr):`(?:~)?(biopercept[\w.]+)`"
    assert [f"{where} names {name}" for where, name in named(pattern) if not is_there(name)] == []


def is_there(name: str) -> bool:
    parts = name.split(".")
    for n_module in range(len(parts), 0, -1):
        try:
            held: object = import_module(".".join(parts[:n_module]))
        except ModuleNotFoundError:
            continue
        for part in parts[n_module:]:
            if not hasattr(held, part):
                return False
            held = getattr(held, part)
        return True
    return False
