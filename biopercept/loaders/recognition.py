"""What a channel measures, recognised by its label and unit, and where an electrode sits; the study may say otherwise.

Units are one table: those that files name, and how each becomes the unit of a modality. A unit that is not in the table
is never guessed: the channel keeps it and is not used until the study says what it is. Electrodes are placed by their
names in the international 10-20 and 10-05 systems.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

import numpy as np

from biopercept.errors import SettingsError
from biopercept.modalities import MODALITIES, UNKNOWN, modality_named
from biopercept.recording import FloatArray
from biopercept.typed_values import did_you_mean

LABEL, UNIT, STUDY, FORMAT = "label", "unit", "study", "format"
"""How a modality was found, the words of ``Signal.recognised_by``."""
ARBITRARY = "a.u."
"""Unit of modalities whose scale carries no meaning: whatever the file says is taken as it is."""
Position = tuple[float, float, float]

_OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_REFERENCES = frozenset({"A1", "A2", "M1", "M2"})
_REFERENCE_WORDS = frozenset(
    {"REF", "LE", "AR", "AA", "AV", "AVE", "AVG", "AVERAGE", "CAR", "A1A2", "M1M2", "A1+A2", "M1+M2", "A12", "M12"}
)


@dataclass(frozen=True)
class SignalOverride:
    """What the study says about channels whose label matches a pattern; it goes before what the file says.

    Raises SettingsError where the modality is not one of ours.

    Attributes
    ----------
    modality : str or None
        Name or alias of a modality, or "unknown" to leave the channel out; None keeps the guess.
    unit : str or None
        Unit that the samples are in; None keeps the file's.
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
    r"|trigger|event|status|differentiat\w*|derivativ\w*|integrat\w*|rms)\b.*"
)
_OF_SENSORS = frozenset({"voltage", "conductance", "temperature", "acceleration"})
"""Quantities that no rate is given in."""
_HEART_RATE = re.compile(r"(h ?r|heart ?rate|pulse ?rate)( \d+)?( wrist| chest)?")

# Whole labels, after tidying; the order matters: the first that matches wins. Labels that standards prescribe are among
# them: EDF+ ("SaO2", "Resp nasal", "Temp rectal"), BIDS ("cardiac", "respiratory"), AASM ("E1-M2", "LOC-A2").
_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"((ecg|ekg)\d*|electrocardio\w*)\b.*|.*\b(ecg|ekg)\d*", "ecg"),
    (r"(bvp|ppg|plet\w*|blood volume pulse)\d*\b.*|.*\b(bvp|ppg|pleth?)\d*|cardiac\d*( pulse| wave| finger)?", "bvp"),
    (r"(eda|gsr|scl|galvanic.*|skin cond.*|electrodermal.*)\d*\b.*|.*\b(eda|gsr)\d*", "eda"),
    (r"(ibi|inter ?beat.*|r ?r ?intervals?|n ?n ?intervals?|rri)", "ibi"),
    (r"(.*\b)?s[ap] ?o2\b.*|(o2 ?sat\w*|oxygen saturation)\b.*", "spo2"),
    (r"(resp|rsp|respiration|breath\w*|thorax|thor?|abdomen|abdo?|chest belt)\d*\b.*|.*\b(resp|rsp)\d*", "resp"),
    (r"respiratory\d*( (effort|belt|chest|thorax|thoracic|abdomen|abdominal|nasal|flow))?", "resp"),
    (r"(thoracic|abdominal|effort (tho|abd)\w*|(nasal|oral|oronasal) (air ?)?(flow|pressure)|air ?flow)", "resp"),
    (r"[a-z]?eog\d*\b.*|.*\b[vh]?eog\d*|[vh]eo|e[12] ?[ma][12]|[lr]oc( .*)?", "eog"),
    (
        r"([lr][vh]?|[vh][lr]?)?eog([vhlrudo]|li|re|ob|un|oben|unten|links|rechts|left|right|up|down|upper|lower)?",
        "eog",
    ),
    (r"emg\d*\b.*|.*\bemg\d*", "emg"),
    (r"(.*\b)?(temp|temperature)\d*\b.*|skt\d*", "temp"),
    (r"(.*\b)?(acc|accel|acceleration|accelerometer)\b.*|acc[xyz]|a[xyz]", "acc"),
)
_COMPILED = tuple((re.compile(pattern), modality) for pattern, modality in _PATTERNS)
_ECG_LEADS = re.compile(r"(i|ii|iii|av[rlf]|v[1-9]?r?|ml(i|ii|iii)|mcl ?\d|mv\d|d[123]|lead ?(i|ii|iii|\d))")
_PREFIX = re.compile(r"^(EEG|ECG|EKG|EMG|EOG|Resp|Temp|SaO2)[ :_-]+(?=\S)", re.IGNORECASE)
# What headsets and clinical recorders write before the name of an electrode: "EEG.AF3", "RAW_TP9", "POL Fp1".
_BEFORE_ELECTRODE = re.compile(r"^(EEG|RAW|POL)[ ._:-]+(?=\S)", re.IGNORECASE)
_BESIDE_EEG = re.compile(r".*\b(counter|interpolated|cq|impedances?|photic|sample|index)\b.*")
"""Columns that headsets write among their EEG: how good the contact is, which sample it is."""
_NUMBER = re.compile(r"-\d+$")
"""What mne writes behind names that a file has twice ("T8-P8-0", "T8-P8-1")."""
_CAP_GRID = re.compile(r"[A-I]\d{1,2}")


def tidy_label(label: str) -> str:
    """Return a label without control characters and without the EDF standard's type prefix ("EEG Fp1" gives "Fp1").

    Examples
    --------
    >>> tidy_label("EEG Fp1 "), tidy_label("ECG ECG"), tidy_label("Resp oro-nasal")
    ('Fp1', 'ECG', 'Resp oro-nasal')
    >>> tidy_label("Fc5."), tidy_label("EEG.AF3"), tidy_label("RAW_TP9"), tidy_label("EEG.Counter")
    ('Fc5', 'AF3', 'TP9', 'EEG.Counter')
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in label).split())
    text = text.rstrip(".") or text  # labels padded to one length
    before = _BEFORE_ELECTRODE.match(text)
    if before is not None and _named_electrodes(text[before.end() :]):
        return text[before.end() :]
    prefix = _PREFIX.match(text)
    if prefix is None:
        return text
    rest = text[prefix.end() :]
    # The word is a prefix only where what follows says as much by itself.
    is_lead = prefix[1].upper() in ("ECG", "EKG") and _ECG_LEADS.fullmatch(rest.lower())
    if rest.lower() == prefix[1].lower() or prefix[1].upper() == "EEG" or is_lead:
        return rest
    return text


def recognise(label: str, unit: str, sampling_rate: float) -> tuple[str, str]:
    """Return the modality of a channel and how it was found.

    Parameters
    ----------
    sampling_rate : float
        Hz; distinguishes a pulse wave from a pulse rate where the label does not.

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
    if _HEART_RATE.fullmatch(word):  # in microvolts it is the horizontal EOG on the right of a cap
        return ("hr", LABEL) if quantity_of(unit) not in _OF_SENSORS else (UNKNOWN, "")
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
    if _is_eeg(label, tidy, word):
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


def _is_eeg(label: str, tidy: str, word: str) -> bool:
    """Return whether a label names an electrode, two of them, or says EEG and names no reference."""
    if _named_electrodes(tidy):
        return True
    parts = _parts(tidy)
    if (parts and all(is_reference(part) for part in parts)) or _BESIDE_EEG.fullmatch(word):
        return False
    return bool(re.match(r"\s*eeg\b", label, re.IGNORECASE)) or bool(re.fullmatch(r"eeg ?\d*", tidy, re.IGNORECASE))


def _parts(tidy: str) -> list[str]:
    """Return what a label names on both sides of a dash, without the number that tells twins apart."""
    return [part for part in re.split(r"[-/–]", _NUMBER.sub("", tidy)) if part.strip()]


def _named_electrodes(tidy: str) -> list[str]:
    """Return the electrodes that a label names, in the system's spelling; none where it says anything else."""
    parts = _parts(tidy)
    names = [electrode_name(part) for part in parts]
    if not all(name or is_reference(part) for name, part in zip(names, parts, strict=True)):
        return []
    return [name for name in names if name is not None]


def common_reference(labels: Iterable[str]) -> str:
    """Return the electrode that stands second in most labels of electrode pairs; empty in any other montage.

    >>> common_reference(["EEG Fp1-CPz", "EEG Fp2-CPz", "EEG M1-CPz"]), common_reference(["Fp1-F7", "F7-T7", "T7-P7"])
    ('CPz', '')
    """
    pairs = [parts for label in labels if len(parts := _parts(tidy_label(label))) == 2]
    seconds = [electrode_name(parts[1]) for parts in pairs]
    usual = max(set(seconds), key=seconds.count, default=None)
    is_common = usual is not None and len(seconds) > 2 and 2 * seconds.count(usual) > len(seconds)
    return usual if usual is not None and is_common else ""


def eeg_electrode(label: str, reference: str = "") -> str | None:
    """Return the one electrode that an EEG channel's label names ("Fp1", "Fp1-A2"), or None where there is not one.

    A bipolar pair ("Fpz-Cz") sits at no single place: None; unless its second electrode is the reference of all.
    """
    parts = _parts(tidy_label(label))
    if len(parts) == 2 and reference and electrode_name(parts[1]) == reference:
        parts = parts[:1]
    names = [name for part in parts if (name := electrode_name(part)) is not None]
    others = [part for part in parts if electrode_name(part) is None]
    return names[0] if len(names) == 1 and all(is_reference(part) for part in others) else None


def is_reference_pair(label: str, reference: str) -> bool:
    """Return whether a label names an earlobe or a mastoid against the electrode that is the reference of all."""
    parts = _parts(tidy_label(label))
    return len(parts) == 2 and bool(reference) and electrode_name(parts[1]) == reference and is_reference(parts[0])


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


@dataclass(frozen=True)
class Conversion:
    """Samples in the wanted unit are ``samples * scale + offset``."""

    scale: float
    offset: float = 0.0


# Per quantity: tidy unit -> (scale, offset) to the quantity's first unit. Case matters: mS is not ms.
_QUANTITIES: dict[str, dict[str, tuple[float, float]]] = {
    "voltage": {"V": (1.0, 0.0), "mV": (1e-3, 0.0), "uV": (1e-6, 0.0), "nV": (1e-9, 0.0)},
    "conductance": {"S": (1.0, 0.0), "mS": (1e-3, 0.0), "uS": (1e-6, 0.0), "nS": (1e-9, 0.0)},
    "temperature": {"degC": (1.0, 0.0), "K": (1.0, -273.15), "degF": (5 / 9, -160 / 9)},
    "acceleration": {"g": (1.0, 0.0), "mg": (1e-3, 0.0), "m/s2": (1 / 9.80665, 0.0)},
    "rate": {"bpm": (1.0, 0.0), "Hz": (60.0, 0.0)},
    "share": {"%": (1.0, 0.0)},
    "time": {"s": (1.0, 0.0), "ms": (1e-3, 0.0), "us": (1e-6, 0.0)},
}

# Other spellings, exact.
_SPELLINGS: dict[str, str] = {
    "C": "degC",
    "F": "degF",
    "°C": "degC",
    "°F": "degF",
    "ºC": "degC",
    "m/s^2": "m/s2",
    "m/(s^2)": "m/s2",
    "m/s²": "m/s2",
    "m s-2": "m/s2",
    "m*s^-2": "m/s2",
    "1/min": "bpm",
    "min-1": "bpm",
    "/min": "bpm",
    "umho": "uS",
    "G": "g",
}

# Spellings that mean one thing in any case ("MV" and "MS" are not here: they do not).
_WORDS: dict[str, str] = {
    "uv": "uV",
    "volt": "V",
    "volts": "V",
    "millivolt": "mV",
    "millivolts": "mV",
    "microvolt": "uV",
    "microvolts": "uV",
    "siemens": "S",
    "usiemens": "uS",
    "microsiemens": "uS",
    "microsiemen": "uS",
    "micros": "uS",
    "millisiemens": "mS",
    "micromho": "uS",
    "micromhos": "uS",
    "degc": "degC",
    "deg c": "degC",
    "degreec": "degC",
    "degreesc": "degC",
    "celsius": "degC",
    "degree celsius": "degC",
    "degrees celsius": "degC",
    "degf": "degF",
    "deg f": "degF",
    "fahrenheit": "degF",
    "kelvin": "K",
    "bpm": "bpm",
    "beats/min": "bpm",
    "beats per minute": "bpm",
    "percent": "%",
    "sec": "s",
    "second": "s",
    "seconds": "s",
    "msec": "ms",
    "millisecond": "ms",
    "milliseconds": "ms",
    "microseconds": "us",
    "milli-g": "mg",
    "hz": "Hz",
}

# The micro sign as files carry it: U+00B5, Greek mu, UTF-8 read as Latin-1, and lost altogether.
_MICRO_SIGNS = ("Âµ", "Â\u00b5", "Î¼", "\u00b5", "\u03bc")
_LOST_SIGNS = ("\ufffd\ufffd", "\ufffd", "?")


def tidy_unit(unit: str) -> str:
    """Return the spelling of the table for a unit as a file names it, or the unit, stripped, where it is not known.

    Examples
    --------
    >>> tidy_unit(" µV "), tidy_unit("Celsius"), tidy_unit("MV")
    ('uV', 'degC', 'MV')
    """
    text = unit.replace("\x00", " ").strip()
    for sign in _MICRO_SIGNS:
        text = text.replace(sign, "u")
    for sign in _LOST_SIGNS:
        # Only a micro sign can stand before V or S and be lost in a change of encoding.
        if text in (f"{sign}V", f"{sign}S"):
            text = f"u{text[-1]}"
    if text in _SPELLINGS:
        return _SPELLINGS[text]
    if any(text in units for units in _QUANTITIES.values()):
        return text
    return _WORDS.get(text.lower(), text)


def is_mangled(unit: str) -> bool:
    """Return whether a unit was read although its micro sign had been damaged."""
    return unit.strip() != tidy_unit(unit) and any(sign in unit for sign in (*_LOST_SIGNS, "Â", "Î"))


def convert_unit(unit: str, target: str) -> Conversion | None:
    """Return how samples in ``unit`` become samples in ``target``; None where the table does not say.

    A target of "a.u." takes every unit as it is.

    Examples
    --------
    >>> convert_unit("mV", "uV").scale
    1000.0
    >>> convert_unit("NU", "uS") is None
    True
    """
    if target == ARBITRARY:
        return Conversion(1.0)
    given = tidy_unit(unit)
    if given == target:
        return Conversion(1.0)
    for units in _QUANTITIES.values():
        if given in units and target in units:
            (scale, offset), (target_scale, target_offset) = units[given], units[target]
            return Conversion(_tidy_factor(scale / target_scale), (offset - target_offset) / target_scale)
    return None


def unit_fault(label: str, override: SignalOverride, *, is_strict: bool = False) -> str:
    """Return why a stated unit cannot be that of the channels so labelled, with those that can; empty where it can.

    A channel that is not recognised, such as a rating, may have any unit; ``is_strict`` one of the table alone.

    >>> unit_fault("ECG", SignalOverride(unit="foo"))
    "'foo' is no unit of ecg; known are V, mV, uV, nV"
    """
    unit, modality = override.unit, override.modality or recognise(label, "", np.nan)[0]
    if unit is None:
        return ""
    if modality == UNKNOWN:
        known = [name for units in _QUANTITIES.values() for name in units]
        is_known = not is_strict or tidy_unit(unit) in (*known, ARBITRARY)
        return "" if is_known else f"{unit!r} is no known unit; known are {_units_like(unit, known)}"
    wanted = MODALITIES[modality].unit
    if convert_unit(unit, wanted):
        return ""
    fitting = next(units for units in _QUANTITIES.values() if wanted in units)
    return f"{unit!r} is no unit of {modality}; known are {_units_like(unit, fitting)}"


def _units_like(unit: str, known: Iterable[str]) -> str:
    return ", ".join(known) + did_you_mean(unit, known)


def quantity_of(unit: str) -> str:
    """Return what a unit measures ("voltage", "conductance", ...); empty where it is not known."""
    given = tidy_unit(unit)
    return next((quantity for quantity, units in _QUANTITIES.items() if given in units), "")


def _tidy_factor(factor: float) -> float:
    """Return a power of ten exactly (1e-3 / 1e-6 is not quite 1000 in floating point)."""
    return float(f"{factor:.12g}") if abs(float(f"{factor:.1g}") / factor - 1) < 1e-12 else factor


@lru_cache(maxsize=1)
def _positions() -> dict[str, tuple[str, Position]]:
    """Return upper-case name -> (name, position in metres in mne's head frame) of every electrode of the template."""
    import mne

    # The same template under two names: mne 1.13 renamed it and warns about the old one.
    known = mne.channels.get_builtin_montages()
    template = "colin27_1020" if "colin27_1020" in known else "standard_1020"
    montage = mne.channels.make_standard_montage(template)
    info = mne.create_info(montage.ch_names, sfreq=1.0, ch_types="eeg", verbose="error")
    info.set_montage(montage, verbose="error")  # this turns the template's own frame into the head frame
    table: dict[str, tuple[str, Position]] = {}
    for channel in info["chs"]:
        x, y, z = (float(value) for value in channel["loc"][:3])
        table[channel["ch_name"].upper()] = (channel["ch_name"], (x, y, z))
    for old, new in _OLD_NAMES.items():
        table[old] = (old, table[new][1])
    return table


def electrode_name(label: str) -> str | None:
    """Return an electrode's name in the system's own spelling ("FP1" gives "Fp1"), or None where it is not one.

    Earlobes and mastoids (A1, A2, M1, M2) are references, not EEG electrodes: None.
    """
    key = label.strip().upper()
    if key in _REFERENCES or key not in _positions():
        return None
    return _positions()[key][0]


def electrode_position(label: str) -> Position | None:
    """Return an electrode's position in metres (mne's head frame: x right, y front, z up), None if it is not known.

    Old names (T3, T4, T5, T6) are the electrodes T7, T8, P7, P8.
    """
    name = electrode_name(label)
    return None if name is None else _positions()[name.upper()][1]


def is_reference(label: str) -> bool:
    """Return whether a label names an earlobe or a mastoid, or a usual word for the reference."""
    return label.strip().upper() in _REFERENCES | _REFERENCE_WORDS


_NEAR = 0.12


def counts_of_one_g(samples: FloatArray, known: tuple[float, ...]) -> float | None:
    """Return how many counts are one g, (3, n) samples given; None where none of the ``known`` scales fits.

    >>> counts_of_one_g(np.array([[-36.0, -28], [620, 628], [-824, -828]]), (1000.0, 4096.0))
    1000.0
    """
    lengths = np.linalg.norm(samples, axis=0)
    if not np.isfinite(lengths).any():
        return None
    middle = float(np.nanmedian(lengths))
    return next((scale for scale in known if abs(middle / scale - 1) <= _NEAR), None)
