"""Commands are killed at random moments, or at each file operation, and given again: nothing lost, nothing wrong.

``make soak`` runs it; hours at the full count, so it is no part of the suite. A case is right where the command, given
again until it ends well, leaves the same as a run that nobody disturbed (times apart), and no other file beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.files import write_text
from biopercept.resources import sample_study

N_PEOPLE = 4
_FULL_DISK = 74
_TIMES = re.compile(r"(seconds|_ms|description_sha256)$")
_TIME_WORDS = re.compile(r"\d[\d.,]* (?:s|min)\b(?: of training)?")
_OPERATIONS = ("write", "open", "rename", "fsync")
_FAULTS = ("KILL", "ENOSPC", "EIO")


@dataclass(frozen=True)
class Command:
    """A command that writes ``output``; its words name the folder of what it reads by ``{base}``."""

    name: str
    output: str
    words: str

    def line(self, base: Path, place: Path) -> list[str]:
        """Return what is run to write below ``place``."""
        words = self.words.format(base=base).split()
        return [sys.executable, "-m", "biopercept.cli", *words, "-o", str(place / self.output), "-q"]


_SHORT = "--set training.n_epochs=3 --device cpu"
COMMANDS = (
    Command("prepare", "made.h5", "prepare {base}/study"),
    Command("train", "model", f"train {{base}}/made.h5 {_SHORT}"),
    Command("predict", "predictions", "predict {base}/model {base}/study"),
    Command("cross-validate", "scores", f"cross-validate {{base}}/made.h5 --split k-fold --folds 2 --seeds 1 {_SHORT}"),
    Command("pretrain", "pretrained", "pretrain {base}/made.h5 --set pretraining.n_epochs=2 --device cpu"),
    Command("tune", "tuned", "tune {base}/made.h5 --candidates {base}/candidates.yaml --folds 3"),
    Command("features", "features", "features {base}/study"),
)


def prepare_base(base: Path) -> None:
    """Write a small study, its store, a model and candidates to choose from."""
    base.mkdir(parents=True)
    with sample_study() as study:
        shutil.copytree(study, base / "study")
    for name in ("participants.tsv", "recordings.tsv", "events.tsv"):
        path = base / "study" / name
        head, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        people = sorted({row.split("\t")[0] for row in rows})[:N_PEOPLE]
        path.write_text("".join([head, *(row for row in rows if row.split("\t")[0] in people)]), encoding="utf-8")
    (base / "candidates.yaml").write_text("one: {model: logistic}\ntwo: {model: lda}\n", encoding="utf-8")
    for command in COMMANDS[:2]:
        subprocess.run(command.line(base, base), check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def digest_of(place: Path) -> dict[str, str]:
    """Return a hash of every file below a folder, by name, times within text and JSON apart."""
    found = {}
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            rows = (
                [json.loads(line) for line in content.splitlines()] if path.suffix == ".jsonl" else json.loads(content)
            )
            content = json.dumps(_untimed(rows), sort_keys=True).encode()
        elif path.suffix in (".md", ".csv"):
            content = _untimed_table(_TIME_WORDS.sub("", content.decode("utf-8")), path.suffix).encode()
        found[str(path.relative_to(place))] = hashlib.sha256(content).hexdigest()
    return found


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(one) for key, one in value.items() if not _TIMES.search(key) and key != "sha256"}
    return [_untimed(one) for one in value] if isinstance(value, list) else value


def _untimed_table(text: str, suffix: str) -> str:
    """Return a text without the columns of times of its tables."""
    lines, timed = [], set[int]()
    mark = "," if suffix == ".csv" else "|"
    for number, line in enumerate(text.splitlines()):
        cells = line.split(mark)
        if number == 0 or (cells and not lines[-1].startswith(mark) and suffix == ".md"):
            timed = {k for k, cell in enumerate(cells) if re.search(r"seconds|\bs\b", cell, flags=re.IGNORECASE)}
        lines.append(mark.join(cell for k, cell in enumerate(cells) if len(cells) == 1 or k not in timed))
    return "\n".join(lines)


@dataclass
class Count:
    """What became of the cases of one command."""

    cases: int = 0
    right: int = 0
    wrong: int = 0
    lost: int = 0
    ended_before: int = 0
    words: str = ""

    def note(self, wanted: Mapping[str, str], place: Path, code: int, case: str) -> None:
        """Count a case by what the command left behind once it was given again."""
        self.cases += 1
        left = digest_of(place)
        if left == wanted:  # where all was written before the kill, the command may be refused
            self.right += 1
            return
        differing = dict.fromkeys(name for name, _ in sorted({*left.items()} ^ {*wanted.items()}))
        self.words = self.words or f"{case}: then it ended with {code}; not equal: {', '.join(differing)}"
        if code:
            self.lost += 1
        else:
            self.wrong += 1


def killed_at_random(command: Command, base: Path, place: Path, n_kills: int, seed: int) -> Count:
    """Kill a command with -9 at random moments, give it again each time, and compare."""
    count, generator = Count(), np.random.default_rng(seed)
    wanted, seconds = straight(command, base, place)
    for number in range(n_kills):
        _clear(place)
        moment = float(generator.uniform(0, seconds))
        process = subprocess.Popen(
            command.line(base, place), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(timeout=moment)
            count.ended_before += 1
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        code = _again(command, base, place, had_ended=process.returncode == 0)
        count.note(wanted, place, code, f"kill {number + 1} at {moment:.2f} s")
    return count


def failed_at_each(command: Command, base: Path, place: Path, library: Path, most: int) -> Count:
    """Fail or kill a command at its first, second, ... file operation of each kind, give it again, and compare."""
    count = Count()
    wanted, _ = straight(command, base, place)
    for operation in _OPERATIONS:
        for fault in _FAULTS:
            for number, code, words in _failures(command, base, place, library, (operation, fault, most)):
                case = f"{operation} {number} {fault}"
                if fault != "KILL" and code not in (0, _FULL_DISK):
                    count.words = count.words or f"{case}: ended with {code} ({words})"
                    count.wrong += 1
                count.note(wanted, place, _again(command, base, place, had_ended=code == 0), case)
    return count


def _failures(
    command: Command, base: Path, place: Path, library: Path, what: tuple[str, str, int]
) -> Iterator[tuple[int, int, str]]:
    """Give the number of each operation that failed, with how the command ended, until none is left to fail."""
    operation, fault, most = what
    log = place.with_name("faults.log")
    for number in range(1, most + 1):
        _clear(place)
        log.unlink(missing_ok=True)
        settings = {"PATH": str(place), "OP": operation, "ERR": fault, "N": str(number), "LOG": str(log)}
        environment = {**os.environ, "LD_PRELOAD": str(library), **{f"FAULT_{k}": v for k, v in settings.items()}}
        line = command.line(base, place)
        run = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        if not log.is_file() or "fired" not in log.read_text(encoding="utf-8", errors="replace"):
            return
        yield number, run.returncode, run.stderr.strip()[-120:]


def straight(command: Command, base: Path, place: Path) -> tuple[dict[str, str], float]:
    """Return what a run that nobody disturbs leaves, and how long it takes, seconds."""
    _clear(place)
    started = time.monotonic()
    subprocess.run(command.line(base, place), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return digest_of(place), time.monotonic() - started


def _again(command: Command, base: Path, place: Path, *, had_ended: bool) -> int:
    """Give a command again, unless it had ended well, and return its exit code."""
    if had_ended:
        return 0
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.run(command.line(base, place), check=False, **quiet).returncode


def _show(*rows: str) -> None:
    sys.stdout.write("".join(f"{row}\n" for row in rows))
    sys.stdout.flush()


def _clear(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def main() -> None:
    """Disturb the commands, and write a row for each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where everything is written; it must not exist")
    parser.add_argument("--kills", type=int, default=200, help="kills in all (200)")
    parser.add_argument("--faults", type=Path, help="a library that fails the n-th file operation (LD_PRELOAD)")
    parser.add_argument("--most", type=int, default=100, help="operations of a kind that are tried at most (100)")
    parser.add_argument("--command", action="append", choices=[command.name for command in COMMANDS], default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="a page of the table")
    given = parser.parse_args()
    base, place = given.folder.resolve() / "base", given.folder.resolve() / "place"
    prepare_base(base)
    chosen = [command for command in COMMANDS if not given.command or command.name in given.command]
    rows = [
        "| command | how | cases | equal | wrong | lost | the first that was not equal |",
        "|---|---|---|---|---|---|---|",
    ]
    _show(*rows)
    is_right = True
    for command in chosen:
        counts = {"kill -9": killed_at_random(command, base, place, -(-given.kills // len(chosen)), given.seed)}
        if given.faults:
            counts["each file operation"] = failed_at_each(command, base, place, given.faults.resolve(), given.most)
        for how, count in counts.items():
            cells = (command.name, how, count.cases, count.right, count.wrong, count.lost, count.words)
            rows.append(f"| {' | '.join(map(str, cells))} |")
            _show(rows[-1])
            is_right &= count.right == count.cases
    if given.output:
        write_text(given.output, "\n".join([_PREFACE, *rows, ""]))
    sys.exit(not is_right)


_PREFACE = f"""# Commands that are disturbed

Written by `make soak`; the code is `tests/soak.py`. The sample study with {N_PEOPLE} people. *Equal*: given again, the
command leaves the same bytes as a run that nobody disturbed, times apart, and no other file.
"""

if __name__ == "__main__":
    main()
