"""The only place that finds what is packaged: presets and the sample study."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from biopercept.errors import OutputError


def preset_names() -> tuple[str, ...]:
    """Return the names of the packaged presets, sorted."""
    folder = files("biopercept.configs")
    return tuple(sorted(entry.name[: -len(".yaml")] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def preset_text(name: str) -> str:
    """Return the YAML text of a packaged preset. Raises FileNotFoundError where there is no such preset."""
    return files("biopercept.configs").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


@contextmanager
def sample_study() -> Iterator[Path]:
    """Give the folder of the packaged sample study, as a path that exists while the context does."""
    with as_file(files("biopercept.sample_data").joinpath("study")) as folder:
        yield Path(folder)


def copy_sample_study(target: Path) -> Path:
    """Return the folder that the packaged sample study was copied to; a copy that is already there is kept.

    Raises OutputError where it cannot be written.
    """
    if (target / "study.yaml").is_file():
        return target
    unfinished = target.with_name(f".{target.name}.copying")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        with sample_study() as source:
            shutil.copytree(source, unfinished)
        unfinished.rename(target)
    except OSError as fault:
        raise OutputError(f"the sample study cannot be copied to {target}: {fault.strerror or fault}") from fault
    return target
