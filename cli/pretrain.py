"""``pretrain``: a network taught by the signals themselves, without labels, of one study or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .terminal import print_json, progress, refuse_existing, say, settings_for

if TYPE_CHECKING:
    from biopercept.store.reading import StudyStore


def pretrain(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE...", help="Stores that prepare wrote.")],
    output: options.Output,
    objective: Annotated[
        str | None, typer.Option("--objective", metavar="masked|contrastive|alignment", help="What is learnt.")
    ] = None,
    start_from: options.StartFrom = None,
    normalisation: options.Normalisation = None,
    config: options.ConfigName = None,
    overrides: options.Overrides = None,
    subjects: options.Subjects = None,
    exclude_subjects: options.ExcludeSubjects = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Pretrain a network on unlabelled windows and save it for --start-from."""
    from contextlib import ExitStack

    from biopercept.files import only_writer
    from biopercept.store.reading import open_store
    from biopercept.training.checkpoint import load_start
    from biopercept.training.engine import engine_for, seed_for, threads
    from biopercept.training.pretraining import pretrain as run
    from biopercept.training.pretraining import save_pretrained, unlabelled_inputs

    refuse_existing(output, overwrite=overwrite)
    named = {"pretraining.objective": objective, "normalisation.mode": normalisation}
    chosen = [f"{key}={value}" for key, value in named.items() if value is not None]
    settings = settings_for(stores[0], config, [*(overrides or []), *chosen], quiet=quiet)
    start = None if start_from is None else load_start(start_from)
    engine = engine_for(device, settings.training.precision)
    with ExitStack() as held:
        opened = [held.enter_context(open_store(path)) for path in stores]
        held.enter_context(only_writer(output))
        held.enter_context(threads(settings.training.n_threads))
        bar = held.enter_context(progress(quiet=quiet))
        line = bar.add_task("pretraining: epochs", total=settings.pretraining.n_epochs)

        def tell(epoch: int, loss: float) -> None:
            bar.update(line, advance=1)
            if bar.disable:
                say(f"epoch {epoch}: loss {loss:.4f}", quiet=quiet)

        studies, described = [], []
        for store, recordings in zip(opened, _recordings(opened, subjects, exclude_subjects), strict=True):
            if not recordings:
                continue
            inputs = unlabelled_inputs(
                recordings,
                settings.normalisation,
                settings.tokens,
                length_seconds=store.window_length_seconds,
                step_seconds=store.step_seconds,
                feature_names=store.feature_names,
            )
            studies.append(inputs)
            described.append(
                {
                    "study": store.name,
                    "store": store.fingerprint(),
                    "subjects": list(inputs.windows.subjects),
                    "n_windows": len(inputs.windows),
                    "prepare": dict(store.settings),
                    "population": inputs.fit(inputs.windows.subjects).to_json(),
                }
            )
        done = run(
            studies,
            tokens=settings.tokens,
            model=settings.model,
            settings=settings.pretraining,
            engine=engine,
            seed=seed_for(seed, "pretrain"),
            start_from=None if start is None else start.weights,
            on_epoch=tell,
        )
        save_pretrained(
            done,
            output,
            tokens=settings.tokens,
            model=settings.model,
            normalisation=settings.normalisation,
            settings=settings.pretraining,
            studies=described,
            seed=seed,
            start=start,
        )
    if as_json:
        print_json({"model": str(output), "studies": [row["study"] for row in described], "loss": done.history[-1][1]})
    else:
        typer.echo(str(output))


def _recordings(opened: list[StudyStore], subjects: str | None, excluded: str | None) -> list[tuple[Any, ...]]:
    """Return the wanted recordings of each store; a subject must be known to one of them."""
    from biopercept.errors import StudyError

    known = {r.subject for store in opened for r in store.recordings}
    wanted, without = options.listed(subjects), set(options.listed(excluded) or ())
    if unknown := sorted((set(wanted or ()) | without) - known):
        raise StudyError(f"no recording of subject {', '.join(unknown)} in the stores; they have {len(known)} subjects")
    kept = (known if wanted is None else set(wanted)) - without
    if not kept:
        raise StudyError("no subject is left; check --subjects and --exclude-subjects")
    return [tuple(r for r in store.recordings if r.subject in kept) for store in opened]
