"""study.yaml: the name of a study, its tasks, and what it states about its signals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from biopercept.errors import SettingsError
from biopercept.loaders.recognition import SignalOverride, override_for, unit_fault
from biopercept.studies.structure import EVENTS_WIN, REFUSE, Overlap
from biopercept.studies.tables import MISSING, finite_number
from biopercept.tasks import CLASSIFICATION, KINDS, LAG_STEP_SECONDS, ORDINAL, REGRESSION, Kind, Task
from biopercept.typed_values import Lines, did_you_mean, read_yaml_text

_TOP = ("name", "description", "licence", "citation", "tasks", "signals", "overlap", "align")
_TASK = ("kind", "classes", "ignore", "column", "signal", "lag_seconds", "max_lag_seconds")
_LONGEST_LAG = 60.0
_SIGNAL = ("modality", "unit")


@dataclass(frozen=True)
class Definition:
    """What study.yaml says."""

    name: str = ""
    description: str = ""
    licence: str = ""
    citation: str = ""
    tasks: dict[str, Task] = field(default_factory=dict)
    overrides: dict[str, SignalOverride] = field(default_factory=dict)
    overlap: Overlap = REFUSE
    is_aligned: bool = False


def read_definition(path: Path, faults: list[str]) -> Definition:
    """Return what a study.yaml says; faults are added to ``faults``, each with its line."""
    data, lines = read_yaml_text(path, faults)
    reader = _Reader(path.name, lines, faults)
    reader.refuse_unknown(data, (), _TOP)
    texts = {key: reader.text(data, (), key) for key in ("name", "description", "licence", "citation")}
    tasks = {name: reader.task(name, body) for name, body in reader.mapping(data, (), "tasks").items()}
    signals = reader.mapping(data, (), "signals")
    return Definition(
        **texts,
        tasks={name: task for name, task in tasks.items() if task is not None},
        overrides={pattern: reader.override(pattern, body) for pattern, body in signals.items()},
        overlap=reader.overlap(data),
        is_aligned=reader.is_aligned(data),
    )


def read_signals(path: Path, units: Mapping[str, str]) -> dict[str, SignalOverride]:
    """Return what a YAML file says of signals, in the form of ``signals:`` of study.yaml or below that key.

    ``units`` are by (pattern of the) label, too, and go before.

    Raises SettingsError with everything that is wrong with the file.
    """
    faults: list[str] = []
    data, lines = read_yaml_text(path, faults)
    if "signals" not in data:
        data, lines = {"signals": data}, {("signals", *place): line for place, line in lines.items()}
    reader = _Reader(path.name, lines, faults)
    stated = {pattern: reader.override(pattern, body) for pattern, body in reader.mapping(data, (), "signals").items()}
    if faults:
        raise SettingsError("; ".join(faults))
    return with_units(units, stated)


def with_units(units: Mapping[str, str], stated: Mapping[str, SignalOverride]) -> dict[str, SignalOverride]:
    """Return units of labels as what is said of signals, before the rest of it.

    Raises SettingsError where one is no unit, or none of what the label says is measured.
    """
    known = {label: override_for(label, stated) or SignalOverride() for label in units}
    given = {label: replace(known[label], unit=unit) for label, unit in units.items()}
    for label, override in given.items():
        if fault := unit_fault(label, override, is_strict=True):
            raise SettingsError(f"--unit {label}={units[label]}: {fault}")
    return {
        **given,
        **{pattern: one for pattern, one in stated.items() if pattern not in units},
    }


@dataclass(frozen=True)
class _Reader:
    """Takes values out of the parsed file and tells every fault with its line."""

    name: str
    lines: Lines
    faults: list[str]

    def fault(self, path: tuple[str, ...], sentence: str) -> None:
        self.faults.append(f"{self.name} line {self.lines.get(path, 1)}: {sentence}")

    def refuse_unknown(self, data: Mapping[str, Any], path: tuple[str, ...], allowed: tuple[str, ...]) -> None:
        for key in data:
            if key not in allowed:
                hint = did_you_mean(key, allowed) or f"; allowed are {', '.join(allowed)}"
                self.fault((*path, key), f"unknown key {'.'.join((*path, key))!r}{hint}")

    def text(self, data: Mapping[str, Any], path: tuple[str, ...], key: str) -> str:
        value = data.get(key, "")
        if not isinstance(value, str):
            self.fault((*path, key), f"{'.'.join((*path, key))} must be text")
            return ""
        return value.strip()

    def overlap(self, data: Mapping[str, Any]) -> Overlap:
        given = self.text(data, (), "overlap") or REFUSE
        if given not in (REFUSE, EVENTS_WIN):
            near = did_you_mean(given, (REFUSE, EVENTS_WIN))
            self.fault(("overlap",), f"overlap is {given!r}; allowed are {REFUSE} and {EVENTS_WIN}{near}")
        return EVENTS_WIN if given == EVENTS_WIN else REFUSE

    def is_aligned(self, data: Mapping[str, Any]) -> bool:
        given = self.text(data, (), "align") or "none"
        if given not in ("none", "auto"):
            self.fault(("align",), f"align is {given!r}; allowed are none and auto")
        return given == "auto"

    def mapping(self, data: Mapping[str, Any], path: tuple[str, ...], key: str) -> dict[str, Any]:
        value = data.get(key, {})
        if value == "":
            return {}
        if not isinstance(value, dict):
            self.fault((*path, key), f"{'.'.join((*path, key))} must hold 'name: ...' lines")
            return {}
        return value

    def labels(self, value: Any, path: tuple[str, ...]) -> tuple[str, ...]:
        """Return a list of labels; one label alone may stand without brackets."""
        listed = [value] if isinstance(value, str) and value else value
        if listed == "":
            listed = []
        if not isinstance(listed, list) or not all(isinstance(label, str) for label in listed):
            self.fault(path, f"{'.'.join(path)} must be a list of labels such as [baseline, relax]")
            return ()
        for label in listed:
            if label.lower() in MISSING:
                self.fault(path, f"{'.'.join(path)} holds the label {label!r}, which stands for a missing value")
        return tuple(listed)

    def task(self, name: str, body: Any) -> Task | None:
        path = ("tasks", name)
        if not isinstance(body, dict):
            self.fault(path, f"the task {name!r} needs 'classes:' (or 'kind: regression' and 'column:' or 'signal:')")
            return None
        self.refuse_unknown(body, path, _TASK)
        kind = self.text(body, path, "kind") or CLASSIFICATION
        ignore = self.labels(body.get("ignore", []), (*path, "ignore"))
        if kind not in KINDS:
            near = did_you_mean(kind, KINDS)
            self.fault((*path, "kind"), f"the kind of task {name!r} is {kind!r}; allowed are {', '.join(KINDS)}{near}")
            return None
        if "signal" in body:
            return self._rated(name, body, ignore, next(one for one in KINDS if one == kind))
        if "lag_seconds" in body:
            self.fault(
                (*path, "lag_seconds"), f"task {name!r} has a lag_seconds and no 'signal:', the rating that lags"
            )
        if kind == REGRESSION:
            return self._regression(name, body, ignore)
        return self._classes(name, body, ignore, ORDINAL if kind == ORDINAL else CLASSIFICATION)

    def _regression(self, name: str, body: dict[str, Any], ignore: tuple[str, ...]) -> Task | None:
        column = self.text(body, ("tasks", name), "column")
        if not column:
            self.fault(
                ("tasks", name),
                f"the regression task {name!r} needs 'column:', the numeric column to predict, or 'signal:', a "
                "continuous rating",
            )
            return None
        return Task(name, kind=REGRESSION, column=column, ignore=ignore)

    def _rated(self, name: str, body: dict[str, Any], ignore: tuple[str, ...], kind: Kind) -> Task | None:
        """Return a task whose labels are a continuous rating; its classes are ranges of it."""
        path = ("tasks", name)
        signal = self.text(body, path, "signal")
        if not signal:
            self.fault((*path, "signal"), f"the signal of task {name!r} is empty; name the channel of the rating")
        if "column" in body:
            self.fault((*path, "column"), f"task {name!r} names a column and a signal; keep one")
        lag, most = self._lag(name, body, kind)
        given = self.mapping(body, path, "classes")
        if kind == REGRESSION:
            if given:
                self.fault((*path, "classes"), f"task {name!r} is a regression and has classes; keep one of the two")
            return Task(name, kind=kind, ignore=ignore, signal=signal, lag_seconds=lag, max_lag_seconds=most)
        ranges = {label: span for label, value in given.items() if (span := self._range(name, label, value))}
        if len(given) < 2:
            self.fault(path, f"the task {name!r} has {len(given)} classes; at least two are needed")
        ordered = sorted(ranges.items(), key=lambda item: item[1])
        for (one, (_, high)), (other, (low, _)) in pairwise(ordered):
            if low < high:
                self.fault((*path, "classes"), f"the classes {one!r} and {other!r} of task {name!r} overlap")
        if kind == ORDINAL and [label for label, _ in ordered] != list(ranges):
            self.fault((*path, "classes"), f"the levels of task {name!r} must stand from the lowest up")
        classes: dict[str, tuple[str, ...]] = dict.fromkeys(ranges, ())
        return Task(name, kind, classes, ignore, signal=signal, ranges=ranges, lag_seconds=lag)

    def _lag(self, name: str, body: dict[str, Any], kind: Kind) -> tuple[float, float]:
        """Return the lag of a rating and, where it is to be estimated, the longest that it may be (0: it is known)."""
        path = ("tasks", name)
        text, most = (self.text(body, path, key) for key in ("lag_seconds", "max_lag_seconds"))
        is_auto = text == "auto"
        key, given = ("max_lag_seconds", most) if is_auto else ("lag_seconds", text)
        number = finite_number(given) if given else 0.0
        if is_auto and kind != REGRESSION:
            self.fault((*path, "lag_seconds"), f"task {name!r} has classes, whose lag is not estimated; give a number")
        elif is_auto and not most:
            self.fault((*path, "lag_seconds"), f"task {name!r} needs 'max_lag_seconds:', up to which the lag is sought")
        elif not is_auto and most:
            self.fault((*path, "max_lag_seconds"), f"task {name!r} has a max_lag_seconds, and its lag is not auto")
        elif number is None or not (LAG_STEP_SECONDS if is_auto else 0.0) <= number <= _LONGEST_LAG:
            self.fault(
                (*path, key),
                f"the {key} of task {name!r} is {given!r}; {LAG_STEP_SECONDS if is_auto else 0:g} to {_LONGEST_LAG:g} "
                f"are allowed{'' if is_auto else ', or auto'}",
            )
        else:
            return (0.0, number) if is_auto else (number, 0.0)
        return 0.0, 0.0

    def _range(self, name: str, label: str, value: Any) -> tuple[float, float] | None:
        ends = (
            [finite_number(end) if isinstance(end, str) else None for end in value] if isinstance(value, list) else []
        )
        if len(ends) == 2 and ends[0] is not None and ends[1] is not None and ends[0] < ends[1]:
            return ends[0], ends[1]
        self.fault(
            ("tasks", name, "classes", label),
            f"the class {label!r} of task {name!r} is a range of the rating such as [0, 3], the lower number first",
        )
        return None

    def _classes(self, name: str, body: dict[str, Any], ignore: tuple[str, ...], kind: Kind) -> Task:
        path = ("tasks", name)
        given = self.mapping(body, path, "classes")
        classes = {label: self.labels(value, (*path, "classes", label)) for label, value in given.items()}
        is_misspelt = "classes" not in body and any(key not in _TASK for key in body)  # which has been said
        if len(classes) < 2 and not is_misspelt:
            self.fault(path, f"the task {name!r} has {len(classes)} classes; at least two are needed")
        for label, members in classes.items():
            if not members:
                self.fault((*path, "classes", label), f"the class {label!r} of task {name!r} has no labels")
        self._refuse_shared(name, {**classes, "ignore": ignore})
        return Task(name, kind=kind, classes=classes, ignore=ignore)

    def _refuse_shared(self, name: str, groups: dict[str, tuple[str, ...]]) -> None:
        seen: dict[str, str] = {}
        for group, members in groups.items():
            for label in members:
                if label in seen:
                    self.fault(
                        ("tasks", name), f"task {name!r} lists the label {label!r} under {seen[label]} and {group}"
                    )
                seen.setdefault(label, group)

    def override(self, pattern: str, body: Any) -> SignalOverride:
        path = ("signals", pattern)
        if not isinstance(body, dict):
            self.fault(path, f"the signal pattern {pattern!r} needs 'modality:', 'unit:' or both")
            return SignalOverride(modality=None, unit=None)
        self.refuse_unknown(body, path, _SIGNAL)
        unit = self.text(body, path, "unit") or None
        try:
            stated = SignalOverride(modality=self.text(body, path, "modality") or None, unit=unit)
        except SettingsError as fault:
            self.fault((*path, "modality"), str(fault))
            return SignalOverride(unit=unit)
        if wrong := unit_fault(pattern, stated):
            self.fault((*path, "unit"), wrong)
        return stated
