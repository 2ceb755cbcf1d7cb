"""The command `import`: a public data set in its own layout becomes a study folder of tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biopercept.errors import count

from . import options
from .claims import claim
from .terminal import print_json, print_text, say


def import_study(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A name that 'biopercept datasets' lists.")],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder with the data set in its own layout, or its .zip.")
    ],
    output: options.Output,
    run: options.Run = options.Run(),
) -> None:
    """Write a study folder for a public data set (tables only; recordings are referred to, not copied).

    What is left out, and why, is printed and kept in import_report.txt. A zip is looked at first (names, links, sizes)
    and unpacked into the study folder, as 'source'.

    Example: biopercept import eegmat downloads/eegmat -o eegmat
    """
    from biopercept.errors import StudyError
    from biopercept.files import refuse_inputs
    from biopercept.studies.datasets.catalogue import DATASETS, dataset_named
    from biopercept.studies.datasets.writing import source_folder
    from biopercept.studies.loading import load_study
    from biopercept.typed_values import path_meant

    if str(source) in DATASETS and dataset not in DATASETS:
        raise StudyError(f"the name comes first, as in biopercept import {source} {dataset} -o {output}")
    chosen = dataset_named(dataset)
    if not source.exists():
        meant = path_meant(source) or f"; SOURCE is the folder that holds {', '.join(chosen.layout)}"
        raise StudyError(f"there is no folder or .zip {source}{meant}")
    if not source.is_dir() and not (source.is_file() and source.suffix.lower() == ".zip"):
        raise StudyError(
            f"{source} is neither a folder nor a .zip; SOURCE is the folder that holds {', '.join(chosen.layout)}"
        )
    refuse_inputs(output, [source], is_within_allowed=True)
    claim(output, overwrite=run.overwrite)
    with source_folder(source, output) as folder:
        summary = chosen.write_study(folder, output)
        load_study(output)
    if run.as_json:
        print_json({"dataset": chosen.name, "study": str(output), **vars(summary)})
        return
    for sentence in summary.left_out:
        say(f"left out: {sentence}", quiet=run.quiet)
    for note in summary.notes:
        say(f"note: {note}", quiet=run.quiet)
    print_text(f"{count(summary.n_subjects, 'subject')}, {count(summary.n_recordings, 'recording')} -> {output}")
    say(f"licence {chosen.licence}; cite: {chosen.citation}", quiet=run.quiet)
    say(f"next: biopercept prepare {output} -o {output.name}.h5", quiet=run.quiet)
