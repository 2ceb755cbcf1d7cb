"""Reconstruct signals of files and studies into a folder, with the error where the recording has the signal.

``KEY_SIGNAL_reconstruction.csv`` has the samples, reconstructed and measured; ``reconstruction.csv`` a row per channel
with its errors, ``reconstruction.json`` the same with what every column is, ``failures.csv`` what could not be done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.files import write_table
from biopercept.inference.reconstruction import (
    BASELINES,
    OF_TRAINING,
    ReconstructedSignal,
    SignalErrors,
    reconstruct_prepared,
    require_use,
    signals_to_reconstruct,
)
from biopercept.loaders.recognition import SignalOverride
from biopercept.measures.averages import over_rows
from biopercept.prepare.recording import OF_A_MODEL, PrepareSettings, prepare_recording
from biopercept.prepare.sources import Failure, Source, outcome_of, sources_of
from biopercept.preprocessing.features import FEATURE_NAMES
from biopercept.progress import each
from biopercept.results.reading import write_result, write_rows
from biopercept.results.reconstruction import (
    BETTER,
    FAILURES,
    LEVEL,
    PAGE,
    SUFFIX,
    TABLE,
    UNKNOWN,
    WORSE,
    ReconstructedChannel,
    Reconstruction,
    Verdict,
)
from biopercept.store.prepared import PreparedRecording
from biopercept.training.engine import Engine, engine_for
from biopercept.training.pretrained import PretrainedModel, load_pretrained

_COLUMNS = {
    "time": "seconds from the recording's start",
    "CHANNEL": "as reconstructed from the other sensors, in the unit of reconstruction.csv; empty where no window is",
    "CHANNEL measured": "what the recording has of it, which was hidden from the network; same unit",
    "rmse, mae": "root mean squared and mean absolute error of the network, in the unit",
    **{name.replace(" ", "_"): f"root mean squared error of {words}; in the unit" for name, words in BASELINES.items()},
    "difference": "error of the network less that of the strongest baseline, mean over stretches; below 0: better",
    "ci95_low, ci95_high": "95 % interval of the difference over stretches as long as a window",
    "level_of": "whose mean and scale the values have: this recording's, or the training subjects', and then a guess",
}


@dataclass(frozen=True, eq=False)
class ReconstructRequest:
    """What is reconstructed, by which pretrained network: recordings and study folders, of some subjects or without.

    ``sensor`` is a measured modality with all that is computed from it, or one derived series; None: all that a
    recording lacks. ``study`` is whose preparation and scale are used, of a network of several; None: the first.
    ``overrides`` is what the user says of channels.
    """

    model: Path
    paths: tuple[Path, ...]
    sensor: str | None = None
    study: str | None = None
    subjects: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    device: str = "auto"
    overrides: Mapping[str, SignalOverride] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ReconstructedOne:
    """How one recording went: the signals, or why it failed."""

    title: str
    n_recordings: int
    signals: tuple[str, ...] = ()
    failure: str = ""


@dataclass(eq=False)
class _OneByOne:
    model: PretrainedModel
    engine: Engine
    sensor: str | None
    settings: PrepareSettings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = PrepareSettings.from_plain_values(self.model.prepare)

    def reconstruct(self, source: Source) -> tuple[PreparedRecording, list[ReconstructedSignal]]:
        prepared = prepare_recording(source.load(), self.settings, advice=OF_A_MODEL)
        names = signals_to_reconstruct(self.model, prepared, self.sensor, FEATURE_NAMES)
        signals = [
            reconstruct_prepared(self.model, prepared, name, self.engine, feature_names=FEATURE_NAMES) for name in names
        ]
        return prepared, signals


def reconstruct_files(
    request: ReconstructRequest, output: Path, *, on_recording: Callable[[ReconstructedOne], None] = lambda _: None
) -> Reconstruction:
    """Write the reconstructed signals of every recording, and return what ``reconstruction.json`` holds.

    One recording that fails costs one row. What an earlier call wrote there is removed once the request is known to
    make sense.

    Raises CheckpointError where the folder is no network that can reconstruct, or knows nothing of the sensor. Raises
    SettingsError where a subject or the device is unknown. Raises OutputError where a file cannot be written.
    """
    model = load_pretrained(request.model, request.study)
    require_use(model, request.model.resolve().name, request.sensor)
    engine = engine_for(request.device)
    sources = sources_of(request.paths, request.subjects, request.excluded, request.overrides)
    for pattern in (f"*{SUFFIX}", TABLE, FAILURES, PAGE, Reconstruction.FILE):
        for path in output.glob(pattern):
            path.unlink()
    one = _OneByOne(model, engine, request.sensor)
    rows: list[ReconstructedChannel] = []
    failures: list[tuple[str, str]] = []
    for source in each("recordings", sources):
        done = outcome_of(_OneByOne.reconstruct, one, source)
        if isinstance(done, Failure):
            failures.append((source.title, done.reason))
            on_recording(ReconstructedOne(source.title, len(sources), failure=done.reason))
            continue
        prepared, signals = done
        rows += [row for signal in signals for row in _write(prepared, signal, output)]
        on_recording(ReconstructedOne(source.title, len(sources), tuple(s.modality for s in signals)))
    write_table(output / FAILURES, ("recording", "message"), failures)
    if rows:
        write_rows(output / TABLE, rows)
    result = Reconstruction(
        model=request.model.resolve().name,
        study=model.study,
        sensor=request.sensor or "",
        window_seconds=float(model.prepare["windows"]["length_seconds"]),
        baselines=BASELINES,
        channels=tuple(rows),
        n_recordings=len(sources) - len(failures),
        n_failed=len(failures),
        columns=_COLUMNS,
        warnings=tuple(_warnings(rows)),
    )
    write_result(output / Reconstruction.FILE, result)
    return result


def _write(prepared: PreparedRecording, signal: ReconstructedSignal, output: Path) -> list[ReconstructedChannel]:
    table = f"{prepared.key}_{signal.modality}{SUFFIX}"
    heads = ["time", *signal.channels, *(f"{name} measured" for name in signal.channels)]
    columns = [[round(time, 6) for time in signal.times.tolist()]]
    columns += [[float(f"{v:.6g}") for v in row] for values in (signal.values, signal.measured) for row in values]
    write_table(output / table, heads, zip(*columns, strict=True))
    key: dict[str, Any] = {
        "participant_id": prepared.subject,
        "session": prepared.session,
        "recording": prepared.recording,
    }
    return [_row(key, signal, errors, table) for errors in signal.errors()]


def _row(key: dict[str, Any], signal: ReconstructedSignal, errors: SignalErrors, table: str) -> ReconstructedChannel:
    difference, interval = None, None
    if len(errors.difference):
        mean, low, high, _ = (float(column[0]) for column in over_rows(errors.difference[:, None]))
        difference, interval = mean, (low, high) if np.isfinite(low) else None
    baselines: dict[str, Any] = {name.replace(" ", "_"): _known(value) for name, value in errors.baselines.items()}
    return ReconstructedChannel(
        **key,
        signal=signal.modality,
        channel=errors.channel,
        unit=signal.unit,
        table=table,
        made_from=" ".join(signal.sensors),
        level_of=signal.level_of,
        n_compared=errors.n,
        n_stretches=len(errors.difference),
        rmse=_known(errors.rmse),
        mae=_known(errors.mae),
        correlation=_known(errors.correlation),
        **baselines,
        strongest=errors.strongest,
        difference=difference,
        ci95=interval,
        verdict=_verdict(errors.n, interval),
    )


def _verdict(n: int, interval: tuple[float, float] | None) -> Verdict:
    if not n:
        return UNKNOWN
    if interval is None or interval[0] <= 0 <= interval[1]:
        return LEVEL
    return BETTER if interval[1] < 0 else WORSE


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _warnings(rows: list[ReconstructedChannel]) -> list[str]:
    words = []
    if bad := sorted({row.signal for row in rows if row.verdict in (WORSE, LEVEL)}):
        words.append(
            f"{', '.join(bad)}: nowhere shown to be better than what needs no network"
            if not any(row.verdict == BETTER for row in rows if row.signal in bad)
            else f"{', '.join(bad)}: not in every recording or channel better than what needs no network"
        )
    if any(row.verdict == UNKNOWN for row in rows):
        words.append(
            "where a recording has nothing of a signal no error can be measured in it; score-generation measures how "
            "well people never seen are reconstructed"
        )
    if any(row.level_of == OF_TRAINING for row in rows):
        words.append(
            "where a recording lacks a signal its level is that of the training subjects: a guess, of which the errors "
            "of other recordings say nothing"
        )
    return words
