"""Whole comparisons of made cross-validations: planted differences are found, what is no pair is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from biopercept.comparison.comparison import compare
from biopercept.errors import SettingsError, StudyError
from biopercept.evaluation.metrics import bootstrap_interval
from biopercept.measures.statistics import holm
from biopercept.results.comparison import Comparison, Pair

Run = Callable[..., Path]
FAIR = [0.6 + 0.01 * place for place in range(20)]
FOUR = [[f"S{i:02d}" for i in range(1, 21)][k::4] for k in range(4)]


def pair_of(held: Comparison, *labels: str) -> Pair:
    return next(pair for pair in held.pairs if {pair.first, pair.second} == set(labels))


def test_a_planted_difference_is_established_and_noise_is_not(three: Path) -> None:
    held = compare([three])
    assert [c.label for c in held.contenders] == ["perceiver-io", "logistic", "boosting"]
    good = pair_of(held, "perceiver-io", "logistic")
    assert (good.first, good.wins, good.ties, good.losses, good.n) == ("perceiver-io", 19, 0, 1, 20)
    assert good.is_established and good.mean_difference == pytest.approx((19 * 0.1 + 0.19 - 0.05) / 20)
    noise = pair_of(held, "boosting", "logistic")
    assert not noise.is_established
    assert noise.smallest_detectable is not None and abs(noise.mean_difference) < noise.smallest_detectable
    assert (noise.smallest_detectable_adjusted or 0) > noise.smallest_detectable
    assert held.friedman["p"] is not None and held.friedman["p"] < 0.001


def test_the_numbers_of_a_pair_are_those_of_the_parts(three: Path, tmp_path: Path, run: Run) -> None:
    random = np.random.default_rng(7)
    ours, theirs = random.uniform(0.5, 0.9, 15), random.uniform(0.4, 0.9, 15)
    run(tmp_path / "r" / "a", ours, model="lstm"), run(tmp_path / "r" / "b", theirs, model="lda")
    held = compare([tmp_path / "r"], seed=3, n_resamples=2500)
    pair = held.pairs[0]
    differences = ours - theirs if pair.first == "lstm" else theirs - ours
    assert pair.p == pytest.approx(wilcoxon(differences, method="exact").pvalue)
    assert pair.p_holm == pair.p  # one pair
    assert pair.ci95 == pytest.approx(bootstrap_interval(differences, seed=3, n_bootstrap=2500), abs=1e-9)
    assert pair.sd == pytest.approx(differences.std(ddof=1))
    assert held.friedman == {} and "Friedman" not in " ".join(held.findings)


def test_holm_is_over_all_pairs_or_over_those_with_the_reference(three: Path) -> None:
    every, one = compare([three]), compare([three], reference="logistic")
    assert [p.p_holm for p in every.pairs] == pytest.approx(holm([p.p for p in every.pairs]))
    assert len(every.pairs) == 3
    assert [(p.first, p.second) for p in one.pairs] == [("perceiver-io", "logistic"), ("boosting", "logistic")]
    assert [p.p_holm for p in one.pairs] == pytest.approx(holm([p.p for p in one.pairs]))
    assert "each with logistic" in one.findings[0]


def test_what_only_a_single_test_would_show_is_not_significant(tmp_path: Path, run: Run) -> None:
    for step, model in enumerate(("lstm", "lda", "boosting")):
        run(tmp_path / "r" / model, [0.5 + 0.1 * step + 0.01 * step * i for i in range(6)], model=model)
    held = compare([tmp_path / "r"])
    assert [(p.p, p.p_holm, p.is_established) for p in held.pairs] == [(0.03125, 0.09375, False)] * 3
    assert held.findings[1] == "No difference is significant at the 0.05 level."


def test_where_ranks_and_pairs_differ_it_is_said_of_whom_and_why(tmp_path: Path, run: Run) -> None:
    """Models one rank apart for everybody: every pair is significant, and no two neighbours' ranks are."""
    for place, model in enumerate(("lstm", "lda", "boosting", "ridge")):
        run(
            tmp_path / "r" / model, [v - 0.05 * place - 0.001 * i * place for i, v in enumerate(FAIR[:10])], model=model
        )
    result = compare([tmp_path / "r"], n_resamples=2000)
    assert 1.0 < (result.friedman["critical_difference"] or 0) < 2.0 and all(p.is_established for p in result.pairs)
    [text] = [text for text in result.findings if text.startswith("Ranks and pairs differ on ")]
    assert text.startswith("Ranks and pairs differ on lstm and lda (ranks 1.00 apart, significant in the table); ")
    assert "lstm and boosting" not in text and "answer different questions" in text


@pytest.mark.parametrize("reference", ["fair", "logistic"])
def test_a_reference_is_a_folders_name_or_a_model(three: Path, reference: str) -> None:
    assert compare([three], reference=reference).reference == "logistic"
    assert compare([three], reference=str(three / "fair")).reference == "logistic"


def test_less_is_better_for_the_brier_score(three: Path) -> None:
    held = compare([three], metric="brier")
    assert held.contenders[0].label == "perceiver-io" and held.contenders[0].average_rank < 1.5
    good = pair_of(held, "perceiver-io", "logistic")
    assert good.mean_difference < 0 and (good.wins, good.losses) == (19, 1)
    assert "perceiver-io is better than logistic by 0.102" in " ".join(held.findings)


def test_the_paragraph_says_what_is_established_what_not_and_how_sharp_the_study_was(three: Path) -> None:
    text = " ".join(compare([three]).findings)
    assert "same 20 subjects" in text
    assert "perceiver-io is better than logistic by 0.102" in text and "better for 19 of 20 subjects" in text
    assert "Not significant: " in text and "smallest detectable difference 0.00" in text
    assert "Not significant does not mean equal" in text


def test_ties_and_equal_models_are_told_apart_from_differences(tmp_path: Path, run: Run) -> None:
    run(tmp_path / "r" / "a", FAIR, model="lstm"), run(tmp_path / "r" / "b", FAIR, model="lda")
    pair = compare([tmp_path / "r"]).pairs[0]
    assert (pair.p, pair.ties, pair.n_zero, pair.dz, pair.rank_biserial) == (1.0, 20, 20, None, None)
    assert pair.smallest_detectable is None and not pair.is_established


def test_subjects_without_a_score_are_left_out_and_named(tmp_path: Path, run: Run) -> None:
    run(tmp_path / "r" / "a", [None, *FAIR[1:]], model="lstm")
    run(tmp_path / "r" / "b", [None, *[v - 0.1 for v in FAIR[1:]]], model="lda")
    held = compare([tmp_path / "r"])
    assert (held.left_out, held.n_subjects, held.pairs[0].n) == (("S01",), 19, 19)
    assert any("S01" in text for text in held.cautions)


def test_folds_of_k_fold_give_the_corrected_resampled_t(tmp_path: Path, run: Run) -> None:
    better = [v + 0.1 + 0.01 * (i % 4) for i, v in enumerate(FAIR)]
    run(tmp_path / "r" / "a", better, model="lstm", folds=FOUR)
    run(tmp_path / "r" / "b", FAIR, model="lda", folds=FOUR)
    held = compare([tmp_path / "r"])
    pair = held.pairs[0]
    folds = np.array([0.1, 0.11, 0.12, 0.13])  # every fold holds one residue of i % 4
    by_hand = folds.mean() / np.sqrt((1 / 4 + 5 / 15) * folds.var(ddof=1))
    assert (pair.split_t, pair.n_splits, pair.split_ratio) == (pytest.approx(by_hand), 4, pytest.approx(1 / 3))
    assert any("Nadeau and Bengio" in text for text in held.methods)


def test_other_partitions_of_k_fold_are_compared_with_a_caution_and_without_that_test(tmp_path: Path, run: Run) -> None:
    other = [FOUR[0][:-1] + FOUR[1][-1:], FOUR[1][:-1] + FOUR[0][-1:], *FOUR[2:]]
    run(tmp_path / "r" / "a", FAIR, model="lstm", folds=FOUR)
    run(tmp_path / "r" / "b", [v - 0.1 - 0.001 * i for i, v in enumerate(FAIR)], model="lda", folds=other)
    held = compare([tmp_path / "r"])
    assert any("divided into folds differently" in text for text in held.cautions)
    assert held.pairs[0].split_p is None and held.pairs[0].is_established


def test_leave_one_subject_out_has_no_fold_test(three: Path) -> None:
    assert all(pair.split_p is None for pair in compare([three]).pairs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transductive": True}, "Transductive and not: lda"),
        ({"normalisation": "global"}, "scaled differently"),
        ({"seeds": 3}, "different numbers of seeds"),
        ({"fingerprint": {"store": "ab" * 32, "biopercept": "0.0.9"}}, "different versions"),
        ({"warnings": ["LEAK: the weights had seen S01"]}, "lda: LEAK: the weights had seen S01"),
        ({"model": "clock-only"}, "clock-only (probe) is a probe that must not be good"),
    ],
)
def test_what_makes_a_comparison_doubtful_is_said(tmp_path: Path, run: Run, changes: dict, words: str) -> None:
    run(tmp_path / "r" / "a", FAIR, model="lstm")
    run(tmp_path / "r" / "b", [v - 0.1 for v in FAIR], **{"model": "lda", **changes})
    assert any(words in text for text in compare([tmp_path / "r"]).cautions)


def test_a_model_not_shown_to_beat_a_probe_is_named(three: Path, run: Run) -> None:
    run(three / "clock", [v + 0.001 for v in FAIR], model="clock-only")
    caution = next(text for text in compare([three]).cautions if "clock-only" in text)
    assert "Not significantly better than it: logistic, boosting." in caution


def test_a_probe_that_only_guesses_and_that_every_model_beats_is_no_caution(three: Path, run: Run) -> None:
    guessing = {"mean": 0.3, "ci95": [0.2, 0.4], "worst": 0.1, "subjects_below_chance": 8}
    run(three / "clock", [v - 0.5 for v in FAIR], model="clock-only", balanced_accuracy=guessing)
    result = compare([three])
    assert any("clock-only (probe)" in (pair.first, pair.second) for pair in result.pairs)
    assert not any("clock-only" in text for text in result.cautions)


def test_too_few_subjects_to_establish_anything_is_said(tmp_path: Path, run: Run) -> None:
    run(tmp_path / "r" / "a", FAIR[:5], model="lstm"), run(tmp_path / "r" / "b", [0.1] * 5, model="lda")
    held = compare([tmp_path / "r"])
    assert held.pairs[0].p == pytest.approx(0.0625)
    assert any("0.062: no single difference can be significant" in text for text in held.cautions)


def test_two_runs_of_one_model_go_by_their_folders(tmp_path: Path, run: Run) -> None:
    run(tmp_path / "wide" / "cv", FAIR, model="lstm"), run(tmp_path / "deep" / "cv", FAIR, model="lstm")
    held = compare([tmp_path / "wide" / "cv", tmp_path / "deep" / "cv"])
    assert {c.label for c in held.contenders} == {"lstm (wide/cv)", "lstm (deep/cv)"}


def test_an_unfinished_neighbour_is_named(three: Path) -> None:
    (three / "late").mkdir()
    (three / "late" / "folds.json").write_text("{}")
    assert any("late has not finished" in text for text in compare([three]).cautions)


def _other(tmp_path: Path, run: Run, **changes: object) -> list[Path]:
    first = run(tmp_path / "a", FAIR, model="lstm")
    scores = changes.pop("scores", FAIR)
    return [first, run(tmp_path / "b", scores, model="lda", **changes)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "load"}, "answer different questions"),
        ({"fingerprint": {"store": "cd" * 32}}, "scored different stores"),
        ({"fingerprint": {}}, "does not say which store"),
        ({"folds": FOUR}, "split differently"),
        ({"scores": FAIR[:19]}, r"different subjects \(S20 in one only\)"),
        ({"onsets": (0.0, 60.0, 120.0, 190.0)}, r"different windows \(80 and 80, 40 in one only\)"),
        ({"labels": {60.0: "rest"}}, r"different labels \(20 of 80\)"),
        ({"scores": [None] * 20}, "no balanced_accuracy of any subject"),
    ],
)
def test_what_is_no_pair_is_refused_in_one_sentence(tmp_path: Path, run: Run, changes: dict, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        compare(_other(tmp_path, run, **changes))


def test_other_classes_are_refused(tmp_path: Path, run: Run) -> None:
    folders = _other(tmp_path, run)
    document = json.loads((folders[1] / "scores.json").read_text())
    (folders[1] / "scores.json").write_text(json.dumps({**document, "classes": ["stress", "rest"]}))
    with pytest.raises(StudyError, match="different questions"):
        compare(folders)


def test_wrong_options_are_refused(three: Path) -> None:
    with pytest.raises(SettingsError, match="metric is 'kappa'; allowed are balanced_accuracy"):
        compare([three], metric="kappa")
    with pytest.raises(SettingsError, match="none of the compared"):
        compare([three], reference="lda")
    with pytest.raises(SettingsError, match="at least 2000"):
        compare([three], n_resamples=100)
    with pytest.raises(StudyError, match="no auroc of any subject"):
        compare([three], metric="auroc")


def test_a_model_that_two_folders_hold_is_no_reference(tmp_path: Path, run: Run) -> None:
    for name in "abc":
        run(tmp_path / "r" / name, FAIR, model="lda" if name == "c" else "lstm")
    with pytest.raises(SettingsError, match="means several cross-validations: a, b"):
        compare([tmp_path / "r"], reference="lstm")


def test_one_or_none_or_the_same_twice_is_refused(three: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="needs at least two"):
        compare([three / "fair"])
    with pytest.raises(StudyError, match="given twice"):
        compare([three, three / "fair"])
    with pytest.raises(StudyError, match="there is no folder"):
        compare([three, tmp_path / "nowhere"])


def test_folds_that_do_not_test_everybody_once_are_refused(tmp_path: Path, run: Run) -> None:
    folders = _other(tmp_path, run, folds=FOUR)
    (folders[0] / "scores.json").write_text((folders[1] / "scores.json").read_text())
    with pytest.raises(StudyError, match=r"\.json"):
        (folders[0] / "folds.json").write_text('{"folds": [{"test": ["S01"], "training": [], "validation": []}]}')
        compare(folders)
