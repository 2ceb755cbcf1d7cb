"""All settings joined, and the table of what reads each: one that a user gives and a command does not read is refused.

Each room keeps its settings beside the code that reads them; here they only meet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from biopercept.audit.settings import AuditSettings
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.splits import K_FOLD, TIME
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.windows import WindowSettings
from biopercept.results.plan import SettingsPlan
from biopercept.tasks import CLASSIFICATION, Task
from biopercept.training.settings import FitSettings, PersonalisationSettings, PretrainingSettings, TrainingSettings
from biopercept.version import __version__

if TYPE_CHECKING:
    from biopercept.evaluation.plan import EvaluationRequest
    from biopercept.prepare.recording import PrepareSettings

VERSION_KEY = "biopercept"
"""Key under which a file of all settings, as a command wrote it, names the version."""


@dataclass(frozen=True)
class Config:
    """The settings of every step, in the order in which data meets them."""

    windows: WindowSettings = field(default_factory=WindowSettings)
    cleaning: CleaningSettings = field(default_factory=CleaningSettings)
    normalisation: NormalisationSettings = field(default_factory=NormalisationSettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    model: PerceiverSettings = field(default_factory=PerceiverSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    pretraining: PretrainingSettings = field(default_factory=PretrainingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    personalisation: PersonalisationSettings = field(default_factory=PersonalisationSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)

    @property
    def text(self) -> str:
        """Return the settings as a YAML file that :func:`load_config` reads back to an equal Config."""
        import yaml

        body = yaml.safe_dump(config_dict(self), sort_keys=False, allow_unicode=True, default_flow_style=False)
        return f'{VERSION_KEY}: "{__version__}"\n{body}'

    def fit(self, start_from: Path | None = None, *, is_pretrained: bool = False) -> FitSettings:
        """Return how a network is fitted: from new weights or a model's, pretrained within its fold or not."""
        return FitSettings(
            tokens=self.tokens,
            model=self.model,
            training=self.training,
            pretraining=self.pretraining if is_pretrained else None,
            start_from="" if start_from is None else str(start_from),
        )

    def preparing(self) -> PrepareSettings:
        """Return how recordings are cut into windows, and cleaned before."""
        from biopercept.prepare.recording import PrepareSettings

        return PrepareSettings(self.windows, self.cleaning)

    def request(self, stores: Sequence[Path]) -> EvaluationRequest:
        """Return an evaluation of one store or several with these settings; what else it says is the usual."""
        from biopercept.evaluation.plan import EvaluationRequest

        return EvaluationRequest(
            stores[0],
            fit=self.fit(),
            normalisation=self.normalisation,
            evaluation=self.evaluation,
            more_stores=tuple(stores[1:]),
            personalisation=self.personalisation,
        )


@dataclass(frozen=True)
class PlannedConfig(Config):
    """Settings of which those that nobody gave follow from the data, with the plan that says why."""

    plan: SettingsPlan | None = field(default=None, compare=False)

    def request(self, stores: Sequence[Path]) -> EvaluationRequest:
        """Return the evaluation, with the plan to be written beside its results."""
        return replace(super().request(stores), settings_plan=self.plan)


def config_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Return the settings as plain dicts, lists, numbers and text, ready for JSON or YAML."""
    sections = {section.name: asdict(getattr(config, section.name)) for section in fields(Config)}
    plain: dict[str, dict[str, Any]] = json.loads(json.dumps(sections))
    return plain


PREPARED = ("windows", "cleaning")
"""Sections that are settled when a store is prepared; every command that reads a store takes them from it."""


@dataclass(frozen=True)
class Purpose:
    """What a command is to do, as far as it decides which settings are read.

    Attributes
    ----------
    tasks : tuple of Task
        What is learnt; empty where nothing is, or it is not known.
    options : frozenset of str
        Those given of ``--pretrain --start-from --subject --fit --folds-from --events --whole --around
        --normalisation``.
    task : str or None
        The task's name, or several with commas between them; None is the usual one of the stores.
    subjects, excluded : tuple of str
        Whose recordings are used (None: everybody's), and whose are left out.
    """

    command: str
    model: str = "perceiver-io"
    tasks: tuple[Task, ...] = ()
    options: frozenset[str] = frozenset()
    task: str | None = None
    subjects: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()

    @staticmethod
    def of(command: str, model: str = "perceiver-io", task: str | None = None, **options: object) -> Purpose:
        """Return what a command is to do; an option counts as given unless its value is None or false."""
        given = frozenset(f"--{name.replace('_', '-')}" for name, value in options.items() if value)
        return Purpose(command, model, options=given, task=task)

    def is_of(self, subject: str) -> bool:
        """Return whether the recordings of a person are used."""
        return (self.subjects is None or subject in self.subjects) and subject not in self.excluded

    @property
    def is_of_repetitions(self) -> bool:
        """Return whether repetitions are averaged unless the user says otherwise: where networks are scored."""
        return self.command == "cross-validate" and self.model in _NETWORKS

    @property
    def reads_no_labels(self) -> bool:
        """Return whether signals alone are learnt from, whatever the tasks."""
        return self.command in _PRETRAINING.split()

    def is_scaling_settled(self, config: Config) -> bool:
        """Return whether the normalisation stands as it is, whatever the labels: chosen, a model's, or of no labels."""
        return "--normalisation" in self.options or self.reads_no_labels or self.is_adapting(config)

    def is_within_subjects(self, config: Config) -> bool:
        """Return whether the windows of one subject are learnt from and checked on."""
        return "--subject" in self.options or (self.command == "cross-validate" and config.evaluation.split == TIME)

    def is_adapting(self, config: Config) -> bool:
        """Return whether a saved model is made one person's own: it brings its network, tokens and scaling along."""
        return "--start-from" in self.options and self.is_within_subjects(config)


class _Where(NamedTuple):
    """A condition under which a setting is read, and its words in a refusal."""

    words: str
    holds: Callable[[Purpose, Config], bool]


def _model_is(*names: str) -> _Where:
    return _Where(f"the model is one of {', '.join(names)}", lambda p, c: p.model in names)


def _set_to(name: str, *values: object) -> _Where:
    section, _, key = name.partition(".")
    words = f"{name} is {' or '.join(map(str, values))}"
    return _Where(words, lambda p, c: getattr(getattr(c, section), key) in values)


_PERCEIVERS = ("perceiver-io", "perceiver")
_TOKEN_MODELS = (*_PERCEIVERS, "transformer", "informer")
_NETWORKS = (*_TOKEN_MODELS, "ecg-transformer", "lstm", "cnn-late-fusion", "hourglass")
_STACKABLE = (*_PERCEIVERS, "transformer", "cnn-late-fusion", "hourglass")
_MODES = ("global", "causal", "reference", "recording")
_NEW = _Where("no saved model is adapted", lambda p, c: not p.is_adapting(c))
_ADAPTED = _Where(
    "a saved model is adapted (--start-from with --subject or --split time)",
    lambda p, c: p.command == "personalise" or p.is_adapting(c),
)
_OF_ONE = _Where("the model is of one person (--subject, --split time)", Purpose.is_within_subjects)
_OF_MANY = _Where("the model is not of one person", lambda p, c: not p.is_within_subjects(c))
_FITTED = _Where("a network is fitted (--fit)", lambda p, c: p.command != "audit" or "--fit" in p.options)
_SCALED = _Where("the model reads scaled inputs", lambda p, c: p.model not in ("dummy", "clock-only", "quality-only"))
_BY_REFERENCE = _Where(
    "normalisation.mode is reference",
    lambda p, c: c.normalisation.mode == "reference" or (p.command == "personalise" and _uses(c, "reference")),
)
_PRETRAINED = _Where("--pretrain is given", lambda p, c: p.reads_no_labels or "--pretrain" in p.options)
_HAS_CLASSES = _Where("a task has classes", lambda p, c: not p.tasks or any(t.is_classification for t in p.tasks))
_HAS_UNORDERED = _Where(
    "a task has classes without order", lambda p, c: not p.tasks or any(t.kind == CLASSIFICATION for t in p.tasks)
)
_OF_WINDOWS = _Where(
    "rows are of windows (none of --events, --whole, --around)",
    lambda p, c: not p.options & {"--events", "--whole", "--around"},
)
_DEALT = _Where("--folds-from is not given", lambda p, c: "--folds-from" not in p.options)
_STACKED = _Where("evaluation.folds_at_once is auto or stacked", lambda p, c: c.evaluation.folds_at_once != "single")
_CALIBRATED = _Where("calibration or conformal_coverage is set", lambda p, c: c.evaluation.calibrating.is_wanted)
_LOW_RANK = _Where(
    "low-rank is a method",
    lambda p, c: _uses(c, "low-rank") if p.command == "personalise" else c.personalisation.method == "low-rank",
)

_EVERY = "cross-validate learning-curve personalise tune train pretrain score-generation audit"
_FITTING = "cross-validate learning-curve personalise tune train audit"
_PRETRAINING = "pretrain score-generation"
_CURVES = "cross-validate learning-curve tune"
_FOLDS = "cross-validate learning-curve personalise"
_PERSONAL = "cross-validate train personalise"

_Readers = tuple[tuple[str, tuple[_Where, ...]], ...]


def _uses(config: Config, method: str) -> bool:
    return method in config.personalisation.methods


def _fit_of(models: Sequence[str], *conditions: _Where) -> _Readers:
    """Return that whatever fits one of these models with settings of its own reads a setting."""
    return ((_FITTING, (_model_is(*models), _NEW, *conditions)),)


def _part_of(*models: str) -> _Readers:
    """Return that a setting shapes the network, or the tokens, of these models."""
    return (*_fit_of(models), (_PRETRAINING, ()))


_TABLE: tuple[tuple[str, str, _Readers], ...] = (
    ("windows", "length_seconds step_seconds", (("prepare", ()), ("features", (_OF_WINDOWS,)))),
    (
        "cleaning",
        "powerline_hz bridge_seconds slow_bridge_seconds flat_seconds resp_flat_seconds eda_flat_seconds clip_seconds "
        "heart_min_seconds heart_min_correlation heart_max_deviation heart_max_step heart_min_coverage "
        "heart_max_hole_seconds pulse_agreement ecg_min_mv eda_min_us eda_max_slope eda_tonic_hz eda_min_seconds "
        "scr_min_us resp_min_seconds resp_min_share resp_max_deviation resp_min_amplitude emg_min_mv "
        "emg_envelope_seconds eeg_min_uv eeg_max_uv eeg_max_deviation eeg_min_correlation eeg_artefact_uv "
        "in_band_share",
        (("prepare features quality", ()),),
    ),
    ("normalisation", "mode", ((_EVERY, (_NEW,)),)),
    (
        "normalisation",
        "clip",
        ((_EVERY, (_NEW, _SCALED, _set_to("normalisation.mode", *_MODES))), ("personalise", (_BY_REFERENCE,))),
    ),
    (
        "normalisation",
        "prior_seconds",
        ((_EVERY, (_NEW, _SCALED, _set_to("normalisation.mode", *_MODES[1:]))), ("personalise", (_BY_REFERENCE,))),
    ),
    ("normalisation", "reference_seconds", ((_EVERY, (_NEW, _BY_REFERENCE)),)),
    (
        "normalisation",
        "scope",
        ((_EVERY, (_NEW, _set_to("normalisation.mode", *_MODES[1:]))), ("personalise", (_BY_REFERENCE,))),
    ),
    ("tokens", "raw derived features", _part_of(*_NETWORKS)),
    (
        "tokens",
        "patch_embedding time_code time_bands longest_seconds highest_hz position_bands shape_floor",
        _part_of(*_TOKEN_MODELS),
    ),
    (
        "tokens",
        "modality_dropout channel_dropout time_dropout token_dropout",
        _part_of(*(name for name in _NETWORKS if name != "ecg-transformer")),
    ),
    ("model", "width feedforward_dropout", _part_of(*_NETWORKS)),
    ("model", "n_latents n_cross_attentions rotary_latents", _part_of(*_PERCEIVERS)),
    ("model", "linear_branch conv_branch", _fit_of(("perceiver-io",))),
    ("model", "n_blocks", _part_of(*_PERCEIVERS, "hourglass")),
    ("model", "n_layers", _part_of(*_TOKEN_MODELS, "ecg-transformer", "lstm")),
    ("model", "n_heads attention_dropout", _part_of(*_TOKEN_MODELS, "ecg-transformer")),
    ("model", "widening", _part_of(*_TOKEN_MODELS, "cnn-late-fusion")),
    ("model", "path_dropout", _part_of(*_TOKEN_MODELS)),
    (
        "model",
        "head_dropout",
        (*_fit_of(_NETWORKS), ("pretrain", (_set_to("pretraining.objective", "alignment"),))),
    ),
    (
        "training",
        "n_epochs batch_size learning_rate weight_decay warmup_fraction gradient_clip patience average_decay "
        "task_weights",
        _fit_of(_NETWORKS),
    ),
    ("training", "label_smoothing", _fit_of(_NETWORKS, _HAS_UNORDERED)),
    ("training", "validation_fraction", ((_FITTING, (_FITTED, _OF_MANY)),)),
    ("training", "precision", ((_FITTING, (_model_is(*_NETWORKS),)), (_PRETRAINING, ()))),
    (
        "training",
        "dense_weight",
        (("cross-validate learning-curve train", (_model_is("perceiver-io"), _OF_MANY)),),
    ),
    ("training", "n_threads", ((_FITTING, (_FITTED,)), (_PRETRAINING, ()))),
    (
        "pretraining",
        "objective n_epochs batch_size learning_rate weight_decay warmup_fraction gradient_clip",
        ((f"{_CURVES} {_PRETRAINING}", (_PRETRAINED,)),),
    ),
    (
        "pretraining",
        "sensor_masking stretch_masking patch_masking n_queries",
        ((f"{_CURVES} {_PRETRAINING}", (_PRETRAINED, _set_to("pretraining.objective", "masked", "contrastive"))),),
    ),
    (
        "pretraining",
        "temperature",
        ((f"{_CURVES} pretrain", (_PRETRAINED, _set_to("pretraining.objective", "contrastive", "alignment"))),),
    ),
    ("evaluation", "split", ((_FOLDS, ()),)),
    (
        "evaluation",
        "n_folds",
        ((_FOLDS, (_set_to("evaluation.split", K_FOLD), _DEALT)), ("score-generation", ())),
    ),
    ("evaluation", "stratify", ((f"{_FOLDS} tune", (_DEALT,)),)),
    ("evaluation", "n_seeds", ((f"{_FOLDS} tune", ()),)),
    ("evaluation", "n_bootstrap", ((f"{_FOLDS} tune score-generation audit", ()),)),
    ("evaluation", "least_quality", ((_CURVES, (_HAS_CLASSES,)),)),
    ("evaluation", "calibration_folds", ((f"{_CURVES} train", (_CALIBRATED,)),)),
    ("evaluation", "folds_at_once", ((_CURVES, ()),)),
    ("evaluation", "stack_size", ((_CURVES, (_model_is(*_STACKABLE), _OF_MANY, _STACKED)),)),
    ("evaluation", "embargo_seconds earlier_share", (("cross-validate", (_set_to("evaluation.split", TIME),)),)),
    # Those that some of these commands refuse themselves, with the reason:
    ("evaluation", "label_share", (("cross-validate personalise tune", ()),)),
    ("evaluation", "missing_sensors", ((f"{_FOLDS} tune", ()),)),
    ("evaluation", "calibration conformal_coverage", ((f"{_FOLDS} tune train", ()),)),
    ("personalisation", "methods k gap_seconds earlier_share chronology", (("personalise", ()),)),
    ("personalisation", "method", (("cross-validate train", (_ADAPTED,)),)),
    ("personalisation", "rank", ((_PERSONAL, (_ADAPTED, _LOW_RANK)),)),
    ("personalisation", "n_steps learning_rate batch_size check_every unchecked", ((_PERSONAL, (_ADAPTED,)),)),
    (
        "personalisation",
        "unchecked_share",
        ((_PERSONAL, (_ADAPTED, _set_to("personalisation.unchecked", "adapt"))),),
    ),
    ("personalisation", "validation_fraction", (("personalise", ()), ("cross-validate train", (_OF_ONE,)))),
    (
        "personalisation",
        "scratch_steps",
        (
            ("personalise", (_Where("scratch is a method", lambda p, c: _uses(c, "scratch")),)),
            ("cross-validate train", (_OF_ONE, _NEW, _model_is(*_NETWORKS))),
        ),
    ),
    (
        "audit",
        "n_folds margin association trace identity small_spread large_spread n_permutations n_shifts n_trees",
        (("audit", ()),),
    ),
    ("audit", "fit_folds", (("audit", (_FITTED,)),)),
)

READERS: dict[str, _Readers] = {f"{section}.{key}": rows for section, keys, rows in _TABLE for key in keys.split()}
"""Every setting -> the commands that read it, and where. One that a user gives and nothing reads is refused by name."""


def may_read(name: str, purposes: Sequence[Purpose]) -> bool:
    """Return whether one of the commands reads a setting under some condition, met or not."""
    return any(purpose.command in commands.split() for purpose in purposes for commands, _ in READERS[name])


def unread_sentence(name: str, purposes: Sequence[Purpose], config: Config) -> str:
    """Return why giving a setting would change nothing; empty where one of the purposes reads it."""
    missing: dict[str, None] = {}
    for purpose in purposes:
        for commands, conditions in READERS[name]:
            if purpose.command in commands.split():
                failing = [where.words for where in conditions if not where.holds(purpose, config)]
                if not failing:
                    return ""
                missing[" and ".join(failing)] = None
    command = purposes[0].command
    if missing:
        return f"{command} reads {name} only where {', or where '.join(missing)}; leave it out"
    readers = dict.fromkeys(word for commands, _ in READERS[name] for word in commands.split())
    return f"{command} does not read {name}, which is for {', '.join(readers)}; leave it out"
