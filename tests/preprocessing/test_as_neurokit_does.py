"""What is done as neurokit2 does it, without its import: the same numbers, to the last digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from biopercept.loaders.loading import load_recording
from biopercept.modalities import MODALITIES
from biopercept.preprocessing.beat_detection import systolic_peaks
from biopercept.preprocessing.electrodermal import tonic_and_phasic
from biopercept.preprocessing.settings import CleaningSettings
from measurements.planted_hearts import pulse_of, regular_heart
from measurements.planted_signals import skin_of

_OPTIONS = {"mindelay": 0.9 * MODALITIES["ibi"].plausible[0], "peakwindow": 0.08}


def peaks_of_neurokit(raw: NDArray[np.float64], rate: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    import neurokit2 as nk

    cleaned = nk.ppg_clean(raw, sampling_rate=rate, method="elgendi")
    return cleaned, nk.ppg_findpeaks(cleaned, sampling_rate=rate, method="elgendi", **_OPTIONS)["PPG_Peaks"]


@pytest.mark.parametrize("rate", [64.0, 75.3, 100.0, 125.0])
@pytest.mark.parametrize("per_minute", [45.0, 75.0, 180.0])
@pytest.mark.parametrize("noise", [1.0, 30.0])
def test_systolic_peaks_are_those_of_neurokit(rate: float, per_minute: float, noise: float) -> None:
    raw = pulse_of(regular_heart(120.0, per_minute), 120.0, rate, noise=noise)
    cleaned, expected = peaks_of_neurokit(raw, rate)
    assert len(expected) > 50
    assert systolic_peaks(cleaned, rate).tolist() == expected.tolist()


def test_flat_tops_and_pure_noise_give_the_peaks_of_neurokit() -> None:
    raw = np.round(pulse_of(regular_heart(120.0, 75.0), 120.0, 64.0) / 10.0)
    import neurokit2 as nk

    for wave in (raw, np.clip(raw, -2.0, 2.0), np.random.default_rng(3).normal(size=64 * 120)):
        expected = nk.ppg_findpeaks(wave.copy(), sampling_rate=64.0, method="elgendi", **_OPTIONS)["PPG_Peaks"]
        assert systolic_peaks(wave, 64.0).tolist() == expected.tolist()
    assert len(systolic_peaks(np.full(640, -1.0), 64.0)) == 0


def test_systolic_peaks_of_a_real_wrist_are_those_of_neurokit(reference_data: Path) -> None:
    wrist = load_recording(reference_data / "stress-predict" / "Raw_data" / "S02").signals_of("bvp")[0]
    raw = wrist.read(0, 64 * 600)[0]
    cleaned, expected = peaks_of_neurokit(raw, 64.0)
    assert len(expected) > 300
    assert systolic_peaks(cleaned, 64.0).tolist() == expected.tolist()


def test_the_phasic_part_is_that_of_neurokit() -> None:
    import neurokit2 as nk

    skin = skin_of(np.arange(20.0, 280.0, 25.0), 0.4, 300.0, 4.0, 0.1)
    tonic, phasic = tonic_and_phasic(skin, 4.0, CleaningSettings())
    expected = nk.eda_phasic(skin, sampling_rate=4.0, method="highpass", cutoff=0.05)["EDA_Phasic"].to_numpy()
    assert np.array_equal(phasic, expected)
    assert np.array_equal(tonic, skin - expected)


def test_an_hour_is_cleaned_without_the_long_imports() -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\n"
        "from biopercept.preprocessing.cleaning import clean_recording\n"
        "from biopercept.recording import Recording, Signal\n"
        "t = np.arange(64 * 60) / 64\n"
        "pulse = Signal.from_samples('BVP', 'bvp', 'a.u.', 64.0, 50 * np.sin(2 * np.pi * 1.2 * t))\n"
        "skin = Signal.from_samples('EDA', 'eda', 'uS', 4.0, 1 + 0.1 * np.sin(t[::16] / 9))\n"
        "clean_recording(Recording('S1', '', 'x', (pulse, skin)))\n"
        "print([name for name in ('neurokit2', 'torch', 'matplotlib', 'sklearn', 'mne') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
