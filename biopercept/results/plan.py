"""``plan.json``: what a study is made of, and the settings that follow from it, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from biopercept.files import write_text
from biopercept.results.reading import read_result, write_result
from biopercept.typed_values import omitted, unwritten

Origin = Literal["plan", "store", "user"]


@dataclass(frozen=True, kw_only=True)
class SensorMakeUp:
    """A measured modality: sampling rate (Hz) and channels, the median over ``n_recordings`` that have it.

    They are of ``n_studies``, where several are joined.
    """

    modality: str
    sampling_rate: float
    n_channels: int
    n_recordings: int
    n_studies: int = omitted(1)


@dataclass(frozen=True, kw_only=True)
class ClassMakeUp:
    """A class: how many people have it, in how many stretches, and for how many seconds altogether."""

    name: str
    n_subjects: int
    n_stretches: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TaskMakeUp:
    """What the labels of one task are like.

    ``stretch_seconds`` are shortest, median and longest labelled stretch, ``seconds_per_subject`` the median over the
    people who have labels; None where lengths are not known. ``is_subject_label``: nobody has two classes (or numbers).
    ``n_subjects_of_files``: people with two labelled files or more in a session; of several studies joined, among the
    ``n_subjects_of_file_labels`` in whose study a file holds one class only. ``order`` is the one order of classes that
    all people went through, empty where they differ; ``first`` the class that comes first for all.
    """

    name: str
    kind: str
    classes: tuple[ClassMakeUp, ...] = ()
    n_subjects: int
    stretch_seconds: tuple[float, ...] | None = None
    seconds_per_subject: float | None = None
    is_rating: bool = False
    is_file_label: bool = False
    is_subject_label: bool = False
    n_subjects_of_files: int = 0
    n_subjects_of_file_labels: int = omitted(0)
    order: tuple[str, ...] = ()
    first: str = ""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a study is made of, as far as its plan depends on it.

    ``file_seconds`` are the shortest, median and longest recording; ``sensors`` None where headers do not say what was
    measured, ``n_opened`` how many recordings they were taken from. ``window_seconds`` and ``step_seconds`` are those
    of a store, ``n_windows`` its labelled windows; None before ``prepare``.
    """

    name: str
    n_subjects: int
    n_recordings: int
    n_sessions: int
    n_opened: int
    file_seconds: tuple[float, ...] | None = None
    sensors: tuple[SensorMakeUp, ...] | None = None
    tasks: tuple[TaskMakeUp, ...] = ()
    window_seconds: float | None = None
    step_seconds: float | None = None
    n_windows: int | None = None
    n_studies: int = omitted(1)
    lengths: Mapping[str, Mapping[tuple[str, str], Sequence[float]]] = unwritten({})

    @property
    def modalities(self) -> frozenset[str]:
        """Return what is measured in at least half of the recordings that were looked at; none where not known.

        Of several studies, what most of them measure.
        """
        most = max((sensor.n_recordings for sensor in self.sensors or ()), default=0)
        return frozenset(
            s.modality for s in self.sensors or () if 2 * s.n_recordings >= most and 2 * s.n_studies > self.n_studies
        )

    @property
    def has_motion(self) -> bool:
        """Return whether acceleration is measured."""
        return "acc" in self.modalities

    def sensor(self, modality: str) -> SensorMakeUp | None:
        """Return what is known of a modality; None where it is not measured."""
        return next((sensor for sensor in self.sensors or () if sensor.modality == modality), None)


@dataclass(frozen=True, kw_only=True)
class PlanLine:
    """One setting ``section.key``, its value, and why; ``origin`` is the plan, the store or the user."""

    setting: str
    value: Any
    because: str
    origin: Origin = "plan"


@dataclass(frozen=True, kw_only=True)
class SettingsPlan:
    """The settings that follow from what a study is made of.

    ``losses`` are labels that the windows leave out, ``warnings`` what is to be known, ``faults`` what cannot work.
    """

    FILE: ClassVar[str] = "plan.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "cross-validate"

    lines: tuple[PlanLine, ...]
    losses: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    study: Fingerprint

    @property
    def values(self) -> dict[str, Any]:
        """Return the planned value of each setting."""
        return {line.setting: line.value for line in self.lines}

    def of(self, settings: Sequence[str]) -> SettingsPlan:
        """Return the plan with the lines of these settings alone."""
        return replace(self, lines=tuple(line for line in self.lines if line.setting in settings))

    def replaced(self, values: Mapping[str, tuple[Any, str, Origin]]) -> SettingsPlan:
        """Return the plan with other values for some settings, each with why and whose it is."""
        lines = tuple(
            replace(
                line, value=values[line.setting][0], because=values[line.setting][1], origin=values[line.setting][2]
            )
            if line.setting in values
            else line
            for line in self.lines
        )
        return replace(self, lines=lines)

    @property
    def rows(self) -> list[str]:
        """Return the plan as aligned lines of text: setting, value, because."""
        cells, before = [], ""
        for line in self.lines:
            cells.append(
                (line.setting, shown_value(line.value), "(the same)" if line.because == before else line.because)
            )
            before = line.because
        first, second = (max((len(row[i]) for row in cells), default=0) for i in (0, 1))
        return [f"{setting:<{first}}  {value:<{second}}  {because}" for setting, value, because in cells]


SETTINGS_FILES = ("config.yaml", SettingsPlan.FILE)
"""What lies beside every result: the settings in effect, and why those that nobody gave are what they are."""


def write_settings(folder: Path, config_text: str, plan: SettingsPlan | None) -> None:
    """Write the settings of a run, and the plan that they follow from."""
    write_text(folder / SETTINGS_FILES[0], config_text)
    write_plan(folder / SettingsPlan.FILE, plan)


def write_windows_plan(log: Path, plan: SettingsPlan | None) -> None:
    """Write why a store has the windows that it has, as STORE.plan.json beside its log STORE.log.csv."""
    if plan is not None:
        plan = plan.of([setting for setting in plan.values if setting.startswith("windows.")])
    write_plan(log.with_name(f"{log.name.removesuffix('.log.csv')}.{SettingsPlan.FILE}"), plan)


def write_plan(path: Path, plan: SettingsPlan | None) -> None:
    """Write a plan, or remove that of an earlier run where the settings were of a preset."""
    if plan is not None:
        write_result(path, plan)
    else:
        path.unlink(missing_ok=True)


def read_plan(folder: Path) -> SettingsPlan | None:
    """Return the plan that lies in a folder of results; None where the settings were of a preset."""
    path = folder / SettingsPlan.FILE
    return read_result(path, SettingsPlan) if path.is_file() else None


def shown_value(value: Any) -> str:
    """Return a value as a user would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)
