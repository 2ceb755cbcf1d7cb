"""Write a page of measurements, from the top of a checkout: ``PYTHONPATH=docs python -m measurements --help``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biopercept.cli.terminal import print_text, say
from biopercept.files import refuse_existing, write_text
from measurements import hearts_page, quality_page, shapes_page, signals_page, studies_page
from measurements import times as times_page
from measurements.people import write_people
from measurements.studies import ARMS, BASELINES, CHOOSING, NETWORK, Place

if TYPE_CHECKING:
    from experiments.units import Unit

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def hearts(
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("docs/measurements/hearts.md"),
    records: Annotated[Path | None, typer.Option(help="Folder of annotated WFDB records.")] = None,
) -> None:
    """Heart rate, variability and R-peaks beside planted and annotated beats; about two minutes."""
    write_text(output, hearts_page.page(records))
    print_text(str(output))


@app.command()
def signals(
    eeg_files: Annotated[list[Path] | None, typer.Argument(metavar="EDF...", help="EEG compared with Welch.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("docs/measurements/signals.md"),
) -> None:
    """Breathing, skin responses and EEG band power beside planted ones; minutes."""
    write_text(output, signals_page.page(eeg_files or ()))
    print_text(str(output))


@app.command()
def times(
    recordings: Annotated[list[Path], typer.Argument(metavar="RECORDING...", help="Recordings to be measured.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("docs/measurements/times.md"),
) -> None:
    """How long measuring takes, beside NeuroKit2 called for each window; minutes."""
    write_text(output, times_page.page(recordings))
    print_text(str(output))


@app.command()
def quality(
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("docs/measurements/quality.md"),
) -> None:
    """Errors of heart rate, RMSSD, breaths and skin responses against the quality index; minutes."""
    write_text(output, quality_page.page(output.parent))
    print_text(str(output))


@app.command()
def shapes(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made studies and scores; what is there is kept.")],
    stores: Annotated[
        list[Path] | None, typer.Option("--store", help="A prepared study whose plan is shown as well; repeatable.")
    ] = None,
    names: Annotated[list[str] | None, typer.Option("--shape", help="One of the shapes; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(min=0, help="Made studies of each shape; 0: nothing is scored.")] = 1,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("docs/measurements/shapes.md"),
) -> None:
    """Settings from the data beside presets and baselines on made studies of many shapes; half an hour."""
    write_text(output, shapes_page.page(folder, seeds, names or (), stores or (), _show))
    print_text(str(output))


@app.command()
def people(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The study; it must not be there.")],
    n_people: Annotated[int, typer.Option("--people", min=1, help="How many made people.")] = 500,
    stage_seconds: Annotated[int, typer.Option(min=20, help="Length of each of their seven stages.")] = 20,
) -> None:
    """Write a study of many made people, by which the tables of docs/scaling.md were measured; a second for each."""
    refuse_existing(folder, overwrite=False)
    write_people(folder, n_people, stage_seconds)
    print_text(str(folder))


@app.command()
def studies(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Stores, models, scores; what is there is kept.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder with the public data sets, each by its name.")],
    models: Annotated[list[str] | None, typer.Option("--model", help="One of the models; repeatable.")] = None,
    arms: Annotated[list[str] | None, typer.Option("--start", help=f"One of: {'; '.join(ARMS)}; repeatable.")] = None,
    draws: Annotated[int, typer.Option(min=0, help="Draws of folds and labelled people; 0: no starting.")] = 3,
    windows: Annotated[bool, typer.Option(help="Choose the length of windows by inner folds.")] = True,
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="Worker processes.")] = 1,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("docs/measurements/studies.md"),
) -> None:
    """Each shared study by models of the others, and models that start from them; hours, and goes on where stopped."""
    scored, begun = models or (NETWORK, *BASELINES), arms or ARMS
    if unknown := sorted({*scored} - {NETWORK, *BASELINES}) + sorted({*begun} - {*ARMS}):
        raise typer.BadParameter(f"nothing here is called {unknown[0]!r}")
    wanted = studies_page.Wanted(
        models=tuple(scored),
        choosing=tuple(model for model in CHOOSING if windows and model in scored),
        arms=tuple(begun),
        n_draws=draws,
    )
    write_text(output, studies_page.page(Place(data, folder), wanted, _show, jobs))
    print_text(str(output))


@app.command()
def speed(
    data: Annotated[Path | None, typer.Option(help="Folder with the public data sets, each by its name.")] = None,
    parts: Annotated[
        list[str] | None, typer.Option("--part", help="network, commands, memory or long; repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the network, of one call each.")] = 7,
    folder: Annotated[Path, typer.Option(help="Studies and stores; what is there is kept.")] = Path("bench-output"),
    save: Annotated[bool, typer.Option("--save", help="Put what is measured into the table.")] = False,
    table: Annotated[Path, typer.Option(help="The committed table.")] = Path("docs/measurements/speed.json"),
) -> None:
    """The network beside its peers, quiet and busy, and the commands; 1 where a row fell. Five minutes a part."""
    from biopercept.benchmarks.peers import installed
    from measurements import command_speed, memory, speed_table
    from measurements import speed as network

    rows_of = {
        "commands": command_speed.command_rows,
        "memory": memory.memory_rows,
        "long": command_speed.long_rows,
    }
    chosen = command_speed.chosen_parts(parts or [])
    if data is None and {*chosen} - {"network"}:
        say("no --data: the commands are left out")
        chosen = [part for part in chosen if part == "network"]
    committed, here, rows = speed_table.read_rows(table), network.processor(), []
    for part in chosen:
        if part == "network":
            modules, absent = installed()
            for sentence in absent:
                say(sentence)
            measured = network.network_rows(modules, n_rounds=rounds) if len(modules) > 1 else iter(())
        else:
            folder.mkdir(parents=True, exist_ok=True)
            measured = rows_of[part](command_speed.Place((data or Path()).resolve(), folder.resolve()))
        for row in measured:
            rows.append(replace(row, processor=here))
            bar = f" ({row.bar}: {'met' if row.is_met else 'MISSED'})" if row.bar else ""
            print_text(f"{row.name}: {row.shown}{bar}")
            if save:
                speed_table.keep(table, rows[-1])
    for sentence in (slower := speed_table.fallen(rows, committed)):
        say(sentence)
    if slower:
        raise typer.Exit(1)


def _show(unit: Unit, was_done: bool, n_units: int) -> None:
    say(f"{unit.name}: {'was done before' if was_done else 'done'} ({n_units} in all)")


if __name__ == "__main__":
    app(prog_name="measurements")
