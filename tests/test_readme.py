"""README and CONTRIBUTING keep step with the code: lists of files, commands, presets, and where to add what."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from biopercept.cli.main import COMMANDS, command_name
from biopercept.resources import preset_names

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_list_of_files_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "annotated-tree"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run .ci/annotated-tree"


def test_commands_in_the_readme_exist_with_their_presets() -> None:
    known = {command_name(name) for names in COMMANDS.values() for name in names} | {"COMMAND"}
    used = re.findall(r"^(?:.*`)?biopercept ([a-z][\w-]*)", README, flags=re.M)
    assert set(used) - known - {"turns", "is"} == set()
    assert set(re.findall(r" -c ([\w-]+)", README)) - {"constraints"} <= set(preset_names())


def test_the_readme_fits_on_three_screens() -> None:
    assert README.count("\n") <= 160


ADDED = ("a reader of a file format", "a sensor (modality)", "a baseline model", "a command", "a kind of task")


def test_contributing_names_one_room_and_its_table_for_everything_that_is_added() -> None:
    rows = re.findall(
        r"^\| (an? [^|]+) \| `([^`]+)` \| `(\w+)` in `([^`]+)` \| `([^`]+)` \|$", CONTRIBUTING, flags=re.M
    )
    assert {what for what, *_ in rows} >= {*ADDED, "a figure of the report"}
    for what, room, table, path, example in rows:
        assert all((ROOT / place).exists() for place in (room, path, example)), what
        assert re.search(rf"^(?:def )?{table}\b", (ROOT / path).read_text(encoding="utf-8"), flags=re.M), what
