"""Several studies compared at once: subjects are pooled within their study, beside each study by itself."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import permutation_test, rankdata, wilcoxon

from biopercept.comparison.comparison import compare, write_comparison
from biopercept.errors import SettingsError, StudyError
from biopercept.measures.statistics import holm, sign_flip_p
from biopercept.report.page import write_report
from biopercept.results.comparison import Comparison
from biopercept.results.reading import read_result

Run = Callable[..., Path]
SIZES = {"wrist": 9, "chest": 6, "head": 4}
MODELS = ("perceiver-io", "boosting", "logistic")


def of_study(name: str, **changes: Any) -> dict[str, Any]:
    return {"study": name, "fingerprint": {"store": f"{name:x<64}", "biopercept": "0.1.0"}, **changes}


@pytest.fixture
def scores() -> dict[str, dict[str, np.ndarray]]:
    """Scores by study and model; in the head boosting is ahead of the network."""
    random = np.random.default_rng(3)
    made: dict[str, dict[str, np.ndarray]] = {}
    for study, n in SIZES.items():
        made[study] = {"logistic": random.uniform(0.5, 0.8, n)}
        made[study]["perceiver-io"] = made[study]["logistic"] + random.uniform(0.02, 0.1, n)
        lead = 0.03 if study == "head" else -0.05
        made[study]["boosting"] = made[study]["perceiver-io"] + lead + random.normal(0, 0.01, n)
    return made


@pytest.fixture
def studies(tmp_path: Path, run: Run, scores: dict[str, dict[str, np.ndarray]]) -> list[Path]:
    """A folder per study, which holds three models; subjects have the same ids in all."""
    for study, by_model in scores.items():
        for model, values in by_model.items():
            run(tmp_path / study / model, values, model=model, **of_study(study))
    return [tmp_path / study for study in scores]


def test_subjects_of_all_studies_are_tested_together_as_scipy_tests_them(
    studies: list[Path], scores: dict[str, dict[str, np.ndarray]]
) -> None:
    result = compare(studies, reference="perceiver-io", n_resamples=2000)
    assert (result.n_subjects, result.study, result.store, result.classes) == (19, "pooled", "", ("rest", "stress"))
    assert result.contenders[0].label == "perceiver-io" and len(result.pairs) == 2
    for pair in result.pairs:
        by_study = [scores[study][pair.first] - scores[study]["perceiver-io"] for study in SIZES]
        pooled = np.concatenate(by_study)
        assert pair.p == pytest.approx(wilcoxon(pooled, method="exact").pvalue)
        assert (pair.n, pair.mean_difference) == (19, pytest.approx(pooled.mean()))
        assert pair.mean_of_studies == pytest.approx(np.mean([part.mean() for part in by_study]))
        signed = np.sign(pooled) * rankdata(np.abs(pooled))
        assert pair.rank_biserial == pytest.approx(signed.sum() / np.abs(signed).sum())
    assert [pair.p_holm for pair in result.pairs] == list(holm([pair.p for pair in result.pairs]))
    assert [pair.flip_p_holm for pair in result.pairs] == list(holm([pair.flip_p or 0 for pair in result.pairs]))


def test_each_study_is_what_it_is_when_compared_alone(studies: list[Path]) -> None:
    result = compare(studies, reference="perceiver-io", n_resamples=2000)
    for folder, part in zip(studies, result.studies, strict=True):
        alone = compare([folder], reference="perceiver-io", n_resamples=2000)
        assert [(p.first, p.p, p.ci95) for p in part.pairs] == [(p.first, p.p, p.ci95) for p in alone.pairs]
        assert (part.study, part.n_subjects, part.friedman) == (folder.name, alone.n_subjects, alone.friedman)


def test_where_the_reference_is_below_is_said_by_study(studies: list[Path]) -> None:
    text = " ".join(compare(studies, reference="perceiver-io", n_resamples=2000).findings)
    assert "By the means of each study by itself, perceiver-io is on head below boosting by 0.0" in text
    assert "(none significant); on the others of 3 studies below none." in text
    without_head = compare(studies[:2], reference="perceiver-io", n_resamples=2000).findings
    assert "On each of 2 studies by itself the mean of perceiver-io is below that of no other model." in without_head
    every_pair = " ".join(compare(studies, n_resamples=2000).findings)
    assert "A study by itself has the other direction for perceiver-io minus boosting (head -0.0" in every_pair


@pytest.mark.parametrize(("sizes", "n_flips", "within"), [((6, 4), 100_000, 1e-9), ((7, 6), 8000, 0.01)])
def test_permutation_of_signs_is_that_of_scipy(sizes: Sequence[int], n_flips: int, within: float) -> None:
    """Every assignment of 10 signs is tried by both; of 13 ours draws some, and scipy tries all 8192."""
    differences = np.random.default_rng(1).normal(0.02, 0.06, sum(sizes))

    def mean_of_means(values: np.ndarray, axis: int) -> np.ndarray:
        first, second = np.split(np.moveaxis(values, axis, -1), [sizes[0]], axis=-1)
        return (first.mean(axis=-1) + second.mean(axis=-1)) / 2

    oracle = permutation_test(
        (differences,), mean_of_means, permutation_type="samples", vectorized=True, n_resamples=10_000
    )
    assert sign_flip_p(differences, sizes, seed=0, n_flips=n_flips) == pytest.approx(oracle.pvalue, abs=within)


def test_a_large_study_cannot_hide_that_studies_disagree(tmp_path: Path, run: Run) -> None:
    """Twenty people gain a little, six lose as much twice over: pooled it is a gain, by studies it is none."""
    gains = {"large": np.linspace(0.02, 0.06, 20), "small": np.linspace(-0.03, -0.05, 5)}
    for study, gain in gains.items():
        run(tmp_path / study / "a", 0.6 + gain, model="lstm", **of_study(study))
        run(tmp_path / study / "b", [0.6] * len(gain), model="lda", **of_study(study))
    result = compare([tmp_path], n_resamples=2000)
    [pair] = result.pairs
    assert pair.is_established and (pair.flip_p_holm or 0) > 0.5
    assert pair.mean_of_studies == pytest.approx(0.0, abs=1e-9) and pair.mean_difference == pytest.approx(0.024)
    low, high = pair.ci95 or (0, 0)
    assert high - low < 0.012, "resampled within studies: which study somebody is of is no chance"
    assert any("It matters whether subjects or studies count the same" in text for text in result.findings)


@pytest.mark.figures
def test_files_and_page_show_all_and_each_study(studies: list[Path], tmp_path: Path) -> None:
    result = compare(studies, reference="perceiver-io", n_resamples=2000)
    write_comparison(result, tmp_path / "out")
    assert read_result(tmp_path / "out" / Comparison.FILE, Comparison) == result
    with (tmp_path / "out" / "compare.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["study"] for row in rows] == [name for name in ("pooled", *SIZES) for _ in range(2)]
    assert list(result.to_frame()["study"]) == [row["study"] for row in rows]
    for page in ((tmp_path / "out" / "compare.md").read_text(), write_report(tmp_path / "out").read_text()):
        assert all(f"{name} (n = {n})" in page for name, n in SIZES.items()) and "All (n = 19)" in page
        assert "Mean of studies" in page and "Studies are fixed" in page
    assert (tmp_path / "out" / "compare.tex").read_text().count(r"\begin{tabular}") == 4


def test_studies_that_say_no_name_go_by_their_folders_with_a_caution(
    tmp_path: Path, run: Run, scores: dict[str, dict[str, np.ndarray]]
) -> None:
    for study in ("wrist", "chest"):  # folders side by side, and one model with a longer name
        for model in MODELS:
            name = study if model == "perceiver-io" else f"{study}-{model}"
            run(tmp_path / name, scores[study][model], model=model, **of_study(study, study=""))
    result = compare([tmp_path], reference=str(tmp_path / "chest"), n_resamples=2000)
    assert [part.study for part in result.studies] == ["chest", "wrist"] and result.reference == "perceiver-io"
    assert any("chest, wrist do not say which study they are of" in text for text in result.cautions)


def test_two_runs_of_a_model_are_matched_by_their_folders(
    tmp_path: Path, run: Run, scores: dict[str, dict[str, np.ndarray]]
) -> None:
    for study, values in scores.items():
        run(tmp_path / study / "wide", values["perceiver-io"], model="lstm", **of_study(study))
        run(tmp_path / study / "deep", values["logistic"], model="lstm", **of_study(study))
    result = compare([tmp_path], reference="deep", n_resamples=2000)
    assert [(pair.first, pair.second) for pair in result.pairs] == [("lstm (wide)", "lstm (deep)")]
    run(tmp_path / "wrist" / "more" / "wide", scores["wrist"]["logistic"], model="lda", **of_study("wrist"))
    with pytest.raises(StudyError, match="study wrist has 2 cross-validations in folders called wide"):
        compare([tmp_path])


def test_other_questions_and_probes_and_leaks_are_said_of_their_study(studies: list[Path], run: Run) -> None:
    for folder in studies:
        changes = {"warnings": ["LEAK: seen before"]} if folder.name == "chest" else {}
        n = SIZES[folder.name]
        run(folder / "clock", [0.9] * n, model="clock-only", **of_study(folder.name, **changes))
    result = compare(studies, n_resamples=2000)
    assert result.cautions[0] == "chest: clock-only (probe): LEAK: seen before."
    assert any("is a probe that must not be good" in text for text in result.cautions)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"study": "wrist"},
            "wrist/boosting and neck/logistic scored different stores of the study wrist, whose people would count "
            "twice; run cross-validate for both on the same store",
        ),
        (
            {"model": "lda"},
            "a comparison over studies needs every model in each of them, and logistic is missing in neck; lda is "
            "missing in wrist; run cross-validate for it there, or give the folders of those that all have",
        ),
    ],
)
def test_what_is_no_comparison_over_studies_is_refused(
    studies: list[Path], tmp_path: Path, run: Run, changes: dict[str, Any], sentence: str
) -> None:
    run(tmp_path / "neck" / "logistic", [0.5, 0.6, 0.7], **{"model": "logistic", **of_study("neck"), **changes})
    run(tmp_path / "neck" / "perceiver-io", [0.6, 0.7, 0.7], model="perceiver-io", **of_study("neck"))
    run(tmp_path / "neck" / "boosting", [0.6, 0.7, 0.7], model="boosting", **of_study("neck"))
    with pytest.raises(StudyError) as refused:
        compare([tmp_path / "wrist", tmp_path / "neck"])
    assert str(refused.value) == sentence


def test_a_metric_that_a_study_lacks_is_refused(studies: list[Path]) -> None:
    with pytest.raises(StudyError, match="wrist/boosting has no auroc of any subject"):
        compare(studies, metric="auroc")
    with pytest.raises(SettingsError, match="metric is 'kappa'"):
        compare(studies, metric="kappa")
