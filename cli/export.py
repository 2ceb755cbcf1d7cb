"""``export``: a trained model as one ONNX file for other programs, checked before it is called done."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .terminal import print_json, say


def export(
    model: options.SavedModel,
    output: options.NetworkOutput,
    modalities: Annotated[
        str | None,
        typer.Option("--modalities", metavar="NAME,NAME...", help="Signals the file shall read; all if left out."),
    ] = None,
    run: options.Run = options.Run(),
) -> None:
    """ONNX: write a trained model as one file that other programs and languages run, and check that it answers alike.

    Needs the extra onnx: pip install 'biopercept[onnx]'.

    Example: biopercept export stress-wrist -o stress.onnx
    """
    from biopercept.errors import OutputError
    from biopercept.files import refuse_existing
    from biopercept.inference.onnx_export import TOLERANCE, check_export, export_onnx, refuse_without_exporter
    from biopercept.training.checkpoint import load_model

    if output.is_dir():
        raise OutputError(f"{output} is a folder; name the file, such as {output / 'model.onnx'}")
    refuse_existing(output, overwrite=run.overwrite, is_folder=False)
    refuse_without_exporter()
    checkpoint = load_model(model)
    chosen = options.listed(modalities)
    say("exporting; this takes a minute", quiet=run.quiet)
    names = export_onnx(checkpoint, output, chosen)
    difference = check_export(checkpoint, output, chosen)
    if not difference <= TOLERANCE:
        output.unlink()
        raise OutputError(f"the exported file answers differently by {difference:g}; it was removed, please report it")
    if run.as_json:
        print_json({"file": str(output), "inputs": list(names), "largest_difference": difference})
    else:
        typer.echo(str(output))
