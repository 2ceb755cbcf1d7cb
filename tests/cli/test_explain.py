"""``explain`` and ``reconstruct`` as a user types them: what is written, what is printed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from read_settings import run_command as run

from biopercept.resources import sample_study
from biopercept.results.explanation import Explanation
from biopercept.results.reading import read_result, read_table
from biopercept.results.reconstruction import Reconstruction

SMALL = (
        "model.width=16", "model.n_latents=4", "model.n_layers=1", "model.n_heads=2", "pretraining.n_epochs=1",
        "tokens.raw=false",
)  # fmt: skip


def test_a_shipped_model_is_explained_and_one_that_fails_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.csv").write_text("")
    with sample_study() as study:
        chest, out = study / "recordings" / "S01_chest.edf", tmp_path / "out"
        words = ("explain", "workload-eeg", chest, tmp_path / "empty.csv", "-o", out, "--n-windows", 2)
        code, printed, err = run(capsys, *words, "--device", "cpu")
        assert code == 1
        lines = printed.splitlines()
        assert [line.partition(":")[0] for line in lines[:3]] == [
            "workload, attention roll-out", "workload, integrated gradients", "workload, occlusion",
        ]  # fmt: skip
        assert all(", n = 2 windows: " in line for line in lines[:3])
        assert lines[3:] == [str(out / "report.html")]
        assert "empty.csv: " in err
        assert read_table(out / "failures.csv").texts("recording") == (str(tmp_path / "empty.csv"),)
        result = read_result(out / Explanation.FILE, Explanation)
        assert (result.n_failed, len(result.recordings), result.recordings[0].n_explained) == (1, 1, 2)
        electrodes = [part for part in result.mean_parts("workload", "channel") if part.x is not None]
        assert {"eeg_alpha Fz", "eeg_beta Fz"} <= {part.name for part in electrodes}
        assert b"heads-workload" in (out / "report.html").read_bytes()
        code, _, err = run(capsys, *words, "--device", "cpu")
        assert (code, "exists and is not empty" in err) == (2, True)
        code, printed, _ = run(
            capsys, "explain", "workload-eeg", chest, "-o", out, "--n-windows", 1, "--overwrite", "--json", "--class",
            "rest", "--device", "cpu",
        )  # fmt: skip
        assert code == 0
        assert json.loads(printed)["recordings"][0]["n_explained"] == 1
        assert read_table(out / "failures.csv").rows == ()


def test_mistakes_are_named_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "explain", "stress-wrist", "no.csv", "-o", tmp_path / "a", "--task", "joy")
    assert (code, "the model predicts stress, and not 'joy'" in err) == (2, True)
    code, _, err = run(capsys, "explain", "stress-wrist", "no.csv", "-o", tmp_path / "a", "--class", "joy")
    assert (code, "no class 'joy' whose odds could be explained; it has: stress: rest, stress" in err) == (2, True)
    code, _, err = run(capsys, "reconstruct", "stress-wrist", "no.csv", "-o", tmp_path / "a", "--sensor", "eda")
    assert code == 2
    assert err.strip() == (
        "biopercept: stress-wrist was trained to predict and has no heads for signals; a network that 'biopercept "
        "pretrain --objective masked' wrote can reconstruct them"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_sensor_is_reconstructed_beside_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, pre, out = tmp_path / "s.h5", tmp_path / "pre", tmp_path / "out"
    with sample_study() as study:
        windows = ("windows.length_seconds=30", "windows.step_seconds=30")
        assert run(capsys, "prepare", study, "-o", store, "--subjects", "S01,S02", settings=windows)[0] == 0
        assert run(capsys, "pretrain", store, "-o", pre, "--objective", "masked", settings=SMALL)[0] == 0
        words = ("reconstruct", pre, study, "--subjects", "S01", "-o", out, "--device", "cpu")
        code, printed, err = run(capsys, *words, "--sensor", "eda")
        assert code == 0, err
        result = read_result(out / Reconstruction.FILE, Reconstruction)
        assert {row.signal for row in result.channels} == {"tonic", "phasic"}
        assert all(row.rmse and row.interpolation and row.ci95 for row in result.channels)
        assert all("eda" not in row.made_from.split() for row in result.channels)
        assert "off by" in printed.splitlines()[0]
        table = read_table(out / result.channels[0].table)
        assert len(table.columns) == 1 + 2 * len([r for r in result.channels if r.table == result.channels[0].table])
        code, _, err = run(capsys, *words, "--sensor", "eeg", "--overwrite")
        assert code == 0, err
        again = read_result(out / Reconstruction.FILE, Reconstruction)
        assert {row.signal.partition("_")[0] for row in again.channels} == {"eeg"}
        assert not list(out.glob("*tonic*"))
        code, printed, err = run(capsys, "report", out, "-o", tmp_path / "page.html")
        assert (code, "what they are worth" in (tmp_path / "page.html").read_text()) == (0, True), err
        code, _, err = run(capsys, *words, "--sensor", "nose", "--overwrite")
        assert (code, "has not learnt to reconstruct 'nose'; it knows" in err) == (2, True)
