"""``score-generation``: how well a missing sensor can be reconstructed from the others, on subjects never seen."""

from __future__ import annotations

from . import options
from .terminal import fold_progress, print_result


def score_generation(
    store: options.Store,
    output: options.Output,
    people: options.People = options.People(),
    folds: options.NFolds = None,
    preset: options.ModelPreset = options.ModelPreset(),
    run: options.FoldRun = options.FoldRun(),
) -> None:
    """Mask each sensor in turn for subjects not pretrained on, and score its reconstruction from the others.

    An interrupted run goes on where it stopped.

    Example: biopercept score-generation my-study.h5 -o generation
    """
    from dataclasses import replace

    from biopercept.config.settings import Purpose
    from biopercept.evaluation import generation
    from biopercept.report.generation import generation_parts

    purposes = [people.of(Purpose("score-generation"))]
    settings = preset.of_store(store, {"evaluation.n_folds": folds}, purposes=purposes, quiet=run.quiet)
    request = options.evaluation_request(settings, [store], people, preset, run, fit=settings.fit(is_pretrained=True))
    with fold_progress("generation: folds", quiet=run.quiet, verbose=run.verbose) as show:
        result = generation.score_generation(
            replace(request, is_normalisation_chosen=True),
            output,
            n_jobs=run.jobs,
            config_text=settings.text,
            overwrite=run.overwrite,
            on_fold=show,
        )
    print_result(result, generation_parts(result), output, as_json=run.as_json, quiet=run.quiet)
