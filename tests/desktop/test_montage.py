"""Montages are what mne makes of the same samples, and power on the head is where it was planted."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from biopercept.desktop.montage import (
    AS_RECORDED,
    AVERAGE,
    EARS,
    LONGITUDINAL,
    TRANSVERSE,
    drawn,
    montages_of,
    topography_of,
)
from biopercept.errors import RecordingError
from biopercept.recording import Channel, FloatArray, Signal

FRONT, MIDDLE, BACK = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8"), ("T3", "C3", "Cz", "C4", "T4"), ("T5", "P3", "Pz")
NAMES = [*FRONT, *MIDDLE, *BACK, "P4", "T6", "O1", "O2"]
RATE = 128


def eeg(samples: FloatArray, names: list[str] = NAMES) -> Signal:
    return Signal.from_samples("EEG", "eeg", "uV", RATE, samples, tuple(Channel(name) for name in names))


@pytest.fixture
def samples() -> FloatArray:
    return np.random.default_rng(2).normal(0, 10, (len(NAMES), RATE * 20))


def raw_of(samples: FloatArray, names: list[str] = NAMES) -> mne.io.RawArray:
    return mne.io.RawArray(samples, mne.create_info(names, RATE, "eeg", verbose="error"), verbose="error")


def test_the_average_reference_is_that_of_mne_without_bad_channels(samples: FloatArray) -> None:
    made = montages_of(eeg(samples), bad=["F7"])[AVERAGE]()
    raw = raw_of(samples)
    raw.info["bads"] = ["F7"]
    expected, _ = mne.set_eeg_reference(raw, "average", verbose="error")
    good = [n for n, name in enumerate(NAMES) if name != "F7"]
    np.testing.assert_allclose(made.read()[good], expected.get_data()[good], atol=1e-9)
    np.testing.assert_allclose(made.read(100, 200, slice(3, 5)), made.read()[3:5, 100:200])


def test_a_gap_of_one_channel_does_not_spread_over_the_average(samples: FloatArray) -> None:
    samples[4, 50:60] = np.nan
    made = montages_of(eeg(samples))[AVERAGE]().read()
    assert np.isnan(made).sum() == 10
    np.testing.assert_allclose(made[0, 55], samples[0, 55] - np.nanmean(samples[:, 55]))


@pytest.mark.parametrize(("montage", "n"), [(LONGITUDINAL, 18), (TRANSVERSE, 18)])
def test_bipolar_montages_are_those_of_mne(samples: FloatArray, montage: str, n: int) -> None:
    made = montages_of(eeg(samples))[montage]()
    assert made.n_channels == n
    anodes, cathodes = zip(*(name.split("-") for name in made.channel_names), strict=True)
    expected = mne.set_bipolar_reference(raw_of(samples), list(anodes), list(cathodes), copy=True, verbose="error")
    np.testing.assert_allclose(made.read(), expected.get_data(list(made.channel_names)), atol=1e-9)
    assert {"T3-T5", "Fz-Cz"} <= set(made.channel_names) or montage == TRANSVERSE


def test_what_the_electrodes_do_not_allow_is_not_offered() -> None:
    noise = np.random.default_rng(0).normal(size=(4, RATE))
    assert list(montages_of(eeg(noise, ["TP9", "AF7", "AF8", "TP10"]))) == [AS_RECORDED, AVERAGE]
    assert list(montages_of(eeg(noise[:1], ["Cz"]))) == [AS_RECORDED]
    ears = montages_of(eeg(noise, ["Cz", "Pz", "A1", "A2"]))
    assert EARS in ears
    np.testing.assert_allclose(ears[EARS]().read()[0], noise[0] - noise[2:].mean(axis=0))


def test_a_chain_goes_on_where_an_electrode_is_missing() -> None:
    noise = np.random.default_rng(0).normal(size=(4, RATE))
    made = montages_of(eeg(noise, ["Fp1", "C3", "O1", "Fz"]))[LONGITUDINAL]()
    assert made.channel_names == ("Fp1-O1", "Fp1-C3", "C3-O1")


def test_planted_alpha_is_at_the_back_of_the_head_and_nowhere_in_bad_channels(samples: FloatArray) -> None:
    at = np.arange(samples.shape[1]) / RATE
    samples[NAMES.index("O1")] += 60 * np.sin(2 * np.pi * 10 * at)
    made = topography_of(eeg(samples), 5.0, 15.0, bad=["Fp1"])
    assert "Fp1" not in made.names
    assert (made.begin, made.end) == (5.0, 15.0)
    alpha = made.bands["alpha"]
    assert made.names[int(np.argmax(alpha))] == "O1"
    # A sine of amplitude a has the power a**2 / 2; the average reference takes 1/18 of it away.
    assert alpha.max() == pytest.approx(10 * np.log10((60 * 17 / 18) ** 2 / 2), abs=0.2)
    assert made.names[int(np.argmax(made.bands["delta"]))] != "O1"
    picture = drawn(made, 240)
    assert picture.shape[1:] == (240, 4)
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 50


@pytest.mark.parametrize(
    ("span", "names", "sentence"),
    [
        ((5.0, 6.0), NAMES, "a topography needs 2 s of EEG or more"),
        ((0.0, 9.0), [f"X{n}" for n in range(19)], "a topography needs 4 good electrodes .*; there are 0"),
    ],
)
def test_what_no_map_can_be_made_of_is_refused(
    samples: FloatArray, span: tuple[float, float], names: list[str], sentence: str
) -> None:
    with pytest.raises(RecordingError, match=sentence):
        topography_of(eeg(samples, names), *span)
