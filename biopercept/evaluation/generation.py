"""Reconstruction of a masked sensor, measured: pretrain on some people, mask a sensor of others, reconstruct it.

1. Subjects are dealt into folds. In each, a network is pretrained by masked reconstruction on the unlabelled windows of
   the training subjects alone; no label is read anywhere.
2. For each measured sensor in turn, everything that comes from it (signal, derived series, features) is masked in the
   windows of the test subjects, and the network reconstructs each patch of its signals and series.
3. The reconstruction is compared, sample by sample, with what was measured, beside imputation baselines that see no
   sensor at all: constants and mean patches of the training subjects, in normalised units.

Mean and scale of a masked signal's window are known to network and baselines alike: this measures how a signal's course
around a known level is reconstructed. Where windows are scaled by the recording's own past, the baseline *zero* is this
past's mean: a person's own level, which a sensor that was never worn would not give.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from biopercept.data.batches import ScaledPatches, TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.splits import K_FOLD, Fold, make_folds, stand_ins
from biopercept.data.views import measured_sensors, restricted
from biopercept.data.windows import FloatArray, IntArray
from biopercept.errors import SettingsError
from biopercept.evaluation.metrics import Bootstrap
from biopercept.evaluation.plan import EvaluationRequest, choose_recordings
from biopercept.evaluation.runs import FoldRunOptions, PlainFold, RunFolder, fit_each
from biopercept.files import only_writer, write_text
from biopercept.modalities import MODALITIES
from biopercept.model.biosignals import BiosignalPerceiver, reconstruct_patches
from biopercept.parallel import Executor
from biopercept.report.generation import generation_page
from biopercept.results.generation import (
    BETTER,
    ERRORS,
    FILLERS,
    LEVEL,
    NETWORK,
    WORSE,
    Difference,
    Generation,
    SignalError,
    SignalScore,
    SubjectErrors,
    Verdict,
)
from biopercept.results.plan import SETTINGS_FILES
from biopercept.results.reading import CountedEstimate, few_subjects_warnings, write_result
from biopercept.store.prepared import WindowedRecording
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.checkpoint import versions
from biopercept.training.engine import engine_for, seed_for, threads
from biopercept.training.pretraining import PretrainingRequest, pretrain, unlabelled_inputs
from biopercept.training.settings import MASKED, PretrainingSettings
from biopercept.typed_values import from_plain
from biopercept.version import __version__

PAGE = "generation.md"
_KEPT_FOR_MEDIANS = 200_000  # values of a channel


def score_generation(request: EvaluationRequest, output: Path, **options: Unpack[FoldRunOptions]) -> Generation:
    """Run or resume the experiment and return what ``generation.json`` holds.

    ``request.fit.pretraining`` is set to masked reconstruction; folds are those of ``k-fold``. ``generation.json``,
    ``generation.md`` and a file for each finished fold are written to the folder.

    Raises SettingsError where the folder holds something else or folds of other settings or data, or pretraining is not
    masked. Raises StudyError where subjects or windows do not suffice. Raises BusyError where another process is
    writing there.
    """
    kept = RunFolder(output, "scores of generation", GenerationFold, folds_file="generation_folds.json")
    with open_store(request.store) as store, only_writer(output):
        plan = plan_generation(store, request)
        clear = partial(kept.clear, (Generation.FILE, PAGE, *SETTINGS_FILES))
        results = kept.run(plan, _fit_folds, clear, **options)
        result = _document(plan, results)
        write_result(output / Generation.FILE, result)
        write_text(output / PAGE, generation_page(result))
        return result


@dataclass(frozen=True, eq=False)
class GenerationPlan:
    """What is pretrained on and reconstructed, settled before anything is fitted.

    ``request.fit.pretraining`` is set; model and task are not used. ``sensors`` are the measured modalities, each
    masked in turn; lengths and steps are of the windows, study and fingerprint of the store.
    """

    request: EvaluationRequest
    recordings: tuple[WindowedRecording, ...]
    folds: tuple[Fold, ...]
    sensors: tuple[str, ...]
    length_seconds: float
    step_seconds: float
    feature_names: tuple[str, ...]
    study: str
    fingerprint: str

    @property
    def pretraining(self) -> PretrainingSettings:
        """Return the settings of pretraining."""
        assert self.request.fit.pretraining is not None  # plan_generation saw to it
        return self.request.fit.pretraining

    def units(self) -> list[tuple[Fold, ...]]:
        """Return the folds, each alone."""
        return [(fold,) for fold in self.folds]

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for finished folds of an earlier run to be used again."""
        request = self.request
        return {
            "store": self.fingerprint,
            "subjects": sorted({r.subject for r in self.recordings}),
            "normalisation": asdict(request.normalisation),
            "tokens": asdict(request.fit.tokens),
            "model": asdict(request.fit.model),
            "pretraining": asdict(self.pretraining),
            "precision": request.fit.training.precision,
            "n_folds": request.evaluation.n_folds,
            "seed": request.seed,
            "version": __version__,
        }

    def inputs_of(self, subjects: Sequence[str]) -> WindowInputs:
        """Return the unlabelled windows of these subjects."""
        return unlabelled_inputs(
            tuple(r for r in self.recordings if r.subject in set(subjects)),
            self.request.normalisation,
            self.request.fit.tokens,
            length_seconds=self.length_seconds,
            step_seconds=self.step_seconds,
            feature_names=self.feature_names,
        )


@dataclass(frozen=True, eq=False)
class GenerationFold(PlainFold):
    """What one fold found, a row for each test subject, masked sensor and signal, and (epoch, loss) of pretraining.

    A row has ``subject``, ``sensor`` and the values of :func:`subject_errors`.
    """

    seconds_pretraining: float
    history: tuple[tuple[int, float], ...]


def plan_generation(store: StudyStore, request: EvaluationRequest) -> GenerationPlan:
    """Return the plan of the experiment.

    Raises SettingsError where pretraining is not set or not masked, there are too few subjects, or only one sensor.
    Raises StudyError where a named subject has no recording.
    """
    settings = request.fit.pretraining
    if settings is None or settings.objective != MASKED:
        raise SettingsError(
            "generation reconstructs what is hidden; set pretraining.objective=masked, which teaches that"
        )
    if request.evaluation.stratify:
        raise SettingsError("generation deals subjects by identity, not by label; set evaluation.stratify to false")
    recordings = choose_recordings(store.recordings, request.subjects, request.excluded)
    subjects = sorted({r.subject for r in recordings})
    folds = make_folds(subjects, K_FOLD, n_folds=request.evaluation.n_folds, seed=request.seed, validation_fraction=0.0)
    sensors = measured_sensors(recordings, store.feature_names)
    if len(sensors) < 2:
        raise SettingsError(
            f"{store.name} has one sensor ({', '.join(sensors)}); with it masked nothing is left to reconstruct it from"
        )
    return GenerationPlan(
        request=request,
        recordings=recordings,
        folds=folds,
        sensors=sensors,
        length_seconds=store.window_length_seconds,
        step_seconds=store.step_seconds,
        feature_names=tuple(store.feature_names),
        study=store.name,
        fingerprint=store.fingerprint(),
    )


def fit_generation_fold(plan: GenerationPlan, fold: Fold) -> GenerationFold:
    """Return what a network pretrained on the training subjects reconstructs of the test subjects' masked sensors."""
    request, fit = plan.request, plan.request.fit
    engine = engine_for(request.device, fit.training.precision)
    started = time.perf_counter()
    with threads(fit.training.n_threads):
        training, test = plan.inputs_of(fold.training), plan.inputs_of(fold.test)
        pretraining = PretrainingRequest(
            studies=(training,),
            tokens=fit.tokens,
            model=fit.model,
            settings=plan.pretraining,
            engine=engine,
            seed=seed_for(request.seed, fold.name, "generation"),
        )
        done = pretrain(pretraining)
        pretrained = time.perf_counter()
        network, population = done.network.to(engine.device), training.fit(fold.training)
        source_of = partial(TokenSource, population=population, device=engine.device)
        signals_alone = replace(fit.tokens, features=False)  # features cannot be reconstructed
        rows: list[dict[str, Any]] = []
        for sensor in plan.sensors:
            fitted_on = source_of(restricted(training, [sensor]), tokens=signals_alone)
            baselines = fit_imputation_baselines(fitted_on, np.arange(len(training.windows), dtype=np.int64))
            masked = source_of(restricted(test, [sensor]), tokens=signals_alone)
            shown = source_of(restricted(test, [name for name in plan.sensors if name != sensor]), tokens=fit.tokens)
            for subject in fold.test:
                errors = subject_errors(network, shown, masked, baselines, test.windows.rows_of([subject]))
                rows += [{"sensor": sensor, "subject": subject, **row} for row in errors]
    return GenerationFold(
        fold=fold,
        rows=tuple(rows),
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        seconds=time.perf_counter() - started,
        seconds_pretraining=pretrained - started,
        history=done.history,
    )


@dataclass(eq=False)
class _Running:
    """Sums over the samples of one subject and signal."""

    n_windows: int = 0
    n_patches: int = 0
    n_samples: int = 0
    errors: dict[str, FloatArray] = field(default_factory=dict)  # by what reconstructed: the four sums of ERRORS
    moments: FloatArray = field(default_factory=lambda: np.zeros(5))  # network, truth, their squares, their product

    def add(self, truth: FloatArray, spread: FloatArray, reconstructions: dict[str, FloatArray]) -> None:
        """Add patches (n, L) with the spread of each (n, 1)."""
        self.n_patches += len(truth)
        self.n_samples += truth.size
        for name, values in reconstructions.items():
            difference = np.abs(values - truth)
            in_unit = difference * spread
            sums = [(difference**2).sum(), difference.sum(), (in_unit**2).sum(), in_unit.sum()]
            self.errors[name] = self.errors.get(name, np.zeros(4)) + np.array(sums)
        network = reconstructions[NETWORK]
        self.moments += np.array(
            [network.sum(), truth.sum(), (network**2).sum(), (truth**2).sum(), (network * truth).sum()]
        )

    def row(self) -> dict[str, Any]:
        """Return the subject's errors by what reconstructed the signal, and the correlation of the network's."""
        row: dict[str, Any] = {"n_windows": self.n_windows, "n_patches": self.n_patches}
        means = {name: sums / self.n_samples for name, sums in self.errors.items()}
        for index, error in enumerate(ERRORS):
            values = {name: float(of_signal[index]) for name, of_signal in means.items()}
            row[error] = {n: math.sqrt(v) for n, v in values.items()} if error.startswith("rmse") else values
        network, truth, network_2, truth_2, both = self.moments / self.n_samples
        spread = (network_2 - network**2) * (truth_2 - truth**2)
        row["correlation"] = float((both - network * truth) / math.sqrt(spread)) if spread > 1e-12 else None
        return row


def subject_errors(
    network: BiosignalPerceiver,
    shown: TokenSource,
    masked: TokenSource,
    baselines: ImputationBaselines,
    rows: IntArray,
    *,
    batch_size: int = 64,
) -> list[dict[str, Any]]:
    """Return a row for each masked signal that has a patch in these windows of one subject.

    ``shown`` are the windows without the masked sensor (those in which it leaves nothing are not scored), ``masked``
    the same windows with it alone: the truth. A channel that the baselines' training subjects lack is not scored.

    Returns
    -------
    list of dict
        ``signal`` (a modality), ``n_windows`` and ``n_patches`` that were scored, each of :data:`ERRORS` by
        what reconstructed, and ``correlation`` (Pearson's, over samples, normalised; None where either is constant).
    """
    by_signal: dict[str, _Running] = {}
    rows = rows[shown.has_tokens(rows)]
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        wanted = [signal for signal in masked.scaled(batch) if bool(signal.patches.is_real.any())]
        if not wanted:
            continue
        reconstructed = reconstruct_patches(network, shown.batch(batch), [signal.patches for signal in wanted])
        scored: dict[str, NDArray[np.bool_]] = {}
        for signal, patches in zip(wanted, reconstructed, strict=True):
            name = signal.patches.modality
            sums = by_signal.setdefault(name, _Running())
            is_scored = _add(sums, signal, patches.cpu().numpy().astype(np.float64), baselines)
            scored[name] = scored.get(name, np.zeros(len(batch), dtype=bool)) | is_scored
        for name, is_scored in scored.items():
            by_signal[name].n_windows += int(is_scored.sum())
    return [{"signal": name, **sums.row()} for name, sums in by_signal.items() if sums.n_samples]


def _add(
    sums: _Running, signal: ScaledPatches, reconstructed: FloatArray, baselines: ImputationBaselines
) -> NDArray[np.bool_]:
    """Add a signal's real patches, channel by channel; return which windows had one."""
    is_real = signal.patches.is_real.cpu().numpy()  # (B, C, P)
    truth = signal.patches.patches.cpu().numpy().astype(np.float64)
    spread = signal.spread.cpu().numpy().astype(np.float64)
    is_scored = np.zeros(len(is_real), dtype=bool)
    for number, channel in enumerate(signal.channels):
        real = is_real[:, number]
        filled = baselines.patches(signal.patches.modality, channel, real.shape[1])
        if filled is None or not real.any():
            continue
        window, position = np.nonzero(real)
        reconstructions = {
            NETWORK: reconstructed[:, number][real],
            **{name: filled[name][position] for name in FILLERS},
        }
        sums.add(truth[:, number][real], spread[window, number][:, None], reconstructions)
        is_scored |= real.any(1)
    return is_scored


@dataclass(eq=False)
class _Sums:
    """Running sums over the training patches of one channel."""

    total: FloatArray  # (P, L)
    count: FloatArray  # (P, 1), patches
    values: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ImputationBaselines:
    """Fitted imputation baselines: by (modality, channel) the patches (P, L) of each."""

    of_channel: Mapping[tuple[str, str], Mapping[str, FloatArray]]

    def patches(self, modality: str, channel: str, n_patches: int) -> dict[str, FloatArray] | None:
        """Return each baseline's patches, (n_patches, L); None for a channel that no training subject had.

        Where training windows are a patch shorter, the last one they have stands in.
        """
        of_signal = self.of_channel.get((modality, channel))
        if of_signal is None:
            return None
        positions = np.minimum(np.arange(n_patches), len(of_signal["zero"]) - 1)
        return {name: patches[positions] for name, patches in of_signal.items()}


def fit_imputation_baselines(source: TokenSource, rows: IntArray, *, batch_size: int = 256) -> ImputationBaselines:
    """Return the imputation baselines of every channel in ``source``; each window at ``rows`` weighs the same."""
    sums: dict[tuple[str, str], _Sums] = {}
    for start in range(0, len(rows), batch_size):
        for signal in source.scaled(rows[start : start + batch_size]):
            values = signal.patches.patches.cpu().numpy().astype(np.float64)  # (B, C, P, L)
            is_real = signal.patches.is_real.cpu().numpy()
            for number, channel in enumerate(signal.channels):
                _add_patches(sums, (signal.patches.modality, channel), values[:, number], is_real[:, number])
    return ImputationBaselines({key: _fitted(of_channel) for key, of_channel in sums.items() if of_channel.count.any()})


def _add_patches(
    sums: dict[tuple[str, str], _Sums], key: tuple[str, str], values: FloatArray, is_real: NDArray[np.bool_]
) -> None:
    _, p, length = values.shape
    running = sums.setdefault(key, _Sums(np.zeros((p, length)), np.zeros((p, 1))))
    if p > len(running.total):  # another sampling rate may fit one patch more
        more = ((0, p - len(running.total)), (0, 0))
        running.total, running.count = np.pad(running.total, more), np.pad(running.count, more)
    running.total[:p] += (values * is_real[..., None]).sum(0)
    running.count[:p] += is_real.sum(0)[:, None]
    running.values.append(values[is_real].astype(np.float32).ravel())


def _fitted(running: _Sums) -> dict[str, FloatArray]:
    everything = np.concatenate(running.values)
    few = everything[:: max(1, len(everything) // _KEPT_FOR_MEDIANS)]
    whole = running.total.sum(0) / running.count.sum()  # (L,)
    at_position = np.divide(
        running.total, running.count, out=np.broadcast_to(whole, running.total.shape).copy(), where=running.count > 0
    )
    shape = running.total.shape
    return {
        "zero": np.zeros(shape),
        "mean": np.full(shape, whole.mean()),
        "median": np.full(shape, float(np.median(few))),
        "mean patch": np.broadcast_to(whole, shape).copy(),
        "mean patch at its place": at_position,
    }


def _plan_of(request: EvaluationRequest) -> GenerationPlan:
    return plan_generation(open_store(request.store), request)


def _fit_folds(
    plan: GenerationPlan, folds: Sequence[Fold], n_jobs: int | Executor
) -> Iterator[tuple[Fold, GenerationFold]]:
    return fit_each(fit_generation_fold, _plan_of, plan, folds, n_jobs)


def _document(plan: GenerationPlan, results: Sequence[GenerationFold]) -> Generation:
    request = plan.request
    rows = [row for result in results for row in result.rows]
    signals = generation_scores(rows, Bootstrap(request.seed, request.evaluation.n_bootstrap))
    windows = sum(int((~np.asarray(r.windows.is_labelled)).sum()) for r in plan.recordings)
    subjects = {r.subject for r in plan.recordings}
    queried = {signal.sensor for signal in signals}
    warnings = [
        f"the sensor {name} has no signal that the network reads (tokens.raw, tokens.derived), so it was not "
        "reconstructed"
        for name in plan.sensors
        if name not in queried
    ]
    warnings += stand_ins(plan.folds, request.evaluation.n_folds, request.seed)
    warnings += few_subjects_warnings(len(subjects))
    return Generation(
        study=plan.study,
        n_subjects=len(subjects),
        n_windows=windows,
        window_seconds=plan.length_seconds,
        step_seconds=plan.step_seconds,
        n_folds=len(plan.folds),
        normalisation=request.normalisation.mode,
        seed=request.seed,
        n_epochs=plan.pretraining.n_epochs,
        parameters=max(result.n_parameters for result in results),
        seconds=round(sum(result.seconds for result in results), 1),
        seconds_pretraining=round(sum(result.seconds_pretraining for result in results), 1),
        fillers=FILLERS,
        signals=signals,
        subjects=tuple(from_plain(SubjectErrors, row) for row in rows),
        warnings=tuple(warnings),
        fingerprint={"store": plan.fingerprint, **versions()},
    )


def generation_scores(rows: Sequence[Mapping[str, Any]], bootstrap: Bootstrap) -> tuple[SignalScore, ...]:
    """Return a row for each masked sensor and signal: errors and the paired difference to a baseline.

    The baseline compared with is the one with the lowest mean error on these very test subjects, for each error again:
    a choice in the baselines' favour. ``rows`` are of :class:`GenerationFold`.
    """

    def over_subjects(values: Sequence[float | None]) -> CountedEstimate:
        return CountedEstimate.of(bootstrap.score(values))

    def error_of(rows: Sequence[Mapping[str, Any]], error: str) -> SignalError:
        errors = {name: over_subjects([row[error][name] for row in rows]) for name in (NETWORK, *FILLERS)}
        best = min(FILLERS, key=lambda name: errors[name].mean or 0.0)
        differences = [row[error][NETWORK] - row[error][best] for row in rows]
        return SignalError(
            **{name.replace(" ", "_"): estimate for name, estimate in errors.items()},
            best_filler=best,
            network_minus_best_filler=Difference.of(
                over_subjects(differences), n_better=sum(value < 0 for value in differences)
            ),
        )

    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["sensor"], row["signal"]), []).append(row)
    order = list(MODALITIES)
    table = []
    for sensor, signal in sorted(groups, key=lambda key: (key[0], order.index(key[1]))):
        subjects = sorted(groups[sensor, signal], key=lambda row: str(row["subject"]))
        known = MODALITIES[signal]
        errors = {error: error_of(subjects, error) for error in ERRORS}
        table.append(
            SignalScore(
                sensor=sensor,
                signal=signal,
                title=known.title,
                unit=known.unit,
                is_derived=known.is_derived,
                n_subjects=len(subjects),
                n_windows=sum(row["n_windows"] for row in subjects),
                n_patches=sum(row["n_patches"] for row in subjects),
                **errors,
                correlation=over_subjects([row["correlation"] for row in subjects]),
                verdict=_verdict(errors["rmse"].network_minus_best_filler.ci95),
            )
        )
    return tuple(table)


def _verdict(interval: Sequence[float] | None) -> Verdict:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return LEVEL
    return BETTER if interval[1] < 0 else WORSE
