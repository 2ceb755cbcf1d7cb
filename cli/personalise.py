"""``personalise``: what labels of one's own are worth, as a curve over minutes of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import options, work_sharing
from .terminal import fold_progress, print_result

if TYPE_CHECKING:
    from biopercept.report.text import Table


def personalise(
    store: options.Store,
    output: options.Output,
    data: options.Data = options.Data(),
    folds: options.Folds = options.Folds(),
    preset: options.ModelPreset = options.ModelPreset(),
    run: work_sharing.SharedFoldRun = work_sharing.SharedFoldRun(),
) -> None:
    """Adapt a model of other people to each subject with more and more labels, and score its later windows.

    Folds are k-fold over subjects unless --split or --set says otherwise. An interrupted run goes on where it stopped.

    Example: biopercept personalise my-study.h5 -o personal
    """
    from biopercept.config.settings import Purpose
    from biopercept.evaluation import personalisation
    from biopercept.report.curves import brief_personal_tables, personal_sentences

    sharing, executor = run.sharing(*run.anew), run.executor(run.jobs, output)
    purposes, usual = [data.of(Purpose.of("personalise", task=data.task))], ("evaluation.split=k-fold",)
    settings = preset.of_store(store, folds.named, purposes=purposes, quiet=run.quiet, usual=usual)
    request = options.evaluation_request(settings, [store], data, preset, run, task=data.task)
    with fold_progress("personalisation: folds", quiet=run.quiet, verbose=run.verbose) as show:
        result = personalisation.personalise(
            request,
            output,
            n_jobs=executor,
            config_text=settings.text,
            overwrite=run.overwrite,
            sharing=sharing,
            on_fold=show,
        )
    parts: list[str | Table] = [*personal_sentences(result), *brief_personal_tables(result)]
    print_result(result, parts, output, as_json=run.as_json, quiet=run.quiet)
