"""Numbers that cannot be trusted, from outside: never in a store, named where they are seen, and the rest is used."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from biopercept.cli.main import build_app
from biopercept.files import content_hash

RATE, SECONDS = 4, 240
WINDOWS = ["--set", "windows.length_seconds=20", "--set", "windows.step_seconds=10"]


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [*map(str, words)])


def good(number: int, seconds: float = SECONDS) -> np.ndarray:
    t = np.arange(round(RATE * seconds)) / RATE
    return np.asarray(3 + number / 5 + (t > 120) / 2 + np.random.default_rng(number).normal(size=len(t)).cumsum() / 100)


def table(path: Path, values: np.ndarray, head: str = "EDA (uS)", rate: float = RATE) -> Path:
    rows = "".join(f"{i / rate},{value!r}\n" for i, value in enumerate(map(float, values)))
    path.write_text(f"time,{head}\n{rows}")
    return path


def study(folder: Path, values: dict[str, np.ndarray], order: list[str] | None = None) -> Path:
    """Write a study of these people, whose recordings are named in an order."""
    folder.mkdir()
    for who, samples in values.items():
        table(folder / f"{who}.csv", samples)
    people = order or [*values]
    labels = [f"{who}\tr\t{at}\t115\t{label}" for who in people for at, label in ((0, "a"), (120, "b"))]
    for name, lines in {
        "participants": ["participant_id", *people],
        "recordings": ["participant_id\trecording\tpath", *(f"{who}\tr\t{who}.csv" for who in people)],
        "events": ["participant_id\trecording\tonset\tduration\ttrial_type", *labels],
    }.items():
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "study.yaml").write_text("name: x\ntasks: {t: {classes: {a: [a], b: [b]}}}\n")
    return folder


def spoilt(fraction: float, value: float) -> np.ndarray:
    samples = good(1)
    first = len(samples) // 4
    samples[first : first + max(round(fraction * len(samples)), 1)] = value
    return samples


SPOILT = {
    "nan1": (spoilt(0.01, np.nan), "missing"),
    "nan10": (spoilt(0.1, np.nan), "missing"),
    "nan50": (spoilt(0.5, np.nan), "missing"),
    "inf": (spoilt(0, np.inf), "missing"),
    "huge": (spoilt(0.05, 1e308), "out of range"),
    "overflow": (spoilt(0.05, 1e39), "out of range"),
    "below": (spoilt(0.05, -3.0), "out of range"),
    "flat": (spoilt(0.3, 3.125), "flat"),
}
LOST = {"nothing": np.full(960, np.nan), "constant": np.full(960, 5.0), "zero": np.zeros(960)}


def test_no_number_that_cannot_be_is_in_a_store_and_each_is_named(tmp_path: Path) -> None:
    people = {"fine": good(0), **{name: samples for name, (samples, _) in SPOILT.items()}, **LOST}
    folder = study(tmp_path / "study", people)
    ended = run("prepare", folder, "-o", tmp_path / "made.h5", *WINDOWS, "-q")
    assert ended.exit_code == 1, ended.output
    with (tmp_path / "made.log.csv").open() as stream:
        rows = {row["participant_id"]: row for row in csv.DictReader(stream)}
    assert {who for who, row in rows.items() if row["status"] == "failed"} == {*LOST}
    seen = []

    def look(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and "feature" not in name:
            seen.append(name)
            assert np.isfinite(item[()]).all(), name

    with h5py.File(tmp_path / "made.h5") as store:
        store.visititems(look)
    assert len(seen) >= 1 + len(SPOILT)
    assert run("quality", folder, "-o", tmp_path / "quality", "-q").exit_code in (0, 1)
    with (tmp_path / "quality" / "quality.csv").open() as stream:
        reasons = [(row["participant_id"], row["reason"]) for row in csv.DictReader(stream)]
    for name, (_, reason) in SPOILT.items():
        assert any(who == name and reason in why for who, why in reasons), (name, [r for r in reasons if r[0] == name])


@pytest.mark.parametrize(
    ("head", "factor"),
    [("ECG (mV)", 1.0), ("ECG (uV)", 1e3), ("ECG (V)", 1e-3), ("ECG (nV)", 1e6), ("EDA (uS)", 1.0), ("EDA (S)", 1e-6)],
)
def test_a_unit_that_is_known_gives_the_value_to_a_millionth(head: str, factor: float, tmp_path: Path) -> None:
    values = 0.5 + 0.4 * np.sin(np.arange(5000) / 20)
    ended = run("inspect", table(tmp_path / "a.csv", values * factor, head, 250.0), "--json")
    (signal,) = json.loads(ended.stdout)["recordings"][0]["signals"]
    assert signal["unit"] in ("mV", "µS", "uS"), signal
    assert signal["maximum"] == pytest.approx(values.max(), rel=1e-6) or signal["unit"] == "uV", signal


@pytest.mark.parametrize("values", ["ECG (furlong)", "a million times", "a billionth"])
def test_a_unit_that_is_not_known_or_not_that_of_the_values_is_said(values: str, tmp_path: Path) -> None:
    head = values if "(" in values else "ECG (mV)"
    factor = {"a million times": 1e6, "a billionth": 1e-9}.get(values, 1.0)
    samples = factor * (0.5 * np.sin(np.arange(15000) / 20) + np.random.default_rng(0).normal(size=15000) / 10)
    folder = tmp_path / "study"
    folder.mkdir()
    path = table(folder / "a.csv", samples, head, 250.0)
    ended = run("inspect", path)
    assert any(word in ended.output for word in ("furlong", "plausible", "flat", "unit")), ended.output
    assert run("features", path, "--whole", "-o", tmp_path / "out", "-q").exit_code == 1


def test_what_is_shorter_than_a_window_is_said_with_both_lengths(tmp_path: Path) -> None:
    short = {f"short{k}": good(k, seconds) for k, seconds in enumerate((0, 0.25, 0.5, 0.75, 19.75))}
    folder = study(tmp_path / "study", {"fine": good(0), **short})
    ended = run("prepare", folder, "-o", tmp_path / "made.h5", *WINDOWS, "-q")
    assert ended.exit_code == 1 and "Traceback" not in ended.output
    with (tmp_path / "made.log.csv").open() as stream:
        failed = {row["participant_id"]: row["message"] for row in csv.DictReader(stream) if row["status"] == "failed"}
    assert {*failed} == {*short} and all(failed.values())
    assert "is too short: 19.8 s where one window has 20 s" in failed["short4"]


def test_the_order_of_files_and_the_number_of_processes_change_no_byte(tmp_path: Path) -> None:
    people = {f"S{number}": good(number) for number in range(4)}
    tiny = [f"training.{one}" for one in ("n_epochs=2", "batch_size=4")]
    tiny += [f"model.{one}" for one in ("width=8", "n_latents=2", "n_heads=1", "n_layers=1")]
    stores, weights = [], set()
    shuffled = random.Random(1).sample([*people], len(people))
    for place, (n_jobs, order) in enumerate([(1, [*people]), (2, [*people]), (2, shuffled)]):
        folder = study(tmp_path / f"study{place}", people, order)
        here = tmp_path / f"out{place}"
        settings = [word for one in tiny for word in ("--set", one)]
        assert run("prepare", folder, "-o", here / "x.h5", *WINDOWS, "-q", "-j", n_jobs).exit_code == 0
        stores.append(content_hash(here / "x.h5"))
        if place == 1:
            continue  # it is the first one's store
        ended = run("train", here / "x.h5", "-o", here / "model", *settings, "--device", "cpu", "-q")
        assert ended.exit_code == 0, ended.output
        weights.add(content_hash(here / "model" / "weights.safetensors"))
    assert stores[0] == stores[1] != stores[2]  # a store keeps the study's order
    assert len(weights) == 1
    answers = []
    for place in ("once", "twice"):
        words = ["predict", tmp_path / "out0" / "model", tmp_path / "study0" / "S0.csv", "-o", tmp_path / place]
        assert run(*words, "--device", "cpu", "-q").exit_code == 0
        answers.append((tmp_path / place / "S0__S0_predictions.tsv").read_text())
    assert answers[0] == answers[1]
    rows = list(csv.DictReader(answers[0].splitlines(), delimiter="\t"))
    assert [float(row["onset"]) for row in rows] == [10.0 * k for k in range(23)]  # every window of 240 s
    chances = np.array([[float(row[name]) for name in row if name.startswith("probability_")] for row in rows])
    assert chances.shape == (23, 2) and (chances >= 0).all() and np.abs(chances.sum(axis=1) - 1).max() < 1e-6


def test_a_cell_of_many_digits_is_missing_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,EDA [uS]\n0,1\n0.25,1e40999999990\n0.5,1\n0.75,1.1\n")
    ended = run("inspect", path)
    assert ended.exit_code == 0 and "1 cells are not numbers ('1e40999999990' the first)" in ended.output


def test_an_offset_beyond_any_recording_is_a_fault_of_its_row(tmp_path: Path) -> None:
    folder = study(tmp_path / "study", {"S0": good(0), "S1": good(1)})
    rows = (folder / "recordings.tsv").read_text().splitlines()
    rows = [f"{row}\t{value}" for row, value in zip(rows, ("offset_seconds", "1e308", "0"), strict=True)]
    (folder / "recordings.tsv").write_text("\n".join(rows) + "\n")
    for words in (["check", folder], ["predict", "stress-wrist", folder, "-o", tmp_path / "out"]):
        ended = run(*words)
        words_of_it = ended.output + str(ended.exception)
        assert ended.exit_code in (1, 2) and "recordings.tsv line 2: offset_seconds is '1e308'" in words_of_it, (
            words_of_it
        )
