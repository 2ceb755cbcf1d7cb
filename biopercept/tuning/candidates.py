"""Candidates of a selection: named sets of settings in a YAML file, or drawn at random from a search space.

A candidate names only what differs from the settings of the command::

    plain: {}
    features-only: {tokens.raw: false, tokens.derived: false}
    slow: {training.learning_rate: 3e-4, training.n_epochs: 32, pretrain: true}
    long: {store: study-120s.h5, config: stress-wrist}
    trees: {model: boosting}
    joined: {ensemble: [plain, trees]}

Trial n of the search space is drawn from a generator of its own (seed and n), so that more trials add to those done and
move none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import SettingsError
from biopercept.typed_values import did_you_mean, read_yaml_text

SECTIONS = ("normalisation", "tokens", "model", "training", "pretraining")
"""Sections of settings that a candidate may change as it likes."""

EVALUATION = ("n_seeds", "calibration", "calibration_folds", "folds_at_once", "stack_size")
"""Settings of ``evaluation`` that belong to a candidate; the others are the same for all."""

WORDS = ("model", "store", "config", "pretrain", "ensemble")
"""Keys without a section."""

_NAME = re.compile(r"\w[\w.+-]{0,59}")
READ = ("features", "raw and derived", "derived and features", "all")
"""What of the signals the model reads; drawn as one choice, of which every study has something."""

MODES = ("causal", "global")
"""Normalisations that use nothing of a test recording's future."""


@dataclass(frozen=True)
class Draft:
    """One candidate as it was written or drawn; what it does not say is the command's.

    * ``settings`` (tuple of (str, str)): ``section.key`` and the value's text.
    * ``store``: another store of the same subjects.
    * ``config``: preset or file that its settings start from.
    * ``members``: of an ensemble, the candidates whose probabilities are averaged; nothing else is set then.
    """

    name: str
    settings: tuple[tuple[str, str], ...] = ()
    model: str = "perceiver-io"
    store: Path | None = None
    config: str | None = None
    is_pretrained: bool = False
    members: tuple[str, ...] = ()

    def changes(self) -> dict[str, str]:
        """Return what it changes, by key, in words for a table; folders of stores are not named."""
        named = {
            "model": "" if self.members or self.model == "perceiver-io" else self.model,
            "store": "" if self.store is None else self.store.name,
            "config": "" if self.config is None else Path(self.config).name,
            "pretrain": "true" if self.is_pretrained else "",
            "ensemble": " + ".join(self.members),
        }
        return {key: value for key, value in named.items() if value} | dict(self.settings)


def read_candidates(path: Path) -> tuple[Draft, ...]:
    """Return the candidates of a YAML file, in its order; stores lie relative to the file.

    Raises SettingsError where the file cannot be read or a candidate has a key or a value that is not allowed; all
    faults at once.
    """
    faults: list[str] = []
    content, lines = read_yaml_text(path, faults)
    drafts = []
    for name, body in content.items():
        where = f"{path.name} line {lines.get((name,), 1)}: candidate {name!r}"
        drafts.append(_draft(name, body, where, path.parent, faults))
    if not content and not faults:
        faults.append(
            f"{path.name} names no candidate; write one a line, such as slow: {{training.learning_rate: 3e-4}}"
        )
    _check_members(drafts, path.name, faults)
    if faults:
        raise SettingsError("; ".join(faults))
    return tuple(drafts)


def _draft(name: str, body: Any, where: str, folder: Path, faults: list[str]) -> Draft:
    if not _NAME.fullmatch(name):
        faults.append(f"{where}: a name is up to 60 letters, digits and . _ + -")
    if body not in ("", None) and not isinstance(body, Mapping):
        faults.append(f"{where} is {body!r}; settings such as {{training.learning_rate: 3e-4}} are needed")
        return Draft(name)
    settings: dict[str, str] = {}
    words: dict[str, Any] = {}
    for key, value in (body or {}).items():
        if isinstance(value, Mapping):
            settings |= {f"{key}.{inner}": _text(inner_value) for inner, inner_value in value.items()}
        elif "." in key:
            settings[key] = _text(value)
        elif key in WORDS:
            words[key] = value
        else:
            hint = did_you_mean(key, (*WORDS, *SECTIONS)) or f"; allowed are section.key and {', '.join(WORDS)}"
            faults.append(f"{where}: the key {key!r} is unknown{hint}")
    faults.extend(f"{where}: {fault}" for key in settings for fault in _fault_of(key))
    members = _members(words, settings, where, faults)
    if words.get("pretrain", "false") not in ("true", "false"):
        faults.append(f"{where}: pretrain is {words['pretrain']!r}; true or false is needed")
    return Draft(
        name,
        tuple(settings.items()),
        str(words.get("model", "perceiver-io")),
        folder / str(words["store"]) if words.get("store") else None,
        _config(str(words["config"]), folder) if words.get("config") else None,
        words.get("pretrain") == "true",
        members,
    )


def _config(name: str, folder: Path) -> str:
    """Return a preset's name, or the path of a file that lies beside the candidates."""
    return str(folder / name) if (folder / name).is_file() else name


def _text(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _fault_of(key: str) -> list[str]:
    """Return why a candidate may not change a setting, in one sentence or none."""
    section, _, name = key.partition(".")
    if section in ("windows", "cleaning"):
        return [f"{key} is settled when a store is prepared; prepare another one and name it with store: PATH"]
    if section == "evaluation" and name not in EVALUATION:
        return [f"{key} is the same for all candidates; of evaluation only {', '.join(EVALUATION)} may differ"]
    if section not in (*SECTIONS, "evaluation"):
        hint = did_you_mean(section, SECTIONS) or f"; allowed are {', '.join(SECTIONS)}"
        return [f"the section {section!r} is none that a candidate may change{hint}"]
    return []


def _members(words: Mapping[str, Any], settings: Mapping[str, str], where: str, faults: list[str]) -> tuple[str, ...]:
    if "ensemble" not in words:
        return ()
    members = words["ensemble"]
    if not isinstance(members, list) or len(set(map(str, members))) < 2:
        faults.append(f"{where}: ensemble is {members!r}; a list of at least two different candidates is needed")
        return ()
    if len(words) > 1 or settings:
        faults.append(f"{where}: an ensemble is the mean of its members and has no other settings")
    return tuple(dict.fromkeys(map(str, members)))


def _check_members(drafts: Sequence[Draft], name: str, faults: list[str]) -> None:
    """Refuse ensembles of what is not there or is an ensemble itself."""
    fitted = [draft.name for draft in drafts if not draft.members]
    for draft in drafts:
        for member in draft.members:
            if member not in fitted:
                hint = did_you_mean(member, fitted) or "; members are candidates of the same file that are fitted"
                faults.append(f"{name}: the ensemble {draft.name!r} has the member {member!r}, which is none{hint}")


@dataclass(frozen=True)
class Choice:
    """One of several values, each as likely."""

    values: tuple[str, ...]

    def draw(self, random: np.random.Generator) -> str:
        """Return a value's text."""
        return self.values[int(random.integers(len(self.values)))]

    def words(self) -> str:
        """Return the range in words."""
        return f"one of {', '.join(self.values)}"


@dataclass(frozen=True)
class Span:
    """A number between two edges, uniform or uniform in its logarithm, rounded to three digits."""

    low: float
    high: float
    is_log: bool = False

    def draw(self, random: np.random.Generator) -> str:
        """Return a value's text."""
        fraction = random.random()
        if self.is_log:
            return f"{math.exp(math.log(self.low) + fraction * math.log(self.high / self.low)):.3g}"
        return f"{self.low + fraction * (self.high - self.low):.3g}"

    def words(self) -> str:
        """Return the range in words."""
        return f"{self.low:g} to {self.high:g}, {'log-uniform' if self.is_log else 'uniform'}"


SPACE: dict[str, Choice | Span] = {
    "training.learning_rate": Span(2e-4, 4e-3, is_log=True),
    "training.weight_decay": Span(0.01, 0.3, is_log=True),
    "training.n_epochs": Choice(("16", "24", "32", "48")),
    "training.batch_size": Choice(("32", "64", "128")),
    "training.label_smoothing": Choice(("0.0", "0.05", "0.1")),
    "normalisation.mode": Choice(MODES),
    "tokens": Choice(READ),
    "tokens.modality_dropout": Span(0.0, 0.5),
    "tokens.channel_dropout": Span(0.0, 0.3),
    "tokens.time_dropout": Span(0.0, 0.3),
    "tokens.token_dropout": Span(0.0, 0.3),
    "model.width": Choice(("32", "48", "64", "96")),
    "model.n_latents": Choice(("8", "16", "24", "32")),
    "model.n_layers": Choice(("1", "2", "3", "4")),
    "model.feedforward_dropout": Span(0.0, 0.4),
    "model.head_dropout": Span(0.0, 0.5),
}
"""What is drawn, in the order of drawing; appended to only, as each draw moves those after it.

Edges lie around the presets, a factor of 4 on either side for rates. Widths are multiples of the preset's 4 heads.
"""


def random_trials(n_trials: int, seed: int) -> tuple[Draft, ...]:
    """Return the settings of the command as they are ("base"), and ``n_trials`` draws ("trial-001", ...).

    >>> [draft.name for draft in random_trials(2, 0)]
    ['base', 'trial-001', 'trial-002']
    """
    return (Draft("base"), *(_trial(number, seed) for number in range(1, n_trials + 1)))


def _trial(number: int, seed: int) -> Draft:
    random = np.random.default_rng([seed, number])
    drawn = {key: kind.draw(random) for key, kind in SPACE.items()}
    read = drawn.pop("tokens")
    for part in ("raw", "derived", "features"):
        drawn[f"tokens.{part}"] = "true" if read == "all" or part in read.split(" and ") else "false"
    return Draft(f"trial-{number:03d}", tuple(drawn.items()))
