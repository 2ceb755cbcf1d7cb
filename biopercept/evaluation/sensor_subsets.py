"""Which sets of sensors a fitted model is asked with: all, all but each, each alone, or every subset there is."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from biopercept.comparators.catalogue import PROBES
from biopercept.errors import SettingsError
from biopercept.learning.restriction import measured_sensors
from biopercept.learning.windows import WindowTable

NONE, SINGLE, ALL = "none", "single", "all"
MISSING_SENSORS = (NONE, SINGLE, ALL)

MOST_SENSORS = 7
"""Sensors of which every subset is asked: 127 subsets, each with a whole prediction of the test subjects."""

WHOLE = "all"


def sensor_sets(sensors: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return what is asked about: all sensors, all but each, and each alone; what is the same is asked once.

    >>> sensor_sets(["ecg", "eda"])
    {'all': ('ecg', 'eda'), 'without ecg': ('eda',), 'without eda': ('ecg',)}
    """
    worn = tuple(sensors)
    sets = {WHOLE: worn}
    if len(worn) > 1:
        sets |= {f"without {gone}": tuple(s for s in worn if s != gone) for gone in worn}
    if len(worn) > 2:
        sets |= {f"only {kept}": (kept,) for kept in worn}
    return sets


def every_sensor_set(sensors: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return every set of at least one sensor, large ones first, named as by :func:`sensor_sets` where it names them.

    >>> list(every_sensor_set("abcd"))[4:7]
    ['without a', 'a + b', 'a + c']
    """
    worn = tuple(sensors)
    names = {kept: name for name, kept in sensor_sets(worn).items()}
    every = [kept for size in range(len(worn), 0, -1) for kept in combinations(worn, size)]
    return {names.get(kept, " + ".join(kept)): kept for kept in every}


def asked_sets(mode: str, windows: WindowTable) -> dict[str, tuple[str, ...]]:
    """Return the sets of the sensors of a table that ``evaluation.missing_sensors`` asks about; none for ``none``."""
    if mode == NONE:
        return {}
    sensors = measured_sensors(windows.recordings, windows.feature_names)
    return every_sensor_set(sensors) if mode == ALL else sensor_sets(sensors)


def check_missing_sensors(mode: str, model: str, windows: WindowTable) -> None:
    """Refuse to ask with fewer sensors where that has no meaning or no end.

    Raises
    ------
    SettingsError
        Where the model is a probe, there are several tasks or a regression, or too few or too many sensors.
    """
    if mode == NONE:
        return
    if model in PROBES:
        raise SettingsError(f"evaluation.missing_sensors is {mode}, but {model} is a probe; use none for it")
    if len(windows.tasks) > 1 or not windows.only.task.is_classification:
        raise SettingsError(
            f"evaluation.missing_sensors is {mode}, which scores one task of classes; give --task one, or use none"
        )
    sensors = measured_sensors(windows.recordings, windows.feature_names)
    if len(sensors) < 2:
        raise SettingsError(
            f"evaluation.missing_sensors is {mode}, but there is one sensor ({', '.join(sensors)}); two are needed"
        )
    if mode == ALL and len(sensors) > MOST_SENSORS:
        raise SettingsError(
            f"evaluation.missing_sensors is all, but {len(sensors)} sensors have {2 ** len(sensors) - 1} subsets; it "
            f"allows {MOST_SENSORS} sensors, use single (all but each, and each alone)"
        )
