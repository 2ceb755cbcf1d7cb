"""Groups of people: scores by hand, tests as SciPy makes them, and what is too small is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from made_results import SUBJECTS, write_cross_validation
from scipy.stats import permutation_test
from sklearn.metrics import confusion_matrix

from biopercept.comparison import groups as module
from biopercept.comparison.groups import Levels, levels_of, permutation_p, score_groups, write_groups
from biopercept.errors import SettingsError, StudyError
from biopercept.report.page import write_report
from biopercept.results.cross_validation import load_cross_validation

PEOPLE = tuple(f"S{number:02d}" for number in range(1, 15))
SITE = {name: "A" if place < 6 else "B" if place < 11 else "C" for place, name in enumerate(PEOPLE)}


def levels(people: tuple[str, ...] = PEOPLE) -> Levels:
    return {"site": {name: SITE[name] for name in people}}


def mean(values: np.ndarray, times: np.ndarray) -> float:
    return float(times @ values[: len(times)] / times.sum())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_validation(tmp_path_factory.mktemp("groups") / "run", subjects=PEOPLE)


def test_scores_of_a_group_are_those_of_its_people(folder: Path) -> None:
    groups = score_groups(folder, levels(), n_bootstrap=200)
    value = {(row.group, row.score): row for row in groups.scores}
    run = load_cross_validation(folder)
    subject = np.array([key[0] for key in run.predictions.keys])
    for site, n in (("A", 6), ("B", 5), ("C", 3)):
        people = [name for name in PEOPLE if SITE[name] == site]
        accuracy = [row.balanced_accuracy for row in run.subjects if row.participant in people]
        rates = []
        for name in people:
            rows = np.flatnonzero(subject == name)
            label, predicted = ([part[i] for i in rows] for part in (run.predictions.label, run.predictions.predicted))
            (right, wrong), _ = confusion_matrix(label, predicted, labels=["rest", "stress"])
            rates.append(wrong / (right + wrong))
        assert value[site, "balanced_accuracy"].value == pytest.approx(np.mean(accuracy))
        assert value[site, "false_positive_rate"].value == pytest.approx(np.mean(rates))
        assert value[site, "ece"].n_subjects == n
        assert value[site, "ece"].n_windows == 24 * n
        confidence = run.predictions.probabilities.max(axis=1)
        is_right = np.array(run.predictions.label) == np.array(run.predictions.predicted)
        order = np.argsort(confidence, kind="stable")
        order = order[np.isin(subject[order], people)]
        bins = ((np.arange(len(order)) + 0.5) / len(order) * 15).astype(int)  # of equal mass
        gaps = [abs((confidence - is_right)[order[bins == k]].sum()) for k in range(15)]
        assert value[site, "ece"].value == pytest.approx(sum(gaps) / len(order))


@pytest.mark.parametrize("n_other", [5, 12])
def test_the_test_of_a_difference_is_scipys(n_other: int) -> None:
    random = np.random.default_rng(3)
    values = np.concatenate([random.normal(size=6), random.normal(0.9, 1, size=n_other)])
    one, other = np.arange(6), np.arange(6, 6 + n_other)
    exact = permutation_test(
        (values[one], values[other]),
        lambda a, b, axis=-1: np.abs(a.mean(axis=axis) - b.mean(axis=axis)),
        vectorized=True,
        n_resamples=np.inf,
        alternative="greater",
    ).pvalue
    reached = permutation_p(lambda times: mean(values, times), one, other)
    assert reached == pytest.approx(exact, abs=1e-12 if n_other == 5 else 0.01)  # all 462 deals; some of 18,564


def test_only_large_enough_groups_are_compared_and_p_values_are_holms(folder: Path) -> None:
    groups = score_groups(folder, levels(), n_bootstrap=200)
    assert {(d.first, d.second) for d in groups.differences} == {("A", "B")}
    assert groups.warnings[0] == "groups by site of fewer than 5 people are too small to be compared: C (3)"
    raw = sorted(d.p for d in groups.differences)
    assert min(d.p_holm for d in groups.differences) == pytest.approx(min(1.0, len(raw) * raw[0]))
    accuracy = next(d for d in groups.differences if d.score == "balanced_accuracy")
    value = {(row.group, row.score): row.value for row in groups.scores}
    assert accuracy.difference == pytest.approx(value["A", "balanced_accuracy"] - value["B", "balanced_accuracy"])
    assert accuracy.ci95 is not None
    assert accuracy.ci95[0] < accuracy.difference < accuracy.ci95[1]


def test_a_group_that_the_model_fails_is_told_in_words_and_on_the_page(tmp_path: Path) -> None:
    folder = write_cross_validation(tmp_path / "run", subjects=PEOPLE, skill=4.0)
    path = folder / "predictions.csv"
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        if SITE[row["participant_id"]] == "A":  # the other class, with the probabilities to it
            row["predicted"] = "stress"
            row["probability_rest"], row["probability_stress"] = "0.1", "0.9"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    warnings = write_groups(folder, levels(), n_bootstrap=200)
    assert any(w.startswith("by site, A and B differ in false-positive rate by +") for w in warnings)
    page = write_report(folder).read_text()
    assert "windows wrongly predicted as stress" in page
    assert "By site, A and B differ in false-positive rate by +" in page
    assert "3 (too few to compare)" in page
    document = json.loads((folder / "groups.json").read_text())
    assert document["schema"] == 1
    with (folder / "groups.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == len(document["scores"]) == 15


def test_unknown_columns_people_and_values_are_sentences(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tsex\tage\n" + "".join(f"sub-{s}\tn/a\t{i}\n" for i, s in enumerate(PEOPLE)))
    with pytest.raises(SettingsError, match=r"the column 'sexx', which participants\.tsv lacks.*it has: age, sex"):
        levels_of(table, ("sexx",))
    with pytest.raises(SettingsError, match="the column 'age' has 14 different values for 14 people, and at most 12"):
        score_groups(folder, levels_of(table, ("age",)))
    with pytest.raises(StudyError, match=r"participants\.tsv does not list S09, S10, S11, S12, S13, S14, whose group"):
        score_groups(folder, levels(SUBJECTS))
    nobody = score_groups(folder, levels_of(table, ("sex",)), n_bootstrap=200)
    assert nobody.warnings == ("14 of 14 people have no sex in participants.tsv",)
    assert {row.group for row in nobody.scores} == {module.UNKNOWN}
    assert nobody.differences == ()
