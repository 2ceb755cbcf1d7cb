"""``biopercept benchmark``: speed and memory beside other implementations, and operations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from . import options
from .terminal import print_json, print_text, say


def benchmark(
    peers: Annotated[bool, typer.Option("--peers", help="Only speed and memory, with the installed peers.")] = False,
    scaling: Annotated[bool, typer.Option("--scaling", help="Only operations and growth with the input.")] = False,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of one call each; medians are shown.")] = 7,
    largest: Annotated[int, typer.Option("--largest", min=256, help="Largest number of tokens to time.")] = 16384,
    output: options.OptionalOutput = None,
    run: options.Run = options.Run(),
) -> None:
    """Measure the network: CPU time and memory beside other implementations, operations up to a million tokens.

    Example: biopercept benchmark -o benchmark
    """
    from biopercept.benchmarks import cost, speed
    from biopercept.benchmarks.peers import installed
    from biopercept.files import refuse_existing, write_json, write_text

    if output is not None:
        refuse_existing(output, overwrite=run.overwrite)
    document: dict[str, Any] = {}
    parts: list[str] = []
    if peers or not scaling:
        modules, absent = installed()
        for sentence in absent:
            say(sentence, quiet=run.quiet)
        sizes = [n for n in speed.TOKENS if n <= largest]
        say(f"timing {', '.join(modules)} in turn; this takes minutes", quiet=run.quiet)
        speeds = speed.measure(modules, tokens=sizes, n_rounds=rounds, memory_at=sizes[-1:])
        document |= {"speed": [asdict(row) for row in speeds], "absent": absent}
        parts.append(speed.table(speeds))
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
        say(f"written: {output}", quiet=run.quiet)
    if run.as_json:
        print_json(document)
    else:
        print_text(text)
