"""Fixtures that the whole test suite shares."""

from __future__ import annotations

from collections.abc import Iterator
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


@pytest.fixture(scope="module", autouse=True)
def no_rendering(request: pytest.FixtureRequest) -> Iterator[None]:
    """Paint figures without rendering them, which is most of the time of a command, except where a file is marked."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("figures") is None:
            patch.setattr("biopercept.report.drawing.rendered", lambda _: b"<svg/>")
        yield


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """Module that makes small prepared studies with known effects."""
    return import_module("made_study")
