"""What is installed beside the package, and that it asks nobody anything while it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CORE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
FREE = re.compile(r"MIT|BSD|Apache|PSF|Python Software Foundation|ISC|MPL|Mozilla|HPND|Zlib|CC0|Unlicense|Boost|BSL")
COPYLEFT = re.compile(r"\bA?GPL|Affero|GNU General Public", re.IGNORECASE)


def licence_of(name: str) -> str:
    """Return what a package says of its licence: the expression, the classifiers, or the first line of the text."""
    about = distribution(name).metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [row for row in about.get_all("Classifier") or [] if row.startswith("License :: OSI Approved ::")]
    text = (about.get("License") or "").strip()
    return "; ".join(row.rpartition(" :: ")[2] for row in classifiers) or " ".join(text[:300].split())


def core_packages() -> dict[str, str]:
    """Return the licence of each package that a plain installation brings, by name."""
    licences: dict[str, str] = {}
    waiting = [*CORE]
    while waiting:
        wanted = Requirement(waiting.pop())
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in licences or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            waiting += distribution(name).requires or []
        except PackageNotFoundError:  # for other machines, such as what CUDA needs
            continue
        licences[name] = licence_of(name)
    return licences


def test_no_package_of_the_core_is_under_the_gpl_and_each_says_its_licence() -> None:
    licences = core_packages()
    assert {"numpy", "torch", "mne", "neurokit2"} <= licences.keys()
    assert {name: words for name, words in licences.items() if COPYLEFT.search(words)} == {}
    assert {name: words for name, words in licences.items() if not FREE.search(words)} == {}


@pytest.mark.parametrize("words", ["GPL-3.0-or-later", "AGPL-3.0", "GNU General Public License v2 (GPLv2)"])
def test_words_of_the_gpl_are_known(words: str) -> None:
    assert COPYLEFT.search(words)
    assert not FREE.search(words)


def lock(*words: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, root / ".ci" / "lock", *words], capture_output=True, text=True, check=False)


def test_the_locked_hashes_are_of_the_pinned_versions(tmp_path: Path) -> None:
    run = lock("--check")
    assert (run.returncode, run.stderr) == (0, "")
    (tmp_path / ".ci").mkdir()
    for name in ("constraints.txt", ".ci/lock", ".ci/locked.txt"):
        text = (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(
            re.sub(r"^numpy==.*", "numpy==9.9", text, flags=re.MULTILINE) if "con" in name else text
        )
    run = lock("--check", root=tmp_path)
    assert run.returncode == 1
    assert re.fullmatch(
        r"numpy: 9\.9 in constraints\.txt, [\d.]+ in \.ci/locked\.txt\nout of date: run \.ci/lock\n", run.stderr
    )


def test_what_is_installed_here_is_what_is_pinned() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    unpinned = {name for name in core_packages() if not {name, name.replace("-", "_")} & pinned.keys()}
    assert unpinned == set(), "constraints.txt lacks them, and so .ci/locked.txt"


def connected(folder: Path, *words: str) -> tuple[int, str, str]:
    """Run a command where nothing may be reached; return its exit code, words and what it tried to reach."""
    attempts = folder / "attempts"
    command = [sys.executable, ROOT / "tests" / "no_network.py", *words]
    environment = {**os.environ, "ATTEMPTS": str(attempts), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return run.returncode, run.stderr, attempts.read_text() if attempts.exists() else ""


def test_the_main_job_needs_no_network(tmp_path: Path) -> None:
    from biopercept.resources import copy_sample_study

    copy_sample_study(tmp_path / "study")
    some = ("--subjects", "S01,S02,S03")
    for words in (
        ("prepare", "study", "-o", "study.h5", *some, "-q"),
        ("cross-validate", "study.h5", "-o", "scores", "--model", "logistic", "--seeds", "1", "-q"),
        ("train", "study.h5", "-o", "model", "--set", "training.n_epochs=1", "-q"),
        ("predict", "model", "study/recordings/S04_wrist.csv.gz", "-o", "predicted", "-q"),
        ("report", "scores", "-o", "report.html"),
        ("doctor",),
    ):
        assert connected(tmp_path, *words)[::2] == (0, ""), words


def test_a_connection_would_be_noticed(tmp_path: Path) -> None:
    code = "import no_network, socket; socket.create_connection(('127.0.0.1', 9))"
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "ATTEMPTS": str(tmp_path / "attempts"), "PYTHONPATH": path}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "PermissionError: socket.getaddrinfo is forbidden here" in run.stderr
    assert (tmp_path / "attempts").read_text().startswith("socket.getaddrinfo")
