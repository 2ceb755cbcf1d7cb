"""The source of a checkout as parsed trees, read once: its modules, rooms, imports, and what is counted in them."""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("biopercept", "cli", "configs", "sample_data")
PRIVATE_WORDS = frozenset({"told", "held", "found", "asked", "said", "own"})
"""Variable names that do not say what the variable holds."""
MOST_PARAMETERS = 6
IN_FOLDER = "variables called so in "
FOR_NOTEBOOKS = "to_frame"
"""The method of results that users call, and nothing in the package."""
FORKED_KINDS = frozenset({"Checkpoint", "Plan", "Plans", "Fitted", "Store", "Stores"})
_LEAST_LINES_ALONE = 200  # a file that serves one neighbour alone must be longer than this

Node = TypeVar("Node", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Unit:
    """A function, a method, or the statements of a module or class outside of them; its nodes by their type."""

    def __init__(self, module: str, name: str, statements: list[ast.AST]) -> None:
        self.module, self.name = module, name
        self.nodes: dict[type[ast.AST], list[ast.AST]] = {}
        queue = list(statements)
        for node in queue:  # ast.walk takes three times as long
            self.nodes.setdefault(type(node), []).append(node)
            for value in vars(node).values():
                if isinstance(value, list):
                    queue += [part for part in value if isinstance(part, ast.AST)]
                elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                    queue.append(value)

    def all(self, kind: type[Node]) -> list[Node]:
        """Return the nodes of exactly this type."""
        return self.nodes.get(kind, [])  # type: ignore[return-value]

    @cached_property
    def names(self) -> set[str]:
        """What the unit mentions: variables, attributes, and keywords of calls."""
        return {node.id for node in self.all(ast.Name)} | {node.attr for node in self.all(ast.Attribute)}


class SourceTree:
    """Every module below ``root`` by its dotted name where it is installed, parsed once."""

    def __init__(self, root: Path, folders: tuple[str, ...] = FOLDERS) -> None:
        self.root = root
        self.paths: dict[str, Path] = {}
        for folder in folders:
            for path in sorted((root / folder).rglob("*.py")):
                parts = list(path.relative_to(root).with_suffix("").parts)
                if folder != "biopercept":
                    parts.insert(0, "biopercept")
                if parts[-1] == "__init__":
                    parts.pop()
                self.paths[".".join(parts)] = path
        self._texts: dict[str, str] = {}
        self._trees: dict[str, ast.Module] = {}

    def text(self, module: str) -> str:
        """Return the text of a module."""
        if module not in self._texts:
            self._texts[module] = self.paths[module].read_text(encoding="utf-8")
        return self._texts[module]

    def tree(self, module: str) -> ast.Module:
        """Return the parsed module."""
        if module not in self._trees:
            self._trees[module] = ast.parse(self.text(module))
        return self._trees[module]

    def n_lines(self, module: str) -> int:
        """Return the number of lines of a module."""
        return self.text(module).count("\n")

    @cached_property
    def units(self) -> dict[str, list[Unit]]:
        """The units of each module: its own statements first, then those of functions, classes and their methods."""
        gc.disable()  # none of these objects dies: looking for dead ones takes as long as all the rest
        try:
            return {module: list(_units(module, self.tree(module))) for module in self.paths}
        finally:
            gc.freeze()
            gc.enable()

    def all(self, kind: type[Node], *, within: tuple[str, ...] = ("biopercept",)) -> Iterator[tuple[str, Node]]:
        """Yield every node of exactly this type with its module; ``within`` names packages, as they are installed."""
        for module, units in self.units.items():
            if any(module == package or module.startswith(f"{package}.") for package in within):
                yield from ((module, node) for unit in units for node in unit.all(kind))

    @cached_property
    def imports(self) -> dict[str, dict[str, str]]:
        """Per module the name that each import binds, and what it stands for: a module, or a name in one."""
        return {module: self._bound(module) for module in self.paths}

    def _bound(self, module: str) -> dict[str, str]:
        package = module if self.paths[module].name == "__init__.py" else module.rpartition(".")[0]
        bound: dict[str, str] = {}
        for unit in self.units[module]:
            for node in unit.all(ast.Import):
                bound.update({alias.asname or alias.name: alias.name for alias in node.names})
            for node in unit.all(ast.ImportFrom):
                stem = _stem(node, package)
                bound.update({alias.asname or alias.name: f"{stem}.{alias.name}" for alias in node.names})
        return bound

    @cached_property
    def arrows(self) -> dict[str, set[str]]:
        """Per module the other modules of the package that it imports anywhere, those for type checking included."""
        arrows = {}
        for module, bound in self.imports.items():
            targets = {name if name in self.paths else name.rpartition(".")[0] for name in bound.values()}
            arrows[module] = {target for target in targets if target in self.paths and target != module}
        return arrows

    def room(self, module: str) -> str:
        """Return the folder or file of the package's root that holds a module."""
        return [*module.split("."), ""][1]

    def definition(self, module: str, name: str) -> str | None:
        """Return the full name of the function or class that a bare name stands for in a module, or None."""
        full: str | None = f"{module}.{name}"
        if full not in self.definitions:
            full = self.imports[module].get(name)
        while full is not None and full not in self.definitions:  # handed on by the module that it is imported from
            owner, _, last = full.rpartition(".")
            full = self.imports.get(owner, {}).get(last)
        return full

    @cached_property
    def definitions(self) -> dict[str, tuple[str, Function | ast.ClassDef]]:
        """Every function, class and method by its full name, with its module."""
        modules = self.paths
        return {f"{m}.{name}": (m, node) for m in modules for name, node in _definitions(self.tree(m))}

    def imported_by_text(self, module: str) -> set[str]:
        """Return the modules that a module imports by a name in a text, as tables of commands do."""
        if "import_module" not in self.imports[module]:
            return set()
        package = module if self.paths[module].name == "__init__.py" else module.rpartition(".")[0]
        texts = {node.value for unit in self.units[module] for node in unit.all(ast.Constant)}
        return {name for text in texts for name in (text, f"{package}.{text}") if name in self.paths}


@cache
def this_checkout() -> SourceTree:
    """Return the source beside these tests, read once by all of them."""
    return SourceTree(ROOT)


def made_tree(root: Path, **files: str) -> SourceTree:
    """Write the modules of a package and return its source, to test the counts: ``room__name="code"``."""
    for name, code in files.items():
        path = root / "biopercept" / ((name if name == "__init__" else name.replace("__", "/")) + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
    return SourceTree(root)


def _stem(node: ast.ImportFrom, package: str) -> str:
    parts = package.split(".")
    parents = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*parents, *([node.module] if node.module else [])])


def _definitions(tree: ast.Module) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            yield node.name, node
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{part.name}", part) for part in node.body if isinstance(part, Function))


def _units(module: str, tree: ast.Module) -> Iterator[Unit]:
    named: list[tuple[str, list[ast.AST]]] = []
    loose: list[ast.AST] = []
    for node in tree.body:
        if isinstance(node, Function):
            named.append((node.name, [node]))
        elif isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, Function)]
            rest = [part for part in node.body if part not in methods]
            named.append((node.name, [*rest, *node.bases, *node.keywords, *node.decorator_list]))
            named += [(f"{node.name}.{part.name}", [part]) for part in methods]
        else:
            loose.append(node)
    yield Unit(module, "", loose)
    for name, statements in named:
        yield Unit(module, name, statements)


# ---- what is counted ------------------------------------------------------------------------------------------------


def n_in_circles(arrows: dict[str, set[str]]) -> int:
    """Return how many stand in a circle of arrows, or above one."""
    left = {name: set(targets) for name, targets in arrows.items()}
    while free := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in free}
    return len(left)


def many_parameters(tree: SourceTree, package: str) -> list[str]:
    """Return the functions of ``"library"`` or ``"cli"`` with more than six parameters, self and stars not counted."""
    within = ("biopercept.cli",) if package == "cli" else ("biopercept",)
    crowded = []
    for kind in (ast.FunctionDef, ast.AsyncFunctionDef):
        for module, node in tree.all(kind, within=within):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            if count > MOST_PARAMETERS and (tree.room(module) == "cli") == (package == "cli"):
                crowded.append(f"{module}.{node.name} ({count})")
    return crowded


def private_words(tree: SourceTree) -> dict[str, list[str]]:
    """Return the modules that bind each word of :data:`PRIVATE_WORDS` as a variable or parameter, once a place."""
    modules: dict[str, list[str]] = {word: [] for word in PRIVATE_WORDS}
    for module, node in tree.all(ast.Name):
        if node.id in PRIVATE_WORDS and isinstance(node.ctx, ast.Store):
            modules[node.id].append(module)
    for module, argument in tree.all(ast.arg):
        if argument.arg in PRIVATE_WORDS:
            modules[argument.arg].append(module)
    return modules


def forks(tree: SourceTree) -> list[str]:
    """Return the places that ask which kind of checkpoint, plan, fitted model or store an object is.

    A kind is a class named so in one of its words, one that inherits from such a class, or one with all the public
    members of a protocol named so; a name that a module gives to a group of them counts as well. Asking is
    ``isinstance``, ``type(x) is`` and ``case Kind():``.
    """
    kinds = _kinds(tree)
    asking = []
    for module, call in tree.all(ast.Call):
        if isinstance(call.func, ast.Name) and call.func.id == "isinstance" and len(call.args) == 2:
            asking.append((module, call, call.args[1]))
    for module, comparison in tree.all(ast.Compare):
        if "type" in _names(comparison.left) and isinstance(comparison.left, ast.Call):
            asking += [(module, comparison, side) for side in comparison.comparators]
    asking += [(module, case.cls, case.cls) for module, case in tree.all(ast.MatchClass)]
    return [f"{module}:{node.lineno}" for module, node, classes in asking if _names(classes) & kinds]


def _kinds(tree: SourceTree) -> set[str]:
    classes = {node.name: node for _, node in tree.definitions.values() if isinstance(node, ast.ClassDef)}
    members = {name: _public_members(node) for name, node in classes.items()}
    kinds = {name for name in classes if set(re.findall("[A-Z][a-z]*", name)) & FORKED_KINDS and name[-5:] != "Error"}
    protocols = [members[n] for n in kinds if members[n] and any("Protocol" in _names(b) for b in classes[n].bases)]
    kinds |= {name for name, offered in members.items() if any(offered >= wanted for wanted in protocols)}
    for _ in range(3):  # a class of a class of a kind, and a name for a group of them
        kinds |= {name for name, node in classes.items() if any(_names(base) & kinds for base in node.bases)}
        for _, node in tree.all(ast.Assign):
            if isinstance(node.value, ast.Tuple | ast.BinOp) and _names(node.value) & kinds:
                kinds |= {target.id for target in node.targets if isinstance(target, ast.Name) and target.id.isupper()}
    return kinds


def _public_members(node: ast.ClassDef) -> set[str]:
    functions = {part.name for part in node.body if isinstance(part, Function)}
    fields = {p.target.id for p in node.body if isinstance(p, ast.AnnAssign) and isinstance(p.target, ast.Name)}
    return {name for name in functions | fields if not name.startswith("_")}


def _names(node: ast.AST) -> set[str]:
    nodes = list(ast.walk(node))
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}


def mentions(tree: SourceTree, name: str) -> list[str]:
    """Return the modules that name an attribute or variable, once for each place."""
    attributes = [module for module, node in tree.all(ast.Attribute) if node.attr == name]
    return attributes + [module for module, node in tree.all(ast.Name) if node.id == name]


def sentences(tree: SourceTree, words: str) -> list[str]:
    """Return the module of each text in the code that holds these words."""
    constants = tree.all(ast.Constant)
    return [module for module, node in constants if isinstance(node.value, str) and words in node.value]


def schema_constants(tree: SourceTree) -> list[str]:
    """Return the constants that number the schema of a file: names of modules with SCHEMA among their words."""
    constants = []
    for module in tree.paths:
        for node in tree.tree(module).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            constants += [f"{module}.{name}" for name in names if "SCHEMA" in name.split("_")]
    return constants


def single_neighbours(tree: SourceTree) -> list[str]:
    """Return the modules of at most 200 lines that serve one neighbour of their room alone.

    Leaves of a catalogue do not count: modules with a name that stands in a table (a dict, list, tuple or set among a
    module's own statements) of the one that imports them, or that a table of texts names.
    """
    importers: dict[str, set[str]] = {module: set() for module in tree.paths}
    leaves: set[str] = set()
    for module, targets in tree.arrows.items():
        leaves |= tree.imported_by_text(module)
        for target in targets:
            importers[target].add(module)
    lonely = []
    for module, users in importers.items():
        is_small = tree.n_lines(module) <= _LEAST_LINES_ALONE and tree.paths[module].name != "__init__.py"
        if is_small and len(users) == 1 and module not in leaves:
            (user,) = users
            is_neighbour = tree.paths[user].parent == tree.paths[module].parent
            if is_neighbour and tree.paths[user].name != "__init__.py" and not _is_leaf(tree, module, user):
                lonely.append(f"{module}, for {user}")
    return lonely


def _is_leaf(tree: SourceTree, module: str, user: str) -> bool:
    """Whether a table of ``user`` holds a name imported from ``module``."""
    bound = {name for name, full in tree.imports[user].items() if full.rpartition(".")[0] == module or full == module}
    statements = tree.units[user][0]
    tables = [node for kind in (ast.Dict, ast.List, ast.Tuple, ast.Set) for node in statements.all(kind)]
    return any(_names(table) & bound for table in tables)


def unreached_modules(tree: SourceTree) -> list[str]:
    """Return the modules of the package that neither the commands nor the door of the package import, near or far."""
    queue = [module for module in tree.paths if tree.room(module) in ("", "cli", "sample_data")]
    reached = set(queue)
    for module in queue:
        fresh = (tree.arrows[module] | tree.imported_by_text(module)) - reached
        queue += sorted(fresh)
        reached |= fresh
    packages = {module for module, path in tree.paths.items() if path.name == "__init__.py"}
    return sorted(tree.paths.keys() - reached - packages)


def unused(tree: SourceTree) -> list[str]:
    """Return the functions, classes and methods that no command and no name of the door uses, near or far, by name.

    A definition is used where its name stands in code that is used: among the statements of a module, or in a function
    or method that is itself used. Methods that Python or a library calls (``__len__``, ``forward`` of a network) are
    used with their class; so are functions that a decorator of an object registers, and everything named by a text in
    a module that imports by name. One name for two things hides the unused one: nothing that is used is listed.
    """
    units = {f"{unit.module}.{unit.name}": unit for module in tree.units.values() for unit in module}
    by_name: dict[str, list[str]] = {}
    for full in tree.definitions:
        by_name.setdefault(full.rpartition(".")[2], []).append(full)
    queue = [full for full in units if full.endswith(".")]
    queue += [full for full, (_, node) in tree.definitions.items() if _is_registered(node)]
    queue += [full for full in tree.definitions if full.endswith(f".{FOR_NOTEBOOKS}")]
    queue += [
        full for name, owners in by_name.items() if name.startswith("__") for full in owners if full.count(".") == 1
    ]
    used = set(queue)
    for full in queue:
        unit = units[full]
        names = set(unit.names)
        if "import_module" in tree.imports[unit.module]:
            names |= {node.value for node in unit.all(ast.Constant) if isinstance(node.value, str)}
        fresh = {other for name in names & by_name.keys() for other in by_name[name]}
        fresh |= set(_called_from_outside(tree, full))
        queue += sorted(fresh - used)
        used |= fresh
    return sorted(tree.definitions.keys() - used)


def _is_registered(node: Function | ast.ClassDef) -> bool:
    """Whether a decorator hands the function to the command line."""
    calls = [part.func for part in node.decorator_list if isinstance(part, ast.Call)]
    return any(isinstance(call, ast.Attribute) and call.attr in ("command", "callback") for call in calls)


def _called_from_outside(tree: SourceTree, full: str) -> Iterator[str]:
    """Yield the methods of a class that Python or a library's class calls."""
    _, node = tree.definitions.get(full, ("", None))
    if isinstance(node, ast.ClassDef):
        is_foreign = _inherits_from_outside(tree, full)
        methods = [part.name for part in node.body if isinstance(part, Function)]
        yield from (f"{full}.{name}" for name in methods if is_foreign or name.startswith("__"))


def _inherits_from_outside(tree: SourceTree, full: str) -> bool:
    module, node = tree.definitions[full]
    for base in node.bases if isinstance(node, ast.ClassDef) else []:
        plain = base.value if isinstance(base, ast.Subscript) else base
        name = plain.id if isinstance(plain, ast.Name) else ""
        inner = tree.definition(module, name)
        if _inherits_from_outside(tree, inner) if inner else name not in ("Protocol", "Generic", "object"):
            return True
    return False


def ratchets(tree: SourceTree) -> dict[str, list[str]]:
    """Return the places of everything whose count may only fall, by the name of its ceiling."""
    words = private_words(tree)
    return {
        "functions of more than six parameters in the library": many_parameters(tree, "library"),
        "functions of more than six parameters in cli": many_parameters(tree, "cli"),
        "questions for the kind of a checkpoint, plan, fitted model or store": forks(tree),
        "modules that name is_regression": sorted(set(mentions(tree, "is_regression"))),
        "calls of zero_grad": mentions(tree, "zero_grad"),
        "refusals of an output folder that is not ours": sentences(tree, "is not empty and holds no"),
        "constants that number a schema": schema_constants(tree),
        "small modules for one neighbour": single_neighbours(tree),
        "modules that no command and no name of the door reaches": unreached_modules(tree),
        "functions, classes and methods that nothing uses": unused(tree),
        **{f"variables called {word}": words[word] for word in sorted(PRIVATE_WORDS)},
        **{f"{IN_FOLDER}{folder}": places for folder, places in sorted(_by_folder(tree, words).items())},
    }


def _by_folder(tree: SourceTree, words: dict[str, list[str]]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for module in (module for modules in words.values() for module in modules):
        inside = tree.paths[module].relative_to(tree.root).parts
        folder = "/".join(inside[: 2 if len(inside) > 2 else 1])
        folders.setdefault(folder, []).append(module)
    return folders


def imports_from_docs(tree: SourceTree) -> list[str]:
    """Return the modules of the package that import what lies under ``docs/``, and the name that they import."""
    paths = [path.relative_to(tree.root / "docs") for path in (tree.root / "docs").rglob("*.py")]
    roots = {"docs", *(part for path in paths for part in path.with_suffix("").parts)}
    bound = [(module, full) for module, names in tree.imports.items() for full in names.values()]
    return sorted(f"{module} imports {full}" for module, full in bound if full.split(".")[0] in roots)
