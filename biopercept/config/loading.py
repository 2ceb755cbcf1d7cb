"""Presets and YAML files read into checked settings, every fault named at once.

YAML values arrive as text and are read by the type of the field they name, so that ``1e-3`` is a number and ``no`` is
never a truth value unless a field asks for one.
"""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from biopercept.config.settings import (
    PREPARED,
    VERSION_KEY,
    Config,
    PlannedConfig,
    Purpose,
    may_read,
    unread_sentence,
)
from biopercept.data.joined import Studies, open_studies, usual_task
from biopercept.errors import SettingsError, StudyError
from biopercept.planning.fingerprint import fingerprint_of_store, fingerprint_of_study
from biopercept.planning.network import REPETITIONS
from biopercept.planning.rules import plan_of
from biopercept.planning.scaling import normalisation_of_all
from biopercept.resources import preset_names, preset_text
from biopercept.results.plan import Origin, SettingsPlan, shown_value
from biopercept.studies.structure import Study
from biopercept.synonyms import synonym_of
from biopercept.tasks import Task
from biopercept.typed_values import closest, did_you_mean, parse_yaml_text, path_meant, read_setting, read_yaml_text
from biopercept.version import __version__

DEFAULT_PRESET = "general"
AUTO = "auto"
"""The name of the settings that follow from the data; what the plan leaves open is as in the default preset."""
_PRESET_KEY = "preset"
_THE_PLAN = "the plan"
_HONESTY = "the label is the file, and a file's scale would give it away"
"""Where a mode comes from that takes the place of one that leaks; ``--normalisation`` alone is taken as it is."""


class SettingsFaults(SettingsError):  # noqa: N818 - several of them, not one
    """Several faults in one configuration.

    Attributes
    ----------
    faults : tuple of str
        One sentence for each.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


_Origin = Literal["preset", "record", "file", "override"]
"""Who says a value: a preset, a file of all settings as a command wrote it, the user's file, or the command line."""


@dataclass(frozen=True)
class _Value:
    """A value as it was given, and the words that say where."""

    given: Any
    where: str
    origin: _Origin = "preset"


_Section = dict[str, _Value]
_Hints = dict[str, dict[str, Any]]


def load_config(
    name_or_file: str | None = None,
    overrides: Sequence[str] = (),
    *,
    assumed: Sequence[str] = (),
    purposes: Sequence[Purpose] = (),
    prepared: Mapping[str, Any] | None = None,
    plan: SettingsPlan | None = None,
) -> Config:
    """Return the settings of a preset or a YAML file, with single values replaced.

    What a file does not mention is taken from the preset that its ``preset:`` key names, or without one from the plan,
    and what that does not mention from ``general``.

    Raises SettingsError where there is no such preset or file, the file is not plain YAML or was written by a newer
    biopercept, a key is unknown or given twice, or a value has the wrong type or lies outside its range; or the user's
    file or an override sets windows or cleaning that are not those of ``prepared``, or something that none of
    ``purposes`` reads. Several faults come as one :class:`SettingsFaults`.

    Parameters
    ----------
    name_or_file : str, optional
        Name of a packaged preset, or path of a YAML file. None, or "auto", is the plan.
    overrides : sequence of str
        ``section.key=value``, applied last, in order.
    assumed : sequence of str
        The same, of the command itself: the user's own values come after them.
    purposes : sequence of Purpose
        What the settings are for; of ``tune`` one for each candidate. Without any, all settings are accepted.
    prepared : mapping, optional
        Windows and cleaning of the store that is read: they are in its windows already, so they take the place of a
        preset's.
    plan : SettingsPlan, optional
        What follows from the data. With one, and settings that are not of another preset, a :class:`PlannedConfig` is
        returned. Without one, ``general`` stands for it, and the name "auto" is refused.
    """
    faults: list[str] = []
    sections: dict[str, _Section] = {}
    layers, is_planned = _layers(name_or_file, plan, faults)
    for layer in layers:
        for name, section in layer.items():
            sections.setdefault(name, {}).update(section)
    for override in assumed:
        _apply_override(override, sections, faults, "preset")
    before = {name: dict(section) for name, section in sections.items()}
    for override in overrides:
        _apply_override(override, sections, faults, "override")
    if prepared is not None:
        _take_prepared(prepared, sections, faults)
    try:
        config = _build(sections, faults)
    except SettingsError as fault:
        sound = _without_faulty(before, sections)
        _refuse_faulty_unread(sections, purposes, sound, str(fault))
        if not _free_unread_heads(sections, purposes, sound):
            raise
        config = _build(sections, [])
    if not config.tokens.features and _drop_planned_linear(sections, config):
        config = _build(sections, faults)
    if purposes:
        _refuse_unread(sections, purposes, config)
    if _hide_labels(sections, purposes, config):
        config = _build(sections, faults)
    if plan is None or not is_planned:
        return config
    values = {f"{section}.{key}": value for section, of_it in sections.items() for key, value in of_it.items()}
    return PlannedConfig(**vars(config), plan=_in_effect(plan, values, config, purposes))


def _drop_planned_linear(sections: dict[str, _Section], config: Config) -> bool:
    """Take a planned linear branch away, which follows what the user says of features; say whether there was one.

    One that was asked for is refused where it is made.
    """
    model = sections["model"]
    if model["linear_branch"].where != _THE_PLAN or not config.model.linear_branch:
        return False
    model["linear_branch"] = _Value(False, sections["tokens"]["features"].where)
    return True


def _hide_labels(sections: Mapping[str, _Section], purposes: Sequence[Purpose], config: Config) -> bool:
    """Put another mode in place of a scaling that would give a label away, as evaluation does; say whether there was.

    So what is shown and written is what is done. A scaling that was chosen (``--normalisation``) stays.
    """
    for purpose in purposes:
        if purpose.is_scaling_settled(config):
            continue
        honest, _ = normalisation_of_all(purpose.tasks, config.normalisation, is_chosen=False)
        if honest.mode != config.normalisation.mode:
            sections["normalisation"]["mode"] = _Value(honest.mode, _HONESTY)
            return True
    return False


def load_config_for(
    stores: Path | Sequence[Path],
    name_or_file: str | None = None,
    overrides: Sequence[str] = (),
    *,
    assumed: Sequence[str] = (),
    purposes: Sequence[Purpose] = (),
) -> tuple[Config, tuple[str, ...]]:
    """Return :func:`load_config` with windows and cleaning of a store, and a warning where a named preset has others.

    Where no preset is named, the plan is made from the store, or from several that can be joined.

    Raises SettingsError as :func:`load_config`. Raises StoreError where the store cannot be opened.
    """
    from biopercept.store.reading import open_store

    store, *more = [stores] if isinstance(stores, Path) else stores
    with ExitStack() as stack:
        first = stack.enter_context(open_store(store))
        opened: Studies = first
        prepared = dict(first.settings)
        if more:
            with contextlib.suppress(StudyError):  # the command says why they cannot be joined
                opened = stack.enter_context(open_studies(store, *more))
        purposes = [replace(purpose, tasks=_tasks(opened, purpose)) for purpose in purposes]
        plan = _plan_of_store(opened, purposes) if _is_planned(name_or_file) else None
    config = load_config(name_or_file, overrides, assumed=assumed, purposes=purposes, prepared=prepared, plan=plan)
    if name_or_file in (None, AUTO) or not any(prepared.get(section) for section in PREPARED):
        return config, ()
    theirs = load_config(name_or_file, plan=plan)
    differing = [
        f"{section}.{row.name}={getattr(getattr(config, section), row.name):g}"
        for section in PREPARED
        for row in fields(getattr(config, section))
        if getattr(getattr(config, section), row.name) != getattr(getattr(theirs, section), row.name)
    ]
    if not differing:
        return config, ()
    return config, (
        f"{store.name} was prepared with {', '.join(differing)}, which is used here; {name_or_file} has other values, "
        "which are for prepare alone",
    )


def load_config_for_study(
    study: Study,
    name_or_file: str | None = None,
    overrides: Sequence[str] = (),
    *,
    purposes: Sequence[Purpose] = (),
    is_opened: bool = False,
) -> Config:
    """Return :func:`load_config` with the plan of a study that is not prepared; what follows from windows follows them.

    ``is_opened`` loads a few recordings where headers do not tell their sensors.
    """
    if not _is_planned(name_or_file):
        return load_config(name_or_file, overrides, purposes=purposes)
    made_of = fingerprint_of_study(study, is_opened=is_opened)
    plan = plan_of(made_of)
    length = load_config(name_or_file, overrides, plan=plan).windows.length_seconds
    if length != plan.values["windows.length_seconds"]:
        plan = plan_of(made_of, length)
    return load_config(name_or_file, overrides, purposes=purposes, plan=plan)


def config_and_plan_of_study(
    study: Study,
    name_or_file: str | None = None,
    overrides: Sequence[str] = (),
    *,
    purposes: Sequence[Purpose] = (),
    is_opened: bool = False,
) -> tuple[Config, SettingsPlan]:
    """Return :func:`load_config_for_study`, and what the plan says of the study.

    Where the settings are a preset's the plan has no lines, and says what their windows lose.
    """
    config = load_config_for_study(study, name_or_file, overrides, purposes=purposes, is_opened=is_opened)
    if isinstance(config, PlannedConfig) and config.plan is not None:
        return config, config.plan
    return config, plan_of(fingerprint_of_study(study), config.windows.length_seconds).of(())


def _plan_of_store(store: Studies, purposes: Sequence[Purpose]) -> SettingsPlan:
    """Return the plan of a store, or of several joined, for what is to be done with it."""
    tasks = tuple({task.name: task for purpose in purposes for task in purpose.tasks}.values())
    people = {r.subject for r in store.recordings if any(purpose.is_of(r.subject) for purpose in purposes)}
    plan = plan_of(fingerprint_of_store(store, tasks, people or None))  # that nobody is left is said by the command
    if all(purpose.is_of_repetitions for purpose in purposes):
        return plan
    return plan.of([line.setting for line in plan.lines if line.setting != REPETITIONS])


def _in_effect(
    plan: SettingsPlan, values: Mapping[str, _Value], config: Config, purposes: Sequence[Purpose]
) -> SettingsPlan:
    """Return what a command reads of a plan, with the values that hold in the end and who gave them."""
    changed: dict[str, tuple[Any, str, Origin]] = {}
    shown = []
    for line in plan.lines:
        section, _, key = line.setting.partition(".")
        if not purposes or section in PREPARED or not unread_sentence(line.setting, purposes, config):
            shown.append(line.setting)
        value = getattr(getattr(config, section), key)
        where = values[line.setting].where
        if where != _THE_PLAN and line.origin != "store":
            by_plan = "" if value == line.value else f"; the plan has {shown_value(line.value)}"
            origin: Origin = "plan" if where == _HONESTY else "user"
            changed[line.setting] = (value, f"{where.partition('=')[0]}{by_plan}", origin)
    return plan.of(shown).replaced(changed)


def _is_planned(name_or_file: str | None) -> bool:
    """Return whether what is not given follows from the plan: no preset is named, by the user or in their file."""
    if name_or_file in (None, AUTO):
        return True
    path = Path(str(name_or_file))
    if name_or_file in preset_names() or not path.is_file():
        return False
    return str(read_yaml_text(path, [])[0].get(_PRESET_KEY, AUTO)) == AUTO


def _refuse_unread(sections: Mapping[str, _Section], purposes: Sequence[Purpose], config: Config) -> None:
    """Refuse what the user gives and nothing reads; windows and cleaning are the store's by now, where one is read.

    A user's file serves all commands of a study: what it says for other commands alone is no fault.
    """
    faults = []
    for section, values in sections.items():
        for key, value in values.items():
            name = f"{section}.{key}"
            is_meant = value.origin == "override" or (value.origin == "file" and may_read(name, purposes))
            if is_meant and (sentence := unread_sentence(name, purposes, config)):
                faults.append(f"{value.where}: {sentence}")
    _raise(faults)


def _without_faulty(before: Mapping[str, _Section], sections: Mapping[str, _Section]) -> Config:
    """Return the settings without those values of the command line that cannot hold."""
    chosen = {name: dict(section) for name, section in before.items()}
    for section, values in sections.items():
        for key, value in values.items():
            if value.origin != "override":
                continue
            trial = {**chosen, section: {**chosen.get(section, {}), key: value}}
            with contextlib.suppress(SettingsError):
                _build(trial, [])
                chosen = trial
    try:
        return _build(chosen, [])
    except SettingsError:
        return Config()


def _refuse_faulty_unread(
    sections: Mapping[str, _Section], purposes: Sequence[Purpose], sound: Config, fault: str
) -> None:
    """Refuse what a command line sets wrongly and is not read there: that, and not its value, is the mistake."""
    given = {f"{section}.{key}": one for section, values in sections.items() for key, one in values.items()}
    wrong = [name for name, one in given.items() if one.origin == "override" and name in fault]
    if purposes:
        sentences = {name: unread_sentence(name, purposes, sound) for name in wrong}
        _raise([f"{given[name].where}: {sentence}" for name, sentence in sentences.items() if sentence])


def _free_unread_heads(sections: dict[str, _Section], purposes: Sequence[Purpose], sound: Config) -> bool:
    """Let a model without attention heads have any width: their number becomes 1; say whether it was another."""
    name, model = "model.n_heads", sections["model"]
    if not purposes or str(model["n_heads"].given) == "1" or not unread_sentence(name, purposes, sound):
        return False
    model["n_heads"] = _Value(1, f"{name} is not read here")
    return True


def _tasks(store: Studies, purpose: Purpose) -> tuple[Task, ...]:
    """Return the tasks that are learnt: those named, or the usual one; without labels all there are.

    None where one is unknown: the plan of the command refuses it.
    """
    names, tasks = purpose.task, store.tasks
    if names is None:
        usual = usual_task(store)
        return tuple(tasks.values()) if purpose.reads_no_labels or usual is None else (tasks[usual],)
    wanted = [names] if names in tasks else [n.strip() for n in names.split(",")]
    return tuple(tasks[name] for name in wanted) if all(name in tasks for name in wanted) else ()


def _take_prepared(prepared: Mapping[str, Any], sections: dict[str, _Section], faults: list[str]) -> None:
    """Put the store's windows and cleaning in place of a preset's; where a user wrote other values, add a fault."""
    hints = _hints()
    for section in PREPARED:
        for key, stored in prepared.get(section, {}).items():
            if key not in hints[section]:
                continue
            here = sections.setdefault(section, {})
            given = here.get(key)
            if given is not None and given.origin != "preset":
                value = read_setting(given.given, hints[section][key], f"{given.where}: {section}.{key}", faults)
                if value is not None and value != stored:
                    faults.append(
                        f"{given.where}: {section}.{key} is {value} and the store was prepared with {stored}; leave it "
                        "out, or prepare a store with it"
                    )
            here[key] = _Value(stored, "the store")


def _layers(
    name_or_file: str | None, plan: SettingsPlan | None, faults: list[str]
) -> tuple[list[dict[str, _Section]], bool]:
    """Return what each layer sets, the general preset first, and whether the plan is one of them."""
    chosen = name_or_file or AUTO
    of_file: list[dict[str, _Section]] = []
    base = chosen
    if chosen == AUTO and name_or_file and plan is None:
        raise SettingsError(
            f"the settings {AUTO!r} follow from a study or a store, and here is neither (config show takes --store "
            f"STORE); {_presets_like('')}"
        )
    if chosen not in (AUTO, *preset_names()):
        path = Path(chosen)
        if not path.is_file():
            raise SettingsError(
                f"there is neither a preset nor a file called {chosen!r}; {_presets_like(chosen)}"
                f"{'' if closest(chosen, preset_names()) else path_meant(path)}"
            )
        content, lines = read_yaml_text(path, faults)
        base = str(content.pop(_PRESET_KEY, AUTO))
        origin: _Origin = "record" if VERSION_KEY in content else "file"
        of_file = [_from(origin, _checked_sections(content, lines, path.name, faults))]
        if base not in (AUTO, *preset_names()):
            faults.append(
                f"{path.name} line {lines[(_PRESET_KEY,)]}: no preset is called {base!r}; {_presets_like(base)}"
            )
            base = DEFAULT_PRESET
    names = dict.fromkeys((DEFAULT_PRESET, base))
    presets = [_planned_layer(plan) if name == AUTO else _preset_layer(name, faults) for name in names]
    return [*presets, *of_file], base == AUTO


def _planned_layer(plan: SettingsPlan | None) -> dict[str, _Section]:
    sections: dict[str, _Section] = {}
    for setting, value in ({} if plan is None else plan.values).items():
        section, _, key = setting.partition(".")
        sections.setdefault(section, {})[key] = _Value(value, _THE_PLAN)
    return sections


def _from(origin: _Origin, sections: dict[str, _Section]) -> dict[str, _Section]:
    return {n: {key: replace(value, origin=origin) for key, value in s.items()} for n, s in sections.items()}


def _preset_layer(name: str, faults: list[str]) -> dict[str, _Section]:
    content, lines = parse_yaml_text(preset_text(name), f"{name}.yaml", faults)
    return _checked_sections(content, lines, f"{name}.yaml", faults)


def _presets_like(word: str) -> str:
    return f"presets are {', '.join(preset_names())}{did_you_mean(word, preset_names())}"


def _checked_sections(
    content: Mapping[str, Any], lines: Mapping[tuple[str, ...], int], name: str, faults: list[str]
) -> dict[str, _Section]:
    """Return the sections whose keys exist; every other key adds a fault."""
    hints = _hints()
    sections: dict[str, _Section] = {}
    for key, value in content.items():
        where = _where(name, lines.get((key,)))
        if key == VERSION_KEY:
            _check_version(str(value), where, faults)
        elif key not in hints:
            hint = did_you_mean(key, hints) or f"; known are {', '.join(hints)}"
            faults.append(f"{where}: the section {key!r} is unknown{hint}")
        elif not isinstance(value, Mapping):
            if value not in ("", None):  # a section whose lines are all commented out
                faults.append(f"{where}: the section {key!r} needs 'setting: value' lines below it, not {value!r}")
        else:
            sections[key] = {
                setting: _Value(given, _where(name, lines.get((key, setting))))
                for setting, given in value.items()
                if _is_known(key, setting, _where(name, lines.get((key, setting))), faults)
            }
    return sections


def _where(name: str, line: int | None) -> str:
    return name if line is None else f"{name} line {line}"


def _is_known(section: str, setting: str, where: str, faults: list[str]) -> bool:
    hints = _hints()
    if setting in hints[section]:
        return True
    everywhere = [f"{other}.{known}" for other, settings in hints.items() for known in settings]
    near = closest(setting, hints[section])
    hint = f"; did you mean {section}.{near}?" if near else ""
    if not hint:
        moved = [path for path in everywhere if path.endswith(f".{setting}")]
        hint = f"; did you mean {moved[0]}?" if moved else f"; known are {', '.join(hints[section])}"
    faults.append(f"{where}: the setting {section}.{setting} is unknown{hint}")
    return False


def _check_version(wanted: str, where: str, faults: list[str]) -> None:
    """Refuse a file that a newer version wrote: its settings may mean something else here."""
    try:
        is_newer = _release(wanted) > _release(__version__)
    except ValueError:
        faults.append(f"{where}: {VERSION_KEY} is {wanted!r}; a version such as {__version__} is needed")
        return
    if is_newer:
        faults.append(f"{where}: written by biopercept {wanted}, this is {__version__}; install {wanted} or newer")


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _apply_override(override: str, sections: dict[str, _Section], faults: list[str], origin: _Origin) -> None:
    path, has_value, value = override.partition("=")
    section, has_key, setting = path.strip().partition(".")
    if not (has_value and has_key and section and setting):
        word = path.strip()
        known = [name for settings in _hints().values() for name in settings]
        name = word if word in known else synonym_of(word, known)
        homes = [f"{home}.{name}" for home, settings in _hints().items() if name in settings]
        hint = f"; did you mean {homes[0]}?" if homes else ""
        faults.append(f"--set {override}: section.key=value is needed, such as windows.length_seconds=30{hint}")
        return
    hints = _hints()
    if section not in hints:
        hint = did_you_mean(section, hints) or f"; known are {', '.join(hints)}"
        faults.append(f"--set {override}: the section {section!r} is unknown{hint}")
        return
    if not _is_known(section, setting, f"--set {override}", faults):
        return
    parsed, _ = parse_yaml_text(f"value: {value}", f"--set {override}", faults)
    if "value" in parsed:
        sections.setdefault(section, {})[setting] = _Value(parsed["value"], f"--set {override}", origin)


@cache
def _hints() -> _Hints:
    """Return the type of every setting by section and name, in the order of the dataclasses."""
    return {name: _field_hints(kind) for name, kind in typing.get_type_hints(Config).items()}


def _field_hints(kind: type) -> dict[str, Any]:
    resolved = typing.get_type_hints(kind)
    return {row.name: resolved[row.name] for row in fields(kind)}


def _build(sections: Mapping[str, _Section], faults: list[str]) -> Config:
    """Return the Config with every value read by its field's type, or raise all faults at once."""
    hints = _hints()
    built: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(Config).items():
        before = len(faults)
        given = sections.get(name, {})
        values = {
            key: read_setting(value.given, hints[name][key], f"{value.where}: {name}.{key}", faults)
            for key, value in given.items()
        }
        if len(faults) == before:
            try:
                built[name] = kind(**values)
            except SettingsError as fault:
                faults.append(str(fault))
    _raise(faults)
    return Config(**built)


def _raise(faults: Sequence[str]) -> None:
    if faults:
        raise SettingsError(faults[0]) if len(faults) == 1 else SettingsFaults(faults)
