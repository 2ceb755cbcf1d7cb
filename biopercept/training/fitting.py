"""The one interface that every model is fitted and predicts through: the Perceiver, the baselines and the probes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import FloatArray
from biopercept.data.splits import SUBJECT, Fold, dealt_by_identity, folds_of, make_folds
from biopercept.data.windows import IntArray, WindowTable
from biopercept.errors import SettingsError
from biopercept.model.biosignals import BiosignalPerceiver, Outputs, perceiver_for
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import TokenInputs, TokenVocabulary
from biopercept.tasks import CLASSIFICATION, Task
from biopercept.training.calibration import Calibration, CalibrationSettings, learn_calibration
from biopercept.training.checkpoint import load_start, transferable
from biopercept.training.engine import seed_for
from biopercept.training.loop import FitRequest, FittedNetwork, fit_network
from biopercept.training.objective import Objective, SingleTimes, predict_windows, scaled_tasks
from biopercept.training.pretraining import PretrainingRequest, pretrain, unlabelled_inputs
from biopercept.training.settings import FitSettings
from biopercept.training.stacked import fit_stacked

INNER, VALIDATION = "inner folds over the training side", "validation subjects"
N_LOOKED_AT = 8
"""Windows of which the one with the most to read is counted, since a window with a sensor missing costs less."""


class FittedModel(Protocol):
    """A model fitted on some windows of a study, which predicts others of the same table."""

    @property
    def n_parameters(self) -> int:
        """Return the number of fitted numbers."""

    @property
    def operations_per_window(self) -> int | None:
        """Return the multiply-adds of predicting one window; None where the model is no network."""

    @property
    def fell_back(self) -> bool:
        """Return whether adapting to the windows was no better than the model it started from, which was kept."""

    @property
    def is_fitted_to_validation(self) -> bool:
        """Return whether the validation windows were fitted to, and not only looked at to stop early."""

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return predictions of the windows at ``rows``, (len(rows), n_values).

        Probabilities of classes or levels, with sum 1; of a regression its number; of several tasks their predictions
        side by side. ``visible`` are the same windows, in the order of ``rows``, with fewer sensors: a window of which
        nothing is left that the model reads is predicted as NaN.

        Raises SettingsError where the model reads no sensors that could be missing.
        """


Fitter = Callable[[FitRequest], FittedModel]

MakeNetwork = Callable[[FitSettings, TokenVocabulary, Sequence[Task]], nn.Module]
"""Makes a network for tasks; it gives :class:`Outputs` of ``(TokenInputs, generator)``."""


def perceiver_io(settings: FitSettings, vocabulary: TokenVocabulary, tasks: Sequence[Task]) -> BiosignalPerceiver:
    """Return a new Perceiver IO with a query for each task; with ``training.dense_weight`` at single times, too."""
    is_dense = settings.training.dense_weight > 0
    return perceiver_for(tasks, settings.model, settings.tokens, vocabulary, traces=is_dense)


class OfOneTask(nn.Module):
    """A network that maps ``(TokenInputs, generator)`` to a tensor (B, n_outputs), with the name of its task."""

    def __init__(self, network: nn.Module, task: str) -> None:
        super().__init__()
        self.network, self.task = network, task

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Outputs:
        """Return the tensor by the task's name."""
        output: Tensor = self.network(inputs, generator)
        return Outputs({self.task: output})

    @property
    def tokens_read(self) -> Callable[[TokenInputs], TokenInputs] | None:
        """Return what gives the part of a batch that the network reads; None where it reads all."""
        return getattr(self.network, "tokens_read", None)


@dataclass(frozen=True, eq=False)
class NetworkOnStudy:
    """A fitted network with the batches of the study it predicts, and the rows it was fitted on.

    Its tasks have the scales on which numbers were learnt.
    """

    fitted: FittedNetwork[Any]
    tasks: tuple[Task, ...]
    source: TokenSource
    rows: IntArray
    fell_back: bool = False
    is_fitted_to_validation: bool = False

    @property
    def n_parameters(self) -> int:
        """Return the number of trained numbers; parts for sensors that the study lacks do not count."""
        return self.fitted.n_trained

    @cached_property
    def operations_per_window(self) -> int:
        """Return the multiply-adds of one window with all its tasks, counted on training windows."""
        return operations_per_window(self.fitted.network, self.source, self.rows)

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return predictions of the windows at ``rows``; see :class:`FittedModel`."""
        if visible is None:
            return self._predict(self.source, rows)
        source, every = self.source.reading(visible), np.arange(len(rows), dtype=np.int64)
        # A network that reads only some kinds of tokens says which; of the others its output is a constant.
        has_tokens = source.has_tokens(every, read=getattr(self.fitted.network, "tokens_read", None))
        values = np.full((len(rows), sum(task.n_values for task in self.tasks)), np.nan)
        if has_tokens.any():  # a network cannot read nothing
            values[has_tokens] = self._predict(source, every[has_tokens])
        return values

    def _predict(self, source: TokenSource, rows: IntArray) -> FloatArray:
        predicted = predict_windows(self.fitted.network, self.tasks, source, rows)
        return np.concatenate([predicted[task.name] for task in self.tasks], axis=1)


@dataclass(frozen=True)
class NetworkFitter:
    """Fits one kind of network by the one training loop, alone or several folds at once.

    * ``can_stack``: whether several can be fitted at once: the network runs under ``torch.func.vmap``.
    * ``knows_tasks``: whether several tasks, the order of levels and single times are learnt; if not, levels are learnt
      as classes.
    """

    make: MakeNetwork
    can_stack: bool = False
    knows_tasks: bool = False

    def __call__(self, request: FitRequest) -> NetworkOnStudy:
        """Return the network fitted as the request says.

        Raises TrainingError where the loss is not finite. Raises CheckpointError where the weights to start from have
        nothing in common with the network.
        """
        objective, labelled = self._objective(request), _labelled(request)
        fitted = fit_network(labelled, self._maker(request, objective.tasks), objective, starting_weights(request))
        return _on_study(labelled, fitted, objective.tasks)

    def together(self, requests: Sequence[FitRequest]) -> list[NetworkOnStudy]:
        """Return the networks of several requests, fitted at once; they share inputs, settings and engine."""
        objectives = [self._objective(request) for request in requests]
        labelled = [_labelled(request) for request in requests]
        weights = [starting_weights(request) for request in requests]
        fitted = fit_stacked(labelled, self._maker(requests[0], objectives[0].tasks), objectives, weights)
        return [
            _on_study(request, network, objective.tasks)
            for request, network, objective in zip(labelled, fitted, objectives, strict=True)
        ]

    def _objective(self, request: FitRequest) -> Objective:
        windows, training = request.inputs.windows, request.settings.training
        tasks = scaled_tasks(windows, request.training)
        if not self.knows_tasks:
            tasks = tuple(replace(task, kind=CLASSIFICATION) if task.is_ordinal else task for task in tasks)
        times = None
        if self.knows_tasks and training.dense_weight > 0:
            times = SingleTimes(
                windows, request.training, request.validation, weight=training.dense_weight, seed=request.seed
            )
        return Objective(windows, tasks, training.label_smoothing, training.weight_by_task(), times)

    def _maker(self, request: FitRequest, tasks: Sequence[Task]) -> Callable[[TokenVocabulary], nn.Module]:
        return lambda vocabulary: self.make(request.settings, vocabulary, tasks)


def _labelled(request: FitRequest) -> FitRequest:
    """Return the request without the windows that no task labels: those of the grid."""
    is_labelled = request.inputs.windows.is_labelled
    training, validation = request.training, request.validation
    return replace(request, training=training[is_labelled[training]], validation=validation[is_labelled[validation]])


def _on_study(request: FitRequest, fitted: FittedNetwork[Any], tasks: tuple[Task, ...]) -> NetworkOnStudy:
    source = TokenSource(request.inputs, fitted.population, request.settings.tokens, request.engine.device)
    return NetworkOnStudy(fitted, tasks, source, request.fitting)


def starting_weights(request: FitRequest) -> dict[str, torch.Tensor] | None:
    """Return the weights that the request's network starts from; None for new ones.

    With ``pretraining`` set they are pretrained here and now on the signals of the training subjects, labelled or not:
    validation and test subjects stay unseen.

    Raises CheckpointError where the model to start from cannot be read.
    """
    settings, windows = request.settings, request.inputs.windows
    folder = Path(settings.start_from)
    tasks = () if settings.pretraining is not None else windows.tasks
    start = load_start(folder).weights_for(windows.feature_names, tasks, folder) if settings.start_from else None
    if settings.pretraining is None:
        return start
    subjects = {str(s) for s in windows.subject[request.training]} | set(request.unlabelled)
    unlabelled = unlabelled_inputs(
        tuple(r for r in windows.recordings if r.subject in subjects),
        request.inputs.settings,
        settings.tokens,
        length_seconds=windows.length_seconds,
        step_seconds=request.inputs.step_seconds,
        feature_names=windows.feature_names,
    )
    pretraining = PretrainingRequest(
        studies=(unlabelled,),
        tokens=settings.tokens,
        model=settings.model,
        settings=settings.pretraining,
        engine=request.engine,
        seed=seed_for(request.seed, "pretraining"),
        start_from=start,
    )
    return transferable(pretrain(pretraining).weights)


NetworkFactory = Callable[[PerceiverSettings, TokenSettings, TokenVocabulary, int], nn.Module]


def fitter_of_one_task(network: NetworkFactory, *, can_stack: bool = False) -> NetworkFitter:
    """Return what fits a network of one task; see :class:`NetworkFitter`.

    ``network`` makes it from the model and token settings, what it must be able to read, and its number of outputs.
    """

    def make(settings: FitSettings, vocabulary: TokenVocabulary, tasks: Sequence[Task]) -> nn.Module:
        [task] = tasks
        return OfOneTask(network(settings.model, settings.tokens, vocabulary, task.n_outputs), task.name)

    return NetworkFitter(make, can_stack)


fit_perceiver_io = NetworkFitter(perceiver_io, can_stack=True, knows_tasks=True)


def held_out_predictions(
    request: FitRequest, fitter: Fitter, fitted: FittedModel, n_folds: int
) -> tuple[IntArray, FloatArray]:
    """Return rows of the training side (n,) and predictions of them by fits that their subjects are outside of.

    With ``n_folds`` these are inner folds over all fitting subjects, each fitted again. With 0 they are the validation
    subjects alone: a network has used them to stop early and for nothing else, any other model is fitted once more
    without them.

    Raises SettingsError where there are no validation subjects, or an inner fold has no training subject with one of
    the classes.
    """
    if n_folds == 0:
        if not len(request.validation):
            raise SettingsError(
                "calibration needs validation subjects; set training.validation_fraction above 0 or "
                "evaluation.calibration_folds to 2 or more"
            )
        if fitted.is_fitted_to_validation:
            fitted = fitter(replace(request, validation=request.validation[:0], on_epoch=None))
        return request.validation, fitted.predict(request.validation)
    rows, predictions = [], []
    for fold in inner_folds(request, n_folds):
        test = _rows_of(request, fold.test)
        inner = replace(
            request,
            training=_rows_of(request, fold.training),
            validation=_rows_of(request, fold.validation),
            seed=seed_for(request.seed, "calibration", fold.name),
            on_epoch=None,
        )
        _require_classes(request, inner)
        rows.append(test)
        predictions.append(fitter(inner).predict(test))
    return np.concatenate(rows), np.concatenate(predictions)


def inner_folds(request: FitRequest, n_folds: int) -> tuple[Fold, ...]:
    """Return folds over the fitting subjects alone, dealt by identity; the same whatever the seed.

    With fewer subjects than folds each is a fold of its own.
    """
    subjects = request.fitting_subjects
    fraction = request.settings.training.validation_fraction if len(request.validation) else 0.0
    groups = dealt_by_identity(subjects, n_folds, "inner")  # not as outer folds are dealt, or one would be missing
    if len(groups) < 2:
        return make_folds(subjects, SUBJECT, validation_fraction=fraction)
    return folds_of(groups, subjects, seed=0, validation_fraction=fraction)


def _rows_of(request: FitRequest, subjects: tuple[str, ...]) -> IntArray:
    """Return the request's own fitting rows of these subjects: no other row of theirs is touched."""
    rows = request.fitting
    return rows[np.isin(request.inputs.windows.subject[rows], subjects)]


def _require_classes(request: FitRequest, inner: FitRequest) -> None:
    windows = request.inputs.windows
    groups = windows.only.groups
    lacking = set(groups[request.training].tolist()) - set(groups[inner.training].tolist())
    if lacking:
        raise SettingsError(
            f"an inner fold of calibration has no training subject with class {windows.only.classes[min(lacking)]!r}; "
            "change evaluation.calibration_folds"
        )


def calibration_from(
    windows: WindowTable, predictions: Sequence[tuple[IntArray, FloatArray]], settings: CalibrationSettings
) -> Calibration:
    """Return what is learnt from :func:`held_out_predictions`, averaged over repetitions of the fit."""
    rows = predictions[0][0]
    source = INNER if settings.n_folds else VALIDATION
    mean = np.mean([probabilities for _, probabilities in predictions], axis=0)
    return learn_calibration(settings, windows.subject[rows], windows.only.values[rows], mean, source)


def count_operations(network: nn.Module, inputs: TokenInputs) -> int:
    """Return the multiply-adds of all matrix products and convolutions while ``network`` reads ``inputs``.

    Sums, activations and norms are not counted, as is usual. The network is left in evaluation mode. Attention
    runs its plain way here, in which every product shows.
    """
    network.eval()
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mkldnn_rnn_layer: _recurrent})
    with sdpa_kernel(SDPBackend.MATH), counter:  # with gradients: the counter trips over parameters without them
        network(inputs)
    return int(counter.get_total_flops()) // 2


def _recurrent(x: Sequence[int], to_gates: Sequence[int], back: Sequence[int], *_: object, **__: object) -> int:
    """Return the operations (two per multiply-add) of one recurrent layer, from the shapes of inputs and weights."""
    return 2 * (math.prod(to_gates) + math.prod(back)) * math.prod(x[:2])


def operations_per_window(network: nn.Module, source: TokenSource, rows: IntArray) -> int:
    """Return the multiply-adds of one window: of a few spread over ``rows``, the one with the most to read.

    One count alone, since counting is slow; on a processor, whose recurrent layers the counter knows.
    """
    read = getattr(network, "tokens_read", None)
    spread = np.unique(np.linspace(0, len(rows) - 1, N_LOOKED_AT).round().astype(np.int64))
    batches = [source.batch(rows[index : index + 1]) for index in spread]
    fullest = max(batches, key=lambda batch: _to_read(batch if read is None else read(batch)))
    if source.device.type == "cpu":
        return count_operations(network, fullest)
    return count_operations(copy.deepcopy(network).to("cpu"), fullest.to("cpu"))


def _to_read(inputs: TokenInputs) -> tuple[int, int]:
    """Return how many patches and features a batch holds, and how many of them are real."""
    masks = [sensor.is_real for sensor in inputs.sensors] + [group.is_real for group in inputs.features]
    return sum(mask.numel() for mask in masks), sum(int(mask.sum()) for mask in masks)
