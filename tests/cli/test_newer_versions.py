"""What a newer biopercept wrote, given to the commands that read it: refused with 2 and the version that is needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import biopercept
from biopercept.cli.main import build_app
from biopercept.results.checksums import FILE as HASHES

NEWER = "9.1.0"
SHIPPED = Path(biopercept.__file__).parent / "shipped" / "stress-wrist"


def sentence_of(*words: object) -> str:
    """Return what a command that is refused with 2 says."""
    result = CliRunner().invoke(build_app(), [str(word) for word in words])
    assert getattr(result.exception, "exit_code", result.exit_code) == 2, (words, result.output)
    return result.stdout + (str(result.exception) if hasattr(result.exception, "exit_code") else result.stderr)


@pytest.fixture(scope="module")
def folder(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store, its scores, a small study, and of each what a newer version may have written."""
    folder = tmp_path_factory.mktemp("newer")
    made.store(folder / "made.h5", made.study(4))
    words = [folder / "made.h5", "-o", folder / "scores", "--model", "lda", "--split", "k-fold", "--folds", "2", "-q"]
    assert CliRunner().invoke(build_app(), ["cross-validate", *map(str, words)]).exit_code == 0
    shutil.copy(folder / "made.h5", folder / "newer.h5")
    with h5py.File(folder / "newer.h5", "r+") as file:
        file.attrs["schema"], file.attrs["biopercept_version"] = 2, np.bytes_(NEWER)
    (folder / "newer.yaml").write_text(f"biopercept: {NEWER}\n")
    shutil.copytree(SHIPPED, folder / "model")
    edit(folder / "model" / "model.json", lambda document: document["versions"].update(biopercept=NEWER))
    for name, change in {
        "scores": lambda document: document["fingerprint"].update(biopercept=NEWER),
        "folds": lambda document: document.update(biopercept=NEWER),
    }.items():
        shutil.copytree(folder / "scores", folder / f"newer_{name}")
        (folder / f"newer_{name}" / HASHES).unlink()  # as it would be of what the newer one wrote
        edit(folder / f"newer_{name}" / f"{name}.json", change)
    (folder / "study").mkdir()
    rows = "".join(f"{k / 4},{2 + k % 9 / 50}\n" for k in range(4 * 90))
    (folder / "study" / "S1.csv").write_text("time,EDA (uS)\n" + rows)
    for table, text in {
        "participants": "participant_id\nS1\n",
        "recordings": "participant_id\trecording\tpath\tcondition\nS1\tlab\tS1.csv\tcalm\n",
    }.items():
        (folder / "study" / f"{table}.tsv").write_text(text)
    (folder / "study" / "study.yaml").write_text("name: x\ntasks: {t: {classes: {rest: [calm], work: [count]}}}\n")
    return folder


def edit(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text())
    document["schema"] = 99
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "words",
    [
        "check study -c newer.yaml",
        "prepare study -o out.h5 -c newer.yaml",
        "train made.h5 -o out -c newer.yaml",
        "cross-validate made.h5 -o out -c newer.yaml",
        "config show newer.yaml",
        "prepare study -o newer.h5",
        "train newer.h5 -o out",
        "pretrain newer.h5 -o out",
        "cross-validate newer.h5 -o out",
        "audit newer.h5 -o out",
        "view newer.h5 --html out.html",
        "report scores --with newer.h5 -o out.html",
        "evaluate stress-wrist newer.h5 -o out",
        "predict model study -o out",
        "explain model study -o out",
        "reconstruct model study -o out",
        "evaluate model made.h5 -o out",
        "train made.h5 -o out --start-from model",
        "report newer_scores -o out.html",
        "compare scores newer_scores -o out",
        "train made.h5 -o out --scores newer_scores",
        "audit made.h5 -o out --model-scores newer_scores",
        "cross-validate made.h5 -o out --folds-from newer_folds",
    ],
)
def test_what_a_newer_version_wrote_names_the_version_that_is_needed(
    words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    said = " ".join(sentence_of(*words.split()).split())
    assert f"{NEWER} or newer" in said, said
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_changed_digit_of_scores_is_not_put_in_a_card(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "scores", tmp_path / "scores")
    path = tmp_path / "scores" / "scores.json"
    path.write_text(path.read_text().replace('"mean": 0.', '"mean": 1.', 1))
    said = sentence_of("train", folder / "made.h5", "-o", tmp_path / "model", "--scores", tmp_path / "scores")
    assert said.startswith(f"{path} is not what was written: it was damaged or edited since")
