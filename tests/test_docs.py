"""The pages under docs/: the site builds with every link in place, and what pages quote and tutorials run is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def test_the_site_builds_and_every_link_and_page_has_its_place(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed (pip install '.[docs]')")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(ROOT / ".mkdocs.yml")]
    done = subprocess.run([*words, "-d", str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    elsewhere = re.findall(r"(?:src|href)=\"(https?:[^\"]+\.(?:js|css|woff2?))", page)
    assert elsewhere == []


def test_pages_of_reference_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "reference-pages"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run .ci/reference-pages"


@cache
def code() -> str:
    """Return the text of the package with string literals joined over line ends."""
    files = [p for folder in ("biopercept", "cli") for p in sorted((ROOT / folder).rglob("*.py"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return re.sub(r"\"\s*\n\s*f?\"", "", text)


def quoted_messages() -> list[str]:
    page = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    return re.findall(r"\*\*`([^`]+)`\*\*", page)


@pytest.mark.parametrize("message", quoted_messages())
def test_a_message_that_the_page_of_errors_explains_is_one_that_we_give(message: str) -> None:
    for part in message.split("..."):
        assert part.strip() in code(), part


def test_the_tests_that_the_page_of_faults_names_are_there() -> None:
    page = (ROOT / "docs" / "measurements" / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in text_of(ROOT / file)]
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| fault")]
    assert named
    assert missing == []
    assert [row for row in rows if row.count("|") != 5] == []


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def tutorial_blocks(page: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_the_lines_of_a_tutorial_run_as_they_stand(page: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("biopercept", "-m biopercept.cli"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    surroundings = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    blocks = tutorial_blocks(page)
    assert blocks
    for block in blocks:
        words = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(words, cwd=work, env=surroundings, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
