"""Fixtures of the tests of prepare: a tiny study, and its store as one run writes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_study import run, write_study


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Bytes of the store of the whole study, prepared in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(write_study(folder / "study"), folder / "made.h5")
    return (folder / "made.h5").read_bytes()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study")
