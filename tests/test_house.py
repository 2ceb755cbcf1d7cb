"""What may only fall: counts of the things that make the house hard to hold in the head, and what is never allowed."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from parameter_walk import WALKS, files_opened, start
from source_tree import (
    IN_FOLDER,
    ROOT,
    SourceTree,
    imports_from_docs,
    made_tree,
    n_in_circles,
    ratchets,
    this_checkout,
    unused,
)

CEILINGS: dict[str, int] = json.loads((ROOT / "tests" / "house_ceilings.json").read_text(encoding="utf-8"))
LOWER = "run .ci/house --lower"


@cache
def _places() -> dict[str, list[str]]:
    return ratchets(this_checkout())


@pytest.mark.parametrize("name", CEILINGS)
def test_no_count_rises(name: str) -> None:
    places = _places().get(name, [])
    moved = f" (or, where files moved between folders, {LOWER})" if name.startswith(IN_FOLDER) else ""
    assert len(places) <= CEILINGS[name], f"{name}: {len(places)}, at most {CEILINGS[name]}{moved}: {', '.join(places)}"


def test_every_count_has_a_ceiling() -> None:
    # A folder without one is new: its words count in the sum over all folders.
    assert {name for name in _places() if not name.startswith(IN_FOLDER)} <= set(CEILINGS)


@pytest.mark.parametrize("name", [name for name in CEILINGS if not name.startswith(IN_FOLDER)])
def test_no_ceiling_is_far_above_its_count(name: str) -> None:
    count = len(_places()[name])
    assert CEILINGS[name] <= count + max(2, count // 9), f"lower the ceiling of {name} to {count}: {LOWER}"


def test_the_report_reads_results_and_never_imports_the_evaluation() -> None:
    assert _climbs_into_evaluation(this_checkout()) == []


def _climbs_into_evaluation(tree: SourceTree) -> list[str]:
    inside = [module for module in tree.paths if tree.room(module) in ("report", "reporting")]
    assert inside, "no room of reports was found"
    return [f"{m} imports {t}" for m in inside for t in tree.arrows[m] if tree.room(t) == "evaluation"]


def test_a_report_that_imports_the_evaluation_is_found(tmp_path: Path) -> None:
    files = {
        "report__page": "def f():\n    from biopercept.evaluation.plan import Plan",
        "evaluation__plan": "class Plan: ...",
    }
    assert len(_climbs_into_evaluation(made_tree(tmp_path, **files))) == 1


def test_nothing_under_docs_is_imported() -> None:
    assert imports_from_docs(this_checkout()) == []


def test_an_import_from_docs_is_found(tmp_path: Path) -> None:
    tree = made_tree(tmp_path, a="from experiments.run import main", b="import docs.experiments", c="import runpy")
    (tmp_path / "docs" / "experiments").mkdir(parents=True)
    (tmp_path / "docs" / "experiments" / "run.py").touch()
    assert [line.split()[0] for line in imports_from_docs(tree)] == ["biopercept.a", "biopercept.b"]


KINDS = "class Fitted(Protocol):\n    def scores(self): ...\n    def size(self): ...\nclass Checkpoint: ...\n"
MADE: dict[str, tuple[dict[str, str], int]] = {
    "functions of more than six parameters in the library": (
        {"a": "def f(a, b, c, d, e, f, g): ...\nclass A:\n    def f(self, a, b, c, *, d, e, f): ..."},
        1,
    ),
    "questions for the kind of a checkpoint, plan, fitted model or store": (
        {
            "a": KINDS + "class Mean:\n    def scores(self): ...\n    def size(self): ...\n"
            "GROUP = (Mean, Checkpoint)\n",
            "b": "isinstance(x, Checkpoint)\nisinstance(x, A | Mean)\nisinstance(x, GROUP)\ntype(x) is a.Checkpoint\n"
            "match x:\n    case Checkpoint(): ...\n",
            "c": "isinstance(x, CheckpointError | str)\ntype(x) is int",
        },
        5,
    ),
    "modules that name is_regression": (
        {"a": "x.is_regression or y.is_regression", "b": "def is_regression(): ...", "c": "f = is_regression"},
        2,
    ),
    "calls of zero_grad": ({"a": "o.zero_grad()\nm.zero_grad(set_to_none=True)"}, 2),
    "refusals of an output folder that is not ours": ({"a": "raise E(f'{o} is not empty and holds no audit')"}, 1),
    "constants that number a schema": ({"a": "SCHEMA = 1", "b": "_FILE_SCHEMA: int = 2\nif 1:\n    SCHEMA = 3"}, 2),
    "small modules for one neighbour": (
        {
            "a__door": "from .small import f\nfrom .leaf import g\nfrom .shared import h\nfrom .long import i\n"
            "T = {'g': g}",
            "a__other": "from .shared import h",
            "a__small": "def f(): ...",
            "a__leaf": "def g(): ...",
            "a__shared": "def h(): ...",
            "a__long": "def i(): ...\n" + "#\n" * 200,
            "b__far": "def j(): ...",
            "a__user": "from biopercept.b.far import j",
        },
        1,
    ),
    "modules that no command and no name of the door reaches": (
        {
            "__init__": "from importlib import import_module\nDOOR = {'f': 'biopercept.named'}",
            "named": "def f():\n    from biopercept.a.near import g",
            "a__near": "def g(): ...",
            "a__lost": "from biopercept.a.near import g",
        },
        1,
    ),
    "functions, classes and methods that nothing uses": (
        {
            "a": "def used():\n    B().m()\n    return deep\ndef deep(): ...\ndef lost():\n    deeply_lost()\n"
            "def deeply_lost(): ...\nclass B(nn.Module):\n    def forward(self): ...\n    def m(self): ...\n"
            "class C:\n    def __len__(self): ...\n    def n(self): ...\nX = used()",
        },
        5,
    ),
    "variables called held": (
        {"a": "held = 1\ndef f(held):\n    for held, x in y: ...\n    with a as held: ...\n    return held.held"},
        4,
    ),
    f"{IN_FOLDER}biopercept/a": ({"a__b": "told = own = 1", "c": "said = 1"}, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_each_count_finds_what_it_counts(name: str, tmp_path: Path) -> None:
    files, count = MADE[name]
    places = ratchets(made_tree(tmp_path, **files))[name]
    assert len(places) == count, places


def test_a_command_is_used_and_its_crowd_of_parameters_counts_for_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "show.py").write_text("@app.command()\ndef show(a, b, c, d, e, f, g): ...", encoding="utf-8")
    tree = SourceTree(tmp_path)
    assert unused(tree) == []
    assert len(ratchets(tree)["functions of more than six parameters in cli"]) == 1
    assert ratchets(tree)["functions of more than six parameters in the library"] == []


def test_circles_are_found_with_what_stands_on_them() -> None:
    assert n_in_circles({"a": {"b"}, "b": {"a"}, "c": {"a"}, "d": set()}) == 3


@pytest.mark.parametrize("walk", WALKS)
def test_every_walk_starts_at_a_function_of_the_package(walk: str) -> None:
    assert start(this_checkout(), walk), f"name the function at which the walk of {walk} starts in WALKS"


WALKED = {
    "a": "from biopercept.b import read, other\nfrom biopercept.d import Made\n"
    "def load(path, x):\n    for line in open(path):\n        read(x, text=line.strip())\n    other(x)\n"
    "    Made(x, path.name)\n",
    "b": "from . import c\ndef read(n, text):\n    with text as parts, n:\n        first, *rest = parts\n"
    "    c.unit(rest)\n"
    "def other(x):\n    from biopercept.e import lost\n    lost(x)\n",
    "c": "from biopercept.f import deep\ndef unit(words):\n    return deep(*words)\n",
    "d": "from biopercept.g import check\nclass Made:\n    def __post_init__(self):\n        check(self.name)\n",
    "e": "def lost(x): ...\n",
    "f": "def deep(a, b): ...\n",
    "g": "from biopercept.h import WrongError\ndef check(name): raise WrongError(name)\n",
    "h": "class WrongError: ...\n",
}


def test_a_walk_opens_what_receives_the_parameter_and_nothing_else(tmp_path: Path) -> None:
    tree = made_tree(tmp_path, **WALKED)
    assert _letters(files_opened(tree, "biopercept.a.load", "path", None)) == "abcdfg"
    assert _letters(files_opened(tree, "biopercept.a.load", "x", None)) == "abde" + "g"
    assert _letters(files_opened(tree, "biopercept.a.load", "path", 2)) == "abcdg"


def _letters(modules: set[str]) -> str:
    return "".join(sorted(module[-1] for module in modules))


def test_the_command_prints_the_table_and_lowers_ceilings(tmp_path: Path) -> None:
    made_tree(tmp_path, a__b="held = 1\ntold = 2\n", c="from biopercept.a.b import held\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "README.md").write_text("1\n2\n3\n", encoding="utf-8")
    ceilings = tmp_path / "tests" / "house_ceilings.json"
    ceilings.write_text(
        json.dumps({"variables called held": 5, "variables called told": 0, f"{IN_FOLDER}biopercept/gone": 3})
    )
    command = [sys.executable, str(ROOT / ".ci" / "house"), "--root", str(tmp_path), "--lower"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = {line[:70].strip(): line[70:].split() for line in printed.splitlines()}
    assert rows["lines in biopercept/ and cli/"] == ["3", "<=", "39,000", "yes"]
    assert rows["imports between modules"][0] == "1"
    assert rows["lines of README.md"][0] == "3"
    assert rows["lines of tests per line of code"][-1] == "no"
    assert json.loads(ceilings.read_text()) == {
        "variables called held": 1, "variables called told": 0, f"{IN_FOLDER}biopercept/a": 2
    }  # fmt: skip
