"""The borders of "believe", "with care" and "do not" hold on trials that they were not read off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biopercept.preprocessing.quality import BANDS, BORDERS, USUAL_BORDERS, band_of
from measurements import quality
from measurements.quality import LIMITS, RATES, Window, border, damaged, in_bands, trials
from measurements.quality_page import DRAWN, made_page

SEED = 77


def test_a_border_is_where_nineteen_of_twenty_windows_are_near_the_truth() -> None:
    indices = np.repeat(np.arange(0.0, 1.0, 0.01), 20)
    errors = np.where(np.arange(len(indices)) % 20 == 0, 50.0, 1.0)  # one of twenty is far off everywhere
    errors[indices < 0.6] = 5.0
    errors[indices < 0.3] = np.nan
    windows = [Window("noise", 0.0, "heart rate", i, e) for i, e in zip(indices, errors, strict=True)]
    assert border(windows, "heart rate", 2.0) == pytest.approx(0.6)
    assert border(windows, "heart rate", 10.0) == pytest.approx(0.3)
    assert border(windows, "heart rate", 0.5) == 1.0


@pytest.mark.parametrize("modality", ["ecg", "resp", "eda"])
def test_damage_is_as_large_as_it_says(modality: str) -> None:
    rate, rng = RATES[modality], np.random.default_rng(1)
    wave = np.sin(2 * np.pi * 0.3 * np.arange(round(240 * rate)) / rate)
    lost = damaged(wave, rate, "loss", 0.3, rng)[0]
    assert np.isnan(lost).mean() == pytest.approx(0.3, abs=0.02)
    noisy = damaged(wave, rate, "noise", 0.4, rng)[0] - wave
    assert noisy.std() == pytest.approx(0.4 * 2, rel=0.1)
    moved = damaged(wave, rate, "motion", 0.15, rng)[0] != wave
    assert moved.mean() == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize("modality", ["resp", "eda"])
def test_what_is_believed_is_right_on_trials_that_the_borders_have_not_seen(modality: str) -> None:
    assert SEED not in DRAWN
    by_band = in_bands(trials(modality, [SEED]), modality)
    care, believed = LIMITS[modality]
    assert len(by_band["believe"]) >= 5
    assert np.mean([error <= believed for error in by_band["believe"]]) >= 0.9
    both = by_band["believe"] + by_band["with care"]
    assert np.mean([error <= care for error in both]) >= 0.9
    assert np.mean([not error <= believed for error in by_band["do not"]]) >= 0.5


def test_a_band_is_named_for_every_index() -> None:
    for modality, (care, believed) in BORDERS.items():
        assert 0 < care <= believed < 1, modality
        assert [band_of(i, modality) for i in (1.0, believed - 1e-6, care - 1e-6)] == [
            "believe",
            "with care" if care < believed else "do not",
            "do not",
        ]
    assert band_of(USUAL_BORDERS[0], "temp") == BANDS[1]


def test_the_page_has_a_table_for_every_sensor_and_a_small_figure(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    made = {
        modality: [
            Window("noise", 0.1, measure, float(i), float(2 * rng.random()))
            for measure in (quality.RATE_OF[modality],)
            for i in rng.random(60)
        ]
        for modality in RATES
    }
    text = made_page(made, made, tmp_path)
    assert all(f"## {modality}" in text and f"| {modality}, " in text for modality in RATES)
    assert (tmp_path / "quality.svg").stat().st_size < 150_000
