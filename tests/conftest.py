"""Fixtures that the whole test suite shares."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

_REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of the real recordings that lie beside the checkout; skips where they are absent."""
    if not (_REFERENCE / "README.md").is_file():
        pytest.skip("the real recordings (../shared/data) are not beside this checkout")
    return _REFERENCE


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """Module that makes small prepared studies with known effects."""
    return import_module("made_study")
