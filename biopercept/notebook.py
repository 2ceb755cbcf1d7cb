"""The names of ``import biopercept as bp``: paths or objects and plain keywords in, results with ``to_frame()`` out.

Each function does what the command of its name does. ``config`` is the name of a preset or a YAML file (None: what
follows from the data), ``overrides`` are single settings by name: ``{"windows.length_seconds": 30}``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from biopercept.config.loading import config_and_plan_of_study, load_config, load_config_for
from biopercept.config.settings import Config, Purpose
from biopercept.errors import SettingsError
from biopercept.recording import Correction, Recording
from biopercept.resources import copy_sample_study
from biopercept.store.prepared import PreparedRecording
from biopercept.store.reading import StudyStore
from biopercept.studies.structure import Study

if TYPE_CHECKING:
    from biopercept.evaluation.plan import EvaluationRequest
    from biopercept.inference.explanation import Explanation
    from biopercept.inference.prediction import Predictions
    from biopercept.inference.reconstruction import ReconstructedSignal
    from biopercept.measures.around import Around
    from biopercept.measures.quality import RecordingQuality
    from biopercept.measures.recording import RecordingFeatures
    from biopercept.prepare.corrections import CorrectionTables
    from biopercept.prepare.study import PrepareSummary
    from biopercept.results.comparison import Comparison
    from biopercept.results.cross_validation import Scores
    from biopercept.training.checkpoint import Checkpoint

Location = str | Path
Overrides = Mapping[str, object]


class Given(TypedDict, total=False):
    """Keywords of everything that learns: what it learns from, with what settings.

    ``task`` is one of the study, or several with commas between; ``subjects`` are the only ones, ``exclude_subjects``
    those left out; ``normalisation`` stands for the setting ``normalisation.mode``; ``device`` is auto, cpu, cuda or
    cuda:N.
    """

    task: str | None
    subjects: Sequence[str] | None
    exclude_subjects: Sequence[str]
    normalisation: str | None
    config: Location | None
    overrides: Overrides | None
    seed: int
    device: str


class Scored(TypedDict, total=False):
    """Keywords of :func:`evaluate`: who is scored in which tasks of the model (None: all that the study has), and how.

    ``task`` is one, or several with commas between; ``subjects`` are the only ones, ``exclude_subjects`` those left
    out. ``missing_sensors`` scores with every set of sensors, too; ``trained_on`` is the store that the model was
    trained on, whose recordings are then compared with these; ``allow_seen`` scores people whom the model was fitted
    to, marked as a leak; ``adapt`` moves the threshold as in :func:`predict`; ``seed`` is of the resamples for
    intervals.
    """

    task: str | None
    subjects: Sequence[str] | None
    exclude_subjects: Sequence[str]
    missing_sensors: bool
    trained_on: Location | None
    allow_seen: bool
    adapt: str
    seed: int
    device: str


class FeatureRows(TypedDict, total=False):
    """Keywords of :func:`features`: what a row is of.

    ``rows`` is windows, events or whole. ``hrv`` adds all of neurokit2's heart rate variability, most of which needs
    rows of 300 s, and takes seconds for each. ``around`` gives a row per event of these labels instead, from ``before``
    to ``after`` it, seconds (2 and 10).
    """

    rows: str
    hrv: bool
    around: Sequence[str]
    before: float
    after: float


def sample_study(folder: Location) -> Study:
    """Return the made sample study that comes with the package, copied to a folder; a copy that is there is kept.

    Raises OutputError where it cannot be written.
    """
    return load_study(copy_sample_study(Path(folder)))


def load_recording(path: Location) -> Recording:
    """Return the recording of a file or folder; ``to_frame()`` lists its signals.

    It is read in this process, without limits of time and memory: a file that crashes its reader ends the process.
    Commands read in a process apart and lose that recording alone.

    Raises RecordingError where the format is not read here, or nothing in it can be trusted.
    """
    from biopercept.loaders import loading
    from biopercept.loaders.corrections import with_labels_by_hand

    stem = Path(path).resolve().name.split(".")[0]
    return with_labels_by_hand(loading.load_recording(Path(path), subject=stem, name=stem))


def correct(path: Location, corrections: Sequence[Correction], *, who: str = "") -> CorrectionTables:
    """Add corrections by hand to the table beside a recording, which everything that reads the recording honours.

    ``Correction("bad", 120, 15)`` is a bad stretch, of one signal with ``channels=("ECG",)``; the other kinds are
    beat-added and beat-removed (a time, and a duration of 0), channel-bad and polarity (a channel, and no time).
    ``who`` is written beside each; ``to_frame()`` lists what is in the table.

    Raises RecordingError where the recording cannot be read. Raises SettingsError where a correction would have no
    effect.
    """
    from biopercept.prepare.corrections import write_corrections
    from biopercept.prepare.sources import Source

    return write_corrections(Source("", "", str(path), Path(path)), corrections, who)


def prepare_recording(
    recording: Location | Recording, config: Location | None = None, overrides: Overrides | None = None
) -> PreparedRecording:
    """Return a recording cleaned and cut into windows, with features and signal quality.

    Raises RecordingError where it cannot be read, or is shorter than a window. Raises SettingsError where a setting is
    wrong.
    """
    from biopercept.prepare import recording as preparing

    settings = _config(config, overrides)
    return preparing.prepare_recording(_loaded(recording), settings.preparing())


def features(
    recording: Location | Recording,
    config: Location | None = None,
    overrides: Overrides | None = None,
    **rows: Unpack[FeatureRows],
) -> RecordingFeatures:
    """Return what is measured of a recording: a row per window of the grid, per labelled event, or of the whole.

    ``rows="events"`` or "whole", ``hrv=True`` or ``around=["tone"]`` choose (:class:`FeatureRows`). ``to_frame()``
    gives the table; ``detected["beats"]``, "responses" and "breaths" are what was detected, with times, and have a
    ``to_frame()`` too; ``columns`` say what each measure is; ``courses`` are heart rate and skin around each event.

    Raises RecordingError where it cannot be read, is shorter than a window, or has no event that lasts. Raises
    SettingsError where a setting is wrong, or no event has a label of ``around``.
    """
    from biopercept.measures.recording import WINDOWS, around_features, recording_features

    around, settings = _around(**rows), _config(config, overrides).preparing()
    recording = _loaded(recording)
    if around is None:
        return recording_features(recording, settings, rows.get("rows", WINDOWS), hrv=rows.get("hrv", False))
    around.refuse_unknown(interval.label for interval in recording.intervals)
    return around_features(recording, around, settings)


def _around(
    rows: str = "",
    hrv: bool = False,
    around: Sequence[str] = (),
    before: float | None = None,
    after: float | None = None,
) -> Around | None:
    """Return the events whose surroundings are measured; None where rows are of something else."""
    from biopercept.measures.around import Around

    if not around:
        if (before, after) != (None, None):
            raise SettingsError("before and after are of events; name the events with around")
        return None
    if rows or hrv:
        raise SettingsError("around has rows of its own, a few seconds long: leave out rows and hrv")
    return Around.of([around] if isinstance(around, str) else around, before, after)


def quality(
    recording: Location | Recording, config: Location | None = None, overrides: Overrides | None = None
) -> RecordingQuality:
    """Return how good each channel of a recording is in each second, and what is wrong with it.

    ``to_frame()`` has a row per stretch that something spoils; ``signals`` the index by second, (n_channels,
    n_seconds); ``sensors()`` how each signal fared as a whole.

    Raises RecordingError where it cannot be read, or nothing is left after cleaning. Raises SettingsError where a
    setting is wrong.
    """
    from biopercept.measures.quality import recording_quality

    return recording_quality(_loaded(recording), _config(config, overrides).cleaning)


def write_recording_page(
    recording: Location | Recording,
    output: Location,
    config: Location | None = None,
    overrides: Overrides | None = None,
) -> Path:
    """Return the page that was written: signals with what was found in them, to see whether to believe the numbers.

    One HTML file that opens offline; ``output`` is its name, and an existing one is replaced.

    Raises RecordingError where the recording cannot be read or nothing is left of it. Raises SettingsError where a
    setting is wrong. Raises OutputError where the page cannot be written.
    """
    from biopercept.measures.recording import WHOLE, measured_and_cleaned
    from biopercept.report.recordings.page import write_page

    settings = _config(config, overrides).preparing()
    features, clean = measured_and_cleaned(_loaded(recording), settings, WHOLE)
    write_page(features, clean, features.measures, Path(output))
    return Path(output)


def load_study(folder: Location) -> Study:
    """Return a study whose tables are right; its recordings are not opened, ``to_frame()`` lists them.

    Raises StudyError with everything that is wrong in the tables.
    """
    from biopercept.studies import loading

    return loading.load_study(Path(folder))


def prepare_study(
    study: Location | Study,
    output: Location,
    config: Location | None = None,
    overrides: Overrides | None = None,
    *,
    subjects: Sequence[str] | None = None,
    n_jobs: int = 1,
) -> PrepareSummary:
    """Load, clean and cut every recording of a study into one store; ``to_frame()`` says what became of each.

    Without ``config`` the windows follow from the study (``biopercept check`` shows how). What the windows lose, and
    labels that no model could learn from, are Python warnings.

    Recordings are prepared in child processes, so a script calls this below ``if __name__ == "__main__":``. What an
    earlier call prepared is used again.

    Raises StudyError, SettingsError where the study, a setting or a subject is wrong. Raises StoreError where
    ``output`` is something else than a store, or holds recordings that would be dropped.
    """
    from biopercept.planning.fingerprint import labels_without_windows
    from biopercept.prepare import study as preparing
    from biopercept.results.plan import write_windows_plan
    from biopercept.studies.labels import training_faults

    loaded = study if isinstance(study, Study) else load_study(study)
    name = None if config is None else str(config)
    used = preparing.of_subjects(loaded, preparing.chosen_subjects(loaded, subjects, None))
    settings, plan = config_and_plan_of_study(used, name, _changes(overrides), is_opened=True)
    lost = labels_without_windows(used, settings.windows.length_seconds)
    for sentence in (*training_faults(loaded), *plan.faults, *plan.losses, *lost):
        warnings.warn(sentence, stacklevel=2)
    summary = preparing.prepare_study(
        loaded,
        Path(output),
        settings.preparing(),
        subjects=subjects,
        run=preparing.PrepareRun(n_jobs=n_jobs),
    )
    if summary.store is not None:
        write_windows_plan(summary.log, plan if plan.lines else None)
    for sentence in summary.warnings:
        warnings.warn(sentence, stacklevel=2)
    return summary


def open_store(path: Location) -> StudyStore:
    """Return a prepared study, open for reading; ``to_frame()`` lists its recordings.

    Raises StoreError where the file is missing, damaged, or no store of this version.
    """
    from biopercept.store import reading

    return reading.open_store(Path(path))


def cross_validate(
    stores: Location | Sequence[Location] | EvaluationRequest,
    output: Location,
    *,
    model: str = "perceiver-io",
    n_jobs: int = 1,
    overwrite: bool = False,
    **given: Unpack[Given],
) -> Scores:
    """Return scores of a model on subjects it was not trained on, written to a folder as the command does.

    ``stores`` are a store, several that are joined, or a whole request, which says everything else itself. How subjects
    are dealt into folds is a setting: ``{"evaluation.split": "k-fold", "evaluation.n_folds": 5}``; for other keywords
    see :class:`Given`. Folds that an earlier call finished are used again.

    Raises SettingsError, StudyError where a setting, task or subject is wrong, or the folder holds something else.
    """
    from biopercept.evaluation import cross_validation
    from biopercept.evaluation.plan import EvaluationRequest

    folder = Path(output)
    if isinstance(stores, EvaluationRequest):
        if given:
            raise TypeError(f"the request says everything itself; leave out {', '.join(given)}")
        request, text = stores, ""
    else:
        config, request = _request(stores, given, "cross-validate", model)
        text = config.text
    cross_validation.cross_validate(request, folder, n_jobs=n_jobs, config_text=text, overwrite=overwrite)
    return _scores_in(folder)


def _scores_in(folder: Path) -> Scores:
    """Return the scores that were written to a folder, of one task or of several."""
    from biopercept.evaluation.cross_validation import tasks_with_folder
    from biopercept.results.cross_validation import Scores, load_validation

    places = [folder / name for name in tasks_with_folder(folder)] or [folder]
    return Scores(folder, {result.task: result for result in map(load_validation, places)})


def evaluate(
    model: Location,
    data: Location | Study,
    output: Location,
    *,
    n_jobs: int = 1,
    overwrite: bool = False,
    **given: Unpack[Scored],
) -> Scores:
    """Return scores of a saved model on labelled people it was not fitted to, written to a folder as the command does.

    ``model`` is a folder, or the name of a model that comes with the package; ``data`` is a study, which is prepared
    as the model reads it (in a script below ``if __name__ == "__main__":``), or a store with the model's windows. A
    recording that cannot be prepared is a Python warning, and the others are scored. For other keywords see
    :class:`Scored`.

    Raises StudyError where the study has no task of the model, or no window that it can read. Raises SettingsError
    where a store was cut or cleaned in another way than the model's, somebody was seen, or the folder holds something
    else.
    """
    from biopercept.evaluation.external import evaluate_data
    from biopercept.evaluation.external_people import ExternalRequest
    from biopercept.evaluation.settings import EvaluationSettings
    from biopercept.prepare.study import PrepareRun
    from biopercept.resources import model_folder

    _refuse_unknown(given, Scored)
    subjects, trained_on = given.get("subjects"), given.get("trained_on")
    request = ExternalRequest(
        model_folder(model),
        task=given.get("task"),
        trained_on=None if trained_on is None else Path(trained_on),
        is_seen_allowed=given.get("allow_seen", False),
        adapt=given.get("adapt", "none"),
        subjects=None if subjects is None else tuple(subjects),
        excluded=tuple(given.get("exclude_subjects", ())),
        evaluation=EvaluationSettings(missing_sensors="all" if given.get("missing_sensors") else "none"),
        seed=given.get("seed", 0),
        device=given.get("device", "auto"),
    )
    if isinstance(data, str | Path):
        data = load_study(data) if Path(data).is_dir() else Path(data)
    run = PrepareRun(n_jobs=n_jobs, overwrite=overwrite)
    _, failures = evaluate_data(request, data, Path(output), run=run)
    for failure in failures:
        warnings.warn(failure, stacklevel=2)
    return _scores_in(Path(output))


def train(
    stores: Location | Sequence[Location],
    output: Location,
    *,
    subject: str | None = None,
    start_from: Location | None = None,
    overwrite: bool = False,
    **given: Unpack[Given],
) -> Checkpoint:
    """Train a model to be kept, save it as a folder and return it; for other keywords see :class:`Given`.

    ``stores`` are a store, or several that are joined. ``subject`` makes this person's own model, from their windows
    alone; None: a model of everybody.
    ``start_from`` is a model folder whose weights it begins with; of one person the saved model is adapted, a few small
    steps.

    Raises StudyError, SettingsError where there are too few windows, or a setting, task or subject is wrong. Raises
    OutputError where the folder is not empty and ``overwrite`` is not set.
    """
    from biopercept.evaluation.cross_validation import train_on_store
    from biopercept.files import refuse_existing
    from biopercept.resources import model_folder

    if subject is not None and given.get("subjects") is not None:
        raise TypeError("subject is one personal model, subjects are the people of a common one; give one of them")
    refuse_existing(Path(output), overwrite=overwrite)
    config, request = _request(stores, given, "train", subject=subject, start_from=start_from)
    request = replace(request, fit=config.fit(None if start_from is None else model_folder(start_from)))
    if subject is not None:
        request = replace(request, subjects=(subject,))
    return train_on_store(request, Path(output), is_personal=subject is not None)


def load_model(folder: Location) -> Checkpoint:
    """Return a saved model, or by name one that comes with the package (``"stress-wrist"``; ``biopercept models``).

    Raises CheckpointError where the folder holds none, or one that is damaged, or the name is unknown.
    """
    from biopercept.resources import model_folder
    from biopercept.training import checkpoint

    return checkpoint.load_model(model_folder(folder))


def predict(
    model: Location | Checkpoint,
    recording: Location | Recording,
    *,
    every_seconds: float | None = None,
    adapt: str = "none",
    device: str = "auto",
) -> Predictions:
    """Return what a model predicts for each window of a recording; ``to_frame()`` lists them.

    The recording is prepared as the model's own study was. Single times ``every_seconds`` apart are predicted, too;
    only of a model trained with ``training.dense_weight``. ``adapt`` moves the threshold of two classes to the
    recording without labels: by the windows before each (``past``), or by ``all``, which is transductive. ``remarks``
    say what is unlike what the model knows; ``abstaining(below=0.8, unlike=True)`` withholds what is less sure, and
    what is unlike.

    Raises CheckpointError where the folder holds no model. Raises SettingsError where it reads other features than this
    version makes, or ``adapt`` has no meaning for its tasks. Raises RecordingError where the recording cannot be read,
    is shorter than a window or has no sensor that the model was trained with.
    """
    from biopercept.inference import prediction
    from biopercept.training.engine import engine_for

    checkpoint, prepared = _prepared_for(model, recording)
    return prediction.predict(checkpoint, prepared, engine_for(device), ways=prediction.Ways(every_seconds, adapt))


def explain(
    model: Location | Checkpoint, recording: Location | Recording, *, task: str | None = None, device: str = "auto"
) -> Explanation:
    """Return what a model's predictions rested on: each sensor, modality, channel, time and feature, by three methods.

    ``to_frame()`` has a row per window and part; ``faithfulness`` says what deleting tokens does, by method and window.
    At most 100 windows, evenly spread, are explained.

    Raises SettingsError where the model does not predict ``task`` (None: its first). Raises CheckpointError and
    RecordingError as :func:`predict`.
    """
    from biopercept.inference import explanation
    from biopercept.training.engine import engine_for

    checkpoint, prepared = _prepared_for(model, recording)
    return explanation.explain(checkpoint, prepared, engine_for(device), task=task)


def reconstruct(
    model: Location, recording: Location | Recording, modality: str, *, study: str | None = None, device: str = "auto"
) -> ReconstructedSignal:
    """Return a missing or corrupted signal as a pretrained network reconstructs it from the other sensors.

    ``model`` is a folder that ``pretrain`` wrote with the objective ``masked``; ``modality`` is such as ``heart_rate``,
    and whatever the recording has of its sensor is masked; ``study`` is whose scale to use, where the network saw
    several (None: the first).

    ``errors()`` compares with what was measured.

    Raises CheckpointError where the network was not trained for it. Raises RecordingError as :func:`predict`.
    """
    from biopercept.inference import reconstruction
    from biopercept.resources import model_folder

    return reconstruction.reconstruct(model_folder(model), _loaded(recording), modality, study=study, device=device)


def _prepared_for(
    model: Location | Checkpoint, recording: Location | Recording
) -> tuple[Checkpoint, PreparedRecording]:
    """Return a model, and a recording prepared with the settings of the model's study."""
    from biopercept.inference import prediction
    from biopercept.prepare import recording as preparing
    from biopercept.studies import ratings

    checkpoint = load_model(model) if isinstance(model, str | Path) else model
    prediction.require_this_version(checkpoint, Path(model).name if isinstance(model, str | Path) else "given")
    settings = preparing.PrepareSettings.from_plain_values(checkpoint.prepare)
    recording = ratings.without_labels(_loaded(recording), checkpoint.tasks)
    return checkpoint, replace(preparing.prepare_recording(recording, settings, advice=preparing.OF_A_MODEL), place=0)


def compare(
    folders: Location | Sequence[Location],
    output: Location,
    *,
    metric: str = "balanced_accuracy",
    reference: str | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Return which of several cross-validations are better, paired over subjects; ``to_frame()`` lists the pairs.

    Those of several studies are compared over the subjects of all, and of each study by itself (``studies``).

    Raises StudyError where there are fewer than two, or those of a study were not scored on the same windows. Raises
    OutputError where the folder is not empty and ``overwrite`` is not set.
    """
    from biopercept.comparison import comparison
    from biopercept.files import refuse_existing

    refuse_existing(Path(output), overwrite=overwrite)
    result = comparison.compare(list(_paths(folders)), metric=metric, reference=reference)
    comparison.write_comparison(result, Path(output))
    return result


def write_report(
    folder: Location, output: Location | None = None, *, title: str = "", beside: Location | Sequence[Location] = ()
) -> Path:
    """Return the page that was written: everything in a folder of results as one HTML file that opens offline.

    ``beside`` are stores and studies that lie elsewhere and say more of the results.

    Raises StudyError where there is no result in the folder, or one is damaged.
    """
    from biopercept.report import page

    return page.write_report(Path(folder), None if output is None else Path(output), title=title, beside=_paths(beside))


def _paths(given: Location | Sequence[Location]) -> tuple[Path, ...]:
    return tuple(Path(one) for one in ([given] if isinstance(given, str | Path) else given))


def _loaded(recording: Location | Recording) -> Recording:
    return recording if isinstance(recording, Recording) else load_recording(recording)


def _changes(overrides: Overrides | None) -> list[str]:
    """Return overrides as the command line writes them: text stays text, everything else is JSON, which is YAML."""
    return [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in (overrides or {}).items()
    ]


def _config(config: Location | None, overrides: Overrides | None) -> Config:
    return load_config(None if config is None else str(config), _changes(overrides))


def _refuse_unknown(given: Mapping[str, object], keywords: type[Given] | type[Scored]) -> None:
    unknown = sorted(given.keys() - keywords.__annotations__.keys())
    if unknown:
        raise TypeError(f"there is no keyword {unknown[0]!r}; there are: {', '.join(keywords.__annotations__)}")


def _request(
    stores: Location | Sequence[Location], given: Given, command: str, model: str = "perceiver-io", **options: object
) -> tuple[Config, EvaluationRequest]:
    """Return the settings for some stores, and what a command learns from them; unread settings are refused."""
    _refuse_unknown(given, Given)
    paths = _paths(stores)
    name, changes = given.get("config"), _changes(given.get("overrides"))
    if given.get("normalisation") is not None:
        changes.append(f"normalisation.mode={given['normalisation']}")
    purpose = Purpose.of(command, model, given.get("task"), normalisation=given.get("normalisation"), **options)
    subjects, excluded = given.get("subjects"), tuple(given.get("exclude_subjects", ()))
    subjects = None if subjects is None else tuple(subjects)
    purpose = replace(purpose, subjects=subjects, excluded=excluded)
    config, sentences = load_config_for(paths, None if name is None else str(name), changes, purposes=[purpose])
    for sentence in sentences:
        warnings.warn(sentence, stacklevel=3)
    request = replace(
        config.request(paths),
        model=model,
        task=given.get("task"),
        is_normalisation_chosen=given.get("normalisation") is not None,
        subjects=subjects,
        excluded=excluded,
        seed=given.get("seed", 0),
        device=given.get("device", "auto"),
    )
    return config, request
