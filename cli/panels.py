"""Commands under headings: groups of options in a command's signature, and options and commands sorted in the help."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from .claims import claiming

DATA, FOLDS, MODEL, SETTINGS, RUN = "Data", "Folds", "Model", "Settings", "Output and run"
_WORDS = "biopercept.words"
_RESULTS = frozenset(
    [
        "cross-validate",
        "evaluate",
        "audit",
        "compare",
        "learning-curve",
        "personalise",
        "predict",
        "live",
        "explain",
        "reconstruct",
        "tune",
    ]
)
"""Commands whose folder a report reads, and then says which command made it."""
_MOST_NAMED = 8
_BY_WHOM = ("--part", "--cluster")
_HEADINGS = ("Arguments", "Options", DATA, FOLDS, MODEL, SETTINGS, RUN)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command as typer reads it: in the place of each group in its signature, the options of the group."""
    hints = typing.get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind))
            continue
        groups[parameter.name] = kind
        options = typing.get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(
                row.name, inspect.Parameter.KEYWORD_ONLY, default=row.default, annotation=options[row.name]
            )
            for row in fields(kind)
        ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{row.name: values.pop(row.name) for row in fields(kind)})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


class PanelCommand(TyperCommand):
    """A command whose help shows its options under headings, and that writes down beside its results how it was run."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the line that was given is written into the folder of results that it made."""
        with claiming((str(ctx.info_name), *ctx.meta[_WORDS])), _with_checksums(ctx):
            try:
                outcome = super().invoke(ctx)
            except typer.Exit:  # some of many recordings failed: the results are there
                _write_down(ctx)
                raise
            _write_down(ctx)
            return outcome

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read and keep the words of a command line; where an option has another name here, the refusal says it."""
        ctx.meta[_WORDS] = tuple(args)
        try:
            rest = list(super().parse_args(ctx, list(args)))
        except Exception as raised:  # of click, or of the copy of it that typer brings
            fault: Any = raised
            if type(fault).__name__ == "NoSuchOption":
                _name_the_option(fault, [name for one in self.get_params(ctx) for name in one.opts], ctx)
            elif type(fault).__name__ == "BadParameter":
                _name_the_value(fault, self.make_parser(ctx).parse_args(args=list(args))[0])
            elif str(getattr(fault, "message", "")).startswith("Got unexpected extra"):
                fault.message += _INSTEAD_OF_MORE.get(str(ctx.info_name), "")
            raise
        if not ctx.resilient_parsing:  # a shell completes what is not whole yet
            self._refuse_empty_and_twice(ctx, args)
        return rest

    def _refuse_empty_and_twice(self, ctx: Any, words: Sequence[str]) -> None:
        """Refuse what would not be read: an empty word, often a shell variable's, and all but the last of two values.

        Raises SettingsError.
        """
        from biopercept.errors import SettingsError

        values, _, order = self.make_parser(ctx).parse_args(args=list(words))
        for one in self.get_params(ctx):
            value = values.get(one.name)
            is_argument = one.param_type_name == "argument"
            name = (one.metavar or one.name).strip("[]") if is_argument else one.opts[0]
            if "" in (value if isinstance(value, list | tuple) else [value]):
                raise SettingsError(f"{name} is empty; give a value{'' if one.required else ', or leave it out'}")
            if name == "--set" and (two := _set_twice(value or ())):
                raise SettingsError(f"--set gives {two}; give one")
            is_one = not (is_argument or one.multiple or getattr(one, "is_flag", False))
            if is_one and order.count(one) > 1 and len(given := _values_of(one, words)) > 1:
                raise SettingsError(f"{name} is given with {len(given)} values ({', '.join(given)}); give one")

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line: arguments as they are called everywhere, in brackets where optional."""
        arguments = [one for one in self.get_params(ctx) if one.param_type_name == "argument"]
        return ["[OPTIONS]", *(_optional(one.metavar or one.name.upper(), one) for one in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments first, the command's own options, then the shared ones by heading, --help last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            usual = "Arguments" if is_argument else RUN if parameter.name == "help" else "Options"
            if (row := parameter.get_help_record(ctx)) is not None:
                words = (_one_kind(row[0]), row[1])
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(words)
        for heading in sorted(sections, key=_HEADINGS.index):
            with formatter.section(heading):
                formatter.write_dl(sections[heading])


_INSTEAD = {
    (
        "train",
        "--model",
    ): "train fits and saves perceiver-io alone, whose size is set with --set model.width=32 and the "
    "like; 'cross-validate --model NAME' fits and scores other models, and --start-from begins with a saved one.",
    ("train", "--pretrain"): "Pretrain first ('biopercept pretrain STORE -o pretrained'), then train with --start-from "
    "pretrained.",
    ("init", "-o"): "The study's folder is the first word: biopercept init my-study recordings/",
    ("init", "--output"): "The study's folder is the first word: biopercept init my-study recordings/",
    ("compare", "--model"): "compare reads folders of scores; 'cross-validate STORE -o scores/NAME --model NAME' makes "
    "one for each model.",
    ("compare", "--task"): "compare reads folders of scores; each is of the task that cross-validate was given.",
    ("train", "--folds"): "train fits one model to everybody; 'cross-validate --folds N' scores a model.",
}
"""What to do in place of an option that a command does not have and users look for there."""


_INSTEAD_OF_MORE = {
    "live": ". A recording is given with --replay FILE, streams with --stream NAME",
    "view": ". One recording is looked at, or all of one folder",
    "audit": ". One store is audited at a time",
    "tune": ". Settings are chosen on one store",
    "personalise": ". One store is taken",
    "score-generation": ". One store is taken",
    "prepare": ". One study is prepared at a time; commands that train and score take several stores",
    "report": ". One folder is shown, or the folder that holds several",
    "export": ". The file is given with -o FILE.onnx",
    "correct": ". One recording is corrected at a time",
}
"""What to do in place of words that a command does not take."""
_NEEDED = {"valid integer": "a whole number is needed", "valid number": "a number is needed"}


def _name_the_value(fault: Any, values: Mapping[str, Any]) -> None:
    """Say what was given and what is needed, in place of typer's words on a number."""
    given = values.get(getattr(fault.param, "name", ""))
    shown = ", ".join(map(str, given)) if isinstance(given, list | tuple) else given
    for words, needed in _NEEDED.items():
        if words in fault.message:
            fault.message = f"{shown!r}: {needed}."
    for words, needed in (("greater than or equal to", "at least"), ("less than or equal to", "at most")):
        if words in fault.message:
            fault.message = f"{shown!r}: {needed} {fault.message.rpartition(' ')[2]} is needed."


def _name_the_option(fault: Any, options: list[str], ctx: Any) -> None:
    """Put what an option is called here into the words of its refusal, in place of names of nearly the same letters.

    Of one that other commands have they are named, and what this one does instead.
    """
    from biopercept.synonyms import option_of

    name = fault.option_name
    longer = [option for option in options if len(name) > 3 and option.startswith(name)]
    if meant := option_of(name, options) or next(iter(longer), ""):
        fault.message, fault.possibilities = f"No such option: {name}. Did you mean '{meant}'?", None
    elif instead := _INSTEAD.get((ctx.info_name, name), ""):
        fault.message, fault.possibilities = f"No such option: {name}. {instead}", None
    elif others := _commands_with(name, ctx):
        of = ", ".join(others) if len(others) <= _MOST_NAMED else f"{len(others)} other commands"
        fault.message = f"No such option: {name}. It is an option of {of}, and not of {ctx.info_name}."
        fault.possibilities = None


def _commands_with(name: str, ctx: Any) -> list[str]:
    """Return the other commands that have an option; the root of a context holds what builds all of them."""
    whole: typer.Typer = ctx.find_root().obj()
    commands: dict[str, Any] = typer.main.get_command(whole).commands  # type: ignore[attr-defined]
    return [other for other, one in commands.items() if any(name in each.opts for each in one.params)]


class PanelGroup(TyperGroup):
    """Commands that the help lists under headings, in the order in which they were added."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is meant; where it has another name here, the refusal says it."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as fault:  # of click, or of the copy of it that typer brings
            from biopercept.synonyms import synonym_of

            if hasattr(fault, "message") and (meant := synonym_of(args[0], self.list_commands(ctx))):
                fault.message = f"No such command '{args[0]}'. Did you mean '{meant}'?"
            elif hasattr(fault, "message") and ctx.info_name == "config" and "Did you mean" not in fault.message:
                fault.message += f" 'biopercept config show {args[0]}' shows the settings of a preset or a file."
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each heading, with the first sentence on each of its commands."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            sections.setdefault(command.rich_help_panel or "Commands", []).append((name, _first_sentence(command.help)))
        width = max(len(name) for rows in sections.values() for name, _ in rows)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<{width}}", words) for name, words in rows])


def _set_twice(changes: Sequence[str]) -> str:
    """Return a setting that has two values on a command line, with both; empty where none has."""
    first: dict[str, str] = {}
    for change in changes:
        name, _, value = (part.strip() for part in change.partition("="))
        if (earlier := first.setdefault(name, value)) != value:
            return f"{name} two values, {earlier} and {value}"
    return ""


def _values_of(option: Any, words: Sequence[str]) -> list[str]:
    """Return the different values that a command line gives to an option, in words of their own or after =."""
    values = [after for word, after in pairwise(words) if word in option.opts]
    values += [word.partition("=")[2] for word in words if word.startswith(tuple(f"{name}=" for name in option.opts))]
    return list(dict.fromkeys(values))


def _with_checksums(ctx: Any) -> AbstractContextManager[None]:
    """Write the hashes of what a command writes into its folder of results."""
    output = ctx.params.get("output")
    if ctx.info_name not in _RESULTS or output is None:
        return nullcontext()
    from biopercept.results.checksums import hashing

    return hashing(output)


def _write_down(ctx: Any) -> None:
    output = ctx.params.get("output")
    if ctx.info_name in _RESULTS and output is not None and output.is_dir():
        from biopercept.results.command import add_command

        words = ("biopercept", ctx.info_name, *_of_the_whole(ctx.meta[_WORDS]))
        add_command(output, words, is_first=bool(ctx.params.get("overwrite")))


def _of_the_whole(words: Sequence[str]) -> Iterator[str]:
    """Give the words of a command line without those that say by whom the work is done: results do not depend on it."""
    waiting = iter(words)
    for word in waiting:
        if word in _BY_WHOM:
            next(waiting, None)
        elif word != "--collect" and not word.startswith(tuple(f"{name}=" for name in _BY_WHOM)):
            yield word


def _one_kind(words: str) -> str:
    """Return an option's words with the kind of one value, where typer names a list of Python."""
    return re.sub(r"<list\[(\w+)\]>", lambda match: f"<{match[1].lower()}>", words)


def _optional(word: str, argument: Any) -> str:
    return word if argument.required or word.startswith("[") else f"[{word}]"


def _first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")
