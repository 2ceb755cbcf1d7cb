"""One table of the units that files name, and how each becomes the unit of a modality.

A unit that is not in the table is never guessed: the channel keeps it and is not used
until the study says what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

ARBITRARY = "a.u."
"""Unit of modalities whose scale carries no meaning: whatever the file says is taken as it is."""


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

    Parameters
    ----------
    unit : str
        Unit as the file or the study names it.
    target : str
        Unit of the modality.

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


def quantity_of(unit: str) -> str:
    """Return what a unit measures ("voltage", "conductance", ...); empty where it is not known."""
    given = tidy_unit(unit)
    return next((quantity for quantity, units in _QUANTITIES.items() if given in units), "")


def _tidy_factor(factor: float) -> float:
    """Return a power of ten exactly (1e-3 / 1e-6 is not quite 1000 in floating point)."""
    return float(f"{factor:.12g}") if abs(float(f"{factor:.1g}") / factor - 1) < 1e-12 else factor
