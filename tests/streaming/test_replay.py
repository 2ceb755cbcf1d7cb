"""A replay goes the way of a stream and gives what `predict` gives; sensors that pause are missing meanwhile."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from biopercept.cli.live import Dashboard
from biopercept.cli.main import build_app
from biopercept.errors import OutputError, RecordingError, SettingsError, StudyError
from biopercept.inference.prediction import NO_SIGNAL, predict
from biopercept.inference.shift import log_odds_of, shifts_of
from biopercept.loaders.loading import load_recording
from biopercept.prepare.recording import PrepareSettings, prepare_recording
from biopercept.recording import Recording, Signal
from biopercept.report.page import write_report
from biopercept.resources import model_folder, sample_study
from biopercept.streaming.following import Followed, Follower, FollowSettings
from biopercept.streaming.live import LiveRequest, follow_streams
from biopercept.streaming.sources import Replay
from biopercept.streaming.window import RunningMoments, WindowPredictor
from biopercept.training.checkpoint import Checkpoint, load_model
from biopercept.training.engine import engine_for

ENGINE = engine_for("cpu")
FAST = float("inf")


@pytest.fixture(scope="module")
def wrist() -> Checkpoint:
    return load_model(model_folder("states-wrist"))


@pytest.fixture(scope="module")
def chest() -> Recording:
    with sample_study() as study:
        recording = load_recording(study / "recordings" / "S01_chest.edf", subject="S01", name="S01")
        held = [one.with_samples(one.read(), one.sampling_rate) for one in recording.signals]
    return replace(recording, signals=tuple(held))


def calm_and_busy(n_seconds: int = 300) -> Recording:
    """Return heart rate and oxygen once a second, which change 5 s after every tenth second alone."""
    random = np.random.default_rng(5)
    level = np.repeat(random.normal(size=n_seconds // 10 + 2), 10)[5 : n_seconds + 5]
    made = {"HR": ("hr", "bpm", 75 + 8 * level), "SpO2": ("spo2", "%", 96 + np.round(level))}
    return Recording("", "", "made", tuple(Signal.from_samples(n, m, u, 1.0, x) for n, (m, u, x) in made.items()))


def followed(
    checkpoint: Checkpoint, recording: Recording, context: float = 60.0, **settings: float | bool | None
) -> list[Followed]:
    predictor = WindowPredictor(checkpoint, ENGINE, context)
    source = Replay(recording, FAST, predictor.kept_seconds)
    return list(Follower(checkpoint, predictor, source, FollowSettings(**settings)).each())  # type: ignore[arg-type]


def offline(checkpoint: Checkpoint, recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    settings = PrepareSettings.from_plain_values(checkpoint.prepare)
    predictions = predict(checkpoint, prepare_recording(recording, settings), ENGINE)
    return predictions.onset, predictions.only.values


def cut(recording: Recording, end: float) -> Recording:
    signals = [
        one.with_samples(one.read(0, round(end * one.sampling_rate)), one.sampling_rate) for one in recording.signals
    ]
    return replace(recording, signals=tuple(signals), intervals=())


def test_where_cleaning_is_causal_a_replay_gives_what_predict_gives(wrist: Checkpoint) -> None:
    recording = calm_and_busy()
    onset, values = offline(wrist, recording)
    live = followed(wrist, recording, every_seconds=10.0)
    assert len(live) == 25
    by_onset = {float(one.predictions.onset[0]): one.predictions.only.values[0] for one in live}
    compared = [(by_onset[start], row) for start, row in zip(onset.tolist(), values, strict=True)]
    np.testing.assert_allclose(*zip(*compared, strict=True), atol=1e-5)
    assert np.ptp([row[0] for row in values]) > 0.01  # windows differ, so there is something to be equal in


def test_the_window_that_ends_now_is_the_last_one_of_a_recording_that_ends_now(chest: Recording) -> None:
    # Filters without a phase, beats found with a look ahead: what has come so far is all that both may read.
    checkpoint = load_model(model_folder("workload-eeg"))
    [first] = followed(checkpoint, cut(chest, 10.0))
    _, values = offline(checkpoint, cut(chest, 10.0))
    np.testing.assert_allclose(first.predictions.only.values, values, atol=1e-5)
    again = followed(checkpoint, cut(chest, 40.0), every_seconds=30.0)
    assert [one.end for one in again] == [10.0, 40.0]
    np.testing.assert_array_equal(again[0].predictions.only.values, first.predictions.only.values)


def test_nothing_that_comes_later_changes_a_prediction(chest: Recording) -> None:
    checkpoint = load_model(model_folder("workload-eeg"))
    random, signals = np.random.default_rng(0), []
    for one in chest.signals:
        samples = one.read(0, round(40 * one.sampling_rate)).copy()
        later = samples[:, round(20 * one.sampling_rate) :]
        later += later.std() * random.standard_normal(later.shape)
        signals.append(one.with_samples(samples, one.sampling_rate))
    other = replace(chest, signals=tuple(signals))
    plain, changed = (followed(checkpoint, one, every_seconds=5.0, most_seconds=30.0) for one in (chest, other))
    for before, after in zip(plain, changed, strict=True):
        is_same = np.array_equal(before.predictions.only.values, after.predictions.only.values)
        assert is_same == (before.end <= 20.0)


def test_what_a_window_is_scaled_by_reaches_back_beyond_what_is_kept(wrist: Checkpoint) -> None:
    recording = calm_and_busy(600)
    _, values = offline(wrist, recording)
    short = followed(wrist, recording, context=0.0, every_seconds=10.0)
    np.testing.assert_allclose(short[-1].predictions.only.values[0], values[-1], atol=1e-5)


def test_a_sensor_that_pauses_is_missing_until_it_returns(wrist: Checkpoint) -> None:
    recording = calm_and_busy(400)
    heart, oxygen = recording.signals
    samples = oxygen.read().copy()
    samples[:, 100:250] = np.nan
    paused = replace(recording, signals=(heart, oxygen.with_samples(samples, 1.0)))
    live = {one.end: one for one in followed(wrist, paused, every_seconds=10.0)}
    assert [live[end].missing for end in (100.0, 150.0, 160.0, 250.0, 260.0)] == [(), (), ("SpO2",), ("SpO2",), ()]
    assert live[240.0].predictions.used == ("hr",)
    assert live[400.0].predictions.used == ("hr", "spo2")
    onset, values = offline(wrist, paused)
    given = [live[start + 60.0].predictions.only.values[0] for start in onset]
    np.testing.assert_allclose(given, values, atol=1e-5)


def test_where_nothing_comes_at_all_the_reason_is_said(wrist: Checkpoint) -> None:
    recording = calm_and_busy(400)
    signals = []
    for one in recording.signals:
        samples = one.read().copy()
        samples[:, 100:300] = np.nan
        signals.append(one.with_samples(samples, 1.0))
    live = {one.end: one for one in followed(wrist, replace(recording, signals=tuple(signals)), every_seconds=10.0)}
    assert live[290.0].predictions.only.reason == (NO_SIGNAL,)
    assert np.isnan(live[290.0].predictions.only.values).all()
    assert live[400.0].predictions.only.reason == ("",)
    assert live[290.0].predictions.columns("state").keys() == live[400.0].predictions.columns("state").keys()


def test_streams_that_a_model_cannot_read_are_one_sentence(wrist: Checkpoint, chest: Recording) -> None:
    only_ecg = replace(chest, signals=chest.signals_of("ecg"))
    with pytest.raises(
        SettingsError, match=r"no sensor that the model reads: it reads acc, eda, hr, .*ECG.* \(ecg, mV\)"
    ):
        followed(wrist, only_ecg)
    strange = Recording("", "", "made", (Signal.from_samples("EDA", "eda", "counts", 4.0, np.ones(4000)),))
    with pytest.raises(SettingsError, match="EDA: its unit is 'counts' and electrodermal activity needs 'uS'"):
        followed(wrist, strange)
    with pytest.raises(RecordingError, match="no signal, so there is nothing to replay"):
        Replay(Recording("", "", "made", ()), 1.0, 60.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"every_seconds": 0.0}, "--every is 0; it must be a positive number of seconds"),
        ({"most_seconds": 30.0}, "--seconds is 30 and the model's window is 60 s: nothing would be predicted"),
        ({"abstain_below": 2.0}, "--abstain-below is 2; it must be a probability above 0 and at most 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrist: Checkpoint, settings: dict[str, float], words: str) -> None:
    with pytest.raises(SettingsError, match=words.replace("(", r"\(")):
        followed(wrist, calm_and_busy(), **settings)


def two_classes() -> Checkpoint:
    """Return a model of two classes that one recording may hold both of."""
    checkpoint = load_model(model_folder("workload-eeg"))
    return replace(checkpoint, tasks=tuple(replace(task, label_is_file=False) for task in checkpoint.tasks))


def test_the_threshold_moves_by_the_windows_before_as_predict_moves_it(chest: Recording) -> None:
    checkpoint = two_classes()
    step = checkpoint.prepare["windows"]["step_seconds"]
    plain = followed(checkpoint, cut(chest, 160.0), every_seconds=step)
    predictor = WindowPredictor(checkpoint, ENGINE, adapt="past")
    source = Replay(cut(chest, 160.0), FAST, predictor.kept_seconds)
    moved = list(Follower(checkpoint, predictor, source, FollowSettings(every_seconds=step)).each())
    uncalibrated = replace(checkpoint, calibration=None)
    log_odds = log_odds_of(
        np.concatenate(
            [one.predictions.only.values for one in followed(uncalibrated, cut(chest, 160.0), every_seconds=step)]
        )
    )
    shifts = shifts_of(log_odds, step / checkpoint.window_seconds)[:-1]
    given = [one.predictions.only.shift[0] for one in moved]  # type: ignore[index]
    np.testing.assert_allclose(given, shifts, atol=1e-9)
    assert np.any(shifts != 0)  # or nothing was moved
    same = [
        np.array_equal(a.predictions.only.values, b.predictions.only.values) for a, b in zip(plain, moved, strict=True)
    ]
    assert same == (shifts == 0).tolist()
    assert "shift" in moved[0].predictions.columns(moved[0].predictions.only.task.name)


def test_a_threshold_that_a_stream_cannot_move_is_refused(wrist: Checkpoint) -> None:
    with pytest.raises(
        SettingsError, match="--adapt all reads the whole recording, the end of which a stream does not"
    ):
        WindowPredictor(two_classes(), ENGINE, adapt="all")
    with pytest.raises(SettingsError, match=r"--adapt is for two classes.* task 'state' has 4 classes"):
        WindowPredictor(wrist, ENGINE, adapt="past")
    with pytest.raises(SettingsError, match="--adapt is 'paste'; allowed are none, past, all"):
        WindowPredictor(wrist, ENGINE, adapt="paste")


def test_a_page_shows_the_last_run_of_a_folder(tmp_path: Path) -> None:
    follow = FollowSettings(every_seconds=20.0, recording="made")
    for n_seconds in (120, 100):
        path = made_file(tmp_path, n_seconds)
        request = LiveRequest(model_folder("states-wrist"), replay=path, speed=FAST, follow=follow)
        follow_streams(request, tmp_path / "out")
    page = write_report(tmp_path / "out").read_text(encoding="utf-8")
    lead = "By the model states-wrist, the last of 2 runs: 3 predictions in 100 s of the streams, none withheld, none"
    assert "Live: out" in page
    assert lead in page
    assert "predictions for 3 windows" in page
    assert "Milliseconds from the last sample of a window to its prediction" in page
    (tmp_path / "out" / "live.json").write_text("{")
    with pytest.raises(StudyError, match=r"live\.json"):
        write_report(tmp_path / "out")


def test_running_moments_are_those_of_all_values() -> None:
    random = np.random.default_rng(0)
    values = 1e4 + random.normal(size=(500, 3))
    values[random.random(values.shape) < 0.3] = np.nan
    values[:, 2] = np.nan
    running = RunningMoments(3)
    for piece in np.array_split(values[:400], 37):
        running.add(piece)
    of_all = running.with_values(values[400:]).moments
    np.testing.assert_allclose(of_all.mean[0, :2], np.nanmean(values[:, :2], axis=0), rtol=1e-12)
    np.testing.assert_allclose(of_all.variance[0, :2], np.nanvar(values[:, :2], axis=0), rtol=1e-9)
    assert of_all.count[0].tolist() == np.isfinite(values).sum(axis=0).tolist()
    assert np.isnan(of_all.mean[0, 2])
    assert running.moments.count[0, 0] == np.isfinite(values[:400, 0]).sum()  # what was kept stays as it is


def made_file(folder: Path, n_seconds: int = 120) -> Path:
    path = folder / "made.csv"
    rows = [f"{second},{75 + 5 * np.sin(second / 20):.3f},97" for second in range(n_seconds)]
    path.write_text("\n".join(["time,HR [bpm],SpO2 [%]", *rows, ""]), encoding="utf-8")
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_the_command_writes_a_line_for_each_second_and_goes_on_in_its_table(tmp_path: Path) -> None:
    path, out = made_file(tmp_path), tmp_path / "out"
    request = LiveRequest(
        model_folder("states-wrist"),
        replay=path,
        speed=FAST,
        follow=FollowSettings(every_seconds=20.0, recording="made"),
    )
    summary = follow_streams(request, out)
    table = out / "live_predictions.tsv"
    assert (summary.predictions, summary.seconds, summary.left_out) == (4, 120.0, 0)
    assert json.loads((out / "live.json").read_text())["predictions"] == 4
    first = rows_of(table)
    assert [row["onset"] for row in first] == ["0.0", "20.0", "40.0", "60.0"]
    assert list(first[0])[:4] == ["run", "onset", "duration", "predicted"]
    assert {"quality", "confidence", "missing", "probability_relax"} <= set(first[0])
    assert set(json.loads(table.with_suffix(".json").read_text())["columns"]) >= {"run", "missing", "quality"}
    with table.open("a") as stream:
        stream.write("1\t80.0\t60")  # a line that a crash of the machine left unfinished
    follow_streams(request, out)
    both = rows_of(table)
    assert [row["run"] for row in both] == ["1"] * 4 + ["2"] * 4
    assert [{**row, "run": "1"} for row in both[4:]] == first
    table.write_text("other\tcolumns\n")
    with pytest.raises(OutputError, match="has other columns than this run; choose another output or add --overwrite"):
        follow_streams(request, out)
    assert table.read_text() == "other\tcolumns\n"


def test_on_a_full_disk_what_was_written_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    path, out, n_lines = made_file(tmp_path), tmp_path / "out", [0]
    write = os.write

    def failing(handle: int, content: bytes) -> int:
        n_lines[0] += 1
        return write(handle, content) if n_lines[0] < 3 else write(handle, content[:7])

    monkeypatch.setattr("biopercept.streaming.live.os.write", failing)
    request = LiveRequest(
        model_folder("states-wrist"), replay=path, speed=FAST, follow=FollowSettings(every_seconds=20.0)
    )
    with pytest.raises(OutputError, match="the 2 lines before are whole; make room and run it again"):
        follow_streams(request, out)
    monkeypatch.undo()
    assert len((out / "live_predictions.tsv").read_text().splitlines()) == 3
    assert (out / "live_predictions.tsv").read_text().endswith("\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give --stream NAME for running streams, or --replay FILE for a recording: one of both"),
        (["--stream", "A", "--replay", "X"], "give --stream NAME for running streams, or --replay FILE"),
        (["--stream", "A", "--speed", "2"], "--speed is of --replay, which is not given; leave it out"),
        (["--replay", "X", "--wait", "2"], "--wait is of --stream, which is not given; leave it out"),
        (["--replay", "{}", "--speed", "0"], "--speed is 0; it must be a number above 0"),
        (["--replay", "{}", "--context", "-1"], "--context is -1; it must be a number of seconds, 0 or more"),
        (["--replay", "{}", "--seconds", "2"], "--seconds is 2 and the model's window is 60 s"),
    ],
)
def test_mistakes_on_the_command_line_are_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    path = str(made_file(tmp_path))
    given = ["live", "states-wrist", *(word.replace("{}", path) for word in words), "-o", str(tmp_path / "out")]
    fault = CliRunner().invoke(build_app(), given).exception
    assert isinstance(fault, SettingsError)
    assert sentence in str(fault)


def test_a_recording_shorter_than_a_window_is_said(tmp_path: Path) -> None:
    words = [
        "live",
        "states-wrist",
        "--replay",
        str(made_file(tmp_path, 30)),
        "--speed",
        "inf",
        "-o",
        str(tmp_path / "out"),
    ]
    run = CliRunner().invoke(build_app(), words)
    assert run.exit_code == 1
    assert "the streams ended before the first window was full, so nothing was predicted" in run.stderr


def test_ctrl_c_ends_a_run_with_its_lines_written_and_named(tmp_path: Path) -> None:
    path, out = made_file(tmp_path, 2000), tmp_path / "out"
    words = ["live", "states-wrist", "--replay", str(path), "--speed", "60", "-o", str(out)]
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
    code = f"{hears}from biopercept.cli.main import main; main({words!r})"
    run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    table, until = out / "live_predictions.tsv", time.monotonic() + 120
    while time.monotonic() < until and not (table.is_file() and table.read_text().count("\n") > 3):
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, words_of_run = run.communicate(timeout=120)
    assert run.returncode == 130, words_of_run
    rows = rows_of(table)
    assert len(rows) >= 3
    assert f"{len(rows)} predictions are written in {out}; the same command adds to them" in words_of_run
    assert "Traceback" not in words_of_run
    assert json.loads((out / "live.json").read_text())["predictions"] == len(rows)


def test_the_panel_shows_predictions_and_the_streams_that_are_missing(wrist: Checkpoint) -> None:
    heart, oxygen = calm_and_busy(200).signals
    samples = oxygen.read().copy()
    samples[:, 100:] = np.nan
    source = Replay(Recording("", "", "made", (heart, oxygen.with_samples(samples, 1.0))), FAST, 121.0)
    tables: list[Any] = []
    panel = SimpleNamespace(update=lambda table, refresh: tables.append(table))
    screen = Dashboard("states-wrist", panel, quiet=False)
    follower = Follower(wrist, WindowPredictor(wrist, ENGINE), source, FollowSettings(every_seconds=70.0))
    for one in follower.each():
        screen.show(one, source.streams)
    drawn = Console(width=120, file=io.StringIO())
    drawn.print(tables[-1])
    text = drawn.file.getvalue()  # type: ignore[attr-defined]
    assert len(tables) == 3
    assert "states-wrist: 200 s" in text
    assert re.search(r"HR +\S HR +\S 0.0 s ago +\S there", text)
    assert re.search(r"SpO2 +\S SpO2 +\S \S+ s ago +\S missing", text)
    assert re.search(r"state +\S (relax|physical|emotional|cognitive) 0\.\d\d", text)


@pytest.mark.realdata
def test_a_real_wristband_is_predicted_as_offline(reference_data: Path) -> None:
    folder = reference_data / "stress-predict" / "Raw_data" / "S31"
    checkpoint = load_model(model_folder("stress-wrist"))
    recording = load_recording(folder, subject="S31", name="S31")
    live = followed(checkpoint, recording, every_seconds=90.0)
    onset, values = offline(checkpoint, recording)
    given = np.array([one.predictions.only.values[0, 1] for one in live])
    places = np.searchsorted(onset, [one.predictions.onset[0] for one in live])
    away = np.abs(given - values[places, 1])
    assert len(away) == 36
    assert np.median(away) < 0.02
    assert ((given > 0.5) == (values[places, 1] > 0.5)).mean() > 0.9
