"""A saved model answers for recordings never seen: the same after a round trip, withheld where it cannot know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.errors import CheckpointError, RecordingError, SettingsError
from biopercept.inference.prediction import ALONE, IN_REFERENCE, NO_SIGNAL, Truth, Ways, predict
from biopercept.inference.prediction_files import summary_row, write_predictions
from biopercept.inference.shift import log_odds_of
from biopercept.model.settings import PerceiverSettings
from biopercept.recording import Interval, RecordingLabels
from biopercept.training.calibration import CalibrationSettings
from biopercept.training.checkpoint import CARD, DESCRIPTION, WEIGHTS, Checkpoint, load_model
from biopercept.training.engine import Engine
from biopercept.training.final import Provenance, TrainingRequest, measured_modalities, train
from biopercept.training.settings import FitSettings, TrainingSettings

ENGINE = Engine(torch.device("cpu"))
SETTINGS = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=10, batch_size=32, learning_rate=3e-3),
)


def trained(
    made: ModuleType,
    folder: Path,
    mode: str = "causal",
    scope: str = "recording",
    calibrating: CalibrationSettings | None = None,
) -> Checkpoint:
    recordings = made.study(6)
    windows = labelled_windows(recordings, made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    normalisation = NormalisationSettings(mode, reference_seconds=40.0, scope=scope)
    prepare = {"windows": {"length_seconds": made.LENGTH, "step_seconds": made.STEP}, "cleaning": {}}
    provenance = Provenance("made", "0" * 64, prepare, measured_modalities(recordings))
    inputs = WindowInputs(windows, normalisation, made.STEP)
    calibrating = calibrating or CalibrationSettings()
    train(TrainingRequest(inputs, SETTINGS, provenance, device="cpu", calibrating=calibrating), folder)
    return load_model(folder)


@pytest.fixture(scope="module")
def model(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    trained(made, folder)
    return folder


def test_a_new_subjects_stress_is_recognised_and_a_second_load_answers_the_same(made: ModuleType, model: Path) -> None:
    held = made.recording("NEW", seed=5)
    intervals = tuple(Interval(60.0 * i, 60.0, label) for i, label in enumerate(made.STAGES))
    first, second = (
        predict(load_model(model), held, ENGINE, truth=Truth(RecordingLabels(intervals))) for _ in range(2)
    )
    assert np.array_equal(first.only.values, second.only.values)
    known = [i for i, label in enumerate(first.only.label) if label]
    assert len(known) > 15
    assert np.mean([first.only.predicted[i] == first.only.label[i] for i in known]) > 0.75


def test_answers_do_not_depend_on_what_comes_later_in_the_recording(made: ModuleType, model: Path) -> None:
    checkpoint = load_model(model)
    held, changed = made.recording("NEW", seed=5), made.recording("NEW", seed=5)
    for samples in changed.samples.values():
        samples[:, int(200 * made.RATE) :] += 9.0
    changed.windows.features[changed.windows.onset + made.LENGTH > 200] += 9.0
    one, other = (predict(checkpoint, r, ENGINE) for r in (held, changed))
    early = one.onset + made.LENGTH <= 200
    np.testing.assert_allclose(one.only.values[early], other.only.values[early], atol=1e-6)
    assert not np.allclose(one.only.values[~early], other.only.values[~early], atol=1e-3)


def test_a_window_without_any_signal_is_withheld_with_the_reason(made: ModuleType, model: Path) -> None:
    held = made.recording("NEW", seed=5)
    gap = slice(int(100 * made.RATE), int(160 * made.RATE))
    for name in held.masks:
        held.masks[name][:, gap] = False
        held.samples[name][:, gap] = 0
    held.windows.features[(held.windows.onset >= 100) & (held.windows.onset + made.LENGTH <= 160)] = np.nan
    found = predict(load_model(model), held, ENGINE)
    inside = (found.onset >= 100) & (found.onset + made.LENGTH <= 160)
    assert [bool(r) for r in found.only.reason] == inside.tolist()
    assert set(np.array(found.only.reason)[inside]) == {NO_SIGNAL}
    assert np.isnan(found.only.values[inside]).all()
    assert np.isfinite(found.only.values[~inside]).all()


def test_the_reference_stretch_is_withheld(made: ModuleType, tmp_path: Path) -> None:
    checkpoint = trained(made, tmp_path / "m", "reference")
    found = predict(checkpoint, made.recording("NEW", seed=5), ENGINE)
    assert [r == IN_REFERENCE for r in found.only.reason] == (found.onset < 40.0).tolist()


def test_a_model_that_knows_sessions_reads_the_recordings_before(made: ModuleType, tmp_path: Path) -> None:
    checkpoint = trained(made, tmp_path / "m", scope="session")
    first, second = (replace(made.recording("NEW", seed=k), recording=f"part{k}", place=k) for k in (0, 1))
    higher = replace(made.recording("NEW", seed=0, offset=20.0), recording="part0", place=0)
    alone, after, after_higher = (
        predict(checkpoint, second, ENGINE, before=before) for before in ((), (first,), (higher,))
    )
    assert alone.onset.tolist() == after.onset.tolist()
    assert not np.allclose(alone.only.values, after.only.values, atol=1e-3)
    assert not np.allclose(after_higher.only.values, after.only.values, atol=1e-3)
    by_itself = predict(checkpoint, second, ENGINE)
    assert ALONE in by_itself.remarks and ALONE not in alone.remarks  # the first of a session has nothing before it
    np.testing.assert_array_equal(by_itself.only.values, alone.only.values)
    assert ALONE not in predict(trained(made, tmp_path / "r"), second, ENGINE).remarks


def test_part_of_the_sensors_is_enough_and_a_stranger_to_all_is_refused(made: ModuleType, model: Path) -> None:
    checkpoint = load_model(model)
    checkpoint.training["modalities"] = ["eda", "ecg"]
    found = predict(checkpoint, made.recording("NEW", seed=5, missing=("heart_rate",)), ENGINE)
    assert found.used == ("eda",)
    assert np.isfinite(found.only.values).all()
    checkpoint.training["modalities"] = ["eeg"]
    with pytest.raises(
        RecordingError, match="NEW protocol has eda and the model was trained with eeg; they share none"
    ):
        predict(checkpoint, made.recording("NEW", seed=5), ENGINE)


def test_the_table_reads_back_and_holds_every_window(made: ModuleType, model: Path, tmp_path: Path) -> None:
    found = predict(load_model(model), made.recording("NEW", seed=5), ENGINE)
    path = write_predictions(found, "stress", tmp_path, "model")
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert lines[0] == [
        "onset", "duration", "predicted", "probability_rest", "probability_stress", "quality", "reason", "label",
        "confidence", "distance", "unlike", "outside_range",
    ]  # fmt: skip
    assert len(lines) - 1 == len(found.onset) == 35
    assert [row[2] for row in lines[1:]] == list(found.only.predicted)
    assert json.loads(path.with_suffix(".json").read_text())["participant_id"] == "NEW"


@pytest.mark.parametrize("position", [10, 200, -3])
def test_a_flipped_bit_in_the_weights_is_an_error(made: ModuleType, tmp_path: Path, model: Path, position: int) -> None:
    import shutil

    copy = shutil.copytree(model, tmp_path / "copy")
    content = bytearray((copy / WEIGHTS).read_bytes())
    content[position] ^= 1
    (copy / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors in .*copy is damaged"):
        load_model(copy)


def test_a_changed_number_in_the_description_is_an_error(tmp_path: Path, model: Path) -> None:
    import shutil

    copy = shutil.copytree(model, tmp_path / "copy")
    description = json.loads((copy / DESCRIPTION).read_text())
    description["population"]["signals"]["eda/EDA"][0] += 1e-9
    (copy / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match=r"model\.json in .*copy is damaged or was edited"):
        load_model(copy)


def test_a_model_is_three_files_without_pickle_and_its_card_says_what_it_is_for(model: Path) -> None:
    assert sorted(p.name for p in model.iterdir()) == sorted([WEIGHTS, DESCRIPTION, CARD])
    card = (model / CARD).read_text()
    for words in (
        "Intended use",
        "no medical device",
        "Not evaluated",
        "rest",
        "stress",
        "Inputs are scaled ",
    ):
        assert words in card


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ('{"kind": "cake"}', "is not a biopercept model"),
        ('{"kind": "perceiver-io", "schema": 99, "versions": {"biopercept": "9.0"}}', "written by biopercept 9.0"),
    ],
)
def test_another_programs_or_a_newer_model_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / DESCRIPTION).write_text(content)
    with pytest.raises(CheckpointError, match=sentence):
        load_model(tmp_path)


@pytest.mark.parametrize("lost", ["weights_sha256", "tasks", "prepare", "training", "population"])
def test_a_description_that_lacks_a_part_is_a_sentence(model: Path, tmp_path: Path, lost: str) -> None:
    import shutil

    copy = shutil.copytree(model, tmp_path / "copy")
    description = json.loads((copy / DESCRIPTION).read_text())
    for broken in ({**description, lost: {}}, {k: v for k, v in description.items() if k != lost}):
        (copy / DESCRIPTION).write_text(json.dumps(broken))
        with pytest.raises(CheckpointError, match="train the model again"):
            load_model(copy)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"is not a model: it has no model\.json; give the folder that train wrote"
    ):
        load_model(tmp_path)


def test_a_model_keeps_its_calibration_and_predict_applies_it(made: ModuleType, model: Path, tmp_path: Path) -> None:
    settings = CalibrationSettings("temperature", n_folds=3, coverage=0.8)
    checkpoint = trained(made, tmp_path / "m", calibrating=settings)
    held = json.loads((tmp_path / "m" / DESCRIPTION).read_text())["calibration"]
    assert (held["method"], held["n_windows"] > 0, held["source"]) == (
        "temperature", True, "inner folds over the training side",
    )  # fmt: skip
    assert held["subjects"] == [f"P{i:02d}" for i in range(1, 7)]
    assert checkpoint.calibration is not None and checkpoint.calibration.threshold == held["threshold"]
    plain = predict(load_model(model), made.recording("NEW", seed=5), ENGINE)
    found = predict(checkpoint, made.recording("NEW", seed=5), ENGINE)
    np.testing.assert_allclose(found.only.values, checkpoint.calibration.apply(plain.only.values), atol=1e-9)
    assert not np.allclose(found.only.values, plain.only.values, atol=1e-4)
    assert "calibrated by temperature" in (tmp_path / "m" / CARD).read_text()
    assert "None: read a probability as a score" in (model / CARD).read_text()


def test_a_set_that_is_not_one_class_is_an_abstention_with_its_probabilities(made: ModuleType, tmp_path: Path) -> None:
    checkpoint = trained(made, tmp_path / "m", calibrating=CalibrationSettings(n_folds=3, coverage=0.8))
    assert checkpoint.calibration is not None
    plain = predict(replace(checkpoint, calibration=None), made.recording("NEW", seed=5), ENGINE)
    middle = float(np.median(plain.only.values.max(axis=1)))  # below it both classes are in the set
    wide = replace(checkpoint, calibration=replace(checkpoint.calibration, threshold=middle))
    found = predict(wide, made.recording("NEW", seed=5), ENGINE)
    unsure = plain.only.values.max(axis=1) <= middle
    assert unsure.any() and not unsure.all()
    assert [not name for name in found.only.predicted] == unsure.tolist()
    assert {found.only.reason[i] for i in np.flatnonzero(unsure)} == {"undecided between rest | stress at 80% coverage"}
    assert np.array_equal(found.only.values, plain.only.values)
    lines = write_predictions(found, "stress", tmp_path, "model").read_text().splitlines()
    column = lines[0].split("\t").index("prediction_set")
    assert [line.split("\t")[column] for line in lines[1:]] == list(found.only.sets)
    narrow = replace(checkpoint, calibration=replace(checkpoint.calibration, threshold=0.0))
    empty = predict(narrow, made.recording("NEW", seed=5), ENGINE)
    assert set(empty.only.reason) == {"undecided: no class is likely enough at 80% coverage"}


def test_a_damaged_calibration_is_an_error_of_the_model(made: ModuleType, tmp_path: Path) -> None:
    from biopercept.training.checkpoint import _description_hash

    trained(made, tmp_path / "m", calibrating=CalibrationSettings("temperature"))
    path = tmp_path / "m" / DESCRIPTION
    held = json.loads(path.read_text())
    held["calibration"]["temperature"] = -1
    path.write_text(json.dumps({**held, "description_sha256": _description_hash(held)}))
    with pytest.raises(CheckpointError, match="the calibration is damaged"):
        load_model(tmp_path / "m")


def test_a_moved_threshold_is_seen_in_every_output_and_the_default_moves_nothing(
    made: ModuleType, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, new = load_model(model), made.recording("NEW", seed=5)
    monkeypatch.setattr("biopercept.inference.shift.SMALLEST_EVIDENCE", 0.0)  # so that a short recording is moved
    plain, past, whole = (predict(checkpoint, new, ENGINE, ways=Ways(adapt=adapt)) for adapt in ("none", "past", "all"))
    assert plain.only.shift is None
    assert "shift" not in plain.columns("stress")
    for moved in (past, whole):
        expected = log_odds_of(plain.only.values) + moved.only.shift
        assert np.count_nonzero(moved.only.shift) > 5
        np.testing.assert_allclose(log_odds_of(moved.only.values), expected, atol=1e-4)
    assert (past.is_transductive, whole.is_transductive) == (False, True)
    for moved in (past, whole):
        path = write_predictions(moved, "stress", tmp_path, "model")
        sidecar = json.loads(path.with_suffix(".json").read_text())
        assert (sidecar["adapt"], sidecar.get("transductive", False)) == (moved.adapt, moved.is_transductive)
        assert ("transductive" in sidecar["columns"]["shift"]) is moved.is_transductive
        assert moved.adapt in summary_row(moved, "stress")[-2]
        assert "--adapt read two classes here and moved the threshold" in summary_row(moved, "stress")[-3]
        assert moved.remarks[-1] in sidecar["remarks"]
    assert not any("--adapt" in remark for remark in plain.remarks)


def test_single_times_are_not_moved(made: ModuleType, model: Path) -> None:
    checkpoint = load_model(model)
    dense = replace(checkpoint, training={**checkpoint.training, "settings": {"dense_weight": 1.0}})
    with pytest.raises(SettingsError, match="leave one of them out"):
        predict(dense, made.recording("NEW", seed=5), ENGINE, ways=Ways(5.0, "past"))
