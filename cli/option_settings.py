"""Options that stand for a setting: faults in the words that were typed, and two values for one setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biopercept.errors import SettingsError

_OPTIONS = {
    "evaluation.split": "--split",
    "evaluation.n_folds": "--folds",
    "evaluation.n_seeds": "--seeds",
    "evaluation.stratify": "--stratify",
    "evaluation.label_share": "--label-share",
    "evaluation.missing_sensors": "--missing-sensors",
    "normalisation.mode": "--normalisation",
    "pretraining.objective": "--objective",
    "windows.length_seconds": "--window",
    "windows.step_seconds": "--step",
}
"""The option that stands for a setting."""


def in_words_of_options(fault: SettingsError, given: Mapping[str, object]) -> SettingsError:
    """Return a fault of settings that calls those that options gave by the option, as it was typed."""
    faults = list(getattr(fault, "faults", (str(fault),)))
    for key, option in _OPTIONS.items():
        if (value := given.get(key)) is None:
            continue
        typed = option if value is True else f"{option} {value}"
        faults = [text.replace(f"--set {key}={value}:", f"{typed}:") for text in faults]
        faults = [option + text.removeprefix(key) if text.startswith(f"{key} ") else text for text in faults]
    return type(fault)(faults) if len(faults) > 1 else type(fault)(faults[0])


def refuse_two_values(overrides: Sequence[str], given: Mapping[str, object]) -> None:
    """Refuse a setting that an option and --set give different values. Raises SettingsError."""
    for key, _, value in (override.partition("=") for override in overrides):
        if (other := given.get(key.strip())) is not None and str(other) not in (value.strip(), f"{value.strip()}.0"):
            from biopercept.errors import SettingsError

            raise SettingsError(
                f"{_OPTIONS.get(key.strip(), 'an option')} gives {key.strip()} the value {other}, and --set gives it "
                f"{value.strip()}; give one"
            )
