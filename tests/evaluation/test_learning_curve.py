"""Learning curves: nested labels on the same folds, resumable, every point that of its own cross-validation."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from biopercept.cli.main import main
from biopercept.errors import SettingsError
from biopercept.evaluation.learning_curve import parse_shares
from biopercept.report.curves import learning_page
from biopercept.results.curves import LearningCurve, LearningPoint
from biopercept.results.reading import read_result


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(word) for word in words])
    return int(leaving.value.code or 0)


def test_a_curve_has_a_point_per_share_and_goes_on_where_it_stopped(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, out = made.store(tmp_path / "made.h5", made.study(9)), tmp_path / "curve"
    words = ("learning-curve", store, "-o", out, "--model", "logistic", "--split", "k-fold", "--folds", 2)
    whole = words = (*words, "--set", "evaluation.n_bootstrap=200")
    words = (*words, "--shares", "1,0.25,0.6")
    assert run(*words) == 0
    printed = capsys.readouterr()
    assert "**Learning curve of logistic" in (out / "learning_curve.md").read_text()
    assert "Learning curve of logistic" in printed.out and "**" not in printed.out and "---:" not in printed.out
    document = json.loads((out / "learning_curve.json").read_text())
    assert [point["share"] for point in document["points"]] == [0.25, 0.6, 1.0]
    for point in document["points"]:
        scores = json.loads((out / f"share-{point['share']:g}" / "scores.json").read_text())
        assert (point["mean"], point["ci95"]) == (
            scores["balanced_accuracy"]["mean"],
            scores["balanced_accuracy"]["ci95"],
        )
        assert point["subjects_labelled"] == scores["labels"]["subjects_labelled"]
    sets = [
        [set(f["training"]) | set(f["validation"]) for f in json.loads(path.read_text())["folds"]]
        for path in (out / f"share-{share}" / "folds.json" for share in ("0.25", "0.6", "1"))
    ]
    assert all(few < more for few, more in zip(sets[0], sets[-1], strict=True))
    assert all(few <= more for less, full in pairwise(sets) for few, more in zip(less, full, strict=True))
    with (out / "learning_curve.csv").open() as stream:
        assert [float(row["mean"]) for row in csv.DictReader(stream)] == [p["mean"] for p in document["points"]]
    told = read_result(out / LearningCurve.FILE, LearningCurve).points
    assert [(p.share, list(p.subjects_labelled), p.mean, list(p.ci95 or ())) for p in told] == [
        (p["share"], p["subjects_labelled"], p["mean"], p["ci95"]) for p in document["points"]
    ]
    assert "| 1 | 4 to 5 | stress | balanced accuracy |" in (out / "learning_curve.md").read_text()
    (out / "share-1" / "folds" / "002.json").unlink()
    assert run(*words) == 0
    told = capsys.readouterr().err
    assert told.count("was done before") == 5
    assert json.loads((out / "learning_curve.json").read_text()) == document
    (out / "share-mine").mkdir()
    assert run(*whole, "--shares", "0.6,1", "--overwrite") == 0
    assert sorted(path.name for path in out.glob("share-*")) == ["share-0.6", "share-1", "share-mine"]


def test_a_curve_on_given_folds_has_them_at_every_share(made: ModuleType, tmp_path: Path) -> None:
    store = made.store(tmp_path / "made.h5", made.study(9))
    words = (store, "--model", "logistic", "--set", "evaluation.n_bootstrap=200")
    assert run("cross-validate", *words, "-o", tmp_path / "cv", "--split", "k-fold", "--folds", 3, "--stratify") == 0
    words = ("learning-curve", *words, "--shares", "0.4,1")
    assert run(*words, "-o", tmp_path / "taken", "--folds-from", tmp_path / "cv", "--seed", 7) == 0
    assert run(*words, "-o", tmp_path / "dealt", "--split", "k-fold", "--folds", 3, "--stratify") == 0
    whole = folds_of(tmp_path / "cv")
    assert folds_of(tmp_path / "taken" / "share-1") == folds_of(tmp_path / "dealt" / "share-1") == whole
    few = folds_of(tmp_path / "taken" / "share-0.4")
    assert few == folds_of(tmp_path / "dealt" / "share-0.4")
    assert [fold["test"] for fold in few] == [fold["test"] for fold in whole]
    assert all(fold["unlabelled"] for fold in few)


def folds_of(folder: Path) -> list[dict[str, object]]:
    held: list[dict[str, object]] = json.loads((folder / "folds.json").read_text())["folds"]
    return held


def test_what_cross_validate_refuses_of_folds_and_weights_the_curve_refuses_in_the_same_words(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, few = made.store(tmp_path / "made.h5", made.study(9)), tmp_path / "few"
    words = (store, "--model", "logistic", "--set", "evaluation.n_bootstrap=200")
    k_fold = ("--split", "k-fold", "--folds", 2)
    assert run("cross-validate", *words, *k_fold, "-o", few, "--label-share", 0.5) == 0
    capsys.readouterr()
    asked = [
        (("--split", "subject", "--stratify"), "--stratify balances the folds of k-fold; evaluation.split is"),
        (("--folds-from", tmp_path), f"{tmp_path} holds no folds of a cross-validation; --folds-from takes its result"),
        (("--folds-from", few, "--split", "subject"), f"{few} holds folds of split k-fold, and split is su"),
        (
            ("--folds-from", few),
            f"{few} holds folds of label_share 0.5, and label_share is 1.0 here; give the sa",
        ),
        (("--start-from", tmp_path), "--start-from and --pretrain are for perceiver-io; the model is logistic"),
    ]
    for number, (options, sentence) in enumerate(asked):
        told = []
        for command, more in (("cross-validate", ()), ("learning-curve", ("--shares", "0.5,1"))):
            assert run(command, *words, *options, *more, "-o", tmp_path / f"{command}-{number}") == 2
            told.append(capsys.readouterr().err)
        assert sentence in told[0]
        assert told[0] == told[1]
        assert not list((tmp_path / f"learning-curve-{number}").rglob("folds.json"))


@pytest.mark.parametrize("text", ["", "0,1", "0.5,2", "half", "nan"])
def test_shares_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_shares(text)
    assert str(refused.value) == (
        f"--shares is {text!r}; give numbers above 0 and at most 1 with commas, such as 0.25,0.5,1"
    )


def test_an_output_that_holds_something_else_is_refused(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, out = made.store(tmp_path / "made.h5", made.study(3)), tmp_path / "curve"
    words = ("learning-curve", store, "-o", out, "--model", "logistic", "--set", "evaluation.n_bootstrap=200")
    out.mkdir()
    (out / "notes").write_text("mine")
    assert run(*words) == 2
    assert f"{out} is not empty and holds no learning curve; choose another output or add --overwrite" in (
        capsys.readouterr().err
    )
    assert [path.name for path in out.iterdir()] == ["notes"]
    assert run("learning-curve", store, "-o", out / "notes") == 2
    assert f"{out / 'notes'} is a file; choose a folder for the results" in capsys.readouterr().err


def test_there_is_no_way_to_split_windows_at_random(made: ModuleType, tmp_path: Path) -> None:
    """Only whole subjects, studies or a subject's own time are split; the audit's contrast alone deals windows."""
    from biopercept.evaluation.settings import EvaluationSettings

    for name in ("random", "window", "windows", "shuffle", "stratified"):
        with pytest.raises(SettingsError, match=r"evaluation\.split is '.*'; allowed are subject, k-fold"):
            EvaluationSettings(split=name)
    package = Path(__file__).parents[2] / "biopercept"
    words = ("import KFold", "ShuffleSplit", "train_test_split", "StratifiedKFold", "cross_val_score")
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if any(word in line for word in words)
    }
    assert users == {"audit/confounds.py"}


def test_the_page_carries_the_warnings_of_the_scores() -> None:
    point = LearningPoint(share=1.0, subjects_labelled=(4, 4), task="stress", score="mae", mean=0.5, ci95=None)
    page = learning_page(LearningCurve(model="perceiver-io", points=(point,), warnings=("LEAK: seen before",)))
    assert page.endswith("\n\nLEAK: seen before\n")
