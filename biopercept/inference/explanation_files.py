"""Explain files and studies into a folder: a table per recording, one of all, and how faithful each method is.

``KEY_explanation.csv`` has a row per window and part of the input, ``explanation.csv`` one per recording and part,
``explanation.json`` all of it with the faithfulness and what every column is, ``failures.csv`` one per recording that
could not be explained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from biopercept.files import write_table
from biopercept.inference.attribution import FloatArray
from biopercept.inference.explanation import (
    BRANCH,
    ExplainSettings,
    Explanation,
    Part,
    explain,
    tasks_of,
    unit_of,
)
from biopercept.inference.prediction import require_this_version
from biopercept.inference.prediction_files import SessionReader
from biopercept.loaders.recognition import SignalOverride
from biopercept.measures.averages import over_rows
from biopercept.prepare.sources import Failure, Source, outcome_of, sources_of
from biopercept.progress import each
from biopercept.results import explanation as results
from biopercept.results.explanation import (
    ATTENTION,
    BETTER,
    FAILURES,
    GRADIENTS,
    LEVEL,
    METHODS,
    OCCLUSION,
    PAGE,
    TABLE,
    UNKNOWN,
    WORSE,
    ExplainedRecording,
    ExplainedTask,
    Faithfulness,
    PartScore,
)
from biopercept.results.reading import Estimate, write_result, write_rows
from biopercept.store.prepared import PreparedRecording
from biopercept.tasks import Task
from biopercept.training.checkpoint import Checkpoint, load_model
from biopercept.training.engine import Engine, engine_for

SUFFIX = "_explanation.csv"
_WIDEST_GAP = 0.05
_COLUMNS = {
    "onset": "start of the window, seconds from the recording's start",
    "duration": "length of the window, seconds",
    "task": "the task of the model",
    "target": "the class whose log odds are explained; empty of numbers and levels",
    "answer": "what is explained: log odds, a level counted from 0, or the number",
    "kind": "what the part is: sensor, modality, channel, time or feature",
    "name": "the part; a sensor has all that is computed from it, a time is in seconds from the window's start",
    "sensor": "the measured sensor that the part comes from",
    "modality": "the modality of the part; features where it is of a group of features",
    "unit": "unit of integrated_gradients, branches and occlusion",
    ATTENTION: f"{METHODS[ATTENTION]}; 0 to 1",
    GRADIENTS: f"{METHODS[GRADIENTS]}; above 0: towards the answer",
    BRANCH: "the part of integrated_gradients that went through branches beside the network",
    OCCLUSION: f"{METHODS[OCCLUSION]}; above 0: it spoke for the answer",
    "n_windows": "windows that have the part",
    "..._size": "mean of the absolute values",
    "start, stop": "ends of a part of time, seconds from the window's start",
    "x, y, z": "position of an electrode, metres, head coordinates (right, front, up)",
}


@dataclass(frozen=True, eq=False)
class ExplainRequest:
    """What is explained, by which model folder: recordings and study folders, of some subjects only or without some.

    ``tasks`` of the model; None: all. ``overrides`` is what the user says of channels.
    """

    model: Path
    paths: tuple[Path, ...]
    settings: ExplainSettings
    tasks: tuple[str, ...] | None = None
    subjects: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    device: str = "auto"
    overrides: Mapping[str, SignalOverride] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ExplainedOne:
    """How one recording went; ``failure`` says why it could not be explained and is empty where it was."""

    title: str
    n_recordings: int
    n_windows: int = 0
    failure: str = ""


@dataclass(eq=False)
class _Collected:
    """What was explained so far, by task, and the rows of the tables."""

    explained: dict[str, list[Explanation]] = field(default_factory=dict)
    recordings: list[ExplainedRecording] = field(default_factory=list)
    parts: list[PartScore] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


def explain_files(
    request: ExplainRequest, output: Path, *, on_recording: Callable[[ExplainedOne], None] = lambda _: None
) -> results.Explanation:
    """Write what a model's answers for every recording rested on, and return what ``explanation.json`` holds.

    One recording that fails costs one row. What an earlier call wrote there is removed once the request is known to
    make sense.

    Raises CheckpointError where the folder is no model, or is damaged. Raises SettingsError where a subject, task,
    class or the device is unknown, or the model reads other features than this version makes. Raises OutputError where
    a file cannot be written.
    """
    checkpoint = load_model(request.model)
    require_this_version(checkpoint, request.model.resolve().name)
    tasks = tasks_of(checkpoint, request.tasks, request.settings.of_class)
    engine = engine_for(request.device)
    sources = sources_of(request.paths, request.subjects, request.excluded, request.overrides)
    for pattern in (f"*{SUFFIX}", TABLE, FAILURES, PAGE, results.Explanation.FILE):
        for path in output.glob(pattern):
            path.unlink()
    one = _OneByOne(checkpoint, engine, tasks, request.settings)
    done = _Collected()
    for source in each("recordings", sources):
        explained = outcome_of(_OneByOne.explain, one, source)
        if isinstance(explained, Failure):
            done.failures.append((source.title, explained.reason))
            on_recording(ExplainedOne(source.title, len(sources), failure=explained.reason))
            continue
        prepared, by_task = explained
        _add(done, prepared, by_task, output)
        on_recording(ExplainedOne(source.title, len(sources), n_windows=done.recordings[-1].n_explained))
    write_table(output / FAILURES, ("recording", "message"), done.failures)
    if done.parts:
        write_rows(output / TABLE, done.parts)
    result = _result(request, checkpoint, tasks, done)
    write_result(output / results.Explanation.FILE, result)
    return result


@dataclass(eq=False)
class _OneByOne:
    checkpoint: Checkpoint
    engine: Engine
    tasks: tuple[Task, ...]
    settings: ExplainSettings

    def __post_init__(self) -> None:
        self._sessions = SessionReader(self.checkpoint)

    def explain(self, source: Source) -> tuple[PreparedRecording, list[Explanation]]:
        _, prepared, before = self._sessions.read(source)
        explained = [
            explain(self.checkpoint, prepared, self.engine, task=t.name, before=before, settings=self.settings)
            for t in self.tasks
        ]
        self._sessions.keep(prepared)
        return prepared, explained


def _add(done: _Collected, prepared: PreparedRecording, by_task: Sequence[Explanation], output: Path) -> None:
    table = f"{prepared.key}{SUFFIX}"
    columns = [explanation.columns() for explanation in by_task]
    rows = [row for of_task in columns for row in zip(*of_task.values(), strict=True)]
    write_table(output / table, tuple(columns[0]), [[_cell(value) for value in row] for row in rows])
    key = {"participant_id": prepared.subject, "session": prepared.session, "recording": prepared.recording}
    for explanation in by_task:
        done.explained.setdefault(explanation.task, []).append(explanation)
        done.parts += [_score(key, explanation, part, values) for part, values in explanation.parts.items()]
    first = by_task[0]
    done.recordings.append(
        ExplainedRecording(
            **key,
            table=table,
            n_windows=len(first) + sum(first.left_out.values()),
            n_explained=len(first),
            left_out=first.left_out,
            notes=prepared.notes,
        )
    )


def _score(key: Mapping[str, str], of: Explanation, part: Part, values: Mapping[str, FloatArray]) -> PartScore:
    x, y, z = part.position or (None, None, None)
    return PartScore(
        **key,
        task=of.task,
        kind=part.kind,
        name=part.name,
        sensor=part.sensor,
        modality=part.modality,
        unit=of.unit,
        n_windows=int(np.isfinite(values[OCCLUSION]).sum()),
        attention=_mean(values[ATTENTION]),
        integrated_gradients=_mean(values[GRADIENTS]),
        integrated_gradients_size=_mean(np.abs(values[GRADIENTS])),
        branches=_mean(values[BRANCH]),
        occlusion=_mean(values[OCCLUSION]),
        occlusion_size=_mean(np.abs(values[OCCLUSION])),
        start=part.start,
        stop=part.stop,
        x=x,
        y=y,
        z=z,
    )


def _result(
    request: ExplainRequest, checkpoint: Checkpoint, tasks: Sequence[Task], done: _Collected
) -> results.Explanation:
    explained = [task for task in tasks if task.name in done.explained]
    rows = [_task_row(task, done.explained[task.name], request.settings) for task in explained]
    faithfulness = [_faithful(task, done.explained[task.name], method) for task in explained for method in METHODS]
    has_branch = len(checkpoint.network.branches) > 0
    return results.Explanation(
        model=request.model.resolve().name,
        window_seconds=checkpoint.window_seconds,
        seed=request.settings.seed,
        has_branches=has_branch,
        methods=METHODS,
        tasks=tuple(rows),
        faithfulness=tuple(faithfulness),
        recordings=tuple(done.recordings),
        n_failed=len(done.failures),
        parts=tuple(done.parts),
        columns=_COLUMNS,
        warnings=tuple(_warnings(rows, faithfulness, done, has_branch=has_branch)),
    )


def _task_row(task: Task, explained: Sequence[Explanation], settings: ExplainSettings) -> ExplainedTask:
    if not task.is_classification:
        of = f"the number predicted, in the unit of {task.quantity}"
    elif task.is_ordinal:
        of = f"the expected level, counted from 0 ({', '.join(task.classes)})"
    else:
        which = f"class {settings.of_class}" if settings.of_class else "the most probable class of each window"
        of = f"the log odds of {which} against all others, before calibration"
    answers, usual, gap = (
        np.concatenate([getattr(e, name) for e in explained]) for name in ("answers", "usual", "gap")
    )
    size = float(np.abs(answers - usual).mean())
    return ExplainedTask(
        name=task.name,
        kind=task.kind,
        of=of,
        unit=unit_of(task),
        answer=float(answers.mean()),
        usual=float(usual.mean()),
        gap=float(np.abs(gap).mean()) / size if size > 0 else None,
    )


def _faithful(task: Task, explained: Sequence[Explanation], method: str) -> Faithfulness:
    """Return how faithful a method is, over windows of all recordings that do not overlap."""
    parts = [(e.faithfulness[method], e.apart()) for e in explained]

    def windows(name: str) -> FloatArray:
        return np.concatenate([getattr(deleted, name)[rows] for deleted, rows in parts])

    without, alone = windows("without"), windows("alone")
    random_without, random_alone = windows("random_without"), windows("random_alone")
    comprehensive, sufficient = _estimate(without - random_without), _estimate(random_alone - alone)
    return Faithfulness(
        task=task.name,
        method=method,
        unit=unit_of(task),
        n_windows=int(np.isfinite(without).sum()),
        comprehensiveness=_estimate(without),
        random_comprehensiveness=_estimate(random_without),
        more_comprehensive=comprehensive,
        sufficiency=_estimate(alone),
        random_sufficiency=_estimate(random_alone),
        more_sufficient=sufficient,
        verdict=_verdict(comprehensive, sufficient),
    )


def _verdict(*differences: Estimate) -> results.Verdict:
    """Return better (worse) where one difference is and the other is not the contrary."""
    intervals = [difference.ci95 for difference in differences if difference.ci95 is not None]
    if len(intervals) < len(differences):
        return UNKNOWN
    is_better, is_worse = any(low > 0 for low, _ in intervals), any(high < 0 for _, high in intervals)
    if is_better == is_worse:
        return LEVEL
    return BETTER if is_better else WORSE


def _estimate(values: FloatArray) -> Estimate:
    known = values[np.isfinite(values)]
    if not len(known):
        return Estimate()
    mean, low, high, _ = (float(column[0]) for column in over_rows(known[:, None]))
    return Estimate(mean=mean, ci95=(low, high) if np.isfinite(low) else None)


def _warnings(
    tasks: Sequence[ExplainedTask], faithfulness: Sequence[Faithfulness], done: _Collected, *, has_branch: bool
) -> list[str]:
    """Return what must be known before the numbers are read."""
    words = []
    for row in faithfulness:
        if row.verdict in (LEVEL, WORSE):
            words.append(
                f"{row.task}: what {row.method.replace('_', ' ')} calls important is no more faithful than tokens "
                f"taken at random ({row.verdict}, {row.n_windows} windows); do not read it as the reason"
            )
        elif row.verdict == UNKNOWN:
            words.append(
                f"{row.task}: the faithfulness of {row.method.replace('_', ' ')} could not be measured "
                f"({row.n_windows} windows that do not overlap and have two tokens; two such windows are needed)"
            )
    words += [
        f"{task.name}: integrated gradients miss {100 * task.gap:.0f} % of what they should sum to; read their order "
        "and not their size"
        for task in tasks
        if task.gap is not None and task.gap > _WIDEST_GAP
    ]
    if has_branch:
        words.append(
            "part of the output is of branches beside the network, which have no attention: "
            "attention is of the network's part alone, the other methods are of all"
        )
    reasons: Counter[str] = Counter()
    for one in done.recordings:
        reasons.update(one.left_out)
    n = sum(one.n_windows for one in done.recordings)
    words += [f"{n_left} of {n} windows were not explained: {why}" for why, n_left in reasons.items()]
    return words


def _mean(values: FloatArray) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _cell(value: object) -> object:
    if isinstance(value, float):
        return None if np.isnan(value) else float(f"{value:.6g}")
    return value
