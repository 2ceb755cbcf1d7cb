"""Units of work: done once, kept as they come, and never taken for those of other settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from biopercept.errors import SettingsError, TrainingError
from experiments import units
from experiments.units import fingerprint, read_unit, run_units, unit_path


@dataclass(frozen=True)
class Counted:
    """A unit that leaves a line in a file each time it is done, and can fail."""

    number: int
    log: Path
    fails: str = ""
    setting: float = 1.0

    @property
    def name(self) -> str:
        return f"counted {self.number}"

    def identity(self) -> dict[str, Any]:
        return {"setting": self.setting}

    def run(self) -> dict[str, Any]:
        if self.fails == "explained":
            raise TrainingError("the loss is not finite")
        if self.fails == "killed":
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"{self.number}\n")
        return {"number": self.number, "twice": 2 * self.number * self.setting}


def _done(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").split()


def test_a_run_that_met_a_fault_goes_on_where_it_was(tmp_path: Path) -> None:
    log = tmp_path / "log"
    broken = [Counted(0, log), Counted(1, log, fails="explained"), Counted(2, log)]
    with pytest.raises(TrainingError, match="not finite"):
        run_units(broken, tmp_path)
    assert _done(log) == ["0", "2"]
    told: list[tuple[str, bool, int]] = []
    whole = [Counted(number, log) for number in range(3)]
    found = run_units(whole, tmp_path, on_unit=lambda unit, was, n: told.append((unit.name, was, n)))
    assert _done(log) == ["0", "2", "1"]
    assert [held["result"]["twice"] for held in found] == [0, 2, 4]
    assert told == [("counted 0", True, 3), ("counted 2", True, 3), ("counted 1", False, 3)]
    run_units(whole, tmp_path, anew=True)
    assert len(_done(log)) == 6


@pytest.mark.parametrize("change", ["setting", "experiment version", "package version"])
def test_a_unit_of_other_settings_is_not_used_again(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    first = Counted(1, log)
    run_units([first], tmp_path)
    second = Counted(1, log, setting=3.0) if change == "setting" else first
    if change == "experiment version":
        monkeypatch.setattr(Counted, "identity", lambda self: {"experiment": 2, "setting": self.setting})
    if change == "package version":
        monkeypatch.setattr(units, "__version__", "0.0.0")
    found = run_units([second], tmp_path)
    assert _done(log) == ["1", "1"]
    assert found[0]["result"]["twice"] == 2 * second.setting


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"fingerprint": "other", "result": {}, "cpu_seconds": 1}'])
def test_a_damaged_or_foreign_file_is_done_again(tmp_path: Path, damage: str) -> None:
    unit = Counted(1, tmp_path / "log")
    run_units([unit], tmp_path)
    path = unit_path(unit, tmp_path)
    assert read_unit(unit, path) is not None
    path.write_text(damage, encoding="utf-8")
    assert read_unit(unit, path) is None
    assert run_units([unit], tmp_path)[0]["fingerprint"] == fingerprint(unit)
    assert json.loads(path.read_text(encoding="utf-8"))["result"]["twice"] == 2


def test_a_killed_child_costs_its_own_unit_only_and_children_agree_with_one_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [Counted(0, log), Counted(1, log, fails="killed"), Counted(2, log)]
    with pytest.raises(SettingsError, match=r"1 of 3 units were not done, the first \(counted 1\).*signal 9"):
        run_units(jobs, tmp_path / "children", n_jobs=2)
    alone = run_units([jobs[0], jobs[2]], tmp_path / "alone")
    again = run_units([jobs[0], jobs[2]], tmp_path / "children", n_jobs=2)
    assert sorted(_done(log)) == ["0", "0", "2", "2"]
    assert [held["result"] for held in again] == [held["result"] for held in alone]
