"""The inputs of the experiments as labelled tokens: digits, windows of biosignals, made shapes and made sounds.

Digits: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49 (CC BY 4.0), as packaged in scikit-learn. Shapes and sounds are drawn here from a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.errors import StudyError
from biopercept.modalities import MODALITIES
from biopercept.prepare.recording import PrepareSettings
from biopercept.prepare.study import prepare_study
from biopercept.preprocessing.windows import WindowSettings
from biopercept.resources import sample_study
from biopercept.store.prepared import WindowedRecording
from biopercept.store.reading import StudyStore, open_store
from biopercept.studies.loading import load_study
from experiments.classification import LabelledTokens
from experiments.networks import grid_positions

N_WINDOW_SAMPLES = 64
"""Samples of a window of biosignals: a token for each."""

CANVAS = 12
"""Rows, and columns, of the picture that a moved digit lies in."""

N_SOUND_PATCHES, PATCH_SAMPLES = 64, 16
"""Patches of a sound, and samples in each."""

_SOUND_RATE = 4000.0  # Hz
_WINDOWS_OF_A_SENSOR = 40  # of each recording, evenly spaced
_TRAINING_DIGITS = 1000
_PLACES_OF_A_DIGIT = 4  # of each training digit; a test digit has one
_TRAINING_SHARE = 0.7  # of made samples
_TEST_SUBJECTS = 0.3
_STUDY_WINDOWS = WindowSettings(length_seconds=30.0, step_seconds=10.0)  # the sample study's stages last a minute
_QUICK_SUBJECTS = ("S01", "S02", "S03", "S06")

Floats = NDArray[np.float64]
_Draw = np.random.Generator


def digit_tokens(seed: int) -> LabelledTokens:
    """Return scikit-learn's digits, a token for each of 8 x 8 pixels in [-1, 1], split at random by the seed."""
    from sklearn.datasets import load_digits

    held = load_digits()
    order = np.random.default_rng(seed).permutation(len(held.target))
    return LabelledTokens(
        torch.from_numpy(held.images).float().reshape(-1, 64, 1) / 8.0 - 1.0,
        grid_positions((8, 8))[None],
        torch.from_numpy(held.target).long(),
        tuple(str(digit) for digit in range(10)),
        order[:_TRAINING_DIGITS],
        order[_TRAINING_DIGITS:],
    )


def moved_digit_tokens(seed: int) -> LabelledTokens:
    """Return the digits of :func:`digit_tokens`, each laid at random places of an empty picture of 12 x 12 pixels.

    Where a digit may be anywhere, no pixel stands for a part of it: what is near what has to be used.

    Parameters
    ----------
    seed : int
        Of split and places.
    """
    whole = digit_tokens(seed)
    draw = np.random.default_rng([seed, CANVAS])
    rows = np.concatenate([np.repeat(whole.training, _PLACES_OF_A_DIGIT), whole.test])
    pictures = torch.full((len(rows), CANVAS, CANVAS), float(whole.values.min()))
    for number, (row, (top, left)) in enumerate(zip(rows, draw.integers(0, CANVAS - 7, (len(rows), 2)), strict=True)):
        pictures[number, top : top + 8, left : left + 8] = whole.values[row].reshape(8, 8)
    n_training = _PLACES_OF_A_DIGIT * len(whole.training)
    return LabelledTokens(
        pictures.reshape(len(rows), -1, 1),
        grid_positions((CANVAS, CANVAS))[None],
        whole.target[torch.from_numpy(rows)],
        whole.classes,
        np.arange(n_training),
        np.arange(n_training, len(rows)),
    )


def window_tokens(recordings: Sequence[WindowedRecording], seed: int) -> LabelledTokens:
    """Return short windows of every measured signal, one token for each sample; the class is the sensor.

    Each window is scaled to mean 0 and spread 1, so that its level does not tell the sensor. Test subjects, drawn by
    the seed, have no window in training.
    """
    windows: list[Floats] = []
    sensors: list[str] = []
    subjects: list[str] = []
    for recording in recordings:
        for signal in recording.signals:
            if signal.derived_from or MODALITIES[signal.modality].is_derived:
                continue
            values, is_real = recording.read(signal.name)
            starts = np.linspace(0, values.shape[1] - N_WINDOW_SAMPLES, _WINDOWS_OF_A_SENSOR).astype(int)
            for number, start in enumerate(starts):
                channel, stretch = number % len(values), slice(start, start + N_WINDOW_SAMPLES)
                cut = values[channel, stretch].astype(np.float64)
                if is_real[channel, stretch].all() and cut.std() > 0:
                    windows.append((cut - cut.mean()) / cut.std())
                    sensors.append(signal.modality)
                    subjects.append(recording.subject)
    classes = tuple(sorted(set(sensors)))
    everyone = sorted(set(subjects))
    tested = np.random.default_rng(seed).permutation(everyone)[: math.ceil(_TEST_SUBJECTS * len(everyone))]
    is_test = np.isin(subjects, tested)
    return LabelledTokens(
        torch.from_numpy(np.stack(windows)).float()[..., None],
        grid_positions((N_WINDOW_SAMPLES,))[None],
        torch.tensor([classes.index(sensor) for sensor in sensors]),
        classes,
        np.flatnonzero(~is_test),
        np.flatnonzero(is_test),
    )


def shape_tokens(seed: int, *, n_samples: int, n_points: int = 96) -> LabelledTokens:
    """Return point clouds of solids' surfaces: the place of each point is all its token holds.

    Every cloud is turned about the vertical by a random angle, scaled along each axis by 0.8 to 1.2, centred, brought
    into the cube from -1 to 1, and blurred by noise of 0.02.

    Parameters
    ----------
    n_samples : int
        Training and test together, classes evenly.
    """
    draw = np.random.default_rng(seed)
    classes = tuple(SHAPES)
    target = np.arange(n_samples) % len(classes)
    clouds = []
    for number in target:
        points = SHAPES[classes[number]](draw, n_points)
        angle = draw.uniform(0, 2 * math.pi)
        c, s = math.cos(angle), math.sin(angle)
        points = points @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) * draw.uniform(0.8, 1.2, 3)
        points = points - points.mean(0)
        clouds.append(points / np.abs(points).max() + draw.normal(0.0, 0.02, points.shape))
    order = draw.permutation(n_samples)
    split = round(_TRAINING_SHARE * n_samples)
    return LabelledTokens(
        torch.zeros(n_samples, n_points, 0),
        torch.from_numpy(np.stack(clouds)).float(),
        torch.from_numpy(target),
        classes,
        order[:split],
        order[split:],
    )


def _on_sphere(draw: _Draw, n: int) -> Floats:
    points = draw.normal(size=(n, 3))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def _on_cube(draw: _Draw, n: int) -> Floats:
    points = draw.uniform(-1, 1, (n, 3))
    points[np.arange(n), draw.integers(0, 3, n)] = draw.choice([-1.0, 1.0], n)
    return points


def _on_torus(draw: _Draw, n: int) -> Floats:
    around, tube = draw.uniform(0, 2 * math.pi, (2, n))
    radius = 1.0 + 0.35 * np.cos(tube)
    return np.stack([radius * np.cos(around), radius * np.sin(around), 0.35 * np.sin(tube)], 1)


def _on_turned(draw: _Draw, n: int, radius: Callable[[Floats], Floats]) -> Floats:
    """Return points on the side of a solid of revolution with this radius at heights -1 to 1."""
    height, around = draw.uniform(-1, 1, n), draw.uniform(0, 2 * math.pi, n)
    return np.stack([radius(height) * np.cos(around), radius(height) * np.sin(around), height], 1)


SHAPES: dict[str, Callable[[_Draw, int], Floats]] = {
    "sphere": _on_sphere,
    "cube": _on_cube,
    "torus": _on_torus,
    "cylinder": lambda draw, n: _on_turned(draw, n, np.ones_like),
    "cone": lambda draw, n: _on_turned(draw, n, lambda h: 0.5 * (1.0 - h)),
    "hourglass": lambda draw, n: _on_turned(draw, n, lambda h: 0.2 + 0.8 * np.abs(h)),
}
"""Surfaces by name."""


def sound_tokens(seed: int, *, n_samples: int) -> LabelledTokens:
    """Return a quarter of a second of made sound as raw waveform, in patches of 16 samples at 4 kHz.

    Pitch, phase, loudness and a little noise are drawn anew for every sound, so that only its kind tells the class.

    Parameters
    ----------
    n_samples : int
        Training and test together, classes evenly.
    """
    draw = np.random.default_rng(seed)
    classes = tuple(SOUNDS)
    target = np.arange(n_samples) % len(classes)
    seconds = np.arange(N_SOUND_PATCHES * PATCH_SAMPLES) / _SOUND_RATE
    waves = []
    for number in target:
        wave = SOUNDS[classes[number]](draw, seconds, float(draw.uniform(150.0, 450.0)))
        wave = draw.uniform(0.5, 1.0) * wave / np.abs(wave).max()
        waves.append(wave + draw.normal(0.0, 0.02, len(wave)))
    order = draw.permutation(n_samples)
    split = round(_TRAINING_SHARE * n_samples)
    return LabelledTokens(
        torch.from_numpy(np.stack(waves)).float().reshape(n_samples, N_SOUND_PATCHES, PATCH_SAMPLES),
        grid_positions((N_SOUND_PATCHES,))[None],
        torch.from_numpy(target),
        classes,
        order[:split],
        order[split:],
    )


def _tone(draw: _Draw, seconds: Floats, hertz: float) -> Floats:
    return np.sin(2 * math.pi * hertz * seconds + draw.uniform(0, 2 * math.pi))


def _chord(draw: _Draw, seconds: Floats, hertz: float) -> Floats:
    return sum((_tone(draw, seconds, hertz * ratio) for ratio in (1.0, 5 / 4, 3 / 2)), np.zeros_like(seconds))


def _swell(draw: _Draw, seconds: Floats, hertz: float) -> Floats:
    beat = np.sin(2 * math.pi * draw.uniform(10, 20) * seconds + draw.uniform(0, 2 * math.pi))
    return (1.0 + beat) * _tone(draw, seconds, hertz)


def _vibrato(draw: _Draw, seconds: Floats, hertz: float) -> Floats:
    speed = draw.uniform(10, 20)
    swing = 0.4 * hertz / speed * np.sin(2 * math.pi * speed * seconds + draw.uniform(0, 2 * math.pi))
    return np.sin(2 * math.pi * hertz * seconds + swing + draw.uniform(0, 2 * math.pi))


def _glide(draw: _Draw, seconds: Floats, hertz: float, octaves: float) -> Floats:
    course = hertz * 2.0 ** (octaves * seconds / seconds[-1])
    return np.sin(2 * math.pi * np.cumsum(course) / _SOUND_RATE + draw.uniform(0, 2 * math.pi))


SOUNDS: dict[str, Callable[[_Draw, Floats, float], Floats]] = {
    "tone": _tone,
    "chord": _chord,
    "swell": _swell,
    "vibrato": _vibrato,
    "rising": lambda draw, seconds, hertz: _glide(draw, seconds, hertz, 1.0),
    "falling": lambda draw, seconds, hertz: _glide(draw, seconds, 2 * hertz, -1.0),
    "noise": lambda draw, seconds, hertz: draw.normal(size=len(seconds)),
}
"""Kinds of sound by name: functions of a generator, times in seconds and a pitch in Hz."""


def sample_store(output: Path, *, quick: bool) -> StudyStore:
    """Return the sample study prepared in a folder, in windows of 30 s; with ``quick`` four subjects alone.

    Raises StudyError where it cannot be prepared.
    """
    output.mkdir(parents=True, exist_ok=True)
    path, settings = output / ("sample-quick.h5" if quick else "sample.h5"), PrepareSettings(_STUDY_WINDOWS)
    with sample_study() as folder:
        summary = prepare_study(load_study(folder), path, settings, subjects=_QUICK_SUBJECTS if quick else None)
    if summary.store is None or summary.count("failed"):
        raise StudyError(f"the sample study could not be prepared; see {summary.log}")
    return open_store(summary.store)
