"""Labels and units: what is told from them, and what is not guessed."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.errors import SettingsError
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory
from biopercept.loaders.recognition import (
    SignalOverride,
    common_reference,
    convert_unit,
    eeg_electrode,
    electrode_position,
    is_mangled,
    override_for,
    recognise,
    tidy_unit,
)


@pytest.mark.parametrize(
    ("label", "unit", "modality"),
    [
        ("EEG Fp1", "uV", "eeg"),
        ("EEG Fpz-Cz", "uV", "eeg"),
        ("FP2-A1", "uV", "eeg"),
        ("T5", "uV", "eeg"),
        ("EEG A2-A1", "uV", "unknown"),
        ("M1", "uV", "unknown"),
        ("ECG ECG", "mV", "ecg"),
        ("EEG EKG1-REF", "uV", "ecg"),
        ("MLII", "mV", "ecg"),
        ("V5", "mV", "ecg"),
        ("V5", "", "unknown"),
        ("PLETH", "NU", "bvp"),
        ("foot GSR", "mV", "eda"),
        ("Skin Conductance", "uS", "eda"),
        ("channel 7", "uS", "eda"),
        ("Resp oro-nasal", "", "resp"),
        ("EOG horizontal", "uV", "eog"),
        ("VEOG", "uV", "eog"),
        ("EMG submental", "uV", "emg"),
        ("Temp rectal", "DegC", "temp"),
        ("battery temperature", "degC", "unknown"),
        ("Accelerometer_X", "mg", "acc"),
        ("AccZ", "g", "acc"),
        ("ay", "NU", "acc"),
        ("x", "m/s^2", "acc"),
        ("x", "", "unknown"),
        ("hr", "bpm", "hr"),
        ("Heart Rate", "", "hr"),
        ("heart rate variability", "", "unknown"),
        ("ECG_Rate", "", "unknown"),
        ("EDA_Phasic", "uS", "unknown"),
        ("SpO2", "%", "spo2"),
        # EDF+ standard texts, https://www.edfplus.info/specs/edftexts.html: type, then place
        ("SaO2", "%", "spo2"),
        ("SAO2", "%", "spo2"),
        ("SaO2 finger", "%", "spo2"),
        ("SaO2_ear", "%", "spo2"),
        ("Resp nasal", "", "resp"),
        ("Resp chest", "", "resp"),
        ("Resp abdomen", "V", "resp"),
        ("Temp skin", "degC", "temp"),
        ("EOG left", "uV", "eog"),
        ("EOG P9", "uV", "eog"),
        ("EMG RAT", "uV", "emg"),
        ("EMG Ant Tibial L", "uV", "emg"),
        ("ECG V2R", "uV", "ecg"),
        ("ECG -AVR", "uV", "ecg"),
        ("ECG X", "uV", "ecg"),
        ("V4R", "mV", "ecg"),
        ("EEG Fpz-LE", "uV", "eeg"),
        ("ERG left", "uV", "unknown"),
        ("MEG", "fT", "unknown"),
        ("MCG", "pT", "unknown"),
        ("EP VEP", "uV", "unknown"),
        ("Light", "lm", "unknown"),
        ("Sound", "Pa", "unknown"),
        ("Event", "", "unknown"),
        ("Dist", "m", "unknown"),
        ("Dur", "s", "unknown"),
        ("Vel", "m/s", "unknown"),
        # BIDS: physiological columns and channel types
        ("cardiac", "", "bvp"),
        ("respiratory", "", "resp"),
        ("respiratory_chest", "V", "resp"),
        ("respiratory_CO2", "mmHg", "unknown"),
        ("cardiac_output", "l/min", "unknown"),
        ("trigger", "V", "unknown"),
        ("PPG", "", "bvp"),
        ("GSR", "uS", "eda"),
        ("ACCEL x", "m/s^2", "acc"),
        ("GYRO x", "deg/s", "unknown"),
        ("PUPIL", "mm", "unknown"),
        ("HEOG", "uV", "eog"),
        # caps: above (o), below (u), left (li), right (re)
        ("VEOGo", "uV", "eog"),
        ("VEOGu", "uV", "eog"),
        ("HEOGli", "uV", "eog"),
        ("HEOGre", "uV", "eog"),
        ("LVEOG", "uV", "eog"),
        ("EOG-V", "uV", "eog"),
        ("EOGlogs", "uV", "unknown"),
        ("HR", "uV", "unknown"),
        ("HR", "", "hr"),
        ("HR", "1/min", "hr"),
        # AASM and the sleep archives
        ("E1-M2", "uV", "eog"),
        ("LOC-A2", "uV", "eog"),
        ("EOG(L)", "uV", "eog"),
        ("EEG(sec)", "uV", "eeg"),
        ("C3-M2", "uV", "eeg"),
        ("THOR RES", "", "resp"),
        ("ABDO RES", "", "resp"),
        ("AIRFLOW", "", "resp"),
        ("Nasal Pressure", "", "resp"),
        ("H.R.", "bpm", "hr"),
        ("OX STAT", "", "unknown"),
        ("POSITION", "", "unknown"),
        # other programs
        ("SKT", "degC", "temp"),
        ("R-R interval", "ms", "ibi"),
        ("ABP", "mmHg", "unknown"),
        ("marker", "mV", "unknown"),
        ("Photosensor", "", "unknown"),
        ("", "", "unknown"),
    ],
)
def test_a_modality_is_told_from_label_and_unit(label: str, unit: str, modality: str) -> None:
    assert recognise(label, unit, 100.0)[0] == modality


def test_pulse_is_a_wave_or_a_rate_by_its_unit_and_rate() -> None:
    assert recognise("Pulse", "bpm", 64.0)[0] == "hr"
    assert recognise("Pulse", "", 1.0)[0] == "hr"
    assert recognise("Pulse", "", 64.0)[0] == "bvp"


@pytest.mark.parametrize(
    ("unit", "target", "value", "expected"),
    [
        ("uV", "mV", 1500.0, 1.5),
        ("µV", "uV", 3.0, 3.0),
        ("\u03bcV", "uV", 3.0, 3.0),
        ("Â\u00b5V", "uV", 3.0, 3.0),
        ("\ufffdV", "uV", 3.0, 3.0),
        ("nV", "uV", 3000.0, 3.0),
        ("V", "mV", 0.001, 1.0),
        ("microSiemens", "uS", 2.0, 2.0),
        ("S", "uS", 2e-6, 2.0),
        ("degF", "degC", 98.6, 37.0),
        ("K", "degC", 310.15, 37.0),
        ("m/s^2", "g", 9.80665, 1.0),
        ("mg", "g", 500.0, 0.5),
        ("Hz", "bpm", 1.0, 60.0),
        ("ms", "s", 850.0, 0.85),
        ("anything", "a.u.", 5.0, 5.0),
    ],
)
def test_units_are_converted(unit: str, target: str, value: float, expected: float) -> None:
    conversion = convert_unit(unit, target)
    assert conversion is not None
    assert value * conversion.scale + conversion.offset == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("unit", "target"),
    [("NU", "uS"), ("", "mV"), ("MV", "mV"), ("ms", "uS"), ("mV", "uS"), ("kOhm", "uS"), (".V", "mV")],
)
def test_a_unit_that_does_not_fit_is_not_guessed(unit: str, target: str) -> None:
    assert convert_unit(unit, target) is None


def test_a_lost_micro_sign_is_known_as_such() -> None:
    assert tidy_unit("\ufffdV") == "uV"
    assert is_mangled("\ufffdV")
    assert not is_mangled("µV")
    assert not is_mangled("uV")


def test_electrodes_sit_where_mne_puts_them_in_the_head_frame() -> None:
    x, _, z = electrode_position("Cz") or (0.0, 0.0, 0.0)
    assert abs(x) < 0.01
    assert z > 0.09
    left, right = electrode_position("T7"), electrode_position("T8")
    assert left is not None
    assert right is not None
    assert left[0] < -0.06 < 0.06 < right[0]
    np.testing.assert_allclose(np.linalg.norm(left), 0.095, atol=0.02)


@pytest.mark.parametrize(("old", "new"), [("T3", "T7"), ("T4", "T8"), ("T5", "P7"), ("t6", "P8")])
def test_old_names_are_the_same_places(old: str, new: str) -> None:
    assert electrode_position(old) == electrode_position(new) is not None


@pytest.mark.parametrize("label", ["A1", "M2", "ECG", "", "Fp9"])
def test_what_is_no_electrode_has_no_place(label: str) -> None:
    assert electrode_position(label) is None


def test_overrides_match_labels_by_pattern_in_any_case_first_one_first() -> None:
    overrides = {"eeg fp*": SignalOverride(modality="eog"), "*": SignalOverride(unit="uV")}
    assert override_for("EEG Fp1", overrides) == SignalOverride(modality="eog")
    assert override_for("other", overrides) == SignalOverride(unit="uV")
    assert override_for("other", None) is None


def test_an_override_takes_aliases_and_refuses_what_is_no_modality() -> None:
    assert SignalOverride(modality="GSR").modality == "eda"
    with pytest.raises(SettingsError, match="unknown modality 'mood'; known are: ecg"):
        SignalOverride(modality="mood")


@pytest.mark.parametrize(
    ("label", "electrode"),
    [
        ("Fc5.", "FC5"),  # PhysioNet's motor imagery pads labels with dots
        ("Cz..", "Cz"),
        ("EEG.AF3", "AF3"),  # Emotiv
        ("RAW_TP9", "TP9"),  # Mind Monitor
        ("POL Fp1", "Fp1"),  # Nihon Kohden
        ("EEG Fp1-AVE", "Fp1"),
        ("C3-A2-0", "C3"),  # mne's number of a twin
        ("EEG Fp1-CPz", None),
    ],
)
def test_an_electrode_is_known_by_what_recorders_write_around_its_name(label: str, electrode: str | None) -> None:
    assert recognise(label, "uV", 256.0) == ("eeg", "label")
    assert eeg_electrode(label) == electrode


@pytest.mark.parametrize("number", [0, 1])
def test_a_bipolar_twin_is_eeg_and_still_bipolar(number: int) -> None:
    assert recognise(f"T8-P8-{number}", "uV", 256.0) == ("eeg", "label")
    assert eeg_electrode(f"T8-P8-{number}") is None


@pytest.mark.parametrize("label", ["EEG.Counter", "EEG.Interpolated", "EEG.RawCq", "EEG Photic", "CQ_AF3", "POL E"])
def test_what_a_headset_writes_beside_its_eeg_is_none(label: str) -> None:
    assert recognise(label, "uV", 256.0) == ("unknown", "")


@pytest.mark.parametrize("label", ["EEG LOC-REF", "EEG ROC-REF", "ROC", "HEO", "VEO"])
def test_eyes_are_no_brain(label: str) -> None:
    assert recognise(label, "uV", 256.0) == ("eog", "label")


def test_the_second_electrode_of_most_pairs_is_their_reference() -> None:
    labels = ["EEG Fp1-CPz", "EEG Fp2-CPz", "EEG M1-CPz", "EEG O1-CPz"]
    assert common_reference(labels) == "CPz"
    assert [eeg_electrode(label, "CPz") for label in labels] == ["Fp1", "Fp2", None, "O1"]
    assert common_reference(["Fp1-F7", "F7-T7", "T7-P7", "P7-O1"]) == ""


def test_channels_of_one_reference_have_places_and_a_mastoid_among_them_is_no_eeg() -> None:
    block = block_in_memory(np.zeros((4, 10)))
    labels = ["EEG Fp1-CPz", "EEG Fp2-CPz", "EEG M1-CPz", "EEG O1-CPz"]
    channels = [RawChannel(label, "uV", 256.0, 0.0, 10, key, block, "made") for key, label in enumerate(labels)]
    signals, notes = assemble_signals(channels)
    eeg = next(signal for signal in signals if signal.modality == "eeg")
    assert [channel.position for channel in eeg.channels] == [electrode_position(name) for name in ("Fp1", "Fp2", "O1")]
    assert any("not recognised" in note and "M1-CPz" in note for note in notes)
