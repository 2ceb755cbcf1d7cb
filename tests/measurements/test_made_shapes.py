"""Made studies of many shapes are what they say, and the page compares what was scored on the same people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biopercept.files import write_text
from biopercept.loaders.loading import load_recording
from biopercept.planning.fingerprint import fingerprint_of_study
from biopercept.planning.rules import plan_of
from biopercept.studies.loading import load_study
from measurements.planted_shapes import LOADS, SHAPES, Shape, write_study
from measurements.shapes import AUTO, CLASSES, NUMBERS, PRESETS, SHARED, ShapeScore, units
from measurements.shapes_page import _differences, _main_table, _scores, _sentences
from measurements.shapes_windows import scores_on_common_windows

EDA = next(shape for shape in SHAPES if shape.name == "one sensor")


def few(shape: Shape, n_people: int = 2) -> Shape:
    """Return the shape with few people."""
    return replace(shape, n_people=n_people)


@pytest.mark.parametrize(
    "shape", [s for s in SHAPES if s.name in ("files", "eight people", "EEG", "rating")], ids=lambda s: s.name
)
def test_a_made_study_has_the_people_sensors_and_labels_of_its_shape(shape: Shape, tmp_path: Path) -> None:
    write_study(few(shape), tmp_path)
    plan = plan_of(fingerprint_of_study(load_study(tmp_path)))
    assert not plan.faults
    [task] = plan.study.tasks
    assert (plan.study.n_subjects, task.is_file_label, task.is_rating) == (
        2, shape.label == "files", shape.label == "rating",
    )  # fmt: skip
    assert [made.name for made in task.classes] == ([] if shape.is_of_numbers else list(shape.classes))
    assert {sensor.modality.upper() for sensor in plan.study.sensors or ()} == set(shape.sensors)
    assert task.seconds_per_subject == shape.seconds


def test_the_same_seed_makes_the_same_people_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_study(few(EDA), tmp_path / name, seed)
    files = [{p.name: p.read_bytes() for p in sorted((tmp_path / name / "recordings").iterdir())} for name in "abc"]
    assert files[0] == files[1]
    assert all(files[0][name] != files[2][name] for name in files[0])


def test_skin_responds_more_often_where_a_class_moves_it(tmp_path: Path) -> None:
    """Seconds in which skin conductance rises, of people who react strongly to a class, and who do not react at all."""
    share = {}
    for effect in (0.0, 4.0):
        write_study(replace(EDA, n_people=4, effect=effect), tmp_path / str(effect))
        rises: dict[str, list[float]] = {"rest": [], "mental": []}
        for entry in load_study(tmp_path / str(effect)).entries:
            skin = load_recording(entry.files[0].path, subject=entry.subject, name="all").signals[0].read()[0]
            for stage in entry.intervals:
                first = round(4 * stage.onset_seconds)
                steps = np.diff(skin[first : first + round(4 * stage.duration_seconds) : 4])
                rises[stage.label].append(float((steps > 0.05).mean()))
        share[effect] = np.mean(rises["mental"]) - np.mean(rises["rest"])
    assert LOADS["mental"][2] > LOADS["rest"][2] == 0
    assert share[4.0] > 0.04 > 0.02 > abs(share[0.0])


def test_what_is_scored_is_the_plan_every_preset_and_the_baselines_of_each_seed(tmp_path: Path) -> None:
    one, rating, eeg, eight = (
        [shape for shape in SHAPES if shape.name == name] for name in ("one sensor", "rating", "EEG", "eight people")
    )
    of_classes = [(u.seed, u.settings, u.model) for u in units(tmp_path, 2, one)]
    assert len(of_classes) == len(set(of_classes)) == 2 * (1 + len(PRESETS) - 1 + len(CLASSES))  # no EEG: one less
    assert {u.model for u in units(tmp_path, 1, rating)} == {"perceiver-io", *NUMBERS}
    assert {u.settings for u in units(tmp_path, 1, eeg)} == {AUTO, *PRESETS}
    assert {u.seed for u in units(tmp_path, 2, eight)} == {*range(10)}  # of few people five times as many studies
    shared = replace(EDA, label=SHARED)
    assert {u.seed for u in units(tmp_path, 2, [shared])} == {0}
    assert not [*units(tmp_path, 0, [shared])]


def test_the_page_pairs_people_and_names_what_misses_its_bar(tmp_path: Path) -> None:
    shape = few(EDA, 4)
    by_name = {AUTO: (0.7, 0.6, 0.8, 0.7), "general": (0.8, 0.7, 0.9, 0.8), "stress-wrist": (0.5, 0.5, 0.5),
               "logistic": (0.9, 0.6, 0.8, 0.7), "boosting": (0.5,) * 4, "bagging": (0.5,) * 4}  # fmt: skip
    wanted, results = [], []
    for name, scores in by_name.items():
        is_network = name in (AUTO, *PRESETS)
        wanted.append(
            ShapeScore(shape, 0, name if is_network else AUTO, "perceiver-io" if is_network else name, tmp_path)
        )
        people = [f"P{i + 1:02d}" for i in range(len(scores))]  # stress-wrist: nothing of the last one
        of_metrics = dict.fromkeys(("balanced_accuracy", "macro_f1", "auroc"), scores)
        results.append({"people": people, "scores": of_metrics, "seconds": 1.0})
    scored = _scores(wanted, results)
    write_answers(wanted[0].output, 60, [0.6, 0.4, 0.4, 0.4])  # right, wrong, right, right
    write_answers(wanted[1].output, 60, [0.6, 0.6, 0.4, 0.4])  # all right
    differences = _differences([shape], wanted, scored)
    row = _main_table([shape], scored, differences).splitlines()[2]
    assert row == (
        "| one sensor (4) | 70.0 | 80.0 | 50.0 | – | 75.0 | 50.0 | 50.0 | -25.0 (0.0) general | -5.0 (5.0) |"
    )
    assert _sentences(differences) == (
        "More than 0.01 behind the best preset: one sensor (general -25.0 (0.0)). Below the linear model by more than "
        "two standard errors: none.\n"
    )


def write_answers(folder: Path, seconds: int, of_rest: list[float], label: str = "rest rest mental mental") -> None:
    """Write the predictions of two people in windows that follow each other: the probability of rest, and its class."""
    rows = []
    for person in ("P01", "P02"):
        for number, (rest, truth) in enumerate(zip(of_rest, label.split(), strict=True)):
            rows.append(f"{person},,all,{number * seconds},{seconds},{truth},{rest},{1 - rest}")
    write_text(folder / "predictions.csv", "\n".join([_ANSWERS, *rows]) + "\n")


_ANSWERS = "participant_id,session,recording,onset,duration,label,probability_rest,probability_mental"


def test_short_windows_are_averaged_over_the_long_ones_that_hold_them(tmp_path: Path) -> None:
    write_answers(tmp_path / "short", 60, [0.9, 0.4, 0.1, 0.2])  # wrong in the second minute, and right over both
    write_answers(tmp_path / "long", 120, [0.4, 0.3], "rest mental")
    pairs = scores_on_common_windows(tmp_path / "short", tmp_path / "long", "balanced_accuracy")
    assert pairs == {"P01": (1.0, 0.5), "P02": (1.0, 0.5)}
    turned = scores_on_common_windows(tmp_path / "long", tmp_path / "short", "balanced_accuracy")
    assert turned == {"P01": (0.5, 1.0), "P02": (0.5, 1.0)}
    alone = scores_on_common_windows(tmp_path / "short", tmp_path / "short", "balanced_accuracy")
    assert alone == {"P01": (0.75, 0.75), "P02": (0.75, 0.75)}
