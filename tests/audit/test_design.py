"""Alarms about the make-up: sets that lack a class, spreads that are not believed, copies, permuted labels, scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from biopercept.audit.confounds import permuted_labels, probe_permutation, real_fractions
from biopercept.audit.data import ProbeScore
from biopercept.audit.design import probe_sets, spread
from biopercept.audit.settings import AuditSettings
from biopercept.data.duplicates import blocks_of
from biopercept.errors import SettingsError, StudyError
from biopercept.results.audit import Finding, Skipped, worst_verdict
from biopercept.studies.plain import groups_by_subject


def spread_of(data, values: list[float]) -> str:
    per_subject = {f"P{i}": v for i, v in enumerate(values)}
    mean = float(np.mean(values))
    held = ProbeScore(mean, (mean - 0.05, mean + 0.05), 0.5, len(values), 100, per_subject)
    (finding,) = spread(data, {"mine": held})
    return finding.verdict if isinstance(finding, Finding) else "skipped"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.7, 0.8, 0.75, 0.6, 0.9], "ok"),
        ([0.80, 0.81, 0.80, 0.79, 0.80], "warning"),
        ([1.0] * 5, "warning"),
        ([0.1, 0.95, 0.9, 0.05, 0.9], "warning"),
        ([0.50, 0.51, 0.50, 0.49, 0.50], "ok"),
        ([0.8, 0.8], "skipped"),
    ],
)
def test_scores_too_even_too_good_or_too_uneven_are_not_believed(gathered, values: list[float], verdict: str) -> None:
    assert spread_of(gathered(""), values) == verdict


def test_a_set_that_lacks_a_class_or_tells_it_is_a_warning(gathered, tmp_path: Path) -> None:
    constant = gathered("constant")  # odd subjects rest, even ones are stressed
    lines = [f"{s}\t{'AB'[i % 2]}\t{'XYXXYYXYXXYY'[i]}" for i, s in enumerate(constant.windows.subjects)]
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tsite\tsex\n" + "\n".join(lines) + "\n")
    participants = groups_by_subject(table)
    found = {f.probe: f for f in probe_sets(constant, participants)}
    assert found["set-site"].verdict == "warning"
    assert found["set-site"].score == 1.0
    assert "A has no stress in" in found["set-site"].sentence
    clean = {f.probe: f for f in probe_sets(gathered(""), participants)}
    assert {clean["set-site"].verdict, clean["set-sex"].verdict} == {"ok"}
    assert isinstance(clean["set-sensors"], Skipped)


def test_a_participants_table_without_ids_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("name\tsite\na\tb\n")
    with pytest.raises(StudyError, match="the column 'participant_id' is missing"):
        groups_by_subject(tmp_path / "p.tsv")
    (tmp_path / "p.tsv").write_text("participant_id\tsite\nsub-a\tN/A\na\tnorth\na\tsouth\n")
    with pytest.raises(StudyError, match=r"p\.tsv line 4: the participant 'a' is listed twice"):
        groups_by_subject(tmp_path / "p.tsv")


def test_a_copy_is_found_where_its_start_was_cut_off(made) -> None:
    whole = made.planted("", n_subjects=2)[0]
    cut = replace(
        whole,
        samples={"EDA": whole.samples["EDA"][:, 333:]},
        masks={"EDA": whole.masks["EDA"][:, 333:]},
    )
    other = made.planted("", n_subjects=2)[1]
    blocks = blocks_of(whole)
    assert len(blocks) > 10
    assert len(blocks & blocks_of(cut)) > 0.5 * len(blocks_of(cut))
    assert not blocks & blocks_of(other)


def test_permuted_labels_keep_counts_runs_and_subjects(gathered) -> None:
    for plant in ("", "length", "constant"):
        data = gathered(plant)
        windows = data.windows
        drawn = permuted_labels(data, np.random.default_rng(0))
        assert not np.array_equal(drawn, windows.only.values)
        groups = (
            [np.ones(len(windows), bool)] if plant == "constant" else [windows.subject == s for s in windows.subjects]
        )
        for own in groups:
            assert set(drawn[own]) == set(windows.only.values[own])
        if plant == "":
            for own in groups:
                assert np.bincount(drawn[own]).tolist() == np.bincount(windows.only.values[own]).tolist()


def test_labels_without_meaning_that_can_be_learnt_are_a_leak(gathered, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an evaluation that lets the tested labels through to the features."""
    from biopercept.audit import confounds

    data = gathered("")
    linear = confounds._linear_probabilities

    def leaking(data, inputs, labels):
        seen = [replace(fold, values=np.column_stack([fold.values, 5.0 * labels])) for fold in inputs]
        return linear(data, seen, labels)

    assert probe_permutation(data).verdict == "ok"
    monkeypatch.setattr(confounds, "_linear_probabilities", leaking)
    assert probe_permutation(data).verdict == "leak"


def test_scores_agree_with_scikit_learn(gathered) -> None:
    data = gathered("")
    windows = data.windows
    p = np.random.default_rng(2).dirichlet([1, 1], size=len(windows))
    held, pooled = data.score(p), data.pooled(p)
    for subject in windows.subjects:
        rows = windows.subject == subject
        expected = balanced_accuracy_score(windows.only.values[rows], p[rows].argmax(1))
        assert held.per_subject[subject] == pytest.approx(expected)
    assert pooled.value == pytest.approx(balanced_accuracy_score(windows.only.values, p.argmax(1)))
    assert held.ci95[0] < held.value < held.ci95[1]
    assert gathered("constant").score(p).is_pooled


def test_shares_of_real_samples_are_those_of_the_mask(made, gathered) -> None:
    data = gathered("")
    windows = data.windows
    shares = real_fractions(data)
    assert shares.shape == (len(windows), 1)
    row = int(shares[:, 0].argmin())
    recording = windows.recordings[windows.recording[row]]
    first = int(windows.onset[row] * made.RATE)
    mask = recording.read("EDA", first, first + int(made.LENGTH * made.RATE))[1]
    assert shares[row, 0] == pytest.approx(mask.mean())
    assert 0.9 < shares.mean() < 1.0


def test_the_worst_verdict_counts() -> None:
    held = [Finding(probe="a", subject_matter="design", verdict=v, sentence="x.") for v in ("ok", "leak", "warning")]
    assert worst_verdict(held) == "leak"
    assert worst_verdict([]) == "ok"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_folds": 1}, "audit.n_folds is 1; it must be at least 2"),
        ({"margin": 0.0}, "audit.margin is 0.0; it must be above 0 and below 1"),
        ({"small_spread": 0.3}, "audit.small_spread is 0.3; it must be below audit.large_spread"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        AuditSettings(**changes)
