"""YAML in which every value is text: nothing turns into a number, a truth value or an object, and no key comes twice.

Study files hold ids and labels. YAML's usual reading would turn ``no`` into False, ``007`` into 7 and ``1e3`` into
a number; here they stay what was written. Tags and aliases are refused: no study needs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1 << 20
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}

Lines = dict[tuple[str, ...], int]
"""Line number (from 1) of each key, by its path from the top."""


class _NoAliasLoader(yaml.BaseLoader):
    """BaseLoader (all scalars text) that stops at an alias, so that a small file cannot unfold into a large one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed here", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def read_yaml_text(path: Path, faults: list[str]) -> tuple[dict[str, Any], Lines]:
    """Return the mapping in a YAML file with text at every leaf, and the line of every key.

    Each fault is added to ``faults`` as a sentence with its line; what could be read is still returned.
    """
    text = read_text(path, MAX_BYTES, faults)
    return ({}, {}) if text is None else parse_yaml_text(text, path.name, faults)


def parse_yaml_text(text: str, name: str, faults: list[str]) -> tuple[dict[str, Any], Lines]:
    """Return the mapping in YAML text, as :func:`read_yaml_text` does; ``name`` is what faults call it."""
    lines: Lines = {}
    try:
        node = yaml.compose(text, Loader=_NoAliasLoader)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        line = 1 if mark is None else mark.line + 1
        faults.append(f"{name} line {line}: {fault.problem or 'this is not YAML'}")
        return {}, lines
    except (yaml.YAMLError, RecursionError) as fault:
        reason = "it is nested too deeply" if isinstance(fault, RecursionError) else str(fault).replace("\n", " ")
        faults.append(f"{name}: not readable as YAML ({reason})")
        return {}, lines
    if node is None:
        return {}, lines
    if not isinstance(node, yaml.MappingNode):
        faults.append(f"{name} line {_line(node)}: 'key: value' lines are needed at the top")
        return {}, lines
    found = _value(node, (), name, lines, faults)
    return dict(found), lines


def read_text(path: Path, max_bytes: int, faults: list[str]) -> str | None:
    """Return a small UTF-8 file's text without a byte-order mark, or None with a sentence added to ``faults``."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            faults.append(f"{path.name} has {size} bytes; {max_bytes} are allowed")
            return None
        content = path.read_bytes()
    except OSError as fault:
        faults.append(f"{path.name} cannot be read ({fault.strerror})")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        faults.append(f"{path.name} line {line}: not UTF-8; save the file with UTF-8 encoding")
        return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _value(node: yaml.Node, path: tuple[str, ...], name: str, lines: Lines, faults: list[str]) -> Any:
    if node.tag not in _PLAIN_TAGS:
        faults.append(f"{name} line {_line(node)}: the tag {node.tag} is not allowed; write plain text")
        return ""
    if isinstance(node, yaml.MappingNode):
        return {
            key: _value(child, (*path, key), name, lines, faults)
            for key, child in _pairs(node, path, name, lines, faults)
        }
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, (*path, str(i)), name, lines, faults) for i, child in enumerate(node.value)]
    return str(node.value)


def _pairs(
    node: yaml.MappingNode, path: tuple[str, ...], name: str, lines: Lines, faults: list[str]
) -> Iterator[tuple[str, yaml.Node]]:
    for key_node, child in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            faults.append(f"{name} line {_line(key_node)}: a key must be plain text")
            continue
        key = str(key_node.value)
        where = (*path, key)
        if where in lines:
            faults.append(f"{name} line {_line(key_node)}: {key!r} is given twice (first in line {lines[where]})")
            continue
        lines[where] = _line(key_node)
        yield key, child
