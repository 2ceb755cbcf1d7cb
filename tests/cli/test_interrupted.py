"""Commands that meet one another, from outside: what another process writes is left to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from biopercept.files import only_writer

sys.path.append(str(Path(__file__).parents[1]))
from forked_commands import Ended, ForkedCommands

SMALL = (
    "training.n_epochs=2", "training.batch_size=8", "model.width=8",
    "model.n_latents=2", "model.n_heads=1", "model.n_layers=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedCommands]:
    started = ForkedCommands(tmp_path_factory.mktemp("words"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def store(commands: ForkedCommands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    events, files = ["participant_id\trecording\tonset\tduration\ttrial_type"], ["participant_id\trecording\tpath"]
    for place in range(3):
        times = np.arange(4 * 120) / 4
        eda = 3 + place + (times > 60) + 0.05 * np.random.default_rng(place).normal(size=len(times)).cumsum() / 9
        rows = "".join(f"{a},{b:.4f}\n" for a, b in zip(times, eda, strict=True))
        (folder / f"S{place}.csv").write_text("time,EDA (uS)\n" + rows)
        files.append(f"S{place}\tlab\tS{place}.csv")
        events += [f"S{place}\tlab\t{60 * k}\t60\t{stage}" for k, stage in enumerate(("baseline", "stroop"))]
    (folder / "participants.tsv").write_text("participant_id\nS0\nS1\nS2\n")
    (folder / "recordings.tsv").write_text("\n".join(files) + "\n")
    (folder / "events.tsv").write_text("\n".join(events) + "\n")
    (folder / "study.yaml").write_text(
        "name: made\ntasks:\n  stress: {classes: {rest: [baseline], stress: [stroop]}}\n"
    )
    assert commands.run(prepare(folder / "made.h5")) == Ended(0, "")
    return folder / "made.h5"


def prepare(store: Path) -> list[str]:
    windows = [word for text in ("length_seconds=20", "step_seconds=10") for word in ("--set", f"windows.{text}")]
    return ["prepare", str(store.parent), "-o", str(store), *windows, "-q"]


def train(store: Path, output: Path, *more: str) -> list[str]:
    settings = [word for text in SMALL for word in ("--set", text)]
    return ["train", str(store), "-o", str(output), *settings, "--device", "cpu", "-q", *more]


def test_what_another_process_writes_is_left_to_it(commands: ForkedCommands, store: Path, tmp_path: Path) -> None:
    for words, output in ((train(store, tmp_path / "model"), tmp_path / "model"), (prepare(store), store)):
        with only_writer(output):
            ended = commands.run(words)
        assert ended.code == 75
        assert f"another process is writing {output.name}; wait for it or choose another output" in ended.words
    assert not (tmp_path / "model").exists()
