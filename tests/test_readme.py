"""The README keeps step with the code: its tree, its commands and its presets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from biopercept.cli.main import COMMANDS, command_name
from biopercept.resources import preset_names

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_annotated_tree_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "annotated-tree"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run .ci/annotated-tree"


def test_commands_in_the_readme_exist_with_their_presets() -> None:
    known = {command_name(name) for names in COMMANDS.values() for name in names} | {"COMMAND"}
    used = re.findall(r"^(?:.*`)?biopercept ([\w-]+)", README, flags=re.M)
    assert set(used) - known - {"turns", "is"} == set()
    assert set(re.findall(r" -c ([\w-]+)", README)) - {"constraints"} <= set(preset_names())
