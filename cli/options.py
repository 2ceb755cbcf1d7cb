"""The options of all commands, each declared once: a command takes them one by one, or as a group of several.

A group is a frozen dataclass whose fields are options; :func:`biopercept.cli.panels.with_options` puts them in the
signature that typer reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .option_settings import in_words_of_options, refuse_two_values
from .panels import DATA, FOLDS, MODEL, RUN, SETTINGS
from .terminal import say

if TYPE_CHECKING:
    from biopercept.comparison.groups import Levels
    from biopercept.config.settings import Config, Purpose
    from biopercept.evaluation.plan import EvaluationRequest
    from biopercept.loaders.recognition import SignalOverride
    from biopercept.prepare.recording import PrepareSettings
    from biopercept.results.plan import SettingsPlan
    from biopercept.studies.structure import Study

data_option, fold_option, model_option, setting_option, run_option = (
    partial(typer.Option, rich_help_panel=panel) for panel in (DATA, FOLDS, MODEL, SETTINGS, RUN)
)

WINDOW_SETTINGS = ("windows.length_seconds", "windows.step_seconds")

Store = Annotated[Path, typer.Argument(metavar="STORE", help="A store that prepare wrote.")]
Stores = Annotated[
    list[Path], typer.Argument(metavar="STORE...", help="A store that prepare wrote; several are joined.")
]


def _output(what: str, *endings: str) -> Callable[[str], Path]:
    """Return what reads an output and refuses a name that promises something else than ``what``, before any work."""

    def read(text: str) -> Path:
        from biopercept.files import refuse_ending

        refuse_ending(Path(text), what, endings)
        return Path(text)

    return read


def _output_option(metavar: str, written: str, what: str, *endings: str) -> Any:
    return run_option("--output", "-o", metavar=metavar, parser=_output(what, *endings), help=written)


_FOLDER = _output_option("DIR", "The folder where the results go.", "what is written")
Output = Annotated[Path, _FOLDER]
OptionalOutput = Annotated[Path | None, _FOLDER]
StoreOutput = Annotated[Path, _output_option("STORE", "The store that is written (.h5).", "a store", ".h5", ".hdf5")]
NetworkOutput = Annotated[Path, _output_option("FILE", "The file that is written (.onnx).", "a network", ".onnx")]
PageOutput = Annotated[
    Path | None,
    _output_option("FILE", "The page that is written (.html); DIR/report.html if left out.", "a page", ".html", ".htm"),
]
PlainOutput = Annotated[Path, run_option("--output", "-o", metavar="FILE|DIR", help="Where the files go.")]
Pages = Annotated[
    Path | None,
    run_option(
        "--html",
        metavar="FILE|DIR",
        parser=_output("a page", ".html", ".htm"),
        help="No window, but a page; of several recordings a folder of pages.",
    ),
]
Seed = Annotated[int, run_option("--seed", min=0, help="Seed of every random choice.")]
Device = Annotated[str, run_option("--device", metavar="auto|cpu|cuda|cuda:N", help="Where the model runs.")]
Jobs = Annotated[int, run_option("--jobs", "-j", min=1, help="Worker processes.")]
Overwrite = Annotated[bool, run_option("--overwrite", help="Replace an output that exists.")]
AsJson = Annotated[bool, run_option("--json", help="One JSON document on stdout and nothing else there.")]
Quiet = Annotated[bool, run_option("--quiet", "-q", help="Only errors on stderr.")]
Verbose = Annotated[bool, run_option("--verbose", "-v", help="More detail on stderr.")]
Debug = Annotated[bool, run_option("--debug", help="Show the traceback of an error.")]
NFolds = Annotated[int | None, fold_option("--folds", min=2, help="Number of folds of k-fold.")]
MissingSensors = Annotated[
    bool, fold_option("--missing-sensors", help="Also score the fitted models with every subset of the sensors.")
]
Adapt = Annotated[
    str,
    model_option(
        "--adapt",
        metavar="none|past|all",
        help="Move the threshold of two classes to each recording without labels: by windows before (past), or all.",
    ),
]
AbstainBelow = Annotated[
    float | None,
    model_option("--abstain-below", metavar="P", help="Withhold predictions whose highest probability is lower."),
]
AbstainUnlike = Annotated[
    bool, model_option("--abstain-unlike", help="Withhold predictions of windows unlike those the model knows.")
]
Participants = Annotated[
    Path | None,
    data_option("--participants", metavar="FILE", help="A participants.tsv, whose columns are groups of people."),
]


def _model_folder(text: str) -> Path:
    """Return the folder of a model that is given by path or by name; refused here, before anything else is read."""
    from biopercept.errors import CheckpointError
    from biopercept.resources import model_folder, shipped_models

    try:
        return model_folder(text)
    except CheckpointError as fault:
        from biopercept.baselines.catalogue import MODELS, REGRESSORS

        if text not in {*MODELS, *REGRESSORS}:
            raise
        raise CheckpointError(
            f"{text!r} is a kind of model, which 'cross-validate --model {text}' fits and scores; here a saved one is "
            f"needed: a folder that train wrote, or one of {', '.join(shipped_models())}"
        ) from fault


SavedModel = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        parser=_model_folder,
        help="A model folder that train wrote, or the name of a shipped model (biopercept models).",
    ),
]


def refuse_swapped(command: str, model: Path, others: Sequence[Path]) -> None:
    """Refuse a model that stands where recordings, a study or a store does, and the other way round.

    Raises SettingsError with the order that is right.
    """
    from biopercept.errors import SettingsError
    from biopercept.resources import shipped_models

    known = shipped_models()
    models = [path for path in others if (path / "model.json").is_file() or str(path) in known]
    if not models or (model / "model.json").is_file():
        return
    rest = [model, *(path for path in others if path != models[0])]
    option = "--replay " if command == "live" else ""
    raise SettingsError(
        f"{models[0]} is a model and {model} is none: the model comes first, as in biopercept {command} {models[0]} "
        f"{option}{' '.join(map(str, rest[:2]))}{' ...' if len(rest) > 2 else ''} -o DIR"
    )


StartFrom = Annotated[
    Path | None,
    model_option(
        "--start-from",
        metavar="MODEL",
        parser=_model_folder,
        help="Begin with the weights of this model, a folder or a shipped one's name, that fit by name and shape.",
    ),
]

Subjects = Annotated[str | None, data_option("--subjects", metavar="ID,ID...", help="Use only these subjects.")]
ExcludeSubjects = Annotated[
    str | None, data_option("--exclude-subjects", metavar="ID,ID...", help="Leave these subjects out.")
]
RecordingName = Annotated[
    str | None, data_option("--recording", metavar="NAME", help="Of several recordings: which one.")
]
TaskName = Annotated[
    str | None, data_option("--task", metavar="NAME[,NAME]", help="The study's task, or several learnt at once.")
]
ConfigName = Annotated[
    str | None,
    setting_option(
        "--config", "-c", metavar="auto|NAME|FILE", help="What follows from the data (auto), a preset, or a YAML file."
    ),
]
Overrides = Annotated[
    list[str] | None, setting_option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated.")
]
Normalisation = Annotated[
    str | None,
    setting_option("--normalisation", metavar="raw|global|causal|reference|recording", help="How inputs are scaled."),
]


@dataclass(frozen=True)
class Printing:
    """How a command that only shows something shows it."""

    as_json: AsJson = False
    debug: Debug = False


@dataclass(frozen=True)
class Run(Printing):
    """How a command runs and what it says; it writes an output."""

    overwrite: Overwrite = False
    quiet: Quiet = False


@dataclass(frozen=True)
class ModelRun(Run):
    """How a command runs a network."""

    device: Device = "auto"
    verbose: Verbose = False


@dataclass(frozen=True)
class FitRun(ModelRun):
    """How a command fits a network."""

    seed: Seed = 0


@dataclass(frozen=True)
class FoldRun(FitRun):
    """How a command fits networks fold by fold."""

    jobs: Jobs = 1


@dataclass(frozen=True)
class People:
    """Whose recordings are used."""

    subjects: Subjects = None
    exclude_subjects: ExcludeSubjects = None

    @property
    def chosen(self) -> tuple[str, ...] | None:
        """Return the only subjects to use; None for all. Raises SettingsError where nobody is named."""
        return _people(self.subjects, "--subjects")

    @property
    def excluded(self) -> tuple[str, ...]:
        """Return the subjects to leave out."""
        return _people(self.exclude_subjects, "--exclude-subjects") or ()

    def of(self, purpose: Purpose) -> Purpose:
        """Return what a command is to do, with these people."""
        return replace(purpose, subjects=self.chosen, excluded=self.excluded)


@dataclass(frozen=True)
class Predicting:
    """At which times a model predicts, whether its threshold is moved, and which of its predictions are withheld."""

    every: Annotated[
        float | None,
        model_option(
            "--every", metavar="SECONDS", help="Also predict at times this far apart (densely trained models)."
        ),
    ] = None
    adapt: Adapt = "none"
    abstain_below: AbstainBelow = None
    abstain_unlike: AbstainUnlike = False
    also: Annotated[
        str | None,
        run_option(
            "--also",
            metavar="FORMAT,...",
            help="For other tools: bids (derivatives), edf and mne (annotations), csv and parquet (one tidy table).",
        ),
    ] = None


@dataclass(frozen=True)
class Data(People):
    """Whose recordings are used, and what is predicted."""

    task: TaskName = None


@dataclass(frozen=True)
class GroupedData(Data):
    """Whose recordings are used, what is predicted, and which groups of people are scored beside everybody."""

    by: Annotated[
        str | None,
        data_option("--by", metavar="COLUMN,...", help="Also score and compare groups by columns of participants.tsv."),
    ] = None
    participants: Participants = None

    def levels(self, study: Study | None = None) -> Levels | None:
        """Return the group of each person, of a file that is given or of a study; None where no groups are wanted.

        Raises SettingsError where nothing tells who is in which, or a column is not there.
        """
        from biopercept.comparison.groups import levels_of
        from biopercept.errors import SettingsError

        columns = listed(self.by)
        if not columns:
            if self.participants is not None:
                raise SettingsError("--participants is read with --by COLUMN, which is not given; give both or neither")
            return None
        if self.participants is None and study is None:
            raise SettingsError(
                f"--by {self.by} needs to know who is who, which no store holds; add --participants participants.tsv"
            )
        people = study.participants if self.participants is None and study is not None else ()
        return levels_of(self.participants or people, columns)


@dataclass(frozen=True)
class Channels:
    """What a user says of the channels of files, which belong to no study that says it."""

    signals: Annotated[
        Path | None,
        data_option(
            "--signals", metavar="FILE", help="What channels of files are: YAML as under 'signals:' in a study.yaml."
        ),
    ] = None
    unit: Annotated[
        list[str] | None,
        data_option("--unit", metavar="NAME=UNIT", help="Unit of a channel, such as ECG=mV; may be repeated."),
    ] = None

    @property
    def overrides(self) -> dict[str, SignalOverride]:
        """Return what is said, by (pattern of the) channel's label. Raises SettingsError where it cannot be read."""
        if self.signals is None and not self.unit:
            return {}
        from biopercept.errors import SettingsError
        from biopercept.studies.definition import read_signals, with_units

        units: dict[str, str] = {}
        for text in self.unit or ():
            label, _, unit = (part.strip() for part in text.rpartition("="))
            if not label or not unit:
                raise SettingsError(f"--unit {text}: NAME=UNIT is needed, such as ECG=mV")
            if units.get(label, unit) != unit:
                raise SettingsError(f"--unit gives {label} two units, {units[label]} and {unit}; give one")
            units[label] = unit
        return with_units(units, {}) if self.signals is None else read_signals(self.signals, units)


@dataclass(frozen=True)
class PeopleAndChannels(Channels, People):
    """Whose recordings are used, and what a user says of the channels of files."""


@dataclass(frozen=True)
class Preset:
    """The settings: a preset or a file, and single changes."""

    config: ConfigName = None
    overrides: Overrides = None

    @property
    def is_given(self) -> bool:
        """Return whether any setting is given; loading those of the preset alone takes seconds and tells nothing."""
        return self.config is not None or bool(self.overrides)

    def load(self, *purposes: Purpose) -> Config:
        """Return the effective settings of a command that reads no store."""
        from biopercept.config.loading import load_config

        return load_config(self.config, self.overrides or (), purposes=purposes)

    def refuse_unread(self, command: str) -> None:
        """Refuse what a command that reads a study is given and does not read, before the study is looked at."""
        from biopercept.config.loading import AUTO, load_config
        from biopercept.config.settings import Purpose

        if self.is_given:
            name = None if self.config == AUTO else self.config
            load_config(name, self.overrides or (), purposes=[Purpose(command)])

    def of_study(
        self, study: Study, command: str = "", *, is_opened: bool = False
    ) -> tuple[PrepareSettings, SettingsPlan]:
        """Return how a study is cut and cleaned, and what follows from it.

        Where another preset is named the plan has no lines, and says what its windows lose.

        All settings are loaded only where some are given: they come with networks, whose library takes seconds.

        Parameters
        ----------
        command : str
            Its name, so that what it does not read is refused; empty accepts all settings.
        is_opened : bool
            Load a recording where headers do not tell its sensors.
        """
        from biopercept.planning.fingerprint import fingerprint_of_study
        from biopercept.planning.rules import plan_of
        from biopercept.prepare.recording import PrepareSettings
        from biopercept.preprocessing.windows import WindowSettings

        if self.is_given:
            from biopercept.config.loading import config_and_plan_of_study
            from biopercept.config.settings import Purpose

            purposes = [Purpose(command)] if command else []
            loaded, plan = config_and_plan_of_study(
                study, self.config, self.overrides or (), purposes=purposes, is_opened=is_opened
            )
            return loaded.preparing(), plan
        plan = plan_of(fingerprint_of_study(study, is_opened=is_opened))
        return PrepareSettings(WindowSettings(*(plan.values[name] for name in WINDOW_SETTINGS))), plan

    def preparing(self, command: str, *given: str) -> PrepareSettings:
        """Return how a command that reads no store cuts and cleans recordings; ``given`` are options of it.

        All settings are loaded only where some are given: they come with networks, whose library takes seconds.
        """
        from biopercept.prepare.recording import PrepareSettings

        if not self.is_given:
            return PrepareSettings()
        from biopercept.config.settings import Purpose

        loaded = self.load(Purpose(command, options=frozenset(given)))
        return loaded.preparing()


@dataclass(frozen=True)
class ModelPreset(Preset):
    """The settings, with the scaling of a model's inputs by an option of its own."""

    normalisation: Normalisation = None

    def of_store(
        self,
        stores: Path | Sequence[Path],
        named: Mapping[str, object] | None = None,
        *,
        purposes: Sequence[Purpose],
        quiet: bool,
        usual: Sequence[str] = (),
    ) -> Config:
        """Return the effective settings of a command that reads a store, whose windows and cleaning are the store's.

        What follows from the data is shown on stderr with its reasons, unless ``quiet``.

        Parameters
        ----------
        named : mapping of setting to value
            Of options that stand for one setting, None where not given; they overrule ``--set``.
        purposes : sequence of Purpose
            What the settings are for: a setting that is given and none of them reads is refused.
        usual : sequence of str
            ``section.key=value`` of the command itself, which ``--set`` overrules.
        """
        from biopercept.config.loading import load_config_for
        from biopercept.errors import SettingsError

        if self.normalisation is not None:
            purposes = [replace(one, options=one.options | {"--normalisation"}) for one in purposes]
        given = {**(named or {}), "normalisation.mode": self.normalisation}
        changes = [f"{key}={value}" for key, value in given.items() if value is not None]
        refuse_two_values(self.overrides or (), given)
        overrides = [*(self.overrides or ()), *changes]
        try:
            settings, warnings = load_config_for(stores, self.config, overrides, assumed=usual, purposes=purposes)
        except SettingsError as fault:
            raise in_words_of_options(fault, given) from fault
        for warning in warnings:
            say(f"warning: {warning}", quiet=quiet)
        say_plan(getattr(settings, "plan", None), quiet=quiet)
        return settings


@dataclass(frozen=True)
class Model(ModelPreset):
    """Which model is fitted, and with what settings."""

    model: Annotated[
        str,
        model_option(
            "--model",
            metavar="NAME",
            help="perceiver-io, perceiver, transformer, ecg-transformer, informer, lstm, cnn-late-fusion, hourglass, "
            "majority-vote, probability-mean, stacking, bagging, boosting, logistic, lda, ridge (numbers); or a probe: "
            "clock-only, motion-only, quality-only, dummy.",
        ),
    ] = "perceiver-io"
    start_from: StartFrom = None
    pretrain: Annotated[
        bool, model_option("--pretrain", help="Pretrain inside each fold, on its training subjects' signals alone.")
    ] = False


@dataclass(frozen=True)
class Folds:
    """How subjects are dealt into folds."""

    split: Annotated[
        str | None,
        fold_option(
            "--split",
            metavar="subject|k-fold|study|time",
            help="subject leaves one subject out at a time, k-fold deals subjects into folds. Of cross-validate and "
            "learning-curve alone: study leaves one of several stores out. Of cross-validate alone: time scores later "
            "windows of each subject by its own earlier ones.",
        ),
    ] = None
    folds: NFolds = None
    seeds: Annotated[int | None, fold_option("--seeds", min=1, help="Repetitions that are averaged.")] = None

    @property
    def named(self) -> dict[str, object]:
        """Return the settings that these options stand for; None where not given."""
        return {"evaluation.split": self.split, "evaluation.n_folds": self.folds, "evaluation.n_seeds": self.seeds}


@dataclass(frozen=True)
class StudyFolds(Folds):
    """How the subjects of one store or several are dealt into folds."""

    stratify: Annotated[
        bool, fold_option("--stratify", help="Balance the classes over the folds of k-fold (depends on who is there).")
    ] = False
    folds_from: Annotated[
        Path | None,
        fold_option(
            "--folds-from", metavar="DIR|FILE", help="Take the folds of an earlier run; new subjects are dealt in."
        ),
    ] = None

    @property
    def named(self) -> dict[str, object]:
        """Return the settings that these options stand for; None where not given."""
        return {**super().named, "evaluation.stratify": self.stratify or None}

    @property
    def usual(self) -> tuple[str, ...]:
        """Return the settings by which the folds of an earlier run were made, where those are taken."""
        from biopercept.evaluation.folds import given_settings

        earlier = {} if self.folds_from is None else given_settings(self.folds_from)
        return tuple(f"{name}={value}" for name, value in earlier.items())


def say_plan(plan: SettingsPlan | None, *, quiet: bool) -> None:
    """Show on stderr what follows from the data, each setting with its value and the reason."""
    if plan is not None and plan.lines:
        say("settings from the data (another: --config NAME, --set SECTION.KEY=VALUE):", quiet=quiet)
        for row in plan.rows:
            say(f"  {row}", quiet=quiet)


def listed(names: str | None) -> tuple[str, ...] | None:
    """Return the names of a comma-separated option, or None where the option was not given."""
    return None if names is None else tuple(part.strip() for part in names.split(",") if part.strip())


def _people(names: str | None, option: str) -> tuple[str, ...] | None:
    people = listed(names)
    if people == ():
        from biopercept.errors import SettingsError

        raise SettingsError(f"{option} {names!r} names nobody; give names with commas between, such as S01,S02")
    return people


def evaluation_request(
    config: Config, stores: Sequence[Path], people: People, preset: ModelPreset, run: FitRun, **fields: Any
) -> EvaluationRequest:
    """Return what is evaluated, as the options say it; ``fields`` are further ones of the request."""
    return replace(
        config.request(stores),
        is_normalisation_chosen=preset.normalisation is not None,
        subjects=people.chosen,
        excluded=people.excluded,
        seed=run.seed,
        device=run.device,
        **fields,
    )


def study_request(
    command: str, stores: Sequence[Path], data: Data, folds: StudyFolds, model: Model, run: FitRun
) -> tuple[Config, EvaluationRequest]:
    """Return the effective settings of a command that fits a model in each fold, and what it evaluates."""
    from biopercept.config.settings import Purpose

    given = {"pretrain": model.pretrain, "start_from": model.start_from, "folds_from": folds.folds_from}
    purpose = data.of(Purpose.of(command, model.model, data.task, **given))
    settings = model.of_store(stores, folds.named, purposes=[purpose], quiet=run.quiet, usual=folds.usual)
    fit = settings.fit(model.start_from, is_pretrained=model.pretrain)
    more = {"model": model.model, "task": data.task, "fit": fit, "folds_from": folds.folds_from}
    return settings, evaluation_request(settings, stores, data, model, run, **more)
