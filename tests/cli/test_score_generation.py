"""The command ``score-generation`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from read_settings import run_command as run

SMALL = [
    word
    for setting in (
        "model.width=16", "model.n_latents=4", "model.n_layers=1", "model.n_heads=2", "pretraining.n_epochs=1",
        "evaluation.n_bootstrap=200",
    )
    for word in ("--set", setting)
]  # fmt: skip


def test_a_page_and_a_document_are_written_and_a_second_run_reads_what_is_done(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, output = made.store(tmp_path / "made.h5", made.study(4)), tmp_path / "out"
    words = ("score-generation", store, "-o", output, "--folds", 2, *SMALL)
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert out.startswith("4 subjects, ") and "By RMSE the network is better than the strongest baseline for " in (
        " ".join(out.split())
    )
    assert not any(line.startswith(("#", "|", "- ")) or "**" in line for line in out.splitlines())  # no Markdown
    assert "| eda | log tonic skin conductance | 3 |" in (output / "generation.md").read_text()  # one of four lacks it
    assert "In the signal's own unit" in out
    assert "warning: only 4 subjects: intervals are rough" in err
    assert "fold 01-of-02 done (2 in all)" in err
    code, again, err = run(capsys, *words, "--json")
    assert (code, "fold 01-of-02 was done before" in err) == (0, True)
    assert json.loads(again) == json.loads((output / "generation.json").read_text())
    code, _, err = run(capsys, *words, "--seed", 3)
    assert (code, "holds a run with another seed" in err) == (2, True)
    code, _, err = run(capsys, *words, "--seed", 3, "--overwrite")
    assert code == 0, err
