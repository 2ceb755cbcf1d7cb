"""Reading result folders: what is there is read exactly, what is missing or wrong is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import StudyError
from biopercept.results.cross_validation import load_cross_validation
from biopercept.results.folder import load_results, preparations_of


def change(folder: Path, **values: object) -> None:
    path = folder / "scores.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_a_cross_validation_is_read_as_it_was_written(finished: Path) -> None:
    held = load_cross_validation(finished)
    assert (held.model, held.task, held.classes, held.n_subjects) == ("perceiver-io", "stress", ("rest", "stress"), 8)
    assert held.auroc.ci95 == (0.76, 0.84) and held.auroc.pooled == 0.7921
    assert held.chance == {"majority": 0.6901, "dummy": 0.4987}
    assert len(held.predictions) == 8 * 24 and held.predictions.recordings[0] == ("S01", "", "run1")
    assert np.allclose(held.predictions.probabilities.sum(axis=1), 1, atol=1e-3)
    first = held.predictions.of_recording(("S03", "", "run1"))
    assert len(first) == 24 and np.all(np.diff(first.onset) > 0)


def test_ids_come_back_as_the_study_wrote_them(hostile_demo: Path, hostile_ids: tuple[str, ...]) -> None:
    held = load_results(hostile_demo).cross_validations[0]
    assert tuple(subject.participant for subject in held.subjects) == hostile_ids
    assert "'=1+1" in (held.folder / "scores.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["scores.csv", "predictions.csv", "config.yaml"])
def test_a_missing_file_is_named(finished: Path, name: str) -> None:
    (finished / name).unlink()
    with pytest.raises(StudyError, match=rf"{name} is missing; run the command that writes this folder again$"):
        load_results(finished)


@pytest.mark.parametrize("name", ["summary.csv", "failures.csv"])
def test_a_missing_table_of_predictions_is_named(
    tmp_path: Path, write_prediction_folder: Callable[..., Path], name: str
) -> None:
    folder = write_prediction_folder(tmp_path / "predicted")
    (folder / name).unlink()
    with pytest.raises(StudyError, match=rf"{name} is missing; run the command"):
        load_results(folder)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"schema": 2}, "has schema 2; this version of biopercept reads schema 1"),
        ({"model": None}, "has None for 'model'; text is needed"),
        ({"n_subjects": -3}, "has -3 for 'n_subjects'; a whole number of 0 or more is needed"),
        ({"n_windows": True}, "has True for 'n_windows'; a whole number"),
        ({"ece": "low"}, "has 'low' for 'ece'; a number or null is needed"),
        (
            {"balanced_accuracy": {"mean": 0.7, "ci95": [0.8, 0.6]}},
            "a list of two numbers, the lower one first, or null is needed",
        ),
        ({"balanced_accuracy": 0.7}, "has 0.7 for 'balanced_accuracy'; an object with named values is needed"),
        ({"classes": ["rest"]}, "two or more different ones are needed"),
        ({"transductive": "no"}, "has 'no' for 'transductive'; true or false is needed"),
        ({"classes": ["rest", "work"]}, "has 'stress' in column 'predicted'; the classes are: rest, work"),
    ],
)
def test_a_value_that_cannot_be_is_named(finished: Path, values: dict[str, object], sentence: str) -> None:
    change(finished, **values)
    with pytest.raises(StudyError) as fault:
        load_cross_validation(finished)
    assert sentence in str(fault.value)


def test_a_score_that_is_not_there_is_named(finished: Path) -> None:
    content = json.loads((finished / "scores.json").read_text(encoding="utf-8"))
    del content["balanced_accuracy"]
    (finished / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(StudyError, match="has no 'balanced_accuracy'; an object with named values is needed"):
        load_cross_validation(finished)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not valid JSON"),
        (b"[1]", "holds a JSON list; an object with named values is needed"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[" * 200_000, "is nested too deeply|is not valid JSON"),
        (
            b'{"schema": 1, "classes": ["a", "b"], "brier": NaN}',
            "has no 'model'; text is needed, run cross-validate again",
        ),
    ],
)
def test_a_damaged_scores_file_is_one_sentence(finished: Path, content: bytes, sentence: str) -> None:
    (finished / "scores.json").write_bytes(content)
    with pytest.raises(StudyError, match=sentence):
        load_cross_validation(finished)


def test_nan_in_scores_is_refused(finished: Path) -> None:
    change(finished, brier=float("nan"))
    with pytest.raises(StudyError, match="has nan for 'brier'; a number or null is needed"):
        load_cross_validation(finished)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("S01,", "S99,", "has subject 'S99', which scores.csv lacks; the two files come from different runs"),
        ("60.0", "inf", "has 'inf' in column 'duration', row 1; a number is needed"),
        ("60.0", "6_0", "has '6_0' in column 'duration', row 1; a number is needed"),
        ("rest", "rset", "has 'rset' in column 'label'; the classes are: rest, stress"),
        ("run1,", "run1,1,", "cells in row 1; its header has 11"),
    ],
)
def test_a_damaged_prediction_is_named_with_its_row(finished: Path, old: str, new: str, sentence: str) -> None:
    path = finished / "predictions.csv"
    head, body = path.read_text(encoding="utf-8").split("\n", 1)
    path.write_text(f"{head}\n{body.replace(old, new, 1)}", encoding="utf-8")
    with pytest.raises(StudyError) as fault:
        load_cross_validation(finished)
    assert sentence in str(fault.value)


def test_probabilities_that_are_none_are_refused(finished: Path) -> None:
    path = finished / "predictions.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = lines[5].split(",")
    cells[7:9] = ["0.9", "0.9"]
    path.write_text("\n".join([*lines[:5], ",".join(cells), *lines[6:]]), encoding="utf-8")
    with pytest.raises(StudyError, match="has probabilities in row 5 that are not between 0 and 1 with sum 1"):
        load_cross_validation(finished)


def test_a_parent_folder_is_read_whole_and_probes_come_last(demo: Path) -> None:
    results = load_results(demo)
    assert [held.name for held in results.cross_validations] == [
        "cross-validation/logistic", "cross-validation/perceiver-io", "cross-validation/clock-only",
    ]  # fmt: skip
    assert [folder.name for folder in results.predictions] == ["predictions"]
    assert [log.name for log in results.logs] == ["study.log.csv"]


def test_an_unfinished_cross_validation_is_named_and_the_rest_is_shown(demo: Path) -> None:
    (demo / "cross-validation" / "perceiver-io" / "scores.json").unlink()
    assert load_results(demo).unfinished == ("cross-validation/perceiver-io",)


def test_an_unfinished_cross_validation_alone_is_refused(finished: Path) -> None:
    (finished / "scores.json").unlink()
    with pytest.raises(StudyError, match=r"has not finished \(no scores\.json\); run the same cross-validate"):
        load_results(finished)


def test_a_folder_without_results_and_no_folder_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"holds no results; a report needs scores\.json"):
        load_results(tmp_path)
    with pytest.raises(StudyError, match=r"there is no folder .*nowhere; give one that"):
        load_results(tmp_path / "nowhere")


def test_links_to_folders_are_not_followed(demo: Path, finished: Path) -> None:
    (demo / "outside").symlink_to(finished)
    assert len(load_results(demo).cross_validations) == 3


def test_the_log_of_a_store_gives_kept_and_left_out_windows(
    tmp_path: Path, write_store_log: Callable[..., Path]
) -> None:
    write_store_log(tmp_path / "study.log.csv", failed=("S02",))
    rows = preparations_of(load_results(tmp_path).logs[0])
    assert rows[0].kept == 24 and rows[0].left_out == {"outside every interval": 5, "too short": 1}
    assert [row.key[0] for row in rows if row.is_failed] == ["S02"]
