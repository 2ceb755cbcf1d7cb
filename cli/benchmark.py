"""``biopercept benchmark``: speed and memory beside other implementations, operations, and the talk's claims."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .benchmark_claims import run_claims_command, run_fusion_command
from .options import AsJson, ConfigName, Debug, Jobs, OptionalOutput, Overrides, Overwrite, Quiet, Seed, TaskName
from .terminal import print_json, print_text, refuse_existing, say


def benchmark(
    stores: Annotated[
        list[Path] | None, typer.Argument(metavar="[STORE]...", help="With --fusion: stores that prepare wrote.")
    ] = None,
    peers: Annotated[bool, typer.Option("--peers", help="Only speed and memory, with the installed peers.")] = False,
    scaling: Annotated[bool, typer.Option("--scaling", help="Only operations and growth with the input.")] = False,
    claims: Annotated[
        bool, typer.Option("--claims", help="Only the claims: permutation, one architecture, fusion; needs --output.")
    ] = False,
    fusion: Annotated[
        bool,
        typer.Option("--fusion", help="Only early against late fusion and missing sensors, on stores; needs --output."),
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="With --claims: a trial of seconds, no result.")] = False,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of one call each; medians are shown.")] = 7,
    largest: Annotated[int, typer.Option("--largest", min=256, help="Largest number of tokens to time.")] = 16384,
    config: ConfigName = None,
    overrides: Overrides = None,
    task: TaskName = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="With --fusion: folds over subjects.")] = 5,
    seed: Seed = 0,
    jobs: Jobs = 1,
    as_json: AsJson = False,
    output: OptionalOutput = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure the network: CPU time and memory beside other implementations, operations up to a million tokens.

    With --claims or --fusion: the talk's claims. Both go on where an earlier run stopped.
    """
    from biopercept.benchmarks import cost, speed
    from biopercept.benchmarks.peers import installed
    from biopercept.errors import SettingsError
    from biopercept.files import write_json, write_text

    if stores and not fusion:
        raise SettingsError(f"{stores[0]} was given, but only --fusion reads a store; add --fusion")
    if fusion:
        run_fusion_command(
            stores or [],
            output,
            config=config,
            overrides=overrides,
            task=task,
            folds=folds,
            seed=seed,
            jobs=jobs,
            overwrite=overwrite,
            as_json=as_json,
            quiet=quiet,
        )
        return
    if claims:
        run_claims_command(output, seed=seed, jobs=jobs, quick=quick, overwrite=overwrite, as_json=as_json, quiet=quiet)
        return
    if output is not None:
        refuse_existing(output, overwrite=overwrite)
    document: dict[str, Any] = {}
    parts: list[str] = []
    if peers or not scaling:
        modules, absent = installed()
        for sentence in absent:
            say(sentence, quiet=quiet)
        sizes = [n for n in speed.TOKENS if n <= largest]
        say(f"timing {', '.join(modules)} in turn; this takes minutes", quiet=quiet)
        found = speed.measure(modules, tokens=sizes, n_rounds=rounds, memory_at=sizes[-1:])
        document |= {"speed": [asdict(row) for row in found], "absent": absent}
        parts.append(speed.table(found))
    if scaling or not peers:
        costs, picture = cost.count_costs(), cost.picture_scores()
        exponent = cost.measured_exponent(min(4096, largest // 4), min(65536, 4 * largest), n_rounds=rounds)
        document |= {"costs": [asdict(row) for row in costs], "picture_scores": picture, "exponent": exponent}
        parts += [
            "Multiply-adds of one sample\n\n" + cost.table(costs),
            f"Scores of a 512 x 512 picture, width 512, 10 layers of full self-attention: {picture:.2e}",
            f"Our CPU time grows with the number of tokens to the power {exponent:.2f}",
        ]
    text = "\n\n".join(parts)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "benchmark.json", document)
        write_text(output / "benchmark.md", text + "\n")
    if as_json:
        print_json(document)
    else:
        print_text(text)
