"""The experiments' own command line, from the top of a checkout: ``PYTHONPATH=docs python -m experiments --help``.

``claims`` and ``forecast`` bring their data along; ``fusion`` reads stores that ``biopercept prepare`` wrote. All go on
where an earlier run stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from biopercept.cli.options import (
    AsJson,
    ConfigName,
    Jobs,
    ModelPreset,
    Output,
    Overrides,
    Overwrite,
    Quiet,
    Seed,
    TaskName,
)
from biopercept.cli.terminal import print_json, print_text, progress, say
from biopercept.config.settings import Config, Purpose
from biopercept.errors import BioperceptError, SettingsError
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.files import refuse_existing
from biopercept.training.settings import FitSettings
from experiments.claims import run_claims
from experiments.forecasting import run_forecasting
from experiments.fusion import run_fusion
from experiments.units import FOLDER

Quick = Annotated[bool, typer.Option("--quick", help="A trial of seconds, no result.")]
app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)


@app.command()
def claims(
    output: Output,
    quick: Quick = False,
    seed: Seed = 0,
    jobs: Jobs = 1,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Permuted inputs, one architecture for four kinds of input, and early against late fusion, on made data."""
    _check_folder(output, overwrite=overwrite)
    with progress(quiet=quiet) as bar:
        on_unit = _counter(bar, "claims: units", quiet=quiet)
        found = run_claims(output, seed=seed, quick=quick, n_jobs=jobs, anew=overwrite, on_unit=on_unit)
    _print(found if as_json else None, output / "claims.md")


@app.command()
def forecast(
    output: Output,
    quick: Quick = False,
    seed: Seed = 0,
    jobs: Jobs = 1,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Predict the next patch of the sample study's slow signals, beside persistence."""
    _check_folder(output, overwrite=overwrite)
    with progress(quiet=quiet) as bar:
        on_unit = _counter(bar, "forecasting: units", quiet=quiet)
        found = run_forecasting(output, seed=seed, quick=quick, n_jobs=jobs, anew=overwrite, on_unit=on_unit)
    _print(found if as_json else None, output / "forecasting.md")


@app.command()
def fusion(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE...", help="Stores that prepare wrote.")],
    output: Output,
    config: ConfigName = None,
    overrides: Overrides = None,
    task: TaskName = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Folds over subjects.")] = 5,
    seed: Seed = 0,
    jobs: Jobs = 1,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Early against late fusion, and missing sensors, on studies of your own: a page for each store."""
    _check_folder(output, overwrite=overwrite)
    if len({store.stem for store in stores}) < len(stores):
        raise SettingsError("two stores have the same file name, and results are named after it; run them one by one")
    documents = []
    for store in stores:
        settings = _settings(store, ModelPreset(config, overrides), quiet=quiet)
        command = _command(store, config, overrides, task, folds, seed)
        with progress(quiet=quiet) as bar:
            on_unit = _counter(bar, f"{store.stem}: folds", quiet=quiet)
            request = _request(store, settings, task, folds, seed)
            found = run_fusion(request, output, n_jobs=jobs, anew=overwrite, command=command, on_unit=on_unit)
        documents.append(found)
        for warning in found["warnings"]:
            say(f"warning: {warning}", quiet=quiet)
        if not as_json:
            print_text(str(output / f"fusion-{store.stem}.md"))
    if as_json:
        print_json(documents)


def main() -> None:
    """Run one experiment and leave with the exit code of the outcome; what the user can mend is one sentence."""
    try:
        app(prog_name="experiments")
    except BioperceptError as error:
        say(f"experiments: {error}")
        sys.exit(error.exit_code)


def _settings(store: Path, preset: ModelPreset, *, quiet: bool) -> Config:
    """Return the effective settings; what a fit does not read is refused, and calibration, which fusion lacks."""
    settings: Config = preset.of_store(store, purposes=[Purpose("train")], quiet=quiet)
    if settings.evaluation.calibrating.is_wanted:
        raise SettingsError("fusion does not calibrate; leave evaluation.calibration and conformal_coverage out")
    return settings


def _request(store: Path, settings: Config, task: str | None, folds: int, seed: int) -> EvaluationRequest:
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
    words = ["python -m experiments fusion", store.name, "-o OUT"]
    words += [f"-c {Path(config).name}"] if config else []
    words += [f"--set {override}" for override in overrides or []]
    words += [f"--task {task}"] if task else []
    return " ".join([*words, f"--folds {folds} --seed {seed}"])


def _check_folder(output: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that is neither new nor one of an earlier run, which can go on."""
    if not (output / FOLDER).is_dir():
        refuse_existing(output, overwrite=overwrite)


def _print(document: dict[str, Any] | None, page: Path) -> None:
    """Print the document as JSON, or the path of the page where there is none."""
    if document is None:
        print_text(str(page))
    else:
        print_json(document)


def _counter(bar: Any, title: str, *, quiet: bool) -> Any:
    """Return what is called for each finished unit: it moves the bar, or says a line where there is none."""
    line = bar.add_task(title, total=None)
    n_done = 0

    def count(unit: Any, was_done: bool, n_units: int) -> None:
        nonlocal n_done
        n_done += 1
        bar.update(line, total=n_units, advance=1)
        if bar.disable:
            say(f"{n_done}/{n_units} {unit.name} {'was done before' if was_done else 'done'}", quiet=quiet)

    return count


if __name__ == "__main__":
    main()
