"""Generation of a hidden sensor: it is hidden, errors are what they say, a planted tie is found and noise is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.data.batches import TokenSource, vocabulary_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.views import restricted
from biopercept.errors import SettingsError
from biopercept.evaluation import generation
from biopercept.evaluation.generation import (
    GenerationPlan,
    fit_generation_fold,
    fit_imputation_baselines,
    generation_scores,
    plan_generation,
    score_generation,
    subject_errors,
)
from biopercept.evaluation.metrics import Bootstrap, bootstrap_interval
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.biosignals import BiosignalPerceiver, reconstruct_patches
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.report.generation import generation_page
from biopercept.results.generation import FILLERS, Generation
from biopercept.results.reading import read_result
from biopercept.store.prepared import PreparedRecording
from biopercept.store.reading import open_store
from biopercept.training.pretraining import unlabelled_inputs
from biopercept.training.settings import FitSettings, PretrainingSettings

SMALL = PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2)
BRIEF = PretrainingSettings(n_epochs=1, batch_size=32, n_queries=4)
TOKENS, CPU = TokenSettings(), torch.device("cpu")


def request(store: Path, pretraining: PretrainingSettings | None = BRIEF, **changes: object) -> EvaluationRequest:
    fit = FitSettings(model=changes.pop("model", SMALL), pretraining=pretraining)
    evaluation = EvaluationSettings(n_folds=2, n_bootstrap=200)
    return EvaluationRequest(store, fit=fit, evaluation=evaluation, device="cpu", **changes)


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(5))


def inputs_of(made: ModuleType, recordings: Sequence[PreparedRecording]) -> WindowInputs:
    return unlabelled_inputs(
        recordings, NormalisationSettings(), TOKENS, length_seconds=made.LENGTH, step_seconds=made.STEP,
        feature_names=made.FEATURES,
    )  # fmt: skip


def waves(made: ModuleType, n: int) -> list[PreparedRecording]:
    """Return recordings whose skin conductance follows their heart rate, apart from noise, and whose tonic is noise."""
    recordings = []
    for number, held in enumerate(made.study(n + 1)[:n]):
        seconds = np.arange(held.samples["EDA"].shape[1]) / made.RATE
        wave = np.sin(2 * np.pi * seconds / 45 + number)
        for name, level, scale in (("EDA", 3, 0.5), ("heart_rate", 70, 6)):
            noise = np.random.default_rng([number, level]).normal(size=len(wave))
            held.samples[name][0] = level + scale * (wave + 0.1 * noise)
        held.samples["tonic"][0] = np.random.default_rng(number).normal(size=len(wave))
        held.windows.features[:] = np.nan  # of the signals that were there before
        recordings.append(held)
    return recordings


def test_a_planted_tie_between_sensors_is_told_and_noise_is_not(made: ModuleType, tmp_path: Path) -> None:
    store = made.store(tmp_path / "waves.h5", waves(made, 6))
    settings = PretrainingSettings(n_epochs=35, batch_size=32, learning_rate=5e-3, sensor_masking=0.8)
    calm = PerceiverSettings(
        width=32, n_latents=4, n_layers=1, n_heads=4, attention_dropout=0.0, feedforward_dropout=0.0, path_dropout=0.0
    )
    found = score_generation(request(store, settings, model=calm), tmp_path / "out")
    rows = {(row.sensor, row.signal): row for row in found.signals}
    tied = rows["eda", "eda"]
    assert tied.verdict == "better"
    assert tied.rmse.network.mean < 0.8 * tied.rmse.strongest.mean
    assert tied.correlation.mean > 0.6
    noise = rows["eda", "tonic"]  # drawn anew for every sample
    assert noise.verdict != "better"
    assert abs(noise.correlation.mean) < 0.3
    assert all(row.n_subjects == 6 for row in rows.values())
    assert found.n_windows == rows["eda", "eda"].n_windows > 0


def test_what_is_told_depends_on_nothing_that_comes_from_the_hidden_sensor(made: ModuleType) -> None:
    recordings = made.study(4)
    inputs = inputs_of(made, recordings)
    population = inputs.fit(("P01", "P02", "P03"))
    torch.manual_seed(0)
    network = BiosignalPerceiver(SMALL, TOKENS, vocabulary_of(made.FEATURES), {}, reconstructs=True)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    heart = "ecg"

    def told(held: Sequence[PreparedRecording], kept: str) -> torch.Tensor:
        view = inputs_of(made, held)
        shown = TokenSource(restricted(view, [kept]), population, TOKENS, CPU)
        rows = view.windows.rows_of(["P02"])
        wanted = TokenSource(restricted(view, [{"eda": heart, heart: "eda"}[kept]]), population, TOKENS, CPU)
        return torch.cat(
            [t.flatten() for t in reconstruct_patches(network, shown.batch(rows), wanted.batch(rows).sensors)]
        )

    other = made.study(4)
    for name in ("EDA", "tonic"):
        other[1].samples[name][:] = 50.0 + 9.0 * np.random.default_rng(1).normal(size=other[1].samples[name].shape)
    other[1].windows.features[:, 1:] = 7.0
    assert torch.equal(told(recordings, heart), told(other, heart))
    assert not torch.equal(told(recordings, "eda"), told(other, "eda"))


def test_errors_are_those_of_the_samples_in_both_units(made: ModuleType) -> None:
    inputs = inputs_of(made, made.study(4))
    population = inputs.fit(("P01", "P02", "P03"))
    torch.manual_seed(0)
    network = BiosignalPerceiver(SMALL, TOKENS, vocabulary_of(made.FEATURES), {}, reconstructs=True)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    hidden = TokenSource(restricted(inputs, ["eda"]), population, replace(TOKENS, features=False), CPU)
    shown = TokenSource(restricted(inputs, ["ecg"]), population, TOKENS, CPU)
    training, rows = inputs.windows.rows_of(["P02", "P03"]), inputs.windows.rows_of(["P01"])
    fillers = fit_imputation_baselines(hidden, training, batch_size=7)
    found = {r["signal"]: r for r in subject_errors(network, shown, hidden, fillers, rows, batch_size=7)}
    assert set(found) == {"eda", "tonic"}
    for place, name in enumerate(("eda", "tonic")):
        signal = next(s for s in hidden.scaled(rows) if s.patches.modality == name)
        truth = signal.patches.patches.double().numpy()[:, 0]  # (B, P, L)
        spread = signal.spread.double().numpy()[:, 0, None, None]
        asked = hidden.batch(rows).sensors
        told = reconstruct_patches(network, shown.batch(rows), asked)[place].double().numpy()[:, 0]
        learnt = next(s for s in hidden.scaled(training) if s.patches.modality == name).patches.patches.double().numpy()
        said = {
            "network": told,
            "zero": 0.0 * truth,
            "mean": learnt.mean() + 0.0 * truth,
            "median": np.median(learnt) + 0.0 * truth,
            "mean patch": learnt.mean((0, 1, 2)) + 0.0 * truth,
            "mean patch at its place": learnt.mean((0, 1)) + 0.0 * truth,
        }
        assert set(said) == {"network", *FILLERS}
        row = found[name]
        assert (row["n_windows"], row["n_patches"]) == (len(rows), truth.shape[0] * truth.shape[1])
        for who, values in said.items():
            error = values - truth
            wanted = (np.sqrt((error**2).mean()), np.abs(error).mean())
            wanted += (np.sqrt(((error * spread) ** 2).mean()), np.abs(error * spread).mean())
            assert [row[k][who] for k in ("rmse", "mae", "rmse_unit", "mae_unit")] == pytest.approx(wanted, rel=1e-4), (
                who
            )
        assert row["correlation"] == pytest.approx(np.corrcoef(told.ravel(), truth.ravel())[0, 1], abs=1e-4)
        # The map back is right: the recording's own samples come out.
        recording = made.study(4)[0]
        index = int(rows[3])
        first = int(inputs.windows.onset[index] * made.RATE)
        native = recording.samples[{"eda": "EDA", "tonic": "tonic"}[name]][0, first : first + truth[3].size]
        centre = signal.centre.double().numpy()[3, 0]
        assert truth[3].ravel() * spread[3].item() + centre == pytest.approx(native, abs=1e-3)


def _rows_of(plan: GenerationPlan, subject: str) -> list[dict[str, object]]:
    return [row for row in fit_generation_fold(plan, plan.folds[0]).rows if row["subject"] == subject]


def test_one_test_subject_never_changes_what_is_told_of_another(made: ModuleType, tmp_path: Path) -> None:
    recordings = made.study(6)[:5]

    def rows(name: str, changed: int | None) -> list[dict[str, object]]:
        store = made.store(tmp_path / f"{name}.h5", [
            made.recording(r.subject, seed=99, offset=300.0) if i == changed else r for i, r in enumerate(recordings)
        ])  # fmt: skip
        with open_store(store) as opened:
            plan = plan_generation(opened, request(store))
            kept.update(test=plan.folds[0].test, training=plan.folds[0].training)
            return _rows_of(plan, plan.folds[0].test[0])

    kept: dict[str, tuple[str, ...]] = {}
    plain = rows("plain", None)
    subjects = [r.subject for r in recordings]
    assert rows("test", subjects.index(kept["test"][1])) == plain
    assert rows("training", subjects.index(kept["training"][0])) != plain


def test_each_sensor_is_hidden_with_all_that_comes_from_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[set[str], set[str], set[str]]] = []

    def look(network, shown, hidden, fillers, rows):
        given = shown.batch(rows)
        told = {s.modality for s in hidden.batch(rows).sensors}
        seen.append(({s.modality for s in given.sensors}, {g.name for g in given.features}, told))
        return []

    monkeypatch.setattr(generation, "subject_errors", look)
    with open_store(store) as opened:
        plan = plan_generation(opened, request(store, subjects=("P01", "P02", "P03", "P04")))
        fit_generation_fold(plan, plan.folds[0])
    heart, skin = ({"heart_rate"}, {"heart"}, {"eda", "tonic"}), ({"eda", "tonic"}, {"eda"}, {"heart_rate"})
    assert plan.sensors == ("ecg", "eda")
    assert seen == [skin] * len(plan.folds[0].test) + [heart] * len(plan.folds[0].test)


def test_labels_play_no_part_and_a_stopped_run_goes_on_to_the_same_end(
    made: ModuleType, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = score_generation(request(store), tmp_path / "straight")
    done: list[str] = []

    def failing(plan, folds, n_jobs):
        for fold in folds:
            if done:
                raise KeyboardInterrupt
            done.append(fold.name)
            yield fold, fit_generation_fold(plan, fold)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(generation, "_fit_folds", failing)
        score_generation(request(store), tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "generation.json").exists()
    told: list[bool] = []
    again = score_generation(request(store), tmp_path / "stopped", on_fold=lambda fold, was, n: told.append(was))
    assert told == [True, False]
    assert (again.signals, again.subjects) == (straight.signals, straight.subjects)
    assert read_result(tmp_path / "stopped" / Generation.FILE, Generation) == again
    assert (tmp_path / "stopped" / "generation.md").read_text() == generation_page(again)
    for changed in (request(store, seed=1), request(store, replace(BRIEF, n_epochs=2))):
        with pytest.raises(SettingsError, match=r"holds a run with another (seed|pretraining)"):
            score_generation(changed, tmp_path / "stopped")
    relabelled = made.study(5)
    for held in relabelled:
        held.windows.label[held.windows.is_labelled] = "stroop"
    other = made.store(tmp_path / "relabelled.h5", relabelled)
    assert score_generation(request(other), tmp_path / "other").subjects == straight.subjects
    assert score_generation(request(store), tmp_path / "jobs", n_jobs=2).subjects == straight.subjects


def test_scores_pair_subjects_with_the_strongest_filler() -> None:
    def row(subject: str, network: float, median: float) -> dict[str, object]:
        said = {"network": network, **dict.fromkeys(FILLERS, 2.0), "median": median}
        errors = {name: dict(said) for name in ("rmse", "mae", "rmse_unit", "mae_unit")}
        counts = {"n_windows": 3, "n_patches": 9, "correlation": None if subject == "A" else 0.5}
        return {"subject": subject, "sensor": "eda", "signal": "tonic", **counts, **errors}

    rows = [row("A", 0.5, 1.0), row("B", 0.8, 1.1), row("C", 0.9, 1.0)]
    [found] = generation_scores(rows, Bootstrap(0, 500))
    assert found.rmse.best_filler == "median"
    difference = found.rmse.network_minus_best_filler
    assert difference.mean == pytest.approx(-0.3)
    assert difference.ci95 == pytest.approx(bootstrap_interval(np.array([-0.5, -0.3, -0.1]), seed=0, n_bootstrap=500))
    assert (difference.n_better, found.verdict, found.n_windows) == (3, "better", 9)
    assert (found.correlation.n_subjects, found.correlation.mean) == (2, 0.5)
    rows[2]["rmse"]["network"] = 1.5  # type: ignore[index]
    assert generation_scores(rows, Bootstrap(0, 500))[0].verdict == "no difference shown"


def test_mistakes_are_named(made: ModuleType, store: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"set pretraining\.objective=masked"):
        score_generation(request(store, replace(BRIEF, objective="alignment")), tmp_path / "a")
    with pytest.raises(SettingsError, match=r"set pretraining\.objective=masked"):
        score_generation(request(store, None), tmp_path / "b")
    by_label = request(store)
    by_label = replace(by_label, evaluation=replace(by_label.evaluation, stratify=True, split="k-fold"))
    with pytest.raises(SettingsError, match=r"^generation deals subjects by identity, not by label; set evaluation"):
        score_generation(by_label, tmp_path / "d")
    alone = made.store(tmp_path / "alone.h5", [made.recording(f"A{i}", seed=0, missing=("heart_rate",)) for i in "123"])
    with pytest.raises(
        SettingsError, match=r"made has one sensor \(eda\); with it masked nothing is left to reconstruct it from$"
    ):
        score_generation(request(alone), tmp_path / "c")
