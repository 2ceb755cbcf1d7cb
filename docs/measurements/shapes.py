"""The plan and the presets scored on made studies of many shapes, by grouped folds; every score is kept as a unit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biopercept import notebook as bp
from biopercept.config.loading import load_config_for_study
from biopercept.config.settings import PlannedConfig
from biopercept.files import only_writer
from biopercept.results.plan import SettingsPlan
from biopercept.studies.structure import Study
from measurements.planted_shapes import LOADS, Shape, write_study

VERSION = 1
"""Raised whenever what is made or scored changes, so that no older result is taken for a new one."""
AUTO = "auto"
SHARED = "shared"
PRESETS = ("general", "stress-wrist", "workload-eeg")
"""The presets that are scored; `stress-chest` is `general` in every value."""
NUMBERS, CLASSES = ("ridge", "boosting"), ("logistic", "boosting", "bagging")
N_FOLDS = 3
METRICS = {False: ("balanced_accuracy", "macro_f1", "auroc"), True: ("ccc", "mae")}


@dataclass(frozen=True)
class ShapeScore:
    """One model, or the network with one choice of settings, on one made study: a unit of work.

    Attributes
    ----------
    settings : str
        "auto" or a preset; windows are theirs, so that each has a store of its own.
    model : str
        A baseline is fitted with the plan's windows and scaling.
    """

    shape: Shape
    seed: int
    settings: str
    model: str
    folder: Path

    @property
    def name(self) -> str:
        """Return what it is called."""
        what = self.settings if self.model == "perceiver-io" else self.model
        return f"shapes {self.shape.name} seed {self.seed} {what}"

    @property
    def output(self) -> Path:
        """Return the folder of its cross-validation."""
        return self.folder / f"{self.shape.name.replace(' ', '-')}-{self.seed}" / f"{self.settings}-{self.model}"

    def identity(self) -> dict[str, Any]:
        """Return everything that the result depends on; of a plan, what it plans."""
        changes = {"shape": asdict(self.shape), "seed": self.seed, "settings": self.settings, "model": self.model}
        return {"measurement": VERSION, "loads": {**LOADS}, "folds": N_FOLDS, **changes}

    def run(self) -> dict[str, Any]:
        """Make the study and its store where they are not there yet, and score."""
        store = prepared(self.shape, self.seed, self.settings, self.folder)
        if store is None:
            return {"people": [], "scores": {}, "seconds": 0.0, "reason": "its windows leave nothing to be scored"}
        shutil.rmtree(self.output, ignore_errors=True)
        overrides = {"evaluation.split": "k-fold", "evaluation.n_folds": N_FOLDS}
        if self.model == "perceiver-io":
            overrides["evaluation.n_seeds"] = 1
        result = bp.cross_validate(store, self.output, model=self.model, config=self.settings, overrides=overrides)
        table = result.to_frame()
        metrics = [name for name in METRICS[self.shape.is_of_numbers] if name in table]
        scores = {name: [float(value) for value in table[name]] for name in metrics}
        return {"people": list(table["participant_id"]), "scores": scores, "seconds": result.only.seconds}


def prepared(shape: Shape, seed: int, settings: str, folder: Path) -> Path | None:
    """Return the store of a made study, with the windows of the settings; None where not one can be cut."""
    home = folder / f"{shape.name.replace(' ', '-')}-{seed}"
    with only_writer(home):
        if not (home / "study" / "study.yaml").is_file():
            write_study(shape, home / "study", seed)
        study = bp.load_study(home / "study")
        length = load_config_for_study(study, settings).windows.length_seconds
        if _plan(study, length).faults:
            return None
        store = home / f"{settings}.h5"
        bp.prepare_study(study, store, settings)
    return store


def plan_of_shape(shape: Shape, folder: Path) -> SettingsPlan:
    """Return the plan of a made study, as ``check`` shows it; the study is made where it is not there."""
    home = folder / f"{shape.name.replace(' ', '-')}-0"
    if not (home / "study" / "study.yaml").is_file():
        write_study(shape, home / "study")
    return _plan(bp.load_study(home / "study"))


def _plan(study: Study, length_seconds: float | None = None) -> SettingsPlan:
    given = [] if length_seconds is None else [f"windows.length_seconds={length_seconds}"]
    planned = load_config_for_study(study, AUTO, given)
    if not isinstance(planned, PlannedConfig) or planned.plan is None:
        raise RuntimeError("settings that no preset names are planned")
    return planned.plan


def shape_of_study(path: Path, folder: Path) -> Shape:
    """Return what a study that is there is like, to be scored beside the made ones; its folder is linked."""
    study = bp.load_study(path)
    task = next(iter(study.tasks.values()))
    first = bp.load_recording(study.entries[0].files[0].path)
    shape = Shape(
        name=study.name,
        words="shared",
        n_people=len(study.subjects),
        stages=tuple((str(name), 0.0) for name in task.classes),
        sensors=tuple(sorted({signal.modality.upper() for signal in first.signals})),
        label=SHARED,
    )
    home = folder / f"{shape.name}-0"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "study").exists():
        (home / "study").symlink_to(path.resolve(), target_is_directory=True)
    return shape


def units(folder: Path, n_seeds: int, shapes: Sequence[Shape]) -> Iterator[ShapeScore]:
    """Give every score that the page shows: the plan first; a study that is there is scored once."""
    for shape in shapes:
        for seed in range(min(n_seeds, 1) if shape.label == SHARED else n_seeds * shape.n_studies):
            for settings in (AUTO, *PRESETS):
                if settings != "workload-eeg" or "EEG" in shape.sensors:
                    yield ShapeScore(shape, seed, settings, "perceiver-io", folder)
            for model in NUMBERS if shape.is_of_numbers else CLASSES:
                yield ShapeScore(shape, seed, AUTO, model, folder)
