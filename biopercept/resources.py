"""What is packaged (presets, sample study, models), what is installed beside biopercept, what this machine offers."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from biopercept.errors import CheckpointError, OutputError
from biopercept.files import cause
from biopercept.parallel import wait_passively
from biopercept.typed_values import did_you_mean, path_meant
from biopercept.version import __version__


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
        shutil.rmtree(unfinished, ignore_errors=True)
        raise OutputError(f"the sample study cannot be copied to {target}: {cause(fault)}") from fault
    return target


@dataclass(frozen=True)
class ShippedModel:
    """A trained model that comes with the package; ``folder`` is as ``train`` writes one."""

    name: str
    folder: Path

    @cached_property
    def description(self) -> dict[str, Any]:
        """Return what the model says of itself (``model.json``); its hashes are checked where it is loaded.

        Raises CheckpointError where it cannot be read.
        """
        try:
            description: dict[str, Any] = json.loads((self.folder / "model.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as fault:
            raise CheckpointError(f"{self.folder} cannot be read ({fault}); install biopercept again") from fault
        return description

    @property
    def card(self) -> str:
        """Return its card (Markdown): whom it was fitted on, scores, what it is not for, what is unknown, licence."""
        return (self.folder / "card.md").read_text(encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """Return what it predicts from what, on whom it was fitted, how it scored, and what licences its data have.

        ``data`` has a row for each study: its people, licence and citation.
        """
        training, whole = self.description["training"], self.description
        everybody = [*training["subjects"], *training["validation_subjects"]]
        parts = training.get("studies", [{"study": training["study"], "subjects": everybody}])
        people = {part["study"]: len(part["subjects"]) for part in parts}
        data = [{**row, "n_subjects": people[row["study"]]} for row in training["shipped"]["data"]]
        return {
            "name": self.name,
            "title": training["shipped"]["title"],
            "tasks": {task["name"]: list(task["classes"]) for task in whole["tasks"]},
            "sensors": training["modalities"],
            "window_seconds": whole["prepare"]["windows"]["length_seconds"],
            "study": training["study"],
            "n_subjects": sum(people.values()),
            "scores": training["scores"],
            "scored": training["shipped"]["scored"],
            "across_studies": training["shipped"].get("across_studies"),
            "data": data,
            "parameters": training["parameters"],
            "bytes": sum(path.stat().st_size for path in self.folder.iterdir()),
            "weights_sha256": whole["weights_sha256"],
            "folder": str(self.folder),
        }


def shipped_models() -> dict[str, ShippedModel]:
    """Return the models that come with the package, by name."""
    home = Path(str(files("biopercept"))) / "shipped"
    folders = sorted(path for path in home.glob("*") if (path / "model.json").is_file())
    return {path.name: ShippedModel(path.name, path) for path in folders}


def shipped_model(name: str) -> ShippedModel:
    """Return a model that comes with the package. Raises CheckpointError, with the names, where there is none of it."""
    known = shipped_models()
    if name not in known:
        raise CheckpointError(
            f"no model {name!r} comes with biopercept; known are {', '.join(known)}{did_you_mean(name, known)}"
        )
    return known[name]


def model_folder(given: str | Path) -> Path:
    """Return the folder of a model that is given as a path, or as text that may be the name of one in the package.

    A Path is always a folder, and so is text with a separator, such as ``./stress-wrist``.

    Raises CheckpointError where the name is unknown, or a folder of that name is here, too.
    """
    folder = Path(given)
    if isinstance(given, Path) or not given or given != folder.name:
        return folder
    known = shipped_models()
    if given not in known:
        if folder.exists():
            return folder
        meant = did_you_mean(given, known) or path_meant(folder)
        raise CheckpointError(
            f"there is no folder {given!r} here, and no model of that name comes with biopercept; known are "
            f"{', '.join(known)}{meant}"
        )
    if folder.is_dir():
        raise CheckpointError(
            f"{given!r} is a folder here and the name of a model that comes with biopercept; give ./{given} for the "
            f"folder, or the path that 'biopercept models {given}' names for the other"
        )
    return known[given].folder


CORE = "core"
_CARDS = {"cuda": "CUDA", "hip": "ROCm", "xpu": "XPU"}
"""By what torch says in its version file: the cards that a build of it can use."""


@dataclass(frozen=True)
class Requirement:
    """One package that biopercept requires: the version range (empty for any) and the version that is there, if any."""

    name: str
    wanted: str
    installed: str | None
    is_met: bool

    def __str__(self) -> str:
        mark = "ok     " if self.is_met else "MISSING" if self.installed is None else "OTHER  "
        wanted = f" (wanted {self.wanted})" if self.wanted and not self.is_met else ""
        return f"{mark} {self.name} {self.installed or 'missing'}{wanted}"


@dataclass(frozen=True)
class Installation:
    """Versions, device and requirements.

    ``device`` is what ``--device auto`` takes; ``devices`` are all, with name and memory. ``groups`` are "core", and
    one for each extra. ``waiting_threads`` says how idle threads of numerical libraries wait, and who set it.
    """

    versions: dict[str, str]
    n_cores: int
    device: str
    devices: tuple[str, ...]
    groups: dict[str, tuple[Requirement, ...]]
    waiting_threads: str

    @property
    def is_broken(self) -> bool:
        """Return whether something that biopercept cannot do without is missing or of another version."""
        return not all(row.is_met for row in self.groups[CORE])

    def install_line(self, group: str) -> str | None:
        """Return the command that installs what a group lacks, or None where it lacks nothing."""
        if all(row.is_met for row in self.groups[group]):
            return None
        name = "biopercept" if group == CORE else f"biopercept[{group}]"
        return f'{"python" if os.name == "nt" else "python3"} -m pip install --upgrade "{name}"'

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain dicts, lists and text."""
        return {
            "versions": self.versions,
            "cores": self.n_cores,
            "device": self.device,
            "devices": list(self.devices),
            "waiting_threads": self.waiting_threads,
            "packages": {
                group: {"install": self.install_line(group), "requirements": [asdict(row) for row in rows]}
                for group, rows in self.groups.items()
            },
        }

    def lines(self) -> list[str]:
        """Return everything as lines to read."""
        words = [f"{name} {version}" for name, version in self.versions.items()]
        text = [", ".join(words), f"{self.n_cores} cores; device {self.device} ({'; '.join(self.devices)})"]
        text.append(f"idle threads wait: {self.waiting_threads}")
        for group, rows in self.groups.items():
            text += ["", "core packages" if group == CORE else f"extra [{group}]"]
            text += [f"  {row}" for row in rows]
            if line := self.install_line(group):
                text.append(f"  to install: {line}")
        return text


def describe_installation() -> Installation:
    """Return what is installed and what this machine offers."""
    device, devices = _devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    versions = {
        "biopercept": __version__,
        "Python": platform.python_version(),
        platform.system(): f"{platform.release()} {platform.machine()}",
    }
    return Installation(versions, cores, device, devices, _groups(), wait_passively())


def _groups() -> dict[str, tuple[Requirement, ...]]:
    """Return what the package's own metadata asks for, so that there is no second list."""
    from packaging.requirements import Requirement as Wanted

    metadata = importlib.metadata.metadata("biopercept")
    extras = sorted(metadata.get_all("Provides-Extra") or [])
    groups: dict[str, list[Requirement]] = {CORE: [], **{extra: [] for extra in extras}}
    for text in metadata.get_all("Requires-Dist") or []:
        wanted = Wanted(text)
        for group, rows in groups.items():
            is_here = wanted.marker is None or wanted.marker.evaluate({"extra": "" if group == CORE else group})
            is_own = group == CORE or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}))
            if is_here and is_own:
                rows.append(_requirement(wanted.name, str(wanted.specifier)))
    return {group: tuple(rows) for group, rows in groups.items()}


def _requirement(name: str, wanted: str) -> Requirement:
    from packaging.specifiers import SpecifierSet

    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Requirement(name, wanted, None, is_met=False)
    return Requirement(name, wanted, installed, is_met=SpecifierSet(wanted).contains(installed, prereleases=True))


def _devices() -> tuple[str, tuple[str, ...]]:
    """Return what ``--device auto`` takes, and a line on every device.

    torch takes more than a second to import: a build of it for processors alone, as its own version file says, has no
    other device to be asked for.
    """
    built_for = _torch_is_built_for()
    if built_for is None:
        return "none", ("torch is missing",)
    if not built_for:
        return "cpu", ("torch is built for the processor alone",)
    import torch

    if not torch.cuda.is_available():
        return "cpu", (f"torch is built for {built_for}, and finds no graphics card that it can use",)
    rows = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return "cuda", tuple(f"cuda:{i} {row.name}, {row.total_memory / 2**30:.0f} GiB" for i, row in enumerate(rows))


def _torch_is_built_for() -> str | None:
    """Return which graphics cards torch was built for, empty for none, or None where there is no torch."""
    import runpy
    from importlib.util import find_spec

    spec = find_spec("torch")  # a package at the top is not imported by this
    if spec is None:
        return None
    try:
        stated = runpy.run_path(str(Path(spec.origin or "").with_name("version.py")))
    except (OSError, SyntaxError):
        return "cards of some kind"  # torch itself is asked
    return ", ".join(f"{title} {stated[name]}" for name, title in _CARDS.items() if stated.get(name))
