"""Models that come with the package: whole, small, nameless, and taken by name wherever a model is taken."""

from __future__ import annotations

import hashlib
import inspect
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_datasets import write_e4
from typer.testing import CliRunner

import biopercept as bp
from biopercept.cli import options
from biopercept.cli.main import COMMANDS, build_app
from biopercept.cli.panels import with_options
from biopercept.errors import BioperceptError, CheckpointError
from biopercept.resources import model_folder, sample_study, shipped_model, shipped_models
from biopercept.training.checkpoint import load_model, load_start
from biopercept.training.model_card import model_scores_sentence, scores_by_task
from shipping.cards import SECTIONS, packaged_card
from shipping.recipes import LARGEST_BYTES, LARGEST_BYTES_TOGETHER, RECIPES

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(shipped_models())
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def test_every_recipe_has_its_model_and_together_they_are_small() -> None:
    models = shipped_models()
    recipes = {recipe.name for recipe in RECIPES}
    assert set(models) == recipes
    sizes = [model.to_json()["bytes"] for model in models.values()]
    assert max(sizes) < LARGEST_BYTES == 3_000_000
    assert sum(sizes) < LARGEST_BYTES_TOGETHER == 10_000_000


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_that_description_card_and_page_name(name: str) -> None:
    model = shipped_model(name)
    sha256 = hashlib.sha256((model.folder / "weights.safetensors").read_bytes()).hexdigest()
    assert model.description["weights_sha256"] == sha256
    assert model.card.count(sha256) == 1
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
    assert f"`{sha256}`" in row


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_a_stranger_must_know(name: str) -> None:
    model, training = shipped_model(name), shipped_model(name).description["training"]
    titles = re.findall(r"^## (.+)$", model.card, flags=re.M)
    assert [title for title in titles if title in SECTIONS] == list(SECTIONS)
    asked = {"Intended use", "Not for", "What it predicts", "What it reads", "Data", "Scores", "Limits"}
    assert {*asked, "What is unknown", "People and privacy", "Model"} <= set(titles)
    assert len(set(titles)) == len(titles)
    for scores in scores_by_task(training["scores"]).values():
        sentence = model_scores_sentence(scores)
        assert re.search(r"balanced accuracy 0\.\d+ \[0\.\d+, [01]\.\d+\]", sentence)
        assert sentence in model.card
        assert sentence in training["shipped"]["scored"]
        assert scores["fingerprint"]["store"] == training["store"]
    [recipe] = [recipe for recipe in RECIPES if recipe.name == name]
    assert model.card == packaged_card(recipe, model.folder.parent), "make models, or: python -m shipping . --cards"
    for word in ("Population: ", "Device: ", "Protocol: ", "Order of conditions: "):
        assert model.card.count(f"- {word}") == 1
    assert "clock-only: " in model.card or "clock-only" in str(training["shipped"]["audit"])
    for row in training["shipped"]["data"]:
        assert row["citation"] in model.card
        assert row["licence"] in model.card


@pytest.mark.parametrize("name", NAMES)
def test_nobody_and_no_machine_is_named_in_a_model(name: str) -> None:
    folder = shipped_model(name).folder
    assert sorted(path.name for path in folder.iterdir()) == ["card.md", "model.json", "weights.safetensors"]
    for path in folder.iterdir():
        text = path.read_bytes()
        assert re.findall(rb"(?<!\w)(?:S|sub-|Subject ?)\d{1,2}(?!\w)", text) == [] or path.suffix == ".safetensors"
        assert re.findall(rb"/(?:home|work|root|tmp|Users|mnt|data)/", text) == []
    header = (folder / "weights.safetensors").read_bytes()
    assert b"__metadata__" not in header[: 8 + int.from_bytes(header[:8], "little")]


def test_no_recording_of_the_real_studies_lends_its_name(reference_data: Path) -> None:
    people = {
        "stress-predict": [path.name for path in (reference_data / "stress-predict" / "Raw_data").iterdir()],
        "eegmat": [path.name.split("_")[0] for path in (reference_data / "eegmat").glob("*_1.edf")],
        "noneeg": [path.name.split("_")[0] for path in (reference_data / "noneeg").rglob("*_SpO2HR.hea")],
    }
    assert min(map(len, people.values())) >= 18
    for name in NAMES:
        text = (shipped_model(name).folder / "model.json").read_text() + shipped_model(name).card
        start = load_start(shipped_model(name).folder)
        for study in start.studies:
            ids = people[study["study"]]
            assert [person for person in ids if re.search(rf"\b{person}\b", text)] == []
            assert len(start.overlap(study["study"], "another store", [*ids, "nobody"])) == len(study["subjects"])
            assert start.overlap("another study", study["store"], ids) == start.overlap(study["study"], "", ids)
            assert start.overlap("another study", "another store", ids) == ()


def test_the_list_shows_each_model_with_licence_attribution_and_scores() -> None:
    run = CliRunner().invoke(build_app(), ["models"])
    assert run.exit_code == 0
    for name in NAMES:
        row = shipped_model(name).to_json()
        block = run.stdout.split(f"{name}: ")[1].split("\n\n")[0]
        for words in (row["title"], row["scored"], ", ".join(row["sensors"])):
            assert words in block
        for part in row["data"]:
            for words in (part["licence"], part["citation"], f"{part['n_subjects']} people of {part['study']}"):
                assert words in block
        assert f"windows: {row['window_seconds']:g} s" in block
    card = CliRunner().invoke(build_app(), ["models", NAMES[0]])
    assert card.stdout.rstrip("\n") == shipped_model(NAMES[0]).card.rstrip("\n")


def test_a_name_a_path_and_what_is_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = shipped_model("stress-wrist").folder
    assert model_folder("stress-wrist") == shipped
    (tmp_path / "mine").mkdir()
    assert model_folder("mine") == Path("mine")
    assert model_folder("./stres-wrist") == Path("stres-wrist")
    assert model_folder(Path("stress-wrist")) == Path("stress-wrist")
    with pytest.raises(CheckpointError) as unknown:
        model_folder("stres-wrist")
    assert str(unknown.value) == (
        "there is no folder 'stres-wrist' here, and no model of that name comes with biopercept; known are "
        f"{', '.join(sorted(NAMES))}; did you mean stress-wrist?"
    )
    (tmp_path / "stress-wrist").mkdir()
    with pytest.raises(CheckpointError) as ambiguous:
        model_folder("stress-wrist")
    assert str(ambiguous.value) == (
        "'stress-wrist' is a folder here and the name of a model that comes with biopercept; give ./stress-wrist for "
        "the folder, or the path that 'biopercept models stress-wrist' names for the other"
    )
    assert model_folder("./stress-wrist") == Path("stress-wrist")
    with pytest.raises(CheckpointError, match=r"no model 'base5' comes with biopercept; known are "):
        shipped_model("base5")


def test_every_command_that_takes_a_model_takes_a_name() -> None:
    taking = {}
    for command in (name for names in COMMANDS.values() for name in names):
        module = import_module(f"biopercept.cli.{command}")
        if not hasattr(module, "app"):
            for parameter in inspect.signature(with_options(getattr(module, command))).parameters.values():
                declared = getattr(parameter.annotation, "__metadata__", (None,))[0]
                if getattr(declared, "metavar", None) == "MODEL" or parameter.name in ("start_from", "saved"):
                    taking[command] = declared
    assert {"predict", "export", "train", "pretrain", "cross_validate", "learning_curve"} <= set(taking)
    assert {name for name, declared in taking.items() if declared.parser is not options._model_folder} == set()


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "no-such", "rec.csv", "-o", "out"],
        ["export", "no-such", "-o", "out.onnx"],
        ["train", "no.h5", "-o", "out", "--start-from", "no-such"],
        ["cross-validate", "no.h5", "-o", "out", "--start-from", "no-such"],
    ],
    ids=" ".join,
)
def test_an_unknown_name_is_one_sentence_before_anything_is_read(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fault = CliRunner().invoke(build_app(), words).exception
    assert isinstance(fault, BioperceptError)
    assert str(fault).startswith("there is no folder 'no-such' here, and no model of that name comes with biopercept")
    assert list(tmp_path.iterdir()) == []


def test_an_empatica_recording_is_predicted_and_explained_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_e4(tmp_path / "X1", seconds=300)
    run = CliRunner().invoke(build_app(), ["predict", "stress-wrist", "X1", "-o", "out", "--device", "cpu"])
    assert run.exit_code == 0, run.output
    [path] = (tmp_path / "out").glob("*_predictions.tsv")
    table = pd.read_csv(path, sep="\t")
    assert '"model": "stress-wrist"' in path.with_suffix(".json").read_text()
    np.testing.assert_allclose(table.filter(like="probability_").dropna().sum(axis=1), 1, atol=1e-3)
    by_name = bp.predict("stress-wrist", "X1", device="cpu").to_frame()
    np.testing.assert_allclose(by_name.filter(like="probability_"), table.filter(like="probability_"), atol=1e-3)
    assert len(by_name) == len(table) > 3
    assert bp.explain("stress-wrist", "X1", device="cpu").task == "stress"


@pytest.mark.parametrize("sensor", ["ecg", "eeg"])
def test_workload_is_predicted_from_either_sensor_alone(sensor: str) -> None:
    model = bp.load_model("workload-eeg")
    assert model.training["modalities"] == ["ecg", "eeg"]
    with sample_study() as study:
        recording = bp.load_recording(study / "recordings" / "S01_chest.edf")
        [signal] = [signal for signal in recording.signals if signal.modality == sensor]
        predicted = bp.predict(model, replace(recording, signals=(signal,)), device="cpu")
    assert predicted.used == (sensor,)
    assert (predicted.to_frame()["reason"] == "").mean() > 0.5


def test_files_of_a_model_can_be_read_by_others(tmp_path: Path) -> None:
    from biopercept.training.checkpoint import save_checkpoint

    save_checkpoint(load_model(shipped_model("stress-wrist").folder), tmp_path / "model", "card")
    assert len({path.stat().st_mode for path in (tmp_path / "model").iterdir()}) == 1


def test_whom_a_shipped_model_was_fitted_on_is_known_without_their_names() -> None:
    start = load_start(shipped_model("states-wrist").folder)
    assert start.overlap("noneeg", "another store", ["Subject1", "Subject99"]) == ("Subject1",)
    assert start.overlap("another study", "another store", ["Subject1"]) == ()
