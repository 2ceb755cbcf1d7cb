"""What a channel measures, told from its label and unit; the study may say otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from biopercept.errors import SettingsError
from biopercept.modalities import UNKNOWN, modality_named

from .montage import electrode_name, is_reference
from .units import convert_unit as convert_unit
from .units import quantity_of, tidy_unit

LABEL, UNIT, STUDY, FORMAT = "label", "unit", "study", "format"
"""How a modality was found, the words of ``Signal.recognised_by``."""


@dataclass(frozen=True)
class SignalOverride:
    """What the study says about channels whose label matches a pattern; it goes before what the file says.

    Attributes
    ----------
    modality : str or None
        Name or alias of a modality, or "unknown" to leave the channel out; None keeps the guess.
    unit : str or None
        Unit that the samples are in; None keeps the file's.

    Raises
    ------
    SettingsError
        Where the modality is not one of ours.
    """

    modality: str | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        if self.modality is None or self.modality == UNKNOWN:
            return
        try:
            object.__setattr__(self, "modality", modality_named(self.modality).name)
        except KeyError as fault:
            raise SettingsError(str(fault.args[0])) from fault


# Words of columns that hold something computed from a sensor, or measured beside the body: not a signal of it.
_NOT_A_SIGNAL = re.compile(
    r".*\b(rates?|quality|peaks?|onsets?|offsets?|phasic|tonic|amplitude|phase|variab\w*|ambient|battery|room|device|marker"
    r"|trigger|event|status)\b.*"
)
_HEART_RATE = re.compile(r"(hr|heart ?rate|pulse ?rate)( \d+)?( wrist| chest)?")

# Whole labels, after tidying; the order matters: the first that matches wins.
_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"((ecg|ekg)\d*|electrocardio\w*)\b.*|.*\b(ecg|ekg)\d*", "ecg"),
    (r"(bvp|ppg|plet\w*|blood volume pulse)\d*\b.*|.*\b(bvp|ppg|pleth?)\d*", "bvp"),
    (r"(eda|gsr|scl|galvanic.*|skin cond.*|electrodermal.*)\d*\b.*|.*\b(eda|gsr)\d*", "eda"),
    (r"(ibi|inter ?beat.*|rr ?intervals?|nn ?intervals?)", "ibi"),
    (r"(spo2|sao2|sp o2|o2 ?sat\w*|oxygen saturation)\b.*", "spo2"),
    (r"(resp|rsp|respiration|breath\w*|thorax|thor|abdomen|abdo|chest belt)\d*\b.*|.*\b(resp|rsp)\d*", "resp"),
    (r"[a-z]?eog\d*\b.*|.*\b[vh]?eog\d*|[vh]eog[lrud]", "eog"),
    (r"emg\d*\b.*|.*\bemg\d*", "emg"),
    (r"(.*\b)?(temp|temperature)\d*\b.*", "temp"),
    (r"(.*\b)?(acc|accel|acceleration|accelerometer)\b.*|acc[xyz]|a[xyz]", "acc"),
)
_COMPILED = tuple((re.compile(pattern), modality) for pattern, modality in _PATTERNS)
_ECG_LEADS = re.compile(r"(i|ii|iii|av[rlf]|v[1-9]?|ml(i|ii|iii)|mcl ?\d|mv\d|d[123]|lead ?(i|ii|iii|\d))")
_PREFIX = re.compile(r"^(EEG|ECG|EKG|EMG|EOG|Resp|Temp|SaO2)[ :_-]+(?=\S)", re.IGNORECASE)
_CAP_GRID = re.compile(r"[A-I]\d{1,2}")


def tidy_label(label: str) -> str:
    """Return a label without control characters and without the EDF standard's type prefix ("EEG Fp1" gives "Fp1").

    Examples
    --------
    >>> tidy_label("EEG Fp1 "), tidy_label("ECG ECG"), tidy_label("Resp oro-nasal")
    ('Fp1', 'ECG', 'Resp oro-nasal')
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in label).split())
    prefix = _PREFIX.match(text)
    if prefix is None:
        return text
    rest = text[prefix.end() :]
    # The word is a prefix only where what follows says as much by itself.
    if rest.lower() == prefix[1].lower() or prefix[1].upper() == "EEG" or _ECG_LEADS.fullmatch(rest.lower()):
        return rest
    return text


def recognise(label: str, unit: str, sampling_rate: float) -> tuple[str, str]:
    """Return the modality of a channel and how it was found.

    Parameters
    ----------
    label, unit : str
        As the file gives them.
    sampling_rate : float
        Hz; tells a pulse wave from a pulse rate where the label does not.

    Returns
    -------
    modality : str
        A measured modality, or "unknown".
    how : str
        "label", "unit", or empty where it was not recognised.

    Examples
    --------
    >>> recognise("EEG Fp1", "uV", 500.0), recognise("foot GSR", "mV", 31.0), recognise("EEG A2-A1", "uV", 500.0)
    (('eeg', 'label'), ('eda', 'label'), ('unknown', ''))
    """
    tidy = tidy_label(label)
    word = re.sub(r"[_.:\s]+|(?<=[a-z])(?=[A-Z])", " ", tidy).strip().lower().replace("-", " ")
    if _HEART_RATE.fullmatch(word):
        return "hr", LABEL
    if _NOT_A_SIGNAL.fullmatch(word):
        return UNKNOWN, ""
    for pattern, modality in _COMPILED:
        if pattern.fullmatch(word):
            return modality, LABEL
    if word == "pulse":
        is_rate = tidy_unit(unit) == "bpm" or (not unit.strip() and sampling_rate <= 4)
        return ("hr" if is_rate else "bvp"), LABEL
    if word in ("rr", "nn") and quantity_of(unit) == "time":
        return "ibi", LABEL
    if _is_eeg(label, tidy):
        return "eeg", LABEL
    quantity = quantity_of(unit)
    if _ECG_LEADS.fullmatch(word) and quantity == "voltage":
        return "ecg", LABEL
    if word in ("x", "y", "z") and quantity == "acceleration":
        return "acc", LABEL
    by_unit = {"conductance": "eda", "temperature": "temp"}.get(quantity, UNKNOWN)
    if tidy_unit(unit) == "bpm":
        by_unit = "hr"
    return by_unit, (UNIT if by_unit != UNKNOWN else "")


def _is_eeg(label: str, tidy: str) -> bool:
    """Return whether a label names an electrode, two of them, or says EEG and names no reference."""
    parts = [part for part in re.split(r"[-/–]", tidy) if part.strip()]
    if parts and all(electrode_name(part) or is_reference(part) for part in parts):
        return any(electrode_name(part) for part in parts)
    return bool(re.match(r"\s*eeg\b", label, re.IGNORECASE)) or bool(re.fullmatch(r"eeg ?\d*", tidy, re.IGNORECASE))


def eeg_electrode(label: str) -> str | None:
    """Return the one electrode that an EEG channel's label names ("Fp1", "Fp1-A2"), or None where there is not one.

    A bipolar pair ("Fpz-Cz") sits at no single place: None.
    """
    parts = [part for part in re.split(r"[-/–]", tidy_label(label)) if part.strip()]
    names = [name for part in parts if (name := electrode_name(part)) is not None]
    others = [part for part in parts if electrode_name(part) is None]
    return names[0] if len(names) == 1 and all(is_reference(part) for part in others) else None


def is_cap_grid(labels: tuple[str, ...]) -> bool:
    """Return whether labels number a cap's sockets (A1..A32, B1..B32), where C3 or F4 is not the 10-20 electrode."""
    tidy = [tidy_label(label) for label in labels]
    return any(_CAP_GRID.fullmatch(t) and t[0] in "AB" and t not in ("A1", "A2") for t in tidy)


def is_grid_socket(label: str) -> bool:
    """Return whether a label has the form of a cap's socket (a letter A-I and a number)."""
    return bool(_CAP_GRID.fullmatch(tidy_label(label)))


def override_for(label: str, overrides: Mapping[str, SignalOverride] | None) -> SignalOverride | None:
    """Return what the study says about a channel: the first pattern that matches its label, in any case, or None."""
    names = {label.strip().lower(), tidy_label(label).lower()}
    for pattern, override in (overrides or {}).items():
        if any(fnmatchcase(name, pattern.strip().lower()) for name in names):
            return override
    return None
