"""Probes of a model: one that answers by the clock is caught, an honest one passes, and stopped fits go on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.audit import model_outputs
from biopercept.audit.audit import audit
from biopercept.audit.data import ProbeScore, gather
from biopercept.audit.model_outputs import ModelOutputs, probe_folds, read_outputs
from biopercept.audit.readings import (
    LATENTS,
    OUTPUTS,
    TimeReading,
    _in_stages,
    logits_of,
    probe_clock_agreement,
    probe_identity,
    probe_time,
    subject_tells_label,
)
from biopercept.baselines.features import fit_clock
from biopercept.errors import SettingsError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings
from biopercept.results.audit import Finding
from biopercept.store.reading import open_store
from biopercept.training.settings import FitSettings, TrainingSettings

NETWORK = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=1, batch_size=64),
)


def probabilities_of(evidence: np.ndarray) -> np.ndarray:
    share = 1 / (1 + np.exp(-evidence))
    return np.stack([1 - share, share], axis=1)


def by_probe(findings) -> dict[str, Finding]:
    return {finding.probe: finding for finding in findings}


@pytest.mark.parametrize(("by_clock", "verdict"), [(0.0, "ok"), (0.4, "warning"), (2.0, "leak")])
def test_answers_that_follow_the_time_are_a_leak_where_time_tells_the_label(
    gathered, by_clock: float, verdict: str
) -> None:
    data = gathered("order")
    windows = data.windows
    noise = np.random.default_rng(5).normal(size=len(windows))
    time = (windows.onset - windows.onset.mean()) / windows.onset.std()
    probabilities = probabilities_of(2.0 * (windows.only.values - 0.5) + noise + by_clock * time)
    clock = data.score(data.predict(fit_clock))
    folds = [replace(fold, values=logits_of(probabilities)) for fold in data.fold_features]
    found = probe_time(data, OUTPUTS, folds, clock, data.score(probabilities))
    assert found.verdict == verdict, found.sentence
    held = probe_time(data, LATENTS, folds, clock, data.score(probabilities))
    assert held.verdict == ("ok" if verdict == "ok" else "warning")  # at hand is not used
    nothing_told = replace(clock, ci95=(0.4, 0.6))
    found = probe_time(data, OUTPUTS, folds, nothing_told, data.score(probabilities))
    assert found.verdict == ("warning" if by_clock == 2.0 else "ok")


def test_answers_of_a_clock_are_caught_where_its_answers_vary_within_a_label(gathered) -> None:
    data = gathered("order")
    windows = data.windows
    random = np.random.default_rng(6)
    clock = data.score(data.predict(fit_clock))
    wave = np.sin(windows.onset / 30.0)[:, None] * np.array([[-1.0, 1.0]])  # what a clock would say, no straight line
    honest = probabilities_of(windows.only.values - 0.5 + random.normal(size=len(windows)))
    copied = honest + 0.3 * wave
    assert probe_clock_agreement(data, honest, wave, clock).verdict == "ok"
    assert probe_clock_agreement(data, copied, wave, clock).verdict == "leak"
    nothing_told = replace(clock, ci95=(0.4, 0.6))
    assert probe_clock_agreement(data, copied, wave, nothing_told).verdict == "warning"


def test_latents_that_know_the_person_are_a_leak_only_where_the_person_tells_the_label(gathered) -> None:
    for plant, verdict in (("constant", "leak"), ("", "warning")):
        data = gathered(plant)
        windows = data.windows
        own = {s: np.random.default_rng(i).normal(size=4) for i, s in enumerate(windows.subjects)}
        latents = np.array([own[str(s)] for s in windows.subject])
        latents += 0.01 * np.random.default_rng(0).normal(size=latents.shape)
        folds = [replace(fold, values=latents) for fold in data.fold_features]
        found = probe_identity(data, LATENTS, folds, subject_tells_label(data))
        assert found.verdict == verdict, found.sentence
        assert found.chance == pytest.approx(1 / 3)  # told from the two others of a fold of three


def outputs_of(data, fold: np.ndarray, training: dict[str, list[str]]) -> ModelOutputs:
    return ModelOutputs("mine", np.full((len(fold), 2), 0.5), tuple(fold.tolist()), training)


def test_folds_with_a_person_on_both_sides_or_windows_torn_apart_are_a_leak(gathered) -> None:
    data = gathered("")
    windows = data.windows
    whole = windows.subject.astype(object)
    others = {s: [o for o in windows.subjects if o != s] for s in windows.subjects}
    assert probe_folds(data, outputs_of(data, whole, others)).verdict == "ok"
    both = probe_folds(data, outputs_of(data, whole, {**others, "P03": list(windows.subjects)}))
    assert (both.verdict, both.details["subjects"]) == ("leak", ["P03"])
    torn = whole.copy()
    torn[np.flatnonzero(windows.subject == "P01")[1]] = "other"
    found = probe_folds(data, outputs_of(data, torn, {}))
    assert (found.verdict, found.details["n_windows_overlapping_other_folds"]) == ("leak", 3)


@pytest.fixture(scope="module")
def scored(planted_store: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cv") / "cv"
    evaluation = EvaluationSettings("k-fold", n_folds=4, n_bootstrap=200)
    cross_validate(EvaluationRequest(planted_store(""), "logistic", evaluation=evaluation), folder)
    return folder


def test_scores_of_a_cross_validation_are_audited_window_by_window(
    planted_store: Callable[..., Path], asked, scored: Path, tmp_path: Path
) -> None:
    request = replace(asked(planted_store("")), model_scores=scored)
    found = by_probe(audit(request, tmp_path).findings)
    assert {"folds-of-model", "time-in-outputs", "outputs-follow-clock", "identity-in-outputs"} <= set(found)
    assert {p: f.sentence for p, f in found.items() if f.verdict != "ok"} == {}
    with open_store(planted_store("")) as store:
        data = gather(store, request.evaluation, request.settings)
        outputs = read_outputs(scored, data)
    with (scored / "scores.csv").open() as stream:
        expected = {row["participant_id"]: float(row["balanced_accuracy"]) for row in csv.DictReader(stream)}
    assert data.score(outputs.probabilities).per_subject == pytest.approx(expected)


def test_scores_of_another_store_are_refused(
    planted_store: Callable[..., Path], asked, scored: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="was scored on another store; cross-validate on this store again"):
        audit(replace(asked(planted_store("order")), model_scores=scored), tmp_path)


def test_a_fit_that_was_stopped_goes_on_and_other_settings_are_refused(
    made: ModuleType, asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made.store(tmp_path / "made.h5", made.planted(n_subjects=6), features=made.AUDIT_FEATURES)
    request = asked(store)
    request = replace(request, evaluation=replace(request.evaluation, fit=NETWORK), fits=True)
    output = tmp_path / "audit"
    fits = []
    whole = model_outputs.fit_with_latents

    def failing(plan, fold):
        if len(fits) == 1:
            raise KeyboardInterrupt
        fits.append(fold.name)
        return whole(plan, fold)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(model_outputs, "fit_with_latents", failing)
        audit(request, output)
    told = []
    result = audit(request, output, on_fold=lambda name, was_done, n: told.append(was_done))
    assert told == [True, False, False]
    straight = audit(request, tmp_path / "straight")
    assert result.findings == straight.findings
    assert {"time-in-latents", "identity-in-latents", "time-in-outputs"} <= set(by_probe(result.findings))
    with pytest.raises(SettingsError, match="holds a run with another seed"):
        audit(replace(request, evaluation=replace(request.evaluation, seed=1)), output)
    run = json.loads((output / "model-folds" / "folds.json").read_text())
    assert len(run["folds"]) == 3
    (output / "model-folds" / "folds" / "002.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"002\.json is damaged; delete it and run the same command again"):
        audit(request, output)


@pytest.mark.parametrize(
    ("own", "found", "words"),
    [
        ((0.40, 0.30, 0.50), (0.45, 0.35, 0.55), ", and within unbroken stages too (r = 0.40"),
        ((0.40, 0.30, 0.50), (0.02, -0.10, 0.15), ", and within unbroken stages (r = 0.40"),
        ((0.03, -0.05, 0.12), (0.25, 0.15, 0.33), ", but hardly within unbroken stages (r = 0.03"),
        ((0.10, -0.05, 0.25), (0.25, 0.15, 0.33), "; within unbroken stages it is not shown (r = 0.10"),
        ((0.03, -0.05, 0.12), (0.02, -0.10, 0.15), ""),
    ],
)
def test_what_is_said_of_unbroken_stages_goes_no_further_than_the_intervals(gathered, own, found, words) -> None:
    held, whole = (ProbeScore(value, (low, high), 0.0, 12, 400, p_value=0.01) for value, low, high in (own, found))
    read = TimeReading(whole, True, held, ())
    data = gathered("")
    said = _in_stages(data, read, whole.is_readable(data.settings.trace))
    assert said.startswith(words) if words else said == ""
    assert _in_stages(data, replace(read, in_stages=None), True) == ""
