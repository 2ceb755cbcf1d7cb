"""``learning-curve``: scores against the number of subjects whose labels are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from . import options
from .terminal import fold_progress, print_result


@dataclass(frozen=True)
class CurveFolds(options.StudyFolds):
    """How subjects are dealt into folds, and how many of them keep labels."""

    shares: Annotated[
        str,
        options.fold_option(
            "--shares",
            metavar="SHARE,SHARE...",
            help="Fractions of the training subjects that keep their labels.",
        ),
    ] = "0.1,0.25,0.5,1"


def learning_curve(
    stores: options.Stores,
    output: options.Output,
    data: options.Data = options.Data(),
    folds: CurveFolds = CurveFolds(),
    model: options.Model = options.Model(),
    run: options.FoldRun = options.FoldRun(),
) -> None:
    """Score a model with the labels of few, more and all training subjects.

    Each share has a folder of its own, and an interrupted run goes on where it stopped.

    Example: biopercept learning-curve my-study.h5 -o curve
    """
    from biopercept.evaluation import learning_curve as curve
    from biopercept.report.curves import learning_sentence, learning_table

    shares = curve.parse_shares(folds.shares)
    settings, request = options.study_request("learning-curve", stores, data, folds, model, run)
    with fold_progress(f"{model.model}: shares", quiet=run.quiet, verbose=run.verbose) as show:
        result = curve.learning_curve(
            request,
            shares,
            output,
            n_jobs=run.jobs,
            config_text=settings.text,
            overwrite=run.overwrite,
            on_fold=lambda share, *fold: show(*fold, where=f"share {share:g}, "),
        )
    print_result(
        result, (learning_sentence(result), learning_table(result)), output, as_json=run.as_json, quiet=run.quiet
    )
