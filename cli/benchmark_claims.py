"""``biopercept benchmark --claims`` and ``--fusion``: the talk's claims, on made data and on prepared studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import print_json, print_text, progress, refuse_existing, say

if TYPE_CHECKING:
    from biopercept.config import Config
    from biopercept.evaluation.plan import EvaluationRequest


def run_claims_command(
    output: Path | None, *, seed: int, jobs: int, quick: bool, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    """Run the claims' experiments into a folder and print the page's path, or everything as JSON.

    Raises
    ------
    SettingsError
        Where no folder is given.
    """
    from biopercept.claims.pages import run_claims

    folder = _folder(output, "--claims", overwrite=overwrite)
    with progress(quiet=quiet) as bar:
        tell = _teller(bar, "claims: units", quiet=quiet)
        found = run_claims(folder, seed=seed, quick=quick, n_jobs=jobs, anew=overwrite, on_unit=tell)
    if as_json:
        print_json(found)
    else:
        print_text(str(folder / "claims.md"))


def run_fusion_command(
    stores: list[Path],
    output: Path | None,
    *,
    config: str | None,
    overrides: list[str] | None,
    task: str | None,
    folds: int,
    seed: int,
    jobs: int,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare early and late fusion on each store and print the pages' paths, or everything as JSON.

    Raises
    ------
    SettingsError
        Where no folder or no store is given, or two stores have one name.
    """
    from biopercept.claims.fusion_study import run_fusion
    from biopercept.config import load_config
    from biopercept.errors import SettingsError

    folder = _folder(output, "--fusion", overwrite=overwrite)
    if not stores:
        raise SettingsError("--fusion needs a prepared study; name at least one store that prepare wrote")
    if len({store.stem for store in stores}) < len(stores):
        raise SettingsError("two stores have the same file name, and results are named after it; run them one by one")
    settings = load_config(config, overrides or [])
    documents = []
    for store in stores:
        request = _request(store, settings, task, folds, seed)
        command = _command(store, config, overrides, task, folds, seed)
        with progress(quiet=quiet) as bar:
            tell = _teller(bar, f"{store.stem}: folds", quiet=quiet)
            found = run_fusion(request, folder, n_jobs=jobs, anew=overwrite, command=command, on_unit=tell)
        documents.append(found)
        for warning in found["warnings"]:
            say(f"warning: {warning}", quiet=quiet)
        if not as_json:
            print_text(str(folder / f"fusion-{store.stem}.md"))
    if as_json:
        print_json(documents)


def _request(store: Path, settings: Config, task: str | None, folds: int, seed: int) -> EvaluationRequest:
    from biopercept.evaluation.plan import EvaluationRequest
    from biopercept.evaluation.settings import EvaluationSettings
    from biopercept.training.settings import FitSettings

    return EvaluationRequest(
        store,
        task=task,
        fit=FitSettings(settings.tokens, settings.model, settings.training),
        normalisation=settings.normalisation,
        evaluation=EvaluationSettings(split="k-fold", n_folds=folds),
        seed=seed,
        device="cpu",
    )


def _command(
    store: Path, config: str | None, overrides: list[str] | None, task: str | None, folds: int, seed: int
) -> str:
    """Return the command without folders, which are nobody else's business."""
    words = ["biopercept benchmark --fusion", store.name, "-o OUT"]
    words += [f"-c {Path(config).name}"] if config else []
    words += [f"--set {override}" for override in overrides or []]
    words += [f"--task {task}"] if task else []
    return " ".join([*words, f"--folds {folds} --seed {seed}"])


def _folder(output: Path | None, option: str, *, overwrite: bool) -> Path:
    """Return the output folder if it is new or holds an earlier run that can go on.

    Raises
    ------
    SettingsError
        Where none is given.
    OutputError
        Where it holds something else.
    """
    from biopercept.claims.units import FOLDER
    from biopercept.errors import SettingsError

    if output is None:
        raise SettingsError(f"{option} writes pages and the work they rest on; give a folder with --output")
    if not (output / FOLDER).is_dir():
        refuse_existing(output, overwrite=overwrite)
    return output


def _teller(bar: Any, title: str, *, quiet: bool) -> Any:
    """Return what is told of each finished unit: it moves the bar, or says a line where there is none."""
    line = bar.add_task(title, total=None)
    n_done = 0

    def tell(unit: Any, was_done: bool, n_units: int) -> None:
        nonlocal n_done
        n_done += 1
        bar.update(line, total=n_units, advance=1)
        if bar.disable:
            say(f"{n_done}/{n_units} {unit.name} {'was done before' if was_done else 'done'}", quiet=quiet)

    return tell
