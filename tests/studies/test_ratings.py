"""A continuous rating is the label of windows and single times, as its own numbers say, and no model reads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biopercept.data.windows import DenseLabels, labelled_windows
from biopercept.errors import RecordingError
from biopercept.prepare.recording import PrepareSettings, prepare_recording
from biopercept.prepare.study import PrepareRun, prepare_study
from biopercept.preprocessing.windows import WindowSettings
from biopercept.recording import Interval, Rating, Recording, RecordingLabels, Signal
from biopercept.store.reading import open_store
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study
from biopercept.studies.ratings import rating_faults, with_ratings, without_labels
from biopercept.studies.structure import StudyFaults
from biopercept.tasks import Task

Writer = Callable[..., Path]
YAML = """\
name: pilot
tasks:
  joy: {kind: regression, signal: Joy}
  mood: {kind: classification, signal: Joy, classes: {low: [0, 3], high: [5, 10]}, lag_seconds: 2}
"""
RATE = 20.0


def stated(seconds: np.ndarray) -> np.ndarray:
    """A rating that nobody could mistake for skin conductance: up in steps, down in a ramp."""
    return np.where(seconds < 60, np.floor(seconds / 15.0) * 2.0, 10.0 - (seconds - 60.0) / 8.0)


def write_rated(folder: Path, subject: str, *, scale: float = 1.0, column: str = "Joy") -> None:
    times = np.arange(int(120 * RATE)) / RATE
    skin = 5.0 + int(subject[1:]) * np.sin(times / 7.0) + 0.2 * np.sin(times * 1.3)
    rows = "".join(f"{t},{s:.6f},{j:.6f}\n" for t, s, j in zip(times, skin, scale * stated(times), strict=True))
    (folder / "data" / f"{subject}.csv").write_text(f"time,EDA (uS),{column}\n{rows}")


@pytest.fixture
def rated(write_study: Writer) -> Callable[..., Path]:
    """Give a function that writes a study of two people with a rating in their files, and no events."""

    def write(study: str = YAML, **of_files: object) -> Path:
        folder = write_study(study=study, events=None)
        for subject in ("S01", "S02"):
            write_rated(folder, subject, **of_files)
        return folder

    return write


def prepared(folder: Path, output: Path):
    settings = PrepareSettings(WindowSettings(20.0, 10.0))
    prepare_study(load_study(folder), output, settings, run=PrepareRun(isolate=False))
    return open_store(output)


def test_means_are_those_of_the_time_that_is_known() -> None:
    values = np.array([1.0, 2.0, np.nan, 6.0, 8.0])
    rating = Rating(values, 0.5, start_seconds=10.0)  # 10-12 s: 1, 12-14: 2, 14-16: unknown, 16-18: 6, 18-20: 8
    onsets = np.array([10.0, 11.0, 13.0, 14.0, 14.5, 18.0, 5.0, 30.0])
    # (2 x 1 + 2 x 2) / 4; (1 + 4) / 3; of 13-17 s half is known; of 14-18 s too; then 6, 6, 8 of 3.5 s; half is outside
    wanted = [1.5, 5 / 3, (2 + 6) / 2, 6.0, (12 + 4) / 2.5, 8.0, np.nan, np.nan]
    assert np.allclose(rating.means(onsets, 4.0), wanted, equal_nan=True)
    assert np.array_equal(rating.at(np.array([9.9, 10.0, 13.9, 15.0, 19.9, 20.0])), [np.nan, 1, 2, np.nan, 8, np.nan],
                          equal_nan=True)  # fmt: skip


def test_the_mean_of_a_long_rating_is_as_exact_as_numpys() -> None:
    draws = np.random.default_rng(3).normal(1e6, 1.0, 4 * 86_400)
    rating = Rating(draws, 4.0)
    assert rating.means(86_000.0, 60.0)[0] == pytest.approx(draws[344_000:344_240].mean(), rel=1e-12)


def test_windows_have_the_mean_of_the_rating_after_its_lag(rated: Callable[..., Path], tmp_path: Path) -> None:
    with prepared(rated(), tmp_path / "s.h5") as store:
        tables = {
            name: labelled_windows(store.recordings, task, length_seconds=20.0, feature_names=store.feature_names)
            for name, task in store.tasks.items()
        }
    fine = np.arange(int(120 * RATE)) / RATE

    def mean(onset: float) -> float:
        inside = (fine >= onset - 1e-9) & (fine < onset + 20.0 - 1e-9)
        return float(stated(fine)[inside].mean())

    joy, mood = tables["joy"], tables["mood"]
    assert len(joy) == 2 * 11
    assert np.allclose(joy.only.values, [mean(onset) for onset in joy.onset], atol=1e-5)
    later = {onset: mean(onset + 2.0) for onset in np.arange(0.0, 101.0, 10.0)}
    assert set(mood.onset) == {onset for onset, value in later.items() if value < 3 or value >= 5}
    assert np.array_equal(mood.only.values, [int(later[onset] >= 5) for onset in mood.onset])
    assert mood.excluded == {"rating 'Joy' in no class": 2 * (11 - len(mood) // 2)}


def test_single_times_have_the_rating_of_a_lag_later(rated: Callable[..., Path], tmp_path: Path) -> None:
    times = np.array([[0.0, 12.9, 13.1, 28.1, 50.0, 90.0, 119.0]])
    with prepared(rated(), tmp_path / "s.h5") as store:
        dense = {
            name: DenseLabels([(r.labels, r.duration_seconds) for r in store.recordings], task)
            for name, task in store.tasks.items()
        }
        numbers = dense["joy"].at(np.zeros(1, dtype=np.int64), times)[0]
        classes = dense["mood"].at(np.zeros(1, dtype=np.int64), times)[0]
    assert np.allclose(numbers, stated(times[0]), atol=0.05)
    assert np.array_equal(classes, [0, 0, 0, np.nan, 1, 1, np.nan], equal_nan=True)


def test_a_label_that_a_task_ignores_silences_the_rating() -> None:
    labels = RecordingLabels((Interval(5, 5, "break"),), ratings={"joy": Rating(np.full(80, 4.0), 4.0)})
    task = Task("joy", kind="regression", signal="joy", ignore=("break",))
    at = DenseLabels([(labels, 20.0)], task).at(np.zeros(1, dtype=np.int64), np.array([[4.9, 5.0, 9.9, 10.0]]))[0]
    assert np.array_equal(at, [4, np.nan, np.nan, 4], equal_nan=True)


def test_no_model_reads_the_rating(rated: Callable[..., Path], tmp_path: Path) -> None:
    """All that is stored beside the rating itself is equal to the bit, whatever people stated."""
    stored = []
    for scale in (1.0, -37.0):
        with prepared(rated(scale=scale), tmp_path / f"{scale:g}.h5") as store:
            recording = store.recordings[0]
            assert "Joy" not in [signal.name for signal in recording.signals]
            assert not any("Joy" in signal.channels for signal in recording.signals)
            signals = [array for s in recording.signals for array in recording.read(s.name)]
            stored.append((signals, recording.windows, recording.labels.ratings["Joy"]))
    assert all(np.array_equal(one, other) for one, other in zip(stored[0][0], stored[1][0], strict=True))
    assert np.array_equal(stored[0][1].features, stored[1][1].features, equal_nan=True)
    assert np.isfinite(stored[0][1].features).any()
    assert np.array_equal(stored[0][1].quality, stored[1][1].quality, equal_nan=True)
    assert np.allclose(stored[1][2].values, -37.0 * stored[0][2].values, atol=1e-3)


def test_a_rating_is_taken_out_even_where_its_name_is_a_sensors(rated: Callable[..., Path], tmp_path: Path) -> None:
    """A file by itself, and a model that was trained to tell "Resp": it must not read what it tells."""
    folder = rated(study=YAML.replace("Joy", "Resp"), column="Resp")
    with prepared(folder, tmp_path / "s.h5") as store:
        assert [signal.modality for signal in store.recordings[0].signals if not signal.derived_from] == ["eda"]
    from biopercept.loaders.loading import load_recording

    alone = load_recording(folder / "data" / "S01.csv", subject="S01", name="S01")
    assert "Resp" in [signal.name for signal in alone.signals]
    taken = without_labels(alone, [Task("r", kind="regression", signal="Resp")])
    assert [signal.name for signal in taken.signals] == ["EDA"]
    assert prepare_recording(taken, PrepareSettings(WindowSettings(20.0, 10.0))).labels.ratings["Resp"].values.size


def test_one_axis_of_several_can_be_a_rating() -> None:
    axes = Signal.from_samples("ACC", "acc", "g", 4.0, np.arange(24.0).reshape(3, 8))
    made = with_ratings(Recording("S", "", "r", (axes,)), ["ACC/ACC2"])
    assert made.signals[0].channel_names == ("ACC1", "ACC3")
    assert np.array_equal(made.signals[0].read(2, 4), [[2, 3], [18, 19]])
    assert np.array_equal(made.ratings["ACC/ACC2"].values, np.arange(8.0, 16.0))
    with pytest.raises(RecordingError, match=r"S r: the rating 'ACC' has several channels; name one \(ACC/...\)"):
        with_ratings(Recording("S", "", "r", (axes,)), ["ACC"])


def test_fast_ratings_are_kept_as_means_of_quarters_and_missing_values_are_not_filled() -> None:
    draws = np.random.default_rng(0).normal(size=1000)
    draws[250:500] = np.nan
    signal = replace(Signal.from_samples("joy", "unknown", "", 100.0, draws), start_seconds=3.0)
    rating = with_ratings(Recording("S", "", "r", (signal,)), ["joy"]).ratings["joy"]
    assert (rating.sampling_rate, rating.start_seconds) == (4.0, 3.0)
    by_quarter = draws.reshape(40, 25)
    wanted = np.where(np.arange(40) // 10 == 1, np.nan, np.where(np.isnan(by_quarter), 0, by_quarter).mean(axis=1))
    assert np.allclose(rating.values, wanted, equal_nan=True)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("{kind: regression, signal: Joy, column: age}", "line 3: task 'a' names a column and a signal; keep one"),
        ("{kind: regression, signal: ''}", "the signal of task 'a' is empty; name the channel of the rating"),
        (
            "{kind: regression}",
            "the regression task 'a' needs 'column:', the numeric column to predict, or 'signal:', a continuous rating",
        ),
        ("{signal: Joy, lag_seconds: -1, classes: {l: [0, 1], h: [2, 3]}}", "the lag_seconds of task 'a' is '-1'"),
        ("{kind: regression, column: age, lag_seconds: 1}", "task 'a' has a lag_seconds and no 'signal:'"),
        ("{signal: Joy, classes: {l: [0, 3], h: [2, 10]}}", "the classes 'l' and 'h' of task 'a' overlap"),
        ("{signal: Joy, classes: {l: [0, 3], h: [10, 5]}}", "the class 'h' of task 'a' is a range of the rating such"),
        ("{signal: Joy, classes: {l: [0, 3], h: baseline}}", "the class 'h' of task 'a' is a range of the rating such"),
        ("{signal: Joy, classes: {l: [0, 3]}}", "the task 'a' has 1 classes; at least two are needed"),
        ("{kind: regression, signal: Joy, classes: {l: [0, 3], h: [5, 9]}}", "task 'a' is a regression and has class"),
        ("{kind: ordinal, signal: Joy, classes: {h: [5, 9], l: [0, 3]}}", "the levels of task 'a' must stand from the"),
    ],
)
def test_every_fault_of_a_rated_task_is_told(rated: Callable[..., Path], task: str, sentence: str) -> None:
    with pytest.raises(StudyFaults) as caught:
        load_study(rated(study=f"name: pilot\ntasks:\n  a: {task}\n"))
    assert any(sentence in fault for fault in caught.value.faults)


def test_a_recording_without_the_rating_or_beyond_the_classes_is_named(rated: Callable[..., Path]) -> None:
    folder = rated()
    study = load_study(folder)
    faults = {e.subject: list(rating_faults(load_entry(study, e), study.tasks)) for e in study.entries}
    assert faults == {"S01": [], "S02": []}
    write_rated(folder, "S01", column="Sorrow")
    write_rated(folder, "S02", scale=-1.0)
    faults = {e.subject: list(rating_faults(load_entry(study, e), study.tasks)) for e in study.entries}
    assert faults == {
        "S01": ["no signal 'Joy', the rating of task 'joy', 'mood' (its signals: EDA, Sorrow)"],
        "S02": [
            "the rating 'Joy' spans -9.9875 to 0 and the classes of task 'mood' 0 to 10; correct the classes, or the "
            "values that no rating can have"
        ],
    }
    shown = subprocess.run([sys.executable, "-m", "cli", "check", folder], capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert "fault: recordings.tsv line 2, S01 lab: no signal 'Joy', the rating of task 'joy', 'mood'" in shown.stdout
