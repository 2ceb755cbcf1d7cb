"""A trained model as one ONNX file for other programs: patches of sensors and features in, an output per task out.

Every number that varies in use is free in the file: windows in a batch, and channels and patches of each
sensor, so any number of tokens. A sensor that is missing is given with ``is_real`` false (one channel, one patch
suffice). A window in which nothing is real gets the output that the network itself gives, because the rule "no
token, attention zero" is written into the graph; it is no prediction and ``predict`` withholds it.

Outputs are those of whole windows: logits of classes, or of the steps between levels, or scaled numbers. Cleaning,
cutting and normalising are not in the file; its metadata say what they were, and the scale of numbers.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biopercept.errors import CheckpointError, OutputError, SettingsError
from biopercept.files import replacing
from biopercept.modalities import MODALITIES
from biopercept.model.biosignals import BiosignalPerceiver, Outputs
from biopercept.model.token_inputs import FeatureGroup, SensorPatches, TokenInputs
from biopercept.training.checkpoint import Checkpoint

SENSOR_FIELDS = ("patches", "is_real", "times", "positions", "channels", "rate", "quality")
FEATURE_FIELDS = ("values", "is_real")
OUTPUT = "logits"
TOLERANCE = 1e-5
"""Largest difference between the logits of the file and of the network that an export may have."""


def output_names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the names of the file's outputs: ``logits``, or of several tasks ``logits.TASK`` each."""
    names = [task.name for task in checkpoint.tasks]
    return (OUTPUT,) if len(names) == 1 else tuple(f"{OUTPUT}.{name}" for name in names)


def export_onnx(checkpoint: Checkpoint, path: Path, modalities: Sequence[str] | None = None) -> tuple[str, ...]:
    """Write the network of a checkpoint as an ONNX file and return the names of its inputs.

    The file reads the named ``modalities``, measured or derived; None: all that the model was trained with.

    Raises SettingsError where the extra ``onnx`` is not installed. Raises CheckpointError where a modality is not one
    that the model was trained with. Raises OutputError where the file cannot be written.
    """
    refuse_without_exporter()
    known = readable_modalities(checkpoint)
    chosen = known if modalities is None else tuple(modalities)
    if unknown := [m for m in chosen if m not in known]:
        raise CheckpointError(f"the model was not trained with {', '.join(unknown)}; it reads {', '.join(known)}")
    groups = tuple(checkpoint.vocabulary.feature_groups) if checkpoint.tokens.features else ()
    flat = _FlatNetwork(checkpoint.network, chosen, groups).eval()
    names = input_names(chosen, groups)
    example = flatten(example_inputs(checkpoint, chosen, n_windows=3, n_channels=2, n_patches=4))
    with _quietly(), torch.no_grad():
        traced = torch.export.export(
            flat, example, dynamic_shapes={"tensors": _free_sizes(chosen, groups)}, strict=True
        )
        outputs = list(output_names(checkpoint))
        program = torch.onnx.export(traced, input_names=list(names), output_names=outputs, dynamo=True, verbose=False)
    if program is None:
        raise OutputError("the exporter gave no program; report it with the versions that doctor prints")
    model = program.model_proto
    for key, value in _metadata(checkpoint, chosen, groups).items():
        model.metadata_props.add(key=key, value=value)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return names


def refuse_without_exporter() -> None:
    """Refuse, before anything is loaded, to export where the extra ``onnx`` is not installed. Raises SettingsError."""
    _refuse_without_extra("onnx", "onnxscript")


def check_export(checkpoint: Checkpoint, path: Path, modalities: Sequence[str] | None = None) -> float:
    """Return the largest difference between the outputs in onnxruntime of an exported file and the network's.

    Compared at another batch size and other numbers of channels and patches than the file was made with, with a window
    in which nothing is real. Raises SettingsError where onnxruntime is not installed.
    """
    _refuse_without_extra("onnxruntime")
    import onnxruntime

    chosen = readable_modalities(checkpoint) if modalities is None else tuple(modalities)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    worst = 0.0
    for n_windows, n_channels, n_patches in ((1, 1, 1), (5, 3, 11)):
        inputs = example_inputs(checkpoint, chosen, n_windows=n_windows, n_channels=n_channels, n_patches=n_patches)
        for is_real in (*(s.is_real for s in inputs.sensors), *(g.is_real for g in inputs.features)):
            is_real[-1] = n_windows == 1
        groups = tuple(group.name for group in inputs.features)
        given = dict(zip(input_names(chosen, groups), flatten(inputs), strict=True))
        with torch.inference_mode():
            expected = checkpoint.network(inputs).tasks.values()
        outputs = session.run(list(output_names(checkpoint)), {name: given[name].numpy() for name in names})
        differences = [abs(output - wanted.numpy()).max() for output, wanted in zip(outputs, expected, strict=True)]
        worst = max(worst, *(float(difference) for difference in differences))
    return worst


def readable_modalities(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the modalities, measured and derived, that the training subjects had and the settings read."""
    population, tokens = checkpoint.population, checkpoint.tokens
    return tuple(m for m in checkpoint.vocabulary.patch_samples if tokens.reads(m) and population.has_modality(m))


def input_names(modalities: Sequence[str], groups: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the file's inputs, in order.

    >>> input_names([], ["heart"])
    ('features.heart.values', 'features.heart.is_real')
    """
    sensors = [f"{m}.{name}" for m in modalities for name in SENSOR_FIELDS]
    return (*sensors, *(f"features.{g}.{name}" for g in groups for name in FEATURE_FIELDS))


def flatten(inputs: TokenInputs) -> tuple[Tensor, ...]:
    """Return the tensors of token inputs in the order of :func:`input_names`."""
    sensors = [getattr(s, name) for s in inputs.sensors for name in SENSOR_FIELDS]
    return (*sensors, *(getattr(g, name) for g in inputs.features for name in FEATURE_FIELDS))


def example_inputs(
    checkpoint: Checkpoint, modalities: Sequence[str], *, n_windows: int, n_channels: int, n_patches: int
) -> TokenInputs:
    """Return random inputs of these sizes for the model; each sensor has one patch more than the one before."""
    g = torch.Generator().manual_seed(n_windows)
    sensors = []
    for number, modality in enumerate(modalities):
        shape = (n_windows, n_channels, n_patches + number)
        seconds = MODALITIES[modality].patch_seconds
        sensors.append(
            SensorPatches(
                modality=modality,
                patches=torch.randn(*shape, checkpoint.vocabulary.patch_samples[modality], generator=g),
                is_real=torch.rand(shape, generator=g) > 0.3,
                times=((torch.arange(shape[2]) + 0.5) * seconds).repeat(n_windows, 1),
                positions=torch.full((n_windows, n_channels, 3), torch.nan),
                channels=torch.arange(1, n_channels + 1).repeat(n_windows, 1),
                rate=torch.full((n_windows,), MODALITIES[modality].model_rate),
                quality=torch.rand(shape, generator=g),
            )
        )
    sizes = checkpoint.vocabulary.feature_groups.items() if checkpoint.tokens.features else ()
    features = [
        FeatureGroup(name, torch.randn(n_windows, n, generator=g), torch.rand(n_windows, n, generator=g) > 0.3)
        for name, n in sizes
    ]
    return TokenInputs(tuple(sensors), tuple(features))


class _FlatNetwork(nn.Module):
    """A network whose inputs are plain tensors in the order of :func:`input_names`."""

    def __init__(self, network: BiosignalPerceiver, modalities: Sequence[str], groups: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.modalities = tuple(modalities)
        self.groups = tuple(groups)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        sensors = []
        for modality in self.modalities:
            patches, is_real, times, positions, channels, rate, quality = (next(given) for _ in SENSOR_FIELDS)
            sensors.append(SensorPatches(modality, patches, is_real, times, positions, channels, rate, quality))
        features = tuple(FeatureGroup(g, *(next(given) for _ in FEATURE_FIELDS)) for g in self.groups)
        outputs: Outputs = self.network(TokenInputs(tuple(sensors), features))
        return tuple(outputs.tasks.values())


def _free_sizes(modalities: Sequence[str], groups: Sequence[str]) -> tuple[dict[int, Any], ...]:
    """Return which axes of which input are free, by the name of their size."""
    dim = torch.export.Dim
    batch = dim("n_windows")
    sizes: list[dict[int, Any]] = []
    for m in modalities:
        c, p = dim(f"{m}_channels"), dim(f"{m}_patches")
        cube = {0: batch, 1: c, 2: p}
        sizes += [cube, cube, {0: batch, 1: p}, {0: batch, 1: c}, {0: batch, 1: c}, {0: batch}, cube]
    return (*sizes, *({0: batch} for _ in groups for _ in FEATURE_FIELDS))


def _metadata(checkpoint: Checkpoint, modalities: Sequence[str], groups: Sequence[str]) -> dict[str, str]:
    lengths = {m: checkpoint.vocabulary.patch_samples[m] for m in modalities}
    first = checkpoint.tasks[0]
    of_one = {"task": first.name, "classes": list(first.classes)} if len(checkpoint.tasks) == 1 else {}
    metadata = {
        **of_one,
        "tasks": [task.to_json() for task in checkpoint.tasks],
        "patch_samples": lengths,
        "patch_seconds": {m: MODALITIES[m].patch_seconds for m in modalities},
        "feature_names": [n for n in checkpoint.feature_names if n.split("/")[0] in groups],
        "normalisation": asdict(checkpoint.normalisation),
        "population": checkpoint.population.to_json(),
        "prepare": checkpoint.prepare,
        "intended_use": "research on human factors; no medical device",
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}


def _refuse_without_extra(*needed: str) -> None:
    from importlib.util import find_spec

    if missing := [name for name in needed if find_spec(name) is None]:
        raise SettingsError(f"export needs {' and '.join(missing)}; install them with: pip install 'biopercept[onnx]'")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's own words, which concern its makers, off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
