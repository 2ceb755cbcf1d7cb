"""Text, YAML and JSON read as typed values and frozen dataclasses, and written back; every fault is a sentence.

A dataclass is the schema of what it is read from: its fields in their order, their annotations, and which may be
absent. These rules go beyond the annotations:

- A field with a default may be absent where it is read; :func:`omitted` ones are not written either while they have it.
- :func:`unwritten` fields are no part of the file: where it lay, what it is called.
- :func:`written_as` gives a field a name in the file that Python has no word for.
- ``Annotated[kind, Check(...)]`` narrows a kind, such as :data:`Count`.

What a file has beyond the fields is not read: a later version may add to a schema.

Settings check their own ranges and words with :func:`refuse_outside` and :func:`refuse_other_than`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import yaml

from biopercept.errors import SettingsError, listed
from biopercept.synonyms import plain_word, synonym_of

T = TypeVar("T")

MAX_BYTES = 1 << 20
_MOST_NAMES = 10_000
_LOOKED_AT = 1 << 12
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}
_NULLS = ("", "null", "~")

Lines = dict[tuple[str, ...], int]
"""Line number (from 1) of each key, by its path from the top."""


@dataclass(frozen=True)
class Check:
    """What a value must be beyond its type, and the words for it in a fault."""

    holds: Callable[[Any], bool]
    words: str


Count = Annotated[int, Check(lambda number: number >= 0, "a whole number of 0 or more")]
Interval = Annotated[
    tuple[float, float], Check(lambda ends: ends[0] <= ends[1], "a list of two numbers, the lower one first,")
]
Span = Annotated[
    tuple[int, int],
    Check(lambda ends: 0 <= ends[0] <= ends[1], "a list of two whole numbers of 0 or more, the lower one first,"),
]


def at_least(least: float) -> Check:
    """Return the check of a number that has a least value."""
    return Check(lambda number: least <= number < math.inf, f"at least {least}")


def between(least: float, most: float) -> Check:
    """Return the check of a number that has a least and a highest value."""
    return Check(lambda number: least <= number <= most, f"at least {least:,} and at most {most:,}")


ABOVE_0 = Check(lambda number: 0 < number < math.inf, "a number above 0")
FROM_0 = Check(lambda number: 0 <= number < math.inf, "a number of at least 0")
BELOW_1 = Check(lambda number: 0 <= number < 1, "at least 0 and below 1")
FROM_0_TO_1 = Check(lambda number: 0 <= number <= 1, "from 0 to 1")
UP_TO_1 = Check(lambda number: 0 < number <= 1, "above 0 and at most 1")
BETWEEN_0_AND_1 = Check(lambda number: 0 < number < 1, "above 0 and below 1")


def refuse_outside(section: str, settings: object, ranges: Mapping[Check, Iterable[str]]) -> None:
    """Raise SettingsError for the first of the named settings of a section that is not in its range."""
    for check, names in ranges.items():
        for name in names:
            value = getattr(settings, name)
            if not check.holds(value):
                raise SettingsError(f"{section}.{name} is {value}; it must be {check.words}")


def refuse_other_than(section: str, settings: object, allowed: Mapping[str, Sequence[str]]) -> None:
    """Raise SettingsError for the first of the named settings, each a word or several, with a word not allowed."""
    for name, words in allowed.items():
        chosen = getattr(settings, name)
        for value in chosen if isinstance(chosen, tuple) else (chosen,):
            if value not in words:
                raise SettingsError(
                    f"{section}.{name} is {value!r}; allowed are {', '.join(words)}{did_you_mean(str(value), words)}"
                )


def omitted(default: Any = None) -> Any:
    """Return a dataclass field that is not written while it has its default."""
    return _field(default, "omitted")


def unwritten(default: Any = None) -> Any:
    """Return a dataclass field that is no part of the file."""
    return _field(default, "unwritten")


def written_as(name: str, default: Any = MISSING) -> Any:
    """Return a dataclass field that has another name in the file."""
    return field(default=default, metadata={"name": name})


def _name_of(part: dataclasses.Field[Any]) -> str:
    return str(part.metadata.get("name", part.name))


def _field(default: Any, how: str) -> Any:
    if isinstance(default, dict):
        return field(default_factory=dict, metadata={how: True})
    return field(default=default, metadata={how: True})


class FieldError(ValueError):
    """A value that is absent or not of its field's type.

    ``place`` is its path from the top of its file, such as "pairs[2].p"; ``wanted`` is what is needed, such as "a
    number", and where the class refused its values, its own words; ``given`` is ``dataclasses.MISSING`` where the value
    is absent.
    """

    def __init__(self, place: str, wanted: str, given: Any = MISSING, *, is_refused: bool = False) -> None:
        super().__init__(wanted)
        self.place, self.wanted, self.given, self.is_refused = place, wanted, given, is_refused

    @property
    def is_absent(self) -> bool:
        """Return whether the value is not there at all."""
        return self.given is MISSING

    def sentence(self, source: object) -> str:
        """Return the fault as a sentence about the file (or the like) that the value was read from."""
        if self.is_refused:
            return f"{source}{f', {self.place},' if self.place else ''} has {self.wanted}"
        if self.is_absent:
            return f"{source} has no {self.place!r}; {self.wanted} is needed"
        return f"{source} has {_shown(self.given)} for {self.place!r}; {self.wanted} is needed"


def to_plain(value: Any) -> Any:
    """Return what JSON holds of a value: a dataclass's written fields in their order, tuples as lists."""
    if dataclasses.is_dataclass(value):
        return {
            _name_of(part): to_plain(getattr(value, part.name))
            for part in dataclasses.fields(value)
            if not part.metadata.get("unwritten") and not _is_omitted(part, getattr(value, part.name))
        }
    if isinstance(value, Mapping):
        return {key: to_plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(inner) for inner in value]
    return value


def _is_omitted(part: dataclasses.Field[Any], value: Any) -> bool:
    return bool(part.metadata.get("omitted")) and bool(value == _default(part))


def _default(part: dataclasses.Field[Any]) -> Any:
    return part.default_factory() if part.default_factory is not MISSING else part.default


def from_plain(kind: type[T], content: Any, place: str = "") -> T:
    """Return a dataclass from what JSON holds of it; ``place`` is the content's path from the top of the file.

    Raises FieldError where a value is absent or of another type, or the class itself refuses its values with a
    ValueError.
    """
    if not isinstance(content, dict):
        raise FieldError(place, "an object with named values", content)
    values: dict[str, Any] = {}
    for attribute, name, hint, is_needed in _schema_of(cast(Any, kind)):
        inside = f"{place}.{name}" if place else name
        if name in content:
            values[attribute] = read_as(hint, content[name], inside)
        elif is_needed:
            raise FieldError(inside, words_for(hint))
    try:
        return kind(**values)
    except FieldError:
        raise
    except ValueError as fault:
        raise FieldError(place, str(fault), content, is_refused=True) from fault


@functools.cache
def _schema_of(kind: Any) -> tuple[tuple[str, str, Any, bool], ...]:
    """Return attribute, name, annotation and "has no default" of each field of a dataclass that its file holds."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(
        (part.name, _name_of(part), hints[part.name], _default(part) is MISSING)
        for part in dataclasses.fields(kind)
        if not part.metadata.get("unwritten")
    )


def read_as(hint: Any, given: Any, place: str, *, from_text: bool = False) -> Any:
    """Return a value, as JSON gives it, as the type of an annotation; ``place`` is what a fault calls it.

    With ``from_text`` text is read as the number, truth value or null that it spells, as YAML and tables give it.

    Raises FieldError where it is of another type. NaN and infinity are no numbers.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _checked(inner[0], inner[1:], given, place, from_text=from_text)
    if dataclasses.is_dataclass(hint):
        return from_plain(cast(type, hint), given, place)
    if origin in (typing.Union, types.UnionType):
        return _one_of(hint, inner, given, place, from_text=from_text)
    if origin is Literal:
        return _chosen(hint, inner, given, place)
    if origin is tuple:
        return _sequence(hint, inner, given, place, from_text=from_text)
    if origin in (dict, Mapping):
        if not isinstance(given, dict):
            raise FieldError(place, words_for(hint), given)
        return {key: read_as(inner[1], value, f"{place}.{key}", from_text=from_text) for key, value in given.items()}
    return given if hint is Any else _scalar(hint, given, place, from_text=from_text)


def _checked(kind: Any, checks: Iterable[Any], given: Any, place: str, *, from_text: bool) -> Any:
    words = next((check.words for check in checks if isinstance(check, Check)), words_for(kind))
    try:
        value = read_as(kind, given, place, from_text=from_text)
    except FieldError as fault:
        raise FieldError(place, words, given) from fault
    if not all(check.holds(value) for check in checks if isinstance(check, Check)):
        raise FieldError(place, words, given)
    return value


def _one_of(hint: Any, options: tuple[Any, ...], given: Any, place: str, *, from_text: bool) -> Any:
    if type(None) in options and (given is None or (from_text and given in _NULLS)):
        return None
    for option in options:
        try:
            return read_as(option, given, place, from_text=from_text)
        except FieldError as fault:
            if fault.place != place or fault.is_absent:  # of this kind, with a fault deeper inside
                raise
    raise FieldError(place, words_for(hint), given)


def _chosen(hint: Any, choices: tuple[Any, ...], given: Any, place: str) -> Any:
    if not isinstance(given, str | int) or given not in choices:
        raise FieldError(place, words_for(hint), given)
    return given


def _sequence(hint: Any, inner: tuple[Any, ...], given: Any, place: str, *, from_text: bool) -> tuple[Any, ...]:
    is_open = len(inner) == 2 and inner[1] is Ellipsis
    if not isinstance(given, list | tuple) or not (is_open or len(given) == len(inner)):
        raise FieldError(place, words_for(hint), given)
    kinds = (inner[0],) * len(given) if is_open else inner
    try:
        return tuple(
            read_as(kind, value, f"{place}[{number}]", from_text=from_text)
            for number, (kind, value) in enumerate(zip(kinds, given, strict=True), 1)
        )
    except FieldError as fault:
        if dataclasses.is_dataclass(inner[0]):
            raise
        raise FieldError(place, words_for(hint), given) from fault  # of plain values the whole list says more


def _scalar(hint: Any, given: Any, place: str, *, from_text: bool) -> Any:
    value = _spelt(hint, given) if from_text and isinstance(given, str) else given
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    is_of_kind = type(value) is (type(None) if hint is None else hint)
    if not is_of_kind or (hint is float and not math.isfinite(value)):
        raise FieldError(place, words_for(hint), given)
    return value


def _spelt(hint: Any, text: str) -> Any:
    """Return the value of a kind that text spells, or the text where it spells none."""
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if hint not in (int, float):
        return text
    try:
        number = float(text)
        return int(number) if hint is int and number.is_integer() and "e" not in text.lower() else number
    except (ValueError, OverflowError):
        return text


def words_for(hint: Any) -> str:
    """Return the words for what a field takes, such as "a number or null"."""
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if hint in plain:
        return plain[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return next((extra.words for extra in inner[1:] if isinstance(extra, Check)), words_for(inner[0]))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(words_for(part) for part in inner)
    if origin is tuple:
        each = [part for part in inner if part is not Ellipsis]
        count = "" if Ellipsis in inner else f" of {len(each)}"
        return f"a list{count} [{', '.join(words_for(part) for part in each)}{', ...' if Ellipsis in inner else ''}]"
    if origin in (dict, Mapping) or dataclasses.is_dataclass(hint):
        return "an object with named values"
    return f"a value of type {hint}"


def _shown(given: Any) -> str:
    text = f"[{', '.join(map(str, given))}]" if isinstance(given, list) else repr(given)
    return text if len(text) <= 80 else text[:77] + "..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" with the known word closest to ``word``, or nothing where none is close.

    One that differs only in case, in leading zeros or in what stands between its parts is the closest, then one that
    the field calls so (:mod:`biopercept.synonyms`), then one whose letters are nearly the same.

    >>> did_you_mean("s5", ["S15", "S05"]), did_you_mean("Late_Fusion", ["late-fusion"])
    ('; did you mean S05?', '; did you mean late-fusion?')
    """
    near = closest(word, known)
    return f"; did you mean {near}?" if near else ""


def closest(word: str, known: Iterable[str]) -> str:
    """Return the word that :func:`did_you_mean` names; empty where none is close."""
    plain: dict[str, str] = {}
    for one in known:
        plain.setdefault(_plain_word(one), one)
    wanted = _plain_word(word)
    if wanted not in plain and (meant := synonym_of(word, plain.values())):
        return meant
    close = [wanted] if wanted in plain else get_close_matches(wanted, plain, n=1, cutoff=0.7)
    close = close or [one for one in plain if sorted(one) == sorted(wanted)]  # letters in another order
    return plain[close[0]] if close and plain[close[0]] != word else ""


def path_meant(path: Path) -> str:
    """Return "; did you mean X?" with what lies there whose name is close to a path's that leads nowhere.

    Names whose numbers differ are of another person or another file, and are not suggested.
    """
    missing = path
    while missing != missing.parent and not missing.parent.is_dir():
        missing = missing.parent
    try:
        names = [] if missing.exists() else [one.name for one in islice(missing.parent.iterdir(), _MOST_NAMES)]
    except (OSError, ValueError):
        return ""
    near = _name_meant(missing, [Path(name) for name in sorted(names) if not name.startswith(".")])
    meant = missing.with_name(near) / path.relative_to(missing) if near else path
    return f"; did you mean {meant}?" if near and meant.exists() else ""


def _name_meant(missing: Path, there: Sequence[Path]) -> str:
    """Return the name of the same stem, or else of a like one with the same ending; empty where none is."""
    alike = [one for one in there if one.stem.casefold() == missing.stem.casefold()]
    stems = {one.stem: one for one in there if one.suffix.casefold() == missing.suffix.casefold()}
    near = stems.get(closest(missing.stem, [stem for stem in stems if _numbers_in(stem) == _numbers_in(missing.stem)]))
    return next((one.name for one in (*alike, near) if one is not None), "")


def _numbers_in(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"[0-9]+", text)]


def _plain_word(word: str) -> str:
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", plain_word(word))


def not_among(words: Iterable[str], known: Iterable[str]) -> str:
    """Return words that are not known, what there is, and which of it the first could mean.

    >>> not_among(["S5"], ["S05", "S06"])
    'S5; there are: S05, S06; did you mean S05?'
    """
    wrong, there = list(words), list(known)
    if len(apart := re.split(r"[\s;|]+", wrong[0].strip())) > 1 and {*apart} <= {*there}:
        return f"{', '.join(wrong)}; names are separated by commas: {','.join(apart)}"
    return f"{', '.join(wrong)}; there are: {listed(there, 40)}{did_you_mean(wrong[0], there)}"


def read_setting(given: Any, hint: Any, where: str, faults: list[str]) -> Any:
    """Return a setting's value as its field's type; where it is of another, None and a sentence more in ``faults``.

    The value may be text, or a list of text, as YAML gives it; ``where`` is what the fault calls it.

    >>> read_setting("1e-3", float, "training.learning_rate", faults := [])
    0.001
    >>> read_setting("yes", bool, "--set evaluation.stratify=yes: evaluation.stratify", faults)
    >>> faults
    ["--set evaluation.stratify=yes: evaluation.stratify is 'yes'; true or false is needed"]
    """
    try:
        return read_as(hint, given, where, from_text=True)
    except FieldError as fault:
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        near = did_you_mean(str(given), map(str, choices))
        faults.append(f"{where} is {_shown(given)}; {fault.wanted} is needed{near}")
        return None


def dialect_of(columns: Sequence[str]) -> str:
    """Return how the header of a table is written that is not plain cells between tabs; empty where it is."""
    if all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in columns):
        return "the cells stand in quotation marks"
    marks = {";": "semicolons", ",": "commas", " ": "blanks"}
    word = next((word for mark, word in marks.items() if len(columns) == 1 and mark in columns[0]), "")
    return f"the columns are separated by {word} and not by tabs" if word else ""


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
    values = _value(node, (), name, lines, faults)
    return dict(values), lines


def read_text(path: Path, max_bytes: int, faults: list[str]) -> str | None:
    """Return a small UTF-8 file's text without a byte-order mark, or None with a sentence added to ``faults``."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            with path.open("rb") as stream:
                is_text = b"\0" not in stream.read(_LOOKED_AT)
            limit = f"has {size:,} bytes; {max_bytes:,} are allowed" if is_text else "is no text file"
            faults.append(f"{path.name} {limit}")
            return None
        content = path.read_bytes()
    except FileNotFoundError:
        faults.append(f"there is no file {path}{path_meant(path)}")
        return None
    except OSError as fault:
        faults.append(f"{path.name} cannot be read ({fault.strerror})")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        if b"\0" in content[:_LOOKED_AT]:
            faults.append(f"{path.name} is no text file")
            return None
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
