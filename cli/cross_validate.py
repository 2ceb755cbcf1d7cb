"""``cross-validate``: honest scores of a model, every fold resumable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from . import options, work_sharing
from .terminal import fold_progress, print_json, say


@dataclass(frozen=True)
class ScoredFolds(options.StudyFolds):
    """How subjects are dealt into folds, and what the models of the folds learn from and are asked."""

    label_share: Annotated[
        float | None,
        options.fold_option(
            "--label-share",
            metavar="SHARE",
            help="Fraction of the training subjects whose labels are used.",
        ),
    ] = None
    missing_sensors: options.MissingSensors = False

    @property
    def named(self) -> dict[str, object]:
        """Return the settings that these options stand for; None where not given."""
        missing = "all" if self.missing_sensors else None
        return {
            **super().named,
            "evaluation.label_share": self.label_share,
            "evaluation.missing_sensors": missing,
        }


def cross_validate(
    stores: options.Stores,
    output: options.Output,
    data: options.GroupedData = options.GroupedData(),
    folds: ScoredFolds = ScoredFolds(),
    model: options.Model = options.Model(),
    run: work_sharing.SharedFoldRun = work_sharing.SharedFoldRun(),
) -> None:
    """Score a model on subjects it was not trained on, or (--split time) on later windows of each subject.

    An interrupted run goes on where it stopped.

    Example: biopercept cross-validate my-study.h5 -o scores --model logistic
    """
    from biopercept.comparison.groups import refuse_unlisted, write_groups
    from biopercept.evaluation import cross_validation
    from biopercept.report.page import print_scores
    from biopercept.report.score_sections import write_figures
    from biopercept.store.reading import open_store

    sharing, executor = run.sharing(*run.anew), run.executor(run.jobs, output)
    levels = data.levels()
    settings, request = options.study_request("cross-validate", stores, data, folds, model, run)
    if levels is not None and len(stores) == 1:  # before hours of work
        with open_store(stores[0]) as store:
            people = {recording.subject for recording in store.recordings} - {*data.excluded}
        refuse_unlisted(levels, sorted(people & {*(data.chosen or people)}))
    with fold_progress(f"{model.model}: folds", quiet=run.quiet, verbose=run.verbose) as show:
        scores = cross_validation.cross_validate(
            request,
            output,
            n_jobs=executor,
            config_text=settings.text,
            overwrite=run.overwrite,
            sharing=sharing,
            on_fold=show,
        )
    compared = () if levels is None else write_groups(output, levels, seed=run.seed)
    write_figures(output)
    for warning in (*scores["warnings"], *compared):
        say(f"warning: {warning}", quiet=run.quiet)
    if run.as_json:
        print_json(scores)
    else:
        print_scores(output)
    say(f"written: {output}", quiet=run.quiet)
