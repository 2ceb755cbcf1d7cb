"""A whole audit: clean studies pass under several seeds, and each planted leak is caught by the probe made for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.audit.audit import audit, write_audit
from biopercept.audit.design import fixed_order
from biopercept.errors import SettingsError, StudyError
from biopercept.recording import Rating, RecordingLabels
from biopercept.report.page import write_report
from biopercept.results.audit import OK, WARNING, Finding, Skipped
from biopercept.results.reading import document_of
from biopercept.tasks import Task

CAUGHT = [
    # plant, normalisation, probe, verdict
    ("drift", "global", "time-in-features", "leak"),
    ("drift", "causal", "time-in-features", "leak"),
    ("drift", "global", "clock-only", "warning"),
    ("drift", "global", "label-order", "warning"),
    ("order", "global", "clock-only", "warning"),
    ("order", "global", "time-in-features", "ok"),
    ("offset", "global", "identity-in-features", "warning"),
    ("offset", "causal", "identity-in-features", "ok"),
    ("constant", "global", "identity-in-features", "leak"),
    ("constant", "global", "constant-label-per-subject", "warning"),
    ("length", "global", "file-only", "leak"),
    ("length", "global", "label-equals-file", "warning"),
    ("length", "causal", "label-equals-file", "leak"),
    ("gaps", "global", "missingness-only", "leak"),
    ("motion", "global", "motion-only", "warning"),
    ("copy", "global", "duplicates", "leak"),
]


def by_probe(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.probe: finding for finding in findings}


@pytest.mark.parametrize("mode", ["causal", "global"])
@pytest.mark.parametrize("seed", range(3))
def test_a_clean_study_passes(audited, seed: int, mode: str) -> None:
    result = audited("", mode=mode, seed=seed)
    assert {f.probe: f.sentence for f in result.findings if f.verdict != "ok"} == {}
    assert result.verdict == "ok"
    assert len(result.findings) == 15


@pytest.mark.parametrize(("plant", "mode", "probe", "verdict"), CAUGHT)
def test_a_planted_leak_is_caught_by_its_probe(audited, plant: str, mode: str, probe: str, verdict: str) -> None:
    assert by_probe(audited(plant, mode=mode).findings)[probe].verdict == verdict


def test_a_probe_that_is_not_made_is_no_ok(audited) -> None:
    result = audited("")
    assert {s.probe: s.reason for s in result.skipped} == {
        "set-session": "everybody has the same",
        "set-sensors": "everybody has the same",
        "file-only": "the study has nothing of it that varies",
    }
    assert not {s.probe for s in result.skipped} & set(by_probe(result.findings))


def test_sentences_carry_their_numbers(audited) -> None:
    findings = by_probe(audited("drift").findings)
    clock = findings["clock-only"]
    assert clock.sentence.startswith(
        "Time since the recording began, and nothing else, tells the label with a balanced accuracy of "
        f"{clock.score:.3f} [{clock.ci95[0]:.3f}, {clock.ci95[1]:.3f}] in 12 subjects (guessing: 0.500)"
    )
    assert "temp/mean" in findings["time-in-features"].sentence
    assert findings["random-split-contrast"].sentence.startswith("DIAGNOSTIC, NOT A RESULT")
    assert all(f.sentence.endswith(".") for f in findings.values())


def test_the_files_hold_every_probe_and_the_page_shows_them(audited, tmp_path: Path) -> None:
    result = audited("drift")
    write_audit(result, tmp_path / "audit")
    document = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert document == json.loads(json.dumps(document_of(result)))
    assert document["verdict"] == "leak"
    assert document["counts"]["leak"] == sum(f.verdict == "leak" for f in result.findings)
    page = (tmp_path / "audit" / "audit.md").read_text()
    html = write_report(tmp_path / "audit").read_text()
    for row in document["findings"]:
        assert f"**{row['probe']}**" in page
        assert row["probe"] in html
        assert set(row) >= {"score", "ci95", "verdict", "sentence", "n_subjects"}
    assert "Audit, time-in-features: Within one label, session time can be read from" in html


def test_the_same_seed_gives_the_same_audit(planted_store: Callable[..., Path], asked, audited, tmp_path: Path) -> None:
    again = audit(asked(planted_store("drift")), tmp_path)
    assert again.findings == audited("drift").findings


def test_two_models_at_once_are_refused(tmp_path: Path, asked) -> None:
    with pytest.raises(SettingsError, match="audit one model at a time"):
        replace(asked(tmp_path / "made.h5"), model_scores=tmp_path, fits=True)


@pytest.mark.parametrize("plant", ["", "drift", "person"])
def test_a_rating_is_audited_by_its_concordance(made: ModuleType, asked, tmp_path: Path, plant: str) -> None:
    """A rating of stages that are shuffled for each person, or that rises with time, or that is who the person is."""
    random, n = np.random.default_rng(3), int(8 * made.STAGE_SECONDS * made.RATE)
    people = []
    for number, one in enumerate(made.planted(n_subjects=10)):
        course = np.repeat(random.normal(size=8), n // 8) + 0.3 * random.normal(size=n)
        course = course + np.arange(n) / n * 6 if plant == "drift" else course
        course = course + 5 * number if plant == "person" else course
        people.append(replace(one, labels=RecordingLabels(ratings={"Joy": Rating(course, made.RATE)})))
    task = replace(made.JOY, max_lag_seconds=0.0)
    store = made.store(tmp_path / "made.h5", people, task=task, features=made.AUDIT_FEATURES)
    request = asked(store)
    request = replace(request, evaluation=replace(request.evaluation, task="joy"))
    found = audit(request, tmp_path / "audit")
    verdicts = {finding.probe: finding.verdict for finding in found.findings}
    scores = {finding.probe: finding.score for finding in found.findings}
    assert verdicts["clock-only"] == (WARNING if plant == "drift" else OK)
    assert verdicts["person-effect"] == (WARNING if plant == "person" else OK)
    assert verdicts["label-permutation"] == OK
    assert (scores["clock-only"] > 0.5) == (plant == "drift")
    sentence = next(f.sentence for f in found.findings if f.probe == "clock-only")
    assert "tells the label with a CCC of" in sentence
    assert ("the numbers follow a course in time that people share" in sentence) == (plant == "drift")
    assert not any("condition" in finding.sentence for finding in found.findings)
    skipped = {one.probe: one.reason for one in found.skipped}
    assert skipped["label-order"].startswith("a number has no order of conditions")
    assert {"time-in-features", "identity-in-features"} <= set(skipped)
    write_audit(found, tmp_path / "audit")
    assert "windows, a number, normalisation" in (tmp_path / "audit" / "audit.md").read_text()
    with pytest.raises(SettingsError, match="task 'joy' predicts a number, and outputs of models are audited of"):
        audit(replace(request, fits=True), tmp_path / "fit")


def test_several_tasks_at_once_are_refused(made: ModuleType, asked, tmp_path: Path) -> None:
    number = Task("load", kind="regression", column="load")
    store = made.store(tmp_path / "made.h5", made.planted(n_subjects=3), task=(made.TASK, number))
    request = asked(store)
    for task, sentence in (("stress,load", "--task stress,load names 2 tasks; audit one at a time"),):
        with pytest.raises(StudyError, match=sentence):
            audit(replace(request, evaluation=replace(request.evaluation, task=task)), tmp_path / "audit")


def test_the_order_over_a_session_is_seen_where_its_recordings_have_places(made: ModuleType, gathered) -> None:
    """One label per file, rest always first: told by the order of the files, not by time within one."""
    data = gathered("length")
    assert isinstance(fixed_order(data), Skipped)  # nothing says which file came first
    windows = data.windows
    by_key = {r.key: replace(r, place=int(r.recording == "task")) for r in made.planted("length")}
    placed = tuple(by_key[r.key] for r in windows.recordings)
    inputs = replace(data.plan.inputs, windows=replace(windows, recordings=placed))
    known = replace(data, plan=replace(data.plan, inputs=inputs))
    found = fixed_order(known)
    assert isinstance(found, Finding)
    assert (found.verdict, found.score, found.details["order"]) == ("warning", 1.0, ["rest", "stress"])
    is_task = np.array([windows.recordings[i].recording == "task" for i in windows.recording])
    np.testing.assert_array_equal(known.session_onset, windows.onset + 240.0 * is_task)
