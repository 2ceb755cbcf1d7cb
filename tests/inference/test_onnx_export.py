"""The ONNX file answers as the network does, at sizes it was not made with, masked windows included."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from biopercept.cli.main import main
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.errors import CheckpointError, SettingsError
from biopercept.inference import onnx_export
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.training.checkpoint import DESCRIPTION, Checkpoint, load_model, write_model_folder
from biopercept.training.final import Provenance, TrainingRequest, train
from biopercept.training.settings import FitSettings, TrainingSettings


@pytest.fixture(scope="module")
def model(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _trained(made, tmp_path_factory.mktemp("export") / "model")


def _trained(made: ModuleType, folder: Path, tokens: TokenSettings | None = None, **changes: bool) -> Path:
    windows = labelled_windows(made.study(3), made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    fit = FitSettings(
        model=PerceiverSettings(width=16, n_latents=20, n_layers=1, n_heads=2, **changes),
        tokens=tokens or TokenSettings(),
        training=TrainingSettings(n_epochs=1, batch_size=32),
    )
    prepare = {"windows": {"length_seconds": made.LENGTH, "step_seconds": made.STEP}, "cleaning": {}}
    inputs = WindowInputs(windows, NormalisationSettings(), made.STEP)
    train(TrainingRequest(inputs, fit, Provenance("made", "0" * 64, prepare, ("eda",)), device="cpu"), folder)
    return folder


def test_the_command_writes_a_file_that_answers_as_the_network_at_other_sizes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    import onnx

    path = tmp_path / "model.onnx"
    with pytest.raises(SystemExit) as leaving:
        main(["export", str(model), "-o", str(path), "--modalities", "eda,heart_rate", "--json", "--quiet"])
    said = capsys.readouterr()
    assert leaving.value.code == 0, said.err
    told = json.loads(said.out)
    assert told["largest_difference"] <= 1e-5
    assert told["inputs"][:2] == ["eda.patches", "eda.is_real"]
    held = {row.key: row.value for row in onnx.load(str(path)).metadata_props}
    assert json.loads(held["classes"]) == ["rest", "stress"]
    assert json.loads(held["patch_samples"]) == {"eda": 20, "heart_rate": 20}
    checkpoint = load_model(model)
    checkpoint.network.heads[0].bias.data += 0.01  # the check notices a file of other weights
    assert onnx_export.check_export(checkpoint, path, ("eda", "heart_rate")) > 0.005


@pytest.mark.parametrize("time_code", ["sinusoidal", "learned"])
def test_other_codes_patches_and_latents_are_saved_loaded_and_exported(
    made: ModuleType, tmp_path: Path, time_code: str
) -> None:
    tokens = TokenSettings(time_code=time_code, patch_embedding="convolutional")
    checkpoint = load_model(_trained(made, tmp_path / "model", tokens, rotary_latents=True))
    assert checkpoint.tokens == tokens
    assert checkpoint.model.rotary_latents
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    path = tmp_path / "model.onnx"
    onnx_export.export_onnx(checkpoint, path, ("eda", "heart_rate"))
    assert onnx_export.check_export(checkpoint, path, ("eda", "heart_rate")) <= 1e-5


def test_a_model_saved_before_the_settings_existed_is_the_default_one(model: Path, tmp_path: Path) -> None:
    description = json.loads((model / DESCRIPTION).read_text())
    new = ("time_code", "patch_embedding", "rotary_latents")
    for section in ("tokens", "model"):
        description[section] = {k: v for k, v in description[section].items() if k not in new}
    del description["description_sha256"]
    old = tmp_path / "old"
    write_model_folder(old, load_model(model).network.state_dict(), description, "card")
    assert load_model(old).tokens == load_model(model).tokens
    assert load_model(old).model == load_model(model).model


def test_what_the_model_was_not_trained_with_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_refuse_without_extra", lambda *names: None)
    checkpoint: Checkpoint = load_model(model)
    with pytest.raises(CheckpointError, match="not trained with ecg; it reads eda, heart_rate, tonic"):
        onnx_export.export_onnx(checkpoint, tmp_path / "a.onnx", ("ecg",))


def test_without_the_extra_the_command_says_how_to_get_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        SettingsError, match=r"needs onnx and onnxscript; install them with: pip install 'biopercept\[onnx\]'"
    ):
        onnx_export.export_onnx(load_model(model), tmp_path / "a.onnx")
