"""The only place that finds what is packaged: presets and the sample study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path


def preset_names() -> tuple[str, ...]:
    """Return the names of the packaged presets, sorted."""
    folder = files("biopercept.configs")
    return tuple(sorted(entry.name[: -len(".yaml")] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def preset_text(name: str) -> str:
    """Return the YAML text of a packaged preset.

    Raises
    ------
    FileNotFoundError
        Where there is no such preset.
    """
    return files("biopercept.configs").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


@contextmanager
def sample_study() -> Iterator[Path]:
    """Give the folder of the packaged sample study, as a path that exists while the context does."""
    with as_file(files("biopercept.sample_data").joinpath("study")) as folder:
        yield Path(folder)
