"""``biopercept demo``: the main job end to end on the packaged sample study, by the commands a user would give."""

from __future__ import annotations

from pathlib import Path

from . import options, work_sharing
from .terminal import print_text, say

MODELS = ("perceiver-io", "logistic", "dummy")
N_FOLDS = 4  # an even number keeps two worker processes busy to the end
UNSEEN = ("S09", "S10")
"""Subjects that the final model is not trained on and then predicts."""


def demo(
    output: options.OptionalOutput = None,
    jobs: options.Jobs = 2,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Run the main job on a made sample study, from recordings to a report.

    Writes to demo-output unless --output says otherwise. When interrupted, the same command goes on where it was.

    Example: biopercept demo
    """
    from biopercept.resources import copy_sample_study
    from biopercept.results.command import add_command

    from .check import check
    from .cross_validate import ScoredFolds, cross_validate
    from .predict import predict
    from .prepare import StudyRun, prepare
    from .report import report
    from .view import Viewing, ViewRun, view

    folder = output or Path("demo-output")
    study, store, model, predictions = folder / "study", folder / "study.h5", folder / "model", folder / "predictions"
    if overwrite:
        _clear(folder)

    def step(number: int, words: str, command: str) -> None:
        say("", quiet=quiet)
        say(f"[{number}/7] {words}", quiet=quiet)
        say(f"      biopercept {command}", quiet=quiet)

    copy_sample_study(study)
    step(1, "check the study: six kinds of sensor, two devices on each person", f"check {study}")
    check(study)
    step(2, "clean, cut and store every recording", f"prepare {study} -o {store} --jobs {jobs}")
    prepare(study, store, run=StudyRun(part=work_sharing.WHOLE, jobs=jobs, overwrite=True, quiet=quiet))
    fingerprint = _fingerprint(store)
    for name in MODELS:
        scores = folder / "scores" / name
        words = f"--model {name} --split k-fold --folds {N_FOLDS} --seeds 1"
        step(3, f"score {name} on people it has not seen", f"cross-validate {store} -o {scores} {words}")
        is_stale = _scored_store(scores) not in (None, fingerprint)
        cross_validate(
            [store],
            scores,
            folds=ScoredFolds(split="k-fold", folds=N_FOLDS, seeds=1),
            model=options.Model(model=name),
            run=work_sharing.SharedFoldRun(part=work_sharing.WHOLE, jobs=jobs, overwrite=is_stale, quiet=quiet),
        )
        add_command(
            scores, ("biopercept", "cross-validate", str(store), "-o", str(scores), *words.split()), is_first=True
        )
    unseen = ",".join(UNSEEN)
    step(4, f"train on everybody but {unseen}", f"train {store} -o {model} --exclude-subjects {unseen}")
    _train_once(store, fingerprint, model, folder / "scores" / MODELS[0], unseen, quiet=quiet)
    step(5, f"predict {unseen}", f"predict {model} {study} -o {predictions} --subjects {unseen}")
    of_unseen, again = options.PeopleAndChannels(subjects=unseen), options.ModelRun(overwrite=True, quiet=quiet)
    predict(model, [study], predictions, data=of_unseen, run=again)
    step(6, "write the report", f"report {folder}")
    report(folder, overwrite=True, quiet=True)
    page, last = folder / f"{UNSEEN[-1]}.html", UNSEEN[-1]
    words = f"--subjects {last} --predictions {predictions} --html {page}"
    step(7, f"draw the signals of {last} with what was predicted", f"view {study} {words}")
    view(study, Viewing(subjects=last, predictions=predictions), ViewRun(html=page, overwrite=True, quiet=True))
    _say_where(folder, quiet=quiet)


def _fingerprint(store: Path) -> str:
    from biopercept.store.reading import open_store

    with open_store(store) as opened:
        return opened.fingerprint()


def _scored_store(scores: Path) -> str | None:
    """Return the fingerprint of the store that a cross-validation was begun on, or None where none was begun.

    A newer biopercept may prepare the sample study otherwise; its old scores are then of another store.
    """
    import json

    try:
        return str(json.loads((scores / "folds.json").read_text(encoding="utf-8"))["run"]["store"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return "unreadable"


def _train_once(store: Path, fingerprint: str, model: Path, scores: Path, unseen: str, *, quiet: bool) -> None:
    """Train unless the model folder already holds a model of this very store."""
    from biopercept.errors import CheckpointError
    from biopercept.training.checkpoint import load_model

    from .train import FinalModel, train

    try:
        trained_on = load_model(model).training.get("store")
    except CheckpointError:
        trained_on = None
    if trained_on == fingerprint:
        say(f"{model} was trained before", quiet=quiet)
    else:
        train(
            [store],
            model,
            FinalModel(scores=scores),
            options.Data(exclude_subjects=unseen),
            run=options.FitRun(overwrite=True, quiet=quiet),
        )


def _clear(folder: Path) -> None:
    """Remove what an earlier demo wrote, and only that."""
    import shutil

    for name in ("study", "study.h5.parts", "scores", "model", "predictions"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("study.h5", "study.log.csv", "report.html", f"{UNSEEN[-1]}.html"):
        (folder / name).unlink(missing_ok=True)


def _say_where(folder: Path, *, quiet: bool) -> None:
    places = {
        "report.html": "scores, warnings and how they were made, on one page for any browser",
        f"{UNSEEN[-1]}.html": "signals of a person unknown to the model, with what it predicted: zoom and move",
        "predictions/summary.csv": "the same in numbers, a row per recording, for a spreadsheet",
    }
    say("", quiet=quiet)
    say("Three files to open:", quiet=quiet)
    for name, words in places.items():
        print_text(f"  {folder / name}  {words}")
    say(f"{folder / 'study'} is an example for a study of your own.", quiet=quiet)
