"""What the model can read and is given: patches of signals and groups of features, of any subset of sensors.

Absolute or session time has no field here, so it cannot reach the model: in stress studies the
time since the recording began predicts the label by the protocol's fixed order alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from biopercept.errors import CheckpointError
from biopercept.modalities import MODALITIES


@dataclass(frozen=True, eq=False)
class SensorPatches:
    """Patches of one signal (or of several of one modality) in a batch of windows.

    A batch may mix recordings of different rates, durations and montages: pad with ``is_real`` False.

    * ``modality``: a name in ``MODALITY_NAMES``.
    * ``patches`` (float32 Tensor (B, C, P, L)): normalised samples, 0 where missing. A patch lasts the modality's
      ``patch_seconds``; a signal sampled more slowly than the model reads it is interpolated within its patches to the
      vocabulary's L.
    * ``is_real`` (bool Tensor (B, C, P)): False: nothing was measured in this patch (gap, padding, absent channel).
    * ``times`` (float32 Tensor (B, P)): centre of each patch, seconds from the start of the window.
    * ``positions`` (float32 Tensor (B, C, 3)): electrode positions in head coordinates, metres; NaN where unknown.
    * ``channels`` (int64 Tensor (B, C)): learned channel code, read where the position is unknown.
    * ``rate`` (float32 Tensor (B,)): rate at which the signal was sampled, Hz (lower than L / ``patch_seconds`` where
      it was interpolated).
    * ``quality`` (float32 Tensor (B, C, P)): signal quality in [0, 1].
    * ``source``: for a derived series: the measured modality it was computed from, with which it is dropped in
      training. Empty: judged from the modalities present (see ``dropout``).
    """

    modality: str
    patches: Tensor
    is_real: Tensor
    times: Tensor
    positions: Tensor
    channels: Tensor
    rate: Tensor
    quality: Tensor
    source: str = ""

    def __post_init__(self) -> None:
        if self.patches.ndim != 4:
            raise ValueError(
                f"The {self.modality} patches have shape {tuple(self.patches.shape)}; they must be (samples of "
                "the batch, channels, patches, samples of a patch)."
            )
        b, c, p, _ = self.patches.shape
        wanted = {"is_real": (b, c, p), "times": (b, p), "positions": (b, c, 3), "channels": (b, c), "rate": (b,)}
        for name, shape in {**wanted, "quality": (b, c, p)}.items():
            _check_shape(f"{name} of the {self.modality} patches", getattr(self, name), shape)


@dataclass(frozen=True, eq=False)
class FeatureGroup:
    """Features of one group ("heart", "eda", ...) in a batch of windows; one token.

    * ``values`` (float32 Tensor (B, F)): normalised, 0 where missing.
    * ``is_real`` (bool Tensor (B, F)): False: the feature is undefined in this window. No real feature: no token.
    """

    name: str
    values: Tensor
    is_real: Tensor

    def __post_init__(self) -> None:
        _check_shape(f"is_real of the {self.name} features", self.is_real, tuple(self.values.shape))


@dataclass(frozen=True, eq=False)
class TokenInputs:
    """Everything the model is given of a batch of windows: any subset of sensors and feature groups."""

    sensors: tuple[SensorPatches, ...] = ()
    features: tuple[FeatureGroup, ...] = ()

    def __post_init__(self) -> None:
        counts = [s.patches.shape[0] for s in self.sensors] + [g.values.shape[0] for g in self.features]
        if any(count != counts[0] for count in counts):  # a set would fix the batch size of an exported network
            raise ValueError(
                f"The sensors and feature groups hold {sorted(set(counts))} samples; they must hold the same number."
            )

    @property
    def n_samples(self) -> int:
        """Return B, the number of windows in the batch (0 where it holds no sensor and no feature)."""
        for sensor in self.sensors:
            return len(sensor.patches)
        return len(self.features[0].values) if self.features else 0

    def masks(self) -> list[Tensor]:
        """Return which tokens of each signal (B, C * P), then of each feature group (B, 1), are real."""
        of_signals = [sensor.is_real.flatten(1) for sensor in self.sensors]
        return of_signals + [group.is_real.any(-1, keepdim=True) for group in self.features]

    def with_mask(self, mask: Tensor) -> TokenInputs:
        """Return the inputs of which only the tokens of ``mask`` (B, N), in the order of :meth:`masks`, are real."""
        parts = iter(torch.split(mask, [part.shape[1] for part in self.masks()], 1))
        sensors = tuple(replace(s, is_real=s.is_real & next(parts).view_as(s.is_real)) for s in self.sensors)
        return TokenInputs(sensors, tuple(replace(g, is_real=g.is_real & next(parts)) for g in self.features))

    def to(self, device: torch.device | str) -> TokenInputs:
        """Return the same inputs on another device."""
        return self._mapped(lambda tensor: tensor.to(device))

    def rows(self, index: Tensor | slice) -> TokenInputs:
        """Return the inputs of some samples of the batch, in the order of ``index``."""
        return self._mapped(lambda tensor: tensor[index])

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> TokenInputs:
        sensors = tuple(_mapped(sensor, change) for sensor in self.sensors)
        return TokenInputs(sensors, tuple(_mapped(group, change) for group in self.features))

    def without_absent(self) -> TokenInputs:
        """Return the inputs without what is real in no sample: signals, channels, groups; as they are if nothing is."""
        sensors = []
        for sensor in self.sensors:
            present = sensor.is_real.any(2).any(0)  # (C,)
            if bool(present.all()):
                sensors.append(sensor)
            elif bool(present.any()):
                cut = {n: getattr(sensor, n)[:, present] for n in _OF_CHANNELS}
                sensors.append(replace(sensor, **cut))
        features = tuple(group for group in self.features if bool(group.is_real.any()))
        return TokenInputs(tuple(sensors), features) if sensors or features else self


_OF_CHANNELS = ("patches", "is_real", "positions", "channels", "quality")


@dataclass(frozen=True)
class TokenVocabulary:
    """What the model can read; fixed when it is made and saved with it.

    * ``patch_samples``: samples of one patch, by modality.
    * ``feature_groups``: number of features, by group.
    * ``n_channel_codes``: learned codes for channels without a known position.
    """

    patch_samples: Mapping[str, int]
    feature_groups: Mapping[str, int]
    n_channel_codes: int

    def to_json(self) -> dict[str, object]:
        """Return the vocabulary as an object that JSON can hold."""
        return asdict(self)

    @staticmethod
    def from_json(document: Mapping[str, object]) -> TokenVocabulary:
        """Return the vocabulary that :meth:`to_json` wrote.

        Raises CheckpointError where a key is missing or unknown, a modality is unknown, or a count is not a whole
        number above 0.
        """
        names = {field.name for field in fields(TokenVocabulary)}
        if set(document) != names:
            raise CheckpointError(
                f"The token vocabulary of the model has the keys {sorted(document)}; it must have {sorted(names)}."
            )
        patches = _counts(document["patch_samples"], "patch_samples")
        for modality in patches:
            if modality not in MODALITIES:
                raise CheckpointError(
                    f"The token vocabulary of the model names the modality {modality!r}, which this version of "
                    f"biopercept does not know; it knows {', '.join(MODALITIES)}."
                )
        n_codes = _counts({"n_channel_codes": document["n_channel_codes"]}, "n_channel_codes")["n_channel_codes"]
        return TokenVocabulary(patches, _counts(document["feature_groups"], "feature_groups"), n_codes)


_Part = TypeVar("_Part", SensorPatches, FeatureGroup)


def _mapped(value: _Part, change: Callable[[Tensor], Tensor]) -> _Part:
    tensors = {field.name: getattr(value, field.name) for field in fields(value)}
    changed: dict[str, Any] = {name: change(part) for name, part in tensors.items() if isinstance(part, Tensor)}
    return replace(value, **changed)


def _check_shape(what: str, tensor: Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != wanted:
        raise ValueError(f"The {what} have shape {tuple(tensor.shape)}; they must have shape {wanted}.")


def _counts(counts: object, name: str) -> dict[str, int]:
    if not isinstance(counts, Mapping) or any(type(n) is not int or n < 1 for n in counts.values()):
        raise CheckpointError(
            f"The token vocabulary of the model has {name} = {counts!r}; it must hold whole numbers above 0."
        )
    return {str(key): int(n) for key, n in counts.items()}
