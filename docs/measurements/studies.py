"""Each shared study by models of the others, windows chosen on these, and models that start from them: units of work.

Studies, tasks and windows are those of the recipe of the shipped model ``base``. Everything lies in one folder: stores,
the models of the other studies, cross-validations (whose folds are kept) and the units' results.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from biopercept import notebook as bp
from biopercept.config.loading import load_config_for
from biopercept.config.settings import Purpose
from biopercept.data.joined import open_studies
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.folds import count_labels, read_run
from biopercept.evaluation.metrics import score_subject
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.inference.shift import ALL, PAST, log_odds_of, shift_at, shifted
from biopercept.planning.network import Size, network_settings
from biopercept.store.reading import open_store
from biopercept.studies.datasets.catalogue import dataset_named
from shipping.recipes import RECIPES

VERSION = 1
"""Raised whenever what is scored changes, so that no older result is taken for a new one."""
[BASE] = [recipe for recipe in RECIPES if recipe.name == "base"]
STUDIES, TASK = BASE.studies, BASE.task.partition(",")[0]
WINDOWS = ((30.0, 10.0), (60.0, 30.0))
"""Length and step that are compared, seconds; the first is that of ``base``."""
NETWORK, BASELINES = "perceiver-io", ("logistic", "boosting", "bagging", "cnn-late-fusion")
CHOOSING = (NETWORK, "logistic", "boosting")
"""Models whose windows are chosen."""
N_FOLDS = 5
LABELLED = (5, 10, 20)
"""People whose labels are used; where a training side has fewer, all of it is the last."""
NEW, FROM_BASE, BASE_AND_SIGNALS = "new weights", "from the base", "from the base, then signals"
ARMS = (NEW, FROM_BASE, BASE_AND_SIGNALS)


@dataclass(frozen=True)
class Place:
    """Where the public data sets are, and where everything that is made lies."""

    data: Path
    folder: Path

    def store(self, study: str, windows: tuple[float, float]) -> Path:
        """Return the store of a study with windows of this length and step; it is prepared where it is not there."""
        length, step = windows
        store, home = self.folder / f"{study}-{length:g}.h5", self.folder / "studies" / study
        if not store.is_file():
            if not (home / "study.yaml").is_file():
                dataset_named(study).write_study(self.data / study, home)
            bp.prepare_study(home, store, "auto", {"windows.length_seconds": length, "windows.step_seconds": step})
        return store

    def base_without(self, study: str) -> Path:
        """Return the model made as ``base`` of the other studies alone; it is trained where it is not there."""
        output = self.folder / "models" / f"base-without-{study}"
        if not (output / "model.json").is_file():
            stores = [self.store(other, WINDOWS[0]) for other in STUDIES if other != study]
            with open_studies(*stores) as others:
                tasks = [task for task in BASE.task.split(",") if task in others.tasks]
            bp.train(stores, output, task=",".join(tasks), seed=BASE.seed, device="cpu", overwrite=True)
        return output


@dataclass(frozen=True)
class AcrossStudies:
    """One model of the shared task, each study tested by models of the others; without one study to choose windows."""

    model: str
    windows: tuple[float, float]
    place: Place
    left_out: str = ""

    @property
    def studies(self) -> tuple[str, ...]:
        """Return the studies that are tested."""
        return tuple(study for study in STUDIES if study != self.left_out)

    @property
    def name(self) -> str:
        """Return what it is called."""
        without = f" without {self.left_out}" if self.left_out else ""
        return f"studies {self.model} {self.windows[0]:g} s{without}"

    def identity(self) -> dict[str, Any]:
        """Return everything that the result depends on."""
        return {"measurement": VERSION, "model": self.model, "windows": list(self.windows), "studies": self.studies}

    def run(self) -> dict[str, Any]:
        """Score it, the threshold as it is and moved without labels."""
        output = self.place.folder / "scores" / self.name.replace(" ", "-")
        stores = [self.place.store(study, self.windows) for study in self.studies]
        overrides = {"evaluation.split": "study", "evaluation.n_seeds": 1}
        bp.cross_validate(stores, output, model=self.model, task=TASK, overrides=overrides, device="cpu")
        length, step = self.windows
        moved = {adapt: moved_accuracies(output, adapt, step / length) for adapt in (PAST, ALL)}
        return {**scores_in(output), "moved": moved}


@dataclass(frozen=True)
class FromBase:
    """The network of one study, with the labels of some of the training people, from one beginning: a draw of folds.

    Folds and people with labels are the same for every beginning; who has labels among few has them among more. Epochs
    are those that would be planned for a study of so many people.
    """

    study: str
    arm: str
    n_labelled: int
    draw: int
    place: Place

    @property
    def name(self) -> str:
        """Return what it is called."""
        return f"studies {self.study} {self.n_labelled} labelled draw {self.draw} {self.arm}"

    def identity(self) -> dict[str, Any]:
        """Return everything that the result depends on."""
        kept = {key: value for key, value in asdict(self).items() if key != "place"}
        return {"measurement": VERSION, "windows": list(WINDOWS[0]), "folds": N_FOLDS, **kept}

    def run(self) -> dict[str, Any]:
        """Cross-validate it over people whom neither it nor what it begins with has seen."""
        output = self.place.folder / "scores" / self.name.replace(" ", "-").replace(",", "")
        cross_validate(self.request, output, n_jobs=1)
        low, high = count_labels(read_run(output)["folds"])["subjects_labelled"]
        return {**scores_in(output), "labelled": [low, high]}

    @cached_property
    def request(self) -> EvaluationRequest:
        """Return the cross-validation."""
        store = self.place.store(self.study, WINDOWS[0])
        start = None if self.arm == NEW else self.place.base_without(self.study)
        is_pretrained = self.arm == BASE_AND_SIGNALS
        purpose = Purpose.of("cross-validate", NETWORK, TASK, start_from=start, pretrain=is_pretrained)
        share = self.n_labelled / training_side(len(people_of(store)))
        changes = ["evaluation.split=k-fold", f"evaluation.n_folds={N_FOLDS}", "evaluation.n_seeds=1"]
        changes += [f"evaluation.label_share={min(share, 1.0)}", f"training.n_epochs={self._epochs(store)}"]
        config, _ = load_config_for(store, None, changes, purposes=[purpose])
        fit = config.fit(start, is_pretrained=is_pretrained)
        return replace(config.request([store]), task=TASK, fit=fit, seed=self.draw, device="cpu")

    def _epochs(self, store: Path) -> int:
        with open_store(store) as opened:
            windows = plan_evaluation(opened, EvaluationRequest(store, task=TASK), needs_folds=False).windows
        n_windows = len(windows) * self.n_labelled // len(windows.subjects)
        planned = {name: value for name, value, _ in network_settings(Size(self.n_labelled, n_windows, 0))}
        return int(planned["training.n_epochs"])


def people_of(store: Path) -> tuple[str, ...]:
    """Return the people of a store."""
    with open_store(store) as opened:
        return tuple(sorted({recording.subject for recording in opened.recordings}))


def training_side(n_people: int) -> int:
    """Return how many people the training side of a fold has."""
    return n_people - -(-n_people // N_FOLDS)


def labelled_counts(n_people: int) -> tuple[int, ...]:
    """Return the numbers of people with labels that are tried in a study.

    >>> labelled_counts(34), labelled_counts(18)
    ((5, 10, 20), (5, 10, 14))
    """
    most = training_side(n_people)
    return tuple(dict.fromkeys(min(n, most) for n in LABELLED))


def scores_in(folder: Path) -> dict[str, Any]:
    """Return people and their scores, None where one is not defined."""
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    scores = {m: [float(row[m]) if row[m] else None for row in rows] for m in ("balanced_accuracy", "auroc")}
    document = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return {"people": [row["participant_id"] for row in rows], **scores, "warnings": document["warnings"]}


def moved_accuracies(folder: Path, adapt: str, weight: float) -> dict[str, float]:
    """Return the balanced accuracy of people once each recording's threshold was moved by its labelled windows.

    ``weight`` is the part of a window that the one before it does not have. People of whom no recording holds two
    classes have none: nothing in such a file shows where the middle of two lies.
    """
    recordings: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            key = (row["participant_id"], row["session"], row["recording"])
            recordings.setdefault(key, []).append(row)
    classes = [name for name in next(iter(recordings.values()))[0] if name.startswith("probability_")]
    answers: dict[str, list[tuple[Any, Any, bool]]] = {}
    for (person, *_), rows in recordings.items():
        onset = np.array([float(row["onset"]) for row in rows])
        order = np.argsort(onset, kind="stable")
        onset, rows = onset[order], [rows[k] for k in order]
        given = np.array([[float(row[name] or "nan") for name in classes] for row in rows])
        shift = shift_at(adapt, onset, onset, log_odds_of(given), weight)
        target = np.array([classes.index(f"probability_{row['label']}") for row in rows])
        answers.setdefault(person, []).append((target, shifted(given, shift), len(set(target.tolist())) > 1))
    accuracies = {}
    for person, parts in answers.items():
        if any(has_two for _, _, has_two in parts):
            target, moved = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
            known = np.isfinite(moved).all(axis=1)
            if (accuracy := score_subject(person, target[known], moved[known]).balanced_accuracy) is not None:
                accuracies[person] = float(accuracy)
    return accuracies


def across_units(place: Place, models: Sequence[str]) -> list[AcrossStudies]:
    """Return the scores of models by study, with the windows of ``base``."""
    return [AcrossStudies(model, WINDOWS[0], place) for model in models]


def choice_units(place: Place, models: Sequence[str]) -> list[AcrossStudies]:
    """Return what windows are chosen by, and the scores with windows that are not those of ``base``."""
    inner = [AcrossStudies(m, w, place, left_out=study) for m in models for w in WINDOWS for study in STUDIES]
    return [*inner, *(AcrossStudies(m, w, place) for m in models for w in WINDOWS[1:])]


def start_units(place: Place, arms: Sequence[str], n_draws: int) -> Iterator[FromBase]:
    """Give the scores by number of people with labels and by beginning, of every study and draw."""
    for study in STUDIES:
        for n_labelled in labelled_counts(len(people_of(place.store(study, WINDOWS[0])))):
            for draw in range(n_draws):
                for arm in arms:
                    yield FromBase(study, arm, n_labelled, draw, place)


def chosen_windows(
    results: Mapping[tuple[str, tuple[float, float], str], Mapping[str, Any]], model: str, study: str
) -> tuple[float, float]:
    """Return the windows with the best mean over people of the other studies, each tested by the other one.

    ``results`` by model, windows and the study that is left out.
    """

    def mean(windows: tuple[float, float]) -> float:
        values = [v for v in results[model, windows, study]["balanced_accuracy"] if v is not None]
        return float(np.mean(values))

    return max(WINDOWS, key=mean)
