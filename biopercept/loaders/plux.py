"""PLUX devices (biosignalsplux, BITalino): what a header of OpenSignals says, and counts turned into units.

The transfer functions are those that PLUX publishes with its sensors and in biosignalsnotebooks (raw_to_phy): per
sensor and family of devices, by the bits of the converter. Where they do not say how a sensor's counts are meant, or do
not agree (the temperature of a BITalino), the channel keeps its counts, without a unit. The chest belt RespiBAN, which
calls itself a biosignalsplux, has the functions that the readme of WESAD gives (section II.1): its ECG is amplified by
1000 and not by 1019.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.recording import FloatArray

FASTEST = 10_000
"""Samples a second; the devices reach 4000."""
MOST_BITS = 24
BIOSIGNALSPLUX, BITALINO, BITALINO_FIRST = "biosignalsplux", "bitalino (r)evolution", "bitalino"
RESPIBAN = "respiban"
_PLUX = (BIOSIGNALSPLUX, RESPIBAN)
_FAMILIES = {
    "bioplux": BIOSIGNALSPLUX,
    "bioplux_exp": BIOSIGNALSPLUX,
    "biosignalsplux": BIOSIGNALSPLUX,
    "biosignalspluxsolo": BIOSIGNALSPLUX,
    "rachimeter": BIOSIGNALSPLUX,
    "channeller": BIOSIGNALSPLUX,
    "swifter": BIOSIGNALSPLUX,
    "ddme_openbanplux": BIOSIGNALSPLUX,
    "respiban": RESPIBAN,
    "bitalino_rev": BITALINO,
    "bitalino_riot": BITALINO,
    "bitalino": BITALINO_FIRST,
}
"""Family of transfer functions by the name of the device in the header."""
_MODALITIES = {
    "ECG": "ecg",
    "EMG": "emg",
    "EEG": "eeg",
    "EDA": "eda",
    "BVP": "bvp",
    "RESP": "resp",
    "RESPIRATION": "resp",
    "RIP": "resp",
    "PZT": "resp",
    "TEMP": "temp",
    "NTC": "temp",
    "ACC": "acc",
    "XYZ": "acc",
}
# What OpenSignals appends to the name of a sensor for the make that it has.
_MAKE = re.compile(r"(BITREV|BITALINO|BIT)$")
_SUPPLY = {BIOSIGNALSPLUX: 3.0, RESPIBAN: 3.0, BITALINO: 3.3, BITALINO_FIRST: 3.3}
"""Operating voltage, V."""
_GAINS: dict[tuple[str, str], float] = {
    ("ecg", BIOSIGNALSPLUX): 1.019,
    ("ecg", RESPIBAN): 1.0,
    ("ecg", BITALINO): 1.1,
    ("ecg", BITALINO_FIRST): 1.1,
    ("emg", BIOSIGNALSPLUX): 1.0,
    ("emg", RESPIBAN): 1.0,
    ("emg", BITALINO): 1.009,
    ("emg", BITALINO_FIRST): 1.008,
    ("eeg", BIOSIGNALSPLUX): 0.041990,
    ("eeg", BITALINO): 0.040000,
}
"""Gain to mV (of EEG: uV) of sensors that swing around half the supply."""
_EDA_GAINS = {BIOSIGNALSPLUX: 0.12, RESPIBAN: 0.12, BITALINO: 0.132}
"""Volt per uS."""
_PHOTOCURRENT_GAIN = 0.190060606
"""Volt per uA of the pulse sensor."""
_TURNED_OVER = {BIOSIGNALSPLUX: (28_000, 38_000, 16), RESPIBAN: (28_000, 38_000, 16), BITALINO: (400, 608, 10)}
"""Counts of an axis at -1 g and +1 g by the sensor's default calibration, and the bits at which they were counted."""
_THERMISTOR = (1.12764514e-3, 2.34282709e-4, 8.77303013e-8)
"""Steinhart-Hart coefficients of the sensor."""


@dataclass(frozen=True, eq=False)
class Transfer:
    """What a sensor measures, the unit of its values, and the function from counts to values."""

    modality: str
    unit: str
    to_unit: Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Port:
    """One analogue port of a device: its number, label ("CH1"), sensor ("ECG"), bits, and its name here ("ECG")."""

    number: int
    label: str
    sensor: str
    bits: int
    name: str


@dataclass(frozen=True)
class Device:
    """What a header says of a device; ``started_at`` is on the clock of the computer, which names no zone."""

    device: str
    sampling_rate: float
    started_at: datetime | None
    ports: tuple[Port, ...]
    notes: tuple[str, ...]


def transfer_of(sensor: str, device: str, bits: int) -> Transfer | None:
    """Return how counts of a sensor become values; None where no published function says it.

    Counts that a converter of these bits cannot give are NaN.

    >>> transfer_of("ECG", "biosignalsplux", 16).to_unit(np.array([32768.0, 65535.0])).round(3)
    array([0.   , 1.472])
    """
    family = _FAMILIES.get(device.strip().lower(), "")
    modality = _MODALITIES.get(_MAKE.sub("", sensor.strip().upper()), "")
    if not family or not modality or not 1 <= bits <= MOST_BITS:
        return None
    unit, convert = _function(modality, family, bits)
    if convert is None:
        return None
    top = 2**bits - 1

    def to_unit(counts: FloatArray) -> FloatArray:
        possible = np.where((counts >= 0) & (counts <= top), counts, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(convert(possible), dtype=np.float64)

    return Transfer(modality, unit, to_unit)


def _function(modality: str, family: str, bits: int) -> tuple[str, Callable[[FloatArray], FloatArray] | None]:
    """Return the unit of a sensor's values and the function that gives them; None where there is none."""
    volts = _SUPPLY[family]
    steps = 2.0**bits
    if (gain := _GAINS.get((modality, family))) is not None:
        return ("uV" if modality == "eeg" else "mV"), lambda counts: (counts / steps - 0.5) * volts / gain
    if modality == "eda" and family == BITALINO_FIRST:
        return "uS", lambda counts: 1 / (1 - counts / steps)
    if modality == "eda":
        return "uS", lambda counts: counts / steps * volts / _EDA_GAINS[family]
    if modality == "bvp" and family == BIOSIGNALSPLUX:
        return "uA", lambda counts: counts / steps * volts / _PHOTOCURRENT_GAIN
    if modality == "resp":
        return "%", lambda counts: (counts / steps - 0.5) * 100
    if modality == "temp" and family in _PLUX:
        return "degC", lambda counts: _celsius(1e4 * counts / (steps - counts))
    if modality == "acc" and family in _TURNED_OVER:
        low, high, base = _TURNED_OVER[family]
        return "g", lambda counts: 2 * (counts * 2.0 ** (base - bits) - low) / (high - low) - 1
    return "", None


def _celsius(ohm: FloatArray) -> FloatArray:
    logarithm = np.log(ohm)
    a0, a1, a2 = _THERMISTOR
    return np.asarray(1 / (a0 + a1 * logarithm + a2 * logarithm**3) - 273.15, dtype=np.float64)


def plux_device(place: str, fields: Mapping[str, Any], sensors: Sequence[str], labels: Sequence[str]) -> Device:
    """Return what the fields of a header of OpenSignals say ("device", "sampling rate", "resolution", "channels" ...).

    The same fields stand in the JSON line of a text and in the attributes of an HDF5 file; of sensors and labels there
    is one for each port. Raises RecordingError, beginning with ``place``, where they contradict each other.
    """
    numbers = _whole_numbers(place, fields, "channels")
    rate = _number(fields.get("sampling rate"))
    if rate is None or not 0 < rate <= FASTEST:
        raise RecordingError(
            f"{place}: the sampling rate in the header of OpenSignals is {_shown(fields.get('sampling rate'))}, "
            f"allowed is more than 0 up to {FASTEST} Hz"
        )
    if not numbers or not len(numbers) == len(sensors) == len(labels):
        raise RecordingError(
            f"{place}: the header of OpenSignals names {len(numbers)} channels, {len(sensors)} sensors and "
            f"{len(labels)} labels; one of each belongs to a port"
        )
    # Of a BITalino the counter and the digital lines come first: those of the ports are the last.
    bits = _whole_numbers(place, fields, "resolution")[-len(numbers) :]
    if len(bits) != len(numbers) or not all(1 <= one <= MOST_BITS for one in bits):
        raise RecordingError(
            f"{place}: the resolution in the header of OpenSignals is {_shown(fields.get('resolution'))}; it says the "
            f"bits, 1 to {MOST_BITS}, of each of {len(numbers)} channels"
        )
    names, notes = _names(sensors, labels)
    device = str(fields.get("device", ""))[:40]
    if str(fields.get("device name", "")).strip().lower() == RESPIBAN:
        device = RESPIBAN
    ports = tuple(Port(*port) for port in zip(numbers, labels, sensors, bits, names, strict=True))
    notes += [
        f"{port.name}: no published transfer function for the sensor {_shown(port.sensor)} of a {device or 'device'}; "
        "it keeps its counts"
        for port in ports
        if transfer_of(port.sensor, device, port.bits) is None
    ]
    return Device(device, rate, _started_at(fields), ports, tuple(notes))


def _names(sensors: Sequence[str], labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a name for each port, its sensor's and, where several have it, its label; three of motion are axes."""
    kinds = [_MAKE.sub("", sensor.strip().upper()) for sensor in sensors]
    names = []
    axes = [i for i, kind in enumerate(kinds) if _MODALITIES.get(kind) == "acc"]
    for kind, label in zip(kinds, labels, strict=True):
        if kind in ("", "RAW", "CUSTOM", "UNKNOWN"):
            names.append(label or kind)
        else:
            names.append(kind if kinds.count(kind) == 1 else f"{kind} {label}")
    if len(axes) != 3:
        return names, []
    for place, axis in zip(axes, "xyz", strict=True):
        names[place] = f"ACC_{axis}"
    return names, ["the three ports of the accelerometer are taken for x, y and z in their order, at its default scale"]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} ..."


def _number(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return float(value) if math.isfinite(value) else None


def _whole_numbers(place: str, fields: Mapping[str, Any], key: str) -> list[int]:
    values = np.ravel(np.asarray(fields.get(key, ()), dtype=object)).tolist()
    numbers = [_number(value) for value in values]
    if not values or not all(number is not None and number == int(number) for number in numbers):
        raise RecordingError(
            f"{place}: the {key} in the header of OpenSignals are {_shown(values)}, which are no whole numbers"
        )
    return [int(number) for number in numbers if number is not None]


def _started_at(fields: Mapping[str, Any]) -> datetime | None:
    """Return when a recording began; no part has leading zeros, the milliseconds neither ("10:28:51.69" is 69 ms)."""
    day = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", str(fields.get("date", "")).strip())
    time = re.fullmatch(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,6}))?", str(fields.get("time", "")).strip())
    if day is None or time is None:
        return None
    hour, minute, second, fraction = time.groups()
    microseconds = int(fraction or 0) * (1000 if len(fraction or "") <= 3 else 1)
    try:
        date = datetime(int(day[1]), int(day[2]), int(day[3]))
        return date.replace(hour=int(hour), minute=int(minute), second=int(second), microsecond=microseconds)
    except ValueError:
        return None


def places_by_counter(counter: NDArray[np.integer], device: str) -> NDArray[np.int64] | None:
    """Return the sample number of each row by the device's counter ("nSeq"), which jumps where samples were lost.

    The counter of a BITalino has 4 bits, so 16 samples lost at once are not seen; that of other devices has 16. None
    where it counts nothing: it stands still, or more would be lost than is there.

    >>> places_by_counter(np.array([14, 15, 0, 3]), "bitalino_rev")
    array([0, 1, 2, 5])
    """
    counts: NDArray[np.int64] = counter.astype(np.int64)
    steps: NDArray[np.int64] = counts[1:] - counts[:-1]
    modulus = 16 if _FAMILIES.get(device.strip().lower(), "") in (BITALINO, BITALINO_FIRST) else 1 << 16
    if len(counter) and int(counter.max()) < modulus:
        steps = steps % np.int64(modulus)
    if (steps < 1).any() or int(steps.sum()) > 2 * len(counter):
        return None
    return np.concatenate([[0], np.cumsum(steps)])
