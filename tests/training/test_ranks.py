"""One pretraining by two processes of torchrun: the curve of one process, and nothing lost where one of them ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from biopercept.cli import main as door
from biopercept.errors import SettingsError
from biopercept.ranks import ALONE, Ranks

SCRIPT = Path(__file__).with_name("shared_pretraining.py")
SETTINGS = {
    "pretraining.n_epochs": 60,
    "pretraining.batch_size": 199,
    "model.width": 16,
    "model.n_latents": 4,
    "model.n_layers": 1,
    "model.n_heads": 2,
}
SMALL = ("--device", "cpu", *(word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")))
STORE_AND_OUTPUT = ("pretrain", "made.h5", "-o")
OF_TORCHRUN = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def torchrun(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start two processes, whose standard error is that of what is given back."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True)


def ours(words: str) -> list[str]:
    """Return what the processes say, without what torchrun says of them."""
    return [line for line in words.splitlines() if "biopercept: " in line or line.startswith("epoch ")]


def until_epoch(process: subprocess.Popen[str], least: int) -> int:
    """Read standard error until some epochs are done, and return the number of the first that is seen."""
    assert process.stderr is not None
    first = 0
    for line in process.stderr:
        if line.startswith("epoch "):
            number = int(line.split()[1].rstrip(":"))
            first = first or number
            if number >= first + least:
                return first
    raise AssertionError("it ended before")


def process_of(parent: int, rank: int) -> int:
    """Return the process that torchrun has started as a rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_child = folder.joinpath("stat").read_text().rpartition(")")[2].split()[1] == str(parent)
            is_rank = f"\0RANK={rank}\0".encode() in b"\0" + folder.joinpath("environ").read_bytes()
        except OSError:
            continue
        if is_child and is_rank:
            return int(folder.name)
    raise AssertionError(f"no rank {rank}")


@pytest.fixture(scope="module")
def folder(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a store, the losses of two processes by objective, and what the command made without a stop."""
    folder = tmp_path_factory.mktemp("ranks")
    made.store(folder / "made.h5", made.study(3))
    # Each in processes of its own: a second group within one may wait for ever on what is left of the first.
    for command in ((str(SCRIPT), "made.h5", "two.json"), ("-m", "biopercept.cli", *STORE_AND_OUTPUT, "whole", *SMALL)):
        with torchrun(folder, *command) as run:
            _, words = run.communicate(timeout=300)
        assert run.returncode == 0, words
    return folder


def test_the_curve_of_two_processes_is_that_of_one(folder: Path) -> None:
    alone = import_module("training.shared_pretraining").losses(folder / "made.h5")
    both = json.loads((folder / "two.json").read_text())
    assert both.keys() == alone.keys()
    for objective, losses in alone.items():
        assert both[objective] == pytest.approx(losses, rel=1e-5), objective


def test_a_killed_and_a_stopped_process_end_the_run_and_it_goes_on_to_the_same_weights(folder: Path) -> None:
    command = ("-m", "biopercept.cli", *STORE_AND_OUTPUT, "stopped", *SMALL)
    with torchrun(folder, *command) as run:
        assert until_epoch(run, 2) == 1
        os.kill(process_of(run.pid, 1), signal.SIGKILL)
        _, words = run.communicate(timeout=200)
    assert run.returncode != 0
    [sentence] = [line for line in ours(words) if not line.startswith("epoch ")]
    ended = (
        "biopercept: another of the 2 processes has ended, so this one ends, too; the same command goes on behind the "
    )
    # The other one notices by itself, or torchrun stops it before it does.
    assert sentence == f"{ended}last epoch that was finished" or sentence.endswith(": the same command goes on there")
    assert not (folder / "stopped").exists()

    with torchrun(folder, *command) as run:
        went_on_at = until_epoch(run, 2)
        run.send_signal(signal.SIGTERM)
        _, words = run.communicate(timeout=200)
    assert went_on_at > 3
    [sentence] = [line for line in ours(words) if not line.startswith("epoch ")]
    assert sentence.startswith("biopercept: stopped; kept are ")
    assert sentence.endswith(" of 60 epochs: the same command goes on there")
    assert not (folder / "stopped").exists()

    n_kept = int(sentence.split("kept are ")[1].split()[0])
    assert n_kept > went_on_at
    with torchrun(folder, *command) as run:
        assert until_epoch(run, 0) == n_kept + 1
        _, words = run.communicate(timeout=200)
    assert run.returncode == 0, words
    for name in ("weights.safetensors", "model.json"):
        assert (folder / "stopped" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert not list(folder.glob(".stopped*"))


@pytest.mark.parametrize(("rank", "start"), [(0, ""), (1, "process 2 of 2: ")])
def test_a_command_that_one_process_does_refuses_two_of_torchrun(
    rank: int, start: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(door, "_OTHERS_SECONDS", 0.0)
    for name, value in {**OF_TORCHRUN, "RANK": str(rank)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        door.main(["train", "made.h5", "-o", "out"])
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        f"{start}biopercept: torchrun has started 2 processes of train, which only pretrain can share; start it "
        "without torchrun (docs/scaling.md says how work is divided)\n"
    )


def test_another_process_than_the_first_says_nothing_where_the_first_ends_over_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended_meanwhile(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", ended_meanwhile)
    for name, value in {**OF_TORCHRUN, "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        door.main(["train", "made.h5", "-o", "out"])
    assert (left.value.code, capsys.readouterr().err) == (2, "")


def test_which_process_it_is_follows_from_the_variables_of_torchrun() -> None:
    assert Ranks.of({}) is ALONE
    assert Ranks.of({"RANK": "1", "WORLD_SIZE": "2"}) is ALONE  # set by another program
    assert Ranks.of({**OF_TORCHRUN, "RANK": "1", "LOCAL_RANK": "1"}) == Ranks(1, 2, 1)
    assert Ranks.of({**OF_TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}) is ALONE
    with pytest.raises(SettingsError, match="does not follow from RANK=2, WORLD_SIZE=2; unset both"):
        Ranks.of({**OF_TORCHRUN, "RANK": "2"})
    with pytest.raises(SettingsError, match="RANK=one"):
        Ranks.of({**OF_TORCHRUN, "RANK": "one"})
