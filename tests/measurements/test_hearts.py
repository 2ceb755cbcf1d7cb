"""Heart values beside planted beats on a small grid, R-peaks beside annotated ones, and the page that shows both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from measurements import hearts, hearts_page
from measurements.annotated_hearts import agreement, annotated_beats
from measurements.hearts import DIFFICULTIES, Difficulty, beats_of, matched, outcome, planted
from measurements.planted_hearts import regular_heart, with_premature_beats

SMALL = {"ecg": (80, 128, 500), "bvp": (32, 64, 250), "ibi": (4,)}
ROWS = [
    (modality, rate, name)
    for modality, rates in SMALL.items()
    for rate in rates
    for name in DIFFICULTIES
    if not name.startswith(hearts.NOT_OF.get(modality, ()))
]


@pytest.mark.parametrize(("modality", "sampling_rate", "name"), ROWS)
def test_values_are_the_planted_ones_or_missing(modality: str, sampling_rate: int, name: str) -> None:
    difficulty = DIFFICULTIES[name]
    for heart_rate in (35, 60, 90, 140, 220):
        if heart_rate > difficulty.max_rate:
            continue
        heart = planted(difficulty, heart_rate)
        got = outcome(heart, beats_of(heart, modality, sampling_rate, difficulty), difficulty)
        factor = 2 if difficulty.seconds < 30 or difficulty.premature_every else 1
        factor *= 2.5 if heart_rate == 220 else 1  # RMSSD is below 4 ms there
        for measure in hearts.MEASURES:
            error = getattr(got, measure)
            assert np.isnan(error) or error < LIMITS[measure] * factor, (
                measure,
                heart_rate,
            )
        assert got.missed < (7 if difficulty.lost or heart_rate == 220 else 3) and got.extra < (
            4 if difficulty.seconds < 60 else 1.5
        ), heart_rate


LIMITS = {"mean_nn": 1.0, "sdnn": 12.0, "rmssd": 14.0}


@pytest.mark.parametrize(("modality", "sampling_rate"), [("ecg", 250), ("bvp", 64), ("ibi", 4)])
def test_nothing_is_missing_where_nothing_is_wrong(modality: str, sampling_rate: int) -> None:
    for heart_rate in (35, 60) if modality == "ibi" else (35, 60, 120):
        heart = planted(DIFFICULTIES["nothing"], heart_rate)
        got = outcome(heart, beats_of(heart, modality, sampling_rate, DIFFICULTIES["nothing"]), DIFFICULTIES["nothing"])
        assert np.isfinite([got.mean_nn, got.sdnn, got.rmssd]).all() and got.coverage > 0.95


def test_outcomes_know_wrong_values_from_right_ones() -> None:
    heart, plain = regular_heart(60.0, 70.0), Difficulty(seconds=60.0)
    right = outcome(heart, beats_of(heart, "ibi", 4, plain), plain)
    assert right.mean_nn < 0.1 and right.rmssd < 8 and right.missed == right.extra == 0
    wrong = outcome(heart, beats_of(regular_heart(60.0, 77.0, seed=1), "ibi", 4, plain), plain)
    assert wrong.mean_nn == pytest.approx(9.1, abs=0.5) and wrong.missed > 30 and wrong.extra > 30


def test_premature_beats_are_planted_early_with_a_full_pause() -> None:
    heart = regular_heart(60.0, 60.0)
    changed = with_premature_beats(heart, 10, early=0.3)
    moved = np.flatnonzero(changed.times != heart.times)
    np.testing.assert_array_equal(moved, np.flatnonzero(~changed.is_sinus))
    np.testing.assert_array_equal(moved, np.arange(10, len(heart.times) - 2, 10))
    assert np.isnan(changed.intervals).sum() == 2 * len(moved) + 1


def test_matching_counts_each_time_once() -> None:
    assert matched(np.array([1.0, 2.0, 3.0]), np.array([1.07, 2.08, 9.0])) == pytest.approx(1 / 3)
    assert matched(np.empty(0), np.array([1.0])) == 1.0 and matched(np.array([1.0]), np.empty(0)) == 0.0


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("record", "lead", "annotator", "sensitivity", "precision"),
    [
        ("100", "MLII", "atr", 0.999, 0.999),
        ("100", "V5", "atr", 0.99, 0.99),
        # gqrs has 1149 beats in 600 s with a median interval of 490 ms, in which there are 1224: it misses some.
        ("03700181", "MCL1", "gqrsh", 0.95, 0.93),
    ],
)
def test_r_peaks_agree_with_annotations(
    record: str, lead: str, annotator: str, sensitivity: float, precision: float, reference_data: Path
) -> None:
    got = agreement(reference_data / "formats" / "wfdb_samples", record, lead, annotator)
    assert got.sensitivity >= sensitivity and got.precision >= precision
    assert got.n_annotated > 500


@pytest.mark.realdata
def test_annotated_beats_are_all_beats_and_no_other_notes(reference_data: Path) -> None:
    times = annotated_beats(reference_data / "formats" / "wfdb_samples" / "100", "atr")
    assert len(times) == 2273  # what the database's own table of beats gives for this record
    assert (np.diff(times) > 0.2).all()


def test_the_page_shows_the_worst_of_each_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: DIFFICULTIES[name] for name in ("nothing", "every 12th beat premature (to 140 a minute)")}
    monkeypatch.setattr(hearts, "DIFFICULTIES", few)
    monkeypatch.setattr(hearts_page, "DIFFICULTIES", few)
    for module in (hearts, hearts_page):
        monkeypatch.setattr(module, "HEART_RATES", (60,))
        monkeypatch.setattr(module, "SAMPLING_RATES", {"ecg": (128, 250), "bvp": (64,), "ibi": (4,)})
    monkeypatch.setattr(hearts_page, "_PULSE_NOISE", (1.0, 20.0))
    monkeypatch.setattr(hearts_page, "_SPECTRUM_RATES", (60,))
    text = hearts_page.page(None)
    row = next(line for line in text.splitlines() if line.startswith("| 60 |"))
    outcomes = [one for key, one in hearts.grid("ecg").items() if key[2] == 250]
    assert (
        row.split(" | ")[2]
        == " / ".join(f"{max(getattr(one, m) for one in outcomes):.1f}" for m in hearts.MEASURES) + " |"
    )
    assert "| 40 % |" in text and "missing" in text
    assert "no folder of annotated WFDB records was given" in text
