"""A recording explained: what was planted comes out on top, for every kind of task, whatever is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from biopercept.cli.main import build_app
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.errors import RecordingError, SettingsError
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.inference.explanation import ExplainSettings, Explanation, Part, explain
from biopercept.inference.explanation_files import ExplainRequest, _add, _Collected, _result
from biopercept.inference.prediction import NO_SIGNAL
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.recording import Channel
from biopercept.report.explanation import faithfulness_lines, write_page
from biopercept.results import explanation as results
from biopercept.results.explanation import BETTER, CHANNEL, FEATURE, GRADIENTS, KINDS, OCCLUSION, SENSOR, TIME
from biopercept.results.reading import read_result, read_table, write_result
from biopercept.store.prepared import PreparedRecording, StoredSignal
from biopercept.store.reading import open_store
from biopercept.training.checkpoint import Checkpoint, load_model
from biopercept.training.engine import Engine
from biopercept.training.final import Provenance, TrainingRequest, measured_modalities, train
from biopercept.training.settings import FitSettings, TrainingSettings

ENGINE = Engine(torch.device("cpu"))
SMALL = PerceiverSettings(
    width=16, n_latents=4, n_layers=1, n_heads=2, attention_dropout=0.0, feedforward_dropout=0.0, head_dropout=0.0
)
OPEN = TokenSettings(modality_dropout=0.2, channel_dropout=0.1, time_dropout=0.1, token_dropout=0.1)
BEGIN, END = 5.0, 10.0  # of every window of 20 s


def planted(made: ModuleType, subject: str) -> PreparedRecording:
    """Return skin conductance of two hands and a temperature; under stress one hand rises for 5 s of each window."""
    base = made.recording(subject, seed=3, missing=("heart_rate", "tonic"))
    random = np.random.default_rng([7, *subject.encode()])
    n = base.samples["EDA"].shape[1]
    seconds = np.arange(n) / made.RATE
    is_stress = np.repeat(made.STAGES, int(made.STAGE_SECONDS * made.RATE)) == "stroop"
    hands = 5.0 + 0.5 * random.normal(size=(2, n))
    hands[1] += 4.0 * (is_stress & (seconds % made.LENGTH >= BEGIN) & (seconds % made.LENGTH < END))
    samples = {"EDA": hands.astype(np.float32), "TEMP": 30 + 0.2 * random.normal(size=(1, n)).astype(np.float32)}
    channels = {"EDA": (Channel("left"), Channel("right")), "TEMP": (Channel("TEMP"),)}
    modality = {"EDA": ("eda", "uS"), "TEMP": ("temp", "degC")}
    signals = tuple(
        StoredSignal(name, *modality[name], made.RATE, made.RATE, 0.0, channels[name], n, "") for name in samples
    )
    windows, kept = base.windows, base.windows.onset % made.LENGTH == 0
    columns = ("onset", "label", "stage", "is_labelled", "features")
    fewer = {name: getattr(windows, name)[kept] for name in columns}
    fewer["features"] = np.full_like(fewer["features"], np.nan)
    return replace(
        base,
        signals=signals,
        samples=samples,
        masks={name: np.ones(values.shape, dtype=bool) for name, values in samples.items()},
        quality={name: np.ones((len(v), int(n / made.RATE)), dtype=np.float32) for name, v in samples.items()},
        windows=replace(windows, **fewer, quality=np.ones((kept.sum(), 2), dtype=np.float32)),
    )


@pytest.fixture(scope="module")
def model(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    people = [planted(made, f"P{number}") for number in range(12)]
    windows = labelled_windows(people, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    prepare = {"windows": {"length_seconds": made.LENGTH, "step_seconds": made.LENGTH}, "cleaning": {}}
    provenance = Provenance("made", "0" * 64, prepare, measured_modalities(people))
    settings = FitSettings(
        tokens=OPEN, model=SMALL, training=TrainingSettings(n_epochs=25, batch_size=16, learning_rate=6e-3)
    )
    folder = tmp_path_factory.mktemp("planted") / "model"
    inputs = WindowInputs(windows, NormalisationSettings("global"), made.LENGTH)
    train(TrainingRequest(inputs, settings, provenance, device="cpu"), folder)
    return load_model(folder)


def top(explanation: Explanation, kind: str, method: str) -> str:
    sums = {part.name: np.nanmean(v[method]) for part, v in explanation.parts.items() if part.kind == kind}
    return max(sums, key=lambda name: sums[name])


def test_the_planted_channel_and_time_come_out_on_top(made: ModuleType, model: Checkpoint) -> None:
    recording = planted(made, "NEW")
    explanation = explain(model, recording, ENGINE, settings=ExplainSettings(of_class="stress"))
    rows = np.isin(explanation.onset, [60.0, 80.0, 100.0, 240.0, 260.0, 280.0])
    assert np.mean((explanation.answers > 0) == rows) > 0.8
    under_stress = replace(
        explanation, parts={p: {m: v[rows] for m, v in values.items()} for p, values in explanation.parts.items()}
    )
    for method in (GRADIENTS, OCCLUSION):
        assert top(under_stress, CHANNEL, method) == "eda right"
        assert top(under_stress, TIME, method) == "5 to 10 s"
        assert top(under_stress, SENSOR, method) == "eda"
    right = explanation.parts[next(part for part in explanation.parts if part.name == "eda right")]
    assert (right[GRADIENTS][rows] > 0).all()
    assert np.abs(explanation.gap).mean() < 0.1 * np.abs(explanation.answers - explanation.usual).mean()
    predicted = explain(model, recording, ENGINE)
    assert set(predicted.target) == {"rest", "stress"}
    assert (predicted.answers >= 0).all()


def test_methods_that_point_at_what_was_planted_are_more_faithful_than_random(
    made: ModuleType, model: Checkpoint, tmp_path: Path
) -> None:
    done = _Collected()
    for name in ("N1", "N2"):
        recording = planted(made, name)
        _add(done, recording, [explain(model, recording, ENGINE)], tmp_path)
    request = ExplainRequest(tmp_path / "model", (), ExplainSettings())
    result = _result(request, model, model.tasks, done)
    by_method = {row.method: row for row in result.faithfulness}
    assert by_method[GRADIENTS].verdict == by_method[OCCLUSION].verdict == BETTER
    assert by_method[GRADIENTS].n_windows == 36
    assert [line.partition(":")[0] for line in faithfulness_lines(result)][1] == "stress, integrated gradients"
    write_result(tmp_path / results.Explanation.FILE, result)
    assert read_result(tmp_path / results.Explanation.FILE, results.Explanation) == result
    page = write_page(result, tmp_path).read_text()
    replaced = CliRunner().invoke(build_app(), ["report", str(tmp_path)])  # the same page: nothing is lost
    assert replaced.exit_code == 0, replaced.exception
    assert "eda right" in (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").write_text(page.replace("eda right", "what I noted"))
    assert "exists and is not empty" in str(CliRunner().invoke(build_app(), ["report", str(tmp_path)]).exception)
    assert "eda right" in page
    assert page.count("<script>") == 2  # the page's own
    table = read_table(tmp_path / "N1__protocol_explanation.csv")
    assert set(table.texts("kind")) == {"sensor", "modality", "channel", "time"}  # no feature was defined
    assert set(table.texts("unit")) == {"log odds"}


@pytest.fixture(scope="module")
def several(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("tasks")
    settings = FitSettings(
        model=replace(SMALL, linear_branch=True, conv_branch=True),
        training=TrainingSettings(n_epochs=4, batch_size=32, learning_rate=5e-3, dense_weight=1.0),
    )
    store = made.store(folder / "made.h5", made.numbered(made.study(6)), task=(made.TASK, made.LOAD, made.LEVEL))
    with open_store(store) as opened:
        request = EvaluationRequest(store, task="stress,load,level", fit=settings, device="cpu")
        plan = plan_evaluation(opened, request, needs_folds=False)
        modalities = measured_modalities(plan.windows.recordings)
        provenance = Provenance("made", plan.store_fingerprint, dict(opened.settings), modalities)
        train(TrainingRequest(plan.inputs, settings, provenance, device="cpu"), folder / "model")
    return load_model(folder / "model")


@pytest.mark.parametrize(("task", "unit"), [("stress", "log odds"), ("load", "unit of load"), ("level", "levels")])
def test_every_kind_of_task_is_explained_with_its_branches(
    made: ModuleType, several: Checkpoint, task: str, unit: str
) -> None:
    recording = made.recording("NEW", seed=5)
    explanation = explain(several, recording, ENGINE, task=task, settings=ExplainSettings(n_windows=5))
    assert (explanation.unit, len(explanation), explanation.task) == (unit, 5, task)
    kinds = {part.kind for part in explanation.parts}
    assert kinds == set(KINDS)
    sensors = [values for part, values in explanation.parts.items() if part.kind == SENSOR]
    total = np.sum([values[GRADIENTS] for values in sensors], axis=0)
    np.testing.assert_allclose(total + explanation.gap, explanation.answers - explanation.usual, atol=1e-4)
    of_branch = {p.name: v["branches"] for p, v in explanation.parts.items() if p.kind == FEATURE}
    assert set(of_branch) == set(made.FEATURES)
    assert all(np.abs(values).max() > 1e-6 for values in of_branch.values())
    by_sensor = np.sum([values["branches"] for values in sensors], axis=0)
    by_channel = np.sum([v["branches"] for p, v in explanation.parts.items() if p.kind == CHANNEL], axis=0)
    np.testing.assert_allclose(by_sensor, by_channel, atol=1e-6)
    assert np.abs(by_sensor - np.sum(list(of_branch.values()), axis=0)).max() > 1e-6  # signals, too
    frame = explanation.to_frame()
    assert frame["unit"].unique().tolist() == [unit]
    assert len(frame) == 5 * len(explanation.parts)


def test_what_is_missing_has_no_number_and_what_is_not_read_is_counted(made: ModuleType, several: Checkpoint) -> None:
    recording = made.recording("NEW", seed=5, missing=("heart_rate",))
    early = recording.windows.onset < 100
    recording.windows.features[early, 1] = np.nan
    recording.windows.features[recording.windows.onset < 50] = np.nan
    for mask in recording.masks.values():
        mask[:, : int(60 * made.RATE)] = False
    explanation = explain(several, recording, ENGINE)
    assert {part.name for part in explanation.parts if part.kind == SENSOR} == {"eda"}
    assert explanation.left_out == {NO_SIGNAL: 5}  # up to 40 s: neither signal nor feature
    level, spread = (explanation.parts[Part(FEATURE, name, "eda", "features")] for name in made.FEATURES[1:])
    assert np.array_equal(np.isnan(level[OCCLUSION]), explanation.onset < 100)
    assert np.isfinite(spread[OCCLUSION]).all()
    for mask in recording.masks.values():
        mask[:] = False
    recording.windows.features[:] = np.nan
    with pytest.raises(RecordingError, match=rf"^NEW protocol has no window to explain \({NO_SIGNAL}: 35\)$"):
        explain(several, recording, ENGINE)


def test_an_interval_counts_windows_that_do_not_overlap(made: ModuleType, several: Checkpoint) -> None:
    explanation = explain(several, made.recording("NEW", seed=5), ENGINE, settings=ExplainSettings(n_windows=7))
    chosen = explanation.onset[explanation.apart()]
    assert (np.diff(chosen) >= made.LENGTH).all()
    assert explanation.left_out == {"no more than 7 of a recording are taken": 28}


def test_what_the_model_does_not_know_is_refused(made: ModuleType, several: Checkpoint) -> None:
    recording = made.recording("NEW", seed=5)
    with pytest.raises(SettingsError, match=r"^the model predicts stress, load, level, and not 'joy'; name one"):
        explain(several, recording, ENGINE, task="joy")
    for task in (None, "load", "level"):
        of_class = "calm" if task is None else "high"
        words = rf"^the model has no class '{of_class}' whose odds could be explained; it has: stress: rest, stress$"
        with pytest.raises(SettingsError, match=words):
            explain(several, recording, ENGINE, task=task, settings=ExplainSettings(of_class=of_class))
    with pytest.raises(SettingsError, match=r"--n-windows is 0; it must be at least 1"):
        ExplainSettings(n_windows=0)
