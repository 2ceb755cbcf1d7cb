"""Candidates of a selection as they are written down: named sets of settings in a YAML file.

A candidate names only what differs from the settings of the command::

    plain: {}
    features-only: {tokens.raw: false, tokens.derived: false}
    slow: {training.learning_rate: 3e-4, training.n_epochs: 32, pretrain: true}
    long: {store: study-120s.h5, config: stress-wrist}
    trees: {model: boosting}
    joined: {ensemble: [plain, trees]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biopercept.errors import SettingsError
from biopercept.typed_values import did_you_mean, read_yaml_text

SECTIONS = ("normalisation", "tokens", "model", "training", "pretraining")
"""Sections of settings that a candidate may change as it likes."""

EVALUATION = ("n_seeds", "calibration", "calibration_folds", "folds_at_once", "stack_size")
"""Settings of ``evaluation`` that belong to a candidate; the others are the same for all."""

WORDS = ("model", "store", "config", "pretrain", "ensemble")
"""Keys without a section."""

_NAME = re.compile(r"\w[\w.+-]{0,59}")


@dataclass(frozen=True)
class Draft:
    """One candidate as it was written or drawn; what it does not say is the command's.

    Attributes
    ----------
    name : str
    settings : tuple of (str, str)
        ``section.key`` and the value's text.
    model : str
        A name of :data:`biopercept.comparators.catalogue.MODELS`.
    store : Path or None
        Another store of the same subjects; None: the command's.
    config : str or None
        Preset or file that its settings start from; None: the command's.
    is_pretrained : bool
        Whether the network is pretrained inside each fit.
    members : tuple of str
        Of an ensemble, the candidates whose probabilities are averaged; nothing else is set then.
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

    Raises
    ------
    SettingsError
        Where the file cannot be read or a candidate has a key or a value that is not allowed; all faults at once.
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
            settings |= {f"{key}.{inner}": _text(held) for inner, held in value.items()}
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
