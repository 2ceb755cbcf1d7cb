"""A setting's value read by the type of the field it is for, and the words when it cannot be."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" with the known word closest to ``word``, or nothing where none is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""


def read_value(given: Any, hint: Any, where: str, faults: list[str]) -> Any:
    """Return a value read as a field's type.

    Parameters
    ----------
    given : object
        Text, or a list of text, as YAML gives it; or a value as JSON gives it.
    hint : type
        The field's annotation.
    where : str
        What the fault calls it: where it was written and the setting's path.
    faults : list of str
        A value that is not of the type adds a sentence here, and None is returned.

    Examples
    --------
    >>> read_value("1e-3", float, "training.learning_rate", [])
    0.001
    >>> faults = []
    >>> read_value("yes", bool, "--set evaluation.x=yes: evaluation.x", faults)
    >>> faults
    ["--set evaluation.x=yes: evaluation.x is 'yes'; true or false is needed"]
    """
    from pydantic import TypeAdapter, ValidationError

    if given in ("", "null", "~", None) and type(None) in typing.get_args(hint):
        return None
    adapter = TypeAdapter(hint)
    try:
        if hint is bool and isinstance(given, str):
            return {"true": True, "false": False}[given.lower()]
        if isinstance(given, str | list):  # text from YAML, alone or listed
            return adapter.validate_python(given)
        return adapter.validate_json(json.dumps(given), strict=True)
    except (ValidationError, KeyError, TypeError):
        faults.append(f"{where} is {_shown(given)}; {_wanted(hint)} is needed")
        return None


def _shown(given: Any) -> str:
    text = f"[{', '.join(map(str, given))}]" if isinstance(given, list) else repr(given)
    return text if len(text) <= 80 else text[:77] + "..."


def _wanted(hint: Any) -> str:
    """Return the words for what a field takes."""
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if hint in plain:
        return plain[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_wanted(part) for part in inner)
    if origin is tuple:
        each = [part for part in inner if part is not Ellipsis]
        count = "" if Ellipsis in inner else f" of {len(each)}"
        return f"a list{count} [{', '.join(_wanted(part) for part in each)}{', ...' if Ellipsis in inner else ''}]"
    return f"a value of type {hint}"
