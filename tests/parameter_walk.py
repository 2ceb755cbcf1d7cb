"""The files that somebody opens who follows one parameter through the code."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator

from source_tree import Function, SourceTree

N_CALLS = 4
"""How many calls deep a walk goes."""

WALKS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "predict": ("cli", ("predict",), ("model",)),
    "plan of a cross-validation": ("", ("plan_evaluation", "plan_cross_validation", "plan"), ("request",)),
    "report": ("cli", ("report",), ("folder",)),
    "load a recording": ("", ("load_recording",), ("path",)),
}
"""Name of a walk -> the room it starts in ("": any but cli), names of the function and of its parameter, first wins."""


def start(tree: SourceTree, walk: str) -> tuple[str, str] | None:
    """Return the function and the parameter at which a walk starts, or None where the source holds neither."""
    room, functions, parameters = WALKS[walk]
    for name in functions:
        for full, (module, node) in sorted(tree.definitions.items()):
            is_there = tree.room(module) == room if room else tree.room(module) != "cli"
            if full == f"{module}.{name}" and is_there and isinstance(node, Function):
                known = {*_positions(node), *(argument.arg for argument in node.args.kwonlyargs)}
                if chosen := [parameter for parameter in parameters if parameter in known]:
                    return full, chosen[0]
    return None


def files_opened(tree: SourceTree, function: str, parameter: str, n_calls: int | None = N_CALLS) -> set[str]:
    """Return the modules on the way of a parameter from a function through the calls that hand it on.

    Inside a function all that is made from the parameter counts as the parameter: what is assigned from an expression
    that holds it (an attribute, a part, the result of a call), unpacked from it, drawn from it by a loop or a
    comprehension, or opened with it. Every call of a function, method or class of the package that receives any of it
    is followed into the module where that is defined, ``n_calls`` deep (None: to the end). Methods are followed where
    their class stands before the dot; a class is opened, and followed into its ``__init__`` and ``__post_init__``.
    Classes of errors are not opened: their name says what they are.

    Four calls deep is what comes near the counts by hand (42, 30, 25 and 15 files, counted here as 40, 30, 26 and 16):
    a reader stops there, a walk to the end reaches 48, 30, 42 and 19.
    """
    seen: dict[str, set[str]] = {}
    opened: set[str] = set()
    queue = deque([(function, frozenset([parameter]), 0)])
    while queue:
        name, received, depth = queue.popleft()
        is_new = name not in seen or not received <= seen[name]
        if not is_new or (n_calls is not None and depth > n_calls):
            continue
        seen.setdefault(name, set()).update(received)
        module, node = tree.definitions[name]
        opened.add(module)
        if isinstance(node, Function):
            derived = _derived(node, frozenset(seen[name]))
            queue += [(*call, depth + 1) for call in _calls(tree, module, node, derived)]
    return opened


def _derived(function: Function, parameters: frozenset[str]) -> set[str]:
    """Return the variables of a function that are made from its parameters."""
    derived, n_before = set(parameters), -1
    nodes = list(ast.walk(function))
    while len(derived) > n_before:
        n_before = len(derived)
        for node in nodes:
            for value, target in _bindings(node):
                if _variables(value) & derived:
                    derived |= _variables(target)
    return derived


def _bindings(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield what a statement binds: the expression, and the target that it is bound to."""
    if isinstance(node, ast.Assign):
        yield from ((node.value, target) for target in node.targets)
    elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value is not None:
        yield node.value, node.target
    elif isinstance(node, ast.For | ast.comprehension):
        yield node.iter, node.target
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.context_expr, node.optional_vars


def _calls(
    tree: SourceTree, module: str, function: Function, derived: set[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each definition of the package that a call hands something derived to, and its parameters that get it."""
    for call in ast.walk(function):
        name = _called(tree, module, call) if isinstance(call, ast.Call) else None
        if name is None or not isinstance(call, ast.Call):
            continue
        _, node = tree.definitions[name]
        received = _received(call, node, derived)
        if received and isinstance(node, ast.ClassDef):
            if not name.endswith("Error"):
                yield name, frozenset()
                made_by = [f"{name}.{special}" for special in ("__init__", "__post_init__")]
                yield from ((method, frozenset(["self"])) for method in made_by if method in tree.definitions)
        elif received:
            yield name, received


def _called(tree: SourceTree, module: str, call: ast.Call) -> str | None:
    """Return the full name of the function, class or method of the package that is called, or None."""
    if isinstance(call.func, ast.Name):
        return tree.definition(module, call.func.id)
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        owner = call.func.value.id
        for full in (tree.definition(module, owner), tree.imports[module].get(owner)):
            if f"{full}.{call.func.attr}" in tree.definitions:
                return f"{full}.{call.func.attr}"
    return None


def _received(call: ast.Call, node: Function | ast.ClassDef, derived: set[str]) -> frozenset[str]:
    """Return the parameters that get something derived; of a class the word ``self`` where it gets any."""
    given = [(str(i), value) for i, value in enumerate(call.args)] + [(k.arg or "**", k.value) for k in call.keywords]
    handed = {place for place, value in given if _variables(value) & derived}
    if isinstance(node, ast.ClassDef):
        return frozenset(["self"] if handed else [])
    parameters = [name for name in _positions(node) if name not in ("self", "cls")]
    received = set()
    for place in handed:
        if not place.isdigit():
            received.add(place)
        elif isinstance(call.args[int(place)], ast.Starred):
            received |= set(parameters[int(place) :])
        else:
            received.add(parameters[int(place)] if int(place) < len(parameters) else "*")
    return frozenset(received)


def _positions(node: Function) -> list[str]:
    return [argument.arg for argument in [*node.args.posonlyargs, *node.args.args]]


def _variables(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
