"""Idle threads sleep by default: set before torch is loaded, left alone where the user chose, inherited by workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

POLICY = "import os; print(os.environ.get('OMP_WAIT_POLICY'))"
WORDS = "from biopercept.parallel import wait_passively; print(wait_passively())"
CHILD = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import os
if __name__ == "__main__":
    import biopercept
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        print(pool.submit(os.getenv, "OMP_WAIT_POLICY").result())
"""


def printed(code: str, **environment: str) -> str:
    """Return what a fresh Python prints, with no policy but the one given."""
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    outcome = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**clean, **environment}
    )
    return outcome.stdout.strip()


def test_importing_the_package_makes_waiting_passive() -> None:
    assert printed(f"import biopercept; {POLICY}") == "passive"


def test_the_command_line_sets_it_before_torch_is_loaded() -> None:
    code = f"import sys, biopercept.cli.main; print('torch' in sys.modules); {WORDS}"
    assert printed(code) == "False\npassive, the default of biopercept; set OMP_WAIT_POLICY to change it"


def test_a_policy_that_the_user_set_stays() -> None:
    assert printed(f"import biopercept; {POLICY}", OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_where_torch_was_there_first_nothing_is_set_and_that_is_said() -> None:
    code = f"import sys; sys.modules['torch'] = object(); import biopercept; {POLICY}; {WORDS}"
    assert printed(code).splitlines() == [
        "None", "as OpenMP chose; torch was loaded before biopercept, so passive waiting could no longer be set",
    ]  # fmt: skip


def test_worker_processes_inherit_it(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    outcome = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=clean)
    assert outcome.stdout.strip() == "passive"


@pytest.mark.parametrize(("policy", "words"), [("", "passive, the default"), ("active", "active, as OMP_WAIT_POLICY")])
def test_doctor_says_which_policy_is_in_force_and_who_set_it(policy: str, words: str) -> None:
    given = {"OMP_WAIT_POLICY": policy} if policy else {}
    code = "from biopercept.cli.main import main; main(['doctor'])"
    assert f"idle threads wait: {words}" in printed(code, **given)
