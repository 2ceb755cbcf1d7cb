"""What a missing sensor costs: paired over subjects from the tables of cross-validations, over one study or several."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopercept.comparison.comparison import compare, write_comparison
from biopercept.errors import StudyError
from biopercept.results.comparison import Comparison, SensorCost
from biopercept.results.reading import read_result

Run = Callable[..., Path]
EMPTY = {"mean": None, "ci95": None}


def with_sensors(
    run: Run, folder: Path, model: str, costs: Mapping[str, Sequence[float | None]], **changes: Any
) -> Path:
    """Write a run of 6 subjects with what each sensor's absence costs each; None: the subject never had it."""
    subset = {"sensors": "all", "n_windows": 24, "balanced_accuracy": EMPTY, "auroc": EMPTY, "difference": EMPTY}
    scored = {"mode": "single", "sensors": list(costs), "subsets": [subset]}
    path = run(folder, [0.8 + 0.01 * i for i in range(6)], model=model, missing_sensors=scored, **changes)
    rows = [
        [f"S{i + 1:02d}", name, 1, 4, 4, 0.5, "", "" if cost is None else -cost, ""]
        for sensor, values in costs.items()
        for i, cost in enumerate(values)
        for name, cost in ((f"without {sensor}", cost), (f"only {sensor}", 0.9))
    ]
    head = ("participant_id", "sensors", "n_sensors", "n_windows", "n_windows_answered", "balanced_accuracy", "auroc",
            "difference", "auroc_difference")  # fmt: skip
    with (path / "missing_sensors.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])
    return path


def cost_of(result: Comparison, model: str, sensor: str) -> SensorCost:
    return next(cost for cost in result.sensor_costs if (cost.model, cost.sensor) == (model, sensor))


OURS = {"eda": [0.10, 0.12, 0.08, 0.11, 0.09, 0.10], "bvp": [0.02, 0.01, 0.03, 0.0, -0.01, None]}
THEIRS = {"eda": [0.20, 0.18, 0.22, 0.25, 0.19, 0.2], "bvp": [0.03, 0.05, 0.02, 0.06, 0.04, None]}


def test_costs_and_their_differences_are_means_over_subjects(tmp_path: Path, run: Run) -> None:
    with_sensors(run, tmp_path / "r" / "ours", "perceiver-io", OURS)
    with_sensors(run, tmp_path / "r" / "theirs", "cnn-late-fusion", THEIRS)
    run(tmp_path / "r" / "plain", [0.7] * 6, model="logistic")
    result = compare([tmp_path / "r"], reference="perceiver-io", n_resamples=2000)
    eda, bvp, mean = (cost_of(result, "cnn-late-fusion", sensor) for sensor in ("eda", "bvp", ""))
    ours, theirs = (np.array([[np.nan if v is None else v for v in c] for c in of.values()]) for of in (OURS, THEIRS))
    assert (eda.cost, bvp.cost) == (pytest.approx(theirs[0].mean()), pytest.approx(theirs[1, :5].mean()))
    assert (eda.n_subjects, bvp.n_subjects, bvp.n_paired, mean.n_paired) == (6, 5, 5, 6)
    assert mean.cost == pytest.approx(np.nanmean(theirs, axis=0).mean())
    assert mean.more == pytest.approx(np.nanmean(theirs - ours, axis=0).mean())
    assert bvp.more == pytest.approx((theirs - ours)[1, :5].mean())
    assert mean.more_ci95 is not None and 0 < mean.more_ci95[0] < mean.more_ci95[1]
    assert cost_of(result, "perceiver-io", "").more is None
    text = " ".join(result.findings)
    assert "A missing sensor costs, as balanced accuracy averaged over the sensors of a subject" in text
    assert "More than it costs perceiver-io, paired: cnn-late-fusion +0.0" in text and "(loses more)" in text
    assert any("costs logistic is not known; run cross-validate with --missing-sensors" in c for c in result.cautions)


def test_studies_are_pooled_and_subjects_resampled_within_them(tmp_path: Path, run: Run) -> None:
    for study, sensor, more in (("wrist", "eda", 0.1), ("head", "eeg", -0.1)):
        of = {"study": study, "fingerprint": {"store": f"{study:x<64}", "biopercept": "0.1.0"}}
        theirs = [0.1 + more + 0.001 * i for i in range(6)]
        with_sensors(run, tmp_path / study / "ours", "perceiver-io", {sensor: [0.1] * 6}, **of)
        with_sensors(run, tmp_path / study / "theirs", "cnn-late-fusion", {sensor: theirs}, **of)
    result = compare([tmp_path], reference="perceiver-io", n_resamples=2000)
    by_sensor = {c.sensor: c for c in result.sensor_costs if c.model == "cnn-late-fusion"}
    assert {name: (c.n_paired, c.more) for name, c in by_sensor.items()} == {
        "": (12, pytest.approx(0.0025)), "eda": (6, pytest.approx(0.1025)), "eeg": (6, pytest.approx(-0.0975)),
    }  # fmt: skip
    low, high = by_sensor[""].more_ci95 or (0, 1)
    assert 0.0 < low < high < 0.005, "which study a subject is of is no chance"
    assert [len(part.sensor_costs) for part in result.studies] == [4, 4]


def test_windows_without_a_prediction_are_counted_and_cost_nothing_known(tmp_path: Path, run: Run) -> None:
    ours = with_sensors(run, tmp_path / "r" / "ours", "lstm", OURS)
    with_sensors(run, tmp_path / "r" / "theirs", "lda", THEIRS)
    rows = list(csv.reader((ours / "missing_sensors.csv").read_text().splitlines()))
    for row in rows[1:]:
        if (row[0], row[1]) in {("S01", "without eda"), ("S02", "without eda")}:
            row[4], row[7] = ("0", "") if row[0] == "S01" else ("2", "-0.5")
    with (ours / "missing_sensors.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    eda = cost_of(compare([tmp_path / "r"], reference="lda", n_resamples=2000), "lstm", "eda")
    assert (eda.n_subjects, eda.answered) == (5, pytest.approx(18 / 24))
    assert eda.cost == pytest.approx((0.5 + 0.08 + 0.11 + 0.09 + 0.10) / 5)


def test_costs_stand_in_every_file_and_read_back(tmp_path: Path, run: Run) -> None:
    with_sensors(run, tmp_path / "r" / "ours", "perceiver-io", OURS)
    with_sensors(run, tmp_path / "r" / "theirs", "cnn-late-fusion", THEIRS)
    result = compare([tmp_path / "r"], reference="perceiver-io", n_resamples=2000)
    write_comparison(result, tmp_path / "out")
    assert read_result(tmp_path / "out" / Comparison.FILE, Comparison) == result
    with (tmp_path / "out" / "sensor_costs.csv").open() as stream:
        assert [float(row["cost"]) for row in csv.DictReader(stream)] == [c.cost for c in result.sensor_costs]
    page = (tmp_path / "out" / "compare.md").read_text()
    assert "mean over sensors" in page and "More than perceiver-io" in page
    assert r"\label{tab:sensors}" in (tmp_path / "out" / "compare.tex").read_text()


def test_another_score_has_no_costs_and_a_lost_table_is_refused(tmp_path: Path, run: Run) -> None:
    ours = with_sensors(run, tmp_path / "r" / "ours", "perceiver-io", OURS)
    run(tmp_path / "r" / "plain", [0.7] * 6, model="logistic")
    by_brier = compare([tmp_path / "r"], metric="brier", n_resamples=2000)
    assert not by_brier.sensor_costs
    assert any("was not scored by Brier score and is left out" in text for text in by_brier.cautions)
    (ours / "missing_sensors.csv").unlink()
    with pytest.raises(StudyError, match=r"missing_sensors\.csv is missing; run the command"):
        compare([tmp_path / "r"], n_resamples=2000)
