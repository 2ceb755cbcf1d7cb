"""One fold of the experiment on generation: pretrain on its training subjects, hide each sensor, reconstruct it.

Errors are of one subject, signal by signal. Beside the network stand imputation baselines that cost nothing: constants
and mean patches of the training subjects, in normalised units. Where windows are scaled by the recording's own past,
*zero* is this past's mean: a person's own level, which a sensor that was never worn would not give.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.data.batches import ScaledPatches, TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import TrainingStatistics
from biopercept.data.splits import K_FOLD, Fold, make_folds
from biopercept.data.views import measured_sensors, restricted
from biopercept.data.windows import IntArray
from biopercept.errors import SettingsError
from biopercept.evaluation.plan import EvaluationRequest, choose_recordings
from biopercept.model.biosignals import BiosignalPerceiver, reconstruct_patches
from biopercept.results.generation import ERRORS, FILLERS, NETWORK
from biopercept.store.prepared import WindowedRecording
from biopercept.store.reading import StudyStore
from biopercept.training.engine import engine_for, seed_for, threads
from biopercept.training.pretraining import PretrainingRequest, pretrain, unlabelled_inputs
from biopercept.training.settings import MASKED, PretrainingSettings
from biopercept.version import __version__

Floats = NDArray[np.float64]
_KEPT_FOR_MEDIANS = 200_000  # values of a channel


@dataclass(frozen=True, eq=False)
class GenerationPlan:
    """What is pretrained on and reconstructed, settled before anything is fitted.

    Attributes
    ----------
    request : EvaluationRequest
        Its ``fit.pretraining`` is set; its model and task are not used.
    sensors : tuple of str
        Measured modalities, each hidden in turn.
    length_seconds, step_seconds : float
        Of the windows.
    study, fingerprint : str
        Of the store.
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
class GenerationFold:
    """What one fold found: a row for each test subject, hidden sensor and signal.

    Attributes
    ----------
    rows : tuple of dict
        ``subject``, ``sensor``, ``signal``, ``n_windows``, ``n_patches``; ``rmse`` and ``mae`` (normalised),
        ``rmse_unit`` and ``mae_unit`` (in the signal's unit) by what reconstructed; ``correlation`` of the network's.
    seconds : float
        Wall-clock time of pretraining and reconstructing.
    history : tuple of (epoch, loss)
    """

    fold: Fold
    rows: tuple[dict[str, Any], ...]
    n_parameters: int
    seconds: float
    seconds_pretraining: float
    history: tuple[tuple[int, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {**asdict(self), "fold": self.fold.name}

    @staticmethod
    def from_json(document: dict[str, Any], fold: Fold) -> GenerationFold:
        """Return the result that :meth:`to_json` wrote."""
        history = tuple((int(epoch), float(loss)) for epoch, loss in document["history"])
        numbers = (document["n_parameters"], document["seconds"], document["seconds_pretraining"])
        return GenerationFold(fold, tuple(document["rows"]), *numbers, history)


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
            f"{store.name} has one sensor ({', '.join(sensors)}); with it hidden nothing is left to tell it from"
        )
    return GenerationPlan(
        request,
        recordings,
        folds,
        sensors,
        store.window_length_seconds,
        store.step_seconds,
        tuple(store.feature_names),
        store.name,
        store.fingerprint(),
    )


def fit_generation_fold(plan: GenerationPlan, fold: Fold) -> GenerationFold:
    """Return what a network pretrained on the training subjects reconstructs of the test subjects' hidden sensors."""
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
        rows: list[dict[str, Any]] = []
        for sensor in plan.sensors:
            of_sensor = _errors_without(sensor, plan, fold, training, test, network, population)
            rows += [{"sensor": sensor, **row} for row in of_sensor]
    ended = time.perf_counter()
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    return GenerationFold(fold, tuple(rows), n_parameters, ended - started, pretrained - started, done.history)


def _errors_without(
    sensor: str,
    plan: GenerationPlan,
    fold: Fold,
    training: WindowInputs,
    test: WindowInputs,
    network: BiosignalPerceiver,
    population: TrainingStatistics,
) -> Iterator[dict[str, Any]]:
    """Give the rows of every test subject with this sensor hidden."""
    device, tokens = next(network.parameters()).device, plan.request.fit.tokens
    rest = [name for name in plan.sensors if name != sensor]
    signals_alone = replace(tokens, features=False)  # features cannot be reconstructed
    fitted_on = TokenSource(restricted(training, [sensor]), population, signals_alone, device)
    baselines = fit_imputation_baselines(fitted_on, np.arange(len(training.windows), dtype=np.int64))
    hidden = TokenSource(restricted(test, [sensor]), population, signals_alone, device)
    shown = TokenSource(restricted(test, rest), population, tokens, device)
    for subject in fold.test:
        for row in subject_errors(network, shown, hidden, baselines, test.windows.rows_of([subject])):
            yield {"subject": subject, **row}


@dataclass(eq=False)
class _Running:
    """Sums over the samples of one subject and signal."""

    n_windows: int = 0
    n_patches: int = 0
    n_samples: int = 0
    errors: dict[str, Floats] = field(default_factory=dict)  # by what reconstructed: the four sums of ERRORS
    moments: Floats = field(default_factory=lambda: np.zeros(5))  # network, truth, their squares, their product

    def add(self, truth: Floats, spread: Floats, reconstructions: dict[str, Floats]) -> None:
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
    hidden: TokenSource,
    baselines: ImputationBaselines,
    rows: IntArray,
    *,
    batch_size: int = 64,
) -> list[dict[str, Any]]:
    """Return a row for each hidden signal that has a patch in these windows.

    Parameters
    ----------
    shown : TokenSource
        The windows without the hidden sensor; windows in which it leaves nothing are not scored.
    hidden : TokenSource
        The same windows with the hidden sensor alone: what is true.
    baselines : ImputationBaselines
        Fitted on training subjects; a channel that they lack is not scored.
    rows : int64 array
        Windows of one subject.

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
        wanted = [signal for signal in hidden.scaled(batch) if bool(signal.patches.is_real.any())]
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
    sums: _Running, signal: ScaledPatches, reconstructed: Floats, baselines: ImputationBaselines
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

    total: Floats  # (P, L)
    count: Floats  # (P, 1), patches
    values: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ImputationBaselines:
    """Fitted imputation baselines.

    Attributes
    ----------
    of_channel : mapping of (modality, channel) to (mapping of baseline to float64 array, shape (P, L))
    """

    of_channel: Mapping[tuple[str, str], Mapping[str, Floats]]

    def patches(self, modality: str, channel: str, n_patches: int) -> dict[str, Floats] | None:
        """Return each baseline's patches, (n_patches, L); None for a channel that no training subject had.

        A place that training windows lack, as they are a sample shorter, is filled as the last one they have.
        """
        of_signal = self.of_channel.get((modality, channel))
        if of_signal is None:
            return None
        positions = np.minimum(np.arange(n_patches), len(of_signal["zero"]) - 1)
        return {name: patches[positions] for name, patches in of_signal.items()}


def fit_imputation_baselines(source: TokenSource, rows: IntArray, *, batch_size: int = 256) -> ImputationBaselines:
    """Return the imputation baselines of every channel in ``source``; each of the windows at ``rows`` weighs the same.

    Parameters
    ----------
    source : TokenSource
        Of the signals that will be reconstructed.
    rows : int64 array
        Windows of training subjects.
    batch_size : int
        Windows read at once.
    """
    sums: dict[tuple[str, str], _Sums] = {}
    for start in range(0, len(rows), batch_size):
        for signal in source.scaled(rows[start : start + batch_size]):
            values = signal.patches.patches.cpu().numpy().astype(np.float64)  # (B, C, P, L)
            is_real = signal.patches.is_real.cpu().numpy()
            for number, channel in enumerate(signal.channels):
                _add_patches(sums, (signal.patches.modality, channel), values[:, number], is_real[:, number])
    return ImputationBaselines({key: _fitted(of_channel) for key, of_channel in sums.items() if of_channel.count.any()})


def _add_patches(
    sums: dict[tuple[str, str], _Sums], key: tuple[str, str], values: Floats, is_real: NDArray[np.bool_]
) -> None:
    _, p, length = values.shape
    running = sums.setdefault(key, _Sums(np.zeros((p, length)), np.zeros((p, 1))))
    if p > len(running.total):  # another sampling rate may fit one patch more
        more = ((0, p - len(running.total)), (0, 0))
        running.total, running.count = np.pad(running.total, more), np.pad(running.count, more)
    running.total[:p] += (values * is_real[..., None]).sum(0)
    running.count[:p] += is_real.sum(0)[:, None]
    running.values.append(values[is_real].astype(np.float32).ravel())


def _fitted(running: _Sums) -> dict[str, Floats]:
    everything = np.concatenate(running.values)
    few = everything[:: max(1, len(everything) // _KEPT_FOR_MEDIANS)]
    whole = running.total.sum(0) / running.count.sum()  # (L,)
    at_place = np.divide(
        running.total, running.count, out=np.broadcast_to(whole, running.total.shape).copy(), where=running.count > 0
    )
    shape = running.total.shape
    return {
        "zero": np.zeros(shape),
        "mean": np.full(shape, whole.mean()),
        "median": np.full(shape, float(np.median(few))),
        "mean patch": np.broadcast_to(whole, shape).copy(),
        "mean patch at its place": at_place,
    }
