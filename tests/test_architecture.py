"""The house keeps its shape: imports point down, packages are listed, nothing dangerous or homeless is in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import this_checkout

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. A room may import rooms of lower floors, and of its own floor as long as no circle closes.
FLOORS: tuple[tuple[str, ...], ...] = tuple(
    tuple(rooms.split())
    for rooms in (
        "errors recording modalities tasks files derivatives sharing parallel cluster ranks progress synonyms"
        " typed_values resources version model",
        "loaders studies preprocessing",
        "store",
        "prepare data",
        "measures",
        "training",
        "baselines",
        "results",
        "planning",
        "report inference",
        "streaming",
        "viewing",
        "desktop",
        "evaluation",
        "audit comparison tuning benchmarks",
        "config",
        "notebook",
        "cli configs sample_data",
    )
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms} | {"": len(FLOORS)}
WITHIN_A_FLOOR = {("studies", "loaders")}  # the arrows between second-floor rooms that the plan allows
QT = ("PySide6", "pyqtgraph", "shiboken6")
HEAVY = (*QT, "torch", "mne", "neurokit2", "scipy", "pandas", "sklearn", "matplotlib", "h5py", "wfdb", "edfio")
LIGHT_AT_TOP = {"typer", "biopercept"}
HOMELESS = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "misc",
    "base",
    "manager",
    "handler",
    "core",
    "shared",
    "lib",
}


def _modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, where it is installed."""
    return this_checkout().paths


def _imported(module: str, *, at_top_only: bool = False) -> Iterator[str]:
    """Dotted names that a module imports, relative ones resolved; at the top, without those for type checking."""
    path = _modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    units = this_checkout().units[module]
    everywhere = [node for unit in units for node in (*unit.all(ast.Import), *unit.all(ast.ImportFrom))]
    for node in _top_level(this_checkout().tree(module)) if at_top_only else everywhere:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            stem = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{stem}.{alias.name}"
                yield whole if whole in _modules() else stem


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_every_room_has_a_floor() -> None:
    assert {_room(module) for module in _modules()} - set(FLOOR_OF) == set()


@pytest.mark.parametrize("module", sorted(_modules()))
def test_imports_point_down(module: str) -> None:
    here = _room(module)
    for target in _imported(module):
        there = _room(target)
        if target.partition(".")[0] != "biopercept" or there == here:
            continue
        assert FLOOR_OF[there] <= FLOOR_OF[here], f"{module} imports {target}, which stands on a higher floor"
        if FLOOR_OF[there] == FLOOR_OF[here] == 1:
            assert (here, there) in WITHIN_A_FLOOR, (
                f"{module} imports {target}: {here} and {there} do not know each other"
            )


def test_no_circle_of_imports_between_modules_or_rooms() -> None:
    arrows = {m: {t for t in _imported(m) if t in _modules() and t != m} for m in _modules()}
    _assert_no_circle(arrows)
    rooms: dict[str, set[str]] = {}
    for module, targets in arrows.items():
        rooms.setdefault(_room(module), set()).update(_room(t) for t in targets if _room(t) != _room(module))
    _assert_no_circle(rooms)


def _assert_no_circle(arrows: dict[str, set[str]]) -> None:
    left = {name: set(targets) for name, targets in arrows.items()}
    while left:
        free = {name for name, targets in left.items() if not targets & set(left)}
        assert free, f"a circle of imports runs through {sorted(left)}"
        left = {name: targets for name, targets in left.items() if name not in free}


def test_the_circle_finder_finds_a_circle() -> None:
    with pytest.raises(AssertionError, match="circle"):
        _assert_no_circle({"a": {"b"}, "b": {"a"}, "c": set()})


@pytest.mark.parametrize("module", sorted(_modules()))
def test_no_text_is_made_and_thrown_away(module: str) -> None:
    alone = [node for node in ast.walk(this_checkout().tree(module)) if isinstance(node, ast.Expr)]
    assert [node.lineno for node in alone if isinstance(node.value, ast.JoinedStr)] == []


def test_the_command_line_is_imported_by_nobody() -> None:
    guests = [
        m
        for m in _modules()
        if _room(m) != "cli"
        for t in _imported(m)
        if _room(t) == "cli" and t.startswith("biopercept")
    ]
    assert guests == []


def test_command_modules_import_only_typer_and_their_neighbours_at_the_top() -> None:
    for module in _modules():
        if _room(module) != "cli":
            continue
        for target in _imported(module, at_top_only=True):
            root = target.partition(".")[0]
            assert root in LIGHT_AT_TOP or root in sys.stdlib_module_names, f"{module} imports {target} at its top"
            is_door = target in ("biopercept", "biopercept.errors", "biopercept.version") or _room(target) == "cli"
            assert root != "biopercept" or is_door, (
                f"{module} imports {target} at its top; import it inside the command"
            )


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, biopercept, biopercept.errors, biopercept.resources; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert loaded & set(HEAVY) == set()


def test_qt_is_imported_in_the_room_of_the_window_alone() -> None:
    strangers = [m for m in _modules() if _room(m) != "desktop" for t in _imported(m) if t.partition(".")[0] in QT]
    assert strangers == []
    inside = {m for m in _modules() for t in _imported(m, at_top_only=True) if t.partition(".")[0] in QT}
    assert inside == {f"biopercept.desktop.{name}" for name in ("canvas", "painting", "viewer", "window")}


def test_init_files_hold_no_work() -> None:
    for module, path in _modules().items():
        if path.name != "__init__.py" or module == "biopercept":
            continue
        allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
        assert all(isinstance(node, allowed) for node in this_checkout().tree(module).body), f"{path} does work"


def test_no_module_or_folder_has_a_homeless_name() -> None:
    words = {word for module in _modules() for part in module.split(".") for word in part.split("_")}
    assert words & HOMELESS == set()


def test_packages_listed_for_installation_equal_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(m for m, path in _modules().items() if path.name == "__init__.py")


def test_every_folder_with_modules_is_a_package() -> None:
    bare = {str(path.parent) for path in _modules().values() if not (path.parent / "__init__.py").is_file()}
    assert bare == set()


DANGEROUS_CALLS = {"eval", "exec", "__import__"}
DANGEROUS_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
DANGEROUS_ATTRIBUTES = {
    *(("yaml", name) for name in ("load", "unsafe_load", "full_load")),
    *((owner, name) for owner in ("torch", "joblib") for name in ("load", "save", "dump")),
    *((owner, "read_pickle") for owner in ("pd", "pandas")),
    *(("os", name) for name in ("system", "popen")),
}


@pytest.mark.parametrize("module", sorted(_modules()))
def test_nothing_that_runs_what_it_reads_is_in_the_package(module: str) -> None:
    assert list(_dangers(this_checkout().tree(module))) == []
    roots = {target.partition(".")[0] for target in _imported(module)}
    assert roots & DANGEROUS_MODULES == set()


def _dangers(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func
        if isinstance(name, ast.Name) and name.id in DANGEROUS_CALLS:
            yield ast.unparse(node)
        if isinstance(name, ast.Attribute):
            owner = name.value.id if isinstance(name.value, ast.Name) else ""
            if (owner, name.attr) in DANGEROUS_ATTRIBUTES or name.attr == "extractall":
                yield ast.unparse(node)
        for keyword in node.keywords:
            if keyword.arg in ("shell", "allow_pickle") and getattr(keyword.value, "value", None) is True:
                yield ast.unparse(node)
        if ast.unparse(name).endswith("Environment") and not any(k.arg == "autoescape" for k in node.keywords):
            yield f"{ast.unparse(node)} does not escape"


@pytest.mark.parametrize(
    "code",
    [
        "eval('1')",
        "yaml.load(text)",
        "torch.load(path)",
        "subprocess.run('ls', shell=True)",
        "np.load(path, allow_pickle=True)",
        "archive.extractall()",
        "jinja2.Environment()",
    ],
)
def test_the_danger_finder_finds(code: str) -> None:
    assert list(_dangers(ast.parse(code)))


def test_no_machine_path_or_address_stands_in_code() -> None:
    for module, path in _modules().items():
        text = path.read_text(encoding="utf-8")
        found = re.search(r"[\"']/(home|root|tmp|Users|mnt)/|[\"']C:", text)
        assert not found, f"{module} names a path of one machine"
