"""Counts of PLUX devices become the values of PLUX's formulas, and headers that contradict themselves are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.plux import places_by_counter, plux_device, transfer_of

HEADER: dict[str, Any] = {
    "device": "biosignalsplux",
    "sampling rate": 1000,
    "channels": [1, 2],
    "resolution": [16, 16],
    "date": "2017-1-23",
    "time": "10:28:51.69",
}


# Worked by hand from the formulas that PLUX prints in its sensor data sheets.
@pytest.mark.parametrize(
    ("sensor", "device", "bits", "count", "unit", "value"),
    [
        ("ECG", "biosignalsplux", 16, 49152, "mV", 0.25 * 3 / 1.019),
        ("ECG", "respiban", 16, 49152, "mV", 0.75),
        ("ECGBITREV", "bitalino_rev", 10, 768, "mV", 0.25 * 3.3 / 1.1),
        ("EMG", "channeller", 16, 16384, "mV", -0.75),
        ("EMGBIT", "bitalino", 10, 768, "mV", 0.825 / 1.008),
        ("EEG", "biosignalsplux", 16, 49152, "uV", 0.75 / 0.04199),
        ("EDA", "biosignalsplux", 16, 32768, "uS", 12.5),
        ("EDABITREV", "bitalino_rev", 10, 512, "uS", 12.5),
        ("EDABIT", "bitalino", 10, 512, "uS", 2.0),
        ("BVP", "biosignalsplux", 12, 2048, "uA", 1.5 / 0.190060606),
        ("RESPIRATION", "biosignalsplux", 16, 49152, "%", 25.0),
        (
            "TEMP",
            "biosignalsplux",
            16,
            32768,
            "degC",
            25.0,
        ),  # half the supply: the 10 kOhm of a 10 k thermistor at 25 degC
        ("ACC", "biosignalsplux", 16, 38000, "g", 1.0),
        ("XYZ", "biosignalsplux", 12, 1750, "g", -1.0),
        ("ACCBITREV", "bitalino_rev", 6, 38, "g", 1.0),
    ],
)
def test_counts_become_the_value_of_the_published_formula(
    sensor: str, device: str, bits: int, count: int, unit: str, value: float
) -> None:
    transfer = transfer_of(sensor, device, bits)
    assert transfer is not None
    assert transfer.unit == unit
    np.testing.assert_allclose(
        transfer.to_unit(np.array([float(count)])), [value], rtol=2e-3 if unit == "degC" else 1e-9
    )


@pytest.mark.parametrize(
    ("sensor", "device"),
    [("TEMP", "bitalino_rev"), ("LUX", "bitalino_rev"), ("RAW", "biosignalsplux"), ("ECG", "another"), ("", "")],
)
def test_a_sensor_without_a_published_formula_has_no_transfer(sensor: str, device: str) -> None:
    assert transfer_of(sensor, device, 16) is None


def test_counts_that_a_converter_cannot_give_are_missing() -> None:
    transfer = transfer_of("EDABITREV", "bitalino_rev", 10)
    assert transfer is not None
    assert np.isnan(transfer.to_unit(np.array([-1.0, 0.0, 1023.0, 1024.0]))).tolist() == [True, False, False, True]
    first = transfer_of("EDABIT", "bitalino", 10)
    assert first is not None
    assert np.isfinite(first.to_unit(np.arange(1024.0))).all()


def test_ports_are_called_by_their_sensor_and_three_of_motion_are_axes() -> None:
    fields = HEADER | {"channels": [1, 2, 3, 4, 5, 6], "resolution": [16] * 6}
    sensors = ["ECG", "EMG", "EMG", "XYZ", "XYZ", "XYZ"]
    device = plux_device("a.h5", fields, sensors, [f"CH{i}" for i in range(1, 7)])
    assert [port.name for port in device.ports] == ["ECG", "EMG CH2", "EMG CH3", "ACC_x", "ACC_y", "ACC_z"]
    assert device.notes == (
        "the three ports of the accelerometer are taken for x, y and z in their order, at its default scale",
    )


def test_milliseconds_of_the_start_have_no_leading_zeros() -> None:
    device = plux_device("a.h5", HEADER, ["ECG", "EDA"], ["CH1", "CH2"])
    assert device.started_at is not None
    assert device.started_at.isoformat() == "2017-01-23T10:28:51.069000"
    assert plux_device("a.h5", HEADER | {"date": "2017-13-40"}, ["ECG", "EDA"], ["CH1", "CH2"]).started_at is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"sampling rate": 0},
            "a.h5: the sampling rate in the header of OpenSignals is 0, allowed is more than 0 up to 10000 Hz",
        ),
        (
            {"sampling rate": "1000"},
            "a.h5: the sampling rate in the header of OpenSignals is '1000', allowed is more than 0 up to 10000 Hz",
        ),
        (
            {"channels": [1]},
            "a.h5: the header of OpenSignals names 1 channels, 2 sensors and 2 labels; one of each belongs to a port",
        ),
        ({"channels": []}, "a.h5: the channels in the header of OpenSignals are [], which are no whole numbers"),
        (
            {"resolution": [16]},
            "a.h5: the resolution in the header of OpenSignals is [16]; it says the bits, 1 to 24, of each of 2"
            " channels",
        ),
        (
            {"resolution": [16, 200]},
            "a.h5: the resolution in the header of OpenSignals is [16, 200]; it says the bits, 1 to 24, of each of 2"
            " channels",
        ),
        (
            {"resolution": [16, 1.5]},
            "a.h5: the resolution in the header of OpenSignals are [16, 1.5], which are no whole numbers",
        ),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecordingError) as fault:
        plux_device("a.h5", HEADER | change, ["ECG", "EDA"], ["CH1", "CH2"])
    assert str(fault.value) == sentence


@pytest.mark.parametrize(
    ("counter", "device", "places"),
    [
        ([0, 1, 2, 3], "biosignalsplux", [0, 1, 2, 3]),
        ([65534, 65535, 0, 5], "biosignalsplux", [0, 1, 2, 7]),
        ([65535, 65536, 65538], "biosignalsplux", [0, 1, 3]),
        ([14, 15, 0, 1], "bitalino_rev", [0, 1, 2, 3]),
        ([14, 1, 2, 3], "bitalino_rev", [0, 3, 4, 5]),
        ([0, 0, 0], "biosignalsplux", None),
        ([9, 5, 1], "biosignalsplux", None),
    ],
)
def test_rows_are_placed_by_the_counter(counter: list[int], device: str, places: list[int] | None) -> None:
    result = places_by_counter(np.array(counter), device)
    assert (None if result is None else result.tolist()) == places
