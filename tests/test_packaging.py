"""The wheel, built from a clean copy and used from a folder outside the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from made_datasets import write_e4

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``dist`` and a ``venv`` in which the wheel is installed."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("wheel")
    run = subprocess.run(
        [ROOT / ".ci" / "install-wheel", folder], env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr + run.stdout
    return folder


def _run(installed: Path, *words: str) -> str:
    command = [installed / "venv" / "bin" / words[0], *words[1:]]
    run = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_site_packages_holds_biopercept_and_nothing_else(installed: Path) -> None:
    [folder] = (installed / "venv" / "lib").glob("python*/site-packages")
    found = {path.name for path in folder.iterdir() if not path.name.endswith(".dist-info")}
    assert found == {"biopercept", "dependencies.pth"}


def test_the_wheel_holds_every_packaged_file_and_no_leftovers(installed: Path) -> None:
    [wheel] = (installed / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    wanted = {"biopercept/py.typed"}
    for folder, inside in (
        ("biopercept", ""),
        ("cli", "biopercept/"),
        ("configs", "biopercept/"),
        ("sample_data", "biopercept/"),
    ):
        for path in (ROOT / folder).rglob("*"):
            is_data = (
                folder in ("configs", "sample_data")
                or "shipped" in path.parts
                or path.suffix in (".html", ".css", ".js", ".txt")
            )
            if path.is_file() and "__pycache__" not in path.parts and (path.suffix == ".py" or is_data):
                wanted.add(inside + str(path.relative_to(ROOT)))
    assert names == wanted
    assert len(licences) == 1


def test_the_models_in_the_wheel_are_small_and_predict_by_name(installed: Path) -> None:
    [wheel] = (installed / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        sizes: dict[str, int] = {}
        for row in archive.infolist():
            if row.filename.startswith("biopercept/shipped/"):
                name = row.filename.split("/")[2]
                sizes[name] = sizes.get(name, 0) + row.file_size
    assert set(sizes) >= {"stress-wrist", "workload-eeg", "states-wrist"}
    assert max(sizes.values()) < 3_000_000
    assert sum(sizes.values()) < 10_000_000
    assert "stress-wrist: " in _run(installed, "biopercept", "models")
    write_e4(installed / "X1", seconds=200)
    _run(installed, "biopercept", "predict", "stress-wrist", "X1", "-o", "predicted", "--device", "cpu")
    [sidecar] = (installed / "predicted").glob("*_predictions.json")
    assert '"model": "stress-wrist"' in sidecar.read_text()


def test_the_command_runs_from_another_folder(installed: Path) -> None:
    where = _run(installed, "python", "-c", "import biopercept; print(biopercept.__file__)")
    assert Path(where.strip()).is_relative_to(installed / "venv")
    assert "cross-validate" in _run(installed, "biopercept", "--help")


def test_the_packaged_presets_and_sample_study_are_found(installed: Path) -> None:
    assert "general" in _run(installed, "biopercept", "config", "list")
    code = (
        "from biopercept.resources import sample_study\n"
        "with sample_study() as study: print(sorted(p.name for p in study.iterdir()))"
    )
    listed = _run(installed, "python", "-c", code)
    assert "study.yaml" in listed
    assert "recordings.tsv" in listed
